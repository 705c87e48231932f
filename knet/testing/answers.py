"""
What CoreDNS answers about a `Zone`: a question goes in, a `Reply` comes out.

Pure. The rules are those of CoreDNS's ``kubernetes`` plugin, quirks included, as they were seen
on the wire: no ready pod is NXDOMAIN; TXT at a bare namespace is NXDOMAIN, any other type NODATA; ``http.tcp.SVC`` answers like ``_http._tcp.SVC``; SRV
targets repeat the case in which the zone was asked.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import dns.rcode
import dns.rdatatype

from knet.testing.zone import Pod, Port, Zone, dashed

__all__ = ["Answers", "Record", "Reply", "wire_name"]

A = dns.rdatatype.A
AAAA = dns.rdatatype.AAAA
CNAME = dns.rdatatype.CNAME
NS = dns.rdatatype.NS
SOA = dns.rdatatype.SOA
SRV = dns.rdatatype.SRV
TXT = dns.rdatatype.TXT

# Asked 0x20-style, one name has thousands of spellings; each is an entry.
_REMEMBERED = 64
_MAX_ALIASES = 8


class Record(NamedTuple):
    """
    One resource record, nearly on the wire.

    Attributes:
        owner: Its name, as wire labels.
        rest: Everything after the owner: type, class, ttl, length and data, uncompressed.
        target: The name that ends *rest*, if one does: later owners may point at it.
    """

    owner: bytes
    rest: bytes
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An answer before it is made to fit: sections of records and the two bits that matter.

    Attributes:
        rcode: As in the header.
        authoritative: The AA bit.
        truncated: Sets the TC bit whatever the size.
    """

    rcode: int = dns.rcode.NOERROR
    authoritative: bool = True
    truncated: bool = False
    answer: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()


class _Address(NamedTuple):
    """
    One address of one ready pod: what an EndpointSlice holds.
    """

    pod: Pod
    label: bytes
    rdtype: int
    packed: bytes


def wire_name(labels: Iterable[bytes]) -> bytes:
    """
    Labels as an uncompressed wire name, the root label added.
    """
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _split(name: str) -> tuple[bytes, ...]:
    return tuple(label.encode("ascii") for label in name.split("."))


def _rest(rdtype: int, ttl: int, data: bytes) -> bytes:
    return struct.pack("!HHIH", rdtype, 1, ttl, len(data)) + data


class Answers:
    """
    The answers about one `Zone`, each made once.

    Args:
        zone: Never changes; another state is another `Answers`.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self._origin = _split(zone.origin)
        self._made: dict[tuple[tuple[bytes, ...], int], Reply] = {}

    @cached_property
    def _addresses(self) -> tuple[_Address, ...]:
        return tuple(_addresses(self.zone.pods))

    def find(self, labels: tuple[bytes, ...], rdtype: int) -> Reply:
        """
        Answer one question.

        Args:
            labels: Of the name as it was asked, without the root label.
            rdtype: The number of the record type.

        Returns:
            The full answer in the order of the pods; shared, so not to be changed.
        """
        key = (labels, rdtype)
        reply = self._made.get(key)
        if reply is None:
            if len(self._made) >= _REMEMBERED:
                self._made.clear()
            reply = self._made[key] = self._find(labels, rdtype)
        return reply

    def negative(self, labels: tuple[bytes, ...], rcode: int = dns.rcode.NOERROR) -> Reply:
        """
        NXDOMAIN or, without *rcode*, NODATA: no answer and the zone's SOA.
        """
        return Reply(rcode, authority=(self._soa(labels),))

    def _find(self, labels: tuple[bytes, ...], rdtype: int, hops: int = _MAX_ALIASES) -> Reply:
        if not self._holds(labels):
            return Reply(dns.rcode.SERVFAIL, authoritative=False)
        nodata = self.negative(labels)
        nxdomain = self.negative(labels, dns.rcode.NXDOMAIN)
        below = tuple(label.lower() for label in labels[: len(labels) - len(self._origin)])
        if rdtype == SOA:
            return nodata if below else Reply(answer=nodata.authority)
        if below == (b"dns-version",) and rdtype == TXT:
            return Reply(answer=(Record(wire_name(labels), _rest(TXT, 28800, b"\x051.1.0")),))
        if self._is_bare(below):
            return nxdomain if rdtype == TXT else nodata
        if len(below) < 3 or below[-1] != b"svc":
            return nxdomain
        target = self.zone.aliases.get((below[-3].decode("latin-1"), below[-2].decode("latin-1")))
        if target is not None:
            if len(below) > 3:
                return nxdomain
            return self._alias(labels, target, rdtype, hops)
        found, ports = self._below_service(below)
        if not found:
            return nxdomain
        if rdtype in (A, AAAA):
            records = tuple(_address_records(labels, found, self.zone.ttl, rdtype))
            return Reply(answer=records) if records else nodata
        if rdtype == SRV:
            return self._srv(labels, found, ports) if ports else nodata
        return nodata

    def _is_bare(self, below: tuple[bytes, ...]) -> bool:
        """
        Whether the name exists without having records: the zone itself, ``svc``, a namespace.
        """
        if below in ((), (b"svc",), (b"pod",), (b"ns", b"dns")):
            return True
        if len(below) != 2 or below[1] != b"svc":
            return False
        namespace = below[0].decode("latin-1")
        return namespace == self.zone.namespace or any(
            namespace == other for _, other in self.zone.aliases
        )

    def _below_service(self, below: tuple[bytes, ...]) -> tuple[Sequence[_Address], Sequence[Port]]:
        """
        The addresses a name under ``svc`` stands for, and the ports it asks for.
        """
        here = (self.zone.service.encode(), self.zone.namespace.encode(), b"svc")
        if below[-3:] != here:
            return (), ()
        prefix = below[:-3]
        if not prefix:
            return self._addresses, self.zone.ports
        if len(prefix) == 1:
            return tuple(one for one in self._addresses if one.label == prefix[0]), self.zone.ports
        if len(prefix) == 2:
            # CoreDNS takes one underscore off, and does not mind if there is none.
            name, protocol = (label.decode("latin-1").removeprefix("_") for label in prefix)
            ports = tuple(
                port
                for port in self.zone.ports
                # An empty name, from ``_._tcp``, means any.
                if name in ("", port.name) and protocol in ("", port.protocol)
            )
            if ports:
                return self._addresses, ports
        return (), ()

    def _srv(
        self, labels: tuple[bytes, ...], found: Sequence[_Address], ports: Sequence[Port]
    ) -> Reply:
        zone = self.zone
        owner = wire_name(labels)
        parent = wire_name(
            (*_split(f"{zone.service}.{zone.namespace}.svc"), *labels[-len(self._origin) :])
        )
        # Addresses are counted, not records: a dual-stack pod with a hostname counts twice.
        weight = max(1, 100 // (len(found) * len(ports)))
        answer: dict[tuple[bytes, int], Record] = {}
        additional: dict[tuple[bytes, bytes], Record] = {}
        for one in found:
            target = bytes((len(one.label),)) + one.label + parent
            for each in ports:
                number = one.pod.ports.get(each.name, each.number)
                if (target, number) not in answer:
                    data = struct.pack("!HHH", 0, weight, number) + target
                    rest = _rest(SRV, zone.ttl, data)
                    answer[target, number] = Record(owner, rest, target)
            if (target, one.packed) not in additional:
                rest = _rest(one.rdtype, zone.ttl, one.packed)
                additional[target, one.packed] = Record(target, rest)
        return Reply(answer=tuple(answer.values()), additional=tuple(additional.values()))

    def _alias(self, labels: tuple[bytes, ...], target: str, rdtype: int, hops: int) -> Reply:
        """
        The CNAME of an ExternalName Service and, inside this zone, what it leads to.
        """
        if rdtype not in (A, AAAA, CNAME):
            return self.negative(labels)
        goal = _split(target)
        data = wire_name(goal)
        cname = Record(wire_name(labels), _rest(CNAME, self.zone.ttl, data), data)
        if rdtype == CNAME or not self._holds(goal):
            return Reply(answer=(cname,))
        further = self._find(goal, rdtype, hops - 1).answer if hops > 1 else ()
        # A chain that ends nowhere, or never, is answered as if it did not begin.
        return Reply(answer=(cname, *further)) if further else self.negative(labels)

    def _holds(self, labels: tuple[bytes, ...]) -> bool:
        """
        Whether a name is in this zone.
        """
        depth = len(labels) - len(self._origin)
        return depth >= 0 and tuple(one.lower() for one in labels[depth:]) == self._origin

    def _soa(self, labels: tuple[bytes, ...]) -> Record:
        depth = len(self._origin)
        origin = labels[-depth:] if self._holds(labels) else self._origin
        data = (
            wire_name((b"ns", b"dns", *origin))
            + wire_name((b"hostmaster", *origin))
            + struct.pack("!IIIII", self.zone.serial, 7200, 1800, 86400, self.zone.ttl)
        )
        return Record(wire_name(origin), _rest(SOA, self.zone.ttl, data))


def _addresses(pods: Iterable[Pod]) -> list[_Address]:
    """
    The addresses of the ready pods, all IPv4 before all IPv6: slices hold one family each.
    """
    found: list[_Address] = []
    for rdtype, family in ((A, socket.AF_INET), (AAAA, socket.AF_INET6)):
        for pod in pods:
            for address in pod.addresses:
                if pod.ready and (":" in address) == (rdtype == AAAA):
                    label = (pod.hostname or dashed(address)).encode("ascii")
                    packed = socket.inet_pton(family, address)
                    found.append(_Address(pod, label, rdtype, packed))
    return found


def _address_records(
    labels: tuple[bytes, ...], found: Iterable[_Address], ttl: int, rdtype: int
) -> list[Record]:
    """
    One record per different address, in order.
    """
    owner = wire_name(labels)
    packed = dict.fromkeys(one.packed for one in found if one.rdtype == rdtype)
    return [Record(owner, _rest(rdtype, ttl, data)) for data in packed]
