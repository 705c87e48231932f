"""
`PymemcacheRendezvous`: the picks of pymemcache's ``HashClient``.

Rendezvous hashing without weights: a key belongs to the node whose ``f"{node}-{key}"`` has the highest
MurmurHash3, of two equal ones to the node that sorts last as a string. pymemcache hashes characters
where others hash bytes, and of each only the lower eight bits; for ASCII that is the same.

Behaviour described by pymemcache's ``rendezvous.py`` and ``murmur3.py``, which come from
python-clandestined; checked against pymemcache 4.0.0.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from typing import Any, ClassVar, TypeVar

from knet.endpoint import Endpoint
from knet.errors import ConfigError
from knet.hashring.base import BasePlacement
from knet.hashring.hashing import encode_key
from knet.hashring.placement import check_hash, name_of, no_members, sorted_entries
from knet.hashring.proxies.hashes import murmur3_32

__all__ = ["PymemcacheRendezvous"]

M = TypeVar("M", bound=Hashable)

_NODES_PER_SLICE = 256


class PymemcacheRendezvous(BasePlacement[M]):
    """
    The picks of pymemcache's ``HashClient`` with its default hasher, ``RendezvousHash``.

        >>> nodes = PymemcacheRendezvous(["10.0.0.1:11211", "10.0.0.2:11211"])
        >>> nodes.get("user-42")
        '10.0.0.1:11211'

    Checked against pymemcache 4.0.0. A pick looks at every member, some microseconds for each. When a
    member leaves only its keys move, and `get_n` says where to.

    Parity ends with keys of type `bytes`: pymemcache hashes their ``repr``, ``b'user-42'``, where this is
    the same as for the text. It knows no weights either; a weight of 0 leaves a member out here.

    Args:
        members: Strings, `Member`s, endpoints. The order does not matter.
        name: The string of the node; by default ``host:port``, IPv6 without brackets and 11211 where
            an endpoint has no port, as ``HashClient`` writes it, or a string itself.

    Raises:
        ConfigError: A name is given twice or empty, or a weight is neither 0 nor 1.
        TypeError: A member or its weight has the wrong type.
    """

    __slots__ = ("_nodes",)

    hash_bits: ClassVar[int] = 64
    _algorithm = "pymemcache/1"

    # What is hashed of each member before the key, and itself; sorted by name, the last one first.
    _nodes: list[tuple[bytes, M]]

    def __init__(
        self, members: Iterable[M] = (), *, name: Callable[[M], str] | None = None
    ) -> None:
        self._begin(members, name=name)

    def get(self, key: str | bytes) -> M:
        return self._best(_characters(encode_key(key)))

    def walk(self, key: str | bytes) -> Iterator[M]:
        characters = _characters(encode_key(key))
        if not self._nodes:
            raise no_members(self._members)
        return self._ranked(characters)

    def get_hash(self, h64: int) -> M:
        """
        Return the member of the key that is *h64* in 16 hexadecimal digits.

        A key has no hash of its own here, as it is hashed together with each node. These keys stand
        in for all others where the key space is sampled.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: The hash is not in ``[0, 2**64)``.
            TypeError: It is no `int`.
        """
        check_hash(h64)
        return self._owner(h64)

    def share(self) -> dict[M, float]:
        """
        Return the share of the key space that each member has: all that have keys have the same.
        """
        shares = dict.fromkeys(self._members, 0.0)
        for _, member in self._nodes:
            shares[member] = 1 / len(self._nodes)
        return shares

    @staticmethod
    def _default_name(member: Any) -> str:
        if isinstance(member, Endpoint):
            return f"{member.address}:{11211 if member.port is None else member.port}"
        return name_of(member)

    def _build(self, members: Iterable[M]) -> Generator[None, None, None]:
        entries = yield from sorted_entries(members, self._name or self._default_name)
        self._members = tuple([entry.member for entry in entries])
        self._nodes = []
        entries.reverse()
        for low in range(0, len(entries), _NODES_PER_SLICE):
            for entry in entries[low : low + _NODES_PER_SLICE]:
                if entry.weight not in (0, 1):
                    raise ConfigError(
                        f"the weight of {entry.name.decode()!r} must be 0 or 1, "
                        f"as pymemcache has none, got {entry.weight}"
                    )
                if entry.weight:
                    self._nodes.append((_characters(entry.name) + b"-", entry.member))
            yield

    def _has_keys(self) -> bool:
        return bool(self._nodes)

    def _owner(self, h: int) -> M:
        return self._best(b"%016x" % h)

    def _walk(self, h: int) -> Iterator[M]:
        return self._ranked(b"%016x" % h)

    def _best(self, characters: bytes) -> M:
        if not self._nodes:
            raise no_members(self._members)
        # Of equal scores the first one stays, and names that sort last come first.
        return max(self._nodes, key=lambda node: murmur3_32(node[0] + characters))[1]

    def _ranked(self, characters: bytes) -> Iterator[M]:
        scored = [(murmur3_32(node + characters), member) for node, member in self._nodes]
        scored.sort(key=lambda each: -each[0])
        for _, member in scored:
            yield member


def _characters(data: bytes) -> bytes:
    """
    Return the lower eight bits of each character; what is not UTF-8 stays as it is.
    """
    if data.isascii():
        return data
    return bytes([ord(each) & 0xFF for each in data.decode("utf-8", "surrogateescape")])
