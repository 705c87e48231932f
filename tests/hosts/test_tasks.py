"""
Rings among other tasks: nurseries, task groups, event loops and fixtures of `docs/hosting.md`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio
import uvloop

import knet
from knet.testing import HeadlessService

from .cluster import follows_a_rollout
from .documents import example

Main = Callable[[], Awaitable[None]]

# The heading of each example, and what runs it.
HOSTS: list[tuple[str, Callable[[Main], Any]]] = [
    ("trio", trio.run),
    ("anyio", anyio.run),
    ("anyio", lambda main: anyio.run(main, backend="trio")),
    ("asyncio.TaskGroup", lambda main: asyncio.run(main())),  # type: ignore[arg-type]
    ("uvloop", lambda main: uvloop.run(main())),  # type: ignore[arg-type]
    ("uvloop", lambda main: anyio.run(main, backend_options={"use_uvloop": True})),
]
NAMES = ["trio", "anyio-asyncio", "anyio-trio", "asyncio", "uvloop", "anyio-uvloop"]

on_every_host = pytest.mark.parametrize(("heading", "run"), HOSTS, ids=NAMES)


@on_every_host
def test_a_task_follows_a_rollout(
    web: HeadlessService, heading: str, run: Callable[[Main], Any]
) -> None:
    """
    Every pick succeeds while all pods are replaced; leaving the group leaves nothing behind.
    """
    module = example(heading).run("example")

    async def work(ring: knet.Ring) -> None:
        async def ask(key: str) -> str:
            return str(await ring.get(key))

        await follows_a_rollout(web, ask)

    module["work"] = work
    run(module["main"])


@on_every_host
def test_an_exception_of_the_body_is_the_only_one(
    web: HeadlessService, heading: str, run: Callable[[Main], Any]
) -> None:
    """
    A nursery wraps what its body raises, as nurseries do; the ring adds nothing to it.
    """
    module = example(heading).run("example")
    error = ValueError("mine")

    async def work(ring: knet.Ring) -> None:
        await ring.get("user-42")
        raise error

    module["work"] = work
    with pytest.raises((ValueError, ExceptionGroup)) as caught:
        run(module["main"])

    if heading == "uvloop":  # `async with ring:`
        assert caught.value is error
    else:
        assert isinstance(caught.value, ExceptionGroup)
        assert caught.value.exceptions == (error,)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_fixture_is_set_up_and_torn_down_in_different_tasks(
    web: HeadlessService, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """
    pytest-asyncio runs each half of an async fixture, and the test, in a task of its own.
    """
    module = example("pytest").run("example")
    halves = inspect.unwrap(module["ring"])()  # the function that pytest made a fixture of

    async def set_up() -> knet.Ring:
        ring: knet.Ring = await anext(halves)
        return ring

    async def tear_down() -> None:
        with pytest.raises(StopAsyncIteration):
            await anext(halves)

    async def test(ring: knet.Ring) -> None:
        async def ask(key: str) -> str:
            return str(await ring.get(key))

        await follows_a_rollout(web, ask)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        ring = runner.run(set_up())
        runner.run(test(ring))
        runner.run(tear_down())

        assert ring.state == "closed"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_ring_is_entered_in_one_task_and_left_in_another(
    web: HeadlessService, backend: str
) -> None:
    """
    The two halves of `async with` may belong to tasks that have ended since.
    """
    ring = knet.Ring("web.prod.svc.cluster.local", port=8080)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ring.__aenter__)
        assert (await ring.get("user-42")).port == 8080
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ring.__aexit__, None, None, None)

    anyio.run(main, backend=backend)

    assert ring.state == "closed"
