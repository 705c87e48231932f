"""
How long does a ring hold up the event loop while it takes over a thousand members?

    python -m benchmarks.stall [--rounds 5]

A task does nothing but `sleep(0)` and notes how long each took. Meanwhile one of the 1,000 endpoints of a
`knet.Ring` is replaced, or all of them: it builds a placement from nothing, swaps the snapshot and
releases the old one. The longest gap is what a request would have waited.

Gaps are measured twice. In seconds of the clock they contain whatever else the machine did, for which an
idle loop is measured as long right afterwards. In CPU seconds of the thread they are what the loop itself
was busy with: that is what should stay below 1 ms. The garbage collector is off: how long its pauses are
depends on the whole program, and here its largest part would be the notes on gaps.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import sys
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

import knet
from benchmarks.cases import names
from knet.hashring import HashRing, Maglev
from knet.hashring.proxies import EnvoyRing

MEMBERS = 1000
MOST_GAPS = 1_000_000
# Upper ends of the classes of the histogram, in milliseconds of CPU.
CLASSES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
# Ask when told to, and believe at once.
POLICY = knet.RefreshPolicy(interval=3600.0, min_interval=0.001, confirm=1)

PLACEMENTS: dict[str, Callable[..., Any]] = {
    "HashRing": HashRing,
    "HashRing, all replaced": HashRing,
    "HashRing, balance=1.1": partial(HashRing, balance=1.1),
    "HashRing, 2**18 slots, balance=1.1": partial(HashRing, slots=2**18, balance=1.1),
    "Maglev": Maglev,
    "EnvoyRing": EnvoyRing,
    "EnvoyRing, of 65 536 points": partial(EnvoyRing, min_size=65_536),
}


class Gaps:
    """
    Milliseconds between the turns of a loop: by the clock, and of CPU.
    """

    def __init__(self) -> None:
        # Made beforehand: a list would have to be copied now and then as it grows.
        self._clock = array("d", bytes(8 * MOST_GAPS))
        self._cpu = array("d", bytes(8 * MOST_GAPS))
        self._count = 0

    @property
    def clock(self) -> array[float]:
        return self._clock[: self._count]

    @property
    def cpu(self) -> array[float]:
        return self._cpu[: self._count]

    async def during(self, work: Callable[[], Awaitable[object]]) -> None:
        """
        Go round the loop until *work* is done.
        """
        done = False

        async def watch() -> None:
            clocks, cpus = self._clock, self._cpu
            count = 0
            clock, cpu = time.perf_counter(), time.thread_time()
            while not done and count < MOST_GAPS:
                await checkpoint()
                clock_now, cpu_now = time.perf_counter(), time.thread_time()
                clocks[count] = (clock_now - clock) * 1e3
                cpus[count] = (cpu_now - cpu) * 1e3
                count += 1
                clock, cpu = clock_now, cpu_now
            self._count = count

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await checkpoint()
            await work()
            done = True


async def measure(placement: Callable[..., Any], replaced: int) -> tuple[Gaps, Gaps, float]:
    """
    Return the gaps while a ring changes, those of an idle loop, and how many seconds each took.
    """
    resolver = knet.StaticResolver(names(MEMBERS))
    async with knet.Ring(
        "benchmark", resolver=resolver, placement=placement, refresh=POLICY
    ) as ring:
        resolver.set(names(replaced, family=1) + names(MEMBERS)[replaced:])
        await anyio.sleep(0.01)
        changing, idle = Gaps(), Gaps()
        gc.collect()
        gc.disable()

        async def change() -> None:
            await ring.refresh()
            # The old snapshot is let go of by the time the ring's task has gone on.
            for _ in range(100):
                await checkpoint()

        began = time.perf_counter()
        await changing.during(change)
        took = time.perf_counter() - began
        assert ring.snapshot.generation == 2, "the ring did not change"
        assert len(ring.snapshot) == MEMBERS, "the ring is not what it should be"
        await idle.during(lambda: anyio.sleep(took))
        gc.enable()
    return changing, idle, took


def histogram(found: list[Gaps]) -> str:
    """
    How many gaps there are in each of `CLASSES`, and above.
    """
    ends = [*CLASSES, math.inf]
    counts = Counter(bisect_left(ends, gap) for gaps in found for gap in gaps.cpu)
    return " ".join(f"{counts[number]:>6}" for number in range(len(ends)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds

    print(f"CPython {sys.version.split()[0]}, {MEMBERS} members, {rounds} rounds; milliseconds\n")
    ends = " ".join(f"{f'<={end:g}':>6}" for end in CLASSES)
    print(f"{'':<54} {'longest gap: median (worst)':^31}")
    print(f"{'':<45} {'took':>5} {'CPU':>14} {'clock':>15}   gaps by CPU: {ends} {'more':>6}")
    for backend in ("asyncio", "trio"):
        for name, placement in PLACEMENTS.items():
            replaced = MEMBERS if "all replaced" in name else 1
            runs = [anyio.run(measure, placement, replaced, backend=backend) for _ in range(rounds)]
            took = statistics.median([seconds for _, _, seconds in runs]) * 1e3
            for what, found in (
                (f"{backend}, {name}", [changing for changing, _, _ in runs]),
                ("    idle", [idle for _, idle, _ in runs]),
            ):
                cpu = [max(gaps.cpu) for gaps in found]
                clock = [max(gaps.clock) for gaps in found]
                print(
                    f"{what:<45} {took:>5.0f} {statistics.median(cpu):>6.2f} ({max(cpu):5.2f})"
                    f"{statistics.median(clock):>8.2f} ({max(clock):5.2f})"
                    f"                {histogram(found)}"
                )


if __name__ == "__main__":
    main()
