"""
What a soak measures of its own process, what it must never hear, and the table of it all.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import logging
import os
import statistics
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import current_token

__all__ = ["Level", "Report", "growth", "listening"]

_PROC = Path("/proc/self")
# Of one mistake that happens ten thousand times, these many are enough to read.
_TOLD = 20
# What may come after the warm-up. A leak of 100 bytes in each of 10,000 refreshes is 1 MB of malloc's
# memory, or 10,000 blocks. Resident memory says less: free pages between others that are not, and
# the stacks of threads that have ended, make it go up and down by a few MB from rest to rest.
_MOST_BLOCKS = 2000
_MOST_MALLOC = 0.5
_MOST_RESIDENT = 8.0


class _MallInfo(ctypes.Structure):
    """
    `struct mallinfo2` of glibc 2.33 and later; see mallinfo(3).
    """

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
            *("uordblks", "fordblks", "keepcost"),
        )
    ]


def _libc() -> Any:
    """
    The C library, if it can tell what malloc holds.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallinfo2.restype = _MallInfo
        libc.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):
        return None
    return libc


_LIBC = _libc()


def _resident() -> int:
    if not _PROC.exists():
        return 0
    return int((_PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Level:
    """
    What this process holds at one moment.

    Attributes:
        tasks: Of this event loop.
        threads: The kernel's, so those of c-ares too.
        descriptors: Open ones.
        blocks: What Python's allocator has handed out.
        malloc: Bytes that malloc has handed out, to c-ares and to Python; 0 where it does not say.
        rss: Bytes of memory that are resident, of which malloc gave back first what nobody holds; 0
            where there is no `/proc`.
        rss_before: As many before it did.
    """

    tasks: int
    threads: int
    descriptors: int
    blocks: int
    malloc: int
    rss: int
    rss_before: int

    @classmethod
    def now(cls) -> Level:
        """
        Collect the garbage, and look.
        """
        gc.collect()
        before, malloc = _resident(), 0
        if _LIBC is not None:
            used = _LIBC.mallinfo2()
            malloc = used.uordblks + used.hblkhd
            _LIBC.malloc_trim(0)
        return cls(*cls.counted(), sys.getallocatedblocks(), malloc, _resident(), before)

    @staticmethod
    def counted() -> tuple[int, int, int]:
        """
        Count tasks, threads and descriptors: what is the same at each time of rest.
        """
        threads, descriptors = threading.active_count(), Path("/dev/fd")
        if _PROC.exists():
            threads, descriptors = len(os.listdir(_PROC / "task")), _PROC / "fd"
        # Less the one that lists them.
        return len(anyio.get_running_tasks()), threads, len(os.listdir(descriptors)) - 1


def growth(values: Sequence[float]) -> float:
    """
    How much *values* grew once they were warm: the first third does not count.

    Medians of a quarter at either end, so that one high sample is no leak and hides none.
    """
    warm = values[len(values) // 3 :]
    few = max(1, len(warm) // 4)
    return statistics.median(warm[-few:]) - statistics.median(warm[:few])


@dataclass(slots=True)
class Report:
    """
    What a soak has to tell.

    Attributes:
        title: Which soak, on which loop, from which seed.
        rows: What was measured, the figure, and what it had to be.
        broken: Every promise that was not kept, first ones first.
        breaches: How many there were.
    """

    title: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    breaches: int = 0

    def row(self, what: str, figure: object, wanted: str = "", *, holds: bool = True) -> None:
        """
        Add a figure; one that does not hold is a broken promise.
        """
        self.rows.append((what, str(figure), wanted))
        if not holds:
            self.breach(f"{what}: {figure}, wanted {wanted}")

    def breach(self, what: str) -> None:
        """
        Note a promise that was broken.
        """
        self.breaches += 1
        if len(self.broken) < _TOLD:
            self.broken.append(what)

    def check(self, holds: bool, what: str | Callable[[], str]) -> None:
        """
        Note *what* unless it *holds*.
        """
        if not holds:
            self.breach(what if isinstance(what, str) else what())

    def flat(self, levels: Sequence[Level], *, over: str, scale: float = 1.0) -> None:
        """
        Add rows for what memory grew by over *levels*, which were seen in equal states.

        Args:
            levels: In order.
            over: What happened from the end of the warm-up to the last of them.
            scale: How many times as much as usual that was.
        """
        for what, held, unit, most in (
            ("Python's blocks", [level.blocks for level in levels], "", _MOST_BLOCKS),
            ("malloc's memory", [level.malloc / 2**20 for level in levels], " MB", _MOST_MALLOC),
            ("resident memory", [level.rss / 2**20 for level in levels], " MB", _MOST_RESIDENT),
        ):
            more = growth(held)
            digits = ".2f" if unit else ",.0f"
            self.row(
                f"{what} at the end, and grown over {over}",
                f"{held[-1]:{digits}}, {more:+{digits}}{unit}",
                f"below {most * scale:+,g}{unit}",
                holds=more < most * scale,
            )
        before = [level.rss_before / 2**20 for level in levels[len(levels) // 3 :]]
        self.row(
            "resident with what malloc had free, least and most",
            f"{min(before):.1f}, {max(before):.1f} MB",
        )

    def __str__(self) -> str:
        widths = [max(len(row[i]) for row in self.rows) for i in range(2)] if self.rows else [0, 0]
        lines = [self.title]
        for what, figure, wanted in self.rows:
            line = f"  {what:<{widths[0]}}  {figure:<{widths[1]}}  {wanted}"
            lines.append(line.rstrip())
        lines += [f"  BROKEN: {what}" for what in self.broken]
        if self.breaches > len(self.broken):
            lines.append(f"  BROKEN: {self.breaches - len(self.broken)} more")
        return "\n".join(lines)


class _Errors(logging.Handler):
    """
    Every line of a log that is an error, whose ever.
    """

    def __init__(self, report: Report, allowed: str) -> None:
        super().__init__(logging.ERROR)
        self._report = report
        self._allowed = allowed

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != self._allowed:
            text = record.getMessage()
            if record.exc_info and record.exc_info[0]:
                text += "".join(traceback.format_exception(*record.exc_info))
            self._report.breach(f"logged by {record.name}: {text}")


class _Stderr(io.TextIOBase):
    """
    A stderr that nobody may write to: cffi prints there what a callback raised.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text.strip():
            self._report.breach(f"on stderr: {text}")
        return len(text)


@contextmanager
def listening(report: Report, *, allowed_log: str = "") -> Iterator[None]:
    """
    Hear every exception that nobody observes, and every warning: each is a breach.

    Args:
        report: Where it is noted.
        allowed_log: A logger whose errors are expected.
    """

    def unraisable(args: Any) -> None:
        what = "".join(traceback.format_exception(args.exc_value)) if args.exc_value else ""
        report.breach(f"unraisable in {args.object!r}: {args.err_msg or ''} {what}")

    def of_thread(args: Any) -> None:
        report.breach(f"in thread {args.thread}: {args.exc_value!r}")

    def warned(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        report.breach(f"warned: {category.__name__}: {message}")

    hooks = sys.unraisablehook, threading.excepthook, sys.stderr
    handler = _Errors(report, allowed_log)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = warned
        sys.unraisablehook, threading.excepthook = unraisable, of_thread
        sys.stderr = _Stderr(report)
        logging.getLogger().addHandler(handler)
        try:
            yield
            gc.collect()
        finally:
            logging.getLogger().removeHandler(handler)
            sys.unraisablehook, threading.excepthook, sys.stderr = hooks


@contextmanager
def listening_to_loop(report: Report) -> Iterator[None]:
    """
    Hear what asyncio's loop has nobody else to tell; trio always tells somebody.
    """
    loop = current_token().native_token
    if not isinstance(loop, asyncio.AbstractEventLoop):
        yield
        return
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, what: report.breach(f"told to the loop: {what}"))
    try:
        yield
    finally:
        loop.set_exception_handler(before)
