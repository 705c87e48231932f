"""
Where a ring hears of its pods: a source that it asks, one that tells by itself, or the first of several that can.

The life of a ring waits for one word at a time, whoever says it; how a word is judged belongs to where it comes
from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from knet.belief import Belief, Decision, RefreshPolicy
from knet.question import Question
from knet.ring.asking import Asking
from knet.ring.falling import Falling
from knet.ring.listening import Listening
from knet.ring.sharing import Heard
from knet.sources import Fallback, SingleSource, Source, is_telling

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


def feed_of(source: Source, question: Question, policy: RefreshPolicy) -> Feed:
    """
    Return what hears of *question* from *source*.

    Raises:
        TypeError: A ring can neither ask it nor listen to it; the message says what to write.
    """
    if isinstance(source, Fallback):
        feeds = tuple(_one(each, question, policy) for each in source.sources)
        return Falling(feeds, question, policy, source.patience)
    return _one(source, question, policy)


def _one(source: SingleSource, question: Question, policy: RefreshPolicy) -> Asking | Listening:
    if is_telling(source):
        return Listening(source, question, policy)
    return Asking(source, question)
