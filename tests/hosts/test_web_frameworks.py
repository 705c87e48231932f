"""
Rings in web applications: the examples of `docs/hosting.md`, run while all pods are replaced.
"""

from __future__ import annotations

import asyncio

import anyio
import httpx
import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, AppRunner, Request
from fastapi import FastAPI

from knet import NameNotFound, Ring
from knet.testing import HeadlessService

from .cluster import follows_a_rollout
from .documents import example

on_both_loops = pytest.mark.parametrize("backend", ["asyncio", "trio"])
in_both_ways = pytest.mark.parametrize("heading", ["aiohttp", "Start-up and shutdown hooks"])


# --- FastAPI


@on_both_loops
def test_a_fastapi_app_follows_a_rollout(web: HeadlessService, backend: str) -> None:
    """
    Every request finds a pod while all of them are replaced.
    """
    app: FastAPI = example("FastAPI").run("example")["app"]

    async def serve() -> None:
        transport = httpx.ASGITransport(app)  # which does not run lifespans
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):

            async def ask(key: str) -> str:
                response = await client.get(f"/rooms/{key}")
                response.raise_for_status()
                pod: str = response.json()
                return pod

            await follows_a_rollout(web, ask)

    anyio.run(serve, backend=backend)


@on_both_loops
def test_a_fastapi_app_can_be_started_again(web: HeadlessService, backend: str) -> None:
    """
    Each start makes a ring of its own, as a test client that is entered twice needs it.
    """
    app: FastAPI = example("FastAPI").run("example")["app"]

    async def serve() -> Ring:
        async with app.router.lifespan_context(app):
            ring: Ring = app.state.ring
            assert len(ring.snapshot) == 3
        return ring

    first, second = [anyio.run(serve, backend=backend) for _ in range(2)]

    assert first is not second
    assert first.state == second.state == "closed"


@on_both_loops
def test_an_exception_leaves_a_lifespan_as_itself(web: HeadlessService, backend: str) -> None:
    """
    What is raised while the app runs is not wrapped by the ring around it.
    """
    app: FastAPI = example("FastAPI").run("example")["app"]

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        anyio.run(serve, backend=backend)


# --- aiohttp


@in_both_ways
def test_an_aiohttp_app_follows_a_rollout(web: HeadlessService, heading: str) -> None:
    """
    Every request finds a pod, and the app may be cleaned up in another task than it was set up in.
    """
    app: Application = example(heading).run("example")["app"]

    async def set_up() -> TestClient[Request, Application]:
        client = TestClient(TestServer(app))
        await client.start_server()
        return client

    with asyncio.Runner() as runner:  # each `run` is a task of its own
        client = runner.run(set_up())

        async def ask(key: str) -> str:
            async with client.get(f"/rooms/{key}") as response:
                response.raise_for_status()
                return await response.text()

        runner.run(follows_a_rollout(web, ask))
        runner.run(client.close())


async def start_and_stop(app: Application) -> None:
    runner = AppRunner(app)
    try:
        await runner.setup()
    finally:
        await runner.cleanup()


@in_both_ways
def test_an_exception_in_a_hook_leaves_as_itself(web: HeadlessService, heading: str) -> None:
    """
    A start-up hook that fails after the ring was entered ends the app with its own exception.
    """
    app: Application = example(heading).run("example")["app"]

    async def fail(app: Application) -> None:
        raise ValueError("mine")

    app.on_startup.append(fail)
    with pytest.raises(ValueError, match="mine"):
        asyncio.run(start_and_stop(app))


@in_both_ways
def test_an_app_whose_service_has_no_pods_does_not_start(
    web: HeadlessService, heading: str
) -> None:
    """
    The error says what was asked for, and nothing is left of the attempt.
    """
    web.scale(0)
    app: Application = example(heading).run("example")["app"]

    with pytest.raises(NameNotFound, match=r"web\.prod\.svc\.cluster\.local"):
        asyncio.run(start_and_stop(app))
