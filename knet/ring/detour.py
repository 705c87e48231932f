"""
A snapshot while some of its endpoints are out: their keys go to the next one of their walk.

Pure. It answers as a `Snapshot` does, by walking at first. Where the placement has slots, a table in
which those who are out are skipped takes over once it is made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from knet.endpoint import Endpoint
from knet.hashring import HashRing
from knet.hashring.hashing import xxh64
from knet.hashring.placement import key_list
from knet.hashring.steps import Steps
from knet.snapshot import Snapshot

__all__ = ["Detour"]


class Detour:
    """
    Args:
        snapshot: What stands.
        out: Who of it is ejected; never all who have keys.

    Attributes:
        snapshot: The same.
        out: The same.
        table: The owners of equal slots, with those who are out replaced; empty until `settle`.
        shift: As that of a `Snapshot`; 0 until `settle`.
    """

    __slots__ = ("out", "shift", "snapshot", "table")

    def __init__(self, snapshot: Snapshot, out: Collection[Endpoint]) -> None:
        self.snapshot = snapshot
        self.out = out
        self.table: Sequence[Endpoint] = ()
        self.shift = 0

    def skipping(self) -> Steps[list[Endpoint] | None] | None:
        """
        Return the work that makes the table, or `None`: this placement has no slots.
        """
        placement = self.snapshot.placement
        if self.snapshot.shift and isinstance(placement, HashRing):
            return placement.skipping(self.out)
        return None

    def settle(self, table: Sequence[Endpoint]) -> None:
        """
        Answer by *table* from now on.
        """
        self.table = table
        self.shift = self.snapshot.shift

    def get(self, key: str | bytes) -> Endpoint:
        """
        Return the first endpoint of the walk that is not out.
        """
        if self.shift:
            try:
                return self.table[xxh64(key.encode()) >> self.shift]  # type: ignore[union-attr]
            except (AttributeError, UnicodeEncodeError):
                pass
        first = self.snapshot.get(key)
        if first not in self.out:
            return first
        return next(self.walk(key))

    def walk(self, key: str | bytes) -> Iterator[Endpoint]:
        """
        Yield those who are not out, most preferred first, and then those who are.
        """
        last: list[Endpoint] = []
        for endpoint in self.snapshot.walk(key):
            if endpoint in self.out:
                last.append(endpoint)
            else:
                yield endpoint
        yield from last

    def get_n(self, key: str | bytes, n: int) -> tuple[Endpoint, ...]:
        """
        Return the first *n* of that walk.
        """
        self.snapshot.get_n(key, n)  # for what it refuses
        return tuple(islice(self.walk(key), n))

    def get_many(self, keys: Iterable[str | bytes]) -> list[Endpoint]:
        """
        Return the endpoint of each key.
        """
        # Most keys belong to somebody who is not out, and those are found many at a time.
        keys = key_list(keys)
        found = self.snapshot.get_many(keys)
        out = self.out
        return [
            self.get(key) if endpoint in out else endpoint
            for key, endpoint in zip(keys, found, strict=True)
        ]
