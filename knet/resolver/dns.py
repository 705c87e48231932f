"""
`Resolver`: a service name to an `Answer`, by DNS.

Frozen settings, checked once, and the lookups that were made with them. How one question is looked up
is in `lookup`; rings are not known here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from knet.answer import Answer
from knet.errors import ConfigError
from knet.question import Family, Protocol, Question, check_name, shown
from knet.resolver import names
from knet.resolver.cares import (
    EngineSettings,
    check_nameservers,
    drop_engine,
    hold_engine,
    system_nameservers,
)
from knet.resolver.lookup import Lookup, Settings, service_records
from knet.surroundings import RESOLV_CONF, Surroundings, read_surroundings, surroundings_here

__all__ = ["SRV", "Resolver", "lookup_host", "lookup_srv"]

_MAX_TRIES = 100

# What fits in a DNS message of 64 KiB is plenty; more is a mistake or an attack.
MAX_ENDPOINTS = 4096

# How many questions a resolver knows its way about. Rings of thousands of services share one.
_MAX_LOOKUPS = 16_384


class SRV(NamedTuple):
    """
    One SRV record of a service, as `lookup_srv` gives it.
    """

    target: str
    port: int
    priority: int
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """
    What a resolver was told; `None` is left to the machine.
    """

    nameservers: tuple[str, ...] | None
    timeout: float
    tries: int
    deadline: float
    namespace: str | None
    zone: str | None
    max_endpoints: int
    external: bool
    srv_weights: bool
    surroundings: Surroundings | None


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
        resolv_conf: The file that tells nameservers and search list, read at once if it is not the
            usual one. Where neither it nor *nameservers* names a server, those that c-ares finds in
            this system's configuration are asked.
        external: Follow names that lie outside of the service's own domain, which is its name and
            everything below it: the target of an ExternalName Service, or of an SRV record of a
            registry that is not Kubernetes. False: an answer can neither make knet ask for a name
            that nobody wrote down, nor send keys to it.
        srv_weights: Take the weights of SRV records for those of endpoints, relative to each other: with 1
            and 3, a quarter and three quarters of the keys. For registries such as Consul; Kubernetes gives
            all records of an answer the same weight, another one whenever the number of pods changes.

    Raises:
        ConfigError: One of them is out of range or misspelt, or *resolv_conf* cannot be read.
        TypeError: One of them has the wrong type.
    """

    __slots__ = ("__weakref__", "_lookups", "_options", "_settings")

    def __init__(
        self,
        *,
        nameservers: Iterable[str] | None = None,
        timeout: float = 1.0,
        tries: int = 4,
        deadline: float = 5.0,
        namespace: str | None = None,
        zone: str | None = None,
        max_endpoints: int = MAX_ENDPOINTS,
        external: bool = False,
        srv_weights: bool = False,
        resolv_conf: str | Path = RESOLV_CONF,
    ) -> None:
        if isinstance(nameservers, str):
            raise TypeError("nameservers must be several, in a list, not one str")
        for what, seconds in (("timeout", timeout), ("deadline", deadline)):
            if not isinstance(seconds, (int, float)):
                raise TypeError(f"{what} must be a number, not {type(seconds).__name__}")
            if not 0 < seconds <= 3600:
                raise ConfigError(
                    f"{what} must be above 0 and at most 3600 s, got {shown(seconds)}"
                )
        for what, count, most in (
            ("tries", tries, _MAX_TRIES),
            ("max_endpoints", max_endpoints, sys.maxsize),
        ):
            if isinstance(count, bool) or not isinstance(count, int):
                raise TypeError(f"{what} must be an int, not {type(count).__name__}")
            if not 1 <= count <= most:
                raise ConfigError(f"{what} must be 1 to {most}, got {shown(count)}")
        for what, flag in (("external", external), ("srv_weights", srv_weights)):
            if not isinstance(flag, bool):
                raise TypeError(f"{what} must be a bool, not {type(flag).__name__}")
        servers = None if nameservers is None else tuple(nameservers)
        if servers is not None:
            check_nameservers(servers)
        is_usual = resolv_conf == RESOLV_CONF or resolv_conf == str(RESOLV_CONF)
        self._options = _Options(
            nameservers=servers,
            timeout=timeout,
            tries=tries,
            deadline=deadline,
            namespace=_bare(namespace, "namespace"),
            zone=_bare(zone, "zone"),
            max_endpoints=max_endpoints,
            external=external,
            srv_weights=srv_weights,
            # A file that somebody names has to be there; the usual one is read on first use.
            surroundings=None if is_usual else read_surroundings(resolv_conf),
        )
        self._settings: Settings | None = None
        self._lookups: dict[Question, Lookup] = {}

    @property
    def servers(self) -> tuple[str, ...]:
        """
        The DNS servers that are asked, in order.
        """
        return self._found().engine.nameservers

    # --- what it is for

    async def resolve(
        self,
        question: str | Question,
        /,
        *,
        port: int | str | None = None,
        protocol: Protocol = "tcp",
        family: Family = "auto",
    ) -> Answer:
        """
        Look a service up once, now, past every cache of this process.

        A short name is tried in each spelling that it can have here, until one exists; from then on
        this resolver keeps to that one for this question. If it was not the likeliest, that is tried
        again every 30 s.

        Args:
            question: `"web"`, `"web.prod"`, `"web.prod.svc"` or the whole name; with a trailing dot
                it is taken as it is. Or a `Question`, which has the other three in it.
            port: A number asks for addresses and gives each endpoint that port. A name asks for SRV
                records and takes the port, and the pod's hostname if it has one, from there.
            protocol: `"tcp"`, `"udp"` or `"sctp"`, of a named port.
            family: `"ipv4"`, `"ipv6"`, or `"auto"`: IPv4 if there is any, else IPv6.

        Raises:
            ResolveError: One of its leaves: what was asked, of whom, and what came back.
            ConfigError: An argument cannot be right.
        """
        if not isinstance(question, Question):
            question = Question(question, port, protocol, family)
        lookup = self._lookups.get(question)
        if lookup is None:
            if len(self._lookups) >= _MAX_LOOKUPS:
                # The one that was first asked. It is made again if it is asked again.
                del self._lookups[next(iter(self._lookups))]
            lookup = self._lookups[question] = Lookup(self._found(), question)
        return await lookup.ask()

    async def lookup_host(self, service: str, namespace: str = "default") -> tuple[str, ...]:
        """
        Return the addresses of the ready pods of *service*, sorted as text.

        Raises:
            ResolveError: They could not be found out.
        """
        name = names.service_in(service, namespace, self._found().surroundings)
        answer = await self.resolve(name)
        return tuple(sorted(e.address for e in answer.endpoints))

    async def lookup_srv(self, service: str, namespace: str = "default") -> tuple[SRV, ...]:
        """
        Return the SRV records of all ports of *service*, sorted by priority, target and port.

        Of the records that came back it gives those that `resolve` would follow.

        Raises:
            ResolveError: They could not be found out, or none of them may be followed.
        """
        name = names.service_in(service, namespace, self._found().surroundings)
        records = await service_records(self._found(), name)
        found = {SRV(r.value, r.port, r.priority, r.weight) for r in records}
        return tuple(sorted(found, key=lambda s: (s.priority, s.target, s.port)))

    # --- held open

    async def __aenter__(self) -> Self:
        hold_engine(self._found().engine)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        drop_engine(self._found().engine)

    # --- a value

    def __eq__(self, other: object) -> bool:
        """
        Do both look up alike: are their options equal? Rings share the lookups of equal resolvers.
        """
        if type(self) is not Resolver or type(other) is not Resolver:
            return self is other  # a subclass may be anything
        return self._options == other._options

    def spellings(self, service: str) -> tuple[str, ...]:
        """
        Return the names by which a client may ask for *service*, shortest first; asks nobody.

        Raises:
            ConfigError: *service* is no name.
        """
        return names.spellings(check_name(service, "service"), self._found().surroundings)

    def __hash__(self) -> int:
        return hash(self._options)

    def __repr__(self) -> str:
        servers = self._options.nameservers
        return f"<Resolver nameservers={'resolv.conf' if servers is None else ','.join(servers)}>"

    def _found(self) -> Settings:
        """
        Return the options, with what they leave to the machine filled in, once.
        """
        settings = self._settings
        if settings is None:
            settings = _settings(self._options)
            self._settings = settings
        return settings


def _settings(options: _Options) -> Settings:
    here = options.surroundings or surroundings_here()
    here = replace(
        here, namespace=options.namespace or here.namespace, zone=options.zone or here.zone
    )
    servers = options.nameservers or here.nameservers or system_nameservers()
    return Settings(
        EngineSettings(servers, options.timeout, options.tries, options.deadline),
        here,
        options.max_endpoints,
        options.external,
        options.srv_weights,
    )


def _bare(name: str | None, what: str) -> str | None:
    return None if name is None else check_name(name, what).rstrip(".")


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
