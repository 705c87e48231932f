"""
A whole ring in arbitrary weather, on a virtual clock: `tests/belief/test_machine` holds the decision to
its promises, and this what becomes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from knet import (
    Answer,
    Endpoint,
    NameNotFound,
    NoEndpoints,
    RefreshPolicy,
    ResolveError,
    ResolveTimeout,
    Ring,
    ServerFailure,
)
from knet.belief.disputes import UNNAMED
from tests.fakes import FakeResolver, endpoints
from tests.virtual_time import VirtualLoop

PODS = endpoints(6)
KEYS = [f"user-{n}" for n in range(20)]
POLICY = RefreshPolicy(interval=5, min_interval=1, retry=0.5, max_retry=30, empty_hold=20)
# Half of `retry`, which is where jitter begins.
SOONEST = 0.25

OUTCOMES = st.one_of(
    st.builds(
        Answer,
        st.lists(st.sampled_from(PODS), unique=True),
        st.sampled_from([None, 0, 5, 30]),
        gap=st.sampled_from(["", "targets"]),
    ),
    st.sampled_from([NameNotFound("NXDOMAIN"), ServerFailure("SERVFAIL"), ResolveTimeout("none")]),
)


@dataclass(frozen=True)
class Spell:
    """
    What DNS says for a while, how long that lasts, how slow it is, and whether anybody asks.
    """

    outcome: Answer | ResolveError
    lasts: float
    delay: float
    asks: bool


WEATHER = st.lists(
    st.builds(Spell, OUTCOMES, st.floats(0, 60), st.sampled_from([0.0, 0.1, 3.0]), st.booleans()),
    max_size=12,
)


async def live_through(weather: list[Spell]) -> list[tuple[int, tuple[Endpoint, ...], str]]:
    """
    Return the snapshots of a ring that lived through *weather*: generation, endpoints, digest.
    """
    resolver = FakeResolver(*PODS[:3])
    named = set(PODS[:3])
    seen: list[tuple[int, tuple[Endpoint, ...], str]] = []
    async with (
        Ring("web", resolver=resolver, refresh=POLICY) as ring,
        anyio.create_task_group() as t,
    ):

        def look() -> None:
            snapshot = ring.snapshot
            assert set(snapshot.endpoints) <= named
            now = (snapshot.generation, snapshot.endpoints, snapshot.digest)
            if not seen or now != seen[-1]:
                seen.append(now)
            for key in KEYS:
                try:
                    assert ring.get_nowait(key) in snapshot.endpoints
                except NoEndpoints:
                    assert (snapshot.endpoints, ring.state) == ((), "empty")

        async def ask() -> None:
            try:
                await ring.refresh()
            except ResolveError:
                look()

        for spell in weather:
            resolver.outcome, resolver.delay = spell.outcome, spell.delay
            if isinstance(spell.outcome, Answer):
                named |= set(spell.outcome.endpoints)
            if spell.asks:
                t.start_soon(ask)
            for _ in range(10):
                await anyio.sleep(spell.lasts / 10)
                look()

        resolver.outcome, resolver.delay = Answer(PODS[:2], 5), 0.0
        # The longest back-off; a TTL of before; a minute, and one wait, for who is disputed; and the answers.
        await anyio.sleep(30 + 30 + UNNAMED + 5.5 + 3 * 5.5)
        look()
        assert ring.snapshot.endpoints == PODS[:2]

    generations = [generation for generation, _, _ in seen]
    assert generations == sorted(set(generations))
    pauses = [b - a for a, b in zip(resolver.asked, resolver.asked[1:], strict=False)]
    assert min(pauses) >= SOONEST - 1e-6
    assert resolver.at_once == 1
    return seen


@pytest.mark.long
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_ring_keeps_its_promises_in_any_weather(backend: str) -> None:
    """
    It serves only what was named, in generations that grow, asks no more often than its policy
    says, is right again soon after the weather clears, and the same endpoints are the same digest.
    """

    @settings(max_examples=60)
    @given(weather=WEATHER)
    def lives(weather: list[Spell]) -> None:
        options: dict[str, Any] = {"loop_factory": VirtualLoop}
        if backend == "trio":
            options = {"clock": MockClock(autojump_threshold=0)}
        seen = anyio.run(live_through, weather, backend=backend, backend_options=options)
        assert len({digest for _, _, digest in seen}) == len({pods for _, pods, _ in seen})

    lives()
