"""
Every example of a host runs in a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from knet.testing import HeadlessService

from .cluster import cluster


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HeadlessService]:
    """
    The service `web.prod` of the cluster that the test is in.
    """
    with cluster(monkeypatch, makes_rings=True) as service:
        yield service
