"""
What became of a ring's requests, and of its keys, counted since it was made.

Pure: numbers that only grow. They are written on the ring's event loop, and read in any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["Counts"]


class Counts:
    """
    Of one ring.

    Attributes:
        attempts: How many have begun.
        ejections: How many there have been.
        changes: How many snapshots have replaced one before.
        moved: What part of all keys they moved, added up.
    """

    __slots__ = ("_errors", "_failovers", "attempts", "changes", "ejections", "moved")

    def __init__(self) -> None:
        self.attempts = 0
        self.ejections = 0
        self.changes = 0
        self.moved = 0.0
        self._errors: dict[str, int] = {}
        self._failovers: dict[str, int] = {}

    def fail(self, kind: str) -> None:
        """
        Count an attempt that failed, by the kind of its error: see `knet.routing.errors.kind_of`.
        """
        self._errors[kind] = self._errors.get(kind, 0) + 1

    def fail_over(self, kind: str) -> None:
        """
        Count a request that may go on with another pod after such an error.
        """
        self._failovers[kind] = self._failovers.get(kind, 0) + 1

    @property
    def errors(self) -> Mapping[str, int]:
        """
        How many attempts have failed, by kind.
        """
        return MappingProxyType(dict(self._errors))

    @property
    def failovers(self) -> Mapping[str, int]:
        """
        After how many of them another pod was to be asked, by kind.
        """
        return MappingProxyType(dict(self._failovers))
