"""
`Ketama`: the picks of libmemcached's ketama and of twemproxy's.

Weighted, as nearly everybody uses it: a server has about 160 points, more or less by its weight. Four
at a time come from one MD5, that of ``name-0``, ``name-1`` and so on, as the four little-endian words
of the digest. How many there are is computed in 32-bit floats, whose rounding decides about single
points, and is rounded down to a multiple of four.

Plain: a server has 100 points, each the hash of one ``name-j``, and weights do not count.

A server's name is ``host`` at memcached's port 11211 and ``host:port`` at any other.

Behaviour described by libmemcached's ``hosts.cc`` and twemproxy's ``nc_ketama.c``, and first by Last.fm's
libketama; checked against libmemcached 1.1.4 and twemproxy 0.5.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from math import floor
from struct import pack, unpack
from typing import Any, ClassVar, TypeVar

from knet.endpoint import Endpoint
from knet.errors import ConfigError
from knet.hashring.placement import Entry
from knet.hashring.proxies import hashes
from knet.hashring.proxies.continuum import Continuum, address_of
from knet.hashring.proxies.servers import split_address, whole_weight

__all__ = ["Ketama"]

M = TypeVar("M", bound=Hashable)

_POINTS = 160
_PLAIN_POINTS = 100
_MAX_WEIGHT = 2**32 - 1
_POINTS_PER_SLICE = 64
_MEMCACHED_PORT = "11211"

_BEHAVIORS = ("ketama_weighted", "ketama")

# What it is for "default" depends on the behavior.
_HASHES: dict[str, Callable[[bytes], int]] = {
    "md5": hashes.md5_word,
    "one_at_a_time": hashes.one_at_a_time,
    "crc": hashes.crc32_high,
    "crc16": hashes.crc16,
    "crc32": hashes.crc32_high,
    "crc32a": hashes.crc32,
    "fnv1_32": hashes.fnv1_32,
    "fnv1_64": hashes.fnv1_64,
    "fnv1a_32": hashes.fnv1a_32,
    "fnv1a_64": hashes.fnv1a_64,
    "hsieh": hashes.hsieh,
    "jenkins": hashes.jenkins,
    "murmur": hashes.murmur,
    "murmur3": hashes.murmur3,
}
_DEFAULTS = {"ketama_weighted": hashes.md5_word, "ketama": hashes.one_at_a_time}


class Ketama(Continuum[M]):
    """
    The picks of libmemcached, its relatives (pylibmc, php-memcached) and twemproxy.

        >>> ring = Ketama(["10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11211"])
        >>> ring.get("user-42")
        '10.0.0.3:11211'

    Checked against libmemcached 1.1.4 and twemproxy 0.5.0.

    =======================================  ==========================================
    there                                    here
    =======================================  ==========================================
    ``MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED``   ``Ketama(members)``
    ``MEMCACHED_BEHAVIOR_KETAMA``, or        ``Ketama(members, behavior="ketama")``
    ``..._DISTRIBUTION_CONSISTENT``
    ... and ``MEMCACHED_BEHAVIOR_HASH``      ``hash="fnv1a_32"`` and so on
    twemproxy, ``hash: fnv1a_64`` (its       ``Ketama(members, hash="fnv1a_64")``
    default), ``distribution: ketama``
    ... ``10.0.0.1:6379:1 shard-0``          ``Member("shard-0")``, or ``name=``
    spymemcached's points (``..._SPY``)      ``name=lambda endpoint: f"/{endpoint}"``
    =======================================  ==========================================

    Of two equal points the earlier server's counts; twemproxy leaves that to the C library's sort. A
    member that fails is left out by these clients only with ``AUTO_EJECT_HOSTS`` or
    ``auto_eject_hosts``, which recounts all points as `replace` does; `get_n` and `walk` follow the
    points instead.

    Parity ends: on machines whose C has an unsigned ``char`` (ARM), for keys not in ASCII and a hash
    other than MD5 or CRC; with names longer than 80 bytes in twemproxy; with ``hash_tag`` and prefixes,
    which are the caller's to apply; with a weight of 0, which means no keys here and 1 to libmemcached.

    Args:
        members: Strings, `Member`s, endpoints, in the order of the configuration.
        behavior: ``"ketama_weighted"``, which is twemproxy's too, or ``"ketama"``. The latter places
            points like the former as soon as one weight is above 1, and so does libmemcached.
        hash: The hash of a key, and with plain ketama of a point: libmemcached's ``default`` (``md5``
            when weighted, else ``one_at_a_time``), ``md5``, ``crc``, ``fnv1_64``, ``fnv1a_64``, ``fnv1_32``,
            ``fnv1a_32``, ``hsieh``, ``murmur``, ``jenkins``, ``murmur3``, and twemproxy's ``one_at_a_time``,
            ``crc16``, ``crc32``, ``crc32a``. All have 32 bits or fewer.
        name: What of a member is hashed, word for word. By default that is ``host`` or ``host:port``
            as above, IPv6 without brackets, of ``str(endpoint)`` or of a string.

    Raises:
        ConfigError: A name is given twice or empty, a weight is not whole or above 2**32 - 1, or an
            option is none of these.
        TypeError: A member, weight or option has the wrong type.
    """

    __slots__ = ("_behavior", "_hash")

    hash_bits: ClassVar[int] = 32
    _algorithm = "ketama/1"
    _options = ("behavior", "hash")

    def __init__(
        self,
        members: Iterable[M] = (),
        *,
        behavior: str = "ketama_weighted",
        hash: str = "default",
        name: Callable[[M], str] | None = None,
    ) -> None:
        self._behavior = _word(behavior, "behavior", _BEHAVIORS)
        self._hash = _word(hash, "hash", ("default", *_HASHES))
        key_hash = _HASHES.get(self._hash, _DEFAULTS[self._behavior])
        self._begin(members, name=name, key_hash=key_hash)

    @staticmethod
    def _default_name(member: Any) -> str:
        if isinstance(member, Endpoint):
            host, port = member.address, "" if member.port is None else str(member.port)
        else:
            host, port = split_address(address_of(member))
        return f"{host}:{port}" if port and port != _MEMCACHED_PORT else host

    def _points(self, entries: list[Entry[M]]) -> Iterator[tuple[int, list[int]]]:
        weights = [whole_weight(entry, _MAX_WEIGHT, "memcached clients") for entry in entries]
        servers = sum([weight > 0 for weight in weights])
        total = sum(weights)
        weighted = self._behavior == "ketama_weighted" or max(weights, default=0) > 1
        for position, (entry, weight) in enumerate(zip(entries, weights, strict=True)):
            if not weight:
                continue
            if weighted:
                count = _four_at_a_time(weight, total, servers)
                step = _POINTS_PER_SLICE // 4
                points = _words
            else:
                count = _PLAIN_POINTS
                step = _POINTS_PER_SLICE // 4
                points = self._plain
            for low in range(0, count, step):
                yield position, points(entry.name, low, min(low + step, count))

    def _plain(self, name: bytes, low: int, high: int) -> list[int]:
        return [self._key_hash(b"%b-%d" % (name, index)) for index in range(low, high)]


def _words(name: bytes, low: int, high: int) -> list[int]:
    words: list[int] = []
    for index in range(low, high):
        digest = hashlib.md5(b"%b-%d" % (name, index), usedforsecurity=False).digest()
        words += unpack("<4I", digest)
    return words


def _four_at_a_time(weight: int, total: int, servers: int) -> int:
    """
    Return how many times a server gets four points; every step in 32-bit floats.

        >>> [_four_at_a_time(weight, 6, 3) for weight in (1, 2, 3)]
        [20, 40, 60]
    """
    part = _float32(_float32(weight) / _float32(total))
    each = _float32(_float32(part * _POINTS) / 4)
    return floor(_float32(_float32(each * _float32(servers)) + _float32(1e-10)))


def _float32(number: float) -> float:
    single: float = unpack("<f", pack("<f", number))[0]
    return single


def _word(value: object, what: str, words: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if value.lower() not in words:
        raise ConfigError(f"{what} must be one of {', '.join(words)}, got {value!r}")
    return value.lower()
