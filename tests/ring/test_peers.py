"""
A ring of the service that the program itself is a pod of.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import anyio
import pytest

from knet import (
    ConfigError,
    Endpoint,
    NameNotFound,
    NoData,
    NoEndpoints,
    RefreshPolicy,
    Ring,
    RingNotReady,
    ServerFailure,
    this_pod,
)
from knet.routing.ownership import NEVER_ME, NOBODY_YET
from knet.surroundings import Surroundings, surrounded_by
from tests.fakes import A, B, C, FakeResolver
from tests.virtual_time import anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

STEADY = RefreshPolicy(jitter=0)
KEYS = [f"key-{number}" for number in range(50)]
NOBODY = [NameNotFound("web.prod: nobody"), NoData("web.prod: no records"), None]


def peer(resolver: FakeResolver, **options: Any) -> Ring:
    return Ring("web.prod", resolver=resolver, **{"refresh": STEADY, "me": B.address, **options})


def stands(ring: Ring) -> tuple[str, Endpoint | None]:
    return ring.state, ring.me


def says_nobody(resolver: FakeResolver, how: Exception | None) -> None:
    if how is None:
        resolver.answer()
    else:
        resolver.outcome = how


@pytest.mark.parametrize("how", NOBODY, ids=["NXDOMAIN", "no data", "empty"])
async def test_a_peer_enters_while_nobody_is_ready(how: Exception | None) -> None:
    """
    Nobody would ever be otherwise. Picks say so, and the first pod is news.
    """
    resolver = FakeResolver()
    says_nobody(resolver, how)

    async with peer(resolver) as ring:
        assert anyio.current_time() < 1
        assert stands(ring) == ("empty", None)
        assert ring.snapshot.endpoints == ()
        assert not ring.is_mine("key")
        for ask in (ring.get("key"), ring.get_n("key", 2), ring.get_many(["key"])):
            with pytest.raises(NoEndpoints, match=r"web\.prod"):
                await ask
        with pytest.raises(NoEndpoints):
            ring.get_nowait("key")
        changes = ring.changes()
        resolver.answer(A, B)
        change = await anext(changes)

        assert change.before.endpoints == ()
        assert change.added == (A, B)
        assert stands(ring) == ("fresh", B)
        assert ring.snapshot.generation == 2
        assert {ring.is_mine(key) for key in KEYS} == {True, False}
        assert [ring.is_mine(key) for key in KEYS] == [
            pod == B for pod in await ring.get_many(KEYS)
        ]


@pytest.mark.parametrize("how", NOBODY, ids=["NXDOMAIN", "no data", "empty"])
@pytest.mark.parametrize("options", [{"me": None}, {"require_endpoints": True}])
async def test_who_needs_endpoints_waits_for_them(
    how: Exception | None, options: dict[str, Any]
) -> None:
    """
    And fails where none comes.
    """
    resolver = FakeResolver()
    says_nobody(resolver, how)
    ring = peer(resolver, **options)

    with pytest.raises((NameNotFound, NoData), match=r"web\.prod"):
        await ring.start()
    assert anyio.current_time() >= 10


async def test_who_needs_no_endpoints_and_is_no_peer_enters_too() -> None:
    resolver = FakeResolver()

    async with peer(resolver, me=None, require_endpoints=False) as ring:
        assert ring.state == "empty"
        with pytest.raises(ConfigError, match=r"me=knet\.this_pod"):
            ring.is_mine("key")
        assert ring.me is None


async def test_a_failure_is_no_answer_that_nobody_is_there() -> None:
    """
    A peer that cannot reach DNS does not know, and waits.
    """
    resolver = FakeResolver()
    resolver.outcome = ServerFailure("web.prod: SERVFAIL")

    with pytest.raises(ServerFailure):
        await peer(resolver).start()
    assert anyio.current_time() >= 10


async def test_an_empty_start_asks_often_and_then_less_often() -> None:
    """
    Not more than once a second while pods are about to be ready; a name that is wrong is asked for as
    any other.
    """
    resolver = FakeResolver()

    async with peer(resolver):
        await anyio.sleep(20)
        asked = len(resolver.asked)
        assert 18 <= asked <= 21
        await anyio.sleep(40)
        before = len(resolver.asked)
        await anyio.sleep(50)
        assert len(resolver.asked) - before in (9, 10, 11)


async def test_me_comes_and_goes_with_readiness() -> None:
    """
    Nothing is mine while I am not in the ring; whoever came back at another address is another pod.
    """
    resolver = FakeResolver(A, B)

    async with peer(resolver, refresh=RefreshPolicy(jitter=0, confirm=1)) as ring:
        assert stands(ring) == ("fresh", B)
        resolver.answer(A, C)
        await ring.refresh()
        assert stands(ring) == ("fresh", None)
        assert not any(map(ring.is_mine, KEYS))
        resolver.answer(A, B, C)
        await ring.refresh()
        assert stands(ring) == ("fresh", B)


async def test_me_may_be_asked_for_when_the_ring_starts() -> None:
    """
    An app is made at import, on machines that are no pod too.
    """
    ring = peer(FakeResolver(A, B), me=this_pod)
    assert stands(ring) == ("starting", None)
    with surrounded_by(Surroundings()), pytest.raises(ConfigError, match="POD_IP"):
        await ring.start()
    with surrounded_by(Surroundings(addresses=("fd00::1", B.address))):
        async with ring:
            assert stands(ring) == ("fresh", B)


async def test_ownership_is_asked_of_a_ring_that_runs() -> None:
    ring = peer(FakeResolver(A, B))
    with pytest.raises(RingNotReady):
        ring.is_mine("key")
    async with Ring.static([A, B], me=A) as fixed:
        assert fixed.me is A
        assert fixed.is_mine("key") == (await fixed.get("key") == A)
        with pytest.raises(TypeError):
            fixed.is_mine(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"me": ""}, ConfigError, "is empty"),
        ({"me": 7}, TypeError, "me must be an address"),
        ({"me": ()}, ConfigError, "names nobody"),
        ({"require_endpoints": "no"}, TypeError, "require_endpoints must be True, False or None"),
    ],
)
def test_bad_input_is_refused_where_it_is_given(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        peer(FakeResolver(A), **options)


async def test_a_peer_that_is_never_there_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "knet"):
        async with peer(FakeResolver(A, C)):
            await anyio.sleep(NEVER_ME - 6)
            assert not caplog.messages
            await anyio.sleep(300)

    assert len(caplog.messages) == 1
    assert "web.prod: this pod owns no key: me is 10.0.0.2, and the ring has a at" in caplog.text


async def test_an_empty_start_is_told_and_a_usual_one_is_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    resolver = FakeResolver()
    with caplog.at_level(logging.INFO, "knet"):
        async with peer(resolver) as ring:
            assert [record.levelname for record in caplog.records] == ["INFO"]
            assert "starting -> empty, nobody is there yet" in caplog.text
            await anyio.sleep(NOBODY_YET - 2)
            assert len(caplog.records) == 1
            await anyio.sleep(60)
            warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
            assert len(warnings) == 1
            assert "the name may be wrong" in warnings[0]
            resolver.answer(A, B)
            await ring.wait_for("fresh")


@pytest.mark.parametrize("how", [NameNotFound("?"), ServerFailure("?"), None])
@pytest.mark.parametrize("me", [None, "10.0.0.1"])
async def test_nobody_asks_more_often_than_once_in_the_shortest_time(
    how: Exception | None, me: str | None
) -> None:
    """
    While starting and while empty; the first retry of a start comes sooner.
    """
    resolver = FakeResolver()
    says_nobody(resolver, how)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer(resolver, me=me, start_timeout=100).run)
        await anyio.sleep(60)
        tasks.cancel_scope.cancel()

    gaps = [later - sooner for sooner, later in pairwise(resolver.asked)]
    assert len(gaps) > 10
    assert gaps[0] >= 0.25
    assert min(gaps[1:]) >= STEADY.min_interval - 1e-9
