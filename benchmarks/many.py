"""
What do ten thousand rings cost the program that has them?

    python -m benchmarks.many [--rings 10000] [--seconds 30]

All on one event loop, at the default of one lookup in 5 s, once with a name each and once all with the same
name. Counted are the CPU of the whole process once all have started, threads, queries, memory, and how late
a task is that picks a key every 10 ms. Beside them: the same task on the same loop without a ring; and as many
bare queries, spread evenly over the same time by tasks that do nothing else, which is what DNS alone costs here. The
DNS server is another process; it answers every name with the same ten pods, TTL 5.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio

import knet
from benchmarks.refresh import bare_query
from knet.hashring import HashRing
from knet.resolver.cares import EngineSettings, open_engine

TARGET = 0.4
EVERY = 0.01

# Reads the question and repeats it before ten A records: a DNS server that is no bottleneck.
SERVER = """
import socket, struct, sys, threading
pods = b"".join(
    b"\\xc0\\x0c" + struct.pack("!HHIH4B", 1, 1, 5, 4, 10, 0, 0, n) for n in range(1, 11)
)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
server.bind(("127.0.0.1", 0))
asked = 0

def tell():
    for line in sys.stdin:
        print(asked, flush=True)
    server.sendto(b"", server.getsockname())

threading.Thread(target=tell).start()
print("127.0.0.1:%d" % server.getsockname()[1], flush=True)
while True:
    query, client = server.recvfrom(4096)
    if not query:
        break
    asked += 1
    end = query.index(b"\\0", 12) + 5
    head = struct.pack("!2s5H", query[:2], 0x8580, 1, 10, 0, 0)
    server.sendto(head + query[12:end] + pods, client)
"""


@asynccontextmanager
async def open_rings(
    names: Sequence[str], resolver: knet.Resolver
) -> AsyncIterator[list[knet.Ring]]:
    """
    Open a ring for each of *names*.
    """
    # Tables of 4,096 slots: 32 KB each, where the usual half a megabyte would be 5 GB in all.
    small = partial(HashRing, slots=4096)
    rings = [
        knet.Ring(name, resolver=resolver, family="ipv4", placement=small, start_timeout=300)
        for name in names
    ]
    async with anyio.create_task_group() as tasks:
        for ring in rings:
            tasks.start_soon(ring.start)
    try:
        yield rings
    finally:
        async with anyio.create_task_group() as tasks:
            for ring in rings:
                tasks.start_soon(ring.aclose)


@asynccontextmanager
async def ask_bare(names: Sequence[str], nameserver: str) -> AsyncIterator[None]:
    """
    Ask for each of *names* once an interval, and do nothing with what comes.
    """
    interval = knet.RefreshPolicy().interval * (1 + knet.RefreshPolicy().jitter / 2)
    with open_engine(EngineSettings((nameserver,))) as engine:
        ask = bare_query(engine)

        async def repeat(name: str, number: int) -> None:
            due = anyio.current_time() + interval * number / len(names)
            while True:
                await anyio.sleep_until(due)
                await ask(name)
                due += interval

        async with anyio.create_task_group() as tasks:
            for number, name in enumerate(names):
                tasks.start_soon(repeat, f"{name}.svc.cluster.local.", number)
            yield
            tasks.cancel_scope.cancel()


async def lateness(ring: knet.Ring, seconds: float) -> list[float]:
    """
    Pick a key every 10 ms; return by how much each pick came late.
    """
    late = []
    end = anyio.current_time() + seconds
    while (due := anyio.current_time() + EVERY) < end:
        await anyio.sleep_until(due)
        await ring.get("user-42")
        late.append(anyio.current_time() - due)
    return late


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def resident() -> float:
    """
    Megabytes of memory that this process has now.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure(backend: str, rings: int, seconds: float, server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    nameserver = server.stdout.readline().strip()

    def queries() -> int:
        print(file=server.stdin, flush=True)
        return int(server.stdout.readline())  # type: ignore[union-attr]

    resolver = knet.Resolver(nameservers=[nameserver])
    each = [f"web-{n}.prod" for n in range(rings)]
    at_first, small = threads(), resident()

    async def watch(title: str, ring: knet.Ring, *, idle: bool = False) -> None:
        await anyio.sleep(0 if idle else 2 * knet.RefreshPolicy().interval)
        asked, cpu, began = queries(), time.process_time(), time.perf_counter()
        late = await lateness(ring, seconds)
        took = time.perf_counter() - began
        share, rate = (time.process_time() - cpu) / took, (queries() - asked) / took
        more = (threads() - at_first, resident() - small)
        print(row(backend, title, share, rate, *more, late), flush=True)

    async with knet.Ring.static(["10.0.0.1"]) as alone:
        await watch("no ring", alone, idle=True)
        async with ask_bare(each, nameserver):
            await watch("as many bare queries", alone)
    for title, names in (
        (f"{rings} rings, a name each", each),
        (f"{rings} rings, one name", ["web.prod"] * rings),
    ):
        async with open_rings(names, resolver) as opened:
            await watch(title, opened[0])
            assert {ring.state for ring in opened} == {"fresh"}, "not every ring was refreshed"


def row(
    backend: str, title: str, share: float, rate: float, more: int, memory: float, late: list[float]
) -> str:
    median, p99 = statistics.median(late) * 1e3, statistics.quantiles(late, n=100)[98] * 1e3
    verdict = "" if "rings" not in title else " holds" if share <= TARGET else " **missed**"
    return (
        f"| {backend} | {title} | {share:.0%}{verdict} | {more} | {rate:.1f} | {memory:.0f} "
        f"| {median:.2f} | {p99:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rings", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()

    print(f"CPython {sys.version.split()[0]}; at most {TARGET:.0%} of a core is the target\n")
    print("| | | of a core | threads more | queries/s | MB more | late, median ms | p99 ms |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for backend in ("asyncio", "trio"):
        with subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            anyio.run(measure, backend, given.rings, given.seconds, server, backend=backend)
            server.communicate()


if __name__ == "__main__":
    main()
