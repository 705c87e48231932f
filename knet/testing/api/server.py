"""
An API server on loopback, by plain HTTP, in a thread of its own.

Owns the socket and the streams; the thread is `Host`'s, and what to answer is `Responder`'s business.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from knet.testing.api.http import BROKEN_CHUNK, LAST_CHUNK, chunk, read_head, response_head
from knet.testing.api.responder import Responder, Silence, Watch, Whole
from knet.testing.host import Connection, Host, Listener, bind_tcp, later, shown_address

__all__ = ["Place", "Server"]

# Seconds between two bookmarks, about what a real server takes.
_BOOKMARKS = 60.0
# Seconds before a watch ends in which the last bookmark comes.
_LAST_BOOKMARK = 2.0
# Bytes that are read ahead while a response is under way.
_AHEAD = 64 * 1024


class Server(Host):
    """
    One listening server, from construction until `close`.

    Args:
        responder: Asked from the server's thread, one request at a time.
        host: A loopback address.
        port: 0 takes a free one.
        takes: Whether connections are taken at first.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, responder: Responder, *, host: str, port: int, takes: bool) -> None:
        self._responder = responder
        self._takes_at_first = takes
        self._streams: set[_Requests] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            tcp = bind_tcp(family, host, port)
        except OSError as error:
            raise OSError(f"cannot listen on {shown_address(host, port)}: {error}") from error
        self.port: int = tcp.getsockname()[1]
        self._listener = Listener(tcp, lambda: _Requests(responder, self._streams))
        super().__init__(f"knet-headless-service-api-{self.port}")
        self._launch()
        responder.wake = self._wake

    def set_taking(self, enabled: bool) -> None:
        """
        Take connections, or refuse them and drop those that are open.
        """
        change = self._listener.open() if enabled else self._listener.shut()
        asyncio.run_coroutine_threadsafe(change, self._loop).result()

    def _wake(self) -> None:
        self._soon(self._flush)

    def _flush(self) -> None:
        for stream in tuple(self._streams):
            stream.flush()

    def _release(self) -> None:
        self._listener.release()

    async def _serve(self) -> None:
        if self._takes_at_first:
            await self._listener.open()
        self._started.set_result(None)
        try:
            await self._stopped.wait()
        finally:
            await self._listener.shut(for_good=True)
            # As in the DNS server: sockets are closed some turns of the loop later.
            for _ in range(5):
                await asyncio.sleep(0)


class Place:
    """
    Where the API server is: before it runs, while it runs, and when it is back.

    Args:
        responder: Of the server.
        host: A loopback address.
    """

    def __init__(self, responder: Responder, host: str) -> None:
        self._responder = responder
        self._host = host
        self._port = 0
        self._takes = True
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """
        ``http://127.0.0.1:8001``.

        Raises:
            RuntimeError: It never ran.
        """
        if not self._port:
            raise RuntimeError("the API has no port before its headless service started")
        return f"http://{shown_address(self._host, self._port)}"

    @property
    def takes(self) -> bool:
        """
        Whether it takes connections, now or when it runs.
        """
        return self._takes

    @property
    def is_open(self) -> bool:
        """
        Whether it runs and takes connections.
        """
        return self._server is not None and self._takes

    def open(self) -> None:
        """
        Run the server, on the port that it had; versions from before are then too old.
        """
        if self._server is None:
            if self._port:
                self._responder.compact()
            host, port, takes = self._host, self._port, self._takes
            self._server = Server(self._responder, host=host, port=port, takes=takes)
            self._port = self._server.port

    def close(self) -> None:
        """
        Stop, and return once the thread has ended and the socket is closed.
        """
        self._refuse_own_thread("a headless service cannot be closed")
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def set_taking(self, enabled: bool) -> None:
        """
        Take connections, now and when it runs again, or refuse them. Versions from before are then too old.
        """
        self._refuse_own_thread("the API cannot be started or stopped")
        if enabled and not self._takes:
            self._responder.compact()
        if self._server is not None:
            self._server.set_taking(enabled)
        self._takes = enabled

    def stop_soon(self) -> None:
        """
        Stop without waiting.
        """
        if self._server is not None:
            self._server.stop_soon()

    def _refuse_own_thread(self, what: str) -> None:
        if self._server is not None and self._server.is_own_thread:
            raise RuntimeError(f"{what} from the respond hook of its API")


class _Requests(Connection):
    """
    One connection: any number of requests, answered in order; a watch is the last one until it ends.
    """

    def __init__(self, responder: Responder, streams: set[_Requests]) -> None:
        self._responder = responder
        self._streams = streams
        self._received = bytearray()
        self._is_busy = False
        self._watch: Watch | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leave()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._is_busy and len(self._received) > _AHEAD:
            self.abort()
        self._next()

    def flush(self) -> None:
        """
        Send what the watch has to say by now.
        """
        watch = self._watch
        if watch is None:
            return
        lines, now = watch.lines, time.monotonic()
        if self._responder.is_silent:
            if any(line == "break" for _, line in lines):
                self.abort()
            return
        while lines and lines[0][0] <= now:
            _, line = lines.popleft()
            if line == "end":
                self.write(LAST_CHUNK)
                self._leave()
                self._is_busy = False
                # Not at once: what comes next may be one more watch that ends like this.
                asyncio.get_running_loop().call_soon(self._next)
                return
            if line == "break":
                self.write(BROKEN_CHUNK)
                self.close()
                return
            self.write(chunk(line))
        if lines:
            self._later(max(lines[0][0] - now, 0.001), self.flush)

    def _next(self) -> None:
        """
        Answer the requests that have arrived, until one takes longer.
        """
        while not self._is_busy and self._received:
            try:
                head = read_head(self._received)
            except ValueError:
                self.write(response_head(400, {"Content-Length": "0", "Connection": "close"}))
                self.close()
                return
            if head is None:
                return
            del self._received[: head.length]
            self._is_busy = True
            outcome = self._responder.handle(
                head.method, head.path, head.params, head.headers.get("authorization", "")
            )
            if isinstance(outcome, Silence):
                if outcome.close:
                    later(outcome.delay, self.close)
                return
            if not isinstance(outcome, Whole):
                later(outcome.delay, self._open, outcome.watch)
            elif outcome.delay:
                later(outcome.delay, self._send_late, outcome)
            else:
                self._send(outcome)

    def _send_late(self, whole: Whole) -> None:
        self._send(whole)
        self._next()

    def _send(self, whole: Whole) -> None:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(whole.body))}
        if whole.retry_after is not None:
            headers["Retry-After"] = str(whole.retry_after)
        self.write(response_head(whole.code, headers) + whole.body)
        self._is_busy = False

    def _open(self, watch: Watch) -> None:
        if self._transport is None or self._transport.is_closing():
            self._responder.forget(watch)
            return
        headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        self.write(response_head(200, headers))
        self._watch = watch
        self._streams.add(self)
        self._later(watch.seconds, self._responder.end, "end", watch)
        if watch.seconds > _LAST_BOOKMARK:
            self._later(watch.seconds - _LAST_BOOKMARK, self._responder.last_bookmark, watch)
        self._later(_BOOKMARKS, self._bookmark)
        self.flush()

    def _bookmark(self) -> None:
        if self._watch is not None:
            self._responder.bookmark(self._watch)
            self._later(_BOOKMARKS, self._bookmark)

    def _later(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """
        Call in so many seconds, unless the watch has ended by then.
        """
        loop = asyncio.get_running_loop()
        self._timers = [timer for timer in self._timers if timer.when() > loop.time()]
        self._timers.append(loop.call_later(seconds, call, *args))

    def _leave(self) -> None:
        """
        Have no watch any more.
        """
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._streams.discard(self)
        if self._watch is not None:
            self._responder.forget(self._watch)
            self._watch = None
