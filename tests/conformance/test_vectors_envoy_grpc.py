"""
Recorded picks of Envoy and gRPC core, and the facts in their unit tests: every one must be ours too.

A file of ``vectors/`` is one case; the README beside them says what is in it and how it was recorded.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytest

from knet.hashring import Member, Placement, hash_key
from knet.hashring.hashing import xxh64
from knet.hashring.proxies import EnvoyMaglev, EnvoyRing, GrpcRing, envoy_hash
from knet.hashring.proxies.murmur import murmur2_64

VECTORS = Path(__file__).parent / "vectors"

Case = dict[str, Any]
Host = dict[str, Any]


def load(name: str) -> Case:
    case: Case = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return case


def sizes(params: Case) -> dict[str, int]:
    names = {"min": "min_size", "max": "max_size", "cap": "cap", "table": "table_size"}
    return {names[key]: value for key, value in params.items() if key in names}


def placed(algorithm: str, hosts: list[Host], params: Case) -> Placement[Member]:
    """
    Place members that have a host's address for a name, hashed by its `hash_key` where it has one.
    """
    healthy = [host for host in hosts if host.get("health", "healthy") == "healthy"]
    members = [Member(host["address"], host["weight"]) for host in healthy]
    keys: dict[str, str] = {
        host["address"]: host.get("hash_key") or host["address"] for host in healthy
    }

    def name(member: Member) -> str:
        return keys[member.name]

    if algorithm == "envoy_ring_hash":
        function: Literal["xxh64", "murmur2"] = "murmur2" if "fn" in params else "xxh64"
        return EnvoyRing(members, hash=function, name=name, **sizes(params))
    if algorithm == "envoy_maglev":
        return EnvoyMaglev(members, name=name, **sizes(params))
    assert algorithm == "grpc_ring_hash"
    return GrpcRing(members, name=name, **sizes(params))


def pick(placement: Placement[Member], key: str, params: Case) -> str:
    """
    Return who gets a request that carries *key* in the way that *params* say.
    """
    if "two_headers" in params:
        values = [None if value == "-" else value for value in key.split("|")]
        return placement.get_hash(envoy_hash(*values)).name
    if "multi_value" in params:
        return placement.get_hash(envoy_hash(key.split("|"))).name
    if "shapes" in params:
        key = key.strip(" \t")
    if "down" in params:
        return next(each.name for each in placement.walk(key) if each.name not in params["down"])
    return placement.get(key).name


def phases() -> list[Any]:
    found = []
    for path in sorted(VECTORS.glob("*.json")):
        case = load(path.stem)
        if path.stem.startswith("published") or not case["algorithm"].startswith(("envoy", "grpc")):
            continue
        for phase in case.get("phases", [case]):
            name = f"{path.stem}-{phase['label']}" if "label" in phase else path.stem
            found.append(pytest.param({**case, **phase}, id=name))
    return found


@pytest.mark.parametrize("case", phases())
def test_every_recorded_pick_is_ours(case: Case) -> None:
    """
    100 %: one key that goes elsewhere is a cache miss for somebody.
    """
    placement = placed(case["algorithm"], case["hosts"], case["params"])

    ours = {key: pick(placement, key, case["params"]) for key in case["picks"]}

    assert ours == case["picks"]


@pytest.mark.parametrize("name", ["ring_eds_remove_add7", "maglev_eds_remove_add7"])
def test_every_recorded_change_of_hosts_is_ours(name: str) -> None:
    """
    Where a host leaves a running Envoy and comes back as the last one, so it does here.
    """
    case = load(name)
    first, *later = case["phases"]
    placement = placed(case["algorithm"], first["hosts"], {})
    for phase in later:
        # All hosts of these cases were hashed by their addresses.
        placement = placement.replace([Member(host["address"]) for host in phase["hosts"]])

        assert {key: placement.get(key).name for key in phase["picks"]} == phase["picks"]


def test_no_case_is_lost() -> None:
    """
    A moved directory or a misspelt name would pass in silence.
    """
    counts = Counter(param.values[0]["algorithm"] for param in phases())
    picks = sum(len(param.values[0]["picks"]) for param in phases())

    assert counts == {"envoy_ring_hash": 25, "envoy_maglev": 12, "grpc_ring_hash": 7}
    assert picks == 16_359


def published(name: str) -> list[Any]:
    """
    The cases of a file, but for locality weights, which are no part of these placements, and for a
    comment in grpc-go with which grpc-go itself does not agree.
    """
    return [
        pytest.param(case, id=case["name"])
        for case in load(name)["cases"]
        if "localities" not in case and case.get("go_comment_ring_reproduced", True)
    ]


PUBLISHED = [
    *published("published_envoy_ring_hash"),
    *published("published_envoy_maglev"),
    *published("published_grpc_ring_hash"),
]


def algorithm_of(case: Case) -> str:
    if "table_size" in case:
        return "envoy_maglev"
    return "grpc_ring_hash" if "C-core" in case["name"] else "envoy_ring_hash"


@pytest.mark.parametrize("case", PUBLISHED)
def test_the_facts_in_the_unit_tests_of_proxies_hold(case: Case) -> None:
    """
    Rings, tables, lookups, retries and counts, all of which they assert of themselves.
    """
    params = dict(case.get("params", {}))
    if "table_size" in case:
        params["table"] = case["table_size"]
    placement = placed(algorithm_of(case), case["hosts"], params)

    for lookup in case.get("lookups", ()):
        assert placement.get_hash(int(lookup["hash"])).name == lookup["address"]
    for attempt in case.get("attempts", ()):
        assert retried(placement, int(attempt["hash"]), attempt["attempt"]) == attempt["address"]
    if "histogram" in case:
        n = case["histogram"]["n"]
        step = (2**64 - 1) // n
        counts = Counter(placement.get_hash(i * step).name for i in range(n))
        assert counts == case["histogram"]["counts"]
    if isinstance(placement, EnvoyRing):
        ring = [(point, owner.name) for point, owner in placement.points]
        assert ring == [(point, placement.get_hash(point).name) for point, _ in ring]
        if "ring" in case:
            assert ring == [(int(entry["hash"]), entry["address"]) for entry in case["ring"]]
        counts = Counter({host["address"]: 0 for host in case["hosts"]})
        counts.update(name for _, name in ring)
        assert len(ring) == case.get("size", len(ring))
        assert min(counts.values()) == case.get("min_hashes", min(counts.values()))
        assert max(counts.values()) == case.get("max_hashes", max(counts.values()))
    if isinstance(placement, EnvoyMaglev):
        table = [placement.get_hash(slot).name for slot in range(case["table_size"])]
        assert table == case.get("table", table)
        counts = Counter(table)
        assert min(counts.values()) == case.get("min_entries", min(counts.values()))
        assert max(counts.values()) == case.get("max_entries", max(counts.values()))


def retried(placement: Any, h64: int, attempt: int) -> str:
    """
    Return whom Envoy tries after *attempt* others, some of them more than once.
    """
    if isinstance(placement, EnvoyMaglev):
        after: Member = placement.get_hash(h64 ^ (2**64 - attempt if attempt else 0))
    else:
        ring = [point for point, _ in placement.points]
        at = next((at for at, point in enumerate(ring) if point >= h64), 0)
        after = placement.get_hash(ring[(at + attempt) % len(ring)])
    return after.name


@pytest.mark.parametrize(
    "placement", [EnvoyRing(map(str, range(9))), EnvoyMaglev(map(str, range(9)))]
)
def test_preference_is_the_order_of_envoys_retries(placement: Any) -> None:
    """
    Whoever a retry reaches that has not been tried before comes next.
    """
    members = {Member(name): Member(name) for name in placement.members}
    twin = placement.__class__(members)
    for key in ("alice", "bob", "carol"):
        tries = [retried(twin, hash_key(key), attempt) for attempt in range(99)]

        assert list(islice(placement.walk(key), 4)) == list(dict.fromkeys(tries))[:4]


def test_the_published_hashes_hold() -> None:
    """
    Of the functions, before anything is placed with them.
    """
    facts = load("published_hashes")

    for text, h64 in facts["xxh64_seed0"].items():
        assert hash_key(text) == envoy_hash(text) == h64
    for texts, h64 in facts["xxh64_chained_through_seed"]:
        assert xxh64(texts[1].encode(), xxh64(texts[0].encode())) == h64
        assert envoy_hash(sorted(texts)) == envoy_hash(sorted(texts, reverse=True))
    for text, h64 in facts["murmur2_64_seed_c70f6907"].items():
        assert murmur2_64(text.encode()) == h64
