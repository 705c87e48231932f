"""
`EndpointSlices`: the pods behind a service as the API of Kubernetes tells them, at once.

The same endpoints as by DNS, with the same names, so that a ring that is told and one that asks place keys
alike. What a readiness probe finds out is here within milliseconds, where DNS needs seconds and the TTL of every cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from importlib.util import find_spec
from pathlib import Path

import anyio

from knet.answer import Answer
from knet.errors import ConfigError, NoData
from knet.kubernetes.access import Access, explicit, from_kubeconfig, in_cluster
from knet.kubernetes.slices import Listed, Slice, answer_from, why_nobody
from knet.question import Question, check_name
from knet.sources import ALIVE, Alive, Tell
from knet.surroundings import surroundings_here

__all__ = ["EndpointSlices"]

# Seconds that a pod is kept which is merely in no slice: one that moves from one slice to another is in neither
# for a moment, and one that dies is told not to be ready first.
_MOVING = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlices:
    """
    Tells the pods behind a service by watching its EndpointSlices.

        async with knet.Ring("web.prod", port="http", resolver=EndpointSlices()) as ring: ...

    Needs the right to `list` and `watch` `endpointslices` of `discovery.k8s.io` in the service's namespace. Without
    arguments it is for a pod, whose service account it uses.

    Attributes:
        api: `"https://10.0.0.1:6443"`, with *token* and *ca*.
        token: The token, or a `Path` of a file that has it, read again for each connection.
        ca: A file of certificates; `None`: those of this machine.
        kubeconfig: A file, of which the current context counts.
        namespace: Where a bare name is looked up; `None`: the pod's own.
        domain: Of the cluster; `None`: as the service's whole name or `/etc/resolv.conf` says.
        settle: Seconds in which changes are told together; the first one is told at once.
        serve_terminating: Whether those that are terminating and still serve count while nobody is ready. DNS does
            not know them, so that clients which ask DNS then place keys otherwise.
        whole_namespace: Whether the rings of all services of a namespace have one watch, of all its slices, instead of one
            for each service.

    Raises:
        ConfigError: Arguments that do not go together, or a value out of range.
        ImportError: The extra `kubernetes` is not installed.
    """

    api: str | None = None
    token: str | Path | None = None
    ca: str | Path | None = None
    kubeconfig: str | Path | None = None
    namespace: str | None = None
    domain: str | None = None
    settle: float = 0.05
    serve_terminating: bool = False
    whole_namespace: bool = False

    def __post_init__(self) -> None:
        if self.api is not None and self.kubeconfig is not None:
            raise ConfigError("give api or kubeconfig, and not both")
        if self.api is None and (self.token is not None or self.ca is not None):
            raise ConfigError("token and ca go with api")
        # The HTTP client is not loaded before it is used; that it is missing is said here.
        if find_spec("httpx2") is None:
            raise ImportError(
                "httpx2 is not installed: python -m pip install 'knet-ring[kubernetes]'"
            )
        if not self.settle >= 0:
            raise ConfigError(f"settle must be at least 0, got {self.settle}")
        for what, name in (("namespace", self.namespace), ("domain", self.domain)):
            if name is not None:
                check_name(name, what)

    async def watch(self, question: Question, tell: Tell, /) -> None:
        """
        Tell the pods of *question* until something is in the way.

        Raises:
            ResolveError: What it was; a ring begins again.
            ConfigError: This is no pod, or the service is none of Kubernetes.
        """

        def answered(told: Told | Alive) -> None:
            if isinstance(told, Alive):
                tell(told)
                return
            if told.changed is not None and self.part_of(question) not in told.changed:
                return
            try:
                answer = self.answer_of(question, told)
            except NoData as error:
                tell(error)
            else:
                tell(answer)

        await self.follow(self.stream_of(question), answered)

    def stream_of(self, question: Question, /) -> Place:
        """
        Return which service *question* is about, or which namespace: one watch serves all that is asked of it.

        Raises:
            ConfigError: It is none of Kubernetes, or the kubeconfig that says its namespace cannot be read.
        """
        head, _, zone = question.service.removesuffix(".").partition(".svc.")
        name, _, namespace = head.removesuffix(".svc").partition(".")
        if "." in namespace:
            raise ConfigError(
                f"{question.service.removesuffix('.')} is no Service of Kubernetes: it is written web, web.prod, or "
                "web.prod.svc.cluster.local"
            )
        here = surroundings_here()
        namespace = namespace or self.namespace or self._usual_namespace() or here.namespace
        zone = zone or (self.domain or "").strip(".")
        place = Place(namespace, name, zone or here.zone, bool(zone) or here.knows_zone)
        return replace(place, name="") if self.whole_namespace else place

    async def follow(self, stream: Place, tell: Callable[[Told | Alive], None], /) -> None:
        """
        Tell what there is of one service, or of all in a namespace, until something is in the way.

        Raises: As `watch`.
        """
        from knet.kubernetes.reflector import Reflector  # noqa: PLC0415 - the HTTP client

        telling = _Telling(stream, tell, self.settle)
        reflector = Reflector(
            self._access(), stream.namespace, stream.name, telling.heard, lambda: tell(ALIVE)
        )
        failed: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(telling.run)
            try:
                await reflector.run()
            except Exception as error:  # noqa: BLE001 - it is to leave the group as itself
                failed = error
            tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed

    def part_of(self, question: Question, /) -> str:
        """
        Return the name of the service that *question* is about.
        """
        return question.service.partition(".")[0]

    def news_in(self, told: Told, /) -> frozenset[str] | None:
        """
        Return of which services *told* has news; `None`: of all.
        """
        return told.changed

    def answer_of(self, question: Question, told: Told, /) -> Answer:
        """
        Return the answer to *question* that is in what was seen of its service.

        Raises:
            NoData: There is nobody.
            ConfigError: Names go by the cluster's domain, and that is not known.
        """
        name, place = self.part_of(question), told.place
        seen = told.services.get(name, _NOTHING)
        answer = answer_from(
            seen.slices,
            question,
            domain=f"{name}.{place.namespace}.svc.{place.zone}",
            knows_domain=place.knows_zone,
            serve_terminating=self.serve_terminating,
            also=seen.moving,
        )
        if not answer.endpoints:
            raise NoData(f"{question}: {why_nobody(seen.slices, question)}")
        return answer

    def _access(self) -> Access:
        if self.api is not None:
            return explicit(self.api, self.token, self.ca)
        if self.kubeconfig is not None:
            return from_kubeconfig(self.kubeconfig)
        api = surroundings_here().api
        return explicit(api, None, None) if api else in_cluster()

    def _usual_namespace(self) -> str | None:
        """
        Return which one a bare name is in, by the kubeconfig if there is one.
        """
        return None if self.kubeconfig is None else from_kubeconfig(self.kubeconfig).namespace

    def __repr__(self) -> str:
        where = self.api or (
            f"kubeconfig {self.kubeconfig}" if self.kubeconfig else "in the cluster"
        )
        return f"<EndpointSlices {where}{', whole namespace' if self.whole_namespace else ''}>"


@dataclass(frozen=True, slots=True)
class Place:
    """
    A service, or all services of a namespace.

    Attributes:
        namespace: Where it is.
        name: What it is called there; `""`: all that are there.
        zone: The cluster's domain.
        knows_zone: Whether somebody said so.
    """

    namespace: str
    name: str
    zone: str
    knows_zone: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What there is of a service.

    Attributes:
        slices: In the order in which they were heard of.
        moving: Who is in none of them for a moment, and counts.
    """

    slices: tuple[Slice, ...]
    moving: tuple[tuple[Slice, Listed], ...]


_NOTHING = Seen((), ())


@dataclass(frozen=True, slots=True)
class Told:
    """
    One word of a watch.

    Attributes:
        place: What is watched.
        services: What there is, by the name of the service; of one that has no slices there is nothing.
        changed: Of which of them it differs from what was told before; `None`: it is the first word.
    """

    place: Place
    services: Mapping[str, Seen]
    changed: frozenset[str] | None


class _Telling:
    """
    What is told when: of each service the first change at once, and what follows within *settle* together.
    """

    def __init__(self, place: Place, tell: Callable[[Told], None], settle: float) -> None:
        self._place = place
        self._tell = tell
        self._settle = settle
        self._services: dict[str, _Service] = {}
        self._seen: dict[str, Seen] = {}
        # When there may be something to tell, and of which service; the earliest first.
        self._times: list[tuple[float, str]] = []
        self._has_told = False
        self._is_sooner = anyio.Event()

    def heard(self, services: Mapping[str, Mapping[str, Slice]]) -> None:
        """
        Take what there is now of some services.
        """
        now, first = anyio.current_time(), self._times[:1]
        for name, slices in services.items():
            service = self._services.get(name)
            if service is None:
                service = self._services[name] = _Service()
            service.heard(tuple(slices.values()), now)
            due = max(now, service.told_at + self._settle)
            if due < service.due:
                service.due = due
                heappush(self._times, (due, name))
        if not self._has_told or self._times[:1] != first:
            self._is_sooner.set()

    async def run(self) -> None:
        """
        Tell, for ever.
        """
        while True:
            deadline = self._times[0][0] if self._times else math.inf
            with anyio.CancelScope(deadline=deadline):
                await self._is_sooner.wait()
            self._is_sooner = anyio.Event()
            changed = self._turn(anyio.current_time())
            if changed or not self._has_told:
                news = frozenset(changed) if self._has_told else None
                self._has_told = True
                self._tell(Told(self._place, dict(self._seen), news))

    def _turn(self, now: float) -> set[str]:
        """
        Let what is due be what is seen; return of which services that is.
        """
        changed: set[str] = set()
        while self._times and self._times[0][0] <= now:
            name = heappop(self._times)[1]
            service = self._services.get(name)
            if service is None or service.due > now:
                continue  # it was told of meanwhile
            changed.add(name)
            seen = self._seen[name] = service.told(now, self._settle)
            if seen.moving:
                heappush(self._times, (service.due, name))
            elif not seen.slices:
                del self._services[name], self._seen[name]
        return changed


class _Service:
    """
    What was heard of a service.

    Attributes:
        due: When it is to be told, since something has changed or somebody ceases to count; `math.inf`: nothing is new.
        told_at: When it was told last.
    """

    __slots__ = ("_listed", "_moving", "_slices", "due", "told_at")

    def __init__(self) -> None:
        self._slices: tuple[Slice, ...] = ()
        self._listed: dict[str, tuple[Slice, Listed]] = {}
        # Who is in no slice for a moment, and until when he counts.
        self._moving: dict[str, tuple[Slice, Listed, float]] = {}
        self.due = math.inf
        self.told_at = -math.inf

    def heard(self, slices: tuple[Slice, ...], now: float) -> None:
        """
        Take what there is now.
        """
        self._slices = slices
        listed = {one.address: (each, one) for each in slices for one in each.listed}
        for address, (each, one) in self._listed.items():
            if address not in listed and one.ready:
                self._moving.setdefault(address, (each, one, now + _MOVING))
        for address in listed:
            self._moving.pop(address, None)
        self._listed = listed

    def told(self, now: float, settle: float) -> Seen:
        """
        Return what there is, which is told now.
        """
        self._moving = {a: each for a, each in self._moving.items() if each[2] > now}
        ends = min((until for _, _, until in self._moving.values()), default=math.inf)
        self.due, self.told_at = max(ends, now + settle) if self._moving else math.inf, now
        return Seen(self._slices, tuple((each, one) for each, one, _ in self._moving.values()))
