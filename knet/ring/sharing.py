"""
What rings of one question have in common: their lookups, and the placements made of them.

A program may open a ring for every tenant, plug-in or connection, and many of them on the same
Service. Each of them decides for itself what to believe. But whatever one of them has just heard,
the others need not ask for again, and what one has built the others can use, since it is frozen.
So ten thousand rings of one name send one query and keep one table.

A `SharedLookup` belongs to one event loop and lives as long as a ring holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

from knet.endpoint import Endpoint
from knet.errors import ResolveError
from knet.hashring import Placement
from knet.hashring.base import replacing
from knet.promise import Promise, copy_of
from knet.question import Question
from knet.resolver import Answer, Resolver
from knet.sources import Ask
from knet.turns import turns

__all__ = ["Build", "Heard", "Make", "SharedLookup", "lookup_of"]

Make = Callable[[tuple[Endpoint, ...]], Placement[Endpoint]]


@dataclass(frozen=True, slots=True)
class Heard:
    """
    What a lookup told, and when: seconds on the event loop's clock.

    Attributes:
        told: The answer, or how the lookup failed.
        asked_at: When it began. What happened since is not in it.
        told_at: When it ended.
    """

    told: Answer | ResolveError
    asked_at: float
    told_at: float

    def again(self) -> Heard:
        """
        Return this for another ring. An error is copied, because raising it adds that ring's
        traceback.
        """
        if isinstance(self.told, ResolveError):
            return replace(self, told=copy_of(self.told))
        return self


class SharedLookup:
    """
    Where rings with the same question get answers and placements; `lookup_of` finds it.
    """

    __slots__ = ("__weakref__", "_ask", "_builds", "_flight", "_last", "_question")

    def __init__(self, ask: Ask, question: Question) -> None:
        self._ask = ask
        self._question = question
        self._flight: Promise[None] | None = None
        self._last: Heard | None = None
        self._builds: WeakValueDictionary[int, Build] = WeakValueDictionary()

    async def ask(self, since: float) -> Heard:
        """
        Return what a lookup told that began at *since* or later; begin one if there is none.

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
            await self._flight.settled()

    async def _ask_now(self) -> Heard:
        flight = self._flight = Promise[None]()
        asked_at = anyio.current_time()
        told: Answer | ResolveError
        try:
            try:
                told = await self._ask(self._question)
            except ResolveError as error:
                told = error
            else:
                if not isinstance(told, Answer):
                    raise TypeError(
                        f"the resolver of {self._question} returned {type(told).__name__}: write "
                        "`return knet.Answer(endpoints)`"
                    )
                told = _with_port(told, self._question.port)
            heard = Heard(told, asked_at, anyio.current_time())
            self._last = heard.again()  # an error without its traceback, and all that hangs on it
        finally:
            self._flight = None
            flight.keep(None)
        return heard

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
            await build.over.settled()
            if build.is_done:
                return build
        build = self._builds[id(make)] = Build(make, endpoints)
        try:
            build.placement = await turns.take(replacing(empty, endpoints))
            build.is_done = True
        finally:
            if not build.is_done and self._builds.get(id(make)) is build:
                del self._builds[id(make)]
            build.over.keep(None)
        return build


class Build:
    """
    A *placement* of *endpoints*, once it is done, and those who wait for it.
    """

    __slots__ = ("__weakref__", "endpoints", "is_done", "make", "over", "placement")

    placement: Placement[Endpoint]

    def __init__(self, make: Make, endpoints: tuple[Endpoint, ...]) -> None:
        self.make = make
        self.endpoints = endpoints
        self.is_done = False
        self.over: Promise[None] = Promise()


def _with_port(answer: Answer, port: int | str | None) -> Answer:
    """
    Return *answer* with the port of the question where an endpoint has none.
    """
    if not isinstance(port, int) or all(e.port is not None for e in answer.endpoints):
        return answer
    filled = (replace(e, port=port) if e.port is None else e for e in answer.endpoints)
    return Answer(
        filled,
        answer.ttl,
        gap=answer.gap,
        gap_reason=answer.gap_reason,
        name=answer.name,
        ignored=answer.ignored,
    )


_Shared = WeakValueDictionary[tuple[Resolver, Question], SharedLookup]

_lookups: RunVar[_Shared] = RunVar("knet_lookups")


def lookup_of(resolver: object, ask: Ask, question: Question) -> SharedLookup:
    """
    Return this event loop's lookup for *question*: a new one, or the one that equal rings hold.

    Only `Resolver`s can be told to be equal; a resolver that a user brought is asked by every ring.

    Args:
        resolver: Who is asked.
        ask: What asks it, as `knet.sources.asking` returns it.
        question: Which pods are wanted.
    """
    if not isinstance(resolver, Resolver):
        return SharedLookup(ask, question)
    lookups = _lookups.get(None)
    if lookups is None:
        lookups = WeakValueDictionary()
        _lookups.set(lookups)
    lookup = lookups.get((resolver, question))
    if lookup is None:
        lookup = lookups[resolver, question] = SharedLookup(ask, question)
    return lookup
