"""
Rings as metrics of OpenTelemetry, as a reader of the SDK collects them.
"""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest
from opentelemetry.metrics import Meter, NoOpMeterProvider, get_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.trace import StatusCode, get_current_span
from prometheus_client import CollectorRegistry

from knet import Endpoint, RefreshPolicy, Ring
from knet.integrations.opentelemetry import observe, traced
from knet.integrations.prometheus import RingCollector
from knet.integrations.readings import METRICS
from tests.fakes import A, B, FakeResolver

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

STEADY = RefreshPolicy(jitter=0)
OURS = {"knet.service": "web.prod", "knet.port": "80", "knet.ring": "1"}


def ring_of(*pods: Endpoint, **options: Any) -> Ring:
    resolver = FakeResolver(*pods)
    return Ring("web.prod", port=80, resolver=resolver, refresh=STEADY, **options)


class Collector:
    """
    A provider with one reader.
    """

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.meter: Meter = self.provider.get_meter("test")

    def collect(self) -> dict[str, Any]:
        """
        Return each metric by its name.
        """
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self, name: str) -> list[tuple[dict[str, Any], float]]:
        metric = self.collect().get(name)
        if metric is None:
            return []
        return [(dict(point.attributes), point.value) for point in metric.data.data_points]


@pytest.fixture
def collector() -> Any:
    collector = Collector()
    yield collector
    collector.provider.shutdown()


async def fail(pod: Endpoint) -> None:
    raise ConnectionRefusedError(111, "refused")


async def test_a_ring_is_told_as_instruments(collector: Collector) -> None:
    async with ring_of(A, B) as ring:
        with observe(ring, meter=collector.meter, endpoints=True):
            assert collector.values("knet.ring.endpoints") == [(OURS, 2)]
            states = collector.values("knet.ring.state")
            assert ({**OURS, "knet.state": "fresh"}, 1) in states
            assert sum(value for _, value in states) == 1
            shares = collector.values("knet.endpoint.share")
            assert {labels["knet.name"] for labels, _ in shares} == {"a", "b"}
            assert sum(value for _, value in shares) == pytest.approx(1)
            metrics = collector.collect()
            assert metrics["knet.ring.endpoints"].unit == "{endpoint}"
            assert metrics["knet.ring.lookup.duration"].unit == "s"
            assert metrics["knet.ring.lookups"].data.is_monotonic
            assert not metrics["knet.ring.in_flight"].data.is_monotonic
            of_middleware = {"knet.ring.owner_requests", "knet.ring.owner_disagreements"}
            assert set(metrics) == {f"knet.{metric.name}" for metric in METRICS} - of_middleware


async def test_errors_have_the_attribute_that_conventions_name(collector: Collector) -> None:
    async with ring_of(A, B) as ring:
        with observe(ring, meter=collector.meter):
            with pytest.raises(ConnectionRefusedError):
                await ring.call("user-42", fail)
            errors: dict[str, float] = {}
            for labels, value in collector.values("knet.ring.attempt_errors"):
                errors[labels.pop(ERROR_TYPE)] = value
                assert labels == OURS
            assert errors["refused"] == 2
            assert sum(errors.values()) == 2


async def test_counters_survive_being_read_by_both(collector: Collector) -> None:
    registry = CollectorRegistry()
    async with ring_of(A) as ring:
        registry.register(RingCollector(ring))
        labels = {"service": "web.prod", "port": "80", "ring": "1"}
        with observe(ring, meter=collector.meter):
            for count in (1, 2, 3):
                with pytest.raises(ConnectionRefusedError):
                    await ring.call("user-42", fail, n=1)
                assert collector.values("knet.ring.attempts") == [(OURS, count)]
                assert registry.get_sample_value("knet_ring_attempts_total", labels) == count


async def test_a_ring_is_told_of_until_it_is_stopped(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Instruments are made once for each meter, however often somebody observes, and the SDK has nothing to warn of.
    """
    caplog.set_level(logging.WARNING)
    async with ring_of(A) as one, ring_of(A, B) as two:
        first = observe(one, meter=collector.meter)
        second = observe(lambda: two, meter=collector.meter)
        endpoints = collector.values("knet.ring.endpoints")
        assert endpoints == [(OURS, 1), ({**OURS, "knet.ring": "2"}, 2)]
        first.stop()
        first.stop()
        assert collector.values("knet.ring.endpoints") == [(OURS, 2)]
        second.stop()
        assert collector.values("knet.ring.endpoints") == []
        with observe({"again": one}, meter=collector.meter):
            again = {**OURS, "knet.ring": "again"}
            assert collector.values("knet.ring.endpoints") == [(again, 1)]
    assert not caplog.records


async def test_what_is_stopped_keeps_no_ring(collector: Collector) -> None:
    async with ring_of(A) as ring:
        observed = observe(ring, meter=collector.meter)
        assert collector.values("knet.ring.endpoints") == [(OURS, 1)]
        observed.stop()
    seen = weakref.ref(ring)
    del ring
    for _ in range(3):
        gc.collect()
    assert seen() is None


async def test_endpoints_are_told_of_on_request_only(collector: Collector) -> None:
    async with ring_of(A, B) as one, ring_of(A) as two:
        with (
            observe(one, meter=collector.meter),
            observe(two, meter=collector.meter, endpoints=True),
        ):
            assert len(collector.values("knet.ring.endpoints")) == 2
            ((labels, share),) = collector.values("knet.endpoint.share")
            assert labels == {**OURS, "knet.ring": "2", "knet.name": "a"}
            assert share == 1


async def test_without_a_provider_nothing_is_told() -> None:
    """
    The API alone does nothing, and so costs nothing.
    """
    async with ring_of(A) as ring:
        with observe(ring), observe(ring, meter=NoOpMeterProvider().get_meter("nothing")):
            assert ring.state == "fresh"
    assert not isinstance(get_meter_provider(), MeterProvider)


@pytest.mark.parametrize("given", ["web.prod", 5, None])
def test_what_is_no_ring_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"rings are knet.Ring or .* not"):
        observe(given)


class Spans:
    """
    A provider that keeps the spans which have ended.
    """

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = self.provider.get_tracer("test")

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        return self._kept.get_finished_spans()


@pytest.fixture
def spans() -> Any:
    spans = Spans()
    yield spans
    spans.provider.shutdown()


async def test_each_attempt_has_a_span(spans: Spans) -> None:
    """
    One for each pod that was asked, with its error where it failed; what is done in there is inside.
    """
    asked: list[Endpoint] = []

    async def fetch(pod: Endpoint) -> str:
        asked.append(pod)
        assert get_current_span().is_recording()
        if len(asked) == 1:
            raise ConnectionRefusedError(111, "refused")
        return pod.name

    async with ring_of(A, B) as ring:
        with spans.tracer.start_as_current_span("request"):
            assert await ring.call("user-42", traced(fetch, tracer=spans.tracer)) == asked[1].name
    failed, served, request = spans.ended
    assert [span.name for span in spans.ended] == ["knet.attempt", "knet.attempt", "request"]
    for span, pod in zip((failed, served), asked, strict=True):
        assert span.attributes is not None
        where = {
            key: span.attributes[key] for key in (SERVER_ADDRESS, SERVER_PORT, "knet.endpoint")
        }
        assert where == {
            SERVER_ADDRESS: pod.address,
            SERVER_PORT: pod.port,
            "knet.endpoint": pod.name,
        }
        assert span.parent == request.get_span_context()
    assert failed.attributes is not None
    assert failed.attributes[ERROR_TYPE] == "ConnectionRefusedError"
    assert failed.status.status_code is StatusCode.ERROR
    assert [event.name for event in failed.events] == ["exception"]
    assert served.status.status_code is StatusCode.UNSET


async def test_a_part_of_a_batch_has_a_span(spans: Spans) -> None:
    """
    The keys are passed on, and an error of another module has its whole name.
    """

    class Odd(Exception):
        pass

    async def fetch(pod: Endpoint, keys: list[str]) -> dict[str, str]:
        return dict.fromkeys(keys, pod.name)

    async def fail_oddly(pod: Endpoint) -> None:
        raise Odd

    async with ring_of(A, B) as ring:
        found = await ring.call_many(["a", "b", "c"], traced(fetch, tracer=spans.tracer))
        assert set(found) == {"a", "b", "c"}
        assert len(spans.ended) == len(set(found.values()))
        with pytest.raises(Odd):
            await ring.call("a", traced(fail_oddly, tracer=spans.tracer))
    assert spans.ended[-1].attributes is not None
    assert spans.ended[-1].attributes[ERROR_TYPE] == f"{__name__}.{Odd.__qualname__}"


async def test_without_a_provider_there_are_no_spans() -> None:
    """
    And nothing else is different, a pod without a port included.
    """

    async def fetch(pod: Endpoint, *, name: str) -> str:
        """Fetch it."""
        assert not get_current_span().is_recording()
        return f"{name} of {pod}"

    alone = Endpoint("a", "10.0.0.1")
    assert await traced(fetch)(alone, name="b") == "b of 10.0.0.1"
    assert traced(fetch).__doc__ == "Fetch it."
