"""
The soak in brief, and that it would hear, see and find what it is there for.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from knet import Answer, ResolveError, Ring
from knet.belief import Belief, Decision, decide
from knet.ring import asking
from tests.soak import virtual
from tests.soak.figures import Level, Report, growth, listening, listening_to_loop
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

ROOT = Path(__file__).parents[2]
SEED = 20261123
# A pod of it that restarts is another pod.
DEPLOYMENT = [station for station in virtual.STATIONS if station[0] == "Maglev"]


@pytest.mark.long
@pytest.mark.sampled(4)
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "part", [["virtual", "--hours", "0.4"], ["real", "--seconds", "3", "--refreshes", "400"]]
)
def test_nothing_breaks_in_a_short_storm(part: list[str], loop: str) -> None:
    """
    A few seconds of what `nox -s soak` does for minutes, in a process of its own as there.
    """
    command = [sys.executable, "-m", "tests.soak", "--seed", str(SEED), "--loop", loop, "--part"]
    done = subprocess.run([*command, *part], check=False, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "from a clearing to the truth" in done.stdout


# --- it finds what is wrong with a ring


def _empties_at_once(belief: Belief, outcome: Answer | ResolveError, **facts: Any) -> Decision:
    decision = decide(belief, outcome, **facts)
    if isinstance(outcome, ResolveError):
        emptied = replace(decision.belief, endpoints=())
        return replace(decision, belief=emptied, state="empty", changed=bool(belief.endpoints))
    return decision


def _never_removes(belief: Belief, outcome: Answer | ResolveError, **facts: Any) -> Decision:
    decision = decide(belief, outcome, **facts)
    known = {e.name: e for e in (*belief.endpoints, *decision.belief.endpoints)}
    kept = tuple(sorted(known.values(), key=lambda e: e.name))
    believed = replace(decision.belief, endpoints=kept)
    return replace(decision, belief=believed, changed=kept != belief.endpoints)


def _asks_like_mad(belief: Belief, outcome: Answer | ResolveError, **facts: Any) -> Decision:
    return replace(decide(belief, outcome, **facts), wait=0.4)


@pytest.mark.long
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (_empties_at_once, "not told so for long enough"),
        (_never_removes, "not the truth"),
        (_asks_like_mad, "asked too soon"),
    ],
)
async def test_a_ring_that_is_wrong_is_found_out(
    wrong: Any, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each promise that the soak checks is one that it can see broken.
    """
    monkeypatch.setattr(asking, "decide", wrong)
    report = Report("a ring that is wrong")

    await virtual.soak(report, seed=SEED, hours=0.2, stations=DEPLOYMENT)

    assert any(complaint in what for what in report.broken), str(report)


@pytest.mark.sampled(2)
@pytest.mark.anyio
async def test_a_task_that_is_left_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    One ring that never ends is enough.
    """
    left: list[Ring] = []
    close = Ring.aclose

    async def forget_one(self: Ring) -> None:
        if "maglev" in repr(self):
            left.append(self)
        else:
            await close(self)

    monkeypatch.setattr(Ring, "aclose", forget_one)
    report = Report("a ring that is left")

    await virtual.soak(report, seed=SEED, hours=0.2, stations=DEPLOYMENT)
    await close(left[0])

    assert any("tasks" in what for what in report.broken), str(report)


# --- it hears what nobody observes


class _Sore:
    def __del__(self) -> None:
        raise ValueError("in a finaliser")


async def _forgotten() -> None:
    pass


def test_what_nobody_observes_is_heard() -> None:
    """
    Exceptions in finalisers, warnings and coroutines that were never awaited.
    """
    report = Report("noise")

    with listening(report):
        _Sore()
        warnings.warn("unclosed", ResourceWarning, stacklevel=1)
        print("from a callback", file=sys.stderr)
        _forgotten()  # type: ignore[unused-coroutine]
        gc.collect()

    told = "\n".join(report.broken)
    for what in ("in a finaliser", "unclosed", "from a callback", "was never awaited"):
        assert what in told


@pytest.mark.anyio
async def test_what_asyncio_tells_the_loop_is_heard(anyio_backend_name: str) -> None:
    """
    Such as the exception of a future that nobody awaited; trio has no such place.
    """
    report = Report("noise")

    with listening_to_loop(report):
        if anyio_backend_name == "asyncio":
            asyncio.get_running_loop().create_future().set_exception(ValueError("nobody looked"))
            gc.collect()
            await checkpoint()

    told = any("nobody looked" in what for what in report.broken)
    assert told == (anyio_backend_name == "asyncio")


# --- it can tell a leak from a warm-up


@pytest.mark.parametrize(
    ("samples", "grown"),
    [
        ([9.0] * 12, 0.0),
        ([1.0, 5.0, 8.0, 9.0, *[9.0] * 8], 0.0),  # grew while it was warming up
        ([*[9.0] * 8, 50.0, 9.0, 9.0, 9.0], 0.0),  # one high sample
        ([float(n) for n in range(12)], 6.0),
    ],
)
def test_growth_is_what_comes_after_the_warm_up(samples: list[float], grown: float) -> None:
    """
    A leak goes on for ever; caches fill up and then stand still.
    """
    assert growth(samples) == grown


@pytest.mark.parametrize("what", ["blocks", "malloc", "rss"])
def test_a_leak_is_a_broken_promise(what: str) -> None:
    """
    Of Python's objects, of C's memory, or of pages.
    """
    step = 500 if what == "blocks" else 2 << 20
    level = Level(1, 1, 1, 1000, 50 << 20, 50 << 20, 50 << 20)
    flat, leaking = Report("flat"), Report("leaking")

    flat.flat([level] * 12, over="an hour")
    leaking.flat(
        [replace(level, **{what: getattr(level, what) + n * step}) for n in range(12)],
        over="an hour",
    )

    assert not flat.breaches
    assert leaking.breaches == 1
    assert "grown over an hour" in leaking.broken[0]
