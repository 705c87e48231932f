"""
What CoreDNS answers about a `Zone`: a question goes in, a `Sections` comes out.

Pure. The rules are those of CoreDNS's ``kubernetes`` plugin as seen on the wire, surprises
included: no ready pod is NXDOMAIN, as if the Service did not exist; a dual-stack pod counts twice
for the weight of SRV records; ``http.tcp.SVC`` answers like ``_http._tcp.SVC``; SRV targets end
in the zone as the question spelled it, upper and lower case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdatatype import AAAA, CNAME, SOA, SRV, A, RdataType

from knet.testing.zone import Pod, Port, Zone, dashed

__all__ = ["Answers", "Sections"]

_MAX_ALIASES = 8
_REMEMBERED = 64


class Sections(NamedTuple):
    """
    An answer before it is made to fit.

    Each record is an RRset of its own, so that an answer can be cut between any two and keeps
    its order; all are shared, so not to be changed.
    """

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    answer: Sequence[dns.rrset.RRset] = ()
    authority: Sequence[dns.rrset.RRset] = ()
    additional: Sequence[dns.rrset.RRset] = ()


class _Address(NamedTuple):
    """
    One address of one ready pod: what an EndpointSlice holds.
    """

    pod: Pod
    label: str
    rdtype: RdataType
    text: str


class Answers:
    """
    The answers about one `Zone`, each made once.

    Args:
        zone: Never changes; another state is another `Answers`.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self._origin = dns.name.from_text(zone.origin)
        self._addresses = tuple(_ready_addresses(zone.pods))
        self._made: dict[tuple[tuple[bytes, ...], RdataType], Sections] = {}

    def find(self, name: dns.name.Name, rdtype: RdataType) -> Sections:
        """
        Answer one question, in full and in the order of the pods.
        """
        key = (name.labels, rdtype)  # unlike a name, its labels have upper and lower case
        reply = self._made.get(key)
        if reply is None:
            if len(self._made) >= _REMEMBERED:
                self._made.clear()
            reply = self._made[key] = self._find(name, rdtype)
        return reply

    def negative(self, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> Sections:
        """
        NXDOMAIN or, without *rcode*, NODATA: no answer and the zone's SOA.
        """
        return Sections(rcode, authority=(self._soa(),))

    def _find(self, name: dns.name.Name, rdtype: RdataType, hops: int = _MAX_ALIASES) -> Sections:
        if not name.is_subdomain(self._origin):
            return Sections(dns.rcode.SERVFAIL)
        below = name.relativize(self._origin).canonicalize()
        match [label.decode("latin-1") for label in below.labels]:
            case [] if rdtype == SOA:
                return Sections(answer=(self._soa(),))
            case [] | ["svc"]:
                return self.negative()
            case [namespace, "svc"] if namespace in self._namespaces():
                return self.negative()
            case [service, namespace, "svc"] if (service, namespace) in self.zone.aliases:
                return self._alias(name, self.zone.aliases[service, namespace], rdtype, hops)
            case [*prefix, self.zone.service, self.zone.namespace, "svc"]:
                return self._service(name, prefix, rdtype)
        return self.negative(dns.rcode.NXDOMAIN)

    def _namespaces(self) -> set[str]:
        return {self.zone.namespace, *(namespace for _, namespace in self.zone.aliases)}

    def _service(self, name: dns.name.Name, prefix: Sequence[str], rdtype: RdataType) -> Sections:
        """
        The Service itself, one pod (a *prefix* of one label) or one port (of two).
        """
        found, ports = self._addresses, self.zone.ports
        if len(prefix) == 1:
            found = tuple(one for one in found if one.label == prefix[0])
        elif len(prefix) == 2:
            wanted, protocol = (label.removeprefix("_") for label in prefix)
            # An empty name, from ``_._tcp``, means any.
            ports = tuple(
                port
                for port in ports
                if wanted in ("", port.name) and protocol in ("", port.protocol)
            )
            found = found if ports else ()
        if not found or len(prefix) > 2:
            return self.negative(dns.rcode.NXDOMAIN)
        if rdtype == SRV and ports:
            return self._srv(name, found, ports)
        owner, ttl = name.to_text(), self.zone.ttl
        texts = dict.fromkeys(one.text for one in found if one.rdtype == rdtype)
        records = tuple(_record(owner, ttl, rdtype, text) for text in texts)
        return Sections(answer=records) if records else self.negative()

    def _srv(
        self, name: dns.name.Name, found: Sequence[_Address], ports: Sequence[Port]
    ) -> Sections:
        owner, ttl = name.to_text(), self.zone.ttl
        _, origin = name.split(len(self._origin))
        parent = f"{self.zone.service}.{self.zone.namespace}.svc.{origin}"
        # Addresses are counted, not records: a dual-stack pod with a hostname counts twice.
        weight = max(1, 100 // (len(found) * len(ports)))
        pairs = dict.fromkeys(
            (one.label, one.pod.ports.get(port.name, port.number))
            for one in found
            for port in ports
        )
        answer = tuple(
            _record(owner, ttl, SRV, f"0 {weight} {number} {label}.{parent}")
            for label, number in pairs
        )
        hosts = dict.fromkeys((one.label, one.rdtype, one.text) for one in found)
        additional = tuple(
            _record(f"{label}.{parent}", ttl, rdtype, text) for label, rdtype, text in hosts
        )
        return Sections(answer=answer, additional=additional)

    def _alias(self, name: dns.name.Name, target: str, rdtype: RdataType, hops: int) -> Sections:
        """
        The CNAME of an ExternalName Service and, inside this zone, what it leads to.
        """
        if rdtype not in (A, AAAA, CNAME):
            return self.negative()
        cname = _record(name.to_text(), self.zone.ttl, CNAME, target)
        goal = dns.name.from_text(target)
        if rdtype == CNAME or not goal.is_subdomain(self._origin):
            return Sections(answer=(cname,))
        further = self._find(goal, rdtype, hops - 1).answer if hops > 1 else ()
        # A chain that ends nowhere, or never, is answered as if it did not begin.
        return Sections(answer=(cname, *further)) if further else self.negative()

    def _soa(self) -> dns.rrset.RRset:
        origin, ttl = self._origin.to_text(), self.zone.ttl
        text = f"ns.dns.{origin} hostmaster.{origin} {self.zone.serial} 7200 1800 86400 {ttl}"
        return _record(origin, ttl, SOA, text)


def _ready_addresses(pods: Iterable[Pod]) -> Iterator[_Address]:
    """
    The addresses of the ready pods, all IPv4 before all IPv6: slices hold one family each.
    """
    for rdtype in (A, AAAA):
        for pod in pods:
            for text in pod.addresses:
                if pod.is_listed and (":" in text) == (rdtype == AAAA):
                    yield _Address(pod, pod.hostname or dashed(text), rdtype, text)


@lru_cache(maxsize=20_000)
def _record(owner: str, ttl: int, rdtype: RdataType, text: str) -> dns.rrset.RRset:
    """
    One record; remembered, as after a change most records of a large Service are the same.
    """
    # Generic, because dnspython before 2.9 compresses SRV targets, and CoreDNS never does.
    rdata = dns.rdata.from_text(dns.rdataclass.IN, rdtype, text).to_generic()
    return dns.rrset.from_rdata(owner, ttl, rdata)
