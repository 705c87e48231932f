"""
Records to endpoints: what a DNS answer says, once everything doubtful is taken out of it.

Pure, and suspicious: the records come from the network. A record counts only if its owner is the
name that was asked for, or one that a CNAME of the same answer leads to from there; addresses that
no pod can have are left out; duplicates, case and order do not matter.

A service has a domain of its own: its name, and everything below it. There Kubernetes puts its
pods, and out of it no answer leads anybody, be it by a CNAME or by the target of an SRV record,
unless the caller takes what is *external*. A name that could not be a host's is never followed,
asked for or made an endpoint's.

One pod is one endpoint. Its name, which is what gets hashed, is the SRV target where that is a
hostname of its own (`web-0.web.prod.svc.cluster.local`, a StatefulSet's), and else its address. The
hostname that CoreDNS makes up from an address (`10-0-0-1.web...`) is as short-lived as the address,
so it counts as none: a client that asks for A records and one that asks for SRV records agree.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from knet.endpoint import Endpoint
from knet.hashring.steps import Steps, exhaust
from knet.resolver.names import Family, is_hostname, is_within

__all__ = [
    "Found",
    "Record",
    "RecordType",
    "addresses_of",
    "dangling_alias",
    "distinct_names",
    "find_addresses",
    "find_services",
    "finding_addresses",
    "finding_services",
    "missing_targets",
    "only_known",
    "targets_without_address",
    "usable_address",
]

RecordType = Literal["A", "AAAA", "SRV", "CNAME"]

# An event loop gets its turn after as many records; 64 of them take about 0.1 ms.
_A_FEW = 64

# A chain longer than this is a mistake or an attack; resolvers stop at 8 to 16.
_MAX_ALIASES = 8

# A TTL with the top bit set means zero (RFC 2181, section 8).
_MAX_TTL = 2**31 - 1

# An answer near the 64 KiB of a DNS message was probably cut off there. Servers set TC on such an
# answer and c-ares hides it, so all that is left to see is the size. CoreDNS compresses owner names
# when it must cut: 16 octets an A record, 28 an AAAA; SRV targets are never compressed. What is cut
# ends less than one record (at most 275 octets) and one OPT (at most 51) before 65,535.
_SUSPICIOUS_SIZE = 65_000
_HEADER_SIZE = 12
_RECORD_SIZE = {"A": 16, "AAAA": 28, "SRV": 20, "CNAME": 14}


class Record(NamedTuple):
    """
    One resource record.

    Attributes:
        owner: Lower case, without the trailing dot; so is a *value* that is a name.
        type: `"A"`, `"AAAA"`, `"SRV"` or `"CNAME"`.
        ttl: Seconds, as it came.
        value: An address, or the name that an SRV or CNAME record points to.
        port: Of an SRV record.
        priority: Of an SRV record; lower is preferred (RFC 2782).
        weight: Of an SRV record. Kubernetes sets it to 100 divided by the number of endpoints, so
            it says nothing about one of them.
    """

    owner: str
    type: RecordType
    ttl: int
    value: str
    port: int = 0
    priority: int = 0
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """
    What an answer's records hold.

    Attributes:
        endpoints: In no particular order; each name once.
        ttl: The shortest TTL, in seconds, of the records that were used; `None` if none was.
        complete: False where the answer looks cut off.
        ignored: How many records were of no use.
        cut_off: True where the answer looks cut off by its size.
        outside: A name outside of the service's own domain that was therefore not followed, if any;
            of several the first of the alphabet.
    """

    endpoints: tuple[Endpoint, ...] = ()
    ttl: float | None = None
    complete: bool = True
    ignored: int = 0
    outside: str | None = None
    cut_off: bool = False


def find_addresses(
    name: str,
    records: Sequence[Record],
    *,
    type: RecordType,
    port: int | None = None,
    external: bool = False,
) -> Found:
    """
    Return the pods among the address *records* of an answer to the question (*name*, *type*).

    With *external*, CNAMEs may lead out of the domain *name*.
    """
    return exhaust(finding_addresses(name, records, type=type, port=port, external=external))


def finding_addresses(
    name: str,
    records: Sequence[Record],
    *,
    type: RecordType,
    port: int | None = None,
    external: bool = False,
) -> Steps[Found]:
    """
    Do as `find_addresses` does, and pause after every few records.
    """
    owners, ttls, outside = _follow(name, records, _canonical(name), external)
    endpoints: dict[str, Endpoint] = {}
    ignored = 0
    for number, record in enumerate(records):
        if not number % _A_FEW:
            yield
        if record.type == "CNAME":
            continue
        address = usable_address(record.value) if record.type == type else None
        if address is None or record.owner not in owners:
            ignored += 1
            continue
        ttls.append(record.ttl)
        if address not in endpoints:
            endpoints[address] = Endpoint(address, address, port)
    cut_off = _size(name, records) >= _SUSPICIOUS_SIZE
    return Found(
        tuple(endpoints.values()),
        _shortest(ttls) if endpoints else None,
        not cut_off,
        ignored,
        outside,
        cut_off,
    )


def only_known(
    name: str, records: Sequence[Record], *, type: RecordType, known: Collection[str]
) -> Found | None:
    """
    Return what *records* hold but for the endpoints, if that is the *known* addresses and no more.

    Most refreshes find nothing new, and are done with this at a tenth of the cost.

    Args:
        name: The question's name.
        records: The answer section.
        type: The question's type.
        known: The addresses of an earlier answer to the same question.

    Returns:
        `None` where `find_addresses` has to have a look.
    """
    owner = _canonical(name)
    if any(r.type != type or r.owner != owner for r in records):
        return None
    if not known or {r.value for r in records} != known:
        return None
    cut_off = _size(name, records) >= _SUSPICIOUS_SIZE
    return Found((), _shortest(r.ttl for r in records), not cut_off, cut_off=cut_off)


def dangling_alias(
    name: str, records: Sequence[Record], *, type: RecordType, external: bool = False
) -> str | None:
    """
    Return the name that the CNAMEs of an answer to (*name*, *type*) lead to and end at, if any.

    CoreDNS answers so for an ExternalName Service whose target it cannot look up itself.
    """
    domain = _service_of(name) if type == "SRV" else _canonical(name)
    owners, aliases, _ = _follow(name, records, domain, external)
    if not aliases or any(r.type == type and r.owner in owners for r in records):
        return None
    return next(iter(owners), None)


def targets_without_address(
    name: str,
    answer: Sequence[Record],
    additional: Collection[Record],
    *,
    family: Family = "auto",
    external: bool = False,
) -> tuple[str, ...]:
    """
    Return the SRV targets of *answer* whose addresses have to be asked for, sorted.

    An additional section that did not fit is cut anywhere, also between the two families of one
    target, so a target counts as known by an address of the family that will be taken. One whose
    hostname is made up from its address has no other address.
    """
    return exhaust(missing_targets(name, answer, additional, family=family, external=external))


def missing_targets(
    name: str,
    answer: Sequence[Record],
    additional: Collection[Record],
    *,
    family: Family = "auto",
    external: bool = False,
) -> Steps[tuple[str, ...]]:
    """
    Do as `targets_without_address` does, and pause after every few records.
    """
    said = yield from _said(name, answer, additional, family, external)
    known = {
        r.owner
        for found in said.by_target.values()
        for r in found
        if r.type == said.wanted or _is_dashed(r.owner, r.value)
    }
    return tuple(sorted({r.value for r in said.services} - known))


def find_services(
    name: str,
    answer: Sequence[Record],
    additional: Collection[Record],
    *,
    family: Family = "auto",
    external: bool = False,
) -> Found:
    """
    Return the pods among the SRV records of an answer to the question (*name*, SRV).

    Args:
        name: The question's name: `_http._tcp.web.prod.svc.cluster.local`.
        answer: The answer section.
        additional: The address records of the targets, from the additional section or asked for.
        family: `"auto"` takes IPv4 addresses if the answer has any, else IPv6, for all alike.
        external: CNAMEs and targets may lie outside of the service's own domain.
    """
    return exhaust(finding_services(name, answer, additional, family=family, external=external))


def finding_services(
    name: str,
    answer: Sequence[Record],
    additional: Collection[Record],
    *,
    family: Family = "auto",
    external: bool = False,
) -> Steps[Found]:
    """
    Do as `find_services` does, and pause after every few records.
    """
    said = yield from _said(name, answer, additional, family, external)
    ignored = sum(r.type == "SRV" for r in answer) - len(said.services)
    ttls = said.ttls
    endpoints: dict[tuple[str, str, int], Endpoint] = {}
    for number, service in enumerate(said.services):
        if not number % _A_FEW:
            yield
        # A hostname with several addresses of one family is still one pod; the lowest address is
        # the same choice on every client.
        addresses = [r for r in said.by_target.get(service.value, ()) if r.type == said.wanted]
        if not addresses:
            ignored += 1
            continue
        address = addresses[0] if len(addresses) == 1 else min(addresses, key=_by_number)
        pod = address.value if _is_dashed(service.value, address.value) else service.value
        ttls += (service.ttl, address.ttl)
        endpoints[pod, address.value, service.port] = Endpoint(pod, address.value, service.port)
    cut_off = _size(name, answer) >= _SUSPICIOUS_SIZE
    return Found(
        distinct_names(endpoints.values()),
        _shortest(ttls) if endpoints else None,
        not cut_off,
        ignored,
        said.outside,
        cut_off,
    )


def addresses_of(target: str, records: Iterable[Record]) -> tuple[Record, ...]:
    """
    Return the addresses of *target* that count among *records*: the lowest of each family.

    However long an answer, no more of it needs to be kept until those for all targets are in.
    """
    found = exhaust(_addresses_by_owner(records, {target})).get(target, ())
    by_type = ([r for r in found if r.type == type] for type in _FAMILY)
    return tuple(min(those, key=_by_number) for those in by_type if those)


def distinct_names(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """
    Return *endpoints* with a name each: those that share one get their `host:port` appended.

    Kubernetes never needs this. Other registries list one host with several ports, and pods on one
    machine share an address.
    """
    found = tuple(dict.fromkeys(endpoints))
    shared = {name for name, count in Counter(e.name for e in found).items() if count > 1}
    if not shared:
        return found
    return tuple(
        replace(e, name=str(e) if e.name == e.address else f"{e.name}/{e}")
        if e.name in shared
        else e
        for e in found
    )


def usable_address(text: str) -> str | None:
    """
    Return *text* as a canonical address that a pod can have, or `None`.

    IPv4-mapped IPv6 addresses become IPv4. Unspecified, multicast, broadcast, reserved and
    link-local addresses are nobody's: what cannot be connected to must not own keys.
    """
    try:
        if ":" in text:
            packed = socket.inet_pton(socket.AF_INET6, text)
            if packed.startswith(_MAPPED):
                return usable_address(socket.inet_ntop(socket.AF_INET, packed[12:]))
            if packed == _UNSPECIFIED or packed[0] == 0xFF or packed[:2] in _LINK_LOCAL:
                return None
            return socket.inet_ntop(socket.AF_INET6, packed)
        packed = socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    if packed[0] == 0 or packed[0] >= 224 or packed[:2] == b"\xa9\xfe":
        return None
    return text


_FAMILY: Mapping[str, socket.AddressFamily] = {
    "A": socket.AF_INET,
    "AAAA": socket.AF_INET6,
}
_MAPPED = bytes(10) + b"\xff\xff"
_UNSPECIFIED = bytes(16)
_LINK_LOCAL = frozenset(bytes((0xFE, second)) for second in range(0x80, 0xC0))


def _follow(
    name: str, records: Iterable[Record], domain: str, external: bool
) -> tuple[frozenset[str], list[int], str | None]:
    """
    Return the name that the CNAMEs of an answer lead to from *name*, their TTLs, and what stopped
    them: the name that would have led out of *domain*.

    The first is a set, for the sake of the caller's `in`: empty where the CNAMEs run in a circle,
    or to where they may not be followed.
    """
    # A name has one CNAME at most; of several, every client takes the same.
    found = sorted((r for r in records if r.type == "CNAME"), key=lambda r: (r.value, r.ttl))
    aliases = {r.owner: r for r in reversed(found)}
    owner = _canonical(name)
    ttls: list[int] = []
    for _ in range(_MAX_ALIASES + 1):
        alias = aliases.get(owner)
        if alias is None:
            return frozenset((owner,)), ttls, None
        ttls.append(alias.ttl)
        owner = alias.value
        if not is_hostname(owner):
            break
        if not (external or is_within(owner, domain)):
            return frozenset(), ttls, owner
    return frozenset(), ttls, None


class _Said(NamedTuple):
    """
    What an SRV answer says: services that count, their targets' addresses and which type of those
    will be taken; the TTLs of its CNAMEs; and a name that led outside.
    """

    services: list[Record]
    by_target: dict[str, list[Record]]
    wanted: RecordType
    ttls: list[int]
    outside: str | None


def _said(
    name: str,
    answer: Sequence[Record],
    additional: Collection[Record],
    family: Family,
    external: bool,
) -> Steps[_Said]:
    domain = _service_of(name)
    owners, ttls, outside = _follow(name, answer, domain, external)
    services, outsiders = yield from _services(owners, answer, domain, external)
    by_target = yield from _addresses_by_owner(additional, {r.value for r in services})
    wanted = _type_of(family, (r for found in by_target.values() for r in found))
    return _Said(services, by_target, wanted, ttls, min(outsiders, default=outside))


def _services(
    owners: frozenset[str], answer: Iterable[Record], domain: str, external: bool
) -> Steps[tuple[list[Record], list[str]]]:
    """
    Return the SRV records that count: of the preferred priority, with a port and a target that is a
    hostname; and the targets that do not because they lie outside of *domain*.
    """
    services: list[Record] = []
    outsiders: list[str] = []
    for number, record in enumerate(answer):
        if not number % _A_FEW:
            yield
        if (
            record.type == "SRV"
            and record.owner in owners
            and 0 < record.port <= 65535
            and is_hostname(record.value)
        ):
            if external or is_within(record.value, domain):
                services.append(record)
            else:
                outsiders.append(record.value)
    preferred = min((r.priority for r in services), default=0)
    return [r for r in services if r.priority == preferred], outsiders


def _service_of(name: str) -> str:
    """
    Return the service whose named port *name* is: what follows `_http._tcp.`.
    """
    return _canonical(name).split(".", 2)[-1]


def _canonical(name: str) -> str:
    return name.lower().removesuffix(".")


def _by_number(record: Record) -> tuple[bytes, int]:
    return socket.inet_pton(_FAMILY[record.type], record.value), record.ttl


def _type_of(family: Family, records: Iterable[Record]) -> RecordType:
    """
    Return which address records of a service count: under `"auto"` A if *records* has any.
    """
    if family == "auto":
        return "A" if any(r.type == "A" for r in records) else "AAAA"
    return "A" if family == "ipv4" else "AAAA"


def _addresses_by_owner(
    records: Iterable[Record], owners: Collection[str]
) -> Steps[dict[str, list[Record]]]:
    found: dict[str, list[Record]] = {}
    for number, record in enumerate(records):
        if not number % _A_FEW:
            yield
        if record.owner in owners and record.type in _FAMILY:
            address = usable_address(record.value)
            if address is not None:
                type: RecordType = "AAAA" if ":" in address else "A"
                if address != record.value or type != record.type:
                    record = record._replace(type=type, value=address)
                found.setdefault(record.owner, []).append(record)
    return found


def _is_dashed(target: str, address: str) -> bool:
    """
    Is *target* a hostname that CoreDNS made up from *address*: `10-0-0-1.web`, `fd00--1.web`?
    """
    return target.partition(".")[0] == address.replace(":" if ":" in address else ".", "-")


def _shortest(ttls: Iterable[int]) -> float:
    return float(min(ttl if 0 <= ttl <= _MAX_TTL else 0 for ttl in ttls))


def _size(name: str, records: Iterable[Record]) -> int:
    """
    Octets of the smallest message that can carry *records* as the answer to a question for *name*.
    """
    size = _HEADER_SIZE + len(name) + 5
    for record in records:
        size += _RECORD_SIZE[record.type]
        if record.type == "SRV":
            size += len(record.value)
    return size
