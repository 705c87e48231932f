"""
As much of a Kubernetes API server as CoreDNS asks for, with headless Services in it.

It serves list and watch for Namespaces, Services and EndpointSlices over plain HTTP on loopback:
no admission, no authentication, and of all controllers only a copy of what the endpointslice
controller publishes, at most 100 endpoints to a slice and every slice written on its own.

The server lives on an event loop in a thread of its own, and while it runs only that thread touches
its objects. A control method returns once its change is stored; each open watch is told right after.
It may be stopped and started again, as an API server that dies: it forgets nothing, and what
is changed meanwhile is seen when it is back.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from .ports import HOST, reserve_port

__all__ = ["FakeKubeAPI", "HeadlessService", "Pod", "Port"]

MAX_ENDPOINTS_PER_SLICE = 100  # kube-controller-manager's --max-endpoints-per-slice

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Port:
    """
    A port of a Service, TCP.
    """

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Pod:
    """
    One pod, as far as a Service sees it.

    Attributes:
        ipv4: Its IPv4 address, if it has one.
        ipv6: Its IPv6 address, if it has one.
        hostname: What a StatefulSet gives its pods ("web-0"); those of a Deployment have none.
        ready: Whether its readiness probe passes.
        terminating: Whether it was deleted and is shutting down; such a pod is never ready, unless
            its Service publishes those that are not.
    """

    ipv4: str | None = None
    ipv6: str | None = None
    hostname: str | None = None
    ready: bool = True
    terminating: bool = False

    @property
    def address(self) -> str:
        """
        The address that a client takes if it has no preference: IPv4 where there is one.
        """
        return self.ipv4 or self.ipv6 or ""

    def in_slices(self, *, publish_not_ready: bool = False) -> list[tuple[str, Object]]:
        """
        Return an address family and an element of `endpoints` for each address.
        """
        endpoint: Object = {
            "conditions": {
                "ready": publish_not_ready or (self.ready and not self.terminating),
                "serving": self.ready,
                "terminating": self.terminating,
            }
        }
        if self.hostname is not None:
            endpoint["hostname"] = self.hostname
        families = (("IPv4", self.ipv4), ("IPv6", self.ipv6))
        return [(family, {**endpoint, "addresses": [ip]}) for family, ip in families if ip]


@dataclass(frozen=True, slots=True)
class _Kind:
    path: str
    api_version: str
    name: str


NAMESPACES = _Kind("/api/v1/namespaces", "v1", "Namespace")
SERVICES = _Kind("/api/v1/services", "v1", "Service")
ENDPOINTSLICES = _Kind(
    "/apis/discovery.k8s.io/v1/endpointslices", "discovery.k8s.io/v1", "EndpointSlice"
)


class _Table:
    """
    The objects of one kind and everything that ever happened to them.

    `events` holds (type, object) pairs and is never shortened, so a watch may resume anywhere.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.events: list[tuple[str, Object]] = []


class HeadlessService:
    """
    A Service without a cluster IP, in front of pods that the test puts there.
    """

    def __init__(
        self,
        api: FakeKubeAPI,
        name: str,
        namespace: str,
        ports: tuple[Port, ...],
        publish_not_ready: bool,
    ) -> None:
        self._api = api
        self._name = name
        self._namespace = namespace
        self._publish_not_ready = publish_not_ready
        self._ports = [{"name": p.name, "port": p.number, "protocol": "TCP"} for p in ports]
        # One entry per slice: its family, and its endpoints by address. Slices are never renumbered.
        self._slices: list[tuple[str, dict[str, Object]]] = []

    def set_pods(self, pods: Iterable[Pod]) -> None:
        """
        Replace the pods behind the Service; an address that stays keeps its slice.
        """
        wanted = self._entries(pods)
        self._api.change(lambda: self._publish(wanted))

    def set_slice(self, number: int, pods: Iterable[Pod]) -> None:
        """
        Write one slice, from 0 on, and no other: what is there between two writes of the controller.

        So an address may be in two slices at once, or for a moment in none. The pods have addresses
        of one family; without any, the slice is deleted.
        """
        entries = self._entries(pods)
        endpoints = {endpoint["addresses"][0]: endpoint for _, endpoint in entries}
        families = {family for family, _ in entries}
        if number == len(self._slices):
            self._slices.append((families.pop(), {}))
        family, before = self._slices[number]
        assert families <= {family}, f"slice {number} is for {family}"
        if endpoints != before:
            self._slices[number] = (family, endpoints)
            self._api.change(lambda: self._store(number, family, endpoints))

    def _entries(self, pods: Iterable[Pod]) -> list[tuple[str, Object]]:
        publish = self._publish_not_ready
        return [entry for pod in pods for entry in pod.in_slices(publish_not_ready=publish)]

    def _publish(self, wanted: list[tuple[str, Object]]) -> None:
        new = {endpoint["addresses"][0]: (family, endpoint) for family, endpoint in wanted}
        before = [dict(endpoints) for _, endpoints in self._slices]
        for _, endpoints in self._slices:
            for ip in list(endpoints):
                if ip in new:
                    endpoints[ip] = new.pop(ip)[1]
                else:
                    del endpoints[ip]
        for ip, (family, endpoint) in new.items():
            self._slice_with_room(family)[ip] = endpoint
        for number, (family, endpoints) in enumerate(self._slices):
            if number >= len(before) or endpoints != before[number]:
                self._store(number, family, endpoints)

    def _slice_with_room(self, family: str) -> dict[str, Object]:
        for its_family, endpoints in self._slices:
            if its_family == family and len(endpoints) < MAX_ENDPOINTS_PER_SLICE:
                return endpoints
        self._slices.append((family, {}))
        return self._slices[-1][1]

    def _store(self, number: int, family: str, endpoints: dict[str, Object]) -> None:
        name = f"{self._name}-{number:05d}"
        if not endpoints:
            self._api.delete(ENDPOINTSLICES, self._namespace, name)
            return
        labels = {"kubernetes.io/service-name": self._name}
        body = {
            "addressType": family,
            "ports": self._ports or None,
            "endpoints": list(endpoints.values()),
        }
        self._api.store(ENDPOINTSLICES, self._namespace, name, body, labels=labels)


class FakeKubeAPI:
    """
    The server; a context manager that runs it on a free port of loopback, and inside which it may
    be stopped and started again.

        with FakeKubeAPI() as api:
            web = api.create_service("web", "prod", Port("http", 8080))
            web.set_pods([Pod("10.1.0.1"), Pod("10.1.0.2")])
    """

    def __init__(self) -> None:
        self._tables = {kind: _Table() for kind in (NAMESPACES, SERVICES, ENDPOINTSLICES)}
        self._version = 0
        self._port, self._reserved = reserve_port()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._changed: asyncio.Event  # set, and replaced by a new one, at every change
        self._stopping: asyncio.Event

    def __enter__(self) -> FakeKubeAPI:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._reserved.close()

    def start(self) -> None:
        """
        Start it, on the port that it had before.
        """
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="kube-api"
        )
        self._thread.start()
        if not started.wait(10):
            raise RuntimeError("the fake Kubernetes API did not start")

    def stop(self) -> None:
        """
        Stop it, if it runs: every watch ends, and connections are refused.
        """
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    @property
    def url(self) -> str:
        """
        Where it listens, as CoreDNS's `endpoint` option wants it.
        """
        return f"http://{HOST}:{self._port}"

    def create_service(
        self, name: str, namespace: str, *ports: Port, publish_not_ready: bool = False
    ) -> HeadlessService:
        """
        Create a headless Service, and its namespace where that is new.

        With *publish_not_ready*, `publishNotReadyAddresses`, its slices call every pod ready.
        """

        def create() -> None:
            if ("", namespace) not in self._tables[NAMESPACES].objects:
                self.store(NAMESPACES, "", namespace, {})
            spec: Object = {"clusterIP": "None", "clusterIPs": ["None"]}
            spec["ports"] = [{"name": p.name, "port": p.number, "protocol": "TCP"} for p in ports]
            spec["publishNotReadyAddresses"] = publish_not_ready
            self.store(SERVICES, namespace, name, {"spec": spec})

        self.change(create)
        return HeadlessService(self, name, namespace, ports, publish_not_ready)

    def change(self, change: Callable[[], None]) -> None:
        """
        Run *change* on the server's thread, wake every watch, and return when it is done.
        """
        if self._thread is None:
            change()
            return

        async def run() -> None:
            change()
            self._changed.set()
            self._changed = asyncio.Event()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def store(
        self,
        kind: _Kind,
        namespace: str,
        name: str,
        body: Object,
        *,
        labels: dict[str, str] | None = None,
    ) -> None:
        """
        Create or replace one object; only for use inside `change`.
        """
        table = self._tables[kind]
        event = "MODIFIED" if (namespace, name) in table.objects else "ADDED"
        metadata = {"namespace": namespace, "name": name, "labels": labels or {}}
        table.objects[namespace, name] = self._record(kind, event, metadata, body)

    def delete(self, kind: _Kind, namespace: str, name: str) -> None:
        """
        Delete one object; only for use inside `change`.
        """
        gone = self._tables[kind].objects.pop((namespace, name))
        body = {key: value for key, value in gone.items() if key != "metadata"}
        self._record(kind, "DELETED", gone["metadata"], body)

    def _record(self, kind: _Kind, event: str, metadata: Object, body: Object) -> Object:
        self._version += 1
        versioned = {**metadata, "resourceVersion": str(self._version)}
        stored = {
            **body,
            "kind": kind.name,
            "apiVersion": kind.api_version,
            "metadata": versioned,
        }
        self._tables[kind].events.append((event, stored))
        return stored

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        app = web.Application()
        for kind in self._tables:
            app.router.add_get(kind.path, self._handler(kind))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self._port, reuse_port=True).start()
            started.set()
            await self._stopping.wait()
        finally:
            # Open watches are handlers that wait for ever; this cancels them.
            await runner.cleanup()

    def _handler(self, kind: _Kind) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            if request.query.get("watch") == "true":
                return await self._watch(request, kind)
            items = list(self._tables[kind].objects.values())
            return web.json_response(
                {
                    "kind": f"{kind.name}List",
                    "apiVersion": kind.api_version,
                    "metadata": {"resourceVersion": str(self._version)},
                    "items": items,
                }
            )

        return handle

    async def _watch(self, request: web.Request, kind: _Kind) -> web.StreamResponse:
        """
        Send the objects there are (where asked to), then every event, for ever.

        An API server ends a watch after the minutes that `timeoutSeconds` says; no test lasts so
        long.
        """
        table = self._tables[kind]
        since = request.query.get("resourceVersion", "")
        # A streaming list asks for the objects there are, and for a bookmark that closes them.
        streaming = request.query.get("sendInitialEvents") == "true"
        if streaming or since in ("", "0"):
            pending = [("ADDED", stored) for stored in table.objects.values()]
            cursor = len(table.events)
        else:
            pending = []
            cursor = sum(_version_of(stored) <= int(since) for _, stored in table.events)
        if streaming:
            end: Object = {
                "resourceVersion": str(self._version),
                "annotations": {"k8s.io/initial-events-end": "true"},
            }
            bookmark = {"kind": kind.name, "apiVersion": kind.api_version, "metadata": end}
            pending.append(("BOOKMARK", bookmark))

        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            changed = self._changed
            pending += table.events[cursor:]
            cursor = len(table.events)
            for event, stored in pending:
                line = json.dumps({"type": event, "object": stored})
                await response.write(line.encode() + b"\n")
            pending = []
            if cursor == len(table.events):
                await changed.wait()


def _version_of(stored: Object) -> int:
    return int(stored["metadata"]["resourceVersion"])
