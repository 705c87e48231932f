"""
A small API server of EndpointSlices on the event loop of the test: list, watch, bookmarks, and what goes wrong.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import h11
from anyio.abc import SocketAttribute

__all__ = ["Api", "serving", "slice_of"]

Json = dict[str, Any]


def slice_of(name: str, *addresses: str | Json, port: int = 8080, **more: Any) -> Json:
    """
    Return a slice as the API has it; an address may be a whole endpoint.
    """
    endpoints = [
        {"addresses": [each], "conditions": {"ready": True}} if isinstance(each, str) else each
        for each in addresses
    ]
    return {
        "metadata": {"name": name},
        "addressType": "IPv6"
        if any(":" in each for each in addresses if isinstance(each, str))
        else "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "protocol": "TCP", "port": port}],
        **more,
    }


class Api:
    """
    One service's slices.

    Attributes:
        url: Where it is.
        requests: The parameters of each, in order.
        tokens: What each was sent with.
        status: What it answers instead, if it is not 0; then `body` and `headers`.
        can_send: It sends what is there before a watch.
        ends_at_once: It ends each watch once what is there was sent.
        token: Which token it takes; `""`: any.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.slices: dict[str, Json] = {}
        self.version = 100
        self.oldest = 0
        self.requests: list[dict[str, str]] = []
        self.tokens: list[str] = []
        self.status = 0
        self.body = "{}"
        self.headers: list[tuple[str, str]] = []
        self.can_send = True
        self.ends_at_once = False
        self.token = ""
        self.page = 0
        self._events: list[tuple[int, Json]] = []
        self._changed = anyio.Event()
        self._scopes: set[anyio.CancelScope] = set()

    def put(self, told: Json) -> None:
        """
        Add or change a slice.
        """
        kind = "MODIFIED" if told["metadata"]["name"] in self.slices else "ADDED"
        self._tell(kind, told)
        self.slices[told["metadata"]["name"]] = told

    def delete(self, name: str) -> None:
        self._tell("DELETED", self.slices.pop(name))

    def bookmark(self) -> None:
        self._tell("BOOKMARK", {"metadata": {}})

    def forget(self) -> None:
        """
        Know nothing of what was: versions from before are too old.
        """
        self.oldest = self.version
        self.break_off()

    def break_off(self) -> None:
        """
        Break all watches in the middle.
        """
        for scope in self._scopes:
            scope.cancel()

    def _tell(self, kind: str, told: Json) -> None:
        self.version += 1
        told["metadata"]["resourceVersion"] = str(self.version)
        self._events.append((self.version, {"type": kind, "object": json.loads(json.dumps(told))}))
        self._changed.set()
        self._changed = anyio.Event()

    async def serve(self, stream: Any) -> None:
        with suppress(
            anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError
        ):
            async with stream:
                connection = h11.Connection(h11.SERVER)
                while True:
                    event = connection.next_event()
                    if event is h11.NEED_DATA:
                        connection.receive_data(await stream.receive())
                    elif isinstance(event, h11.Request):
                        await self._answer(stream, connection, event)
                        return
                    else:
                        return

    async def _answer(self, stream: Any, connection: Any, request: Any) -> None:
        headers = {k.decode(): v.decode() for k, v in request.headers}
        params = {k: v[0] for k, v in parse_qs(urlsplit(request.target.decode()).query).items()}
        self.requests.append(params)
        token = headers.get("authorization", "").removeprefix("Bearer ")
        self.tokens.append(token)

        async def whole(status: int, body: str, *more: tuple[str, str]) -> None:
            data = body.encode()
            head = [("content-length", str(len(data))), ("connection", "close"), *more]
            await stream.send(connection.send(h11.Response(status_code=status, headers=head)))
            await stream.send(connection.send(h11.Data(data=data)))

        if self.status:
            await whole(self.status, self.body, *self.headers)
        elif self.token and token != self.token:
            await whole(401, '{"message": "Unauthorized"}')
        elif "watch" not in params:
            await whole(200, json.dumps(self._page(params)))
        elif "sendInitialEvents" in params and not self.can_send:
            await whole(422, '{"message": "sendInitialEvents is forbidden"}')
        else:
            await self._watch(stream, connection, params)

    def _page(self, params: dict[str, str]) -> Json:
        self.page += 1
        names = sorted(self.slices)
        first = int(params.get("continue", "0"))
        last = first + int(params["limit"])
        metadata = {"resourceVersion": str(self.version)}
        if last < len(names):
            metadata["continue"] = str(last)
        return {"items": [self.slices[name] for name in names[first:last]], "metadata": metadata}

    async def _watch(self, stream: Any, connection: Any, params: dict[str, str]) -> None:
        head = [("content-type", "application/json")]
        await stream.send(connection.send(h11.Response(status_code=200, headers=head)))

        async def say(told: Json) -> None:
            line = json.dumps(told).encode() + b"\n"
            await stream.send(connection.send(h11.Data(data=line)))

        seen = int(params.get("resourceVersion", "0"))
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if "sendInitialEvents" in params:
                    for told in self.slices.values():
                        await say({"type": "ADDED", "object": told})
                    end = {"k8s.io/initial-events-end": "true"}
                    metadata = {"resourceVersion": str(self.version), "annotations": end}
                    await say({"type": "BOOKMARK", "object": {"metadata": metadata}})
                    seen = self.version
                elif seen < self.oldest:
                    await say({"type": "ERROR", "object": {"code": 410, "message": "too old"}})
                    await stream.send(connection.send(h11.EndOfMessage()))
                    return
                if self.ends_at_once:
                    await stream.send(connection.send(h11.EndOfMessage()))
                    return
                while True:
                    changed = self._changed
                    for version, event in list(self._events):
                        if version > seen:
                            seen = version
                            await say(event)
                    await changed.wait()
            finally:
                self._scopes.discard(scope)


@asynccontextmanager
async def serving() -> AsyncIterator[Api]:
    async with anyio.create_task_group() as tasks:
        listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
        api = Api(listener.extra(SocketAttribute.local_port))

        async def live() -> None:
            async with listener:
                await listener.serve(api.serve)

        tasks.start_soon(live)
        yield api
        tasks.cancel_scope.cancel()
