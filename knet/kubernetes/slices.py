"""
EndpointSlices to an answer: the same endpoints as by DNS.

Pure. A service has several slices: for each family, for each set of ports, and by size. Here they are read,
merged by address, and named as CoreDNS names them: by a pod's hostname where a named port was asked for
and the pod has one, else by its address.

Who is ready is an endpoint; a missing condition counts as true (`discovery.k8s.io/v1`). Who is terminating
and still serves counts only where that is asked for and nobody is ready (KEP-1669); DNS does not know them.

What comes in was written by others: what makes no sense is left out, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knet.answer import Answer
from knet.endpoint import Endpoint
from knet.errors import ConfigError
from knet.pods import usable_address
from knet.question import Question

__all__ = ["Listed", "Slice", "answer_from", "mapping", "mappings", "read_slice", "why_nobody"]

_FAMILIES = {"IPv4": "ipv4", "IPv6": "ipv6"}

# RFC 1035.
_LONGEST = 63


@dataclass(frozen=True, slots=True)
class Listed:
    """
    One endpoint of a slice.

    Attributes:
        address: Canonical.
        hostname: `"web-0"`, of a StatefulSet's pod; else `""`.
        zone: Where it runs, or `None`.
        uid: Of the pod, or `""`.
        name: Of the pod, or `""`.
        ready: It serves.
        draining: It is terminating, and still serves.
    """

    address: str
    hostname: str
    zone: str | None
    uid: str
    name: str
    ready: bool
    draining: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """
    One slice.

    Attributes:
        family: `"ipv4"`, `"ipv6"`, or `""`: of names, which are nobody's address.
        ports: The number of each port, by name and protocol (`("http", "tcp")`).
        listed: Its endpoints.
        ignored: How many of them made no sense.
    """

    family: str
    ports: Mapping[tuple[str, str], int]
    listed: tuple[Listed, ...]
    ignored: int = 0


def read_slice(told: Mapping[str, Any]) -> Slice:
    """
    Read a slice as the API sends it.
    """
    family = _FAMILIES.get(str(told.get("addressType")), "")
    ports: dict[tuple[str, str], int] = {}
    for port in mappings(told.get("ports")):
        number = port.get("port")
        if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 65536:
            key = str(port.get("name") or ""), str(port.get("protocol") or "TCP").lower()
            ports.setdefault(key, number)
    listed: list[Listed] = []
    ignored = 0
    for endpoint in mappings(told.get("endpoints")):
        one = _read(endpoint, family)
        if one is None:
            ignored += 1
        else:
            listed.append(one)
    return Slice(family, ports, tuple(listed), ignored)


def _read(endpoint: Mapping[str, Any], family: str) -> Listed | None:
    addresses = endpoint.get("addresses")
    # There is one; what others would mean was never said.
    first = addresses[0] if isinstance(addresses, list) and addresses else None
    address = usable_address(first) if isinstance(first, str) and len(first) <= _LONGEST else None
    if address is None or (":" in address) != (family == "ipv6") or not family:
        return None
    conditions, target = mapping(endpoint.get("conditions")), mapping(endpoint.get("targetRef"))
    zone = endpoint.get("zone")
    return Listed(
        address,
        _label(endpoint.get("hostname")),
        zone if isinstance(zone, str) and 0 < len(zone) <= _LONGEST else None,
        str(target.get("uid") or ""),
        str(target.get("name") or ""),
        conditions.get("ready") is not False,
        conditions.get("terminating") is True and conditions.get("serving") is True,
    )


def answer_from(
    slices: Iterable[Slice],
    question: Question,
    *,
    domain: str,
    knows_domain: bool = True,
    serve_terminating: bool = False,
    also: Sequence[tuple[Slice, Listed]] = (),
) -> Answer:
    """
    Return what *slices* say of *question*.

    Args:
        slices: In the order in which they were heard of: of two that list one pod, the later one counts.
        question: Which pods are wanted.
        domain: The service's whole name, which a hostname goes before: `"web.prod.svc.cluster.local"`.
        knows_domain: Whether that is known, and not what it usually is.
        serve_terminating: Whether those that are terminating and serve count, where nobody is ready.
        also: Who is in no slice for a moment, and counts all the same.

    Raises:
        ConfigError: Names go by the cluster's domain, and that is not known.
    """
    slices = tuple(slices)
    told = [(each, one) for each in slices for one in each.listed]
    ignored = sum(each.ignored for each in slices)
    best: dict[str, tuple[Slice, Listed]] = {}
    for each, one in (*also, *told):
        if isinstance(question.port, str) and _port_of(each, question) is None:
            continue
        before = best.get(one.address)
        if before is None or _is_better(one, before[1]):
            best[one.address] = each, one
    ready = [each for each in best.values() if each[1].ready]
    if not ready and serve_terminating:
        ready = [each for each in best.values() if each[1].draining]
    families = {each.family for each, _ in ready}
    family = question.family
    if family == "auto":
        family = "ipv4" if "ipv4" in families else "ipv6"
    endpoints: dict[str, Endpoint] = {}
    for each, one in ready:
        if each.family != family:
            continue
        port = question.port if isinstance(question.port, int) else _port_of(each, question)
        name = one.address
        if isinstance(question.port, str) and one.hostname:
            if not knows_domain:
                raise ConfigError(
                    f"the pods of {question} go by their hostnames, and nothing says what the cluster's domain is: "
                    f'write "{domain}", or EndpointSlices(domain="cluster.local")'
                )
            name = f"{one.hostname}.{domain}"
        endpoint = Endpoint(name, one.address, port, 1, one.zone)
        if name in endpoints and endpoints[name] < endpoint:
            continue  # one hostname at two addresses: all clients take the same one
        endpoints[name] = endpoint
    return Answer(endpoints.values(), name=f"{domain}.", ignored=ignored)


def why_nobody(slices: Sequence[Slice], question: Question) -> str:
    """
    Return, for a person, what there is in *slices* where they answer *question* with nobody.
    """
    told = [(each, one) for each in slices for one in each.listed]
    if not slices:
        return "there is no EndpointSlice of it: either there is no such Service, or none of its pods was made yet"
    if isinstance(question.port, str) and all(_port_of(each, question) is None for each in slices):
        names = sorted(
            {f"{name or '(no name)'}/{kind}" for each in slices for name, kind in each.ports}
        )
        return f"no port of it has that name; there are {', '.join(names) or 'none'}"
    families = {each.family for each, one in told if one.ready}
    if families:
        return f"its pods have addresses of {' and '.join(sorted(families))} only"
    return f"none of its {len({one.address for _, one in told})} pods is ready"


def _port_of(each: Slice, question: Question) -> int | None:
    if not isinstance(question.port, str):
        return None
    return each.ports.get((question.port, question.protocol))


def _is_better(one: Listed, before: Listed) -> bool:
    """
    Of two at one address: is *one*, which was heard of later, the one that counts?
    """
    if one.uid == before.uid:
        return True
    mine, other = (one.ready, one.draining), (before.ready, before.draining)
    return mine > other or (mine == other and one.name < before.name)


def _label(text: object) -> str:
    """
    Return a hostname that can be one, or `""`.
    """
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST:
        return ""
    name = text.lower()
    is_plain = name.isascii() and name.replace("-", "").isalnum() and name[0] != "-" != name[-1]
    return name if is_plain else ""


def mapping(told: object) -> Mapping[str, Any]:
    """
    Return *told* if it is a JSON object, else an empty one.
    """
    return told if isinstance(told, Mapping) else {}


def mappings(told: object) -> list[Mapping[str, Any]]:
    """
    Return those of *told* that are JSON objects, if it is a list.
    """
    return [each for each in told if isinstance(each, Mapping)] if isinstance(told, list) else []
