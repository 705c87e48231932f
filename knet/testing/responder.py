"""
The mind of the pretended server: a query's bytes go in, what to send comes out.

Holds what the controls change (the zone, the faults, the delay, the hook) and the log of queries,
under one lock: controls come from any thread, queries from the server's own. Does no I/O and
never sleeps.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from knet.errors import ConfigError
from knet.testing.answers import Answers, Sections
from knet.testing.controls import Faults, Log, check_times
from knet.testing.wire import LARGEST, read, refusal, response, size_limit, write
from knet.testing.zone import Zone

__all__ = ["Fault", "FaultKind", "Query", "Respond", "Responder", "Sending", "Transport"]

FaultKind = Literal[
    "SERVFAIL",
    "REFUSED",
    "NOTIMP",
    "FORMERR",
    "NXDOMAIN",
    "NODATA",
    "SILENCE",
    "GARBAGE",
    "WRONG_ID",
    "WRONG_QUESTION",
    "WRONG_SOURCE",
    "TRUNCATE",
    "CLOSE",
]
Transport = Literal["udp", "tcp"]
Respond: TypeAlias = Callable[[dns.message.Message], "dns.message.Message | bytes | None"]

_SHUFFLED = (dns.rdatatype.A, dns.rdatatype.AAAA)
# Small answers are written afresh. Of a large one there are a few orders, each written once;
# and large ones are few, unless each query has a cookie or a mix of cases of its own.
_LARGE = 4096
_ORDERS = 8
_REMEMBERED = 64
# Some kinds mean little over the other transport.
_USUAL_TRANSPORT: dict[str, Transport] = {"TRUNCATE": "udp", "WRONG_SOURCE": "udp", "CLOSE": "tcp"}
# The question of an answer to nobody's question.
_ELSEWHERE = dns.name.from_text("elsewhere.test.")


@dataclass(frozen=True, slots=True)
class Query:
    """
    One query the server received.

    Attributes:
        name: As asked, case and all, without the final dot.
        rdtype: ``"A"``, ``"AAAA"``, ``"SRV"``, ...
        transport: ``"udp"`` or ``"tcp"``.
        time: Seconds on `time.monotonic`'s clock.
    """

    name: str
    rdtype: str
    transport: Transport
    time: float


@dataclass(slots=True, eq=False)
class Fault:
    """
    One thing that goes wrong, for the queries it matches.

    Attributes:
        kind: What goes wrong.
        times: How many queries more, `None` for all until healed.
        rdtype: Only queries of this type, ``"A"``; `None` for all.
        transport: Only queries that came this way; `None` for both.
    """

    kind: FaultKind
    times: int | None = None
    rdtype: str | None = None
    transport: Transport | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ConfigError(f"a fault is one of {get_args(FaultKind)}, got {self.kind!r}")
        check_times(self.times)
        if self.rdtype is not None:
            self.rdtype = dns.rdatatype.to_text(type_number(self.rdtype))
        if self.transport not in (None, *get_args(Transport)):
            raise ConfigError(f"a transport is 'udp' or 'tcp', got {self.transport!r}")
        if self.transport is None:
            self.transport = _USUAL_TRANSPORT.get(self.kind)

    def matches(self, query: Query) -> bool:
        """
        Whether *query* meets this fault.
        """
        return self.rdtype in (None, query.rdtype) and self.transport in (None, query.transport)


@dataclass(frozen=True, slots=True)
class Sending:
    """
    What to do about one query.

    Attributes:
        wire: The bytes to send, or `None` for silence.
        delay: Seconds to wait first.
        close: Close the TCP connection instead.
        elsewhere: Send it from another port than the one that was asked, over UDP.
    """

    wire: bytes | None
    delay: float = 0.0
    close: bool = False
    elsewhere: bool = False


class Responder:
    """
    What the controls change and the server reads.

    Args:
        zone: The state before the first change.
        rng: For orders and garbage.
        shuffle: Answer addresses in random order.

    Attributes:
        lock: Held for every change, and while an answer is made.
        faults: What goes wrong.
        delay: Seconds before every answer.
        respond: The user's own answers, if any.
        trouble: What `respond` raised, first one only.
        log: The queries.
    """

    def __init__(self, zone: Zone, rng: random.Random, *, shuffle: bool) -> None:
        self.lock = threading.Condition()
        self.faults: Faults[Fault] = Faults(self.lock)
        self.delay = 0.0
        self.respond: Respond | None = None
        self.trouble: Exception | None = None
        self.log: Log[Query] = Log(self.lock, zone.name, "queries")
        self._rng = rng
        self._shuffle = shuffle
        self.zone = zone

    @property
    def zone(self) -> Zone:
        """
        The state the next query is answered from.
        """
        return self._answers.zone

    @zone.setter
    def zone(self, zone: Zone) -> None:
        with self.lock:
            self._answers = Answers(zone)
            self._written: dict[tuple[bytes, bool, int], bytes] = {}

    def handle(self, wire: bytes, transport: Transport) -> Sending:
        """
        Decide about one query, which came as *wire* by *transport*.
        """
        query = read(wire)
        if query is None:
            return Sending(None)
        tcp = transport == "tcp"
        limit = size_limit(query, tcp=tcp)
        refused = refusal(query)
        if refused is not None:
            return Sending(write(response(query, Sections(refused)), limit), self.delay)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        entry = Query(name, dns.rdatatype.to_text(question.rdtype), transport, time.monotonic())
        with self.lock:
            fault = self.faults.meet(entry)
            respond = self.respond if fault is None else None
        # Without the lock: the hook may wait for a thread that wants to use a control.
        own = None if respond is None else self._own_answer(respond, query)
        with self.lock:
            if own is not None:
                sending = Sending(own, self.delay)
            elif fault is not None:
                sending = self._go_wrong(fault.kind, query, limit)
            else:
                sending = Sending(self._usual(query, wire, limit, tcp=tcp), self.delay)
            # Logged last: who saw a query may change the zone, and that query not notice.
            self.log.add(entry)
        return sending

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """
        The usual answer, not yet cut, shuffled if this server shuffles.
        """
        refused = refusal(query)
        if refused is not None:
            return response(query, Sections(refused))
        question = query.question[0]
        with self.lock:
            message = response(query, self._answers.find(question.name, question.rdtype))
            if self._shuffle:
                message.answer = self._shuffled(message.answer)
                message.additional = self._shuffled(message.additional)
        return message

    def _shuffled(self, records: Iterable[dns.rrset.RRset]) -> list[dns.rrset.RRset]:
        """
        Addresses in random order; CNAMEs stay before them, SRV records where they are.
        """
        return sorted(
            records, key=lambda one: self._rng.random() if one.rdtype in _SHUFFLED else -1
        )

    def _usual(self, query: dns.message.Message, wire: bytes, limit: int, *, tcp: bool) -> bytes:
        """
        The usual answer as bytes, remembered if it is large.
        """
        order = self._rng.randrange(_ORDERS) if self._shuffle else 0
        # But for its id, a query that is the same gets an answer that is the same.
        key = (wire[2:], tcp, order)
        written = self._written.get(key)
        if written is not None:
            return wire[:2] + written[2:]
        written = write(self.answer(query), limit)
        if len(written) > _LARGE and len(self._written) < _REMEMBERED:
            self._written[key] = written
        return written

    def _go_wrong(self, kind: FaultKind, query: dns.message.Message, limit: int) -> Sending:
        if kind == "SILENCE":
            return Sending(None)
        if kind == "CLOSE":
            return Sending(None, self.delay, close=True)
        if kind == "GARBAGE":
            # A header that promises one question and one answer; then a pointer to nowhere.
            start = query.id.to_bytes(2, "big") + bytes.fromhex("8180 0001 0001 0000 0000 ffff")
            return Sending(start + self._rng.randbytes(40), self.delay)
        if kind in ("NXDOMAIN", "NODATA"):
            rcode = dns.rcode.NXDOMAIN if kind == "NXDOMAIN" else dns.rcode.NOERROR
            message = response(query, self._answers.negative(rcode))
        elif kind in ("TRUNCATE", "WRONG_ID", "WRONG_QUESTION", "WRONG_SOURCE"):
            message = self.answer(query)
            if kind == "WRONG_ID":
                message.id ^= 0x5555
            elif kind == "WRONG_QUESTION":
                asked = query.question[0].rdtype
                message.question = [dns.rrset.RRset(_ELSEWHERE, dns.rdataclass.IN, asked)]
            elif kind == "TRUNCATE":
                message.flags |= dns.flags.TC
                del message.answer[len(message.answer) // 2 :], message.additional[:]
        else:
            message = response(query, Sections(dns.rcode.from_text(kind)))
        return Sending(write(message, limit), self.delay, elsewhere=kind == "WRONG_SOURCE")

    def _own_answer(self, respond: Respond, query: dns.message.Message) -> bytes | None:
        """
        What the user's hook says, as bytes; SERVFAIL where it raises.
        """
        try:
            said = respond(query)
            if said is None or isinstance(said, bytes):
                return said
            return said.to_wire(max_size=LARGEST)
        except Exception as error:  # noqa: BLE001 - a test's own code; reported on closing
            if self.trouble is None:
                self.trouble = error
            return write(response(query, Sections(dns.rcode.SERVFAIL)), LARGEST)


def type_number(text: str) -> dns.rdatatype.RdataType:
    """
    The number of a record type; raise `ConfigError` if *text* names none.
    """
    try:
        return dns.rdatatype.from_text(text)
    except (dns.rdatatype.UnknownRdatatype, ValueError):
        raise ConfigError(f"not a DNS record type: {text!r}") from None
