"""
Every `get`, `refresh`, `start` and `aclose` ends in an answer or a reason, whatever ended the ring.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import anyio
import pytest

from knet import (
    Answer,
    RefreshPolicy,
    ResolveError,
    Ring,
    RingClosed,
    RingMisused,
    RingNotReady,
    ServerFailure,
)
from knet.hosting import HostedTask
from tests.fakes import A, FakeResolver
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time
from tests.waiting import until_state

pytestmark = pytest.mark.anyio

STEADY = RefreshPolicy(jitter=0)


# What only asyncio can do to a task.
only_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


def ring_of(resolver: Any) -> Ring:
    return Ring("web.prod", resolver=resolver, refresh=STEADY)


async def assert_told(ring: Ring, reason: str) -> None:
    """
    Fail unless whoever asks is told *reason*, without waiting, and the ring can be closed.
    """
    uses: list[Callable[[], Awaitable[object]]] = [
        lambda: ring.get("user-42"),
        ring.refresh,
        lambda: ring.wait_for("fresh"),
    ]
    for use in uses:
        with anyio.fail_after(5), pytest.raises(RingClosed, match=reason):
            await use()
    await ring.aclose()
    assert ring.state == "closed"


async def test_who_asks_after_the_block_is_told_that_it_has_ended() -> None:
    """
    The usual mistake: a `return await ring.get(key)` below the `async with`.
    """
    ring = ring_of(FakeResolver(A))
    async with ring:
        pass

    await assert_told(ring, r"it was closed, by the end of its `async with` or by `aclose`$")


# --- it never began


async def test_a_life_that_is_never_awaited_is_over() -> None:
    """
    The coroutine is gone, and whoever asks is told.
    """
    ring = ring_of(FakeResolver(A))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forgotten = ring.run()
        del forgotten
        gc.collect()
    await assert_told(ring, "never began")

    closed = ring_of(FakeResolver(A))
    closed.run().close()
    await assert_told(closed, "never began")


@only_asyncio
async def test_a_task_that_is_cancelled_before_its_first_step_ends_the_ring() -> None:
    """
    Its task group was aborted in the same turn; those who wait already are told too.
    """
    ring = ring_of(FakeResolver(A))
    waiting = asyncio.ensure_future(ring_waits(ring))
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ring.run())
            raise ValueError
    await assert_told(ring, "first step")
    with pytest.raises(RingClosed):
        await waiting


async def ring_waits(ring: Ring) -> None:
    while True:
        try:
            await ring.get("user-42")
        except RingNotReady:
            await asyncio.sleep(0)


@only_asyncio
async def test_a_run_that_is_given_no_time_ends_the_ring() -> None:
    """
    `wait_for` with 0 takes no step.
    """
    ring = ring_of(FakeResolver(A))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ring.run(), 0)
    await assert_told(ring, "first step")


async def test_nobody_waits_for_ever_for_a_life_that_does_not_begin() -> None:
    """
    As where the coroutine was refused, and something still holds it.
    """
    ring = ring_of(FakeResolver(A))
    held = ring.run()
    with anyio.fail_after(5), pytest.raises(RingNotReady, match="refused"):
        await ring.get("user-42")
    async with anyio.create_task_group() as tasks:

        async def host() -> None:
            await held

        tasks.start_soon(host)
        assert await ring.get("user-42") == A
        await ring.aclose()


@only_asyncio
async def test_a_start_whose_task_cannot_be_made_says_so() -> None:
    """
    And the ring is closed then, without waiting for what does not run.
    """
    loop = asyncio.get_running_loop()
    ring = ring_of(FakeResolver(A))

    def refuse(_loop: Any, coro: Any, **_options: Any) -> NoReturn:
        coro.close()
        raise RuntimeError("no more tasks")

    loop.set_task_factory(refuse)
    try:
        with pytest.raises(RuntimeError, match="no more tasks"):
            await ring.start()
    finally:
        loop.set_task_factory(None)
    await assert_told(ring, "closed")


@only_asyncio
async def test_a_start_whose_own_task_is_cancelled_first_says_so() -> None:
    """
    Somebody cancels all tasks that it does not know.
    """
    ring = ring_of(FakeResolver(A))

    def cancel_all() -> None:
        for task in asyncio.all_tasks():
            if task.get_name().startswith("knet"):
                task.cancel()

    asyncio.get_running_loop().call_soon(cancel_all)
    with anyio.fail_after(5), pytest.raises(RingClosed, match="cancelled"):
        await ring.start()
    await assert_told(ring, "cancelled")


# --- its resolver


class Own(FakeResolver):
    """
    Uses the ring that asks it, from its second lookup on, in the same task or in one of its own.
    """

    def __init__(self, use: Callable[[], Awaitable[object]], *, nested: bool) -> None:
        super().__init__(A)
        self.told: list[str] = []
        self._use = use
        self._nested = nested

    async def resolve(self, service: str, /) -> Answer:
        if self.asked and self._nested:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._try)
        elif self.asked:
            await self._try()
        return await super().resolve(service)

    async def _try(self) -> None:
        try:
            await self._use()
        except RingMisused as error:
            self.told.append(str(error))


@pytest.mark.parametrize(
    ("what", "nested"), [("close", False), ("refresh", False), ("refresh", True)]
)
async def test_a_resolver_cannot_wait_for_its_own_ring(what: str, nested: bool) -> None:
    """
    Neither could end. It is told, and the ring goes on; also from a task that the lookup waits for.
    """
    resolver = Own(
        lambda: ring.aclose() if what == "close" else ring.refresh(),
        nested=nested,
    )
    ring = ring_of(resolver)
    async with ring:
        with anyio.fail_after(60):
            await ring.refresh()
        assert f"cannot {what}" in resolver.told[0]
        assert await ring.get("user-42") == A


async def test_a_task_of_a_lookup_can_close_the_ring() -> None:
    """
    The lookup that waits for it is cancelled, and it with the lookup.
    """
    resolver = Own(lambda: ring.aclose(), nested=True)  # noqa: PLW0108 - there is no ring yet
    ring = ring_of(resolver)
    await ring.start()
    with anyio.fail_after(60):
        await ring.wait_for("closed")
    assert not resolver.told
    await assert_told(ring, "closed")


async def test_what_a_lookup_left_running_may_use_the_ring() -> None:
    """
    Only what the lookup itself waits for may not wait for the lookup.
    """
    ring: Ring
    tasks: list[HostedTask] = []
    done = anyio.Event()

    class Spawning(FakeResolver):
        async def resolve(self, service: str, /) -> Answer:
            if not tasks:
                tasks.append(HostedTask(self._later, "spawned by a lookup", lambda: None))
            return await super().resolve(service)

        async def _later(self) -> None:
            await anyio.sleep(1)
            await ring.refresh()
            done.set()

    ring = ring_of(Spawning(A))
    async with ring:
        with anyio.fail_after(60):
            await done.wait()


class Stop(BaseException):
    """
    No `Exception`, as some libraries have them.
    """


@pytest.mark.parametrize(
    "error", [Stop("x"), BaseExceptionGroup("x", [Stop("y")]), ExceptionGroup("x", [ValueError()])]
)
async def test_whatever_a_resolver_raises_is_a_failed_lookup(error: BaseException) -> None:
    """
    Only the ring's own end ends it.
    """
    await assert_survives(error)


@only_asyncio
@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), BaseExceptionGroup("x", [asyncio.CancelledError()])]
)
async def test_a_cancellation_of_somebody_else_is_a_failed_lookup(error: BaseException) -> None:
    """
    As of a task that the resolver made itself.
    """
    await assert_survives(error)


async def assert_survives(error: BaseException) -> None:
    resolver = Raising(A)
    async with ring_of(resolver) as ring:
        resolver.error = error
        await until_state(ring, "stale")
        assert await ring.get("user-42") == A
        assert type(error).__name__ in (ring.stats().last_error or "")
        resolver.error = None
        await until_state(ring, "fresh")


class Raising(FakeResolver):
    """
    Raises what a lookup does not.
    """

    error: BaseException | None = None

    async def resolve(self, service: str, /) -> Answer:
        if self.error is not None:
            raise self.error
        return await super().resolve(service)


async def test_the_end_says_what_ended_the_ring() -> None:
    """
    Where it cannot be told apart from the ring's own end.
    """
    resolver = Raising(A)
    ring = ring_of(resolver)

    async def host() -> None:
        with pytest.raises(GeneratorExit):
            await ring.run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host)
        await until_state(ring, "fresh")
        resolver.error = GeneratorExit()
        await until_state(ring, "closed")
    await assert_told(ring, "ended by GeneratorExit")


async def test_a_foreign_cancellation_of_its_task_is_told() -> None:
    """
    "closed" is said of a ring that somebody closed.
    """
    ring = ring_of(FakeResolver(A))
    async with anyio.create_task_group() as tasks:
        await tasks.start(ring.run)
        tasks.cancel_scope.cancel()
    await assert_told(ring, "its task was cancelled")


# --- errors and resolvers that cannot say what they are


class Mute(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("repr broken")


class Dumb(ResolveError):
    def __str__(self) -> str:
        raise RuntimeError("str broken")


class Odd(ResolveError):
    kind = ["list"]  # type: ignore[assignment]  # noqa: RUF012


class Lost(ResolveError):
    def __copy__(self) -> None:
        return None


@pytest.mark.parametrize("error", [Mute(), Dumb("x"), Odd("x"), Lost("x")])
async def test_an_error_that_cannot_say_what_it_is_ends_no_ring(error: Exception) -> None:
    """
    Nor does a resolver without a `repr`.
    """

    class Nameless(FakeResolver):
        def __repr__(self) -> str:
            raise RuntimeError("repr broken")

    resolver = Nameless(A)
    async with ring_of(resolver) as ring:
        resolver.outcome = error
        with pytest.raises(type(error)):
            await ring.refresh()
        assert await ring.get("user-42") == A
        assert sum(ring.stats().failures.values()) == ring.stats().consecutive_failures == 1


# --- what hangs on to it


class _Refuses(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise KeyError("user_id")


async def test_a_log_filter_that_raises_reaches_no_ring(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    It is reported as a handler that fails is.
    """
    logger, level = logging.getLogger("knet"), logging.getLogger("knet").level
    refuses = _Refuses()
    logger.addFilter(refuses)
    logger.setLevel(logging.DEBUG)
    try:
        resolver = FakeResolver(A)
        async with ring_of(resolver) as ring:
            resolver.outcome = ServerFailure("SERVFAIL")
            await until_state(ring, "stale")
            assert await ring.get("user-42") == A
    finally:
        logger.removeFilter(refuses)
        logger.setLevel(level)
    assert "KeyError: 'user_id'" in capsys.readouterr().err


@only_asyncio
async def test_closing_is_complete_also_where_it_is_cancelled_natively() -> None:
    """
    `asyncio.Task.cancel` goes through shields, and `aclose` waits all the same.
    """

    class Slow(FakeResolver):
        async def resolve(self, service: str, /) -> Answer:
            try:
                return await super().resolve(service)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(3)

    ring = ring_of(Slow(A))
    await ring.start()
    await asyncio.sleep(6)  # in a lookup
    closing = asyncio.ensure_future(ring.aclose())
    await asyncio.sleep(0.5)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert ring.state == "closed"
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("knet")]


async def test_a_state_that_comes_while_a_life_begins_is_told() -> None:
    """
    Who waits from the moment of `run()` on misses nothing.
    """
    ring = ring_of(FakeResolver(A))
    body = ring.run()
    heard: list[str] = []

    async def listen() -> None:
        heard.append(await ring.wait_for("fresh"))

    async def host() -> None:
        await body

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await anyio.sleep(0.5)
        tasks.start_soon(host)
        with anyio.fail_after(5):
            while not heard:
                await anyio.sleep(0.1)
        await ring.aclose()
    assert heard == ["fresh"]
