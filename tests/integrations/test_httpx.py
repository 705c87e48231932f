"""
`RingTransport`, of httpx2 and of httpx: the same tests for both, on both loops.
"""

from __future__ import annotations

import gc
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import trustme
from anyio.abc import SocketAttribute

import knet
from knet import ConfigError, Endpoint, NoEndpoints, Ring, RingClosed, RingNotReady
from knet.integrations.httpx import RingTransport as OfHttpx
from knet.integrations.httpx2 import RingTransport as OfHttpx2
from tests.fakes import FakeResolver

from .pods import FAULTS, Pod, pods
from .turns import cancelled_after_every_turn

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(8)]

SERVICE = "web.prod.svc.cluster.local"
SPELLINGS = ["web.prod", "web.prod.svc", SERVICE, f"{SERVICE}."]
KEYS = [f"user-{n}" for n in range(40)]
QUICK = knet.RefreshPolicy(interval=0.05, min_interval=0.02, retry=0.05, confirm=1, jitter=0)

LIBRARIES: dict[str, tuple[ModuleType, Any]] = {
    "httpx2": (httpx2, OfHttpx2),
    "httpx": (httpx, OfHttpx),
}


class Kit:
    """
    One of the two libraries, and what a test makes of it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.library, self.transport = LIBRARIES[name]

    @asynccontextmanager
    async def client(
        self, ring: Ring, *, timeout: float = 5.0, **options: Any
    ) -> AsyncIterator[Any]:
        mounts = self.transport(ring, **options).mounts()
        async with self.library.AsyncClient(
            mounts=mounts, timeout=timeout, trust_env=False
        ) as client:
            yield client

    @asynccontextmanager
    async def served(
        self, count: int = 3, **options: Any
    ) -> AsyncIterator[tuple[Any, Ring, list[Pod]]]:
        """
        Give a client, its ring, and pods of which the first is the one of "user-42".
        """
        async with (
            pods(count) as there,
            ring_of(*there) as ring,
            self.client(ring, **options) as client,
        ):
            first = ring.snapshot.get_n("user-42", count)
            yield client, ring, sorted(there, key=lambda pod: first.index(pod.endpoint))


@pytest.fixture(params=LIBRARIES)
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(request.param)


def ring_of(*there: Pod) -> Ring:
    return Ring(SERVICE, resolver=FakeResolver(*(pod.endpoint for pod in there)), refresh=QUICK)


def key(name: str = "user-42") -> dict[str, Any]:
    return {"extensions": {"knet_key": name}}


# --- the usual case


async def test_every_request_goes_to_the_pod_of_its_key(kit: Kit) -> None:
    """
    Whatever the spelling; and the caller sees the service, not the pod.
    """
    async with kit.served() as (client, ring, _):
        for number, name in enumerate(KEYS):
            host = SPELLINGS[number % len(SPELLINGS)]
            response = await client.get(f"http://{host}/x", **key(name))
            pod = ring.snapshot.get(name)
            assert response.text == pod.name
            assert response.extensions["knet_pod"] is pod
            assert response.url == f"http://{host}/x"
            assert response.request.extensions["knet_key"] == name
        assert ring.stats().in_flight == 0


async def test_what_the_pod_sees_is_the_services_name(kit: Kit) -> None:
    async with kit.served(1) as (client, _, [pod]):
        await client.post("http://web.prod:8080/echo?a=b", content=b"body", **key())
        [seen] = pod.seen
        assert (seen.method, seen.path, seen.body) == ("POST", "/echo?a=b", b"body")
        assert seen.headers["host"] == "web.prod:8080"


async def test_cookies_and_relative_redirects_are_the_services(kit: Kit) -> None:
    async with kit.served() as (client, _, there):
        await client.get("http://web.prod/cookie", **key())
        response = await client.get(
            "http://web.prod/redirect?/there", follow_redirects=True, **key()
        )
        assert response.url == "http://web.prod/there"
        assert there[0].seen[-1].headers["cookie"] == "a=b"
        assert [len(pod.seen) for pod in there] == [3, 0, 0]


@pytest.mark.parametrize("how", ["mounts", "transport"])
async def test_another_host_goes_where_it_says(kit: Kit, how: str) -> None:
    """
    Also after a redirect, whose request carries the key along.
    """
    async with pods(2) as (other, pod), ring_of(pod) as ring:
        transport = kit.transport(ring)
        options = {"mounts": transport.mounts()} if how == "mounts" else {"transport": transport}
        async with kit.library.AsyncClient(trust_env=False, **options) as client:
            elsewhere = f"http://127.0.0.1:{other.port}/there"
            response = await client.get(
                f"http://web.prod/redirect?{elsewhere}", follow_redirects=True, **key()
            )
            assert response.text == other.name
            assert response.url == elsewhere
            assert "knet_pod" not in response.extensions
            assert len(pod.seen) == 1


async def test_the_key_may_be_a_function_of_the_request(kit: Kit) -> None:
    async with kit.served(key=knet.keys.path) as (client, ring, _):
        for name in KEYS[:10]:
            response = await client.get(f"http://web.prod/{name}?n=1")
            assert response.extensions["knet_pod"] is ring.snapshot.get(f"/{name}")


async def test_a_request_without_a_key_is_refused(kit: Kit) -> None:
    async with kit.served() as (client, _, there):
        with pytest.raises(
            ConfigError, match=r"http://web\.prod/x has no key: send it with extensions"
        ):
            await client.get("http://web.prod/x")
    async with kit.served(key=lambda _: None) as (client, _, there):
        with pytest.raises(ConfigError, match=r"gave none for http://web\.prod/x"):
            await client.get("http://web.prod/x")
    async with kit.served(key=lambda _: 7) as (client, _, there):
        with pytest.raises(TypeError, match="key"):
            await client.get("http://web.prod/x")

    def fails(_: object) -> str:
        raise LookupError("mine")

    async with kit.served(key=fails) as (client, ring, there):
        with pytest.raises(LookupError, match="mine"):
            await client.get("http://web.prod/x")
        assert ring.stats().in_flight == 0
        assert not any(pod.seen for pod in there)


# --- pods that fail


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_dead_pod_costs_no_request(kit: Kit, method: str) -> None:
    """
    Whatever the method: nothing was sent. The pod is skipped from then on.
    """
    async with kit.served() as (client, ring, [first, second, _]):
        await first.refuse()
        for _ in range(3):
            response = await client.request(method, "http://web.prod/x", **key())
            assert response.extensions["knet_pod"] == second.endpoint
        assert list(ring.ejected) == [first.endpoint]
        assert len(second.seen) == 3


async def test_a_body_that_can_be_sent_once_goes_whole_to_the_next_pod(kit: Kit) -> None:
    async with kit.served() as (client, _, [first, second, _]):
        await first.refuse()

        async def body() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"abc"

        response = await client.post("http://web.prod/echo", content=body(), **key())
        assert response.text == "abcabcabc"
        assert len(second.seen) == 1


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "half"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_what_was_perhaps_done_is_repeated_only_where_it_may_be(
    kit: Kit, fault: str, method: str
) -> None:
    async with kit.served(timeout=0.3) as (client, ring, [first, second, _]):
        first.fault = fault
        send = client.request(method, "http://web.prod/x", content=b"body", **key())
        if method == "POST":
            with pytest.raises(kit.library.TransportError) as caught:
                await send
            assert caught.value.request.url == "http://web.prod/x"
            assert len(second.seen) == 0
        else:
            assert (await send).extensions["knet_pod"] == second.endpoint
            assert second.seen[0].body == b"body"
        assert len(first.seen) == 1
        assert not ring.ejected
        assert ring.stats().in_flight == 0


async def test_a_put_whose_body_is_gone_is_sent_once(kit: Kit) -> None:
    async with kit.served() as (client, _, [first, second, _]):
        first.fault = "closed"

        async def body() -> AsyncIterator[bytes]:
            yield b"abc"

        with pytest.raises(kit.library.RemoteProtocolError):
            await client.put("http://web.prod/x", content=body(), **key())
        assert len(first.seen) == 1
        assert not second.seen


async def test_a_multipart_body_is_sent_once_after_it_may_have_been_read(kit: Kit) -> None:
    async with kit.served() as (client, _, [first, second, _]):
        first.fault = "closed"
        with pytest.raises(kit.library.RemoteProtocolError):
            await client.put("http://web.prod/x", files={"f": b"abc"}, **key())
        assert not second.seen


@pytest.mark.parametrize("given", ["function", "type", "types"])
async def test_retry_on_says_what_may_be_done_twice(kit: Kit, given: str) -> None:
    broken = kit.library.RemoteProtocolError
    retry_on = {"function": knet.may_repeat, "type": broken, "types": (broken, OSError)}[given]
    async with kit.served(retry_on=retry_on) as (client, _, [first, second, _]):
        first.fault = "closed"
        response = await client.post("http://web.prod/x", content=b"body", **key())
        assert response.extensions["knet_pod"] == second.endpoint


async def test_retry_on_may_say_never(kit: Kit) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"abc"

    for content in (b"abc", body()):
        async with kit.served(retry_on=lambda _: False) as (client, _, [first, second, _]):
            await first.refuse()
            with pytest.raises(kit.library.ConnectError):
                await client.put("http://web.prod/x", content=content, **key())
            assert not second.seen


async def test_half_a_body_breaks_the_response_and_ejects_at_the_second_in_a_row(kit: Kit) -> None:
    """
    A response that was begun cannot be taken back.
    """
    async with kit.served() as (client, ring, [first, second, _]):
        first.fault = "half"
        for count in range(2):
            assert len(ring.ejected) == 0
            with pytest.raises(kit.library.RemoteProtocolError):
                await client.get("http://web.prod/x", **key())
            await anyio.sleep(0.01)
            assert len(first.seen) == count + 1
        assert list(ring.ejected) == [first.endpoint]
        assert not second.seen
        assert ring.stats().in_flight == 0


@pytest.mark.parametrize("status", [404, 429, 500, 502, 503, 504])
async def test_an_answer_is_an_answer(kit: Kit, status: int) -> None:
    async with kit.served() as (client, ring, [_, second, _]):
        response = await client.get(f"http://web.prod/status?{status}", **key())
        assert response.status_code == status
        assert not second.seen
        assert not ring.ejected


async def test_all_pods_dead_raises_the_clients_own_error(kit: Kit) -> None:
    async with kit.served() as (client, ring, there):
        for pod in there:
            await pod.refuse()
        with pytest.raises(kit.library.ConnectError) as caught:
            await client.get("http://web.prod/x", **key())
        assert caught.value.request.url == "http://web.prod/x"
        assert len(caught.value.__notes__) == 2
        assert ring.stats().in_flight == 0


async def test_total_ends_it_and_counts_against_nobody(kit: Kit) -> None:
    async with kit.served(total=0.1) as (client, ring, there):
        for pod in there:
            pod.fault = "silent"
        for _ in range(3):
            with pytest.raises(
                kit.library.TimeoutException, match=r"no response from web\.prod within 0\.1 s"
            ):
                await client.get("http://web.prod/x", **key())
        assert not ring.ejected
        assert ring.stats().in_flight == 0


# --- a response that is read later


async def test_a_response_counts_until_it_is_closed(kit: Kit) -> None:
    async with kit.served() as (client, ring, _):
        async with client.stream("GET", "http://web.prod/x", **key()) as response:
            assert ring.stats().in_flight == 1
            assert await response.aread() == ring.snapshot.get("user-42").name.encode()
            assert ring.stats().in_flight == 0
        request = client.build_request("GET", "http://web.prod/x", **key())
        response = await client.send(request, stream=True)
        assert ring.stats().in_flight == 1
        await response.aclose()
        await response.aclose()
        assert ring.stats().in_flight == 0


async def test_a_response_that_is_never_read_gives_its_place_back(kit: Kit) -> None:
    async with kit.served() as (client, ring, _):
        request = client.build_request("GET", "http://web.prod/x", **key())
        response = await client.send(request, stream=True)
        assert ring.stats().in_flight == 1
        del response, request
        gc.collect()
        await anyio.sleep(0.01)
        assert ring.stats().in_flight == 0


async def test_a_cancelled_request_gives_its_place_back(kit: Kit) -> None:
    async with kit.served() as (client, ring, [first, second, _]):
        with anyio.move_on_after(0.1) as scope:
            await client.get("http://web.prod/wait", **key())
        assert scope.cancelled_caught
        assert ring.stats().in_flight == 0
        assert not second.seen
        assert not ring.ejected
        assert (await client.get("http://web.prod/x", **key())).text == first.name


async def test_a_bound_spreads_a_hot_key(kit: Kit) -> None:
    async with kit.served(bound=1.25) as (client, ring, there):
        async with anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(lambda: client.get("http://web.prod/wait", **key()))
            with anyio.fail_after(5):
                while sum(len(pod.seen) for pod in there) < 12:
                    await anyio.sleep(0.01)
            assert ring.stats().in_flight == 12
            assert max(len(pod.seen) for pod in there) <= 5
            for pod in there:
                pod.gate.set()
        assert ring.stats().in_flight == 0


async def test_a_client_is_closed_with_requests_in_flight(kit: Kit) -> None:
    """
    They end with an error of the client, and nothing of them is left.
    """
    async with pods(1) as [pod], ring_of(pod) as ring:
        client = kit.library.AsyncClient(mounts=kit.transport(ring).mounts(), trust_env=False)
        errors: list[Exception] = []

        async def ask() -> None:
            try:
                await client.get("http://web.prod/wait", **key())
            except Exception as error:  # the clients differ in what they raise here
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            with anyio.fail_after(5):
                while not pod.seen:
                    await anyio.sleep(0.01)
            await client.aclose()
        assert len(errors) == 1
        assert ring.stats().in_flight == 0


# --- pods that come and go


async def test_the_connections_of_a_pod_that_left_are_closed_while_the_client_is_idle(
    kit: Kit,
) -> None:
    """
    Once nothing is in flight there.
    """
    async with pods(2) as there:
        resolver = FakeResolver(*(pod.endpoint for pod in there))
        async with (
            Ring(SERVICE, resolver=resolver, refresh=QUICK) as ring,
            kit.client(ring) as client,
        ):
            for name in KEYS:
                await client.get("http://web.prod/x", **key(name))
            assert [pod.open for pod in there] == [1, 1]
            left, stays = there
            name = next(name for name in KEYS if ring.snapshot.get(name) == left.endpoint)
            async with client.stream("GET", "http://web.prod/x", **key(name)):
                resolver.answer(stays.endpoint)
                with anyio.fail_after(10):
                    while len(ring.snapshot.endpoints) == 2:
                        await anyio.sleep(0.01)
                await anyio.sleep(0.05)
                assert left.open == 1
            with anyio.fail_after(10):
                while left.open:
                    await anyio.sleep(0.01)
            assert stays.open == 1
            await client.get("http://web.prod/x", **key(name))
            assert stays.open == 1


async def test_every_pod_has_connections_of_its_own(kit: Kit) -> None:
    """
    A pod whose connections are all taken sends its requests on, and is not ejected.
    """
    limits = kit.library.Limits(max_connections=1)
    async with (
        kit.served(limits=limits, connect_timeout=0.1) as (client, ring, [first, second, _]),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(lambda: client.get("http://web.prod/wait", **key()))
        with anyio.fail_after(5):
            while not first.seen:
                await anyio.sleep(0.01)
        response = await client.get("http://web.prod/x", **key())
        assert response.extensions["knet_pod"] == second.endpoint
        assert not ring.ejected
        first.gate.set()


async def test_lost_connections_are_replaced(kit: Kit) -> None:
    """
    No room in a pool in which nothing is in flight: its connections were lost, and it is opened anew.
    """
    limits = kit.library.Limits(max_connections=1)
    async with kit.served(limits=limits, connect_timeout=0.1) as (client, ring, [first, second, _]):
        request = client.build_request("GET", "http://web.prod/x", **key())
        response = await client.send(request, stream=True)
        del response, request  # never closed
        gc.collect()
        await anyio.sleep(0.01)
        assert ring.stats().in_flight == 0
        async with client.stream("GET", "http://web.prod/x", **key()) as response:
            assert response.extensions["knet_pod"] == second.endpoint
        async with client.stream("GET", "http://web.prod/x", **key()) as response:
            assert response.extensions["knet_pod"] == first.endpoint


async def test_a_pods_transport_may_be_made_by_the_caller(kit: Kit) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(scope["server"][1]).encode()})

    made: list[Endpoint] = []

    def transport(pod: Endpoint) -> Any:
        made.append(pod)
        return kit.library.ASGITransport(app)

    ring = Ring.static(["10.0.0.1:1", "10.0.0.2:2"], service=SERVICE)
    async with ring, kit.client(ring, transport=transport) as client:
        for name in KEYS:
            response = await client.get("http://web.prod/x", **key(name))
            assert response.text == str(ring.snapshot.get(name).port)
    assert sorted(made) == list(ring_endpoints(made))


def ring_endpoints(made: list[Endpoint]) -> list[Endpoint]:
    return sorted(set(made))


# --- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls_asks_for_the_services_name_and_verifies_it(
    kit: Kit, authority: trustme.CA
) -> None:
    async with (
        pods(2, tls=server_context(authority, "web.prod")) as there,
        ring_of(*there) as ring,
        kit.client(ring, verify=client_context(authority)) as client,
    ):
        for name in KEYS[:8]:
            response = await client.get("https://web.prod/x", **key(name))
            assert response.extensions["knet_pod"] is ring.snapshot.get(name)


@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_a_wrong_certificate_is_raised_and_ejects_nobody(
    kit: Kit, authority: trustme.CA, wrong: str
) -> None:
    tls = server_context(authority, "other.prod" if wrong == "name" else "web.prod")
    trusted = authority if wrong == "name" else trustme.CA()
    async with (
        pods(2, tls=tls) as there,
        ring_of(*there) as ring,
        kit.client(ring, verify=client_context(trusted)) as client,
    ):
        with pytest.raises(kit.library.ConnectError):
            await client.get("https://web.prod/x", **key())
        assert not ring.ejected
        assert ring.stats().in_flight == 0
        assert not any(pod.seen for pod in there)


async def test_a_pod_that_speaks_no_tls_is_skipped(kit: Kit, authority: trustme.CA) -> None:
    """
    Its handshake fails or hangs, so nothing was sent.
    """
    tls = server_context(authority, "web.prod")
    async with pods(1) as plain, pods(1, tls=tls) as well, ring_of(*plain, *well) as ring:
        name = next(k for k in KEYS if ring.snapshot.get(k) == plain[0].endpoint)
        context = client_context(authority)
        async with kit.client(ring, verify=context, connect_timeout=0.2) as client:
            response = await client.post("https://web.prod/x", **key(name))
            assert response.extensions["knet_pod"] == well[0].endpoint
        assert not plain[0].seen


async def test_a_handshake_that_hangs_costs_the_connect_timeout(kit: Kit) -> None:
    import socket

    with socket.create_server(
        ("127.0.0.1", 0)
    ) as silent:  # accepts by its backlog, and says nothing
        port = silent.getsockname()[1]
        async with (
            Ring.static([f"127.0.0.1:{port}"], service=SERVICE) as ring,
            kit.client(ring, verify=False, connect_timeout=0.1) as client,
        ):
            for _ in range(2):
                with pytest.raises(kit.library.ConnectTimeout):
                    await client.get("https://web.prod/x", **key())
                assert ring.stats().in_flight == 0


# --- HTTP/2


@asynccontextmanager
async def speaking_h2(*faults: str) -> AsyncIterator[list[tuple[int, list[str]]]]:
    """
    Pods that speak HTTP/2 without TLS: their ports, and what each has seen. `"goaway"`: it leaves at the
    first request.
    """
    import h2.config
    import h2.connection
    import h2.events

    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        made = []
        for fault in faults:
            listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
            seen: list[str] = []

            async def serve(stream: Any, seen: list[str] = seen, fault: str = fault) -> None:
                connection = h2.connection.H2Connection(
                    h2.config.H2Configuration(client_side=False)
                )
                connection.initiate_connection()
                with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    async with stream:
                        await stream.send(connection.data_to_send())
                        while True:
                            for event in connection.receive_data(await stream.receive()):
                                if isinstance(event, h2.events.StreamEnded):
                                    seen.append(fault)
                                    if fault == "goaway":
                                        connection.close_connection(last_stream_id=0)
                                        await stream.send(connection.data_to_send())
                                        return
                                    connection.send_headers(event.stream_id, [(":status", "200")])
                                    connection.send_data(event.stream_id, b"well", end_stream=True)
                            await stream.send(connection.data_to_send())

            async def live(listener: Any = listener, serve: Any = serve) -> None:
                async with listener:
                    await listener.serve(serve)

            tasks.start_soon(live)
            made.append((listener.extra(SocketAttribute.local_port), seen))
        yield made
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_pod_that_says_goaway_is_one_whose_exchange_broke(kit: Kit, method: str) -> None:
    async with speaking_h2("goaway", "") as [(leaving, seen), (port, also)]:
        ring = Ring.static([f"127.0.0.1:{leaving}", f"127.0.0.1:{port}"], service=SERVICE)
        async with ring:
            name = next(k for k in KEYS if ring.snapshot.get(k).port == leaving)
            transport = partial(kit.library.AsyncHTTPTransport, http1=False, http2=True)
            async with kit.client(ring, transport=lambda _: transport()) as client:
                asked = client.request(method, "http://web.prod/x", **key(name))
                if method == "GET":
                    assert (await asked).text == "well"
                    assert len(also) == 1
                else:
                    with pytest.raises(kit.library.RemoteProtocolError):
                        await asked
                    assert not also
            assert len(seen) == 1
            assert ring.stats().in_flight == 0


# --- the life of a transport


async def test_a_transport_that_is_mounted_many_times_is_closed_once_by_the_last(kit: Kit) -> None:
    async with pods(1) as [pod], ring_of(pod) as ring:
        transport = kit.transport(ring)
        assert len(transport.mounts()) > 3
        async with kit.library.AsyncClient(mounts=transport.mounts(), trust_env=False) as client:
            await client.get("http://web.prod/x", **key())
            assert repr(transport) == f"<RingTransport of {ring!r}>"
        assert repr(transport) == f"<RingTransport of {ring!r}, closed>"
        await transport.aclose()
        with anyio.fail_after(5):
            while pod.open:
                await anyio.sleep(0.01)
        async with kit.library.AsyncClient(mounts=transport.mounts(), trust_env=False) as client:
            with pytest.raises(RingClosed, match="each client needs one of its own"):
                await client.get("http://web.prod/x", **key())


async def test_a_client_may_be_closed_in_another_task_than_it_was_opened_in(kit: Kit) -> None:
    async with pods(1) as [pod], ring_of(pod) as ring:
        client = kit.library.AsyncClient(mounts=kit.transport(ring).mounts(), trust_env=False)

        async def use() -> None:
            assert (await client.get("http://web.prod/x", **key())).text == pod.name

        for step in (use, client.aclose):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(step)
        assert pod.seen


async def test_a_ring_that_is_starting_empty_or_closed(kit: Kit) -> None:
    async with pods(1) as [pod]:
        ring = ring_of(pod)
        async with kit.client(ring) as client:
            with pytest.raises(RingNotReady):
                await client.get("http://web.prod/x", **key())
            async with ring:
                assert (await client.get("http://web.prod/x", **key())).text == pod.name
            with pytest.raises(RingClosed):
                await client.get("http://web.prod/x", **key())
        resolver = FakeResolver()
        resolver.answer()
        empty = Ring(SERVICE, resolver=resolver, refresh=QUICK, require_endpoints=False)
        async with empty, kit.client(empty) as client:
            with pytest.raises(NoEndpoints):
                await client.get("http://web.prod/x", **key())


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"ring": "web.prod"}, TypeError, "of a Ring, not of a str"),
        ({"key": "user-42"}, TypeError, "key must be a function or None, not str"),
        ({"transport": 7}, TypeError, "transport must be a function or None, not int"),
        ({"n": 0}, ConfigError, "n must be"),
        ({"bound": 1}, ConfigError, "above 1"),
        ({"total": 0}, ConfigError, "total must be above 0"),
        ({"retry_on": 7}, TypeError, "retry_on must be"),
        ({"connect_timeout": 0}, ConfigError, "connect_timeout must be above 0"),
        ({"transport": print, "http2": True}, ConfigError, "by itself"),
    ],
)
def test_bad_options_are_refused_at_once(
    kit: Kit, options: dict[str, Any], error: type[Exception], what: str
) -> None:
    ring = Ring.static(["10.0.0.1:80"])
    with pytest.raises(error, match=what):
        kit.transport(**{"ring": ring, **options})


def test_the_clients_own_classes_are_met() -> None:
    """
    A type checker takes each for a transport of its own library, and its docstring says what it does.
    """
    made: Callable[..., httpx2.AsyncBaseTransport] = OfHttpx2
    also: Callable[..., httpx.AsyncBaseTransport] = OfHttpx
    assert made.__doc__ is not None
    assert "Args:" in made.__doc__
    assert made.__doc__ == also.__doc__


async def test_a_request_may_be_cancelled_at_every_await(kit: Kit) -> None:
    """
    Whatever it was doing, nothing is held and nobody is ejected, and the next request is served.
    """
    async with kit.served() as (client, ring, _):

        def check() -> None:
            assert ring.stats().in_flight == 0
            assert not ring.ejected

        turns = await cancelled_after_every_turn(
            lambda: client.get("http://web.prod/x", **key()), check
        )
        assert (await client.get("http://web.prod/x", **key())).status_code == 200
    assert turns > 5
