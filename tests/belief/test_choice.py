"""
Which of several sources counts.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet.belief.choice import MOST_RETURN_HOLD, RETURN_HOLD, Choice, Health

NOW = 1000.0


def after(
    choice: Choice, *states: str, since: float = NOW, knows: bool = True
) -> tuple[int, float]:
    health = [Health(state, since) for state in states]  # type: ignore[arg-type]
    chosen, due = choice.after(health, NOW, patience=2.0, knows=knows)
    return chosen.index, due


@pytest.mark.parametrize(
    ("index", "states", "seconds", "knows", "chosen", "due"),
    [
        (0, ("alive", "idle"), 0, True, 0, math.inf),
        (0, ("silent", "idle"), 0, False, 0, NOW + 2),
        (0, ("silent", "idle"), 2, False, 1, NOW),
        (0, ("down", "idle"), 0, False, 1, NOW),  # nobody is known yet
        (0, ("down", "idle"), 0, True, 0, NOW + 2),
        (0, ("down", "idle"), 2, True, 1, NOW),
        (0, ("hopeless", "idle"), 0, True, 1, NOW),
        (1, ("down", "alive"), 90, True, 1, math.inf),
        (1, ("down", "down"), 90, True, 1, math.inf),  # nobody comes after the last one
        (1, ("alive", "alive"), 0, True, 1, NOW + RETURN_HOLD),
        (1, ("alive", "alive"), RETURN_HOLD, True, 0, math.inf),
        (1, ("alive", "down"), 0, True, 0, math.inf),
        (1, ("alive", "silent"), 0, True, 0, math.inf),
        (1, ("down", "hopeless", "idle"), 0, True, 2, NOW),
        (2, ("down", "alive", "alive"), RETURN_HOLD, True, 1, math.inf),
    ],
)
def test_the_first_that_can_tell(
    index: int, states: tuple[str, ...], seconds: float, knows: bool, chosen: int, due: float
) -> None:
    assert after(Choice(index), *states, since=NOW - seconds, knows=knows) == (chosen, due)


def test_one_that_comes_and_goes_is_taken_back_later_and_later() -> None:
    choice, at, holds = Choice(), 0.0, []
    for _ in range(6):
        choice, _ = choice.after([Health("hopeless", at), Health()], at, patience=2.0, knows=True)
        assert choice.index == 1
        both = [Health("alive", at), Health("alive", at)]
        _, due = choice.after(both, at, patience=2.0, knows=True)
        holds.append(due - at)
        choice, _ = choice.after(both, due, patience=2.0, knows=True)
        assert choice.index == 0
        at = due
    assert holds == [5, 10, 20, 40, MOST_RETURN_HOLD, MOST_RETURN_HOLD]
    assert choice.hold(at + 300) == RETURN_HOLD


STATES = ("idle", "silent", "alive", "down", "hopeless")


@given(
    st.lists(st.sampled_from(STATES), min_size=1, max_size=4),
    st.integers(0, 3),
    st.floats(0, 100),
    st.booleans(),
)
def test_whatever_they_do_it_settles(
    states: list[str], index: int, seconds: float, knows: bool
) -> None:
    """
    One step is followed by another only where it is forward, and none is due in the past.
    """
    index = min(index, len(states) - 1)
    health = [Health(state, NOW - seconds) for state in states]  # type: ignore[arg-type]
    choice = Choice(index)
    for _ in range(len(states) + 1):
        following, due = choice.after(health, NOW, patience=2.0, knows=knows)
        if following == choice:
            break
        assert following.index < choice.index or due == NOW
        choice = following
    else:
        raise AssertionError("it never settles")
    assert due > NOW
    assert all(h.state != "alive" or h.since > NOW - RETURN_HOLD for h in health[: choice.index])
