"""
Which of two answers is older.

Several servers with caches of different age answer old and new in turns, until the oldest cache has
expired: seventy times in half a minute have been seen. But the TTL that is left tells when a cache
was filled, and all that it says until then is of that moment: one *fill*, known by when it expires.

The fill that expires last is taken for the youngest: it is the bar. What expires before it is older,
and has little news: it removes nobody, and adds those only whom nobody has named before, or whom
nobody had named for some time when that fill was first heard. And whom such an answer has added, the
fill at the bar cannot miss, since it was there before.

Not all TTLs tell the truth. A cache that serves expired answers makes one up for them, and a server that
answers live has a short one: what is true looks old beside both. So where all servers have been heard, a
new fill that names a stranger sets the bar however soon it expires: it must be younger than all that was
heard before, and they are older from now on, whatever they promise. And where for a minute nothing but
older answers came, of several fills, the youngest of them sets the bar: servers may change to a shorter
TTL. A cache that is merely old counts down, and is one fill all that time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from knet.endpoint import Endpoint
from knet.pods import differing

__all__ = [
    "LATELY",
    "LEAST_FILLS",
    "LONGEST_CACHED",
    "LONGEST_UNHEARD",
    "MOST_FILLS",
    "MOST_REMEMBERED",
    "TTL_UNIT",
    "Age",
    "Word",
    "judge",
]

# Seconds: what a TTL counts in.
TTL_UNIT = 1.0

# Seconds; as long as CoreDNS and its cache ever promise. A longer TTL tells nothing of a cache.
LONGEST_CACHED = 3600.0

# Seconds for which a TTL counts that is longer still; and for which nothing but older answers must come,
# of so many fills, until one of them counts.
LONGEST_UNHEARD = 60.0
LEAST_FILLS = 4

# Seconds; who was removed so long before a fill was first heard may be in it because it is back. By
# then, each of a few servers has been heard.
LATELY = 45.0

# How many fills are told apart, and how many of those who were removed are remembered.
MOST_FILLS = 16
MOST_REMEMBERED = 16_384

_NOBODY: Mapping[Endpoint, float] = MappingProxyType({})


class _Fill(NamedTuple):
    named: tuple[Endpoint, ...]
    expires_at: float
    heard_at: float  # for the first time


@dataclass(frozen=True, slots=True)
class _Spell:
    """
    A run of answers that were all older than the bar.

    Attributes:
        since: When the first of them came.
        fills: How many fills were first heard in it.
        expires_at: When the youngest of them expires.
    """

    since: float
    fills: int
    expires_at: float

    def is_believed(self, now: float) -> bool:
        return self.fills >= LEAST_FILLS and now - self.since >= LONGEST_UNHEARD


@dataclass(frozen=True, slots=True)
class Age:
    """
    What tells old answers from new ones.

    Attributes:
        newest: What the newest answer so far named.
        expires_at: When that answer expires; what expires before it is older.
        superseded: What the newest answer named before it named *newest*.
        removed_at: Who was believed until lately, and when that ended.
        younger: Who was added by older answers since the fill at the bar is known.
        since: When the first answer of all came, or `None`: none yet.
        outdated_at: What was first heard before then is older, whenever it expires.
        fills: The fills that were heard, and have not expired; the one that was heard last comes last.
        unheard: The run of older answers that goes on, or `None`.
    """

    newest: tuple[Endpoint, ...] = ()
    expires_at: float = -math.inf
    superseded: tuple[Endpoint, ...] = ()
    removed_at: Mapping[Endpoint, float] = field(default_factory=lambda: _NOBODY)
    younger: frozenset[Endpoint] = frozenset()
    since: float | None = None
    outdated_at: float = -math.inf
    fills: tuple[_Fill, ...] = ()
    unheard: _Spell | None = None

    def after(self, named: tuple[Endpoint, ...], word: Word, now: float) -> Age:
        """
        Return it after an answer with *named* in it, which was judged *now* to be *word*.
        """
        fills = self.fills
        if word.is_first:
            rest = [fill for fill in fills if fill.expires_at > now][1 - MOST_FILLS :]
            fills = (*rest, _Fill(named, word.expires_at, now))
        since = now if self.since is None else self.since
        if not word.is_newest:
            younger = self.younger.union(word.strangers) if word.strangers else self.younger
            return replace(self, younger=younger, since=since, fills=fills, unheard=word.unheard)
        superseded = self.superseded if named == self.newest else self.newest
        return replace(
            self,
            newest=named,
            expires_at=word.expires_at,
            superseded=superseded,
            younger=frozenset() if word.is_first else self.younger,
            since=since,
            outdated_at=now if word.is_news else self.outdated_at,
            fills=fills,
            unheard=None,
        )

    def returned(self, found: Iterable[Endpoint]) -> dict[Endpoint, float]:
        """
        Return who of those who are *found* was believed before, and when that ended.
        """
        if not self.removed_at:
            return {}
        return {e: self.removed_at[e] for e in found if e in self.removed_at}

    def after_removal(self, removed: Iterable[Endpoint], now: float) -> Age:
        """
        Return it after *removed* ceased to be believed, *now*.
        """
        lately = {e: at for e, at in self.removed_at.items() if now - at < LONGEST_CACHED}
        for endpoint in removed:
            lately.pop(endpoint, None)  # so that it comes last
            lately[endpoint] = now
        return replace(
            self, removed_at=MappingProxyType(dict(list(lately.items())[-MOST_REMEMBERED:]))
        )


@dataclass(frozen=True, slots=True)
class Word:
    """
    How an answer's age compares.

    Attributes:
        expires_at: When it expires; a long TTL is cut.
        is_newest: It counts as the newest so far.
        is_as_young: It is not older than the newest so far, as far as TTLs can tell.
        is_repeated: It says what the newest has said.
        is_first: Nothing of its fill was heard before.
        is_news: It counts as the newest for those whom it names.
        strangers: Whom it adds although it is older.
        unheard: The run of older answers with it, or `None`: it is not older.
    """

    expires_at: float
    is_newest: bool
    is_as_young: bool
    is_repeated: bool
    is_first: bool = True
    is_news: bool = False
    strangers: tuple[Endpoint, ...] = ()
    unheard: _Spell | None = None


def judge(
    age: Age,
    named: tuple[Endpoint, ...],
    ttl: float | None,
    *,
    believed: tuple[Endpoint, ...],
    now: float,
) -> Word:
    """
    Judge how old an answer is.

    Args:
        age: What was heard before.
        named: The endpoints of the answer.
        ttl: Seconds that it says it is good for, or `None`.
        believed: Whom the ring serves.
        now: When it was heard.
    """
    good_for = max(ttl or 0.0, 0.0)
    expires_at = now + (good_for if good_for <= LONGEST_CACHED else LONGEST_UNHEARD)
    fill = _known(age.fills, named, expires_at)
    heard_at, is_first = (now, True) if fill is None else (fill.heard_at, False)
    is_repeated = named == age.newest
    is_as_young = expires_at >= age.expires_at and heard_at >= age.outdated_at
    # A TTL is a whole number of seconds. If two caches were filled less than a second apart, with the
    # change in between, their expiry does not tell which is older. So an answer that repeats the
    # superseded one must expire at least one second later to count as the newest. If it expires less
    # than a second later, it may still be right: the pods that it names are no longer counted as
    # missing.
    margin = TTL_UNIT if ttl and named == age.superseded else 0.0
    if is_as_young and expires_at >= age.expires_at + margin:
        return Word(expires_at, True, is_as_young, is_repeated, is_first)
    unheard = None if is_as_young else _unheard(age, expires_at, now, is_first)
    if unheard and unheard.is_believed(now):
        if expires_at >= unheard.expires_at - TTL_UNIT:
            return Word(expires_at, True, True, is_repeated, is_first)
        # A younger one that is never heard again must not be in the way.
        unheard = _Spell(now, 0, expires_at)
    strangers = _strangers(age, named, believed, heard_at)
    if strangers and is_first and age.since is not None and now - age.since >= LONGEST_UNHEARD:
        return Word(expires_at, True, is_as_young, is_repeated, is_first, is_news=True)
    return Word(
        expires_at,
        False,
        is_as_young,
        is_repeated,
        is_first,
        strangers=strangers,
        unheard=unheard,
    )


def _known(
    fills: tuple[_Fill, ...], named: tuple[Endpoint, ...], expires_at: float
) -> _Fill | None:
    """
    Return which of *fills* named the same and expires then, give or take a second.
    """
    for fill in reversed(fills):
        if abs(fill.expires_at - expires_at) <= TTL_UNIT and fill.named == named:
            return fill
    return None


def _unheard(age: Age, expires_at: float, now: float, is_first: bool) -> _Spell:
    spell = age.unheard or _Spell(now, 0, -math.inf)
    return _Spell(spell.since, spell.fills + is_first, max(spell.expires_at, expires_at))


def _strangers(
    age: Age, named: tuple[Endpoint, ...], believed: tuple[Endpoint, ...], heard_at: float
) -> tuple[Endpoint, ...]:
    """
    Return who of *named* is not believed, and had not been for long when their fill was first heard.
    """
    _, found = differing(believed, named)
    return tuple([e for e in found if heard_at - age.removed_at.get(e, -math.inf) >= LATELY])
