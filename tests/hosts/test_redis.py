"""
A pool of clients of real Redis servers, of which one is killed.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import knet
from tests.fakes import FakeResolver

from .cluster import QUICK
from .documents import example

pytestmark = pytest.mark.anyio

REDIS = shutil.which("redis-server")
SERVERS = 3
KEYS = [f"user-{n}" for n in range(60)]


@pytest.fixture
def anyio_backend() -> str:
    """
    redis-py has a client for asyncio.
    """
    return "asyncio"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    """
    Redis servers by their ports.
    """
    if REDIS is None:
        pytest.skip("redis-server is not installed")
    running: dict[int, subprocess.Popen[bytes]] = {}
    try:
        for _ in range(SERVERS):
            start(running, tmp_path)
        yield running
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def start(running: dict[int, subprocess.Popen[bytes]], folder: Path) -> int:
    """
    Start one more, and return its port.
    """
    assert REDIS is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    options = ["--save", "", "--bind", "127.0.0.1", "--daemonize", "no", "--dir", str(folder)]
    command = [REDIS, "--port", str(port), *options]
    running[port] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    return port


async def test_no_read_fails_while_servers_come_and_go(
    servers: dict[int, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """
    The program of docs/recipes.md.
    """
    module = example("A pool of Redis clients", "recipes").run("example")

    def pod(port: int) -> knet.Endpoint:
        return knet.Endpoint(f"cache-{port}", "127.0.0.1", port)

    for port in servers:
        await until_it_listens(port)
    resolver = FakeResolver(*map(pod, servers))
    ring = knet.Ring("cache.prod", resolver=resolver, refresh=QUICK)
    async with ring, knet.Pool(ring, module["connect"]) as pool:
        cache = module["Cache"](pool)
        reads, dead = 0, next(iter(servers))

        async def load() -> None:
            nonlocal reads
            for key in KEYS * 4:
                await cache.get(key)
                reads += 1

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(load)
                while reads < 200:
                    await anyio.sleep(0.001)
                servers[dead].kill()
                servers[dead].wait()
            new = start(servers, tmp_path)
            await until_it_listens(new)
            resolver.answer(*(pod(port) for port in servers if port != dead))
            while pod(new) not in ring.snapshot.endpoints or len(ring.snapshot) != SERVERS:
                await anyio.sleep(0.01)
            for key in KEYS:
                assert await cache.count(key) == 1
        assert len(pool) == SERVERS
        assert ring.stats().in_flight == 0


async def test_a_killed_redis_costs_no_read_and_repeats_no_increment(
    servers: dict[int, subprocess.Popen[bytes]],
) -> None:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError

    def connect(pod: knet.Endpoint) -> Redis:
        # By its defaults it would send a command again, up to eleven times.
        return Redis(host=pod.address, port=pod.port or 6379, retry=Retry(NoBackoff(), 0))

    async with knet.Ring.static([f"127.0.0.1:{port}" for port in servers]) as ring:
        for port in servers:
            await until_it_listens(port)
        async with knet.Pool(ring, connect) as pool:

            async def increment(key: str) -> int:
                async def incr(client: Redis) -> int:
                    count: int = await client.incr(key)
                    return count

                return await pool.call(key, incr)

            async def read(key: str) -> object:
                async def get(client: Redis) -> object:
                    value: object = await client.get(key)
                    return value

                return await pool.call(key, get, retry_on=knet.may_repeat)

            assert [await increment(key) for key in KEYS] == [1] * len(KEYS)
            assert len(pool) == SERVERS

            dead = ring.snapshot.endpoints[0]
            assert dead.port is not None
            servers[dead.port].send_signal(signal.SIGKILL)
            servers[dead.port].wait()
            mine = [key for key in KEYS if ring.snapshot.get(key) is dead]
            # On the connection that it had, nobody can say whether the command was done.
            with pytest.raises(RedisConnectionError):
                await increment(mine[0])
            # From then on the next server has its keys, and nothing is counted twice.
            expected = [1 if key in mine else 2 for key in KEYS]
            assert [await increment(key) for key in KEYS] == expected
            assert [await read(key) for key in KEYS] == [str(n).encode() for n in expected]
            assert list(ring.ejected) == [dead]

            # A read goes on by itself, whatever became of its connection.
            other = next(e for e in ring.snapshot.endpoints if e not in ring.ejected)
            assert other.port is not None
            servers[other.port].send_signal(signal.SIGKILL)
            servers[other.port].wait()
            for key in KEYS:
                await read(key)
            assert ring.stats().in_flight == 0


async def until_it_listens(port: int) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                return
            except OSError:
                await anyio.sleep(0.05)
