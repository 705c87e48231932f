"""
Who is missing and since when, as tables.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from knet import Endpoint
from knet.belief.absence import EMPTY_ANSWERS, MOST_HEARD, Absence, EmptySpell, walk
from tests.fakes import A, B, C, D

MOVED = replace(B, address="10.0.0.9")
TAKEN = replace(D, address=B.address)


@pytest.mark.parametrize(
    ("missing", "named", "counts", "confirm", "kept", "now_missing"),
    [
        ({}, (A, B), True, 2, (A, B), {}),
        ({}, (A,), True, 2, (A, B), {"b": 1}),
        ({"b": 1}, (A,), True, 2, (A,), {}),
        ({"b": 1}, (A, B), True, 2, (A, B), {}),
        ({"b": 1}, (A,), True, 3, (A, B), {"b": 2}),
        ({}, (A,), True, 1, (A,), {}),
        ({"b": 1}, (A,), False, 2, (A, B), {"b": 1}),  # an answer with a gap says nothing of it
        ({}, (A, C), True, 2, (A, B, C), {"b": 1}),
        ({}, (A, MOVED), True, 2, (A, MOVED), {}),  # the same name at another address
        ({}, (A, TAKEN), True, 2, (A, TAKEN), {}),  # somebody else lives there now
    ],
)
def test_one_walk_tells_who_is_there_and_who_is_missing(
    missing: dict[str, int],
    named: tuple[Endpoint, ...],
    counts: bool,
    confirm: int,
    kept: tuple[Endpoint, ...],
    now_missing: dict[str, int],
) -> None:
    found = walk(Absence(missing), (A, B), named, counts=counts, confirm=confirm)

    assert found.endpoints == kept
    assert found.missing == now_missing


def test_who_is_kept_at_an_address_makes_room_for_who_lives_there() -> None:
    """
    Else two endpoints would be at one address, which placements by address refuse.
    """
    back = {"returned": [MOVED], "stays": lambda _name, _times: True}
    kept = walk(Absence(), (A, B), (A, MOVED), counts=True, confirm=2, **back)  # type: ignore[arg-type]
    assert (kept.endpoints, kept.missing) == ((A, B), {"b": 1})
    gone = walk(Absence(), (A, B), (A, MOVED, TAKEN), counts=True, confirm=2, **back)  # type: ignore[arg-type]
    assert (gone.endpoints, gone.missing) == ((A, MOVED, TAKEN), {})


def test_who_stays_is_the_same_object() -> None:
    found = walk(Absence(), (A, B), (replace(A), B), counts=True, confirm=2)

    assert found.endpoints[0] is A


def test_who_is_seen_is_not_missing() -> None:
    absence = Absence({"a": 1, "b": 2}, EmptySpell("all", 5.0))

    assert absence.seen((B, C)) == Absence({"a": 1}, EmptySpell("all", 5.0))


def test_answers_that_nothing_is_left_are_counted_of_a_kind() -> None:
    """
    And how long they have said so.
    """
    absence = Absence()
    for times in range(1, 6):
        spell = absence.told_nothing("all", 10.0 + times, after_failures=False)
        assert spell == EmptySpell("all", 10.0 + times, times - 1.0, times)
        assert spell.is_believed(2.0) is (times >= EMPTY_ANSWERS)
        assert not spell.is_believed(30.0)
        absence = Absence(empty=spell)
    other = absence.told_nothing("ipv4", 20.0, after_failures=False)
    assert other == EmptySpell("ipv4", 20.0)


def test_of_an_outage_in_between_some_seconds_count() -> None:
    """
    A failure says nothing of the pods.
    """
    absence = Absence(empty=EmptySpell("all", 10.0, 3.0, 4))

    for gap, counted in ((2.0, 2.0), (3600.0, MOST_HEARD)):
        spell = absence.told_nothing("all", 10.0 + gap, after_failures=True)
        assert (spell.heard, spell.times) == (3.0 + counted, 5)
