"""
Long work in slices, so that an event loop gets its turn in between.

Whatever may take more than a fraction of a millisecond is written as a generator that yields every
so often and returns its result. It knows nothing of loops: the same work is done in one go by
`exhaust`, for those who have no loop, and by `in_turns` on one.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TypeVar

__all__ = ["Slices", "exhaust", "in_turns"]

T = TypeVar("T")
Slices = Generator[None, None, T]

# Other tasks get a turn after this many seconds of work.
_SLICE = 0.00025


def exhaust(slices: Slices[T]) -> T:
    """
    Run *slices* to the end in one go and return what they made.
    """
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            made: T = stop.value
            return made


async def in_turns(slices: Slices[T]) -> T:
    """
    Run *slices* to the end, taking turns with the other tasks of the event loop.

    What is done within a quarter of a millisecond passes no checkpoint.
    """
    # Placements are slices too, and are used where nothing is asynchronous.
    from anyio.lowlevel import checkpoint  # noqa: PLC0415

    began = time.perf_counter()
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            made: T = stop.value
            return made
        if time.perf_counter() - began > _SLICE:
            await checkpoint()
            began = time.perf_counter()
