"""
A cluster whose pods come and go, and the servers that tell of it: the truth, old news or nothing.

Scripted by chance from a seed, on whatever clock the event loop has. Knows nothing of rings.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, Literal, get_args

import anyio

from knet import (
    Answer,
    Endpoint,
    MalformedAnswer,
    NameNotFound,
    NoData,
    QueryRefused,
    ResolveError,
    ResolveTimeout,
    ServerFailure,
    ServerUnreachable,
)

__all__ = ["Cluster", "Sky", "Weather"]

Weather = Literal[
    "clear",
    "cached",  # several servers with caches of different age, asked in turns
    "slow",
    "nxdomain",
    "nodata",
    "empty",
    "cut off at nothing",
    "cut off",
    "half read",  # an answer that seems whole, from a server that has not read every slice
    "servfail",
    "silence",
    "refused",
    "malformed",
    "unreachable",
    "odd ttl",
    "buggy",
    "mixed",
]
_WEATHERS: tuple[Weather, ...] = get_args(Weather)

_MOST = 40
# Few enough addresses that each is used again and again, by another pod.
_ADDRESSES = [f"10.0.{n // 100}.{n % 100 + 1}" for n in range(3 * _MOST)]
_ODD_TTLS = (None, -5.0, 0.0, 0.25, 1e9, math.inf, -math.inf)

_Churn = Literal["up", "down", "restart one", "roll", "restart all", "zero", "refill"]


class Cluster:
    """
    The pods of one service, as Kubernetes knows them.

    Attributes:
        pods: Those that are ready, by name.
        stateful: Whether a pod that restarts keeps its name.
    """

    def __init__(self, rng: random.Random, *, stateful: bool) -> None:
        self._rng = rng
        self.stateful = stateful
        self.pods: tuple[Endpoint, ...] = ()
        self.scale(6)

    def scale(self, count: int) -> None:
        """
        Make it *count* pods, the oldest of which stay.
        """
        pods = list(self.pods)[:count]
        while len(pods) < count:
            pods.append(self._born(pods))
        self._put(pods)

    def reset(self, count: int) -> None:
        """
        The same *count* pods whenever this is called.
        """
        self.pods = ()
        self._put([self._pod(n, _ADDRESSES[n]) for n in range(count)])

    def upset(self) -> None:
        """
        Restart half of the pods, or lose all of them.
        """
        if self._rng.random() < 0.25:
            self.scale(0)
        else:
            self.scale(max(2, len(self.pods)))
            for at in range(0, len(self.pods), 2):
                self._restart(at)

    async def churn(self) -> None:
        """
        Do what is done to pods, one thing after the other, for ever.
        """
        rng = self._rng
        things: tuple[_Churn, ...] = get_args(_Churn)
        while True:
            await anyio.sleep(rng.expovariate(1 / 120))
            match rng.choices(things, (6, 6, 8, 2, 1, 0.5, 2))[0]:
                case "up":
                    self.scale(min(_MOST, len(self.pods) + rng.randint(1, 4)))
                case "down":
                    self.scale(max(1, len(self.pods) - rng.randint(1, 4)))
                case "restart one" if self.pods:
                    self._restart(rng.randrange(len(self.pods)))
                case "roll":
                    for at in range(len(self.pods)):
                        self._restart(at)
                        await anyio.sleep(rng.expovariate(1 / 3))
                case "restart all":
                    for at in range(len(self.pods)):
                        self._restart(at)
                case "zero":
                    before = len(self.pods)
                    self.scale(0)
                    await anyio.sleep(rng.expovariate(1 / 60))
                    self.scale(before)
                case _:
                    self.scale(max(3, len(self.pods)))

    def _restart(self, at: int) -> None:
        pods = list(self.pods)
        if at < len(pods):
            old = pods.pop(at)
            ordinal = int(old.name.rpartition("-")[2]) if self.stateful else 0
            pods.insert(at, self._born(self.pods, ordinal=ordinal))
            self._put(pods)

    def _born(
        self, others: list[Endpoint] | tuple[Endpoint, ...], *, ordinal: int | None = None
    ) -> Endpoint:
        used = {pod.address for pod in others}
        address = self._rng.choice([a for a in _ADDRESSES if a not in used])
        if ordinal is None:
            taken = {pod.name for pod in others}
            ordinal = next(n for n in range(_MOST) if self._pod(n, address).name not in taken)
        return self._pod(ordinal, address)

    def _pod(self, ordinal: int, address: str) -> Endpoint:
        return Endpoint(f"web-{ordinal:02d}" if self.stateful else address, address, 8080)

    def _put(self, pods: list[Endpoint]) -> None:
        self.pods = tuple(sorted(pods, key=lambda pod: pod.name))


class Sky:
    """
    What the servers of a cluster say, through the present weather.

    Attributes:
        cluster: What is true.
        weather: What stands between it and an answer.
        ttl: Seconds that a server may keep an answer; 0 answers live.
        bugs: How often a resolver's own mistake was raised.
    """

    def __init__(self, rng: random.Random, cluster: Cluster, *, ttl: int) -> None:
        self._rng = rng
        self.cluster = cluster
        self.ttl = ttl
        self.bugs = 0
        self.weather: Weather = "clear"
        # Of each server: what its cache holds, and until when.
        self._caches: list[tuple[tuple[Endpoint, ...], float]] = [((), -math.inf)] * 3

    async def change(self) -> None:
        """
        Be fair and foul in turns, for ever.
        """
        rng = self._rng
        while True:
            self.weather = rng.choice(_WEATHERS)
            await anyio.sleep(rng.expovariate(1 / 80))
            self.weather = "clear"
            await anyio.sleep(rng.expovariate(1 / 40))

    def clear(self) -> None:
        """
        Let every answer be the truth from now on.
        """
        self.weather = "clear"
        self._caches = [((), -math.inf)] * len(self._caches)

    async def say(self) -> Answer:
        """
        Answer, or fail, as the weather is.
        """
        weather = self.weather
        if weather == "mixed":
            weather = self._rng.choice(_WEATHERS)
        if weather == "silence":
            await anyio.sleep(5.0)
            raise ResolveTimeout("no answer within 5 s")
        # What was true when it was asked.
        pods = self.cluster.pods
        await anyio.sleep(self._rng.uniform(0.0, 8.0) if weather == "slow" else 0.001)
        return self._answer(weather, pods)

    def _answer(self, weather: Weather, pods: tuple[Endpoint, ...]) -> Answer:
        rng = self._rng
        some = tuple(pod for pod in pods if rng.random() < 0.5)
        match weather:
            case "cached":
                return self._cached(rng.randrange(len(self._caches)))
            case "empty":
                return Answer()
            case "cut off at nothing":
                return Answer((), self.ttl, gap="targets")
            case "cut off":
                return Answer(some, self.ttl, gap="targets")
            case "half read" if some:
                return Answer(some, self.ttl)
            case "odd ttl" if pods:
                return Answer(pods, rng.choice(_ODD_TTLS))
            case "buggy":
                self.bugs += 1
                wrong: Any = rng.choice(_BUGS)()
                return wrong  # type: ignore[no-any-return]
            case _ if weather in _FAILURES:
                raise _FAILURES[weather](weather)
        if not pods:
            raise NameNotFound("NXDOMAIN, for there is no pod")
        return Answer(pods, self.ttl)

    def _cached(self, server: int) -> Answer:
        now = anyio.current_time()
        pods, until = self._caches[server]
        if now >= until:
            pods, until = self.cluster.pods, now + self.ttl
            self._caches[server] = pods, until
        if not pods:
            raise NameNotFound("NXDOMAIN, from a cache")
        return Answer(pods, math.ceil(until - now))


_FAILURES: dict[str, Callable[[str], ResolveError]] = {
    "nxdomain": NameNotFound,
    "nodata": NoData,
    "servfail": ServerFailure,
    "refused": QueryRefused,
    "malformed": MalformedAnswer,
    "unreachable": ServerUnreachable,
}


def _raise(error: Exception) -> None:
    raise error


# What resolvers that people wrote may do: raise whatever, or answer with no answer.
_BUGS: tuple[Callable[[], object], ...] = (
    lambda: _raise(KeyError("address")),
    lambda: _raise(ZeroDivisionError("division by zero")),
    lambda: _raise(TimeoutError()),
    lambda: _raise(ConnectionResetError(104, "Connection reset by peer")),
    lambda: _raise(ExceptionGroup("several", [ValueError("one"), TypeError("two")])),
    lambda: _raise(RuntimeError("x" * 5000)),
    lambda: None,
    lambda: ["10.0.0.1:8080"],
    lambda: Answer([Endpoint("a", "10.0.0.1"), Endpoint("a", "10.0.0.2")]),
    lambda: Answer([Endpoint("nobody", "10.9.9.9")], "soon"),  # type: ignore[arg-type]
)
