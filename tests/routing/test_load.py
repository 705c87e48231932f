"""
Who may take one more, and that there is always room.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet import Bound, ConfigError, Endpoint
from knet.routing.budget import LEAST_REPEATS, Budget
from knet.routing.load import Load, bound_of
from tests.fakes import A, B, C, endpoints


def test_what_is_in_flight_is_counted() -> None:
    load = Load()
    for pod in (A, B, A):
        load.begin(pod)
    assert (load.total, load.at) == (3, {A: 2, B: 1})
    for pod in (A, A, B):
        load.end(pod)
    assert (load.total, load.at) == (0, {})


def test_a_pod_may_have_its_share_times_the_factor() -> None:
    """
    Three pods and five in flight: with one more, 1.5 times the share is 3.
    """
    load = Load()
    for pod in (A, A, A, B, C):
        load.begin(pod)
    room = load.room(Bound(1.5), (A, B, C), ())
    assert [room.has(pod) for pod in (A, B, C)] == [False, True, True]
    assert room.first((A, B, C)) is B
    # With slack for 4, A has room in any case.
    assert load.room(Bound(1.5, slack=4), (A, B, C), ()).has(A)
    # Where A is ejected, its requests and its share do not count: two in flight at two pods.
    assert load.room(Bound(1.5), (A, B, C), (A,)).has(B)


def test_shares_are_by_weight() -> None:
    heavy = replace(A, weight=3)
    load = Load()
    for pod in (heavy, heavy, heavy, B):
        load.begin(pod)
    room = load.room(Bound(1.1), (heavy, B), ())
    assert (room.has(heavy), room.has(B)) == (True, True)
    load.begin(B)
    room = load.room(Bound(1.1), (heavy, B), ())
    assert (room.has(heavy), room.has(B)) == (True, False)


@given(
    weights=st.lists(st.sampled_from([0, 0.5, 1, 3]), min_size=1, max_size=12),
    factor=st.floats(1.01, 3),
    slack=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_there_is_always_room(weights: list[float], factor: float, slack: int, seed: int) -> None:
    """
    Whoever is ejected, and whatever was in flight there.
    """
    chance = random.Random(seed)
    pods = [replace(e, weight=w) for e, w in zip(endpoints(len(weights)), weights, strict=True)]
    load, places = Load(), list[Endpoint]()
    for _ in range(200):
        out = tuple(chance.sample(pods, chance.randrange(len(pods))))
        able = [e for e in pods if e not in out and e.weight]
        room = load.room(Bound(factor, slack), pods, out)
        found = room.first(able)
        assert (found is None) is (not able)
        if found is not None:
            load.begin(found)
            places.append(found)
        if places and chance.random() < 0.3:
            load.end(places.pop(chance.randrange(len(places))))
    assert load.total == len(places)


@pytest.mark.parametrize("factor", [1, 1.0, 0.5, math.inf, math.nan, -2])
def test_a_bound_at_or_below_1_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError, match="above 1"):
        Bound(factor)
    with pytest.raises(ConfigError, match="above 1"):
        bound_of(factor)


@pytest.mark.parametrize(
    "options", [{"factor": "2"}, {"factor": True}, {"factor": 2, "slack": 1.5}]
)
def test_a_bound_of_another_type_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Bound(**options)


def test_slack_is_one_at_least() -> None:
    with pytest.raises(ConfigError, match="slack must be at least 1"):
        Bound(2, slack=0)


# --- what may be repeated


def test_what_was_in_flight_at_a_pod_when_it_broke_is_free() -> None:
    budget = Budget()
    assert budget.is_free(A, 1.0, 5.0)  # the first one breaks it
    assert budget.is_free(A, 4.9, 6.0)
    assert not budget.is_free(A, 5.1, 6.0)  # it began when that was known
    assert budget.is_free(B, 5.1, 6.0)
    budget.succeed(A, 4.0)
    assert not budget.is_free(A, 5.1, 6.0)
    budget.succeed(A, 7.0)
    assert budget.is_free(A, 8.0, 9.0)
    budget.keep(lambda pod: pod is B)
    assert budget.is_free(A, 10.0, 11.0)


def test_all_else_is_a_part_of_what_is_in_flight() -> None:
    budget = Budget()
    for number in range(LEAST_REPEATS):
        budget.repeating = number
        assert budget.has_room(0)
    budget.repeating = LEAST_REPEATS
    assert not budget.has_room(15)
    assert budget.has_room(16)
