"""
`as_default` and `wait_until_seen`: an app that makes its rings itself, under test.
"""

from __future__ import annotations

from typing import Any

import pytest

import knet
from knet.kubernetes import EndpointSlices
from knet.testing import HeadlessService, Pod

pytestmark = pytest.mark.anyio

QUICK = knet.RefreshPolicy(interval=3600, min_interval=0.02, retry=0.02)


@pytest.mark.parametrize(
    "source", [None, EndpointSlices(), knet.Fallback(EndpointSlices(), knet.Resolver())]
)
async def test_a_ring_that_names_no_server_asks_this_service(source: Any) -> None:
    with HeadlessService("web.prod.svc.k.test", pods=3, stateful=True) as service:
        with service.as_default():
            async with knet.Ring("web", port="http", resolver=source, refresh=QUICK) as ring:
                assert ring.snapshot.endpoints[0].name == "web-0.web.prod.svc.k.test"
                service.scale(5)
                await service.wait_until_seen_async()
                assert len(ring.snapshot) == 5
                service.remove(service.pods[0])
                await service.wait_until_seen_async()
                assert len(ring.snapshot) == 4
        assert "k.test" not in "".join(knet.Ring("web", port=80).names)


async def test_pods_of_one_address_are_told_by_their_ports() -> None:
    """
    As servers of a test on loopback are, each with a port of its own.
    """
    pods = [Pod("127.0.0.1", hostname=f"web-{n}", ports={"http": 40_000 + n}) for n in range(3)]
    with HeadlessService("web.prod", pods=pods) as service, service.as_default():
        async with knet.Ring("web.prod", port="http", refresh=QUICK) as ring:
            service.remove(pods[0])
            await service.wait_until_seen_async()
            assert [pod.port for pod in ring.snapshot.endpoints] == [40_001, 40_002]


async def test_open_rings_are_those_that_run() -> None:
    before = knet.open_rings()
    idle = knet.Ring.static(["10.0.0.9:80"])
    async with knet.Ring.static(["10.0.0.9:80"]) as ring:
        opened = knet.open_rings()
        assert ring in opened
        assert idle not in opened
    assert knet.open_rings() == before


def test_those_of_programs_without_an_event_loop_are_open_too() -> None:
    with knet.blocking.Ring("web", resolver=knet.StaticResolver(["10.0.0.1:80"])):
        assert "web" in {each.service for each in knet.open_rings()}
    assert "web" not in {each.service for each in knet.open_rings()}


async def test_who_has_not_seen_it_is_named() -> None:
    with HeadlessService("web.prod", pods=["10.0.0.1"]) as service, service.as_default():
        async with knet.Ring("web.prod", port=80, refresh=QUICK), knet.Ring.static(["10.0.0.9:80"]):
            service.fail("SERVFAIL")
            service.replace("10.0.0.1", "10.0.0.2")
            with pytest.raises(
                TimeoutError,
                match=r"not seen in 0\.1 s: 10\.0\.0\.2; <Ring 'web\.prod' .* has 10\.0\.0\.1$",
            ):
                await service.wait_until_seen_async(timeout=0.1)
            service.heal()
            await service.wait_until_seen_async()
        await service.wait_until_seen_async(timeout=0)  # nobody is left to wait for


def test_a_ring_in_another_thread_is_waited_for() -> None:
    with (
        HeadlessService("web.prod", pods=2, families=("ipv4", "ipv6")) as service,
        service.as_default(),
        knet.blocking.Ring("web.prod", port=80, refresh=QUICK) as ring,
    ):
        service.scale(4)
        service.wait_until_seen()
        assert len(ring.snapshot) == 4
