"""
What errors prove, each made by a real client on a real socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import current_token

from knet import Endpoint, may_repeat, never_sent, unreachable
from knet.routing.errors import is_about
from tests.routing.faults import faulty

pytestmark = pytest.mark.anyio

# Seconds that a client waits for an answer.
BRIEF = 0.2

Client = Callable[[int, bool], Awaitable[object]]


# --- clients: each sends one request to a port of 127.0.0.1, over TLS or not


async def by_anyio(port: int, tls: bool) -> None:
    stream: anyio.abc.ByteStream
    if tls:
        stream = await anyio.connect_tcp("127.0.0.1", port, tls_hostname="web.prod")
    else:
        stream = await anyio.connect_tcp("127.0.0.1", port)
    async with stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: web.prod\r\n\r\n")
        with anyio.fail_after(BRIEF):
            await stream.receive()


async def by_asyncio(port: int, tls: bool) -> None:
    context = ssl.create_default_context() if tls else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="web.prod" if tls else None
    )
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: web.prod\r\n\r\n")
        async with asyncio.timeout(BRIEF):
            await reader.readuntil(b"\r\n")
    finally:
        writer.close()
        with contextlib.suppress(Exception):
            await writer.wait_closed()


async def by_trio(port: int, tls: bool) -> None:
    import trio

    context = ssl.create_default_context()
    stream: Any
    if tls:
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
    else:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: web.prod\r\n\r\n")
        with trio.fail_after(BRIEF):
            if not await stream.receive_some():
                raise EOFError


def by_httpx(name: str) -> Client:
    async def fetch(port: int, tls: bool) -> None:
        module = pytest.importorskip(name)
        timeout = module.Timeout(5, read=BRIEF)
        async with module.AsyncClient(timeout=timeout, trust_env=False) as client:
            await client.get(f"{'https' if tls else 'http'}://127.0.0.1:{port}/")

    return fetch


async def by_aiohttp(port: int, tls: bool) -> None:
    import aiohttp

    timeout = aiohttp.ClientTimeout(sock_read=BRIEF)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        # aiohttp itself would send a GET again.
        await session.post(f"{'https' if tls else 'http'}://127.0.0.1:{port}/")


async def by_redis(port: int, tls: bool) -> None:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client = Redis(
        host="127.0.0.1",
        port=port,
        ssl=tls,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=BRIEF,
        protocol=2,
        driver_info=None,
    )
    async with client:
        await client.incr("user-42")


async def by_grpc(port: int, tls: bool) -> None:
    import grpc  # type: ignore[import-untyped]
    import grpc.aio  # type: ignore[import-untyped]

    target = f"127.0.0.1:{port}"
    channel = (
        grpc.aio.secure_channel(target, grpc.ssl_channel_credentials())
        if tls
        else grpc.aio.insecure_channel(target)
    )
    async with channel:
        await channel.unary_unary("/web.Shop/Buy")(b"", timeout=5 * BRIEF)


async def by_requests(port: int, tls: bool) -> None:
    import requests

    def fetch() -> None:
        with requests.Session() as session:
            session.trust_env = False
            session.post(f"{'https' if tls else 'http'}://127.0.0.1:{port}/", timeout=BRIEF)

    await anyio.to_thread.run_sync(fetch)


async def by_urllib(port: int, tls: bool) -> None:
    import urllib.request

    def fetch() -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
        with opener.open(url, data=b"x", timeout=BRIEF) as answer:
            answer.read()

    await anyio.to_thread.run_sync(fetch)


CLIENTS: dict[str, tuple[Client, set[str]]] = {
    "anyio": (by_anyio, {"asyncio", "trio"}),
    "asyncio": (by_asyncio, {"asyncio"}),
    "trio": (by_trio, {"trio"}),
    "httpx2": (by_httpx("httpx2"), {"asyncio", "trio"}),
    "httpx": (by_httpx("httpx"), {"asyncio", "trio"}),
    "aiohttp": (by_aiohttp, {"asyncio"}),
    "redis": (by_redis, {"asyncio"}),
    "grpc": (by_grpc, {"asyncio"}),
    "requests": (by_requests, {"asyncio"}),
    "urllib": (by_urllib, {"asyncio"}),
}

# fault: never sent, may be repeated, how unreachable; by sockets, by clients of requests, by gRPC.
SOCKETS, REQUESTS, GRPC = "sockets", "requests", "grpc"
PROOFS = {
    ("refused", SOCKETS): (True, True, 1),
    ("closed", SOCKETS): (False, True, 0),
    ("reset", SOCKETS): (False, True, 0),
    ("silent", SOCKETS): (False, True, 0),
    ("certificate", SOCKETS): (False, False, 0),
    ("refused", REQUESTS): (True, True, 1),
    ("closed", REQUESTS): (False, True, 2),
    ("reset", REQUESTS): (False, True, 2),
    ("silent", REQUESTS): (False, True, 2),
    ("certificate", REQUESTS): (False, False, 0),
    ("refused", GRPC): (False, True, 0),
    ("closed", GRPC): (False, True, 0),
    ("reset", GRPC): (False, True, 0),
    ("silent", GRPC): (False, False, 0),
    ("certificate", GRPC): (False, True, 0),
}
KINDS = dict.fromkeys(("anyio", "asyncio", "trio", "urllib"), SOCKETS) | {"grpc": GRPC}


@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # what clients leave of a broken connection
@pytest.mark.parametrize("fault", ["refused", "closed", "reset", "silent", "certificate"])
@pytest.mark.parametrize("name", CLIENTS)
async def test_what_an_error_proves(name: str, fault: str) -> None:
    client, loops = CLIENTS[name]
    loop = (
        "asyncio" if isinstance(current_token().native_token, asyncio.AbstractEventLoop) else "trio"
    )
    if loop not in loops:
        pytest.skip(f"{name} does not run on {loop}")
    with faulty(fault) as server:
        try:
            await client(server.port, fault == "certificate")
        except Exception as caught:
            error = caught
        else:
            pytest.fail("it was served")
        proofs = never_sent(error), may_repeat(error), unreachable(error)

        assert proofs == PROOFS[fault, KINDS.get(name, REQUESTS)], repr(error)
        if proofs[0] or fault == "certificate":
            assert server.seen == 0
        elif name != "grpc":
            assert server.seen == 1
        # It is about the pod, and about no other one, as far as it tells.
        assert is_about(error, Endpoint("web-0", "127.0.0.1", server.port))
        if fault == "refused" and name in ("httpx2", "httpx", "aiohttp", "asyncio", "redis"):
            assert not is_about(error, Endpoint("web-0", "127.0.0.1", server.port + 1))
            assert not is_about(error, Endpoint("web-0", "10.0.0.1", server.port))


# --- groups, and what only looks like proof


class _Cancelled(BaseException):
    pass


REFUSED = ConnectionRefusedError(111, "refused")


@pytest.mark.parametrize(
    ("error", "sent_never", "grade"),
    [
        (ExceptionGroup("", [REFUSED, REFUSED]), True, 1),
        (ExceptionGroup("", [REFUSED, OSError(113, "no route")]), False, 0),
        (BaseExceptionGroup("", [REFUSED, _Cancelled()]), False, 0),
        (BaseExceptionGroup("", [ExceptionGroup("", [REFUSED]), REFUSED]), True, 1),
        (OSError(113, "No route to host"), False, 0),
        # asyncio, of a connect and of nothing else
        (OSError(113, "Connect call failed ('10.0.0.1', 80)"), True, 1),
        (ConnectionResetError(104, "Connect call failed ('10.0.0.1', 80)"), True, 1),
        (OSError("All connection attempts failed"), True, 1),
        (OSError("all attempts to connect to 10.0.0.1:80 failed"), True, 1),
        (OSError(101, "Network is unreachable"), False, 0),
        (TimeoutError(), False, 0),
        (ConnectionResetError(104, "reset"), False, 0),
        (ValueError("no"), False, 0),
        (_Cancelled(), False, 0),
        (KeyboardInterrupt(), False, 0),
    ],
)
def test_a_group_is_proof_if_each_of_its_leaves_is(
    error: BaseException, sent_never: bool, grade: int
) -> None:
    assert never_sent(error) is sent_never
    assert unreachable(error) == grade


def test_a_name_that_is_not_found_is_not_about_a_pod() -> None:
    """
    Pods are asked by their addresses.
    """
    import socket

    error = socket.gaierror(-2, "Name or service not known")
    assert (never_sent(error), may_repeat(error), unreachable(error)) == (False, False, 0)


def test_a_full_pool_of_ones_own_is_nobodys_fault() -> None:
    import httpx
    from redis.exceptions import MaxConnectionsError

    for error in (httpx.PoolTimeout("full"), MaxConnectionsError("full")):
        assert (never_sent(error), unreachable(error)) == (True, 0)


def test_an_answer_that_says_no_is_no_failure_of_a_pod() -> None:
    from redis.exceptions import AuthenticationError, BusyLoadingError

    for error in (AuthenticationError("no"), BusyLoadingError("loading")):
        assert (never_sent(error), may_repeat(error), unreachable(error)) == (False, False, 0)


def test_an_error_that_names_another_host_is_about_that_one() -> None:
    """
    Such as the handler's own database; one that names nobody may be about the pod.
    """
    pod = Endpoint("web-0.web", "10.0.0.1", 8080)
    other = ConnectionRefusedError(111, "Connect call failed ('10.9.9.9', 5432)")
    mine = ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 8080)")
    v6 = ConnectionRefusedError(111, "Connect call failed ('fd00::1', 8080, 0, 0)")

    assert is_about(ConnectionRefusedError(111, "refused"), pod)
    assert is_about(mine, pod)
    assert not is_about(other, pod)
    assert not is_about(ExceptionGroup("", [mine, other]), pod)
    assert is_about(v6, Endpoint("web-0.web", "fd00::1", 8080))
    assert is_about(mine, Endpoint("web-0.web", "10.0.0.1"))
