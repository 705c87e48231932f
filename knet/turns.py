"""
Long work in turns with the other tasks of an event loop.

The one place where work in steps meets a clock and a loop: see `knet.hashring.steps`.
"""

from __future__ import annotations

import time
from typing import TypeVar

from anyio.lowlevel import checkpoint

from knet.hashring.steps import Steps

__all__ = ["Turns", "turns"]

T = TypeVar("T")


class Turns:
    """
    How long work goes on before the other tasks get a turn.

    Attributes:
        seconds: After this much work. What is done sooner passes no checkpoint.
        most: After this much where the others take long: then each turn that was waited for is worth a
            quarter of it, or a change would come late on a busy loop.
        many: With more endpoints than this, there is a turn between reading, deciding and building.
    """

    def __init__(self, seconds: float = 0.00025, most: float = 0.0006, many: int = 256) -> None:
        self.seconds = seconds
        self.most = most
        self.many = many

    async def take(self, steps: Steps[T]) -> T:
        """
        Take all *steps*, in turns, and return what they made.
        """
        began, allowed = time.perf_counter(), self.seconds
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                made: T = stop.value
                return made
            if (ended := time.perf_counter()) - began > allowed:
                await checkpoint()
                began = time.perf_counter()
                allowed = max(self.seconds, min(self.most, (began - ended) / 4))

    async def give_way(self, count: int) -> None:
        """
        Let the others have a turn where *count* endpoints were worked on, if those are many.
        """
        if count > self.many:
            await checkpoint()


turns = Turns()
