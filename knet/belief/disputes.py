"""
Of whom it is disputed whether they are there.

Two servers may tell two truths for ever, a replica of a DNS server that has lost its watch beside one
that has not, and no client knows who is right. What it can see is that somebody who left is named again
soon. Then it takes more to remove that one once more, so that keys do not move with every answer: while
two servers contradict each other, somebody whom one of them names stays. A pod of a StatefulSet that
was at one address, at another, and at the first one again, stays at the other: nobody can be back where
it was, and the newer word is the better one.

A pod that flaps looks the same to a client, so it keeps its keys while it is away for a short time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["DISPUTED", "LEAST_UNNAMED", "RETURNED", "UNNAMED", "Disputes"]

# Seconds; who comes back so soon after it left is disputed, until it was missing from no answer for so
# long.
RETURNED = 60.0
DISPUTED = 600.0

# For how many seconds, and in how many answers in a row, somebody who is disputed must be missing.
UNNAMED = 60.0
LEAST_UNNAMED = 8

_NOBODY: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Disputes:
    """
    Who left and came back lately.

    Attributes:
        until: Who is disputed, by name, and until when.
        unnamed_since: Since when those of them who are missing now have been.
    """

    until: Mapping[str, float] = field(default_factory=lambda: _NOBODY)
    unnamed_since: Mapping[str, float] = field(default_factory=lambda: _NOBODY)

    def after(self, returned: Collection[str], missing: Iterable[str], now: float) -> Disputes:
        """
        Return it after an answer by which some have *returned*, and others are *missing*.
        """
        if not returned and not self.until:
            return self
        until = {name: end for name, end in self.until.items() if end > now}
        missing = [name for name in missing if name in until]
        until |= dict.fromkeys([*missing, *returned], now + DISPUTED)
        since = {name: self.unnamed_since.get(name, now) for name in missing}
        return Disputes(MappingProxyType(until), MappingProxyType(since))

    def stays(self, name: str, times: int, now: float) -> bool:
        """
        Must *name* stay, whom the last *times* answers in a row have missed?
        """
        if name not in self.until:
            return False
        return times < LEAST_UNNAMED or now - self.unnamed_since.get(name, now) < UNNAMED
