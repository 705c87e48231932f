"""
Keys that move, compared with asking every key one by one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knet import Endpoint
from knet.cli.simulate.moves import Make, Outcome, busiest, follow
from knet.cli.simulate.plan import Fleet, Plan, Step
from knet.cli.simulate.simulation import SIMULATED
from knet.cli.simulate.traffic import Traffic, with_hot_key, zipf
from knet.hashring import HashRing, Rendezvous

PLANS = {
    "joins": Fleet().scale(5, 7),
    "leaves": Fleet().scale(7, 5),
    "deployment": Fleet().roll_deployment(6),
    "statefulset": Fleet(stateful=True).roll_statefulset(4),
    "zone": Fleet(zones=3).lose_zone(9),
    "weights": Fleet(weights=(1, 2, 3)).scale(6, 8),
    "nothing": Fleet().stay(4),
}
TRAFFIC = with_hot_key(zipf(800, 1.1), 0.3)


def played(plan: Plan, name: str = "hashring", traffic: Traffic = TRAFFIC) -> Outcome:
    return follow(plan, traffic, name, SIMULATED[name], lambda keys, pods: None)


def by_hand(plan: Plan, make: Make, traffic: Traffic) -> list[tuple[int, int, int, float]]:
    """
    Return what each step moved, what it had to, what misses and its requests: a key at a time.
    """
    homes = []
    for step in plan.steps:
        placement = make(step.pods)
        homes.append({key: placement.get(key) for key in traffic.keys})
    shares = dict(zip(traffic.keys, traffic.shares, strict=True))
    been: dict[str | bytes, set[Endpoint]] = defaultdict(set)
    for key, pod in homes[0].items():
        been[key].add(pod)
    found = []
    for before, after in pairwise(homes):
        moved = [key for key in traffic.keys if before[key] != after[key]]
        missed = [key for key in moved if after[key] not in been[key]]
        had, has = Counter(before.values()), Counter(after.values())
        least = sum(max(0, has[pod] - had[pod]) for pod in has)
        for key in traffic.keys:
            been[key].add(after[key])
        found.append((len(moved), least, len(missed), sum(shares[key] for key in missed)))
    return found


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", [name for name in SIMULATED if name != "pymemcache"])
@pytest.mark.sampled(4)
def test_every_key_is_counted(plan: str, name: str) -> None:
    """
    What moves, what had to and what misses are those of asking the placement key by key.
    """
    outcome = played(PLANS[plan], name)

    counted = by_hand(PLANS[plan], SIMULATED[name], TRAFFIC)
    assert [(s.moved, s.least, s.misses) for s in outcome.steps] == [c[:3] for c in counted]
    assert [s.requests for s in outcome.steps] == pytest.approx([c[3] for c in counted])
    assert outcome.moved == sum(step[0] for step in counted)


@pytest.mark.parametrize("name", SIMULATED)
@pytest.mark.sampled(3)
def test_loads_are_those_of_the_pods(name: str) -> None:
    plan = PLANS["joins"]
    outcome = played(plan, name)

    for step, load in ((plan.steps[0], outcome.before), (plan.steps[-1], outcome.after)):
        placement = SIMULATED[name](step.pods)
        keys: Counter[Endpoint] = Counter()
        requests: dict[Endpoint, float] = defaultdict(float)
        for key, share in zip(TRAFFIC.keys, TRAFFIC.shares, strict=True):
            keys[placement.get(key)] += 1
            requests[placement.get(key)] += share
        assert load.keys == tuple(keys[pod] for pod in step.pods)
        assert load.requests == pytest.approx([requests[pod] for pod in step.pods])
        assert load.busiest_keys == max(keys.values()) * len(step.pods) / len(TRAFFIC.keys)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(sorted(SIMULATED.keys() - {"pymemcache"})),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 99),
    st.integers(1, 400),
)
def test_no_placement_moves_fewer_than_it_must(
    name: str, before: int, after: int, seed: int, keys: int
) -> None:
    """
    Every key is at one pod, every request too, and each that moves misses at most once.
    """
    plan = Fleet(seed=seed).scale(before, after)
    outcome = played(plan, name, zipf(keys, 0.8))

    for load in (outcome.before, outcome.after):
        assert sum(load.keys) == keys
        assert sum(load.requests) == pytest.approx(1)
        assert load.busiest_keys >= 1
        assert load.busiest_requests > 1 - 1e-9
    (step,) = outcome.steps
    assert keys >= step.moved >= step.least >= 0
    assert step.misses == step.moved
    if before == after:
        assert step.moved == 0


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 15), st.integers(1, 15), st.integers(0, 99))
def test_a_hash_ring_moves_no_key_without_cause(before: int, after: int, seed: int) -> None:
    """
    What moves is what the pods that joined have, or what those that left had.
    """
    plan = Fleet(seed=seed).scale(before, after)

    assert played(plan).moved == played(plan).least


def test_what_a_restarted_pod_had_is_forgotten() -> None:
    """
    Of a StatefulSet each key misses at the pod that stands in, and again at its own, which is new.
    """
    outcome = played(PLANS["statefulset"])

    assert outcome.misses == outcome.moved == 2 * len(TRAFFIC.keys)


def test_what_comes_back_to_a_pod_that_stayed_is_a_hit() -> None:
    """
    A pod that was away from DNS for a moment, and runs all the while, has what it had.
    """
    pods = Fleet().pods(3)
    plan = Plan("a blip", (Step("", pods), Step("1 leave", pods[:2]), Step("1 return", pods)))

    gone, back = played(plan).steps

    assert gone.moved == gone.misses == back.moved
    assert (back.misses, back.requests) == (0, 0.0)


def test_weights_count() -> None:
    """
    A pod of weight 3 may have three times as much; one of weight 0 has nothing.
    """
    pods = Fleet(weights=(1, 3, 0)).pods(3)

    assert busiest([1, 3, 0], pods) == 1
    assert busiest([2, 2, 0], pods) == 2
    assert busiest([0, 0, 0], pods) == 0
    plan = Plan("", (Step("", pods),))
    assert follow(
        plan, zipf(2_000), "rendezvous", Rendezvous, lambda keys, pods: None
    ).before.busiest_keys == pytest.approx(1, abs=0.15)


def test_who_waits_is_told_of_every_key_of_every_step() -> None:
    did: list[tuple[int, int]] = []

    follow(PLANS["joins"], zipf(1_000), "", HashRing, lambda keys, pods: did.append((keys, pods)))

    assert did == [(1_000, 5), (1_000, 7)]
