"""
One client for each endpoint: opened once, closed when its pod has left and nobody uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from knet import (
    Endpoint,
    Kept,
    Pool,
    RefreshPolicy,
    Ring,
    RingClosed,
    RingMisused,
    RingNotReady,
    may_repeat,
)
from knet.pool import PooledAttempts
from tests.fakes import A, B, C, FakeResolver
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

QUICK = RefreshPolicy(jitter=0, confirm=1)


class Client:
    """
    Notes who opened and closed it, and how often.
    """

    def __init__(self, pod: Endpoint, log: list[str]) -> None:
        self.pod = pod
        self.log = log
        log.append(f"open {pod.name}")

    async def aclose(self) -> None:
        await anyio.sleep(0.01)
        self.log.append(f"close {self.pod.name}")

    async def serve(self) -> str:
        await anyio.sleep(0.01)
        return self.pod.name


SHAPES = ("client", "awaitable", "context manager")


def opening(shape: str, log: list[str]) -> Callable[[Endpoint], Any]:
    def plain(pod: Endpoint) -> Client:
        return Client(pod, log)

    async def awaitable(pod: Endpoint) -> Client:
        await anyio.sleep(0.05)
        return Client(pod, log)

    @asynccontextmanager
    async def manager(pod: Endpoint) -> AsyncIterator[Client]:
        # Entered and left in one task, or this fails.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 3600)
            client = Client(pod, log)
            yield client
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await client.aclose()

    return {"client": plain, "awaitable": awaitable, "context manager": manager}[shape]


def ring_of(*pods: Endpoint) -> tuple[Ring, FakeResolver]:
    resolver = FakeResolver(*pods or (A, B, C))
    return Ring("web.prod", resolver=resolver, refresh=QUICK), resolver


@pytest.fixture(autouse=True)
async def _no_task_is_left(anyio_backend: object) -> AsyncIterator[None]:  # noqa: F811
    """
    After every test no task of knet is running.
    """
    yield
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        assert [t for t in asyncio.all_tasks() if t.get_name().startswith("knet ")] == []


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_client_is_opened_once_however_many_ask_and_closed_in_the_end(shape: str) -> None:
    log: list[str] = []
    ring, _ = ring_of()
    async with ring:
        async with Pool[Client](ring, opening(shape, log)) as pool:
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(pool.call, "user-42", Client.serve)
            name = ring.snapshot.get("user-42").name
            assert log == [f"open {name}"]
            assert len(pool) == 1
            async with pool.client("user-42") as client:
                assert client.pod.name == name
            async with pool.client(A) as client:
                assert client.pod is A
        assert sorted(log) == sorted({f"open {name}", f"close {name}", "open a", "close a"})


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_client_is_closed_when_its_pod_has_left_and_its_last_user_is_done(
    shape: str,
) -> None:
    log: list[str] = []
    ring, resolver = ring_of()
    async with ring, Pool[Client](ring, opening(shape, log)) as pool:
        async with pool.client(A), pool.client(A), pool.client(B):
            resolver.answer(C)
            await ring.refresh()
            await anyio.sleep(1)
            assert len(pool) == 0
            assert not any(line.startswith("close") for line in log)
        await anyio.sleep(1)
        assert log[2:] in (["close a", "close b"], ["close b", "close a"])


async def test_a_pod_at_another_address_has_another_client() -> None:
    log: list[str] = []
    ring, resolver = ring_of(A)
    async with ring, Pool[Client](ring, opening("client", log)) as pool:
        async with pool.client("user-42") as before:
            moved = Endpoint("a", "10.9.9.9", 80)
            resolver.answer(moved)
            await ring.refresh()
            async with pool.client("user-42") as after:
                assert before is not after
                assert after.pod == moved
        await anyio.sleep(1)
        assert log == ["open a", "open a", "close a"]


async def test_an_open_that_fails_sends_nothing_and_ejects_the_pod() -> None:
    log: list[str] = []
    ring, _ = ring_of()

    async def connect(pod: Endpoint) -> Client:
        if pod is dead:
            raise ConnectionRefusedError(111, f"Connect call failed ('{pod.address}', 80)")
        return Client(pod, log)

    async with ring, Pool(ring, connect) as pool:
        dead, second = await ring.get_n("user-42", 2)
        assert await pool.call("user-42", Client.serve) == second.name
        assert list(ring.ejected) == [dead]
        assert ring.stats().in_flight == 0
        # The next one asks anew.
        with pytest.raises(ConnectionRefusedError):
            async with pool.client(dead):
                pass
        dead = C if second is not C else B
        assert len(pool) == 1


async def test_a_bug_in_open_leaves_at_once() -> None:
    ring, _ = ring_of()
    asked: list[Endpoint] = []

    def connect(pod: Endpoint) -> Client:
        asked.append(pod)
        raise TypeError("a bug")

    async with ring, Pool(ring, connect) as pool:
        with pytest.raises(TypeError, match="a bug"):
            await pool.call("user-42", Client.serve)
        assert len(asked) == 1
        assert not ring.ejected


async def test_who_asks_first_may_be_cancelled_without_harm_to_the_others() -> None:
    log: list[str] = []
    ring, _ = ring_of()

    async def connect(pod: Endpoint) -> Client:
        await anyio.sleep(1)
        return Client(pod, log)

    async with ring, Pool(ring, connect) as pool, anyio.create_task_group() as tasks:
        served: list[str] = []

        async def ask() -> None:
            served.append(await pool.call("user-42", Client.serve))

        async def give_up() -> None:
            with anyio.move_on_after(0.5):
                await pool.call("user-42", Client.serve)

        tasks.start_soon(give_up)
        await anyio.sleep(0.1)
        tasks.start_soon(ask)
        await anyio.sleep(3)
        assert len(served) == len(log) == 1
        assert ring.stats().in_flight == 0


async def test_an_open_that_hangs_ends_with_the_pool_or_with_total() -> None:
    ring, _ = ring_of()

    async def connect(pod: Endpoint) -> Client:
        await anyio.sleep(3600)
        return Client(pod, [])

    ends: list[BaseException] = []
    async with ring:
        async with anyio.create_task_group() as tasks:
            pool = Pool(ring, connect)
            await pool.__aenter__()

            async def ask() -> None:
                try:
                    await pool.call("user-42", Client.serve)
                except RingClosed as error:
                    ends.append(error)

            tasks.start_soon(ask)
            await anyio.sleep(1)
            with pytest.raises(TimeoutError, match="not served within 2 s"):
                await pool.call("user-42", Client.serve, total=2)
            await pool.aclose()
        assert len(ends) == 1
        assert ring.stats().in_flight == 0


async def test_a_client_in_which_an_exchange_broke_is_replaced() -> None:
    log: list[str] = []
    ring, _ = ring_of(A)

    async def refuse(client: Client) -> str:
        raise ConnectionRefusedError

    async with ring, Pool[Client](ring, opening("client", log)) as pool:
        with pytest.raises(ConnectionRefusedError):
            await pool.call("user-42", refuse)
        assert await pool.call("user-42", Client.serve) == "a"
        await anyio.sleep(1)
        assert log == ["open a", "open a", "close a"] or log == ["open a", "close a", "open a"]


async def test_a_client_that_is_no_longer_usable_is_replaced() -> None:
    log: list[str] = []
    ring, _ = ring_of(A)
    is_usable = True
    async with ring, Pool[Client](ring, opening("client", log), usable=lambda _: is_usable) as pool:
        async with pool.client(A) as first:
            pass
        async with pool.client(A) as again:
            assert again is first
        is_usable = False

        async def soon() -> None:
            nonlocal is_usable
            is_usable = True

        async with anyio.create_task_group() as tasks:
            pool._usable = lambda client: client is not first
            tasks.start_soon(soon)
            async with pool.client(A) as other:
                assert other is not first


async def test_a_client_that_ends_by_itself_is_opened_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ring, _ = ring_of(A)
    opened = 0
    failing = anyio.Event()

    @asynccontextmanager
    async def connect(pod: Endpoint) -> AsyncIterator[int]:
        nonlocal opened
        opened += 1

        async def fail() -> None:
            await failing.wait()
            raise LookupError("broken")

        async with anyio.create_task_group() as tasks:
            if opened == 1:
                tasks.start_soon(fail)
            yield opened
            tasks.cancel_scope.cancel()

    async with ring, Pool(ring, connect) as pool:
        async with pool.client(A) as client:
            assert client == 1
            failing.set()
            await anyio.sleep(1)
        async with pool.client(A) as client:
            assert client == 2
    assert any("the client of 10.0.0.1:80 ended with" in r.getMessage() for r in caplog.records)


async def test_an_error_at_closing_is_logged_and_nothing_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ring, _ = ring_of(A)

    def close(_: Client) -> None:
        raise LookupError("cannot close")

    async with ring, Pool[Client](ring, opening("client", []), close) as pool:
        assert await pool.call("user-42", Client.serve) == "a"
    assert "cannot close" in caplog.text


async def test_who_holds_a_client_cannot_close_its_pool() -> None:
    ring, _ = ring_of()
    async with ring, Pool[Client](ring, opening("client", [])) as pool:
        async with pool.client(A):
            with pytest.raises(RingMisused, match="cannot be closed by who holds"):
                await pool.aclose()
        tries = pool.attempts("user-42")
        async with tries:
            with pytest.raises(RingMisused):
                await pool.aclose()
        assert await pool.call("user-42", Client.serve)


async def test_a_pool_may_be_entered_and_left_in_different_tasks() -> None:
    log: list[str] = []
    ring, _ = ring_of()
    async with ring:
        pool = Pool[Client](ring, opening("context manager", log))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.__aenter__)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.call, "user-42", Client.serve)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.aclose)
        assert len(log) == 2
        await pool.aclose()


async def test_what_cannot_be_used_says_so() -> None:
    ring, _ = ring_of()
    pool = Pool[Client](ring, opening("client", []))
    with pytest.raises(RingNotReady):
        await pool.__aenter__()
    async with ring:
        with pytest.raises(RingMisused, match="was not entered"):
            await pool.call("user-42", Client.serve)
        async with pool:
            with pytest.raises(RingMisused, match="entered already"):
                await pool.__aenter__()
        uses: list[Callable[[], Awaitable[object]]] = [
            lambda: pool.call("user-42", Client.serve),
            lambda: pool.client("user-42").__aenter__(),
        ]
        for use in uses:
            with pytest.raises(RingClosed):
                await use()
        with pytest.raises(RingMisused):
            await pool.__aenter__()
        assert ring.stats().in_flight == 0
    with pytest.raises(TypeError, match="a pool is of a Ring"):
        Pool("web.prod", Client)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="open must be a function"):
        Pool(ring, None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="close must be a function"):
        Pool(ring, Client, 5)  # type: ignore[call-overload]


async def test_the_end_of_the_ring_under_a_client_disturbs_nobody() -> None:
    log: list[str] = []
    ring, _ = ring_of()
    await ring.start()
    async with Pool[Client](ring, opening("client", log)) as pool:
        async with pool.client("user-42") as client:
            await ring.aclose()
            assert await client.serve()
        with pytest.raises(RingClosed):
            await pool.call("user-42", Client.serve)
    assert len(log) == 2


async def test_reads_go_on_with_the_client_of_the_next_pod() -> None:
    ring, _ = ring_of()
    async with ring, Pool[Client](ring, opening("client", [])) as pool:
        first, second = await ring.get_n("user-42", 2)

        async def read(client: Client) -> str:
            if client.pod is first:
                raise EOFError
            return client.pod.name

        assert await pool.call("user-42", read, retry_on=may_repeat) == second.name
        with pytest.raises(EOFError):
            await pool.call("user-42", read)


async def keep(tries: PooledAttempts[Any]) -> Kept:
    while True:
        async with tries:
            kept = tries.keep()
            assert tries.keep() is kept
            return kept


async def test_a_client_that_is_kept_stays_open_after_its_pod_has_left() -> None:
    log: list[str] = []
    ring, resolver = ring_of()
    async with ring, Pool(ring, opening("client", log)) as pool:
        pod = ring.snapshot.get("user-42")
        tries = pool.attempts("user-42")
        kept = await keep(tries)
        assert tries.users == 0
        resolver.answer(*(e for e in (A, B, C) if e != pod))
        while pod in ring.snapshot.endpoints:
            await ring.refresh()
            await anyio.sleep(1)
        await anyio.sleep(1)
        assert log == [f"open {pod.name}"]
        kept.end()
        await anyio.sleep(1)
        assert log == [f"open {pod.name}", f"close {pod.name}"]


async def test_a_client_whose_kept_answer_broke_is_replaced() -> None:
    import httpx

    log: list[str] = []
    ring, _ = ring_of()
    async with ring, Pool(ring, opening("client", log)) as pool:
        for error in (None, httpx.ReadError("cut off"), None):
            tries = pool.attempts("user-42")
            kept = await keep(tries)
            kept.end(error)
            await anyio.sleep(1)
        assert [line.partition(" ")[0] for line in log] == ["open", "close", "open"]


async def test_a_pool_closes_under_a_kept_client() -> None:
    log: list[str] = []
    ring, _ = ring_of()
    async with ring:
        async with Pool(ring, opening("client", log)) as pool:
            tries = pool.attempts("user-42")
            kept = await keep(tries)
        assert len(log) == 2
        assert ring.stats().in_flight == 1
        kept.end()
        assert ring.stats().in_flight == 0
