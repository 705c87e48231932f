"""
What rings that are told cost: themselves, and the API server.

    python -m tests.e2e.control_plane.costs rollout [--pods 1000]
    python -m tests.e2e.control_plane.costs rings [--rings 100]
    python -m tests.e2e.control_plane.costs services [--services 1000] [--others 0]

`rollout`: a Deployment of so many pods is replaced, under one ring. `rings`: so many rings of one service. `services`: so
many Services with a ring each, in one namespace: first with a watch for each Service, then with one of the whole
namespace, which has *others* beside that nobody has a ring of. The rings are alone in a process of their own, so that its CPU and
memory are theirs; the kubelet and whoever makes objects are in this one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from knet import Ring
from knet.hashring import HashRing
from knet.kubernetes import EndpointSlices

from .plane import ControlPlane, deployment, headless
from .test_rollouts import roll, rolling
from .world import World, world

# More than the 20 requests a second that controllers have by default, which would be what is measured.
_FAST = ("--kube-api-qps=300", "--kube-api-burst=600")


class Process:
    """
    Another process with rings in it.

    Args:
        it: Where the services are.
        services: A ring is opened for each of these names.
        slots: Of the table of each ring.
        whole_namespace: Whether they have one watch.
    """

    def __init__(
        self,
        it: World,
        services: list[str],
        *,
        slots: int = 65_536,
        whole_namespace: bool = False,
    ) -> None:
        words = [
            *(sys.executable, "-m", "tests.e2e.control_plane.costs", "inside"),
            *(str(it.plane.dir / "kubeconfig"), str(slots), *(["whole"] * whole_namespace)),
        ]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._names = "".join(f"{each}\n" for each in services)

    def _asked(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    async def ask(self) -> dict[str, Any]:
        """
        Return its CPU so far, its memory, and how its rings are.
        """
        names, self._names = self._names, ""
        return await anyio.to_thread.run_sync(self._asked, names)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


async def inside(kubeconfig: str, slots: int, whole_namespace: bool) -> None:
    """
    Open rings of the names on stdin up to an empty line; then answer each line there.
    """
    source = EndpointSlices(
        kubeconfig=kubeconfig, domain="cluster.local", whole_namespace=whole_namespace
    )

    async def read() -> str:
        return await anyio.to_thread.run_sync(sys.stdin.readline)

    rings: list[Ring] = []
    before = _resident()
    while name := (await read()).strip():
        placement = partial(HashRing, slots=slots)
        rings.append(Ring(name, port=8080 + len(rings) % 7, resolver=source, placement=placement))
    for some in range(0, len(rings), 20):
        async with anyio.create_task_group() as tasks:
            for ring in rings[some : some + 20]:
                tasks.start_soon(ring.start)
    while True:
        told = {
            "cpu": time.process_time(),
            "resident": _resident(),
            "before": before,
            "generations": sum(ring.snapshot.generation for ring in rings),
            "endpoints": sum(len(ring.snapshot) for ring in rings),
            "words": sum(ring.stats().lookups for ring in rings),
        }
        print(json.dumps(told), flush=True)
        if not await read():
            break
    for ring in rings:
        await ring.aclose()


def _resident() -> float:
    """
    Megabytes of memory that this process has now.
    """
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def _of(plane: ControlPlane) -> tuple[float, float]:
    """
    Return the seconds of CPU that the API server has taken, and its megabytes.
    """
    place = Path("/proc") / str(plane.pid("apiserver"))
    fields = (place / "stat").read_text("utf-8").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int((place / "statm").read_text("utf-8").split()[1])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * resource.getpagesize() / 2**20


async def rollout(it: World, pods: int) -> None:
    """
    Replace all pods of one service, under one ring.
    """
    await it.apply(headless("web"))
    await it.apply(deployment("web", pods))
    await _until_ready(it, pods)
    process = Process(it, [f"web.{it.namespace}"])
    try:
        before, began = await process.ask(), time.monotonic()
        events = await _events(it)
        await roll(it, strategy=rolling("25%", "25%"), within=400)
        took, after = time.monotonic() - began, await process.ask()
        builds = after["generations"] - before["generations"]
        cpu = after["cpu"] - before["cpu"]
        print(
            f"{pods} pods replaced in {took:.1f} s: {await _events(it) - events} events of slices, {builds} builds "
            f"({builds / took:.1f} a second), {cpu:.2f} s of CPU, {cpu / builds * 1000:.1f} ms a build, "
            f"{cpu / (2 * pods) * 1000:.2f} ms a pod that came or went; {after['resident'] - before['before']:.0f} MB",
            flush=True,
        )
    finally:
        process.end()


async def rings(it: World, count: int) -> None:
    """
    Open many rings of one service.
    """
    await it.apply(headless("web"))
    await it.apply(deployment("web", 10))
    await _until_ready(it, 10)
    before = await watches(it)
    process = Process(it, [f"web.{it.namespace}"] * count)
    try:
        told = await process.ask()
        print(f"{count} rings: {await watches(it) - before} watch, {told['endpoints']} endpoints")
    finally:
        process.end()


async def services(it: World, count: int, others: int) -> None:
    """
    Make many services of three pods each, by hand, and a ring of each; then *others*, and the rings anew.
    """
    await _make_all(it, range(count))
    print("API server, nobody there:", await _rate(it))
    await _watched(it, count, 4, whole_namespace=False)
    await _watched(it, count, 5, whole_namespace=True)
    if others:
        await _make_all(it, range(count, count + others))
        print(f"API server, {others} services more:", await _rate(it))
        await _watched(it, count, 6, whole_namespace=True)


async def _make_all(it: World, numbers: range) -> None:
    async with anyio.create_task_group() as tasks:
        for some in range(8):
            tasks.start_soon(_make, it, [f"web-{n}" for n in numbers[some::8]])
    await anyio.sleep(10)


async def _watched(it: World, count: int, pods: int, *, whole_namespace: bool) -> None:
    """
    Open rings of *count* services, and give some of these as many *pods*, which they have not had before.
    """
    print("one watch of all:" if whole_namespace else "a watch for each:", flush=True)
    # Those of others end a while after their process.
    with anyio.fail_after(120):
        while await watches(it) > count / 2:
            await anyio.sleep(1)
    await anyio.sleep(5)
    names = [f"web-{n}" for n in range(count)]
    watched, server = await watches(it), _of(it.plane)
    process = Process(
        it,
        [f"{each}.{it.namespace}" for each in names],
        slots=4096,
        whole_namespace=whole_namespace,
    )
    try:
        told = await process.ask()
        now = _of(it.plane)
        print(
            f"{count} rings opened with {told['cpu']:.1f} s of CPU, {told['resident'] - told['before']:.0f} MB, "
            f"{await watches(it) - watched} watches; API server {now[0] - server[0]:.1f} s of CPU, "
            f"{now[1] - server[1]:.0f} MB more"
        )
        cpu = told["cpu"]
        print("API server, nothing happens:", await _rate(it))
        told = await process.ask()
        print(f"rings, nothing happens: {(told['cpu'] - cpu) / _SECONDS:.1%} of a core")
        cpu, server, began = told["cpu"], _of(it.plane), time.monotonic()
        changes = min(count, 200)
        for number in range(changes):
            await it.apply(_slice(names[number], number, pods))
        await anyio.sleep(1)
        told, now, took = await process.ask(), _of(it.plane), time.monotonic() - began
        print(
            f"{changes} changes in {took:.1f} s: rings {(told['cpu'] - cpu) / changes * 1000:.1f} ms of CPU a change, "
            f"API server {(now[0] - server[0]) / changes * 1000:.1f} ms with the change itself"
        )
    finally:
        process.end()


_SECONDS = 20.0


async def _rate(it: World) -> str:
    before = _of(it.plane)
    await anyio.sleep(_SECONDS)
    after = _of(it.plane)
    return f"{(after[0] - before[0]) / _SECONDS:.1%} of a core, {after[1]:.0f} MB"


async def _make(it: World, names: list[str]) -> None:
    for name in names:
        service = headless(name)
        del service["spec"]["selector"]
        await it.apply(service)
        await it.apply(_slice(name, int(name.removeprefix("web-")), 3))


def _slice(service: str, number: int, pods: int) -> dict[str, Any]:
    first, second = divmod(number, 250)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [f"10.{100 + n}.{first}.{second}"]} for n in range(pods)],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


async def watches(it: World) -> int:
    """
    Return how many watches of slices the API server has.
    """
    text = (await it.plane.api.get("/metrics")).text
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in text.splitlines()
        if line.startswith("apiserver_longrunning_requests{")
        and 'resource="endpointslices"' in line
        and 'verb="WATCH"' in line
    )


async def _until_ready(it: World, pods: int) -> None:
    await it.plane.until(
        it.path("deployments", "web"),
        lambda told: bool(told["status"].get("readyReplicas") == pods),
        300,
    )


async def _events(it: World) -> int:
    """
    Return how many events of slices the API server has sent to anybody, for each watch of them.
    """
    text = (await it.plane.api.get("/metrics")).text
    sent = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("apiserver_watch_events_total{") and 'resource="endpointslices"' in line
    ]
    return int(sum(sent) / max(1, await watches(it)))


async def _main(plane: ControlPlane, measured: Callable[[World], Awaitable[None]]) -> None:
    async with world(plane) as it:
        await measured(it)


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        anyio.run(inside, sys.argv[2], int(sys.argv[3]), "whole" in sys.argv[4:])
        sys.exit()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("what", choices=["rollout", "rings", "services"])
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--rings", type=int, default=100)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--others", type=int, default=0)
    given = parser.parse_args()
    measures: dict[str, Callable[[World], Awaitable[None]]] = {
        "rollout": lambda it: rollout(it, given.pods),
        "rings": lambda it: rings(it, given.rings),
        "services": lambda it: services(it, given.services, given.others),
    }
    with tempfile.TemporaryDirectory() as place:
        made = ControlPlane(Path(os.environ["CONTROLPLANE_BIN"]), Path(place), manager=_FAST)
        try:
            anyio.run(made.launch)
            anyio.run(_main, made, measures[given.what])
        finally:
            made.halt()
