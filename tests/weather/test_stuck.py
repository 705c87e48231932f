"""
A connection that swallows queries blinds nobody for longer than one time-out.
"""

from __future__ import annotations

import anyio
import pytest
from dns.message import Message

from knet import RefreshPolicy, Resolver, ResolveTimeout, Ring
from knet.resolver.cares import EngineSettings, open_engine
from knet.testing import HeadlessService
from tests.waiting import until_state
from tests.weather.stuck import ALL, SOME, stuck_server

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

WEB = "web.prod.svc.cluster.local."
DEADLINE = 0.4
# It asks when it is told to.
SELDOM = RefreshPolicy(interval=3600, min_interval=0.01, retry=0.01, max_retry=0.02)


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.weather("A TCP connection to the server is dead")
async def test_the_next_lookup_goes_over_a_new_connection(halves: bool) -> None:
    """
    c-ares keeps the dead one for as long as queries come; also where half of an answer came.
    """
    with stuck_server() as server:
        resolver = Resolver(nameservers=[server.nameserver], deadline=DEADLINE)
        async with resolver:
            assert len((await resolver.resolve(WEB)).endpoints) == ALL
            with open_engine(EngineSettings((server.nameserver,), deadline=DEADLINE)) as engine:
                engine.reconnect()  # the next connection is a new one, and dead
            server.swallows, server.halves = 1, halves
            with pytest.raises(ResolveTimeout):
                await resolver.resolve(WEB)
            for _ in range(3):
                assert len((await resolver.resolve(WEB)).endpoints) == ALL
        assert not server.swallows


@pytest.mark.long
async def test_a_udp_socket_that_is_dead_is_given_up_too() -> None:
    """
    As where a firewall has forgotten its port.
    """
    with stuck_server() as server:
        server.truncates = False
        async with Resolver(nameservers=[server.nameserver], deadline=DEADLINE) as resolver:
            server.swallows = 1
            with pytest.raises(ResolveTimeout):
                await resolver.resolve(WEB)
            assert len((await resolver.resolve(WEB)).endpoints) == SOME


@pytest.mark.weather("A TCP connection to the server is dead")
async def test_a_ring_is_right_again_with_the_next_lookup() -> None:
    """
    Also where callers ask again and again, which kept the dead connection in use.
    """
    with stuck_server() as server:
        resolver = Resolver(nameservers=[server.nameserver], deadline=DEADLINE)
        async with Ring(WEB, port=80, resolver=resolver, refresh=SELDOM) as ring:
            assert len(ring.snapshot.endpoints) == ALL
            settings = EngineSettings((server.nameserver,), deadline=DEADLINE)
            with open_engine(settings) as engine:
                engine.reconnect()
            server.swallows = 1
            ring.refresh_soon()
            await until_state(ring, "stale")
            await until_state(ring, "fresh")
            assert dict(ring.stats().failures) == {"timeout": 1}


@pytest.mark.weather("A TCP connection to the server is dead")
async def test_a_start_on_a_dead_connection_succeeds_with_its_second_lookup() -> None:
    with stuck_server() as server:
        server.swallows = 1
        resolver = Resolver(nameservers=[server.nameserver], deadline=DEADLINE)
        async with Ring(WEB, port=80, resolver=resolver, refresh=SELDOM) as ring:
            assert len(ring.snapshot.endpoints) == ALL
            assert ring.stats().lookups == 2


@pytest.mark.long
async def test_the_queries_of_others_end_as_they_would_have() -> None:
    """
    Those in flight on a connection that works are answered there, and their channel is closed then.
    """
    with stuck_server() as server:
        server.delay = 0.3
        settings = EngineSettings((server.nameserver,), deadline=20.0)
        counts: list[int] = []
        with open_engine(settings) as engine:

            async def ask(number: int) -> None:
                counts.append(len((await engine.ask(f"s{number}.{WEB}", "A")).answer))

            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(ask, number)
                with anyio.fail_after(10):
                    while not server.connections:
                        await anyio.sleep(0.01)
                engine.reconnect()
                await ask(99)
        assert counts == [ALL] * 21
        assert server.connections == 2


@pytest.mark.long
async def test_a_silent_server_is_not_reconnected_to_for_each_of_its_queries() -> None:
    """
    Of those that time out together only the first gives the connections up.
    """
    with stuck_server() as server:
        server.swallows = 1000
        settings = EngineSettings((server.nameserver,), deadline=DEADLINE)
        with open_engine(settings) as engine:

            async def ask(number: int) -> None:
                with pytest.raises(ResolveTimeout):
                    await engine.ask(f"s{number}.{WEB}", "A")

            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(ask, number)
            assert engine.reconnections == 1


@pytest.mark.weather("Many names time out")
async def test_names_that_time_out_keep_no_other_waiting() -> None:
    """
    Two hundred of them beside one that is answered, on one channel.
    """
    with HeadlessService("web.prod", pods=3) as web:

        def only_web(query: Message) -> Message:
            reply = web.answer(query)
            if "web" not in str(query.question[0].name):
                reply.id ^= 1  # so that nobody looks at it
            return reply

        web.respond = only_web
        resolver = Resolver(nameservers=[web.nameserver], deadline=60.0)
        async with resolver, anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(resolver.resolve, f"dead-{number}.prod.svc.cluster.local.")
            await web.wait_for_queries_async(64)
            for _ in range(3):
                assert len((await resolver.resolve(WEB)).endpoints) == 3
            tasks.cancel_scope.cancel()
