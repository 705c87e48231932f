"""
Worlds in which answers of different age, or of different servers, are heard in turns.

In each of them the pods change once, and a ring hears what its servers say of it, each of them in its
way. What it makes of that is counted: how often its pods changed, how often one left that was there
all the time, and how long the dead one stayed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from knet import Answer, Endpoint, RefreshPolicy
from knet.belief import Belief, decide

__all__ = ["CHANGE_AT", "WORLDS", "Outcome", "World", "live", "lives"]

CHANGE_AT = 1000.0


def pods(numbers: range | list[int]) -> tuple[Endpoint, ...]:
    found = [Endpoint(f"10.0.0.{n}", f"10.0.0.{n}", 80) for n in numbers]
    return tuple(sorted(found, key=lambda e: e.name))


OLD = pods(range(1, 9))
NEW = pods(range(2, 10))


def truth(now: float) -> tuple[Endpoint, ...]:
    """
    One of eight pods is replaced.
    """
    return NEW if now >= CHANGE_AT else OLD


Truth = Callable[[float], tuple[Endpoint, ...]]


class Server:
    """
    What a query finds: by itself, a server that answers live.
    """

    def __init__(self, ttl: int, of: Truth = truth) -> None:
        self.ttl = ttl
        self.of = of

    def say(self, now: float) -> Answer:
        return Answer(self.of(now), self.ttl)


class Cache(Server):
    """
    A cache that was filled at a random time, and is filled again as soon as it has expired.
    """

    def __init__(self, ttl: int, rng: random.Random, of: Truth = truth) -> None:
        super().__init__(ttl, of)
        self.filled = -rng.uniform(0, ttl)

    def say(self, now: float) -> Answer:
        while now >= self.filled + self.ttl:
            self.filled += self.ttl
        return Answer(self.of(self.filled), int(self.filled + self.ttl - now))


class Frozen(Server):
    """
    A replica that has lost its watch before the pods changed: it says for ever what it knew.
    """

    def say(self, now: float) -> Answer:
        return Answer(OLD, self.ttl)


class Liar(Server):
    """
    It promises a life of weeks for what is true, until just before the pods change.
    """

    def __init__(self, lie: int, ttl: int, of: Truth = truth) -> None:
        super().__init__(ttl, of)
        self.lie = lie

    def say(self, now: float) -> Answer:
        return Answer(self.of(now), self.lie if now < CHANGE_AT - 1 else self.ttl)


class Sampler(Server):
    """
    It names some of its healthy pods at random.
    """

    def __init__(self, some: int, ttl: int, rng: random.Random, of: Truth) -> None:
        super().__init__(ttl, of)
        self.some = some
        self.rng = rng

    def say(self, now: float) -> Answer:
        named = self.rng.sample(self.of(now), self.some)
        return Answer(tuple(sorted(named, key=lambda e: e.name)), self.ttl)


def twenty(now: float) -> tuple[Endpoint, ...]:
    return pods(range(2, 22)) if now >= CHANGE_AT else pods(range(1, 21))


def flapping(now: float) -> tuple[Endpoint, ...]:
    """
    From the change on, one of the pods is unready every other quarter of a minute.
    """
    away = now >= CHANGE_AT and int((now - CHANGE_AT) // 15) % 2 == 0
    return OLD[1:] if away else OLD


def removed(now: float) -> tuple[Endpoint, ...]:
    """
    One of eight pods is gone.
    """
    return OLD[1:] if now >= CHANGE_AT else OLD


def added(now: float) -> tuple[Endpoint, ...]:
    """
    There is one pod more.
    """
    return OLD if now >= CHANGE_AT else OLD[1:]


def restarted(now: float) -> tuple[Endpoint, ...]:
    """
    A pod of a StatefulSet has come back at another address.
    """
    moved = Endpoint("web-1", "10.0.1.1", 80)
    named = [Endpoint(f"web-{n}", f"10.0.0.{n}", 80) for n in range(1, 9)]
    return (moved, *named[1:]) if now >= CHANGE_AT else tuple(named)


@dataclass(frozen=True)
class World:
    servers: Callable[[random.Random], list[Server]]
    of: Truth = truth
    seconds: float = 600.0


WORLDS = {
    "live, TTL 5": World(lambda _: [Server(5)]),
    "one cache, TTL 30": World(lambda r: [Cache(30, r)]),
    "two caches, TTL 30": World(lambda r: [Cache(30, r), Cache(30, r)]),
    "four caches, TTL 30": World(lambda r: [Cache(30, r) for _ in range(4)]),
    "two caches, TTL 300": World(lambda r: [Cache(300, r), Cache(300, r)], seconds=900),
    "four caches, TTL 300": World(lambda r: [Cache(300, r) for _ in range(4)], seconds=900),
    "two caches, TTL 3600": World(lambda r: [Cache(3600, r), Cache(3600, r)], seconds=8000),
    "TTL 30 beside live 5": World(lambda r: [Cache(30, r), Server(5)]),
    "TTL 300 beside 30": World(lambda r: [Cache(300, r), Cache(30, r)], seconds=900),
    "TTL 3600 beside live 5": World(lambda r: [Cache(3600, r), Server(5)], seconds=8000),
    "frozen replica, TTL 30": World(lambda _: [Server(30), Frozen(30)]),
    "frozen replica of three": World(lambda _: [Server(30), Server(30), Frozen(30)]),
    "frozen replica, addresses": World(
        lambda _: [Server(30, restarted), Server(30, lambda _: restarted(0))], of=restarted
    ),
    "a lie of weeks, then live": World(lambda _: [Liar(2_000_000, 5)]),
    "a lie, then one is gone": World(lambda _: [Liar(2_000_000, 5, removed)], of=removed),
    "a lie of an hour, one gone": World(lambda _: [Liar(3600, 5, removed)], of=removed),
    "live 5 beside one that makes up": World(
        lambda _: [Server(5, added), Server(30, lambda _: OLD[1:])], of=added
    ),
    "a lie of an hour, then live": World(lambda _: [Liar(3600, 5)]),
    "8 of 20 at random": World(lambda r: [Sampler(8, 30, r, twenty)], of=twenty),
    "a pod flaps": World(lambda _: [Server(5, flapping)], of=flapping),
}


@dataclass(frozen=True)
class Outcome:
    """
    What a ring made of a world.

    Attributes:
        snapshots: How often its pods changed, from the change on.
        dropped: How many pods left that were there all the time.
        gone_after: Seconds until the dead one had left for good; `math.inf`: never.
        joined_after: Seconds until the new one was served for the first time.
        queries: How often it asked, a second.
    """

    snapshots: int
    dropped: int
    gone_after: float
    joined_after: float
    queries: float


def live(world: World, seed: int, policy: RefreshPolicy | None = None) -> Outcome:
    """
    Live through a *world*.
    """
    policy = policy or RefreshPolicy()
    rng = random.Random(seed)
    servers = world.servers(rng)
    before, after = set(world.of(0.0)), set(world.of(CHANGE_AT + world.seconds))
    belief = Belief()
    # Heard of for long enough that the beginning plays no part.
    now = CHANGE_AT - rng.uniform(200, 205)
    snapshots = dropped = queries = 0
    gone = joined = math.inf
    while now < CHANGE_AT + world.seconds:
        answer = rng.choice(servers).say(now)
        decision = decide(belief, answer, now=now, policy=policy, jitter=rng.random())
        was, served = set(belief.endpoints), set(decision.belief.endpoints)
        belief = decision.belief
        if now >= CHANGE_AT:
            queries += 1
            snapshots += decision.changed
            dropped += len((was - served) & set(world.of(now)))
            gone = math.inf if served & (before - after) else min(gone, now - CHANGE_AT)
            if after - before <= served:
                joined = min(joined, now - CHANGE_AT)
        now += decision.wait
    return Outcome(snapshots, dropped, gone, joined, queries / world.seconds)


def lives(world: World, times: int = 20) -> list[Outcome]:
    return [live(world, seed) for seed in range(times)]


def row(name: str, times: int = 20) -> str:
    """
    A line of the table: medians and the most of each.
    """
    lived = lives(WORLDS[name], times)
    snapshots = [o.snapshots for o in lived]
    gone = [o.gone_after for o in lived]
    joined = [o.joined_after for o in lived]
    return (
        f"{name:32} {median(snapshots):5.0f} {max(snapshots):5}"
        f" {sum(o.dropped for o in lived) / times:8.2f}"
        f" {median(gone):7.0f} {max(gone):6.0f} {median(joined):8.0f} {max(joined):6.0f}"
        f" {median(o.queries for o in lived):8.2f}"
    )


def table(times: int = 20) -> Iterator[str]:
    """
    Show all worlds.
    """
    yield f"{'':32}   snapshots  dropped    gone after    joined after  queries/s"
    for name in WORLDS:
        yield row(name, times)


if __name__ == "__main__":
    for line in table():
        print(line)
