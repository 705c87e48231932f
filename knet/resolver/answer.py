"""
What one resolution gave, and what can give it.

Pure. `Answer` is the value that every resolver returns and every ring believes or doubts;
`ResolverProtocol` is all that a ring asks of a resolver.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from knet.endpoint import Endpoint
from knet.errors import ConfigError

__all__ = ["Answer", "ResolverProtocol"]


@dataclass(frozen=True, slots=True, init=False)
class Answer:
    """
    The endpoints of one resolution.

    Attributes:
        endpoints: Sorted, each name once; any iterable of endpoints may be given.
        ttl: Seconds that the servers say the answer is good for, or `None` where nobody said.
        complete: False where endpoints are known or likely to be missing, as in an answer that was
            cut off; a ring adds what such an answer names and removes nobody for not being in it.
        name: The absolute DNS name that answered, or `""`.
        ignored: How many records were left out: foreign, unusable or out of family.
        cut_off: True where it is incomplete because a message holds no more, and for no other
            reason: what it names is then a sample of what there is.

    Raises:
        ConfigError: Two different endpoints have one name, or *ttl* is not a number (NaN).
        TypeError: Something in *endpoints* is no `Endpoint`.
    """

    endpoints: tuple[Endpoint, ...]
    ttl: float | None
    complete: bool
    name: str
    ignored: int
    cut_off: bool

    def __init__(
        self,
        endpoints: Iterable[Endpoint] = (),
        ttl: float | None = None,
        complete: bool = True,
        name: str = "",
        ignored: int = 0,
        cut_off: bool = False,
    ) -> None:
        if ttl is not None and ttl != ttl:  # it compares with nothing, and would stop a clock
            raise ConfigError(f"ttl must be a number of seconds or None, got {ttl}")
        put = object.__setattr__
        put(self, "endpoints", _canonical(endpoints))
        put(self, "ttl", ttl)
        put(self, "complete", complete)
        put(self, "name", name)
        put(self, "ignored", ignored)
        put(self, "cut_off", cut_off)

    def renewed(self, ttl: float | None, *, complete: bool = True, cut_off: bool = False) -> Self:
        """
        Return an answer with the very same endpoints and name, as a later lookup gave it.
        """
        answer = object.__new__(type(self))
        put = object.__setattr__
        put(answer, "endpoints", self.endpoints)  # sorted and checked before
        put(answer, "ttl", ttl)
        put(answer, "complete", complete)
        put(answer, "name", self.name)
        put(answer, "ignored", 0)
        put(answer, "cut_off", cut_off)
        return answer


class ResolverProtocol(Protocol):
    """
    Whatever turns a service into an answer: `knet.Resolver`, a fake, a client of another registry.
    """

    async def resolve(self, service: str, /) -> Answer:
        """
        Look *service* up once, now, past every cache.

        A ring passes on, as keywords, those of its own `port`, `protocol` and `family` that are
        not at their defaults, so a resolver takes only the ones that it has a use for.

        Raises:
            ResolveError: That failed; the ring keeps what it has and asks again.
        """
        ...


def _canonical(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    found = tuple(endpoints)
    for endpoint in found:
        if not isinstance(endpoint, Endpoint):
            raise TypeError(f"an Answer holds Endpoints, not {type(endpoint).__name__}")
    # Sorting by name alone is a third of the cost of comparing whole endpoints.
    found = tuple(sorted(found, key=_name))
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


def _name(endpoint: Endpoint) -> str:
    return endpoint.name
