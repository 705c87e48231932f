"""
How long news takes from the API to a ring: by DNS and by slices, on a real control plane.

    python -m tests.e2e.control_plane.table [--times 7]

Prints the table that stands in docs/kubernetes.md. Both rings have the defaults; CoreDNS gives a TTL of 5 s and has no
cache before it. An event comes at any moment between two lookups of the ring that asks: they are spread evenly over
five seconds.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from knet import RefreshPolicy, Ring

from .plane import ControlPlane, Json, deployment, headless
from .world import World, until, world

__all__ = ["EVENTS", "form", "measure", "shown"]

EVENTS = (
    "a pod is killed: deleted with grace 0",
    "its readiness probe fails",
    "it is deleted, with its grace",
    "it gets ready",
)
_KILLED, _UNREADY, _DELETED, _READY = EVENTS

# Who stays.
_PODS = 2
_INTERVAL = 5.0

# Seconds, by DNS and by slices, of each event.
Measured = Mapping[str, tuple[Sequence[float], Sequence[float]]]


class Service:
    """
    A Service, and the two rings of it. It has a pod for each time, since one that comes and goes is another story.
    """

    def __init__(self, it: World, name: str, times: int) -> None:
        self._it = it
        self._name = name
        self._times = times
        self._rings: list[Ring] = []
        self._had: set[str] = set()
        self.measured: dict[str, tuple[list[float], list[float]]] = {}

    async def run(self, *events: str) -> None:
        """
        Let *events* happen one after the other, again and again.
        """
        it, name = self._it, f"{self._name}.{self._it.namespace}"
        await it.apply(headless(self._name))
        await it.apply(deployment(self._name, self._times + _PODS))
        async with AsyncExitStack() as stack:
            for source in (it.dns, it.slices):
                ring = Ring(name, port=8080, resolver=source, refresh=RefreshPolicy())
                self._rings.append(await stack.enter_async_context(ring))
            for number in range(self._times):
                for event in events:
                    await until(self._is_settled)
                    await anyio.sleep(_INTERVAL * (number + 0.5) / self._times)
                    await self._let_happen(event)

    def _is_settled(self) -> bool:
        asks, told = (ring.snapshot for ring in self._rings)
        return asks.digest == told.digest and len(told) >= _PODS

    async def _let_happen(self, event: str) -> None:
        it = self._it
        pod = next(
            each
            for each in await it.pods(f"app={self._name}")
            if not each["metadata"].get("deletionTimestamp") and self._is_next(event, each)
        )
        name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        self._had.add(address)
        seconds: list[float] = [0.0, 0.0]
        async with anyio.create_task_group() as tasks:
            for which in range(2):
                await tasks.start(self._time, which, address, event == _READY, seconds)
            if event in (_UNREADY, _READY):
                await it.set_ready(pod, event == _READY)
            else:
                grace = {"gracePeriodSeconds": 0} if event == _KILLED else {}
                await it.plane.delete(it.path("pods", name), **grace)
        for found, took in zip(self.measured.setdefault(event, ([], [])), seconds, strict=True):
            found.append(took)

    def _is_next(self, event: str, pod: Json) -> bool:
        """
        Is *pod* one that *event* has not happened to yet?
        """
        address = pod["status"].get("podIP", "")
        if event == _READY:
            return address in self._had and not self._has(1, address)
        return address not in self._had and self._has(1, address)

    def _has(self, which: int, address: str) -> bool:
        return any(pod.address == address for pod in self._rings[which].snapshot.endpoints)

    async def _time(
        self,
        which: int,
        address: str,
        is_there: bool,
        seconds: list[float],
        *,
        task_status: TaskStatus[None],
    ) -> None:
        changes = self._rings[which].changes()
        began = anyio.current_time()
        task_status.started()
        while self._has(which, address) != is_there:
            await anext(changes)
        seconds[which] = anyio.current_time() - began


async def measure(it: World, times: int) -> Measured:
    """
    Let each event happen so many times.

    Returns:
        The seconds that each took, by DNS and by slices.
    """
    it.kubelet.grace = 1.0
    services = [Service(it, name, times) for name in ("killed", "deleted", "flips")]
    async with anyio.create_task_group() as tasks:
        for service, events in zip(
            services, ((_KILLED,), (_DELETED,), (_UNREADY, _READY)), strict=True
        ):
            tasks.start_soon(service.run, *events)
    found = {event: took for service in services for event, took in service.measured.items()}
    return {event: found[event] for event in EVENTS}


def shown(measured: Measured) -> str:
    """
    Return the table of what was *measured*.
    """
    lines = [
        "| until the ring knows | DNS: min | median | max | slices: min | median | max |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for event, both in measured.items():
        cells = [
            f"{each:.1f} s" if each >= 0.5 else f"{each * 1000:.0f} ms"
            for seconds in both
            for each in (min(seconds), statistics.median(seconds), max(seconds))
        ]
        lines.append(f"| {' | '.join([event, *cells])} |")
    return "\n".join(lines)


def form(table: str) -> str:
    """
    Return *table* without its times.
    """
    return re.sub(r"\d[\d.]* m?s\b", "TIME", table)


async def _main(plane: ControlPlane, times: int) -> None:
    async with world(plane) as it:
        print(shown(await measure(it, times)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--times", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        made = ControlPlane(Path(os.environ["CONTROLPLANE_BIN"]), Path(place))
        try:
            anyio.run(made.launch)
            with suppress(KeyboardInterrupt):
                anyio.run(_main, made, given.times)
        finally:
            made.halt()
