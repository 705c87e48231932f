"""
What the live tests share: a seed that is shown, free ports, and no silent skips in CI.

They compare picks with proxies that really run, on loopback. Where one is not installed its tests are
skipped; with `KNET_REQUIRE_CONFORMANCE=1` a skip is a failure. `KNET_CONFORMANCE_SEED` repeats the
keys of an earlier run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.conformance.live.cases import HOSTS, SLOTS, listeners
from tests.conformance.live.servers import can_listen, free_port, keys_from, upstreams_at
from tests.required import fail_if_skipped

HERE = Path(__file__).parent
SEED = int(os.environ.get("KNET_CONFORMANCE_SEED") or random.SystemRandom().randrange(2**32))
KEYS_PER_CASE = 800


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "conformance: compares picks with a proxy that really runs")


def pytest_report_header() -> str:
    return f"conformance: KNET_CONFORMANCE_SEED={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.conformance)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped(report, "KNET_REQUIRE_CONFORMANCE")
    if report.failed:
        report.sections.append(("seed", f"KNET_CONFORMANCE_SEED={SEED}"))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(report, "KNET_REQUIRE_CONFORMANCE")
    return report


@pytest.fixture(scope="session")
def _loopback() -> None:
    """
    Skip where loopback is one address, as on macOS.
    """
    if missing := [host for host in HOSTS if not can_listen(host)]:
        pytest.skip(f"loopback has no {', '.join(missing)} here; Linux has them")


@pytest.fixture(scope="session")
def ports(_loopback: None) -> dict[str, int]:
    """
    A free port for each slot of the cases.
    """
    found: dict[str, int] = {}
    while len(found) < len(SLOTS):
        port = free_port(HOSTS)
        if port not in found.values():
            found[SLOTS[len(found)]] = port
    return found


@pytest.fixture(scope="session")
def _upstreams(ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """
    A server at every address of the cases.
    """
    with upstreams_at(listeners(ports), tmp_path_factory.mktemp("upstreams")):
        yield


@pytest.fixture
def keys(request: pytest.FixtureRequest) -> list[str]:
    """
    Fresh keys for each test, repeatable by the seed.
    """
    return keys_from(random.Random(f"{SEED} {request.node.name}"), KEYS_PER_CASE)
