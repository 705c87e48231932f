"""
What rings with the same question have in common: their lookups, and the placements made of them.

A program may open a ring for every tenant, plug-in or connection, and many of them on the same
Service. Each of them decides for itself what to believe. But whatever one of them has just heard,
the others need not ask for again, and what one has built the others can use, since it is frozen.
So ten thousand rings of one name send one query and keep one table.

A `Source` belongs to one event loop and lives as long as a ring holds it.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

from knet.endpoint import Endpoint
from knet.errors import ResolveError
from knet.hashring import Placement
from knet.resolver import Answer, Resolver, ResolverProtocol
from knet.resolver.dns import Repeated
from knet.resolver.names import Question
from knet.slices import Slices, in_turns

__all__ = ["Build", "Outcome", "Source", "copy_of", "source_of"]

E = TypeVar("E", bound=Exception)

Make = Callable[[tuple[Endpoint, ...]], Placement[Endpoint]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What a lookup came to, and when: seconds on the event loop's clock.

    Attributes:
        result: The answer, or how the lookup failed.
        asked_at: When it began. What happened since is not in it.
        told_at: When it ended.
    """

    result: Answer | ResolveError
    asked_at: float
    told_at: float

    def again(self) -> Outcome:
        """
        Return it for somebody else, who gets an error of their own to raise.
        """
        if isinstance(self.result, ResolveError):
            return replace(self, result=copy_of(self.result))
        return self


class Source:
    """
    Where rings with the same question get answers and placements; `source_of` finds it.
    """

    __slots__ = ("__weakref__", "_builds", "_flight", "_last", "_look_up", "_resolver")

    def __init__(
        self, resolver: ResolverProtocol, question: Question, options: Mapping[str, Any]
    ) -> None:
        self._resolver = resolver
        self._look_up: Callable[[], Awaitable[Answer]]
        if isinstance(resolver, Resolver) and _is_its_own(resolver):
            self._look_up = Repeated(resolver, question)
        else:
            self._look_up = partial(resolver.resolve, question.service, **options)
        self._flight: anyio.Event | None = None
        self._last: Outcome | None = None
        self._builds: WeakValueDictionary[int, Build] = WeakValueDictionary()

    async def ask(self, since: float) -> Outcome:
        """
        Return the outcome of a lookup that began at *since* or later; begin one if there is none.

        There is one at a time. Who comes too late to take part in it shares the next one with all
        others who did.

        Raises:
            Exception: Whatever a resolver raises that is no `ResolveError`.
        """
        while True:
            last = self._last
            if last is not None and last.asked_at >= since:
                return last.again()
            if self._flight is None:
                return await self._ask_now()
            # If whoever asks gives up, the next one of those who wait here asks again.
            await self._flight.wait()

    async def _ask_now(self) -> Outcome:
        over = self._flight = anyio.Event()
        asked_at = anyio.current_time()
        result: Answer | ResolveError
        try:
            try:
                result = await self._look_up()
            except ResolveError as error:
                result = error
            else:
                if not isinstance(result, Answer):
                    raise TypeError(
                        f"{self._resolver!r} resolved to {type(result).__name__}, not Answer"
                    )
            outcome = Outcome(result, asked_at, anyio.current_time())
            self._last = outcome.again()  # an error without its traceback, and all that hangs on it
        finally:
            self._flight = None
            over.set()
        return outcome

    async def build(
        self, make: Make, empty: Placement[Endpoint], endpoints: tuple[Endpoint, ...]
    ) -> Build:
        """
        Return *empty*, which *make* made, with *endpoints* in it, built in slices if it can be.

        Others can have it too for as long as somebody keeps what is returned.
        """
        while True:
            build = self._builds.get(id(make))
            if build is None or build.make is not make or build.endpoints != endpoints:
                break
            if build.placement is not None:
                return build
            await build.over.wait()
        build = self._builds[id(make)] = Build(make, endpoints)
        try:
            build.placement = await _built(empty, endpoints)
        finally:
            if build.placement is None and self._builds.get(id(make)) is build:
                del self._builds[id(make)]
            build.over.set()
        return build


class Build:
    """
    A *placement* of *endpoints*, once there is one, and those who wait for it.
    """

    __slots__ = ("__weakref__", "endpoints", "make", "over", "placement")

    def __init__(self, make: Make, endpoints: tuple[Endpoint, ...]) -> None:
        self.make = make
        self.endpoints = endpoints
        self.placement: Placement[Endpoint] | None = None
        self.over = anyio.Event()


async def _built(
    empty: Placement[Endpoint], endpoints: tuple[Endpoint, ...]
) -> Placement[Endpoint]:
    replacing: Callable[..., Slices[Placement[Endpoint]]] | None
    replacing = getattr(empty, "replacing", None)
    return empty.replace(endpoints) if replacing is None else await in_turns(replacing(endpoints))


def copy_of(error: E) -> E:
    """
    Return *error* without what hangs on it: traceback, cause, context.

    A class of a user's that copies badly is passed on as it is.
    """
    try:
        return copy.copy(error)
    except Exception:  # noqa: BLE001 - whatever its __init__ raises
        return error


_resolve = Resolver.resolve


def _is_its_own(resolver: Resolver) -> bool:
    """
    Does *resolver* look up as `Resolver` does, with no other `resolve` put in its place?
    """
    return type(resolver).resolve is _resolve and "resolve" not in vars(resolver)


_sources: RunVar[WeakValueDictionary[tuple[Resolver, Question], Source]] = RunVar("knet_sources")


def source_of(resolver: ResolverProtocol, question: Question, options: Mapping[str, Any]) -> Source:
    """
    Return this event loop's source for *question*: a new one, or the one that equal rings hold.

    Only `Resolver`s can be told to be equal; a resolver that a user brought is asked by every ring.
    """
    if not isinstance(resolver, Resolver):
        return Source(resolver, question, options)
    sources = _sources.get(None)
    if sources is None:
        sources = WeakValueDictionary()
        _sources.set(sources)
    source = sources.get((resolver, question))
    if source is None:
        source = sources[resolver, question] = Source(resolver, question, options)
    return source
