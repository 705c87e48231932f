"""
Rings as metrics of Prometheus, as a scraper of the official client sees them.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.openmetrics import exposition, parser
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import knet
from knet import ConfigError, EjectionPolicy, Endpoint, RefreshPolicy, Ring, ServerFailure, blocking
from knet.hashring import Rendezvous
from knet.integrations.asgi import OwnerMiddleware
from knet.integrations.httpx2 import RingTransport
from knet.integrations.prometheus import RingCollector
from knet.integrations.readings import KINDS, METRICS, AnyRing, Found
from knet.routing.errors import KINDS as ALL_KINDS
from tests.fakes import A, B, C, FakeResolver
from tests.waiting import until_state

from .pods import pods

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

QUICK = RefreshPolicy(interval=0.05, min_interval=0.02, retry=0.05, confirm=1, empty_hold=0.1)
OURS = {"service": "web.prod", "port": "80", "ring": "1"}


def ring_of(*pods: Endpoint, resolver: FakeResolver | None = None, **options: Any) -> Ring:
    resolver = resolver or FakeResolver(*pods)
    return Ring("web.prod", port=80, resolver=resolver, refresh=QUICK, **options)


class Scraper:
    """
    A registry with one collector, and what it tells when it is asked.
    """

    def __init__(self, collector: RingCollector) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.registry.register(collector)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {**OURS, **labels})

    def values(self, name: str, label: str) -> dict[str, float]:
        """
        Return those of all series of *name*, by one of their labels.
        """
        return {
            sample.labels[label]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name
        }

    def text(self) -> str:
        return generate_latest(self.registry).decode()


async def fail(pod: Endpoint) -> None:
    raise ConnectionRefusedError(111, "refused")


async def test_a_ring_tells_how_it_stands() -> None:
    async with ring_of(A, B, C) as ring:
        told = Scraper(RingCollector(ring))
        assert told.value("knet_ring_endpoints") == 3
        assert told.value("knet_ring_generation") == 1
        assert told.value("knet_ring_held_endpoints") == 0
        states = told.values("knet_ring_state", "knet_ring_state")
        assert states == {"starting": 0, "fresh": 1, "stale": 0, "empty": 0, "closed": 0}
        info = {"placement": "HashRing", "version": knet.__version__}
        assert told.value("knet_ring_info", **info) == 1
        digest = told.value("knet_ring_digest")
        assert digest is not None
        assert f"{int(digest):013x}" == ring.snapshot.digest[:13]
        last = told.value("knet_ring_last_success_timestamp_seconds")
        assert last == pytest.approx(time.time(), abs=60)


async def test_requests_are_counted_by_what_they_fail_of() -> None:
    """
    What has not happened is 0, so that its first time is an increase.
    """
    async with ring_of(A, B, C) as ring:
        told = Scraper(RingCollector(ring))
        nothing = dict.fromkeys(ALL_KINDS, 0)
        assert told.values("knet_ring_failovers_total", "kind") == nothing
        with pytest.raises(ConnectionRefusedError):
            await ring.call("user-42", fail)
        assert told.value("knet_ring_attempts_total") == 3
        errors = told.values("knet_ring_attempt_errors_total", "kind")
        assert errors == nothing | {"refused": 3}
        assert told.values("knet_ring_failovers_total", "kind") == nothing | {"refused": 2}
        assert told.value("knet_ring_ejections_total") == 1
        assert told.value("knet_ring_ejected_endpoints") == 1
        async with ring.acquire("user-42"):
            assert told.value("knet_ring_in_flight") == 1
        assert KINDS == ALL_KINDS


async def test_lookups_and_changes_are_counted() -> None:
    resolver = FakeResolver(A)
    async with ring_of(resolver=resolver) as ring:
        told = Scraper(RingCollector(ring))
        resolver.answer(A, B)
        await anext(ring.changes())
        assert told.value("knet_ring_changes_total") == 1
        with anyio.fail_after(20):
            while not ring.stats().moved:
                await anyio.sleep(0.01)
        assert told.value("knet_ring_moved_keys_ratio_total") == pytest.approx(0.5, abs=0.1)
        resolver.outcome = ServerFailure("SERVFAIL")
        await until_state(ring, "stale")
        outcomes = told.values("knet_ring_lookups_total", "outcome")
        assert outcomes["servfail"] >= 1
        assert outcomes["ok"] >= 2
        assert told.value("knet_ring_failed_lookups_in_a_row") == outcomes["servfail"]
        resolver.answer()
        await until_state(ring, "empty")
        assert told.value("knet_ring_endpoints") == 0
        assert told.values("knet_ring_state", "knet_ring_state")["empty"] == 1


async def test_a_gap_has_its_reason() -> None:
    resolver = FakeResolver(A)
    async with ring_of(resolver=resolver) as ring:
        told = Scraper(RingCollector(ring))
        gaps = {"cut_off": 0.0, "sample": 0.0, "targets": 0.0}
        assert told.values("knet_ring_gap", "knet_ring_gap") == gaps
        resolver.answer(A, complete=False)
        with anyio.fail_after(20):
            while not ring.stats().gap:
                await anyio.sleep(0.01)
        assert told.values("knet_ring_gap", "knet_ring_gap") == gaps | {"targets": 1}


async def test_endpoints_are_told_of_on_request_only() -> None:
    async with ring_of(A, B, C) as ring:
        few, many = Scraper(RingCollector(ring)), Scraper(RingCollector(ring, endpoints=True))
        assert "knet_endpoint" not in few.text()
        shares = {endpoint.name: share for endpoint, share in ring.snapshot.share().items()}
        assert many.values("knet_endpoint_share_ratio", "name") == pytest.approx(shares)
        nobody = {"a": 0, "b": 0, "c": 0}
        assert many.values("knet_endpoint_in_flight", "name") == nobody
        ring.eject(B)
        assert many.values("knet_endpoint_ejected", "name") == nobody | {"b": 1}
        async with ring.acquire("user-42") as pod:
            assert many.values("knet_endpoint_in_flight", "name") == nobody | {pod.name: 1}


async def test_what_is_in_flight_at_a_pod_that_has_left_is_told() -> None:
    resolver = FakeResolver(A, B)
    async with ring_of(resolver=resolver) as ring:
        told = Scraper(RingCollector(ring, endpoints=True))
        async with ring.acquire("user-42") as pod:
            (other,) = {A, B} - {pod}
            resolver.answer(other)
            await anext(ring.changes())
            in_flight = told.values("knet_endpoint_in_flight", "name")
            assert in_flight == {pod.name: 1, other.name: 0}
            assert list(told.values("knet_endpoint_share_ratio", "name")) == [other.name]


async def test_a_ring_that_is_not_open_has_a_state_and_no_snapshot() -> None:
    ring = ring_of(A)
    told = Scraper(RingCollector(ring, endpoints=True))
    for state in ("starting", "closed"):
        assert told.values("knet_ring_state", "knet_ring_state")[state] == 1
        assert told.value("knet_ring_digest") is None
        assert told.value("knet_ring_last_success_timestamp_seconds") is None
        assert told.values("knet_endpoint_share_ratio", "name") == {}
        await ring.aclose()


async def test_rings_come_and_go() -> None:
    """
    A function is asked at each scrape; to register the collector asks nobody.
    """
    asked = 0
    found: list[Found] = []

    def find() -> Found:
        nonlocal asked
        asked += 1
        return found[0]

    told = Scraper(RingCollector(find))
    assert asked == 0
    async with ring_of(A) as one, ring_of(A, B) as two:
        expected: list[tuple[Found, dict[str, float]]] = [
            (None, {}),
            (one, {"1": 1}),
            ([one, None, two], {"1": 1, "2": 2}),
            ({"small": one, "large": two}, {"small": 1, "large": 2}),
            ((), {}),
        ]
        for rings, endpoints in expected:
            found[:] = [rings]
            assert told.values("knet_ring_endpoints", "ring") == endpoints
    assert asked == len(expected)


async def test_two_rings_of_one_service_do_not_clash() -> None:
    async with (
        ring_of(A) as one,
        ring_of(A, B, placement=Rendezvous) as two,
        Ring.static(["10.0.0.1"]) as three,
        Ring("web.prod", port="http", resolver=FakeResolver(A, B, C), refresh=QUICK) as four,
    ):
        told = Scraper(RingCollector({"2": one}, two, three, four))
        assert told.value("knet_ring_endpoints", ring="2") == 1
        assert told.value("knet_ring_endpoints") == 2
        assert told.value("knet_ring_endpoints", service="static", port="") == 1
        assert told.value("knet_ring_endpoints", port="http") == 3
        samples = [
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in told.registry.collect()
            for sample in family.samples
        ]
        assert len(samples) == len(set(samples))


async def test_two_rings_of_one_name_do_not_clash() -> None:
    """
    Prometheus would take one of them and drop the other.
    """
    async with ring_of(A) as one, ring_of(A, B) as two, ring_of(A, B, C) as three:
        told = Scraper(RingCollector(one, {"1": two}, {"1": three}))
        endpoints = told.values("knet_ring_endpoints", "ring")
        assert endpoints == {"1": 1, "1-2": 2, "1-3": 3}


async def test_what_a_client_meets_is_counted_by_its_kind() -> None:
    """
    httpx2 by way of a ring: a pod that resets, one that is gone, and an answer that breaks off in its middle.
    """
    async with pods(3) as there:
        resolver = FakeResolver(*(pod.endpoint for pod in there))
        async with ring_of(resolver=resolver, ejection=EjectionPolicy(max_share=0)) as ring:
            told = Scraper(RingCollector(ring))
            first = ring.snapshot.get_n("user-42", 3)
            there.sort(key=lambda pod: first.index(pod.endpoint))
            mounts: Any = RingTransport(ring).mounts()
            async with httpx2.AsyncClient(mounts=mounts, trust_env=False) as client:

                async def get() -> None:
                    request: Any = {"extensions": {"knet_key": "user-42"}}
                    await client.get("http://web.prod/", **request)

                there[0].fault = "reset"
                await get()
                assert told.value("knet_ring_failovers_total", kind="broken") == 1
                await there[0].refuse()
                await get()
                assert told.value("knet_ring_failovers_total", kind="refused") == 1
                there[1].fault = "half"
                with pytest.raises(httpx2.RemoteProtocolError):
                    await get()
            errors = told.values("knet_ring_attempt_errors_total", "kind")
            assert {kind: n for kind, n in errors.items() if n} == {"broken": 2, "refused": 2}
            assert told.value("knet_ring_failovers_total", kind="broken") == 1
            assert told.value("knet_ring_failovers_total", kind="refused") == 2
            assert told.value("knet_ring_attempts_total") == 6


async def test_counters_are_the_rings_own() -> None:
    """
    They survive a scrape, and however many collectors there are.
    """
    async with ring_of(A) as ring:
        one, two = Scraper(RingCollector(ring)), Scraper(RingCollector(ring))
        for count in (1, 2):
            with pytest.raises(ConnectionRefusedError):
                await ring.call("user-42", fail, n=1)
            assert one.value("knet_ring_attempts_total") == count
            assert two.value("knet_ring_attempts_total") == count


async def test_a_scrape_crosses_threads() -> None:
    """
    The client serves from a thread of its own, while the pods change.
    """
    resolver = FakeResolver(A, B)
    async with ring_of(resolver=resolver) as ring:
        told = Scraper(RingCollector(ring, endpoints=True))
        server, thread = start_http_server(0, "127.0.0.1", told.registry)
        try:
            url = f"http://127.0.0.1:{server.server_port}/metrics"

            def scrape() -> str:
                with urllib.request.urlopen(url, timeout=20) as response:
                    text: str = response.read().decode()
                return text

            for pods in ((A, B), (A, B, C), (C,)):
                before, changes = ring.snapshot, ring.changes()
                resolver.answer(*pods)
                if set(before.endpoints) != set(pods):
                    await anext(changes)
                text = await anyio.to_thread.run_sync(scrape)
                line = 'knet_ring_endpoints{port="80",ring="1",service="web.prod"}'
                assert f"{line} {len(pods)}.0\n" in text
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


async def test_the_parser_of_openmetrics_takes_it() -> None:
    async with ring_of(A, B) as ring:
        told = Scraper(RingCollector(ring, endpoints=True))
        # Neither has annotations.
        write: Any = exposition.generate_latest
        read: Any = parser.text_string_to_metric_families
        families = {family.name: family for family in read(write(told.registry).decode())}
        assert families["knet_ring_state"].type == "stateset"
        assert families["knet_ring"].type == "info"
        assert families["knet_ring_lookups"].type == "counter"
        assert len(families) == len(METRICS)
        assert all(family.documentation.endswith(".") for family in families.values())


async def test_what_a_middleware_does_is_counted_by_ring() -> None:
    """
    A server makes its middleware itself, so that nobody could hand it over.
    """

    async def serve(request: Any) -> PlainTextResponse:
        return PlainTextResponse("here")

    def key_of(scope: Any) -> str | None:
        key: str = scope["path"].strip("/")
        return key or None

    async with ring_of(A, B, me=A.address) as ring:
        told = Scraper(RingCollector(ring))
        assert "knet_ring_owner_requests_total{" not in told.text()
        app = Starlette(routes=[Route("/{key:path}", serve)])
        middleware = OwnerMiddleware(app, ring, key=key_of, mode="refuse")
        transport = httpx2.ASGITransport(middleware)
        async with httpx2.AsyncClient(transport=transport, base_url="http://web.prod") as client:
            await client.get("/")
            for n in range(20):
                await client.get(f"/room-{n}")
        outcomes = told.values("knet_ring_owner_requests_total", "outcome")
        stats = middleware.stats()
        assert outcomes == {k: n for k, n in stats.items() if k != "disagreed"}
        assert outcomes["mine"] + outcomes["refused"] == 20
        assert told.value("knet_ring_owner_disagreements_total") == 0


def test_a_blocking_ring_is_read_and_never_opened() -> None:
    lazy = blocking.Ring("web.prod", port=80, lazy=True, resolver=FakeResolver(A, B), refresh=QUICK)
    told = Scraper(RingCollector(lazy, endpoints=True))
    threads = threading.active_count()
    assert told.values("knet_ring_state", "knet_ring_state")["starting"] == 1
    assert told.value("knet_ring_endpoints") == 0
    assert threading.active_count() == threads
    try:
        pod = lazy.get("user-42")
        assert told.value("knet_ring_endpoints") == 2
        with lazy.acquire("user-42"):
            assert told.values("knet_endpoint_in_flight", "name")[pod.name] == 1
    finally:
        lazy.close()
    assert told.values("knet_ring_state", "knet_ring_state")["closed"] == 1


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_the_multiprocess_mode_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    There the client asks no collector, and a dashboard would stay empty without a word.
    """
    monkeypatch.setenv(name, "/tmp/metrics")
    with pytest.raises(ConfigError, match=f"{name} is set.*a port of its own.*opentelemetry"):
        RingCollector(ring_of(A))


@pytest.mark.parametrize("given", ["web.prod", 5, None])
def test_what_is_no_ring_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"rings are knet.Ring or .* not"):
        RingCollector(given)


def test_names_and_units_are_those_of_prometheus() -> None:
    """
    Base units at the end, `_total` on counters and on nothing else, and a prefix.
    """
    told = RingCollector(endpoints=True)
    families = list(told.describe())
    names = [family.name for family in families]
    assert len(names) == len(set(names)) == len(METRICS)
    for metric, family in zip(METRICS, families, strict=True):
        assert family.name.startswith("knet_")
        assert (family.type == "counter") == (metric.kind == "counter")
        assert family.name.endswith("_seconds") == (metric.unit == "s")
        assert family.name.endswith("_ratio") == (metric.unit == "1")
        assert not family.name.endswith(("_total", "_count", "_sum"))
    assert not next(iter(Scraper(told).registry.collect())).samples


def test_labels_are_those_that_are_said() -> None:
    """
    Whatever is read of a metric has the labels that it names, so that columns cannot be mixed up.
    """
    ring: AnyRing = Ring.static(["10.0.0.1"])

    def labels() -> Iterator[tuple[str, Mapping[str, str]]]:
        from knet.integrations.readings import views_of

        (view,) = views_of([(ring, True)])
        for metric in METRICS:
            for told, _ in metric.read(view):
                yield metric.name, told

    known: Callable[[str], tuple[str, ...]] = {m.name: m.labels for m in METRICS}.__getitem__
    assert all(tuple(told) == known(name) for name, told in labels())
