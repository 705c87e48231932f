"""
What has changed: who joined a ring, who left it, how much moved, and when.

For whoever comes after the event, as a status page does. `Ring.changes` tells those who wait; this
keeps what they would have heard, without the snapshots, of which a hundred kilobytes and more hang on
each. How much has moved is therefore counted at once: by calls of the event loop, a fraction of a
millisecond each, and by no task, since nobody would wait for it at the end. That is also what the
ring's counters get, so that a change is compared once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from knet.endpoint import Endpoint
from knet.hashring.steps import Steps
from knet.routing.counts import Counts
from knet.snapshot import Change, Snapshot, counting_moved

__all__ = ["History", "PastChange"]

# So many changes are kept: a rolling update of as many pods.
MOST_CHANGES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PastChange:
    """
    A change that a ring went through.

    Attributes:
        age: Seconds since then.
        generation: Of the snapshot that it led to.
        added: The endpoints that joined, sorted.
        removed: The endpoints that left, sorted.
        moved: What part of all keys got another endpoint, from 0 to 1. `None`: it is still being
            counted, or the ring ended meanwhile.
    """

    age: float
    generation: int
    added: tuple[Endpoint, ...]
    removed: tuple[Endpoint, ...]
    moved: float | None


@dataclass(slots=True)
class _Entry:
    at: float
    generation: int
    added: tuple[Endpoint, ...]
    removed: tuple[Endpoint, ...]
    moved: float | None = None


@final
class History:
    """
    The last changes of one ring.

    Args:
        counts: Has all of them counted.

    Attributes:
        previous: The snapshot before the one that stands, or `None`.
    """

    __slots__ = (
        *("_began", "_counting", "_counts", "_entries", "_joined", "_latest", "_uncounted"),
        "previous",
    )

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self.previous: Snapshot | None = None
        self._latest: Snapshot | None = None
        # When who joined, by name; those of the first snapshot are not in here.
        self._joined: dict[str, float] = {}
        self._began = 0.0
        self._entries: deque[_Entry] = deque(maxlen=MOST_CHANGES)
        self._uncounted: deque[tuple[_Entry, Change]] = deque(maxlen=MOST_CHANGES)
        # What is being counted, and for whom.
        self._counting: tuple[_Entry, Steps[float]] | None = None

    def follow(
        self,
        snapshot: Snapshot | None,
        *,
        here: bool,
        now: float,
        soon: Callable[[Callable[[], object]], object],
    ) -> None:
        """
        Note that *snapshot* stands; `None`: the ring has ended.

        Args:
            snapshot: What stands.
            here: This is the ring's event loop.
            now: Seconds on its clock.
            soon: Has it call a function.
        """
        before, self._latest = self._latest, snapshot
        if snapshot is None:
            self.previous = self._counting = None
            self._uncounted.clear()
        elif before is None:
            self._began = now
        elif here:
            self.previous = before
            change = before.diff(snapshot)
            for endpoint in change.removed:
                self._joined.pop(endpoint.name, None)
            self._joined.update((endpoint.name, now) for endpoint in change.added)
            entry = _Entry(now, snapshot.generation, change.added, change.removed)
            self._entries.append(entry)
            self._counts.changes += 1
            self._uncounted.append((entry, change))
            if self._counting is None:
                self._begin()
                soon(lambda: self._count(soon))

    def _begin(self) -> None:
        if self._uncounted:
            entry, change = self._uncounted.popleft()
            self._counting = entry, counting_moved(change)
        else:
            self._counting = None

    def _count(self, soon: Callable[[Callable[[], object]], object]) -> None:
        """
        Count for one step, and have the loop call again where there is more.
        """
        if self._counting is None:
            return
        entry, steps = self._counting
        try:
            next(steps)
        except StopIteration as stop:
            entry.moved = stop.value
            self._counts.moved += stop.value
            self._begin()
        if self._counting is not None:
            soon(lambda: self._count(soon))

    def ages(self, endpoints: Iterable[Endpoint], now: float) -> dict[str, float]:
        """
        Return for how many seconds each of *endpoints* has been there, by its name.
        """
        joined, began = self._joined, self._began
        return {each.name: max(0.0, now - joined.get(each.name, began)) for each in endpoints}

    def told(self, now: float) -> tuple[PastChange, ...]:
        """
        Return the last changes, latest first.
        """
        return tuple(
            PastChange(
                age=max(0.0, now - entry.at),
                generation=entry.generation,
                added=entry.added,
                removed=entry.removed,
                moved=entry.moved,
            )
            for entry in reversed(list(self._entries))
        )
