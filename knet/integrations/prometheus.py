"""
`RingCollector`: rings as metrics of Prometheus. The extra `prometheus`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import final

from knet import ConfigError
from knet.integrations.readings import METRICS, Given, Metric, check_given, views_of

try:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
        StateSetMetricFamily,
    )
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "prometheus-client is not installed: python -m pip install 'knet-ring[prometheus]'"
    ) from error

__all__ = ["RingCollector"]

_LABELS = ("service", "port", "ring")
_SUFFIXES = {"s": "_seconds", "1": "_ratio"}
# The second spelling is the older one.
_MULTIPROCESS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


@final
class RingCollector(Collector):
    """
    Tells Prometheus of rings, each time that it asks; costs nothing in between.

        async with knet.Ring("web.prod", port=8080) as ring:
            prometheus_client.REGISTRY.register(RingCollector(ring))

    Rings come and go. A function finds those that are there when Prometheus asks, in whatever thread that is:
    `RingCollector(lambda: getattr(app.state, "ring", None))`. A registry takes one collector, for all rings.

    Each metric has the labels `service`, `port` and `ring`: a name out of a mapping,
    `RingCollector({"cache": ring})`, or else 1, and 2 for the second ring of that service and port.
    docs/monitoring.md says what each metric tells.

    Args:
        rings: A `knet.Ring`, a `knet.blocking.Ring`, a mapping of them by name, or a function that returns one,
            several, or `None`.
        endpoints: Whether to tell of each endpoint: its share of the keys, what is in flight there, and
            whether it is ejected. Three more series for each pod.

    Raises:
        ConfigError: The client is in its multiprocess mode, which asks no collectors.
        TypeError: One of *rings* is none of these.
    """

    def __init__(self, *rings: Given, endpoints: bool = False) -> None:
        check_given(rings)
        for name in _MULTIPROCESS:
            if name in os.environ:
                raise ConfigError(
                    f"{name} is set: then the client reads files, which counters of its own write, and asks "
                    "no RingCollector. Unset it and give each worker a port of its own, or use "
                    "knet.integrations.opentelemetry"
                )
        self._rings = rings
        self._endpoints = bool(endpoints)

    def collect(self) -> Iterator[Family]:
        """
        Yield what the rings tell now.
        """
        views = views_of((given, self._endpoints) for given in self._rings)
        for metric in self._metrics():
            family = _family_of(metric)
            for view in views:
                states: dict[str, bool] = {}
                for labels, value in metric.read(view):
                    if isinstance(family, StateSetMetricFamily):
                        states |= dict.fromkeys(labels.values(), bool(value))
                    elif isinstance(family, InfoMetricFamily):
                        family.add_metric(view.labels, dict(labels))
                    else:
                        more = [labels[name] for name in metric.labels]
                        family.add_metric((*view.labels, *more), float(value))
                if isinstance(family, StateSetMetricFamily):
                    family.add_metric(view.labels, states)
            yield family

    def describe(self) -> Iterable[Family]:
        """
        Return the names alone, so that to register it asks no ring.
        """
        return [_family_of(metric) for metric in self._metrics()]

    def _metrics(self) -> list[Metric]:
        return [metric for metric in METRICS if self._endpoints or not metric.is_by_endpoint]

    def __repr__(self) -> str:
        return f"<RingCollector of {len(self._rings)}>"


AnyFamily = CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily | StateSetMetricFamily


def _family_of(metric: Metric) -> AnyFamily:
    name = f"knet_{metric.name.replace('.', '_')}{_SUFFIXES.get(metric.unit, '')}"
    if metric.kind == "info":
        return InfoMetricFamily(name.removesuffix("_info"), metric.help, labels=_LABELS)
    if metric.kind == "states":
        return StateSetMetricFamily(name, metric.help, labels=_LABELS)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(name, metric.help, labels=(*_LABELS, *metric.labels))
