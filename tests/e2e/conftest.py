"""
What the end-to-end tests share: a Kubernetes API, a CoreDNS before it, and no silent skips in CI.

Without a CoreDNS binary these tests are skipped. With `KNET_REQUIRE_E2E=1` a skip is a failure.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.required import fail_if_skipped

from .coredns import CoreDNS, find_binary
from .fake_kube_api import FakeKubeAPI

HERE = Path(__file__).parent


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def kube_api() -> Iterator[FakeKubeAPI]:
    with FakeKubeAPI() as api:
        yield api


@pytest.fixture
def coredns(kube_api: FakeKubeAPI, tmp_path: Path) -> Iterator[CoreDNS]:
    binary = find_binary()
    if binary is None:
        pytest.skip(
            "no CoreDNS: set COREDNS_BIN, put coredns on the PATH, "
            "or `go install github.com/coredns/coredns@v1.14.7`"
        )
    with CoreDNS(binary, kube_api.url, tmp_path) as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped(report, "KNET_REQUIRE_E2E")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(report, "KNET_REQUIRE_E2E")
    return report
