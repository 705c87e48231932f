"""
Waiting for what a ring tells of itself.
"""

from __future__ import annotations

from typing import Literal

import anyio

from knet import Ring

__all__ = ["until_state"]

_State = Literal["starting", "fresh", "stale", "empty", "closed"]


async def until_state(ring: Ring, *states: _State, within: float = 60.0) -> str:
    """
    Wait until *ring* is in one of *states*, and fail when that takes unreasonably long.
    """
    with anyio.fail_after(within):
        return await ring.wait_for(*states)
