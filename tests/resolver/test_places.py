"""
Places for queries, on a virtual clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from knet.resolver import places as module
from knet.resolver.places import BRIEF, IN_FLIGHT, Places
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

DEADLINE = 5.0


class Server:
    """
    Answers at once, but questions that are *dead* never.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.asked: list[str] = []

    async def ask(self, question: str) -> None:
        place = await self.places.take(question)
        try:
            self.asked.append(question)
            answered = anyio.Event()
            if not question.startswith("dead"):
                answered.set()
            with anyio.move_on_after(DEADLINE):
                await place.wait(answered)
            self.places.learn(question, is_late=not answered.is_set())
        finally:
            place.leave()


async def seconds(function: Callable[[], Awaitable[object]]) -> float:
    began_at = anyio.current_time()
    await function()
    return anyio.current_time() - began_at


async def test_at_most_so_many_are_under_way_at_first() -> None:
    server = Server(Places())
    async with anyio.create_task_group() as tasks:
        for number in range(500):
            tasks.start_soon(server.ask, f"dead-{number}")
        await anyio.sleep(0.9 * BRIEF)
        assert len(server.asked) == IN_FLIGHT
        await anyio.sleep(BRIEF)
        assert len(server.asked) == 2 * IN_FLIGHT
        tasks.cancel_scope.cancel()


async def test_who_is_answered_waits_for_those_who_are_not_once_and_briefly() -> None:
    """
    From the second time on not at all: what timed out has places of its own.
    """
    server = Server(Places())
    waited: list[float] = []
    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(server.ask, f"dead-{number}")
            await anyio.sleep(0.01)
            waited.append(await seconds(lambda: server.ask("web")))
            tasks.cancel_scope.cancel() if len(waited) == 3 else None

    assert waited == pytest.approx([BRIEF * (500 // IN_FLIGHT) - 0.01, 0, 0], abs=0.001)


async def test_a_name_that_is_answered_again_is_no_longer_apart() -> None:
    places = Places()
    server = Server(places)
    places.learn("web", is_late=True)
    async with anyio.create_task_group() as tasks:
        for number in range(IN_FLIGHT):
            places.learn(f"dead-{number}", is_late=True)
            tasks.start_soon(server.ask, f"dead-{number}")
        await anyio.sleep(0.01)
        assert await seconds(lambda: server.ask("web")) == pytest.approx(DEADLINE - 0.01, abs=0.01)

        tasks.start_soon(server.ask, "dead-0")
        assert await seconds(lambda: server.ask("web")) == 0


async def test_only_so_many_go_on_without_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PATIENT", 10)
    places = Places()
    server = Server(places)
    async with anyio.create_task_group() as tasks:
        for number in range(500):
            tasks.start_soon(server.ask, f"dead-{number}")
        await anyio.sleep(DEADLINE / 2)
        assert len(server.asked) == IN_FLIGHT + 10
    assert places.patient == 0


async def test_cancelled_queries_give_their_places_back() -> None:
    places = Places()
    server = Server(places)
    for after in (0.0, 0.01, BRIEF / 2, 2 * BRIEF):
        with anyio.move_on_after(after):
            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(server.ask, f"dead-{number}")
        assert places.patient == 0
        assert await seconds(lambda: server.ask("web")) == 0


async def test_what_is_late_is_not_remembered_in_any_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_LATE", 3)
    places = Places()
    for number in range(10):
        places.learn(number, is_late=True)
    assert len(places._late) <= 3
