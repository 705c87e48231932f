"""
`decide` against arbitrary weather: truths, lies, caches that were filled long ago, a replica that has
lost its watch, samples, cut-off answers, losses and delays.

A model keeps the facts that the promises are made of: what was ever named, and when anybody last
named anything. Whatever comes in whatever order, the promises hold after every step.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from knet import (
    Answer,
    Endpoint,
    MalformedAnswer,
    NameNotFound,
    NoData,
    QueryRefused,
    RefreshPolicy,
    ResolveError,
    ResolveTimeout,
    ServerFailure,
)
from knet.belief import Belief, Decision, decide
from knet.belief.age import LEAST_FILLS
from knet.belief.disputes import LEAST_UNNAMED

# Five pods, of which each may come back with another address, which may have been another one's.
PODS = [Endpoint(f"web-{n}", f"10.0.0.{n + 1 + move}", 80) for n in range(5) for move in (0, 1)]
LOSSES = [ServerFailure("SERVFAIL"), ResolveTimeout("timeout"), QueryRefused("REFUSED")]
NOTHING: list[Answer | ResolveError] = [NameNotFound("NXDOMAIN"), NoData("NODATA"), Answer()]

# Nobody takes what a live server says for older than what was heard before for longer than this.
FORGOTTEN = 120.0
# Nor is it disputed for longer whether somebody is there whom nobody names.
DISPUTED = 60.0

# Seconds, of the caches between a ring and the truth.
TTLS = (5, 30, 300, 3600)


def some_pods(*, least: int = 0) -> st.SearchStrategy[tuple[Endpoint, ...]]:
    return st.lists(
        st.sampled_from(PODS),
        min_size=least,
        max_size=5,
        unique_by=(lambda e: e.name, lambda e: e.address),
    ).map(tuple)


class Weather(RuleBasedStateMachine):
    """
    A believer, and what the world says to it.
    """

    @initialize(
        interval=st.sampled_from([0.5, 5.0, 60.0]),
        empty_hold=st.sampled_from([0.0, 10.0, 30.0]),
        confirm=st.integers(1, 4),
        truth=some_pods(least=1),
    )
    def begin(
        self, interval: float, empty_hold: float, confirm: int, truth: tuple[Endpoint, ...]
    ) -> None:
        self.policy = RefreshPolicy(interval=interval, empty_hold=empty_hold, confirm=confirm)
        self.now = 1000.0
        self.belief = Belief()
        self.truth = truth
        self.ever_named: set[Endpoint] = set()
        self.named_at = self.now
        self.missed: Counter[Endpoint] = Counter()
        self.frozen = truth
        self.caches = {ttl: (truth, self.now + ttl) for ttl in TTLS}

    def hear(self, outcome: Answer | ResolveError, jitter: float = 0.5) -> Decision:
        """
        Decide about *outcome*, and check what must hold of every decision.
        """
        if isinstance(outcome, Answer) and outcome.endpoints:
            self.ever_named.update(outcome.endpoints)
            self.named_at = self.now
        before = self.belief
        decision = decide(before, outcome, now=self.now, policy=self.policy, jitter=jitter)
        again = decide(before, outcome, now=self.now, policy=self.policy, jitter=jitter)
        assert decision == again
        assert decision.wait >= min(self.policy.shortest, self.policy.retry / 2)
        assert decision.wait <= max(self.policy.interval * 1.1, self.policy.max_retry)
        if before.endpoints:
            after = decision.belief.endpoints
            lost = {e.name for e in before.endpoints} - {e.name for e in after}
            self.count(outcome, before.endpoints, after)
            assert not lost or decision.belief.endpoints or not outcome_names(outcome)
            if isinstance(outcome, Answer) and not outcome.complete:
                # But for who has made room.
                taken = {e.address for e in outcome.endpoints}
                assert all(e.address in taken for e in before.endpoints if e.name in lost)
            if not isinstance(outcome, Answer | NameNotFound | NoData):
                assert decision.belief.endpoints is before.endpoints
        if decision.belief.endpoints == before.endpoints:
            assert decision.belief.endpoints is before.endpoints
        self.belief = decision.belief
        return decision

    def count(
        self,
        outcome: Answer | ResolveError,
        before: tuple[Endpoint, ...],
        after: tuple[Endpoint, ...],
    ) -> None:
        """
        No answer removes whom it names, or who was not left out often enough.
        """
        left = set(before) - set(after)
        if isinstance(outcome, Answer) and outcome.endpoints:
            assert not left & set(outcome.endpoints)
            if outcome.complete:
                self.missed.update(set(before) - set(outcome.endpoints))
            names = {e.name for e in after}
            taken = {e.address for e in outcome.endpoints}
            for endpoint in left:
                moved = endpoint.name in names or endpoint.address in taken
                assert moved or self.missed[endpoint] >= self.policy.confirm
        for endpoint in left.union(set(after) - set(before)):
            del self.missed[endpoint]

    @rule(truth=some_pods())
    def the_truth_changes(self, truth: tuple[Endpoint, ...]) -> None:
        self.truth = truth

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(ttl=st.sampled_from(TTLS), times=st.integers(1, 3), jitter=st.floats(0, 0.999))
    def a_cache_answers(self, ttl: int, times: int, jitter: float) -> None:
        """
        What it was told when it asked last.
        """
        for _ in range(times):
            held, expires_at = self.caches[ttl]
            if self.now >= expires_at:
                held, expires_at = self.caches[ttl] = self.truth, self.now + ttl
            answer = Answer(held, ttl=int(expires_at - self.now)) if held else NOTHING[1]
            self.now += self.hear(answer, jitter).wait

    @rule(freezes=st.booleans(), turns=st.lists(st.booleans(), min_size=1, max_size=8))
    def a_frozen_replica_answers(self, freezes: bool, turns: list[bool]) -> None:
        """
        In turns with one that lives.
        """
        if freezes:
            self.frozen = self.truth
        for is_frozen in turns:
            named = self.frozen if is_frozen else self.truth
            self.now += self.hear(Answer(named, ttl=30) if named else NOTHING[0]).wait

    @rule(times=st.integers(1, 8), some=st.integers(1, 4), seed=st.integers(0, 2**16))
    def some_are_drawn(self, times: int, some: int, seed: int) -> None:
        """
        A server names a few of those who are there.
        """
        chance = random.Random(seed)
        for _ in range(times):
            named = chance.sample(self.truth, min(some, len(self.truth)))
            self.now += self.hear(Answer(named, ttl=30) if named else NOTHING[0]).wait

    @rule(ttl=st.one_of(st.none(), st.integers(0, 3600)), jitter=st.floats(0, 0.999))
    def somebody_tells_the_truth(self, ttl: int | None, jitter: float) -> None:
        self.hear(Answer(self.truth, ttl) if self.truth else NOTHING[0], jitter)

    @rule(lie=some_pods(), ttl=st.integers(-1, 2**32), complete=st.booleans())
    def somebody_lies(self, lie: tuple[Endpoint, ...], ttl: int, complete: bool) -> None:
        self.hear(Answer(lie, ttl, gap="" if complete else "targets"))

    @rule(nothing=st.sampled_from(NOTHING))
    def somebody_says_that_there_is_nothing(self, nothing: Answer | ResolveError) -> None:
        self.hear(nothing)

    @rule(loss=st.sampled_from([*LOSSES, MalformedAnswer("garbage")]), times=st.integers(1, 2000))
    def nobody_answers(self, loss: ResolveError, times: int) -> None:
        for _ in range(min(times, 5)):
            self.hear(loss)
        self.belief = Belief(
            **{f: getattr(self.belief, f) for f in Belief.__slots__ if f != "failures"},
            failures=times,
        )
        self.hear(loss)

    @rule()
    def the_weather_clears(self) -> None:
        """
        A bounded number of good answers is enough, whatever was heard before; and then nothing changes.
        """
        step = max(self.policy.shortest, self.policy.empty_hold / 2 + 1e-6, 12.0)
        most = math.ceil(FORGOTTEN / step) + 2 * LEAST_FILLS
        most += math.ceil(DISPUTED / step) + LEAST_UNNAMED
        most += max(3, self.policy.confirm)
        for number in range(most + 3):
            self.hear(Answer(self.truth, 5) if self.truth else NOTHING[0])
            is_believed = set(self.belief.endpoints) == set(self.truth)
            assert is_believed or number < most
            if is_believed and number >= 3:
                break
            self.now += step

    @invariant()
    def nothing_is_served_that_no_answer_named(self) -> None:
        assert set(self.belief.endpoints) <= self.ever_named

    @invariant()
    def nothing_is_served_twice_or_out_of_order(self) -> None:
        names = [e.name for e in self.belief.endpoints]
        assert names == sorted(set(names))
        # Nor are two at one address, which placements by address refuse.
        assert len({e.address for e in self.belief.endpoints}) == len(names)

    @invariant()
    def a_ring_is_not_emptied_within_the_hold(self) -> None:
        if self.ever_named and self.now - self.named_at < self.policy.empty_hold:
            assert self.belief.endpoints

    @invariant()
    def what_is_held_is_served(self) -> None:
        assert set(self.belief.absence.missing) <= {e.name for e in self.belief.endpoints}


def outcome_names(outcome: Answer | ResolveError) -> bool:
    return isinstance(outcome, Answer) and bool(outcome.endpoints)


# Ten thousand are the same ones each time, so that they tell of a change in the code and not of luck;
# the few of every day are new each time, and so look further.
MANY = os.environ.get("KNET_WEATHER_EXAMPLES")

TestWeather = Weather.TestCase
TestWeather.settings = settings(
    max_examples=int(MANY or "100"),
    derandomize=MANY is not None,
    stateful_step_count=30,
    deadline=None,
)
