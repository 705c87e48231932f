"""
The programs of docs/recipes.md, under load, while a pod is killed and another one joins.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import Any

import anyio
import httpx2
import pytest
import websockets

import knet
from knet.hashring import HashRing
from knet.resolver import surrounded_by
from knet.surroundings import surroundings_here
from knet.testing import HeadlessService
from tests.conformance.live.servers import free_port

from .backend import Backends, backends
from .cluster import WEB, cluster
from .documents import ROOT, blocks, example

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(4)]

ADDRESSES = ["127.0.0.21", "127.0.0.22", "127.0.0.23"]
NEW = "127.0.0.24"
KEYS = [f"user-{n}" for n in range(40)]
WITHIN = 30.0

Ask = Callable[[httpx2.AsyncClient, str], Awaitable[httpx2.Response]]


@pytest.fixture
def pods() -> Iterator[Backends]:
    with backends(*ADDRESSES) as running:
        yield running


async def read(client: httpx2.AsyncClient, key: str) -> httpx2.Response:
    return await client.get(f"/values/{key}")


async def complete(client: httpx2.AsyncClient, key: str) -> httpx2.Response:
    messages = [{"role": "user", "content": f"tell me of {key}"}]
    return await client.post("/v1/chat/completions", json={"model": "m", "messages": messages})


@pytest.mark.long
@pytest.mark.parametrize(
    ("heading", "ask"), [("A sharded cache", read), ("An LLM gateway", complete)]
)
async def test_no_request_fails_while_pods_come_and_go(
    pods: Backends, monkeypatch: pytest.MonkeyPatch, heading: str, ask: Ask
) -> None:
    """
    Of a POST to the killed pod, whose answer never came, nobody can say; all others are served.
    """
    block = example(heading, "recipes")
    with cluster(monkeypatch, pods=ADDRESSES, makes_rings=True) as service:
        module = replace(block, text=block.text.replace("8080", str(pods.port))).run("example")
        app = module["app"]
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(app.router.lifespan_context(app))

            async def serve(scope: Any, receive: Any, send: Any) -> None:
                await app({**scope, "state": dict(state)}, receive, send)

            transport = httpx2.ASGITransport(serve)
            client = await stack.enter_async_context(
                httpx2.AsyncClient(transport=transport, base_url="http://app")
            )
            ring: knet.Ring = app.state.ring
            served: list[tuple[str, str]] = []
            failed: list[BaseException] = []

            async def load() -> None:
                for key in KEYS * 3:
                    try:
                        response = await ask(client, key)
                    except httpx2.TransportError as error:
                        failed.append(error)
                        continue
                    response.raise_for_status()
                    served.append((key, response.text))

            with anyio.fail_after(WITHIN):
                async with anyio.create_task_group() as tasks:
                    for _ in range(6):
                        tasks.start_soon(load)
                    while len(served) < 100:
                        await anyio.sleep(0.005)
                    pods.kill(ADDRESSES[0])
                    while len(served) < 300:
                        await anyio.sleep(0.005)
                    service.remove(service.pods[0])
                    pods.start(NEW)
                    service.add(NEW)
                while NEW not in {pod.address for pod in ring.snapshot.endpoints}:
                    await anyio.sleep(0.01)
                for key in KEYS:
                    served.append((key, (await ask(client, key)).text))
            assert {pod for _, pod in served[-len(KEYS) :]} == {*ADDRESSES[1:], NEW}
            if ask is read:
                assert not failed
                assert all(HashRing(ADDRESSES).get(key) == pod for key, pod in served[:80])
            else:
                assert len(failed) <= 6
            assert ring.stats().in_flight == 0


async def test_a_gateway_tells_bad_requests_from_its_own_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = example("An LLM gateway", "recipes").run("example")["app"]
    with cluster(monkeypatch, makes_rings=True):
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
                response = await client.post("/v1/chat/completions", content=b"{}")
                assert response.status_code == 400
                assert response.json() == {"detail": "a request must name its model"}


# --- rooms


@contextmanager
def rooms(port: int, nameserver: str) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """
    Give what starts a pod that serves rooms.
    """
    number = [block.heading for block in blocks(ROOT / "docs" / "recipes.md", "python")].index(
        "WebSocket rooms that move"
    )
    command = [sys.executable, "-m", "tests.hosts.peer", "recipes", str(number)]
    running: list[subprocess.Popen[str]] = []

    def start(address: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command, address, str(port), nameserver], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    try:
        yield start
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=WITHIN)[1] for process in running]
    assert not any("Traceback" in each for each in said), said


@pytest.mark.long
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_members_of_a_room_meet_wherever_it_has_moved(anyio_backend: str) -> None:
    """
    Two members of each room, at different pods. One pod is killed, and one joins.
    """
    port = free_port([*ADDRESSES, NEW])
    names = [f"room-{n}" for n in range(8)]
    alive = [*ADDRESSES[1:], NEW]
    with HeadlessService(WEB, pods=ADDRESSES) as service, rooms(port, service.nameserver) as start:
        running = {address: start(address) for address in ADDRESSES}
        async with httpx2.AsyncClient(trust_env=False) as client:
            for address in ADDRESSES:
                await until_healthy(client, f"http://{address}:{port}")
            for room in names:
                await until_they_meet(port, room, ADDRESSES[0], ADDRESSES[1])
            # A member whose room moves is told to come again.
            dead_room = next(r for r in names if HashRing(ADDRESSES).get(r) == ADDRESSES[0])
            url = f"ws://{ADDRESSES[1]}:{port}/rooms/{dead_room}"
            async with websockets.connect(url, proxy=None) as member:
                await member.send("here")
                assert await member.recv() == "here"
                running[ADDRESSES[0]].kill()
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await asyncio.wait_for(member.recv(), WITHIN)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
            start(NEW)
            await until_healthy(client, f"http://{NEW}:{port}")
            service.remove(service.pods[0])
            service.add(NEW)
            for room in names:
                for other in alive[1:]:
                    await until_they_meet(port, room, alive[0], other)


async def until_healthy(client: httpx2.AsyncClient, url: str) -> None:
    with anyio.fail_after(WITHIN):
        while True:
            try:
                (await client.get(f"{url}/healthz")).raise_for_status()
                return
            except httpx2.TransportError:
                await anyio.sleep(0.05)


async def until_they_meet(port: int, room: str, here: str, there: str) -> None:
    """
    Connect to a room by way of two pods, and again where it moves, until both hear what one says.
    """
    async with asyncio.timeout(WITHIN):
        while True:
            try:
                async with (
                    websockets.connect(f"ws://{here}:{port}/rooms/{room}", proxy=None) as one,
                    websockets.connect(f"ws://{there}:{port}/rooms/{room}", proxy=None) as other,
                ):
                    await one.send("hello")
                    for member in (one, other):
                        assert await asyncio.wait_for(member.recv(), 1) == "hello"
                    return
            except (websockets.ConnectionClosed, websockets.InvalidHandshake, TimeoutError):
                await asyncio.sleep(0.05)


# --- workers


async def test_every_partition_is_worked_on_while_workers_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Two workers share the partitions out; one dies, and a third one joins.
    """
    block = example("A worker that owns its part", "recipes")
    taken: list[tuple[str, str]] = []

    async def one(address: str, ready: anyio.Event) -> None:
        module = block.run("example")

        async def take(partition: str) -> None:
            taken.append((address, partition))
            await anyio.sleep(0.01)

        module["take"] = take
        # This is the pod that it starts in.
        with surrounded_by(replace(surroundings_here(), addresses=(address,))):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(module["main"])
                while not any(who == address for who, _ in taken):
                    await anyio.sleep(0.01)
                ready.set()

    async def shared_by(*addresses: str) -> None:
        owners = HashRing(addresses)
        partitions = [f"partition-{n}" for n in range(64)]
        wanted = {(owners.get(partition), partition) for partition in partitions}
        with anyio.fail_after(WITHIN):
            while True:
                taken.clear()
                await anyio.sleep(0.2)
                if Counter(set(taken)) == Counter(wanted):
                    return

    workers: dict[str, anyio.CancelScope] = {}

    async def start(tasks: Any, address: str) -> None:
        ready = anyio.Event()
        scope = workers[address] = anyio.CancelScope()

        async def live() -> None:
            with scope:
                await one(address, ready)

        tasks.start_soon(live)
        with anyio.fail_after(WITHIN):
            await ready.wait()

    with cluster(monkeypatch, pods=ADDRESSES[:2], makes_rings=True) as service:
        async with anyio.create_task_group() as tasks:
            await start(tasks, ADDRESSES[0])
            await start(tasks, ADDRESSES[1])
            await shared_by(*ADDRESSES[:2])
            workers[ADDRESSES[0]].cancel()
            service.remove(service.pods[0])
            await shared_by(ADDRESSES[1])
            service.add(ADDRESSES[2])
            await start(tasks, ADDRESSES[2])
            await shared_by(*ADDRESSES[1:])
            tasks.cancel_scope.cancel()
