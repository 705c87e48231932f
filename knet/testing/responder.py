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
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import dns.message
import dns.rcode
import dns.rdatatype

from knet.errors import ConfigError
from knet.testing.answers import Answers, Record, Reply
from knet.testing.wire import Asked, limit_of, read, render
from knet.testing.zone import Family, Zone

__all__ = ["Fault", "FaultKind", "Outcome", "Query", "Respond", "Responder", "Transport"]

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
    "TRUNCATE",
    "CLOSE",
]
Transport = Literal["udp", "tcp"]
Respond: TypeAlias = Callable[[dns.message.Message], "dns.message.Message | bytes | None"]

_LOGGED = 10_000
_RCODES = {
    "SERVFAIL": dns.rcode.SERVFAIL,
    "REFUSED": dns.rcode.REFUSED,
    "NOTIMP": dns.rcode.NOTIMP,
    "FORMERR": dns.rcode.FORMERR,
}
# Some kinds mean little over the other transport.
_USUAL_TRANSPORT: dict[str, Transport] = {"TRUNCATE": "udp", "CLOSE": "tcp"}


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
        if self.times is not None and self.times < 1:
            raise ConfigError(f"times must be at least 1, got {self.times}")
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
class Outcome:
    """
    What to do about one query.

    Attributes:
        wire: The bytes to send, or `None` for silence.
        delay: Seconds to wait first.
        close: Close the TCP connection instead.
    """

    wire: bytes | None
    delay: float = 0.0
    close: bool = False


@dataclass(slots=True, eq=False)
class Responder:
    """
    What the controls change and the server reads.

    Attributes:
        lock: Held for every change, and while an answer is made.
        faults: Newest last; the newest that matches applies.
        delay: Seconds before every answer.
        respond: The user's own answers, if any.
        trouble: What `respond` raised, first one only.
        seen: How many queries there were, the forgotten ones included.
        log: The latest queries.
    """

    answers: Answers
    rng: random.Random
    shuffle: bool
    lock: threading.Condition = field(default_factory=threading.Condition)
    faults: list[Fault] = field(default_factory=list)
    delay: float = 0.0
    respond: Respond | None = None
    trouble: BaseException | None = None
    seen: int = 0
    log: deque[Query] = field(default_factory=lambda: deque(maxlen=_LOGGED))

    @property
    def zone(self) -> Zone:
        """
        The state the next query is answered from.
        """
        return self.answers.zone

    def handle(self, wire: bytes, transport: Transport, *, family: Family) -> Outcome:
        """
        Decide about one query.

        Args:
            wire: The query.
            transport: How it came.
            family: ``"ipv4"`` or ``"ipv6"``: how the client is connected.
        """
        asked = read(wire)
        if asked is None:
            return Outcome(None)
        if isinstance(asked, bytes):
            return Outcome(asked, self.delay)
        name = asked.message.question[0].name.to_text(omit_final_dot=True)
        query = Query(name, dns.rdatatype.to_text(asked.rdtype), transport, time.monotonic())
        with self.lock:
            fault = self._fault_for(query)
            respond = self.respond if fault is None else None
        # Without the lock: the hook may wait for a thread that wants to use a control.
        own = None if respond is None else self._own_answer(respond, asked)
        with self.lock:
            outcome = self._decide(asked, fault, own, tcp=transport == "tcp", family=family)
            # Logged last: who saw a query may change the zone, and that query not notice.
            self.log.append(query)
            self.seen += 1
            self.lock.notify_all()
        return outcome

    def reply_to(self, asked: Asked) -> Reply:
        """
        The usual answer, shuffled if this server shuffles.
        """
        reply = self.answers.find(asked.labels, asked.rdtype)
        if not self.shuffle:
            return reply
        answer, additional = reply.answer, reply.additional
        if asked.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA) and len(answer) > 1:
            # CNAMEs end in a target and keep their place before the addresses.
            chain = [one for one in answer if one.target]
            answer = chain + self._shuffled([one for one in answer if not one.target])
        if len(additional) > 1:
            additional = self._shuffled(additional)
        return replace(reply, answer=answer, additional=additional)

    def _shuffled(self, records: Sequence[Record]) -> list[Record]:
        mixed = list(records)
        self.rng.shuffle(mixed)
        return mixed

    def _decide(
        self, asked: Asked, fault: Fault | None, own: bytes | None, *, tcp: bool, family: Family
    ) -> Outcome:
        if own is not None:
            return Outcome(own, self.delay)
        kind = None if fault is None else fault.kind
        if kind == "SILENCE":
            return Outcome(None)
        if kind == "CLOSE":
            return Outcome(None, self.delay, close=True)
        if kind == "GARBAGE":
            return Outcome(self._garbage(asked), self.delay)
        if kind in _RCODES:
            reply = Reply(_RCODES[kind], authoritative=False)
        elif kind == "NXDOMAIN":
            reply = self.answers.negative(asked.labels, dns.rcode.NXDOMAIN)
        elif kind == "NODATA":
            reply = self.answers.negative(asked.labels)
        else:
            reply = self.reply_to(asked)
        if kind == "TRUNCATE":
            half = reply.answer[: len(reply.answer) // 2]
            reply = replace(reply, answer=half, additional=(), truncated=True)
        udp_family = None if tcp else family
        wire = render(asked, reply, limit=limit_of(asked, tcp=tcp), udp_family=udp_family)
        if kind == "WRONG_ID":
            wire = (asked.message.id ^ 0x5555).to_bytes(2, "big") + wire[2:]
        return Outcome(wire, self.delay)

    def _fault_for(self, query: Query) -> Fault | None:
        for fault in reversed(self.faults):
            if fault.matches(query):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times == 0:
                        self.faults.remove(fault)
                return fault
        return None

    def _garbage(self, asked: Asked) -> bytes:
        # A header that promises one question and one answer; then a pointer to nowhere.
        start = asked.message.id.to_bytes(2, "big") + bytes.fromhex("8180 0001 0001 0000 0000 ffff")
        return start + self.rng.randbytes(40)

    def _own_answer(self, respond: Respond, asked: Asked) -> bytes | None:
        """
        What the user's hook says, as bytes; SERVFAIL where it raises.
        """
        try:
            said = respond(asked.message)
            if said is None or isinstance(said, bytes):
                return said
            return said.to_wire(max_size=65535)
        except Exception as error:  # noqa: BLE001 - a test's own code; reported on closing
            if self.trouble is None:
                self.trouble = error
            return render(asked, Reply(dns.rcode.SERVFAIL, authoritative=False), limit=512)


def type_number(text: str) -> dns.rdatatype.RdataType:
    """
    The number of a record type; raise `ConfigError` if *text* names none.
    """
    try:
        return dns.rdatatype.from_text(text)
    except (dns.rdatatype.UnknownRdatatype, ValueError):
        raise ConfigError(f"not a DNS record type: {text!r}") from None
