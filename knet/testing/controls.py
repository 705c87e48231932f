"""
What the two servers of this package have alike: faults that stand, and a log of what arrived.

Both are changed from any thread, under the lock of the responder that has them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

import anyio

from knet.errors import ConfigError

__all__ = ["LOOK_AGAIN", "Faults", "Log", "check_delay", "check_times"]

_LOGGED = 10_000
LOOK_AGAIN = 0.002

Asked = TypeVar("Asked")


class Standing(Protocol):
    """
    One thing that goes wrong.

    Attributes:
        times: How many more, `None` for all until healed.
    """

    times: int | None

    def matches(self, asked: Any, /) -> bool:
        """
        Whether *asked* meets it.
        """
        ...


StandingT = TypeVar("StandingT", bound=Standing)


class Faults(Generic[StandingT]):
    """
    What goes wrong now; of several that match the newest applies.

    Args:
        lock: Held for every change.
    """

    def __init__(self, lock: threading.Condition) -> None:
        self._lock = lock
        self._standing: list[StandingT] = []

    def __iter__(self) -> Iterator[StandingT]:
        return iter(tuple(self._standing))

    def add(self, fault: StandingT) -> None:
        """
        Let it stand until it is used up, or `clear`.
        """
        with self._lock:
            self._standing.append(fault)

    def clear(self) -> None:
        """
        End all.
        """
        with self._lock:
            self._standing.clear()

    @contextmanager
    def during(self, fault: StandingT) -> Iterator[None]:
        """
        Let it stand for the length of a ``with`` block.
        """
        self.add(fault)
        try:
            yield
        finally:
            with self._lock:
                # Used up, or healed meanwhile, it is no longer there.
                if fault in self._standing:
                    self._standing.remove(fault)

    def meet(self, asked: object) -> StandingT | None:
        """
        Return the fault that *asked* meets, once less from now on.
        """
        with self._lock:
            for fault in reversed(self._standing):
                if fault.matches(asked):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times == 0:
                            self._standing.remove(fault)
                    return fault
        return None


class Log(Generic[Asked]):
    """
    What arrived: the latest of it, and how many there were.

    Args:
        lock: Held for every change, and awaited.
        who: Who got it, for errors: ``"web.prod.svc.cluster.local"``.
        what: What that is: ``"queries"``.
    """

    def __init__(self, lock: threading.Condition, who: str, what: str) -> None:
        self._lock = lock
        self._who = who
        self._what = what
        self._seen = 0
        self._latest: deque[Asked] = deque(maxlen=_LOGGED)

    @property
    def latest(self) -> tuple[Asked, ...]:
        """
        The latest 10,000, oldest first.
        """
        with self._lock:
            return tuple(self._latest)

    def add(self, asked: Asked) -> None:
        """
        Log one more, and wake who waits for it.
        """
        with self._lock:
            self._latest.append(asked)
            self._seen += 1
            self._lock.notify_all()

    def forget(self) -> None:
        """
        Begin to count from none.
        """
        with self._lock:
            self._latest.clear()
            self._seen = 0

    def wait(self, n: int, timeout: float) -> tuple[Asked, ...]:
        """
        Block until *n* have arrived, and return the latest; `TimeoutError` after so many seconds.
        """
        with self._lock:
            self._lock.wait_for(lambda: self._seen >= n, timeout)
        return self._latest_or_late(n, timeout)

    async def wait_async(self, n: int, timeout: float) -> tuple[Asked, ...]:
        """
        `wait` on any event loop, in real time.
        """
        end = time.monotonic() + timeout
        # Looking again costs less than a worker thread, which could not be cancelled.
        while self._seen < n and time.monotonic() < end:  # noqa: ASYNC110 - see above
            await anyio.sleep(LOOK_AGAIN)
        return self._latest_or_late(n, timeout)

    def _latest_or_late(self, n: int, timeout: float) -> tuple[Asked, ...]:
        with self._lock:
            if self._seen < n:
                got = f"{self._seen} of {n} {self._what}"
                raise TimeoutError(f"{self._who} got {got} in {timeout} s")
            return tuple(self._latest)


def check_delay(seconds: float) -> float:
    """
    Return *seconds*; raise `ConfigError` unless somebody could mean them.
    """
    if not 0 <= seconds < 3600:
        raise ConfigError(f"a delay must be 0 to 3600 seconds, got {seconds}")
    return float(seconds)


def check_times(times: int | None) -> None:
    """
    Raise `ConfigError` unless a fault can stand so many times.
    """
    if times is not None and times < 1:
        raise ConfigError(f"times must be at least 1, got {times}")
