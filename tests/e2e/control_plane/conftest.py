"""
One control plane for all tests of a process. Where there is none to be had, there are no tests with one: it
takes Go and five minutes to build.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from .plane import ControlPlane

# `python -m tests.e2e.control_plane.plane FILE` builds it; `.ci/run` does.
collect_ignore_glob = [] if os.environ.get("CONTROLPLANE_BIN") else ["test_*.py"]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """
    Whoever breaks it mends it; each test has a namespace of its own.
    """
    made = ControlPlane(Path(os.environ["CONTROLPLANE_BIN"]), tmp_path_factory.mktemp("plane"))
    anyio.run(made.launch, backend="trio")
    yield made
    made.halt()
