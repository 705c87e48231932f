"""
Which of two answers is older.

Several servers with caches of different age answer old and new in turns, until the oldest cache has
expired: seventy times in half a minute have been seen. But the TTL that is left tells when a cache
was filled. Of two answers that differ, the one that expires first is the older, and an answer that
is older than one that was heard before has no news: it adds nothing and removes nothing. Unless it
names somebody whom nobody has named before: a cache that serves expired answers makes up a TTL for
them, and what is true looks old beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from knet.endpoint import Endpoint
from knet.pods import differing

__all__ = ["LONGEST_CACHED", "MOST_REMEMBERED", "TTL_UNIT", "Age", "Word", "judge"]

# Seconds: what a TTL counts in.
TTL_UNIT = 1.0

# Seconds; a longer TTL counts as this long. A ring whose servers change to a shorter TTL takes all
# answers for old ones until the last long one has expired.
LONGEST_CACHED = 60.0

# How many of those who were removed are remembered.
MOST_REMEMBERED = 16_384

_NOBODY: Mapping[Endpoint, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Age:
    """
    What tells old answers from new ones.

    Attributes:
        newest: What the newest answer so far named.
        expires_at: When that answer expires; what expires before it is older.
        superseded: What the newest answer named before it named *newest*.
        removed_at: Who was believed until lately, and when that ended.
    """

    newest: tuple[Endpoint, ...] = ()
    expires_at: float = -math.inf
    superseded: tuple[Endpoint, ...] = ()
    removed_at: Mapping[Endpoint, float] = field(default_factory=lambda: _NOBODY)

    def after(self, named: tuple[Endpoint, ...], word: Word) -> Age:
        """
        Return it after an answer with *named* in it, which was judged to be *word*.
        """
        if not word.is_newest:
            return self
        superseded = self.superseded if named == self.newest else self.newest
        return replace(self, newest=named, expires_at=word.expires_at, superseded=superseded)

    def after_removal(self, removed: Iterable[Endpoint], now: float) -> Age:
        """
        Return it after *removed* ceased to be believed, *now*.
        """
        lately = {e: at for e, at in self.removed_at.items() if now - at < LONGEST_CACHED}
        lately |= dict.fromkeys(removed, now)
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
    """

    expires_at: float
    is_newest: bool
    is_as_young: bool
    is_repeated: bool


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
    expires_at = now + min(max(ttl or 0.0, 0.0), LONGEST_CACHED)
    # A TTL is a whole number of seconds. If two caches were filled less than a second apart, with the
    # change in between, their expiry does not tell which is older. So an answer that repeats the
    # superseded one must expire at least one second later to count as the newest. If it expires less
    # than a second later, it may still be right: the pods that it names are no longer counted as
    # missing.
    margin = TTL_UNIT if ttl and named == age.superseded else 0.0
    is_repeated = named == age.newest
    is_newest = expires_at >= age.expires_at + margin or (
        not is_repeated and _is_news(age, named, believed, now)
    )
    return Word(expires_at, is_newest, expires_at >= age.expires_at, is_repeated)


def _is_news(
    age: Age, named: tuple[Endpoint, ...], believed: tuple[Endpoint, ...], now: float
) -> bool:
    """
    Does *named* hold anybody who is not believed, and was not believed lately?
    """
    _, strangers = differing(believed, named)
    return any(now - age.removed_at.get(e, -math.inf) >= LONGEST_CACHED for e in strangers)
