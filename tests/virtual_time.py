"""
Both event loops on a virtual clock: an hour passes at once, as soon as everyone waits.

A test module takes part with `from tests.virtual_time import anyio_backend`, which shadows the
real-time fixture of `conftest.py`. Only for tests in which all waiting is done on the loop: with
sockets or threads, virtual time runs away while they work.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import pytest
from trio.testing import MockClock


class _Selector(selectors.DefaultSelector):
    """
    Never waits: what it would have waited is added to the clock.
    """

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("every task waits for something that never happens")
        self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """
    The asyncio loop whose clock jumps to the next timer.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """
    asyncio and trio, each on a virtual clock.
    """
    if request.param == "trio":
        return "trio", {"clock": MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualLoop}
