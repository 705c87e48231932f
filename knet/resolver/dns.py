"""
`Resolver`: a service name to an `Answer`, by DNS.

The thin layer between the names and records, which are pure, and the engine, which asks. It knows
which records to ask for, which spelling of a name was the right one, and nothing of rings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import anyio

from knet.errors import (
    AnswerTooLarge,
    ConfigError,
    NameNotFound,
    NoData,
    ResolveError,
    ResolveTimeout,
)
from knet.resolver import names
from knet.resolver.answer import Answer
from knet.resolver.cares import (
    Engine,
    QueryType,
    Reply,
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
    addresses_of,
    dangling_alias,
    finding_addresses,
    finding_services,
    missing_targets,
    only_known,
)
from knet.turns import turns

__all__ = ["SRV", "Repeated", "Resolver", "lookup_host", "lookup_srv"]

_RESOLV_CONF = Path("/etc/resolv.conf")
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_MAX_TRIES = 100

# One past what fits in a DNS message of 64 KiB is plenty; more is a mistake or an attack.
_MAX_ENDPOINTS = 4096

# How many addresses of SRV targets one lookup asks for at once: a quarter of what the engine lets
# fly, so that a flood of targets leaves room for the lookups of others.
_TARGETS_AT_ONCE = 16

# Seconds for which an unlikely spelling of a name is taken for the right one.
_CHECK_PIN = 30.0

# How many characters of a file in /etc are read. No cluster writes a fiftieth of it.
_MAX_FILE = 65_536

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
        max_endpoints: An answer with more is refused; 4096 is what one DNS message can carry. No
            more targets of SRV records are asked for either.
        external: Follow names that lie outside of the service's own domain, which is its name and
            everything below it: the target of an ExternalName Service, or of an SRV record of a
            registry that is not Kubernetes. False: an answer can neither make knet ask for a name
            that nobody wrote down, nor send keys to it.

    Raises:
        ConfigError: One of them is out of range or misspelt.
        TypeError: One of them has the wrong type.
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
        external: bool = False,
    ) -> None:
        if isinstance(nameservers, str):
            raise TypeError("nameservers must be several, in a list, not one str")
        for what, seconds in (("timeout", timeout), ("deadline", deadline)):
            if not isinstance(seconds, (int, float)):
                raise TypeError(f"{what} must be a number, not {type(seconds).__name__}")
            if not 0 < seconds <= 3600:
                raise ConfigError(
                    f"{what} must be above 0 and at most 3600 s, got {names.shown(seconds)}"
                )
        for what, count, most in (
            ("tries", tries, _MAX_TRIES),
            ("max_endpoints", max_endpoints, sys.maxsize),
        ):
            if isinstance(count, bool) or not isinstance(count, int):
                raise TypeError(f"{what} must be an int, not {type(count).__name__}")
            if not 1 <= count <= most:
                raise ConfigError(f"{what} must be 1 to {most}, got {names.shown(count)}")
        if not isinstance(external, bool):
            raise TypeError(f"external must be a bool, not {type(external).__name__}")
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
        self._external = external
        self._settings: Settings | None = None
        self._cluster: Cluster | None = None
        self._pinned: dict[str, _Pin] = {}

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
        this resolver keeps to that one. If it was not the likeliest, that is tried again every 30 s.

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
        return await Repeated(self, Question(service, port, protocol, family))()

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
            reply = await engine.ask(name, "SRV")
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
        return (self._nameservers, self._namespace, self._zone, self._external, *limits)

    def __repr__(self) -> str:
        servers = "resolv.conf" if self._nameservers is None else ",".join(self._nameservers)
        return f"<Resolver nameservers={servers}>"

    # --- how it is done

    async def _resolve(
        self,
        engine: Engine,
        question: Question,
        spellings: tuple[str, ...],
        before: Answer | None,
    ) -> Answer:
        missing: ResolveError | None = None
        for name in spellings:
            try:
                found = await self._ask(engine, name, question, before)
            except (NameNotFound, NoData) as error:
                missing = missing or error  # the first spelling is the likeliest
            except ResolveError:
                # A server that fails tells nothing of this spelling, and the next one may be
                # somebody else's. What is known is that the likeliest one is not there.
                if missing is None:
                    raise
                break
            else:
                if not found.endpoints:
                    # This is the one that is there, so the next one may be somebody else's too.
                    raise _leads_outside(engine, name, question, found, missing)
                if len(spellings) > 1:
                    self._pinned[question.service] = _Pin(name, time.monotonic())
                if before is not None and found.endpoints is before.endpoints:
                    return before.renewed(found.ttl, complete=found.complete, cut_off=found.cut_off)
                return Answer(
                    found.endpoints,
                    found.ttl,
                    found.complete,
                    name.removesuffix("."),
                    found.ignored,
                    found.cut_off,
                )
        assert missing is not None
        raise _explained(missing, question, spellings)

    def _candidates(self, question: Question) -> tuple[str, ...]:
        prefix = ""
        if isinstance(question.port, str):
            prefix = names.srv_name("", question.port, question.protocol)
        return names.candidates(question.service, self._in_cluster(), prefix=prefix)

    async def _ask(
        self, engine: Engine, name: str, question: Question, before: Answer | None
    ) -> Found:
        """
        Return what there is at *name*: endpoints, or else a name outside that was not followed.
        """
        if isinstance(question.port, str):
            found = await self._ask_services(engine, name, question.port, question)
        else:
            if before is not None and before.name != name.removesuffix("."):
                before = None
            found = await self._ask_addresses(engine, name, question, before)
        if len(found.endpoints) > self._max_endpoints:
            raise self._too_large(engine, name, len(found.endpoints))
        return found

    async def _ask_addresses(
        self, engine: Engine, name: str, question: Question, before: Answer | None
    ) -> Found:
        assert not isinstance(question.port, str)
        nothing: NoData | None = None
        for type in _TYPES[question.family]:
            # One after the other: a service with IPv4 costs one query, and every client comes to
            # the same family, whichever it asked first.
            try:
                reply = await engine.ask(name, type)
                if before is not None:
                    known = {e.address for e in before.endpoints}
                    same = only_known(name, reply.answer, type=type, known=known)
                    if same is not None:
                        return replace(same, endpoints=before.endpoints)
                found = await self._addresses(name, reply, type, question.port)
                if not found.endpoints:
                    whole = await self._with_alias(engine, name, type, reply)
                    if whole is not reply:
                        found = await self._addresses(name, whole, type, question.port)
            except NoData as error:
                nothing = nothing or error
                continue
            if found.endpoints or found.outside is not None:
                return found
            nothing = nothing or _unusable(engine, name, type, found)
        assert nothing is not None
        raise nothing

    async def _addresses(self, name: str, reply: Reply, type: QueryType, port: int | None) -> Found:
        external = self._external
        return await turns.take(
            finding_addresses(name, reply.answer, type=type, port=port, external=external)
        )

    async def _ask_services(
        self, engine: Engine, name: str, port: str, question: Question
    ) -> Found:
        owner = names.srv_name(name, port, question.protocol)
        reply = await engine.ask(owner, "SRV")
        reply = await self._with_alias(engine, owner, "SRV", reply)
        additional = list(reply.additional)
        family, external = question.family, self._external
        failure: ResolveError | None = None
        asked: set[str] = set()
        while True:
            # Twice at most: what the first round finds may decide the family.
            section = (owner, reply.answer, additional)
            found = await turns.take(finding_services(*section, family=family, external=external))
            if not found.ignored:  # none is without an address
                break
            missing = await turns.take(missing_targets(*section, family=family, external=external))
            targets = [target for target in missing if target not in asked]
            if not targets:
                break
            if len(targets) > self._max_endpoints:
                raise self._too_large(engine, owner, len(targets))
            asked.update(targets)
            error = await self._ask_targets(engine, targets, additional, question.family)
            failure = failure or error
        if found.endpoints:
            return found if failure is None else replace(found, complete=False, cut_off=False)
        if failure is None and found.outside is not None:
            return found
        raise failure or _unusable(engine, owner, "SRV", found)

    async def _with_alias(self, engine: Engine, name: str, type: QueryType, reply: Reply) -> Reply:
        """
        Return *reply* with the records of the alias that it ends at, if it is all CNAMEs.

        That one is asked for, and no other: an alias of the alias came along, or is left alone.
        """
        alias = dangling_alias(name, reply.answer, type=type, external=self._external)
        if alias is None:
            return reply
        try:
            more = await engine.ask(f"{alias}.", type)
        except ResolveError as error:
            text = f"{error}; {name} is an alias of it"
            raise error.__class__(text, name=error.name, servers=error.servers) from error
        return Reply((*reply.answer, *more.answer), (*reply.additional, *more.additional))

    async def _ask_targets(
        self, engine: Engine, targets: Sequence[str], additional: list[Record], family: Family
    ) -> ResolveError | None:
        """
        Ask for the addresses of *targets*, several at once, and add them to *additional*.

        Returns what went wrong first; a target without an address is a pod on its way out. All of
        them together have the time that one query has, and of each answer no more is kept than the
        lowest addresses of its target: promises of SRV records that nobody keeps cost little.
        """
        failure: ResolveError | None = None
        waiting = iter(targets)

        async def ask(target: str) -> ResolveError | None:
            for type in _TYPES[family]:
                try:
                    reply = await engine.ask(f"{target}.", type)
                except NoData:
                    continue
                except NameNotFound:
                    return None
                except ResolveError as error:
                    return error
                additional.extend(addresses_of(target, reply.answer))
                return None
            return None

        async def ask_on() -> None:
            nonlocal failure
            for target in waiting:
                error = await ask(target)
                failure = failure or error

        with anyio.move_on_after(engine.settings.deadline) as patience:
            async with anyio.create_task_group() as tasks:
                for _ in range(min(_TARGETS_AT_ONCE, len(targets))):
                    tasks.start_soon(ask_on)
        if patience.cancelled_caught and failure is None:
            servers = engine.settings.nameservers
            return ResolveTimeout(
                f"cannot resolve {targets[0]}. and the other SRV targets beside it, {len(targets)} "
                f"in all: no answer to some from {', '.join(servers)} within "
                f"{engine.settings.deadline:g} s",
                name=f"{targets[0]}.",
                servers=servers,
            )
        return failure

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


class _Pin(NamedTuple):
    """
    The spelling that a short name turned out to have, and when a likelier one was last tried.
    """

    name: str
    checked_at: float


class Repeated:
    """
    One question to one resolver, to be asked again and again.

    What stays the same from one time to the next is done once: the spellings of the name, and,
    while the addresses do not change, the endpoints.
    """

    __slots__ = ("_before", "_candidates", "_question", "_resolver")

    def __init__(self, resolver: Resolver, question: Question) -> None:
        self._resolver = resolver
        self._question = question
        self._candidates: tuple[str, ...] | None = None
        self._before: Answer | None = None

    async def __call__(self) -> Answer:
        """
        Look it up once, now, as `Resolver.resolve` does.
        """
        resolver, question = self._resolver, self._question
        if self._candidates is None:
            self._candidates = resolver._candidates(question)
        with open_engine(resolver._engine_settings()) as engine:
            answer = await self._from_likeliest(engine)
            if answer is None:
                pin = resolver._pinned.get(question.service)
                is_kept = pin is not None and pin.name in self._candidates
                spellings = (pin.name,) if pin and is_kept else self._candidates
                answer = await resolver._resolve(engine, question, spellings, self._before)
        self._before = answer
        return answer

    async def _from_likeliest(self, engine: Engine) -> Answer | None:
        """
        Where a less likely spelling was kept, try now and then if the likeliest is there by now.

        In a cluster whose search list ends in a domain that has an answer to every name, a Service
        without a ready pod is somebody else's host, for as long as that is so and not for ever.
        """
        resolver, question = self._resolver, self._question
        assert self._candidates is not None
        likeliest = self._candidates[0]
        pin = resolver._pinned.get(question.service)
        now = time.monotonic()  # a resolver may outlive an event loop, and with it its clock
        if pin is None or pin.name == likeliest or now - pin.checked_at < _CHECK_PIN:
            return None
        resolver._pinned[question.service] = _Pin(pin.name, now)
        try:
            answer = await resolver._resolve(engine, question, (likeliest,), None)
        except ResolveError:
            return None
        resolver._pinned[question.service] = _Pin(likeliest, now)
        return answer


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
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            text = file.read(_MAX_FILE + 1)
    except OSError:
        return ""
    # What was cut in two is no name or address any more.
    return text if len(text) <= _MAX_FILE else text.rpartition("\n")[0]


def _unusable(engine: Engine, name: str, type: QueryType, found: Found) -> NoData:
    return NoData(
        f"cannot resolve {name} {type}: the answer has {found.ignored} records and none that gives "
        "a usable address",
        name=name,
        servers=engine.settings.nameservers,
    )


def _leads_outside(
    engine: Engine, name: str, question: Question, found: Found, missing: ResolveError | None
) -> NoData:
    """
    Say where *name* leads, why knet does not go there, and how a person can make it.
    """
    type, asked = "A" if question.family != "ipv6" else "AAAA", name
    if isinstance(question.port, str):
        type, asked = "SRV", names.srv_name(name, question.port, question.protocol)
    text = (
        f"cannot resolve {asked} {type}: it leads to {found.outside}, which is not followed because "
        f"it lies outside of {name.removesuffix('.')}; Resolver(external=True) is the opt-in"
    )
    if missing is not None:
        text += f"; before that, {missing}"
    return NoData(text, name=asked, servers=engine.settings.nameservers)


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
