"""
A whole `knet.Ring` beside a whole Envoy: both resolve the same headless Service, and agree.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from knet import Endpoint, RefreshPolicy, Resolver, Ring
from knet.hashring import Placement
from knet.hashring.proxies import EnvoyMaglev, EnvoyRing
from knet.testing import HeadlessService
from tests.conformance.live.conftest import SEED
from tests.conformance.live.envoy import MISSING, Envoy, find_binary, strict_dns_cluster
from tests.conformance.live.servers import ask, free_port, keys_from, upstreams_at

SERVICE = "web.prod.svc.cluster.local"
PODS = [f"127.0.0.{n}" for n in range(2, 13)]
BEFORE, AFTER, AT_LAST = 4, 7, 5
KEYS = keys_from(random.Random(f"{SEED} ring"), 1_000)

POLICIES: dict[str, tuple[dict[str, Any], Callable[..., Placement[Endpoint]]]] = {
    "ring_hash": ({"lb_policy": "RING_HASH"}, EnvoyRing),
    "maglev": ({"lb_policy": "MAGLEV"}, EnvoyMaglev),
}


@pytest.fixture(scope="module")
def port(_loopback: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """
    A port at which every pod there will ever be answers.
    """
    number = free_port(PODS)
    with upstreams_at([(pod, number) for pod in PODS], tmp_path_factory.mktemp("pods")):
        yield number


@pytest.mark.anyio
@pytest.mark.parametrize("policy", POLICIES)
async def test_a_ring_and_an_envoy_agree_while_a_service_scales(
    policy: str, port: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """
    On every key, before and after pods came, and after some went.
    """
    binary = find_binary()
    if binary is None:
        pytest.skip(MISSING)
    config, placement = POLICIES[policy]
    async with HeadlessService(
        SERVICE, pods=BEFORE, ports={"http": port}, networks=["127.0.0.0/8"], seed=SEED
    ) as service:
        cluster = strict_dns_cluster(SERVICE, port, service.nameserver, config)
        ring = Ring(
            SERVICE,
            port=port,
            placement=placement,
            resolver=Resolver(nameservers=[service.nameserver]),
            refresh=RefreshPolicy(interval=0.2, min_interval=0.05, confirm=1),
        )
        with Envoy(binary, {policy: cluster}, tmp_path_factory.mktemp("envoy")) as envoy:
            async with ring:
                for pods in (BEFORE, AFTER, AT_LAST):
                    service.scale(pods)
                    with anyio.fail_after(20):
                        while len(ring.snapshot.endpoints) != pods:
                            await anyio.sleep(0.02)
                    await anyio.to_thread.run_sync(
                        envoy.wait_for, policy, [f"{p}:{port}" for p in PODS[:pods]]
                    )

                    theirs = await anyio.to_thread.run_sync(
                        lambda: ask(envoy.proxy, KEYS, path=f"/{policy}")
                    )

                    assert [str(ring.get_nowait(key)) for key in KEYS] == theirs
                    assert len(set(theirs)) == pods
