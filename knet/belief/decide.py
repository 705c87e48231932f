"""
What a ring believes of what it was told: the order in which the rules apply.

Pure: what was believed, what came back, the clock and a random number go in; what is believed now,
and how long to wait, come out. The life of a ring carries it out. Each rule owns a small part of the
belief and imports no other rule; what it needs of another's facts it is handed here.

DNS in a cluster lies in one direction more than in the other: it names the dead for longer than it
leaves out the living. So pods are added at once and removed on repeated word (`absence`), an answer
that says that nothing is left is held for a time, an older answer has no news (`age`), who came back
leaves less easily (`disputes`), an answer with a gap, or a draw, removes nobody but by odds
(`samples`), and the loss of IPv4 alone is held like the loss of all (`family`). A failure is no answer
at all: it changes nothing but when to ask again (`pace`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Literal

from knet.answer import Answer
from knet.belief import pace
from knet.belief.absence import Absence, joined, walk
from knet.belief.age import Age, Word, judge
from knet.belief.disputes import RETURNED, Disputes
from knet.belief.family import MOST_FAMILY_HOLD, leaves_ipv4
from knet.belief.policy import RefreshPolicy
from knet.belief.samples import Samples
from knet.endpoint import Endpoint
from knet.errors import NameNotFound, NoData, ResolveError
from knet.pods import differing

__all__ = ["Belief", "Decision", "State", "believe", "decide"]

State = Literal["starting", "fresh", "stale", "empty", "closed"]


@dataclass(frozen=True, slots=True)
class Belief:
    """
    What a ring holds to be true.

    Attributes:
        endpoints: What it serves, sorted by name.
        resolved_at: When an answer last named an endpoint, or `None`: never yet.
        failures: How many lookups in a row gave no answer.
        age: What tells old answers from new ones.
        absence: Who was left out, and is kept until that is confirmed.
        disputes: Who left and came back lately, and leaves no more that easily.
        samples: Who was in none of the last answers that were cut off, or drawn at random.
    """

    endpoints: tuple[Endpoint, ...] = ()
    resolved_at: float | None = None
    failures: int = 0
    age: Age = field(default_factory=Age)
    absence: Absence = field(default_factory=Absence)
    disputes: Disputes = field(default_factory=Disputes)
    samples: Samples = field(default_factory=Samples)

    @property
    def held(self) -> int:
        """
        How many endpoints the last answer left out, and are kept until that is confirmed.
        """
        return len(self.absence.missing)

    @property
    def disputed(self) -> int:
        """
        How many endpoints left lately and came back, and leave no more that easily.
        """
        return len(self.disputes.until)


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What follows from what was told.

    Attributes:
        belief: What is believed from now on.
        state: What an operator should see.
        wait: Seconds until the next lookup.
        changed: Whether the endpoints are others than before.
    """

    belief: Belief
    state: State
    wait: float
    changed: bool = False


def decide(
    belief: Belief,
    told: Answer | ResolveError,
    *,
    now: float,
    policy: RefreshPolicy,
    jitter: float = 0.0,
) -> Decision:
    """
    Judge what was *told*.

    1. An answer that names somebody is merged, unless it leaves only IPv6 of a service of IPv4.
    2. That counts as an answer that nothing is left, and is merged once that is believed.
    3. An answer that nothing is left, and a name that is not there, empty the ring after a hold.
    4. All else is a failure; so is an answer with a gap that names nobody, or nobody of IPv4.

    Args:
        belief: What was believed until now.
        told: The answer, or how the lookup failed.
        now: Seconds on any clock that only goes forward.
        policy: How much to believe, how often to ask.
        jitter: Drawn from `[0, 1)`.
    """
    if isinstance(told, Answer) and told.endpoints:
        if not leaves_ipv4(belief.endpoints, told.endpoints):
            return _named(belief, told, now, policy, jitter)
        if told.complete:
            doubted = _nothing_left(belief, now, policy, jitter, of="ipv4")
            if doubted.belief.endpoints:
                return doubted
            merged = _named(doubted.belief, told, now, policy, jitter)
            return replace(merged, changed=True)
    elif isinstance(told, NameNotFound | NoData) or (isinstance(told, Answer) and told.complete):
        return _nothing_left(belief, now, policy, jitter, of="all")
    return _failed(belief, policy, jitter)


def believe(
    belief: Belief,
    told: Answer | ResolveError,
    *,
    now: float,
    policy: RefreshPolicy,
    jitter: float = 0.0,
) -> Decision:
    """
    Judge what a source *told* by itself, which comes sooner than what is asked for, and is of the same kind.

    1. An answer that names somebody is the truth of this moment: whoever is in it is there, and nobody else.
    2. An answer that nothing is left is held as for `decide`, by the clock, since a rollout may leave nobody
       ready for a moment: the word stands until there is another one.
    3. An answer with a gap, and an error, are judged as by `decide`; nobody is asked again for it.

    Args: As of `decide`.
    """
    if isinstance(told, Answer) and told.endpoints and told.complete:
        changed = told.endpoints != belief.endpoints
        named = told.endpoints if changed else belief.endpoints
        return Decision(Belief(named, now), "fresh", math.inf, changed)
    decision = decide(belief, told, now=now, policy=policy, jitter=jitter)
    is_held = decision.belief.endpoints and decision.belief.absence.empty is not None
    if is_held and not decision.belief.failures:
        return decision
    return replace(decision, wait=math.inf)


def _named(
    belief: Belief, answer: Answer, now: float, policy: RefreshPolicy, jitter: float
) -> Decision:
    """
    An answer with endpoints in it: believe what it names, doubt what it leaves out.
    """
    # The tuple that is believed, where they are equal: then all later comparisons are of identities.
    named = belief.endpoints if answer.endpoints == belief.endpoints else answer.endpoints
    word = judge(belief.age, named, answer.ttl, believed=belief.endpoints, now=now)
    after = replace(
        belief,
        failures=0,
        resolved_at=now,
        absence=Absence(belief.absence.missing),
        age=belief.age.after(named, word, now),
    )
    # Caches that were filled within a second of each other make the expiry of one and the same answer
    # move about a little; so what is repeated counts, too.
    if word.is_newest or word.is_repeated or not belief.endpoints:
        after = _merged(after, named, answer, word, now, policy)
    else:
        after = _older(after, named, word, now)
    # Nobody asks sooner for the sake of those who may not leave soon.
    missing = after.absence.missing.keys() - after.disputes.until
    doubtful = bool(missing) and answer.complete and not after.samples.are_drawn
    wait = pace.after_answer(answer.ttl, policy, jitter, doubtful=doubtful)
    return Decision(after, "fresh", wait, after.endpoints != belief.endpoints)


def _merged(
    belief: Belief,
    named: tuple[Endpoint, ...],
    answer: Answer,
    word: Word,
    now: float,
    policy: RefreshPolicy,
) -> Belief:
    """
    Return what is believed of the endpoints once *named* were.
    """
    samples = belief.samples
    if answer.complete:
        samples = samples.hear(named, is_new=word.is_first)
    else:
        samples = Samples(samples.absences, are_drawn=answer.gap == "sample")
    if named == belief.endpoints:
        disputes = belief.disputes.after((), (), now)
        samples = samples.after((), is_sample=False)
        return replace(belief, absence=Absence(), disputes=disputes, samples=samples)
    counts = answer.complete and not samples.are_drawn
    lost, found = differing(belief.endpoints, named)
    returned = belief.age.returned(found)
    disputes = belief.disputes.after(_soon(returned, now), [e.name for e in lost], now)
    endpoints, missing = walk(
        belief.absence,
        belief.endpoints,
        named,
        counts=counts,
        confirm=policy.confirm,
        younger=belief.age.younger,
        returned=returned,
        stays=partial(disputes.stays, now=now),
    )
    is_sample = not counts and answer.gap != "targets" and not word.is_repeated
    absent = () if counts else missing
    samples = samples.after(absent, is_sample=is_sample)
    gone = samples.gone(belief.samples, size=len(named), total=len(endpoints), is_sample=is_sample)
    if gone:
        leavers = set(gone)
        endpoints = tuple([e for e in endpoints if e.name not in leavers])
        missing = {name: times for name, times in missing.items() if name not in leavers}
    after = replace(
        belief,
        absence=Absence(MappingProxyType(missing)),
        disputes=disputes,
        samples=samples.without(gone),
    )
    if endpoints == belief.endpoints:
        return after
    removed, _ = differing(belief.endpoints, endpoints)
    return replace(after, endpoints=endpoints, age=belief.age.after_removal(removed, now))


def _older(belief: Belief, named: tuple[Endpoint, ...], word: Word, now: float) -> Belief:
    """
    Return what is believed after an answer that is older than another: it can only speak for somebody.
    """
    absence, disputes = belief.absence, belief.disputes
    if absence.missing:
        if word.is_as_young:
            absence = absence.seen(named)
        elif word.is_first and disputes.until:
            absence = absence.seen(tuple([e for e in named if e.name in disputes.until]))
    if not word.strangers:
        return replace(belief, absence=absence)
    endpoints, gone = joined(belief.endpoints, word.strangers)
    returned = belief.age.returned(word.strangers)
    return replace(
        belief,
        endpoints=endpoints,
        absence=absence.seen(tuple(gone)),
        disputes=disputes.after(_soon(returned, now), absence.missing, now),
        age=belief.age.after_removal(gone, now) if gone else belief.age,
    )


def _soon(returned: Mapping[Endpoint, float], now: float) -> list[str]:
    """
    Return the names of those who have *returned* soon after they had left.
    """
    return [e.name for e, at in returned.items() if now - at <= RETURNED]


def _nothing_left(
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
    spell = belief.absence.told_nothing(of, now, after_failures=belief.failures > 0)
    after = replace(belief, absence=Absence(belief.absence.missing, spell), failures=0)
    hold = policy.empty_hold if of == "all" else min(policy.empty_hold, MOST_FAMILY_HOLD)
    changed = bool(belief.endpoints) and spell.is_believed(hold)
    if changed:
        after = replace(
            after,
            endpoints=(),
            absence=Absence(empty=spell),
            samples=Samples(),
            age=belief.age.after_removal(belief.endpoints, now),
        )
    # Whoever holds on, or has nothing yet, wants to know soon; but not for ever.
    settled = not after.endpoints and (
        after.resolved_at is not None or spell.is_believed(policy.empty_hold)
    )
    wait = policy.interval if settled else policy.shortest
    return Decision(after, _unconfirmed(after), pace.spread(wait, policy, jitter), changed)


def _failed(belief: Belief, policy: RefreshPolicy, jitter: float) -> Decision:
    """
    No answer: nothing is believed, and nothing that was heard before is forgotten.
    """
    spell = belief.absence.empty
    empty = spell is not None and spell.is_believed(policy.empty_hold)
    failures = belief.failures + 1
    starting = belief.resolved_at is None and not empty
    wait = pace.after_failure(failures, policy, jitter, starting=starting)
    after = replace(belief, failures=failures)
    return Decision(after, _unconfirmed(after), wait)


def _unconfirmed(belief: Belief) -> State:
    """
    The state of a ring whose last lookup did not confirm anything.
    """
    if belief.endpoints:
        return "stale"
    return "starting" if belief.resolved_at is None else "empty"
