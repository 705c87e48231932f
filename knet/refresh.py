"""
What a ring believes of the answers it gets, and when it asks again.

Pure: what was believed, what came back, the clock and a random number go in; what is believed now,
and how long to wait, come out. `Ring` carries it out and decides nothing.

DNS in a cluster lies in one direction more than in the other. That a pod is there is said by
whoever saw it; that one is gone may be a cache that is behind, a slice that was not read yet, a
message that was cut off or a server that lost its API. So pods are added at once and removed on
repeated word, an answer that says that nothing is left is held for a time, and a failure is no
answer at all: it changes nothing but when to ask again.

Several servers with caches of different age answer old and new in turns, until the oldest cache has
expired: seventy times in half a minute have been seen. But the TTL that is left tells when a cache
was filled. Of two answers that differ, the one that expires first is the older, and an answer that
is older than one that was heard before has no news: it adds nothing and removes nothing. Unless it
names somebody whom nobody has named before: a cache that serves expired answers makes up a TTL for
them, and what is true looks old beside it.

A Service of both families whose IPv4 slice is missing for a moment answers with IPv6 alone, and to
believe it would move every key, twice. So that counts as saying that nothing is left, and is
believed as late.

An answer that was cut off removes nothing. Where a Service has outgrown a DNS message, all answers
are, and each rollout would leave its dead behind. But servers shuffle, so every answer is a new
sample of those who are there; whoever is in none of so many that chance can be ruled out is gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from knet.answer import Answer
from knet.endpoint import Endpoint
from knet.errors import ConfigError, NameNotFound, NoData, ResolveError

__all__ = ["Belief", "Decision", "RefreshPolicy", "State", "decide"]

State = Literal["starting", "fresh", "stale", "empty", "closed"]

# An empty ring takes more than one liar: this many answers in a row, whatever the hold is.
_EMPTY_ANSWERS = 3

# Seconds: what a TTL counts in.
_TTL_UNIT = 1.0

# Seconds; a longer TTL counts as this long. A ring whose servers change to a shorter TTL takes all
# answers for old ones until the last long one has expired.
_LONGEST_CACHED = 60.0

# In a shuffled answer of half of all pods, each is missing half the time. One that is missing so
# often in a row that chance would do it once in this many times is not there any more.
_ODDS = 1e9

# An answer that was cut off is larger than this; and this many take turns in shuffled ones.
_LEAST_SAMPLE = 256
_LEAST_TURNOVER = 16

# Four times what fits in a DNS message. A ring that hears only cut-off answers grows no further.
_MOST_HELD = 16_384

# Seconds; "never empty" is not "never IPv6".
_MOST_FAMILY_HOLD = 30.0

# Seconds between two attempts to start, at most, whatever `max_retry` is.
_MOST_START_RETRY = 2.0

_NONE: Mapping[str, int] = MappingProxyType({})

# 2.0 ** 1024 raises OverflowError, and an outage over a weekend gets there.
_MAX_DOUBLINGS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPolicy:
    """
    When a ring asks DNS, and how soon it believes what it hears.

    With the defaults, on a server that answers live:

    - a new pod gets its keys within 5.5 s;
    - a dead or unready pod loses its keys within 7 s: it must be missing from two answers in a row,
      and the second is asked for 1 s after the first;
    - a blip of NXDOMAIN or of empty answers is not felt below 30 s; after that the ring is empty,
      and refills with the first answer that names a pod;
    - a DNS outage is never felt by `get`; when it ends, the ring has caught up within 30 s, or 35 s
      where the servers were silent.

    A cache between knet and the cluster adds what it holds: the TTL, at most.

    Attributes:
        interval: Seconds between lookups, at most. A shorter TTL shortens it.
        min_interval: Seconds between lookups, at least, whatever the TTL; also how often
            `Ring.refresh` asks. Above *interval*, *interval* counts.
        jitter: Every wait after an answer is longer by up to this part of itself, at random, so that
            clients do not keep step. Never shorter: that would hit a cache just before it expires.
            After a failure it is between half and all of what was planned.
        retry: Seconds before the first retry after a failure; doubled for each further one.
            Envoy's `dns_failure_refresh_rate.base_interval`.
        max_retry: Seconds that a retry is delayed at most.
        empty_hold: Seconds for which the last endpoints are kept while DNS says that there are
            none; 30, as HAProxy's `hold nx`. `math.inf`: never empty.
        confirm: In how many answers in a row a pod must be missing before it is removed. 1 believes
            the first.

    Raises:
        ConfigError: A value is out of range.
    """

    interval: float = 5.0
    min_interval: float = 1.0
    jitter: float = 0.1
    retry: float = 0.5
    max_retry: float = 30.0
    empty_hold: float = 30.0
    confirm: int = 2

    def __post_init__(self) -> None:
        for name in ("interval", "min_interval", "retry", "max_retry"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0 and finite, got {value}")
        if not 0 <= self.jitter <= 1:
            raise ConfigError(f"jitter must be between 0 and 1, got {self.jitter}")
        if self.retry > self.max_retry:
            raise ConfigError(
                f"max_retry must be at least retry ({self.retry}), got {self.max_retry}"
            )
        if not self.empty_hold >= 0:
            raise ConfigError(f"empty_hold must be 0 or more, got {self.empty_hold}")
        if self.confirm < 1:
            raise ConfigError(f"confirm must be at least 1, got {self.confirm}")

    @property
    def shortest(self) -> float:
        """
        Seconds between two lookups that succeed, at least.
        """
        return min(self.min_interval, self.interval)


@dataclass(frozen=True, slots=True)
class Belief:
    """
    What a ring holds to be true.

    Attributes:
        endpoints: What it serves, sorted by name.
        missing: Of those, by name, the ones that the last answers left out, and how many in a row.
        gone_at: When the answers began to say that there is nothing, or `None`.
        gone: How many of them in a row.
        gone_of: Of what they say so: of all endpoints, or of those at IPv4 addresses.
        failures: How many lookups in a row gave no answer.
        resolved_at: When an answer last named an endpoint, or `None`: never yet.
        newest: What the newest answer so far named.
        expires_at: When that answer expires; what expires before it is older.
        superseded: What the newest answer named before it named *newest*.
        left: Who was believed until lately, and when that ended.
        unseen: Of the endpoints, by name, those that cut-off answers left out, and how many in a row.
    """

    endpoints: tuple[Endpoint, ...] = ()
    missing: Mapping[str, int] = field(default_factory=lambda: _NONE)
    gone_at: float | None = None
    gone: int = 0
    gone_of: Literal["all", "ipv4"] = "all"
    failures: int = 0
    resolved_at: float | None = None
    newest: tuple[Endpoint, ...] = ()
    expires_at: float = -math.inf
    superseded: tuple[Endpoint, ...] = ()
    left: Mapping[Endpoint, float] = field(default_factory=lambda: MappingProxyType({}))
    unseen: Mapping[str, int] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What follows from one outcome.

    Attributes:
        belief: What is believed from now on. Its *endpoints* are the very same tuple as before if
            nothing changed.
        state: What an operator should see.
        wait: Seconds until the next lookup.
    """

    belief: Belief
    state: State
    wait: float


def decide(
    belief: Belief,
    outcome: Answer | ResolveError,
    *,
    now: float,
    policy: RefreshPolicy,
    jitter: float = 0.0,
) -> Decision:
    """
    Judge one *outcome*.

    Args:
        belief: What was believed until now.
        outcome: The answer, or how the lookup failed.
        now: Seconds on any clock that only goes forward.
        policy: How much to believe, how often to ask.
        jitter: Drawn from `[0, 1)`.
    """
    if isinstance(outcome, Answer) and outcome.endpoints:
        if not _leaves_ipv4(belief.endpoints, outcome.endpoints):
            return _told(belief, outcome, now, policy, jitter)
        if outcome.complete:
            doubted = _told_nothing(belief, now, policy, jitter, of="ipv4")
            if doubted.belief.endpoints:
                return doubted
            return _told(doubted.belief, outcome, now, policy, jitter)
    elif isinstance(outcome, NameNotFound | NoData) or (
        isinstance(outcome, Answer) and outcome.complete
    ):
        return _told_nothing(belief, now, policy, jitter, of="all")
    # A failure; so is an answer that was cut off before it named anyone, or anyone of IPv4.
    failures = belief.failures + 1
    backoff = policy.retry * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    most = policy.max_retry
    if belief.resolved_at is None and belief.gone_at is None:  # a program waits for its start
        most = min(most, _MOST_START_RETRY)
    # Between the half and the whole of it: apart from each other, and never a hot loop.
    wait = min(backoff, most) * (0.5 + 0.5 * jitter)
    # It breaks a run of answers that say that nothing is left: those must be in a row.
    after = replace(belief, failures=failures, gone_at=None, gone=0)
    return Decision(after, _unconfirmed(after), wait)


def _told(
    belief: Belief, answer: Answer, now: float, policy: RefreshPolicy, jitter: float
) -> Decision:
    """
    An answer with endpoints in it: believe what it names, doubt what it leaves out.
    """
    expires_at = now + min(max(answer.ttl or 0.0, 0.0), _LONGEST_CACHED)
    # The very tuple that is believed, where they are equal: compared once, and held once.
    named = belief.endpoints if answer.endpoints == belief.endpoints else answer.endpoints
    # TTLs are whole seconds. Two caches that were filled less than one apart, and the change between
    # the two, cannot be told by them: what was heard before is not younger for less. Nor is it older,
    # so nobody whom it names is removed.
    margin = _TTL_UNIT if answer.ttl and named == belief.superseded else 0.0
    is_newest = expires_at >= belief.expires_at + margin or _is_news(belief, named, now)
    is_as_young = expires_at >= belief.expires_at
    after = replace(belief, gone_at=None, gone=0, failures=0, resolved_at=now)
    # For the same reason the expiry of one and the same answer seems to move about a little.
    if is_newest or named == belief.newest or not belief.endpoints:
        after = _merged(after, named, answer, now, policy)
    elif is_as_young and belief.missing:
        there = {e.name for e in named}
        doubted = {name: n for name, n in belief.missing.items() if name not in there}
        after = replace(after, missing=MappingProxyType(doubted))
    if is_newest:
        superseded = belief.superseded if named == belief.newest else belief.newest
        after = replace(after, newest=named, expires_at=expires_at, superseded=superseded)
    doubtful = bool(after.missing) and answer.complete
    wait = policy.shortest if doubtful else _until_next(answer.ttl, policy)
    return Decision(after, "fresh", wait * (1 + policy.jitter * jitter))


def _is_news(belief: Belief, named: tuple[Endpoint, ...], now: float) -> bool:
    """
    Does *named* hold anybody who is not believed, and was not believed lately?
    """
    if named is belief.endpoints or named == belief.newest:
        return False
    known = {e.name: e for e in belief.endpoints}
    strangers = [e for e in named if known.get(e.name) != e]
    return any(now - belief.left.get(e, -math.inf) >= _LONGEST_CACHED for e in strangers)


def _lately(
    belief: Belief, believed: Mapping[str, Endpoint], now: float
) -> Mapping[Endpoint, float]:
    """
    Return who left lately, once those are *believed*, by name.
    """
    left = {e: at for e, at in belief.left.items() if now - at < _LONGEST_CACHED}
    left |= {e: now for e in belief.endpoints if believed.get(e.name) is not e}
    return MappingProxyType(dict(list(left.items())[-_MOST_HELD:]))


def _merged(
    belief: Belief, named: tuple[Endpoint, ...], answer: Answer, now: float, policy: RefreshPolicy
) -> Belief:
    """
    Return what is believed of the endpoints once *named* were.
    """
    if named is belief.endpoints:
        return replace(belief, missing=_NONE, unseen=_NONE)
    missing: dict[str, int] = {}
    unseen: dict[str, int] = {}
    merged = {e.name: e for e in named}
    taken = {(e.address, e.port) for e in named}
    # The same once more, as from a cache, is no second sample; nor is what failures have left.
    is_sample = answer.gap == "cut off" and named != belief.newest
    for endpoint in belief.endpoints:
        name = endpoint.name
        there = merged.get(name)
        if there is None:
            if (endpoint.address, endpoint.port) in taken:
                continue  # somebody else lives there now, so nobody has to confirm that it is gone
            times = belief.missing.get(name, 0) + answer.complete
            if times < policy.confirm:
                merged[name] = endpoint
                missing[name] = times
                if not answer.complete:
                    unseen[name] = belief.unseen.get(name, 0) + is_sample
        elif there == endpoint:
            merged[name] = endpoint  # the same object, so that snapshots share it
    for name in _outlived(belief, len(named), len(merged), unseen, is_sample):
        del merged[name], missing[name], unseen[name]
    changed = tuple(sorted(merged.values(), key=lambda e: e.name))
    after = replace(belief, missing=MappingProxyType(missing), unseen=MappingProxyType(unseen))
    if changed == belief.endpoints:
        return after
    return replace(after, endpoints=changed, left=_lately(belief, merged, now))


def _outlived(
    belief: Belief, size: int, total: int, unseen: Mapping[str, int], is_sample: bool
) -> tuple[str, ...]:
    """
    Return which of the *unseen* are gone, going by a cut-off answer that named *size* of *total*.
    """
    gone: list[str] = []
    # Of those whom the last answer was the first to leave out, most are there, and come back with
    # their share of this one, if answers are shuffled.
    fresh = [name for name, times in belief.unseen.items() if times == 1]
    back = sum(name not in unseen for name in fresh)
    is_shuffled = len(fresh) >= _LEAST_TURNOVER and back >= len(fresh) * size / total / 2
    if unseen and is_sample and is_shuffled and size >= _LEAST_SAMPLE:
        chance = len(unseen) / total
        most = -math.log(_ODDS) / math.log(chance)
        gone = [name for name, times in unseen.items() if times > most]
    surplus = total - len(gone) - max(_MOST_HELD, size)
    if surplus > 0:
        rest = unseen.keys() - gone
        gone += sorted(rest, key=lambda name: (-unseen[name], name))[:surplus]
    return tuple(gone)


def _leaves_ipv4(believed: tuple[Endpoint, ...], named: tuple[Endpoint, ...]) -> bool:
    """
    Are all that are *believed* at IPv4 addresses, and all that are *named* at IPv6 ones?
    """
    return (
        bool(believed)
        and ":" in named[0].address
        and all(":" in e.address for e in named)
        and not any(":" in e.address for e in believed)
    )


def _told_nothing(
    belief: Belief,
    now: float,
    policy: RefreshPolicy,
    jitter: float,
    *,
    of: Literal["all", "ipv4"],
) -> Decision:
    """
    An answer that there is nothing, or nothing *of* IPv4: true at times, and a common lie.
    """
    since, times = now, 1
    if belief.gone_at is not None and belief.gone_of == of:
        since, times = belief.gone_at, belief.gone + 1
    after = replace(belief, gone_at=since, gone=times, gone_of=of, failures=0)
    wait = policy.shortest  # whoever holds on, or has nothing yet, wants to know soon
    hold = policy.empty_hold if of == "all" else min(policy.empty_hold, _MOST_FAMILY_HOLD)
    if belief.endpoints and times >= _EMPTY_ANSWERS and now - since >= hold:
        left = _lately(belief, {}, now)
        after = replace(after, endpoints=(), missing=_NONE, unseen=_NONE, left=left)
    if not after.endpoints and after.resolved_at is not None:
        wait = policy.interval
    return Decision(after, _unconfirmed(after), wait * (1 + policy.jitter * jitter))


def _unconfirmed(belief: Belief) -> State:
    """
    The state of a ring whose last lookup did not confirm anything.
    """
    if belief.endpoints:
        return "stale"
    return "starting" if belief.resolved_at is None else "empty"


def _until_next(ttl: float | None, policy: RefreshPolicy) -> float:
    if ttl is None:
        return policy.interval
    return min(max(ttl, policy.shortest), policy.interval)
