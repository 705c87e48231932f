"""
What a status page tells of a ring, gathered at one moment and frozen.

Only public names of knet are read. What takes long depends on the snapshot alone: how the keys are
shared out, and who owns which part of the ring. It is worked out once for each snapshot, in steps.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from knet import (
    Endpoint,
    NoEndpoints,
    PastChange,
    Ring,
    RingClosed,
    RingNotReady,
    RingStats,
    Snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CELLS",
    "PREFERRED",
    "Facts",
    "Lookup",
    "Parts",
    "Row",
    "facts_of",
    "parting",
    "standing",
]

# The ring is drawn in so many equal parts: more are not told apart at its size.
CELLS = 360

# How many hashes are asked for in a step, and how many endpoints are gone through: about 0.1 ms of work.
_HASHES_AT_ONCE = 40
_ENDPOINTS_AT_ONCE = 200

# How many pods a key is looked up at: as many as `Ring.call` tries.
PREFERRED = 3


@dataclass(frozen=True, slots=True)
class Parts:
    """
    How the keys are shared out in a snapshot.

    Attributes:
        shares: What part of all keys each endpoint has, in the order of `Snapshot.endpoints`.
        cells: Which endpoint owns the middle of each of `CELLS` equal parts of the hash space, by its place
            in `Snapshot.endpoints`; empty where nobody has keys.
    """

    shares: tuple[float, ...]
    cells: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """
    One endpoint.

    Attributes:
        endpoint: Which.
        place: Where it stands among all, sorted by name: its colour.
        share: What part of all keys it has.
        in_flight: How many requests of this ring are there.
        ejected_for: How many seconds it is skipped yet, or `None`.
        age: For how many seconds it has been in the ring.
    """

    endpoint: Endpoint
    place: int
    share: float
    in_flight: int
    ejected_for: float | None
    age: float


@dataclass(frozen=True, slots=True)
class Lookup:
    """
    Who owns a key.

    Attributes:
        now: By preference, of the snapshot.
        before: The same before the last change; `None`: there was none.
    """

    now: tuple[Endpoint, ...]
    before: tuple[Endpoint, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    One ring at one moment.

    Attributes:
        name: Its service, or what it is called where there is none.
        stats: `None`: there is no ring, and `missing` says why.
        snapshot: `None` before the first answer and after the end.
        parts: How the keys are shared out in it.
        me: This pod, if it is one of them.
        ejected: Who is skipped, and for how many seconds more.
        out: Where they stand among the endpoints.
        in_flight: How many requests are where.
        ages: For how many seconds each endpoint has been there, by its name.
        changes: The last ones, latest first.
        lookup: Who owns the key that was asked for.
        missing: Why there is no ring.
    """

    name: str
    stats: RingStats | None = None
    snapshot: Snapshot | None = None
    parts: Parts = Parts((), ())
    me: Endpoint | None = None
    ejected: Mapping[Endpoint, float] = field(default_factory=dict[Endpoint, float])
    out: tuple[int, ...] = ()
    in_flight: Mapping[Endpoint, int] = field(default_factory=dict[Endpoint, int])
    ages: Mapping[str, float] = field(default_factory=dict[str, float])
    changes: Sequence[PastChange] = ()
    lookup: Lookup | None = None
    missing: str = ""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """
        Those of the snapshot, sorted by name.
        """
        return () if self.snapshot is None else self.snapshot.endpoints

    def rows(self) -> Generator[Row, None, None]:
        """
        Yield the endpoints: who is ejected first, then by name.
        """
        for place in self.out:
            yield self._row(place)
        out = set(self.out)
        for place in range(len(self.endpoints)):
            if place not in out:
                yield self._row(place)

    def _row(self, place: int) -> Row:
        endpoint = self.endpoints[place]
        return Row(
            endpoint,
            place,
            self.parts.shares[place],
            self.in_flight.get(endpoint, 0) if self.in_flight else 0,
            self.ejected.get(endpoint) if self.ejected else None,
            self.ages.get(endpoint.name, 0.0),
        )


def parting(snapshot: Snapshot) -> Generator[None, None, Parts]:
    """
    Work out how the keys are shared out, yielding after about every 0.1 ms of work.
    """
    shares = yield from snapshot.sharing()
    told: list[float] = []
    places: dict[Endpoint, int] = {}
    for place, endpoint in enumerate(snapshot.endpoints):
        told.append(shares.get(endpoint, 0.0))
        places[endpoint] = place
        if not (place + 1) % _ENDPOINTS_AT_ONCE:
            yield
    cells: list[int] = []
    pick = snapshot.placement.get_hash
    # A placement without a table takes longer the more endpoints it has.
    at_once = max(1, min(_HASHES_AT_ONCE, 1_000 // max(1, len(places))))
    try:
        for cell in range(CELLS):
            cells.append(places[pick((2 * cell + 1) * 2**63 // CELLS)])
            if not (cell + 1) % at_once:
                yield
    except NoEndpoints:
        cells.clear()
    return Parts(tuple(told), tuple(cells))


def standing(ring: Ring) -> Snapshot | None:
    """
    Return the snapshot that stands, if there is one.
    """
    try:
        return ring.snapshot
    except (RingNotReady, RingClosed):
        return None


def facts_of(ring: Ring, snapshot: Snapshot | None, parts: Parts, key: bytes | None) -> Facts:
    """
    Gather what is to be told of *ring* now.

    Args:
        ring: Whose facts.
        snapshot: What stood when *parts* was worked out.
        parts: Of that.
        key: Whose owner is asked for, or `None`.
    """
    ejected = {} if snapshot is None else ring.ejected
    # By name, which is unique: to hash an endpoint takes ten times as long.
    names = {endpoint.name for endpoint in ejected}
    endpoints = () if snapshot is None or not names else snapshot.endpoints
    return Facts(
        name=ring.service,
        stats=ring.stats(),
        snapshot=snapshot,
        parts=parts,
        me=None if snapshot is None else ring.me,
        ejected=ejected,
        out=tuple(place for place, e in enumerate(endpoints) if e.name in names),
        in_flight=ring.in_flight,
        ages={} if standing(ring) is None else ring.ages(),
        changes=ring.history(),
        lookup=_lookup(ring, snapshot, key),
    )


def _lookup(ring: Ring, snapshot: Snapshot | None, key: bytes | None) -> Lookup | None:
    if snapshot is None or key is None:
        return None
    before = ring.previous
    return Lookup(_first(snapshot, key), None if before is None else _first(before, key))


def _first(snapshot: Snapshot, key: bytes) -> tuple[Endpoint, ...]:
    try:
        return snapshot.get_n(key, PREFERRED)
    except NoEndpoints:
        return ()
