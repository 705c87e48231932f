"""
`Endpoint`: one pod, as DNS gave it.

A plain value. What is hashed is its name; where to connect is its address and port.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

from knet.errors import ConfigError

__all__ = ["Endpoint"]


@functools.total_ordering
@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """
    One pod, as DNS gave it; `str()` of it is where to connect.

        >>> str(Endpoint("web-0.web.prod.svc.cluster.local", "10.0.0.1", 8080))
        '10.0.0.1:8080'
        >>> str(Endpoint("fd00::1", "fd00::1", 8080))
        '[fd00::1]:8080'

    Attributes:
        name: What is hashed: the pod's own hostname where DNS knows a stable one, else its address.
        address: Numeric IPv4 or IPv6 address, without brackets.
        port: 1 to 65535, or `None` where only the address is known.
        weight: The share of keys it gets relative to the others; 0 gets none.
        zone: Where it runs, where its source tells that, as DNS does not; `None`: nobody knows. It is not
            compared.

    Raises:
        ConfigError: A value is out of its range.
        TypeError: A value has the wrong type.
    """

    name: str
    address: str
    port: int | None = None
    weight: float = 1
    zone: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # A refresh makes a thousand of these on the event loop: the usual case is one expression.
        if (
            self.name.__class__ is str
            and self.address.__class__ is str
            and self.name
            and self.address
            and self.address.count(":") != 1
            and self.address[0] != "["
            and (self.port is None or (self.port.__class__ is int and 0 < self.port < 65536))
            and self.weight == 1
            and self.zone is None
        ):
            return
        _check(self)

    def __lt__(self, other: object) -> bool:
        """
        By name, address, port (none comes first) and weight.
        """
        if not isinstance(other, Endpoint):
            return NotImplemented
        return _rank(self) < _rank(other)

    def __repr__(self) -> str:
        zone = "" if self.zone is None else f", zone={self.zone!r}"
        return (
            f"{type(self).__qualname__}(name={self.name!r}, address={self.address!r}, port={self.port!r}, "
            f"weight={self.weight!r}{zone})"
        )

    def __str__(self) -> str:
        if self.port is None:
            return self.address
        if ":" in self.address:
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"


def _rank(endpoint: Endpoint) -> tuple[str, str, int, float]:
    return endpoint.name, endpoint.address, endpoint.port or 0, endpoint.weight


def _check(endpoint: Endpoint) -> None:
    for what, text in (("name", endpoint.name), ("address", endpoint.address)):
        if not isinstance(text, str):
            raise TypeError(f"an endpoint's {what} must be a str, not {type(text).__name__}")
        if not text:
            raise ConfigError(f"an endpoint's {what} must not be empty")
    address = endpoint.address
    if address.count(":") == 1 or address.startswith("["):
        raise ConfigError(
            f"an endpoint's address must have no port and no brackets, got {address[:80]!r}: write "
            'Endpoint(name, "10.0.0.1", 8080) or Endpoint(name, "fd00::1", 8080)'
        )
    port, weight = endpoint.port, endpoint.weight
    if port is not None:
        if type(port) is not int:
            raise TypeError(f"an endpoint's port must be an int, not {type(port).__name__}")
        if not 0 < port < 65536:
            raise ConfigError(f"an endpoint's port must be 1 to 65535, got {port}")
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise TypeError(f"an endpoint's weight must be a number, not {type(weight).__name__}")
    if endpoint.zone is not None:
        if not isinstance(endpoint.zone, str):
            raise TypeError(f"an endpoint's zone must be a str, not {type(endpoint.zone).__name__}")
        if not endpoint.zone:
            raise ConfigError("an endpoint's zone must not be empty: write None")
    if not 0 <= weight < math.inf:
        raise ConfigError(f"an endpoint's weight must be finite and >= 0, got {weight}")
