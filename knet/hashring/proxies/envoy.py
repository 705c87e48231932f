"""
`EnvoyRing` and `EnvoyMaglev`: the picks of Envoy's RING_HASH and MAGLEV load balancers.

Every operation on doubles is made in Envoy's order, since roundings decide about single points: with
75 equal hosts, 1024 divided among them and summed up again is not a whole number.

Written from Envoy's documentation and the behaviour of its ``ring_hash_lb.cc`` and ``maglev_lb.cc``;
checked against picks of Envoy 1.40.0 and the facts in its unit tests.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from math import ceil
from typing import Any, ClassVar, Final, Literal, TypeVar

from knet.errors import ConfigError
from knet.hashring.hashing import xxh64
from knet.hashring.maglev import Maglev
from knet.hashring.placement import Entry, check_count
from knet.hashring.proxies.continuum import Continuum, address_of
from knet.hashring.proxies.murmur import murmur2_64
from knet.hashring.proxies.servers import whole_weight

__all__ = ["MAX_RING_SIZE", "EnvoyMaglev", "EnvoyRing", "check_sizes", "ring_points"]

M = TypeVar("M", bound=Hashable)

# Envoy and gRPC refuse a `minimum_ring_size` or `maximum_ring_size` above it.
MAX_RING_SIZE: Final = 8_388_608
# Of one host, and of all together.
_MAX_WEIGHT = 2**32 - 1

_XXH64_PER_SLICE = 256
_MURMUR2_PER_SLICE = 32


class EnvoyRing(Continuum[M]):
    """
    The picks of Envoy's ``RING_HASH`` load balancer.

        >>> ring = EnvoyRing(["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"])
        >>> ring.get("user-42")
        '10.0.0.3:8080'

    Checked against Envoy 1.40.0. The members are the hosts that Envoy has, in its order, and are
    hashed as ``ip:port``, the port included; where hosts have a ``hash_key`` in their metadata, or
    ``use_hostname_for_hashing`` is set, let *name* return that. The key is what the one
    ``hash_policy`` finds, such as a header's value; `envoy_hash` has the hash for several.

    A leave or a join moves keys between other members too, some 10 % with the default sizes: each has
    ``min_size / members`` points, rounded up, so that all of them gain or lose some.

    The order of the hosts decides about single points when hosts have weights, when *max_size* is
    reached, or for some numbers of hosts such as 75. A `knet.Ring` gives them sorted by name; Envoy has
    them as DNS or EDS gave them.

    Parity ends with health (Envoy leaves unhealthy, draining and degraded hosts out, and has all of
    them back below ``healthy_panic_threshold``), priorities, subsets, locality weights, and
    ``hash_balance_factor``. `get_n` and `walk` go by what Envoy retries with a host predicate.

    Args:
        members: Strings, `Member`s, endpoints, in Envoy's order of hosts.
        min_size: ``minimum_ring_size``.
        max_size: ``maximum_ring_size``.
        hash: ``hash_function``: ``"xxh64"``, or ``"murmur2"`` for ``MURMUR_HASH_2``. Keys are always
            hashed with XXH64.
        name: What of a member is hashed; by default ``str(endpoint)``, or a string itself.

    Raises:
        ConfigError: A name is given twice or empty, a weight is not whole or above 2**32 - 1, alone or
            with the others, *min_size* is above *max_size*, or an option is out of Envoy's range.
        TypeError: A member, weight or option has the wrong type.
    """

    __slots__ = ("_hash", "_max_size", "_min_size")

    hashes_ports: ClassVar[bool] = True
    _algorithm = "envoy-ring/1"
    _options = ("min_size", "max_size", "hash")

    def __init__(
        self,
        members: Iterable[M] = (),
        *,
        min_size: int = 1024,
        max_size: int = MAX_RING_SIZE,
        hash: Literal["xxh64", "murmur2"] = "xxh64",
        name: Callable[[M], str] | None = None,
    ) -> None:
        check_sizes(min_size, max_size)
        if hash not in ("xxh64", "murmur2"):
            raise ConfigError(f"hash must be 'xxh64' or 'murmur2', got {hash!r}")
        self._min_size = min_size
        self._max_size = max_size
        self._hash = hash
        self._begin(members, name=name)

    def _points(self, entries: list[Entry[M]]) -> Iterator[tuple[int, list[int]]]:
        if self._hash == "murmur2":
            hash64: Callable[[bytes], int] = murmur2_64
            at_once = _MURMUR2_PER_SLICE
        else:
            hash64, at_once = xxh64, _XXH64_PER_SLICE
        return ring_points(entries, self._min_size, self._max_size, hash64, at_once, "Envoy")


class EnvoyMaglev(Maglev[M]):
    """
    The picks of Envoy's ``MAGLEV`` load balancer.

        >>> maglev = EnvoyMaglev(["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"])
        >>> maglev.get("user-42")
        '10.0.0.3:8080'

    Checked against Envoy 1.40.0. It is `Maglev` over ``ip:port``, the port included; where hosts have a
    ``hash_key`` in their metadata, or ``use_hostname_for_hashing`` is set, let *name* return that. The
    key is what the one ``hash_policy`` finds, such as a header's value; `envoy_hash` has the hash for
    several. Envoy sorts the hosts too, so that their order does not matter.

    A leave or a join moves a few keys of other members too, with the default table less than 1 %.

    Parity ends with health (Envoy leaves unhealthy, draining and degraded hosts out, and has all of
    them back below ``healthy_panic_threshold``), priorities, subsets, locality weights, and
    ``hash_balance_factor``. `get_n` and `walk` go by what Envoy retries with a host predicate.

    Args:
        members: Strings, `Member`s, endpoints, in any order.
        table_size: ``table_size``, a prime up to 5 000 011.
        name: What of a member is hashed; by default ``str(endpoint)``, or a string itself.

    Raises:
        ConfigError: A name is given twice or empty, a weight is not whole or above 2**32 - 1, alone or
            with the others, or *table_size* is not a prime in range.
        TypeError: A member, weight or option has the wrong type.
    """

    __slots__ = ()

    hashes_ports: ClassVar[bool] = True
    _algorithm = "envoy-maglev/1"

    @staticmethod
    def _default_name(member: Any) -> str:
        return address_of(member)

    def _weights(self, entries: list[Entry[M]]) -> list[float]:
        return _whole_weights(entries, "Envoy")


def ring_points(
    entries: list[Entry[M]],
    min_size: int,
    max_size: int,
    hash64: Callable[[bytes], int],
    at_once: int,
    proxy: str,
) -> Iterator[tuple[int, list[int]]]:
    """
    Yield positions in *entries* with points, *at_once* or fewer, as Envoy and gRPC place them.

    The ring is scaled so that the lightest host gets a whole number of points, and there are at least
    *min_size* in all. `want` is how many there should be up to a host, `have` how many there are.
    """
    weights = _whole_weights(entries, proxy)
    total = sum(weights)
    if not total:
        return
    shares = [weight * 1.0 / total for weight in weights]
    least = min([share for share in shares if share])
    scale = min(ceil(least * min_size) / least, float(max_size))
    want = 0.0
    have = 0
    for position, (entry, share) in enumerate(zip(entries, shares, strict=True)):
        want += scale * share
        count = ceil(want) - have
        have += count
        prefix = entry.name + b"_"
        for low in range(0, count, at_once):
            some = range(low, min(low + at_once, count))
            yield position, [hash64(b"%b%d" % (prefix, index)) for index in some]


def check_sizes(min_size: int, max_size: int) -> None:
    """
    Raise unless these can be the sizes of a ring.
    """
    check_count(min_size, "min_size", most=MAX_RING_SIZE)
    check_count(max_size, "max_size", most=MAX_RING_SIZE)
    if min_size > max_size:
        raise ConfigError(f"max_size must be at least min_size ({min_size}), got {max_size}")


def _whole_weights(entries: list[Entry[Any]], proxy: str) -> list[float]:
    """
    Return the weights, which *proxy* wants whole; exact, since their sum is below 2**53.
    """
    weights: list[float] = [
        entry.weight if entry.weight == 1 else whole_weight(entry, _MAX_WEIGHT, proxy)
        for entry in entries
    ]
    if sum(weights) > _MAX_WEIGHT:
        raise ConfigError(
            f"all weights together must be at most {_MAX_WEIGHT}, as in {proxy}, got {sum(weights)}"
        )
    return weights
