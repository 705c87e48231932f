"""
`knet resolve`, `knet get` and `knet watch`: one service, asked once or followed.

Here questions are asked and answers printed; options are read elsewhere. On a pipe nothing is
coloured, cut off or wrapped, and JSON is one object a line.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import anyio
from anyio.lowlevel import checkpoint
from rich.console import Console

from knet import (
    Alive,
    Answer,
    ConfigError,
    Endpoint,
    Fallback,
    Family,
    KnetError,
    Protocol,
    Question,
    RefreshPolicy,
    Resolver,
    ResolveTimeout,
    Ring,
    Snapshot,
    Source,
    State,
    Telling,
)
from knet.hashring import HashRing, Maglev, Placement, Rendezvous
from knet.hashring.proxies import (
    EnvoyMaglev,
    EnvoyRing,
    GrpcRing,
    HAProxyRing,
    Ketama,
    NginxRing,
    PymemcacheRendezvous,
)

__all__ = ["PLACEMENTS", "By", "Family", "Placing", "Protocol", "Target", "get", "resolve", "watch"]

By = Literal["dns", "slices", "auto"]

# Seconds that the API may take for its first word.
_PATIENCE = 10.0

Placing = Literal[
    "hashring",
    "maglev",
    "rendezvous",
    "envoy",
    "envoy-maglev",
    "grpc",
    "nginx",
    "haproxy",
    "ketama",
    "pymemcache",
]
# The endpoints are in the order of their names, which some of the proxies' placements depend on.
PLACEMENTS: Mapping[Placing, Callable[[tuple[Endpoint, ...]], Placement[Endpoint]]] = {
    "hashring": HashRing,
    "maglev": Maglev,
    "rendezvous": Rendezvous,
    "envoy": EnvoyRing,
    "envoy-maglev": EnvoyMaglev,
    "grpc": GrpcRing,
    "nginx": NginxRing,
    "haproxy": HAProxyRing,
    "ketama": Ketama,
    "pymemcache": PymemcacheRendezvous,
}


@dataclass(frozen=True, slots=True)
class Target:
    """
    Which pods are asked for, and whom.

    Attributes:
        service: As `knet.Ring` takes it, and the next three likewise.
        port: A number, a name, or `None`.
        protocol: Of a named port.
        family: Of the addresses.
        nameservers: Whom to ask; none: those of `/etc/resolv.conf`.
        external: As `knet.Resolver` takes it, and the next one likewise.
        namespace: Where a bare service name is looked up.
        by: `"dns"`, `"slices"`: the API of Kubernetes, or `"auto"`: the API, and DNS where that cannot tell.
        kubeconfig: Where the API is and who asks; `None`: as the cluster says, else as kubectl would find it.

    Raises:
        ConfigError: Options that do not go together.
    """

    service: str
    port: int | str | None = None
    protocol: Protocol = "tcp"
    family: Family = "auto"
    nameservers: tuple[str, ...] = ()
    external: bool = False
    namespace: str | None = None
    by: By = "dns"
    kubeconfig: str | None = None

    def __post_init__(self) -> None:
        if self.by == "slices" and (self.nameservers or self.external):
            raise ConfigError("--nameserver and --external are for DNS: leave out --source slices")
        if self.by == "dns" and self.kubeconfig is not None:
            raise ConfigError("--kubeconfig is for the API: write --source slices, or auto")

    def resolver(self) -> Resolver:
        return Resolver(
            nameservers=self.nameservers or None, external=self.external, namespace=self.namespace
        )

    def slices(self) -> Telling:
        """
        Return what tells by the API of Kubernetes.
        """
        from knet.kubernetes import EndpointSlices  # noqa: PLC0415 - an extra

        return EndpointSlices(kubeconfig=self._kubeconfig(), namespace=self.namespace)

    def _kubeconfig(self) -> str | None:
        if self.kubeconfig is not None or os.environ.get("KUBERNETES_SERVICE_HOST"):
            return self.kubeconfig
        usual = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or "~/.kube/config"
        return usual if Path(usual).expanduser().exists() else None

    async def resolve(self) -> tuple[Answer, By]:
        """
        Look the service up once; return what was answered, and by whom.
        """
        if self.by != "dns":
            try:
                return await self._told(), "slices"
            except (KnetError, ImportError) as error:
                if self.by == "slices":
                    raise
                _warn(f"the API cannot tell, asking DNS: {error}")
        answer = await self.resolver().resolve(
            self.service, port=self.port, protocol=self.protocol, family=self.family
        )
        return answer, "dns"

    async def _told(self) -> Answer:
        """
        Return what the API tells first.
        """
        question = Question(self.service, self.port, self.protocol, self.family)
        told: list[Answer | Exception] = []
        first = anyio.Event()

        def tell(word: Answer | Exception | Alive) -> None:
            if not isinstance(word, Alive):
                told.append(word)
                first.set()

        async def watch(source: Telling) -> None:
            try:
                await source.watch(question, tell)
            except (KnetError, ImportError) as error:
                tell(error)

        source = self.slices()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, source)
            with anyio.move_on_after(_PATIENCE):
                await first.wait()
            tasks.cancel_scope.cancel()
        if not told:
            raise ResolveTimeout(f"no answer for {question} from {source!r} within {_PATIENCE:g} s")
        if isinstance(told[0], Exception):
            raise told[0]
        return told[0]

    def source(self) -> Source:
        """
        Return where a ring hears of the service.
        """
        if self.by == "dns":
            return self.resolver()
        try:
            slices = self.slices()
        except (ConfigError, ImportError) as error:
            if self.by == "slices":
                raise
            _warn(f"the API cannot tell, asking DNS: {error}")
            return self.resolver()
        return slices if self.by == "slices" else Fallback(slices, self.resolver())

    def ring(self, refresh: RefreshPolicy) -> Ring:
        """
        Make a ring that follows the service.
        """
        return Ring(
            self.service,
            port=self.port,
            protocol=self.protocol,
            family=self.family,
            resolver=self.source(),
            refresh=refresh,
        )


async def resolve(target: Target, *, as_json: bool) -> None:
    """
    Print the endpoints of one lookup, and what else the answer said.
    """
    answer, by = await target.resolve()
    if as_json:
        _print_json(
            service=target.service,
            source=by,
            name=answer.name,
            ttl=answer.ttl,
            complete=answer.complete,
            endpoints=[_fields(e) for e in answer.endpoints],
        )
        return
    ttl = "unknown" if answer.ttl is None else f"{answer.ttl:g} s"
    what = "complete" if answer.complete else "incomplete: some endpoints may be missing"
    _print_table(
        ("name", "address", "port"),
        [(e.name, e.address, "-" if e.port is None else str(e.port)) for e in answer.endpoints],
    )
    count = len(answer.endpoints)
    pods = f"{count} endpoint{'' if count == 1 else 's'}"
    lasting = "as the API told it" if by == "slices" else f"ttl {ttl}"
    _print(f"\n{pods} of {answer.name or target.service}, {lasting}, {what}")


async def get(
    target: Target, keys: Sequence[str], *, placing: Placing, count: int, as_json: bool
) -> None:
    """
    Print the *count* most preferred endpoints of each key.
    """
    make = PLACEMENTS[placing]
    if target.port is None and getattr(make, "hashes_ports", False):
        raise ConfigError(
            f"--placement {placing} hashes addresses with their ports, as the proxy does: add --port"
        )
    answer, _ = await target.resolve()
    placement = make(answer.endpoints)
    picks = [(key, placement.get_n(key, count)) for key in keys]
    if as_json:
        for key, endpoints in picks:
            _print_json(key=key, endpoints=[_fields(e) for e in endpoints])
        return
    rows = [
        (key, str(choice), str(endpoint), endpoint.name)
        for key, endpoints in picks
        for choice, endpoint in enumerate(endpoints, 1)
    ]
    _print_table(("key", "choice", "endpoint", "name"), rows)


async def watch(target: Target, *, interval: float, changes: int | None, as_json: bool) -> None:
    """
    Print what a ring of *target* starts with, and then each change of it.

    Args:
        target: The service.
        interval: Seconds between lookups.
        changes: After how many of them to end; `None`: never.
        as_json: As objects instead of sentences.
    """
    ring = target.ring(RefreshPolicy(interval=interval))
    # Until there is a first line a warning says what is waited for.
    warned = _Warned()
    logger = logging.getLogger("knet")
    logger.addHandler(warned)
    try:
        await ring.start()
    finally:
        logger.removeHandler(warned)
    async with aclosing(ring):
        watcher = _Watcher(ring, _show_event_json if as_json else _show_event, changes)
        await watcher.run()


class _Warned(logging.Handler):
    """
    Shows warnings as the command shows errors.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        _warn(record.getMessage())


@dataclass(frozen=True, slots=True)
class _Event:
    """
    One line of `knet watch`.
    """

    event: Literal["start", "change", "state"]
    generation: int
    state: str
    endpoints: tuple[Endpoint, ...]
    added: tuple[Endpoint, ...] = ()
    removed: tuple[Endpoint, ...] = ()
    moved: float = 0.0
    error: str | None = None
    source: str = "Resolver"


class _Watcher:
    """
    Tells what *ring* has now, then every change of its endpoints and of its state, *most* of them.
    """

    def __init__(self, ring: Ring, show: Callable[[_Event], None], most: int | None) -> None:
        self._ring = ring
        self._show = show
        self._left = math.inf if most is None else most
        # What was told last.
        self._state: State = ring.state
        self._snapshot = ring.snapshot

    async def run(self) -> None:
        changes = self._ring.changes()
        snapshot = self._snapshot
        source = self._ring.stats().source
        self._show(
            _Event("start", snapshot.generation, self._state, snapshot.endpoints, source=source)
        )
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow_states, tasks.cancel_scope)
                async for change in changes:
                    news = change.added, change.removed, change.moved
                    self._tell("change", change.after, tasks.cancel_scope, *news)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            only, *others = group.exceptions
            if others:
                raise
            raise only from None

    async def _follow_states(self, scope: anyio.CancelScope) -> None:
        while True:
            others = [state for state in get_args(State) if state != self._state]
            if await self._ring.wait_for(*others) == "closed":
                return
            # What changes the endpoints too is told as that, together.
            if self._ring.snapshot is self._snapshot and self._ring.state != self._state:
                self._tell("state", self._snapshot, scope)
            else:
                await checkpoint()

    def _tell(
        self,
        what: Literal["change", "state"],
        snapshot: Snapshot,
        scope: anyio.CancelScope,
        added: tuple[Endpoint, ...] = (),
        removed: tuple[Endpoint, ...] = (),
        moved: float = 0.0,
    ) -> None:
        if self._left <= 0:
            return
        self._snapshot, self._state = snapshot, self._ring.state
        stats = self._ring.stats()
        error = None if self._state == "fresh" else stats.last_error
        generation, endpoints = snapshot.generation, snapshot.endpoints
        self._show(
            _Event(
                *(what, generation, self._state, endpoints, added, removed, moved, error),
                source=stats.source,
            )
        )
        self._left -= 1
        if self._left <= 0:
            scope.cancel()


def _show_event(event: _Event) -> None:
    parts = [f"generation {event.generation}", event.state, f"{len(event.endpoints)} endpoints"]
    if event.event == "change":
        parts += [f"+{_both(e)}" for e in event.added]
        parts += [f"-{_both(e)}" for e in event.removed]
        parts.append(f"{event.moved:.1%} of the keys moved")
    elif event.event == "start":
        parts += [_both(e) for e in event.endpoints]
    if event.source != "Resolver":
        parts.append(f"by {event.source}")
    if event.error is not None:
        parts.append(" ".join(event.error.split()))
    _print(f"{datetime.now().astimezone():%H:%M:%S}  {'  '.join(parts)}")


def _show_event_json(event: _Event) -> None:
    _print_json(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        event=event.event,
        generation=event.generation,
        state=event.state,
        endpoints=[_fields(e) for e in event.endpoints],
        added=[_fields(e) for e in event.added],
        removed=[_fields(e) for e in event.removed],
        moved=round(event.moved, 6),
        error=event.error,
        source=event.source,
    )


def _warn(what: str) -> None:
    print(f"knet: {what}", file=sys.stderr, flush=True)


def _both(endpoint: Endpoint) -> str:
    """
    Name and address of *endpoint*, once where they are the same.
    """
    if endpoint.name == endpoint.address:
        return str(endpoint)
    return f"{endpoint.name} ({endpoint})"


def _fields(endpoint: Endpoint) -> dict[str, Any]:
    return {"name": endpoint.name, "address": endpoint.address, "port": endpoint.port}


def _print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _print("  ".join(cells).rstrip(), style="bold" if row is headers else "")


def _print(text: str, style: str = "") -> None:
    # Never cut, so that what is copied or piped is whole; a terminal wraps long lines itself.
    Console(highlight=False).print(text, style=style, markup=False, emoji=False, soft_wrap=True)
    sys.stdout.flush()


def _print_json(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)
