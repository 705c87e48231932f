"""
What serving costs beside a pick, and what a killed pod costs those who use it.

    python -m benchmarks.serving

The first half are ratios within one run. The second kills one of five real processes with SIGKILL under
20 clients, each of which opens a connection for every request, on asyncio and on trio.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from knet import Endpoint, Ring, may_repeat

KEYS = [f"user-{n}" for n in range(1000)]
PODS = 5
CLIENTS = 20
SECONDS = 6.0
KILLED_AFTER = 3.0

SERVER = """
import asyncio, sys
async def answer(reader, writer):
    try:
        line = await reader.readline()
        await asyncio.sleep(0.002)
        writer.write(line)
        await writer.drain()
    except OSError:
        pass
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]), backlog=1000)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def costs() -> None:
    """
    Show how many picks each way to serve takes.
    """
    names = [f"10.0.0.{n}:80" for n in range(10)]
    async with Ring.static(names) as ring:
        get = ring.snapshot.get

        async def pick() -> None:
            for key in KEYS:
                get(key)

        async def awaited() -> None:
            for key in KEYS:
                await ring.get(key)

        async def rounds() -> None:
            for key in KEYS:
                async with ring.attempts(key):
                    pass

        async def places() -> None:
            for key in KEYS:
                async with ring.acquire(key):
                    pass

        async def nothing(_: Endpoint) -> None:
            pass

        async def calls() -> None:
            for key in KEYS:
                await ring.call(key, nothing)

        floor = await seconds(pick)
        print(f"snapshot.get                    {1e9 * floor:6.0f} ns")
        for name, function in (
            ("await ring.get", awaited),
            ("one round of attempts", rounds),
            ("one acquire and release", places),
            ("one call", calls),
        ):
            print(f"{name:30} {await seconds(function) / floor:6.1f} x")
        for pod in ring.snapshot.endpoints[:3]:
            ring.eject(pod)
        await anyio.sleep(0.5)
        for name, function in (
            ("await ring.get, 3 of 10 out", awaited),
            ("one round, 3 of 10 out", rounds),
            ("one acquire, 3 of 10 out", places),
        ):
            print(f"{name:30} {await seconds(function) / floor:6.1f} x")


async def seconds(function: Callable[[], Awaitable[None]]) -> float:
    """
    Return how long one of its thousand takes, at best.
    """
    best = float("inf")
    for _ in range(15):
        began = time.perf_counter()
        await function()
        best = min(best, time.perf_counter() - began)
    return best / len(KEYS)


async def fetch(key: str, pod: Endpoint) -> bytes:
    """
    Send one request, and return its answer.
    """
    async with await anyio.connect_tcp(pod.address, pod.port or 0) as stream:
        await stream.send(f"{key}\n".encode())
        return await stream.receive()


async def killed(*, kill: bool) -> None:
    """
    Show what became of the requests of some seconds.
    """
    ports = free_ports()
    servers = started(ports)
    try:
        took: list[tuple[float, float]] = []
        failed: list[BaseException] = []
        async with Ring.static([f"127.0.0.1:{port}" for port in ports]) as ring:
            end = time.perf_counter() + SECONDS
            began = time.perf_counter()

            async def client(seed: int) -> None:
                chance = random.Random(seed)
                while (start := time.perf_counter()) < end:
                    key = chance.choice(KEYS)
                    try:
                        await ring.call(key, partial(fetch, key), retry_on=may_repeat)
                    except Exception as error:  # noqa: BLE001 - counted
                        failed.append(error)
                    took.append((start - began, time.perf_counter() - start))

            async with anyio.create_task_group() as tasks:
                for seed in range(CLIENTS):
                    tasks.start_soon(client, seed)
                await anyio.sleep(KILLED_AFTER)
                if kill:
                    os.kill(servers[0].pid, signal.SIGKILL)
        after = sorted(each for at, each in took if at >= KILLED_AFTER)
        before = sorted(each for at, each in took if at < KILLED_AFTER)
        what = "one killed" if kill else "none killed"
        print(
            f"{what:12} {len(took):6} requests, {len(failed)} failed; p99 before "
            f"{1e3 * before[int(0.99 * len(before))]:5.1f} ms, after {1e3 * after[int(0.99 * len(after))]:5.1f} ms"
        )
        for error in failed[:3]:
            print("   ", repr(error))
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def started(ports: list[int]) -> list[subprocess.Popen[bytes]]:
    """
    Return a server at each of *ports*, which listens.
    """
    servers = [
        subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE)
        for port in ports
    ]
    for server in servers:
        assert server.stdout is not None
        server.stdout.readline()
    return servers


def free_ports(count: int = PODS) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> None:
    for backend in ("asyncio", "trio"):
        print(f"-- {backend}")
        anyio.run(costs, backend=backend)
        anyio.run(partial(killed, kill=False), backend=backend)
        anyio.run(partial(killed, kill=True), backend=backend)


if __name__ == "__main__":
    import logging

    logging.getLogger("knet").addHandler(logging.NullHandler())
    main()
