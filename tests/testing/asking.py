"""
One query over the wire, as a client of any kind would send it.
"""

from __future__ import annotations

import socket

import dns.message
import dns.query
import dns.rdatatype
import pytest

from knet.testing import HeadlessService


def where(service: HeadlessService) -> tuple[str, int]:
    host, _, port = service.nameserver.rpartition(":")
    return host.strip("[]"), int(port)


def ask(
    service: HeadlessService,
    name: str | None = None,
    rdtype: str = "A",
    *,
    tcp: bool = False,
    payload: int | None = None,
    timeout: float = 5.0,
) -> dns.message.Message:
    query = dns.message.make_query(name or service.name, rdtype)
    if payload is not None:
        query.use_edns(0, payload=payload)
    host, port = where(service)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, host, port=port, timeout=timeout)


def ask_raw(service: HeadlessService, wire: bytes, timeout: float = 5.0) -> bytes:
    host, port = where(service)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.settimeout(timeout)
        udp.sendto(wire, (host, port))
        return udp.recv(65535)


def data(reply: dns.message.Message, section: str = "answer") -> list[str]:
    """
    The data of every record of a section, in order.
    """
    return [record.to_text() for rrset in getattr(reply, section) for record in rrset]


def owners(reply: dns.message.Message, section: str = "answer") -> set[str]:
    return {rrset.name.to_text() for rrset in getattr(reply, section)}


def addresses(service: HeadlessService, *, tcp: bool = False) -> set[str]:
    return set(data(ask(service, tcp=tcp)))


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
            udp.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6_loopback(), reason="no IPv6 loopback")

__all__ = [
    "addresses",
    "ask",
    "ask_raw",
    "data",
    "needs_ipv6",
    "owners",
    "where",
]
