"""
`Promise`: something that will be known, and those who wait for it.

An answer that is under way, a table that is being built, a start that has not succeeded yet: one
task finds out, others wait, and each of them gets the value, or an error of its own to raise.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import anyio

__all__ = ["Promise", "copy_of"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class Promise(Generic[T]):
    """
    A value that is not there yet.

    It is kept, or broken, once; what comes later is ignored. May be made where no event loop runs.
    """

    __slots__ = ("_error", "_known", "_value")

    _value: T

    def __init__(self) -> None:
        self._known = anyio.Event()
        self._error: BaseException | None = None

    @property
    def is_known(self) -> bool:
        """
        Was it kept or broken?
        """
        return self._known.is_set()

    def keep(self, value: T) -> None:
        """
        Give *value* to all who wait.
        """
        if not self._known.is_set():
            self._value = value
            self._known.set()

    def fail(self, error: BaseException) -> None:
        """
        Break it: all who wait raise a copy of *error*.
        """
        if not self._known.is_set():
            self._error = error
            self._known.set()

    async def settled(self) -> None:
        """
        Wait until it is kept or broken.
        """
        await self._known.wait()

    def result(self) -> T:
        """
        Return the value of a promise that is settled, or raise the very error that broke it.
        """
        if self._error is not None:
            raise self._error
        return self._value

    async def wait(self) -> T:
        """
        Return the value once it is known; at once, without a checkpoint, where it is.

        Raises:
            BaseException: A copy of what broke the promise, caused by it: several may wait, and
                raising an error adds to it.
        """
        # To wait for what is known goes once around the event loop, which costs more than a request's picks.
        if not self._known.is_set():
            await self._known.wait()
        if self._error is not None:
            raise copy_of(self._error) from self._error
        return self._value


def copy_of(error: E) -> E:
    """
    Return *error* without what hangs on it: traceback, cause, context.

    A class of a user's that copies badly is passed on as it is.
    """
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 - whatever its __init__ raises
        return error
    return copied if type(copied) is type(error) else error
