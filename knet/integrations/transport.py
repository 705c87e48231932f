"""
What `RingTransport` does, once for httpx2 and httpx, whose classes are the same and not related.

The caller's request stays as it was: its URL, and with it cookies, redirects, the `Host` header and the
name that TLS verifies, are the service's. Another request goes to the pod, with the same body. Each pod
has a transport of its own, because one for all pods goes through all connections with every request, and
lets one slow pod take the room of all; they share one TLS context.
"""

from __future__ import annotations

import ssl
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType, TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio

from knet import (
    Bound,
    ConfigError,
    Endpoint,
    Kept,
    Pool,
    RetryOn,
    Ring,
    RingClosed,
    never_sent,
)
from knet.integrations.retries import retries_of

__all__ = ["KEPT_ALIVE", "Body", "OverlaidUrl", "RoutedTransport"]

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
TransportT = TypeVar("TransportT")
LimitsT = TypeVar("LimitsT")

# Seconds; idle connections are closed before uvicorn closes them, after 5 s, so that no request meets one that
# is being closed.
KEPT_ALIVE = 4.0

# Of one pod's transport, otherwise as the clients have it for all.
_LIMITS = {"max_connections": 100, "max_keepalive_connections": 20, "keepalive_expiry": KEPT_ALIVE}


class RoutedTransport(Generic[RequestT, ResponseT, TransportT, LimitsT]):
    """
    Sends each request to the pod of its key, and to the next one where that cannot be reached.

        client = httpx2.AsyncClient(mounts=RingTransport(ring).mounts())
        response = await client.get("http://web.prod/users/42", extensions={"knet_key": "user-42"})

    Whatever the caller sees is the service's: `response.url`, cookies, redirects, the `Host` header, the name
    that TLS verifies. `response.extensions["knet_pod"]` is the pod that answered. A host that is not the
    service's goes where it says.

    A request that no pod can have seen goes on to the next pod. One that may have been seen does so only
    if its method is idempotent (RFC 9110) and its body is in memory; `retry_on` decides otherwise, but not
    of a body that is gone. An answer is an answer, whatever its status.

    One transport belongs to one client, which closes it. Each pod has connections of its own, which are
    closed when the pod has left and its last response is closed.

    Args:
        ring: Where requests go; it must run when the first one is sent.
        key: What of a request is its key. `None`: `request.extensions["knet_key"]`. `knet.keys.path` is the path.
        n: How many pods are tried, at most.
        bound: As for `Ring.call`; a response counts until it is closed.
        retry_on: After which errors another pod may be asked; `None`: as above.
        total: Seconds until the response begins, with all pods together; then the client's
            `TimeoutException`. `None`: as the client's own time-outs add up.
        connect_timeout: Seconds for a connection to a pod, or for a free one, where the client's own
            time-outs are longer. A frozen pod costs each request that much until it is ejected.
        verify: As of the client; what is set there does not reach a mount.
        cert: As of the client.
        http2: As of the client.
        limits: As of the client, for each pod: 100 connections, 20 of them idle, for 4 s.
        transport: Given a pod, makes its transport, in place of the four above.

    Raises:
        ConfigError: An option is out of range, or `transport` is given beside what it replaces.
        TypeError: *ring* is no `Ring`, or an option has the wrong type.
    """

    def __init__(
        self,
        ring: Ring,
        *,
        key: Callable[[RequestT], str | bytes] | None = None,
        n: int = 3,
        bound: float | Bound | None = None,
        retry_on: RetryOn | None = None,
        total: float | None = None,
        connect_timeout: float | None = 2.0,
        verify: ssl.SSLContext | str | bool = True,
        cert: str | tuple[str, str] | tuple[str, str, str] | None = None,
        http2: bool = False,
        limits: LimitsT | None = None,
        transport: Callable[[Endpoint], TransportT] | None = None,
    ) -> None:
        if not isinstance(ring, Ring):
            raise TypeError(f"a RingTransport is of a Ring, not of a {type(ring).__name__}")
        for name, given in (("key", key), ("transport", transport)):
            if given is not None and not callable(given):
                raise TypeError(f"{name} must be a function or None, not {type(given).__name__}")
        if transport is not None and not (
            verify is True and cert is None and http2 is False and limits is None
        ):
            raise ConfigError(
                "transport makes the transport of a pod by itself: give it verify, cert, http2 and limits"
            )
        if connect_timeout is not None and not connect_timeout > 0:
            raise ConfigError(f"connect_timeout must be above 0, got {connect_timeout}")
        # These are checked where every request is tried; and here, once, where they are written.
        ring.attempts("", n=n, bound=bound, total=total, retry_on=retry_on or never_sent)
        self._ring = ring
        self._key = key
        self._n = n
        self._bound = bound
        self._retry_on = retry_on
        self._total = total
        self._connect_timeout = connect_timeout
        self._names = frozenset(ring.names)
        self._make = transport
        library = self._library()
        of_each: Any = library.Limits(**_LIMITS) if limits is None else limits
        self._most: int | None = of_each.max_connections
        # Of a transport of the library; elsewhere it has its defaults where the caller makes those of pods.
        self._options: dict[str, Any] = {}
        if transport is None:
            # Made once: it reads all certificates of the machine, which takes 20 ms.
            context = library.create_ssl_context(verify=verify, cert=cert)
            self._options = {"verify": context, "http2": http2, "limits": of_each}
        self._pool: Pool[_Connections] | None = None
        self._elsewhere: Any = None
        self._entered = 0
        self._is_closed = False

    @staticmethod
    @abstractmethod
    def _library() -> ModuleType | Any:
        """
        Return httpx2 or httpx.
        """

    @staticmethod
    @abstractmethod
    def _body(stream: Any, kept: Kept) -> Any:
        """
        Return the body of a response, in the library's own class.
        """

    # --- what a client does with it

    def mounts(self) -> dict[str, Self]:
        """
        Return the client's `mounts`, for every way to spell the service: see `Ring.names`.

        A mount for `all://web.prod` alone would let `http://web.prod.svc.cluster.local/` past the ring.
        """
        absolute = [f"{name}." for name in self._names if ".svc." in name]
        return {f"all://{name}": self for name in sorted((*self._names, *absolute), key=len)}

    async def handle_async_request(self, request: RequestT) -> ResponseT:
        """
        Send *request* to its pod, or to where it says.

        Raises:
            ConfigError: It has no key.
            NoEndpoints: There are no pods.
            RingNotReady: The ring was not started.
            RingClosed: The ring, or this transport, is closed.
        """
        asked: Any = request
        if asked.url.host.removesuffix(".") not in self._names:
            return await self._send_elsewhere(asked)
        key = self._key_of(asked)
        if self._total is None:
            return await self._send(key, asked)
        with anyio.move_on_after(self._total):
            return await self._send(key, asked)
        raise self._library().TimeoutException(
            f"no response from {asked.url.host} within {self._total:g} s", request=asked
        )

    async def __aenter__(self) -> Self:
        # A client enters each of its mounts.
        self._entered += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._entered -= 1
        if self._entered <= 0:
            await self.aclose()

    async def aclose(self) -> None:
        """
        Close all connections, also those of responses that are being read; they end with a `ReadError`.
        """
        self._is_closed = True
        pool, elsewhere = self._pool, self._elsewhere
        self._pool = self._elsewhere = None
        try:
            if pool is not None:
                await pool.aclose()
        finally:
            if elsewhere is not None:
                await elsewhere.aclose()

    # --- one request

    async def _send(self, key: str | bytes, request: Any) -> ResponseT:
        pool = self._pool or await self._open_pool()
        retry_on = retries_of(
            request.method,
            is_at_hand=isinstance(request.stream, self._library().ByteStream),
            retry_on=self._retry_on,
        )
        tries = pool.attempts(key, n=self._n, bound=self._bound, retry_on=retry_on)
        while True:
            async with tries as connections:
                pod = tries.pod
                assert pod is not None
                try:
                    response = await connections.transport.handle_async_request(
                        self._to_pod(request, pod)
                    )
                except self._library().PoolTimeout:
                    # Fewer than there is room for, and still no room: connections were lost.
                    if self._most is not None and tries.users <= self._most:
                        connections.is_usable = False
                    raise
                response.stream = self._body(response.stream, tries.keep())
                response.extensions["knet_pod"] = pod
                answered: ResponseT = response
                return answered

    def _to_pod(self, request: Any, pod: Endpoint) -> Any:
        url = request.url
        extensions = dict(request.extensions)
        extensions.setdefault("sni_hostname", url.host.removesuffix("."))
        limit = self._connect_timeout
        if limit is not None:
            timeout = extensions["timeout"] = dict(extensions.get("timeout", {}))
            for what in ("connect", "pool"):
                own = timeout.get(what)
                timeout[what] = limit if own is None else min(own, limit)
        inner = self._library().Request(
            request.method,
            url,
            headers=request.headers,
            stream=request.stream,
            extensions=extensions,
        )
        port = url.port if pod.port is None else pod.port
        if self._make is None:
            # `URL.copy_with` parses all of it again, which takes longer than everything else that is done here.
            raw_host = pod.address.encode("ascii")
            inner.url = OverlaidUrl(url, host=pod.address, raw_host=raw_host, port=port)
        else:
            inner.url = url.copy_with(host=pod.address, port=port)
        return inner

    def _key_of(self, request: Any) -> str | bytes:
        if self._key is None:
            key: str | bytes | None = request.extensions.get("knet_key")
            if key is None:
                raise ConfigError(
                    f'{request.method} {request.url} has no key: send it with extensions={{"knet_key": key}}, or '
                    "give the transport a function, RingTransport(ring, key=...)"
                )
            return key
        key = self._key(request)
        if key is None:
            raise ConfigError(f"the key function of {self!r} gave none for {request.url}")
        return key

    async def _open_pool(self) -> Pool[_Connections]:
        self._check_open()
        pool = Pool(self._ring, self._connections, usable=_Connections.may_be_used)
        await pool.__aenter__()
        self._pool = pool
        return pool

    @asynccontextmanager
    async def _connections(self, pod: Endpoint) -> AsyncIterator[_Connections]:
        made: Any = self._plain() if self._make is None else self._make(pod)
        async with made as transport:
            yield _Connections(transport)

    async def _send_elsewhere(self, request: Any) -> ResponseT:
        if self._elsewhere is None:
            self._check_open()
            self._elsewhere = self._plain()
        response: ResponseT = await self._elsewhere.handle_async_request(request)
        return response

    def _plain(self) -> Any:
        return self._library().AsyncHTTPTransport(**self._options)

    def _check_open(self) -> None:
        if self._is_closed:
            raise RingClosed(
                f"{self!r} was closed with its client; each client needs one of its own"
            )

    def __repr__(self) -> str:
        return f"<RingTransport of {self._ring!r}{', closed' if self._is_closed else ''}>"


class _Connections:
    """
    What one pod is reached by.
    """

    __slots__ = ("is_usable", "transport")

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.is_usable = True

    def may_be_used(self) -> bool:
        return self.is_usable


class OverlaidUrl:
    """
    A URL with other values in the place of some, which nobody parses, as a transport reads it.
    """

    def __init__(self, url: Any, **values: Any) -> None:
        self._url = url
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._url, name)


class Body:
    """
    The body of a response, which gives back what the request took once it is closed.
    """

    def __init__(self, stream: Any, kept: Kept) -> None:
        self._stream = stream
        self._kept = kept
        self._parts: Any = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        # No generator: one that is left in the middle is a warning on trio.
        self._parts = self._stream.__aiter__()
        return self

    async def __anext__(self) -> bytes:
        try:
            part: bytes = await self._parts.__anext__()
        except StopAsyncIteration:
            raise
        except Exception as error:
            self._kept.end(error)
            raise
        return part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._kept.end()
