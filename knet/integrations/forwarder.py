"""
Hands a request on to the pod that owns its key: the awaiting half of `knet.integrations.forwarding`.

Over httpx2, with connections of their own for each pod. Both bodies stream. When the caller goes, the
exchange with the owner ends. A WebSocket is taken up by this pod and by the owner, and its messages are
passed on one by one.
"""

from __future__ import annotations

import base64
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import anyio

from knet import Endpoint, Kept, Pool, Ring, may_repeat, never_sent, unreachable
from knet.integrations.forwarding import (
    BadGateway,
    Headers,
    Hop,
    answer_headers,
    handshake_headers,
    is_close_code,
    request_headers,
    target_of,
)
from knet.integrations.scopes import Message, Receive, Scope, Send
from knet.integrations.transport import KEPT_ALIVE, OverlaidUrl

try:
    import h11
    import httpx2
    from httpx2.websockets import (
        AsyncWebSocketSession,
        WebSocketDisconnect,
        WebSocketNetworkError,
    )
except ImportError as error:
    raise ImportError(
        "httpx2 is not installed, or not with its WebSockets: python -m pip install 'knet-ring[asgi]'"
    ) from error

__all__ = ["Forwarder"]

_logger = logging.getLogger("knet")

T = TypeVar("T")

# Bytes of one message of a WebSocket: as much as uvicorn takes.
_LARGEST_MESSAGE = 16 * 1024 * 1024

# "Service Restart", of the registry of RFC 6455: come again.
_COME_AGAIN = 1012
# "Normal Closure", "Going Away", and what is told of a closure without a code, which cannot be sent.
_NORMAL = 1000
_GOING_AWAY = 1001
_NO_CODE = 1005

# RFC 9110, 9.2.1: what can be done by another pod than the owner, after the owner may have done it.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

# Of an answer that refuses a WebSocket: how much of it is passed on, and how long it may take.
_LARGEST_REFUSAL = 65_536
_LONGEST_REFUSAL = 5.0


class _CallerGone(Exception):
    """
    Raised inside of an exchange whose caller has gone.
    """


class Forwarder:
    """
    Hands requests on.

    Args:
        n: How many pods are tried, at most.
        connect_timeout: Seconds for a connection to a pod.
        total: Seconds until the answer begins, or `None`.
        scheme: By which pods are reached.
        secret: What pods prove to each other, or `None`.
        transport: Given a pod, makes its transport; `None`: one of httpx2, with one TLS context.
    """

    def __init__(
        self,
        *,
        n: int,
        connect_timeout: float,
        total: float | None,
        scheme: str,
        secret: bytes | None,
        transport: Callable[[Endpoint], httpx2.AsyncBaseTransport] | None,
    ) -> None:
        self._n = n
        self._total = total
        self._scheme = scheme
        self.secret = secret
        self._timeout = {
            "connect": connect_timeout,
            "pool": connect_timeout,
            "read": None,
            "write": None,
        }
        self._transport = transport
        self._verify: Any = False
        if transport is None and scheme == "https":
            self._verify = httpx2.create_ssl_context()
        self._ring: Ring | None = None
        self._pool: Pool[httpx2.AsyncBaseTransport] | None = None

    async def aclose(self) -> None:
        """
        Close all connections; a later request opens others.
        """
        pool, self._pool, self._ring = self._pool, None, None
        if pool is not None:
            await pool.aclose()

    async def forward(
        self,
        key: str | bytes,
        ring: Ring,
        scope: Scope,
        receive: Receive,
        send: Send,
        me: str,
    ) -> Receive | None:
        """
        Have the owner of *key* serve what *scope* asks for.

        Returns:
            `None`: it was handed on. Else it is to be served here, and this is where it is received from.

        Raises:
            BadGateway: Nobody could be reached, and nothing was answered.
            NoEndpoints: There are no pods.
            RingClosed: The ring is closed.
        """
        first = await receive()
        if first["type"] in ("http.disconnect", "websocket.disconnect"):
            return None
        exchange = _Exchange(self, key, ring, scope, first, receive, send, me)
        try:
            is_left = await (exchange.websocket() if exchange.is_websocket else exchange.http())
        except _CallerGone:
            return None
        return exchange.replay if is_left else None

    async def begin(
        self, exchange: _Exchange, method: str, *, is_at_hand: bool
    ) -> tuple[httpx2.Response, Kept] | None:
        """
        Return the beginning of an answer; `None`: this pod is the one to serve it.
        """
        pool = await self._pool_of(exchange.ring)
        is_safe = is_at_hand and method in _SAFE and not exchange.is_websocket
        tries = pool.attempts(
            exchange.key,
            n=self._n,
            retry_on=may_repeat if is_safe else never_sent,
            eject_on=_speaks_against,
        )
        try:
            with anyio.fail_after(self._total):
                while True:
                    async with tries as transport:
                        pod = tries.pod
                        if pod is None or pod == exchange.ring.me:
                            return None
                        response = await transport.handle_async_request(
                            self._request(exchange, method, pod)
                        )
                        return response, tries.keep()
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise BadGateway(504, f"the pod of this key did not answer: {_said(error)}") from error
        except httpx2.TransportError as error:
            raise BadGateway(
                502, f"the pod of this key could not be reached: {_said(error)}"
            ) from error
        except h11.LocalProtocolError as error:
            raise BadGateway(400, f"this cannot be handed on: {error}") from error

    def _request(self, exchange: _Exchange, method: str, pod: Endpoint) -> httpx2.Request:
        where: dict[str, Any] = {"scheme": self._scheme, "host": pod.address}
        if pod.port is not None:
            where["port"] = pod.port
        request = httpx2.Request(
            method,
            httpx2.URL(**where),
            headers=exchange.headers_for(pod),
            stream=exchange.body(),
            extensions={"timeout": self._timeout, "sni_hostname": exchange.ring.service},
        )
        # Byte for byte as it came: `httpx2.URL` would resolve its dots and quote it anew, and the owner would be
        # asked for something else than the key was taken from.
        path, _, query = exchange.target.partition(b"?")
        request.url = cast(
            httpx2.URL,
            OverlaidUrl(
                request.url,
                raw_path=exchange.target,
                path=unquote(path.decode("ascii", "replace")),
                query=query,
            ),
        )
        return request

    async def _pool_of(self, ring: Ring) -> Pool[httpx2.AsyncBaseTransport]:
        pool = self._pool
        if self._ring is not ring or pool is None:
            old = pool
            pool = Pool(ring, self._open)
            await pool.__aenter__()  # which does not wait
            self._pool, self._ring = pool, ring
            if old is not None:
                await old.aclose()
        return pool

    def _open(self, pod: Endpoint) -> httpx2.AsyncBaseTransport:
        if self._transport is not None:
            return self._transport(pod)
        limits = httpx2.Limits(max_connections=None, keepalive_expiry=KEPT_ALIVE)
        return httpx2.AsyncHTTPTransport(verify=self._verify, limits=limits)


class _Exchange:
    """
    One request that is handed on.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        key: str | bytes,
        ring: Ring,
        scope: Scope,
        first: Message,
        receive: Receive,
        send: Send,
        me: str,
    ) -> None:
        self.key = key
        self.ring = ring
        self._forwarder = forwarder
        self._scope = scope
        self._first = first
        self._receive = receive
        self._send = send
        self._me = me
        self.is_websocket = scope["type"] == "websocket"
        snapshot = ring.snapshot
        self._owner = snapshot.get(key)
        self._digest = snapshot.digest
        self._asked: Endpoint | None = None
        self._was_first_taken = False
        self._body_ended = anyio.Event()
        self.target = target_of(scope)

    async def replay(self) -> Message:
        """
        Receive from the beginning.
        """
        if not self._was_first_taken:
            self._was_first_taken = True
            return self._first
        return await self._receive()

    # --- what the owner gets

    def headers_for(self, pod: Endpoint) -> Headers:
        """
        Return the headers for *pod*, which may be another one than the owner.
        """
        self._asked = pod
        scope = self._scope
        client = scope.get("client")
        hop = Hop(self._owner.name, self._digest, has_failed=pod != self._owner)
        headers = request_headers(
            scope["headers"],
            hop.value(self._forwarder.secret),
            me=self._me,
            client=None if client is None else client[0],
            scheme=scope.get("scheme", "http"),
            version=scope.get("http_version", "1.1"),
        )
        if not any(name == b"host" for name, _ in headers):
            headers.insert(0, (b"host", self.ring.service.encode()))
        is_framed = any(name == b"content-length" for name, _ in headers)
        if self.is_websocket:
            headers = handshake_headers(headers)
            headers += [
                (b"connection", b"upgrade"),
                (b"upgrade", b"websocket"),
                (b"sec-websocket-version", b"13"),
                (b"sec-websocket-key", _new_key()),
            ]
        elif not self._is_at_hand and not is_framed:
            headers.append((b"transfer-encoding", b"chunked"))
        elif self._first.get("body") and not is_framed:
            # It came in chunks, all of which are here.
            headers.append((b"content-length", str(len(self._first["body"])).encode()))
        return headers

    @property
    def _is_at_hand(self) -> bool:
        return not self._first.get("more_body", False)

    def body(self) -> Any:
        """
        Return what is sent to the owner.
        """
        if self._is_at_hand:
            return httpx2.ByteStream(self._first.get("body", b""))
        return _Streamed(self._next_part)

    async def _next_part(self) -> bytes:
        """
        Return what comes next of the body; `b""`: it has ended.
        """
        while not self._body_ended.is_set():
            message = await self.replay()
            if message["type"] != "http.request":
                raise _CallerGone
            if not message.get("more_body", False):
                self._body_ended.set()
            if part := message.get("body", b""):
                return bytes(part)
        return b""

    # --- HTTP

    async def http(self) -> bool:
        """
        Hand a request on, and its answer back; return whether it is to be served here.
        """
        return await self._while_the_caller_stays(self._http)

    async def _http(self) -> bool:
        begun = await self._forwarder.begin(
            self, self._scope["method"], is_at_hand=self._is_at_hand
        )
        if begun is None:
            return True
        response, kept = begun
        self._body_ended.set()
        try:
            await self._send(
                {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": answer_headers(response.headers.raw),
                }
            )
            async with _parts_of(response) as parts:
                async for part in parts:
                    message = {"type": "http.response.body", "body": part, "more_body": True}
                    await self._send(message)
            await self._send({"type": "http.response.body", "body": b""})
        except httpx2.TransportError as error:
            # To end it as if it were whole would be a lie: the server is to break it off.
            kept.end(error)
            _logger.warning(
                "%s: the answer of %s to %s %r broke off: %s",
                *(self.ring.service, self._asked, self._scope["method"], self._scope["path"][:200]),
                _said(error),
            )
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            kept.end()
        return False

    async def _while_the_caller_stays(self, work: Callable[[], Awaitable[T]]) -> T:
        """
        Return what *work* gives.

        Raises:
            _CallerGone: The caller has gone meanwhile.
            Exception: What *work* raises, as itself and not in a group.
        """
        outcome: T | None = None
        failure: Exception | None = _CallerGone()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, tasks.cancel_scope)
            try:
                outcome, failure = await work(), None
            except Exception as error:  # noqa: BLE001 - it is raised below
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return cast(T, outcome)

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """
        End the exchange when the caller goes; nobody else receives once the body has ended.
        """
        if not self.is_websocket and not self._is_at_hand:
            await self._body_ended.wait()
        while (await self._receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
            pass
        scope.cancel()

    # --- WebSockets

    async def websocket(self) -> bool:
        """
        Hand a WebSocket on, until either side ends it; return whether it is to be served here.
        """
        begin = partial(self._forwarder.begin, self, "GET", is_at_hand=True)
        begun = await self._while_the_caller_stays(begin)
        if begun is None:
            return True
        response, kept = begun
        try:
            if response.status_code == 101:
                await self._take_up(response, kept)
            else:
                await self._deny(response)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            kept.end()
        return False

    async def _take_up(self, response: httpx2.Response, kept: Kept) -> None:
        accept: dict[str, Any] = {
            "type": "websocket.accept",
            "headers": [
                each
                for each in handshake_headers(answer_headers(response.headers.raw))
                if each[0] != b"sec-websocket-protocol"  # it is told apart
            ],
        }
        if protocol := response.headers.get("sec-websocket-protocol"):
            accept["subprotocol"] = protocol
        await self._send(accept)
        session = AsyncWebSocketSession(
            response.extensions["network_stream"],
            max_message_size_bytes=_LARGEST_MESSAGE,
            # While a slow caller is sent to, nobody reads from the owner, and so no pong is seen.
            keepalive_ping_timeout_seconds=None,
            response=response,
        )
        async with session, anyio.create_task_group() as tasks:
            tasks.start_soon(self._to_owner, session, tasks.cancel_scope)
            await self._to_caller(session, kept)
            tasks.cancel_scope.cancel()

    async def _to_owner(self, session: Any, scope: anyio.CancelScope) -> None:
        while True:
            message = await self._receive()
            try:
                if message["type"] == "websocket.disconnect":
                    code = message.get("code") or _NO_CODE
                    if not is_close_code(code):
                        code = _NORMAL if code == _NO_CODE else _GOING_AWAY
                    await session.close(code, message.get("reason") or None)
                    scope.cancel()
                    return
                if message.get("text") is not None:
                    await session.send_text(message["text"])
                else:
                    await session.send_bytes(message["bytes"])
            except WebSocketNetworkError:
                return  # who reads from the owner sees it too

    async def _to_caller(self, session: Any, kept: Kept) -> None:
        while True:
            try:
                event = await session.receive()
            except WebSocketDisconnect as end:
                code = end.code if is_close_code(end.code) else _NORMAL
                reason = end.reason
            except WebSocketNetworkError as error:
                kept.end(httpx2.ReadError(f"the WebSocket broke off: {_said(error)}"))
                code, reason = _COME_AGAIN, "the pod of this key has broken off"
            else:
                if isinstance(event.data, str):
                    await self._send({"type": "websocket.send", "text": event.data})
                else:
                    await self._send({"type": "websocket.send", "bytes": bytes(event.data)})
                continue
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
            return

    async def _deny(self, response: httpx2.Response) -> None:
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            await self._send({"type": "websocket.close", "code": _NORMAL})
            return
        body = b""
        with (
            suppress(httpx2.TransportError),
            anyio.move_on_after(_LONGEST_REFUSAL),
        ):
            async with _parts_of(response) as parts:
                async for part in parts:
                    body += part
                    if len(body) > _LARGEST_REFUSAL:
                        break
        body = body[:_LARGEST_REFUSAL]
        headers = answer_headers(response.headers.raw)
        headers = [each for each in headers if each[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send(
            {
                "type": "websocket.http.response.start",
                "status": response.status_code,
                "headers": headers,
            }
        )
        await self._send({"type": "websocket.http.response.body", "body": body})


class _Streamed(httpx2.AsyncByteStream):
    """
    A body that is sent as it comes.
    """

    def __init__(self, next_part: Callable[[], Awaitable[bytes]]) -> None:
        self._next_part = next_part

    def __aiter__(self) -> AsyncIterator[bytes]:
        # No generator: one that is left in the middle is a warning on trio.
        return self

    async def __anext__(self) -> bytes:
        if part := await self._next_part():
            return part
        raise StopAsyncIteration


@asynccontextmanager
async def _parts_of(response: httpx2.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """
    Give the parts of a body, whose iterator is closed where it was not read to the end.
    """
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    parts = aiter(response.stream)
    try:
        yield parts
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            with anyio.CancelScope(shield=True):
                await close()


def _speaks_against(error: BaseException) -> int:
    """
    Only that it could not be connected to: what broke later may be the application's own failure.
    """
    return unreachable(error) if never_sent(error) else 0


def _new_key() -> bytes:
    return base64.b64encode(secrets.token_bytes(16))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}{f': {error}' if str(error) else ''}"
