"""
Waiting for what a ring tells of itself.
"""

from __future__ import annotations

import anyio

from knet import Ring, State

__all__ = ["until_state"]


async def until_state(ring: Ring, *states: State, within: float = 60.0) -> str:
    """
    Wait until *ring* is in one of *states*, and fail when that takes unreasonably long.
    """
    with anyio.fail_after(within):
        return await ring.wait_for(*states)
