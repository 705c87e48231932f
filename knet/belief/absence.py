"""
Who is missing, and for how long; and when nothing at all is left.

That a pod is there is said by whoever saw it; that one is gone may be a cache that is behind, a slice
that was not read yet, or a server that lost its API. So pods are added at once and removed on repeated
word, and an answer that says that nothing is left is held for a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from knet.endpoint import Endpoint
from knet.pods import changed, differing, living_at

__all__ = ["EMPTY_ANSWERS", "MOST_HEARD", "Absence", "EmptySpell", "Walk", "joined", "walk"]

# An empty ring takes more than one liar: this many answers in a row, whatever the hold is.
EMPTY_ANSWERS = 3

# Seconds between two empty answers that count, at most, where lookups failed in between.
MOST_HEARD = 5.0

_NOBODY: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EmptySpell:
    """
    A run of answers that say that nothing is left.

    Attributes:
        of: Of what they say so: of all endpoints, or of those at IPv4 addresses.
        last: When the last of them came.
        heard: For how many seconds they have said so.
        times: How many of them there were, with failures in between or not.
    """

    of: Literal["all", "ipv4"]
    last: float
    heard: float = 0.0
    times: int = 1

    def is_believed(self, hold: float) -> bool:
        """
        Has it been said often enough, and for *hold* seconds?
        """
        return self.times >= EMPTY_ANSWERS and self.heard >= hold


@dataclass(frozen=True, slots=True)
class Absence:
    """
    Who was left out by the last answers, and is kept until that is confirmed.

    Attributes:
        missing: In how many answers in a row, by name.
        empty: The run of answers by which nothing is left, or `None`.
    """

    missing: Mapping[str, int] = field(default_factory=lambda: _NOBODY)
    empty: EmptySpell | None = None

    def told_nothing(
        self, of: Literal["all", "ipv4"], now: float, *, after_failures: bool
    ) -> EmptySpell:
        """
        Return the run of empty answers after one more.

        A failure in between says nothing, so it neither ends the run nor counts: of the time over which
        lookups failed, some seconds at most have been heard.
        """
        spell = self.empty
        if spell is None or spell.of != of:
            return EmptySpell(of, now)
        gap = now - spell.last
        heard = spell.heard + (min(gap, MOST_HEARD) if after_failures else gap)
        return EmptySpell(of, now, heard, spell.times + 1)

    def seen(self, named: tuple[Endpoint, ...]) -> Absence:
        """
        Return it without those who are *named*.
        """
        there = {e.name for e in named}
        rest = {name: times for name, times in self.missing.items() if name not in there}
        return Absence(MappingProxyType(rest), self.empty)


class Walk(NamedTuple):
    """
    What one walk over the endpoints found.

    Attributes:
        endpoints: Whom to serve, sorted by name: those who are named, and those who are kept. Who was
            served before is the same object.
        missing: Who is kept of those left out, and in how many answers in a row.
    """

    endpoints: tuple[Endpoint, ...]
    missing: dict[str, int]


def walk(
    absence: Absence,
    believed: tuple[Endpoint, ...],
    named: tuple[Endpoint, ...],
    *,
    counts: bool,
    confirm: int,
    younger: Collection[Endpoint] = (),
    returned: Collection[Endpoint] = (),
    stays: Callable[[str, int], bool] = lambda _name, _times: False,
) -> Walk:
    """
    Go over all who are *believed*, and see who of them is not *named*.

    Args:
        absence: Who was missing before.
        believed: Whom the ring serves.
        named: Whom the answer names.
        counts: Whether to be left out of this answer says anything.
        confirm: In how many answers in a row somebody must be missing to be removed.
        younger: Of whom the answer can know nothing.
        returned: Who of the named had left before.
        stays: Must somebody, by name, stay whom so many answers in a row have missed?
    """
    lost, found = differing(believed, named)
    if not lost and not found:
        return Walk(believed, {})
    missing: dict[str, int] = {}
    gone: list[Endpoint] = []
    back = {e.name: e for e in found}  # some of them are believed, at another address
    neighbours = living_at(named, {e.address for e in lost})
    taken = {(e.address, e.port) for e in neighbours}
    for endpoint in lost:
        name = endpoint.name
        times = absence.missing.get(name, 0) + counts
        if name in back:
            # Where somebody else lives at its old address now, it has moved, whatever was said before.
            is_free = (endpoint.address, endpoint.port) not in taken
            if is_free and back[name] in returned and stays(name, times):
                del back[name]
                missing[name] = times
            else:
                gone.append(endpoint)
        # If somebody else lives there now, nobody has to confirm that it is gone.
        elif (endpoint.address, endpoint.port) in taken:
            gone.append(endpoint)
        elif endpoint in younger:
            continue
        elif counts and times >= confirm and not stays(name, times):
            gone.append(endpoint)
        else:
            missing[name] = times
    if not back and not gone:
        return Walk(believed, missing)
    return Walk(changed(believed, gone, list(back.values())), missing)


def joined(
    believed: tuple[Endpoint, ...], strangers: Iterable[Endpoint]
) -> tuple[tuple[Endpoint, ...], list[Endpoint]]:
    """
    Return whom to serve if *strangers* join those who are *believed*, and whose place they take.
    """
    come = list(strangers)
    names = {e.name for e in come}
    places = {(e.address, e.port) for e in come}
    gone = [e for e in believed if e.name in names or (e.address, e.port) in places]
    return changed(believed, gone, come), gone
