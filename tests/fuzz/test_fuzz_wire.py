"""
Broken and hostile messages on the wire: what c-ares makes of them, and knet of that.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from pathlib import Path

import anyio
import dns.message
import dns.rrset
import pytest

from knet import Answer, RefreshPolicy, ResolveError, Resolver, Ring
from knet.testing import HeadlessService
from tests.fuzz.properties import check_answer, check_error

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

WEB = "web.prod.svc.cluster.local"
MESSAGES = 300
WORKERS = 4

_DESCRIPTORS = Path("/proc/self/fd")

Spoil = Callable[[bytes, random.Random], bytes]


def right(query: dns.message.Message, rng: random.Random) -> bytes:
    """
    Return a good answer to *query*, of records of every kind that knet reads.
    """
    name = query.question[0].name.to_text()
    service = name.removeprefix("_http._tcp.")
    reply = dns.message.make_response(query)
    texts = [
        (f"{name} 5 IN CNAME a.{service}", f"a.{service} 5 IN A 10.0.0.1"),
        (f"{name} 5 IN CNAME db.example.com.", "db.example.com. 5 IN A 10.6.6.6"),
        (f"{name} 5 IN CNAME db.example.com.",),
        tuple(f"{name} 5 IN A 10.0.0.{n}" for n in range(1, 40)),
        tuple(f"{name} 5 IN AAAA fd00::{n:x}" for n in range(1, 20)),
        tuple(f"{name} 5 IN SRV 0 0 80 web-{n}.{service}" for n in range(9)),
        (f"{name} 5 IN SRV 0 0 80 evil.test.", f"{name} 5 IN SRV 0 0 80 web-0.{service}"),
        (f"{name} 5 IN TXT x", f"{name} 5 IN MX 0 .", f"{name} 5 IN SRV 0 0 0 ."),
    ]
    for section, records in (
        (reply.answer, rng.choice(texts)),
        (reply.answer, rng.choice(texts)),
        (reply.additional, (f"web-0.{service} 5 IN A 10.0.0.1",)),
    ):
        for text in records:
            owner, ttl, _, type, data = text.split(" ", 4)
            section.append(dns.rrset.from_text(owner, int(ttl), "IN", type, data))
    return reply.to_wire(max_size=65535)


# --- how a message is spoilt; the id stays, or nobody would read it


def noise(wire: bytes, rng: random.Random) -> bytes:
    return wire[:2] + rng.randbytes(rng.randrange(600))


def noise_for_records(wire: bytes, rng: random.Random) -> bytes:
    return wire[: _records_at(wire)] + rng.randbytes(rng.randrange(600))


def retouched(wire: bytes, rng: random.Random) -> bytes:
    """
    One octet of a record is another: most of these are sound, and say something else.
    """
    at = rng.randrange(_records_at(wire), len(wire))
    return wire[:at] + rng.randbytes(1) + wire[at + 1 :]


def renamed(wire: bytes, rng: random.Random) -> bytes:
    """
    Names have octets in them that no hostname has.
    """
    low = _records_at(wire)
    strange = rng.choice((b"w b", b"w.b", b"\r\n\0", b"\xff\xfe\xfd", b'"\\;', b"-b-", b"WEB"))
    return wire[:low] + wire[low:].replace(b"web", strange).replace(b"example", b"ex\nmp\0e")


def flipped(wire: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(wire)
    for _ in range(rng.randint(1, 8)):
        spoilt[rng.randrange(2, len(spoilt))] = rng.choice(
            (0, 1, 0x3F, 0xC0, 0xFF, rng.randrange(256))
        )
    return bytes(spoilt)


def cut(wire: bytes, rng: random.Random) -> bytes:
    return wire[: rng.randrange(2, len(wire))]


def stuttering(wire: bytes, rng: random.Random) -> bytes:
    low = rng.randrange(12, len(wire))
    return (
        wire[:low] + wire[rng.randrange(12, len(wire)) : low + 60] * rng.randint(1, 40) + wire[low:]
    )


def miscounted(wire: bytes, rng: random.Random) -> bytes:
    at = rng.choice((4, 6, 8, 10))
    return wire[:at] + rng.choice((b"\0\0", b"\0\1", b"\xff\xff", b"\x10\0")) + wire[at + 2 :]


SPOIL: list[Spoil] = [
    *(noise, noise_for_records, retouched, retouched, renamed),
    *(flipped, cut, stuttering, miscounted),
]


async def test_a_broken_message_is_an_error_or_an_answer_and_nothing_else() -> None:
    """
    And no descriptor is left open for it.
    """
    outcomes: list[Answer | ResolveError] = []
    with HeadlessService("web.prod") as server:

        def spoilt(query: dns.message.Message) -> bytes:
            # What a message looks like hangs on the name that is asked for, and on nothing else.
            rng = random.Random(query.question[0].name.to_text())
            return rng.choice(SPOIL)(right(query, rng), rng)

        server.respond = spoilt
        before = _open_files()

        async def ask_many(worker: int) -> None:
            external = worker % 2 == 0
            async with Resolver(
                nameservers=[server.nameserver],
                # Each has a channel of its own: c-ares takes a broken message for a broken server,
                # and gives up the other queries that wait for it.
                deadline=0.5 + worker / 1000,
                tries=1,
                external=external,
            ) as resolver:
                for n in range(worker, MESSAGES, WORKERS):
                    service = f"web{n}.test."
                    try:
                        answer = await resolver.resolve(service, port=80 if n % 5 else "http")
                    except ResolveError as error:
                        check_error(error)
                        outcomes.append(error)
                    else:
                        check_answer(answer, service, external=external)
                        outcomes.append(answer)

        async with anyio.create_task_group() as tasks:
            for worker in range(WORKERS):
                tasks.start_soon(ask_many, worker)

        server.respond = None
        good = await Resolver(nameservers=[server.nameserver]).resolve(f"{WEB}.", port=80)
        # c-ares closes its sockets in a thread of its own, a moment later.
        with anyio.fail_after(10):
            while _open_files() > before:
                await anyio.sleep(0.01)

    assert len(good.endpoints) == 3
    assert len(outcomes) == MESSAGES
    kinds = {getattr(outcome, "kind", "answer") for outcome in outcomes}
    assert {"answer", "nodata", "malformed"} <= kinds
    assert "closed" not in kinds


async def test_no_message_puts_a_line_into_the_log_or_takes_a_pod_off_the_ring(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    Each record that a ring logs is one printable line, whatever names were in the answer.
    """
    caplog.set_level(logging.DEBUG, "knet")
    with HeadlessService("web.prod", pods=3) as server:
        resolver = Resolver(nameservers=[server.nameserver], tries=1, deadline=2.0)
        policy = RefreshPolicy(interval=60.0, min_interval=0.01)
        async with Ring(f"{WEB}.", port=80, resolver=resolver, refresh=policy) as ring:
            before = ring.snapshot.endpoints
            for strange in (
                "a\\010ERROR\\032knet:\\032lost.test.",
                "\\027[2J.test.",
                f"\\013\\010.{WEB}.",
                "evil.test.",
            ):
                server.answer_with(f"{WEB}. 5 IN CNAME {strange}", f"{strange} 5 IN A 10.6.6.6")
                with pytest.raises(ResolveError) as caught:
                    await ring.refresh()
                check_error(caught.value)
            for spoil in (noise, noise_for_records, cut):

                def spoilt(query: dns.message.Message, spoil: Spoil = spoil) -> bytes:
                    return spoil(server.answer(query).to_wire(), random.Random(1))

                server.respond = spoilt
                with pytest.raises(ResolveError) as caught:
                    await ring.refresh()
                check_error(caught.value)
            assert ring.snapshot.endpoints == before

            server.respond = None
            await ring.refresh()
            assert ring.state == "fresh"

    assert {record.levelno for record in caplog.records} <= {logging.INFO, logging.WARNING}
    assert len(caplog.records) >= 2
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 1500


def _records_at(wire: bytes) -> int:
    """
    Return where the records of a message begin: behind its one question.
    """
    return wire.index(b"\0", 12) + 5


def _open_files() -> int:
    return len(os.listdir(_DESCRIPTORS)) if _DESCRIPTORS.exists() else 0
