"""
What does it cost to look again when nothing has changed?

    python -m benchmarks.refresh [--rounds 7]

The CPU that a refresh of 100 unchanged pods takes, over that of the bare DNS query on the same c-ares
channel: flushed as knet flushes it, since c-ares would answer from its cache otherwise, and without a look
at what came. All threads of the process count, c-ares has one of its own; the DNS server is another
process. Cases take turns; ratios are medians.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

import knet
from knet.resolver.cares import Engine, EngineSettings, _Box, open_engine

PODS = 100
SERVICE = "web.prod.svc.cluster.local"
TIMES = 50
# Never by itself, and as often as asked. Every refresh is then waited for in turn.
POLICY = knet.RefreshPolicy(interval=3600.0, min_interval=1e-6)
TARGET = 1.5

SERVER = f"""
import sys
from knet.testing import HeadlessService
with HeadlessService({SERVICE!r}, pods={PODS}, ttl=3600) as service:
    print(service.nameserver, flush=True)
    sys.stdin.read()
"""


def bare_query(engine: Engine) -> Callable[[str], Awaitable[object]]:
    """
    Ask c-ares for the addresses of a name and wait for them, by the shortest way on this loop.
    """
    driver: Any = engine.driver

    async def by_aiodns(name: str) -> object:
        return await driver.resolver.query_dns(name, "A")

    async def by_pycares(name: str) -> object:
        box = _Box(lambda: None)
        driver.ask(name, "A", box)
        await box.full.wait()
        return box.result

    return by_aiodns if hasattr(driver, "_resolver") else by_pycares


async def cpu_of(function: Callable[[], Awaitable[object]]) -> float:
    """
    Return the CPU seconds of one call, in all threads.
    """
    began = time.process_time()
    for _ in range(TIMES):
        await function()
    return (time.process_time() - began) / TIMES


async def measure(nameserver: str, rounds: int) -> dict[str, list[float]]:
    resolver = knet.Resolver(nameservers=[nameserver])
    async with knet.Ring(
        SERVICE, port=8080, family="ipv4", resolver=resolver, refresh=POLICY
    ) as ring:
        with open_engine(EngineSettings((nameserver,))) as engine:
            ask = bare_query(engine)

            def flush_and_ask() -> Awaitable[object]:
                engine.flush()
                return ask(f"{SERVICE}.")

            cases: dict[str, Callable[[], Awaitable[object]]] = {
                "bare query": flush_and_ask,
                "Resolver.resolve": lambda: resolver.resolve(SERVICE, port=8080, family="ipv4"),
                "Ring.refresh": ring.refresh,
            }
            times: dict[str, list[float]] = {name: [] for name in cases}
            for number in range(-1, rounds):
                for name, case in list(cases.items())[:: -1 if number % 2 else 1]:
                    gc.collect()
                    taken = await cpu_of(case)
                    if number >= 0:  # the round before the first warms up
                        times[name].append(taken)
        assert ring.snapshot.generation == 1, "the pods changed"
        assert len(ring.snapshot) == PODS, "some pods are missing"
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds

    print(f"CPython {sys.version.split()[0]}, {PODS} pods, medians of {rounds} rounds\n")
    print("| | µs of CPU | over the bare query | target | |\n| --- | ---: | ---: | ---: | --- |")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        nameserver = server.stdout.readline().strip()
        for backend in ("asyncio", "trio"):
            times = anyio.run(measure, nameserver, rounds, backend=backend)
            for name, taken in times.items():
                pairs = zip(taken, times["bare query"], strict=True)
                ratio = statistics.median([one / other for one, other in pairs])
                verdict = "holds" if ratio <= TARGET else "**missed**"
                target = f"<= {TARGET} | {verdict}" if name == "Ring.refresh" else " | "
                print(
                    f"| {name}, {backend} | {statistics.median(taken) * 1e6:.0f} | {ratio:.2f} | {target} |"
                )
        server.communicate()


if __name__ == "__main__":
    main()
