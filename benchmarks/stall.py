"""
How long does a ring hold up the event loop while its members change?

    python -m benchmarks.stall [--rounds 5] [--members 1000 10000]

A task does nothing but `sleep(0)` and notes how long each took. Meanwhile one of the endpoints of a
`knet.Ring` is replaced, or all of them: it compares, decides, builds, swaps the snapshot, logs and
releases the old one. The longest gap is what a request would have waited.

Gaps are measured in CPU seconds of the thread: what the loop itself was busy with, whatever else the
machine did. Divided by the floor, the time to encode and hash a key in a function, the longest should
stay below 10,000 at 1,000 members and 20,000 at 10,000. The garbage collector is off and what is there
is frozen: how long its pauses are depends on the whole program, and here its largest part would be
the notes on gaps.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from array import array
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

import knet
from benchmarks.cases import KEYS, PLACEMENTS, calls, floor, names
from knet.hashring import HashRing

# Floors that the longest gap may take, by members.
SIZES = {1000: 10_000, 10_000: 20_000}
MOST_GAPS = 1_000_000
# Ask when told to, and believe at once.
POLICY = knet.RefreshPolicy(interval=3600.0, min_interval=0.001, confirm=1)
ALL_REPLACED = "HashRing, all replaced"


class Gaps:
    """
    Milliseconds of CPU between the turns of a loop.
    """

    def __init__(self) -> None:
        # Made beforehand: a list would have to be copied now and then as it grows.
        self._cpu = array("d", bytes(8 * MOST_GAPS))
        self._count = 0

    @property
    def cpu(self) -> array[float]:
        return self._cpu[: self._count]

    async def during(self, work: Callable[[], Awaitable[object]]) -> None:
        """
        Go round the loop until *work* is done.
        """
        done = False

        async def watch() -> None:
            cpus = self._cpu
            count = 0
            cpu = time.thread_time()
            while not done and count < MOST_GAPS:
                await checkpoint()
                now = time.thread_time()
                cpus[count] = (now - cpu) * 1e3
                count += 1
                cpu = now
            self._count = count

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await checkpoint()
            await work()
            done = True


async def measure(placement: Callable[..., Any], members: int, replaced: int) -> tuple[Gaps, float]:
    """
    Return the gaps while a ring changes, and how many seconds that took.
    """
    resolver = knet.StaticResolver(names(members))
    async with knet.Ring(
        "benchmark", resolver=resolver, placement=placement, refresh=POLICY
    ) as ring:
        resolver.set(names(replaced, family=1) + names(members)[replaced:])
        await anyio.sleep(0.01)
        changing = Gaps()
        gc.collect()
        gc.freeze()
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
        assert len(ring.snapshot) == members, "the ring is not what it should be"
        gc.enable()
        gc.unfreeze()
    return changing, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--members", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--placements", nargs="*", default=[*PLACEMENTS, ALL_REPLACED])
    options = parser.parse_args()

    time_floor = calls(floor, KEYS)
    print(f"CPython {sys.version.split()[0]}, medians of {options.rounds} rounds (the worst)\n")
    print("| members | loop | placement | took, ms | longest gap, ms of CPU | floors | floor, ns |")
    print("| ---: | --- | --- | ---: | ---: | ---: | ---: |")
    for members in options.members:
        most = SIZES.get(members)
        for name in options.placements:
            placement = PLACEMENTS.get(name, HashRing)
            replaced = members if name == ALL_REPLACED else 1
            for backend in ("asyncio", "trio"):
                runs, floors = [], []
                for _ in range(options.rounds):
                    # In turns, since the machine is faster in one minute than in another.
                    floors.append(time_floor())
                    runs.append(anyio.run(measure, placement, members, replaced, backend=backend))
                    floors.append(time_floor())
                took = statistics.median([seconds for _, seconds in runs]) * 1e3
                gaps = [max(changing.cpu) for changing, _ in runs]
                gap, least = statistics.median(gaps), statistics.median(floors)
                shown = f"{gap / 1e3 / least:,.0f}"
                if most is not None and gap / 1e3 / least > most:
                    shown = f"**{shown}**"
                print(
                    f"| {members:,} | {backend} | {name} | {took:.0f} | {gap:.2f} ({max(gaps):.2f}) "
                    f"| {shown} | {least * 1e9:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
