"""
What an object needs to live beside the program that opened it: a task, a clock, and to hear of forks
and of the interpreter's end.

A ring may be entered in one task and left in another: pytest fixtures, aiohttp's `cleanup_ctx`,
start-up and shutdown hooks. A nursery or task group forbids that, so here is the little that takes
its place. Whoever spawns a `HostedTask` also ends it and waits for it; nothing in it may raise.

The one place, beside the resolver's engine, that is different on asyncio and on trio.
"""

from __future__ import annotations

import asyncio
import atexit
import math
import os
import sys
import weakref
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol

import anyio
from anyio.lowlevel import current_token

__all__ = [
    "HostedTask",
    "Interrupt",
    "Lasting",
    "call_later",
    "caller_here",
    "clock_here",
    "is_cancelled",
    "later_here",
    "note_open",
    "process_number",
    "still_open",
    "tell_of_exit",
    "wait_in_full",
]


class HostedTask:
    """
    A running task. It sees nothing of the scopes and deadlines of the task that spawned it.

    Args:
        function: What it does.
        name: What it is called.
        on_end: Called when it has ended, also where it was cancelled before its first step.
    """

    def __init__(
        self, function: Callable[[], Awaitable[None]], name: str, on_end: Callable[[], None]
    ) -> None:
        self._finished = anyio.Event()
        self._on_end: Callable[[], None] | None = on_end

        self._scope = scope = anyio.CancelScope()

        async def work() -> None:
            with scope:
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
                    self._finish()

            trio.lowlevel.spawn_system_task(work_and_tell, name=name)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._finish()
        error = None if task.cancelled() else task.exception()
        # A signal handler can raise KeyboardInterrupt or SystemExit inside the task. asyncio passes
        # these on by itself. Calling `task.exception()` above tells asyncio that the error was seen;
        # otherwise it would log it again.
        if error is not None and not isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error

    def _finish(self) -> None:
        # What it hangs on to may be an error, with its traceback and all that hangs on that.
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()
        self._finished.set()

    def cancel(self) -> None:
        """
        Cancel it.
        """
        self._scope.cancel()

    async def join(self) -> None:
        """
        Wait until it has ended, however the caller is cancelled meanwhile.
        """
        await wait_in_full(self._finished)


class Interrupt:
    """
    A block of this task that can be cancelled once, by whoever is on this event loop.

    A scope of anyio cancels again and again until its block has ended, which burns a core where a native
    `asyncio.TaskGroup` in it takes its time to drain. On asyncio this cancels the task natively, once, as
    `asyncio.timeout` does.
    """

    __slots__ = ("_cancelling", "_is_cancelled", "_scope", "_task", "_task_id")

    def __init__(self) -> None:
        self._is_cancelled = False
        self._task: asyncio.Task[Any] | None = None
        self._scope: anyio.CancelScope | None = None
        self._task_id = anyio.get_current_task().id
        if isinstance(current_token().native_token, asyncio.AbstractEventLoop):
            self._task = asyncio.current_task()
            assert self._task is not None
            self._cancelling = self._task.cancelling()
        else:
            self._scope = anyio.CancelScope()
            self._scope.__enter__()

    def cancel(self) -> None:
        """
        Cancel what is in the block.
        """
        if self._is_cancelled:
            return
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()
        elif self._scope is not None:
            self._scope.cancel()

    def is_here(self) -> bool:
        """
        Is this the task that began it?
        """
        return anyio.get_current_task().id == self._task_id

    def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """
        End the block; return whether its cancellation ended it, and only that.
        """
        if self._scope is not None:
            return bool(self._scope.__exit__(kind, error, traceback)) and error is not None
        task = self._task
        assert task is not None
        if not self._is_cancelled:
            return False
        # Somebody else may have cancelled the task as well.
        is_alone = task.uncancel() <= self._cancelling
        return isinstance(error, asyncio.CancelledError) and is_alone


def call_later(seconds: float, function: Callable[[], None]) -> Callable[[], object]:
    """
    Have this event loop call *function* in some seconds; return what calls that off.

    *function* must not raise.
    """
    return later_here()(seconds, function)


def later_here() -> Callable[[float, Callable[[], None]], Callable[[], object]]:
    """
    Return `call_later` of the event loop that runs here, for where no task of it runs: in what it was told to call.
    """
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        return lambda seconds, function: loop.call_later(seconds, function).cancel
    import trio  # noqa: PLC0415 - not installed where it is not used

    def later(seconds: float, function: Callable[[], None]) -> Callable[[], object]:
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await trio.sleep(seconds)
                function()

        trio.lowlevel.spawn_system_task(wait)
        return scope.cancel

    return later


async def wait_in_full(event: anyio.Event) -> None:
    """
    Wait for *event* to the end, however this task is cancelled meanwhile, and then be cancelled.

    A shield alone keeps out what scopes do, and not `asyncio.Task.cancel`.
    """
    cancelled: BaseException | None = None
    while not event.is_set():
        try:
            with anyio.CancelScope(shield=True):
                await event.wait()
        except anyio.get_cancelled_exc_class() as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def is_cancelled() -> bool:
    """
    Is this task being cancelled, by a scope around it or by `asyncio.Task.cancel`?
    """
    if anyio.current_effective_deadline() == -math.inf:
        return True
    if isinstance(current_token().native_token, asyncio.AbstractEventLoop):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return False


def caller_here() -> Callable[[Callable[[], object]], object]:
    """
    Return what has the event loop that runs here call a function soon, from any thread.

    It raises `RuntimeError` once the loop has ended.
    """
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.call_soon_threadsafe
    import trio  # noqa: PLC0415 - not installed where it is not used

    return trio.lowlevel.current_trio_token().run_sync_soon


def clock_here() -> Callable[[], float]:
    """
    Return the clock of the event loop that runs here: it can be read in any thread.
    """
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.time
    import trio  # noqa: PLC0415 - not installed where it is not used

    return trio.lowlevel.current_clock().current_time


class Lasting(Protocol):
    """
    What stays open until somebody closes it, and knows whether that has happened.
    """

    def note_fork(self) -> None:
        """
        This is a forked child, and what the parent opened is the parent's.
        """
        ...

    def note_exit(self) -> None:
        """
        The interpreter ends.
        """
        ...


# In the order in which they were opened.
_open: weakref.WeakKeyDictionary[Lasting, None] = weakref.WeakKeyDictionary()


def note_open(thing: Lasting) -> None:
    """
    Tell *thing* of forks and of the interpreter's end, from now on.
    """
    _open[thing] = None


def still_open() -> list[Lasting]:
    """
    Return what was opened in this process, in that order, and has not been collected.
    """
    return list(_open)


def _tell_of_fork() -> None:
    for thing in list(_open):
        thing.note_fork()
    _open.clear()


@atexit.register
def tell_of_exit() -> None:
    """
    Tell all that is open of the interpreter's end; whoever takes something from them then asks for it first.
    """
    # An event loop that nobody closes is kept by what runs on it, and its rings with it.
    for thing in list(_open):
        thing.note_exit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_of_fork)


def process_number() -> int:
    """
    Return which child of its parent this process is, where `multiprocessing` made it; else 0.
    """
    # Whoever has not imported it was not made by it.
    module = sys.modules.get("multiprocessing.process")
    if module is None or module.parent_process() is None:
        return 0
    digits = module.current_process().name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0
