"""
Replies as bytes: compressed, cut to size and flagged as CoreDNS does it.

Pure. dnspython reads the queries; the answers are written here, because a refresh test may ask
for a thousand records many times over, and because where an answer is cut is part of what is
pretended: CoreDNS compresses only what would not fit otherwise, never an SRV target, and cuts the
additional section before the answer.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from knet.testing.answers import Record, Reply
from knet.testing.zone import Family

__all__ = ["Asked", "header_only", "limit_of", "read", "render"]

_HEADER = struct.Struct("!HHHHHH")
_POINTER_REACH = 0x4000
# Where CoreDNS begins to compress a UDP answer that would have fitted, to avoid fragments.
_FRAGMENTS: dict[Family | None, int] = {"ipv4": 1480, "ipv6": 1220}
# NSID, EXPIRE, COOKIE, TCP keepalive, padding: the options CoreDNS sends back as they came.
_ECHOED_OPTIONS = (3, 9, 10, 11, 12)
# RD and CD.
_ECHOED_FLAGS = int(dns.flags.RD | dns.flags.CD)


@dataclass(frozen=True, slots=True)
class Asked:
    """
    One query, read.

    Attributes:
        message: As dnspython reads it; has exactly one question.
        labels: Of the name, in the case it was asked, without the root label.
        rdtype: The record type, a number too.
    """

    message: dns.message.Message
    labels: tuple[bytes, ...]
    rdtype: dns.rdatatype.RdataType


def read(wire: bytes) -> Asked | bytes | None:
    """
    Read a query.

    Returns:
        The query; or the bytes to send back at once, because it is broken or nothing to answer;
        or `None`, where a server stays silent.
    """
    if len(wire) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(wire)
    if flags & dns.flags.QR:
        return None
    if dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        return header_only(number, flags, dns.rcode.NOTIMP)
    if questions != 1:
        return header_only(number, flags, dns.rcode.FORMERR)
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return header_only(number, flags, dns.rcode.FORMERR)
    question = message.question[0]
    asked = Asked(message, question.name.labels[:-1], question.rdtype)
    if message.edns > 0:
        return render(asked, Reply(authoritative=False), limit=512, badvers=True)
    if question.rdclass != dns.rdataclass.IN:
        return render(asked, Reply(dns.rcode.REFUSED, authoritative=False), limit=512)
    return asked


def header_only(number: int, flags: int, rcode: int) -> bytes:
    """
    An error without even the question.
    """
    kept = flags & (0x7800 | _ECHOED_FLAGS)
    return _HEADER.pack(number, int(dns.flags.QR) | kept | rcode, 0, 0, 0, 0)


def limit_of(asked: Asked, *, tcp: bool) -> int:
    """
    The largest answer in bytes that the client takes this way.
    """
    if tcp:
        return 65535
    return max(512, asked.message.payload) if asked.message.edns >= 0 else 512


def render(
    asked: Asked,
    reply: Reply,
    *,
    limit: int,
    udp_family: Family | None = None,
    badvers: bool = False,
) -> bytes:
    """
    Write *reply* in at most *limit* bytes.

    Args:
        asked: What it answers: gives the id, the question, the OPT record.
        reply: The full answer.
        limit: At least 512.
        udp_family: The family of the client over UDP, `None` over TCP.
        badvers: Say that the query's EDNS version is unknown.

    Returns:
        The whole reply, else its beginning with the TC bit set.
    """
    question = asked.message.question[0]
    start = question.name.to_wire() or b""
    start += struct.pack("!HH", question.rdtype, question.rdclass)
    opt = _opt(asked.message, badvers=badvers)
    sections = (reply.answer, reply.authority, reply.additional)
    length = _HEADER.size + len(start) + len(opt)
    length += sum(len(one.owner) + len(one.rest) for section in sections for one in section)
    if length <= limit and length < _FRAGMENTS.get(udp_family, limit + 1):
        pieces = [one.owner + one.rest for section in sections for one in section]
        counts = [len(section) for section in sections]
    else:
        pieces, counts = _compress(start, sections, limit - len(opt))
    cut = reply.truncated or counts != [len(section) for section in sections]
    flags = int(dns.flags.QR) | asked.message.flags & _ECHOED_FLAGS | reply.rcode & 0xF
    flags |= int(dns.flags.AA) if reply.authoritative else 0
    flags |= int(dns.flags.TC) if cut else 0
    counts[2] += bool(opt)
    header = _HEADER.pack(asked.message.id, flags, 1, *counts)
    return b"".join((header, start, *pieces, opt))


def _compress(
    start: bytes, sections: Sequence[Sequence[Record]], limit: int
) -> tuple[list[bytes], list[int]]:
    """
    As many records as fit *limit*, in order, and how many of each section.
    """
    offsets: dict[bytes, int] = {}
    at = _HEADER.size
    _shorten(start[:-4], at, offsets)
    at += len(start)
    pieces: list[bytes] = []
    counts = [0, 0, 0]
    for section, records in enumerate(sections):
        for owner, rest, target in records:
            short = _shorten(owner, at, offsets)
            end = at + len(short) + len(rest)
            if end > limit:
                return pieces, counts
            if target:
                # Written in full, but later names may point at it.
                _shorten(target, end - len(target), offsets)
            pieces.append(short + rest)
            counts[section] += 1
            at = end
    return pieces, counts


def _shorten(name: bytes, at: int, offsets: dict[bytes, int]) -> bytes:
    """
    *name* as written at offset *at*; remembers every ending of it that was new.
    """
    position = 0
    while name[position]:
        ending = name[position:]
        known = offsets.get(ending)
        if known is not None:
            return name[:position] + struct.pack("!H", 0xC000 | known)
        if at + position < _POINTER_REACH:
            offsets[ending] = at + position
        position += name[position] + 1
    return name


def _opt(message: dns.message.Message, *, badvers: bool) -> bytes:
    """
    The OPT record that answers the query's, or nothing where it had none.
    """
    if message.edns < 0:
        return b""
    if badvers:
        return b"\0" + struct.pack("!HHIH", 41, 0, (dns.rcode.BADVERS >> 4) << 24, 0)
    options = b""
    for option in message.options:
        if option.otype in _ECHOED_OPTIONS:
            data = option.to_wire() or b""
            options += struct.pack("!HH", option.otype, len(data)) + data
    flags = message.ednsflags & 0xFF00
    return b"\0" + struct.pack("!HHIH", 41, message.payload, flags, len(options)) + options
