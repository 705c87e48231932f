"""
`StaticResolver`: endpoints that are known without asking anybody.

For tests, for Docker Compose, for a list in a configuration file: wherever there is no DNS, or no
need of one.
"""

from __future__ import annotations

from collections.abc import Iterable

from knet.answer import Answer
from knet.endpoint import Endpoint
from knet.pods import distinct_names, endpoint_from

__all__ = ["StaticResolver"]


class StaticResolver:
    """
    Answers every service with the same endpoints, until it is told others.

        >>> resolver = StaticResolver(["10.0.0.1:8080", "[fd00::1]:8080"])
        >>> [endpoint.name for endpoint in resolver.endpoints]
        ['10.0.0.1', 'fd00::1']

    Args:
        endpoints: `Endpoint` values, or texts such as `"10.0.0.1"`, `"10.0.0.1:8080"`,
            `"[fd00::1]:8080"`, which are named by their address, as DNS would name them. Texts that
            share an address are named by address and port.

    Raises:
        ConfigError: A text is no address, or two endpoints have one name.
    """

    def __init__(self, endpoints: Iterable[Endpoint | str] = ()) -> None:
        self._answer = _answer(endpoints)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """
        What it answers now, sorted by name.
        """
        return self._answer.endpoints

    def set(self, endpoints: Iterable[Endpoint | str]) -> None:
        """
        Answer with *endpoints* from now on; rings notice at their next refresh.
        """
        self._answer = _answer(endpoints)

    async def resolve(self, service: str, /, **_options: object) -> Answer:
        """
        Return the endpoints, whatever *service* is.
        """
        return self._answer

    def __repr__(self) -> str:
        return f"<StaticResolver endpoints={len(self.endpoints)}>"


def _answer(endpoints: Iterable[Endpoint | str]) -> Answer:
    if isinstance(endpoints, str):
        raise TypeError("endpoints must be several, in a list, not one str")
    given = list(endpoints)
    parsed = distinct_names(endpoint_from(e) for e in given if isinstance(e, str))
    rest = [e for e in given if not isinstance(e, str)]
    return Answer((*parsed, *rest))
