"""
DNS fails: whatever comes back that is no answer, or comes not at all, changes nothing in a ring.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from knet import (
    AnswerTooLarge,
    NameNotFound,
    NoEndpoints,
    Resolver,
    Ring,
    RingClosed,
    ServerFailure,
)
from knet.testing import FaultKind, HeadlessService
from tests.waiting import until_state
from tests.weather.rings import (
    QUICK,
    SRV,
    WEB,
    addresses,
    lookups,
    picks,
    resolver_at,
    ring_at,
    shown,
    traffic,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]
weather = pytest.mark.weather

FAULTS = [
    pytest.param("SERVFAIL", "servfail", marks=weather("SERVFAIL")),
    pytest.param("REFUSED", "refused", marks=weather("REFUSED")),
    pytest.param("NOTIMP", "refused", marks=weather("REFUSED")),
    pytest.param("SILENCE", "timeout", marks=weather("no answer")),
    pytest.param("GARBAGE", "malformed", marks=weather("answers that are no DNS")),
    pytest.param("FORMERR", "malformed", marks=weather("answers that are no DNS")),
    pytest.param("WRONG_ID", "timeout", marks=weather("answers with a wrong id")),
    pytest.param("WRONG_QUESTION", "timeout", marks=weather("answers to another question")),
    pytest.param("WRONG_SOURCE", "timeout", marks=weather("answers from somewhere else")),
]


def resolver_that_hears(kind: str, *services: HeadlessService) -> Resolver:
    """
    Return one that soon gives up where nothing else is to come, and else waits on a busy machine.
    """
    return resolver_at(*services, deadline=0.15 if kind == "timeout" else 10.0)


@pytest.mark.sampled(12)
@pytest.mark.sampled(12)
@pytest.mark.parametrize("port", [8080, "http"])
@pytest.mark.parametrize(("fault", "kind"), FAULTS)
async def test_a_failure_changes_nothing_for_as_long_as_it_lasts(
    fault: FaultKind, kind: str, port: int | str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The pods of before are served, the state is stale, and what changed meanwhile is there after it.
    """
    caplog.set_level(logging.INFO, "knet")
    with HeadlessService("web.prod", pods=3) as web:
        resolver = resolver_that_hears(kind, web)
        async with ring_at(web, port=port, resolver=resolver) as ring, traffic(ring):
            before = picks(ring)

            web.fail(fault)
            web.remove(web.pods[0])
            web.scale(5)
            await until(lambda: ring.stats().consecutive_failures >= 4)

            stats = ring.stats()
            assert picks(ring) == before
            assert (stats.state, stats.generation, stats.endpoints) == ("stale", 1, 3)
            assert set(stats.failures) == {kind}
            assert web.nameserver in str(stats.last_error)

            web.heal()
            await until(lambda: shown(ring) == addresses(web))
            assert (ring.state, ring.stats().consecutive_failures) == ("fresh", 0)

    lines = [record.getMessage() for record in caplog.records]
    went = [line for line in lines if "fresh -> stale" in line]
    assert len(went) == 1
    assert "keeping 3 endpoints" in went[0]
    assert f"{WEB if port == 8080 else SRV}." in went[0]


@weather("no server")
async def test_a_ring_outlives_its_server() -> None:
    """
    Nobody listens; then the server is back, and knows other pods.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web) as ring, traffic(ring):
            before = picks(ring)

            web.close()
            web.replace(web.pods[0])
            await until(lambda: ring.stats().consecutive_failures >= 4)
            assert picks(ring) == before
            assert ring.state == "stale"
            assert set(ring.stats().failures) == {"unreachable"}

            web.start()
            await until(lambda: shown(ring) == addresses(web))
            assert ring.stats().state == "fresh"


# --- the first lookup


@weather("The first lookup fails")
@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "NXDOMAIN", "NODATA", "SILENCE"])
@pytest.mark.sampled(3)
async def test_entering_tries_again_until_there_is_an_answer(fault: FaultKind) -> None:
    """
    The pods, or DNS itself, may come up later than their clients.
    """
    with HeadlessService("web.prod", pods=3) as web:
        web.fail(fault, times=9)
        resolver = resolver_that_hears("timeout" if fault == "SILENCE" else fault, web)
        async with ring_at(web, resolver=resolver, start_timeout=60) as ring, traffic(ring):
            assert shown(ring) == addresses(web)
            assert ring.state == "fresh"
            assert ring.stats().lookups == sum(ring.stats().failures.values()) + 1


@weather("Nobody is ready at the start")
@pytest.mark.parametrize("options", [{"require_endpoints": False}, {"me": "10.0.0.1"}])
@pytest.mark.sampled(4)
async def test_entering_takes_nobody_for_an_answer_where_it_may(options: dict[str, Any]) -> None:
    """
    Else it waits, as for any first lookup that fails.
    """
    with HeadlessService("web.prod", pods=0) as web:
        async with ring_at(web, **options) as ring:
            assert ring.stats().state == "empty"
            with pytest.raises(NoEndpoints):
                await ring.get("user-42")
            web.scale(3)
            await ring.wait_for("fresh")
            async with traffic(ring):
                assert shown(ring) == addresses(web)

    with HeadlessService("web.prod", pods=0) as web, pytest.raises(NameNotFound):
        await ring_at(web, start_timeout=2.0).start()


@weather("The first lookup fails")
async def test_entering_gives_up_with_the_reason() -> None:
    """
    After `start_timeout`, with what the server said; whoever waits in `get` hears it too.
    """
    with HeadlessService("web.prod") as web:
        web.fail("SERVFAIL")
        ring = ring_at(web, start_timeout=2.0)
        heard: list[str] = []

        async def pick() -> None:
            with pytest.raises(RingClosed) as caught:
                await ring.get("user-42")
            heard.append(str(caught.value))

        async with anyio.create_task_group() as tasks:
            run = ring.run()
            tasks.start_soon(pick)
            with pytest.raises(ServerFailure, match=web.nameserver):
                await run

    assert web.nameserver in heard[0]
    assert ring.state == "closed"
    assert ring.stats().lookups >= 2


@pytest.mark.long
@weather("The first lookup fails")
async def test_entering_tries_every_spelling_of_a_short_name(
    tmp_path: Path,
) -> None:
    """
    Each round asks for all of them, and the error lists them.
    """
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(
        "search prod.svc.cluster.local svc.cluster.local cluster.local corp.test"
    )
    spellings = [f"{WEB}.", "web.corp.test.", "web."]
    with HeadlessService("web.prod") as web:
        web.fail("NXDOMAIN")
        resolver = resolver_at(web, resolv_conf=resolv_conf)
        ring = Ring("web", resolver=resolver, refresh=QUICK, start_timeout=2.0)

        with pytest.raises(NameNotFound) as caught:
            async with ring:
                pytest.fail("there is nothing to enter")

        assert ", ".join(spellings) in str(caught.value)
        asked = [f"{query.name}." for query in web.queries]
        assert asked[:6] == spellings * 2


# --- large answers


@weather("The answer does not fit in UDP")
async def test_a_service_that_outgrows_udp_is_asked_for_over_tcp() -> None:
    """
    All of its pods, and none of the half that fits.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web) as ring, traffic(ring):
            web.scale(200)
            await until(lambda: shown(ring) == addresses(web))

            assert ring.stats().failures == {}
            assert ring.stats().generation == 2


@weather("TCP is blocked")
@pytest.mark.parametrize(
    ("block", "kind"), [("refuse", "unreachable"), ("CLOSE", "unreachable"), ("SILENCE", "timeout")]
)
async def test_a_service_that_outgrows_udp_where_tcp_is_blocked_is_kept_as_it_was(
    block: Literal["refuse", "CLOSE", "SILENCE"], kind: str
) -> None:
    """
    The half that came over UDP is no answer; the error names the server that TCP did not reach.
    """
    with HeadlessService("web.prod", pods=3) as web:
        resolver = resolver_that_hears(kind, web)
        async with ring_at(web, resolver=resolver) as ring, traffic(ring):
            before = picks(ring)
            if block == "refuse":
                web.set_tcp(False)
            else:
                web.fail(block, transport="tcp")
            web.scale(200)
            await until(lambda: ring.stats().consecutive_failures >= 3)

            assert picks(ring) == before
            assert ring.state == "stale"
            assert set(ring.stats().failures) == {kind}
            assert web.nameserver in str(ring.stats().last_error)

            web.heal()
            await until(lambda: shown(ring) == addresses(web))


@weather("More records than can be true")
@pytest.mark.parametrize("port", [8080, "http"])
async def test_a_flood_of_records_is_refused_whole(port: int | str) -> None:
    """
    Above `max_endpoints` an answer is a failure: nothing of it is believed.
    """
    with HeadlessService("web.prod", pods=3) as web:
        few = resolver_at(web, max_endpoints=5)
        async with ring_at(web, port=port, resolver=few) as ring, traffic(ring):
            before = picks(ring)

            web.scale(6)
            await until(lambda: ring.stats().consecutive_failures >= 4)
            assert picks(ring) == before
            assert ring.state == "stale"
            assert set(ring.stats().failures) == {"toolarge"}
            with pytest.raises(AnswerTooLarge, match="6 endpoints, more than 5"):
                await ring.refresh()

            web.scale(5)
            await until(lambda: shown(ring) == addresses(web))


# --- several servers


@pytest.mark.sampled(8)
@weather("One of several servers fails")
@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "SILENCE", "GARBAGE", "closed"])
async def test_where_one_server_fails_the_other_is_asked(
    fault: FaultKind | Literal["closed"],
) -> None:
    """
    The ring stays fresh, and goes stale only when none is left.
    """
    with HeadlessService("web.prod", pods=3) as first, HeadlessService("web.prod") as second:
        both = resolver_at(first, second, timeout=0.25, deadline=5.0)
        async with ring_at(first, resolver=both) as ring, traffic(ring):
            if fault == "closed":
                first.close()
            else:
                first.fail(fault)
            second.scale(4)
            await until(lambda: shown(ring) == addresses(second))
            await lookups(ring, 3)
            assert (ring.state, ring.stats().failures) == ("fresh", {})

            before = picks(ring)
            second.close()
            await until_state(ring, "stale")
            assert picks(ring) == before

            second.start()
            await until_state(ring, "fresh")
            assert picks(ring) == before
