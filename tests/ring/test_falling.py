"""
Rings with several sources, of which the first that can tell counts.
"""

from __future__ import annotations

import logging
import math
import random
from typing import Any

import anyio
import pytest

from knet import (
    ALIVE,
    Answer,
    ConfigError,
    Endpoint,
    Fallback,
    Forbidden,
    NameNotFound,
    Question,
    RefreshPolicy,
    Resolver,
    Ring,
    ServerFailure,
    ServerUnreachable,
    StaticResolver,
    Tell,
)
from knet.hashring.proxies import EnvoyRing
from tests.fakes import A, B, C, D, FakeResolver, FakeWatcher
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

STEADY = RefreshPolicy(jitter=0)
GONE = ServerUnreachable("the API cannot be reached")
NO_RIGHT = Forbidden("no right to read EndpointSlices; apply this:\nkind: Role")


def ring_of(*sources: Any, patience: float = 2.0, **options: Any) -> Ring:
    fallback = Fallback(*sources, patience=patience)
    return Ring("web.prod", port=80, resolver=fallback, **{"refresh": STEADY, **options})


def addresses(ring: Ring) -> list[str]:
    return [pod.address for pod in ring.snapshot.endpoints]


def in_use(ring: Ring) -> tuple[str, bool | None]:
    stats = ring.stats()
    return stats.source, stats.alive


async def test_as_long_as_the_first_tells_nobody_else_is_asked() -> None:
    first, second = FakeWatcher(Answer([A, B])), FakeResolver(C)
    async with ring_of(first, second) as ring:
        assert addresses(ring) == [A.address, B.address]
        first.tell(Answer([B]))
        await anyio.sleep(3600)
        assert addresses(ring) == [B.address]
        assert (ring.state, in_use(ring)) == ("fresh", ("FakeWatcher", True))
    assert not second.asked


class _Stream(FakeWatcher):
    """
    One watch for all questions, as `EndpointSlices` has for those of a service.
    """

    def stream_of(self, question: Question, /) -> str:
        return question.service

    async def follow(self, stream: str, tell: Tell, /) -> None:
        await self.watch(Question(stream), tell)

    def part_of(self, question: Question, /) -> None:
        del question

    def news_in(self, told: Answer, /) -> None:
        del told

    def answer_of(self, question: Question, told: Answer, /) -> Answer:
        del question
        return told


async def test_one_that_told_other_rings_before_is_not_silent() -> None:
    """
    A ring that joins a watch hears what it told last, whoever else listens, and counts on it.
    """
    first, second = _Stream(Answer([A, B])), FakeResolver(C)
    async with (
        Ring("web.prod", port=80, resolver=first, refresh=STEADY),
        ring_of(first, second) as ring,
    ):
        await anyio.sleep(3600)
        assert (ring.state, in_use(ring)) == ("fresh", ("_Stream", True))
        assert addresses(ring) == [A.address, B.address]
    assert not second.asked


async def test_one_that_is_refused_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """
    It is said once, and in full: what to grant is there to be pasted.
    """
    caplog.set_level(logging.INFO, "knet")
    first, second = FakeWatcher(NO_RIGHT), FakeResolver(A, B)
    began = anyio.current_time()
    async with ring_of(first, second) as ring:
        assert anyio.current_time() - began < 0.1
        assert ring.snapshot.endpoints == (A, B)
        assert in_use(ring) == ("FakeResolver", None)
        await anyio.sleep(600)
        assert len(second.asked) > 100
        assert ring.snapshot.generation == 1
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    (warning,) = warnings
    assert warning == (
        "web.prod (port 80): <FakeWatcher> cannot tell, and <FakeResolver> is asked until it can: "
        "no right to read EndpointSlices; apply this:\nkind: Role"
    )


async def test_one_that_says_nothing_is_waited_for() -> None:
    first, second = FakeWatcher(), FakeResolver(A)
    began = anyio.current_time()
    async with ring_of(first, second) as ring:
        assert anyio.current_time() - began == pytest.approx(2, abs=0.1)
        assert ring.snapshot.endpoints == (A,)


@pytest.mark.parametrize("error", [GONE, NO_RIGHT, ServerFailure("500"), ConfigError("no pod")])
async def test_one_that_breaks_is_taken_over_from(error: Exception) -> None:
    """
    After `patience`, or at once where that is of no use. All the while the ring is fresh.
    """
    first, second = FakeWatcher(Answer([A, B])), FakeResolver(A, B, ttl=5)
    async with ring_of(first, second) as ring:
        await anyio.sleep(60)
        broke_at = anyio.current_time()
        first.tell(error)
        while not second.asked:
            assert ring.state == "fresh"
            await anyio.sleep(0.01)
        waited = second.asked[0] - broke_at
        assert waited < 2.1
        assert (waited < 0.1) == isinstance(error, Forbidden | ConfigError)
        await anyio.sleep(0.1)
        assert in_use(ring) == ("FakeResolver", None)
        assert (ring.state, ring.snapshot.generation) == ("fresh", 1)


async def test_one_that_is_back_soon_is_not_given_up() -> None:
    first, second = FakeWatcher(Answer([A, B])), FakeResolver(C)
    async with ring_of(first, second) as ring:
        for told in (ALIVE, Answer([A, B]), Answer([A])):
            first.tell(GONE)
            await anyio.sleep(1.9)
            assert (ring.state, in_use(ring)) == ("fresh", ("FakeWatcher", False))
            first.tell(told)
            await anyio.sleep(60)
            assert in_use(ring) == ("FakeWatcher", True)
        assert ring.snapshot.endpoints == (A,)
    assert not second.asked


async def test_the_first_is_taken_back_once_it_has_been_alive() -> None:
    first, second = FakeWatcher(Answer([A, B])), FakeResolver(A, B)
    async with ring_of(first, second) as ring:
        holds = []
        for _ in range(4):
            first.tell(NO_RIGHT)
            await anyio.sleep(3)
            assert in_use(ring)[0] == "FakeResolver"
            first.tell(Answer([A, B]))
            back_at = anyio.current_time()
            while in_use(ring)[0] != "FakeWatcher":
                await anyio.sleep(0.1)
            holds.append(anyio.current_time() - back_at)
            asked = len(second.asked)
            await anyio.sleep(30)
            assert len(second.asked) == asked
        assert holds == pytest.approx([5, 10, 20, 40], abs=0.2)
        assert ring.snapshot.generation == 1


async def test_where_the_second_fails_too_the_first_is_taken_back_at_once() -> None:
    first, second = FakeWatcher(Answer([A])), FakeResolver(A)
    async with ring_of(first, second) as ring:
        first.tell(NO_RIGHT)
        await anyio.sleep(1)
        second.outcome = ServerFailure("no")
        await anyio.sleep(60)
        assert (ring.state, ring.snapshot.endpoints) == ("stale", (A,))
        first.tell(Answer([A, B]))
        await anyio.sleep(0.1)
        assert (ring.state, ring.snapshot.endpoints) == ("fresh", (A, B))
        assert in_use(ring) == ("FakeWatcher", True)


async def test_where_none_can_tell_the_start_says_what_each_of_them_told() -> None:
    first, second = FakeWatcher(NO_RIGHT), FakeResolver()
    second.outcome = NameNotFound("web.prod is not there")
    with pytest.raises(NameNotFound) as raised:
        await ring_of(first, second, start_timeout=5).__aenter__()
    assert "web.prod is not there; before it, <FakeWatcher>: no right to read" in str(raised.value)


async def test_whoever_answers_first_at_a_start_counts() -> None:
    """
    Also while the second is being asked, and hangs.
    """
    first, second = FakeWatcher(GONE), FakeResolver(B)
    second.delay = 8.0
    async with anyio.create_task_group() as tasks:
        ring = ring_of(first, second)
        tasks.start_soon(ring.start)
        await anyio.sleep(1)
        assert second.asked
        first.tell(Answer([A]))
        await anyio.sleep(0.01)
        assert ring.snapshot.endpoints == (A,)
        await ring.aclose()


# --- no pod is lost, and none comes back, by the change of source alone


async def test_an_old_answer_removes_nobody_and_brings_back_nobody() -> None:
    """
    DNS is a TTL behind: it knows nothing of a pod that just came, and names one that just went.
    """
    old, new = Answer([A, B], 30.0), Answer([B, C], 30.0)
    first, second = FakeWatcher(Answer([A, B])), FakeResolver()
    async with ring_of(first, second) as ring:
        await anyio.sleep(60)
        changed_at = anyio.current_time()
        first.tell(Answer([B, C]))
        await anyio.sleep(0.5)
        second.outcome = lambda: (
            Answer(old.endpoints, changed_at + 25 - anyio.current_time())
            if anyio.current_time() < changed_at + 25
            else new
        )
        first.tell(NO_RIGHT)
        for _ in range(400):
            await anyio.sleep(0.1)
            assert in_use(ring)[0] == "FakeResolver"
            assert ring.snapshot.endpoints == (B, C)
    assert ring.stats().generation == 0


async def test_what_the_second_says_counts_once_it_cannot_be_older() -> None:
    """
    A pod that died at the moment of the change leaves, and one that came joins at once.
    """
    first, second = FakeWatcher(Answer([A, B])), FakeResolver(B, C, ttl=5)
    async with ring_of(first, second) as ring:
        await anyio.sleep(60)
        first.tell(NO_RIGHT)
        broke_at = anyio.current_time()
        await anyio.sleep(0.5)
        assert ring.snapshot.endpoints == (A, B, C)
        while A in ring.snapshot.endpoints:
            await anyio.sleep(0.1)
        assert 5 <= anyio.current_time() - broke_at < 13


async def test_back_at_the_first_the_same_holds() -> None:
    first, second = FakeWatcher(Answer([A, B])), FakeResolver(A, B, C, ttl=5)
    async with ring_of(first, second) as ring:
        first.tell(NO_RIGHT)
        await anyio.sleep(60)
        assert ring.snapshot.endpoints == (A, B, C)
        first.tell(Answer([A, B]))  # it has not heard of C yet
        while in_use(ring)[0] != "FakeWatcher":
            await anyio.sleep(0.01)
        assert addresses(ring) == [A.address, B.address, C.address]
        await anyio.sleep(5.1)
        assert addresses(ring) == [A.address, B.address]


async def test_who_is_back_at_another_address_is_back_at_once() -> None:
    moved = Endpoint("c", "10.0.0.9", 80)
    first, second = FakeWatcher(Answer([A, B, C])), FakeResolver(A, B, moved, ttl=30)
    async with ring_of(first, second) as ring:
        first.tell(Answer([A, B]))
        await anyio.sleep(1)
        first.tell(NO_RIGHT)
        await anyio.sleep(0.5)
        assert ring.snapshot.endpoints == (A, B, moved)


async def test_an_address_that_another_pod_has_now_is_not_kept() -> None:
    heir = Endpoint("d", A.address, 80)
    first, second = FakeWatcher(Answer([A, B])), FakeResolver(B, heir, ttl=5)
    async with ring_of(first, second) as ring:
        first.tell(NO_RIGHT)
        await anyio.sleep(5)
        assert ring.snapshot.endpoints == (B, heir)


async def test_one_that_comes_and_goes_keeps_nobody_for_ever() -> None:
    """
    A further change begins nothing anew: who is dead leaves, whichever is asked.
    """
    first, second = FakeWatcher(Answer([A, B])), FakeResolver(A, B, ttl=30)
    async with ring_of(first, second) as ring:
        first.tell(NO_RIGHT)
        await anyio.sleep(1)
        second.answer(A, ttl=30)  # B has died, and DNS knows
        died_at = anyio.current_time()
        for _ in range(60):
            if B not in ring.snapshot.endpoints:
                break
            first.tell(Answer([A]))
            await anyio.sleep(6)
            first.tell(NO_RIGHT)
            await anyio.sleep(4)
        assert anyio.current_time() - died_at < 90


async def test_nobody_is_ready_for_a_moment_when_the_source_changes() -> None:
    """
    The held set stands, whichever of them says so.
    """
    first, second = FakeWatcher(Answer([A, B])), FakeResolver()
    async with ring_of(first, second) as ring:
        await anyio.sleep(60)
        first.tell(Answer())
        await anyio.sleep(10)
        first.tell(NO_RIGHT)
        await anyio.sleep(10)
        assert ring.snapshot.endpoints == (A, B)
        second.answer(C, D)
        await anyio.sleep(60)
        assert ring.snapshot.endpoints == (C, D)


# --- sources of every kind


async def test_one_that_is_asked_may_be_the_first() -> None:
    first, second = FakeResolver(A, B, ttl=5), FakeResolver(A, B, C, ttl=5)
    async with ring_of(first, second) as ring:
        await anyio.sleep(20)
        assert not second.asked
        first.outcome = ServerFailure("no")
        await anyio.sleep(12)
        assert second.asked
        assert (ring.state, ring.snapshot.endpoints) == ("fresh", (A, B, C))
        asked = len(first.asked)
        await anyio.sleep(60)
        assert 1 < len(first.asked) - asked < 30  # now and then, to see whether it is back
        first.answer(A, B, C, ttl=5)
        await anyio.sleep(60)
        asked = len(second.asked)
        await anyio.sleep(60)
        assert len(second.asked) == asked
        assert ring.snapshot.endpoints == (A, B, C)


async def test_one_that_is_asked_and_hangs_is_waited_for() -> None:
    first, second = FakeResolver(A), FakeResolver(B)
    first.delay = 3600
    began = anyio.current_time()
    async with ring_of(first, second, patience=1.0) as ring:
        assert anyio.current_time() - began == pytest.approx(1, abs=0.01)
        assert ring.snapshot.endpoints == (B,)
        await anyio.sleep(100)
        assert ring.state == "fresh"


async def test_a_list_that_is_known_beforehand_is_the_last_resort() -> None:
    first, second = FakeWatcher(GONE), FakeResolver()
    second.outcome = NameNotFound("no cluster here")
    third = StaticResolver([A, B])
    async with ring_of(first, second, third) as ring:
        assert ring.snapshot.endpoints == (A, B)
        assert ring.stats().source == "StaticResolver"
        second.answer(C)
        await anyio.sleep(120)
        assert ring.stats().source == "FakeResolver"
        first.tell(Answer([D]))
        await anyio.sleep(30)
        assert ring.stats().source == "FakeWatcher"
        assert addresses(ring) == [D.address]


async def test_what_is_wrong_with_one_is_no_matter_to_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        async def watch(self, question: Question, tell: Tell) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                raise ValueError(str(question))

    class AlsoBroken:
        async def resolve(self, service: str) -> Answer:
            raise ValueError(service)

    third = FakeResolver(A)
    async with ring_of(Broken(), AlsoBroken(), third) as ring:
        assert ring.snapshot.endpoints == (A,)
        await anyio.sleep(60)
        assert ring.state == "fresh"
        third.outcome = ValueError("it, too")
        await anyio.sleep(60)
        assert (ring.state, ring.snapshot.endpoints) == ("stale", (A,))
    assert "ValueError" in caplog.text


async def test_a_refresh_asks_whoever_is_asked() -> None:
    first, second = FakeWatcher(Answer([A])), FakeResolver(A, B)
    async with ring_of(first, second) as ring:
        assert len(await ring.refresh()) == 1
        assert not second.asked
        first.tell(NO_RIGHT)
        await anyio.sleep(3)
        asked = len(second.asked)
        second.answer(A, B, C)
        assert len(await ring.refresh()) == 3
        assert len(second.asked) == asked + 1


@pytest.mark.parametrize("after", [0.0, 0.001, 1.0, 2.0, 2.001, 5.0, 8.0])
async def test_it_ends_whenever_it_is_cancelled(after: float) -> None:
    """
    Nobody is asked, and nobody is listened to, any more.
    """
    first, second = FakeWatcher(), FakeResolver(A)
    first.after = lambda: anyio.sleep(1.5)
    second.delay = 3.0
    with anyio.move_on_after(after):
        async with ring_of(first, second, FakeResolver(B)):
            await anyio.sleep_forever()
    watches, asked = first.watches, len(second.asked)
    await anyio.sleep(100)
    assert (first.watches, len(second.asked)) == (watches, asked)


async def test_a_ring_that_was_closed_says_so() -> None:
    ring = ring_of(FakeWatcher(Answer([A])), FakeResolver(A))
    async with ring:
        pass
    assert in_use(ring) == ("FakeWatcher", False)


def test_what_a_fallback_is() -> None:
    one, other = Resolver(nameservers=["10.0.0.1"]), Resolver()
    assert Fallback(one, other) == Fallback(one, other)
    assert hash(Fallback(one, other)) == hash(Fallback(one, other))
    assert Fallback(one, other).sources == (one, other)
    assert Fallback(one, other) != Fallback(one, other, patience=3.0)
    assert repr(Fallback(one, other, patience=3)) == f"Fallback({one!r}, {other!r}, patience=3)"
    with pytest.raises(ConfigError, match="at least two"):
        Fallback(one)
    with pytest.raises(TypeError, match="into one"):
        Fallback(Fallback(one, other), other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a method resolve"):
        Fallback(one, object())  # type: ignore[arg-type]
    for wrong in (-1, math.inf, math.nan):
        with pytest.raises(ConfigError, match="patience"):
            Fallback(one, other, patience=wrong)
    with pytest.raises(ConfigError, match="port=8080"):
        Ring("web", resolver=Fallback(FakeWatcher(), Resolver()), placement=EnvoyRing)


# --- a world in which pods, and the first source, come and go


class World:
    """
    Pods that come and go, an API that knows at once while it is there, and DNS behind a cache.
    """

    def __init__(self, seed: int, ttl: float) -> None:
        self.random = random.Random(seed)
        self.ttl = ttl
        self.pods = {0, 1, 2, 3}
        self.was_there: dict[int, float] = {}
        self.is_up = True
        self.tell: Tell = lambda _: None
        self._cached: Answer = Answer()
        self._expires_at = -math.inf

    def answer(self, ttl: float | None = None) -> Answer:
        return Answer([Endpoint(f"p{n}", f"10.0.0.{n}", 80) for n in self.pods], ttl)

    async def resolve(self, service: str) -> Answer:
        now = anyio.current_time()
        if now >= self._expires_at:
            self._cached, self._expires_at = self.answer(), now + self.ttl
        return Answer(self._cached.endpoints, self._expires_at - now)

    async def watch(self, question: Question, tell: Tell) -> None:
        if not self.is_up:
            raise GONE
        self.tell = tell
        tell(self.answer())
        while self.is_up:
            await anyio.sleep(0.02)
        raise GONE

    def step(self) -> None:
        """
        Have a quarter of a second pass.
        """
        now = anyio.current_time()
        self.was_there |= dict.fromkeys(self.pods, now)
        if self.random.random() < 0.02:
            self.is_up = not self.is_up
        if self.random.random() < 0.04:
            pod = self.random.randrange(8)
            if pod not in self.pods:
                self.pods.add(pod)
            elif len(self.pods) > 1:
                self.pods.remove(pod)
            self.was_there |= dict.fromkeys(self.pods, now)
            if self.is_up:
                self.tell(self.answer())


@pytest.mark.sampled(16)
@pytest.mark.parametrize("ttl", [5.0, 30.0])
@pytest.mark.parametrize("seed", range(4))
async def test_no_pod_is_lost_or_comes_back_by_the_change_of_source(seed: int, ttl: float) -> None:
    """
    Whoever leaves the ring had left the service, and whoever joins had joined it since; when all is quiet the
    ring is what the service is.
    """
    world = World(seed, ttl)
    changes, left_at = 0, dict.fromkeys(range(8), -math.inf)
    gone_at: dict[int, float] = {}
    async with ring_of(_OnlyWatch(world), _OnlyResolve(world)) as ring:
        used, known = in_use(ring)[0], {p.name for p in ring.snapshot.endpoints}
        for _ in range(2400):
            world.step()
            await anyio.sleep(0.25)
            now = anyio.current_time()
            gone_at |= {n: now for n in range(8) if n not in world.pods}
            changes += in_use(ring)[0] != used
            used, before, known = in_use(ring)[0], known, {p.name for p in ring.snapshot.endpoints}
            for n in range(8):
                if f"p{n}" in before - known:
                    assert now - gone_at.get(n, -math.inf) < 75, (n, now)
                    left_at[n] = now
                if f"p{n}" in known - before:
                    assert world.was_there[n] >= left_at[n] - 1, (n, now)
            assert known
        world.is_up = seed % 2 == 0
        world.random.seed(0)
        await anyio.sleep(200)
        assert {p.name for p in ring.snapshot.endpoints} == {f"p{n}" for n in world.pods}
    assert changes > 4


class _OnlyWatch:
    def __init__(self, world: World) -> None:
        self.watch = world.watch


class _OnlyResolve:
    def __init__(self, world: World) -> None:
        self.resolve = world.resolve
