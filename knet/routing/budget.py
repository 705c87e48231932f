"""
How many requests may be under way a second time that were perhaps done once.

A request that nobody has seen may go to another pod as often as there are pods. One that a pod may have
seen, and that may be done twice, costs the others work: where a service is slow because it is
overloaded, everybody's second try makes it slower. So those are a part of what is in flight at most, as
Envoy's `retry_budget` has it, and a few in any case. What was in flight at a pod when it broke does not
count: that is one event, and not the beginning of a storm.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from knet.endpoint import Endpoint

__all__ = ["LEAST_REPEATS", "SHARE_OF_REPEATS", "Budget"]

# Of what is in flight, and how many at least. Envoy's `budget_percent` and `min_retry_concurrency`.
SHARE_OF_REPEATS = 0.2
LEAST_REPEATS = 3


class Budget:
    """
    Of one ring.

    Attributes:
        repeating: How many requests are under way again that count.
    """

    __slots__ = ("_broke_at", "repeating")

    def __init__(self) -> None:
        self.repeating = 0
        # When an exchange with a pod broke, until one succeeds that began later.
        self._broke_at: dict[Endpoint, float] = {}

    def __bool__(self) -> bool:
        """
        Has anything broken lately?
        """
        return bool(self._broke_at)

    def is_free(self, endpoint: Endpoint, began_at: float, now: float) -> bool:
        """
        Was an exchange that began then in flight when *endpoint* broke? Then its repetition is free.
        """
        return began_at <= self._broke_at.setdefault(endpoint, now)

    def has_room(self, in_flight: int) -> bool:
        """
        May one more be repeated, where so many are *in_flight*?
        """
        return self.repeating < max(LEAST_REPEATS, SHARE_OF_REPEATS * in_flight)

    def succeed(self, endpoint: Endpoint, began_at: float) -> None:
        """
        Note that an exchange that began then has succeeded.
        """
        if self._broke_at and began_at > self._broke_at.get(endpoint, began_at):
            del self._broke_at[endpoint]

    def keep(self, is_there: Callable[[Endpoint], bool]) -> None:
        """
        Forget those who are not there any more.
        """
        self._broke_at = {e: at for e, at in self._broke_at.items() if is_there(e)}
