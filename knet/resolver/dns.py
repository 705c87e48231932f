"""
`Resolver`: a service name to an `Answer`, by DNS.

The thin layer between the names and records, which are pure, and the engine, which asks. It knows
which records to ask for, which spelling of a name was the right one, and nothing of rings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import anyio

from knet.errors import AnswerTooLarge, ConfigError, NameNotFound, NoData, ResolveError
from knet.resolver import names
from knet.resolver.answer import Answer
from knet.resolver.cares import (
    Engine,
    QueryType,
    Settings,
    check_nameservers,
    drop_engine,
    hold_engine,
    open_engine,
    system_nameservers,
)
from knet.resolver.names import Cluster, Family, Protocol, Question
from knet.resolver.records import (
    Found,
    Record,
    find_addresses,
    find_services,
    targets_without_address,
)

__all__ = ["SRV", "Resolver", "lookup_host", "lookup_srv"]

_RESOLV_CONF = Path("/etc/resolv.conf")
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_MAX_TRIES = 100

# One past what fits in a DNS message of 64 KiB is plenty; more is a mistake or an attack.
_MAX_ENDPOINTS = 4096

_TYPES: dict[Family, tuple[QueryType, ...]] = {
    "auto": ("A", "AAAA"),
    "ipv4": ("A",),
    "ipv6": ("AAAA",),
}


class SRV(NamedTuple):
    """
    One SRV record of a service, as `lookup_srv` gives it.
    """

    target: str
    port: int
    priority: int
    weight: int


class Resolver:
    """
    Finds the pods behind headless Services by DNS, on asyncio and on trio.

        async with knet.Resolver(nameservers=["10.96.0.10"]) as resolver:
            answer = await resolver.resolve("web.prod", port=8080)

    One resolver serves any number of rings, tasks and event loops. It holds no socket of its own:
    all resolvers of one event loop that ask the same servers share one c-ares channel, which is
    open while a ring runs, an `async with` of a resolver lasts or a lookup is under way, and is
    closed by the last of them. A lookup outside of all these opens and closes one for itself, at
    about 1 ms.

    Args:
        nameservers: `"10.0.0.10"`, `"127.0.0.1:5353"`, `"[::1]:5353"`, asked in that order, the
            next one where one fails. `None`: those of `/etc/resolv.conf`, read once, on first use.
        timeout: Seconds before a query is first repeated, above 0.
        tries: How often each server is asked, 1 to 100.
        deadline: Seconds after which a query is given up, above 0.
        namespace: Where a bare service name is looked up. `None`: the pod's own, from its service
            account, else from the search list, else `"default"`.
        zone: The cluster's domain. `None`: from the search list, else `"cluster.local"`.
        max_endpoints: An answer with more is refused; 4096 is what one DNS message can carry.

    Raises:
        ConfigError: One of them is out of range or misspelt.
    """

    def __init__(
        self,
        *,
        nameservers: Iterable[str] | None = None,
        timeout: float = 1.0,
        tries: int = 4,
        deadline: float = 5.0,
        namespace: str | None = None,
        zone: str | None = None,
        max_endpoints: int = _MAX_ENDPOINTS,
    ) -> None:
        if isinstance(nameservers, str):
            raise TypeError("nameservers must be several, in a list, not one str")
        for what, seconds in (("timeout", timeout), ("deadline", deadline)):
            if not isinstance(seconds, (int, float)):
                raise TypeError(f"{what} must be a number, not {type(seconds).__name__}")
            if not 0 < seconds <= 3600:
                raise ConfigError(f"{what} must be above 0 and at most 3600 s, got {seconds}")
        for what, count, most in (
            ("tries", tries, _MAX_TRIES),
            ("max_endpoints", max_endpoints, sys.maxsize),
        ):
            if isinstance(count, bool) or not isinstance(count, int):
                raise TypeError(f"{what} must be an int, not {type(count).__name__}")
            if not 1 <= count <= most:
                raise ConfigError(f"{what} must be 1 to {most}, got {count}")
        self._nameservers = None if nameservers is None else tuple(nameservers)
        if self._nameservers is not None:
            check_nameservers(self._nameservers)
        self._timeout = timeout
        self._tries = tries
        self._deadline = deadline
        self._namespace = (
            None if namespace is None else names.check_name(namespace, "namespace").rstrip(".")
        )
        self._zone = None if zone is None else names.check_name(zone, "zone").rstrip(".")
        self._max_endpoints = max_endpoints
        self._settings: Settings | None = None
        self._cluster: Cluster | None = None
        self._pinned: dict[str, str] = {}

    # --- what it is for

    async def resolve(
        self,
        service: str,
        /,
        *,
        port: int | str | None = None,
        protocol: Protocol = "tcp",
        family: Family = "auto",
    ) -> Answer:
        """
        Look *service* up once, now, past every cache of this process.

        A short name is tried in each spelling that it can have here, until one exists; from then on
        this resolver keeps to that one.

        Args:
            service: `"web"`, `"web.prod"`, `"web.prod.svc"` or the whole name; with a trailing dot
                it is taken as it is.
            port: A number asks for addresses and gives each endpoint that port. A name asks for SRV
                records and takes the port, and the pod's hostname if it has one, from there.
            protocol: `"tcp"`, `"udp"` or `"sctp"`, of a named port.
            family: `"ipv4"`, `"ipv6"`, or `"auto"`: IPv4 if there is any, else IPv6.

        Raises:
            ResolveError: One of its leaves: what was asked, of whom, and what came back.
            ConfigError: An argument cannot be right.
        """
        question = Question(service, port, protocol, family)
        with open_engine(self._engine_settings()) as engine:
            engine.flush()
            return await self._resolve(engine, question)

    async def lookup_host(self, service: str, namespace: str = "default") -> tuple[str, ...]:
        """
        Return the addresses of the ready pods of *service*, sorted as text.

        Raises:
            ResolveError: They could not be found out.
        """
        name = names.service_in(service, namespace, self._in_cluster())
        answer = await self.resolve(name)
        return tuple(sorted(e.address for e in answer.endpoints))

    async def lookup_srv(self, service: str, namespace: str = "default") -> tuple[SRV, ...]:
        """
        Return the SRV records of all ports of *service*, sorted by priority, target and port.

        Raises:
            ResolveError: They could not be found out.
        """
        name = names.service_in(service, namespace, self._in_cluster())
        with open_engine(self._engine_settings()) as engine:
            engine.flush()
            reply = await engine.query(name, "SRV")
        owner = name.removesuffix(".")
        found = {
            SRV(r.value, r.port, r.priority, r.weight)
            for r in reply.answer
            if r.type == "SRV" and r.owner == owner
        }
        return tuple(sorted(found, key=lambda s: (s.priority, s.target, s.port)))

    # --- held open

    async def __aenter__(self) -> Self:
        hold_engine(self._engine_settings())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        drop_engine(self._engine_settings())

    def __eq__(self, other: object) -> bool:
        """
        Do both look up alike: are their options equal? Rings share the lookups of equal resolvers.
        """
        if type(self) is not Resolver or type(other) is not Resolver:
            return self is other  # a subclass may be anything
        return self._spec == other._spec

    def __hash__(self) -> int:
        return hash(self._spec)

    @property
    def _spec(self) -> tuple[object, ...]:
        limits = (self._timeout, self._tries, self._deadline, self._max_endpoints)
        return (self._nameservers, self._namespace, self._zone, *limits)

    def __repr__(self) -> str:
        servers = "resolv.conf" if self._nameservers is None else ",".join(self._nameservers)
        return f"<Resolver nameservers={servers}>"

    # --- how it is done

    async def _resolve(self, engine: Engine, question: Question) -> Answer:
        pinned = self._pinned.get(question.service)
        spellings = (pinned,) if pinned else names.candidates(question.service, self._in_cluster())
        missing: ResolveError | None = None
        for name in spellings:
            try:
                answer = await self._ask(engine, name, question)
            except (NameNotFound, NoData) as error:
                missing = missing or error  # the first spelling is the likeliest
            except ResolveError:
                # A server that fails tells nothing of this spelling, and the next one may be
                # somebody else's. What is known is that the likeliest one is not there.
                if missing is None:
                    raise
                break
            else:
                self._pinned[question.service] = name
                return answer
        assert missing is not None
        raise _explained(missing, question, spellings)

    async def _ask(self, engine: Engine, name: str, question: Question) -> Answer:
        if isinstance(question.port, str):
            found = await self._ask_services(engine, name, question.port, question)
        else:
            found = await self._ask_addresses(engine, name, question.port, question.family)
        if len(found.endpoints) > self._max_endpoints:
            raise self._too_large(engine, name, len(found.endpoints))
        return Answer(
            found.endpoints, found.ttl, found.complete, name.removesuffix("."), found.ignored
        )

    async def _ask_addresses(
        self, engine: Engine, name: str, port: int | None, family: Family
    ) -> Found:
        nothing: NoData | None = None
        for type in _TYPES[family]:
            # One after the other: a service with IPv4 costs one query, and every client comes to
            # the same family, whichever it asked first.
            try:
                reply = await engine.query(name, type)
            except NoData as error:
                nothing = nothing or error
                continue
            found = find_addresses(name, reply.answer, type=type, port=port)
            if found.endpoints:
                return found
            nothing = nothing or _unusable(engine, name, type, found)
        assert nothing is not None
        raise nothing

    async def _ask_services(
        self, engine: Engine, name: str, port: str, question: Question
    ) -> Found:
        owner = names.srv_name(name, port, question.protocol)
        reply = await engine.query(owner, "SRV")
        additional = list(reply.additional)
        failures: list[ResolveError] = []
        asked: set[str] = set()
        while True:
            # Twice at most: what the first round finds may decide the family.
            missing = targets_without_address(
                owner, reply.answer, additional, family=question.family
            )
            targets = [target for target in missing if target not in asked]
            if not targets:
                break
            if len(targets) > self._max_endpoints:
                raise self._too_large(engine, owner, len(targets))
            asked.update(targets)
            failures += await self._ask_targets(engine, targets, additional, question.family)
        found = find_services(owner, reply.answer, additional, family=question.family)
        if not found.endpoints:
            raise failures[0] if failures else _unusable(engine, owner, "SRV", found)
        return Found(found.endpoints, found.ttl, found.complete and not failures, found.ignored)

    async def _ask_targets(
        self, engine: Engine, targets: Iterable[str], additional: list[Record], family: Family
    ) -> list[ResolveError]:
        """
        Ask for the addresses of *targets*, all at once, and add them to *additional*.

        Returns what went wrong; a target without an address is a pod on its way out.
        """
        failures: list[ResolveError] = []

        async def ask(target: str) -> None:
            for type in _TYPES[family]:
                try:
                    reply = await engine.query(f"{target}.", type)
                except NoData:
                    continue
                except NameNotFound:
                    return
                except ResolveError as error:
                    failures.append(error)
                    return
                additional.extend(reply.answer)
                return

        async with anyio.create_task_group() as tasks:
            for target in targets:
                tasks.start_soon(ask, target)
        return failures

    def _too_large(self, engine: Engine, name: str, count: int) -> AnswerTooLarge:
        return AnswerTooLarge(
            f"{name} has {count} endpoints, more than {self._max_endpoints}",
            name=name,
            servers=engine.settings.nameservers,
        )

    # --- where it runs

    def _in_cluster(self) -> Cluster:
        if self._cluster is None:
            found = names.cluster_from(_text(_RESOLV_CONF), _text(_NAMESPACE))
            self._cluster = Cluster(
                self._namespace or found.namespace, self._zone or found.zone, found.search
            )
        return self._cluster

    def _engine_settings(self) -> Settings:
        if self._settings is None:
            servers = (
                self._nameservers
                or names.nameservers_from(_text(_RESOLV_CONF))
                or system_nameservers()
            )
            self._settings = Settings(servers, self._timeout, self._tries, self._deadline)
        return self._settings


async def lookup_host(service: str, namespace: str = "default") -> tuple[str, ...]:
    """
    Return the addresses of the ready pods of *service* in *namespace*, sorted as text.

    The shortcut of the Go original, on the servers of `/etc/resolv.conf`.

        for address in await knet.lookup_host("web", "prod"): ...

    Raises:
        ResolveError: They could not be found out.
    """
    return await Resolver().lookup_host(service, namespace)


async def lookup_srv(service: str, namespace: str = "default") -> tuple[SRV, ...]:
    """
    Return the SRV records of all ports of *service* in *namespace*.

    The shortcut of the Go original, on the servers of `/etc/resolv.conf`.

    Raises:
        ResolveError: They could not be found out.
    """
    return await Resolver().lookup_srv(service, namespace)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _unusable(engine: Engine, name: str, type: QueryType, found: Found) -> NoData:
    return NoData(
        f"cannot resolve {name} {type}: the answer has {found.ignored} records and none that gives "
        "a usable address",
        name=name,
        servers=engine.settings.nameservers,
    )


def _explained(error: ResolveError, question: Question, spellings: tuple[str, ...]) -> ResolveError:
    """
    Say what a person can do about a name that is not there.
    """
    text = str(error)
    if len(spellings) > 1:
        text += f"; of {', '.join(spellings)}"
    if isinstance(question.port, str):
        text += (
            f"; is there a port named {question.port!r} ({question.protocol}), "
            "and is any pod of the service ready?"
        )
    else:
        text += "; is the Service headless (clusterIP: None), and is any of its pods ready?"
    return type(error)(text, name=error.name, servers=error.servers)
