"""
What rings of one question have in common: their lookups, and the placements made of them.

A program may open a ring for every tenant, plug-in or connection, and many of them on the same
Service. Each of them decides for itself what to believe. But whatever one of them has just heard,
the others need not ask for again, and what one has built the others can use, since it is frozen.
So ten thousand rings of one name send one query and keep one table.

What is shared belongs to one event loop and lives as long as a ring holds it: `shared`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import is_not
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

from knet.answer import with_endpoints
from knet.endpoint import Endpoint
from knet.errors import ResolveError
from knet.hashring import Placement
from knet.hashring.base import replacing
from knet.hashring.steps import Steps
from knet.promise import Promise, copy_of
from knet.question import Question
from knet.resolver import Answer, Resolver
from knet.sources import Ask, is_streaming
from knet.turns import turns

__all__ = ["Build", "Builds", "Heard", "Make", "Reuse", "SharedLookup", "lookup_of", "shared"]

# About 0.05 ms of work.
_ENDPOINTS_PER_SLICE = 64

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
    Where rings with the same question get answers; `lookup_of` finds it.
    """

    __slots__ = ("__weakref__", "_ask", "_flight", "_last", "_question", "_reuse")

    def __init__(self, ask: Ask, question: Question) -> None:
        self._ask = ask
        self._question = question
        self._flight: Promise[None] | None = None
        self._last: Heard | None = None
        self._reuse = Reuse()

    async def ask(self, since: float, pause: float = 0.0) -> Heard:
        """
        Return what a lookup told that began at *since* or later; begin one if there is none.

        There is one at a time, and the next begins *pause* seconds after the last did, or later. Who
        comes too late to take part in one shares the next with all others who did. So however many
        rings are told to ask at once, and however often, the servers are not asked more often than one
        of them would ask.

        Raises:
            Exception: Whatever a resolver raises that is no `ResolveError`.
        """
        while True:
            last = self._last
            if last is not None and last.asked_at >= since:
                return last.again()
            if self._flight is None:
                return await self._ask_now(pause)
            # If whoever asks gives up, the next one of those who wait here asks again.
            await self._flight.settled()

    async def _ask_now(self, pause: float) -> Heard:
        flight = self._flight = Promise[None]()
        told: Answer | ResolveError
        try:
            if pause and self._last is not None:
                await anyio.sleep_until(self._last.asked_at + pause)
            asked_at = anyio.current_time()
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
                told = await self._reuse.of(told, self._question.port)
            heard = Heard(told, asked_at, anyio.current_time())
            self._last = heard.again()  # an error without its traceback, and all that hangs on it
        finally:
            self._flight = None
            flight.keep(None)
        return heard


class Reuse:
    """
    What makes answers to one question alike: each with its port, and with the endpoints that it has in common
    with the last one as the same objects.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: tuple[Endpoint, ...] = ()

    async def of(self, answer: Answer, port: int | str | None) -> Answer:
        """
        Return *answer*, to a question with *port*, made alike.
        """
        answer = _with_port(answer, port)
        endpoints, known = answer.endpoints, self._known
        if not endpoints:
            return answer
        if len(endpoints) != len(known) or any(map(is_not, endpoints, known)):
            endpoints = await turns.take(_reusing(endpoints, known))
            answer = with_endpoints(answer, endpoints)
        self._known = endpoints
        return answer


class Builds:
    """
    Where rings with the same question get their placements.
    """

    __slots__ = ("__weakref__", "_builds")

    def __init__(self) -> None:
        self._builds: WeakValueDictionary[int, Build] = WeakValueDictionary()

    async def build(
        self, make: Make, last: Placement[Endpoint], endpoints: tuple[Endpoint, ...]
    ) -> Build:
        """
        Return a placement of *endpoints* that replaces *last*, built in slices if it can be.

        Others can have it too for as long as somebody keeps what is returned: theirs came of what *make*
        made, as *last* did, and a placement has no memory.
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
            build.placement = await turns.take(replacing(last, endpoints))
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


def _reusing(
    endpoints: Sequence[Endpoint], known: Sequence[Endpoint]
) -> Steps[tuple[Endpoint, ...]]:
    """
    Return *endpoints* in steps, those that equal a *known* one as that very object.

    Whoever compares them later can do so by identity, which takes a hundredth of the time.
    """
    if endpoints is known:
        return tuple(endpoints)
    before: dict[str, Endpoint] = {}
    for low in range(0, len(known), _ENDPOINTS_PER_SLICE):
        before |= {e.name: e for e in known[low : low + _ENDPOINTS_PER_SLICE]}
        yield
    same: list[Endpoint] = []
    for low in range(0, len(endpoints), _ENDPOINTS_PER_SLICE):
        same += [_known(e, before) for e in endpoints[low : low + _ENDPOINTS_PER_SLICE]]
        yield
    return tuple(same)


def _known(endpoint: Endpoint, before: Mapping[str, Endpoint]) -> Endpoint:
    known = before.get(endpoint.name)
    return known if known is not None and known == endpoint else endpoint


def _with_port(answer: Answer, port: int | str | None) -> Answer:
    """
    Return *answer* with the port of the question where an endpoint has none.
    """
    if not isinstance(port, int) or all(e.port is not None for e in answer.endpoints):
        return answer
    filled = [replace(e, port=port) if e.port is None else e for e in answer.endpoints]
    return with_endpoints(answer, tuple(filled))


T = TypeVar("T")

_known_here: RunVar[WeakValueDictionary[tuple[object, ...], Any]] = RunVar("knet_shared")


def shared(kind: type[T], make: Callable[[], T], source: object, *of: object) -> T:
    """
    Return what *make* makes: a new one, or the one that somebody on this event loop holds.

    Only some sources can be told to be equal, `Resolver`s and those with streams; what belongs to another
    source is made anew for every ring.

    Args:
        kind: What it is.
        make: Makes it.
        source: Who is asked or tells.
        of: What else tells one from another; hashable.
    """
    if not isinstance(source, Resolver) and not is_streaming(source):
        return make()
    known = _known_here.get(None)
    if known is None:
        known = WeakValueDictionary()
        _known_here.set(known)
    key = (kind, source, *of)
    found: T | None = known.get(key)
    if found is None:
        found = known[key] = make()
    return found


def lookup_of(resolver: object, ask: Ask, question: Question) -> SharedLookup:
    """
    Return this event loop's lookup for *question*: a new one, or the one that equal rings hold.

    Args:
        resolver: Who is asked.
        ask: What asks it, as `knet.sources.asking` returns it.
        question: Which pods are wanted.
    """
    return shared(SharedLookup, lambda: SharedLookup(ask, question), resolver, question)
