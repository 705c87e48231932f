"""
Long work in steps, so that an event loop gets its turn in between.

Whatever may take more than a fraction of a millisecond is written as a generator that yields after
about 0.1 ms of work, and returns its result. It knows nothing of loops, nor of clocks: `exhaust` does
the same work in one go for those who have no loop, and whoever has one takes turns.

A name in -ing is such a generator, and the name without it does its work in one go: `replacing` and
`replace`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

__all__ = ["Steps", "exhaust"]

T = TypeVar("T")
Steps = Generator[None, None, T]


def exhaust(steps: Steps[T]) -> T:
    """
    Take all *steps* in one go and return what they made.
    """
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            made: T = stop.value
            return made
