"""
What `stats()` counts of requests and of keys.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import anyio
import pytest

from knet import (
    EjectionPolicy,
    Endpoint,
    Kept,
    NoEndpoints,
    Pool,
    RefreshPolicy,
    Ring,
    ServerFailure,
    may_repeat,
)
from knet.hashring import HashRing, Maglev, Rendezvous
from knet.hashring.steps import exhaust
from knet.snapshot import Change, Snapshot, counting_moved
from tests.fakes import A, B, C, FakeResolver, endpoints
from tests.ring.test_history import counted
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = pytest.mark.anyio

STEADY = RefreshPolicy(jitter=0)


def ring_of(*pods: Endpoint, **options: Any) -> Ring:
    return Ring("web.prod", resolver=FakeResolver(*pods), refresh=STEADY, **options)


async def fail(pod: Endpoint) -> None:
    raise ConnectionRefusedError(111, "refused")


async def test_attempts_are_counted_and_what_they_failed_of() -> None:
    """
    Of three pods that refuse, two failures are followed by another attempt.
    """
    async with ring_of(A, B, C) as ring:
        with pytest.raises(ConnectionRefusedError):
            await ring.call("user-42", fail)
        stats = ring.stats()
        assert stats.attempts == 3
        assert stats.errors == {"refused": 3}
        assert stats.failovers == {"refused": 2}
        assert stats.ejections == stats.ejected == 1
        assert json.loads(json.dumps(stats.as_dict()))["failovers"] == {"refused": 2}
        ring.restore(next(iter(ring.ejected)))
        assert (ring.stats().ejections, ring.stats().ejected) == (1, 0)


async def test_a_success_is_an_attempt_and_no_error() -> None:
    async def succeed(pod: Endpoint) -> str:
        return pod.name

    async with ring_of(A, B, C) as ring:
        for key in ("a", "b", "c"):
            await ring.call(key, succeed)
        stats = ring.stats()
        assert (stats.attempts, stats.errors, stats.failovers) == (3, {}, {})


async def test_errors_are_told_apart() -> None:
    """
    The caller's word, the end of `total`, a broken exchange, and what is the application's own.
    """
    options: Any = {"ejection": EjectionPolicy(max_share=0)}

    async def break_off(pod: Endpoint) -> None:
        raise ConnectionResetError

    async def hang(pod: Endpoint) -> None:
        await anyio.sleep_forever()

    async def misjudge(pod: Endpoint) -> None:
        raise ValueError

    async with ring_of(A, B, C, **options) as ring:
        tries = ring.attempts("user-42", n=2)
        with pytest.raises(RuntimeError, match="busy"):
            while True:
                async with tries:
                    tries.next(RuntimeError("busy"))
        with pytest.raises(TimeoutError):
            await ring.call("user-42", hang, total=1)
        with pytest.raises(ConnectionResetError):
            await ring.call("user-42", break_off, retry_on=may_repeat)
        with pytest.raises(ValueError):
            await ring.call("user-42", misjudge)
        stats = ring.stats()
        assert stats.errors == {"told": 2, "late": 1, "broken": 3, "other": 1}
        assert stats.failovers == {"told": 1, "broken": 2}
        assert stats.attempts == 7
        assert sum(stats.errors.values()) == stats.attempts


async def test_a_cancelled_attempt_is_no_error() -> None:
    async def hang(pod: Endpoint) -> None:
        await anyio.sleep_forever()

    async with ring_of(A, B) as ring:
        with anyio.move_on_after(1):
            await ring.call("user-42", hang)
        assert (ring.stats().attempts, ring.stats().errors) == (1, {})


async def test_an_answer_that_breaks_later_is_one_error() -> None:
    kept: list[Kept] = []
    async with ring_of(A, B) as ring:
        tries = ring.attempts("user-42")
        async with tries:
            kept.append(tries.keep())
        assert ring.stats().errors == {}
        kept[0].end(ConnectionResetError())
        kept[0].end(ConnectionResetError())
        assert ring.stats().errors == {"broken": 1}


async def test_a_client_that_cannot_be_opened_is_an_error_of_its_kind() -> None:
    async def succeed(client: Endpoint) -> str:
        return client.name

    async with ring_of(A, B) as ring:
        dead = await ring.get("user-42")

        async def connect(pod: Endpoint) -> Endpoint:
            if pod is dead:
                raise ConnectionRefusedError
            return pod

        async with Pool(ring, connect, lambda _: None) as pool:
            await pool.call("user-42", succeed)
        stats = ring.stats()
        assert (stats.attempts, stats.errors) == (2, {"refused": 1})
        assert stats.failovers == {"refused": 1}


async def test_what_is_in_flight_is_told_by_endpoint() -> None:
    async with ring_of(A, B) as ring:
        pod = await ring.get("user-42")
        assert ring.in_flight == {}
        async with ring.acquire("user-42", bound=None), ring.acquire("user-42", bound=None):
            assert ring.in_flight == {pod: 2}
        assert ring.in_flight == {}


async def test_changes_are_counted_and_the_keys_that_they_move() -> None:
    """
    The first snapshot changes nothing.
    """
    resolver = FakeResolver(A, B)
    async with Ring("web.prod", resolver=resolver, refresh=STEADY) as ring:
        assert (ring.stats().changes, ring.stats().moved) == (0, 0)
        changes = ring.changes()
        resolver.answer(A, B, C)
        first = await anext(changes)
        assert ring.stats().changes == 1
        await counted(ring)
        assert ring.stats().moved == pytest.approx(first.moved, abs=1e-6)
        resolver.answer(A)
        second = await anext(changes)
        assert ring.stats().changes == 2
        await counted(ring)
        assert ring.stats().moved == pytest.approx(first.moved + second.moved, abs=1e-6)
    assert ring.stats().changes == 2


async def test_a_service_that_is_empty_and_comes_back_moves_all_keys_twice() -> None:
    resolver = FakeResolver(A, B)
    async with Ring("web.prod", resolver=resolver, refresh=STEADY) as ring:
        resolver.answer()
        await ring.wait_for("empty")
        with pytest.raises(NoEndpoints):
            await ring.get("user-42")
        resolver.answer(A, B)
        await ring.wait_for("fresh")
        await counted(ring)
        assert (ring.stats().changes, ring.stats().moved) == (2, 2)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("place", [HashRing, Maglev, Rendezvous])
@pytest.mark.parametrize("count", [3, 40])
def test_the_keys_that_move_are_those_of_the_change(place: Any, count: int) -> None:
    """
    Joins, leaves, both, another address, and none of them. Where there is no table, about.
    """
    pods = endpoints(count)
    other = Endpoint(pods[0].name, "10.9.9.9", 80)
    snapshot = Snapshot(place(pods))
    for after in (pods, pods[1:], pods[:-1], (*pods[1:], C), (*pods, C), (other, *pods[1:]), ()):
        for one, two in ((pods, after), (after, pods)):
            before = snapshot if one is pods else Snapshot(place(one))
            change = Change(before, before if one is two else Snapshot(place(two)))
            counted = exhaust(counting_moved(change))
            near = 0.03 if place is Rendezvous else 0.0
            assert counted == pytest.approx(change.moved, abs=near), (one, two)


def test_equal_pods_are_the_same_whatever_objects_they_are() -> None:
    pods = endpoints(10)
    copies = tuple(Endpoint(p.name, p.address, p.port) for p in pods)
    assert (
        exhaust(counting_moved(Change(Snapshot(HashRing(pods)), Snapshot(HashRing(copies))))) == 0
    )
    nobody = Snapshot(HashRing[Endpoint](()))
    assert math.isclose(exhaust(counting_moved(Change(nobody, Snapshot(HashRing(pods))))), 1)


async def test_records_of_the_log_carry_fields(caplog: pytest.LogCaptureFixture) -> None:
    """
    For whoever writes logs as JSON: the ring, its new state, and the endpoint.
    """
    resolver = FakeResolver(A, B)
    caplog.set_level(logging.INFO, "knet")
    async with Ring("web.prod", port=80, resolver=resolver, refresh=STEADY) as ring:
        ring.eject(A)
        resolver.outcome = ServerFailure("SERVFAIL")
        await ring.wait_for("stale")
    wanted: list[dict[str, object]] = [
        {"knet_state": "fresh"},
        {"knet_endpoint": "a"},
        {"knet_state": "stale"},
    ]
    told = [
        {name: value for name, value in vars(record).items() if name.startswith("knet_")}
        for record in caplog.records
    ]
    assert told == [{"knet_service": "web.prod", "knet_port": 80, **each} for each in wanted]
