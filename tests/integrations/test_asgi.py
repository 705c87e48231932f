"""
Rings in ASGI applications: their lifespan, and who serves a request.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import anyio
import h11
import httpx2
import pytest
from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import knet
from knet import ConfigError, Endpoint, Ring, RingNotReady, StaticResolver
from knet.integrations.asgi import OwnerMiddleware, ring_lifespan, ring_of
from knet.integrations.forwarding import HOP, Hop
from tests.fakes import FakeResolver

from .turns import cancelled_after_every_turn

# httpx2's transport for applications leaves a body in the middle that nobody reads.
pytestmark = [
    pytest.mark.sampled(2),
    pytest.mark.filterwarnings(
        "ignore:.*ByteStream.__aiter__:pytest.PytestUnraisableExceptionWarning"
    ),
]

QUICK = knet.RefreshPolicy(interval=0.05, min_interval=0.02, retry=0.05, confirm=1, jitter=0)
PODS = [Endpoint(f"web-{n}", f"10.0.0.{n}", 80) for n in range(1, 4)]
KEYS = [f"room-{n}" for n in range(30)]

STATIC = StaticResolver(PODS)


# --- the lifespan


def app_with(name: str = "ring", **options: Any) -> FastAPI:
    app = FastAPI(lifespan=ring_lifespan("web.prod", name=name, resolver=STATIC, **options))

    of_this = Depends(ring_of.named(name))

    @app.get("/pod/{key}")
    async def find(key: str, ring: Ring = of_this) -> str:
        return str(await ring.get(key))

    @app.get("/ring")
    async def tell(request: Request) -> int:
        return id(getattr(request.app.state, name))

    @app.websocket("/socket/{key}")
    async def socket(websocket: WebSocket, key: str, ring: Ring = of_this) -> None:
        await websocket.accept()
        await websocket.send_text(str(await ring.get(key)))
        await websocket.close()

    return app


def test_each_start_of_an_application_has_a_ring_of_its_own() -> None:
    app = app_with()
    rings = []
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/pod/k").json().startswith("10.0.0.")
            with client.websocket_connect("/socket/k") as socket:
                assert socket.receive_text() == client.get("/pod/k").json()
            rings.append(app.state.ring)
        assert not hasattr(app.state, "ring")
    assert rings[0] is not rings[1]
    assert [ring.state for ring in rings] == ["closed", "closed"]


def test_the_applications_own_lifespan_runs_inside() -> None:
    seen = []

    @asynccontextmanager
    async def then(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        seen.append(app.state.ring.state)
        yield {"mine": 7}
        seen.append(app.state.ring.state)

    app = app_with(then=then)

    @app.get("/mine")
    async def mine(request: Request) -> tuple[int, str]:
        return request.state.mine, request.state.ring.state

    with TestClient(app) as client:
        assert client.get("/mine").json() == [7, "fresh"]
    assert seen == ["fresh", "fresh"]


def test_a_lifespan_that_yields_nothing_and_one_that_fails() -> None:
    @asynccontextmanager
    async def nothing(_: FastAPI) -> AsyncIterator[None]:
        yield

    with TestClient(app_with(then=nothing)) as client:
        assert client.get("/pod/k").status_code == 200

    @asynccontextmanager
    async def fails(app: FastAPI) -> AsyncIterator[None]:
        if app.state.ring.state == "fresh":
            raise ValueError("mine")
        yield

    with pytest.raises(ValueError, match="mine"), TestClient(app_with(then=fails)):
        pass


def test_an_application_mounted_below_has_the_ring_too() -> None:
    app, below = app_with(), FastAPI()

    @below.get("/pod/{key}")
    async def find(key: str, ring: Annotated[Ring, Depends(ring_of)]) -> str:
        return str(await ring.get(key))

    app.mount("/below", below)
    with TestClient(app) as client:
        assert client.get("/below/pod/k").json() == client.get("/pod/k").json()


def test_two_applications_and_two_rings_do_not_meet() -> None:
    @asynccontextmanager
    async def two(app: FastAPI) -> AsyncIterator[Any]:
        other = ring_lifespan("other.prod", name="other", resolver=STATIC)
        async with other(app) as state:
            yield state

    first, second = app_with(then=two), app_with("mine")

    @first.get("/other")
    async def other(ring: Annotated[Ring, Depends(ring_of.named("other"))]) -> str:
        return ring.service

    with TestClient(first) as one, TestClient(second) as another:
        assert one.get("/pod/k").json() == another.get("/pod/k").json()
        assert one.get("/ring").json() != another.get("/ring").json()
        assert one.get("/other").json() == "other.prod"


def test_without_a_ring_it_says_where_it_looked() -> None:
    app = FastAPI()

    @app.get("/")
    async def find(ring: Annotated[Ring, Depends(ring_of)]) -> str:
        return ring.service

    with TestClient(app) as client, pytest.raises(RingNotReady, match=r"nor in app\.state"):
        client.get("/")
    assert repr(ring_of) == "ring_of.named('ring')"


def test_options_of_the_ring_are_checked_at_once() -> None:
    with pytest.raises(ConfigError, match="port"):
        ring_lifespan("web.prod", port=0)


# --- who serves


async def room(request: Request) -> Any:
    """
    Tell who served, and what it was asked.
    """
    headers = {name: value for name, value in request.headers.items() if name != "accept"}
    body = (await request.body()).decode()
    return PlainTextResponse(
        f"{request.app.state.name} {request.method} {request.url.path} {body}",
        headers={**{f"seen-{name}": value for name, value in headers.items()}, "set-cookie": "a=b"},
    )


async def stream(request: Request) -> Any:
    came = [part async for part in request.stream() if part]

    async def parts() -> AsyncIterator[bytes]:
        for part in came:
            yield part.upper()

    return StreamingResponse(parts())


def key_of(scope: Any) -> str | None:
    path: str = scope["path"]
    return path.rpartition("/")[2] if path.startswith(("/rooms/", "/stream/")) else None


class Cluster:
    """
    Pods of one service in one process: what each of them sends goes to the others' applications.

    Attributes:
        pods: The middleware of each, by address.
        rings: Its ring.
        resolvers: What its ring is told, so that two may disagree.
        dead: The addresses that refuse.
        asked: From where to where requests went, in order.
        hidden: Addresses are hidden from the pods, as by a proxy.
    """

    def __init__(self) -> None:
        self.pods: dict[str, OwnerMiddleware] = {}
        self.rings: dict[str, Ring] = {}
        self.resolvers: dict[str, FakeResolver] = {}
        self.dead: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.hidden = False

    async def ask(
        self, address: str, path: str, method: str = "GET", client: str = "192.0.2.7", **more: Any
    ) -> httpx2.Response:
        transport = httpx2.ASGITransport(self.pods[address], client=(client, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://rooms.example") as http:
            return await http.request(method, path, **more)

    def between(self, here: str, there: str) -> httpx2.AsyncBaseTransport:
        cluster = self

        class Between(httpx2.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
                if there in cluster.dead:
                    raise httpx2.ConnectError("refused")
                cluster.asked.append((here, there))
                client = "192.0.2.1" if cluster.hidden else here
                transport = httpx2.ASGITransport(cluster.pods[there], client=(client, 1))
                return await transport.handle_async_request(request)

        return Between()

    def owner(self, key: str, by: str = "10.0.0.1") -> str:
        return self.rings[by].snapshot.get(key).address

    def key_of(self, address: str) -> str:
        return next(key for key in KEYS if self.owner(key) == address)


@asynccontextmanager
async def cluster(**options: Any) -> AsyncIterator[Cluster]:
    made = Cluster()
    async with AsyncExitStack() as stack:
        for pod in PODS:
            resolver = made.resolvers[pod.address] = FakeResolver(*PODS)
            ring = Ring("web.prod", resolver=resolver, refresh=QUICK, me=pod.address)
            made.rings[pod.address] = await stack.enter_async_context(ring)
            app = Starlette(
                routes=[
                    Route("/rooms/{room}", room, methods=["GET", "POST", "PUT"]),
                    Route("/stream/{room}", stream, methods=["POST"]),
                    Route("/healthz", room),
                ]
            )
            app.state.name = pod.name

            def transport(to: Endpoint, here: str = pod.address) -> httpx2.AsyncBaseTransport:
                return made.between(here, to.address)

            made.pods[pod.address] = OwnerMiddleware(
                app, ring, key=key_of, **{"transport": transport, **options}
            )
            stack.push_async_callback(shut_down, made.pods[pod.address])
        yield made


async def shut_down(app: OwnerMiddleware) -> None:
    """
    End an application as a server does.
    """
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        pass

    await app({"type": "lifespan", "state": {}}, receive, send)


@pytest.mark.anyio
async def test_whoever_is_asked_the_owner_serves() -> None:
    async with cluster() as it:
        for key in KEYS:
            owner = it.rings["10.0.0.1"].snapshot.get(key)
            for address in it.pods:
                response = await it.ask(address, f"/rooms/{key}?a=b")
                assert response.text == f"{owner.name} GET /rooms/{key} "
        counts = [app.stats() for app in it.pods.values()]
        assert sum(each["mine"] for each in counts) == 3 * len(KEYS)
        assert sum(each["forwarded"] for each in counts) == 2 * len(KEYS)
        assert all(here != there for here, there in it.asked)


@pytest.mark.anyio
async def test_the_owner_sees_the_request_as_it_came() -> None:
    async with cluster() as it:
        key = it.key_of("10.0.0.2")
        response = await it.ask(
            "10.0.0.1", f"/rooms/{key}?a=b", "POST", content=b"body", headers={"x-mine": "1"}
        )
        assert response.text == f"web-2 POST /rooms/{key} body"
        assert response.headers["seen-host"] == "rooms.example"
        assert response.headers["seen-x-mine"] == "1"
        assert response.headers["seen-x-forwarded-for"] == "192.0.2.7"
        assert response.headers["set-cookie"] == "a=b"
        assert f"seen-{HOP.decode()}" not in response.headers, "the application need not know"


@pytest.mark.anyio
async def test_a_body_is_streamed_both_ways() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"abc"

    async with cluster() as it:
        key = it.key_of("10.0.0.2")
        response = await it.ask("10.0.0.1", f"/stream/{key}", "POST", content=parts())
        assert response.text == "ABCABCABC"


@pytest.mark.anyio
async def test_what_has_no_key_is_served_here() -> None:
    async with cluster() as it:
        for pod in PODS:
            assert (await it.ask(pod.address, "/healthz")).text == f"{pod.name} GET /healthz "
            assert it.pods[pod.address].stats()["mine"] == 0


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_where_the_owner_cannot_be_connected_to_the_next_pod_serves(method: str) -> None:
    """
    Which would not by its own snapshot, and takes the sender's word for it.
    """
    async with cluster() as it:
        served = set()
        for key in KEYS:
            it.dead = {it.owner(key)}
            for address in it.pods.keys() - it.dead:
                response = await it.ask(address, f"/rooms/{key}", method)
                assert response.status_code == 200
                served.add(response.text.split()[0])
                for ring in it.rings.values():
                    for pod in ring.snapshot.endpoints:
                        ring.restore(pod)
        assert served == {"web-1", "web-2", "web-3"}
        assert not any(app.stats()["refused"] for app in it.pods.values())


@pytest.mark.anyio
async def test_where_nobody_can_be_reached_it_is_a_bad_gateway() -> None:
    async with cluster(n=1) as it:
        it.dead = {"10.0.0.2"}
        response = await it.ask("10.0.0.1", f"/rooms/{it.key_of('10.0.0.2')}")
        assert response.status_code == 502
        assert response.text == "the pod of this key could not be reached: ConnectError: refused\n"
        assert it.pods["10.0.0.1"].stats()["failed"] == 1
        assert it.rings["10.0.0.1"].stats().in_flight == 0


@pytest.mark.anyio
async def test_two_pods_that_disagree_say_so_and_nothing_goes_round() -> None:
    """
    The first believes in the second, which believes in the third.
    """
    async with cluster() as it:
        it.resolvers["10.0.0.2"].answer(*PODS, Endpoint("web-4", "10.0.0.4", 80))
        with anyio.fail_after(5):
            while len(it.rings["10.0.0.2"].snapshot) == 3:
                await anyio.sleep(0.01)
        key = next(
            key
            for key in (f"room-{n}" for n in range(300))
            if it.owner(key) == "10.0.0.2" and it.owner(key, by="10.0.0.2") == "10.0.0.4"
        )
        response = await it.ask("10.0.0.1", f"/rooms/{key}")
        assert response.status_code == 421
        assert it.asked == [("10.0.0.1", "10.0.0.2")]
        assert it.pods["10.0.0.2"].stats()["refused"] == 1
        assert it.pods["10.0.0.2"].stats()["disagreed"] == 1


@pytest.mark.anyio
async def test_who_gets_a_request_for_an_owner_that_has_left_serves_it() -> None:
    """
    The sender believes in the second pod, which is no longer in its own snapshot: it is shutting down.
    """
    async with cluster() as it:
        it.resolvers["10.0.0.2"].answer(PODS[0], PODS[2])
        with anyio.fail_after(5):
            while len(it.rings["10.0.0.2"].snapshot) == 3:
                await anyio.sleep(0.01)
        key = it.key_of("10.0.0.2")
        response = await it.ask("10.0.0.1", f"/rooms/{key}")
        assert response.text == f"web-2 GET /rooms/{key} "
        assert it.pods["10.0.0.2"].stats()["disagreed"] == 1
        # Who comes to it from outside goes on to the owner.
        response = await it.ask("10.0.0.2", f"/rooms/{key}")
        assert response.status_code in (200, 421)
        assert it.asked[1][0] == "10.0.0.2"


@pytest.mark.anyio
@pytest.mark.parametrize("secret", [None, "hush"])
async def test_a_forged_hop_gains_nothing(
    secret: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It is taken out, and the request handed on as any other; the application never sees it.
    """
    async with cluster(secret=secret) as it:
        key = it.key_of("10.0.0.2")
        for value in (Hop("web-9", "d", has_failed=True).value(None), b"garbage"):
            headers = {HOP.decode(): value.decode()}
            response = await it.ask("10.0.0.1", f"/rooms/{key}", headers=headers)
            assert response.text == f"web-2 GET /rooms/{key} "
        mine = await it.ask("10.0.0.2", f"/rooms/{key}", headers={HOP.decode(): "web-9;d;failed"})
        assert f"seen-{HOP.decode()}" not in mine.headers
        assert it.pods["10.0.0.1"].stats()["mine"] == 0
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    told = (
        "web.prod: a request from 192.0.2.7 says that a pod sent it, and that is the address of none: "
        "where proxies hide the addresses of pods, give OwnerMiddleware a secret"
    )
    assert [r.getMessage() for r in warnings] == [told, told]


@pytest.mark.anyio
@pytest.mark.parametrize("secret", [None, b"hush"])
async def test_where_addresses_are_hidden_nothing_goes_round_either(secret: bytes | None) -> None:
    """
    With a secret the hop counts; without, each pod sees in `Via` that it has had the request before.
    """
    async with cluster(secret=secret) as it:
        it.hidden = True
        for address in it.pods:  # each believes in another one
            others = [pod for pod in PODS if pod.address != address]
            it.resolvers[address].answer(*others)
        with anyio.fail_after(5):
            while any(len(ring.snapshot) == 3 for ring in it.rings.values()):
                await anyio.sleep(0.01)
        for key in KEYS:
            it.asked.clear()
            response = await it.ask("10.0.0.1", f"/rooms/{key}")
            if secret is None:
                assert response.status_code == 421
                assert len(it.asked) <= 3
            else:
                assert response.status_code == 200
                assert len(it.asked) == 1


@pytest.mark.anyio
async def test_redirects_keep_method_and_body() -> None:
    async with cluster(mode="redirect") as it:
        key = it.key_of("10.0.0.2")
        response = await it.ask("10.0.0.1", f"/rooms/{key}?a=%2Fb")
        assert response.status_code == 307
        assert response.headers["location"] == f"http://10.0.0.2:80/rooms/{key}?a=%2Fb"
        assert (await it.ask("10.0.0.2", f"/rooms/{key}")).status_code == 200
        assert it.pods["10.0.0.1"].stats()["redirected"] == 1


@pytest.mark.anyio
async def test_a_redirect_may_lead_to_where_pods_are_known_outside() -> None:
    def location(pod: Endpoint, scope: Any) -> str:
        return f"https://{pod.name}.rooms.example{scope['path']}"

    async with cluster(mode="redirect", location=location) as it:
        key = it.key_of("10.0.0.2")
        response = await it.ask("10.0.0.1", f"/rooms/{key}")
        assert response.headers["location"] == f"https://web-2.rooms.example/rooms/{key}"


@pytest.mark.anyio
async def test_refusals_are_421() -> None:
    async with cluster(mode="refuse", transport=None) as it:
        key = it.key_of("10.0.0.2")
        response = await it.ask("10.0.0.1", f"/rooms/{key}")
        assert (response.status_code, response.text) == (421, "this pod does not own the key\n")
        assert (await it.ask("10.0.0.2", f"/rooms/{key}")).status_code == 200
        assert it.pods["10.0.0.1"].stats()["refused"] == 1
        assert "refuse" in repr(it.pods["10.0.0.1"])


@pytest.mark.anyio
async def test_a_ring_that_is_empty_or_closed_is_503() -> None:
    async with cluster() as it:
        resolver = FakeResolver()
        resolver.answer()
        async with Ring("web.prod", resolver=resolver, refresh=QUICK, me="10.0.0.1") as empty:
            app = OwnerMiddleware(Starlette(), empty, key=key_of)
            it.pods["10.0.0.1"] = app
            assert (await it.ask("10.0.0.1", "/rooms/1")).status_code == 503
            await shut_down(app)
        response = await it.ask("10.0.0.1", "/rooms/1")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"


@pytest.mark.anyio
async def test_a_pod_that_has_let_go_of_its_keys_still_answers_who_believes_in_it() -> None:
    async with cluster() as it:
        key = it.key_of("10.0.0.2")
        it.rings["10.0.0.2"].let_go()
        assert (await it.ask("10.0.0.2", f"/rooms/{key}")).status_code == 200


@pytest.mark.anyio
async def test_an_owner_that_takes_too_long_is_504() -> None:
    class Never(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await anyio.sleep_forever()
            raise AssertionError

    async with cluster(total=0.05, transport=lambda _: Never()) as it:
        response = await it.ask("10.0.0.1", f"/rooms/{it.key_of('10.0.0.2')}")
        assert response.status_code == 504
        assert it.rings["10.0.0.1"].stats().in_flight == 0


@pytest.mark.anyio
async def test_an_answer_that_breaks_off_is_not_ended_as_if_it_were_whole() -> None:
    class Half(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"half"
            raise httpx2.ReadError("cut off")

    class Breaks(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, stream=Half())

    async with cluster(transport=lambda _: Breaks()) as it:
        with pytest.raises(httpx2.ReadError, match="cut off"):
            await it.ask("10.0.0.1", f"/rooms/{it.key_of('10.0.0.2')}")
        assert it.rings["10.0.0.1"].stats().in_flight == 0


def test_before_the_lifespan_there_is_no_ring_and_it_is_found_by_name_after() -> None:
    """
    A middleware is made before the lifespan runs; and an application may be started again.
    """
    app = app_with(me="10.0.0.1")
    app.add_middleware(OwnerMiddleware, key=lambda s: "k" if s["path"].startswith("/pod") else None)
    assert TestClient(app).get("/pod/k").status_code == 503
    for _ in range(2):
        with TestClient(app) as client:
            ring: Ring = app.state.ring
            assert client.get("/ring").json() == id(ring)
            key = next(key for key in KEYS if ring.is_mine(key))
            client.get(f"/pod/{key}").raise_for_status() if ring.is_mine("k") else None


def test_a_ring_under_another_name_is_an_error_that_says_so() -> None:
    app = app_with("mine")
    app.add_middleware(OwnerMiddleware, key=lambda _: "k")
    with TestClient(app) as client, pytest.raises(ConfigError, match=r"no ring called 'ring'"):
        client.get("/pod/k")


def test_the_ring_may_be_given_by_a_function() -> None:
    app = app_with(me="10.0.0.1")
    app.add_middleware(
        OwnerMiddleware,
        ring=lambda: getattr(app.state, "ring", None),
        key=lambda _: "k",
        mode="refuse",
    )
    assert TestClient(app).get("/pod/k").status_code == 503
    with TestClient(app) as client:
        wanted = 200 if app.state.ring.is_mine("k") else 421
        assert client.get("/pod/k").status_code == wanted


def test_a_websocket_before_the_ring_is_closed_and_told_to_try_again() -> None:
    from starlette.testclient import WebSocketDenialResponse

    app = app_with(me="10.0.0.1")
    app.add_middleware(OwnerMiddleware, key=lambda _: "k")
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        TestClient(app).websocket_connect("/socket/k"),
    ):
        pass
    assert denied.value.status_code == 503


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"ring": 7}, TypeError, "ring must be a Ring, a function or a name"),
        ({"key": "k"}, TypeError, "key must be a function"),
        ({"location": "x"}, TypeError, "location must be a function"),
        ({"mode": "ask"}, ConfigError, "mode must be one of forward, redirect, refuse"),
        ({"secret": 7}, TypeError, "secret must be"),
        ({"secret": ""}, ConfigError, "secret must not be empty"),
        ({"scheme": "ftp"}, ConfigError, "scheme must be"),
        ({"n": 0}, ConfigError, "n must be above 0"),
        ({"total": 0}, ConfigError, "total must be above 0"),
    ],
)
def test_bad_options_are_refused_at_once(
    options: dict[str, Any], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        OwnerMiddleware(Starlette(), **{"key": key_of, **options})


@pytest.mark.anyio
async def test_what_is_handed_on_may_be_cancelled_at_every_await() -> None:
    async with cluster() as it:
        ring = it.rings["10.0.0.1"]
        path = f"/rooms/{it.key_of('10.0.0.2')}"

        def check() -> None:
            assert ring.stats().in_flight == 0
            assert not ring.ejected

        turns = await cancelled_after_every_turn(
            lambda: it.ask("10.0.0.1", path, "POST", content=b"body"), check
        )
        assert turns > 2


# --- what comes to a server, and what the owner is sent


class Sent(httpx2.AsyncBaseTransport):
    """
    Notes what is sent to the owner, and answers or raises.
    """

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.requests: list[httpx2.Request] = []
        self.bodies: list[bytes] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        self.bodies.append(b"".join([part async for part in request.stream]))
        if self.errors:
            raise self.errors.pop(0)
        return httpx2.Response(200, stream=httpx2.ByteStream(b"well"))


async def told(app: OwnerMiddleware, key: str, *messages: Any, **scope: Any) -> list[Any]:
    """
    Call an application as a server does, and return what it says.
    """
    said: list[Any] = []
    left = iter(messages or [{"type": "http.request", "body": b""}])

    async def receive() -> Any:
        for message in left:
            return message
        return await anyio.sleep_forever()

    async def send(message: Any) -> None:
        said.append(message)

    path = f"/rooms/{key}"
    usual = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"h")]}
    await app({**usual, "client": ("192.0.2.7", 1), **scope}, receive, send)
    return said


@pytest.mark.anyio
async def test_the_target_goes_on_byte_by_byte() -> None:
    """
    Its dots would else be resolved after the key was taken from it.
    """
    sent = Sent()
    async with cluster(transport=lambda _: sent) as it:
        key = it.key_of("10.0.0.2")
        raw = f'/x/../rooms/{key}/"%2e%2E/'.encode()
        await told(it.pods["10.0.0.1"], key, raw_path=raw, query_string=b"a=#&b=%20")
        assert sent.requests[0].url.raw_path == raw + b"?a=#&b=%20"


@pytest.mark.anyio
async def test_a_body_that_came_in_one_chunk_has_its_length() -> None:
    sent = Sent()
    async with cluster(transport=lambda _: sent) as it:
        message = {"type": "http.request", "body": b"hello", "more_body": False}
        headers = [(b"host", b"h"), (b"transfer-encoding", b"chunked")]
        key = it.key_of("10.0.0.2")
        await told(it.pods["10.0.0.1"], key, message, method="POST", headers=headers)
        assert sent.bodies == [b"hello"]
        assert sent.requests[0].headers["content-length"] == "5"
        assert "transfer-encoding" not in sent.requests[0].headers


@pytest.mark.anyio
async def test_a_request_without_a_host_goes_by_the_services_name() -> None:
    sent = Sent()
    async with cluster(transport=lambda _: sent) as it:
        await told(it.pods["10.0.0.1"], it.key_of("10.0.0.2"), headers=[], http_version="1.0")
        assert sent.requests[0].headers["host"] == "web.prod"


@pytest.mark.anyio
async def test_what_http_cannot_say_is_a_bad_request() -> None:
    sent = Sent(h11.LocalProtocolError("illegal target"))
    async with cluster(transport=lambda _: sent) as it:
        said = await told(it.pods["10.0.0.1"], it.key_of("10.0.0.2"))
        assert said[0]["status"] == 400
        assert said[1]["body"] == b"this cannot be handed on: illegal target\n"


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
async def test_what_the_owner_may_have_done_no_other_pod_does(method: str) -> None:
    """
    But for what changes nothing. And the owner is not skipped for it: its application may have failed.
    """
    broken = [httpx2.RemoteProtocolError("cut off") for _ in range(3)]
    async with cluster(transport=lambda _: Sent(broken.pop()), n=2) as it:
        key = it.key_of("10.0.0.2")
        said = await told(it.pods["10.0.0.1"], key, method=method)
        assert len(broken) == (1 if method in ("GET", "HEAD") else 2)
        assert said[0]["status"] == 502
        assert not it.rings["10.0.0.1"].ejected


@pytest.mark.anyio
async def test_who_forges_the_address_of_a_pod_gains_nothing_where_there_is_a_secret() -> None:
    async with cluster(secret="hush") as it:
        key = it.key_of("10.0.0.2")
        headers = {HOP.decode(): "nobody;x;failed"}
        response = await it.ask("10.0.0.1", f"/rooms/{key}", client="10.0.0.3", headers=headers)
        assert response.text.startswith("web-2 ")
        assert it.pods["10.0.0.1"].stats()["mine"] == 0


@pytest.mark.anyio
async def test_who_goes_while_a_websocket_is_opened_ends_it() -> None:
    class Never(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await anyio.sleep_forever()
            raise AssertionError

    async with cluster(transport=lambda _: Never()) as it:
        gone = {"type": "websocket.disconnect", "code": 1006}
        with anyio.fail_after(5):
            said = await told(
                it.pods["10.0.0.1"],
                it.key_of("10.0.0.2"),
                {"type": "websocket.connect"},
                gone,
                type="websocket",
                scheme="ws",
            )
        assert said == []
        assert it.rings["10.0.0.1"].stats().in_flight == 0


@pytest.mark.anyio
@pytest.mark.parametrize("can_answer", [True, False])
async def test_a_refusal_of_a_websocket_is_passed_on_within_limits(can_answer: bool) -> None:
    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 10_000

    class Refuses(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            assert request.headers["upgrade"] == "websocket"
            return httpx2.Response(403, stream=Endless())

    async with cluster(transport=lambda _: Refuses()) as it:
        extensions: dict[str, Any] = {"websocket.http.response": {}} if can_answer else {}
        said = await told(
            it.pods["10.0.0.1"],
            it.key_of("10.0.0.2"),
            {"type": "websocket.connect"},
            type="websocket",
            scheme="ws",
            extensions=extensions,
        )
        if can_answer:
            assert said[0]["status"] == 403
            assert len(said[1]["body"]) == 65_536
        else:
            assert [message["type"] for message in said] == ["websocket.close"]
        assert it.rings["10.0.0.1"].stats().in_flight == 0
