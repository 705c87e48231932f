"""
Days of churn and weather on a virtual clock, for rings of several placements.

Each ring has a cluster and servers of its own, so that one may storm as another does not. Storms and
times of rest take turns: in a storm everything happens at once, at rest the weather is clear, the
ring has to come to the truth, and then every figure has to be what it was at the last rest.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from knet import (
    Answer,
    Change,
    Endpoint,
    NameNotFound,
    NoData,
    NoEndpoints,
    RefreshPolicy,
    ResolveError,
    Ring,
    RingClosed,
    Snapshot,
)
from knet.hashring import HashRing, Maglev, Placement, Rendezvous
from knet.hashring.proxies import EnvoyRing, GrpcRing
from tests.soak.figures import Level, Report, listening, listening_to_loop
from tests.soak.sky import Cluster, Sky

__all__ = ["STATIONS", "soak"]

KEYS = [f"user-{n}" for n in range(200)]
# Seconds for which a ring may take answers for older than one that promised a long life, twice, and of
# how many fills they must be.
FORGOTTEN = 60.0
FILLS = 4
# Seconds, and answers, for which somebody must be missing who came back lately.
DISPUTED = 60.0
UNNAMED = 8
# The longest that a scripted lookup takes.
SLOWEST = 8.0
# An empty ring takes this many answers in a row.
EMPTY_ANSWERS = 3
# Seconds between two empty answers that count, at most, where lookups failed in between.
MOST_HEARD = 5.0
PODS_AT_REST = 12
_ROUNDING = 1e-6

_Make = Callable[[tuple[Endpoint, ...]], Placement[Endpoint]]
Facts = tuple[str, _Make, RefreshPolicy, int, bool]
# Who, how it places, what it believes, for how long its servers cache, whether its pods keep their
# names. Small tables: how they are built is tested elsewhere, and here they are built ten thousand
# times.
STATIONS: list[Facts] = [
    ("HashRing", partial(HashRing, points=40, slots=2048), RefreshPolicy(), 5, True),
    ("Maglev", partial(Maglev, table_size=499), RefreshPolicy(), 30, False),
    (
        "EnvoyRing",
        partial(EnvoyRing, min_size=128),
        RefreshPolicy(confirm=3, empty_hold=60),
        0,
        True,
    ),
    ("GrpcRing", partial(GrpcRing, min_size=128), RefreshPolicy(interval=15, confirm=1), 30, False),
    ("Rendezvous", Rendezvous, RefreshPolicy(interval=2, max_retry=4, empty_hold=5), 5, True),
    (
        "never empty",
        partial(HashRing, points=40, slots=64),
        RefreshPolicy(empty_hold=math.inf),
        5,
        False,
    ),
]


class Station:
    """
    One ring, all that happens to it, and a model of what it may do about that.
    """

    def __init__(
        self,
        name: str,
        place: _Make,
        policy: RefreshPolicy,
        ttl: int,
        stateful: bool,
        *,
        seed: int,
        report: Report,
    ) -> None:
        self.name = name
        self.policy = policy
        self.lookups = 0
        self.picks = 0
        self.refused = 0
        self.emptied = 0
        self.healed: list[tuple[float, int]] = []
        self._rng = rng = random.Random(f"{seed} {name}")
        self._report = report
        self._place = place
        self.sky = Sky(rng, Cluster(rng, stateful=stateful), ttl=ttl)
        self.ring = Ring(f"{name.lower().replace(' ', '-')}.prod", **self._options(self))
        # The model: what was named since the last rest, and whether it may be empty.
        self.named: set[Endpoint] = set()
        self.nothing_at = -math.inf
        self.nothing_for = 0.0
        self.nothings = 0
        self.may_be_empty = False
        self.failures = 0
        self.asked_at = -math.inf
        self.heard_at: float | None = None
        self.under_way = False
        self.good = 0
        self.seen: Snapshot | None = None

    def _options(self, resolver: Any) -> dict[str, Any]:
        return {"placement": self._place, "refresh": self.policy, "resolver": resolver}

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            now = anyio.current_time()
            self._report.breach(
                f"{self.name}, at {now:,.3f} s, weather {self.sky.weather!r}: {what}; {self.ring!r}"
            )

    # --- as its resolver

    async def resolve(self, service: str, /) -> Answer:
        """
        Check what the ring made of the last answer, and give it another.
        """
        now = anyio.current_time()
        self.check(not self.under_way, "two lookups at once")
        self.check(now - self.asked_at >= self._least_gap() - _ROUNDING, "asked too soon")
        if self.heard_at is not None:
            most = max(self.policy.interval, self.policy.min_interval) * (1 + self.policy.jitter)
            most = max(most, self.policy.max_retry)
            self.check(now - self.heard_at <= most + _ROUNDING, "asked too late")
            self.look()
        self.lookups += 1
        self.asked_at = now
        self.under_way = True
        try:
            answer = await self.sky.say()
            self._heard(answer)
            return answer
        except Exception as error:
            self._heard(error)
            raise
        finally:
            self.under_way = False
            self.heard_at = anyio.current_time()

    def _least_gap(self) -> float:
        """
        Seconds between the beginnings of two lookups, at least.
        """
        shortest = self.policy.shortest
        if not self.failures:
            return shortest
        backoff = self.policy.retry * 2.0 ** min(self.failures - 1, 30)
        return min(shortest, min(backoff, self.policy.max_retry) / 2)

    def _heard(self, outcome: object) -> None:
        now = anyio.current_time()
        ttl: object = outcome.ttl if isinstance(outcome, Answer) else None
        if isinstance(ttl, str):
            self.failures += 1
        elif isinstance(outcome, Answer) and outcome.endpoints:
            self.named.update(outcome.endpoints)
            self.may_be_empty = False
            self.nothings, self.failures = 0, 0
            self.good += 1
        elif isinstance(outcome, NameNotFound | NoData) or (
            isinstance(outcome, Answer) and outcome.complete
        ):
            # A failure in between says nothing: of the time since, little was heard.
            gap = now - self.nothing_at
            heard = min(gap, MOST_HEARD) if self.failures else gap
            self.nothing_for = self.nothing_for + heard if self.nothings else 0.0
            self.nothing_at = now
            self.nothings += 1
            self.failures = 0
            self.good += 1
            held = self.nothing_for >= self.policy.empty_hold
            self.may_be_empty |= held and self.nothings >= EMPTY_ANSWERS
        else:
            self.failures += 1

    def __repr__(self) -> str:
        return f"<Station {self.name}>"

    # --- what must hold at any time

    def look(self) -> None:
        """
        Pick, and hold the ring to its promises.
        """
        snapshot, seen = self.ring.snapshot, self.seen
        self.picks += 1
        if snapshot is not seen:
            self.check(
                set(snapshot.endpoints) <= self.named,
                f"serves {sorted(set(snapshot.endpoints) - self.named)}, whom nobody named",
            )
            if seen is not None:
                self.check(
                    snapshot.generation == seen.generation + 1
                    or (snapshot.generation > seen.generation and not self.under_way),
                    f"generation {snapshot.generation} after {seen.generation}",
                )
                self.check(snapshot.endpoints != seen.endpoints, "a new snapshot of the same")
            self.seen = snapshot
        key = self._rng.choice(KEYS)
        try:
            pod = self.ring.get_nowait(key)
            self.check(pod in snapshot.endpoints, f"{pod} is not in its snapshot")
        except NoEndpoints:
            self.refused += 1
            self.check(self.may_be_empty, "empty, and not told so for long enough")
            self.check(self.ring.state == "empty", f"empty, and its state is {self.ring.state}")

    # --- what happens in a storm

    async def storm(self, tasks: TaskGroup) -> None:
        """
        Let everything happen at once, in *tasks* that are cancelled in the end.
        """
        for what in (
            self.sky.change,
            self.sky.cluster.churn,
            self._pick,
            self._ask,
            self._visit,
            *[self._follow] * 3,
        ):
            tasks.start_soon(what)

    async def _pick(self) -> None:
        while True:
            await anyio.sleep(self._rng.expovariate(1 / 7))
            self.look()
            with anyio.move_on_after(0):
                try:
                    await self.ring.get(self._rng.choice(KEYS))
                    await self.ring.get_n("user-42", 3)
                except NoEndpoints:
                    self.check(self.may_be_empty, "get is refused, and not told so long enough")

    async def _ask(self) -> None:
        """
        Ask for a refresh and often give up waiting for it, several at a time.
        """

        async def ask(patience: float) -> None:
            with anyio.move_on_after(patience):
                try:
                    await self.ring.refresh()
                except ResolveError:
                    pass
                except Exception as error:
                    # A resolver's own mistake comes out as it is, where it was not a ResolveError.
                    self.check(self.sky.bugs > 0, f"refresh() raised {error!r}")

        while True:
            await anyio.sleep(self._rng.expovariate(1 / 45))
            async with anyio.create_task_group() as tasks:
                for _ in range(self._rng.choice((1, 1, 2, 10))):
                    tasks.start_soon(ask, self._rng.choice((0.0, 0.0005, 0.5, 3.0, 60.0)))

    async def _follow(self) -> None:
        """
        Read the changes, come and go, and be slow about it.
        """
        while True:
            changes = self.ring.changes()
            last: Change | None = None
            with anyio.move_on_after(self._rng.expovariate(1 / 600)):
                async for change in changes:
                    before, after = change.before.generation, change.after.generation
                    self.check(after > before, f"a change from generation {before} to {after}")
                    if last is not None:
                        self.check(last.after is change.before, "a gap between two changes")
                    if self._rng.random() < 0.05:  # slow where a placement has no table
                        self.check(0 <= change.moved <= 1, f"{change.moved} of the keys moved")
                    last = change
                    await anyio.sleep(self._rng.expovariate(1 / 20))
            await anyio.sleep(self._rng.expovariate(1 / 60))

    async def _visit(self) -> None:
        """
        Open other rings at the same servers, and leave them in every way there is.
        """
        rng = self._rng
        while True:
            await anyio.sleep(rng.expovariate(1 / 300))
            resolver = _Visitor(self.sky)
            ring = Ring("visitor.prod", start_timeout=20, **self._options(resolver))
            try:
                with anyio.move_on_after(rng.choice((0.0, 0.0005, 3.0, 60.0, math.inf))):
                    await self._stay(ring)
            except* Exception as several:
                # Beside them may be a cancellation, which goes on.
                self.check(resolver.expects(several), f"a visitor met {several!r}")
            finally:
                with anyio.CancelScope(shield=True):
                    await ring.aclose()

    async def _stay(self, ring: Ring) -> None:
        match self._rng.randrange(3):
            case 0:
                async with ring:
                    await anyio.sleep(self._rng.expovariate(1 / 30))
            case 1:
                await ring.start()
                await anyio.sleep(self._rng.expovariate(1 / 30))
                await ring.refresh()
            case _:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ring.run)
                    await ring.get("user-42")
                    await ring.aclose()

    # --- and at rest

    async def rest(self) -> None:
        """
        Change much and clear the weather; the ring comes to the truth, and stays there.
        """
        policy, sky = self.policy, self.sky
        sky.cluster.upset()
        sky.clear()
        cleared, self.good = anyio.current_time(), 0
        truth = sky.cluster.pods
        never_empty = not truth and policy.empty_hold == math.inf
        # One lookup of before, the longest back-off, and what is forgotten, disputed or held; then the good
        # answers that it takes, and one wait that was under way.
        hold = 0.0 if truth or never_empty else policy.empty_hold
        answers = max(EMPTY_ANSWERS, policy.confirm)
        wait = max(policy.interval, policy.min_interval) * (1 + policy.jitter)
        forgotten = 2 * max(FORGOTTEN, FILLS * wait) + max(DISPUTED, UNNAMED * wait) + 3 * wait
        bound = SLOWEST + policy.max_retry + max(forgotten, hold)
        bound += (answers + 1) * wait
        with anyio.move_on_after(bound):
            while self.ring.snapshot.endpoints != truth and not never_empty:
                await anyio.sleep(0.25)
        if not never_empty:
            self.check(
                self.ring.snapshot.endpoints == truth,
                f"not the truth {bound:.0f} s and {self.good} good answers after the clearing",
            )
            self.healed.append((anyio.current_time() - cleared, self.good))
        self.emptied += not self.ring.snapshot.endpoints
        await anyio.sleep(2 * policy.max_retry)
        self.look()
        if truth:
            self.check(self.ring.snapshot.endpoints == truth, "went away from the truth again")
            self.check(self.ring.state == "fresh", f"the truth, and its state is {self.ring.state}")
        # The same pods at every rest, so that what is measured is of equal states.
        sky.cluster.reset(PODS_AT_REST)
        with anyio.move_on_after(bound):
            while self.ring.snapshot.endpoints != sky.cluster.pods:
                await anyio.sleep(0.25)
        self.look()
        self.check(self.ring.snapshot.endpoints == sky.cluster.pods, "not at rest")
        self.named = set(sky.cluster.pods)


class _Visitor:
    """
    The resolver of a ring that nobody watches.
    """

    def __init__(self, sky: Sky) -> None:
        self._sky = sky
        self._mistakes: set[type[BaseException]] = {TypeError}  # of an answer that is none

    async def resolve(self, service: str, /) -> Answer:
        try:
            return await self._sky.say()
        except Exception as error:
            self._mistakes.add(type(error))
            raise

    def expects(self, error: BaseException) -> bool:
        """
        Whether a ring that starts in such weather may end like this.
        """
        usual = isinstance(error, ResolveError | RingClosed | NoEndpoints)
        if usual or type(error) in self._mistakes:
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.expects, error.exceptions))
        return False


async def soak(
    report: Report, *, seed: int, hours: float, stations: Sequence[Facts] = STATIONS
) -> None:
    """
    Let it storm for *hours* of the loop's time, and write down in *report* what happened.
    """
    # A ring draws its jitter from here.
    random.seed(seed)
    rng = random.Random(seed)
    manned = [Station(*facts, seed=seed, report=report) for facts in stations]
    levels: list[Level] = []
    with listening(report, allowed_log="knet"), listening_to_loop(report):
        at_first = Level.now()
        async with AsyncExitStack() as stack:
            for station in manned:
                await stack.enter_async_context(station.ring)
            end = anyio.current_time() + hours * 3600
            while anyio.current_time() < end:
                async with anyio.create_task_group() as tasks:
                    for station in manned:
                        await station.storm(tasks)
                    await anyio.sleep(min(rng.uniform(300, 3600), end - anyio.current_time()))
                    tasks.cancel_scope.cancel()
                async with anyio.create_task_group() as tasks:
                    for station in manned:
                        tasks.start_soon(station.rest)
                levels.append(Level.now())
        at_last = Level.now()
    _write(report, manned, levels, at_first, at_last, hours)


def _write(
    report: Report,
    stations: Sequence[Station],
    levels: Sequence[Level],
    at_first: Level,
    at_last: Level,
    hours: float,
) -> None:
    lookups = sum(station.lookups for station in stations)
    healed = [time for station in stations for time in station.healed]
    report.row("virtual hours, rings", f"{hours:g}, {len(stations)}")
    report.row("lookups, picks checked", f"{lookups:,}, {sum(s.picks for s in stations):,}")
    report.row(
        "generations, mistakes of resolvers",
        f"{sum(s.seen.generation for s in stations if s.seen):,}, "
        f"{sum(s.sky.bugs for s in stations):,}",
    )
    report.row("picks refused by an empty ring", f"{sum(s.refused for s in stations):,}")
    report.row(
        "clearings, those that left a ring empty",
        f"{len(healed)}, {sum(s.emptied for s in stations)}",
    )
    seconds, answers = sorted(time for time, _ in healed), sorted(good for _, good in healed)
    middle = len(healed) // 2
    report.row("from a clearing to the truth, median", f"{seconds[middle]:.1f} s")
    report.row("from a clearing to the truth, longest", f"{seconds[-1]:.1f} s")
    report.row("good answers until then, median, most", f"{answers[middle]}, {answers[-1]}")
    rests = {(level.tasks, level.threads, level.descriptors) for level in levels}
    report.row(
        "tasks, threads, descriptors at rest",
        "; ".join(", ".join(map(str, rest)) for rest in sorted(rests)),
        f"the same at {len(levels)} rests",
        holds=len(rests) == 1,
    )
    report.row(
        "tasks, before and after",
        f"{at_first.tasks}, {at_last.tasks}",
        "equal",
        holds=at_first.tasks == at_last.tasks,
    )
    if len(levels) >= 12:
        report.flat(levels, over=f"{hours * 2 / 3:.0f} hours")
