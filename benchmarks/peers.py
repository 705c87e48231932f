"""
Other libraries that find the member of a key, each with its defaults, and some with a fast hash too.

They are in the dependency group `bench`. One that is missing, or does not run on this Python, is left
out and named in `MISSING`.

Not here: grpcio, whose ring cannot be asked for a pick, only sent requests through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import xxhash

__all__ = ["MISSING", "PEERS", "Peer"]

_xxh64 = xxhash.xxh64_intdigest


class Peer(NamedTuple):
    """
    Another library: what makes a ring of names, and what asks that for the member of a key.

    Attributes:
        name: The library, and the hash if not its default.
        build: Makes whatever holds the members.
        get: Returns what is called for every key.
        asks_all: Takes time in proportion to the members.
    """

    name: str
    build: Callable[[list[str]], Any]
    get: Callable[[Any], Callable[[str], object]]
    asks_all: bool = False


PEERS: dict[str, Peer] = {}
MISSING: list[str] = []


def _add(*peers: Peer) -> None:
    PEERS.update((peer.name, peer) for peer in peers)


def _xxh64_of_text(text: str, seed: int = 0) -> int:
    return _xxh64(text.encode(), seed)


try:
    import uhashring
except ImportError:
    MISSING.append("uhashring: not installed")
else:
    _add(
        Peer("uhashring", uhashring.HashRing, lambda ring: ring.get_node),
        Peer(
            "uhashring, xxh64",
            lambda members: uhashring.HashRing(members, hash_fn=_xxh64_of_text),
            lambda ring: ring.get_node,
        ),
    )

try:
    from pymemcache.client.rendezvous import RendezvousHash
except ImportError:
    MISSING.append("pymemcache: not installed")
else:
    _add(
        Peer("pymemcache", RendezvousHash, lambda ring: ring.get_node, asks_all=True),
        Peer(
            "pymemcache, xxh64",
            lambda members: RendezvousHash(members, hash_function=_xxh64_of_text),
            lambda ring: ring.get_node,
            asks_all=True,
        ),
    )

try:
    import clandestined
except ImportError:
    MISSING.append("clandestined: not installed")
else:
    _add(
        Peer(
            "clandestined",
            # It keeps the list that it is given.
            lambda members: clandestined.RendezvousHash(members.copy()),
            lambda ring: ring.find_node,
            asks_all=True,
        )
    )

try:
    import hashring
except ImportError:
    MISSING.append("hashring: not installed")
else:
    _add(Peer("hashring", hashring.HashRing, lambda ring: ring.get_node))

try:
    import jump
except ImportError:
    MISSING.append("jump-consistent-hash: not installed")
else:

    def _jump_get(members: list[str]) -> Callable[[str], object]:
        bucket_of, count = jump.hash, len(members)
        return lambda key: members[bucket_of(_xxh64(key.encode()), count)]

    # The hash is the caller's to bring.
    _add(Peer("jump, xxh64", list, _jump_get))

try:
    import fastring
except ImportError:
    MISSING.append("fastring: not installed; it needs CPython 3.13")
else:

    def _fastring_of(members: list[str]) -> Any:
        ring = fastring.HashRing()
        for member in members:
            ring.add_node(member)
        return ring

    _add(Peer("fastring", _fastring_of, lambda ring: ring.get_node))
