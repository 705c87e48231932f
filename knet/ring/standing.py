"""
`Standing`: all that a ring has to tell at one moment, frozen.

Pure. The life of a ring replaces its standing by one assignment, so whoever reads it, in whatever
task or thread, reads things that belong together. `RingStats` is what an operator asks of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from knet.answer import Answer, Gap
from knet.belief import Belief, Decision, State
from knet.errors import ResolveError
from knet.question import Question
from knet.ring.words import on_one_line, text_of
from knet.snapshot import Snapshot

__all__ = ["RingStats", "Standing"]

_NO_FAILURES: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RingStats:
    """
    What an operator asks of a ring.

    Attributes:
        state: As `Ring.state`.
        endpoints: How many it serves.
        held: How many of them the last answer left out, and are kept until that is confirmed.
        generation: How many snapshots there have been.
        disputed: How many of them left and came back within a minute in the last ten. They leave only
            when they have been missing for a minute.
        gap: Why pods may be missing from the last answer, as `Answer.gap`: `""`, `"cut off"`, `"targets"`
            or `"sample"`, which a ring also recognises. Such an answer adds pods and removes none.
        gap_reason: The same for a person: which SRV target failed, and how.
        ignored: How many records of the last answer were left out: foreign, unusable or malformed.
        lookups: How many lookups it has taken part in: rings of one name share them.
        failures: How many of them failed, by `ResolveError.kind`.
        consecutive_failures: How many of the last ones failed in a row.
        last_error: How the last lookup failed, on one line and not for long; `None` after an answer
            that names somebody.
        source: Who is asked or tells at the moment: `"Resolver"`, `"EndpointSlices"`, the class of another.
        alive: Whether a source that tells by itself can tell now, `None` where it is asked.
        ejected: How many endpoints are skipped now, by this ring's own experience.
        in_flight: How many attempts and acquired places there are now.
        ejections: How many times an endpoint was ejected.
        attempts: How many attempts have begun: tries of requests, by `call`, `attempts` and all that is made of
            them.
        errors: How many of them failed, by kind: `"refused"`, `"connect_timeout"`, `"busy"` (the client's own
            pool was full), `"broken"`, `"told"` (by `Attempts.next`), `"late"` (`total` was over) or `"other"`.
        failovers: After how many of those the request was to go on with another pod, by kind.
        changes: How many snapshots have replaced one before.
        moved: What part of all keys each of them moved, added up: 2.5 is two and a half times all keys. It follows
            a change by some milliseconds.
        last_success_age: Seconds since an answer last named an endpoint, to the millisecond, or `None`.
        query_seconds: How long the last lookup took, to the microsecond, or `None`.
    """

    state: State
    endpoints: int
    held: int
    disputed: int
    generation: int
    gap: Gap
    gap_reason: str
    ignored: int
    lookups: int
    failures: Mapping[str, int]
    consecutive_failures: int
    last_error: str | None
    last_success_age: float | None
    query_seconds: float | None
    source: str = ""
    alive: bool | None = None
    ejected: int = 0
    in_flight: int = 0
    ejections: int = 0
    attempts: int = 0
    errors: Mapping[str, int] = field(default_factory=lambda: _NO_FAILURES)
    failovers: Mapping[str, int] = field(default_factory=lambda: _NO_FAILURES)
    changes: int = 0
    moved: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """
        Return the attributes as a new dict that `json.dumps` takes.
        """
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    What a ring knows, and how it came to know it. Times are seconds on its event loop's clock.

    Attributes:
        snapshot: What it serves, or `None`: nothing yet, or no more.
        state: As `Ring.state`.
        belief: What it holds to be true.
        wait: Seconds between the last lookup and the next.
        due: When the next lookup begins, unless somebody asks for it sooner.
        began_at: When the last lookup of this ring began, or `None`.
        heard_at: When the lookup began that told what is known; another ring may have made it.
        query_seconds: How long that took, or `None`.
        lookups: How many there have been.
        failures: How many of them failed, by kind.
        last_error: How the last ones failed, on one line, if nobody was named since.
        gap: Why endpoints may be missing from the last answer.
        gap_reason: The same for a person.
        ignored: How many records were left out of it.
        ended: Why the ring has ended, or `None`.
    """

    snapshot: Snapshot | None = None
    state: State = "starting"
    belief: Belief = field(default_factory=Belief)
    wait: float = 0.0
    due: float = 0.0
    began_at: float | None = None
    heard_at: float = -math.inf
    query_seconds: float | None = None
    lookups: int = 0
    failures: Mapping[str, int] = field(default_factory=lambda: _NO_FAILURES)
    last_error: str | None = None
    gap: Gap = ""
    gap_reason: str = ""
    ignored: int = 0
    ended: str | None = None

    def after(
        self,
        told: Answer | ResolveError,
        decision: Decision,
        snapshot: Snapshot | None,
        *,
        began_at: float,
        asked_at: float,
        told_at: float,
    ) -> Standing:
        """
        Return what stands after a lookup.

        Args:
            told: The answer, or how the lookup failed.
            decision: What follows from it.
            snapshot: Of the endpoints that are believed now.
            began_at: When this ring's lookup began.
            asked_at: When the lookup began that *told*.
            told_at: When that ended.
        """
        # A ring that may be empty has begun with nobody in it.
        is_empty = decision.state == "starting" and snapshot is not None
        after = replace(
            self,
            snapshot=snapshot,
            state="empty" if is_empty else decision.state,
            belief=decision.belief,
            wait=decision.wait,
            due=told_at + decision.wait,
            began_at=began_at,
            heard_at=asked_at,
            query_seconds=told_at - asked_at,
            lookups=self.lookups + 1,
        )
        if isinstance(told, ResolveError):
            # A class of a user's may have anything there.
            kind: object = told.kind
            kind = kind if isinstance(kind, str) else ResolveError.kind
            failures = MappingProxyType({**self.failures, kind: self.failures.get(kind, 0) + 1})
            return replace(after, failures=failures, last_error=on_one_line(text_of(told)))
        if told.endpoints:
            after = replace(after, last_error=None)
        gap: Gap = "sample" if decision.belief.samples.are_drawn else told.gap
        return replace(after, gap=gap, gap_reason=told.gap_reason, ignored=told.ignored)

    def after_end(self, why: str) -> Standing:
        """
        Return what stands once the ring has ended: nothing but its counters, and *why*.
        """
        return replace(self, snapshot=None, state="closed", belief=Belief(), ended=why)

    def stats(self, now: float | None) -> RingStats:
        """
        Return what of it an operator asks for; *now* is `None` where nobody can tell.
        """
        belief, age = self.belief, None
        if belief.resolved_at is not None and now is not None:
            age = round(max(0.0, now - belief.resolved_at), 3)
        return RingStats(
            state=self.state,
            endpoints=len(belief.endpoints),
            held=belief.held,
            disputed=belief.disputed,
            generation=0 if self.snapshot is None else self.snapshot.generation,
            gap=self.gap,
            gap_reason=self.gap_reason,
            ignored=self.ignored,
            lookups=self.lookups,
            failures=self.failures,
            consecutive_failures=belief.failures,
            last_error=self.last_error,
            last_success_age=age,
            query_seconds=None if self.query_seconds is None else round(self.query_seconds, 6),
        )

    def told_of(self, question: Question) -> str:
        """
        Return the line that says how a ring that asked *question* stands: its `repr`.
        """
        known = self.snapshot
        return (
            f"<Ring {question.service!r} generation={known.generation if known else 0} "
            f"endpoints={len(known.endpoints) if known else 0} state={self.state}>"
        )
