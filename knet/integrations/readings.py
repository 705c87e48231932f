"""
What a ring tells to a monitoring system: one list of metrics, for whatever reads it.

Names are written as OpenTelemetry has them, with units of UCUM; what Prometheus makes of them follows from its
conventions. Nothing is counted in here, and nothing happens until somebody reads. Any thread may.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args
from weakref import WeakKeyDictionary

import knet
from knet import KnetError, Ring, RingStats, Snapshot, State, blocking
from knet.integrations.tallies import ENDS, tally_of

__all__ = ["METRICS", "AnyRing", "Found", "Given", "Metric", "View", "check_given", "views_of"]

AnyRing = Ring | blocking.Ring
# What a function may find: rings come and go. A mapping gives them names.
Found = AnyRing | Mapping[str, AnyRing] | Iterable[AnyRing | None] | None
Given = AnyRing | Mapping[str, AnyRing] | Callable[[], Found]

# Of `RingStats.errors`; those that have not happened are 0, so that the first one is an increase.
KINDS = ("refused", "connect_timeout", "busy", "broken", "told", "late", "other")

# The digits of a digest that a float holds exactly.
_DIGITS = 13

# Shares are counted once for each snapshot.
_shares: WeakKeyDictionary[Snapshot, Mapping[str, float]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class View:
    """
    One ring, at the moment when somebody reads.

    Attributes:
        ring: Which.
        name: What tells it from other rings of its service and port.
        stats: What it counts.
        snapshot: What it serves, if there is something.
        by_endpoint: Whether to tell of each endpoint.
    """

    ring: AnyRing
    name: str
    stats: RingStats
    snapshot: Snapshot | None
    by_endpoint: bool

    @property
    def labels(self) -> tuple[str, str, str]:
        """
        Its service, port and name.
        """
        return self.ring.service, _port(self.ring), self.name


Reading = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One of them.

    Attributes:
        name: Without the `knet.` before it.
        kind: `"counter"`: only grows. `"gauge"`. `"sum"`: a gauge that may be added up over rings.
            `"states"`: 1 for the state that it is in, 0 for the others. `"info"`: always 1.
        unit: As in UCUM: `"s"`, `"1"` for a ratio, or `"{endpoint}"`.
        help: What it says, in one sentence.
        labels: Those beside the ring's own.
        read: Gives values by these labels; none where there is nothing to tell.
    """

    name: str
    kind: Literal["counter", "gauge", "sum", "states", "info"]
    unit: str
    help: str
    read: Callable[[View], Iterable[Reading]]
    labels: tuple[str, ...] = ()

    @property
    def is_by_endpoint(self) -> bool:
        """
        Is there a value for each endpoint?
        """
        return self.name.startswith("endpoint.")


def check_given(given: Iterable[object]) -> None:
    """
    Raise unless each of these is a ring, several by name, or a function that finds some.
    """
    for each in given:
        if not isinstance(each, Ring | blocking.Ring | Mapping) and not callable(each):
            raise TypeError(
                "rings are knet.Ring or knet.blocking.Ring, a mapping of them by name, or a function that "
                f"returns some, not {type(each).__name__}"
            )


def views_of(given: Iterable[tuple[Given, bool]]) -> list[View]:
    """
    Look at the rings that are there now.

    Args:
        given: Rings or what finds some, each with whether to tell of their endpoints.
    """
    views: list[View] = []
    taken: set[tuple[str, str, str]] = set()
    for each, by_endpoint in given:
        for name, ring in _rings_in(each):
            key = ring.service, _port(ring)
            number, told = 1, name or "1"
            while (*key, told) in taken:
                number += 1
                told = str(number) if name is None else f"{name}-{number}"
            taken.add((*key, told))
            views.append(View(ring, told, ring.stats(), _snapshot_of(ring), by_endpoint))
    return views


def _rings_in(given: Given) -> Iterator[tuple[str | None, AnyRing]]:
    found = given if isinstance(given, Ring | blocking.Ring | Mapping) else given()
    if isinstance(found, Ring | blocking.Ring):
        yield None, found
    elif isinstance(found, Mapping):
        yield from cast(Mapping[str, AnyRing], found).items()
    elif found is not None:
        yield from ((None, ring) for ring in found if ring is not None)


def _port(ring: AnyRing) -> str:
    return "" if ring.port is None else str(ring.port)


def _snapshot_of(ring: AnyRing) -> Snapshot | None:
    if ring.state in ("starting", "closed"):  # to ask a lazy ring for its snapshot would open it
        return None
    try:
        return ring.snapshot
    except KnetError:  # it was closed just now
        return None


def _one(read: Callable[[RingStats], float | None]) -> Callable[[View], Iterable[Reading]]:
    """
    Make what reads one value of a ring.
    """

    def reading(view: View) -> Iterator[Reading]:
        value = read(view.stats)
        if value is not None:
            yield {}, value

    return reading


def _info(view: View) -> Iterator[Reading]:
    placement = "" if view.snapshot is None else type(view.snapshot.placement).__name__
    yield {"placement": placement, "version": knet.__version__}, 1


def _source(view: View) -> Iterator[Reading]:
    stats = view.stats
    yield (
        {"source": stats.source},
        stats.alive if stats.alive is not None else stats.state == "fresh",
    )


def _states(view: View) -> Iterator[Reading]:
    for state in get_args(State):
        yield {"state": state}, view.stats.state == state


def _gaps(view: View) -> Iterator[Reading]:
    for gap in ("cut off", "targets", "sample"):
        yield {"gap": gap.replace(" ", "_")}, view.stats.gap == gap


def _lookups(view: View) -> Iterator[Reading]:
    stats = view.stats
    yield {"outcome": "ok"}, stats.lookups - sum(stats.failures.values())
    for kind, count in stats.failures.items():
        yield {"outcome": kind}, count


def _by_kind(
    read: Callable[[RingStats], Mapping[str, int]],
) -> Callable[[View], Iterable[Reading]]:
    """
    Make what reads a count for each kind of error.
    """

    def reading(view: View) -> Iterator[Reading]:
        counts = read(view.stats)
        for kind in KINDS:
            yield {"kind": kind}, counts.get(kind, 0)

    return reading


def _digest(view: View) -> Iterator[Reading]:
    if view.snapshot is not None:
        yield {}, int(view.snapshot.digest[:_DIGITS], 16)


def _last_success(view: View) -> Iterator[Reading]:
    age = view.stats.last_success_age
    if age is not None:
        yield {}, round(time.time() - age, 3)


def _owner_requests(view: View) -> Iterator[Reading]:
    tally = tally_of(view.ring) if isinstance(view.ring, Ring) else {}
    yield from (({"outcome": end}, tally[end]) for end in ENDS if end in tally)


def _disagreements(view: View) -> Iterator[Reading]:
    tally = tally_of(view.ring) if isinstance(view.ring, Ring) else {}
    if tally:
        yield {}, tally["disagreed"]


def _endpoint_shares(view: View) -> Iterator[Reading]:
    snapshot = view.snapshot
    if not view.by_endpoint or snapshot is None:
        return
    shares = _shares.get(snapshot)
    if shares is None:
        shares = {endpoint.name: share for endpoint, share in snapshot.share().items()}
        _shares[snapshot] = shares
    yield from (({"name": name}, share) for name, share in shares.items())


def _endpoints_in_flight(view: View) -> Iterator[Reading]:
    if not view.by_endpoint:
        return
    known = () if view.snapshot is None else view.snapshot.endpoints
    counts = dict.fromkeys((endpoint.name for endpoint in known), 0)
    # One that has left may still have something.
    for endpoint, count in view.ring.in_flight.items():
        counts[endpoint.name] = counts.get(endpoint.name, 0) + count
    yield from (({"name": name}, count) for name, count in counts.items())


def _endpoints_ejected(view: View) -> Iterator[Reading]:
    if view.by_endpoint and view.snapshot is not None:
        out = {endpoint.name for endpoint in view.ring.ejected}
        for endpoint in view.snapshot.endpoints:
            yield {"name": endpoint.name}, endpoint.name in out


METRICS = (
    Metric(
        *("ring.info", "info", "", "The placement of a ring, and the version of knet."),
        *(_info, ("placement", "version")),
    ),
    Metric(
        *("ring.state", "states", "", "1 for the state that the ring is in, 0 for the others."),
        *(_states, ("state",)),
    ),
    Metric(
        *("ring.source", "gauge", "", "The source in use: 1 where it can tell now, else 0."),
        *(_source, ("source",)),
    ),
    Metric(
        *("ring.endpoints", "gauge", "{endpoint}", "How many endpoints the ring serves."),
        _one(lambda stats: stats.endpoints),
    ),
    Metric(
        *("ring.held_endpoints", "gauge", "{endpoint}"),
        "How many of them the last answer left out, and are kept until that is confirmed.",
        _one(lambda stats: stats.held),
    ),
    Metric(
        *("ring.disputed_endpoints", "gauge", "{endpoint}"),
        "How many of them left and came back soon, so that they are believed to leave only after a minute.",
        _one(lambda stats: stats.disputed),
    ),
    Metric(
        *("ring.ejected_endpoints", "gauge", "{endpoint}"),
        "How many of them are skipped now, by this ring's own experience.",
        _one(lambda stats: stats.ejected),
    ),
    Metric(
        *("ring.generation", "gauge", "{snapshot}", "Which snapshot the ring serves, counting up."),
        _one(lambda stats: stats.generation),
    ),
    Metric(
        *("ring.digest", "gauge", ""),
        "The first 13 digits of the snapshot's digest as a number: the same where keys are placed alike.",
        _digest,
    ),
    Metric(
        *("ring.gap", "states", ""),
        "1 for the reason why pods may be missing from the last answer.",
        *(_gaps, ("gap",)),
    ),
    Metric(
        *("ring.ignored_records", "gauge", "{record}"),
        "How many records of the last answer were left out: foreign, unusable or malformed.",
        _one(lambda stats: stats.ignored),
    ),
    Metric(
        *("ring.last_success.timestamp", "gauge", "s"),
        "When an answer last named an endpoint, in seconds since 1970.",
        _last_success,
    ),
    Metric(
        *("ring.lookups", "counter", "{lookup}", "Lookups by outcome: ok, or how they failed."),
        *(_lookups, ("outcome",)),
    ),
    Metric(
        *("ring.failed_lookups_in_a_row", "gauge", "{lookup}"),
        "How many of the last lookups failed.",
        _one(lambda stats: stats.consecutive_failures),
    ),
    Metric(
        *("ring.lookup.duration", "gauge", "s", "How long the last lookup took."),
        _one(lambda stats: stats.query_seconds),
    ),
    Metric(
        *("ring.changes", "counter", "{change}", "Snapshots that have replaced one before."),
        _one(lambda stats: stats.changes),
    ),
    Metric(
        *("ring.moved_keys", "counter", "1"),
        "What part of all keys each change moved, added up: 1 is all keys, once.",
        _one(lambda stats: stats.moved),
    ),
    Metric(
        *("ring.in_flight", "sum", "{attempt}", "Attempts and acquired places that there are now."),
        _one(lambda stats: stats.in_flight),
    ),
    Metric(
        *("ring.attempts", "counter", "{attempt}", "Attempts that have begun: tries of requests."),
        _one(lambda stats: stats.attempts),
    ),
    Metric(
        *("ring.attempt_errors", "counter", "{attempt}", "Attempts that failed, by kind of error."),
        *(_by_kind(lambda stats: stats.errors), ("kind",)),
    ),
    Metric(
        *("ring.failovers", "counter", "{attempt}"),
        "Attempts after which another pod was to be asked, by kind of error.",
        *(_by_kind(lambda stats: stats.failovers), ("kind",)),
    ),
    Metric(
        *("ring.ejections", "counter", "{ejection}", "How many times an endpoint was ejected."),
        _one(lambda stats: stats.ejections),
    ),
    Metric(
        *("ring.owner_requests", "counter", "{request}"),
        "Requests with a key that came to this pod, by what became of them.",
        *(_owner_requests, ("outcome",)),
    ),
    Metric(
        *("ring.owner_disagreements", "counter", "{request}"),
        "Of these, how many were handed on by a pod whose snapshot was another one.",
        _disagreements,
    ),
    Metric(
        *("endpoint.share", "gauge", "1", "What part of all keys belongs to the endpoint."),
        *(_endpoint_shares, ("name",)),
    ),
    Metric(
        *("endpoint.in_flight", "sum", "{attempt}", "Attempts and places at the endpoint now."),
        *(_endpoints_in_flight, ("name",)),
    ),
    Metric(
        *("endpoint.ejected", "gauge", "", "1 where the endpoint is skipped now, else 0."),
        *(_endpoints_ejected, ("name",)),
    ),
)
