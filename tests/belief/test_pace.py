"""
When to ask next, as tables.
"""

from __future__ import annotations

import pytest

from knet import RefreshPolicy
from knet.belief import pace

POLICY = RefreshPolicy()  # 5 s, at least 1; retries from 0.5 to 30 s


@pytest.mark.parametrize(
    ("ttl", "doubtful", "jitter", "wait"),
    [
        (None, False, 0.0, 5.0),
        (None, False, 0.5, 5.25),
        (30, False, 0.0, 5.0),
        (3, False, 0.0, 3.0),
        (0, False, 0.0, 1.0),
        (-7, False, 0.0, 1.0),
        (30, True, 0.0, 1.0),
        (None, True, 0.999, 1.0999),
    ],
)
def test_after_an_answer(ttl: float | None, doubtful: bool, jitter: float, wait: float) -> None:
    """
    The TTL, between the two limits; soon where somebody is missing; longer by a tenth at most.
    """
    found = pace.after_answer(ttl, POLICY, jitter, doubtful=doubtful)

    assert found == pytest.approx(wait)


@pytest.mark.parametrize(
    ("failures", "starting", "jitter", "wait"),
    [
        (1, False, 1.0, 0.5),
        (1, False, 0.0, 0.25),
        (2, False, 1.0, 1.0),
        (5, False, 1.0, 8.0),
        (7, False, 1.0, 30.0),
        (7, False, 0.0, 15.0),
        (10**6, False, 1.0, 30.0),
        (5, True, 1.0, 2.0),
        (1, True, 1.0, 0.5),
    ],
)
def test_after_a_failure(failures: int, starting: bool, jitter: float, wait: float) -> None:
    """
    Doubled each time, up to 30 s, or 2 s while a program waits; between half and all of that.
    """
    assert pace.after_failure(failures, POLICY, jitter, starting=starting) == wait


@pytest.mark.parametrize(("began_at", "at"), [(None, 100.0), (99.5, 100.5), (90.0, 91.0)])
def test_a_lookup_that_is_asked_for_keeps_its_distance(began_at: float | None, at: float) -> None:
    assert pace.earliest(began_at, POLICY, 100.0) == at


@pytest.mark.parametrize(
    ("began_at", "heard_at", "wait", "failures", "asked_for", "oldest"),
    [
        (None, -1e9, 0.0, 0, False, 100.0),  # its first lookup is its own
        (95.0, 95.0, 5.0, 0, True, 100.0),  # a caller wants to know now
        (95.0, 95.0, 5.0, 0, False, 97.5),  # not older than half of the wait
        (95.0, 98.0, 5.0, 0, False, 99.0),  # a second newer than the last
        (95.0, 98.0, 5.0, 3, False, 98.0),  # newer at all, after a failure
        (99.0, 99.0, 1.0, 0, False, 100.0),
        (95.0, 99.9, 5.0, 0, False, 100.0),  # never later than now
    ],
)
def test_how_old_an_answer_of_another_ring_may_be(
    began_at: float | None,
    heard_at: float,
    wait: float,
    failures: int,
    asked_for: bool,
    oldest: float,
) -> None:
    found = pace.oldest_answer(
        100.0,
        began_at=began_at,
        heard_at=heard_at,
        wait=wait,
        failures=failures,
        asked_for=asked_for,
        policy=POLICY,
    )

    assert found == pytest.approx(oldest)
    assert found > heard_at  # what it has heard itself is no news


@pytest.mark.parametrize(
    ("waited", "more"), [(3.0, 0.0), (10.0, 0.0), (10.1, 0.0), (10.5, 0.5), (25.0, 10.0)]
)
def test_a_start_that_was_slept_through_goes_on_for_a_while(waited: float, more: float) -> None:
    """
    For as long as the loop stood still, and not longer than the start may take.
    """
    assert pace.extra_patience(10.0, waited) == pytest.approx(more)
