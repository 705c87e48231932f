"""
A ring on a virtual clock: what it serves, when it asks, how it starts and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, TypeVar

import anyio
import anyio.lowlevel
import pytest

from knet import (
    Answer,
    ConfigError,
    Endpoint,
    KnetError,
    NameNotFound,
    NoData,
    NoEndpoints,
    RefreshPolicy,
    ResolveError,
    Resolver,
    ResolveTimeout,
    Ring,
    RingClosed,
    RingMisused,
    RingNotReady,
    ServerFailure,
    ServerUnreachable,
    State,
    StaticResolver,
)
from knet.hashring import HashRing
from knet.hashring.proxies import EnvoyMaglev, EnvoyRing, GrpcRing, NginxRing
from tests.fakes import A, B, C, FakeResolver, endpoints
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time
from tests.waiting import until_state

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

T = TypeVar("T")

KEYS = [f"user-{i}" for i in range(500)]
STEADY = RefreshPolicy(jitter=0)


@pytest.fixture(autouse=True)
async def _no_task_is_left(anyio_backend: object) -> AsyncIterator[None]:  # noqa: F811
    """
    After every test no task of knet is running.
    """
    yield
    assert not [task for task in anyio.get_running_tasks() if "knet" in (task.name or "")]


def ring_of(resolver: FakeResolver, **options: Any) -> Ring:
    return Ring("web.prod", resolver=resolver, **{"refresh": STEADY, **options})


async def until(condition: Callable[[], bool], within: float = 600) -> None:
    """
    Let virtual time pass until *condition* holds.
    """
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.05)


async def settle() -> None:
    """
    Let every other task take a few steps, in no time.
    """
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


def in_a_thread(function: Callable[[], T]) -> list[T]:
    """
    Call *function* where this event loop is not running, while it stands still.
    """
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results


# --- picks


async def test_entering_returns_once_the_first_snapshot_stands() -> None:
    """
    Nobody sees a ring that is not ready.
    """
    resolver = FakeResolver(A, B)
    resolver.delay = 3

    async with ring_of(resolver) as ring:
        assert anyio.current_time() >= 3
        assert ring.snapshot.endpoints == (A, B)
        assert ring.state == "fresh"
        assert repr(ring) == "<Ring 'web.prod' generation=1 endpoints=2 state=fresh>"


async def test_picks_are_those_of_the_placement() -> None:
    """
    Every way to ask gives the same answer as a hash ring of the same members.
    """
    expected = HashRing([A, B, C])

    async with ring_of(FakeResolver(C, A, B)) as ring:
        for key in KEYS:
            assert await ring.get(key) == expected.get(key) == ring.get_nowait(key.encode())
            assert await ring.get_n(key, 2) == expected.get_n(key, 2)
        assert await ring.get_many(KEYS) == expected.get_many(KEYS)


async def test_any_placement_plugs_in() -> None:
    """
    A class, a partial or a function that makes a placement.
    """
    thin = functools.partial(HashRing, points=7, slots=1024)

    async with ring_of(FakeResolver(A, B, C), placement=thin) as ring:
        assert await ring.get_many(KEYS) == thin([A, B, C]).get_many(KEYS)


async def test_a_placement_that_cannot_be_sliced_is_built_at_once() -> None:
    """
    `Placement` is all that a ring needs.
    """

    class Whole:
        def __init__(self, members: tuple[Endpoint, ...] = ()) -> None:
            self._ring = HashRing(members)

        def __getattr__(self, name: str) -> Any:
            if name == "replacing":
                raise AttributeError(name)
            return getattr(self._ring, name)

        def replace(self, members: Any) -> Self:
            return type(self)(tuple(members))

    async with ring_of(FakeResolver(A, B), placement=Whole) as ring:
        assert ring.snapshot.endpoints == (A, B)


async def test_a_pick_takes_no_checkpoint() -> None:
    """
    Once there is a snapshot, `get` is done in one step of its coroutine.
    """
    async with ring_of(FakeResolver(A)) as ring:
        pick = ring.get("user-42")
        with pytest.raises(StopIteration) as done:
            pick.send(None)
        assert done.value.value == A


async def test_picks_wait_for_a_ring_that_is_starting() -> None:
    """
    `get` waits for the first snapshot; `get_nowait` says that there is none yet.
    """
    resolver = FakeResolver(A)
    resolver.delay = 2
    ring = ring_of(resolver)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ring.run)
        await settle()
        assert ring.state == "starting"
        with pytest.raises(RingNotReady, match="waits for its first answer"):
            ring.get_nowait("user-42")
        with pytest.raises(RingNotReady):
            _ = ring.snapshot
        with anyio.move_on_after(1) as scope:
            await ring.get("user-42")
        assert scope.cancelled_caught
        assert await ring.get("user-42") == A
        assert await ring.get_n("user-42", 3) == (A,)
        assert await ring.get_many(["user-42"]) == [A]
        await ring.aclose()


@pytest.mark.parametrize("key", [42, None, ["user"], bytearray(b"x"), memoryview(b"x")])
async def test_a_key_of_another_type_is_refused(key: Any) -> None:
    """
    Not hashed by accident.
    """
    async with ring_of(FakeResolver(A)) as ring:
        with pytest.raises(TypeError, match=type(key).__name__):
            await ring.get(key)
        with pytest.raises(TypeError):
            ring.get_nowait(key)
        with pytest.raises(TypeError):
            await ring.get_many([key])


async def test_other_bad_input_is_refused() -> None:
    """
    At the call that got it.
    """
    async with ring_of(FakeResolver(A)) as ring:
        with pytest.raises(ConfigError, match="surrogate"):
            await ring.get("\ud800")
        with pytest.raises(ConfigError, match="at least 1"):
            await ring.get_n("user-42", 0)


# --- refreshing


@pytest.mark.weather("A pod becomes ready")
async def test_new_endpoints_arrive_at_the_next_interval() -> None:
    """
    Added at once, and the old snapshot stays as it was for those who hold it.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        before = ring.snapshot
        resolver.answer(A, B)
        await until(lambda: ring.snapshot is not before)

        assert anyio.current_time() - resolver.asked[0] == pytest.approx(5, abs=0.1)
        assert ring.snapshot.endpoints == (A, B)
        assert ring.snapshot.generation == 2
        assert before.endpoints == (A,)


@pytest.mark.weather("Duplicates, another order, another case")
async def test_an_unchanged_answer_keeps_the_snapshot() -> None:
    """
    An hour of equal answers builds nothing.
    """
    resolver = FakeResolver(A, B)
    async with ring_of(resolver) as ring:
        before = ring.snapshot
        resolver.answer(B, A)
        await anyio.sleep(3600)

        assert ring.snapshot is before
        assert len(resolver.asked) == pytest.approx(720, abs=2)


@pytest.mark.weather("A pod is deleted, dies or gets unready")
async def test_a_pod_that_is_gone_is_gone_soon() -> None:
    """
    One interval, and the second opinion a second later.
    """
    resolver = FakeResolver(A, B, C)
    async with ring_of(resolver) as ring:
        resolver.answer(A, B)
        await until(lambda: ring.stats().held == 1)
        assert C in ring.snapshot.endpoints
        await until(lambda: ring.stats().held == 0)

        assert ring.snapshot.endpoints == (A, B)
        assert anyio.current_time() - resolver.asked[0] == pytest.approx(6, abs=0.2)


@pytest.mark.weather("SERVFAIL")
async def test_a_failed_lookup_leaves_the_last_snapshot_in_place() -> None:
    """
    Once a ring has members, a resolver error keeps serving them.
    """
    resolver = FakeResolver(A, B)
    async with ring_of(resolver) as ring:
        before = ring.snapshot
        resolver.outcome = ServerFailure("SERVFAIL from 10.96.0.10")
        with pytest.raises(ServerFailure, match=r"10\.96\.0\.10"):
            await ring.refresh()

        assert ring.snapshot is before
        assert ring.state == "stale"
        await anyio.sleep(3600)
        assert ring.snapshot is before
        assert ring.stats().consecutive_failures > 100
        resolver.answer(A, B)
        await until_state(ring, "fresh", within=31)
        assert ring.snapshot is before


@pytest.mark.weather("NXDOMAIN or an empty answer")
async def test_nxdomain_empties_the_ring_after_the_hold() -> None:
    """
    Then `get` says so, with the reason; and the ring refills with the first answer.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        resolver.outcome = NameNotFound("NXDOMAIN from 10.96.0.10")
        await until_state(ring, "stale")
        started = anyio.current_time()
        assert await ring.get("user-42") == A
        await until_state(ring, "empty")

        assert anyio.current_time() - started == pytest.approx(30, abs=1.2)
        assert ring.snapshot.endpoints == ()
        for pick in (ring.get("k"), ring.get_n("k", 2), ring.get_many(["k"])):
            with pytest.raises(NoEndpoints, match=r"web\.prod has no endpoints.*NXDOMAIN"):
                await pick
        with pytest.raises(NoEndpoints):
            ring.get_nowait("k")

        resolver.answer(B)
        await until_state(ring, "fresh")
        assert await ring.get("user-42") == B
        assert ring.snapshot.generation == 3


@pytest.mark.weather("The server is slow")
async def test_one_lookup_at_a_time() -> None:
    """
    A slow server is not asked again before it has answered or given up.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        resolver.delay = 60
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ring.refresh)
            await anyio.sleep(300)

        assert resolver.at_once == 1


async def test_a_custom_resolver_with_a_bug_does_not_end_the_ring(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    Its exception is logged with its traceback, and counts as a failed lookup.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        resolver.outcome = ZeroDivisionError("oops")
        await until_state(ring, "stale")

        assert await ring.get("user-42") == A
        assert ring.stats().failures == {"error": ring.stats().lookups - 1}
        assert any(r.exc_info for r in caplog.records)


async def test_a_resolver_that_returns_something_else_is_told() -> None:
    """
    At the start that is an error of the program, and no reason to try again.
    """
    resolver = FakeResolver()
    resolver.outcome = lambda: ["10.0.0.1"]  # type: ignore[assignment]

    with pytest.raises(TypeError, match=r"returned list: write `return knet\.Answer"):
        async with ring_of(resolver):
            pass
    assert len(resolver.asked) == 1


async def test_options_that_were_given_reach_the_resolver() -> None:
    """
    A resolver that takes everything gets everything.
    """
    seen: list[dict[str, object]] = []

    class Nosy:
        async def resolve(self, service: str, /, **options: object) -> Answer:
            seen.append({"service": service, **options})
            return Answer([A])

    async with Ring("Web.Prod", resolver=Nosy()):
        pass
    async with Ring("web", port="dns", protocol="udp", family="ipv6", resolver=Nosy()):
        pass

    assert seen == [
        {"service": "web.prod", "port": None, "protocol": "tcp", "family": "auto"},
        {"service": "web", "port": "dns", "protocol": "udp", "family": "ipv6"},
    ]


# --- refresh()


async def test_refresh_asks_now() -> None:
    """
    It returns the snapshot that stands after the answer.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        await anyio.sleep(2)
        resolver.answer(A, B)

        snapshot = await ring.refresh()

        assert snapshot is ring.snapshot
        assert snapshot.endpoints == (A, B)
        assert anyio.current_time() - resolver.asked[0] == pytest.approx(2)


@pytest.mark.weather("A pod refuses your connection")
async def test_refreshes_are_coalesced_and_rate_limited() -> None:
    """
    A thousand callers that meet a refused connection share one lookup a second.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(ring.refresh)
        assert len(resolver.asked) == 2
        for _ in range(10):
            await ring.refresh()

        pauses = [b - a for a, b in zip(resolver.asked, resolver.asked[1:], strict=False)]
        assert len(pauses) == 11
        assert min(pauses) == pytest.approx(1)


async def test_a_refresh_does_not_settle_for_an_older_lookup() -> None:
    """
    One that was sent before the caller saw its connection refused may not know yet.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        resolver.delay = 2
        await anyio.sleep(6)
        assert len(resolver.asked) == 2
        await ring.refresh()

        assert len(resolver.asked) == 3


async def test_each_caller_raises_an_error_of_its_own() -> None:
    """
    Exceptions carry tracebacks; sharing one between tasks mixes them up.
    """
    resolver = FakeResolver(A)
    errors: list[BaseException] = []

    async def refresh(ring: Ring) -> None:
        try:
            await ring.refresh()
        except ResolveError as error:
            errors.append(error)

    async with ring_of(resolver) as ring:
        resolver.outcome = ServerFailure("SERVFAIL", name="web.", servers=("10.96.0.10",))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refresh, ring)
            tasks.start_soon(refresh, ring)

    assert len({id(e) for e in errors}) == 2
    assert all(isinstance(e, ServerFailure) and e.servers == ("10.96.0.10",) for e in errors)


async def test_a_refresh_ends_with_the_ring() -> None:
    """
    Nobody waits for a lookup that will not come.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        resolver.delay = 60
        async with anyio.create_task_group() as tasks:

            async def refresh() -> None:
                with pytest.raises(RingClosed):
                    await ring.refresh()

            tasks.start_soon(refresh)
            await anyio.sleep(1.5)
            tasks.start_soon(refresh)
            await settle()
            await ring.aclose()


# --- changes()


async def test_changes_are_told() -> None:
    """
    Who came, who went, and what moved.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        changes = ring.changes()
        resolver.answer(A, B)
        change = await anext(changes)

        assert (change.added, change.removed) == ((B,), ())
        assert change.before.generation == 1
        assert change.after is ring.snapshot
        assert change.moved == pytest.approx(ring.snapshot.share()[B])


async def test_a_slow_consumer_gets_the_latest() -> None:
    """
    One change for all that happened meanwhile, and the ring never waits.
    """
    resolver = FakeResolver(*endpoints(1))
    async with ring_of(resolver) as ring:
        changes = ring.changes()
        for count in range(2, 8):
            resolver.answer(*endpoints(count))
            await anyio.sleep(6)

        change = await anext(changes)
        assert len(change.added) == 6
        assert change.after.generation == 7
        with anyio.move_on_after(60) as scope:
            await anext(changes)
        assert scope.cancelled_caught


async def test_every_consumer_hears_of_every_change() -> None:
    """
    They do not take them from each other.
    """
    resolver = FakeResolver(A)
    heard: list[tuple[Endpoint, ...]] = []

    async def listen(ring: Ring) -> None:
        async for change in ring.changes():
            heard.append(change.added)

    async with anyio.create_task_group() as tasks, ring_of(resolver) as ring:
        tasks.start_soon(listen, ring)
        tasks.start_soon(listen, ring)
        await settle()
        resolver.answer(A, B)
        await anyio.sleep(6)
        # The loops above end with the ring, or this would wait for ever.

    assert heard == [(B,), (B,)]


# --- hosts


@contextlib.asynccontextmanager
async def entered(ring: Ring) -> AsyncIterator[None]:
    async with ring:
        yield


@contextlib.asynccontextmanager
async def hooked(ring: Ring) -> AsyncIterator[None]:
    await ring.start()
    try:
        yield
    finally:
        await ring.aclose()


@contextlib.asynccontextmanager
async def nursed(ring: Ring) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        assert await tasks.start(ring.run) is ring
        try:
            yield
        finally:
            await ring.aclose()


HOSTS = [entered, hooked, nursed]
Host = Callable[[Ring], contextlib.AbstractAsyncContextManager[None]]


@pytest.mark.parametrize("host", HOSTS)
async def test_every_host_gives_the_same_ring(host: Host) -> None:
    """
    Ready inside, refreshed meanwhile, closed after.
    """
    resolver = FakeResolver(A)
    ring = ring_of(resolver)

    async with host(ring):
        assert ring.stats().state == "fresh"
        assert await ring.get("user-42") == A
        resolver.answer(B)
        await anyio.sleep(7)
        assert await ring.get("user-42") == B

    assert ring.stats().state == "closed"
    lookups = len(resolver.asked)
    await anyio.sleep(60)
    assert len(resolver.asked) == lookups


@pytest.mark.parametrize("host", [entered, hooked])
async def test_an_exception_in_the_body_leaves_as_itself(host: Host) -> None:
    """
    A `ValueError` leaves as a `ValueError`, not as a group of one.
    """
    ring = ring_of(FakeResolver(A))

    with pytest.raises(ValueError, match="mine"):
        async with host(ring):
            raise ValueError("mine")
    assert ring.state == "closed"


async def test_entering_and_leaving_may_happen_in_different_tasks() -> None:
    """
    As pytest fixtures and aiohttp's `cleanup_ctx` do it.
    """
    ring = ring_of(FakeResolver(A))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ring.__aenter__)
    assert await ring.get("user-42") == A
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ring.__aexit__, None, None, None)
    assert ring.state == "closed"


async def test_a_ring_outlives_the_scope_that_it_was_entered_in() -> None:
    """
    A deadline around `start` is not one around the ring.
    """
    ring = ring_of(FakeResolver(A))
    with anyio.fail_after(1):
        await ring.start()
    await anyio.sleep(100)

    assert ring.state == "fresh"
    await ring.aclose()


@pytest.mark.parametrize("host", [entered, hooked])
@pytest.mark.weather("The first lookup fails")
async def test_a_start_that_fails_says_why(host: Host) -> None:
    """
    After `start_timeout`, with the last error; the ring is closed then.
    """
    resolver = FakeResolver()
    resolver.outcome = NameNotFound("NXDOMAIN from 10.96.0.10")
    ring = ring_of(resolver, start_timeout=10)

    with pytest.raises(NameNotFound, match=r"10\.96\.0\.10"):
        async with host(ring):
            pytest.fail("never here")

    assert ring.state == "closed"
    assert 3 <= len(resolver.asked) <= 12
    with pytest.raises(RingClosed, match="NXDOMAIN"):
        await ring.get("user-42")


async def test_a_start_in_a_nursery_that_fails_says_why() -> None:
    """
    `nursery.start` raises what the lookup raised.
    """
    resolver = FakeResolver()
    resolver.outcome = ServerFailure("SERVFAIL")

    with pytest.raises(ServerFailure):
        await start_in_a_task_group(ring_of(resolver))


async def start_in_a_task_group(ring: Ring) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(ring.run)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


@pytest.mark.weather("The first lookup fails")
async def test_a_start_survives_failures_until_it_succeeds() -> None:
    """
    The pods, or DNS itself, may come up later than their clients.
    """
    resolver = FakeResolver()
    outcomes = [ServerFailure("SERVFAIL"), NameNotFound("NXDOMAIN"), ResolveTimeout("timeout")]

    def next_outcome() -> Answer:
        if outcomes:
            raise outcomes.pop(0)
        return Answer([A])

    resolver.outcome = next_outcome
    async with ring_of(resolver) as ring:
        assert await ring.get("user-42") == A
        assert ring.stats().failures == {"servfail": 1, "nxdomain": 1, "timeout": 1}


async def test_a_start_that_takes_long_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """
    What is asked, of whom, and how long it may take; a quick start says nothing of it.
    """
    resolver = FakeResolver(A)
    with caplog.at_level(logging.WARNING, "knet"):
        async with ring_of(resolver):
            await anyio.sleep(30)
        assert not caplog.messages
        resolver.delay = 8
        async with ring_of(resolver, start_timeout=9):
            await anyio.sleep(30)

    assert caplog.messages == [
        "web.prod: no endpoints yet, 1 s after the start; asking <FakeResolver>, for 9 s in all"
    ]


async def test_a_start_that_fails_for_long_is_told_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    resolver = FakeResolver()
    resolver.outcome = ServerFailure("SERVFAIL\nfrom 10.96.0.10")
    with caplog.at_level(logging.WARNING, "knet"), pytest.raises(ServerFailure):
        await ring_of(resolver).start()

    assert [m.partition("in all")[2] for m in caplog.messages] == [": SERVFAIL from 10.96.0.10"]


async def test_nothing_is_told_of_a_start_that_was_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    resolver = FakeResolver(A)
    resolver.delay = 8
    with caplog.at_level(logging.WARNING, "knet"):
        with anyio.move_on_after(0.5):
            await ring_of(resolver).start()
        await anyio.sleep(30)

    assert not caplog.messages


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            NameNotFound("there is no such name"),
            "a cluster's DNS knows such names, and no other does",
        ),
        (ServerUnreachable("no connection"), "is this a cluster's DNS server"),
    ],
)
async def test_a_start_that_fails_says_what_it_means_outside_of_a_cluster(
    error: ResolveError, hint: str
) -> None:
    """
    There it is the first thing that a newcomer sees. A source of another kind has reasons of its own.
    """

    class Outside(Resolver):
        async def resolve(self, *_args: Any, **_options: Any) -> Answer:
            raise error

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_exc_info: object) -> None:
            pass

    with pytest.raises(type(error), match=f"{error}; {hint}.*knet demo"):
        await Ring("web.prod", resolver=Outside(nameservers=["127.0.0.1"])).start()
    resolver = FakeResolver()
    resolver.outcome = NameNotFound("not registered")
    with pytest.raises(NameNotFound, match=r"^not registered$"):
        await ring_of(resolver).start()


async def test_a_start_without_anybody_says_so() -> None:
    """
    An answer came, and so it was no time-out.
    """
    with pytest.raises(
        NoData, match=r"web\.prod has no endpoints, says <FakeResolver>, and got none in 10"
    ):
        await ring_of(FakeResolver()).start()


async def test_a_resolver_that_never_answers_is_given_up() -> None:
    """
    Entering ends at `start_timeout`, whatever the resolver does.
    """
    resolver = FakeResolver(A)
    resolver.delay = 3600

    with pytest.raises(ResolveTimeout, match=r"web\.prod.*within 10"):
        async with ring_of(resolver):
            pytest.fail("never here")
    assert anyio.current_time() - resolver.asked[0] == pytest.approx(10)


async def test_those_who_wait_for_a_start_hear_that_it_failed() -> None:
    """
    `get` does not wait for ever.
    """
    resolver = FakeResolver()
    resolver.outcome = ServerFailure("SERVFAIL")
    ring = ring_of(resolver)

    async with anyio.create_task_group() as tasks:

        async def pick() -> None:
            with pytest.raises(RingClosed, match="SERVFAIL"):
                await ring.get("user-42")

        run = ring.run()
        tasks.start_soon(pick)
        await settle()
        with pytest.raises(ServerFailure):
            await run


# --- cancellation


@pytest.mark.weather("A task is cancelled")
async def test_cancelled_while_entering() -> None:
    """
    Nothing of the ring is left, and it is closed.
    """
    resolver = FakeResolver(A)
    resolver.delay = 60
    ring = ring_of(resolver, start_timeout=3600)

    with anyio.move_on_after(1) as scope:
        async with ring:
            pytest.fail("never here")

    assert scope.cancelled_caught
    assert ring.state == "closed"
    await anyio.sleep(600)
    assert len(resolver.asked) == 1


async def test_cancelled_inside() -> None:
    """
    Cancellation of the body passes through, and closes the ring.
    """
    ring = ring_of(FakeResolver(A))

    with anyio.move_on_after(1) as scope:
        async with ring:
            await anyio.sleep(3600)

    assert scope.cancelled_caught
    assert ring.state == "closed"


@pytest.mark.parametrize("delay", [0, 0.5, 60])
@pytest.mark.weather("A task is cancelled")
async def test_cancelled_while_refreshing(delay: float) -> None:
    """
    A ring whose task is cancelled in mid-lookup has published nothing by halves.
    """
    resolver = FakeResolver(A)
    ring = ring_of(resolver)
    held = []

    async with anyio.create_task_group() as tasks:
        await tasks.start(ring.run)
        held.append(ring.snapshot)
        resolver.delay = delay
        resolver.answer(*endpoints(1000))
        with anyio.move_on_after(1.1):
            await ring.refresh()
        held.append(ring.snapshot)
        tasks.cancel_scope.cancel()

    assert ring.state == "closed"
    assert held[0].endpoints == (A,)
    assert len(held[1].endpoints) in (1, 1000)  # one of which has A's address now
    assert held[0].get("user-42") == A


async def test_cancelled_while_waiting_in_get() -> None:
    """
    The caller leaves; the ring goes on starting.
    """
    resolver = FakeResolver(A)
    resolver.delay = 5
    ring = ring_of(resolver)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ring.run)
        await settle()
        with anyio.move_on_after(1) as scope:
            await ring.get("user-42")
        assert scope.cancelled_caught
        assert await ring.get("user-42") == A
        await ring.aclose()


async def test_cancelled_while_waiting_in_refresh() -> None:
    """
    The caller leaves; the lookup goes on.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        resolver.delay = 5
        resolver.answer(A, B)
        with anyio.move_on_after(2) as scope:
            await ring.refresh()
        assert scope.cancelled_caught
        await anyio.sleep(5)
        assert ring.snapshot.endpoints == (A, B)


@pytest.mark.weather("A task is cancelled")
async def test_cancelled_while_leaving() -> None:
    """
    Leaving completes all the same: nothing is left behind for being in a hurry.
    """
    resolver = FakeResolver(A)
    ring = ring_of(resolver)
    await ring.start()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await ring.aclose()

    assert ring.state == "closed"
    lookups = len(resolver.asked)
    await anyio.sleep(60)
    assert len(resolver.asked) == lookups


@pytest.mark.weather("A ring is closed in the middle of something")
async def test_closed_while_starting() -> None:
    """
    Whoever was entering hears that somebody else closed it.
    """
    resolver = FakeResolver(A)
    resolver.delay = 60
    ring = ring_of(resolver, start_timeout=600)

    async with anyio.create_task_group() as tasks:

        async def enter() -> None:
            with pytest.raises(RingClosed, match="while it was starting"):
                await ring.start()

        tasks.start_soon(enter)
        await anyio.sleep(1)
        await ring.aclose()


async def test_a_run_that_is_closed_before_its_first_step_does_nothing() -> None:
    """
    The coroutine was made, and the ring closed before anyone drove it.
    """
    resolver = FakeResolver(A)
    ring = ring_of(resolver)
    life = ring.run()

    await ring.aclose()
    await life

    assert not resolver.asked


# --- misuse


async def test_a_ring_that_was_left_open_is_told_of() -> None:
    """
    As Python tells of files and sockets; one that was closed, or never opened, says nothing.
    """

    async def leave(close: bool) -> None:
        ring = Ring("web.prod", resolver=FakeResolver(A))
        run = ring.run()
        run.close()
        if close:
            await ring.aclose()
        del ring, run
        gc.collect()

    await leave(close=True)
    with pytest.warns(ResourceWarning, match="unclosed <Ring 'web.prod'"):
        await leave(close=False)
    with pytest.raises(TypeError):
        Ring("web.prod", placement=1)  # type: ignore[arg-type]
    gc.collect()


async def test_a_ring_that_was_not_started_says_so() -> None:
    """
    Instead of waiting for ever.
    """
    ring = ring_of(FakeResolver(A))

    for use in (ring.get("k"), ring.get_n("k", 1), ring.get_many(["k"]), ring.refresh()):
        with pytest.raises(RingNotReady, match="was not started"):
            await use
    for call in (lambda: ring.get_nowait("k"), lambda: ring.snapshot, ring.changes):
        with pytest.raises(RingNotReady, match="was not started"):
            call()
    assert ring.state == "starting"


async def test_a_closed_ring_says_so() -> None:
    """
    Whether it was used before or not.
    """
    used, unused = ring_of(FakeResolver(A)), ring_of(FakeResolver(A))
    async with used:
        pass
    await unused.aclose()

    for ring in (used, unused):
        assert ring.state == "closed"
        for use in (ring.get("k"), ring.get_n("k", 1), ring.get_many(["k"]), ring.refresh()):
            with pytest.raises(RingClosed):
                await use
        for call in (lambda r=ring: r.get_nowait("k"), lambda r=ring: r.snapshot, ring.changes):
            with pytest.raises(RingClosed):
                call()
        with pytest.raises(RingClosed, match="make a new one"):
            await ring.start()
        with pytest.raises(RingClosed):
            await ring.run()
        await ring.aclose()


async def test_a_second_entry_is_refused() -> None:
    """
    And does the first no harm.
    """
    ring = ring_of(FakeResolver(A))
    async with ring:
        with pytest.raises(RingMisused, match="started already"):
            await ring.start()
        with pytest.raises(RingMisused):
            async with ring:
                pass
        with pytest.raises(RingMisused):
            await ring.run()
        assert await ring.get("user-42") == A


async def test_another_event_loop_is_refused() -> None:
    """
    Whatever waits belongs to the ring's own loop; a pick does not, and works from anywhere.
    """

    async def elsewhere(ring: Ring) -> None:
        assert await ring.get("user-42") == A
        with pytest.raises(RingMisused, match="another event loop"):
            await ring.refresh()
        with pytest.raises(RingMisused):
            await ring.aclose()
        with pytest.raises(RingMisused):
            await anext(ring.changes())
        checked.append(True)

    checked: list[bool] = []
    async with ring_of(FakeResolver(A)) as ring:
        in_a_thread(lambda: asyncio.run(elsewhere(ring)))
        assert checked
        assert ring.state == "fresh"


@pytest.mark.parametrize(
    ("wrong", "error", "about"),
    [
        ({"service": ""}, ConfigError, "service must not be empty"),
        ({"service": "a b"}, ConfigError, "service must be a DNS name"),
        ({"service": "x" * 64}, ConfigError, "64 characters"),
        ({"service": "10.0.0.1"}, ConfigError, "Ring.static"),
        ({"service": 7}, TypeError, "service must be a str"),
        ({"port": 0}, ConfigError, "port must be 1 to 65535"),
        ({"port": 65536}, ConfigError, "port must be 1 to 65535"),
        ({"port": "80"}, ConfigError, "port=80"),
        ({"port": 80.0}, TypeError, "port must be"),
        ({"protocol": "quic"}, ConfigError, "protocol must be 'tcp'"),
        ({"family": "ipv5"}, ConfigError, "family must be 'auto'"),
        ({"placement": "maglev"}, TypeError, "placement must be callable"),
        ({"placement": list}, TypeError, "must make a Placement"),
        ({"resolver": object()}, TypeError, "a resolver needs a method resolve"),
        ({"refresh": 5.0}, TypeError, "RefreshPolicy"),
        ({"start_timeout": 0}, ConfigError, "start_timeout"),
    ],
)
async def test_bad_arguments_are_refused(
    wrong: dict[str, Any], error: type[Exception], about: str
) -> None:
    """
    By the constructor, with a message that names what is wrong.
    """
    with pytest.raises(error, match=about):
        Ring(**{"service": "web", **wrong})


# --- the rest


async def test_static_rings_need_no_dns() -> None:
    """
    Named by their addresses, as DNS would name them, so the picks agree.
    """
    named = [Endpoint("10.0.0.1", "10.0.0.1", 80), Endpoint("10.0.0.2", "10.0.0.2", 80)]

    async with Ring.static(["10.0.0.2:80", "10.0.0.1:80"]) as ring:
        assert await ring.get_many(KEYS) == HashRing(named).get_many(KEYS)
    with pytest.raises(ConfigError, match="at least one"):
        Ring.static([])


async def test_a_static_resolver_can_be_told_other_endpoints() -> None:
    """
    The ring notices at its next refresh.
    """
    resolver = StaticResolver([A])
    async with Ring("web", resolver=resolver) as ring:
        resolver.set([A, B])
        assert (await ring.refresh()).endpoints == (A, B)


async def test_a_ring_can_be_made_where_no_loop_runs() -> None:
    """
    As a global of a module, entered later.
    """
    (ring,) = in_a_thread(lambda: ring_of(FakeResolver(A)))

    async with ring:
        assert await ring.get("user-42") == A


async def test_stats_tell_what_is_going_on() -> None:
    """
    Counters, ages and the last error.
    """
    resolver = FakeResolver(A, B)
    resolver.delay = 0.25
    ring = ring_of(resolver)
    assert (ring.stats().state, ring.stats().lookups) == ("starting", 0)

    async with ring:
        stats = ring.stats()
        assert (stats.state, stats.endpoints, stats.generation) == ("fresh", 2, 1)
        assert (stats.lookups, stats.failures, stats.last_error) == (1, {}, None)
        assert stats.query_seconds == pytest.approx(0.25)
        await anyio.sleep(3)
        assert ring.stats().last_success_age == pytest.approx(3)

        resolver.outcome = ServerFailure("SERVFAIL")
        with pytest.raises(ServerFailure):
            await ring.refresh()
        stats = ring.stats()
        assert (stats.state, stats.failures) == ("stale", {"servfail": 1})
        assert (stats.last_error, stats.consecutive_failures) == ("SERVFAIL", 1)
    assert ring.stats().state == "closed"


async def test_each_change_of_state_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """
    An outage of an hour is two lines in the log, not seven hundred.
    """
    caplog.set_level(logging.INFO, "knet")
    resolver = FakeResolver(A)
    async with ring_of(resolver, port=None):
        resolver.outcome = ServerFailure("SERVFAIL from 10.96.0.10")
        await anyio.sleep(3600)
        resolver.answer(A, B)
        await anyio.sleep(60)

    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 4
    assert lines[0] == "web.prod: starting -> fresh, 1 endpoints"
    assert lines[1].startswith("web.prod: fresh -> stale, keeping 1 endpoints")
    assert lines[1].endswith("SERVFAIL from 10.96.0.10")
    assert lines[2] == "web.prod: stale -> fresh, 2 endpoints"
    assert lines[3] == "web.prod: generation 2, 2 endpoints, 1 added, 0 removed"


async def test_an_answer_that_names_nobody_is_told_as_such(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    It is no error, so there is no text of one.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver, port=None):
        resolver.answer()
        await anyio.sleep(10)
        resolver.answer(Endpoint("fd00::1", "fd00::1"))
        await anyio.sleep(60)

    stale, *_ = (r.getMessage() for r in caplog.records)
    assert stale.endswith(": an empty answer")


async def test_answers_that_are_cut_off_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """
    A service that outgrew a DNS message stays a warning in the log and in `stats`, not a flood.
    """
    caplog.set_level(logging.INFO, "knet")
    resolver = FakeResolver(A, B)
    async with ring_of(resolver, port=None) as ring:
        caplog.clear()
        resolver.outcome = Answer([A], gap="cut off", gap_reason="65,012 octets", ignored=3)
        await anyio.sleep(3600)
        assert (ring.stats().gap, ring.stats().ignored) == ("cut off", 3)
        assert ring.snapshot.endpoints == (A, B)
        resolver.answer(A, B)
        await anyio.sleep(60)
        assert (ring.stats().gap, ring.stats().ignored) == ("", 0)

    cut_off, whole = (r.getMessage() for r in caplog.records)
    assert cut_off.startswith("web.prod: the answer looks cut off")
    assert cut_off.endswith("1 endpoints in it: 65,012 octets")
    assert whole.startswith("web.prod: the answer is whole again")


async def test_an_error_is_one_line_whoever_wrote_it(caplog: pytest.LogCaptureFixture) -> None:
    """
    A log that is read line by line takes what a server sent for what the program says.
    """
    caplog.set_level(logging.INFO, "knet")
    resolver = FakeResolver(A)
    async with ring_of(resolver, port=None) as ring:
        resolver.outcome = ServerFailure("no\r\n2026-01-01 root logged in\n" + "x" * 100_000)
        await anyio.sleep(60)
        error = ring.stats().last_error
        assert error is not None
        assert error.startswith("no 2026-01-01 root logged in x")
        assert len(error) == 1000

    for record in caplog.records:
        message = record.getMessage()
        assert "\n" not in message
        assert len(message) < 1200


async def test_a_bug_of_a_resolver_is_shown_once(caplog: pytest.LogCaptureFixture) -> None:
    """
    Its traceback is worth one place in the log, not one for every attempt of a weekend.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver):
        resolver.outcome = ZeroDivisionError()
        await anyio.sleep(3600)

    assert len([r for r in caplog.records if r.exc_info]) == 1


def test_errors_have_one_base() -> None:
    """
    `except knet.KnetError` catches what knet raises of its own accord.
    """
    assert issubclass(RingMisused, KnetError)
    assert issubclass(NoEndpoints, LookupError)
    assert issubclass(ConfigError, ValueError)


# --- its state, without polling


async def test_whoever_waits_for_a_state_is_told() -> None:
    """
    Before the start, on the way down and up, and at the end.
    """
    resolver = FakeResolver(A)
    ring = ring_of(resolver)
    heard: list[str] = []

    async def listen() -> None:
        wanted: list[tuple[State, ...]] = [("fresh",), ("stale", "empty"), ("empty",), ("fresh",)]
        for states in [*wanted, ("closed",)]:
            heard.append(await ring.wait_for(*states))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await settle()
        async with ring:
            await settle()
            resolver.outcome = NameNotFound("NXDOMAIN")
            await until_state(ring, "empty")
            resolver.answer(A)
            await until_state(ring, "fresh")
            await settle()
    assert heard == ["fresh", "stale", "empty", "fresh", "closed"]


async def test_a_state_that_lasts_for_a_moment_is_told_too() -> None:
    """
    Waiters are told as it comes, and do not look again later.
    """
    resolver = FakeResolver(A)
    heard: list[str] = []
    async with ring_of(resolver) as ring:

        async def listen() -> None:
            heard.append(await ring.wait_for("stale"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await settle()
            resolver.outcome = ServerFailure("SERVFAIL")
            with pytest.raises(ServerFailure):
                await ring.refresh()
            resolver.answer(A)
            await ring.refresh()
        assert ring.state == "fresh"
    assert heard == ["stale"]


async def test_the_state_that_is_there_needs_no_waiting() -> None:
    """
    Also on a ring that has ended, if that is asked for.
    """
    async with ring_of(FakeResolver(A)) as ring:
        assert await ring.wait_for("fresh", "stale") == "fresh"
    assert await ring.wait_for("closed") == "closed"
    with pytest.raises(RingClosed):
        await ring.wait_for("fresh")


async def test_a_wait_ends_with_the_ring() -> None:
    """
    Nobody waits for a state that cannot come any more; who is cancelled leaves nothing behind.
    """
    ring = ring_of(FakeResolver(A))
    await ring.start()
    with anyio.move_on_after(1) as scope:
        await ring.wait_for("empty")
    assert scope.cancelled_caught

    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(RingClosed):
                await ring.wait_for("empty")

        tasks.start_soon(wait)
        await settle()
        await ring.aclose()


@pytest.mark.parametrize("states", [(), ("ready",), ("fresh", 3), ("fresh", [])])
async def test_waiting_for_no_state_is_refused(states: tuple[Any, ...]) -> None:
    """
    It would be for ever.
    """
    async with ring_of(FakeResolver(A)) as ring:
        with pytest.raises(ConfigError, match="fresh"):
            await ring.wait_for(*states)


async def test_stats_are_there_for_every_thread_and_for_json() -> None:
    """
    A scraper runs in a thread of its own.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        await anyio.sleep(2)
        (stats,) = in_a_thread(ring.stats)
        assert stats.last_success_age == pytest.approx(2, abs=0.01)
        assert json.loads(json.dumps(stats.as_dict())) == stats.as_dict()
        assert set(stats.as_dict()) >= {"state", "lookups", "failures", "held"}


# --- asking without waiting


async def test_asking_soon_neither_waits_nor_raises() -> None:
    """
    Before the start, during it, in a failure, from another thread, and after the end.
    """
    resolver = FakeResolver(A)
    ring = ring_of(resolver)
    ring.refresh_soon()
    async with ring:
        await anyio.sleep(2)
        resolver.answer(B)
        ring.refresh_soon()
        await settle()
        assert ring.snapshot.endpoints == (A, B)
        await anyio.sleep(2)
        resolver.outcome = ServerFailure("SERVFAIL")
        asked = len(resolver.asked)
        in_a_thread(ring.refresh_soon)
        with anyio.fail_after(1):
            await ring.wait_for("stale")
        assert len(resolver.asked) == asked + 1
    ring.refresh_soon()
    in_a_thread(ring.refresh_soon)


async def test_an_error_that_is_over_is_not_told_any_more() -> None:
    """
    The counters stay.
    """
    resolver = FakeResolver(A)
    async with ring_of(resolver) as ring:
        resolver.outcome = ServerFailure("SERVFAIL from 10.96.0.10")
        await until_state(ring, "stale")
        assert ring.stats().last_error == "SERVFAIL from 10.96.0.10"
        resolver.answer(A)
        await until_state(ring, "fresh")
        assert ring.stats().last_error is None
        assert ring.stats().failures["servfail"] > 0
        assert len(repr(ring.stats().last_success_age)) < 8


# --- ports


async def test_the_port_of_the_ring_fills_what_has_none() -> None:
    """
    A resolver may know addresses only.
    """
    bare = StaticResolver(["10.0.0.1", "10.0.0.2:9090"])
    async with Ring("web.prod", port=8080, resolver=bare) as ring:
        assert [str(e) for e in ring.snapshot.endpoints] == ["10.0.0.1:8080", "10.0.0.2:9090"]
    async with Ring("web.prod", resolver=bare) as ring:
        assert [str(e) for e in ring.snapshot.endpoints] == ["10.0.0.1", "10.0.0.2:9090"]


@pytest.mark.parametrize("kind", [EnvoyRing, EnvoyMaglev, GrpcRing, NginxRing])
def test_a_placement_that_hashes_ports_needs_one(kind: Any) -> None:
    """
    Without, its picks are not those of the proxy; where the names are the caller's, they are.
    """
    for make in (kind, functools.partial(kind), lambda pods: kind(pods)):  # noqa: PLW0108
        with pytest.raises(ConfigError, match=f"{kind.__name__} hashes addresses .* write port="):
            Ring("web.prod", placement=make)
        Ring("web.prod", placement=make, port=8080)
        Ring("web.prod", placement=make, port="http")
    Ring("web.prod", placement=functools.partial(kind, name=lambda pod: pod.name))
    Ring.static(["10.0.0.1:80"], placement=kind)


async def test_a_ring_knows_by_which_names_its_service_is_asked_for() -> None:
    """
    By the resolver's own surroundings where it has them; started or not, and for other sources too.
    """
    away = Resolver(namespace="there", zone="c.test")

    assert Ring("web.prod").names == ("web.prod", "web.prod.svc", "web.prod.svc.cluster.local")
    assert Ring("web", resolver=away).names == (
        "web",
        "web.there",
        "web.there.svc",
        "web.there.svc.c.test",
    )
    assert "shop.prod" in Ring.static(["10.0.0.1"], service="shop.prod").names
