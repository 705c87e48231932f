"""
Rings whose source tells by itself.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import anyio
import pytest

import knet
from knet import (
    ALIVE,
    Answer,
    ConfigError,
    Endpoint,
    NoEndpoints,
    Question,
    RefreshPolicy,
    ResolveError,
    ResolveTimeout,
    Ring,
    ServerFailure,
)
from tests.fakes import A, B, C, FakeWatcher, endpoints
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

STEADY = RefreshPolicy(jitter=0)


def answer(*pods: Endpoint, **more: Any) -> Answer:
    return Answer(pods, **more)


def ring_of(source: Any, **options: Any) -> Ring:
    return Ring("web.prod", port=80, resolver=source, refresh=STEADY, **options)


async def settled() -> None:
    await anyio.sleep(0.2)


async def test_what_is_told_is_believed_at_once() -> None:
    """
    Who is added and who is removed, without a second word and without a lookup.
    """
    source = FakeWatcher(answer(A, B))
    async with ring_of(source) as ring:
        assert ring.snapshot.endpoints == (A, B)
        assert source.questions == [Question("web.prod", 80)]
        for pods in ((A, B, C), (C,), (A, C)):
            source.tell(answer(*pods))
            await settled()
            assert ring.snapshot.endpoints == pods
        assert ring.snapshot.generation == 4
        before = ring.stats().lookups
        await anyio.sleep(3600)
        assert ring.stats().lookups == before
        assert ring.state == "fresh"
    assert source.watches == 1


async def test_of_many_words_at_once_the_last_one_counts() -> None:
    """
    The first is believed at once, and what follows is built together.
    """
    source = FakeWatcher(answer(A))
    async with ring_of(source) as ring:
        await settled()
        many = [answer(*endpoints(count)) for count in range(1, 50)]
        for told in many:
            source.tell(told)
            await anyio.sleep(0.001)
        await settled()
        assert ring.snapshot.endpoints == many[-1].endpoints
        assert ring.snapshot.generation <= 4


async def test_nobody_left_is_held_for_a_while() -> None:
    source = FakeWatcher(answer(A, B))
    async with ring_of(source) as ring:
        source.tell(answer())
        await anyio.sleep(25)
        assert (ring.state, ring.snapshot.endpoints) == ("stale", (A, B))
        source.tell(answer(B))
        await settled()
        assert (ring.state, ring.snapshot.endpoints) == ("fresh", (B,))
        source.tell(answer())
        await anyio.sleep(25)
        assert ring.stats().state == "stale"
        await anyio.sleep(15)
        assert ring.stats().state == "empty"
        with pytest.raises(NoEndpoints):
            await ring.get("user-42")
        source.tell(answer(C))
        await settled()
        assert await ring.get("user-42") == C


async def test_an_error_is_not_the_end() -> None:
    source = FakeWatcher(answer(A, B))
    async with ring_of(source) as ring:
        source.tell(ServerFailure("the API is away"))
        await settled()
        assert (ring.state, ring.snapshot.endpoints) == ("stale", (A, B))
        assert ring.stats().last_error == "the API is away"
        await anyio.sleep(3600)
        assert ring.stats().consecutive_failures == 1
        source.tell(ALIVE)
        await settled()
        assert (ring.state, ring.snapshot.generation) == ("fresh", 1)
        assert source.watches == 1


async def test_an_answer_before_an_error_is_not_lost() -> None:
    source = FakeWatcher(answer(A))
    async with ring_of(source) as ring:
        await settled()
        source.tell(answer(A, B))
        source.tell(ServerFailure("gone"))
        await settled()
        assert (ring.state, ring.snapshot.endpoints) == ("stale", (A, B))


async def test_a_gap_removes_nobody() -> None:
    source = FakeWatcher(answer(A, B))
    async with ring_of(source) as ring:
        source.tell(answer(C, gap="targets"))
        await settled()
        assert ring.snapshot.endpoints == (A, B, C)


@pytest.mark.parametrize("how", ["returns", "raises", "fails in a task group"])
async def test_a_watch_that_ends_is_begun_again(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    Less and less often while it tells nothing; and nobody is cancelled by what fails in there.
    """

    async def fails() -> None:
        if how == "raises":
            raise ValueError("mine")
        if how == "fails in a task group":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(raises)
                await anyio.sleep_forever()

    async def raises() -> None:
        await anyio.sleep(0.01)
        raise ValueError("mine")

    broken = FakeWatcher(answer(A, B))
    broken.after = fails
    async with ring_of(broken) as ring:
        await settled()
        assert (ring.state, ring.snapshot.endpoints) == ("stale", (A, B))
        broken.first = ()
        await anyio.sleep(600)
        assert 15 < broken.watches < 60
        broken.first, broken.after = (answer(C),), anyio.sleep_forever
        await anyio.sleep(60)
        assert (ring.state, ring.snapshot.endpoints) == ("fresh", (C,))
    wanted = "ended its watch" if how == "returns" else "mine"
    if how != "fails in a task group":
        assert wanted in caplog.text


async def test_a_watch_whose_task_group_fails_in_the_middle_of_a_build_cancels_nobody() -> None:
    """
    As an async iterator would, with a task group inside of it: the build, and whoever waits for the ring (PEP 789).
    """
    source = FakeWatcher(answer(A, B))
    many, goes_on = endpoints(500), anyio.Event()
    seen: list[int] = []

    async def fails_meanwhile() -> None:
        async def fails() -> None:
            await goes_on.wait()
            source.tell(answer(*many))
            for _ in range(5):  # the ring has begun to build, and has not ended
                await anyio.lowlevel.checkpoint()
            seen.append(len(ring.snapshot))
            raise ValueError("mine")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fails)
            await anyio.sleep_forever()

    source.after = fails_meanwhile
    async with ring_of(source) as ring:
        waiting = ring.changes()
        goes_on.set()
        change = await anext(waiting)
        assert (seen, len(change.after)) == ([2], 500)
        source.first, source.after = (answer(*many),), anyio.sleep_forever
        await anyio.sleep(2)
        assert ring.state == "fresh"
        assert (source.watches, len(ring.snapshot)) == (2, 500)


async def test_a_start_waits_for_the_first_word() -> None:
    source = FakeWatcher(ServerFailure("not yet"))

    async def later() -> None:
        await anyio.sleep(3)
        source.tell(answer(A))
        await anyio.sleep_forever()

    source.after = later
    async with ring_of(source) as ring:
        assert ring.snapshot.endpoints == (A,)


async def test_a_start_that_hears_nothing_says_so() -> None:
    with pytest.raises(
        ResolveTimeout, match=r"no answer for web\.prod .* from <FakeWatcher> within 5\.0 s"
    ):
        await ring_of(FakeWatcher(), start_timeout=5).start()
    with pytest.raises(ServerFailure, match="not today"):
        await ring_of(FakeWatcher(ServerFailure("not today")), start_timeout=5).start()
    with pytest.raises(ConfigError, match="no such service"):
        await ring_of(FakeWatcher(ConfigError("no such service"))).start()
    with pytest.raises(TypeError, match=r"tell takes an Answer, an exception or knet\.ALIVE"):
        await ring_of(FakeWatcher("10.0.0.1")).start()


async def test_what_is_told_after_the_end_does_nothing() -> None:
    source = FakeWatcher(answer(A))
    async with ring_of(source) as ring:
        first = source.tell
        snapshot = ring.snapshot
    first(answer(B))
    await settled()
    assert ring.state == "closed"
    assert snapshot.endpoints == (A,)


async def test_a_watch_that_is_over_tells_nothing_more() -> None:
    source = FakeWatcher(answer(A))

    async def once() -> None:
        await anyio.sleep(1)

    source.after = once
    async with ring_of(source) as ring:
        old = source.tell
        await anyio.sleep(1.1)
        source.after = anyio.sleep_forever
        await anyio.sleep(5)
        assert source.watches == 2
        old(answer(B))
        await settled()
        assert ring.snapshot.endpoints == (A,)


async def test_another_thread_may_tell() -> None:
    source = FakeWatcher(answer(A))
    async with ring_of(source) as ring:
        await settled()
        thread = threading.Thread(target=source.tell, args=(answer(A, B),))
        thread.start()
        thread.join()
        await settled()
        assert ring.snapshot.endpoints == (A, B)


async def test_a_refresh_of_a_live_stream_asks_nobody() -> None:
    source = FakeWatcher(answer(A))
    async with ring_of(source) as ring:
        assert (await ring.refresh()).endpoints == (A,)
        source.tell(answer(A, B))
        assert (await ring.refresh()).endpoints == (A, B)
        ring.refresh_soon()
        await settled()
        assert source.watches == 1


async def test_the_port_of_the_ring_fills_what_is_left_out() -> None:
    source = FakeWatcher(answer(Endpoint("a", "10.0.0.1"), Endpoint("b", "10.0.0.2", 81)))
    async with ring_of(source) as ring:
        assert [pod.port for pod in ring.snapshot.endpoints] == [80, 81]


async def test_changes_and_owners_hear_of_it() -> None:
    source = FakeWatcher(answer(A, B))
    async with ring_of(source, me=A.address) as ring:
        changes = ring.changes()
        assert ring.is_mine("user-42") == (ring.snapshot.get("user-42") == A)
        source.tell(answer(B))
        change = await anext(changes)
        assert change.removed == (A,)
        assert ring.snapshot.find(A.address) is None


async def test_cancelled_while_it_starts_nothing_is_left() -> None:
    source = FakeWatcher()
    with anyio.move_on_after(1):
        async with ring_of(source):
            pass
    source.tell(answer(A))
    await settled()


async def test_two_rings_have_a_watch_each() -> None:
    source = FakeWatcher(answer(A))
    async with ring_of(source), ring_of(source):
        assert source.watches == 2


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (type("S", (), {"watch": lambda self, question, tell: None})(), "must be `async def`"),
        (type("S", (), {"watch": 7})(), "must be `async def`"),
    ],
)
def test_a_watch_that_cannot_be_called_is_refused_at_once(source: Any, what: str) -> None:
    with pytest.raises(TypeError, match=what):
        ring_of(source)


def test_a_watch_with_another_signature_is_refused_at_once() -> None:
    class Short:
        async def watch(self, question: Question) -> None:
            pass

    with pytest.raises(TypeError, match=r"cannot call watch\(question: .*\).* of Short"):
        ring_of(Short())
    assert repr(ALIVE) == "knet.ALIVE"


async def test_bugs_are_logged_once_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    source = FakeWatcher(answer(A))
    async with ring_of(source) as ring:
        for _ in range(3):
            source.tell(ValueError("a bug"))
            await settled()
        assert ring.state == "stale"
    told = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(told) == 1


def test_it_is_typed() -> None:
    """
    A watcher as one would write it is a source.
    """
    source: knet.Source = FakeWatcher()
    telling: knet.Telling = FakeWatcher()
    assert source is not telling
    assert issubclass(ResolveError, Exception)
