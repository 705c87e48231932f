"""
Pods come and go, as Kubernetes shows it in DNS: whose the keys are meanwhile, and afterwards.
"""

from __future__ import annotations

import anyio
import pytest

from knet import Endpoint, RefreshPolicy
from knet.testing import HeadlessService
from tests.weather.rings import WEB, addresses, lookups, picks, ring_at, shown, traffic, until

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]
weather = pytest.mark.weather

PORTS = pytest.mark.parametrize("port", [8080, "http"])


def moved(before: list[Endpoint], after: list[Endpoint]) -> list[tuple[Endpoint, Endpoint]]:
    """
    Return whose the keys were and are, where that differs.
    """
    return [(a, b) for a, b in zip(before, after, strict=True) if a != b]


@PORTS
@weather("A pod becomes ready")
async def test_a_pod_that_becomes_ready_only_receives(port: int | str) -> None:
    """
    No key moves but to it.
    """
    with HeadlessService("web.prod", pods=4) as web:
        new = web.unready(web.pods[0]).address
        async with ring_at(web, port=port) as ring, traffic(ring):
            before = picks(ring)
            web.ready(new)
            await until(lambda: new in shown(ring))

            keys = moved(before, picks(ring))
            assert keys
            assert {after.address for _, after in keys} == {new}


@pytest.mark.sampled(3)
@PORTS
@weather("A pod is deleted, dies or gets unready")
@pytest.mark.parametrize("how", ["deleted", "unready"])
async def test_a_pod_that_leaves_loses_its_keys_and_no_other_does(
    port: int | str, how: str
) -> None:
    """
    And gets them all back, if it comes back.
    """
    with HeadlessService("web.prod", pods=4) as web:
        async with ring_at(web, port=port) as ring, traffic(ring):
            before = picks(ring)
            gone = web.pods[1]
            (web.remove if how == "deleted" else web.unready)(gone)
            await until(lambda: gone.address not in shown(ring))

            keys = moved(before, picks(ring))
            assert keys
            assert {pod.address for pod, _ in keys} == {gone.address}

            (web.add if how == "deleted" else web.ready)(gone)
            await until(lambda: gone.address in shown(ring))
            assert picks(ring) == before


@weather("A pod of a StatefulSet restarts")
async def test_a_pod_of_a_stateful_set_keeps_its_keys_over_a_restart() -> None:
    """
    Under its new address: its hostname is what is hashed.
    """
    with HeadlessService("web.prod", pods=3, stateful=True) as web:
        async with ring_at(web, port="http") as ring, traffic(ring):
            before = picks(ring)
            web.replace("web-1")
            await until(lambda: shown(ring) == addresses(web))

            after = picks(ring)
            assert [pod.name for pod in after] == [pod.name for pod in before]
            assert {a.name for a, _ in moved(before, after)} == {f"web-1.{WEB}"}


@PORTS
@weather("A pod of a Deployment restarts")
async def test_a_rolling_update_of_a_deployment_moves_every_key(port: int | str) -> None:
    """
    Another address is another pod. No request fails on the way.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web, port=port) as ring, traffic(ring):
            before = picks(ring)
            for pod in web.pods:
                web.replace(pod)
                await until(lambda: shown(ring) == addresses(web))

            assert len(moved(before, picks(ring))) == len(before)


@weather("A node dies")
async def test_a_dead_pod_that_dns_still_names_keeps_its_keys() -> None:
    """
    knet probes nobody. The second of `get_n` is who gets the key once the pod is out of DNS.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web) as ring, traffic(ring):
            dead = web.pods[0]
            keys = [f"user-{n}" for n in range(100)]
            hit = [key for key in keys if ring.get_nowait(key).address == dead.address]
            await lookups(ring, 5)
            assert [ring.get_nowait(key).address for key in hit] == [dead.address] * len(hit)
            second = [(await ring.get_n(key, 2))[1] for key in hit]

            web.remove(dead)
            await until(lambda: dead.address not in shown(ring))
            assert [ring.get_nowait(key) for key in hit] == second


@PORTS
@weather("A pod refuses your connection")
async def test_a_refresh_after_a_refused_connection_hears_of_it_at_once(port: int | str) -> None:
    """
    A ring that would ask in an hour has lost the pod after two of them, however many callers ask.
    """
    seldom = RefreshPolicy(interval=3600, min_interval=0.05)
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web, port=port, refresh=seldom) as ring, traffic(ring):
            gone = web.remove(web.pods[0])
            attempts = ring.stats().lookups
            for _ in range(2):
                async with anyio.create_task_group() as tasks:
                    for _ in range(100):
                        tasks.start_soon(ring.refresh)
            assert gone.address not in shown(ring)
            assert shown(ring) == addresses(web)
            assert ring.stats().lookups - attempts <= 3
