"""
aiohttp by way of a ring: a middleware for its client, and a context for its applications. The extra `aiohttp`.

A client middleware sees a request before it has a connection. This one puts the pod's address into the
request's URL: what was made of it before, the `Host` header, cookies, and `response.url`, stays the
service's. `ClientRequest.url` and `server_hostname` are plain attributes, which aiohttp does not promise
to leave so; a test holds it to that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Unpack, final

from knet import (
    Bound,
    ConfigError,
    Endpoint,
    Kept,
    RetryOn,
    Ring,
    RingOptions,
    may_repeat,
    never_sent,
)
from knet.integrations.retries import retries_of

try:
    import aiohttp
    from aiohttp import payload, web
except ImportError as error:
    raise ImportError(
        "aiohttp is not installed: python -m pip install 'knet-ring[aiohttp]'"
    ) from error

__all__ = ["ExchangeBroken", "ring_context", "ring_middleware", "ring_websocket"]

Key = str | bytes | Callable[[aiohttp.ClientRequest], str | bytes]
_SECURE = frozenset({"https", "wss"})


class ExchangeBroken(aiohttp.ClientConnectionError):
    """
    Raised when an exchange with a pod broke after the pod may have seen the request.

    In place of aiohttp's `ServerDisconnectedError` or `ClientOSError`, its cause: after those aiohttp sends
    an idempotent request once more by itself.
    """


def ring_middleware(
    ring: Ring,
    *,
    key: Key,
    n: int = 3,
    bound: float | Bound | None = None,
    retry_on: RetryOn | None = None,
) -> RingMiddleware:
    """
    Make a middleware that sends each request for the ring's service to the pod of its key.

        async with session.get(
            "http://web.prod/users/42", middlewares=[ring_middleware(ring, key="user-42")]
        ) as response: ...

    Whatever the caller sees is the service's: `response.url`, cookies, redirects, the `Host` header, the name
    that TLS verifies; but for `response.request_info.url`, which is the pod's. A request for another host, also one after a redirect, goes where it says. A request
    that no pod can have seen goes on to the next pod; one that may have been seen does so only if its
    method is idempotent (RFC 9110) and its body is in memory. An answer is an answer, whatever its status.

    A frozen pod costs each request the session's time to connect, until it is ejected:
    `aiohttp.ClientTimeout(sock_connect=2)`. Give the session `aiohttp.TCPConnector(limit=0)`, whose 100
    connections are for all pods together.

    Args:
        ring: Where requests go; it must run.
        key: The key, for the middleware of one request; or a function of the request, for a session's.
            `knet.keys.path` is the path.
        n: How many pods are tried, at most.
        bound: As for `Ring.call`; a response counts until it was read or is closed.
        retry_on: After which errors another pod may be asked; `None`: as above.

    Raises:
        ConfigError: An option is out of range.
        TypeError: *ring* is no `Ring`, or an option has the wrong type.
    """
    return RingMiddleware(ring, key, n, bound, retry_on)


@final
class RingMiddleware:
    """
    What `ring_middleware` returns.
    """

    __slots__ = ("_bound", "_key", "_n", "_names", "_retry_on", "_ring")

    def __init__(
        self,
        ring: Ring,
        key: Key,
        n: int,
        bound: float | Bound | None,
        retry_on: RetryOn | None,
    ) -> None:
        if not isinstance(ring, Ring):
            raise TypeError(f"ring_middleware is of a Ring, not of a {type(ring).__name__}")
        if not isinstance(key, str | bytes) and not callable(key):
            raise TypeError(f"key must be str, bytes or a function, not {type(key).__name__}")
        # They are checked where every request is tried; and here, where they are written.
        ring.attempts("", n=n, bound=bound, retry_on=retry_on or never_sent)
        self._ring = ring
        self._key = key
        self._n = n
        self._bound = bound
        self._retry_on = retry_on
        self._names = frozenset(ring.names)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        service = request.url
        if (service.host or "").removesuffix(".") not in self._names:
            return await handler(request)
        if service.scheme in _SECURE and request.server_hostname is None:
            request.server_hostname = service.host
        retry_on = retries_of(
            request.method,
            is_at_hand=not request.body or isinstance(request.body, payload.BytesPayload),
            retry_on=self._retry_on,
        )
        tries = self._ring.attempts(
            self._key_of(request), n=self._n, bound=self._bound, retry_on=retry_on
        )
        try:
            while True:
                async with tries as pod:
                    request.url = _at(service, pod)
                    response = await handler(request)
                    _end_with(response, tries.keep())
                    return response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            broken = ExchangeBroken(f"{request.method} {service}: {type(error).__name__}: {error}")
            for note in getattr(error, "__notes__", ()):
                broken.add_note(note)
            raise broken from error
        finally:
            request.url = service

    def _key_of(self, request: aiohttp.ClientRequest) -> str | bytes:
        if not callable(self._key):
            return self._key
        key = self._key(request)
        if key is None:
            raise ConfigError(f"the key function of {self!r} gave none for {request.url}")
        return key

    def __repr__(self) -> str:
        return f"<ring_middleware of {self._ring!r}>"


def _end_with(response: aiohttp.ClientResponse, kept: Kept) -> None:
    """
    Let *kept* end when the connection of *response* is given back.
    """
    connection = response.connection
    if connection is None:  # it has no body, or all of it was there already
        kept.end()
        return

    def end() -> None:
        error = response.content.exception()
        kept.end(error if isinstance(error, aiohttp.ClientPayloadError) else None)

    connection.add_callback(end)


@asynccontextmanager
async def ring_websocket(
    session: aiohttp.ClientSession,
    ring: Ring,
    key: str | bytes,
    url: str,
    *,
    n: int = 3,
    bound: float | Bound | None = None,
    **options: Any,
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """
    Open a WebSocket at the pod of *key*, or at the next one where that cannot be reached.

        async with ring_websocket(session, ring, "room-7", "ws://chat.prod/rooms/7") as socket:
            await socket.send_str("hello")

    `ClientSession.ws_connect` takes no middlewares. It counts as in flight until it is closed. Once it is
    open its end is the caller's to see: who joins a room again opens another one.

    Args:
        session: Its own middlewares, cookies and headers apply; cookies are not kept, since the URL has the
            address of a pod.
        ring: Where the service's pods are.
        key: As for `Ring.get`.
        url: Of the service.
        n: How many pods are tried, at most.
        bound: As for `Ring.call`.
        options: Of `ClientSession.ws_connect`.

    Raises:
        ConfigError: *url* is not of the ring's service.
    """
    # aiohttp brings them.
    from multidict import CIMultiDict  # noqa: PLC0415
    from yarl import URL  # noqa: PLC0415

    service = URL(url)
    if (service.host or "").removesuffix(".") not in ring.names:
        raise ConfigError(
            f"{url!r} is not of the ring's service, which is asked for as {' or '.join(ring.names)}"
        )
    headers = CIMultiDict(options.pop("headers", None) or ())
    headers.setdefault("Host", service.authority)
    if service.scheme in _SECURE:
        options.setdefault("server_hostname", service.host)
    tries = ring.attempts(key, n=n, bound=bound, retry_on=may_repeat)
    socket, kept = await _opened(session, tries, service, {**options, "headers": headers})
    try:
        async with socket:
            yield socket
    finally:
        kept.end()


async def _opened(
    session: aiohttp.ClientSession, tries: Any, service: Any, options: dict[str, Any]
) -> tuple[aiohttp.ClientWebSocketResponse, Kept]:
    while True:
        async with tries as pod:
            url = _at(service, pod)
            return await session.ws_connect(url, **options), tries.keep()


def _at(service: Any, pod: Endpoint) -> Any:
    there = service.with_host(pod.address)
    return there if pod.port is None else there.with_port(pod.port)


def ring_context(
    app_key: web.AppKey[Ring], service: str, **options: Unpack[RingOptions]
) -> Callable[[web.Application], AsyncIterator[None]]:
    """
    Make a context for `app.cleanup_ctx`, which opens a ring and closes it.

        RING = web.AppKey("ring", knet.Ring)
        app.cleanup_ctx.append(ring_context(RING, "web.prod", port=8080))

    Args:
        app_key: Where handlers find the ring: `request.app[RING]`.
        service: As of `Ring`.
        options: Those of `Ring`.

    Raises:
        ConfigError: What `Ring` refuses, at this call.
    """
    Ring(service, **options)

    async def open_ring(app: web.Application) -> AsyncIterator[None]:
        async with Ring(service, **options) as app[app_key]:
            yield

    return open_ring
