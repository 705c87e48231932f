"""
Answers that were cut off, and are a draw from those who are there.

An answer that was cut off removes nothing. Where a Service has outgrown a DNS message, all answers
are, and each rollout would leave its dead behind. But servers shuffle, so every answer is a new
sample of those who are there; whoever is in none of so many that chance can be ruled out is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["LEAST_SAMPLE", "LEAST_TURNOVER", "MOST_HELD", "ODDS", "Samples"]

# In a shuffled answer of half of all pods, each is missing half the time. One that is missing so
# often in a row that chance would do it once in this many times is not there any more.
ODDS = 1e9

# An answer that was cut off is larger than this; and this many take turns in shuffled ones.
LEAST_SAMPLE = 256
LEAST_TURNOVER = 16

# Four times what fits in a DNS message. A ring that hears only cut-off answers grows no further.
MOST_HELD = 16_384

_NOBODY: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Samples:
    """
    Who was in none of the last samples.

    Attributes:
        absences: In how many samples in a row, by name; 0 for who is kept and was in no sample yet.
    """

    absences: Mapping[str, int] = field(default_factory=lambda: _NOBODY)

    def after(self, absent: Iterable[str], *, is_sample: bool) -> Samples:
        """
        Return it after an answer that left out those who are *absent*.

        The same answer again probably came from a cache, so it is not a new sample. An answer with
        failed SRV targets is not a random sample at all.
        """
        before = self.absences
        counted = {name: before.get(name, 0) + is_sample for name in absent}
        return Samples(MappingProxyType(counted)) if counted else Samples()

    def gone(self, before: Samples, *, size: int, total: int, is_sample: bool) -> tuple[str, ...]:
        """
        Return who of the absent is gone, going by an answer that named *size* of *total*.

        Does the server shuffle? If it does, about `size / total` of the pods that were left out for
        the first time last time are back in this answer. With at least half of that, absence is chance
        and can be counted. With less, the server always cuts off the same pods, and absence proves
        nothing.
        """
        unseen = self.absences
        if not unseen:
            return ()
        gone: list[str] = []
        fresh = [name for name, times in before.absences.items() if times == 1]
        back = sum(name not in unseen for name in fresh)
        is_shuffled = len(fresh) >= LEAST_TURNOVER and back >= len(fresh) * size / total / 2
        if is_sample and is_shuffled and size >= LEAST_SAMPLE:
            chance = len(unseen) / total
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
        return Samples(MappingProxyType(rest))
