"""
When another source takes over: nobody is lost, and nobody comes back, for that alone.

Pure. Sources learn of one and the same event at different times: by DNS, a TTL later. So a word is held against what
the source before said last, pod by pod: whom that named is removed only, and whom it removed comes back only,
once the word cannot be older than that. A word may be as old as the TTLs of its source have been, 5 seconds
at least and a minute at most; and what is in a cache when its source is heard first, may be said until that
expires. A further change begins nothing anew for those about whom nothing was said since.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from knet.answer import Answer
from knet.endpoint import Endpoint

__all__ = ["LEAST_WINDOW", "MOST_WINDOW", "Handover"]

# Seconds that a word may be old: at least, and at most.
LEAST_WINDOW = 5.0
MOST_WINDOW = 60.0


class _Said(NamedTuple):
    """
    What a source said last of a pod, and when.
    """

    at: float
    source: int
    address: str


_NOTHING: Mapping[str, _Said] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Handover:
    """
    Who was named and who was removed lately, by other sources than the one in use.

    Attributes:
        source: The one in use.
        window: Seconds that its words may be old, by what it said so far.
        cached_at: When it said first for how long its word is good, if it has.
        last: Whom it named last.
        named: Whom another source named last, by name.
        removed: Who was removed, by name.
    """

    source: int = 0
    window: float = LEAST_WINDOW
    cached_at: float | None = None
    last: tuple[Endpoint, ...] = ()
    named: Mapping[str, _Said] = field(default_factory=lambda: _NOTHING)
    removed: Mapping[str, _Said] = field(default_factory=lambda: _NOTHING)

    def taken_over(self, source: int, spoke_at: float, now: float) -> Handover:
        """
        Return it for another *source*; the one before stood by its last word until *spoke_at*.
        """
        said = {e.name: _Said(spoke_at, self.source, e.address) for e in self.last}
        named = {name: s for name, s in self.named.items() if now - s.at < MOST_WINDOW} | said
        return Handover(source, named=named, removed=self.removed)

    def heard(
        self, answer: Answer, believed: tuple[Endpoint, ...], now: float
    ) -> tuple[Answer, Handover, float]:
        """
        Return what of *answer* counts, with whom it cannot remove yet and without whom it cannot bring back.

        Args:
            answer: What the source in use said; it names somebody.
            believed: Who is believed.
            now: Seconds on a clock that only goes forward.

        Returns:
            The answer, this after it, and when more of it will count, `math.inf` if all does.
        """
        window = min(max(self.window, answer.ttl or 0.0), MOST_WINDOW)
        cached_at = self.cached_at
        if cached_at is None and answer.ttl is not None:
            cached_at = now
        after = replace(self, window=window, cached_at=cached_at, last=answer.endpoints)
        if not self.named and not self.removed:
            return answer, after, math.inf
        names = {e.name for e in answer.endpoints}
        named = {
            name: said
            for name, said in self.named.items()
            if now - said.at < MOST_WINDOW and name not in names
        }
        removed = {name: s for name, s in self.removed.items() if now - s.at < MOST_WINDOW}
        after = replace(after, named=named, removed=removed)
        addresses = {e.address for e in answer.endpoints}
        due = math.inf
        kept: list[Endpoint] = []
        for endpoint in believed if named else ():
            said = named.get(endpoint.name)
            if said is None or said.source == self.source or endpoint.address in addresses:
                continue
            counts_at = after._counts_at(said)
            if now < counts_at:
                kept.append(endpoint)
                due = min(due, counts_at)
        known = {e.name for e in believed} if removed else names
        barred: set[str] = set()
        for name in removed.keys() & names - known:
            counts_at = after._counts_at(removed[name])
            if removed[name].source != self.source and now < counts_at:
                barred.add(name)
                due = min(due, counts_at)
        if barred:
            barred = {
                e.name
                for e in answer.endpoints
                if e.name in barred and e.address == removed[e.name].address
            }
        if not kept and not barred:
            return answer, after, math.inf
        endpoints = [e for e in answer.endpoints if e.name not in barred]
        return replace(answer, endpoints=(*endpoints, *kept)), after, due

    def _counts_at(self, said: _Said) -> float:
        """
        Return from when on a word of the source in use cannot be older than what was *said*.
        """
        since = said.at if self.cached_at is None else max(said.at, self.cached_at)
        return min(since + self.window, said.at + MOST_WINDOW)

    def after_change(
        self, lost: Iterable[Endpoint], found: Iterable[Endpoint], now: float
    ) -> Handover:
        """
        Return it after the source in use has had some *lost* and some *found*.
        """
        removed = {name: s for name, s in self.removed.items() if now - s.at < MOST_WINDOW}
        removed |= {e.name: _Said(now, self.source, e.address) for e in lost}
        for endpoint in found:
            removed.pop(endpoint.name, None)
        return replace(self, removed=removed)
