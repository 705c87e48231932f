"""
What rings with the same question share, and that each of them is as good as alone.
"""

from __future__ import annotations

import functools
import gc
import random
import weakref
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
import pytest

from knet import (
    Answer,
    Endpoint,
    NameNotFound,
    RefreshPolicy,
    Resolver,
    ResolveTimeout,
    Ring,
    ServerFailure,
)
from knet.hashring import HashRing, Maglev
from knet.question import Question
from knet.ring.sharing import SharedLookup, lookup_of
from knet.sources import asking
from tests.fakes import A, B, C, FakeResolver, endpoints
from tests.virtual_time import anyio_backend

__all__ = ["anyio_backend"]

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

INTERVAL = RefreshPolicy().interval
SHORTEST = RefreshPolicy().shortest


class Shareable(Resolver):
    """
    A `Resolver`, as far as rings can tell, that does as it is told and opens no channel.
    """

    def __init__(self, *found: Endpoint, ttl: float | None = None) -> None:
        super().__init__(nameservers=["127.0.0.1"])
        self.fake = FakeResolver(*found, ttl=ttl)

    async def resolve(self, question: str | Question, /, **options: Any) -> Answer:
        return await self.fake.resolve(str(question))

    async def __aenter__(self) -> Shareable:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass


@asynccontextmanager
async def rings(
    count: int, resolver: Any, service: str = "web.prod", **options: Any
) -> AsyncIterator[list[Ring]]:
    """
    Open *count* rings of one service at the same time.
    """
    opened = [Ring(service, resolver=resolver, **options) for _ in range(count)]
    async with anyio.create_task_group() as tasks:
        for ring in opened:
            tasks.start_soon(ring.start)
    try:
        yield opened
    finally:
        for ring in opened:
            await ring.aclose()


def source(resolver: Any) -> SharedLookup:
    return lookup_of(resolver, asking(resolver), Question("web.prod"))


# --- lookups


@pytest.mark.long
async def test_rings_of_one_name_send_the_queries_of_one() -> None:
    """
    However many rings there are, their Service is asked for once an interval.
    """
    resolver = Shareable(A, B)

    async with rings(100, resolver) as opened:
        at_start = len(resolver.fake.asked)
        await anyio.sleep(60 * INTERVAL)

        assert at_start <= 2
        assert len(resolver.fake.asked) - at_start <= 60
        assert all(ring.stats().lookups >= 54 for ring in opened)


@pytest.mark.long
async def test_each_of_them_hears_of_a_change_as_soon_as_one_alone() -> None:
    """
    Between two lookups that a ring hears of there is never more than its own interval.
    """
    resolver = Shareable(A, B)

    async with rings(100, resolver) as opened:
        for found in ((A, B, C), (A, B), (A, C), (C,)):
            resolver.fake.answer(*found)
            await anyio.sleep((INTERVAL + SHORTEST) * 1.1)
            assert {ring.snapshot.endpoints for ring in opened} == {found}


async def test_no_ring_takes_one_answer_for_two() -> None:
    """
    A removal needs two answers, and two rings that share one answer have heard one.
    """
    resolver = Shareable(A, B)

    async with rings(20, resolver) as opened:
        resolver.fake.answer(A)
        before = len(resolver.fake.asked)
        while opened[0].stats().held == 0:
            await anyio.sleep(0.01)
        assert len(resolver.fake.asked) == before + 1
        assert all(len(ring.snapshot.endpoints) == 2 for ring in opened)


async def test_two_answers_in_a_row_are_apart_also_if_another_ring_heard_the_second() -> None:
    """
    A lie that lasts for a moment is one word, however many rings ask in that moment.
    """
    resolver = Shareable(A, B)

    async with rings(2, resolver) as (ring, hasty):
        await anyio.sleep(2)
        resolver.fake.answer(A)
        await ring.refresh()
        await anyio.sleep(0.05)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hasty.refresh)
            await anyio.sleep(0.05)
            resolver.fake.answer(A, B)
        await anyio.sleep(10)

        assert ring.snapshot.generation == hasty.snapshot.generation == 1


async def test_however_many_rings_are_told_to_ask_the_servers_are_asked_as_by_one() -> None:
    """
    Every handler that met a refused connection says so, and they all run on rings of one name.
    """
    resolver = Shareable(A, B)

    async with rings(50, resolver) as opened:
        await anyio.sleep(2)
        before = len(resolver.fake.asked)
        for _ in range(100):
            for ring in random.sample(opened, 5):
                ring.refresh_soon()
            await anyio.sleep(0.1)

        asked = resolver.fake.asked[before:]
        assert 9 <= len(asked) <= 11
        assert min(later - sooner for sooner, later in pairwise(asked)) >= SHORTEST - 1e-9


async def test_other_questions_and_other_resolvers_are_asked_apart() -> None:
    """
    Only what is equal in every option is one question.
    """
    fake = Shareable(A)
    web = source(fake)

    assert source(fake) is web
    assert source(Shareable(A)) is not web
    assert lookup_of(fake, asking(fake), Question("web.prod", 80)) is not web
    assert lookup_of(fake, asking(fake), Question("web.prod", family="ipv6")) is not web

    plain = Resolver(nameservers=["127.0.0.1"])
    assert source(plain) is not web
    assert source(plain) is source(Resolver(nameservers=["127.0.0.1"]))
    assert source(plain) is not source(Resolver(nameservers=["127.0.0.1"], tries=3))
    assert source(plain) is not source(Resolver(nameservers=["127.0.0.2"]))


async def test_a_resolver_that_a_user_brought_is_asked_by_every_ring() -> None:
    """
    Nobody knows what else it does when it is asked.
    """
    resolver = FakeResolver(A)

    async with rings(3, resolver):
        assert len(resolver.asked) == 3


async def test_refreshes_of_many_rings_share_a_lookup_that_is_newer_than_all_of_them() -> None:
    """
    A refresh says that something happened just now; a lookup that is under way may not know it.
    """
    resolver = Shareable(A)

    async with rings(20, resolver) as opened:
        await anyio.sleep(2)
        resolver.fake.delay = 0.2
        before = len(resolver.fake.asked)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(opened[0].refresh)
            await anyio.sleep(0.1)
            resolver.fake.answer(A, B)
            for ring in opened[1:]:
                tasks.start_soon(ring.refresh)

        assert len(resolver.fake.asked) == before + 2
        assert all(ring.snapshot.endpoints == (A, B) for ring in opened[1:])


async def test_a_ring_that_opens_later_asks_anew() -> None:
    """
    It starts with what is true now, not with what its sister heard a moment ago.
    """
    resolver = Shareable(A)

    async with rings(1, resolver):
        await anyio.sleep(0.1)
        resolver.fake.answer(A, B)
        async with rings(1, resolver) as (later,):
            assert later.snapshot.endpoints == (A, B)


async def test_when_the_ring_that_asks_is_closed_another_one_asks() -> None:
    """
    What is shared hangs on no ring in particular.
    """
    resolver = Shareable(A)
    resolver.fake.delay = 1.0

    async with anyio.create_task_group() as tasks:
        first, second = (Ring("web.prod", resolver=resolver) for _ in range(2))
        tasks.start_soon(first.run)
        await anyio.sleep(0.1)
        tasks.start_soon(second.run)
        await anyio.sleep(0.4)
        assert len(resolver.fake.asked) == 1

        await first.aclose()
        await second.get("k")
        assert len(resolver.fake.asked) == 2
        assert second.snapshot.endpoints == (A,)
        await second.aclose()


async def test_a_failure_is_shared_and_raised_by_each_for_itself() -> None:
    """
    Two tasks that raise one exception object would write into each other's traceback.
    """
    resolver = Shareable(A)
    raised: list[Exception] = []

    def fail() -> Answer:
        raise ServerFailure("SERVFAIL")

    resolver.fake.outcome = fail

    async def start() -> None:
        try:
            await Ring("web.prod", resolver=resolver, start_timeout=3).start()
        except ServerFailure as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(start)

    assert len(set(map(id, raised))) == 10
    assert len(resolver.fake.asked) < 10


@pytest.mark.long
async def test_a_storm_of_failures_is_a_few_queries() -> None:
    """
    A hundred rings ask a server that fails hardly more often than one of them would.
    """
    resolver = Shareable(A)

    async with rings(100, resolver) as opened:
        resolver.fake.outcome = ServerFailure("SERVFAIL")
        before = len(resolver.fake.asked)
        await anyio.sleep(600)

        assert all(ring.state == "stale" for ring in opened)
        # Alone, a ring would have asked 600 / 22.5 times, and a few times more at first.
        assert len(resolver.fake.asked) - before <= 100

        resolver.fake.answer(A)
        await anyio.sleep(60)
        before = len(resolver.fake.asked)
        await anyio.sleep(60 * INTERVAL)
        assert len(resolver.fake.asked) - before <= 70


async def test_a_resolver_with_a_bug_raises_it_in_each_ring() -> None:
    """
    What is no answer and no failure to resolve is nobody else's outcome.
    """
    resolver = Shareable(A)

    async with rings(3, resolver) as opened:
        resolver.fake.outcome = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            await opened[0].refresh()
        with pytest.raises(ZeroDivisionError):
            await opened[1].refresh()


async def test_an_error_that_cannot_be_copied_is_what_it_is() -> None:
    """
    A user's resolver may raise a class of its own, whose `__init__` wants something else.
    """

    class Gone(NameNotFound):
        def __init__(self, service: str, why: str) -> None:
            super().__init__(f"{service} is gone: {why}")

    resolver = FakeResolver(A)

    async with rings(1, resolver) as (ring,):
        resolver.outcome = Gone("web", "moved")
        with pytest.raises(Gone):
            await ring.refresh()
        await anyio.sleep(60)
        assert ring.state == "empty"
        assert set(ring.stats().failures) == {"nxdomain"}


async def test_a_resolve_that_was_put_in_the_place_of_the_own_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Tests of programs that use knet do that; an instance is frozen and refuses it.
    """
    fake = FakeResolver(A)

    async def resolve(self: Resolver, service: str, /, **options: Any) -> Answer:
        return await fake.resolve(service)

    monkeypatch.setattr(Resolver, "resolve", resolve)
    async with Ring("web.prod", resolver=Resolver(nameservers=["127.0.0.1"])) as ring:
        assert ring.snapshot.endpoints == (A,)
    monkeypatch.undo()
    one = Resolver(nameservers=["127.0.0.1"])
    with pytest.raises(AttributeError, match="read-only"):
        one.resolve = fake.resolve  # type: ignore[method-assign, assignment]


async def test_those_who_wait_can_give_up() -> None:
    """
    Cancelled while another ring's lookup is under way, a ring leaves and the lookup goes on.
    """
    resolver = Shareable(A)
    resolver.fake.delay = 5.0
    shared = source(resolver)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shared.ask, 0.0)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(1) as scope:
            await shared.ask(0.0)
        assert scope.cancelled_caught

    assert (await shared.ask(0.0)).told == Answer([A])
    assert len(resolver.fake.asked) == 1


# --- placements


async def test_rings_of_one_name_keep_one_table() -> None:
    """
    A table takes half a megabyte, and all of them would be equal.
    """
    resolver = Shareable(*endpoints(3))

    async with rings(10, resolver) as opened:
        assert len({id(ring.snapshot.placement) for ring in opened}) == 1
        resolver.fake.answer(*endpoints(4))
        await anyio.sleep(2 * INTERVAL)
        assert len({id(ring.snapshot.placement) for ring in opened}) == 1
        assert {len(ring.snapshot.endpoints) for ring in opened} == {4}


async def test_a_placement_is_kept_by_those_who_use_it() -> None:
    """
    A ring that stays open keeps no tables for others that came and went.
    """
    resolver = Shareable(*endpoints(3))

    tables = []
    async with rings(1, resolver) as (standing,):
        for points in range(10, 20):
            make = functools.partial(HashRing, points=points)
            async with rings(2, resolver, placement=make) as (ring, other):
                assert ring.snapshot.placement is other.snapshot.placement
                tables.append(weakref.ref(ring.snapshot.placement))
            del ring, other, make
        gc.collect()
        assert not [table for table in tables if table() is not None]
        assert standing.snapshot.endpoints == endpoints(3)


async def test_a_change_goes_on_from_the_placement_that_stands() -> None:
    """
    So that it costs what changes; and who stays is the same object, though the resolver makes new ones.
    """
    replaced: list[tuple[int, int]] = []

    class Recording(HashRing[Endpoint]):
        __slots__ = ()

        def replacing(self, members: Iterable[Endpoint]) -> Any:
            members = tuple(members)
            replaced.append((len(self), len(members)))
            return super().replacing(members)

    resolver = FakeResolver(*endpoints(40))
    async with Ring("web.prod", resolver=resolver, placement=Recording) as ring:
        before = ring.snapshot
        resolver.answer(*endpoints(41))
        await ring.refresh()

        assert replaced[-2:] == [(0, 40), (40, 41)]
        assert ring.snapshot.placement == Recording(endpoints(41))
        old = {pod: pod for pod in before.endpoints}
        assert sum(old.get(pod) is pod for pod in ring.snapshot.endpoints) == 40


async def test_each_placement_is_its_own() -> None:
    """
    What makes a placement decides what it is.
    """
    resolver = Shareable(*endpoints(3))
    other = Ring("web.prod", resolver=resolver, placement=Maglev)

    async with rings(2, resolver) as (ring, _), other:
        assert isinstance(ring.snapshot.placement, HashRing)
        assert isinstance(other.snapshot.placement, Maglev)


async def test_a_placement_that_cannot_be_built_keeps_nobody_waiting() -> None:
    """
    Its error reaches every ring that asks for it, and the next set of endpoints is tried again.
    """
    resolver = Shareable(A)

    class Picky(HashRing[Endpoint]):
        def replacing(self, members: Any) -> Any:
            if B in members:
                raise ZeroDivisionError
            return super().replacing(members)

    async with rings(3, resolver, placement=Picky) as opened:
        resolver.fake.answer(A, B)
        for ring in opened:
            with pytest.raises(ZeroDivisionError):
                await ring.refresh()
        resolver.fake.answer(A, C)
        await anyio.sleep(2 * INTERVAL)
        assert {ring.snapshot.endpoints for ring in opened} == {(A, C)}


# --- its end


async def test_nothing_is_kept_for_rings_that_are_closed() -> None:
    """
    The last ring of a name takes answers and tables with it, also while somebody keeps the ring.
    """
    resolver = Shareable(A)

    async with rings(2, resolver) as opened:
        shared = weakref.ref(source(resolver))
        assert shared() is not None
    gc.collect()
    assert shared() is None

    def no_answer() -> Answer:
        raise ResolveTimeout("no answer")  # a new one each time: an error keeps its traceback

    deaf = Shareable()
    deaf.fake.outcome = no_answer
    late = Ring("web.prod", resolver=deaf, start_timeout=1)
    async with anyio.create_task_group() as tasks:

        async def start() -> None:
            with pytest.raises(ResolveTimeout):
                await late.start()

        tasks.start_soon(start)
        await anyio.sleep(0.5)
        shared = weakref.ref(source(deaf))
        assert shared() is not None
    gc.collect()
    assert shared() is None
    assert {ring.state for ring in (*opened, late)} == {"closed"}
