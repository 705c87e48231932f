"""
A source that tells by itself, as the life of a ring asks it: what it told last.

Its `watch` runs in a task of its own, so that what goes wrong in there, in a task group too, is an error
that is told, and cancels nobody. The life is woken by each word; of several that come before it has time
the last one counts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import get_ident

import anyio

from knet.answer import Answer
from knet.belief import RefreshPolicy, pace
from knet.errors import ResolveError
from knet.hosting import HostedTask, caller_here, is_cancelled
from knet.promise import copy_of
from knet.question import Question
from knet.ring.words import shown_object
from knet.sources import Alive, Telling

__all__ = ["Watched"]


class Watched:
    """
    What one source tells of one question.

    Args:
        source: Who tells.
        question: Which pods are wanted.
        policy: How soon a watch that has ended is begun again.
        wake: Called on the ring's event loop when there is a new word.
    """

    def __init__(
        self, source: Telling, question: Question, policy: RefreshPolicy, wake: Callable[[], None]
    ) -> None:
        self._source = source
        self._question = question
        self._policy = policy
        self._wake = wake
        self._thread = get_ident()
        self._call = caller_here()
        # The last answer, whether it is still to be believed, and the error after it if there is one.
        self._answer: Answer | None = None
        self._is_new = False
        self._error: Exception | None = None
        self._first = anyio.Event()
        self._task: HostedTask | None = None

    def start(self) -> None:
        """
        Watch from now on.
        """
        self._task = HostedTask(self._live, f"knet {self._question}: watch", lambda: None)

    async def aclose(self) -> None:
        """
        Watch no more, and wait until nothing of it is left.
        """
        if self._task is not None:
            self._task.cancel()
            await self._task.join()

    async def told(self, _: Question) -> Answer:
        """
        Return the last word, once there is one, or raise it.

        An answer that an error followed comes first.
        """
        await self._first.wait()
        error, is_new = self._error, self._is_new
        self._is_new = False
        if error is not None and not is_new:
            raise copy_of(error)
        if error is not None:
            self._wake()
        assert self._answer is not None
        return self._answer

    def take(self, told: object) -> None:
        """
        Take a word, on the ring's event loop.
        """
        if isinstance(told, Alive):
            # As if the last answer had been told once more.
            told = self._answer
            if told is None:
                return
        if isinstance(told, Answer):
            self._answer, self._is_new, self._error = told, True, None
        elif isinstance(told, Exception):
            self._error = told
        else:
            self._error = TypeError(
                f"{shown_object(self._source)} told {shown_object(told)}: tell takes an Answer, an exception or "
                "knet.ALIVE"
            )
        self._first.set()
        self._wake()

    def take_from(self, watch: _Watch, told: object) -> None:
        """
        Take a word of *watch*, from any thread.
        """
        if watch.is_over:
            return
        if get_ident() == self._thread:
            watch.has_told = watch.has_told or not isinstance(told, Exception)
            self.take(told)
        else:
            with suppress(RuntimeError):  # the event loop has ended
                self._call(lambda: self.take_from(watch, told))

    async def _live(self) -> None:
        failures = 0
        while True:
            watch = _Watch()
            error: Exception
            try:
                await self._source.watch(self._question, partial(self.take_from, watch))
                error = ResolveError(f"{shown_object(self._source)} ended its watch")
            except anyio.get_cancelled_exc_class() as cancelled:
                if is_cancelled():
                    raise
                error = ResolveError(f"{shown_object(self._source)} cancelled its own watch")
                error.__cause__ = cancelled
            except Exception as raised:  # noqa: BLE001 - it is told
                error = raised
            finally:
                watch.is_over = True
            failures = 1 if watch.has_told else failures + 1
            self.take(error)
            is_starting = self._answer is None
            wait = pace.after_failure(failures, self._policy, random.random(), starting=is_starting)
            await anyio.sleep(wait)


class _Watch:
    """
    One call of `watch`: whether it is over, and whether it told anything but errors.
    """

    __slots__ = ("has_told", "is_over")

    def __init__(self) -> None:
        self.has_told = False
        self.is_over = False
