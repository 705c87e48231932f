"""
What an operator sees when a pod dies, when DNS is out, and when a key is hot: made to happen, on loopback.

    python -m tests.integrations.operator --out DIR [--event dead-pod]

Real HTTP pods, in processes of their own, behind a headless service in a box, clients with a ring each and traffic, the page of one of them, and
a Prometheus that scrapes all. The program takes five minutes, with the defaults of a ring, and leaves in DIR the
pictures of docs/incidents.md: the page as Chromium shows it, and the dashboard, drawn from its own JSON. The test
beside it makes the same happen sooner.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import uvicorn

from knet import RefreshPolicy, Resolver, Ring
from knet.integrations.asgi import StatusPage
from knet.integrations.httpx2 import RingTransport
from knet.integrations.prometheus import RingCollector
from knet.testing import HeadlessService, Pod
from tests.conformance.live.servers import free_port
from tests.hosts.backend import Backends, backends

from .board import Board, Panel, board
from .scraping import WITHIN, Asked, scraping

__all__ = ["CLIENTS", "HOT", "PODS", "SERVICE", "WORKERS", "World", "world"]

SERVICE = "web.prod"
# Pods by their hostnames, with their addresses.
PODS = {f"web-{n}": f"127.0.0.{51 + n}" for n in range(6)}
CLIENTS = ("shop-0", "shop-1", "shop-2")
HOT = "user-42"

# Each client has so many requests at a time, with pauses of so many seconds between them, on average.
WORKERS = 20
PAUSE = 0.6
# A pod works on so many at once, for so many seconds each: 20 requests a second.
DESKS = 6
TAKES = 0.3
# With a hot key so many requests are for it, and a bound holds each pod to so much more than its part.
HOT_PART = 1 / 3
BOUND = 1.25
# One request of so many may be no GET, and is not sent twice.
POST_PART = 0.2
# More requests than a worker can send in an hour.
MOST = 20_000

# Of a Prometheus that scrapes each second; by itself Grafana would take 4 s, less than a ring waits between lookups.
RATE_INTERVAL = "10s"


@dataclass
class World:
    """
    All that is there, and what can happen to it.

    Attributes:
        service: Who names the pods.
        backends: The pods, by address.
        rings: Of the clients, by name.
        hot: The key that a third of the requests is for, or `None`.
        is_bounded: Whether clients send with `bound=`.
        served: How many requests were answered.
        failed: How many were not.
    """

    service: HeadlessService
    backends: Backends
    rings: dict[str, Ring] = field(default_factory=dict)
    hot: str | None = None
    is_bounded: bool = False
    served: int = 0
    failed: int = 0

    @property
    def collectors(self) -> dict[str, RingCollector]:
        """
        What tells of each client.
        """
        return {name: RingCollector(ring, endpoints=True) for name, ring in self.rings.items()}

    async def kill(self, name: str) -> None:
        """
        Let a pod die, which DNS goes on to name.
        """
        await anyio.to_thread.run_sync(self.backends.kill, PODS[name])

    def leave(self, name: str) -> None:
        """
        Let DNS name it no longer.
        """
        self.service.remove(name)

    async def send(self, client: str, number: int) -> None:
        """
        Send requests for ever, one after the other.
        """
        chance = random.Random(f"{client} {number}")
        ring = self.rings[client]
        async with sender(ring, None) as plain, sender(ring, BOUND) as bounded:
            for _ in range(MOST):
                key = f"user-{chance.randrange(10_000)}"
                if self.hot is not None and chance.random() < HOT_PART:
                    key = self.hot
                method = "POST" if chance.random() < POST_PART else "GET"
                by = bounded if self.is_bounded else plain
                try:
                    response = await by.request(
                        method, f"http://{SERVICE}/work", extensions={"knet_key": key}
                    )
                    response.raise_for_status()
                    self.served += 1
                except httpx2.TransportError:
                    self.failed += 1
                await anyio.sleep(chance.expovariate(1 / PAUSE))


def sender(ring: Ring, bound: float | None) -> httpx2.AsyncClient:
    # A dead pod refuses at once. What takes longer is a busy machine, and no pod is to be blamed for that.
    mounts: Any = RingTransport(ring, bound=bound, connect_timeout=WITHIN).mounts()
    return httpx2.AsyncClient(mounts=mounts, trust_env=False, timeout=WITHIN)


@asynccontextmanager
async def world(refresh: RefreshPolicy | None = None) -> AsyncIterator[World]:
    """
    Run six pods and three clients that send requests.
    """
    async with AsyncExitStack() as stack:
        running = stack.enter_context(backends(*PODS.values(), desks=DESKS, takes=TAKES))
        listed = [Pod(address, hostname=name) for name, address in PODS.items()]
        ports = {"http": running.port}
        service = stack.enter_context(HeadlessService(SERVICE, pods=listed, ports=ports))
        made = World(service, running)
        for number, client in enumerate(CLIENTS):
            # Of one resolver they would ask together. In processes of their own they do not.
            resolver = Resolver(nameservers=[service.nameserver], timeout=2 + number / 100)
            ring = Ring(SERVICE, port="http", resolver=resolver, refresh=refresh or RefreshPolicy())
            made.rings[client] = await stack.enter_async_context(ring)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        for client in CLIENTS:
            for number in range(WORKERS):
                tasks.start_soon(made.send, client, number)
        yield made


# --- the pictures

# Whether the page says that more than half is at the pod of the hot key.
MOST_IS_THERE = """() => {
  const told = document.body.innerText.match(/(\\d+), of them (\\d+) at web-2/);
  return told && Number(told[1]) >= 8 && Number(told[2]) > told[1] / 2;
}"""


# Whether a pod is skipped for long enough to take two pictures of it.
IS_SKIPPED = """() => {
  const told = document.body.innerText.match(/for (\\d+) s more/);
  return told && Number(told[1]) >= 8;
}"""


@asynccontextmanager
async def page_of(ring: Ring) -> AsyncIterator[str]:
    """
    Serve the page of *ring* by uvicorn, on this event loop, and give its URL.
    """
    port = free_port()
    config = uvicorn.Config(StatusPage(ring), "127.0.0.1", port, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        with anyio.fail_after(WITHIN):
            while not server.started:
                await anyio.sleep(0.01)
        yield f"http://127.0.0.1:{port}/"
        server.should_exit = True


@dataclass(frozen=True)
class Camera:
    """
    What makes the pictures of one run.

    Attributes:
        pages: The status page in a browser, by the end of a picture's name.
        asked: The Prometheus.
        board: The dashboard.
        out: The folder of the pictures.
    """

    pages: Mapping[str, Any]
    asked: Asked
    board: Board
    out: Path

    async def page(self, name: str) -> None:
        """
        Take the page as it is now, wide and narrow.
        """
        from .drawing import reduced

        for end, page in self.pages.items():
            path = self.out / f"page-{name}{end}.png"
            await page.screenshot(path=path, full_page=True)
            reduced(path)

    async def dashboard(
        self,
        name: str,
        span: tuple[float, float],
        rows: Sequence[str],
        marks: Sequence[tuple[float, str]],
    ) -> None:
        """
        Draw these *rows* of the dashboard.
        """
        from .drawing import drawn

        shown: dict[str, list[tuple[Panel, Any]]] = {}
        for title in rows:
            shown[title] = [
                (panel, await panel.curves(self.asked, *span, 1, RATE_INTERVAL))
                for panel in self.board.rows[title]
            ]
        drawn(shown, span, self.out / f"dashboard-{name}.png", marks)


@asynccontextmanager
async def camera_at(at: World, out: Path) -> AsyncIterator[Camera]:
    from playwright.async_api import async_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = await stack.enter_async_context(page_of(at.rings[CLIENTS[0]]))
        collectors = at.collectors
        asked = await stack.enter_async_context(scraping(collectors, Path(folder), every="1s"))
        playwright = await stack.enter_async_context(async_playwright())
        # Who tests in a container is root.
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        stack.push_async_callback(browser.close)
        pages: dict[str, Any] = {}
        for end, width in (("", 1000), ("-narrow", 400)):
            pages[end] = await browser.new_page(viewport={"width": width, "height": 700})
            await pages[end].goto(f"{url}?key={HOT}")
        yield Camera(pages, asked, board(), out)


async def show(out: Path, names: Sequence[str]) -> None:
    """
    Make what is named happen, each in a world of its own, and take pictures.
    """
    for name in names:
        event = EVENTS[name]
        async with world() as at, camera_at(at, out) as camera:
            await anyio.sleep(20)
            await event(at, camera)
            print(f"{name}: {at.served} requests were answered, and {at.failed} failed")


async def a_dead_pod(at: World, camera: Camera) -> None:
    begin = time.time()
    await at.kill("web-2")
    await anyio.sleep(7)
    # Not while one request tries the pod.
    await camera.pages[""].wait_for_function(IS_SKIPPED)
    await camera.page("dead-pod")
    await anyio.sleep(23)
    left = time.time()
    at.leave("web-2")
    await anyio.sleep(20)
    await camera.page("dead-pod-left")
    rows = [
        "Can the rings be trusted?",
        "Requests",
        "Endpoints, where RingCollector(..., endpoints=True)",
    ]
    marks = [(begin, "A"), (left, "B")]
    await camera.dashboard("dead-pod", (begin - 12, time.time()), rows, marks)


async def an_outage(at: World, camera: Camera) -> None:
    begin = time.time()
    at.service.fail("SERVFAIL")
    await anyio.sleep(35)
    await camera.page("outage")
    healed = time.time()
    at.service.heal()
    await anyio.sleep(35)
    rows = ["Can the rings be trusted?", "Requests", "Lookups"]
    marks = [(begin, "A"), (healed, "B")]
    await camera.dashboard("outage", (begin - 12, time.time()), rows, marks)


async def a_hot_key(at: World, camera: Camera) -> None:
    begin = time.time()
    at.hot = HOT
    await anyio.sleep(30)
    # What is in flight at this one client is one number at one moment.
    await camera.pages[""].wait_for_function(MOST_IS_THERE)
    await camera.page("hot-key")
    bounded = time.time()
    at.is_bounded = True
    await anyio.sleep(30)
    await camera.page("hot-key-bounded")
    rows = ["Requests", "Endpoints, where RingCollector(..., endpoints=True)"]
    marks = [(begin, "A"), (bounded, "B")]
    await camera.dashboard("hot-key", (begin - 12, time.time()), rows, marks)


EVENTS = {"dead-pod": a_dead_pod, "outage": an_outage, "hot-key": a_hot_key}


def main() -> None:
    parser = argparse.ArgumentParser(description="What an operator sees, as pictures.")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the pictures")
    parser.add_argument("--event", action="append", choices=EVENTS, help="not all of them")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    anyio.run(show, given.out, given.event or list(EVENTS))


if __name__ == "__main__":
    main()
