"""
Placements pinned for ever, and held to a reference that shares no code with the library.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from knet.hashring import HashRing, Member, TreeRing
from tests.hashring.reference import ReferenceRing

HERE = Path(__file__).parent / "placements"
RECORDED: dict[str, dict[str, Any]] = json.loads((HERE / "hashring.json").read_text("utf-8"))
LEVELLED: dict[str, dict[str, Any]] = json.loads((HERE / "balance.json").read_text("utf-8"))


@pytest.fixture(params=RECORDED)
def recorded(request: pytest.FixtureRequest) -> dict[str, Any]:
    case: dict[str, Any] = RECORDED[request.param]
    return case


@pytest.fixture(params=LEVELLED)
def levelled(request: pytest.FixtureRequest) -> dict[str, Any]:
    case: dict[str, Any] = LEVELLED[request.param]
    return case


def test_recorded_picks_never_change(recorded: dict[str, Any]) -> None:
    """
    Whoever owned a key in the first release owns it in this one.
    """
    members = [Member(*item) for item in recorded["weights"].items()]
    ring = HashRing(members, points=recorded["points"], slots=recorded["slots"])

    for key, names in recorded["picks"].items():
        assert [member.name for member in ring.get_n(key, 3)] == names
        assert ring.get(key).name == names[0]


def test_whoever_came_last_the_recorded_picks_are_the_same(recorded: dict[str, Any]) -> None:
    """
    A ring that some joined and left later is the ring that it became.
    """
    members = [Member(*item) for item in recorded["weights"].items()]
    options: dict[str, Any] = {name: recorded[name] for name in ("points", "slots")}
    grown = HashRing(members[2:], **options).replace(members[1:]).replace(members)
    shrunk = HashRing([*members, Member("passing")], **options).replace(members)

    for key, names in recorded["picks"].items():
        for ring in (grown, shrunk):
            assert [member.name for member in ring.get_n(key, 3)] == names


def test_recorded_picks_follow_from_the_written_rules(recorded: dict[str, Any]) -> None:
    """
    The page that defines the placement is enough to build it a second time.
    """
    reference = ReferenceRing(
        recorded["weights"], points=recorded["points"], slots=recorded["slots"]
    )

    for key, names in recorded["picks"].items():
        assert list(islice(reference.walk(key.encode()), 3)) == names


def test_a_tree_ring_makes_the_recorded_picks(recorded: dict[str, Any]) -> None:
    """
    Which structure holds the points does not show in the picks.
    """
    ring = TreeRing[Member](points=recorded["points"], slots=recorded["slots"])
    for item in recorded["weights"].items():
        ring.add(Member(*item))

    for key, names in recorded["picks"].items():
        assert [member.name for member in ring.get_n(key, 3)] == names


def test_recorded_picks_within_a_bound_never_change(levelled: dict[str, Any]) -> None:
    """
    With `balance` the promise is the same.
    """
    members = [Member(*item) for item in levelled["weights"].items()]
    options = {name: levelled[name] for name in ("points", "slots", "balance")}
    ring = HashRing(members, **options)

    for key, names in levelled["picks"].items():
        assert [member.name for member in ring.get_n(key, 3)] == names
        assert ring.get(key).name == names[0]


@pytest.mark.sampled(5)
def test_recorded_picks_within_a_bound_follow_from_the_written_rules(
    levelled: dict[str, Any],
) -> None:
    """
    As they are without it.
    """
    options = {name: levelled[name] for name in ("points", "slots", "balance")}
    reference = ReferenceRing(levelled["weights"], **options)

    for key, names in levelled["picks"].items():
        assert list(islice(reference.walk(key.encode()), 3)) == names
