"""
What an operator sees when a pod dies, when DNS is out, and when a key is hot: the panels of the dashboard that are to
show it, asked of a real Prometheus, and the page.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from knet import RefreshPolicy
from knet.integrations.asgi import StatusPage

from .board import Board, board
from .operator import CLIENTS, HOT, PODS, SERVICE, WORKERS, World, world
from .scraping import WITHIN, Asked, scraping

pytestmark = [pytest.mark.anyio, pytest.mark.long]

QUICK = RefreshPolicy(interval=0.2, min_interval=0.1, retry=0.1, max_retry=0.2)
# Longer than any of the three takes: what has happened once is seen until the end.
LONG = "2m"
SHORT = "3s"
SOME = (1e-9, math.inf)
EVERY_CLIENT = (float(len(CLIENTS)), float(len(CLIENTS)))


def exactly(value: float) -> tuple[float, float]:
    return value, value


@dataclass
class Seen:
    """
    What happens, and where it is to be seen.

    Attributes:
        at: The world.
        asked: The Prometheus that scrapes it.
        client: Of the page of its first client.
        board: The dashboard.
    """

    at: World
    asked: Asked
    client: httpx2.AsyncClient
    board: Board

    async def on_board(
        self, title: str, expected: Mapping[str, tuple[float, float]], rate_interval: str = LONG
    ) -> dict[str, float]:
        """
        Wait until curves of a panel are where they are *expected*, and return the last value of each.
        """
        return await self.board.until(self.asked, title, expected, rate_interval)

    async def on_page(self, is_shown: Callable[[Any], bool]) -> Any:
        """
        Wait until the page tells of its ring what it should, and return that.
        """
        ring: Any = None
        try:
            with anyio.fail_after(WITHIN):
                while ring is None or not is_shown(ring):
                    await anyio.sleep(0.05)
                    answer = await self.client.get("/", headers={"accept": "application/json"})
                    (ring,) = answer.json()["rings"]
        except TimeoutError:
            pytest.fail(f"the page tells {ring}")
        return ring


@asynccontextmanager
async def seen(folder: Path) -> AsyncIterator[Seen]:
    async with world(QUICK) as at, scraping(at.collectors, folder, every="250ms") as asked:
        page: Any = StatusPage(at.rings[CLIENTS[0]])
        transport = httpx2.ASGITransport(page)
        async with httpx2.AsyncClient(transport=transport, base_url="http://page") as client:
            it = Seen(at, asked, client, board())
            await it.on_board("Rings by state", {"fresh": EVERY_CLIENT})
            await it.on_board("Attempts", {SERVICE: SOME})
            yield it


def called(name: str) -> str:
    """
    Return what a ring calls the pod of that *name*.
    """
    return f"{name}.{SERVICE}.svc.cluster.local"


def row_of(ring: Any, name: str) -> Any:
    """
    Return what the page tells of an endpoint.
    """
    (row,) = (each for each in ring["endpoints"] if each["name"] == called(name))
    return row


async def test_a_dead_pod_is_seen(tmp_path: Path) -> None:
    """
    First it is ejected, while DNS names it, and requests go on to other pods; then it leaves.
    """
    async with seen(tmp_path) as it:
        dead = "web-2"
        await it.at.kill(dead)

        await it.on_board("Clients that skip an endpoint", {called(dead): EVERY_CLIENT})
        await it.on_board("Ejected endpoints", {f"{SERVICE} most": exactly(1)})
        await it.on_board("Attempts that failed, by kind", {"refused": SOME})
        await it.on_board("Failures that callers saw", {"refused": exactly(0)})
        await it.on_board("Ejections, in 5 minutes", {SERVICE: SOME})
        await it.on_board("Endpoints", {f"{SERVICE} fewest": exactly(len(PODS))})
        told = await it.on_page(lambda ring: row_of(ring, dead)["ejected_for"] is not None)
        assert told["state"] == "fresh"
        assert told["changes"] == []
        assert told["stats"]["ejected"] == 1
        assert told["stats"]["failovers"]["refused"] >= 1

        it.at.leave(dead)

        fewer = exactly(len(PODS) - 1)
        await it.on_board("Endpoints", {f"{SERVICE} fewest": fewer, f"{SERVICE} most": fewer})
        await it.on_board("Ejected endpoints", {f"{SERVICE} of all clients": exactly(0)})
        await it.on_board("Keys moved, in 5 minutes", {f"{SERVICE} 1": SOME})
        shares = await it.on_board("Share of the keys", {called("web-0"): (1 / 6, 1)})
        assert called(dead) not in shares
        assert math.isclose(sum(shares.values()), 1)
        told = await it.on_page(lambda ring: ring["changes"] and ring["changes"][0]["moved"])
        assert [each["name"] for each in told["changes"][0]["removed"]] == [called(dead)]
        # A POST that was under way there may have been done.
        assert it.at.failed <= len(CLIENTS) * WORKERS


@pytest.mark.parametrize(("fault", "outcome"), [("SERVFAIL", "servfail"), ("SILENCE", "timeout")])
async def test_an_outage_of_dns_is_seen(tmp_path: Path, fault: Any, outcome: str) -> None:
    """
    Rings are stale and serve what they knew; afterwards they are fresh by themselves.
    """
    async with seen(tmp_path) as it:
        it.at.service.fail(fault)

        await it.on_board("Rings by state", {"stale": EVERY_CLIENT, "fresh": exactly(0)})
        await it.on_board("Lookups by outcome", {outcome: SOME})
        await it.on_board("Age of the last good answer", {SERVICE: (1, math.inf)})
        await it.asked.until('count(ALERTS{alertname="KnetRingStale"})', len(CLIENTS))
        told = await it.on_page(lambda ring: ring["stats"]["consecutive_failures"] > 1)
        assert told["state"] == "stale"
        assert told["stats"]["last_error"]
        assert len(told["endpoints"]) == len(PODS)
        served = it.at.served
        with anyio.fail_after(WITHIN):
            while it.at.served < served + 50:
                await anyio.sleep(0.01)
        await it.on_board("Endpoints", {f"{SERVICE} fewest": exactly(len(PODS))})

        it.at.service.heal()

        await it.on_board("Rings by state", {"stale": exactly(0), "fresh": EVERY_CLIENT})
        told = await it.on_page(lambda ring: ring["state"] == "fresh")
        assert told["changes"] == []
        await it.on_board("Failures that callers saw", {"refused": exactly(0)})
        assert it.at.failed == 0


async def test_a_hot_key_is_seen(tmp_path: Path) -> None:
    """
    Its pod has much more in flight than its share of the keys, until a bound spreads that.
    """
    beside, in_flight = "In flight beside the share of the keys", "In flight, by endpoint"
    async with seen(tmp_path) as it:
        owner = it.at.rings[CLIENTS[0]].snapshot.get(HOT).name.partition(".")[0]
        it.at.hot = HOT

        await it.on_board(beside, {called(owner): (2.5, math.inf)}, SHORT)
        await it.on_board(in_flight, {called(owner): (6, math.inf)})
        shares = await it.on_board("Share of the keys", {called(owner): SOME})
        assert shares[called(owner)] < 1 / 3
        await it.asked.until('count(ALERTS{alertname="KnetEndpointOverloaded"})', 1)
        told = await it.on_page(lambda ring: row_of(ring, owner)["in_flight"] >= 3)
        assert told["state"] == "fresh"
        assert sum(row["in_flight"] for row in told["endpoints"]) <= WORKERS

        it.at.is_bounded = True

        await it.on_board(beside, {called(owner): (0, 2)}, SHORT)
        await it.on_page(lambda ring: row_of(ring, owner)["in_flight"] <= 1)
        assert it.at.failed == 0
