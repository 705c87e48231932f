"""
When to ask next, and how old an answer may be that another ring has heard.

Pure: facts and a random number go in, seconds come out. *jitter*, drawn from ``[0, 1)``, spreads
clients over time, so that they do not keep step. After an answer a wait is longer by up to
`RefreshPolicy.jitter` of itself and never shorter, which would hit a cache just before it expires.
After a failure it is between half and all of what was planned: apart from each other, and never a hot
loop.
"""

from __future__ import annotations

import math

from knet.belief.policy import RefreshPolicy

__all__ = [
    "MOST_START_RETRY",
    "SETTLE",
    "STALLED",
    "after_answer",
    "after_failure",
    "earliest",
    "extra_patience",
    "oldest_answer",
    "spread",
]

# Seconds between two lookups of a ring that is starting, at most, whatever `max_retry` is: a program
# waits for it.
MOST_START_RETRY = 2.0

# Seconds in which what a source tells by itself is believed together: one table is built, and not many.
SETTLE = 0.05

# A deadline that is noticed this many seconds late was slept through.
STALLED = 0.1

# 2.0 ** 1024 raises OverflowError, and an outage over a weekend gets there.
_MAX_DOUBLINGS = 32


def after_answer(
    ttl: float | None, policy: RefreshPolicy, jitter: float, *, doubtful: bool
) -> float:
    """
    Seconds until the next lookup, after an answer that named somebody.

    Args:
        ttl: Seconds that it is good for, or `None` where nobody said.
        policy: How often to ask.
        jitter: Drawn from `[0, 1)`.
        doubtful: It left somebody out, and a second opinion is wanted soon.
    """
    if doubtful:
        wait = policy.shortest
    elif ttl is None:
        wait = policy.interval
    else:
        wait = min(max(ttl, policy.shortest), policy.interval)
    return spread(wait, policy, jitter)


def spread(wait: float, policy: RefreshPolicy, jitter: float) -> float:
    """
    Return *wait*, longer by a part that *jitter* chooses.
    """
    return wait * (1 + policy.jitter * jitter)


def after_failure(failures: int, policy: RefreshPolicy, jitter: float, *, starting: bool) -> float:
    """
    Seconds until the next lookup, after *failures* of them in a row: doubled each time.

    Only the first retry may come sooner than `RefreshPolicy.min_interval`.
    """
    backoff = policy.retry * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    most = min(policy.max_retry, MOST_START_RETRY) if starting else policy.max_retry
    wait = min(backoff, most) * (0.5 + 0.5 * jitter)
    return wait if failures == 1 else max(wait, policy.shortest)


def earliest(began_at: float | None, policy: RefreshPolicy, now: float) -> float:
    """
    Return when a lookup that somebody asked for may begin, after one that began at *began_at*.
    """
    return now if began_at is None else began_at + policy.shortest


def oldest_answer(
    now: float,
    *,
    began_at: float | None,
    heard_at: float,
    wait: float,
    failures: int,
    asked_for: bool,
    policy: RefreshPolicy,
) -> float:
    """
    Return when a lookup must have begun, at the earliest, for its answer to count now.

    Where no caller asked for a lookup, an answer that another ring of this name has fetched is good
    enough, if it is at least `shortest` newer than this ring's last one (after a failure: newer at
    all) and not older than half of the present wait. The next lookup is scheduled by the age of that
    answer, so reusing it never makes the ring notice a change later.

    Args:
        now: Seconds on the clock of all the others.
        began_at: When the ring's last lookup began, or `None`.
        heard_at: When the lookup began that told it what it knows.
        wait: Seconds that it has planned from the last lookup to this one.
        failures: How many of the last lookups failed in a row.
        asked_for: A caller wants to know now.
        policy: How often to ask.
    """
    since = now
    if began_at is not None and not asked_for:
        apart = 0.0 if failures else policy.shortest
        since = min(now, max(now - max(policy.shortest, wait / 2), heard_at + apart))
    return max(since, math.nextafter(heard_at, math.inf))


def extra_patience(start_timeout: float, waited: float) -> float:
    """
    Return for how many seconds more a start may go on whose deadline was noticed late, or 0.

    The event loop stood still past the deadline, so that nobody could look whether an answer had come.
    Another one comes at once, if that is so.
    """
    late = waited - start_timeout
    return min(start_timeout, late) if late > STALLED else 0.0
