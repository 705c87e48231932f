"""
`observe`: rings as metrics of OpenTelemetry; `traced`: a span for each attempt. The extra `opentelemetry`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import wraps
from threading import Lock
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, final
from weakref import WeakKeyDictionary

import knet
from knet.integrations.readings import METRICS, Given, Metric, check_given, views_of

try:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter
    from opentelemetry.trace import Tracer, get_tracer
except ImportError as error:
    raise ImportError(
        "opentelemetry-api is not installed: python -m pip install 'knet-ring[opentelemetry]'"
    ) from error

__all__ = ["Observed", "observe", "traced"]

P = ParamSpec("P")
T = TypeVar("T")

_ATTRIBUTES = ("knet.service", "knet.port", "knet.ring")
# What the semantic conventions have a name for.
_NAMES = {"kind": "error.type"}

_lock = Lock()


def observe(*rings: Given, meter: Meter | None = None, endpoints: bool = False) -> Observed:
    """
    Tell OpenTelemetry of rings, each time that a reader collects; costs nothing in between.

        async with knet.Ring("web.prod", port=8080) as ring:
            with observe(ring):
                ...

    The same metrics as `knet.integrations.prometheus.RingCollector` has, as observable instruments:
    `knet.ring.endpoints`, `knet.ring.lookups`. Counters are the ring's own, so that both may read them.
    Readers collect in threads of their own.

    Args:
        rings: As of `RingCollector`.
        meter: Whose instruments they are; `None`: that of the global provider.
        endpoints: Whether to tell of each endpoint.

    Returns:
        What stops it, by `stop()` or at the end of a `with` block.

    Raises:
        TypeError: One of *rings* is no ring, no mapping of rings by name, and no function.
    """
    check_given(rings)
    instruments = _instruments_of(_default_meter() if meter is None else meter)
    return Observed(instruments, [(given, endpoints) for given in rings])


@final
class Observed:
    """
    What `observe` returns: rings that OpenTelemetry is told of until `stop`.
    """

    __slots__ = ("_instruments",)

    def __init__(self, instruments: _Instruments, given: list[tuple[Given, bool]]) -> None:
        self._instruments = instruments
        instruments.given[self] = given

    def stop(self) -> None:
        """
        Tell nothing of these rings any more, and forget them; a second time does nothing.
        """
        self._instruments.given.pop(self, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Instruments:
    """
    Those of one meter. A meter makes each of them once and keeps it for good.

    Attributes:
        given: Rings and what finds some, by who observes them.
    """

    def __init__(self, meter: Meter) -> None:
        self.given: dict[Observed, list[tuple[Given, bool]]] = {}
        makers = {
            "counter": meter.create_observable_counter,
            "sum": meter.create_observable_up_down_counter,
        }
        for metric in METRICS:
            make = makers.get(metric.kind, meter.create_observable_gauge)
            make(f"knet.{metric.name}", [self._reading(metric)], metric.unit, metric.help)

    def _reading(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(options: CallbackOptions) -> Iterator[Observation]:
            given = [each for several in list(self.given.values()) for each in several]
            for view in views_of(given):
                whose = dict(zip(_ATTRIBUTES, view.labels, strict=True))
                for labels, value in metric.read(view):
                    more = {_NAMES.get(k, f"knet.{k}"): v for k, v in labels.items()}
                    number = int(value) if isinstance(value, bool) else value
                    yield Observation(number, {**whose, **more})

        return read


_known: WeakKeyDictionary[Meter, _Instruments] = WeakKeyDictionary()
_default: list[Meter] = []


def _instruments_of(meter: Meter) -> _Instruments:
    with _lock:
        instruments = _known.get(meter)
        if instruments is None:
            instruments = _known[meter] = _Instruments(meter)
        return instruments


def _default_meter() -> Meter:
    """
    Return the global provider's. It may come later, and each meter of before then has instruments of its own.
    """
    with _lock:
        if not _default:
            _default.append(get_meter("knet", knet.__version__))
        return _default[0]


def traced(
    function: Callable[Concatenate[knet.Endpoint, P], Awaitable[T]], *, tracer: Tracer | None = None
) -> Callable[Concatenate[knet.Endpoint, P], Coroutine[Any, Any, T]]:
    """
    Return *function* with a span around each call: of each attempt, where a ring calls it.

        page = await ring.call("user-42", traced(fetch))

    The spans are called `knet.attempt`. Attributes are `server.address` and `server.port`, as the semantic conventions
    have them, and `knet.endpoint`, the pod's name. An attempt that fails records its error, and has the status of one and its
    class as `error.type`. What *function* does, by a client with spans of its own, is inside.

    Args:
        function: What `Ring.call` and `Ring.call_many` take: `async`, with the pod first.
        tracer: Whose spans they are; `None`: that of the global provider.
    """

    @wraps(function)
    async def attempt(pod: knet.Endpoint, /, *args: P.args, **kwargs: P.kwargs) -> T:
        spans = get_tracer("knet", knet.__version__) if tracer is None else tracer
        where = {"server.address": pod.address, "knet.endpoint": pod.name}
        port = {} if pod.port is None else {"server.port": pod.port}
        with spans.start_as_current_span("knet.attempt", attributes={**where, **port}) as span:
            try:
                return await function(pod, *args, **kwargs)
            except Exception as error:
                kind = type(error)
                is_builtin = kind.__module__ == "builtins"
                span.set_attribute(
                    "error.type",
                    kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}",
                )
                raise

    return attempt
