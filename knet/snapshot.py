"""
What a ring knew at one moment, and what changed between two of them.

Pure and frozen: whoever holds a `Snapshot` has a whole, consistent view for as long as they like,
and its answers never change. `Change` compares two.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final

from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints
from knet.hashring import HashRing, Placement, hash_key
from knet.hashring.base import BasePlacement, owners
from knet.hashring.hash_ring import shift_of
from knet.hashring.placement import key_list
from knet.hashring.steps import Steps, exhaust
from knet.pods import by_name, differing, find

__all__ = ["Change", "KeySpace", "Snapshot", "counting_moved"]

# Placements without a table are compared at this many hashes, spread evenly: off by 1 % or so.
_SAMPLES = 4096

_weight = operator.attrgetter("weight")

# How many of them, of endpoints and of slots are gone through in a step.
_HASHES_AT_ONCE = 64
_ENDPOINTS_AT_ONCE = 256
_SLOTS_AT_ONCE = 4096


@final
class Snapshot:
    """
    The endpoints of a service and the placement of keys on them, frozen together.

        >>> from knet.hashring import HashRing
        >>> a, b = Endpoint("a", "10.0.0.1", 80), Endpoint("b", "10.0.0.2", 80)
        >>> snapshot = Snapshot(HashRing([a, b]), generation=1)
        >>> snapshot.get("user-42") in (a, b)
        True

    It can be read from any task and any thread, and pickled.

    `get(key)`, `get_n(key, n)`, `get_many(keys)` and `walk(key)` are the placement's own bound methods,
    since a method around them would cost a fifth more.

    Attributes:
        placement: What holds the answers.
        endpoints: Sorted by name.
        generation: 1 for a ring's first snapshot, and one more for each that followed.
    """

    # With what `help()` shows of them.
    __slots__ = {
        "__weakref__": None,
        "_digest": None,
        "_zones": None,
        "endpoints": "The endpoints, sorted by name.",
        "generation": "1 for a ring's first snapshot, and one more for each that followed.",
        "get": BasePlacement.get.__doc__,
        "get_many": BasePlacement.get_many.__doc__,
        "get_n": BasePlacement.get_n.__doc__,
        "placement": "What holds the answers.",
        "shift": None,
        "table": None,
        "walk": BasePlacement.walk.__doc__,
    }

    # The strings are what editors show.
    get: Callable[[str | bytes], Endpoint]
    """
    `get(key) -> Endpoint`: the endpoint that a key belongs to; `str` is hashed as UTF-8. Raises
    `NoEndpoints` when there are none.
    """
    get_n: Callable[[str | bytes, int], tuple[Endpoint, ...]]
    """
    `get_n(key, n) -> tuple[Endpoint, ...]`: distinct, most preferred first, at most as many as there are.
    """
    get_many: Callable[[Iterable[str | bytes]], list[Endpoint]]
    """
    `get_many(keys) -> list[Endpoint]`: the endpoint of each key, in the order of the keys.
    """
    walk: Callable[[str | bytes], Iterator[Endpoint]]
    """
    `walk(key) -> Iterator[Endpoint]`: all endpoints that have keys, most preferred first.
    """
    placement: Placement[Endpoint]
    endpoints: tuple[Endpoint, ...]
    generation: int
    # For `Ring.get`, which looks keys up itself to spare a call: the owners of equal slots, and how
    # far a hash is shifted down to become the number of its slot. 0 where the placement is no
    # HashRing, or answers otherwise; then it is asked.
    table: Sequence[Endpoint]
    shift: int
    _digest: str | None
    _zones: frozenset[str | None] | None

    def __init__(self, placement: Placement[Endpoint], *, generation: int = 1) -> None:
        put = super().__setattr__
        put("placement", placement)
        put("get", placement.get)
        put("get_n", placement.get_n)
        put("get_many", placement.get_many)
        put("walk", placement.walk)
        put("endpoints", tuple(sorted(placement.members, key=by_name)))
        put("generation", generation)
        put("_digest", None)
        put("_zones", None)
        is_ours = getattr(type(placement), "get", None) is HashRing.get
        slots = owners(placement) if is_ours else None
        put("table", slots or ())
        put("shift", shift_of(len(slots)) if slots else 0)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Snapshot is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Snapshot is frozen: cannot delete {name!r}")

    @property
    def digest(self) -> str:
        """
        16 hexadecimal digits that two clients have in common if they place keys alike.

        XXH64 of the endpoints, sorted, and of the placement's options: log it or send it in a
        header, and clients that disagree about a key can be told apart.
        """
        digest = self._digest
        if digest is None:
            spec = getattr(self.placement, "spec", type(self.placement).__qualname__)
            lines = (f"{e.name} {e} {e.weight:g}" for e in self.endpoints)
            digest = f"{hash_key(chr(10).join((spec, *lines))):016x}"
            super().__setattr__("_digest", digest)
        return digest

    @property
    def zones(self) -> frozenset[str | None]:
        """
        The zones of the endpoints; `None` is among them where a source did not tell one.
        """
        zones = self._zones
        if zones is None:
            zones = frozenset(endpoint.zone for endpoint in self.endpoints)
            super().__setattr__("_zones", zones)
        return zones

    def share(self) -> dict[Endpoint, float]:
        """
        Return what part of all keys each endpoint has; the parts add up to 1.
        """
        return self.placement.share()

    def sharing(self) -> Steps[dict[Endpoint, float]]:
        """
        Do the work of `share`, yielding after about every 0.1 ms of it; return the shares.

        For who has an event loop: to count 65,536 slots holds it for some milliseconds. A placement
        without a table is asked in one step.
        """
        table = owners(self.placement)
        if not table:
            return self.placement.share()
        counts: Counter[int] = Counter()
        for first in range(0, len(table), _SLOTS_AT_ONCE // 4):
            counts.update(map(id, table[first : first + _SLOTS_AT_ONCE // 4]))
            yield
        shares: dict[Endpoint, float] = {}
        for endpoint in self.endpoints:
            shares[endpoint] = counts[id(endpoint)] / len(table)
            if not len(shares) % _ENDPOINTS_AT_ONCE:
                yield
        return shares

    def find(self, text: str) -> Endpoint | None:
        """
        Return the endpoint that *text* means, or `None`: of one snapshot, by what a person knows of it.

        Its name, its `"address:port"` (what `str` of it gives), the first label of its hostname
        (`"web-0"`), or its address, in this order. `None` also where several endpoints fit.

            pod = ring.snapshot.find(os.environ["POD_IP"])
        """
        if not isinstance(text, str):
            raise TypeError(f"an endpoint is found by a str, not by a {type(text).__name__}")
        return find(self.endpoints, text)

    def diff(self, other: Snapshot) -> Change:
        """
        Return what changes from this snapshot to *other*.
        """
        return Change(self, other)

    def __len__(self) -> int:
        return len(self.endpoints)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.placement, self.generation)

    def __repr__(self) -> str:
        return f"<Snapshot generation={self.generation} endpoints={len(self.endpoints)}>"


def _unpickle(placement: Placement[Endpoint], generation: int) -> Snapshot:
    return Snapshot(placement, generation=generation)


@final
class Change:
    """
    What happened from one snapshot of a ring to another.

        async for change in ring.changes():
            for room in my_rooms:
                if room.id in change.lost(me):
                    await room.close()

    Attributes:
        before: The older snapshot.
        after: The newer one; there may have been others between the two.
        added: The endpoints that only *after* has, sorted. A pod that came back with another
            address is removed as the one and added as the other.
        removed: The endpoints that only *before* had, sorted.
    """

    __slots__ = ("_me", "_moved", "added", "after", "before", "removed")

    def __init__(
        self,
        before: Snapshot,
        after: Snapshot,
        *,
        me: tuple[Endpoint | None, Endpoint | None] | None = None,
    ) -> None:
        self._me = me
        self.before = before
        self.after = after
        removed, added = differing(before.endpoints, after.endpoints)
        self.added, self.removed = tuple(added), tuple(removed)
        self._moved: float | None = None

    @property
    def moved(self) -> float:
        """
        What part of all keys has another endpoint than before, from 0 to 1.

        Computed when it is first asked for. Exact for the placements of knet that have a table, in some milliseconds;
        others are asked for the owners of 4,096 hashes before and after, which gives it to 1 % or so.
        """
        if self._moved is None:
            self._moved = exhaust(self.moving())
        return self._moved

    def moving(self) -> Steps[float]:
        """
        Do the work of `moved`, yielding after about every 0.1 ms of it; return it.
        """
        if self._moved is None:
            old, new = yield from _finding_owners(self.before, self.after)
            count = 0
            for first in range(0, len(old), _SLOTS_AT_ONCE):
                part = slice(first, first + _SLOTS_AT_ONCE)
                count += sum(map(operator.is_not, old[part], new[part]))
                yield
            self._moved = count / len(old)
        return self._moved

    def gained(self, endpoint: Endpoint | None = None) -> KeySpace:
        """
        Return the keys that *endpoint* has now and did not have before.

        Endpoints are the same if name, address and port are: a pod that came back with another
        address is another one.

        Args:
            endpoint: `None`: this pod, as it is now, of a change of a ring that knows `me`.

        Raises:
            ConfigError: It is `None`, and the ring was not told who it is.
            TypeError: It is no `Endpoint`; `Snapshot.find` returns the one of a name or an address.
        """
        mine = self._mine(endpoint, 1)
        return KeySpace(mine, to=self.after, not_of=self.before)

    def lost(self, endpoint: Endpoint | None = None) -> KeySpace:
        """
        Return the keys that *endpoint* had before and no longer has; all of them, if it has left.

        Args:
            endpoint: `None`: this pod, as it was before.
        """
        mine = self._mine(endpoint, 0)
        return KeySpace(mine, to=self.before, not_of=self.after)

    def _mine(self, endpoint: Endpoint | None, when: int) -> Endpoint | None:
        if endpoint is not None:
            if not isinstance(endpoint, Endpoint):
                raise TypeError(
                    f"an Endpoint has keys, not a {type(endpoint).__name__}: "
                    "`snapshot.find(text)` returns the endpoint of a name or an address"
                )
            return endpoint
        if self._me is None:
            raise ConfigError(
                "this change does not know whose keys are meant: name an endpoint, or write "
                "Ring(..., me=knet.this_pod)"
            )
        return self._me[when]

    def __repr__(self) -> str:
        return (
            f"<Change generation={self.before.generation}->{self.after.generation} "
            f"added={len(self.added)} removed={len(self.removed)}>"
        )


@final
class KeySpace:
    """
    A part of all keys: those that an endpoint gained, or lost.

        >>> from knet.hashring import HashRing
        >>> a, b = Endpoint("a", "10.0.0.1"), Endpoint("b", "10.0.0.2")
        >>> alone, both = Snapshot(HashRing([a])), Snapshot(HashRing([a, b]))
        >>> lost = alone.diff(both).lost(a)
        >>> ("user-42" in lost) == (both.get("user-42") == b)
        True

    Attributes:
        endpoint: Whose keys they are, or were; `None`: of this pod, which was not among them.
    """

    __slots__ = ("_share", "_whose", "_whose_not", "endpoint")

    def __init__(self, endpoint: Endpoint | None, *, to: Snapshot, not_of: Snapshot) -> None:
        self.endpoint = endpoint
        self._whose = to
        self._whose_not = not_of
        self._share: float | None = None

    def __contains__(self, key: str | bytes) -> bool:
        return _has(self._whose, key, self.endpoint) and not _has(
            self._whose_not, key, self.endpoint
        )

    def filter(self, keys: Iterable[str | bytes]) -> list[str | bytes]:
        """
        Return those of *keys* that are in it, in their order: about as fast as `get_many`, twice.

            for key in change.lost(me).filter(my_rooms): ...
        """
        keys = key_list(keys)
        whose, whose_not = _owners_of(self._whose, keys), _owners_of(self._whose_not, keys)
        mine = _itself(self._whose, self.endpoint)
        still = _itself(self._whose_not, self.endpoint)
        if mine is None:
            return []
        # By identity: to compare endpoints by value takes longer than to find them.
        return [
            key
            for key, owner, other in zip(keys, whose, whose_not, strict=True)
            if (owner is mine or owner == mine)
            and (other is None or (other is not still and other != mine))
        ]

    def ranges(self) -> tuple[tuple[int, int], ...]:
        """
        Return which hashes its keys have, as ranges from the first to the last, in order.

        For handing over by a scan of what is sorted by hash: a key is in it if
        `knet.hashring.hash_key(key)` is in one of them. Hashes are in ``[0, 2**64)``.

        Raises:
            TypeError: The placement is no `HashRing`: its parts are no ranges of hashes.
        """
        for snapshot in (self._whose, self._whose_not):
            if snapshot.endpoints and not snapshot.shift:
                raise TypeError(
                    f"only a HashRing has ranges of hashes, and this is a {type(snapshot.placement).__name__}"
                )
        whose, whose_not = _owners(self._whose, self._whose_not)
        mine = _itself(self._whose, self.endpoint)
        shift = shift_of(len(whose)) if len(whose) > 1 else 64
        found: list[tuple[int, int]] = []
        if mine is None:
            return ()
        for slot, (owner, other) in enumerate(zip(whose, whose_not, strict=True)):
            if owner is mine and other is not mine:
                first, last = slot << shift, ((slot + 1) << shift) - 1
                if found and found[-1][1] == first - 1:
                    first, _ = found.pop()
                found.append((first, last))
        return tuple(found)

    @property
    def share(self) -> float:
        """
        What part of all keys they are, from 0 to 1; exact where `Change.moved` is.
        """
        if self._share is None:
            whose, whose_not = _owners(self._whose, self._whose_not)
            mine = _itself(self._whose, self.endpoint)
            pairs = zip(whose, whose_not, strict=True)
            count = 0 if mine is None else sum(a is mine and b is not mine for a, b in pairs)
            self._share = count / len(whose)
        return self._share

    def __repr__(self) -> str:
        whom = "nobody" if self.endpoint is None else self.endpoint.name
        return f"<KeySpace of {whom} share={self.share:.4f}>"


def counting_moved(change: Change) -> Steps[float]:
    """
    Count what part of all keys *change* has moved, as every ring does at every change.

    It is `Change.moved` where both have a table. Where they have none, looking for the owners of some thousand hashes
    would take a second for 1,000 pods: there it is what moves if no key moves without cause, by weights.
    """
    old, new = owners(change.before.placement), owners(change.after.placement)
    if old and new and len(old) == len(new):
        return (yield from change.moving())
    # A pod that came back with another address is hashed as before: it is no further one.
    again = {e.name for e in change.removed}
    gone = sum(map(_weight, change.removed))
    come = sum(e.weight for e in change.added if e.name not in again)
    there = sum(map(_weight, change.before.endpoints))
    return (gone + come) / (there + come) if gone + come else 0.0


def _has(snapshot: Snapshot, key: str | bytes, endpoint: Endpoint | None) -> bool:
    try:
        return snapshot.get(key) == endpoint
    except NoEndpoints:
        return False


def _owners_of(snapshot: Snapshot, keys: Sequence[str | bytes]) -> Sequence[Endpoint | None]:
    try:
        return snapshot.get_many(keys)
    except NoEndpoints:
        return [None] * len(keys)


def _itself(snapshot: Snapshot, endpoint: Endpoint | None) -> Endpoint | None:
    """
    Return the object that *snapshot* has for *endpoint*.
    """
    return next((e for e in snapshot.endpoints if e == endpoint), None)


def _owners(
    before: Snapshot, after: Snapshot
) -> tuple[Sequence[Endpoint | None], Sequence[Endpoint | None]]:
    return exhaust(_finding_owners(before, after))


def _finding_owners(
    before: Snapshot, after: Snapshot
) -> Steps[tuple[Sequence[Endpoint | None], Sequence[Endpoint | None]]]:
    """
    Return who owns each equal part of the key space in *before* and in *after*: exactly where both
    have as many such parts, else at so many hashes.

    Equal endpoints are the same object on both sides, so that a caller can compare with `is`:
    comparing 65,536 pairs by value takes 40 ms, by identity 0.7 ms.
    """
    known: dict[Endpoint, Endpoint] = {}
    for count, endpoint in enumerate((*after.endpoints, *before.endpoints), 1):
        known[endpoint] = endpoint
        if not count % _ENDPOINTS_AT_ONCE:
            yield
    old, new = owners(before.placement), owners(after.placement)
    if old is None or new is None or (old and new and len(old) != len(new)):
        # Whatever a placement of somebody's own returns, what equals an endpoint is that endpoint.
        old = [known.get(e, e) for e in (yield from _sampling(before))]
        new = [known.get(e, e) for e in (yield from _sampling(after))]
        yield
    else:
        same: dict[int, Endpoint] = {}
        is_same = True
        for count, endpoint in enumerate(after.endpoints, 1):
            same[id(endpoint)] = known[endpoint]
            is_same = is_same and known[endpoint] is endpoint
            if not count % _ENDPOINTS_AT_ONCE:
                yield
        if not is_same:
            told: list[Endpoint] = []
            for first in range(0, len(new), _SLOTS_AT_ONCE):
                told += [same[id(e)] for e in new[first : first + _SLOTS_AT_ONCE]]
                yield
            new = told
    size = len(old) or len(new) or 1
    return old or [None] * size, new or [None] * size


def _sampling(snapshot: Snapshot) -> Steps[Sequence[Endpoint]]:
    step = 2**64 // _SAMPLES
    pick = snapshot.placement.get_hash
    found: list[Endpoint] = []
    try:
        for first in range(0, _SAMPLES, _HASHES_AT_ONCE):
            found += [pick(step // 2 + step * (first + i)) for i in range(_HASHES_AT_ONCE)]
            yield
    except NoEndpoints:
        return ()
    return found
