"""
`Answer`: what a source told, once.

Pure. Every source returns it, and every ring believes or doubts it.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, get_args

from knet.endpoint import Endpoint
from knet.errors import ConfigError

__all__ = ["Answer", "Gap", "with_endpoints"]

_name = attrgetter("name")

Gap = Literal["", "cut off", "targets", "sample"]


@dataclass(frozen=True, slots=True, init=False)
class Answer:
    """
    The endpoints of one resolution.

    Attributes:
        endpoints: Sorted by name, each name once; any iterable of endpoints may be given.
        ttl: Seconds that the servers say the answer is good for, or `None` where nobody said.
        gap: Why endpoints may be missing. `""`: none are. `"cut off"`: a message holds no more, so
            what it names is a sample of what there is. `"sample"`: the server names some of the healthy
            at random. `"targets"`: the lookup of some SRV targets failed. A ring adds what an answer with
            a gap names, and removes nobody for not being in it.
        gap_reason: The same for a person: which target, and what came back.
        name: The absolute DNS name that answered, or `""`.
        ignored: How many records were left out: foreign, unusable or out of family.

    Raises:
        ConfigError: Two different endpoints have one name, *ttl* is not a number (NaN), *gap* is none
            of these, or there is a reason and no gap.
        TypeError: Something in *endpoints* is no `Endpoint`.
    """

    endpoints: tuple[Endpoint, ...]
    ttl: float | None
    gap: Gap
    gap_reason: str
    name: str
    ignored: int

    def __init__(
        self,
        endpoints: Iterable[Endpoint] = (),
        ttl: float | None = None,
        *,
        gap: Gap = "",
        gap_reason: str = "",
        name: str = "",
        ignored: int = 0,
    ) -> None:
        if ttl is not None and ttl != ttl:  # it compares with nothing, and would stop a clock
            raise ConfigError(f"ttl must be a number of seconds or None, got {ttl}")
        if gap not in get_args(Gap):
            raise ConfigError(f"gap must be one of {get_args(Gap)}, got {gap!r}")
        if gap_reason and not gap:
            raise ConfigError(
                f"gap_reason is the reason of a gap, and there is none: {gap_reason!r}"
            )
        put = object.__setattr__
        put(self, "endpoints", _by_name(endpoints))
        put(self, "ttl", ttl)
        put(self, "gap", gap)
        put(self, "gap_reason", gap_reason)
        put(self, "name", name)
        put(self, "ignored", ignored)

    @property
    def complete(self) -> bool:
        """
        Are there no endpoints that may be missing?
        """
        return not self.gap


def with_endpoints(answer: Answer, endpoints: tuple[Endpoint, ...]) -> Answer:
    """
    Return *answer* with others in place of its endpoints, of the same names in the same order.
    """
    other = copy(answer)
    object.__setattr__(other, "endpoints", endpoints)
    return other


def _by_name(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    found = tuple(endpoints)
    for kind in set(map(type, found)):
        if not issubclass(kind, Endpoint):
            raise TypeError(f"an Answer holds Endpoints, not {kind.__name__}")
    # Sorting by name alone is a third of the cost of comparing whole endpoints.
    found = tuple(sorted(found, key=_name))
    if len(set(map(_name, found))) == len(found):
        return found
    unique: list[Endpoint] = []
    for endpoint in found:
        if unique and unique[-1].name == endpoint.name:
            if unique[-1] != endpoint:
                raise ConfigError(
                    f"two endpoints have the name {endpoint.name!r}: {unique[-1]} and {endpoint}"
                )
            continue
        unique.append(endpoint)
    return tuple(unique)
