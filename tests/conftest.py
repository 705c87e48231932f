"""
What every test gets: both event loops, and a check that nothing is left behind.
"""

from __future__ import annotations

import gc
import os
import re
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A busy machine is no failure: no test asserts a duration.
hypothesis.settings.register_profile("knet", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.load_profile("knet")

# Not ours: pycares closes channels in a thread that it starts once and never ends, and the test
# runner drives trio from threads that trio keeps for ten seconds in case they are needed again.
_OTHERS = re.compile(r"_run_safe_shutdown_loop|^Trio thread")

_TESTS = Path(__file__).parent
# Of the tests in these places the short run has one in so many, whatever their cases are: servers and processes take
# time.
_ONE_IN = {
    "e2e": 10,
    **dict.fromkeys(("cli", "exits", "hosts", "integrations", "kubernetes"), 3),
    **dict.fromkeys(("resolver", "testing", "test_readme.py", "weather"), 3),
}

_TASKS = Path("/proc/self/task")
_DESCRIPTORS = Path("/proc/self/fd")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Mark as long what the short run leaves out of tests with servers, with processes, and with many cases.

    Where the cases are the two event loops, it has half of the tests on each.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        one_in = _ONE_IN.get(item.path.relative_to(_TESTS).parts[0], 1)
        if zlib.crc32(item.nodeid.encode()) % one_in and "README" not in item.nodeid:
            item.add_marker("long")
        if item.get_closest_marker("sampled") is not None:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for test, several in cases.items():
        sampled = several[0].get_closest_marker("sampled")
        assert sampled is not None
        every = min(sampled.args[0], len(several))
        first = zlib.crc32(test.encode()) % every
        for number, item in enumerate(several):
            if number % every != first:
                item.add_marker("long")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """
    Run every async test on both event loops.
    """
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """
    After every test no thread and no socket is left that was not there before.
    """
    before = _living()
    yield
    left = _living() - before
    # c-ares tears a channel down in threads of its own, a moment after it was closed.
    end = time.monotonic() + 5
    while left and time.monotonic() < end:
        gc.collect()
        time.sleep(0.005)
        left = _living() - before
    assert not left, f"left behind: {sorted(left)}"


def _living() -> set[str]:
    """
    Name what is alive: Python's threads, the kernel's, and sockets.
    """
    threads = {f"thread {t.name}" for t in threading.enumerate() if not _OTHERS.search(t.name)}
    if not _TASKS.exists():  # no /proc, no more to see
        return threads
    python = {str(t.native_id) for t in threading.enumerate()}
    native = {f"native thread {n}" for n in os.listdir(_TASKS) if n not in python}
    sockets = set()
    for descriptor in os.listdir(_DESCRIPTORS):
        try:
            target = os.readlink(_DESCRIPTORS / descriptor)
        except OSError:
            continue
        if target.startswith("socket:"):
            sockets.add(target)
    return threads | native | sockets
