"""
Servers that contradict each other, before a whole ring: on a virtual clock, for a quarter of an hour
after one of the pods was replaced. `tests.belief.test_worlds` lives through such worlds many times.
"""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from knet import Answer, Ring
from tests.belief.worlds import CHANGE_AT, WORLDS, World
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time
from tests.weather.rings import traffic

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]
weather = pytest.mark.weather

MINUTES = 15


class Several:
    """
    Resolves by one of the servers of a *world*, whichever comes.
    """

    def __init__(self, world: World) -> None:
        self.chance = random.Random(3)
        self.servers = world.servers(self.chance)
        self.began_at = anyio.current_time()

    @property
    def now(self) -> float:
        return CHANGE_AT - 200 + anyio.current_time() - self.began_at

    async def resolve(self, _service: str) -> Answer:
        return self.chance.choice(self.servers).say(self.now)


@pytest.mark.parametrize(
    ("name", "generations", "stats", "warned"),
    [
        pytest.param(
            *("two caches, TTL 300", 2, {"disputed": 0, "gap": ""}, ""),
            marks=weather("Replicas of CoreDNS answer old and new in turns"),
        ),
        pytest.param(
            *("TTL 3600 beside live 5", 2, {"disputed": 0, "gap": ""}, ""),
            marks=weather("A cache beside a server that answers live"),
        ),
        pytest.param(
            *("frozen replica, TTL 30", 7, {"disputed": 2, "gap": ""}, "contradict each other"),
            marks=weather("A replica of CoreDNS has lost its watch"),
        ),
        pytest.param(
            *("a pod flaps", 2, {"disputed": 1, "gap": ""}, "flapping pods"),
            marks=weather("A pod flaps"),
        ),
        pytest.param(
            *("a lie of an hour, one gone", 1, {"disputed": 0, "gap": ""}, ""),
            marks=weather("A server promises a longer life than it keeps"),
        ),
        pytest.param(
            *("8 of 20 at random", 2, {"disputed": 0, "gap": "sample"}, "pods at random"),
            marks=weather("A server names some of its pods at random"),
        ),
    ],
)
async def test_keys_do_not_move_with_every_answer(
    name: str,
    generations: int,
    stats: dict[str, Any],
    warned: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    Who is there is served, and an operator is told once what is the matter.
    """
    world = WORLDS[name]
    resolver = Several(world)
    before, after = world.of(0.0), world.of(CHANGE_AT + MINUTES * 60)
    everybody = {e.address for e in (*before, *after)}
    async with Ring("web.prod", resolver=resolver) as ring, traffic(ring, everybody, pause=1):
        await anyio.sleep(200)
        assert set(before) <= set(ring.snapshot.endpoints)
        known = ring.stats().generation

        await anyio.sleep(MINUTES * 60)
        assert set(after) <= set(ring.snapshot.endpoints)
        assert ring.stats().generation - known <= generations
        told = ring.stats().as_dict()
        assert {what: told[what] for what in stats} == stats
        assert ring.state == "fresh"
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert sum(bool(warned) and warned in each for each in warnings) == bool(warned)
