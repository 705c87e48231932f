"""
A source that is asked, as a ring hears of its pods by it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from knet.belief import Belief, Decision, RefreshPolicy, decide
from knet.question import Question
from knet.resolver import Resolver
from knet.ring.sharing import Heard, SharedLookup, lookup_of
from knet.sources import SingleSource, asking

__all__ = ["Asking"]


class Asking:
    """
    A source that is asked.
    """

    is_telling = False
    is_alive = None

    def __init__(self, source: SingleSource, question: Question) -> None:
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
