"""
A source that tells by itself, as a ring hears of its pods by it.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from knet.answer import Answer
from knet.belief import Belief, Decision, RefreshPolicy, believe
from knet.errors import ResolveError
from knet.promise import copy_of
from knet.question import Question
from knet.ring.sharing import Heard
from knet.ring.watching import Watched, watched
from knet.sources import Telling

__all__ = ["Listening"]


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
        self._wake: Callable[[], None]
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
