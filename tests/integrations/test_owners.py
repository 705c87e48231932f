"""
A service that routes to itself, in real processes: uvicorn, and hypercorn on asyncio and on trio.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import websockets

from knet.hashring import HashRing
from knet.testing import HeadlessService
from tests.conformance.live.servers import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(3)]

ROOT = Path(__file__).parents[2]
ADDRESSES = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]
ROOMS = [f"room-{number}" for number in range(12)]
SERVERS = ["uvicorn", "hypercorn", "hypercorn-trio"]
WITHIN = 30.0

OWNERS = HashRing(ADDRESSES)


@pytest.fixture
def anyio_backend() -> str:
    """
    Of the client: the servers have loops of their own.
    """
    return "asyncio"


class Pods:
    """
    Three processes.
    """

    def __init__(self, service: HeadlessService, port: int, running: dict[str, Any]) -> None:
        self.service = service
        self.port = port
        self.running = running
        self.said: dict[str, str] = {}

    def at(self, address: str) -> str:
        return f"http://{address}:{self.port}"

    def kill(self, address: str) -> None:
        self.running[address].send_signal(signal.SIGKILL)
        self.running[address].wait()


@contextmanager
def processes(server: str) -> Iterator[Pods]:
    port = free_port(ADDRESSES)
    with HeadlessService("web.prod.svc.cluster.local", pods=ADDRESSES) as service:
        command = [sys.executable, "-m", "tests.integrations.served_pod", server]
        running = {
            address: subprocess.Popen(
                [*command, address, str(port), service.nameserver],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
            )
            for address in ADDRESSES
        }
        pods = Pods(service, port, running)
        try:
            wait_until_they_listen(pods)
            yield pods
        finally:
            for process in running.values():
                process.send_signal(signal.SIGTERM)
            pods.said = {a: p.communicate(timeout=WITHIN)[1] for a, p in running.items()}
        # One for each answer that broke off, by which the server learns of it.
        for said in pods.said.values():
            assert said.count("Traceback") == 0 or "broke off" in said, said


def wait_until_they_listen(pods: Pods) -> None:
    deadline = time.monotonic() + WITHIN
    with httpx2.Client(trust_env=False) as client:
        for address, process in pods.running.items():
            while True:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                with suppress(httpx2.TransportError):
                    if client.get(f"{pods.at(address)}/healthz").status_code == 200:
                        break
                time.sleep(0.05)


@pytest.fixture(params=SERVERS)
def pods(request: pytest.FixtureRequest) -> Iterator[Pods]:
    with processes(request.param) as running:
        yield running


@asynccontextmanager
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as made:
        yield made


def room_of(owner: str, but: str = "") -> str:
    return next(room for room in ROOMS if OWNERS.get(room) == owner and room != but)


@pytest.mark.long
async def test_requests_streams_and_uploads_reach_the_owner(pods: Pods) -> None:
    async with client() as http:
        for room in ROOMS:
            for address in ADDRESSES:
                response = await http.get(f"{pods.at(address)}/rooms/{room}")
                assert response.text == f"{OWNERS.get(room)}:{pods.port} {address}:{pods.port}"

        room, asked = room_of(ADDRESSES[1]), ADDRESSES[0]

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b"x" * 10_000

        url = f"{pods.at(asked)}/rooms/{room}/size"
        response = await http.post(url, content=parts())
        assert response.text == f"{ADDRESSES[1]}:{pods.port} 500000"
        response = await http.post(url, content=b"y" * 1_000_000)
        assert response.text == f"{ADDRESSES[1]}:{pods.port} 1000000"

        # Ticks come as they are made, and stop being made when the caller goes.
        async with http.stream("GET", f"{pods.at(asked)}/rooms/{room}/ticks") as stream:
            lines = stream.aiter_lines()
            for _ in range(5):
                assert await anext(lines) == f"{ADDRESSES[1]}:{pods.port}"
            assert (await http.get(f"{pods.at(ADDRESSES[1])}/streams")).text == "1"
        with anyio.fail_after(WITHIN):
            while (await http.get(f"{pods.at(ADDRESSES[1])}/streams")).text != "0":
                await anyio.sleep(0.05)
            while (await http.get(f"{pods.at(asked)}/in-flight")).text != "0":
                await anyio.sleep(0.05)


@pytest.mark.long
async def test_websockets_are_passed_on_message_by_message(pods: Pods) -> None:
    room, owner = room_of(ADDRESSES[1]), f"{ADDRESSES[1]}:{pods.port}"
    url = f"ws://{ADDRESSES[0]}:{pods.port}/rooms/{room}/socket"
    async with websockets.connect(url, subprotocols=["chat"], proxy=None) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == "chat"
        for number in range(20):
            await ws.send(f"message {number}")
            assert await ws.recv() == f"{owner} message {number}"
        big = b"\x00\xff" * 100_000
        await ws.send(big)
        assert await ws.recv() == big
        await ws.send("bye")
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await ws.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")
    with pytest.raises(websockets.InvalidStatus):
        async with websockets.connect(f"{url}?refused=1", proxy=None):
            pass
    async with client() as http:
        with anyio.fail_after(WITHIN):
            while (await http.get(f"{pods.at(ADDRESSES[0])}/in-flight")).text != "0":
                await anyio.sleep(0.05)


@pytest.mark.long
async def test_a_killed_owner_costs_no_get_and_tells_its_sockets_to_come_again(pods: Pods) -> None:
    """
    Whoever is asked, the next pod serves from then on.
    """
    dead, room = ADDRESSES[1], room_of(ADDRESSES[1])
    url = f"ws://{ADDRESSES[0]}:{pods.port}/rooms/{room}/socket"
    answers: list[int] = []

    async def ask(http: httpx2.AsyncClient, address: str) -> None:
        for room in ROOMS * 3:
            url = f"{pods.at(address)}/rooms/{room}"
            async with http.stream("GET", url) as response:
                answers.append(response.status_code)
                # One that had begun when its pod died cannot be taken back.
                with suppress(httpx2.RemoteProtocolError):
                    await response.aread()

    async with client() as http, websockets.connect(url, proxy=None) as ws:
        await ws.send("hello")
        assert str(await ws.recv()).startswith(dead)
        async with asyncio.TaskGroup() as tasks:
            for address in (ADDRESSES[0], ADDRESSES[2]):
                for _ in range(4):
                    tasks.create_task(ask(http, address))
            await anyio.sleep(0.1)
            pods.kill(dead)
        assert answers.count(200) == len(answers)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        async with websockets.connect(url, proxy=None) as again:
            await again.send("hello")
            served = str(await again.recv()).partition(":")[0]
            assert served == OWNERS.get_n(room, 2)[1]
        # Once DNS says so too, all agree.
        pods.service.remove(pods.service.pods[1])
        with anyio.fail_after(WITHIN):
            for address in (ADDRESSES[0], ADDRESSES[2]):
                while (await http.get(f"{pods.at(address)}/known")).text != "2":
                    await anyio.sleep(0.05)
        for room in ROOMS:
            texts = {
                (await http.get(f"{pods.at(address)}/rooms/{room}")).text.partition(":")[0]
                for address in (ADDRESSES[0], ADDRESSES[2])
            }
            assert len(texts) == 1


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browsers_websocket_is_passed_on(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    with processes("uvicorn") as pods:
        page = f"{pods.at(ADDRESSES[0])}/page/{room_of(ADDRESSES[1])}"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        # It never ends by itself with a port to be debugged by.
        browser = subprocess.Popen(
            [CHROMIUM, *options, "--remote-debugging-port=0", page],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + WITHIN
            heard: list[str] = []
            with httpx2.Client(trust_env=False) as client:
                while not heard:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                    heard = client.get(f"{pods.at(ADDRESSES[0])}/heard").json()
        finally:
            os.killpg(browser.pid, signal.SIGKILL)  # it has children
            browser.wait()
    assert heard == [f"chat: {ADDRESSES[1]}:{pods.port} hello"]
