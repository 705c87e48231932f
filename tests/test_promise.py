"""
What will be known, and those who wait for it.
"""

from __future__ import annotations

import anyio
import pytest

from knet.errors import NameNotFound
from knet.promise import Promise, copy_of

pytestmark = pytest.mark.anyio


async def test_all_who_wait_get_the_value() -> None:
    """
    Those who come late, too.
    """
    promise: Promise[int] = Promise()
    got: list[int] = []

    async def wait() -> None:
        got.append(await promise.wait())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not promise.is_known
        promise.keep(7)
    assert got == [7, 7, 7]
    assert await promise.wait() == promise.result() == 7


async def test_each_who_waits_raises_an_error_of_its_own() -> None:
    """
    Raising adds a traceback, and one task's has nothing to say about another's.
    """
    promise: Promise[int] = Promise()
    broken = NameNotFound("NXDOMAIN", name="web.")
    promise.fail(broken)
    raised = []
    for _ in range(2):
        with pytest.raises(NameNotFound, match="NXDOMAIN") as caught:
            await promise.wait()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert all(error.__cause__ is broken and error.name == "web." for error in raised)
    with pytest.raises(NameNotFound) as caught:
        promise.result()
    assert caught.value is broken


async def test_a_promise_is_settled_once() -> None:
    """
    What comes later is ignored.
    """
    promise: Promise[int] = Promise()
    promise.keep(1)
    promise.keep(2)
    promise.fail(ValueError())
    await promise.settled()
    assert await promise.wait() == 1


def test_an_error_that_copies_badly_is_passed_on() -> None:
    """
    A class of a user's may want something else in its `__init__`, or copy itself to nothing.
    """

    class Picky(Exception):
        def __init__(self, *, why: str) -> None:
            super().__init__(why, why)

    class Lost(Exception):
        def __copy__(self) -> None:
            return None

    for error in (Picky(why="x"), Lost()):
        assert copy_of(error) is error
