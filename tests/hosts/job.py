"""
What a ring does in its life, in whatever way the interpreter is run: `test_modes` starts it.

It prints the picks and nothing else. It checks with `check`, since `python -O` drops assertions.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import locale
import logging
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import anyio

import knet
from knet.testing import HeadlessService

__all__ = ["KEYS", "LOOPS", "QUIRKS", "main"]

# Two letters that some languages lower-case in their own way; asked for in capitals.
SERVICE = "kitchen.prod.svc.cluster.local"
KEYS = [f"user-{i}" for i in range(200)]

QUICK = knet.RefreshPolicy(interval=0.02, min_interval=0.02, retry=0.02)

# Seconds of CPU in one turn of a loop; asyncio's own limit, which goes by the clock.
_SLOW = 0.1

# What `anyio.run` needs for each.
LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio", "backend_options": {"strict_exception_groups": True}},
}

_YEARS = 86400.0 * 365

_now = time.time


def check(condition: object, what: object) -> None:
    if not condition:
        raise RuntimeError(f"unexpected: {what}")


def say(ring: knet.Ring) -> None:
    print(*(pod.name.partition(".")[0] for pod in ring.snapshot.get_many(KEYS)))


async def life() -> None:
    """
    Start, pick, see pods come, fail, recover, see pods go and close.
    """
    with HeadlessService(SERVICE, pods=3, stateful=True) as service:
        resolver = knet.Resolver(nameservers=[service.nameserver])
        async with knet.Ring(
            SERVICE.upper(), port="http", resolver=resolver, refresh=QUICK
        ) as ring:
            say(ring)
            service.scale(5)
            while len(ring.snapshot.endpoints) < 5:
                await ring.refresh()
            say(ring)
            with service.failing("SERVFAIL"):
                try:
                    await ring.refresh()
                except knet.ServerFailure:
                    check(ring.state == "stale", ring)
                else:
                    check(False, "an answer")
                say(ring)
            await ring.refresh()
            check(ring.state == "fresh", ring)
            service.scale(3)
            while len(ring.snapshot.endpoints) > 3:
                await ring.refresh()
            say(ring)
        check(ring.state == "closed", ring)


# --- what is the matter with this process


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def a_wall_clock_that_jumps() -> None:
    """
    Each look at it is years before or after the one before.
    """
    offsets: Iterator[float] = itertools.cycle((0.0, 10 * _YEARS, -10 * _YEARS))
    time.time = lambda: _now() + next(offsets)


def a_collector_that_never_rests() -> None:
    gc.set_threshold(1, 1, 1)


def a_locale() -> None:
    locale.setlocale(locale.LC_ALL, "")


def no_collector() -> None:
    gc.disable()


def hasty_threads() -> None:
    sys.setswitchinterval(1e-6)


def a_tracer() -> None:
    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def a_stopwatch() -> None:
    """
    Complain of a turn of the loop that takes too much CPU; a busy machine takes none.
    """
    original = asyncio.Handle._run

    def timed(self: asyncio.Handle) -> None:
        began = time.thread_time()
        original(self)
        took = time.thread_time() - began
        if took > _SLOW:
            print(f"{self!r} took {took:.3f} s", file=sys.stderr)

    asyncio.Handle._run = timed  # type: ignore[method-assign]


QUIRKS: dict[str, Callable[[], None]] = {
    quirk.__name__: quirk
    for quirk in (
        few_descriptors,
        a_wall_clock_that_jumps,
        a_collector_that_never_rests,
        no_collector,
        a_locale,
        hasty_threads,
        a_tracer,
        a_stopwatch,
    )
}


def main(quirk: str, loops: Iterable[str]) -> None:
    """
    Live on each of *loops* in turn.
    """
    # The warning that DNS fails belongs on standard error, where nobody took it in.
    logging.getLogger("knet").addHandler(logging.NullHandler())
    # What asyncio's debug mode calls slow may be a busy machine; `a_stopwatch` knows the difference.
    logging.getLogger("asyncio").addFilter(lambda record: "took" not in record.getMessage())
    # What is imported at its first use costs no turn of a loop here.
    _ = knet.Ring, knet.Resolver
    if quirk:
        QUIRKS[quirk]()
    for loop in loops:
        anyio.run(life, **LOOPS[loop])
