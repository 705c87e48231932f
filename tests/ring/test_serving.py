"""
Requests by way of a ring: tried at one pod after the other, ejections, bounded load, and that every way
out gives back what it took.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from knet import (
    Attempts,
    Bound,
    ConfigError,
    EjectionPolicy,
    Endpoint,
    Kept,
    NoEndpoints,
    RefreshPolicy,
    Ring,
    RingClosed,
    RingMisused,
    RingNotReady,
    may_repeat,
)
from knet.hashring import HashRing, Maglev, Rendezvous
from knet.hashring.proxies import EnvoyRing
from tests.fakes import A, B, C, FakeResolver, endpoints
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

KEYS = [f"user-{n}" for n in range(300)]
STEADY = RefreshPolicy(jitter=0)
PODS = endpoints(10)


def ring_of(*pods: Endpoint, **options: Any) -> Ring:
    return Ring("web.prod", resolver=FakeResolver(*pods or PODS), refresh=STEADY, **options)


def refused(pod: Endpoint) -> ConnectionRefusedError:
    return ConnectionRefusedError(111, f"Connect call failed ('{pod.address}', {pod.port})")


def reset(_: Endpoint) -> ConnectionResetError:
    return ConnectionResetError(104, "reset")


class Pods:
    """
    Pods of which some are dead, and what was asked of them.
    """

    def __init__(
        self, *dead: Endpoint, error: Callable[[Endpoint], BaseException] = refused
    ) -> None:
        self.dead = set(dead)
        self.error = error
        self.asked: list[Endpoint] = []

    async def serve(self, pod: Endpoint) -> str:
        self.asked.append(pod)
        await anyio.sleep(0.001)
        if pod in self.dead:
            raise self.error(pod)
        return pod.name


# --- call


async def test_a_call_returns_what_the_function_returns_at_the_keys_pod() -> None:
    pods = Pods()
    async with ring_of() as ring:
        for key in KEYS[:20]:
            assert await ring.call(key, pods.serve) == ring.snapshot.get(key).name
        assert ring.stats().in_flight == 0


async def test_a_pod_that_refuses_costs_no_request() -> None:
    """
    The next pod of the key is asked, the dead one is ejected, and DNS is asked too.
    """
    async with ring_of() as ring:
        first, second, _ = await ring.get_n("user-42", 3)
        pods = Pods(first)
        lookups = ring.stats().lookups
        assert await ring.call("user-42", pods.serve) == second.name
        assert pods.asked == [first, second]
        assert list(ring.ejected) == [first]
        assert ring.ejected[first] == pytest.approx(10, abs=0.1)
        assert ring.stats().ejected == 1

        # From then on it is not asked, and picks skip it.
        assert await ring.call("user-42", pods.serve) == second.name
        assert pods.asked == [first, second, second]
        assert await ring.get("user-42") is second
        await anyio.sleep(1.1)
        assert ring.stats().lookups == lookups + 1
        # The view of DNS is as it was.
        assert ring.snapshot.get("user-42") is first


async def test_when_nobody_is_left_the_last_error_leaves_with_the_others_as_notes() -> None:
    async with ring_of() as ring:
        pods = Pods(*PODS)
        with pytest.raises(ConnectionRefusedError) as caught:
            await ring.call("user-42", pods.serve)
        tried = pods.asked
        assert tried == list(ring.snapshot.get_n("user-42", 3))
        assert tried[2].address in str(caught.value)
        assert [str(pod) in note for pod, note in zip(tried, caught.value.__notes__, strict=False)]
        assert len(caught.value.__notes__) == 2
        assert ring.stats().in_flight == 0


@pytest.mark.parametrize("n", [1, 2, 10, 50])
async def test_at_most_n_pods_are_asked_and_none_of_them_twice(n: int) -> None:
    async with ring_of(ejection=EjectionPolicy(max_share=0)) as ring:
        pods = Pods(*PODS)
        with pytest.raises(ConnectionRefusedError):
            await ring.call("user-42", pods.serve, n=n)
        assert pods.asked == list(ring.snapshot.get_n("user-42", min(n, len(PODS))))


@pytest.mark.parametrize("error", [ValueError, ConnectionResetError, TimeoutError, KeyError])
async def test_any_other_error_leaves_at_once(error: type[Exception]) -> None:
    async with ring_of() as ring:
        pods = Pods(*PODS, error=lambda _: error("no"))
        with pytest.raises(error) as caught:
            await ring.call("user-42", pods.serve)
        assert len(pods.asked) == 1
        assert not hasattr(caught.value, "__notes__")
        assert not ring.ejected


async def test_work_that_may_be_done_twice_goes_on_after_a_broken_exchange() -> None:
    async with ring_of() as ring:
        first, second = await ring.get_n("user-42", 2)
        pods = Pods(first, error=reset)
        assert await ring.call("user-42", pods.serve, retry_on=may_repeat) == second.name
        for kinds in (ConnectionError, (ConnectionResetError, EOFError)):
            assert await ring.call("user-42", pods.serve, retry_on=kinds) == second.name


async def test_an_error_of_another_host_sends_nothing_again_and_ejects_nobody() -> None:
    """
    The handler's database refuses: three pods would get the request, and two would be ejected.
    """

    def database(_: Endpoint) -> Exception:
        return ConnectionRefusedError(111, "Connect call failed ('10.99.0.1', 5432)")

    async with ring_of() as ring:
        pods = Pods(*PODS, error=database)
        with pytest.raises(ConnectionRefusedError):
            await ring.call("user-42", pods.serve)
        assert len(pods.asked) == 1
        assert not ring.ejected


async def test_what_was_perhaps_done_is_repeated_within_a_budget() -> None:
    """
    All that was in flight when the first one broke, and 3 of those that began later.
    """
    async with ring_of(ejection=EjectionPolicy(max_share=0)) as ring:
        pods = Pods(*PODS, error=reset)
        ends: list[BaseException] = []

        async def one() -> None:
            try:
                await ring.call("user-42", pods.serve, n=2, retry_on=may_repeat)
            except ConnectionResetError as error:
                ends.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(one)
        assert len(pods.asked) == 20
        pods.asked.clear()
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(one)
        assert len(pods.asked) == 13
        assert ring.stats().in_flight == 0


async def test_total_bounds_all_rounds_together() -> None:
    async def hang(pod: Endpoint) -> None:
        if pod is first:
            raise refused(pod)
        await anyio.sleep(3600)

    async with ring_of() as ring:
        first = await ring.get("user-42")
        began = anyio.current_time()
        with pytest.raises(TimeoutError, match="not served within 2 s") as caught:
            await ring.call("user-42", hang, total=2)
        assert anyio.current_time() - began == pytest.approx(2, abs=0.01)
        assert str(first) in caught.value.__notes__[0]
        # It counts for nobody.
        assert list(ring.ejected) == [first]
        assert ring.stats().in_flight == 0
        # And who is served in time is served.
        assert await ring.call("user-42", Pods().serve, total=2)
        async for attempt in ring.attempts("user-42", total=2):
            with attempt:
                await anyio.sleep(1)


async def test_a_function_that_returns_nothing_to_await_is_a_type_error() -> None:
    async with ring_of() as ring:
        with pytest.raises(TypeError):
            await ring.call("user-42", str)  # type: ignore[arg-type]
        assert ring.stats().in_flight == 0


# --- attempts


async def test_rounds_by_hand() -> None:
    pods = Pods()

    async def fetch(ring: Ring) -> str:
        tries = ring.attempts("user-42")
        while True:
            async with tries as pod:
                return await pods.serve(pod)

    async with ring_of() as ring:
        first, second = await ring.get_n("user-42", 2)
        assert await fetch(ring) == first.name
        pods.dead.add(first)
        assert await fetch(ring) == second.name


async def test_rounds_as_a_loop() -> None:
    async with ring_of() as ring:
        first, second = await ring.get_n("user-42", 2)
        pods = Pods(first)
        found = []
        async for attempt in ring.attempts("user-42"):
            with attempt as pod:
                found.append(await pods.serve(pod))
        assert found == [second.name]


async def test_a_loop_that_is_left_in_any_way_holds_nothing() -> None:
    async with ring_of() as ring:
        for way in ("break", "continue", "return", "raise", "never entered", "between"):

            async def go(way: str = way) -> int:
                rounds = 0
                async for attempt in ring.attempts("user-42"):
                    rounds += 1
                    assert rounds < 10
                    if way == "never entered":
                        continue
                    if way == "between":
                        raise LookupError
                    with attempt:
                        if way == "break":
                            break
                        if way == "continue":
                            continue
                        if way == "raise":
                            raise LookupError
                        return rounds
                return rounds

            if way in ("raise", "between"):
                with pytest.raises(LookupError):
                    await go()
            else:
                assert await go() == (3 if way == "never entered" else 1)
            assert ring.stats().in_flight == 0
        # One that is never finished.
        loop = ring.attempts("user-42").__aiter__()
        with await anext(loop):
            assert ring.stats().in_flight == 1
        assert ring.stats().in_flight == 0


async def test_who_forgets_to_leave_the_loop_is_told_before_anything_is_sent() -> None:
    async with ring_of() as ring:
        tries = ring.attempts("user-42")
        async with tries:
            pass
        with pytest.raises(RingMisused, match="leave the loop"):
            async with tries:
                pytest.fail("it was sent again")
        with pytest.raises(RuntimeError):
            tries.__enter__()
        tries = ring.attempts("user-42")
        async with tries:
            with pytest.raises(RingMisused, match="entered already"):
                tries.__enter__()
        with pytest.raises(RingMisused, match="inside of a round"):
            tries.next(ValueError("no"))
        with pytest.raises(RingMisused, match="inside of a round"):
            tries.succeeded()


async def test_an_answer_that_says_no_goes_on_by_next() -> None:
    """
    In the last round what it is given leaves.
    """
    async with ring_of() as ring:
        first, second, third = await ring.get_n("user-42", 3)
        tries, asked = ring.attempts("user-42"), []
        with pytest.raises(ValueError, match="busy 2"):
            while True:
                async with tries as pod:
                    asked.append((pod, tries.last))
                    tries.next(ValueError(f"busy {len(asked) - 1}"), eject=pod is second)
        assert asked == [(first, False), (second, False), (third, True)]
        assert list(ring.ejected) == [second]


async def test_the_pods_are_fixed_at_the_first_round() -> None:
    resolver = FakeResolver(*PODS)
    async with Ring("web.prod", resolver=resolver, refresh=STEADY) as ring:
        wanted = ring.snapshot.get_n("user-42", 3)
        tries, asked = ring.attempts("user-42"), []
        for _ in range(3):
            try:
                async with tries as pod:
                    asked.append(pod)
                    resolver.answer(*set(PODS) - {wanted[1]})
                    await ring.refresh()
                    await ring.refresh()
                    raise refused(pod)
            except ConnectionRefusedError:
                break
        assert tuple(asked) == wanted


async def test_who_is_ejected_comes_last() -> None:
    async with ring_of(A, B, C) as ring:
        first, second, third = await ring.get_n("user-42", 3)
        assert ring.eject(first)
        pods = Pods(second, third)
        assert await ring.call("user-42", pods.serve) == first.name
        assert pods.asked == [second, third, first]


async def test_one_attempt_at_a_time_tries_who_was_out() -> None:
    async with ring_of() as ring:
        first, second = await ring.get_n("user-42", 2)
        ring.eject(first, 5)
        await anyio.sleep(5.5)
        assert not ring.ejected
        assert await ring.get("user-42") is first
        one, other = ring.attempts("user-42"), ring.attempts("user-42")
        async with one as pod:
            assert pod is first
            async with other as pod:
                assert pod is second
            one.succeeded()
            async with ring.attempts("user-42") as pod:
                assert pod is first


async def test_a_retry_on_that_raises_leaves_and_nothing_is_held() -> None:
    def broken(_: BaseException) -> bool:
        raise LookupError("a bug")

    pods = Pods(*PODS)
    async with ring_of() as ring:
        for options in ({"retry_on": broken}, {"eject_on": broken}):
            with pytest.raises(LookupError, match="a bug") as caught:
                await ring.call("user-42", pods.serve, **options)  # type: ignore[arg-type]
            assert isinstance(caught.value.__context__, ConnectionRefusedError)
            assert ring.stats().in_flight == 0


async def test_a_group_with_a_cancellation_in_it_leaves_at_once() -> None:
    cancelled = anyio.get_cancelled_exc_class()
    if cancelled is not asyncio.CancelledError:
        pytest.skip("nobody makes trio's cancellation by hand")
    async with ring_of() as ring:
        group = BaseExceptionGroup("", [refused(PODS[0]), asyncio.CancelledError()])
        with pytest.raises(BaseExceptionGroup):
            await ring.call("user-42", Pods(*PODS, error=lambda _: group).serve)
        assert not ring.ejected


async def test_cancellation_gives_the_place_back() -> None:
    async def hang(_: Endpoint) -> None:
        await anyio.sleep(3600)

    async with ring_of() as ring:
        with anyio.move_on_after(1) as scope:
            await ring.call("user-42", hang)
        assert scope.cancelled_caught
        assert ring.stats().in_flight == 0
        assert not ring.ejected


async def test_a_ring_that_closes_meanwhile_disturbs_no_attempt() -> None:
    ring = ring_of()
    async with ring:
        tries = ring.attempts("user-42")
        async with tries as pod:
            await ring.aclose()
            assert isinstance(pod, Endpoint)
            assert ring.stats().in_flight == 1
        assert ring.stats().in_flight == 0
    with pytest.raises(RingClosed):
        async with ring.attempts("user-42"):
            pass
    with pytest.raises(RingClosed):
        async with ring.acquire("user-42"):
            pass


# --- rings that cannot serve


async def test_a_ring_that_was_not_started_an_empty_one_and_one_that_starts() -> None:
    uses: list[Callable[[Ring], Awaitable[object]]] = [
        lambda ring: ring.call("user-42", Pods().serve),
        lambda ring: ring.acquire("user-42").__aenter__(),
        lambda ring: ring.attempts("user-42").__aenter__(),
        lambda ring: ring.attempts("user-42").__anext__(),
    ]
    for use in uses:
        with pytest.raises(RingNotReady):
            await use(ring_of())
    with pytest.raises(RingNotReady):
        ring_of().eject(A)

    resolver = FakeResolver()
    async with Ring("web.prod", resolver=resolver, refresh=STEADY, require_endpoints=False) as ring:
        for use in uses:
            with pytest.raises(NoEndpoints, match=r"web\.prod has no endpoints"):
                await use(ring)
        assert not ring.eject(A)

    resolver = FakeResolver(A)
    resolver.delay = 3
    async with anyio.create_task_group() as tasks:
        ring = Ring("web.prod", resolver=resolver, refresh=STEADY)
        tasks.start_soon(ring.run)
        assert await ring.call("user-42", Pods().serve) == "a"
        await ring.aclose()


async def test_another_thread_is_told_that_the_ring_is_not_its_own() -> None:
    async with ring_of() as ring:
        errors: list[BaseException] = []

        def use() -> None:
            for what in (
                lambda: asyncio.run(ring.call("user-42", Pods().serve)),
                lambda: asyncio.run(ring.acquire("user-42").__aenter__()),
                lambda: ring.eject(PODS[0]),
            ):
                try:
                    what()
                except BaseException as error:
                    errors.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert [type(error) for error in errors] == [RingMisused] * 3
        assert ring.stats().in_flight == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"n": 0}, ConfigError),
        ({"n": -1}, ConfigError),
        ({"n": 1.5}, TypeError),
        ({"bound": 1.0}, ConfigError),
        ({"bound": 0.5}, ConfigError),
        ({"bound": "2"}, TypeError),
        ({"total": 0}, ConfigError),
        ({"total": "1"}, TypeError),
        ({"retry_on": 5}, TypeError),
        ({"retry_on": (5,)}, TypeError),
        ({"retry_on": int}, TypeError),
        ({"eject_on": 5}, TypeError),
    ],
)
async def test_bad_input_is_refused_at_the_call(
    options: dict[str, Any], error: type[Exception]
) -> None:
    async with ring_of() as ring:
        with pytest.raises(error):
            ring.attempts("user-42", **options)
        with pytest.raises(error):
            await ring.call("user-42", Pods().serve, **options)


# --- ejection


PLACEMENTS = [HashRing, functools.partial(HashRing, slots=1024), Rendezvous, Maglev, EnvoyRing]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_the_keys_of_who_is_ejected_go_to_the_next_of_their_walk(placement: Any) -> None:
    """
    And no other key moves, before the table is made and after.
    """
    async with ring_of(placement=placement) as ring:
        before = [ring.snapshot.get(key) for key in KEYS]
        digest = ring.snapshot.digest
        for out in (PODS[:1], PODS[:3]):
            for pod in out:
                ring.eject(pod)
            wanted = [
                next(pod for pod in ring.snapshot.walk(key) if pod not in out) for key in KEYS
            ]
            for wait in (0.0, 1.0):
                await anyio.sleep(wait)
                assert [await ring.get(key) for key in KEYS] == wanted
                assert [ring.get_nowait(key) for key in KEYS] == wanted
                assert await ring.get_many(KEYS) == wanted
                assert [(await ring.get_n(key, 10))[0] for key in KEYS] == wanted
                assert (await ring.get_n("user-42", 10))[-len(out) :] == tuple(
                    pod for pod in ring.snapshot.walk("user-42") if pod in out
                )
                groups = ring.group(KEYS)
                assert {key: pod for pod, keys in groups.items() for key in keys} == dict(
                    zip(KEYS, wanted, strict=True)
                )
        assert ring.snapshot.digest == digest
        for pod in PODS[:3]:
            ring.restore(pod)
        assert [await ring.get(key) for key in KEYS] == before
        assert not ring.ejected


async def test_an_ejection_ends_by_time_and_picks_follow() -> None:
    async with ring_of() as ring:
        first, second = await ring.get_n("user-42", 2)
        ring.eject(first, 3)
        await anyio.sleep(2.9)
        assert await ring.get("user-42") is second
        await anyio.sleep(0.2)
        assert await ring.get("user-42") is first


async def test_a_change_of_pods_meanwhile_leaves_the_ejection() -> None:
    resolver = FakeResolver(*PODS)
    async with Ring("web.prod", resolver=resolver, refresh=STEADY) as ring:
        first = ring.snapshot.get("user-42")
        ring.eject(first, 100)
        resolver.answer(*PODS, A)
        await ring.refresh()
        assert len(ring.snapshot.endpoints) == 11
        assert list(ring.ejected) == [first]
        assert await ring.get("user-42") is not first
        # And when it leaves, that is over.
        resolver.answer(*set(PODS) - {first})
        await ring.refresh()
        await ring.refresh()
        assert not ring.ejected
        resolver.answer(*PODS)
        await ring.refresh()
        assert await ring.get("user-42") is first


async def test_an_ejection_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "knet")
    async with ring_of() as ring:
        first = await ring.get("user-42")
        for _ in range(5):
            await ring.call("user-42", Pods(first).serve)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert f"web.prod: ejected {first} for 10 s: ConnectionRefusedError" in messages[0]


async def test_only_an_endpoint_is_ejected() -> None:
    async with ring_of() as ring:
        with pytest.raises(TypeError, match="an Endpoint is ejected, not a str"):
            ring.eject("10.0.0.1")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="seconds"):
            ring.eject(PODS[0], 0)
        with pytest.raises(TypeError, match="seconds"):
            ring.eject(PODS[0], "1")  # type: ignore[arg-type]
        ring.restore(PODS[0])


# --- bounded load


async def test_a_hot_key_spreads_over_the_next_pods() -> None:
    async with ring_of() as ring, anyio.create_task_group() as tasks:
        taken: list[Endpoint] = []

        async def hold() -> None:
            async with ring.acquire("hot", bound=1.5) as pod:
                taken.append(pod)
                await anyio.sleep(3600)

        for _ in range(100):
            tasks.start_soon(hold)
        await anyio.sleep(1)
        counts = sorted(map(taken.count, PODS), reverse=True)
        assert (counts[0], sum(counts)) == (16, 100) or (counts[0], sum(counts)) == (15, 100)
        assert ring.stats().in_flight == 100
        # The first pods of the key's walk have the most.
        assert taken.count(ring.snapshot.get("hot")) == counts[0]
        tasks.cancel_scope.cancel()
    assert ring.stats().in_flight == 0


async def test_there_is_room_with_pods_ejected() -> None:
    """
    Ten pods, three of them out: 101 requests have a place each at the seven.
    """
    async with ring_of() as ring, anyio.create_task_group() as tasks:
        for pod in PODS[:3]:
            ring.eject(pod, 1000)
        taken: list[Endpoint] = []

        async def hold(key: str) -> None:
            async with ring.acquire(key, bound=Bound(1.25)) as pod:
                taken.append(pod)
                await anyio.sleep(600)

        for number in range(101):
            tasks.start_soon(hold, f"user-{number}")
        await anyio.sleep(1)
        assert len(taken) == 101
        assert not set(taken) & set(PODS[:3])
        assert max(map(taken.count, PODS)) <= 19  # ceil(1.25 * 101 / 7)
        tasks.cancel_scope.cancel()


async def test_a_bound_of_attempts_counts_the_same_places() -> None:
    async with ring_of(A, B, C) as ring:
        first, second, _ = await ring.get_n("hot", 3)
        async with ring.acquire("hot", bound=None) as pod:
            assert pod is first
            async with ring.attempts("hot", bound=1.01) as other:
                assert other is second
            async with ring.attempts("hot") as other:
                assert other is first


async def test_a_place_is_taken_once() -> None:
    async with ring_of() as ring:
        place = ring.acquire("user-42")
        async with place:
            with pytest.raises(RingMisused, match="taken already"):
                await place.__aenter__()
        async with place:
            pass
        assert ring.stats().in_flight == 0


@pytest.mark.long
async def test_thousands_of_overlapping_requests_leave_no_place_taken() -> None:
    """
    With errors, cancellations and pods that come, go and die.
    """
    chance = random.Random(1)
    resolver = FakeResolver(*PODS)

    async def one(ring: Ring) -> None:
        key = f"user-{chance.randrange(50)}"

        async def work(_: Endpoint) -> None:
            await anyio.sleep(chance.random() * 3)
            match chance.randrange(4):
                case 0:
                    raise ConnectionRefusedError
                case 1:
                    raise ConnectionResetError
                case 2:
                    raise ValueError

        with anyio.move_on_after(chance.choice((0.1, 1, 100))):
            try:
                match chance.randrange(3):
                    case 0:
                        await ring.call(key, work, bound=1.2, retry_on=may_repeat)
                    case 1:
                        async with ring.acquire(key) as pod:
                            await work(pod)
                    case _:
                        async for attempt in ring.attempts(key, total=2):
                            with attempt as pod:
                                if chance.random() < 0.2:
                                    break
                                await work(pod)
            except (ConnectionError, ValueError, TimeoutError, NoEndpoints, RingClosed):
                pass

    ring = Ring("web.prod", resolver=resolver, refresh=STEADY)
    async with ring, anyio.create_task_group() as tasks:
        for number in range(3000):
            tasks.start_soon(one, ring)
            if number % 100 == 0:
                resolver.answer(*chance.sample(PODS, 7))
                await anyio.sleep(chance.random())
            if number == 2900:
                await ring.aclose()
    assert ring.stats().in_flight == 0
    assert ring._serving.load.at == {}
    assert ring._serving.budget.repeating == 0


@pytest.fixture(autouse=True)
async def _no_task_is_left(anyio_backend: object) -> AsyncIterator[None]:  # noqa: F811
    """
    After every test no task of knet is running.
    """
    yield
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        left = [task for task in asyncio.all_tasks() if task.get_name().startswith("knet ")]
        assert left == []


# --- an answer that is read later


async def keep(tries: Attempts) -> Kept:
    while True:
        async with tries:
            kept = tries.keep()
            assert tries.keep() is kept
            return kept


async def test_a_place_that_is_kept_lasts_beyond_its_round() -> None:
    async with ring_of() as ring:
        tries = ring.attempts("user-42", total=5)
        kept = await keep(tries)
        pod = ring.snapshot.get("user-42")
        assert ring.stats().in_flight == 1
        assert repr(kept) == f"<Kept at {pod}>"
        await anyio.sleep(60)  # `total` has ended with the block
        kept.end()
        kept.end()
        assert ring.stats().in_flight == 0
        assert repr(kept) == f"<Kept at {pod}, ended>"
        with pytest.raises(RingMisused, match="inside of a round"):
            tries.keep()


async def test_what_broke_a_kept_answer_speaks_against_the_pod() -> None:
    """
    At the second in a row, as in a round, and nobody else is asked.
    """
    import httpx

    async with ring_of() as ring:
        pod = ring.snapshot.get("user-42")
        for count in range(2):
            await anyio.sleep(1)
            tries = ring.attempts("user-42")
            kept = await keep(tries)
            await anyio.sleep(1)
            kept.end(httpx.ReadError("cut off"))
            assert list(ring.ejected) == [pod] * count


async def test_a_kept_place_whose_block_fails_is_given_back_and_nobody_else_is_asked() -> None:
    async with ring_of() as ring:
        tries = ring.attempts("user-42")
        kept: list[Kept] = []
        with pytest.raises(ConnectionRefusedError):
            async with tries as pod:
                kept.append(tries.keep())
                raise refused(pod)
        assert ring.stats().in_flight == 0
        kept[0].end()
        assert ring.stats().in_flight == 0


async def test_a_kept_place_that_is_forgotten_is_given_back() -> None:
    async with ring_of() as ring:

        async def begin() -> None:
            tries = ring.attempts("user-42")
            async with tries:
                tries.keep()

        await begin()
        await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.1)
        assert ring.stats().in_flight == 0


async def test_a_kept_place_ends_a_trial() -> None:
    """
    A pod that streams for an hour is not on trial for an hour.
    """
    async with ring_of() as ring:
        pod = ring.snapshot.get("user-42")
        ring.eject(pod, 1)
        await anyio.sleep(2)
        tries = ring.attempts("user-42")
        kept = await keep(tries)
        assert repr(kept) == f"<Kept at {pod}>"
        async with ring.attempts("user-42") as also:
            assert also is pod
        kept.end()
        assert ring.stats().in_flight == 0


# --- zones


ZONED = [
    Endpoint(f"pod-{n}", f"10.0.0.{n}", 80, zone=zone) for n, zone in enumerate("aaaabbbccc", 1)
]


async def test_endpoints_of_other_zones_come_first() -> None:
    """
    One of each, in the order of the walk, and then the others in that order.
    """
    async with ring_of(*ZONED) as ring:
        for key in KEYS[:50]:
            walk = list(ring.snapshot.walk(key))
            three = await ring.get_n(key, 3, spread="zone")
            assert {pod.zone for pod in three} == {"a", "b", "c"}
            assert three[0] is walk[0]
            assert [walk.index(pod) for pod in three] == sorted(walk.index(pod) for pod in three)
            five = await ring.get_n(key, 5, spread="zone")
            assert five[:3] == three
            assert list(five[3:]) == [pod for pod in walk if pod not in three][:2]
            assert len(await ring.get_n(key, 99, spread="zone")) == len(ZONED)


async def test_who_is_ejected_comes_last_whatever_the_zone() -> None:
    async with ring_of(*ZONED) as ring:
        out = [pod for pod in ZONED if pod.zone == "c"]
        for pod in out:
            assert ring.eject(pod)
        for key in KEYS[:20]:
            found = await ring.get_n(key, 10, spread="zone")
            assert {pod.zone for pod in found[:2]} == {"a", "b"}
            assert set(found[7:]) == set(out)


async def test_where_nobody_tells_zones_it_is_the_usual_order_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ring_of() as ring:
        for key in KEYS[:5]:
            assert await ring.get_n(key, 3, spread="zone") == await ring.get_n(key, 3)
        with pytest.raises(ConfigError, match='spread must be "zone" or None'):
            await ring.get_n("k", 3, spread="rack")  # type: ignore[arg-type]
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told == [
        "web.prod: asked for endpoints of different zones, and knows the zone of none: DNS does not tell them"
    ]
