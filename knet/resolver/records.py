"""
Records to endpoints: what a DNS answer says, once everything doubtful is taken out of it.

Pure, and suspicious: the records come from the network. A record counts only if its owner is the
name that was asked for, or one that a CNAME of the same answer leads to from there; addresses that
no pod can have are left out; duplicates, case and order do not matter.

A service has a domain of its own: its name, and everything below it. There Kubernetes puts its
pods, and out of it no answer leads anybody, be it by a CNAME or by the target of an SRV record,
unless the caller takes what is *external*. A name that could not be a host's is never followed,
asked for or made an endpoint's.

What a pod is called, and which addresses count, is in `knet.pods`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from knet.endpoint import Endpoint
from knet.hashring.steps import Steps, exhaust
from knet.pods import address_order, distinct_names, is_dashed, usable_address
from knet.question import Family
from knet.resolver.names import is_hostname, is_within

__all__ = [
    "NOBODY",
    "Found",
    "Known",
    "Record",
    "RecordType",
    "addresses_of",
    "dangling_alias",
    "finding_addresses",
    "finding_records",
    "finding_services",
    "lowered",
]

RecordType = Literal["A", "AAAA", "SRV", "CNAME"]

# An event loop gets its turn after as many records; 64 of them take about 0.1 ms.
_A_FEW = 64

# A chain longer than this is a mistake or an attack; resolvers stop at 8 to 16.
MAX_ALIASES = 8

# A TTL with the top bit set means zero (RFC 2181, section 8).
_MAX_TTL = 2**31 - 1

# An answer near the 64 KiB of a DNS message was probably cut off there. Servers set TC on such an
# answer and c-ares hides it, so all that is left to see is the size. CoreDNS compresses owner names
# when it must cut: 16 octets an A record, 28 an AAAA; SRV targets are never compressed. What is cut
# ends less than one record (at most 275 octets) and one OPT (at most 51) before 65,535.
SUSPICIOUS_SIZE = 65_000
_HEADER_SIZE = 12
_RECORD_SIZE = {"A": 16, "AAAA": 28, "SRV": 20, "CNAME": 14}


# A weight is a multiple of the points of an endpoint, and these are built with every change.
_MOST_WEIGHT = 100.0
_LEAST_WEIGHT = 0.001


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


# The endpoints of an earlier answer, by name, address and port.
Known = Mapping[tuple[str, str, int | None], Endpoint]
NOBODY: Known = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    What an answer's records hold.

    Attributes:
        endpoints: In no particular order; each name once.
        ttl: The shortest TTL, in seconds, of the records that were used; `None` if none was.
        cut_off: Why the answer looks cut off, or `""`.
        ignored: How many records were of no use.
        outside: A name outside of the service's own domain that was therefore not followed, if any;
            of several the first of the alphabet.
        unresolved: The SRV targets whose addresses have to be asked for, sorted.
        failed: Which of them could not be found out, and why, or `""`.
    """

    endpoints: tuple[Endpoint, ...] = ()
    ttl: float | None = None
    cut_off: str = ""
    ignored: int = 0
    outside: str | None = None
    unresolved: tuple[str, ...] = ()
    failed: str = ""


def finding_addresses(
    name: str,
    records: Sequence[Record],
    *,
    type: RecordType,
    port: int | None = None,
    external: bool = False,
    known: Known = NOBODY,
) -> Steps[Found]:
    """
    Find the pods among the address *records* of an answer to the question (*name*, *type*).

    Args:
        name: The question's name.
        records: The answer section.
        type: The question's type.
        port: What each endpoint gets.
        external: CNAMEs may lead out of the domain *name*.
        known: Endpoints of an earlier answer to the same question. Those that are named again are
            the same objects, which costs a tenth of making them, and of comparing them later.
    """
    owners, ttls, outside = _follow(name, records, lowered(name), external)
    endpoints: dict[str, Endpoint] = {}
    ignored = 0
    for number, record in enumerate(records):
        if not number % _A_FEW:
            yield
        if record.type == "CNAME":
            continue
        if record.type != type or record.owner not in owners:
            ignored += 1
            continue
        value = record.value
        endpoint = known.get((value, value, port))
        if endpoint is None:
            address = usable_address(value)
            if address is None:
                ignored += 1
                continue
            key = address, address, port
            endpoint = endpoints.get(address) or known.get(key) or Endpoint(*key)
        ttls.append(record.ttl)
        endpoints[endpoint.address] = endpoint
    return Found(
        endpoints=tuple(endpoints.values()),
        ttl=_shortest(ttls) if endpoints else None,
        cut_off=_cut_off(name, records),
        ignored=ignored,
        outside=outside,
    )


def dangling_alias(
    name: str, records: Sequence[Record], *, type: RecordType, external: bool = False
) -> str | None:
    """
    Return the name that the CNAMEs of an answer to (*name*, *type*) lead to and end at, if any.

    CoreDNS answers so for an ExternalName Service whose target it cannot look up itself.
    """
    domain = _service_of(name) if type == "SRV" else lowered(name)
    owners, aliases, _ = _follow(name, records, domain, external)
    if not aliases or any(r.type == type and r.owner in owners for r in records):
        return None
    return next(iter(owners), None)


def finding_services(
    name: str,
    answer: Sequence[Record],
    additional: Collection[Record],
    *,
    family: Family = "auto",
    external: bool = False,
    known: Known = NOBODY,
    weighted: bool = False,
) -> Steps[Found]:
    """
    Find the pods among the SRV records of an answer to the question (*name*, SRV).

    Args:
        name: The question's name: `_http._tcp.web.prod.svc.cluster.local`.
        answer: The answer section.
        additional: The address records of the targets, from the additional section or asked for.
        family: `"auto"` takes IPv4 addresses if the answer has any, else IPv6, for all alike.
        external: CNAMEs and targets may lie outside of the service's own domain.
        known: As in `finding_addresses`.
        weighted: The weights of the records are those of the endpoints, relative to each other.
    """
    domain = _service_of(name)
    owners, ttls, outside = _follow(name, answer, domain, external)
    usable, outsiders = yield from _usable_services(owners, answer, domain, external)
    preferred = min((r.priority for r in usable), default=0)
    services = [r for r in usable if r.priority == preferred]
    by_target = yield from _addresses_by_owner(additional, {r.value for r in services})
    wanted = _type_of(family, (r for found in by_target.values() for r in found))
    ignored = sum(r.type == "SRV" for r in answer) - len(services)
    endpoints: dict[tuple[str, str, int | None], Endpoint] = {}
    unresolved: set[str] = set()
    # Of all records, also of those whose targets are not known yet: no weight depends on who is missing.
    weight_of = relative_weights({r.weight for r in services}) if weighted else {}
    for number, service in enumerate(services):
        if not number % _A_FEW:
            yield
        # A hostname with several addresses of one family is still one pod; the lowest address is
        # the same choice on every client.
        found = by_target.get(service.value, ())
        addresses = [r for r in found if r.type == wanted]
        if not addresses:
            ignored += 1
            # An additional section that did not fit is cut anywhere, also between the two families
            # of one target. One whose hostname is made up from its address has no other address.
            if not any(is_dashed(r.owner, r.value) for r in found):
                unresolved.add(service.value)
            continue
        address = addresses[0] if len(addresses) == 1 else min(addresses, key=_by_number)
        pod = address.value if is_dashed(service.value, address.value) else service.value
        ttls += (service.ttl, address.ttl)
        key = pod, address.value, service.port
        weight = weight_of.get(service.weight, 1)
        if key in endpoints:  # the same pod twice: the greater weight, in whatever order they come
            weight = max(weight, endpoints[key].weight)
        endpoint = known.get(key)
        if endpoint is None or endpoint.weight != weight:
            endpoint = Endpoint(*key, weight)
        endpoints[key] = endpoint
    return Found(
        endpoints=distinct_names(endpoints.values()),
        ttl=_shortest(ttls) if endpoints else None,
        cut_off=_cut_off(name, answer),
        ignored=ignored,
        outside=min(outsiders, default=outside),
        unresolved=tuple(sorted(unresolved)),
    )


def relative_weights(weights: Collection[int]) -> dict[int, float]:
    """
    Return what each weight of SRV records, 0 to 65535, is to a placement: the smallest counts as 1.

    So equal ones are all 1, whatever they are, and with 1 and 3 a quarter and three quarters of the keys
    go there. If one is more than 100 times another, the largest counts as 100. Where some are above 0, 0
    is "a very small chance" (RFC 2782) and counts as a thousandth: a single point.

        >>> relative_weights({10, 30}), relative_weights({0}), relative_weights({0, 5})
        ({10: 1.0, 30: 3.0}, {0: 1.0}, {0: 0.001, 5: 1.0})
    """
    greater = sorted(weight for weight in weights if weight)
    if not greater:
        return dict.fromkeys(weights, 1.0)
    unit = max(greater[0], greater[-1] / _MOST_WEIGHT)
    return {weight: weight / unit if weight else _LEAST_WEIGHT for weight in sorted(weights)}


def finding_records(
    name: str, answer: Sequence[Record], *, external: bool = False
) -> Steps[tuple[list[Record], str | None]]:
    """
    Find the SRV records that count in an answer to the question (*name*, SRV), of every priority,
    where *name* is that of a service; and a name that led out of it, if any.
    """
    domain = lowered(name)
    owners, _, outside = _follow(name, answer, domain, external)
    usable, outsiders = yield from _usable_services(owners, answer, domain, external)
    return usable, min(outsiders, default=outside)


def addresses_of(target: str, records: Iterable[Record]) -> tuple[Record, ...]:
    """
    Return the addresses of *target* that count among *records*: the lowest of each family.

    However long an answer, no more of it needs to be kept until those for all targets are in.
    """
    found = exhaust(_addresses_by_owner(records, {target})).get(target, ())
    by_type = ([r for r in found if r.type == type] for type in ("A", "AAAA"))
    return tuple(min(those, key=_by_number) for those in by_type if those)


def _follow(
    name: str, records: Iterable[Record], domain: str, external: bool
) -> tuple[frozenset[str], list[int], str | None]:
    """
    Return the name that the CNAMEs of an answer lead to from *name*, their TTLs, and what stopped
    them: the name that would have led out of *domain*.

    The first holds the one name at the end of the CNAMEs, as a set so that callers write
    `record.owner in owners`. It is empty if the CNAMEs form a circle or lead where knet must not
    follow.
    """
    # A name has one CNAME at most; of several, every client takes the same.
    found = sorted((r for r in records if r.type == "CNAME"), key=lambda r: (r.value, r.ttl))
    aliases = {r.owner: r for r in reversed(found)}
    owner = lowered(name)
    ttls: list[int] = []
    for _ in range(MAX_ALIASES + 1):
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


def _usable_services(
    owners: frozenset[str], answer: Iterable[Record], domain: str, external: bool
) -> Steps[tuple[list[Record], list[str]]]:
    """
    Return the SRV records that count, with a port and a target that is a hostname; and the targets of
    those that do not because they lie outside of *domain*.
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
    return services, outsiders


def _service_of(name: str) -> str:
    """
    Return the service whose named port *name* is: what follows `_http._tcp.`.
    """
    return lowered(name).split(".", 2)[-1]


def lowered(name: str) -> str:
    """
    Return a DNS name in lower case, without the trailing dot.
    """
    return name.lower().removesuffix(".")


def _by_number(record: Record) -> tuple[bytes, int]:
    return address_order(record.value), record.ttl


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
        if record.owner in owners and record.type in ("A", "AAAA"):
            address = usable_address(record.value)
            if address is not None:
                type: RecordType = "AAAA" if ":" in address else "A"
                if address != record.value or type != record.type:
                    record = record._replace(type=type, value=address)
                found.setdefault(record.owner, []).append(record)
    return found


def _shortest(ttls: Iterable[int]) -> float:
    return float(min(ttl if 0 <= ttl <= _MAX_TTL else 0 for ttl in ttls))


def _cut_off(name: str, records: Iterable[Record]) -> str:
    size = _size(name, records)
    if size < SUSPICIOUS_SIZE:
        return ""
    return f"an answer of {size} octets, and a DNS message holds 65535"


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
