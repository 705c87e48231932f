"""
After which errors an HTTP request may go to another pod. Pure.
"""

from __future__ import annotations

from knet import RetryOn, may_repeat, never_sent

__all__ = ["retries_of"]

# RFC 9110, 9.2.2.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


def retries_of(method: str, *, is_at_hand: bool, retry_on: RetryOn | None) -> RetryOn:
    """
    Return what `Ring.attempts` is to be given.

    Args:
        method: Of the request; an idempotent one may be done twice.
        is_at_hand: The body is in memory, or there is none. Of another one nobody knows whether it can be
            sent once more, once a part of it may have been.
        retry_on: What the caller decided, if anything.
    """
    if is_at_hand:
        if retry_on is not None:
            return retry_on
        return may_repeat if method in _IDEMPOTENT else never_sent
    if retry_on is None:
        return never_sent
    if isinstance(retry_on, type | tuple):
        return lambda error: never_sent(error) and isinstance(error, retry_on)
    return lambda error: never_sent(error) and retry_on(error)
