"""
`GrpcRing` against gRPC core's ``ring_hash_experimental``, by way of grpcio.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from knet import Endpoint
from knet.hashring.proxies import GrpcRing
from tests.conformance.live.cases import HOSTS, MEMBERSHIPS, SLOTS, Server, endpoints
from tests.conformance.live.conftest import SEED
from tests.conformance.live.servers import free_port, keys_from

KEYS_PER_CASE = 800

# gRPC gives an address the weight of how often it is there, and a channel has one family.
CASES: dict[str, tuple[tuple[Server, ...], dict[str, int], dict[str, int]]] = {
    **{
        name: (MEMBERSHIPS[name], {}, {})
        for name in (
            "one",
            "three",
            "seven",
            "seven_without_the_third",
            "eleven",
            "backwards",
            "weights_1_2_3",
            "weights_skewed",
            "mixed_ports",
            "ipv6",
        )
    },
    "small": (MEMBERSHIPS["seven"], {"minRingSize": 5, "maxRingSize": 100}, {}),
    "large_and_capped": (MEMBERSHIPS["eleven"], {"minRingSize": 16384, "maxRingSize": 16384}, {}),
    "large_and_uncapped": (
        MEMBERSHIPS["eleven"],
        {"minRingSize": 16384, "maxRingSize": 65536},
        {"grpc.lb.ring_hash.ring_size_cap": 65536},
    ),
}


@pytest.fixture(scope="module")
def grpc_ports(_loopback: None) -> dict[str, int]:
    """
    Ports of their own, as these servers speak gRPC.
    """
    found: dict[str, int] = {}
    for slot in SLOTS:
        while (port := free_port(HOSTS)) in found.values():
            pass
        found[slot] = port
    return found


@pytest.fixture(scope="module")
def picked(grpc_ports: dict[str, int]) -> dict[str, tuple[list[str], list[str]]]:
    """
    For each case its keys, and the address that answered each.
    """
    if importlib.util.find_spec("grpc") is None:
        pytest.skip("no gRPC: pip install grpcio")
    asked: list[dict[str, Any]] = []
    for name, (servers, config, arguments) in CASES.items():
        asked.append(
            {
                "addresses": [
                    str(e) for e in endpoints(servers, grpc_ports) for _ in range(int(e.weight))
                ],
                "config": config,
                "arguments": arguments,
                # Text in metadata is ASCII.
                "keys": [
                    key
                    for key in keys_from(random.Random(f"{SEED} grpc {name}"), KEYS_PER_CASE)
                    if key.isascii()
                ],
            }
        )
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("grpc_picks.py")],
        check=False,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
        env={k: v for k, v in os.environ.items() if "proxy" not in k.lower()},
    )
    assert run.returncode == 0, run.stderr[-4000:]
    answers = json.loads(run.stdout)
    return {
        name: (case["keys"], got) for name, case, got in zip(CASES, asked, answers, strict=True)
    }


@pytest.mark.parametrize("name", CASES)
def test_grpc_picks_alike(
    name: str, picked: dict[str, tuple[list[str], list[str]]], grpc_ports: dict[str, int]
) -> None:
    """
    Every key goes where gRPC sends it.
    """
    servers, config, arguments = CASES[name]
    options = {"minRingSize": "min_size", "maxRingSize": "max_size"}
    given: dict[str, Any] = {options[key]: value for key, value in config.items()}
    if arguments:
        given["cap"] = arguments["grpc.lb.ring_hash.ring_size_cap"]
    members: list[Endpoint] = endpoints(servers, grpc_ports)
    keys, theirs = picked[name]

    ring = GrpcRing(members, **given)

    assert list(map(str, ring.get_many(keys))) == theirs
