"""
Cancelling work after so many turns of the event loop, whatever it waits for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["cancelled_after_every_turn"]


async def cancelled_after_every_turn(
    work: Callable[[], Awaitable[object]], check: Callable[[], None]
) -> int:
    """
    Do *work* again and again, cancelled one turn later each time, until it is done before that.

    Returns:
        How often it was begun; *check* was called after each time.
    """
    is_done, turns = False, 0

    async def cancel(scope: anyio.CancelScope, after: int) -> None:
        for _ in range(after):
            await checkpoint()
        scope.cancel()

    while not is_done:
        turns += 1
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(cancel, scope, turns)
                await work()
                is_done = True
        check()
    return turns
