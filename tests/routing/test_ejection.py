"""
Who is ejected, for how long, and what ends it: tables on a clock that the test moves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from knet import ConfigError, EjectionPolicy, Endpoint
from knet.routing.ejection import Ejections
from tests.fakes import A, B, C, D, endpoints

FOUR = (A, B, C, D)


def of(members: tuple[Endpoint, ...] = FOUR, **options: Any) -> Ejections:
    ejections = Ejections(EjectionPolicy(**options))
    ejections.follow(members, 0.0)
    return ejections


def test_a_refused_connection_ejects_at_once_and_others_at_the_second_in_a_row() -> None:
    ejections = of()
    assert ejections.fail(A, 1, 1.0, 2.0)
    assert ejections.out(2.0) == {A: 10.0}

    assert not ejections.fail(B, 2, 1.0, 2.0)
    assert not ejections.fail(
        B, 2, 1.5, 3.0
    )  # it began before the first one was seen: a burst is one
    assert ejections.fail(B, 2, 2.5, 4.0)
    assert ejections.out(4.0) == {A: 8.0, B: 10.0}
    assert not ejections.fail(C, 0, 1.0, 2.0)
    assert not ejections.fail(replace(C, port=81), 1, 1.0, 2.0)  # nobody knows it


def test_a_success_in_between_starts_the_row_anew() -> None:
    ejections = of()
    assert not ejections.fail(A, 2, 1.0, 2.0)
    assert not ejections.succeed(A, 3.0)
    assert not ejections.fail(A, 2, 4.0, 5.0)
    assert not ejections.succeed(A, 4.5)  # it began before that failure
    assert ejections.fail(A, 2, 6.0, 7.0)


def test_a_row_can_be_longer() -> None:
    ejections = of(timeouts=3)
    assert [ejections.fail(A, 2, at, at) for at in (1.0, 2.0, 3.0)] == [False, False, True]
    assert of(timeouts=1).fail(A, 2, 1.0, 1.0)


def test_each_ejection_in_a_row_is_twice_as_long_up_to_a_limit() -> None:
    ejections = of(base=10, max=35)
    now, lasted = 0.0, list[float]()
    for _ in range(4):
        assert ejections.fail(A, 2 if lasted else 1, now, now) or not lasted
        lasted.append(ejections.out(now)[A])
        now += lasted[-1] + 1
        assert ejections.out(now) == {}
    assert lasted == [10, 20, 35, 35]

    assert ejections.succeed(A, now)
    assert ejections.fail(A, 1, now + 1, now + 1)
    assert ejections.out(now + 1) == {A: 10}


def test_only_what_began_after_an_ejection_ends_it() -> None:
    """
    Who shuts down gracefully ends old requests well and refuses new ones.
    """
    ejections = of()
    assert ejections.fail(A, 1, 5.0, 5.0)
    assert not ejections.succeed(A, 4.9)
    assert ejections.out(6.0) == {A: 9.0}
    assert ejections.succeed(A, 5.5)  # by whom it was chosen last
    assert ejections.out(6.0) == {}


def test_after_its_time_one_attempt_at_a_time_tries_it() -> None:
    ejections = of()
    ejections.fail(A, 1, 0.0, 0.0)
    assert ejections.is_spared(A, 9.9)
    assert not ejections.begin(A, 9.9)
    assert not ejections.is_spared(A, 10.0)
    assert ejections.begin(A, 10.0)
    assert ejections.is_spared(A, 11.0)
    assert not ejections.begin(A, 11.0)
    # A trial that takes long keeps nobody away: it may be a stream.
    assert not ejections.is_spared(A, 20.0)

    ejections.end_trial(A, 10.0)
    assert not ejections.is_spared(A, 12.0)
    assert ejections.begin(A, 12.0)
    assert ejections.succeed(A, 12.0)
    assert not ejections.is_spared(A, 13.0)
    assert not ejections


@pytest.mark.parametrize(
    ("count", "share", "most"),
    [
        (1, 0.5, 0),  # never all
        (2, 0.5, 1),
        (2, 1.0, 1),
        (3, 0.5, 1),
        (3, 0.1, 1),  # one at least
        (10, 0.5, 5),
        (10, 1.0, 9),
        (3, 2 / 3, 2),  # not lost to rounding
        (10, 0.0, 0),
        (0, 0.5, 0),
    ],
)
def test_at_most_a_share_is_out(count: int, share: float, most: int) -> None:
    members = endpoints(count)
    ejections = of(members, max_share=share)
    ejected = [ejections.fail(member, 1, 1.0, 1.0) for member in members]
    assert sum(ejected) == len(ejections.out(1.0)) == most
    # And who is out stays out.
    assert all(ejected[:most])


def test_pods_without_keys_do_not_count() -> None:
    """
    Else all that serve might be out.
    """
    members = tuple(replace(e, weight=0 if n >= 5 else 1) for n, e in enumerate(endpoints(10)))
    ejections = of(members, max_share=1)
    assert sum(ejections.fail(member, 1, 1.0, 1.0) for member in members) == 4


def test_who_leaves_is_forgotten_and_another_address_is_another_pod() -> None:
    ejections = of()
    ejections.fail(A, 1, 0.0, 0.0)
    ejections.follow((B, C, D), 1.0)
    assert not ejections
    ejections.follow(FOUR, 2.0)
    assert ejections.out(2.0) == {}

    ejections.fail(A, 1, 3.0, 3.0)
    moved = replace(A, address="10.9.9.9")
    ejections.follow((moved, B, C, D), 4.0)
    assert ejections.out(4.0) == {}
    # A weight is no other pod.
    ejections.fail(B, 1, 5.0, 5.0)
    ejections.follow((moved, replace(B, weight=2), C, D), 6.0)
    assert [e.name for e in ejections.out(6.0)] == ["b"]


def test_where_the_set_shrinks_those_come_back_who_would_first() -> None:
    ejections = of()
    ejections.fail(A, 1, 0.0, 0.0)
    ejections.fail(B, 1, 1.0, 1.0)
    ejections.follow((A, B), 2.0)
    assert list(ejections.out(2.0)) == [B]
    ejections.follow((B,), 3.0)
    assert ejections.out(3.0) == {}


def test_by_hand() -> None:
    ejections = of()
    assert ejections.eject(A, None, 0.0)
    assert ejections.eject(B, 3.0, 0.0)
    assert not ejections.eject(C, None, 0.0)  # a share
    assert ejections.out(0.0) == {A: 10.0, B: 3.0}
    assert ejections.next_end(0.0) == 3.0
    assert ejections.restore(A)
    assert not ejections.restore(A)
    assert ejections.next_end(5.0) is None


@pytest.mark.parametrize(
    "options",
    [
        {"base": 0},
        {"base": float("inf")},
        {"base": 400},
        {"max": 1},
        {"max_share": 1.1},
        {"max_share": -0.1},
        {"timeouts": 0},
        {"base": float("nan")},
    ],
)
def test_a_policy_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="base" if "base" in options else next(iter(options))):
        EjectionPolicy(**options)


@pytest.mark.parametrize("options", [{"base": "10"}, {"timeouts": 1.5}, {"max_share": True}])
def test_a_policy_of_another_type_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        EjectionPolicy(**options)
