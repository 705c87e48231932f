"""
A ring for programs without an event loop.
"""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import knet
from knet import (
    ConfigError,
    EjectionPolicy,
    Endpoint,
    RefreshPolicy,
    Resolver,
    RingClosed,
    RingMisused,
    RingNotReady,
    RingOptions,
    ServerUnreachable,
    blocking,
    may_repeat,
)
from knet.testing import HeadlessService

ROOT = Path(__file__).parents[1]
QUICK = RefreshPolicy(interval=0.05, min_interval=0.01, confirm=1)
KEYS = [f"user-{n}" for n in range(100)]


@pytest.fixture
def service() -> Iterator[HeadlessService]:
    with HeadlessService("web.prod", pods=4) as service:
        yield service


def ring_at(service: HeadlessService, **options: Any) -> blocking.Ring:
    resolver = Resolver(nameservers=[service.nameserver])
    return blocking.Ring("web.prod", port=8080, resolver=resolver, refresh=QUICK, **options)


def test_picks_are_those_of_the_other_ring(service: HeadlessService) -> None:
    with ring_at(service) as ring:
        snapshot = ring.snapshot
        assert len(snapshot.endpoints) == 4
        assert [ring.get(key) for key in KEYS] == snapshot.get_many(KEYS) == ring.get_many(KEYS)
        assert ring.get_n("user-42", 3) == snapshot.get_n("user-42", 3)
        assert sum(map(len, ring.group(KEYS).values())) == len(KEYS)
        assert (ring.state, ring.stats().endpoints) == ("fresh", 4)
        assert ring.me is None
        assert ring.wait_for("fresh") == "fresh"
        assert ring.refresh() is snapshot
        ring.refresh_soon()
        assert "blocking <Ring 'web.prod'" in repr(ring)
    assert ring.state == "closed"


def test_it_follows_the_pods(service: HeadlessService) -> None:
    with ring_at(service) as ring:
        changes = ring.changes()
        service.scale(5)
        change = next(changes)
        assert len(change.added) == 1
        assert len(ring.snapshot.endpoints) == 5
        closing = threading.Timer(0.1, ring.close)
        closing.start()
        assert list(changes) == []
        closing.join()


def test_a_call_goes_on_with_the_next_pod(service: HeadlessService) -> None:
    """
    In the calling thread, of which there may be many.
    """
    with ring_at(service, ejection=EjectionPolicy(base=100)) as ring:
        first, second = ring.get_n("user-42", 2)
        threads: set[int] = set()

        def fetch(pod: Endpoint) -> str:
            threads.add(threading.get_ident())
            if pod == first:
                raise ConnectionRefusedError
            return pod.name

        served: list[str] = []
        workers = [
            threading.Thread(target=lambda: served.append(ring.call("user-42", fetch)))
            for _ in range(8)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert served == [second.name] * 8
        assert len(threads) > 1
        assert list(ring.ejected) == [first]
        assert ring.get("user-42") == second
        ring.restore(first)
        assert ring.get("user-42") == first
        assert ring.eject(first, 5)
        assert ring.stats().in_flight == 0


def test_rounds_by_hand_and_places(service: HeadlessService) -> None:
    with ring_at(service) as ring:
        wanted = ring.get_n("user-42", 3)
        tries, asked = ring.attempts("user-42"), []
        with pytest.raises(ValueError, match="busy") as caught:
            while True:
                with tries as pod:
                    asked.append((pod, tries.last))
                    tries.next(ValueError("busy"))
        assert asked == [(pod, pod == wanted[2]) for pod in wanted]
        assert len(caught.value.__notes__) == 2

        with ring.acquire("user-42") as pod, ring.acquire("user-42", bound=1.01) as other:
            assert (pod, other) == wanted[:2]
            assert ring.stats().in_flight == 2
        with pytest.raises(LookupError), ring.acquire("user-42"):
            raise LookupError
        assert ring.stats().in_flight == 0


def test_total_keeps_it_from_going_on(service: HeadlessService) -> None:
    with ring_at(service) as ring:
        asked: list[Endpoint] = []
        passed = threading.Event()

        def fetch(pod: Endpoint) -> None:
            asked.append(pod)
            passed.wait(0.05)
            raise EOFError

        with pytest.raises(EOFError):
            ring.call("user-42", fetch, total=0.01, retry_on=may_repeat)
        assert len(asked) == 1
        with pytest.raises(ConfigError, match="total"):
            ring.call("user-42", fetch, total=0)
        with pytest.raises(ConfigError, match="n must"):
            ring.call("user-42", fetch, n=0)


def test_what_is_not_started_or_is_closed_says_so(service: HeadlessService) -> None:
    ring = ring_at(service)
    uses: list[Callable[[], object]] = [
        lambda: ring.get("user-42"),
        lambda: ring.call("user-42", str),
        lambda: ring.snapshot,
        ring.changes,
        ring.refresh,
    ]
    for use in uses:
        with pytest.raises(RingNotReady, match="with ring"):
            use()
    with ring, pytest.raises(RingMisused, match="started already"):
        ring.start()
    for use in uses:
        with pytest.raises(RingClosed):
            use()
    with pytest.raises(RingClosed):
        ring.start()
    ring.close()
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(ring)
    with pytest.raises(ConfigError):
        blocking.Ring("")
    with pytest.raises(TypeError):
        blocking.Ring("web.prod", placement=5)  # type: ignore[arg-type]


def test_a_start_that_fails_says_why_and_leaves_nothing() -> None:
    before = threading.active_count()
    resolver = Resolver(nameservers=["127.0.0.1:9"])
    ring = blocking.Ring("web.prod", resolver=resolver, start_timeout=0.2)
    with pytest.raises(ServerUnreachable):
        ring.start()
    assert threading.active_count() <= before
    lazy = blocking.Ring("web.prod", resolver=resolver, start_timeout=0.2, lazy=True)
    for _ in range(2):  # and tries again
        with pytest.raises(ServerUnreachable):
            lazy.get("user-42")


def test_a_lazy_ring_opens_with_its_first_use(service: HeadlessService) -> None:
    ring = ring_at(service, lazy=True)
    assert ring.state == "starting"
    pods: list[Endpoint] = []
    threads = [threading.Thread(target=lambda: pods.append(ring.get("user-42"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pods) == 8
    assert len(set(pods)) == 1
    ring.close()
    with pytest.raises(RingClosed):
        ring.get("user-42")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.parametrize("lazy", [True, False])
def test_a_forked_child_opens_its_own_or_is_told(service: HeadlessService, lazy: bool) -> None:
    """
    As a server does that loads an application and then forks; parent and child end as usual.
    """
    program = textwrap.dedent(f"""
        import os, sys
        import knet
        from knet import RefreshPolicy, Resolver, RingClosed, blocking
        ring = blocking.Ring("web.prod", port=8080, lazy={lazy},
                             resolver=Resolver(nameservers=["{service.nameserver}"]))
        if not {lazy}:
            ring.start()
        pod = ring.get("user-42")
        child = os.fork()
        if not child:
            try:
                print("child", ring.get("user-42") == pod)
            except RingClosed as error:
                print("child", "before a fork" in str(error))
            sys.stdout.flush()
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print("parent", ring.get("user-42") == pod, status)
    """)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == ["child True", "parent True 0"]


def test_options_are_those_of_a_ring() -> None:
    """
    By name and by type.
    """
    parameters = inspect.signature(knet.Ring.__init__).parameters
    keywords = {
        name: parameter.annotation
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert {name: str(hint) for name, hint in keywords.items()} == {
        name: getattr(hint, "__forward_arg__", hint)
        for name, hint in RingOptions.__annotations__.items()
    }
    assert typing.get_type_hints(RingOptions)


@pytest.mark.anyio
async def test_it_may_be_made_where_an_event_loop_runs(service: HeadlessService) -> None:
    """
    As by a library that a task calls; it has a loop of its own, of asyncio, whatever runs here.
    """
    ring = ring_at(service)
    with ring:
        assert ring.get("user-42") in ring.snapshot.endpoints
        assert ring.call("user-42", str) == str(ring.get("user-42"))
    with pytest.raises(knet.RingClosed):
        ring.get("user-42")
