"""
What the end-to-end tests share: a Kubernetes API, a CoreDNS before it, and no silent skips in CI.

Without a CoreDNS binary these tests are skipped, and without Unbound those that need it. With
`KNET_REQUIRE_E2E=1` a skip is a failure.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.required import fail_if_skipped

from .coredns import CoreDNS, find_binary
from .fake_kube_api import FakeKubeAPI
from .unbound import Unbound, find_unbound

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
def new_coredns(kube_api: FakeKubeAPI, tmp_path: Path) -> Iterator[Callable[..., CoreDNS]]:
    """
    Starts one CoreDNS more at each call, before `kube_api` unless another *api* is given; the other
    options are those of `CoreDNS`.
    """
    binary = find_binary()
    if binary is None:
        pytest.skip(
            "no CoreDNS: set COREDNS_BIN, put coredns on the PATH, "
            "or `go install github.com/coredns/coredns@v1.14.7`"
        )
    with ExitStack() as running:

        def start(*, api: FakeKubeAPI = kube_api, **options: int) -> CoreDNS:
            directory = Path(tempfile.mkdtemp(dir=tmp_path))
            return running.enter_context(CoreDNS(binary, api.url, directory, **options))

        yield start


@pytest.fixture
def coredns(new_coredns: Callable[..., CoreDNS]) -> CoreDNS:
    return new_coredns()


@pytest.fixture
def new_unbound(tmp_path: Path) -> Iterator[Callable[..., Unbound]]:
    """
    Starts an Unbound before a CoreDNS at each call; the options are those of `Unbound`.
    """
    binary = find_unbound()
    if binary is None:
        pytest.skip("no Unbound: set UNBOUND_BIN, or `apt-get install unbound`")
    with ExitStack() as running:

        def start(coredns: CoreDNS, *options: str, **kind: Any) -> Unbound:
            directory = Path(tempfile.mkdtemp(dir=tmp_path))
            unbound = Unbound(binary, directory, coredns.address, *options, **kind)
            return running.enter_context(unbound)

        yield start


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
