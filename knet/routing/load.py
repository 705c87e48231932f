"""
Who has how much in flight, and who may take one more: consistent hashing with bounded loads
(Mirrokni, Thorup, Zadimoghaddam 2016).

A key goes to its first pod that has room. The room of a pod is a factor times its fair share, by weight,
of all that is in flight and of the one request that wants in. Shares are of those who may take one now:
what is ejected has no share, and what is in flight there does not count. So there is always room, and
nobody waits. Below about two requests in flight at a pod the share alone would send every second
request away, so a pod may always have *slack* of them.

Pure: counts, and nothing that waits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from knet.endpoint import Endpoint
from knet.errors import ConfigError

__all__ = ["Bound", "Load", "Room", "bound_of"]

_weight = attrgetter("weight")

# A count that changes, and whose it is.
_At = dict[int, list[Any]]


@dataclass(frozen=True, slots=True)
class Bound:
    """
    How much more than its share a pod may have in flight.

    At most ``max(slack, ceil(factor * (in flight + 1) * weight / weights of all))``, of the pods that are
    not ejected.

    Attributes:
        factor: Above 1. 1.25 is what Google and KubeAI use, and evens out more; 1.5 keeps more keys at
            their pod; 2 is late under high load.
        slack: What a pod may have in flight in any case, at least 1. About what a pod does at once,
            divided by the number of clients.

    Raises:
        ConfigError: A value is out of range.
    """

    factor: float
    slack: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.factor, bool) or not isinstance(self.factor, int | float):
            raise TypeError(f"a bound's factor must be a number, not {type(self.factor).__name__}")
        if not 1 < self.factor < math.inf:
            raise ConfigError(
                f"a bound's factor must be above 1, got {self.factor:g}: at 1 there would be no room "
                "for one more"
            )
        if isinstance(self.slack, bool) or not isinstance(self.slack, int):
            raise TypeError(f"a bound's slack must be an int, not {type(self.slack).__name__}")
        if self.slack < 1:
            raise ConfigError(f"a bound's slack must be at least 1, got {self.slack}")


def bound_of(given: float | Bound | None) -> Bound | None:
    """
    Return what a caller gave as a bound.
    """
    if given is None or isinstance(given, Bound):
        return given
    return _bound(given)


@functools.lru_cache(maxsize=64)
def _bound(factor: float) -> Bound:
    return Bound(factor)


class Load:
    """
    What is in flight of one ring, whoever asks.

    Attributes:
        total: All of it.
    """

    __slots__ = ("_at", "_share", "total")

    def __init__(self) -> None:
        self.total = 0
        # By the identity of endpoints, which is stable for as long as they do not change: to hash one
        # takes longer than all the rest. Whoever is in it is kept, so that no other one gets its identity.
        self._at: _At = {}
        # The weights of those who may take one, as they were asked for last.
        self._share: tuple[object, object, float] = (None, None, 0.0)

    def begin(self, endpoint: Endpoint) -> None:
        """
        Count one more at *endpoint*.
        """
        self.total += 1
        place = self._at.get(id(endpoint))
        if place is None:
            self._at[id(endpoint)] = [1, endpoint]
        else:
            place[0] += 1

    def end(self, endpoint: Endpoint) -> None:
        """
        Count one less there.
        """
        self.total -= 1
        place = self._at[id(endpoint)]
        place[0] -= 1
        if not place[0]:
            del self._at[id(endpoint)]

    @property
    def at(self) -> dict[Endpoint, int]:
        """
        How much of it is where; nobody has 0.
        """
        found: dict[Endpoint, int] = {}
        for count, endpoint in list(self._at.values()):
            found[endpoint] = found.get(endpoint, 0) + count
        return found

    def is_below(self, endpoint: Endpoint, count: int) -> bool:
        """
        Is less than *count* in flight at *endpoint*?
        """
        place = self._at.get(id(endpoint))
        return place is None or place[0] < count

    def room(
        self, bound: Bound, endpoints: Collection[Endpoint], out: Collection[Endpoint]
    ) -> Room:
        """
        Return who may take one more now.

        Args:
            bound: How far from even.
            endpoints: All of the ring.
            out: Who of them is ejected.
        """
        of, without, weights = self._share
        if of is not endpoints or without is not out:
            weights = sum(map(_weight, endpoints)) - sum(map(_weight, out))
            self._share = endpoints, out, weights
        total = self.total
        if out:
            total -= sum(count for count, endpoint in self._at.values() if endpoint in out)
        return Room(self._at, bound.factor * (total + 1) / weights if weights else 0.0, bound.slack)


class Room:
    """
    Who may take one more, at one moment.
    """

    __slots__ = ("_at", "_per_weight", "_slack")

    def __init__(self, at: _At, per_weight: float, slack: int) -> None:
        self._at = at
        self._per_weight = per_weight
        self._slack = slack

    def has(self, endpoint: Endpoint) -> bool:
        """
        May *endpoint* take one more?
        """
        place = self._at.get(id(endpoint))
        if place is None:
            return True
        count: int = place[0]
        return count < self._slack or count < math.ceil(self._per_weight * endpoint.weight)

    def first(self, endpoints: Iterable[Endpoint]) -> Endpoint | None:
        """
        Return the first of *endpoints* that may, or `None`.
        """
        return next((e for e in endpoints if self.has(e)), None)
