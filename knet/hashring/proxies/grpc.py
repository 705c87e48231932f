"""
`GrpcRing`: the picks of gRPC's ``ring_hash`` policy.

The ring is Envoy's, with other sizes. Written from the proposals A42, A61 and A76 and the behaviour of
gRPC core; checked against picks of gRPC core 1.85.1 and the facts in its unit tests.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import ClassVar, TypeVar

from knet.hashring.hashing import xxh64
from knet.hashring.placement import Entry, check_count
from knet.hashring.proxies.continuum import Continuum
from knet.hashring.proxies.envoy import MAX_RING_SIZE, check_sizes, ring_points

__all__ = ["GrpcRing"]

M = TypeVar("M", bound=Hashable)

# gRPC core's default of the channel argument `grpc.lb.ring_hash.ring_size_cap`.
RING_SIZE_CAP = 4096

_POINTS_PER_SLICE = 256


class GrpcRing(Continuum[M]):
    """
    The picks of gRPC's ``ring_hash_experimental`` policy, in the languages on gRPC core.

        >>> ring = GrpcRing(["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"])
        >>> ring.get("user-42")
        '10.0.0.3:8080'

    Checked against gRPC core 1.85.1 with ``{"requestHashHeader": ...}`` in the service config, which
    up to that version needs ``GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY=true`` in the
    environment. The members are the addresses that its resolver gives, in that order, and are hashed
    as ``ip:port``. An address that is there twice is one member with the sum of the weights, in the
    first place. The key is the header's value; `grpc_hash` has the hash for several.

    A pod that cannot be reached stays on the ring, and its keys go on to the next points: gRPC picks
    the first of ``walk(key)`` that is up.

        >>> down = {"10.0.0.3:8080"}
        >>> next(member for member in ring.walk("user-42") if member not in down)
        '10.0.0.2:8080'

    A leave or a join moves keys between other members too, some 10 % with the default sizes: each has
    ``min_size / members`` points, rounded up, so that all of them gain or lose some. The order of the
    members decides about single points when there are weights, or more members than *max_size* or
    *cap* allow points for, or for some numbers of members such as 75. A `knet.Ring` gives them sorted
    by name, gRPC core has them as DNS gave them.

    Parity ends with connections that are still being made (gRPC waits for the first of the walk that
    is not known to be down), calls without the header (random), and locality weights of xDS that are
    not multiplied into the members'. gRPC for Java hashes another text for an address.

    Args:
        members: Strings, `Member`s, endpoints, in gRPC's order.
        min_size: ``minRingSize``.
        max_size: ``maxRingSize``.
        cap: The channel argument ``grpc.lb.ring_hash.ring_size_cap``, which limits both.
        name: What of a member is hashed; by default ``str(endpoint)``, or a string itself.

    Raises:
        ConfigError: A name is empty, a weight is not whole or above 2**32 - 1, alone or with the
            others, *min_size* is above *max_size*, or an option is out of gRPC's range.
        TypeError: A member, weight or option has the wrong type.
    """

    __slots__ = ("_cap", "_max_size", "_min_size")

    hashes_ports: ClassVar[bool] = True
    _algorithm = "grpc-ring/1"
    _options = ("min_size", "max_size", "cap")

    def __init__(
        self,
        members: Iterable[M] = (),
        *,
        min_size: int = 1024,
        max_size: int = 4096,
        cap: int = RING_SIZE_CAP,
        name: Callable[[M], str] | None = None,
    ) -> None:
        check_sizes(min_size, max_size)
        check_count(cap, "cap", most=MAX_RING_SIZE)
        self._min_size = min_size
        self._max_size = max_size
        self._cap = cap
        self._begin(members, name=name)

    def _distinct(self, entries: list[Entry[M]]) -> list[Entry[M]]:
        merged: dict[bytes, Entry[M]] = {}
        for entry in entries:
            first = merged.setdefault(entry.name, entry)
            if first is not entry:
                merged[entry.name] = first._replace(weight=first.weight + entry.weight)
        return list(merged.values())

    def _points(self, entries: list[Entry[M]]) -> Iterator[tuple[int, list[int]]]:
        low, high = min(self._min_size, self._cap), min(self._max_size, self._cap)
        return ring_points(entries, low, high, xxh64, _POINTS_PER_SLICE, "gRPC")
