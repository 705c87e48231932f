"""
Interrupting a coroutine at any place where it can be interrupted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

__all__ = ["Interrupted"]

T = TypeVar("T")


class Interrupted(Awaitable[T], Generic[T]):
    """
    Awaits *work*, and calls *interrupt* when it gives way to the event loop for the *at*-th time.

    Attributes:
        steps: How many times it has given way; below *at* when it ended before that.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        at: int,
        interrupt: Callable[[], object],
        *,
        watch: Callable[[], object] = lambda: None,
    ) -> None:
        self.steps = 0
        self._work = work
        self._at = at
        self._interrupt = interrupt
        self._watch = watch

    def __await__(self) -> Generator[Any, Any, T]:
        inner = self._work.__await__()
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            try:
                trap = inner.send(sent) if thrown is None else inner.throw(thrown)
            except StopIteration as done:
                value: T = done.value
                return value
            sent = thrown = None
            self.steps += 1
            self._watch()
            if self.steps == self._at:
                self._interrupt()
            try:
                sent = yield trap
            except BaseException as error:
                thrown = error
