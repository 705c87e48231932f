"""
Objects with versions, and what happened to them: what etcd and the API server's watch cache keep.

Pure. One counter gives a version to every change. What happened is kept up to a length, and forgotten by `compact`;
a version from before that is too old, to watch from and to go on with a list.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from knet.testing.api.slices import Json

__all__ = ["Event", "Store"]

_REMEMBERED = 1000
_FIRST = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """
    One change.

    Attributes:
        version: Which it made.
        kind: ``"ADDED"``, ``"MODIFIED"`` or ``"DELETED"``.
        object: As it is since; one that was deleted as it was, with the new version.
        before: As it was, or `None`.
    """

    version: int
    kind: str
    object: Json
    before: Json | None


class Store:
    """
    The objects of one kind, by name. What it gives is shared, so not to be changed.

    Attributes:
        version: Of the last change.
        oldest: The first version that is not too old.
    """

    def __init__(self) -> None:
        self.version = _FIRST
        self.oldest = _FIRST
        self._objects: dict[str, Json] = {}
        self._events: deque[Event] = deque()

    def replace(self, wanted: Mapping[str, Json], time: str) -> list[Event]:
        """
        Let exactly these objects be there; return what changed. What is equal to what was is no change.

        Args:
            wanted: Without version, generation and time.
            time: As objects have it, ``"2026-11-28T04:19:48Z"``.
        """
        before = len(self._events)
        for name in [name for name in self._objects if name not in wanted]:
            gone = self._objects.pop(name)
            metadata = {**gone["metadata"], "resourceVersion": str(self.version + 1)}
            self._happened("DELETED", {**gone, "metadata": metadata}, gone)
        for name, made in wanted.items():
            old: Json | None = self._objects.get(name)
            generation = 1
            if old is not None:
                then = old["metadata"]
                time, generation = then["creationTimestamp"], then["generation"]
                if _stamped(made, then["resourceVersion"], time, generation) == old:
                    continue
                generation += 1
            new = _stamped(made, self.version + 1, time, generation)
            self._objects[name] = new
            self._happened("MODIFIED" if old is not None else "ADDED", new, old)
        happened = list(self._events)[before:]
        while len(self._events) > _REMEMBERED:
            self.oldest = self._events.popleft().version
        return happened

    def at(self, version: int) -> dict[str, Json]:
        """
        The objects as they were at a version that is not too old, by name in order.
        """
        objects = dict(self._objects)
        for event in reversed(self._events):
            if event.version <= version:
                break
            name = event.object["metadata"]["name"]
            if event.before is None:
                del objects[name]
            else:
                objects[name] = event.before
        return dict(sorted(objects.items()))

    def since(self, version: int) -> list[Event]:
        """
        What happened after a version that is not too old.
        """
        return [event for event in self._events if event.version > version]

    def compact(self) -> None:
        """
        Forget what happened: every version that was given out is too old.
        """
        self.version += 1
        self.oldest = self.version
        self._events.clear()

    def _happened(self, kind: str, made: Json, before: Json | None) -> None:
        self.version += 1
        self._events.append(Event(self.version, kind, made, before))


def _stamped(made: Json, version: int | str, time: str, generation: int) -> Json:
    """
    The same with what the server writes into its metadata.
    """
    facts = {"resourceVersion": str(version), "generation": generation, "creationTimestamp": time}
    return {**made, "metadata": {**made["metadata"], **facts}}
