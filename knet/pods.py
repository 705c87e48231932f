"""
What a pod is called, and which of its addresses counts: one rule for every source.

Pure, and suspicious: what comes in was written by others.

One pod is one endpoint. Its name, which is what gets hashed, is its own hostname where it has a stable
one (`web-0.web.prod.svc.cluster.local`, a StatefulSet's), and else its address. The hostname that
CoreDNS makes up from an address (`10-0-0-1.web...`) is as short-lived as the address, so it counts as
none: a client that asks for A records and one that asks for SRV records agree.

Addresses are numeric. Parsing and writing them is `socket`'s, which asks nobody for that.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from knet.endpoint import Endpoint
from knet.errors import ConfigError

__all__ = [
    "address_order",
    "distinct_names",
    "endpoint_from",
    "is_dashed",
    "usable_address",
]

_MAPPED = bytes(10) + b"\xff\xff"
_UNSPECIFIED = bytes(16)
_LINK_LOCAL = frozenset(bytes((0xFE, second)) for second in range(0x80, 0xC0))


def distinct_names(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """
    Return *endpoints* with a name each: those that share one get their `host:port` appended.

    Kubernetes never needs this. Other registries list one host with several ports, and pods on one
    machine share an address.
    """
    found = tuple(dict.fromkeys(endpoints))
    shared = {name for name, count in Counter(e.name for e in found).items() if count > 1}
    if not shared:
        return found
    return tuple(
        replace(e, name=str(e) if e.name == e.address else f"{e.name}/{e}")
        if e.name in shared
        else e
        for e in found
    )


def usable_address(text: str) -> str | None:
    """
    Return *text* as a canonical address that a pod can have, or `None`.

    IPv4-mapped IPv6 addresses become IPv4. Unspecified, multicast, broadcast, reserved and
    link-local addresses are nobody's: what cannot be connected to must not own keys.
    """
    try:
        if ":" in text:
            packed = socket.inet_pton(socket.AF_INET6, text)
            if packed.startswith(_MAPPED):
                return usable_address(socket.inet_ntop(socket.AF_INET, packed[12:]))
            if packed == _UNSPECIFIED or packed[0] == 0xFF or packed[:2] in _LINK_LOCAL:
                return None
            return socket.inet_ntop(socket.AF_INET6, packed)
        packed = socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    if packed[0] == 0 or packed[0] >= 224 or packed[:2] == b"\xa9\xfe":
        return None
    return text


def is_dashed(target: str, address: str) -> bool:
    """
    Is *target* a hostname that CoreDNS made up from *address*: `10-0-0-1.web`, `fd00--1.web`?
    """
    return target.partition(".")[0] == address.replace(":" if ":" in address else ".", "-")


def address_order(address: str) -> bytes:
    """
    Return what sorts numeric addresses of one family alike on every client: their octets.
    """
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def endpoint_from(text: str) -> Endpoint:
    """
    Return the endpoint of `"10.0.0.1"`, `"10.0.0.1:8080"` or `"[fd00::1]:8080"`, named by its address.

    Raises:
        ConfigError: *text* is none of these.
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"an endpoint must be 'address' or 'address:port', got {text[:80]!r}")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    address = usable_address(host)
    if address is None:
        raise ConfigError(
            f"an endpoint must be a numeric address, with a port if need be, got {text[:80]!r}"
        )
    if not port and not text.endswith(":"):
        return Endpoint(address, address)
    if not (port.isascii() and port.isdecimal() and len(port) <= 5):
        raise ConfigError(f"an endpoint's port must be a number up to 65535, got {text[:80]!r}")
    return Endpoint(address, address, int(port))
