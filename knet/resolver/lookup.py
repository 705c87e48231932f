"""
`Lookup`: one question, asked again and again, by DNS.

It knows which records to ask for, which spelling of a name was the right one, and what came back the
last time. What a question may be is checked before; reading names and records is pure, in `names` and
`records`; asking is the engine's. Rings are not known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import anyio

from knet.answer import Answer, Gap
from knet.errors import (
    AnswerTooLarge,
    NameNotFound,
    NoData,
    ResolveError,
    ResolveTimeout,
)
from knet.question import Family, Question, srv_name
from knet.resolver import names
from knet.resolver.cares import Engine, EngineSettings, QueryType, Sections, open_engine
from knet.resolver.records import (
    NOBODY,
    Found,
    Known,
    Record,
    addresses_of,
    dangling_alias,
    finding_addresses,
    finding_records,
    finding_services,
)
from knet.surroundings import Surroundings
from knet.turns import turns

__all__ = ["CHECK_PIN", "Lookup", "Settings", "service_records"]

# How many addresses of SRV targets one lookup asks for at once: a quarter of what the engine lets
# fly, so that a flood of targets leaves room for the lookups of others.
_TARGETS_AT_ONCE = 16

# Seconds for which an unlikely spelling of a name is taken for the right one.
CHECK_PIN = 30.0

_TYPES: dict[Family, tuple[QueryType, ...]] = {
    "auto": ("A", "AAAA"),
    "ipv4": ("A",),
    "ipv6": ("AAAA",),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How a resolver looks up, whatever it is asked.

    Attributes:
        engine: Whom it asks, and how patiently.
        surroundings: Where short names are looked up.
        max_endpoints: An answer with more is refused.
        external: Whether names outside of a service's own domain are followed.
        srv_weights: Whether the weights of SRV records count.
    """

    engine: EngineSettings
    surroundings: Surroundings
    max_endpoints: int
    external: bool
    srv_weights: bool = False


class _Pin(NamedTuple):
    """
    The spelling that a short name turned out to have, and when a likelier one was last tried.
    """

    name: str
    checked_at: float


class Lookup:
    """
    One question to the servers of *settings*, to be asked again and again.

    What stays the same from one time to the next is done once: the spellings of the name, and the
    endpoints that are named again.

    Args:
        settings: How to look up.
        question: What to look up.
        clock: Seconds; a lookup may outlive an event loop, and with it its clock.
    """

    __slots__ = ("_candidates", "_clock", "_known", "_pin", "_question", "_settings")

    def __init__(
        self, settings: Settings, question: Question, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._question = question
        self._clock = clock
        prefix = ""
        if isinstance(question.port, str):
            prefix = srv_name("", question.port, question.protocol)
        self._candidates = names.candidates(question.service, settings.surroundings, prefix=prefix)
        self._pin: _Pin | None = None
        self._known: Known = NOBODY

    async def ask(self) -> Answer:
        """
        Look it up once, now.

        Raises:
            ResolveError: One of its leaves: what was asked, of whom, and what came back.
        """
        with open_engine(self._settings.engine) as engine:
            answer = await self._from_likeliest(engine)
            if answer is None:
                pinned = None if self._pin is None else (self._pin.name,)
                answer = await self._resolve(engine, pinned or self._candidates)
        # The very objects that were known stay so; `Known` has no others.
        self._known = {(e.name, e.address, e.port): e for e in answer.endpoints}
        return answer

    async def _from_likeliest(self, engine: Engine) -> Answer | None:
        """
        Where a less likely spelling was kept, try now and then if the likeliest is there by now.

        Some search lists end in a domain with a wildcard record. While a Service has no ready pod,
        its short name then resolves to a foreign host. So the likeliest spelling is tried again every
        30 s, and kept from the moment it exists.
        """
        likeliest, pin, now = self._candidates[0], self._pin, self._clock()
        if pin is None or pin.name == likeliest or now - pin.checked_at < CHECK_PIN:
            return None
        self._pin = _Pin(pin.name, now)
        try:
            answer = await self._resolve(engine, (likeliest,))
        except ResolveError:
            return None
        self._pin = _Pin(likeliest, now)
        return answer

    async def _resolve(self, engine: Engine, spellings: tuple[str, ...]) -> Answer:
        missing: ResolveError | None = None
        for name in spellings:
            try:
                found = await self._ask(engine, name)
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
                    raise _leads_outside(engine, name, self._question, found, missing)
                if len(spellings) > 1:
                    self._pin = _Pin(name, self._clock())
                return _answer(found, name)
        assert missing is not None
        raise _explained(missing, self._question, spellings)

    async def _ask(self, engine: Engine, name: str) -> Found:
        """
        Return what there is at *name*: endpoints, or else a name outside that was not followed.
        """
        port = self._question.port
        if isinstance(port, str):
            found = await self._ask_services(engine, name, port)
        else:
            found = await self._ask_addresses(engine, name, port)
        self._check_size(engine, name, len(found.endpoints))
        return found

    async def _ask_addresses(self, engine: Engine, name: str, port: int | None) -> Found:
        nothing: NoData | None = None
        for type in _TYPES[self._question.family]:
            # One after the other: a service with IPv4 costs one query, and every client comes to
            # the same family, whichever it asked first.
            try:
                sections = await engine.ask(name, type)
                found = await self._addresses(name, sections, type, port)
                if not found.endpoints:
                    whole = await _with_alias(engine, name, type, sections, self._settings.external)
                    if whole is not sections:
                        found = await self._addresses(name, whole, type, port)
            except NoData as error:
                nothing = nothing or error
                continue
            if found.endpoints or found.outside is not None:
                return found
            nothing = nothing or _unusable(engine, name, type, found)
        assert nothing is not None
        raise nothing

    async def _addresses(
        self, name: str, sections: Sections, type: QueryType, port: int | None
    ) -> Found:
        return await turns.take(
            finding_addresses(
                name,
                sections.answer,
                type=type,
                port=port,
                external=self._settings.external,
                known=self._known,
            )
        )

    async def _ask_services(self, engine: Engine, name: str, port: str) -> Found:
        family, external = self._question.family, self._settings.external
        owner = srv_name(name, port, self._question.protocol)
        sections = await engine.ask(owner, "SRV")
        sections = await _with_alias(engine, owner, "SRV", sections, external)
        additional = list(sections.additional)
        failure: ResolveError | None = None
        asked: set[str] = set()
        while True:
            # Twice at most: what the first round finds may decide the family.
            found = await turns.take(
                finding_services(
                    owner,
                    sections.answer,
                    additional,
                    family=family,
                    external=external,
                    known=self._known,
                    weighted=self._settings.srv_weights,
                )
            )
            targets = [target for target in found.unresolved if target not in asked]
            if not targets:
                break
            self._check_size(engine, owner, len(targets))
            asked.update(targets)
            error = await _ask_targets(engine, targets, additional, family)
            failure = failure or error
        if found.endpoints:
            return found if failure is None else replace(found, failed=str(failure))
        if failure is None and found.outside is not None:
            return found
        raise failure or _unusable(engine, owner, "SRV", found)

    def _check_size(self, engine: Engine, name: str, count: int) -> None:
        check_size(engine, name, count, self._settings.max_endpoints)


def _answer(found: Found, name: str) -> Answer:
    gap: Gap = "targets" if found.failed else "cut off" if found.cut_off else ""
    return Answer(
        found.endpoints,
        found.ttl,
        gap=gap,
        gap_reason=found.failed or found.cut_off,
        name=name.removesuffix("."),
        ignored=found.ignored,
    )


async def service_records(settings: Settings, name: str) -> list[Record]:
    """
    Return the SRV records of all ports of the service at *name*, those that `Lookup` would follow.

    Raises:
        ResolveError: They could not be found out, or none of them may be followed.
    """
    with open_engine(settings.engine) as engine:
        sections = await engine.ask(name, "SRV")
        sections = await _with_alias(engine, name, "SRV", sections, settings.external)
        records, outside = await turns.take(
            finding_records(name, sections.answer, external=settings.external)
        )
        check_size(engine, name, len(records), settings.max_endpoints)
        if not records and outside is not None:
            raise _outside(engine, name, "SRV", name, outside)
        if not records:
            raise _unusable(engine, name, "SRV", Found(ignored=len(sections.answer)))
        return records


def check_size(engine: Engine, name: str, count: int, most: int) -> None:
    """
    Raise if *count* endpoints, or targets to ask for, are more than an answer may have.
    """
    if count > most:
        raise AnswerTooLarge(
            f"{name} has {count} endpoints, more than {most}",
            name=name,
            servers=engine.settings.nameservers,
        )


async def _with_alias(
    engine: Engine, name: str, type: QueryType, sections: Sections, external: bool
) -> Sections:
    """
    Return *sections* with the records of the alias that they end at, if they are all CNAMEs.

    That one is asked for, and no other: an alias of the alias came along, or is left alone.
    """
    alias = dangling_alias(name, sections.answer, type=type, external=external)
    if alias is None:
        return sections
    try:
        more = await engine.ask(f"{alias}.", type)
    except ResolveError as error:
        text = f"{error}; {name} is an alias of it"
        raise error.__class__(text, name=error.name, servers=error.servers) from error
    return Sections((*sections.answer, *more.answer), (*sections.additional, *more.additional))


async def _ask_targets(
    engine: Engine, targets: Sequence[str], additional: list[Record], family: Family
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
                sections = await engine.ask(f"{target}.", type)
            except NoData:
                continue
            except NameNotFound:
                return None
            except ResolveError as error:
                return error
            additional.extend(addresses_of(target, sections.answer))
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
    type: QueryType = "A" if question.family != "ipv6" else "AAAA"
    asked = name
    if isinstance(question.port, str):
        type, asked = "SRV", srv_name(name, question.port, question.protocol)
    return _outside(engine, asked, type, name, found.outside, missing)


def _outside(
    engine: Engine,
    asked: str,
    type: QueryType,
    name: str,
    outside: str | None,
    missing: ResolveError | None = None,
) -> NoData:
    """
    Say where *asked* leads, why knet does not go there, and how a person can make it.
    """
    text = (
        f"cannot resolve {asked} {type}: it leads to {outside}, which is not followed because "
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
        text += f"; tried: {', '.join(spellings)}"
    if isinstance(question.port, str):
        text += (
            f"; is there a port named {question.port!r} ({question.protocol}), "
            "and is any pod of the service ready?"
        )
    else:
        text += "; is the Service headless (clusterIP: None), and is any of its pods ready?"
    return type(error)(text, name=error.name, servers=error.servers)
