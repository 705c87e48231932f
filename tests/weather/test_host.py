"""
The host misbehaves, or must be spared: clocks that jump, loops that stall, tasks that are cancelled
with queries on the wire, and hundreds of rings.
"""

from __future__ import annotations

import ast
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import dns.message
import dns.rrset
import pytest

import knet
from knet import Answer, Endpoint, RefreshPolicy, Resolver, Ring
from knet.hashring import HashRing
from knet.resolver import cares
from knet.testing import HeadlessService
from tests.weather.rings import (
    addresses,
    lookups,
    picks,
    resolver_at,
    ring_at,
    shown,
    traffic,
    until,
)
from tests.weather.steps import Interrupted

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]
weather = pytest.mark.weather


@pytest.fixture
def engines() -> Iterator[list[cares.Engine]]:
    """
    Every engine that is made during the test.
    """
    made: list[cares.Engine] = []
    cares.on_open.append(made.append)
    yield made
    cares.on_open.remove(made.append)


class Noting:
    """
    A resolver that asks another one, and notes when it was asked.
    """

    def __init__(self, resolver: Resolver) -> None:
        self.asked: list[float] = []
        self._resolver = resolver

    async def resolve(self, service: str, /, **options: Any) -> Answer:
        self.asked.append(anyio.current_time())
        return await self._resolver.resolve(service, **options)


# --- clocks


@weather("The wall clock jumps")
async def test_a_ring_takes_no_notice_of_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It asks as ever, through jumps of years in both directions, and its ages stay true.
    """
    true_time, true_time_ns = time.time, time.time_ns
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web) as ring, traffic(ring):
            for years in (3, -5, 0.0001):
                jump = years * 31_557_600
                monkeypatch.setattr(time, "time", lambda jump=jump: true_time() + jump)
                monkeypatch.setattr(
                    time, "time_ns", lambda jump=jump: true_time_ns() + int(jump * 1e9)
                )
                web.replace(web.pods[0])
                await until(lambda: shown(ring) == addresses(web))
                age = ring.stats().last_success_age
                assert age is not None
                assert 0 <= age < 30
            assert ring.stats().failures == {}


@weather("The wall clock jumps")
def test_no_module_reads_the_wall_clock() -> None:
    """
    Only the pretended server, the command, and what shows rings to people may.
    """

    def read(tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "time" and node.attr in ("time", "time_ns", "localtime"):
                    yield f"time.{node.attr}"
            elif isinstance(node, ast.Import | ast.ImportFrom):
                yield from (a.name for a in node.names if a.name == "datetime")
                if isinstance(node, ast.ImportFrom) and node.module in ("datetime", "time"):
                    yield f"from {node.module}"

    root = Path(knet.__file__).parent
    shown = [root / "integrations" / "readings.py", *(root / "integrations/status").iterdir()]
    for path in root.rglob("*.py"):
        if path.relative_to(root).parts[0] not in ("testing", "cli") and path not in shown:
            assert list(read(ast.parse(path.read_text("utf-8")))) == [], path


# --- stalls


@pytest.mark.long
@weather("The event loop stalls")
async def test_an_answer_that_came_during_a_stall_counts() -> None:
    """
    The deadline has passed when the loop wakes up, but the answer was there before.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web, resolver=resolver_at(web, deadline=2.0)) as ring, traffic(ring):
            web.delay(0.05)
            web.forget_queries()
            await web.wait_for_queries_async(1)
            time.sleep(2.5)  # noqa: ASYNC251 - the stall is what this is about
            await lookups(ring, 1)

            assert ring.stats().failures == {}
            assert ring.state == "fresh"


@weather("The event loop stalls")
async def test_a_stall_is_not_caught_up_with() -> None:
    """
    After ten intervals without a turn there is one lookup, not ten.
    """
    with HeadlessService("web.prod", pods=3) as web:
        noting = Noting(resolver_at(web))
        often = RefreshPolicy(interval=0.1, min_interval=0.1, jitter=0)
        async with ring_at(web, resolver=noting, refresh=often) as ring, traffic(ring):
            await until(lambda: len(noting.asked) >= 2)
            time.sleep(1)  # noqa: ASYNC251 - the stall is what this is about
            asked = len(noting.asked)
            await until(lambda: len(noting.asked) >= asked + 5)

            times = noting.asked[asked:]
            gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
            assert min(gaps) > 0.099


@weather("The event loop stalls")
async def test_an_answer_that_came_while_the_loop_stalled_at_the_start_counts() -> None:
    """
    A program that loads a model before its loop turns again has its ring all the same.
    """
    with HeadlessService("web.prod", pods=3) as web:
        web.delay(0.05)
        async with anyio.create_task_group() as tasks:

            async def stall() -> None:
                await web.wait_for_queries_async(1)
                time.sleep(1.5)  # noqa: ASYNC251 - the stall is what this is about

            tasks.start_soon(stall)
            async with ring_at(web, start_timeout=1.0) as ring:
                assert shown(ring) == addresses(web)


# --- cancelled and closed, on the wire


class Host:
    """
    Runs a ring, and interrupts it at its step *at*.

    Attributes:
        steps: How many it took.
    """

    def __init__(self, ring: Ring, at: int) -> None:
        self.steps = 0
        self._ring = ring
        self._at = at

    async def run(self, interrupt: Callable[[], object]) -> None:
        life = Interrupted(self._ring.run(), self._at, interrupt)
        try:
            await life
        finally:
            self.steps = life.steps


def without_glue(
    service: HeadlessService,
) -> Callable[[dns.message.Message], dns.message.Message]:
    def answer(query: dns.message.Message) -> dns.message.Message:
        reply = service.answer(query)
        reply.additional.clear()
        return reply

    return answer


@weather("A task is cancelled")
@pytest.mark.parametrize("port", [8080, "http"])
async def test_a_ring_is_cancelled_at_every_step_with_queries_on_the_wire(
    port: int | str, engines: list[cares.Engine]
) -> None:
    """
    Its channel is closed each time, and no query is waited for.
    """
    with HeadlessService("web.prod", pods=3, stateful=True) as web:
        web.respond = without_glue(web)
        for at in range(1, 200):
            ring = ring_at(web, port=port)
            host = Host(ring, at)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(host.run, tasks.cancel_scope.cancel)
                await lookups(ring, 4)
                tasks.cancel_scope.cancel()
            assert ring.state == "closed"
            assert engines[-1].users == 0
            if host.steps < at:
                break
        else:
            pytest.fail("it never ends")
        assert at > 5


@pytest.mark.long
@pytest.mark.sampled(4)
@weather("A task is cancelled")
@weather("A ring is closed in the middle of something")
@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_a_ring_that_ends_takes_no_other_with_it(
    how: str, engines: list[cares.Engine]
) -> None:
    """
    Rings of one name share lookups and placements: whoever was about to do it for all, and ends at
    any step, leaves it to the next.
    """
    with HeadlessService("web.prod", pods=3) as web:
        resolver = resolver_at(web)
        async with ring_at(web, resolver=resolver) as other, traffic(other):
            for at in range(1, 40):
                ring = ring_at(web, resolver=resolver)
                async with anyio.create_task_group() as tasks, anyio.create_task_group() as hosts:
                    end: Callable[[], object] = hosts.cancel_scope.cancel
                    if how == "closed":
                        end = functools.partial(tasks.start_soon, ring.aclose)
                    hosts.start_soon(Host(ring, at).run, end)
                    web.replace(web.pods[0])
                    await until(lambda: shown(other) == addresses(web))
                    await lookups(ring, 2)
                    hosts.cancel_scope.cancel()
                assert ring.state == "closed"

            assert other.stats().failures == {}
            assert other.state == "fresh"
        assert len(engines) == 1
        assert engines[0].users == 0


# --- many


@pytest.mark.long
@weather("Thousands of rings in one process")
async def test_rings_of_many_names_share_a_channel_and_send_64_queries_at_a_time(
    engines: list[cares.Engine],
) -> None:
    """
    More at once would overflow the buffer of the one UDP socket that they share.
    """
    with HeadlessService("web.prod", pods=3, ttl=0) as web:

        def any_name(query: dns.message.Message) -> dns.message.Message:
            reply = dns.message.make_response(query)
            name = query.question[0].name
            reply.answer.append(dns.rrset.from_text(name, 0, "IN", "A", "10.244.0.2"))
            return reply

        web.respond = any_name
        web.delay(0.1)
        small = functools.partial(HashRing[Endpoint], points=1, slots=8)
        patient = resolver_at(web, timeout=30.0, deadline=60.0)
        seldom = RefreshPolicy(interval=3600)
        rings = [
            Ring(f"web-{n}.prod", resolver=patient, placement=small, refresh=seldom)
            for n in range(300)
        ]
        async with anyio.create_task_group() as tasks:
            for ring in rings:
                tasks.start_soon(functools.partial(ring.start))
        first: dict[str, float] = {}
        for query in web.queries:  # c-ares repeats those that a busy machine is late to answer
            first.setdefault(query.name, query.time)
        sent = sorted(first.values())
        assert len(sent) == 300
        assert all(later - sooner >= 0.099 for sooner, later in zip(sent, sent[64:], strict=False))
        assert {ring.get_nowait("user-42").address for ring in rings} == {"10.244.0.2"}

        async with anyio.create_task_group() as tasks:
            for ring in rings:
                tasks.start_soon(ring.aclose)
        assert [engine.users for engine in engines] == [0]


@pytest.mark.long
@weather("Thousands of rings in one process")
async def test_rings_of_one_name_share_their_lookups_and_agree(
    engines: list[cares.Engine],
) -> None:
    """
    Two hundred rings cost as many queries as a few, and each follows the pods under traffic.
    """
    with HeadlessService("web.prod", pods=3) as web:
        resolver = resolver_at(web)
        slow = RefreshPolicy(interval=0.5, min_interval=0.25)
        rings = [ring_at(web, resolver=resolver, refresh=slow) for _ in range(200)]
        async with anyio.create_task_group() as tasks:
            for ring in rings:
                tasks.start_soon(ring.run)
            await until(lambda: all(ring.state == "fresh" for ring in rings))
            async with traffic(rings[0]), traffic(rings[-1]):
                for _ in range(2):
                    web.replace(web.pods[0])
                    await until(lambda: all(shown(ring) == addresses(web) for ring in rings))
                assert len({tuple(picks(ring)) for ring in rings}) == 1
            attempts = sum(ring.stats().lookups for ring in rings)
            assert len(web.queries) * 20 < attempts
            tasks.cancel_scope.cancel()
        assert [engine.users for engine in engines] == [0]
