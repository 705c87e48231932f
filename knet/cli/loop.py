"""
Running an async main on either event loop, and ending it quietly on Ctrl-C.
"""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, TypeVar

import anyio
from anyio.abc import TaskStatus

from knet.cli.output import OutputFailed

__all__ = ["Backend", "is_installed", "run"]

Backend = Literal["asyncio", "trio"]
T = TypeVar("T")


def is_installed(backend: Backend) -> bool:
    """
    Whether *backend* can be used here.
    """
    return importlib.util.find_spec(backend) is not None


def run(main: Callable[[], Awaitable[T]], backend: Backend = "asyncio") -> T:
    """
    Run *main* to its end; its own error leaves as itself, whatever groups it came through.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. *main* was cancelled and has cleaned up.
    """
    try:
        return anyio.run(_interruptible, main, backend=backend)
    except BaseExceptionGroup as group:
        # Where nothing can be written, whatever else goes wrong is for nobody.
        failed = group.subgroup(OutputFailed)
        error: BaseException = group if failed is None else failed
        while isinstance(error, BaseExceptionGroup) and (
            len(error.exceptions) == 1 or failed is not None
        ):
            error = error.exceptions[0]
        raise error from None


async def _interruptible(main: Callable[[], Awaitable[T]]) -> T:
    """
    Await *main*; the first SIGINT cancels it, the second is Python's own.
    """
    done: list[T] = []
    async with anyio.create_task_group() as tasks:
        # Windows has no such signals on asyncio: there Ctrl-C is what Python makes of it.
        with suppress(NotImplementedError):
            await tasks.start(_cancel_on_interrupt, tasks.cancel_scope)
        done.append(await main())
        tasks.cancel_scope.cancel()
    if not done:
        raise KeyboardInterrupt
    return done[0]


async def _cancel_on_interrupt(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return
