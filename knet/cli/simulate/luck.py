"""
How much of what a plan does is luck: the same change of other clusters, whose pods have other names, and whose
clients see other things together.

Two things differ from one cluster to the next, and no plan knows them. **Names**: pods get other addresses, and
a StatefulSet stands in another namespace, so that other pods have other keys. **Batches**: pods that were
made together get ready one by one, and their controller may look after each of them or after several; a client is
told of each, as by EndpointSlices, or of all that happened between two lookups, as by DNS, and then it drops
a pod only with the answer after the one in which it was missing. So a client sees some of the steps, and in another
order: the fewer it sees, the fewer keys move, since those that would have moved twice move once.

Each draw is a cluster, and two of its clients, one that asks and one that is told. They share its pods: what one of them
has asked for, the other one finds. Between the least and the most of *n* clusters one more of them lies in `coverage(n)` of all cases, whatever
the law of it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from knet import Endpoint
from knet.cli.simulate.model import Range
from knet.cli.simulate.moves import Had, Make, Outcome, follow
from knet.cli.simulate.plan import Plan, Step
from knet.cli.simulate.traffic import Traffic, sample

__all__ = ["MOST_SEEN", "SAMPLE", "Bars", "Draw", "as_seen", "coverage", "draw", "one_by_one"]

# Keys that are followed from step to step; of the first and the last step all are.
SAMPLE = 2_000
# Steps that a client sees, on average and at most.
MOST_SEEN = 40

# Makes the plan of a cluster: of a fleet, and what lets pods get ready in batches.
Draw = Callable[[random.Random], Plan]


@dataclass(frozen=True, slots=True)
class Bars:
    """
    Error bars of one placement: what was least, in the middle and most in other clusters.

    Attributes:
        placement: Its name.
        draws: How many clusters there were.
        coverage: In what part of all clusters each of the figures lies within its bars.
        busiest_keys_before: As of `Load`, before the change.
        busiest_keys_after: And after it.
        busiest_requests_before: The same of requests.
        busiest_requests_after: And after it.
        moved: Keys, as of `Outcome`.
        net: Of which have another pod in the end.
        least: How many had to move.
        misses: How many keys their pod never had; of one client, up to those of all together.
        worst: What part of all requests miss after the worst step.
    """

    placement: str
    draws: int
    coverage: float
    busiest_keys_before: Range
    busiest_keys_after: Range
    busiest_requests_before: Range
    busiest_requests_after: Range
    moved: Range
    net: Range
    least: Range
    misses: Range
    worst: Range


def coverage(draws: int) -> float:
    """
    Return how likely one more draw lies between the least and the most of so many: 0.9 of 19.
    """
    return (draws - 1) / (draws + 1)


def draw(
    this: Plan,
    others: Draw,
    traffic: Traffic,
    name: str,
    make: Make,
    *,
    draws: int,
    seed: int,
    drew: Callable[[], None],
) -> Bars:
    """
    Return the error bars of a change.

    Args:
        this: The change in the cluster that is simulated, which counts as one of them.
        others: Makes it, for another cluster each time.
        traffic: The keys.
        name: That of the placement.
        make: It.
        draws: How many clusters, at least 3.
        seed: What they are drawn by.
        drew: Is told of each that is done.
    """
    few = sample(traffic, SAMPLE)
    found: list[tuple[float, ...]] = []
    for number in range(draws):
        chance = random.Random(f"{seed} {number}")
        drawn = others(chance) if number else this
        ends = (drawn.steps[0], drawn.steps[-1]) if len(drawn.steps) > 1 else drawn.steps
        whole = follow(Plan(drawn.told, ends), traffic, name, make, _nobody_waits)
        if len(drawn.steps) == 1:
            found.append(_figures(whole, whole, 0))
            drew()
            continue
        events = one_by_one(drawn, chance)
        hads = Had(len(few.keys)), Had(len(few.keys))
        clients = [
            follow(as_seen(events, chance, asks=asks), few, name, make, _nobody_waits, had)
            for asks, had in zip((True, False), hads, strict=True)
        ]
        together = few.count([key for key, _ in hads[0].missed | hads[1].missed])
        found += [
            _figures(whole, client, missed)
            for client in clients
            for missed in (client.misses, together)
        ]
        drew()
    ranges = [Range(median(each), min(each), max(each)) for each in zip(*found, strict=True)]
    return Bars(name, draws, coverage(draws), *ranges)


def _nobody_waits(keys: int, pods: int) -> None:
    pass


def _figures(whole: Outcome, seen: Outcome, missed: int) -> tuple[float, ...]:
    # A sample may have more or fewer of the keys that move than it should; how often they do so is the same.
    scale = whole.net / seen.net if seen.net else 1.0
    return (
        whole.before.busiest_keys,
        whole.after.busiest_keys,
        whole.before.busiest_requests,
        whole.after.busiest_requests,
        scale * seen.moved,
        whole.net,
        scale * seen.least,
        scale * missed,
        seen.worst.requests if seen.worst else 0.0,
    )


# --- what a client sees


def as_seen(plan: Plan, chance: random.Random, *, asks: bool) -> Plan:
    """
    Return *plan*, in which one pod comes or goes after the other, as one client may see it.

    It begins and ends as the plan does.

    Args:
        plan: What happens.
        chance: How much of it is seen together.
        asks: It asks now and then, sees a quarter of the steps at most, on average, and believes that a pod has gone with
            the answer after that. Otherwise it is told, and sees half of the steps at least.
    """
    last = len(plan.steps) - 1
    seen = chance.uniform(0, 0.25) if asks else chance.uniform(0.5, 1)
    together = 1 - min(seen, MOST_SEEN / max(1, last))
    shown = [plan.steps[0]]
    known = _by_name(plan.before)
    doubted: set[str] = set()
    for number, step in enumerate(plan.steps):
        # A ring keeps its pods while nobody is ready.
        if not number or not step.pods or (number < last and chance.random() < together):
            continue
        there = _by_name(step.pods)
        missing = known.keys() - there.keys()
        doubted = missing - doubted if asks else set()
        known = there | {name: known[name] for name in doubted}
        _show(shown, known)
    if doubted:
        _show(shown, _by_name(plan.after))
    return Plan(plan.told, tuple(shown))


def _by_name(pods: Sequence[Endpoint]) -> dict[str, Endpoint]:
    return {pod.name: pod for pod in pods}


def _show(shown: list[Step], known: dict[str, Endpoint]) -> None:
    pods = tuple(known[name] for name in sorted(known))
    if pods != shown[-1].pods:
        shown.append(Step("", pods))


def one_by_one(plan: Plan, chance: random.Random) -> Plan:
    """
    Return *plan* with a step for each pod that comes or goes; those of one step do so in any order.
    """
    steps = [plan.steps[0]]
    for before, after in pairwise(plan.steps):
        there = {id(pod): pod for pod in before.pods}
        new = {id(pod): pod for pod in after.pods}
        leaves, joins = [*there.keys() - new.keys()], [*new.keys() - there.keys()]
        for some in (leaves, joins):
            # Identities are in no order that another run would have.
            some.sort(key=lambda each: (there.get(each) or new[each]).name)
            chance.shuffle(some)
            for each in some:
                if there.pop(each, None) is None:
                    there[each] = new[each]
                steps.append(Step("", tuple(there.values())))
    return Plan(plan.told, tuple(steps))
