"""
The table of times in docs/kubernetes.md is what `table` prints.
"""

from __future__ import annotations

import pytest

from .plane import ControlPlane
from .table import EVENTS, form, measure, shown
from .world import world

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_each_event_is_timed_by_dns_and_by_slices(plane: ControlPlane) -> None:
    """
    Once each here; how long they take is nobody's promise.
    """
    async with world(plane) as it:
        measured = await measure(it, 1)

    assert form(shown(measured)) == form(shown(dict.fromkeys(EVENTS, ([1.0], [1.0]))))
