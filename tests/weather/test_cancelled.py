"""
Cancelled, or closed, at every single place where a ring waits: it is whole, and nothing is left.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from knet import (
    Answer,
    Endpoint,
    NameNotFound,
    RefreshPolicy,
    Ring,
    RingClosed,
    RingNotReady,
    ServerFailure,
    Snapshot,
)
from knet.hashring import HashRing
from knet.turns import turns
from tests.fakes import FakeResolver, endpoints
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time
from tests.weather.steps import Interrupted

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]
weather = pytest.mark.weather

FEW, MORE = endpoints(3), endpoints(5)
SMALL = functools.partial(HashRing[Endpoint], points=1, slots=64)
# No life below takes more steps.
ENOUGH = 1_000


@pytest.fixture(autouse=True)
def _gives_way_wherever_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A ring of five pods has all the steps of one of five thousand, and not one for each.
    """
    monkeypatch.setattr(turns, "seconds", -1.0)
    monkeypatch.setattr(turns, "many", 2)


class Scripted(FakeResolver):
    """
    Every kind of outcome in turn, with a few turns of the other tasks in each lookup.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outcome = self._next
        failed, gone = ServerFailure("SERVFAIL"), NameNotFound("NXDOMAIN")
        script: list[Answer | Exception] = [Answer(FEW), Answer(MORE), failed, Answer(FEW), gone]
        self._script = itertools.cycle(script)

    def _next(self) -> Answer:
        outcome = next(self._script)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def resolve(self, service: str, /) -> Answer:
        for _ in range(2):
            await anyio.lowlevel.checkpoint()
        return await super().resolve(service)


def snapshot_of(ring: Ring) -> Snapshot | None:
    """
    What it serves, if there is anything.
    """
    try:
        return ring.snapshot
    except (RingClosed, RingNotReady):
        return None


def assert_whole(ring: Ring) -> None:
    """
    Fail if what a reader sees at this moment does not belong together.
    """
    stats = ring.stats()
    snapshot = snapshot_of(ring)
    if snapshot is None:
        assert (stats.endpoints, stats.generation) == (0, 0)
        assert ring.state in ("starting", "closed")
    else:
        assert snapshot.endpoints in (FEW, MORE)
        assert stats.endpoints == len(snapshot.endpoints)
        assert stats.generation == snapshot.generation
        assert ring.state in ("fresh", "stale")
        assert snapshot.get("user-42") in snapshot.endpoints


async def assert_gone(ring: Ring, resolver: FakeResolver) -> None:
    """
    Fail if anything of *ring* goes on.
    """
    assert ring.state == "closed"
    assert (ring.stats().endpoints, ring.stats().generation) == (0, 0)
    for use in (ring.get("user-42"), ring.refresh()):
        with pytest.raises(RingClosed):
            await use
    asked = len(resolver.asked)
    await anyio.sleep(120)
    assert len(resolver.asked) == asked
    assert not [task for task in anyio.get_running_tasks() if "knet" in (task.name or "")]


def new_ring(**options: Any) -> tuple[Ring, Scripted]:
    resolver = Scripted()
    return Ring("web.prod", resolver=resolver, placement=SMALL, **options), resolver


async def live(at: int, interrupt: Callable[[Ring, anyio.CancelScope], object]) -> int:
    """
    Let a ring start and refresh six times, interrupted at step *at*; return how many steps it took.
    """
    ring, resolver = new_ring()
    held: list[tuple[Snapshot, Endpoint]] = []

    def watch() -> None:
        assert_whole(ring)
        snapshot = snapshot_of(ring)
        if snapshot is not None:
            held.append((snapshot, snapshot.get("user-42")))

    tasks = anyio.create_task_group()
    life = Interrupted(ring.run(), at, lambda: interrupt(ring, tasks.cancel_scope), watch=watch)

    async def host() -> None:
        await life

    async with tasks:
        tasks.start_soon(host)
        with anyio.move_on_after(300):
            while ring.stats().lookups < 7 and ring.state != "closed":
                await anyio.sleep(0.5)
        await ring.aclose()

    await assert_gone(ring, resolver)
    # Who held a snapshot still has it, as it was.
    assert all(snapshot.get("user-42") == pod for snapshot, pod in held)
    return life.steps


@weather("A task is cancelled")
async def test_a_life_is_cancelled_at_every_step() -> None:
    """
    While starting, resting, resolving, deciding and building.
    """
    for at in range(1, ENOUGH):
        if await live(at, lambda _, scope: scope.cancel()) < at:
            break
    else:
        pytest.fail("it never ends")
    assert at > 50


@weather("A ring is closed in the middle of something")
async def test_a_ring_is_closed_at_every_step_of_its_life() -> None:
    """
    By another task, which finds nothing left once `aclose` has returned.
    """

    async def close(ring: Ring) -> None:
        await ring.aclose()
        assert ring.state == "closed"

    steps = 0
    for at in range(1, ENOUGH):
        async with anyio.create_task_group() as tasks:

            def interrupt(ring: Ring, _: anyio.CancelScope) -> None:
                tasks.start_soon(close, ring)

            steps = await live(at, interrupt)
        if steps < at:
            break
    else:
        pytest.fail("it never ends")
    assert at > 50


async def rounds(count: int) -> None:
    """
    Let every other task take *count* steps or so.
    """
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


@weather("A task is cancelled")
@pytest.mark.parametrize("how", ["start", "enter"])
async def test_entering_is_cancelled_at_every_moment(how: str) -> None:
    """
    Nothing is left, however far the first lookup was.
    """
    for after in range(ENOUGH):
        ring, resolver = new_ring()
        entered = False
        async with anyio.create_task_group() as tasks:

            async def enter() -> None:
                nonlocal entered
                if how == "start":
                    await ring.start()  # noqa: B023 - awaited in this turn
                    entered = True
                    await ring.aclose()  # noqa: B023
                else:
                    async with ring:  # noqa: B023
                        entered = True

            tasks.start_soon(enter)
            await rounds(after)
            assert_whole(ring)
            tasks.cancel_scope.cancel()
        await assert_gone(ring, resolver)
        if entered:
            break
    else:
        pytest.fail("it never starts")
    assert after > 5


@weather("A task is cancelled")
async def test_refreshing_is_cancelled_at_every_moment() -> None:
    """
    The caller leaves; the ring goes on, whole, and answers the next caller.
    """
    # It asks when it is told to, and not by itself.
    when_told = RefreshPolicy(interval=3600, min_interval=0.5, empty_hold=math.inf, confirm=1)
    ring, resolver = new_ring(refresh=when_told)
    async with ring:
        for after in range(ENOUGH):
            returned = False
            async with anyio.create_task_group() as tasks:

                async def refresh() -> None:
                    nonlocal returned
                    with contextlib.suppress(ServerFailure, NameNotFound):
                        await ring.refresh()
                    returned = True

                await anyio.sleep(60)
                tasks.start_soon(refresh)
                await rounds(after)
                assert_whole(ring)
                tasks.cancel_scope.cancel()
            if returned and after > 60:
                break
        else:
            pytest.fail("it never returns")
        assert ring.stats().generation > 10
    await assert_gone(ring, resolver)


@weather("A task is cancelled")
@weather("A ring is closed in the middle of something")
async def test_leaving_is_cancelled_at_every_step() -> None:
    """
    It completes all the same: nothing is left for being in a hurry.
    """
    for after, at in itertools.product(range(0, 40, 3), range(1, 4)):
        ring, resolver = new_ring()
        await ring.start()
        async with anyio.create_task_group() as tasks:
            resolver.delay = after % 2
            tasks.start_soon(rounds, after)
            await anyio.sleep(5.6)
            await rounds(after)
            with anyio.CancelScope() as scope:
                leaving: Interrupted[None] = Interrupted(ring.aclose(), at, scope.cancel)
                await leaving
            tasks.cancel_scope.cancel()
        await assert_gone(ring, resolver)
