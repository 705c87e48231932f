"""
Bounded load, as a ring decides it.
"""

from __future__ import annotations

import functools

import pytest

from knet.cli import loop
from knet.cli.loop import Backend
from knet.cli.simulate.bounded import Bounded, play, requests_of
from knet.cli.simulate.plan import Fleet
from knet.cli.simulate.traffic import with_hot_key, zipf
from knet.hashring import HashRing

TRAFFIC = with_hot_key(zipf(500), 0.4)


def bounded(
    bound: float, *, backend: Backend = "asyncio", seed: int = 0, weights: int = 1
) -> Bounded:
    pods = Fleet(weights=range(1, weights + 1)).pods(6)
    return loop.run(
        functools.partial(
            play,
            *(pods, TRAFFIC, "hashring", HashRing),
            bound=bound,
            in_flight=60,
            seed=seed,
            sent=lambda requests: None,
        ),
        backend,
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nobody_has_more_in_flight_than_the_bound(backend: Backend) -> None:
    """
    1.25 times its share of 60 is 12.5, which is rounded up: 1.3 times. Unbounded it would be 2.4.
    """
    found = bounded(1.25, backend=backend)

    assert 1 <= found.in_flight <= 1.3
    assert found.requests < 1.35
    assert 0.5 < found.own < 1


def test_a_wide_bound_leaves_keys_at_their_pod() -> None:
    assert bounded(100).own == 1
    assert bounded(1.1).own < bounded(1.5).own < bounded(2).own < 1


def test_weights_have_their_part_in_it() -> None:
    found = bounded(1.25, weights=3)

    assert found.in_flight <= 1.25 + 6 / 30  # rounded up, for the smallest share


@pytest.mark.long
def test_the_same_seed_sends_the_same_requests() -> None:
    assert bounded(1.25, seed=5) == bounded(1.25, seed=5)
    assert bounded(1.25, seed=5) != bounded(1.25, seed=6)


def test_all_requests_are_told() -> None:
    did: list[int] = []
    pods = Fleet().pods(2)
    loop.run(
        functools.partial(
            play,
            *(pods, zipf(10), "", HashRing),
            bound=1.5,
            in_flight=3,
            seed=0,
            sent=did.append,
        )
    )

    assert sum(did) == requests_of(3)
