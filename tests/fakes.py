"""
Sources that do as they are told, for tests of what a ring makes of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from knet import Answer, Endpoint, Question, Tell

A = Endpoint("a", "10.0.0.1", 80)
B = Endpoint("b", "10.0.0.2", 80)
C = Endpoint("c", "10.0.0.3", 80)
D = Endpoint("d", "10.0.0.4", 80)


def endpoints(count: int) -> tuple[Endpoint, ...]:
    """
    Return *count* endpoints, sorted by name.
    """
    return tuple(
        Endpoint(f"pod-{i:04d}", f"10.{i // 65536}.{i // 256 % 256}.{i % 256}", 80)
        for i in range(count)
    )


class FakeResolver:
    """
    Gives an outcome until it is given another; a function makes one for each lookup.

    Attributes:
        outcome: An `Answer`, an exception to raise, or a function that returns or raises one.
        asked: The loop's time of each lookup.
        delay: Seconds that a lookup takes.
        at_once: How many lookups were under way at the same time, at most.
    """

    def __init__(self, *found: Endpoint, ttl: float | None = None) -> None:
        self.outcome: Answer | Exception | Callable[[], Answer] = Answer(found, ttl)
        self.asked: list[float] = []
        self.delay = 0.0
        self.at_once = 0
        self._under_way = 0

    def answer(self, *found: Endpoint, ttl: float | None = None, complete: bool = True) -> None:
        """
        Answer with these endpoints from now on.
        """
        self.outcome = Answer(found, ttl, gap="" if complete else "targets")

    async def resolve(self, service: str, /) -> Answer:
        """
        Give the outcome.
        """
        self.asked.append(anyio.current_time())
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        try:
            await anyio.sleep(self.delay)
            outcome = self.outcome
            if isinstance(outcome, Exception):
                raise outcome
            return outcome if isinstance(outcome, Answer) else outcome()
        finally:
            self._under_way -= 1

    def __repr__(self) -> str:
        return "<FakeResolver>"


class FakeWatcher:
    """
    Tells what it is told to tell.

    Attributes:
        tell: What the ring gave to the last watch.
        watches: How many watches there were.
        after: What a watch does once it has told its first word; it waits for ever by default.
    """

    def __init__(self, *first: Any) -> None:
        self.first = first
        self.tell: Tell = lambda _: None
        self.watches = 0
        self.questions: list[Question] = []
        self.after: Callable[[], Awaitable[object]] = anyio.sleep_forever

    async def watch(self, question: Question, tell: Tell) -> None:
        self.watches += 1
        self.questions.append(question)
        self.tell = tell
        for told in self.first:
            tell(told)
        await self.after()

    def __repr__(self) -> str:
        return "<FakeWatcher>"
