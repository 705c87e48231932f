"""
Programs that fork with a ring open: `python -m tests.exits.forking NAME NAMESERVER`.

The master opens a ring and forks, as pre-forking servers and `multiprocessing` do. Each function is
one such program, run on asyncio and then on trio, and its docstring is the promise. A program fails
by an exception, in the master or in a child, and is silent otherwise.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import operator
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import knet

__all__ = ["PROGRAMS"]

WEB = "web.prod.svc.cluster.local"
QUICK = knet.RefreshPolicy(interval=0.01, min_interval=0.01, retry=0.01)
KEYS = [f"user-{i}" for i in range(100)]

Main = Callable[[], Awaitable[None]]

PROGRAMS: dict[str, Main] = {}

backend = nameserver = ""


def program(main: Main) -> Main:
    PROGRAMS[getattr(main, "__name__")] = main  # noqa: B009
    return main


def new_resolver() -> knet.Resolver:
    return knet.Resolver(nameservers=[nameserver])


def new_ring(resolver: knet.Resolver | None = None) -> knet.Ring:
    return knet.Ring(WEB, port=8080, resolver=resolver or new_resolver(), refresh=QUICK)


def run(main: Main) -> None:
    """
    Run *main* on a loop of its own, also where this process was forked inside of another one.
    """
    failures: list[BaseException] = []

    def work() -> None:
        try:
            anyio.run(main, backend=backend)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def fork(work: Callable[[], object]) -> int:
    """
    Do *work* in a child, which then vanishes as those of `multiprocessing` do; return its number.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


async def succeeds(child: int) -> None:
    """
    Wait for a child; the loop goes on meanwhile.
    """
    status = await anyio.to_thread.run_sync(lambda: os.waitpid(child, 0)[1])
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"the child ended with {code}"


async def in_child(work: Callable[[], object]) -> None:
    await succeeds(fork(work))


async def keeps_refreshing(ring: knet.Ring) -> None:
    """
    See two more lookups of *ring* succeed, and none fail.
    """
    before = ring.stats()
    while ring.stats().lookups < before.lookups + 2:
        await anyio.sleep(0.01)
    await ring.refresh()
    assert ring.state == "fresh"
    assert ring.stats().failures == before.failures


def raises_ring_closed(ask: Callable[[], object]) -> None:
    with pytest.raises(knet.RingClosed, match=rf"{WEB}.*was opened before a fork"):
        ask()


# --- what is left of a ring


@program
async def a_ring_of_the_parent_is_closed_in_the_child() -> None:
    """
    Whatever the child asks of it, it hears at once that the ring was opened before a fork.
    """
    async with new_ring() as ring:

        def child() -> None:
            assert ring.state == "closed"
            assert "state=closed" in repr(ring)
            assert ring.stats().endpoints == 0
            raises_ring_closed(lambda: ring.snapshot)
            raises_ring_closed(lambda: ring.get_nowait("user-42"))
            raises_ring_closed(ring.changes)
            raises_ring_closed(ring.run)
            for ask in (
                functools.partial(ring.get, "user-42"),
                functools.partial(ring.get_n, "user-42", 2),
                functools.partial(ring.get_many, KEYS),
                ring.refresh,
                ring.start,
            ):
                raises_ring_closed(functools.partial(run, ask))  # type: ignore[arg-type]

        await in_child(child)
        await keeps_refreshing(ring)


@program
async def a_ring_of_the_parent_can_be_closed_in_the_child() -> None:
    """
    Closing it there does nothing, and nothing to the parent's.
    """
    async with new_ring() as ring:
        await in_child(lambda: run(ring.aclose))
        await keeps_refreshing(ring)


@program
async def a_ring_that_was_not_started_can_be_started_in_the_child() -> None:
    """
    Made before the fork and opened after it, as workers of a pre-forking server should.
    """
    ring = new_ring()

    async def child() -> None:
        async with ring:
            await ring.get("user-42")

    await in_child(lambda: run(child))
    await in_child(lambda: run(child))
    async with ring:
        await keeps_refreshing(ring)


@program
async def a_snapshot_goes_on_in_the_child() -> None:
    """
    A snapshot is a value: taken before the fork, it picks as before.
    """
    async with new_ring() as ring:
        snapshot = ring.snapshot
        picks = snapshot.get_many(KEYS)

        def child() -> None:
            assert snapshot.get_many(KEYS) == picks
            assert snapshot.get_n("user-42", 3)[0] == snapshot.get("user-42")
            assert len(snapshot.endpoints) == 3

        await in_child(child)


# --- rings of children


@program
async def each_child_has_a_ring_of_its_own() -> None:
    """
    Several at once, beside the parent's; all of them pick alike.
    """
    async with new_ring() as ring:
        picks = await ring.get_many(KEYS)

        async def child() -> None:
            async with new_ring() as own:
                assert await own.get_many(KEYS) == picks
                await keeps_refreshing(own)

        children = [fork(lambda: run(child)) for _ in range(4)]
        await keeps_refreshing(ring)
        for each in children:
            await succeeds(each)
        await keeps_refreshing(ring)


@program
async def a_resolver_of_the_parent_works_in_the_child() -> None:
    """
    Idle, held open or in use by a ring: in the child it asks through an engine of the child's.
    """
    async with new_resolver() as resolver, new_ring(resolver) as ring:

        async def child() -> None:
            assert len((await resolver.resolve(WEB)).endpoints) == 3
            async with new_ring(resolver) as own:
                await keeps_refreshing(own)

        await in_child(lambda: run(child))
        await in_child(lambda: run(child))
        await keeps_refreshing(ring)


@program
async def a_child_may_fork_again() -> None:
    """
    A ring of the child is to its own children as the parent's is to it.
    """

    async def child() -> None:
        async with new_ring() as own:
            await in_child(lambda: raises_ring_closed(lambda: own.get_nowait("user-42")))
            await keeps_refreshing(own)

    async with new_ring() as ring:
        await in_child(lambda: run(child))
        await keeps_refreshing(ring)


@program
async def lookups_of_a_child_do_not_pile_up() -> None:
    """
    A worker that looks up now and then has one channel at most, as its parent does.
    """

    def living() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    async def child() -> None:
        resolver = new_resolver()
        await resolver.resolve(WEB)
        most = living()
        for _ in range(20):
            await resolver.resolve(WEB)
        # c-ares tears a channel down in threads of its own, a moment after it was closed.
        with anyio.move_on_after(5):
            while not all(map(operator.le, living(), most)):
                await anyio.sleep(0.01)
        assert all(map(operator.le, living(), most)), f"{most} became {living()}"

    async with new_ring():
        await in_child(lambda: run(child))


# --- at awkward moments


@program
async def a_fork_with_64_lookups_under_way_harms_neither() -> None:
    """
    The parent's lookups succeed, and the child's own do.
    """
    found: list[knet.Answer] = []

    async def ask() -> None:
        found.append(await resolver.resolve(WEB))

    async def child() -> None:
        async with new_ring(resolver) as own:
            await keeps_refreshing(own)

    async with new_resolver() as resolver, anyio.create_task_group() as tasks:
        for _ in range(64):
            tasks.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        for _ in range(3):
            await in_child(lambda: run(child))
    assert len(found) == 64


@program
async def a_fork_while_a_ring_starts_leaves_a_closed_one() -> None:
    """
    It had no snapshot yet, and will not get one in the child.
    """
    ring = new_ring()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ring.start)
        while ring.stats().lookups == 0:
            await anyio.lowlevel.checkpoint()
        await in_child(lambda: raises_ring_closed(lambda: ring.get_nowait("user-42")))
    await keeps_refreshing(ring)
    await ring.aclose()


# --- multiprocessing


def worker(where: str, on: str, snapshot: bytes, picks: list[str]) -> None:
    """
    What a process of `multiprocessing` does: use a snapshot that it was sent, and a ring.
    """
    global backend, nameserver
    backend, nameserver = on, where
    assert list(map(str, pickle.loads(snapshot).get_many(KEYS))) == picks

    async def main() -> None:
        async with new_ring() as own:
            assert list(map(str, await own.get_many(KEYS))) == picks

    run(main)


async def _starts(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    async with new_ring() as ring:
        picks = list(map(str, ring.snapshot.get_many(KEYS)))
        args = (nameserver, backend, pickle.dumps(ring.snapshot), picks)
        processes = [context.Process(target=worker, args=args) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            await anyio.to_thread.run_sync(process.join)
            assert process.exitcode == 0
        await keeps_refreshing(ring)


@program
async def multiprocessing_forks() -> None:
    """
    Workers that are forked are sent a snapshot, and open rings.
    """
    await _starts("fork")


@program
async def multiprocessing_has_a_server_fork() -> None:
    """
    So do those that a fork server forks.
    """
    await _starts("forkserver")


@program
async def multiprocessing_spawns() -> None:
    """
    So do those that are started afresh.
    """
    await _starts("spawn")


@program
async def a_ring_cannot_be_sent_to_another_process() -> None:
    """
    Pickling one, started or not, is a `TypeError` that says so; a resolver can be sent.
    """
    idle = new_ring()
    async with new_ring() as ring:
        for each in (idle, ring):
            with pytest.raises(TypeError, match="Ring"):
                pickle.dumps(each)
    resolver = pickle.loads(pickle.dumps(new_resolver()))
    assert len((await resolver.resolve(WEB)).endpoints) == 3


# --- a master without a loop of its own, as gunicorn's is


def master() -> None:
    """
    Preload a ring on a loop that then stands still, fork workers, and go on.

    The workers end as gunicorn's do, by `sys.exit`, through the interpreter's whole shutdown.
    """
    loop = asyncio.new_event_loop()
    ring = new_ring()
    loop.run_until_complete(ring.start())
    snapshot = ring.snapshot

    async def serve() -> None:
        with pytest.raises(knet.RingClosed):
            await ring.get("user-42")
        async with new_ring() as own:
            assert await own.get_many(KEYS) == snapshot.get_many(KEYS)
            await keeps_refreshing(own)

    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            run(serve)
            sys.exit(0)
        children.append(child)
    for child in children:
        loop.run_until_complete(succeeds(child))
    loop.run_until_complete(keeps_refreshing(ring))
    loop.run_until_complete(ring.aclose())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


if __name__ == "__main__":
    _, name, nameserver = sys.argv
    for backend in ("asyncio", "trio"):
        try:
            if name == "master":
                master()
            else:
                anyio.run(PROGRAMS[name], backend=backend)
        except BaseException as error:
            error.add_note(f"on {backend}")
            raise
