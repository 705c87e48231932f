"""
Keys that a peer holds: how it hears that one moved, and what ends its block.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from knet import (
    ConfigError,
    Endpoint,
    KeyMoved,
    RefreshPolicy,
    Ring,
    RingClosed,
    RingMisused,
    RingNotReady,
)
from knet.hashring import HashRing
from tests.fakes import FakeResolver, endpoints
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

PODS = endpoints(4)
ME = PODS[0]
# A pod that takes keys of ME's when it joins, and gives them back when it leaves.
LATER = PODS[3]
KEYS = [f"user-{n}" for n in range(2000)]
NOW, THEN = HashRing(PODS[:3]), HashRing(PODS)
LOST = [key for key in KEYS if NOW.get(key) is ME and THEN.get(key) is LATER]
KEPT = [key for key in KEYS if NOW.get(key) is ME and THEN.get(key) is ME]
OTHERS = [key for key in KEYS if NOW.get(key) is not ME]
QUICK = RefreshPolicy(jitter=0, confirm=1)


@contextlib.asynccontextmanager
async def ring_and_resolver(**options: Any) -> AsyncIterator[tuple[Ring, FakeResolver]]:
    resolver = FakeResolver(*PODS[:3])
    options.setdefault("me", ME.address)
    async with Ring("web.prod", resolver=resolver, refresh=QUICK, **options) as ring:
        yield ring, resolver


async def move(ring: Ring, resolver: FakeResolver, *pods: Endpoint) -> None:
    """
    Let the pods be others: by default *LATER* joins.
    """
    resolver.answer(*(pods or PODS))
    await ring.refresh()


async def test_a_block_ends_when_its_key_moves_and_says_to_whom() -> None:
    async with ring_and_resolver() as (ring, resolver):
        seen: list[str] = []
        with pytest.raises(KeyMoved) as caught:
            async with ring.while_mine(LOST[0]) as held, anyio.create_task_group() as tasks:
                tasks.start_soon(move, ring, resolver)
                try:
                    await anyio.sleep(3600)
                finally:
                    seen.append("cancelled")
                    assert held.lost.is_set()
        assert seen == ["cancelled"]
        assert (caught.value.key, caught.value.to) == (LOST[0], LATER)
        assert str(LATER) in str(caught.value)


async def test_a_block_whose_key_stays_goes_on() -> None:
    async with ring_and_resolver() as (ring, resolver), ring.while_mine(KEPT[0]) as held:
        await move(ring, resolver)
        await anyio.sleep(10)
        assert not held.lost.is_set()


async def test_grace_lets_a_block_end_by_itself() -> None:
    async with ring_and_resolver() as (ring, resolver):
        async with ring.while_mine(LOST[0], grace=5) as held:
            await move(ring, resolver)
            assert held.lost.is_set()
            assert held.to is not None
            assert held.to.name == LATER.name
            await anyio.sleep(4)
        # And no longer than that.
        await move(ring, resolver, *PODS[:3])
        began = anyio.current_time()
        with pytest.raises(KeyMoved):
            async with ring.while_mine(LOST[0], grace=5):
                await move(ring, resolver)
                await anyio.sleep(3600)
        assert anyio.current_time() - began == pytest.approx(6, abs=1.1)


async def test_the_own_exception_of_a_block_goes_before() -> None:
    async with ring_and_resolver() as (ring, resolver):
        async with anyio.create_task_group() as tasks:
            with pytest.raises(LookupError) as caught:
                async with ring.while_mine(LOST[0]):
                    tasks.start_soon(move, ring, resolver)
                    try:
                        await anyio.sleep(3600)
                    except BaseException:
                        raise LookupError("a bug") from None
            assert "belongs to" in caught.value.__notes__[0]
        with pytest.raises(LookupError) as caught:
            async with ring.while_mine(KEPT[0]):
                raise LookupError
        assert not hasattr(caught.value, "__notes__")


async def test_a_key_of_another_pod_cannot_be_held() -> None:
    async with ring_and_resolver() as (ring, _):
        with pytest.raises(KeyMoved) as caught:
            async with ring.while_mine(OTHERS[0]):
                pytest.fail("it was entered")
        assert caught.value.to is NOW.get(OTHERS[0]) or caught.value.to == NOW.get(OTHERS[0])
        with pytest.raises(KeyMoved):
            ring.hold(OTHERS[0])


async def test_who_is_nobody_holds_nothing() -> None:
    """
    While this pod is not ready, or nobody is.
    """
    resolver = FakeResolver()
    async with Ring("web.prod", resolver=resolver, refresh=QUICK, me=ME.address) as ring:
        with pytest.raises(KeyMoved, match="belongs to nobody") as caught:
            ring.hold("user-42")
        assert caught.value.to is None
        resolver.answer(*PODS[1:3])
        await ring.refresh()
        with pytest.raises(KeyMoved):
            ring.hold("user-42")


async def test_when_this_pod_leaves_everything_is_lost() -> None:
    async with ring_and_resolver() as (ring, resolver):
        with ring.hold(KEPT[0]) as held:
            changes = ring.changes()
            await move(ring, resolver, *PODS[1:3])
            assert held.lost.is_set()
            assert held.to == HashRing(PODS[1:3]).get(KEPT[0])
            change = await anext(changes)
            mine = [key for key in KEYS if NOW.get(key) is ME]
            assert change.lost().filter(KEYS) == mine


async def test_the_end_of_the_ring_ends_a_block() -> None:
    ring = Ring("web.prod", resolver=FakeResolver(*PODS[:3]), refresh=QUICK, me=ME.address)
    async with anyio.create_task_group() as tasks:
        await ring.start()
        with pytest.raises(RingClosed, match="ended while"):
            async with ring.while_mine(KEPT[0]):
                tasks.start_soon(ring.aclose)
                await anyio.sleep(3600)
    for use in (lambda: ring.hold(KEPT[0]), lambda: ring.while_mine(KEPT[0]).__aenter__()):
        with pytest.raises(RingClosed):
            await use()  # type: ignore[misc]


async def test_leaving_the_ring_inside_of_a_block_leaves_with_the_blocks_own_end() -> None:
    async with ring_and_resolver() as (ring, _), ring.while_mine(KEPT[0], grace=1):
        await ring.aclose()


async def test_ejections_do_not_count() -> None:
    async with ring_and_resolver() as (ring, _), ring.while_mine(KEPT[0]) as held:
        assert ring.eject(ME)
        assert await ring.get(KEPT[0]) is not ME
        await anyio.sleep(1)
        assert not held.lost.is_set()
        assert ring.is_mine(KEPT[0])


async def test_a_key_that_comes_back_at_once_is_told_all_the_same() -> None:
    async with ring_and_resolver() as (ring, resolver):
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(ring.hold(key)) for key in LOST]
            assert len(held) > 32
            await move(ring, resolver)
            await move(ring, resolver, *PODS[:3])
            await anyio.sleep(1)
            assert all(each.lost.is_set() for each in held)
            assert all(ring.is_mine(key) for key in LOST)


@pytest.mark.long
async def test_ten_thousand_held_keys_are_told_within_a_second() -> None:
    keys = [f"room-{n}" for n in range(60_000)]
    lost = [key for key in keys if NOW.get(key) is ME and THEN.get(key) is LATER][:10_000]
    kept = [key for key in keys if NOW.get(key) is ME and THEN.get(key) is ME][: 10_000 - len(lost)]
    async with ring_and_resolver() as (ring, resolver):
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(ring.hold(key)) for key in lost]
            stays = [stack.enter_context(ring.hold(key)) for key in kept]
            await move(ring, resolver)
            await anyio.sleep(0.5)
            assert all(each.lost.is_set() for each in held)
            assert not any(each.lost.is_set() for each in stays)


async def test_waiting_for_an_event_or_for_the_key_to_go() -> None:
    async with ring_and_resolver() as (ring, resolver):
        send, receive = anyio.create_memory_object_stream[str](10)
        with send, receive, ring.hold(LOST[0]) as held:
            await send.send("one")
            assert await held.wait_for(receive.receive) == "one"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(move, ring, resolver)
                with pytest.raises(KeyMoved) as caught:
                    await held.wait_for(receive.receive)
                assert caught.value.to == LATER
            with pytest.raises(KeyMoved):
                await held.wait_for(receive.receive)
        # An error of its own leaves as itself.
        await move(ring, resolver, *PODS[:3])
        with ring.hold(KEPT[0]) as held:

            async def fail() -> None:
                raise LookupError

            with pytest.raises(LookupError):
                await held.wait_for(fail)


async def test_a_stream_that_is_left_in_the_middle_holds_nothing() -> None:
    async with ring_and_resolver() as (ring, _):
        held = ring.hold(KEPT[0])

        async def events() -> AsyncIterator[int]:
            with held as mine:
                number = 0
                while not mine.lost.is_set():
                    number += 1
                    yield number

        stream = events()
        assert [await anext(stream), await anext(stream)] == [1, 2]
        await stream.aclose()  # type: ignore[attr-defined]
        assert ring._owning._held == {}


async def test_a_native_task_group_that_drains_burns_no_cpu() -> None:
    """
    A second of draining: a scope of anyio would cancel it again in every turn of the loop.
    """
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        pytest.skip("a task group of asyncio's")

    turns: list[float] = []

    async def drain() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            turns.append(anyio.current_time())
            for _ in range(10):
                await asyncio.sleep(0.1)

    async with ring_and_resolver() as (ring, resolver):
        with pytest.raises(KeyMoved):
            async with ring.while_mine(LOST[0]), asyncio.TaskGroup() as tasks:
                tasks.create_task(drain())
                tasks.create_task(move(ring, resolver))
                await asyncio.sleep(3600)
        # On a virtual clock the time would not go on while the loop is busy.
        assert anyio.current_time() - turns[0] == pytest.approx(1, abs=0.01)
        # And the task is as it was.
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_a_cancellation_of_somebody_else_stays_one() -> None:
    async with ring_and_resolver() as (ring, resolver):
        with anyio.move_on_after(5) as scope:
            async with ring.while_mine(KEPT[0]):
                await anyio.sleep(3600)
        assert scope.cancelled_caught
        assert ring._owning._held == {}
        with anyio.CancelScope() as scope:
            async with ring.while_mine(LOST[0]):
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    await move(ring, resolver)
                await anyio.sleep(3600)
        assert scope.cancel_called


async def test_a_block_around_a_yield_is_an_error_where_it_can_be_seen() -> None:
    async with ring_and_resolver() as (ring, _):
        if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
            pytest.skip("trio itself says so")
        block = ring.while_mine(KEPT[0])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(block.__aenter__)
        with pytest.raises(RingMisused, match=r"use ring\.hold"):
            await block.__aexit__(None, None, None)
        assert ring._owning._held == {}


@pytest.mark.parametrize(
    ("options", "error"), [({"grace": -1}, ConfigError), ({"grace": "1"}, TypeError)]
)
async def test_bad_input_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    async with ring_and_resolver() as (ring, _):
        with pytest.raises(error):
            ring.while_mine("user-42", **options)


async def test_a_ring_that_does_not_know_who_it_is_holds_nothing() -> None:
    async with ring_and_resolver(me=None) as (ring, _):
        with pytest.raises(ConfigError, match=r"me=knet\.this_pod"):
            ring.hold("user-42")
        with pytest.raises(ConfigError, match=r"me=knet\.this_pod"):
            async with ring.while_mine("user-42"):
                pass
    with pytest.raises(RingNotReady):
        Ring("web.prod", me="10.0.0.1").hold("user-42")


async def test_parts_are_worked_on_while_they_are_mine() -> None:
    """
    Begun and ended as keys come and go, and each of them once at a time.
    """
    parts = [f"part-{n}" for n in range(64)]
    working: list[str] = []
    begun: list[str] = []

    async def work(part: str, held: Any) -> None:
        assert part not in working
        working.append(part)
        begun.append(part)
        try:
            await held.lost.wait()
            await anyio.sleep(2)  # it drains
        finally:
            working.remove(part)

    began = 0.0
    async with ring_and_resolver() as (ring, resolver), anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: ring.own(parts, work, grace=5))
        await anyio.sleep(0.1)
        assert sorted(working) == sorted(part for part in parts if NOW.get(part) is ME)
        await move(ring, resolver)
        await move(ring, resolver, *PODS[:3])  # they are back before the first have ended
        await anyio.sleep(10)
        assert sorted(working) == sorted(part for part in parts if NOW.get(part) is ME)
        moved = [part for part in parts if NOW.get(part) is ME and THEN.get(part) is not ME]
        assert moved
        assert all(begun.count(part) == 1 + (part in moved) for part in set(begun))
        assert all(map(ring.is_mine, working))

        began = anyio.current_time()
        ring.let_go()
        ring.let_go()
        assert not any(map(ring.is_mine, parts))
        with pytest.raises(KeyMoved, match="belongs to nobody"):
            ring.hold(parts[0])
    assert working == []
    assert anyio.current_time() - began == pytest.approx(2, abs=0.1)


async def test_an_error_of_one_part_ends_all_and_leaves_as_itself() -> None:
    async with ring_and_resolver() as (ring, _):
        ends: list[str] = []

        async def work(part: str, held: Any) -> None:
            try:
                await anyio.sleep(1 if part == KEPT[0] else 3600)
                raise LookupError(part)
            finally:
                ends.append(part)

        with pytest.raises(LookupError, match=KEPT[0]):
            await ring.own(KEPT[:5], work)
        assert sorted(ends) == sorted(KEPT[:5])
        assert ring._owning._held == {}


async def test_what_returns_by_itself_is_not_begun_again() -> None:
    begun: list[str] = []

    async def work(part: str, held: Any) -> None:
        begun.append(part)

    async with ring_and_resolver() as (ring, resolver), anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: ring.own([LOST[0], KEPT[0]], work))
        await anyio.sleep(5)
        assert sorted(begun) == sorted([LOST[0], KEPT[0]])
        await move(ring, resolver)
        await move(ring, resolver, *PODS[:3])
        await anyio.sleep(5)
        assert begun.count(LOST[0]) == 2
        assert begun.count(KEPT[0]) == 1
        await ring.aclose()
    async with ring_and_resolver(me=None) as (ring, _):
        with pytest.raises(ConfigError, match=r"me=knet\.this_pod"):
            await ring.own(["a"], work)
    with pytest.raises(RingNotReady):
        await Ring("web.prod", me="10.0.0.1").own(["a"], work)


async def test_who_had_a_key_before_through_a_rolling_update() -> None:
    """
    One change after its move, the snapshot before names the new owner itself.
    """
    async with ring_and_resolver() as (ring, resolver):
        pods = list(PODS[:3])
        owners = {key: ring.snapshot.get(key) for key in KEYS}
        history: dict[str, list[Endpoint]] = {key: [] for key in KEYS}
        for number in range(3):
            pods[number] = replace(pods[number], name=f"new-{number}", address=f"10.9.0.{number}")
            await move(ring, resolver, *pods)
            for key in KEYS:
                owner = ring.snapshot.get(key)
                if owner != owners[key]:
                    history[key].insert(0, owners[key])
                    owners[key] = owner
        for key in KEYS:
            wanted = tuple(dict.fromkeys(e for e in history[key] if e != owners[key]))
            assert ring.previous_owners(key) == wanted
        assert any(len(before) > 1 for before in history.values())
        # It is forgotten after a minute.
        await anyio.sleep(61)
        assert ring.previous_owners(KEYS[0]) == ()
        assert ring.previous_owners(KEYS[0], within=0) == ()
