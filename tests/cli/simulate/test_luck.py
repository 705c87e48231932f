"""
What chance does to a plan: how a client may see it, and the error bars that follow.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knet.cli.simulate.luck import Bars, as_seen, coverage, draw, one_by_one
from knet.cli.simulate.model import Range
from knet.cli.simulate.moves import follow
from knet.cli.simulate.plan import Fleet, Plan, Step
from knet.cli.simulate.traffic import Traffic, sample, zipf
from knet.hashring import HashRing

# Small tables, which are quick to build.
MAKE = partial(HashRing, slots=1024)

RANGES = [each.name for each in fields(Bars)][3:]

PLANS: dict[str, Callable[[random.Random], Plan]] = {
    "joins": lambda chance: Fleet(seed=chance.getrandbits(32)).scale(4, 7),
    "leaves": lambda chance: Fleet(seed=chance.getrandbits(32)).scale(7, 4),
    "deployment": lambda chance: Fleet(seed=chance.getrandbits(32)).roll_deployment(
        6, ready=lambda made: chance.randint(1, made)
    ),
    "statefulset": lambda chance: Fleet(
        stateful=True, service=f"web.{chance.getrandbits(32)}", seed=chance.getrandbits(32)
    ).roll_statefulset(4),
    "nothing": lambda chance: Fleet(seed=chance.getrandbits(32)).stay(4),
}


def bars(plan: str, *, draws: int = 9, seed: int = 0, traffic: Traffic | None = None) -> Bars:
    return draw(
        *(
            PLANS[plan](random.Random(seed)),
            PLANS[plan],
            traffic or zipf(600, 1.0),
            "hashring",
            MAKE,
        ),
        draws=draws,
        seed=seed,
        drew=lambda: None,
    )


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(PLANS)), st.integers(0, 10_000), st.booleans())
def test_a_client_sees_the_beginning_and_the_end(plan: str, seed: int, asks: bool) -> None:
    """
    In between there are pods of the plan only, no name twice, somebody always, and each step changes something.
    """
    chance = random.Random(seed)
    made = PLANS[plan](chance)
    seen = as_seen(one_by_one(made, chance), chance, asks=asks)

    assert seen.before == made.before
    assert seen.after == made.after
    there = {pod for step in made.steps for pod in step.pods}
    for step in seen.steps:
        assert step.pods
        assert {*step.pods} <= there
        assert len({pod.name for pod in step.pods}) == len(step.pods)
        assert list(step.pods) == sorted(step.pods, key=lambda pod: pod.name)
    assert all(a.pods != b.pods for a, b in pairwise(seen.steps))


def test_who_is_told_sees_more_steps_than_who_asks() -> None:
    """
    Who asks believes that pods have gone only with the next answer: for a moment he has more of them than there are.
    """
    chance = random.Random(0)
    plan = one_by_one(Fleet().roll_deployment(6, surge="1", unavailable="0"), chance)

    asking, told = (
        [as_seen(plan, chance, asks=asks) for _ in range(200)] for asks in (True, False)
    )

    assert min(len(view.steps) - 1 for view in asking) <= 2
    assert max(len(view.steps) - 1 for view in told) == 12
    assert fmean(len(view.steps) for view in asking) < fmean(len(view.steps) for view in told) / 2
    most = [
        max(len(step.pods) for view in views for step in view.steps) for views in (asking, told)
    ]
    assert most[0] > 7 == most[1]


def test_a_pod_that_comes_back_unseen_is_another_pod_at_its_name() -> None:
    pods = Fleet(stateful=True).pods(3)
    again = (*pods[:2], *Fleet(stateful=True, seed=1).pods(1, 2))
    plan = Plan("", (Step("", pods), Step("1 leave", pods[:2]), Step("1 return", again)))

    views = [
        as_seen(plan, random.Random(seed), asks=asks)
        for seed in range(50)
        for asks in (True, False)
    ]

    assert {len(view.steps) for view in views} == {2, 3}
    assert all(view.after == again for view in views)


@pytest.mark.parametrize("plan", PLANS)
def test_bars_have_the_least_and_the_most(plan: str) -> None:
    """
    A rolling update moves all keys in the end, at least; who sees fewer of its steps moves no more.
    """
    found = bars(plan)

    ranges = {name: getattr(found, name) for name in RANGES}
    assert all(isinstance(each, Range) for each in ranges.values())
    assert all(each.low <= each.median <= each.high for each in ranges.values())
    assert found.busiest_keys_before.low < found.busiest_keys_before.high
    if plan == "nothing":
        assert found.moved.high == found.net.high == found.misses.high == found.worst.high == 0
        return
    assert 0 < found.worst.low <= found.worst.high < 1 + 1e-9
    assert found.net.low <= found.moved.low
    assert found.least.high <= found.moved.high
    if plan in ("deployment", "statefulset"):
        assert found.net.low == found.net.high == 600
        assert found.moved.high > 700


def test_more_clusters_have_wider_bars_that_hold_for_more() -> None:
    """
    One more than *n* is the least of all, or the most, in two of *n + 1* cases.
    """
    few, many = bars("joins", draws=9), bars("joins", draws=19)

    assert (few.coverage, many.coverage, coverage(199)) == (0.8, 0.9, 0.99)
    for name in RANGES:
        narrow, wide = getattr(few, name), getattr(many, name)
        assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert many != few


def test_the_cluster_that_is_simulated_is_one_of_them() -> None:
    """
    Who is busiest in it, and what moves in the end, lies within.
    """
    make = PLANS["joins"]
    for seed in range(8):
        this = make(random.Random(seed))
        ends = follow(this, zipf(600, 1.0), "hashring", MAKE, lambda keys, pods: None)
        found = bars("joins", draws=3, seed=seed)
        assert found.net.low <= ends.net <= found.net.high
        busiest = found.busiest_requests_after
        assert busiest.low <= ends.after.busiest_requests <= busiest.high


def test_the_same_seed_draws_the_same_clusters() -> None:
    assert bars("deployment", seed=3) == bars("deployment", seed=3)
    assert bars("deployment", seed=3) != bars("deployment", seed=4)


def test_a_sample_gives_the_bars_of_all_keys() -> None:
    """
    Of 20,000 keys a tenth is followed, and all are counted before and after.
    """
    found = bars("joins", traffic=zipf(20_000, 1.0))

    assert 20_000 * 0.3 < found.net.low <= found.moved.low <= found.moved.high < 20_000 * 0.7
    assert found.moved.low == pytest.approx(found.net.low, rel=0.15)


@pytest.mark.parametrize(
    ("keys", "most"), [(100, 100), (101, 100), (1_000, 10), (999, 100), (5, 2)]
)
def test_a_sample_stands_for_all_keys(keys: int, most: int) -> None:
    """
    With all of their requests; those that are asked for most are themselves.
    """
    traffic = zipf(keys, 1.1)

    few = sample(traffic, most)

    assert len(few.keys) <= most
    assert len({*few.keys}) == len(few.keys)
    assert {*few.keys} <= {*traffic.keys}
    assert few.count(range(len(few.keys))) == keys
    assert sum(few.shares) == pytest.approx(1)
    assert list(few.keys[: most // 2]) == list(traffic.keys[: most // 2])


def test_who_waits_is_told_of_each_draw() -> None:
    done: list[int] = []

    for plan in ("joins", "nothing"):
        draw(
            *(PLANS[plan](random.Random(0)), PLANS[plan], zipf(100), "", MAKE),
            draws=3,
            seed=0,
            drew=lambda: done.append(1),
        )

    assert len(done) == 6
