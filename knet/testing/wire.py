"""
Queries read and replies written, by dnspython; how they are cut to size is CoreDNS's way.

Pure. Knows the header, EDNS and sizes; what the records are is `knet.testing.answers`'s business.
"""

from __future__ import annotations

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass

from knet.testing.answers import Sections

__all__ = ["LARGEST", "read", "refusal", "response", "size_limit", "write"]

LARGEST = 65535


def read(wire: bytes) -> dns.message.Message | None:
    """
    Read a query; `None` for noise and for answers, which a server meets with silence.
    """
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True, continue_on_error=True)
    except dns.exception.DNSException:
        return None
    return None if message.flags & dns.flags.QR else message


def refusal(query: dns.message.Message) -> dns.rcode.Rcode | None:
    """
    What is wrong with a query that no zone could answer; `None` for the others.

    Only those others are sure to have exactly one question.
    """
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if query.errors or len(query.question) != 1:
        return dns.rcode.FORMERR
    if query.edns > 0:
        return dns.rcode.BADVERS
    if query.question[0].rdclass != dns.rdataclass.IN:
        return dns.rcode.REFUSED
    return None


def size_limit(query: dns.message.Message, *, tcp: bool) -> int:
    """
    The largest reply in bytes that the client takes this way.
    """
    return LARGEST if tcp else max(512, query.payload)


def response(query: dns.message.Message, reply: Sections) -> dns.message.Message:
    """
    *reply* as a message: with the id, the question and, if it has EDNS, the EDNS of *query*.

    The records are those of *reply* and shared; the lists they are in are not.
    """
    message = dns.message.make_response(query)
    if query.edns >= 0:
        cookies = [one for one in query.options if one.otype == dns.edns.OptionType.COOKIE]
        do = query.ednsflags & dns.flags.DO
        message.use_edns(0, do, payload=query.payload, options=cookies)
    message.set_rcode(reply.rcode)
    if reply.rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        message.flags |= dns.flags.AA
    message.answer, message.authority, message.additional = map(list, reply[1:])
    return message


def write(message: dns.message.Message, limit: int) -> bytes:
    """
    The bytes of *message*, at most *limit*: as many records as fit, and TC where some did not.
    """
    try:
        return message.to_wire(max_size=limit)
    except dns.exception.TooBig:
        # Set here, because dnspython leaves it off where only additional records are cut.
        message.flags |= dns.flags.TC
        return message.to_wire(max_size=limit, prefer_truncation=True)
