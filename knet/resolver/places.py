"""
Places: how many queries are under way at once, and that who answers quickly never waits for who does not.

More than a few hundred answers at once overflow a UDP socket's buffer, so there is a number of places,
and a query takes one. It is an answer that fills a buffer, though, and what was not answered in a
fraction of a second will hardly be answered together with the others. So a query that takes long leaves
its place to another one, and goes on without. And what timed out when it was asked last takes one of
as many places that are apart: five hundred names that time out wait for each other, and for nobody else.
"""

from __future__ import annotations

from collections.abc import Hashable

import anyio

__all__ = ["BRIEF", "IN_FLIGHT", "Place", "Places"]

IN_FLIGHT = 64

# Seconds after which a query leaves its place; a cluster's DNS answers in milliseconds.
BRIEF = 0.2
# So many go on without one, at most; the next ones keep theirs.
_MOST_PATIENT = 1024
# How many questions are known to time out, before all of that is forgotten.
_MOST_LATE = 20_000


class Places:
    """
    Those of one channel, on one event loop.
    """

    def __init__(self) -> None:
        self.patient = 0
        self._quick = anyio.Semaphore(IN_FLIGHT, fast_acquire=True)
        self._slow = anyio.Semaphore(IN_FLIGHT, fast_acquire=True)
        self._late: set[Hashable] = set()

    async def take(self, question: Hashable) -> Place:
        """
        Wait for a place to ask *question*, and return it; it must be left.
        """
        lane = self._slow if question in self._late else self._quick
        await lane.acquire()
        return Place(self, lane)

    def learn(self, question: Hashable, *, is_late: bool) -> None:
        """
        Note whether *question* timed out.
        """
        if not is_late:
            self._late.discard(question)
            return
        if len(self._late) >= _MOST_LATE:
            self._late.clear()
        self._late.add(question)

    def can_spare(self, lane: anyio.Semaphore) -> bool:
        return lane is self._quick and self.patient < _MOST_PATIENT


class Place:
    """
    One of them, for one query.
    """

    __slots__ = ("_is_patient", "_lane", "_places")

    def __init__(self, places: Places, lane: anyio.Semaphore) -> None:
        self._places = places
        self._lane: anyio.Semaphore | None = lane
        self._is_patient = False

    async def wait(self, answered: anyio.Event) -> None:
        """
        Wait until it is *answered*; for long only where that keeps nobody else waiting.
        """
        lane = self._lane
        assert lane is not None
        if self._places.can_spare(lane):
            with anyio.move_on_after(BRIEF):
                await answered.wait()
            if answered.is_set():
                return
            if self._places.can_spare(lane):
                self._places.patient += 1
                self._is_patient = True
                self._lane = None
                lane.release()
        await answered.wait()

    def leave(self) -> None:
        """
        Give it to another one, if it has not been given away.
        """
        if self._is_patient:
            self._places.patient -= 1
            self._is_patient = False
        if self._lane is not None:
            self._lane.release()
            self._lane = None
