"""
Which of two answers is older, as a table.
"""

from __future__ import annotations

import pytest

from knet import Endpoint
from knet.belief.age import LONGEST_CACHED, MOST_REMEMBERED, Age, judge
from tests.fakes import A, B, C, endpoints

# Heard at 100: an answer with A and B that expires at 120; before it, one with A and C.
HEARD = Age(newest=(A, B), expires_at=120.0, superseded=(A, C), removed_at={C: 100.0})


@pytest.mark.parametrize(
    ("named", "ttl", "now", "newest", "as_young", "repeated"),
    [
        ((A, B), 20, 100, True, True, True),  # the same once more
        ((A, B), 10, 105, False, False, True),  # its expiry seems to move
        ((A, C), 30, 101, True, True, False),  # it expires 11 s later
        ((A, C), 20, 101, True, True, False),  # and 1 s later
        ((A, C), 20, 100.5, False, True, False),  # half a second: nobody can tell
        ((A, C), 10, 101, False, False, False),  # the older cache
        ((A,), 19, 100.5, False, False, False),
        ((A,), 20, 100, True, True, False),  # no margin for what is no superseded answer
        ((A, B, endpoints(1)[0]), 0, 101, False, False, False),  # a stranger, whom it adds
        ((A, C), None, 119, False, False, False),  # C left lately
        ((A, C), None, 100 + LONGEST_CACHED, True, True, False),  # and not lately any more
        ((A, C), 10**6, 59, False, False, False),  # a TTL counts for a minute
    ],
)
def test_of_two_answers_the_one_that_expires_later_is_the_younger(
    named: tuple[Endpoint, ...],
    ttl: float | None,
    now: float,
    newest: bool,
    as_young: bool,
    repeated: bool,
) -> None:
    word = judge(HEARD, named, ttl, believed=(A, B), now=now)

    assert (word.is_newest, word.is_as_young, word.is_repeated) == (newest, as_young, repeated)


def test_only_the_newest_word_is_kept() -> None:
    """
    With what it superseded, unless it only repeats it.
    """
    older = judge(HEARD, (A, C), 1, believed=(A, B), now=101)
    kept = HEARD.after((A, C), older, 101)
    assert (kept.newest, kept.superseded, kept.expires_at) == ((A, B), (A, C), 120)

    younger = judge(HEARD, (A, C), 40, believed=(A, B), now=101)
    after = HEARD.after((A, C), younger, 101)
    assert (after.newest, after.superseded, after.expires_at) == ((A, C), (A, B), 141)

    again = after.after((A, C), judge(after, (A, C), 50, believed=(A, C), now=101), 101)
    assert (again.superseded, again.expires_at) == ((A, B), 151)


def test_who_was_removed_is_remembered_for_a_while_and_not_in_any_number() -> None:
    age = HEARD.after_removal([B], 130.0)
    assert age.removed_at == {C: 100.0, B: 130.0}
    assert age.after_removal([], 100 + LONGEST_CACHED).removed_at == {B: 130.0}

    many = age.after_removal(endpoints(MOST_REMEMBERED), 131.0)
    assert len(many.removed_at) == MOST_REMEMBERED
