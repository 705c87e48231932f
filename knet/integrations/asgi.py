"""
Rings in ASGI applications, such as FastAPI and Starlette: a lifespan that opens one, a middleware that has
each request served by the pod that owns its key, and a page that shows them. The extra `asgi`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Unpack, final, get_args

from knet import (
    ConfigError,
    Endpoint,
    NoEndpoints,
    Ring,
    RingClosed,
    RingNotReady,
    RingOptions,
)
from knet.integrations import tallies
from knet.integrations.forwarding import HOP, BadGateway, Hop, hop_in, is_in_via, target_of
from knet.integrations.scopes import (
    App,
    GivenRing,
    Message,
    Receive,
    Scope,
    Send,
    check_given,
    found_in,
    given_in,
    nowhere,
    say,
)
from knet.integrations.status.page import StatusPage

if TYPE_CHECKING:
    import httpx2
    from starlette.requests import HTTPConnection

    from knet.integrations.forwarder import Forwarder
else:
    try:
        from starlette.requests import HTTPConnection
    except ImportError:  # an application of another kind
        HTTPConnection = Any

__all__ = ["OwnerMiddleware", "StatusPage", "ring_lifespan", "ring_of"]

_logger = logging.getLogger("knet")

Mode = Literal["forward", "redirect", "refuse"]

_MISDIRECTED = 421


def ring_lifespan(
    service: str,
    *,
    name: str = "ring",
    then: Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]] | None = None,
    **options: Unpack[RingOptions],
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """
    Make a lifespan for `FastAPI(lifespan=...)` or `Starlette(lifespan=...)`, in which a ring is open.

        app = FastAPI(lifespan=ring_lifespan("cache.prod", port=8080))

        @app.get("/values/{key}")
        async def read(key: str, ring: Annotated[knet.Ring, Depends(ring_of)]) -> str: ...

    Each start of the application opens a ring of its own, which is `app.state.ring` and, where the server
    hands on the state of lifespans, in that of each request, also in applications that are mounted below.

    Args:
        service: As of `Ring`.
        name: What the ring is called there.
        then: The application's own lifespan; it runs inside, with the ring at `app.state`.
        options: Those of `Ring`. `me=knet.this_pod` for a service that routes to itself.

    Raises:
        ConfigError: What `Ring` refuses, at this call.
    """
    Ring(service, **options)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with Ring(service, **options) as ring:
            setattr(app.state, name, ring)
            try:
                if then is None:
                    yield {name: ring}
                else:
                    async with then(app) as state:
                        yield {**(state or {}), name: ring}
            finally:
                if getattr(app.state, name, None) is ring:
                    delattr(app.state, name)

    return lifespan


@final
class RingOf:
    """
    What `ring_of` is.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, connection: HTTPConnection) -> Ring:
        """
        Return the ring of the application that *connection*, a request or a WebSocket, is for.

        Raises:
            RingNotReady: There is none.
        """
        ring = found_in(connection.scope, self._name)
        if ring is None:
            raise RingNotReady(nowhere(self._name))
        return ring

    # FastAPI asks an object for its annotations, and does not know where their names come from.
    __call__.__annotations__.update({"connection": HTTPConnection, "return": Ring})

    def named(self, name: str) -> RingOf:
        """
        Return what gives the ring of another name: `Depends(ring_of.named("other"))`.
        """
        return RingOf(name)

    def __repr__(self) -> str:
        return f"ring_of.named({self._name!r})"


# For `Annotated[knet.Ring, Depends(ring_of)]`, of requests and of WebSockets.
ring_of = RingOf("ring")


@final
class OwnerMiddleware:
    """
    Has each request served by the pod that owns its key.

        app = FastAPI(lifespan=ring_lifespan("rooms.prod", port=8080, me=knet.this_pod))
        app.add_middleware(OwnerMiddleware, key=room_of)

    What is mine goes to the application, and so does what has no key. All else goes to its owner:

    - `"forward"`: handed on and back, streaming, WebSockets message by message. Where the owner cannot be
      connected to, the next pod serves it, or this one.
    - `"redirect"`: 307, which keeps method and body. A WebSocket is forwarded, since browsers follow no redirect
      of a handshake.
    - `"refuse"`: 421, for a client that knows where to go.

    A request is handed on once. Two pods may disagree for the time that news takes: then who got it answers
    421, and both count it. Before there is a ring, and while it has no pods, the answer is 503.

    Args:
        app: What serves what is mine.
        ring: A `Ring`, a function that gives it, or its name in the state of the application: a middleware is
            made before the lifespan runs, and a ring lives once.
        key: Given the scope of a request, gives its key; `None`: it is served here, as `/healthz` is.
        mode: What happens to what is not mine.
        secret: What all pods of the service know. A request counts as handed on by one of them if it proves
            the secret; without one, if it comes from the address of a pod. Behind a proxy, or a server that
            believes `X-Forwarded-For` of everybody, give one.
        location: Given a pod and the scope, gives the URL to redirect to. `None`: the pod's address.
        n: How many pods are tried, at most.
        connect_timeout: Seconds for a connection to a pod.
        total: Seconds until the answer begins; `None`: as long as the owner takes.
        scheme: By which pods are reached: `"https"` verifies the service's name.
        transport: Given a pod, makes the transport of httpx2 by which it is reached: for an authority, or a
            certificate, of one's own.

    Raises:
        ConfigError: An option is out of range.
        TypeError: An option has the wrong type.
    """

    def __init__(
        self,
        app: App,
        ring: GivenRing = "ring",
        *,
        key: Callable[[Scope], str | bytes | None],
        mode: Mode = "forward",
        secret: str | bytes | None = None,
        location: Callable[[Endpoint, Scope], str] | None = None,
        n: int = 3,
        connect_timeout: float = 2.0,
        total: float | None = None,
        scheme: Literal["http", "https"] = "http",
        transport: Callable[[Endpoint], httpx2.AsyncBaseTransport] | None = None,
    ) -> None:
        check_given(ring)
        for what, given in (("key", key), ("location", location), ("transport", transport)):
            if not callable(given) and (what == "key" or given is not None):
                raise TypeError(f"{what} must be a function, not {type(given).__name__}")
        if mode not in get_args(Mode):
            raise ConfigError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
        if secret is not None and not isinstance(secret, str | bytes):
            raise TypeError(f"secret must be str, bytes or None, not {type(secret).__name__}")
        if secret is not None and not secret:
            raise ConfigError("secret must not be empty")
        if scheme not in ("http", "https"):
            raise ConfigError(f"scheme must be http or https, got {scheme!r}")
        for what, least in (("n", n), ("connect_timeout", connect_timeout), ("total", total)):
            if least is not None and not least > 0:
                raise ConfigError(f"{what} must be above 0, got {least}")
        self._app = app
        self._ring = ring
        self._key = key
        self._mode = mode
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self._location = location
        self._forwarder: Forwarder | None = None
        if mode != "refuse":
            # Who only opens rings needs none of it.
            from knet.integrations.forwarder import Forwarder  # noqa: PLC0415

            self._forwarder = Forwarder(
                n=n,
                connect_timeout=connect_timeout,
                total=total,
                scheme=scheme,
                secret=self._secret,
                transport=transport,
            )
        self._has_started = False
        self._has_warned = False
        self._counts: dict[str, int] = dict.fromkeys(
            ("mine", "forwarded", "redirected", "refused", "disagreed", "failed"), 0
        )

    def stats(self) -> dict[str, int]:
        """
        Return what became of requests with a key so far, in this process.

        `"mine"`: served here. `"forwarded"`, `"redirected"`, `"refused"`: by mode, the last one also after a
        disagreement. `"disagreed"`: handed on by a pod whose snapshot was another one. `"failed"`: no pod
        could be reached.
        """
        return dict(self._counts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Serve one connection, by the protocol of ASGI.
        """
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] not in ("http", "websocket") or (key := self._key(scope)) is None:
            await self._app(scope, receive, send)
        else:
            await self._serve(key, scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._has_started = False
                if self._forwarder is not None:
                    await self._forwarder.aclose()
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._has_started = True
            await send(message)

        await self._app(scope, received, sent)

    async def _serve(self, key: str | bytes, scope: Scope, receive: Receive, send: Send) -> None:
        ring = self._find(scope)
        if ring is None:
            await say(scope, send, 503, "starting: there is no ring yet")
            return
        try:
            snapshot = ring.snapshot
            is_mine = ring.is_mine(key)
        except (RingClosed, RingNotReady):
            await say(scope, send, 503, "there is no ring")
            return
        hop = self._hop(scope, ring)
        if hop is not None and hop.digest != snapshot.digest:
            self._count("disagreed", ring)
        if is_mine or (hop is not None and self._is_left_to_me(hop, ring)):
            await self._serve_here(ring, scope, receive, send)
        elif hop is not None or is_in_via(scope["headers"], _called(ring)):
            self._count("refused", ring)
            await say(scope, send, _MISDIRECTED, "the pod that sent this and this one disagree")
        elif self._mode == "refuse":
            self._count("refused", ring)
            await say(scope, send, _MISDIRECTED, "this pod does not own the key")
        elif self._mode == "redirect" and scope["type"] == "http":
            await self._redirect(key, ring, scope, send)
        else:
            await self._forward(key, ring, scope, receive, send)

    def _find(self, scope: Scope) -> Ring | None:
        ring = given_in(scope, self._ring)
        if ring is None and self._has_started and isinstance(self._ring, str):
            raise ConfigError(nowhere(self._ring))
        return ring

    def _hop(self, scope: Scope, ring: Ring) -> Hop | None:
        """
        Return the hop that counts; one that does not is taken out.
        """
        if not any(name == HOP for name, _ in scope["headers"]):
            return None
        client = scope.get("client")
        # Where there is a secret an address proves nothing, and nobody looks for it among a thousand pods.
        pods = () if self._secret is not None else ring.snapshot.endpoints
        hop, is_forged = hop_in(
            scope["headers"],
            None if client is None else client[0],
            {endpoint.address for endpoint in pods},
            self._secret,
        )
        scope["headers"] = [each for each in scope["headers"] if each[0] != HOP]
        if is_forged and not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "%s: a request from %s says that a pod sent it, and that is the address of none: "
                "where proxies hide the addresses of pods, give OwnerMiddleware a secret",
                *(ring.service, "nobody known" if client is None else client[0]),
            )
        return hop

    def _is_left_to_me(self, hop: Hop, ring: Ring) -> bool:
        """
        Did the sender find the owner dead, or believe in one that has left?
        """
        return hop.has_failed or ring.snapshot.find(hop.owner) is None

    def _count(self, what: tallies.Event, ring: Ring) -> None:
        self._counts[what] += 1
        tallies.count(ring, what)

    async def _serve_here(self, ring: Ring, scope: Scope, receive: Receive, send: Send) -> None:
        self._count("mine", ring)
        await self._app(scope, receive, send)

    async def _redirect(self, key: str | bytes, ring: Ring, scope: Scope, send: Send) -> None:
        try:
            owner = ring.snapshot.get(key)
        except NoEndpoints:
            await say(scope, send, 503, "there are no pods")
            return
        if self._location is None:
            there = f"{scope.get('scheme', 'http')}://{owner}".encode() + target_of(scope)
        else:
            there = self._location(owner, scope).encode()
        self._count("redirected", ring)
        await say(scope, send, 307, "", [(b"location", there)])

    async def _forward(
        self, key: str | bytes, ring: Ring, scope: Scope, receive: Receive, send: Send
    ) -> None:
        assert self._forwarder is not None
        try:
            left_to_me = await self._forwarder.forward(
                key, ring, scope, receive, send, _called(ring)
            )
        except BadGateway as error:
            self._count("failed", ring)
            await say(scope, send, error.status, str(error))
        except (NoEndpoints, RingClosed):
            await say(scope, send, 503, "there are no pods")
        else:
            if left_to_me is None:
                self._count("forwarded", ring)
            else:
                await self._serve_here(ring, scope, left_to_me, send)

    def __repr__(self) -> str:
        return f"<OwnerMiddleware mode={self._mode} {self._counts}>"


def _called(ring: Ring) -> str:
    """
    Return what this pod is called, also while it is not ready.
    """
    return f"{ring.service} {ring.me or id(ring)}"
