"""
A real Prometheus that scrapes collectors of this process, with the rules of docs/monitoring.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from prometheus_client import CollectorRegistry, start_http_server

from knet.integrations.prometheus import RingCollector
from tests.conformance.live.servers import Process, free_port

__all__ = ["ALERTS", "PROMETHEUS", "WITHIN", "Asked", "scraping"]

ALERTS = Path(__file__).parents[2] / "docs" / "monitoring" / "alerts.yml"
PROMETHEUS = shutil.which("prometheus")
WITHIN = 60.0


class Asked:
    """
    A Prometheus, by its API.
    """

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **options: Any) -> Any:
        response = await self._client.get(f"/api/v1/{path}", params=options)
        answer = response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        found = (await self.get("query", query=expression))["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    async def until(self, expression: str, value: float) -> None:
        """
        Wait until each series of *expression* has that *value*, and there is one.
        """
        found: Any = None
        try:
            with anyio.fail_after(WITHIN):
                while not found or any(each != value for _, each in found):
                    found = await self.query(expression)
                    await anyio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{expression} is {found}, not {value}")


@asynccontextmanager
async def exposed(collector: RingCollector) -> AsyncIterator[str]:
    """
    Serve what *collector* tells, and give its host and port.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(server.shutdown)
        server.server_close()
        thread.join()


@asynccontextmanager
async def scraping(
    collectors: Mapping[str, RingCollector], folder: Path, *, every: str = "100ms", **target: Any
) -> AsyncIterator[Asked]:
    """
    Run a Prometheus that scrapes what *collectors* tell, with the rules.

    Args:
        collectors: By the name that their instance is to have.
        folder: Where its configuration and its data go.
        every: How often it scrapes, and looks at the rules.
        target: More of how they are scraped.
    """
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed")
    labels = target.pop("labels", {})
    async with AsyncExitStack() as stack:
        targets = [
            {
                "targets": [await stack.enter_async_context(exposed(collector))],
                "labels": {"instance": instance, **labels},
            }
            for instance, collector in collectors.items()
        ]
        port = free_port()
        config = {
            "global": {"scrape_interval": every, "evaluation_interval": every},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "app", "static_configs": targets, **target}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")
        command = [
            PROMETHEUS,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        process = Process(command, folder, ("127.0.0.1", port))
        await anyio.to_thread.run_sync(process.__enter__)
        try:
            address = f"http://127.0.0.1:{port}"
            async with httpx2.AsyncClient(base_url=address, timeout=WITHIN) as client:
                yield Asked(client)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(process.__exit__, None, None, None)
