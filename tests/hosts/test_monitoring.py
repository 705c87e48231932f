"""
The programs of docs/monitoring.md, scraped while pods come and go.
"""

from __future__ import annotations

import time
import urllib.request
from contextlib import ExitStack
from typing import Any

from fastapi.testclient import TestClient

from knet.testing import HeadlessService
from tests.conformance.live.servers import free_port

from .documents import example

ENDPOINTS = 'knet_ring_endpoints{port="8080",ring="1",service="web.prod"}'
WITHIN = 30.0


def value_in(text: str, series: str) -> float | None:
    """
    Return the value of *series* in what was scraped.
    """
    found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{series} ")]
    return float(found[0]) if found else None


def test_an_application_is_scraped_at_its_own_port(web: HeadlessService) -> None:
    """
    Before it has started and after it has ended there is no ring, and no failure.
    """
    app = example("Prometheus", "monitoring").run("example")["app"]
    silent = TestClient(app)
    assert value_in(silent.get("/metrics/").text, ENDPOINTS) is None
    with TestClient(app) as client:
        assert value_in(client.get("/metrics/").text, ENDPOINTS) == 3
        web.scale(5)
        end = time.monotonic() + WITHIN
        while value_in(client.get("/metrics/").text, ENDPOINTS) != 5:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert value_in(silent.get("/metrics/").text, ENDPOINTS) is None


def test_each_worker_has_a_port_of_its_own(web: HeadlessService) -> None:
    """
    The second takes the next port, and both give theirs back.
    """
    module = example("Several workers", "monitoring").run("example")
    first = free_port()
    module["PORTS"] = range(first, first + 20)

    def scrape(port: int) -> float | None:
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=WITHIN) as response:
            text: str = response.read().decode()
        return value_in(text, ENDPOINTS)

    taken: list[int] = []
    serve: Any = module["serve"]

    def noting(registry: Any) -> Any:
        server, thread = serve(registry)
        taken.append(server.server_port)
        return server, thread

    module["serve"] = noting
    for _ in range(2):
        taken.clear()
        with ExitStack() as workers:
            for _ in range(2):
                workers.enter_context(TestClient(module["app"]))
            assert len(set(taken)) == 2
            assert [scrape(port) for port in taken] == [3, 3]
