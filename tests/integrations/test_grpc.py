"""
`RingChannels`, with real servers of gRPC. `grpc.aio` is asyncio's.
"""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import pytest
import trustme

from knet import ConfigError, NoEndpoints, RefreshPolicy, Ring, RingClosed, RingMisused
from knet.integrations.grpc import NotConnected, RingChannels
from tests.fakes import FakeResolver

pytestmark = pytest.mark.anyio

SERVICE = "web.prod"
QUICK = RefreshPolicy(interval=0.05, min_interval=0.02, retry=0.05, confirm=1, jitter=0)
KEYS = [f"user-{n}" for n in range(30)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server(grpc.GenericRpcHandler):  # type: ignore[misc]
    """
    One pod: it answers with its name and the authority that was asked for.

    Attributes:
        seen: How many calls.
        gate: Calls of `/Wait` end once it is set.
    """

    def __init__(self, credentials: Any = None, port: int = 0) -> None:
        self.seen = 0
        self.gate = asyncio.Event()
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers([self])
        where = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self.server.add_insecure_port(where)
        else:
            self.port = self.server.add_secure_port(where, credentials)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        async def answer(request: bytes, context: Any) -> bytes:
            self.seen += 1
            if method == "/web/Wait":
                await self.gate.wait()
            if method == "/web/Unavailable":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "mine")
            return f"{self.name} {request.decode()}".encode()

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            self.seen += 1
            for number in range(3):
                yield str(number).encode()

        if method == "/web/Stream":
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def served(
    count: int = 3, *, credentials: Any = None, **options: Any
) -> AsyncIterator[tuple[RingChannels, Ring, list[Server]]]:
    """
    Give channels, their ring, and servers of which the first is the one of "user-42".
    """
    servers = [Server(credentials) for _ in range(count)]
    for server in servers:
        await server.server.start()
    try:
        async with (
            Ring.static([server.name for server in servers], service=SERVICE) as ring,
            RingChannels(ring, **options) as channels,
        ):
            first = [str(pod) for pod in ring.snapshot.get_n("user-42", count)]
            yield channels, ring, sorted(servers, key=lambda server: first.index(server.name))
    finally:
        for server in servers:
            server.gate.set()
            await server.server.stop(None)


async def ask(channels: RingChannels, key: str, method: str = "Buy") -> str:
    async with channels.channel(key) as channel:
        reply: bytes = await channel.unary_unary(f"/web/{method}")(key.encode(), timeout=10)
    return reply.decode()


async def stop(server: Server, channels: RingChannels) -> None:
    """
    Stop a server, and wait until its channel knows.
    """
    async with channels.channel("user-42") as channel:
        await server.server.stop(None)
        with anyio.fail_after(10):
            while channel.get_state() is grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


async def test_every_call_goes_to_the_pod_of_its_key() -> None:
    async with served() as (channels, ring, _):
        for key in KEYS:
            assert await ask(channels, key) == f"{ring.snapshot.get(key)} {key}"
        assert ring.stats().in_flight == 0
        assert repr(channels) == f"<RingChannels of {ring!r}>"


async def test_a_dead_pod_costs_no_call() -> None:
    """
    Those that begin after its death was seen; the next pod has its keys.
    """
    async with served() as (channels, ring, [first, second, _]):
        assert await ask(channels, "user-42") == f"{first.name} user-42"
        await stop(first, channels)
        for _ in range(5):
            assert await ask(channels, "user-42") == f"{second.name} user-42"
        assert [str(pod) for pod in ring.ejected] == [first.name]
        assert first.seen == 1


async def test_a_pod_that_does_not_answer_costs_the_connect_timeout_twice() -> None:
    with socket.socket() as silent:  # bound, and nobody listens or refuses: its backlog is full
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        full = [socket.socket() for _ in range(4)]
        try:
            for each in full:
                each.setblocking(False)
                each.connect_ex(silent.getsockname())
            name = f"127.0.0.1:{silent.getsockname()[1]}"
            async with (
                served(1) as (_, _, [server]),
                Ring.static([name, server.name], service=SERVICE) as ring,
                RingChannels(ring, connect_timeout=0.2) as channels,
            ):
                key = next(k for k in KEYS if str(ring.snapshot.get(k)) == name)
                for count in range(3):
                    assert len(ring.ejected) == (count == 2)
                    assert await ask(channels, key) == f"{server.name} {key}"
        finally:
            for each in full:
                each.close()


async def test_a_status_proves_nothing() -> None:
    """
    A handler that says UNAVAILABLE was there: nobody else is asked, and nobody is ejected.
    """
    async with served() as (channels, ring, [first, second, _]):
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError, match="mine"):
                await ask(channels, "user-42", "Unavailable")
        assert first.seen == 3
        assert second.seen == 0
        assert not ring.ejected
        assert ring.stats().in_flight == 0


async def test_all_pods_dead_says_so() -> None:
    async with served() as (channels, ring, servers):
        for server in servers:
            await server.server.stop(None)
        with pytest.raises(NotConnected, match="could not be connected to") as caught:
            await ask(channels, "user-42")
        assert len(caught.value.__notes__) == 2
        assert not caught.value.timed_out
        assert ring.stats().in_flight == 0


async def test_a_stream_counts_until_its_block_ends() -> None:
    async with served() as (channels, ring, _), channels.channel("user-42") as channel:
        told = [each async for each in channel.unary_stream("/web/Stream")(b"", timeout=10)]
        assert told == [b"0", b"1", b"2"]
        assert ring.stats().in_flight == 1


async def test_a_cancelled_call_gives_its_place_back() -> None:
    async with served() as (channels, ring, [first, _, _]):
        with anyio.move_on_after(0.1) as scope:
            await ask(channels, "user-42", "Wait")
        assert scope.cancelled_caught
        assert ring.stats().in_flight == 0
        assert first.seen == 1
        assert not ring.ejected


async def test_a_channel_is_drained_before_it_is_closed() -> None:
    """
    A call that is under way when its pod leaves the ring ends well.
    """
    servers = [Server() for _ in range(2)]
    for server in servers:
        await server.server.start()
    pods = Ring.static([server.name for server in servers])
    async with pods:
        endpoints = pods.snapshot.endpoints
    resolver = FakeResolver(*endpoints)
    async with (
        Ring(SERVICE, resolver=resolver, refresh=QUICK) as ring,
        RingChannels(ring) as channels,
    ):
        pod = ring.snapshot.get("user-42")
        server = next(server for server in servers if server.port == pod.port)
        call = asyncio.ensure_future(ask(channels, "user-42", "Wait"))
        with anyio.fail_after(10):
            while not server.seen:
                await anyio.sleep(0.01)
            resolver.answer(*(e for e in endpoints if e != pod))
            while len(ring.snapshot.endpoints) == 2:
                await anyio.sleep(0.01)
            await anyio.sleep(0.05)
        server.gate.set()
        assert await call == f"{server.name} user-42"
    for server in servers:
        await server.server.stop(None)


async def test_closing_gives_calls_their_grace_and_is_no_cancellation_after_that() -> None:
    """
    gRPC would cancel a caller whom nobody has cancelled.
    """
    async with served(grace=0.1) as (channels, ring, [first, _, _]):
        call = asyncio.ensure_future(ask(channels, "user-42", "Wait"))
        with anyio.fail_after(10):
            while not first.seen:
                await anyio.sleep(0.01)
        await channels.aclose()
        with pytest.raises(RingClosed, match="was closed under a call for 'user-42'"):
            await call
        assert ring.stats().in_flight == 0
        with pytest.raises(RingClosed):
            await ask(channels, "user-42")


async def test_tls_verifies_the_services_name() -> None:
    authority = trustme.CA()
    for name, is_right in ((SERVICE, True), ("other.prod", False)):
        issued = authority.issue_cert(name)
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        server = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])
        client = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        async with served(2, credentials=server) as (_, ring, servers):
            async with RingChannels(ring, credentials=client) as channels:
                if is_right:
                    assert await ask(channels, "user-42") == f"{servers[0].name} user-42"
                else:
                    with pytest.raises(NotConnected):
                        await ask(channels, "user-42")
            if not is_right:
                # Whoever says by which name it is to be known is right.
                async with RingChannels(ring, credentials=client, authority=name) as channels:
                    ring.restore(ring.snapshot.endpoints[0])
                    ring.restore(ring.snapshot.endpoints[1])
                    assert "user-42" in await ask(channels, "user-42")


async def test_a_pod_that_comes_back_at_its_address_is_found_again() -> None:
    async with served(1) as (channels, _, [server]):
        assert await ask(channels, "user-42")
        await stop(server, channels)
        with pytest.raises(NotConnected):
            await ask(channels, "user-42")
        again = Server(port=server.port)
        await again.server.start()
        assert await ask(channels, "user-42") == f"{server.name} user-42"
        await again.server.stop(None)


async def test_what_cannot_be_used_says_so() -> None:
    ring = Ring.static(["127.0.0.1:1"])
    for options, error, what in (
        ({"n": 0}, ConfigError, "n must be"),
        ({"bound": 1}, ConfigError, "above 1"),
        ({"connect_timeout": 0}, ConfigError, "connect_timeout must be above 0"),
        ({"grace": -1}, ConfigError, "grace must be at least 0"),
    ):
        with pytest.raises(error, match=what):
            RingChannels(ring, **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="of a Ring, not of a str"):
        RingChannels("web.prod")  # type: ignore[arg-type]
    async with ring:
        with pytest.raises(RingMisused, match="was not entered"):
            await ask(RingChannels(ring), "user-42")
    async with Ring.static(["127.0.0.1"]) as bare, RingChannels(bare) as channels:
        with pytest.raises(ConfigError, match="has no port to connect to"):
            await ask(channels, "user-42")
    resolver = FakeResolver()
    resolver.answer()
    empty = Ring(SERVICE, resolver=resolver, refresh=QUICK, require_endpoints=False)
    async with empty, RingChannels(empty) as channels:
        with pytest.raises(NoEndpoints):
            await ask(channels, "user-42")


SERVER = """
import asyncio, sys, grpc, grpc.aio
class Pod(grpc.GenericRpcHandler):
    def service(self, details):
        async def answer(request, context):
            await asyncio.sleep(0.002)
            return request
        return grpc.unary_unary_rpc_method_handler(answer)
async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Pod()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
"""


@pytest.fixture
def processes() -> Iterator[dict[int, subprocess.Popen[str]]]:
    """
    Servers by their ports.
    """
    running = [
        subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    try:
        yield {int(each.stdout.readline()): each for each in running if each.stdout}
    finally:
        for process in running:
            process.kill()
            process.communicate()


@pytest.mark.long
async def test_a_killed_process_costs_no_call_that_began_after_its_death_was_seen(
    processes: dict[int, subprocess.Popen[str]],
) -> None:
    """
    Under 20 clients. Those under way leave as they are, since nobody can say whether they were done.
    """
    async with (
        Ring.static([f"127.0.0.1:{port}" for port in processes], service=SERVICE) as ring,
        RingChannels(ring) as channels,
    ):
        before, after = 0, 0
        failed_after: list[BaseException] = []
        is_over = False

        async def client(seed: int) -> None:
            nonlocal before, after
            chance = random.Random(seed)
            while not is_over:
                was_seen = bool(ring.ejected)
                try:
                    await ask(channels, f"user-{chance.randrange(1000)}")
                except grpc.aio.AioRpcError as error:
                    if was_seen:
                        failed_after.append(error)
                before, after = before + (not was_seen), after + was_seen

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for seed in range(20):
                    tasks.start_soon(client, seed)
                while before < 500:
                    await anyio.sleep(0.01)
                next(iter(processes.values())).kill()
                while after < 500:
                    await anyio.sleep(0.01)
                is_over = True
        assert not failed_after
        assert [pod.port for pod in ring.ejected] == [next(iter(processes))]
        assert ring.stats().in_flight == 0


async def test_what_fails_in_a_block_speaks_against_nobody() -> None:
    """
    It may be of another pod, of another service.
    """
    async with served() as (channels, ring, _):
        async with Ring.static(["127.0.0.1:9"]) as other, RingChannels(other) as dead:
            for _ in range(3):
                with pytest.raises(NotConnected):
                    async with channels.channel("user-42"), dead.channel("user-42"):
                        pass
        assert not ring.ejected
        assert ring.stats().in_flight == 0
