"""
The c-ares engine on the wire: what it hands on, what it remembers, and what it leaves behind.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pycares
import pytest

from knet.errors import (
    ConfigError,
    MalformedAnswer,
    NameNotFound,
    NoData,
    QueryRefused,
    ResolveError,
    ResolverClosed,
    ResolveTimeout,
    ServerFailure,
    ServerUnreachable,
)
from knet.resolver.cares import (
    Engine,
    EngineSettings,
    QueryType,
    Sections,
    check_nameservers,
    drop_engine,
    hold_engine,
    open_engine,
    system_nameservers,
)
from knet.resolver.records import Record
from knet.testing import FaultKind, HeadlessService, Pod
from tests.testing.asking import needs_ipv6

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(4)]

WEB = "web.prod.svc.cluster.local"
ASKED = f"{WEB}."

_TASKS = Path("/proc/self/task")
needs_proc = pytest.mark.skipif(not _TASKS.exists(), reason="no /proc to count threads in")


def settings(*services: HeadlessService | str, **options: Any) -> EngineSettings:
    """
    Return settings that ask *services*, patiently unless *options* say otherwise.
    """
    servers = tuple(s if isinstance(s, str) else s.nameserver for s in services)
    return EngineSettings(servers, **{"deadline": 10.0, **options})


def count(service: HeadlessService) -> int:
    """
    Return how many queries have reached *service*.
    """
    return len(service.queries)


def closed_port() -> str:
    """
    Return a nameserver on whose port nobody listens.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{udp.getsockname()[1]}"


@contextmanager
def holding(wanted: EngineSettings) -> Iterator[Engine]:
    """
    Hold an engine until the test is done with it, or has dropped it.
    """
    engine = hold_engine(wanted)
    users = engine.users
    try:
        yield engine
    finally:
        if engine.users >= users:
            drop_engine(wanted)


# --- what comes back


async def test_addresses_come_with_owner_and_ttl() -> None:
    with (
        HeadlessService("web.prod", pods=2, ttl=7) as service,
        open_engine(settings(service)) as engine,
    ):
        reply = await engine.ask(ASKED, "A")

    assert sorted(reply.answer) == [
        Record(WEB, "A", 7, "10.244.0.2"),
        Record(WEB, "A", 7, "10.244.0.3"),
    ]
    assert reply.additional == ()


async def test_ipv6_addresses_come_in_their_own_type() -> None:
    with (
        HeadlessService("web.prod", pods=1, families=["ipv6"]) as service,
        open_engine(settings(service)) as engine,
    ):
        reply = await engine.ask(ASKED, "AAAA")

    assert reply.answer == (Record(WEB, "AAAA", 5, "fd00:244::2"),)


async def test_services_come_with_the_addresses_of_their_targets() -> None:
    with (
        HeadlessService("web.prod", pods=1, stateful=True) as service,
        open_engine(settings(service)) as engine,
    ):
        reply = await engine.ask(f"_http._tcp.{ASKED}", "SRV")

    assert reply.answer == (Record(f"_http._tcp.{WEB}", "SRV", 5, f"web-0.{WEB}", 8080, 0, 100),)
    assert reply.additional == (Record(f"web-0.{WEB}", "A", 5, "10.244.0.2"),)


async def test_aliases_come_along() -> None:
    with HeadlessService("web.prod", pods=1) as service, open_engine(settings(service)) as engine:
        service.alias("shop.prod", WEB)

        reply = await engine.ask("shop.prod.svc.cluster.local.", "A")

    assert reply.answer == (
        Record("shop.prod.svc.cluster.local", "CNAME", 5, WEB),
        Record(WEB, "A", 5, "10.244.0.2"),
    )


async def test_names_come_in_lower_case_and_other_types_not_at_all() -> None:
    with HeadlessService("web.prod") as service, open_engine(settings(service)) as engine:
        service.answer_with(
            "WEB.Prod.SVC.cluster.local. 5 IN SRV 1 2 80 Web-0.TEST.",
            'web.prod.svc.cluster.local. 5 IN TXT "not for us"',
            additional=["WEB-0.test. 5 IN A 10.0.0.1", "web-0.test. 5 IN MX 1 mail.test."],
        )

        reply = await engine.ask(ASKED, "SRV")

    assert reply.answer == (Record(WEB, "SRV", 5, "web-0.test", 80, 1, 2),)
    assert reply.additional == (Record("web-0.test", "A", 5, "10.0.0.1"),)


@pytest.mark.parametrize("pods", [200, 1000])
async def test_an_answer_too_large_for_udp_is_asked_for_again_over_tcp(pods: int) -> None:
    with (
        HeadlessService("web.prod", pods=pods) as service,
        open_engine(settings(service)) as engine,
    ):
        reply = await engine.ask(ASKED, "A")

        assert len(set(reply.answer)) == pods
        assert [q.transport for q in service.queries] == ["udp", "tcp"]


@needs_ipv6
async def test_a_server_can_be_asked_over_ipv6() -> None:
    with (
        HeadlessService("web.prod", pods=2, host="::1") as service,
        open_engine(settings(service)) as engine,
    ):
        assert service.nameserver.startswith("[::1]:")
        assert len((await engine.ask(ASKED, "A")).answer) == 2


async def test_a_name_that_fits_no_question_is_an_error_like_others() -> None:
    name = f"{'a.' * 130}test."
    with HeadlessService("web.prod") as service, open_engine(settings(service)) as engine:
        with pytest.raises(ResolveError, match="EBADNAME") as caught:
            await engine.ask(name, "A")

        assert caught.value.name == name
        assert service.queries == ()


# --- how it fails


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("NXDOMAIN", NameNotFound, "NXDOMAIN"),
        ("NODATA", NoData, "no such record"),
        ("SERVFAIL", ServerFailure, "SERVFAIL"),
        ("REFUSED", QueryRefused, "REFUSED"),
        ("NOTIMP", QueryRefused, "NOTIMP"),
        ("FORMERR", MalformedAnswer, "FORMERR"),
        ("GARBAGE", MalformedAnswer, "malformed"),
    ],
)
async def test_each_failure_has_its_error_and_tells_what_came_back(
    fault: FaultKind, error: type[ResolveError], said: str
) -> None:
    with HeadlessService("web.prod") as service, open_engine(settings(service)) as engine:
        service.fail(fault)

        with pytest.raises(error, match=said) as caught:
            await engine.ask(ASKED, "SRV")

    assert type(caught.value) is error
    assert caught.value.name == ASKED
    assert caught.value.servers == (service.nameserver,)
    assert str(caught.value).startswith(f"cannot resolve {ASKED} SRV: ")
    assert service.nameserver in str(caught.value)


@pytest.mark.parametrize("fault", ["SILENCE", "WRONG_ID"])
@pytest.mark.parametrize(
    "patience",
    [{"timeout": 0.25, "tries": 1}, {"timeout": 60.0, "deadline": 0.1}],
    ids=["c-ares gives up", "the deadline passes"],
)
@pytest.mark.weather("no answer")
async def test_no_answer_is_a_timeout(fault: FaultKind, patience: dict[str, Any]) -> None:
    with (
        HeadlessService("web.prod") as service,
        open_engine(settings(service, **patience)) as engine,
    ):
        service.fail(fault)

        with pytest.raises(ResolveTimeout, match=f"no answer from {service.nameserver}") as caught:
            await engine.ask(ASKED, "A")

        assert caught.value.name == ASKED
        assert count(service) == 1
        service.heal()
        assert (await engine.ask(ASKED, "A")).answer


async def test_a_query_that_gets_lost_is_repeated() -> None:
    with (
        HeadlessService("web.prod") as service,
        open_engine(settings(service, timeout=0.25)) as engine,
    ):
        service.fail("SILENCE", times=1)

        assert (await engine.ask(ASKED, "A")).answer
        assert count(service) == 2


@pytest.mark.weather("no server")
async def test_a_closed_port_is_a_server_that_cannot_be_reached() -> None:
    server = closed_port()

    with (
        open_engine(settings(server)) as engine,
        pytest.raises(ServerUnreachable, match=f"no connection to {server}") as caught,
    ):
        await engine.ask(ASKED, "A")

    assert caught.value.servers == (server,)


async def test_an_answer_that_cannot_be_had_over_tcp_is_never_the_half_that_came_over_udp() -> None:
    with (
        HeadlessService("web.prod", pods=200, tcp=False) as service,
        open_engine(settings(service)) as engine,
        pytest.raises(ServerUnreachable),
    ):
        await engine.ask(ASKED, "A")


@pytest.mark.weather("The event loop stalls")
async def test_an_answer_that_came_while_the_loop_was_busy_is_no_timeout() -> None:
    """
    The deadline has passed when the loop wakes up, but the answer was there before.
    """
    replies = []
    with (
        HeadlessService("web.prod") as service,
        open_engine(settings(service, deadline=0.1)) as engine,
    ):

        async def ask() -> None:
            replies.append(await engine.ask(ASKED, "A"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            time.sleep(0.7)  # noqa: ASYNC251 - the stall is what this is about

    assert len(replies) == 1


# --- several servers


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "NOTIMP", "GARBAGE", "SILENCE"])
@pytest.mark.weather("One of several servers fails")
async def test_where_one_server_fails_the_next_one_is_asked(fault: FaultKind) -> None:
    with (
        HeadlessService("web.prod", pods=1) as bad,
        HeadlessService("web.prod", pods=2) as good,
        open_engine(settings(bad, good, timeout=0.25)) as engine,
    ):
        bad.fail(fault)

        assert len((await engine.ask(ASKED, "A")).answer) == 2
        assert len(bad.queries) >= 1


async def test_a_server_that_is_gone_is_passed_over() -> None:
    with (
        HeadlessService("web.prod") as service,
        open_engine(settings(closed_port(), service)) as engine,
    ):
        assert (await engine.ask(ASKED, "A")).answer


async def test_a_name_that_one_server_denies_is_not_asked_of_the_next() -> None:
    with (
        HeadlessService("web.prod") as first,
        HeadlessService("web.prod") as second,
        open_engine(settings(first, second)) as engine,
    ):
        first.fail("NXDOMAIN")

        with pytest.raises(NameNotFound):
            await engine.ask(ASKED, "A")
        assert second.queries == ()


async def test_an_error_names_all_servers() -> None:
    with (
        HeadlessService("web.prod") as first,
        HeadlessService("web.prod") as second,
        open_engine(settings(first, second)) as engine,
    ):
        first.fail("SERVFAIL")
        second.fail("SERVFAIL")

        with pytest.raises(ServerFailure) as caught:
            await engine.ask(ASKED, "A")

        assert caught.value.servers == (first.nameserver, second.nameserver)
        assert f"{first.nameserver}, {second.nameserver}" in str(caught.value)


# --- the cache that cannot be switched off


async def from_cache(engine: Engine, type: QueryType) -> Sections:
    """
    Ask as an engine does that does not know what is in c-ares's cache.
    """
    engine.cached.clear()
    return await engine.ask(ASKED, type)


async def test_only_a_flush_sends_a_second_query_within_the_ttl() -> None:
    """
    c-ares answers from its cache for as long as the TTL says, whatever became of the pods.
    """
    with (
        HeadlessService("web.prod", pods=1, ttl=60) as service,
        open_engine(settings(service)) as engine,
    ):
        await from_cache(engine, "A")
        service.scale(3)

        assert len((await from_cache(engine, "A")).answer) == 1
        assert count(service) == 1

        engine.flush()
        assert len((await from_cache(engine, "A")).answer) == 3
        assert count(service) == 2

        # And what came is cached in its turn.
        assert len((await from_cache(engine, "A")).answer) == 3
        assert count(service) == 2


@pytest.mark.parametrize(("fault", "error"), [("NODATA", NoData), ("NXDOMAIN", NameNotFound)])
async def test_only_a_flush_ends_a_cached_denial(
    fault: FaultKind, error: type[ResolveError]
) -> None:
    """
    "No data" stays in the cache for an hour, even where the SOA says 5 seconds.
    """
    with HeadlessService("web.prod") as service, open_engine(settings(service)) as engine:
        for _ in range(2):
            with service.failing(fault), pytest.raises(error):
                await from_cache(engine, "A")
        with pytest.raises(error):
            await from_cache(engine, "A")
        assert count(service) == 1

        engine.flush()
        assert (await from_cache(engine, "A")).answer


async def test_a_service_that_becomes_dual_stack_is_seen_after_a_flush() -> None:
    with HeadlessService("web.prod", pods=1) as service, open_engine(settings(service)) as engine:
        with pytest.raises(NoData):
            await from_cache(engine, "AAAA")
        service.add(Pod(["10.0.0.9", "fd00::9"]))

        engine.flush()

        assert [r.value for r in (await from_cache(engine, "AAAA")).answer] == ["fd00::9"]


async def test_a_flush_works_every_time_and_with_several_servers() -> None:
    with (
        HeadlessService("web.prod", ttl=60) as first,
        HeadlessService("web.prod", ttl=60) as second,
        open_engine(settings(first, second)) as engine,
    ):
        for _ in range(20):
            engine.flush()
            await from_cache(engine, "A")

        assert len(first.queries) == 20
        assert second.queries == ()


async def test_to_ask_is_never_to_hear_what_was_known_before() -> None:
    """
    Whatever c-ares has in its cache, answers and denials alike, and of whichever type.
    """
    with (
        HeadlessService("web.prod", pods=1, ttl=60) as service,
        open_engine(settings(service)) as engine,
    ):
        for pods in (1, 2, 0, 0, 3):
            service.scale(pods)
            if pods:
                assert len((await engine.ask(ASKED, "A")).answer) == pods
                with pytest.raises(NoData):
                    await engine.ask(ASKED, "AAAA")
            else:
                with pytest.raises(NameNotFound):
                    await engine.ask(ASKED, "A")
        assert count(service) == 8


async def test_to_ask_is_not_to_hear_the_answer_to_an_older_question() -> None:
    """
    A query that was given up is still on its way, and what comes back is cached.
    """
    with (
        HeadlessService("web.prod", pods=1, ttl=60) as service,
        open_engine(settings(service)) as engine,
    ):
        service.delay(0.1)
        with anyio.move_on_after(0.01):
            await engine.ask(ASKED, "A")
        await service.wait_for_queries_async(1)
        service.delay(0)
        while engine.flying:
            await anyio.sleep(0.01)
        service.scale(3)
        assert len((await engine.ask(ASKED, "A")).answer) == 3

        service.delay(0.1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.ask, ASKED, "A")
            await service.wait_for_queries_async(3)
            service.scale(4)
            assert len((await engine.ask(ASKED, "A")).answer) == 4


async def test_names_in_turn_are_flushed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nothing has to be forgotten for a name that was not asked for since the last time.
    """
    flushes = []
    with HeadlessService("web.prod") as service, open_engine(settings(service)) as engine:
        flush = engine.flush

        def counted() -> None:
            flushes.append(1)
            flush()

        monkeypatch.setattr(engine, "flush", counted)
        names = [f"{name}.web.prod.svc.cluster.local." for name in "abcdefgh"]
        for _ in range(3):
            for name in names:
                with pytest.raises(NameNotFound):
                    await engine.ask(name, "A")

        assert count(service) == 24
        assert len(flushes) == 2


async def test_a_cache_that_grows_is_emptied() -> None:
    """
    c-ares keeps a denial for an hour, and a program may ask for any number of names.
    """
    with HeadlessService("web.prod") as service, open_engine(settings(service)) as engine:
        engine.most_cached = 10
        for number in range(30):
            with pytest.raises(NameNotFound):
                await engine.ask(f"n{number}.web.prod.svc.cluster.local.", "A")
            assert len(engine.cached) <= 11


async def test_a_flush_leaves_queries_in_flight_alone() -> None:
    replies = []
    with HeadlessService("web.prod") as service, open_engine(settings(service)) as engine:
        service.delay(0.05)

        async def ask() -> None:
            replies.append(await engine.ask(ASKED, "A"))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)
            await service.wait_for_queries_async(10)
            engine.flush()

        assert len(replies) == 10
        assert count(service) == 10


# --- one channel for all


async def test_the_same_settings_share_an_engine_and_others_do_not() -> None:
    with HeadlessService("web.prod") as service, holding(settings(service)) as engine:
        with holding(settings(service)) as other:
            assert other is engine
        with holding(settings(service, tries=2)) as other:
            assert other is not engine
            assert (await other.ask(ASKED, "A")).answer


@needs_proc
@pytest.mark.weather("Thousands of rings in one process")
async def test_any_number_of_users_costs_one_thread() -> None:
    with HeadlessService("web.prod") as service, holding(settings(service)) as engine:
        await engine.ask(ASKED, "A")
        before = len(os.listdir(_TASKS))

        wanted = settings(service)
        for _ in range(50):
            hold_engine(wanted)
        assert len(os.listdir(_TASKS)) == before

        with holding(settings(service, tries=2)):
            assert len(os.listdir(_TASKS)) == before + 1
        for _ in range(50):
            drop_engine(wanted)


async def test_the_last_user_closes_the_engine_and_the_next_opens_another() -> None:
    with HeadlessService("web.prod") as service:
        wanted = settings(service)
        engine = hold_engine(wanted)
        hold_engine(wanted)

        drop_engine(wanted)
        assert (await engine.ask(ASKED, "A")).answer

        drop_engine(wanted)
        with pytest.raises(ResolverClosed, match=f"cannot ask for {ASKED} A"):
            await engine.ask(ASKED, "A")

        with open_engine(wanted) as other:
            assert other is not engine
            assert (await other.ask(ASKED, "A")).answer


async def test_closing_twice_or_what_nobody_holds_does_no_harm() -> None:
    wanted = settings("127.0.0.1:5353")
    drop_engine(wanted)

    with open_engine(wanted) as engine:
        engine.close()
        engine.close()


async def test_an_engine_of_another_process_is_neither_used_nor_closed() -> None:
    """
    After a fork inside of a running loop the parent's engine is still there to be found.
    """
    with HeadlessService("web.prod") as service:
        wanted = settings(service)
        parents = hold_engine(wanted)
        parents.process -= 1

        with open_engine(wanted) as ours:
            assert ours is not parents
            assert (await ours.ask(ASKED, "A")).answer

        parents.close()
        assert (await parents.ask(ASKED, "A")).answer

        parents.process += 1
        parents.close()


async def test_an_engine_is_dropped_where_the_body_raises() -> None:
    wanted = settings("127.0.0.1:5353")

    with pytest.raises(KeyError, match="body"), open_engine(wanted) as engine:
        raise KeyError("body")

    assert engine.users == 0


async def test_closing_ends_the_queries_in_flight_with_an_error() -> None:
    errors = []
    with HeadlessService("web.prod") as service:
        service.fail("SILENCE")
        wanted = settings(service, timeout=60.0, deadline=60.0)
        engine = hold_engine(wanted)

        async def ask() -> None:
            with pytest.raises(ResolverClosed, match="was closed") as caught:
                await engine.ask(ASKED, "A")
            errors.append(caught.value)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(ask)
                await service.wait_for_queries_async(5)
                drop_engine(wanted)

    assert len(errors) == 5
    assert {error.name for error in errors} == {ASKED}


async def test_a_system_without_means_for_a_channel_is_a_resolve_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A ring counts such an error and tries again; anything else would end it.
    """

    def no_channel(**_options: object) -> None:
        raise pycares.AresError("Failed to initialize c-ares channel")

    monkeypatch.setattr(pycares, "Channel", no_channel)
    wanted = settings("127.0.0.1:5353")

    with pytest.raises(ResolveError, match="cannot start c-ares") as caught:
        hold_engine(wanted)

    assert caught.value.servers == wanted.nameservers
    monkeypatch.undo()
    with open_engine(wanted) as engine:
        assert engine.users == 1


# --- many at once, and cancelled


@pytest.mark.weather("Thousands of rings in one process")
async def test_a_hundred_queries_at_once_are_sent_64_at_a_time_and_all_succeed() -> None:
    """
    Thousands at once would overflow the buffer of the one UDP socket that they share.
    """
    replies = []
    with (
        HeadlessService("web.prod", pods=100, stateful=True) as service,
        open_engine(settings(service, timeout=5.0, deadline=60.0)) as engine,
    ):
        service.delay(0.1)  # before any of them goes on without a place

        async def ask(number: int) -> None:
            replies.append(await engine.ask(f"web-{number}.{ASKED}", "A"))

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(ask, number)

        times = sorted(query.time for query in service.queries)

    assert len({reply.answer[0].value for reply in replies}) == 100
    assert times[64] - times[0] >= 0.099  # the loop's timers are that exact


@pytest.mark.weather("A task is cancelled")
async def test_a_cancelled_query_returns_at_once_and_gives_its_place_back() -> None:
    with (
        HeadlessService("web.prod") as service,
        open_engine(settings(service, timeout=60.0, deadline=60.0)) as engine,
    ):
        service.fail("SILENCE")

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(engine.ask, ASKED, "A")
                await service.wait_for_queries_async(64)
                tasks.cancel_scope.cancel()

            service.heal()
            assert (await engine.ask(ASKED, "A")).answer


async def test_an_answer_to_a_cancelled_query_disturbs_nobody() -> None:
    with HeadlessService("web.prod", ttl=0) as service, open_engine(settings(service)) as engine:
        service.delay(0.05)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(engine.ask, ASKED, "A")
                await service.wait_for_queries_async(10)
                tasks.cancel_scope.cancel()

            # Answered after those ten, on the same socket.
            assert (await engine.ask(ASKED, "A")).answer


async def test_an_engine_closed_right_after_a_cancellation_leaves_nothing() -> None:
    with HeadlessService("web.prod") as service:
        service.fail("SILENCE")
        with anyio.fail_after(10), open_engine(settings(service, timeout=60.0)) as engine:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(engine.ask, ASKED, "A")
                await service.wait_for_queries_async(1)
                tasks.cancel_scope.cancel()


# --- which servers


@pytest.mark.parametrize(
    "server",
    [
        "10.96.0.10",
        "10.96.0.10:5353",
        "127.0.0.1:65535",
        "::1",
        "[::1]",
        "[fd00::10]:5353",
        "FD00::10",
    ],
)
def test_a_nameserver_is_an_address_with_or_without_a_port(server: str) -> None:
    check_nameservers((server,))
    check_nameservers((server, "10.0.0.1"))


@pytest.mark.parametrize(
    "server",
    [
        "",
        " ",
        ":" * 1000 + "!",
        "dns.google",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:-1",
        "10.0.0.1:dns",
        " 10.0.0.1",
        "10.0.0.1\n",
        "10.0.0.1 10.0.0.2",
        "10.0.0.1,10.0.0.2",
        "dns://10.0.0.1",
        "[::1]:",
        "[::1",
        "[::1]53",
        "fe80::1%nosuchinterface",
        "\u00fc",
        "x" * 1000,
    ],
)
def test_what_is_no_nameserver_is_refused_by_its_text(server: str) -> None:
    with pytest.raises(ConfigError, match=r"like '10\.0\.0\.10'") as caught:
        check_nameservers(("10.0.0.1", server))

    assert str(caught.value).endswith(f"got {server[:80]!r}")


def test_no_nameserver_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="None means those of resolv"):
        check_nameservers(())


@pytest.mark.parametrize("server", [None, 1, b"10.0.0.1", ("10.0.0.1", 53)])
def test_a_nameserver_is_a_str(server: Any) -> None:
    with pytest.raises(TypeError, match=f"must be a str, not {type(server).__name__}"):
        check_nameservers((server,))


def test_the_systems_own_servers_come_with_their_ports() -> None:
    assert all(":" in server for server in system_nameservers())


# --- processes that fork, and that end in the middle


RUN = """
import functools, os, sys, warnings
import anyio
from knet import Resolver

backend, server = sys.argv[1:]
resolver = Resolver(nameservers=[server])

async def count(hold=False):
    if hold:
        await resolver.__aenter__()
    return len((await resolver.resolve("web.prod")).endpoints)

def run(**options):
    return anyio.run(lambda: count(**options), backend=backend)
"""


def spawn(script: str, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def finish(process: subprocess.Popen[str]) -> str:
    try:
        out, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"hangs; so far: {out}\n{err}")
    assert (process.returncode, err) == (0, "")
    return out


FORK = """
print(run({hold}), flush=True)
with warnings.catch_warnings():
    # CPython 3.12 and later warn of the threads that a fork leaves behind; here they are the point.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    child = os.fork()
os.write(1, f"{{'parent' if child else 'child'}}={{run()}}\\n".encode())
if child:
    sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("hold", ["", "hold=True"], ids=["closed", "open"])
@pytest.mark.weather("The process forks")
def test_a_forked_child_resolves_with_the_resolver_of_its_parent(
    anyio_backend: str, hold: str
) -> None:
    """
    The thread of the parent's channel does not exist in the child; a query there would wait for ever.
    """
    with HeadlessService("web.prod", pods=3) as service:
        process = spawn(RUN + FORK.format(hold=hold), anyio_backend, service.nameserver)
        assert sorted(finish(process).split()) == ["3", "child=3", "parent=3"]


LEAVE = {
    "after a lookup": "print(run(hold=True))",
    "from inside the loop": """
async def main():
    print(await count(hold=True), flush=True)
    sys.exit()

anyio.run(main, backend=backend)
""",
    "with a query in flight": """
async def main():
    print(await count(hold=True), flush=True)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(functools.partial(resolver.resolve, "web.prod", port="http"))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

anyio.run(main, backend=backend)
""",
}


@pytest.mark.weather("The loop ends and the ring is open")
def test_a_process_that_ends_without_closing_ends_quietly(anyio_backend: str) -> None:
    """
    A channel that is still open can crash the interpreter on its way out.
    """
    with HeadlessService("web.prod", pods=3) as service:
        service.fail("SILENCE", rdtype="SRV")
        processes = [
            spawn(RUN + script, anyio_backend, service.nameserver) for script in LEAVE.values()
        ]
        assert [finish(process) for process in processes] == ["3\n"] * len(LEAVE)
