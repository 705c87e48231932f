"""
Recorded picks of nginx, HAProxy, libmemcached, twemproxy and pymemcache: every one must be ours too.

A file of ``vectors/`` is one case: the servers in the order the proxy had them, its options, and which
server it sent each key to. The README beside them says how they were recorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knet.endpoint import Endpoint
from knet.hashring import Placement
from knet.hashring.proxies.haproxy import HAProxyRing
from knet.hashring.proxies.ketama import Ketama
from knet.hashring.proxies.nginx import NginxRing
from knet.hashring.proxies.pymemcache import PymemcacheRendezvous
from knet.hashring.proxies.servers import split_address

VECTORS = Path(__file__).parent / "vectors"
ENDPOINT = Endpoint

Case = dict[str, Any]


def endpoints(case: Case) -> list[Endpoint]:
    """
    The servers as endpoints whose names say nothing, as it is the address that these proxies hash.
    """
    made = []
    for host in case["hosts"]:
        address, port = split_address(host["address"])
        made.append(Endpoint(host.get("name") or "pod", address, int(port), host["weight"]))
    return made


def nginx(case: Case) -> Placement[Endpoint]:
    return NginxRing(endpoints(case))


def haproxy(case: Case) -> Placement[Endpoint]:
    ids = {host["address"]: host["id"] for host in case["hosts"]}
    words = case["params"]["hash_type"].removeprefix("consistent").strip()
    return HAProxyRing(endpoints(case), ids=ids, hash=words or "sdbm avalanche")


def libmemcached(case: Case) -> Placement[Endpoint]:
    params = case["params"]
    return Ketama(endpoints(case), behavior=params["behavior"], hash=params["hash"])


def twemproxy(case: Case) -> Placement[Endpoint]:
    named = "name" in case["hosts"][0]
    return Ketama(
        endpoints(case),
        hash=case["params"]["hash"],
        name=(lambda endpoint: endpoint.name) if named else None,
    )


def pymemcache(case: Case) -> Placement[Endpoint]:
    return PymemcacheRendezvous(endpoints(case))


PLACEMENTS: dict[str, Callable[[Case], Placement[Endpoint]]] = {
    "nginx_hash_consistent": nginx,
    "haproxy_hash_type_consistent": haproxy,
    "libmemcached_ketama": libmemcached,
    "twemproxy_ketama": twemproxy,
    "pymemcache_rendezvous_murmur3": pymemcache,
}


def cases() -> list[Any]:
    found = []
    for path in sorted(VECTORS.glob("*.json")):
        case = json.loads(path.read_text("utf-8"))
        if case.get("algorithm") in PLACEMENTS:
            found.append(pytest.param(case, id=path.stem))
    return found


@pytest.mark.parametrize("case", cases())
def test_every_recorded_pick_is_ours(case: Case) -> None:
    """
    100 %: one key that goes elsewhere is a cache miss for somebody.
    """
    placement = PLACEMENTS[case["algorithm"]](case)
    picks: dict[str, str] = case["picks"]

    ours = {key: str(placement.get(key)) for key in picks}

    assert ours == picks
    assert len(picks) >= 100
    assert [str(pick) for pick in placement.get_many(picks)] == list(picks.values())
    assert [str(placement.get_n(key, 1)[0]) for key in picks] == list(picks.values())


@pytest.mark.parametrize(
    ("algorithm", "least"),
    [
        ("nginx_hash_consistent", 3),
        ("haproxy_hash_type_consistent", 3),
        ("libmemcached_ketama", 3),
        ("twemproxy_ketama", 2),
        ("pymemcache_rendezvous_murmur3", 1),
    ],
)
def test_no_case_is_lost(algorithm: str, least: int) -> None:
    """
    A moved directory or a misspelt name would pass in silence.
    """
    assert sum(param.values[0]["algorithm"] == algorithm for param in cases()) >= least
