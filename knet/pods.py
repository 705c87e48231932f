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
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, takewhile
from operator import attrgetter

from knet.endpoint import Endpoint
from knet.errors import ConfigError

__all__ = [
    "Identity",
    "address_order",
    "by_name",
    "changed",
    "differing",
    "distinct_names",
    "endpoint_from",
    "find",
    "identity",
    "is_dashed",
    "living_at",
    "spread_over_zones",
    "usable_address",
]

_MAPPED = bytes(10) + b"\xff\xff"
_UNSPECIFIED = bytes(16)
# Up to this many changes it is faster to look for the place of each than to sort all.
_FEW_CHANGES = 64
# So many endpoints are compared at once. Where all are the same objects that takes nanoseconds each.
_PER_COMPARISON = 64
_LINK_LOCAL = frozenset(bytes((0xFE, second)) for second in range(0x80, 0xC0))


by_name = attrgetter("name")
_address = attrgetter("address")


# What makes a pod the same one, whatever its weight.
Identity = tuple[str, str, int | None]


def identity(endpoint: Endpoint) -> Identity:
    """
    Return which pod that is: its name, its address and its port.
    """
    return endpoint.name, endpoint.address, endpoint.port


def differing(
    before: Sequence[Endpoint], after: Sequence[Endpoint]
) -> tuple[list[Endpoint], list[Endpoint]]:
    """
    Return which endpoints only *before* has, and which only *after* has; all are sorted by name.

    A pod that came back at another address is in both. Costs little where most are the same objects.
    """
    lost: list[Endpoint] = []
    found: list[Endpoint] = []
    here = there = 0
    while here < len(before) and there < len(after):
        if before[here : here + _PER_COMPARISON] == after[there : there + _PER_COMPARISON]:
            here += _PER_COMPARISON
            there += _PER_COMPARISON
            continue
        # Until both are in step again, at what may be another distance.
        until = here + _PER_COMPARISON
        while here < len(before) and there < len(after):
            old, new = before[here], after[there]
            if old is new or old == new:
                here += 1
                there += 1
                if here >= until:
                    break
            elif old.name < new.name:
                lost.append(old)
                here += 1
            elif new.name < old.name:
                found.append(new)
                there += 1
            else:
                lost.append(old)
                found.append(new)
                here += 1
                there += 1
    lost += before[here:]
    found += after[there:]
    return lost, found


def changed(
    endpoints: Sequence[Endpoint], gone: Sequence[Endpoint], come: Sequence[Endpoint]
) -> tuple[Endpoint, ...]:
    """
    Return *endpoints* without those of them that are *gone*, and with those that *come*, sorted by name.
    """
    after = list(endpoints)
    if len(gone) + len(come) > _FEW_CHANGES:
        leavers = set(map(id, gone))
        after = [e for e in after if id(e) not in leavers]
        return tuple(sorted([*after, *come], key=by_name))
    for endpoint in gone:
        del after[bisect_left(after, endpoint.name, key=by_name)]
    for endpoint in come:
        insort(after, endpoint, key=by_name)
    return tuple(after)


def find(endpoints: Sequence[Endpoint], text: str) -> Endpoint | None:
    """
    Return which of *endpoints*, sorted by name, a person means by *text*; `None` if none, or several.

    Its name, its `address:port`, the first label of its hostname (`web-0`), or its address, in this
    order.
    """
    at = bisect_left(endpoints, text, key=by_name)
    if at < len(endpoints) and endpoints[at].name == text:
        return endpoints[at]
    address, port = text, None
    with suppress(ConfigError):
        spoken = endpoint_from(text)
        address, port = spoken.address, spoken.port
    if port is not None:
        fitting = [e for e in living_at(endpoints, {address}) if e.port == port]
    else:
        at = bisect_left(endpoints, f"{text}.", key=by_name)
        labelled = takewhile(lambda e: e.name.startswith(f"{text}."), islice(endpoints, at, None))
        fitting = [e for e in labelled if e.name != e.address] or living_at(endpoints, {address})
    return fitting[0] if len(fitting) == 1 else None


def living_at(endpoints: Sequence[Endpoint], addresses: set[str]) -> list[Endpoint]:
    """
    Return which of *endpoints* are at one of *addresses*; mostly that is nobody.
    """
    # Asking for each address in Python would take ten times as long.
    if addresses.isdisjoint(map(_address, endpoints)):
        return []
    return [e for e in endpoints if e.address in addresses]


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


def spread_over_zones(
    walk: Iterable[Endpoint], n: int, zones: int, last: Container[Endpoint]
) -> tuple[Endpoint, ...]:
    """
    Return *n* endpoints of *walk*, a zone that has none yet first, as dskit's replication does.

    Args:
        walk: In order of preference; whoever is in *last* comes at its end.
        n: How many, where there are so many.
        zones: How many zones there are; whose zone nobody knows are in one together.
        last: Who comes after all others, whatever the zone.
    """
    first: list[Endpoint] = []
    others: list[Endpoint] = []
    out: list[Endpoint] = []
    seen: set[str | None] = set()
    for endpoint in walk:
        if endpoint in last:
            out.append(endpoint)
        elif endpoint.zone in seen:
            others.append(endpoint)
        else:
            seen.add(endpoint.zone)
            first.append(endpoint)
        if len(first) == n or (len(seen) == zones and len(first) + len(others) >= n):
            break
    return tuple([*first, *others, *out][:n])
