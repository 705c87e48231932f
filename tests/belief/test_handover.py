"""
What counts of a word after another source has taken over.
"""

from __future__ import annotations

import math

import pytest

from knet import Answer, Endpoint
from knet.belief.handover import LEAST_WINDOW, MOST_WINDOW, Handover
from tests.fakes import A, B, C, D

NOW = 1000.0


def handed(*last: Endpoint, spoke_at: float = NOW) -> Handover:
    """
    Return it right after source 1 took over from source 0, which had named *last*.
    """
    _, before, due = Handover().heard(Answer(last), last, spoke_at)
    assert due == math.inf
    return before.taken_over(1, spoke_at, spoke_at)


@pytest.mark.parametrize(
    ("ttl", "seconds", "kept"),
    [
        (None, 0, True),
        (None, LEAST_WINDOW - 0.1, True),
        (None, LEAST_WINDOW, False),
        (2.0, LEAST_WINDOW - 0.1, True),
        (30.0, 29.9, True),  # from when it was first heard on
        (3600.0, MOST_WINDOW - 0.1, True),
        (3600.0, MOST_WINDOW, False),
    ],
)
def test_whom_another_named_is_kept_for_as_long_as_the_word_may_be_old(
    ttl: float | None, seconds: float, kept: bool
) -> None:
    handover = handed(A, B)
    _, handover, _ = handover.heard(Answer([A], ttl), (A, B), NOW)
    told, _, due = handover.heard(Answer([A], ttl), (A, B), NOW + seconds)
    assert told.endpoints == ((A, B) if kept else (A,))
    assert due > NOW + seconds
    assert (due < math.inf) == kept


def test_a_cache_that_was_filled_before_may_speak_until_it_expires() -> None:
    """
    The word was first heard 3 seconds after the event, and is good for 10 more.
    """
    handover = handed(A, B)
    _, handover, _ = handover.heard(Answer([A], 10.0), (A, B), NOW + 3)
    for seconds, kept in ((12.9, True), (13.0, False)):
        told, _, _ = handover.heard(Answer([A], 0.1), (A, B), NOW + seconds)
        assert (B in told.endpoints) == kept


def test_who_was_removed_is_barred_by_name_and_address() -> None:
    moved = Endpoint(B.name, "10.0.0.9", 80)
    handover = handed(A, B).taken_over(0, NOW, NOW).after_change([B], [], NOW)
    handover = handover.taken_over(1, NOW, NOW)
    told, _, due = handover.heard(Answer([A, B, C]), (A,), NOW + 1)
    assert told.endpoints == (A, C)
    assert due == NOW + LEAST_WINDOW
    told, _, _ = handover.heard(Answer([A, moved]), (A,), NOW + 1)
    assert told.endpoints == (A, moved)
    told, _, _ = handover.heard(Answer([A, B]), (A,), NOW + LEAST_WINDOW)
    assert told.endpoints == (A, B)


def test_what_a_source_said_itself_binds_it_to_nothing() -> None:
    handover = Handover()
    _, handover, _ = handover.heard(Answer([A, B]), (), NOW)
    handover = handover.after_change([B], [], NOW)
    told, _, due = handover.heard(Answer([B]), (A,), NOW + 0.1)
    assert (told.endpoints, due) == ((B,), math.inf)


def test_a_further_change_begins_nothing_anew() -> None:
    """
    Nobody has named B since NOW; whoever speaks after five seconds may remove it.
    """
    handover = handed(A, B)
    for source in (0, 1, 0, 1):
        _, handover, _ = handover.heard(Answer([A]), (A, B), NOW + 1)
        handover = handover.taken_over(source, NOW + 1, NOW + 1)
    told, _, _ = handover.heard(Answer([A]), (A, B), NOW + LEAST_WINDOW + 0.1)
    assert told.endpoints == (A,)


def test_who_was_named_since_by_the_source_in_use_is_its_own() -> None:
    handover = handed(A, B)
    _, handover, _ = handover.heard(Answer([A, B]), (A, B), NOW + 1)
    told, _, _ = handover.heard(Answer([A]), (A, B), NOW + 2)
    assert told.endpoints == (A,)


def test_an_address_is_given_to_one_pod() -> None:
    heir = Endpoint("heir", B.address, 80)
    told, _, _ = handed(A, B).heard(Answer([A, heir]), (A, B), NOW)
    assert told.endpoints == (A, heir)


def test_who_left_meanwhile_is_not_made_up() -> None:
    """
    Only who is believed is kept.
    """
    told, _, _ = handed(A, B).heard(Answer([A, D]), (A,), NOW)
    assert told.endpoints == (A, D)


def test_it_forgets() -> None:
    handover = handed(A, B).after_change([C], [], NOW)
    _, handover, _ = handover.heard(Answer([A]), (A,), NOW + MOST_WINDOW)
    assert not handover.named
    assert not handover.removed
