"""
What docs/development.md says to run an application on a laptop with, around an application.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import uvicorn

import knet

from .documents import ROOT, blocks

PROGRAMS = {
    block.text.partition("def ")[2].partition("(")[0]: block
    for block in blocks(ROOT / "docs" / "development.md", "python")
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_application_finds_the_pods_that_its_server_was_started_with(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """
    In the namespace that the program says, and nowhere once it has ended.
    """
    served: list[tuple[str, int]] = []
    found: list[knet.Endpoint] = []

    async def run_application() -> None:
        async with knet.Ring("web", port=8080) as ring:
            found.extend(ring.snapshot.endpoints)

    def run(app: str, port: int) -> None:
        served.append((app, port))
        anyio.run(run_application, backend=backend)

    monkeypatch.setattr(uvicorn, "run", run)
    program: dict[str, Any] = PROGRAMS["serve"].run()

    program["serve"]("gateway:app", ["127.0.0.2", "127.0.0.3"])

    assert served == [("gateway:app", 8000)]
    assert [str(pod) for pod in found] == ["127.0.0.2:8080", "127.0.0.3:8080"]


@pytest.mark.parametrize(
    ("pods", "whole"), [("127.0.0.1:8001,127.0.0.1:8002", False), ("", True)], ids=["list", "DNS"]
)
def test_a_program_for_both_worlds_decides_by_its_environment(
    monkeypatch: pytest.MonkeyPatch, pods: str, whole: bool
) -> None:
    """
    A list where there is one, else the cluster.
    """
    monkeypatch.setenv("CACHE_PODS", pods)

    ring: knet.Ring = PROGRAMS["make_ring"].run()["make_ring"]()

    assert (ring.service == "cache.prod") is whole
