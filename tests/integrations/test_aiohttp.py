"""
aiohttp's client by way of a ring, and rings in its applications. aiohttp is asyncio's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import knet
from knet import ConfigError, NoEndpoints, Ring, RingClosed
from knet.integrations.aiohttp import (
    ExchangeBroken,
    ring_context,
    ring_middleware,
    ring_websocket,
)
from tests.fakes import FakeResolver

from .pods import FAULTS, Pod, pods

pytestmark = pytest.mark.anyio

SERVICE = "web.prod.svc.cluster.local"
SPELLINGS = ["web.prod", "web.prod.svc", SERVICE, f"{SERVICE}."]
KEYS = [f"user-{n}" for n in range(40)]
QUICK = knet.RefreshPolicy(interval=0.05, min_interval=0.02, retry=0.05, confirm=1, jitter=0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ring_of(*there: Pod) -> Ring:
    return Ring(SERVICE, resolver=FakeResolver(*(pod.endpoint for pod in there)), refresh=QUICK)


@asynccontextmanager
async def served(
    count: int = 3, timeout: float = 5.0, **options: Any
) -> AsyncIterator[tuple[Callable[..., Any], Ring, list[Pod]]]:
    """
    Give what sends a request for a key, its ring, and pods of which the first is the one of "user-42".
    """
    limit = aiohttp.ClientTimeout(sock_read=timeout, sock_connect=timeout)
    async with (
        pods(count) as there,
        ring_of(*there) as ring,
        aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        first = ring.snapshot.get_n("user-42", count)

        def send(method: str, url: str, key: Any = "user-42", **more: Any) -> Any:
            middleware = ring_middleware(ring, key=key, **options)
            return session.request(method, url, middlewares=[middleware], **more)

        yield send, ring, sorted(there, key=lambda pod: first.index(pod.endpoint))


async def text(request: Any) -> str:
    async with request as response:
        told: str = await response.text()
        return told


async def test_every_request_goes_to_the_pod_of_its_key() -> None:
    """
    Whatever the spelling; and the caller and the pod see the service.
    """
    async with served() as (send, ring, there):
        for number, name in enumerate(KEYS):
            url = f"http://{SPELLINGS[number % len(SPELLINGS)]}:8080/x?a=b"
            async with send("GET", url, name) as response:
                assert await response.text() == ring.snapshot.get(name).name
                assert str(response.url) == url
        assert ring.stats().in_flight == 0
        assert all(seen.headers["host"].startswith("web.prod") for seen in there[0].seen)
        assert all(seen.path == "/x?a=b" for pod in there for seen in pod.seen)


async def test_two_hundred_at_once_meet_their_own_pods() -> None:
    async with served() as (send, ring, _):

        async def ask(name: str) -> bool:
            return (
                await text(send("GET", "http://web.prod/x", name)) == ring.snapshot.get(name).name
            )

        names = [f"user-{n}" for n in range(200)]
        assert all(await asyncio.gather(*map(ask, names)))


async def test_cookies_and_relative_redirects_are_the_services() -> None:
    async with served() as (send, _, there):
        await text(send("GET", "http://web.prod/cookie"))
        async with send("GET", "http://web.prod/redirect?/there") as response:
            assert str(response.url) == "http://web.prod/there"
        assert there[0].seen[-1].headers["cookie"] == "a=b"
        assert [len(pod.seen) for pod in there] == [3, 0, 0]


async def test_a_redirect_to_elsewhere_goes_there() -> None:
    async with pods(1) as [other], served(1) as (send, _, [pod]):
        url = f"http://127.0.0.1:{other.port}/there"
        async with send("GET", f"http://web.prod/redirect?{url}") as response:
            assert await response.text() == other.name
        assert len(pod.seen) == 1


async def test_the_key_may_be_a_function_of_the_request() -> None:
    async with served() as (send, ring, _):
        for name in KEYS[:10]:
            pod = ring.snapshot.get(f"/{name}")
            assert await text(send("GET", f"http://web.prod/{name}", knet.keys.path)) == pod.name
        with pytest.raises(ConfigError, match=r"gave none for http://web\.prod/x"):
            await text(send("GET", "http://web.prod/x", lambda _: None))


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_dead_pod_costs_no_request(method: str) -> None:
    async with served() as (send, ring, [first, second, _]):
        await first.refuse()
        for _ in range(3):
            assert await text(send(method, "http://web.prod/x")) == second.name
        assert list(ring.ejected) == [first.endpoint]


async def test_a_body_that_can_be_sent_once_goes_whole_to_the_next_pod() -> None:
    async with served() as (send, _, [first, second, _]):
        await first.refuse()

        async def body() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"abc"

        assert await text(send("POST", "http://web.prod/echo", data=body())) == "abcabcabc"
        assert len(second.seen) == 1


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("half", "garbage")])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_what_was_perhaps_done_is_repeated_only_where_it_may_be(
    fault: str, method: str
) -> None:
    """
    aiohttp's own second sending would have the first pod see it twice.
    """
    async with served(timeout=0.3) as (send, ring, [first, second, _]):
        first.fault = fault
        if method == "POST":
            with pytest.raises(aiohttp.ClientError) as caught:
                await text(send(method, "http://web.prod/x", data=b"body"))
            expected = aiohttp.SocketTimeoutError if fault == "silent" else ExchangeBroken
            assert isinstance(caught.value, expected)
            assert len(second.seen) == 0
        else:
            data = b"body" if method == "PUT" else None
            assert await text(send(method, "http://web.prod/x", data=data)) == second.name
            assert second.seen[0].body == (data or b"")
        assert len(first.seen) == 1
        assert not ring.ejected
        assert ring.stats().in_flight == 0


async def test_garbage_is_an_error_of_its_own() -> None:
    async with served() as (send, ring, [first, second, _]):
        first.fault = "garbage"
        with pytest.raises(aiohttp.ClientResponseError):
            await text(send("GET", "http://web.prod/x"))
        assert not second.seen
        assert ring.stats().in_flight == 0


async def test_a_put_whose_body_is_gone_is_sent_once() -> None:
    async with served() as (send, _, [first, second, _]):
        first.fault = "closed"

        async def body() -> AsyncIterator[bytes]:
            yield b"abc"

        with pytest.raises(ExchangeBroken, match=r"PUT http://web\.prod/x: ServerDisconnected"):
            await text(send("PUT", "http://web.prod/x", data=body()))
        assert len(first.seen) == 1
        assert not second.seen


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_answer_is_an_answer(status: int) -> None:
    async with served() as (send, ring, [_, second, _]):
        async with send("GET", f"http://web.prod/status?{status}") as response:
            assert response.status == status
        assert not second.seen
        assert not ring.ejected


async def test_all_pods_dead_raises_aiohttps_own_error() -> None:
    async with served() as (send, ring, there):
        for pod in there:
            await pod.refuse()
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await text(send("GET", "http://web.prod/x"))
        assert len(caught.value.__notes__) == 2
        assert ring.stats().in_flight == 0


async def test_a_response_counts_until_it_was_read_or_is_closed() -> None:
    async with served() as (send, ring, [first, _, _]):
        first.fault = "half"
        response = await send("GET", "http://web.prod/x")
        assert ring.stats().in_flight == 1
        response.close()
        assert ring.stats().in_flight == 0
        first.fault = ""
        response = await send("GET", "http://web.prod/x")
        await response.read()
        assert ring.stats().in_flight == 0


async def test_half_a_body_breaks_the_response_and_ejects_at_the_second_in_a_row() -> None:
    async with served() as (send, ring, [first, second, _]):
        first.fault = "half"
        for _ in range(2):
            assert not ring.ejected
            with pytest.raises(aiohttp.ClientPayloadError):
                await text(send("GET", "http://web.prod/x"))
            await anyio.sleep(0.01)
        assert list(ring.ejected) == [first.endpoint]
        assert not second.seen


async def test_a_cancelled_request_gives_its_place_back() -> None:
    async with served() as (send, ring, [_, second, _]):
        with anyio.move_on_after(0.1) as scope:
            await text(send("GET", "http://web.prod/wait"))
        assert scope.cancelled_caught
        assert ring.stats().in_flight == 0
        assert not second.seen
        assert not ring.ejected


async def test_a_sessions_total_counts_against_nobody() -> None:
    async with served() as (send, ring, there):
        for pod in there:
            pod.fault = "silent"
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await text(
                    send("GET", "http://web.prod/x", timeout=aiohttp.ClientTimeout(total=0.1))
                )
        assert not ring.ejected
        assert ring.stats().in_flight == 0


async def test_a_bound_spreads_a_hot_key() -> None:
    async with served(bound=1.25) as (send, ring, there):
        asked = [
            asyncio.ensure_future(text(send("GET", "http://web.prod/wait"))) for _ in range(12)
        ]
        with anyio.fail_after(5):
            while sum(len(pod.seen) for pod in there) < 12:
                await anyio.sleep(0.01)
        assert max(len(pod.seen) for pod in there) <= 5
        for pod in there:
            pod.gate.set()
        await asyncio.gather(*asked)
        assert ring.stats().in_flight == 0


@pytest.mark.parametrize("right", [True, False])
async def test_tls_asks_for_the_services_name_and_verifies_it(right: bool) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("web.prod" if right else "other.prod").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with (
        pods(2, tls=server) as there,
        ring_of(*there) as ring,
        aiohttp.ClientSession() as session,
    ):
        for name in KEYS[:4]:
            middleware = ring_middleware(ring, key=name)
            asked = text(session.get("https://web.prod/x", middlewares=[middleware], ssl=client))
            if right:
                assert await asked == ring.snapshot.get(name).name
            else:
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await asked
        assert not ring.ejected
        assert ring.stats().in_flight == 0


async def test_a_ring_that_is_closed_or_empty() -> None:
    async with served() as (send, ring, _):
        await ring.aclose()
        with pytest.raises(RingClosed):
            await text(send("GET", "http://web.prod/x"))
    resolver = FakeResolver()
    resolver.answer()
    empty = Ring(SERVICE, resolver=resolver, refresh=QUICK, require_endpoints=False)
    async with empty, aiohttp.ClientSession() as session:
        with pytest.raises(NoEndpoints):
            await text(
                session.get("http://web.prod/", middlewares=[ring_middleware(empty, key="k")])
            )


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"ring": "web.prod"}, TypeError, "of a Ring, not of a str"),
        ({"key": None}, TypeError, "key must be str, bytes or a function"),
        ({"n": 0}, ConfigError, "n must be"),
        ({"bound": 1}, ConfigError, "above 1"),
        ({"retry_on": 7}, TypeError, "retry_on must be"),
    ],
)
def test_bad_options_are_refused_at_once(
    options: dict[str, Any], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        ring_middleware(**{"ring": Ring.static(["10.0.0.1:80"]), "key": "k", **options})


# --- WebSockets


@asynccontextmanager
async def echoing(count: int) -> AsyncIterator[list[TestServer]]:
    """
    Servers that echo what a WebSocket says, with the `Host` that they were asked for.
    """

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{request.host} {message.data}")
        return socket

    servers = []
    for _ in range(count):
        app = web.Application()
        app.router.add_get("/rooms/{room}", echo)
        servers.append(TestServer(app, host="127.0.0.1"))
        await servers[-1].start_server()
    try:
        yield servers
    finally:
        for server in servers:
            await server.close()


async def test_a_websocket_is_opened_at_the_pod_of_its_key_or_the_next() -> None:
    async with echoing(3) as servers:
        ring = Ring.static([f"127.0.0.1:{server.port}" for server in servers], service=SERVICE)
        async with ring, aiohttp.ClientSession() as session:
            for is_first in (True, False):
                more: Any = {"headers": [("X-Mine", "1")]} if is_first else {"headers": None}
                async with ring_websocket(
                    session, ring, "room-7", "ws://web.prod:8080/rooms/7", heartbeat=30, **more
                ) as socket:
                    assert ring.stats().in_flight == 1
                    await socket.send_str("hello")
                    assert await socket.receive_str() == "web.prod:8080 hello"
                assert ring.stats().in_flight == 0
                if is_first:
                    dead = ring.snapshot.get("room-7")
                    await next(server for server in servers if server.port == dead.port).close()
            with pytest.raises(ConfigError, match=r"is not of the ring's service"):
                async with ring_websocket(session, ring, "room-7", "ws://other.prod/rooms/7"):
                    pass


async def test_a_handshake_that_is_refused_is_an_answer() -> None:
    async with echoing(2) as servers:
        ring = Ring.static([f"127.0.0.1:{server.port}" for server in servers], service=SERVICE)
        async with ring, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with ring_websocket(session, ring, "room-7", "ws://web.prod/nowhere"):
                    pass
            assert ring.stats().in_flight == 0
            assert not ring.ejected


# --- applications


async def test_a_ring_lives_with_its_application() -> None:
    """
    And another one with the same application once it is started again.
    """
    key = web.AppKey("ring", Ring)
    resolver = knet.StaticResolver(["10.0.0.1:80"])

    async def find(request: web.Request) -> web.Response:
        return web.Response(text=str(await request.app[key].get("k")))

    rings = []
    context = ring_context(key, "web.prod", port=80, resolver=resolver)
    for _ in range(2):
        app = web.Application()
        app.cleanup_ctx.append(context)
        app.router.add_get("/", find)
        async with TestClient(TestServer(app, host="127.0.0.1")) as client:
            assert await (await client.get("/")).text() == "10.0.0.1:80"
            rings.append(app[key])
    assert [ring.state for ring in rings] == ["closed", "closed"]
    assert rings[0] is not rings[1]


def test_options_of_the_ring_are_checked_at_once() -> None:
    with pytest.raises(ConfigError, match="port"):
        ring_context(web.AppKey("ring", Ring), "web.prod", port=0)
