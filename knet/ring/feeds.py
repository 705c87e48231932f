"""
Where a ring hears of its pods: a source that it asks, or one that tells by itself.

The life of a ring waits for one word at a time, whoever says it; how a word is judged belongs to where it comes
from.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol

import anyio

from knet.answer import Answer
from knet.belief import Belief, Decision, RefreshPolicy, believe, decide
from knet.errors import ResolveError
from knet.promise import copy_of
from knet.question import Question
from knet.resolver import Resolver
from knet.ring.sharing import Heard, SharedLookup, lookup_of
from knet.ring.watching import Watched, watched
from knet.sources import Source, Telling, asking, is_telling

__all__ = ["Feed", "feed_of"]


class Feed(Protocol):
    """
    What a ring hears of its pods by.
    """

    @property
    def source(self) -> object:
        """
        Who is asked or tells at the moment.
        """
        ...

    @property
    def is_telling(self) -> bool:
        """
        Does that one tell by itself?
        """
        ...

    @property
    def is_alive(self) -> bool | None:
        """
        Has it told, and no error since; `None` where it is asked.
        """
        ...

    async def open(self, wake: Callable[[], None]) -> None:
        """
        Begin, on this event loop; *wake* is called where there is a word that nobody asked for.
        """
        ...

    async def aclose(self) -> None:
        """
        End, and wait until nothing is left of it.
        """
        ...

    async def hear(self, since: float, pause: float) -> Heard:
        """
        Return the next word, of *since* or later where it is asked for, and *pause* seconds after the last.

        Raises:
            Exception: Whatever a source raises that is no `ResolveError`.
        """
        ...

    def judge(
        self, belief: Belief, heard: Heard, *, policy: RefreshPolicy, jitter: float
    ) -> Decision:
        """
        Return what follows from what was *heard*, as `knet.belief.decide` has it.
        """
        ...


class Asking:
    """
    A source that is asked.
    """

    is_telling = False
    is_alive = None

    def __init__(self, source: Source, question: Question) -> None:
        self.source = source
        self._ask = asking(source)
        self._question = question
        self._lookup: SharedLookup | None = None
        self._open = AsyncExitStack()

    async def open(self, wake: Callable[[], None]) -> None:
        if isinstance(self.source, Resolver):
            await self._open.enter_async_context(self.source)
        self._lookup = lookup_of(self.source, self._ask, self._question)

    async def aclose(self) -> None:
        self._lookup = None
        await self._open.aclose()

    async def hear(self, since: float, pause: float) -> Heard:
        assert self._lookup is not None
        return await self._lookup.ask(since, pause)

    def judge(
        self, belief: Belief, heard: Heard, *, policy: RefreshPolicy, jitter: float
    ) -> Decision:
        return decide(belief, heard.told, now=heard.told_at, policy=policy, jitter=jitter)


class Listening:
    """
    A source that tells by itself.
    """

    is_telling = True

    def __init__(self, source: Telling, question: Question, policy: RefreshPolicy) -> None:
        self.source = source
        self._question = question
        self._policy = policy
        self._watched: Watched | None = None
        self._wake: Callable[[], None] = _nothing
        self._seen = 0

    @property
    def is_alive(self) -> bool:
        return self._watched is not None and self._watched.is_alive

    @property
    def error(self) -> Exception | None:
        """
        What was told last, if that was an error.
        """
        return None if self._watched is None else self._watched.error

    async def open(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._watched = watched(self.source, self._question, self._policy)
        self._watched.join(self, wake)

    async def aclose(self) -> None:
        listened, self._watched = self._watched, None
        if listened is not None:
            await listened.leave(self)

    async def hear(self, since: float, pause: float) -> Heard:
        """
        Return the last word, once there is one; an answer that an error followed comes first.
        """
        listened = self._watched
        assert listened is not None
        began = anyio.current_time()
        await listened.first.wait()
        error = listened.error
        if error is not None and listened.version == self._seen:
            if isinstance(error, ResolveError):
                return Heard(copy_of(error), began, anyio.current_time())
            raise copy_of(error)
        self._seen = listened.version
        told: Answer | ResolveError
        try:
            told = await listened.answer()
        except ResolveError as none:
            told = copy_of(none)
        if listened.version != self._seen or listened.error is not None:
            self._wake()
        return Heard(told, began, anyio.current_time())

    def judge(
        self, belief: Belief, heard: Heard, *, policy: RefreshPolicy, jitter: float
    ) -> Decision:
        return believe(belief, heard.told, now=heard.told_at, policy=policy, jitter=jitter)


def _nothing() -> None:
    pass


def feed_of(source: Source, question: Question, policy: RefreshPolicy) -> Feed:
    """
    Return what hears of *question* from *source*.

    Raises:
        TypeError: A ring can neither ask it nor listen to it; the message says what to write.
    """
    if is_telling(source):
        return Listening(source, question, policy)
    return Asking(source, question)
