"""
A task that an object owns, where a nursery cannot.

A ring may be entered in one task and left in another: pytest fixtures, aiohttp's `cleanup_ctx`,
start-up and shutdown hooks. A nursery or task group forbids that, so here is the little that takes
its place. Whoever spawns a `Background` also ends it and waits for it; nothing in it may raise.

The one place, beside the resolver's engine, that is different on asyncio and on trio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
from anyio.lowlevel import current_token

__all__ = ["Background"]


class Background:
    """
    A running task. It sees nothing of the scopes and deadlines of the task that spawned it.
    """

    def __init__(self, function: Callable[[], Awaitable[None]], name: str) -> None:
        self._finished = anyio.Event()

        async def work() -> None:
            await function()

        loop = current_token().native_token
        if isinstance(loop, asyncio.AbstractEventLoop):
            # The loop itself only keeps weak references to its tasks.
            self._task = loop.create_task(work(), name=name)
            # Even a task that is cancelled before its first step gets to its callbacks.
            self._task.add_done_callback(self._over)
        else:
            import trio  # noqa: PLC0415 - not installed where it is not used

            async def work_and_tell() -> None:
                try:
                    await work()
                finally:
                    self._finished.set()

            trio.lowlevel.spawn_system_task(work_and_tell, name=name)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._finished.set()
        error = None if task.cancelled() else task.exception()
        # A signal handler may raise in here, where it happened to interrupt. The loop passes that
        # on by itself, and would complain later on that nobody has looked at it.
        if error is not None and not isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error

    async def join(self) -> None:
        """
        Wait until it has ended, however the caller is cancelled meanwhile.
        """
        with anyio.CancelScope(shield=True):
            await self._finished.wait()
