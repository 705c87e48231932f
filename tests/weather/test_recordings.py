"""
What a ring makes of answers that were recorded from CoreDNS 1.14.7 before a fake Kubernetes API.

Each file of `recordings/` has what was asked over TCP every 20 to 250 ms, from before a change until
everybody knew of it:

- `two_caches_*`: two servers with `cache 30`, filled seconds apart and asked in turns; one pod of
  four is replaced by another;
- `rollout_of_8`: a Deployment of 8 pods with the defaults of its controller, no cache;
- `coming_up_of_250`: from 1 pod to 250 in steps of 5, in three slices, no cache.

Pods are numbers, the last 16 bits of their addresses. `changes` is what the API was told, and when;
`polls` are seconds, the TTL, and which of `answers` came.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from knet import Answer, Endpoint, RefreshPolicy
from knet.belief import Belief, decide

HERE = Path(__file__).parent / "recordings"
RECORDINGS = sorted(path.stem for path in HERE.glob("*.json"))
POLICIES = {
    "as it was polled": RefreshPolicy(interval=0.25, min_interval=0.25, jitter=0),
    "default": RefreshPolicy(),
}


@dataclass(frozen=True)
class Recording:
    ttl: int
    cached: bool
    old: list[int]
    changes: list[tuple[float, list[int]]]
    answers: list[list[int]]
    polls: list[tuple[float, int, int]]

    @property
    def flips(self) -> int:
        """
        How often an answer differed from the one before.
        """
        told = [number for _, _, number in self.polls]
        return sum(a != b for a, b in pairwise(told))

    def heard_by(self, policy: RefreshPolicy) -> Iterator[tuple[float, Belief]]:
        """
        Yield when a ring asked and what it then believed, until a minute after the last poll.
        """
        belief, due = Belief(), 0.0
        end = self.polls[-1][0]
        after = [(end + n / 4, self.ttl, self.polls[-1][2]) for n in range(1, 240)]
        for now, ttl, number in (*self.polls, *after):
            if now < due:
                continue
            pods = [
                Endpoint(f"10.1.{n // 256}.{n % 256}", f"10.1.{n // 256}.{n % 256}")
                for n in self.answers[number]
            ]
            decision = decide(belief, Answer(pods, ttl), now=now, policy=policy, jitter=0.5)
            belief, due = decision.belief, now + decision.wait
            yield now, belief


def load(name: str) -> Recording:
    found: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    return Recording(**found)


def numbers(belief: Belief) -> set[int]:
    parts = (e.address.split(".") for e in belief.endpoints)
    return {int(high) * 256 + int(low) for _, _, high, low in parts}


@pytest.mark.weather("Replicas of CoreDNS answer old and new in turns")
@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_ring_follows_what_changes_and_not_what_is_answered(
    name: str, policy: RefreshPolicy
) -> None:
    """
    At most two snapshots for one change, all that was new from the first answer on that named it,
    and whoever left is gone two intervals after the server's own cache could not name it any more.
    """
    recording = load(name)
    truth = set(recording.changes[-1][1])
    late = recording.ttl if recording.cached else 0
    believed: list[tuple[float, set[int]]] = []
    snapshot = None
    for now, belief in recording.heard_by(policy):
        if belief.endpoints is not snapshot:
            snapshot = belief.endpoints
            believed.append((now, numbers(belief)))

    assert len(believed) - 1 <= 2 * len(recording.changes)
    assert believed[-1][1] == truth
    last_change = recording.changes[-1][0]
    assert believed[-1][0] <= last_change + late + 2 * policy.interval * (1 + policy.jitter)
    joined = [pod for _, pods in believed for pod in pods]
    assert set(joined) <= {*recording.old, *(pod for _, pods in recording.changes for pod in pods)}
    for pod in truth - set(recording.old):
        first = next(index for index, (_, pods) in enumerate(believed) if pod in pods)
        assert all(pod in pods for _, pods in believed[first:]), "it joined, left and joined again"
    for pod in set(recording.old) - truth:
        last = max(index for index, (_, pods) in enumerate(believed) if pod in pods)
        assert all(pod in pods for _, pods in believed[: last + 1]), "it left, came back and left"


@pytest.mark.parametrize(
    ("name", "flips"), [("two_caches_ttl_30", 40), ("rollout_of_8", 14), ("coming_up_of_250", 45)]
)
def test_the_recordings_are_as_unquiet_as_clusters_are(name: str, flips: int) -> None:
    """
    Whoever follows each answer changes its mind as often as that.
    """
    assert load(name).flips >= flips
