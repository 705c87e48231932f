"""
A stream of several parts: which word wakes which ring.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from knet import ALIVE, Answer, Question, RefreshPolicy, Ring, ServerFailure
from tests.fakes import A, B, C
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = pytest.mark.anyio

STEADY = RefreshPolicy(jitter=0)

Word = tuple[Mapping[str, Answer], frozenset[str] | None]


class Parts:
    """
    Tells of several services in one stream: what there is of each, and which of them it is news of.

    Attributes:
        tell: What the last call of `follow` was given.
        follows: How many there were.
    """

    def __init__(self, **services: Answer) -> None:
        self.services: Mapping[str, Answer] = services
        self.tell: Callable[[Any], None] = lambda _: None
        self.follows = 0

    def put(self, **services: Answer) -> None:
        self.services = {**self.services, **services}
        self.tell((self.services, frozenset(services)))

    async def watch(self, question: Question, tell: Any, /) -> None:
        raise NotImplementedError

    def stream_of(self, question: Question, /) -> str:
        del question
        return "all"

    async def follow(self, stream: str, tell: Callable[[Any], None], /) -> None:
        del stream
        self.follows += 1
        self.tell = tell
        tell((self.services, frozenset()))
        await anyio.sleep_forever()

    def part_of(self, question: Question, /) -> str:
        return question.service

    def news_in(self, told: Word, /) -> frozenset[str] | None:
        return told[1]

    def answer_of(self, question: Question, told: Word, /) -> Answer:
        return told[0].get(question.service, Answer())


def ring_of(source: Parts, service: str, **options: Any) -> Ring:
    settings = {"port": 80, "refresh": STEADY, "require_endpoints": False, **options}
    return Ring(service, resolver=source, **settings)


def heard(*rings: Ring) -> list[int]:
    return [ring.stats().lookups for ring in rings]


async def settled() -> None:
    await anyio.sleep(0.2)


async def test_a_ring_is_woken_by_words_of_its_part() -> None:
    source = Parts(web=Answer([A]))
    async with ring_of(source, "web") as web, ring_of(source, "cart") as cart:
        await settled()
        before = heard(web, cart)
        source.put(cart=Answer([B]))
        await settled()
        assert heard(web, cart) == [before[0], before[1] + 1]
        assert (web.snapshot.endpoints, cart.snapshot.endpoints) == ((A,), (B,))
        source.put(other=Answer([C]))
        source.put(web=Answer([A, B]))
        await settled()
        assert heard(web, cart) == [before[0] + 1, before[1] + 1]
        assert web.snapshot.endpoints == (A, B)
    assert source.follows == 1


async def test_a_refresh_has_the_last_word_of_its_part() -> None:
    source = Parts(web=Answer([A]))
    async with ring_of(source, "web") as web:
        source.put(web=Answer([B]))
        source.put(other=Answer([C]))
        assert (await web.refresh()).endpoints == (B,)


async def test_one_that_joins_later_is_given_the_whole_last_word() -> None:
    """
    Also where that was news of others, and where it comes back.
    """
    source = Parts(web=Answer([A]))
    async with ring_of(source, "web"):
        source.put(cart=Answer([B]))
        source.put(web=Answer([C]))
        async with ring_of(source, "cart") as cart:
            assert cart.snapshot.endpoints == (B,)
        source.put(cart=Answer([C]))
        async with ring_of(source, "cart") as cart:
            assert cart.snapshot.endpoints == (C,)


async def test_errors_are_for_all_and_so_is_the_word_after_one() -> None:
    source = Parts(web=Answer([A]), cart=Answer([B]))
    async with ring_of(source, "web") as web, ring_of(source, "cart") as cart:
        await settled()
        source.tell(ServerFailure("away"))
        await settled()
        assert (web.state, cart.state) == ("stale", "stale")
        source.put(web=Answer([A, C]))
        await settled()
        assert (web.state, cart.state) == ("fresh", "fresh")
        source.tell(ServerFailure("away"))
        await settled()
        source.tell(ALIVE)
        await settled()
        assert (web.state, cart.state) == ("fresh", "fresh")


@pytest.mark.parametrize("from_thread", [False, True])
@pytest.mark.parametrize("told", [ALIVE, ServerFailure("away")], ids=["alive", "away"])
async def test_what_concerns_many_is_told_to_one_after_the_other(
    told: Any, from_thread: bool
) -> None:
    source = Parts(**{f"w{n}": Answer([A]) for n in range(40)})
    async with AsyncExitStack() as stack:
        rings = [await stack.enter_async_context(ring_of(source, f"w{n}")) for n in range(40)]
        await settled()
        before = heard(*rings)
        if from_thread:
            thread = threading.Thread(target=source.tell, args=(told,))
            thread.start()
            thread.join()
        else:
            source.tell(told)
        await anyio.sleep(0.001)
        assert 0 < sum(heard(*rings)) - sum(before) < 10
        await rings[20].aclose()
        await settled()
        woken = [after - then for after, then in zip(heard(*rings), before, strict=True)]
        assert woken == [1] * 20 + [0] + [1] * 19
        wanted = "fresh" if told is ALIVE else "stale"
        assert {ring.state for ring in rings} == {wanted, "closed"}


@pytest.mark.parametrize("last", ["alive", "away", "a word"])
async def test_of_what_concerns_many_the_last_counts(last: str) -> None:
    """
    However soon it comes after the one before: nobody hears that one after it.
    """
    source = Parts(**{f"w{n}": Answer([A]) for n in range(40)})
    async with AsyncExitStack() as stack:
        rings = [await stack.enter_async_context(ring_of(source, f"w{n}")) for n in range(40)]
        for first in (ALIVE, ServerFailure("away")):
            source.tell(first)
            await anyio.sleep(0.006)
            if last == "a word":
                source.put(w39=Answer([B]))
            else:
                source.tell(ALIVE if last == "alive" else ServerFailure("away"))
            await settled()
            assert {ring.state for ring in rings} == {"stale" if last == "away" else "fresh"}
        wanted = B if last == "a word" else A
        assert rings[39].snapshot.endpoints == (wanted,)


async def test_those_who_wait_for_the_first_word_get_it() -> None:
    """
    Also where that the source is alive overtakes it.
    """
    source = Parts(**{f"w{n}": Answer([A]) for n in range(40)})
    rings = [ring_of(source, f"w{n}") for n in range(40)]
    async with anyio.create_task_group() as tasks:
        for ring in rings:
            tasks.start_soon(ring.start)
        while not source.follows:
            await anyio.sleep(0.001)
        source.tell(ALIVE)
    assert {ring.snapshot.endpoints for ring in rings} == {(A,)}
    for ring in rings:
        await ring.aclose()
