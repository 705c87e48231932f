"""
Answers that were cut off, and are a draw from those who are there.

An answer that was cut off removes nothing. Where a Service has outgrown a DNS message, all answers
are, and each rollout would leave its dead behind. But servers shuffle, so every answer is a new
sample of those who are there; whoever is in none of so many that chance can be ruled out is gone.

Some servers name a few of the healthy at random, and do not say so (AWS Cloud Map: eight). Their
answers are of one size, all different, and somebody who was not in the last one is back from one
before. Two servers that contradict each other repeat themselves instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from knet.endpoint import Endpoint

__all__ = ["LEAST_SAMPLE", "LEAST_TURNOVER", "MOST_HELD", "ODDS", "Samples"]

# In a shuffled answer of half of all pods, each is missing half the time. One that is missing so
# often in a row that chance would do it once in this many times is not there any more.
ODDS = 1e9

# An answer that was cut off is larger than this; and this many take turns in shuffled ones.
LEAST_SAMPLE = 256
LEAST_TURNOVER = 16

# So many answers are looked at to tell whether they are draws.
_LOOKED_AT = 4

# Four times what fits in a DNS message. A ring that hears only cut-off answers grows no further.
MOST_HELD = 16_384

_NOBODY: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Samples:
    """
    Who was in none of the last samples.

    Attributes:
        absences: In how many samples in a row, by name; 0 for who is kept and was in no sample yet.
        drawn: The last answers that were whole, as far as they may be draws.
        are_drawn: They are.
    """

    absences: Mapping[str, int] = field(default_factory=lambda: _NOBODY)
    drawn: tuple[tuple[Endpoint, ...], ...] = ()
    are_drawn: bool = False

    def hear(self, named: tuple[Endpoint, ...], *, is_new: bool) -> Samples:
        """
        Return it after an answer that says that it is whole, and names those who are *named*.

        Args:
            named: Of whom nobody knows yet whether they are all.
            is_new: No cache may have given the answer before.
        """
        drawn = self.drawn
        if drawn and named == drawn[-1]:
            return replace(self, drawn=drawn[-1:], are_drawn=False) if is_new else self
        if not drawn or len(named) != len(drawn[-1]) or named in drawn:
            return replace(self, drawn=(named,), are_drawn=False)
        last = set(drawn[-1])
        before = set().union(*drawn[:-1]) - last
        are_drawn = self.are_drawn or not before.isdisjoint(named)
        return replace(self, drawn=(*drawn[1 - _LOOKED_AT :], named), are_drawn=are_drawn)

    def after(self, absent: Iterable[str], *, is_sample: bool) -> Samples:
        """
        Return it after an answer that left out those who are *absent*.

        The same answer again probably came from a cache, so it is not a new sample. An answer with
        failed SRV targets is not a random sample at all.
        """
        before = self.absences
        counted = {name: before.get(name, 0) + is_sample for name in absent}
        return replace(self, absences=MappingProxyType(counted) if counted else _NOBODY)

    def gone(self, before: Samples, *, size: int, total: int, is_sample: bool) -> tuple[str, ...]:
        """
        Return who of the absent is gone, going by an answer that named *size* of *total*.

        Does the server shuffle? If it does, about `size / total` of the pods that were left out for
        the first time last time are back in this answer. With at least half of that, absence is chance
        and can be counted. With less, the server always cuts off the same pods, and absence proves
        nothing. Of what is known to be drawn, any size will do.
        """
        unseen = self.absences
        if not unseen:
            return ()
        gone: list[str] = []
        fresh = [name for name, times in before.absences.items() if times == 1]
        back = sum(name not in unseen for name in fresh)
        is_shuffled = len(fresh) >= LEAST_TURNOVER and back >= len(fresh) * size / total / 2
        chance = len(unseen) / total
        is_known = self.are_drawn or (is_shuffled and size >= LEAST_SAMPLE)
        if is_sample and is_known and chance < 1:
            most = -math.log(ODDS) / math.log(chance)
            gone = [name for name, times in unseen.items() if times > most]
        surplus = total - len(gone) - max(MOST_HELD, size)
        if surplus > 0:
            rest = unseen.keys() - gone
            gone += sorted(rest, key=lambda name: (-unseen[name], name))[:surplus]
        return tuple(gone)

    def without(self, gone: Iterable[str]) -> Samples:
        """
        Return it without those who are gone.
        """
        leavers = set(gone)
        if not leavers:
            return self
        rest = {name: n for name, n in self.absences.items() if name not in leavers}
        return replace(self, absences=MappingProxyType(rest))
