"""
What a ring makes of every kind of source alike: asked, telling, by DNS, by the API, and several of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import knet
from knet import (
    ALIVE,
    Answer,
    Endpoint,
    Fallback,
    Question,
    RefreshPolicy,
    ResolveError,
    Resolver,
    Ring,
    RingClosed,
    RingNotReady,
    ServerFailure,
    Source,
    StaticResolver,
    Tell,
)
from knet.testing import HeadlessService

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(8)]

QUICK = RefreshPolicy(interval=0.05, retry=0.02, min_interval=0.02, max_retry=0.1, empty_hold=0.3)
PODS = ("10.0.0.1", "10.0.0.2")


class Case:
    """
    A source, and what changes what it has to say.
    """

    def __init__(
        self, source: Source, put: Callable[..., object], fail: Callable[[], object]
    ) -> None:
        self.source = source
        self.put = put
        self.fail = fail

    @asynccontextmanager
    async def ring(self, **options: Any) -> AsyncIterator[Ring]:
        settings = {"port": 80, "refresh": QUICK, "start_timeout": 5, **options}
        async with Ring("web.prod", resolver=self.source, **settings) as ring:
            yield ring


def endpoints(*addresses: str) -> list[Endpoint]:
    return [Endpoint(address, address, 80) for address in addresses]


class AskedOne:
    """
    A resolver of a user's.
    """

    def __init__(self) -> None:
        self.outcome: Answer | Exception = Answer(endpoints(*PODS))

    async def resolve(self, service: str, /) -> Answer:
        await anyio.lowlevel.checkpoint()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class TellingOne:
    """
    A watcher of a user's, which has a task group of its own.
    """

    def __init__(self) -> None:
        self.outcome: Answer | Exception = Answer(endpoints(*PODS))

    async def watch(self, question: Question, tell: Tell, /) -> None:
        last: object = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            while True:
                if self.outcome is not last:
                    last = self.outcome
                    tell(self.outcome)
                else:
                    if isinstance(last, Answer):
                        tell(ALIVE)
                    await anyio.sleep(0.01)


def by_users(source: AskedOne | TellingOne) -> Case:
    def put(*addresses: str) -> None:
        source.outcome = Answer(endpoints(*addresses))

    def fail() -> None:
        source.outcome = ServerFailure("it cannot say")

    return Case(source, put, fail)


def by_service(service: HeadlessService, source: Source) -> Case:
    def put(*addresses: str) -> None:
        for pod in service.pods:
            if pod.addresses[0] not in addresses:
                service.remove(pod)
        for address in addresses:
            if address not in {pod.addresses[0] for pod in service.pods}:
                service.add(address)
        service.heal()
        service.api.heal()

    def fail() -> None:
        service.fail("SERVFAIL")
        service.api.stop()

    return Case(source, put, fail)


def of_all_kinds(kind: str, service: HeadlessService) -> Case:
    dns = Resolver(nameservers=[service.nameserver], timeout=0.2)
    cases: dict[str, Callable[[], Case]] = {
        "asked": lambda: by_users(AskedOne()),
        "telling": lambda: by_users(TellingOne()),
        "dns": lambda: by_service(service, dns),
        "slices": lambda: by_service(service, service.api.source()),
        "namespace": lambda: by_service(
            service, replace(service.api.source(), whole_namespace=True)
        ),
        "both": lambda: by_service(service, Fallback(service.api.source(), dns, patience=0.1)),
        "both asked": lambda: by_users_behind(AskedOne(), AskedOne()),
    }
    return cases[kind]()


def by_users_behind(first: AskedOne, second: AskedOne) -> Case:
    one, other = by_users(first), by_users(second)

    def put(*addresses: str) -> None:
        one.put(*addresses)
        other.put(*addresses)

    def fail() -> None:
        one.fail()
        other.fail()

    return Case(Fallback(first, second, patience=0.1), put, fail)


@pytest.fixture(params=["asked", "telling", "dns", "slices", "namespace", "both", "both asked"])
def case(request: pytest.FixtureRequest) -> Any:
    with HeadlessService("web.prod", pods=PODS) as service:
        service.set_ttl(0)
        yield of_all_kinds(request.param, service)


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not true():
            await anyio.sleep(0.005)


def addresses(ring: Ring) -> list[str]:
    return [pod.address for pod in ring.snapshot.endpoints]


async def test_pods_come_and_go(case: Case) -> None:
    async with case.ring() as ring:
        assert addresses(ring) == list(PODS)
        digest = ring.snapshot.digest
        case.put(*PODS, "10.0.0.3")
        await until(lambda: len(ring.snapshot) == 3)
        assert ring.snapshot.find("10.0.0.3:80") is not None
        case.put(*PODS)
        await until(lambda: len(ring.snapshot) == 2)
        assert ring.snapshot.digest == digest
        assert ring.state == "fresh"
        assert (ring.stats().alive is None) == (ring.stats().source not in TELLING)


TELLING = ("EndpointSlices", "TellingOne")


async def test_a_source_that_cannot_tell_changes_nothing(case: Case) -> None:
    async with case.ring() as ring:
        generation = ring.snapshot.generation
        case.fail()
        with anyio.fail_after(10):
            await ring.wait_for("stale")
        assert (ring.snapshot.generation, addresses(ring)) == (generation, list(PODS))
        assert ring.stats().last_error
        case.put("10.0.0.2", "10.0.0.9")
        with anyio.fail_after(10):
            await ring.wait_for("fresh")
        await until(lambda: "10.0.0.9" in addresses(ring))


async def test_nobody_is_believed_after_a_hold(case: Case) -> None:
    async with case.ring() as ring:
        case.put()
        with anyio.fail_after(10):
            await ring.wait_for("stale")
            assert len(ring.snapshot) == 2
            await ring.wait_for("empty")
        with pytest.raises(knet.NoEndpoints):
            await ring.get("user-42")
        case.put("10.0.0.7")
        with anyio.fail_after(10):
            await ring.wait_for("fresh")
        assert addresses(ring) == ["10.0.0.7"]


async def test_a_start_that_finds_nothing_says_why(case: Case) -> None:
    case.fail()
    with pytest.raises(ResolveError):
        async with case.ring(start_timeout=0.4):
            pass


async def test_a_start_may_be_empty(case: Case) -> None:
    case.put()
    async with case.ring(require_endpoints=False) as ring:
        assert ring.state == "empty"
        case.put("10.0.0.7")
        await until(lambda: addresses(ring) == ["10.0.0.7"])


async def test_rings_of_one_question_see_the_same(case: Case) -> None:
    async with case.ring() as one, case.ring() as other:
        case.put("10.0.0.2", "10.0.0.3")
        await until(lambda: addresses(one) == addresses(other) == ["10.0.0.2", "10.0.0.3"])
        await one.aclose()
        case.put("10.0.0.4")
        await until(lambda: "10.0.0.4" in addresses(other))
        with pytest.raises(RingClosed):
            await one.get("user-42")


async def test_to_refresh_is_safe_whatever_it_asks(case: Case) -> None:
    async with case.ring() as ring:
        for _ in range(3):
            assert len(await ring.refresh()) == 2
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ring.refresh)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_it_may_be_cancelled_anywhere(case: Case, steps: int) -> None:
    """
    Nothing is left of it: `conftest.py` looks for threads and sockets.
    """
    ring = Ring("web.prod", port=80, resolver=case.source, refresh=QUICK)

    async def start() -> None:
        async with ring:
            case.fail()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        for _ in range(steps):
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    with pytest.raises((RingClosed, RingNotReady)):
        await ring.get("user-42")


async def test_a_static_one_has_nothing_to_wait_for() -> None:
    source = StaticResolver([f"{address}:80" for address in PODS])
    async with Ring("web.prod", port=80, resolver=source, refresh=QUICK) as ring:
        source.set(["10.0.0.1:80"])
        await ring.refresh()
        await until(lambda: addresses(ring) == ["10.0.0.1"])
