"""
`EnvoyRing` and `EnvoyMaglev` against a running Envoy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from knet import Endpoint
from knet.hashring import Placement
from knet.hashring.proxies import EnvoyMaglev, EnvoyRing
from tests.conformance.live.cases import MEMBERSHIPS, endpoints
from tests.conformance.live.envoy import MISSING, Envoy, find_binary, static_cluster
from tests.conformance.live.servers import ask

Place = Callable[[list[Endpoint]], Placement[Endpoint]]


def ring(**config: Any) -> dict[str, Any]:
    return {"lb_policy": "RING_HASH", "ring_hash_lb_config": config}


def maglev(**config: Any) -> dict[str, Any]:
    return {"lb_policy": "MAGLEV", "maglev_lb_config": config}


def clusters() -> Iterator[tuple[str, str, dict[str, Any], Place]]:
    """
    The name of each cluster, its membership, Envoy's configuration of it, and ours.
    """
    for name in MEMBERSHIPS:
        yield f"ring_{name}", name, ring(), EnvoyRing
        yield f"maglev_{name}", name, maglev(), EnvoyMaglev
    for name in ("seven", "weights_skewed", "both_families"):
        yield (
            f"ring_murmur_{name}",
            name,
            ring(hash_function="MURMUR_HASH_2"),
            lambda members: EnvoyRing(members, hash="murmur2"),
        )
        yield (
            f"ring_small_{name}",
            name,
            ring(minimum_ring_size=5, maximum_ring_size=100),
            lambda members: EnvoyRing(members, min_size=5, max_size=100),
        )
        yield (
            f"ring_capped_{name}",
            name,
            ring(minimum_ring_size=1000, maximum_ring_size=1000),
            lambda members: EnvoyRing(members, min_size=1000, max_size=1000),
        )
        yield (
            f"maglev_small_{name}",
            name,
            maglev(table_size=251),
            lambda members: EnvoyMaglev(members, table_size=251),
        )
    yield (
        "ring_large_eleven",
        "eleven",
        ring(minimum_ring_size=65536),
        lambda members: EnvoyRing(members, min_size=65536),
    )
    yield (
        "maglev_too_small_seven",
        "seven",
        maglev(table_size=5),
        lambda members: EnvoyMaglev(members, table_size=5),
    )


CLUSTERS = {name: (membership, place) for name, membership, _, place in clusters()}


@pytest.fixture(scope="module")
def envoy(
    _upstreams: None, ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Envoy]:
    """
    One Envoy with all clusters.
    """
    binary = find_binary()
    if binary is None:
        pytest.skip(MISSING)
    configs = {
        name: static_cluster(endpoints(MEMBERSHIPS[membership], ports), policy)
        for name, membership, policy, _ in clusters()
    }
    with Envoy(binary, configs, tmp_path_factory.mktemp("envoy")) as running:
        yield running


@pytest.mark.parametrize("name", CLUSTERS)
def test_envoy_picks_alike(name: str, envoy: Envoy, ports: dict[str, int], keys: list[str]) -> None:
    """
    Every key goes where Envoy sends it.
    """
    membership, place = CLUSTERS[name]
    placement = place(endpoints(MEMBERSHIPS[membership], ports))

    assert list(map(str, placement.get_many(keys))) == ask(envoy.proxy, keys, path=f"/{name}")
