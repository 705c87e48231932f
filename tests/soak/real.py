"""
Thousands of refreshes on the c-ares engine, against servers whose faults go on and off at random.

Dozens of rings stand for the whole of it, several of equal names; others come and go. Storms and times
of rest take turns. At rest the faults are healed, every ring has to come to the truth, and then the
process has to hold what it held at the last rest: tasks, threads, descriptors, memory.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args
from unittest import mock

import anyio

from knet import (
    Endpoint,
    NoEndpoints,
    RefreshPolicy,
    ResolveError,
    Resolver,
    Ring,
    RingClosed,
)
from knet.belief import age, disputes
from knet.testing import FaultKind, Pod
from tests.soak.figures import Level, Report, listening, listening_to_loop
from tests.soak.servers import SERVICES, Servers, State, running

__all__ = ["soak"]

KEYS = [f"user-{n}" for n in range(200)]
POLICY = RefreshPolicy(interval=0.15, min_interval=0.05, retry=0.1, max_retry=0.5, empty_hold=0.6)
# Silence ends after this, so that a storm is more than a few lookups long.
DEADLINE = 0.7
HTTP = 8080
PODS_AT_REST = 8
# Far more than it takes: the machine may be busy.
PATIENCE = 30.0
_LONGEST_STORM = 4.0
_SHELTER = 4

_NOTHINGS = ("NXDOMAIN", "NODATA")
_FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True, slots=True)
class Kind:
    """
    What a ring asks for, and so what it should know.
    """

    service: str
    spelling: str
    port: int | str | None = HTTP
    family: str = "auto"

    def truth(self, pods: Sequence[Pod]) -> tuple[Endpoint, ...]:
        """
        What a ring of this kind should serve while *pods* are there.
        """
        ready = [pod for pod in pods if pod.ready]
        there = {":" in address for pod in ready for address in pod.addresses}
        wants_ipv6 = self.family == "ipv6" or (self.family == "auto" and False not in there)
        found = []
        for pod in ready:
            for address in pod.addresses:
                if (":" in address) == wants_ipv6:
                    named = self.port == "http" and pod.hostname is not None
                    name = f"{pod.hostname}.{self.service}.svc.cluster.local" if named else address
                    port = HTTP if self.port == "http" else self.port
                    assert not isinstance(port, str)
                    found.append(Endpoint(name, address, port))
        return tuple(sorted(found, key=lambda e: e.name))


KINDS = [
    *[Kind("web.prod", "web.prod")] * 4,
    *[Kind("web.prod", "web.prod.svc.cluster.local", "http")] * 3,
    Kind("web.prod", "web.prod.svc.cluster.local."),
    Kind("web.prod", "web.prod", None),
    Kind("web.prod", "web.prod", HTTP, "ipv6"),
    Kind("web.prod", "web.prod", "http", "ipv6"),
    Kind("web.prod", "web.prod", "http", "ipv4"),
    *[Kind("db.prod", "db.prod", "http")] * 4,
    *[Kind("db.prod", "db.prod.svc")] * 3,
    Kind("db.prod", "db.prod", HTTP, "ipv4"),
]


@dataclass(slots=True)
class Service:
    """
    What the harness knows of one service: its pods at each replica, and what may be heard of it.
    """

    name: str
    states: list[State]
    may_be_empty: bool = False
    addresses: set[str] = field(default_factory=set)
    # What one replica has not heard of yet.
    behind: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)


@dataclass(slots=True)
class Standing:
    """
    A ring, and the highest generation that was seen of it.
    """

    kind: Kind
    ring: Ring
    began: float
    generation: int = 0


class Soak:
    """
    One run on one event loop.
    """

    def __init__(self, report: Report, servers: Servers, seed: int) -> None:
        self._report = report
        self._servers = servers
        self._seed = seed
        self._rng = random.Random(seed)
        self.services = {
            name: Service(name, [servers.look((name, n)) for n in range(2)]) for name in SERVICES
        }
        for service in self.services.values():
            self._note(service)
        self._closed: set[tuple[str, int]] = set()
        self._resolvers = {
            name: [self._resolver(name, order) for order in ((0, 1), (0, 1), (1, 0), (0,), (1,))]
            for name in SERVICES
        }
        self.standing: list[Standing] = []
        self.lookups = 0
        self.picks = 0
        self.refused = 0
        self.visits = 0
        self.cancelled = 0
        self.faults = 0
        self.failures = 0
        self.generations = 0
        self.queries = 0
        self.healed: list[float] = []

    def _resolver(self, service: str, order: Sequence[int], **options: Any) -> Resolver:
        nameservers = [self.services[service].states[n].nameserver for n in order]
        settings = {"timeout": 0.1, "tries": 3, "deadline": DEADLINE, **options}
        return Resolver(nameservers=nameservers, **settings)

    def check(self, holds: bool, what: str) -> None:
        self._report.check(holds, what)

    # --- the servers

    def _do(self, server: tuple[str, int], what: str, *args: Any, **options: Any) -> None:
        service = self.services[server[0]]
        service.states[server[1]] = self._servers.do(server, what, *args, **options)
        self._note(service)

    @staticmethod
    def _note(service: Service) -> None:
        for state in service.states:
            service.addresses.update(a for pod in state.pods for a in pod.addresses)
            service.may_be_empty |= not any(pod.ready for pod in state.pods)

    def _change(self, service: Service, what: str, *args: Any) -> None:
        """
        Change the pods at one replica now, and at the other later.
        """
        self._do((service.name, 0), what, *args)
        service.behind.append((what, args))

    def _catch_up(self, service: Service) -> None:
        while service.behind:
            what, args = service.behind.pop(0)
            self._do((service.name, 1), what, *args)

    async def _churn(self, service: Service, rng: random.Random) -> None:
        while True:
            await anyio.sleep(rng.expovariate(4))
            self._churn_once(service, rng)
            if rng.random() < 0.5:
                self._catch_up(service)

    def _churn_once(self, service: Service, rng: random.Random) -> None:
        pods = service.states[0].pods
        one = rng.choice(pods) if pods else None
        name = None if one is None else (one.hostname or one.addresses[0])
        match rng.randrange(9):
            case 0 | 1 if name:
                self._change(service, "replace", name)
            case 2 if name:
                self._change(service, "remove", name)
            case 3 if name:
                self._change(service, "unready", name)
            case 4 if name:
                self._change(service, "ready", name)
            case 5 if service.name == "web.prod" and rng.random() < 0.2:
                self._change(service, "scale", 100)  # more than a datagram holds
            case 6:
                for pod in pods:
                    self._change(service, "replace", pod.hostname or pod.addresses[0])
            case 7 if rng.random() < 0.3:
                self._change(service, "scale", 0)
            case _:
                self._change(service, "scale", rng.randint(1, 16))

    async def _break(self, server: tuple[str, int], rng: random.Random) -> None:
        """
        Let one server have one fault after the other.
        """
        service = self.services[server[0]]
        while True:
            await anyio.sleep(rng.expovariate(3))
            self.faults += 1
            match rng.randrange(10):
                case 0 | 1 | 2 | 3:
                    kind, transport = rng.choice(_FAULTS), rng.choice((None, None, "udp", "tcp"))
                    # An answer that is cut off at nothing, over TCP, looks like one that is whole.
                    cut = kind == "TRUNCATE" and transport == "tcp"
                    service.may_be_empty |= kind in _NOTHINGS or cut
                    self._do(
                        server, "fail", kind,
                        times=rng.choice((None, None, 1, 3, 10)),
                        rdtype=rng.choice((None, None, "A", "AAAA", "SRV")),
                        transport=transport,
                    )  # fmt: skip
                case 4:
                    self._do(server, "delay", rng.choice((0.0, 0.01, 0.1, 0.3, 1.0)))
                case 5 if server not in self._closed:
                    self._do(server, "set_tcp", False)
                case 6 if server not in self._closed:
                    self._closed.add(server)
                    self._do(server, "close")
                case 7:
                    self._do(server, "set_ttl", rng.randint(0, 2))
                case _:
                    self._open(server)

    def _open(self, server: tuple[str, int]) -> None:
        if server in self._closed:
            self._do(server, "start")
            self._closed.discard(server)
        self._do(server, "heal")

    # --- rings that stand

    async def open(self) -> None:
        """
        Start a ring of each kind.
        """
        for number, kind in enumerate(KINDS):
            resolvers = self._resolvers[kind.service]
            ring = self._ring(kind, resolvers[number % len(resolvers)])
            self.standing.append(Standing(kind, ring, anyio.current_time()))
        async with anyio.create_task_group() as tasks:
            for one in self.standing:
                tasks.start_soon(one.ring.start)

    def _ring(self, kind: Kind, resolver: Resolver, **options: Any) -> Ring:
        family: Any = kind.family
        return Ring(
            kind.spelling, port=kind.port, family=family, resolver=resolver,
            **{"refresh": POLICY, **options},
        )  # fmt: skip

    async def close(self) -> None:
        """
        Close them all.
        """
        for one in self.standing:
            stats = one.ring.stats()
            lived = anyio.current_time() - one.began
            most = lived / POLICY.shortest + 2
            self.check(stats.lookups <= most, f"{stats.lookups} lookups in {lived:.1f} s")
            self.lookups += stats.lookups
            self.failures += sum(stats.failures.values())
            self.generations += stats.generation
            await one.ring.aclose()
        self.standing.clear()

    @property
    def refreshes(self) -> int:
        """
        How many lookups there were so far by rings.
        """
        return self.lookups + sum(one.ring.stats().lookups for one in self.standing)

    # --- what happens in a storm

    async def storm(self, seconds: float) -> None:
        """
        Let everything happen at once.
        """
        async with anyio.create_task_group() as tasks:

            def begin(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
                tasks.start_soon(partial(work, *args, random.Random(self._rng.random())))

            for service in self.services.values():
                begin(self._churn, service)
                for number in range(len(service.states)):
                    begin(self._break, (service.name, number))
            for work in (self._pick, self._look_up, self._follow):
                begin(work)
                begin(work)
            for work in (self._ask, self._visit):
                for _ in range(5):
                    begin(work)
            await anyio.sleep(seconds)
            tasks.cancel_scope.cancel()

    async def _pick(self, rng: random.Random) -> None:
        while True:
            await anyio.sleep(0.01)
            await self._pick_once(rng.choice(self.standing), rng)

    async def _pick_once(self, one: Standing, rng: random.Random) -> None:
        service, ring = self.services[one.kind.service], one.ring
        self.picks += 1
        generation = ring.snapshot.generation
        self.check(generation >= one.generation, f"{ring!r} was at generation {one.generation}")
        one.generation = generation
        try:
            pod = await ring.get(rng.choice(KEYS))
            self.check(pod.address in service.addresses, f"{ring!r} gave {pod}, which never was")
        except NoEndpoints:
            self.refused += 1
            self.check(service.may_be_empty, f"{ring!r} is empty, and nobody said so")
            self.check(ring.state == "empty", f"{ring!r} has no endpoints")

    async def _ask(self, rng: random.Random) -> None:
        while True:
            await anyio.sleep(rng.expovariate(5))
            one = rng.choice(self.standing)
            with anyio.move_on_after(rng.choice((0.0, 0.0005, 0.01, 0.1, 5.0))) as scope:
                with contextlib.suppress(ResolveError):
                    await one.ring.refresh()
            self.cancelled += scope.cancelled_caught

    async def _look_up(self, rng: random.Random) -> None:
        while True:
            await anyio.sleep(rng.expovariate(5))
            kind = rng.choice(KINDS)
            with anyio.move_on_after(rng.choice((0.0, 0.0005, 0.002, 0.1, 5.0))) as scope:
                with contextlib.suppress(ResolveError):
                    resolver = rng.choice(self._resolvers[kind.service])
                    await resolver.resolve(kind.spelling, port=kind.port)
            self.cancelled += scope.cancelled_caught

    async def _follow(self, rng: random.Random) -> None:
        while True:
            one = rng.choice(self.standing)
            with anyio.move_on_after(rng.expovariate(1)):
                async for change in one.ring.changes():
                    before, after = change.before.generation, change.after.generation
                    self.check(after > before, f"a change from generation {before} to {after}")
                    await anyio.sleep(rng.expovariate(2))

    async def _visit(self, rng: random.Random) -> None:
        """
        Open a ring and leave it again, in every way there is.
        """
        while True:
            await anyio.sleep(rng.expovariate(3))
            kind = rng.choice(KINDS)
            resolver = rng.choice(self._resolvers[kind.service])
            if rng.random() < 0.3:  # an engine of its own
                resolver = self._resolver(kind.service, (1, 0), timeout=rng.uniform(0.05, 0.3))
            ring = self._ring(kind, resolver, start_timeout=rng.uniform(0.05, 2.0))
            patience = rng.choice((0.0, 0.0005, 0.002, 0.05, 1.0, 5.0))
            try:
                with anyio.move_on_after(patience) as scope:
                    await self._stay(ring, rng)
                self.cancelled += scope.cancelled_caught
            except* Exception as several:
                # Beside them may be a cancellation, which goes on.
                self.check(_is_expected(several), f"a visitor met {several!r}")
            finally:
                with anyio.CancelScope(shield=True):
                    await ring.aclose()
                self.visits += 1
                self.lookups += ring.stats().lookups

    async def _stay(self, ring: Ring, rng: random.Random) -> None:
        match rng.randrange(3):
            case 0:
                async with ring:
                    await anyio.sleep(rng.expovariate(2))
            case 1:
                await ring.start()
                await anyio.sleep(rng.expovariate(2))
                await ring.refresh()
            case _:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ring.run)
                    await ring.get("user-42")
                    await anyio.sleep(rng.expovariate(2))
                    await ring.aclose()

    # --- and at rest

    async def clear(self) -> None:
        """
        Change the pods once more, heal everything, and see every ring come to the truth.
        """
        for service in self.services.values():
            self._churn_once(service, self._rng)
        for service in self.services.values():
            self._catch_up(service)
            for number in range(len(service.states)):
                self._open((service.name, number))
                self._do((service.name, number), "set_ttl", 1)
        self.healed.append(await self._agreement())
        for service in self.services.values():
            # As many pods at every rest, so that what is measured is of equal states.
            for number in range(len(service.states)):
                self._do((service.name, number), "scale", 0)
                self._do((service.name, number), "scale", PODS_AT_REST)
                self.queries += self._servers.count((service.name, number))
        await self._agreement()
        for service in self.services.values():
            service.may_be_empty = False
            service.addresses.clear()
            self._note(service)

    async def _agreement(self) -> float:
        """
        Wait until every ring serves the truth; return the seconds that the last of them took.
        """
        began = time.perf_counter()
        for service in self.services.values():
            first, second = (state.pods for state in service.states)
            self.check(first == second, f"the replicas of {service.name} differ: a harness bug")
        for one in self.standing:
            truth = one.kind.truth(self.services[one.kind.service].states[0].pods)
            state = "fresh" if truth else "empty"
            with anyio.move_on_after(PATIENCE):
                while one.ring.snapshot.endpoints != truth or one.ring.state != state:
                    await anyio.sleep(0.005)
            self.check(
                one.ring.snapshot.endpoints == truth and one.ring.state == state,
                f"{one.ring!r} of {one.kind} is not at the truth, {PATIENCE} s after the clearing: "
                f"{one.ring.stats()}",
            )
        return time.perf_counter() - began


def _is_expected(error: BaseException) -> bool:
    """
    Whether a ring that starts in a storm may end like this.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_expected, error.exceptions))
    return isinstance(error, ResolveError | RingClosed | NoEndpoints)


@dataclass(slots=True)
class Rests:
    """
    What was held at each time of rest of one sort, and after how many refreshes.
    """

    report: Report
    counted: list[tuple[int, int, int]] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    refreshes: list[int] = field(default_factory=list)

    async def add(self, refreshes: int) -> None:
        """
        Wait until tasks, threads and descriptors are what they were at the first rest, and look.

        A lookup under way has a socket for a moment, so that the first time the least counts.
        """
        first = self.counted[0] if self.counted else None
        now = Level.counted()
        if first is None:
            looks = [now]
            for _ in range(150):
                await anyio.sleep(0.005)
                looks.append(Level.counted())
            columns = zip(*looks, strict=True)
            now = min(next(columns)), min(next(columns)), min(next(columns))
        else:
            with anyio.move_on_after(PATIENCE):
                while (now := Level.counted()) != first:
                    await anyio.sleep(0.005)
            if now != first:
                tasks = Counter(task.name for task in anyio.get_running_tasks())
                self.report.breach(f"{now} tasks, threads, descriptors after {first}: {tasks}")
        self.counted.append(now)
        self.levels.append(Level.now())
        self.refreshes.append(refreshes)

    def write(self, where: str) -> None:
        """
        Say what was held.
        """
        seen = sorted(set(self.counted))
        self.report.row(
            f"tasks, threads, descriptors {where}",
            "; ".join(", ".join(map(str, one)) for one in seen),
            f"the same, {len(self.counted)} times",
            holds=len(seen) == 1,
        )


async def soak(report: Report, *, seed: int, refreshes: int, seconds: float) -> None:
    """
    Storm and rest in turns until there were so many *refreshes*, or so many *seconds* have passed.
    """
    random.seed(seed)
    rng = random.Random(seed)
    with (
        running(seed) as servers,
        listening(report),
        listening_to_loop(report),
        # A day of the defaults in a minute: what takes a minute there takes a second here.
        mock.patch.object(disputes, "UNNAMED", 1.0),
        mock.patch.object(age, "LONGEST_UNHEARD", 1.0),
    ):
        run = Soak(report, servers, seed)
        standing, closed = Rests(report), Rests(report)
        began, passed = time.perf_counter(), 0.0
        for turn in itertools.count(1):
            if not run.standing:
                await run.open()
            await run.storm(rng.uniform(0.5, min(_LONGEST_STORM, max(1.0, seconds / 8))))
            await run.clear()
            await standing.add(run.refreshes)
            passed = time.perf_counter() - began
            over = run.refreshes >= refreshes or passed >= seconds
            if over or turn % _SHELTER == 0:
                await run.close()
                await closed.add(run.refreshes)
            if over:
                break
    report.row("seconds, rings that stood, rings that came and went",
               f"{passed:.0f}, {len(KINDS)}, {run.visits:,}")  # fmt: skip
    report.row("refreshes, of which failed", f"{run.refreshes:,}, {run.failures:,}")
    report.row("faults switched, queries at the servers", f"{run.faults:,}, {run.queries:,}")
    report.row("snapshots, calls cancelled", f"{run.generations:,}, {run.cancelled:,}")
    report.row("picks checked, refused by an empty ring", f"{run.picks:,}, {run.refused:,}")
    healed = sorted(run.healed)
    report.row(
        "from a clearing to the truth in every ring",
        f"{len(healed)} times, median {healed[len(healed) // 2]:.2f} s, longest {healed[-1]:.2f} s",
    )
    standing.write("with the rings at rest")
    closed.write("with all rings closed")
    if len(standing.levels) >= 9:
        since = standing.refreshes[-1] - standing.refreshes[len(standing.refreshes) // 3]
        report.flat(standing.levels, over=f"{since:,} refreshes", scale=max(1.0, since / 10_000))
