"""
`Ring.call_many`: one request for many keys, split by pod.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import knet
from knet import Endpoint, RefreshPolicy, Ring, RingNotReady, may_repeat
from tests.fakes import A, B, C, FakeResolver, endpoints
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

KEYS = [f"user-{n}" for n in range(300)]
PODS = endpoints(10)


def ring_of(*pods: Endpoint) -> Ring:
    return Ring("web.prod", resolver=FakeResolver(*pods or PODS), refresh=RefreshPolicy(jitter=0))


class Pods:
    """
    Pods that know the value of every key, but for those that fail.

    Attributes:
        errors: Makes what is raised there.
        asked: What was asked of whom.
        delay: Seconds that each takes.
    """

    def __init__(self) -> None:
        self.errors: dict[Endpoint, Any] = {}
        self.asked: list[tuple[Endpoint, list[str]]] = []
        self.delay = 0.1

    async def fetch(self, pod: Endpoint, keys: list[str]) -> dict[str, str]:
        self.asked.append((pod, keys))
        await anyio.sleep(self.delay)
        if pod in self.errors:
            raise self.errors[pod](pod)
        return {key: key.upper() for key in keys}


def refused(pod: Endpoint) -> ConnectionRefusedError:
    return ConnectionRefusedError(111, f"Connect call failed ('{pod.address}', {pod.port})")


def reset(_: Endpoint) -> ConnectionResetError:
    return ConnectionResetError(104, "reset")


async def test_each_pod_is_asked_once_and_all_at_once() -> None:
    pods = Pods()
    async with ring_of() as ring:
        began = anyio.current_time()
        found = await ring.call_many(iter([*KEYS, *KEYS]), pods.fetch)
        assert anyio.current_time() - began == pytest.approx(0.1)
        assert list(found.items()) == [(key, key.upper()) for key in KEYS]
        assert dict(pods.asked) == ring.group(KEYS)
        assert len(pods.asked) == len(PODS)
        assert await ring.call_many([], pods.fetch) == {}
        assert ring.stats().attempts == len(PODS)


async def test_what_a_pod_cannot_serve_goes_the_way_of_each_key() -> None:
    """
    The very pods that `call` asks, one key at a time.
    """
    pods = Pods()
    dead = PODS[3]
    pods.errors[dead] = refused
    async with ring_of() as ring:
        ways = {key: ring.snapshot.get_n(key, 3) for key in KEYS}
        found = await ring.call_many(KEYS, pods.fetch)
        assert len(found) == len(KEYS)
        served: dict[str, Endpoint] = {}
        for pod, keys in pods.asked:
            if pod is not dead:
                served |= dict.fromkeys(keys, pod)
        assert served == {key: way[way[0] is dead] for key, way in ways.items()}
        assert dead in ring.ejected
        pods.asked.clear()
        assert len(await ring.call_many(KEYS, pods.fetch)) == len(KEYS)
        assert dead not in dict(pods.asked)


async def test_where_all_are_dead_the_last_error_leaves_with_the_others_as_notes() -> None:
    pods = Pods()
    pods.errors = dict.fromkeys((A, B, C), refused)
    async with ring_of(A, B, C) as ring:
        with pytest.raises(ConnectionRefusedError) as raised:
            await ring.call_many(KEYS, pods.fetch)
        assert len(raised.value.__notes__) == 2
        assert ring.in_flight == {}
        with pytest.raises(ConnectionRefusedError) as raised:
            await ring.call_many(KEYS[:1], pods.fetch, n=1)
        assert not hasattr(raised.value, "__notes__")


async def test_what_may_have_been_done_is_repeated_only_where_that_is_allowed() -> None:
    pods = Pods()
    pods.errors[PODS[0]] = reset
    async with ring_of() as ring:
        with pytest.raises(ConnectionResetError):
            await ring.call_many(KEYS, pods.fetch)
        assert len(await ring.call_many(KEYS, pods.fetch, retry_on=may_repeat)) == len(KEYS)
        assert ring.in_flight == {}


async def test_an_error_for_good_cancels_the_others_and_leaves_as_itself() -> None:
    pods = Pods()
    pods.delay = 3600
    ended: list[Endpoint] = []

    async def fetch(pod: Endpoint, keys: list[str]) -> dict[str, str]:
        try:
            if pod is PODS[5]:
                await anyio.sleep(0.1)
                raise ValueError("a bug")
            return await pods.fetch(pod, keys)
        finally:
            ended.append(pod)

    async with ring_of() as ring:
        with pytest.raises(ValueError, match="a bug"):
            await ring.call_many(KEYS, fetch)
        assert len(ended) == len(PODS)
        assert (ring.in_flight, len(ring.ejected)) == ({}, 0)


class Interrupt(BaseException):
    """
    As a signal handler raises it.
    """


async def test_an_interrupt_leaves_as_itself() -> None:
    async def fetch(pod: Endpoint, keys: list[str]) -> dict[str, str]:
        del pod, keys
        raise Interrupt

    async with ring_of() as ring:
        with pytest.raises(Interrupt):
            await ring.call_many(KEYS[:1], fetch)


async def test_total_is_for_all_of_it() -> None:
    pods = Pods()
    pods.delay = 3600
    async with ring_of() as ring:
        with pytest.raises(TimeoutError, match="300 of 300 keys were not served within 2 s"):
            await ring.call_many(KEYS, pods.fetch, total=2)
        assert (ring.in_flight, len(ring.ejected)) == ({}, 0)


async def test_a_key_that_was_not_found_is_missing() -> None:
    async def fetch(pod: Endpoint, keys: list[bytes]) -> dict[bytes, int]:
        del pod
        return {key: len(key) for key in keys if key != b"b"}

    async with ring_of() as ring:
        assert await ring.call_many([b"a", b"b", b"cc"], fetch) == {b"a": 1, b"cc": 2}


async def test_what_it_cannot_be_is_refused() -> None:
    async def nothing(pod: Endpoint, keys: list[str]) -> Any:
        del pod, keys

    async def too_much(pod: Endpoint, keys: list[str]) -> dict[str, int]:
        del pod, keys
        return {"another": 1}

    ring = ring_of()
    with pytest.raises(RingNotReady):
        await ring.call_many(KEYS, nothing)
    async with ring:
        with pytest.raises(TypeError, match="returns what it has found, by key, not None"):
            await ring.call_many(KEYS, nothing)
        with pytest.raises(TypeError, match="not asked for 'another'"):
            await ring.call_many(KEYS, too_much)
        with pytest.raises(TypeError):
            await ring.call_many("user-42", nothing)
        with pytest.raises(knet.ConfigError):
            await ring.call_many(KEYS, nothing, n=0)


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 0.15, 0.25])
async def test_it_gives_back_what_it_took_wherever_it_is_cancelled(after: float) -> None:
    pods = Pods()
    pods.errors = dict.fromkeys(PODS[:4], refused)
    async with ring_of() as ring:
        with anyio.move_on_after(after):
            await ring.call_many(KEYS, pods.fetch)
        assert ring.in_flight == {}
