"""
What `knet simulate` predicts is what real controllers and real rings then do, within its error bars.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from knet import Endpoint, Snapshot
from knet.cli.simulate import SIMULATED, Report
from knet.cli.simulate.moves import follow
from knet.cli.simulate.plan import Plan, Step
from tests.cli.commands import run

from .plane import ControlPlane
from .predictions import (
    KEYS,
    SOURCES,
    TRAFFIC,
    TRIALS,
    Phase,
    compare,
    news_of,
    play,
    predicted,
    shown,
)
from .world import world

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_simulation_says_what_the_control_plane_then_shows(plane: ControlPlane) -> None:
    """
    Figures lie within the bars that are said to hold for 95 of 100 clusters, but for twice as many as those leave out, since
    figures of one cluster go together. Names are the same each time, so that only the controllers' timing differs from run
    to run. What neither can change holds for all.
    """
    async with world(plane, namespace="predicted") as it:
        phases = await play(it)
    reports = [predicted(trial) for trial in TRIALS]

    assert [phase.trial for phase in phases] == list(TRIALS)
    figures = [
        figure
        for phase, report in zip(phases, reports, strict=True)
        for figure in compare(phase, report)
    ]
    outside = [
        f"{each.trial.told}, {each.placement}, {each.name}: {each.predicted}, {each.seen}"
        for each in figures
        if not each.is_within
    ]
    covered = reports[0].bars[0].coverage
    assert covered == pytest.approx(0.95)
    assert len(outside) <= 2 * (1 - covered) * len(figures), "\n".join(outside)
    for phase, report in zip(phases, reports, strict=True):
        _hold_to_what_is_certain(phase)
        _hold_to_what_is_exact(phase)
        _hold_to_the_latest(phase, report)
    rows = sum(len(trial.wanted.placements) + len(SOURCES) for trial in TRIALS)
    assert shown(phases, reports).count("\n| ") == rows + 3


def _hold_to_what_is_certain(phase: Phase) -> None:
    """
    A rolling update moves every key once at least; what is asked for in vain has moved.
    """
    for (_, placement), clients in phase.followed.items():
        for client in clients:
            assert len(client.steps) > 1
            assert client.net == KEYS if phase.trial.wanted.rolling else 0 < client.net < KEYS
            assert client.net <= client.misses <= client.moved
            assert client.least <= client.moved
            if placement == "hashring" and not phase.trial.wanted.rolling:
                # Pods only come, or only go: no key moves without cause.
                assert client.moved == client.least
        assert phase.missed(placement) >= max(client.misses for client in clients)


def _hold_to_what_is_exact(phase: Phase) -> None:
    """
    Told what a ring saw, the simulation counts what the ring did, key for key.
    """
    for (_, placement), clients in phase.followed.items():
        client = clients[0]
        outcome = follow(
            _plan_of(client.steps),
            TRAFFIC,
            placement,
            SIMULATED[placement],
            lambda keys, pods: None,
        )
        assert (outcome.moved, outcome.net, outcome.least, outcome.misses) == (
            *(client.moved, client.net, client.least, client.misses),
        )
        assert outcome.worst is not None
        assert outcome.worst.requests == pytest.approx(client.worst)
        found = [
            (load.busiest_keys, load.busiest_requests) for load in (outcome.before, outcome.after)
        ]
        seen = zip(client.busiest_keys, client.busiest_requests, strict=True)
        assert found == [pytest.approx(each) for each in seen]


def _plan_of(steps: tuple[Snapshot, ...]) -> Plan:
    known: dict[Endpoint, Endpoint] = {}
    return Plan(
        "what was seen",
        tuple(
            Step("", tuple(known.setdefault(pod, pod) for pod in snapshot.endpoints))
            for snapshot in steps
        ),
    )


def _hold_to_the_latest(phase: Phase, report: Report) -> None:
    """
    By DNS nobody is later than a cache and a client can be, but for the time in which this process was late itself; and
    slices, of which only the usual is known, are never as late as that.
    """
    wanted = phase.trial.wanted
    latest = news_of(report)["DNS"]
    for source in SOURCES:
        assert bool(phase.joins[source]) == bool(
            wanted.rolling or (wanted.scale or 0) > wanted.pods
        )
        for took in phase.joins[source]:
            assert took.seconds <= latest.join_latest + took.late + _OTHERS
        for took in phase.leaves[source]:
            assert took.seconds <= latest.leave_latest + took.late + _OTHERS


# Seconds that the API server and CoreDNS, which share the machine with others, may take until they have told.
_OTHERS = 2.0


def test_the_command_says_the_same() -> None:
    """
    With the options of a plan, `--json` has its figures, their error bars, and how late news may be.
    """
    report = predicted(TRIALS[2])

    options = ["--pods", "8", "--scale", "12", "--zipf", "1.1", "--clients", "5", "--draws", "39"]
    result = run("simulate", *options, "--keys", str(KEYS), "--json")

    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert [each["moved"] for each in told["placements"]] == [o.moved for o in report.outcomes]
    assert told["bars"] == [json.loads(json.dumps(asdict(bars))) for bars in report.bars]
    assert [each["join_latest"] for each in told["news"]] == [
        each.join_latest for each in report.news
    ]
