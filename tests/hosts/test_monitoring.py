"""
The programs of docs/monitoring.md, scraped while pods come and go.
"""

from __future__ import annotations

import time
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import knet
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


async def fails_at_first(pod: knet.Endpoint) -> str:
    if not asked:
        asked.append(pod)
        raise ConnectionRefusedError(111, "refused")
    return pod.name


asked: list[knet.Endpoint] = []


@pytest.mark.anyio
async def test_an_attempt_has_a_span(web: HeadlessService) -> None:
    """
    The first fails and says so, the second is of another pod.
    """
    block = example("A span for each attempt", "monitoring")
    module = replace(block, text=block.text.replace("asyncio.run(main())", "")).run("example")
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    module["tracer"] = provider.get_tracer("test")
    asked.clear()
    async with knet.Ring("web.prod", port=8080) as ring:
        pods = await ring.get_n("user-42", 2)
        assert await ring.call("user-42", module["spanned"](fails_at_first)) == pods[1].name
    first, second = exporter.get_finished_spans()
    assert first.attributes is not None
    assert second.attributes is not None
    assert [first.attributes["knet.endpoint"], second.attributes["knet.endpoint"]] == [
        pod.name for pod in pods
    ]
    assert [first.status.is_ok, second.status.is_ok] == [False, True]
    assert first.events[0].name == "exception"
    provider.shutdown()
