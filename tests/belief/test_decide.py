"""
What is believed and when to ask again, as tables of facts: no clock, no loop, no network.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet import (
    Answer,
    ConfigError,
    Endpoint,
    NameNotFound,
    NoData,
    RefreshPolicy,
    ResolveError,
    ResolveTimeout,
    ServerFailure,
)
from knet.belief import Belief, Decision, decide
from tests.fakes import A, B, C, D, endpoints

POLICY = RefreshPolicy()
NOT_THERE = NameNotFound("NXDOMAIN")
FAILURE = ServerFailure("SERVFAIL")


def after(
    *outcomes: Answer | ResolveError | float,
    policy: RefreshPolicy = POLICY,
    belief: Belief | None = None,
) -> Decision:
    """
    Decide about each outcome in turn; a number between them is the time that passes.
    """
    now = 0.0
    decision = Decision(belief or Belief(), "starting", 0.0)
    for outcome in outcomes:
        if isinstance(outcome, int | float):
            now += outcome
        else:
            decision = decide(decision.belief, outcome, now=now, policy=policy)
    return decision


def test_the_first_answer_is_believed() -> None:
    """
    There is nothing better to believe.
    """
    decision = after(Answer([B, A], ttl=5))

    assert decision.belief.endpoints == (A, B)
    assert decision.state == "fresh"


def test_an_unchanged_answer_changes_nothing() -> None:
    """
    The endpoints stay the very same tuple, which is how a ring knows that it need not build.
    """
    believed = after(Answer([A, B])).belief

    again = after(Answer([B, A]), belief=believed).belief

    assert again.endpoints is believed.endpoints


def test_an_addition_is_believed_at_once() -> None:
    """
    Whoever names a pod has seen it.
    """
    assert after(Answer([A]), 5, Answer([A, B])).belief.endpoints == (A, B)


def test_endpoints_that_stay_stay_the_same_objects() -> None:
    """
    Snapshots can be compared by identity, which is fifty times quicker.
    """
    believed = after(Answer([A])).belief
    copy = Endpoint(A.name, A.address, A.port)

    changed = after(Answer([copy, B]), belief=believed).belief

    assert changed.endpoints[0] is A


@pytest.mark.weather("A pod is missing from one answer")
def test_a_removal_is_believed_when_it_is_confirmed() -> None:
    """
    One answer without a pod may be a cache that is behind; the next is asked for soon.
    """
    once = after(Answer([A, B]), 5, Answer([A]))
    twice = after(Answer([A, B]), 5, Answer([A]), 1, Answer([A]))

    assert once.belief.endpoints == (A, B)
    assert once.belief.absence.missing == {"b": 1}
    assert once.wait == POLICY.min_interval
    assert twice.belief.endpoints == (A,)
    assert twice.belief.absence.missing == {}
    assert twice.wait == POLICY.interval


def test_a_pod_that_comes_back_was_never_away() -> None:
    """
    The answers without a pod must be consecutive.
    """
    decision = after(Answer([A, B]), 5, Answer([A]), 1, Answer([A, B]), 5, Answer([A]))

    assert decision.belief.endpoints == (A, B)


@pytest.mark.weather("Most pods vanish at once")
def test_a_mass_disappearance_is_asked_about_again() -> None:
    """
    Slices arrive one by one: most of the pods may be missing from one answer.
    """
    decision = after(Answer([A, B, C, D]), 5, Answer([A]))

    assert decision.belief.endpoints == (A, B, C, D)
    assert decision.wait == POLICY.min_interval


def test_one_word_is_enough_where_the_policy_says_so() -> None:
    """
    `confirm=1` trusts the first answer.
    """
    policy = RefreshPolicy(confirm=1)

    assert after(Answer([A, B]), 5, Answer([A]), policy=policy).belief.endpoints == (A,)


@pytest.mark.weather("The answer is as large as DNS can carry")
def test_an_answer_that_was_cut_off_removes_nothing() -> None:
    """
    It adds what it names, however often it comes.
    """
    partial = Answer([B, C], gap="targets")

    decision = after(Answer([A, B]), 5, partial, 5, partial, 5, partial)

    assert decision.belief.endpoints == (A, B, C)
    assert decision.wait == POLICY.interval


def test_an_answer_that_was_cut_off_at_nothing_is_a_failure() -> None:
    """
    It does not say that there is nothing.
    """
    nothing_left = Answer([], gap="targets")
    policy = RefreshPolicy(empty_hold=0)

    decision = after(Answer([A]), *[nothing_left] * 9, policy=policy)

    assert (decision.belief.endpoints, decision.belief.failures) == ((A,), 9)


def test_a_pod_with_a_new_address_is_replaced_at_once() -> None:
    """
    A StatefulSet's pod keeps its name; its old address answers no more.
    """
    moved = Endpoint("a", "10.0.0.99", 80)

    assert after(Answer([A, B]), 5, Answer([moved, B])).belief.endpoints == (moved, B)


@pytest.mark.parametrize("nothing", [NOT_THERE, NoData("NODATA"), Answer([])])
@pytest.mark.weather("NXDOMAIN or an empty answer")
def test_nothing_is_held_before_it_is_believed(nothing: Answer | ResolveError) -> None:
    """
    A blip of NXDOMAIN or NODATA is not felt within the hold.
    """
    held = after(Answer([A]), 5, nothing, 1, nothing, 1, nothing, 27, nothing)
    empty = after(Answer([A]), 5, nothing, 1, nothing, 29, nothing)

    assert (held.belief.endpoints, held.state) == ((A,), "stale")
    assert held.wait == POLICY.min_interval
    assert (empty.belief.endpoints, empty.state) == ((), "empty")
    assert empty.wait == POLICY.interval


@pytest.mark.weather("NXDOMAIN or an empty answer")
def test_an_empty_ring_takes_more_than_one_liar() -> None:
    """
    However much time has passed, three answers in a row have to say so.
    """
    policy = RefreshPolicy(empty_hold=0)

    assert after(Answer([A]), NOT_THERE, 99, NOT_THERE, policy=policy).state == "stale"
    assert after(Answer([A]), NOT_THERE, NOT_THERE, NOT_THERE, policy=policy).state == "empty"


@pytest.mark.weather("NXDOMAIN or an empty answer")
def test_a_hold_without_end_never_empties() -> None:
    """
    `math.inf` means never.
    """
    policy = RefreshPolicy(empty_hold=math.inf)
    outcomes = [x for _ in range(50) for x in (3600, NOT_THERE)]

    assert after(Answer([A]), *outcomes, policy=policy).belief.endpoints == (A,)


def test_an_answer_ends_the_hold() -> None:
    """
    Each run of emptiness is timed for itself.
    """
    decision = after(
        *(Answer([A]), 5, NOT_THERE, 20, NOT_THERE, 1, Answer([A])),
        *(5, NOT_THERE, 20, NOT_THERE, 5, NOT_THERE),
    )

    assert decision.belief.endpoints == (A,)


def test_a_ring_that_was_emptied_refills_at_once() -> None:
    """
    Nobody waits for a confirmation of good news.
    """
    emptied = after(Answer([A]), NOT_THERE, 30, NOT_THERE, NOT_THERE).belief

    decision = after(Answer([B]), belief=emptied)

    assert (decision.belief.endpoints, decision.state) == ((B,), "fresh")


def test_a_failure_changes_nothing_but_the_time() -> None:
    """
    Silence, SERVFAIL and garbage are no answers.
    """
    decision = after(Answer([A, B]), 5, FAILURE, 5, ResolveTimeout("timeout"))

    assert decision.belief.endpoints == (A, B)
    assert decision.belief.failures == 2
    assert decision.state == "stale"


def test_failures_neither_confirm_nor_deny_that_something_is_missing() -> None:
    """
    Between two answers they leave no trace.
    """
    decision = after(Answer([A, B]), 5, Answer([A]), FAILURE, Answer([A]))

    assert decision.belief.endpoints == (A,)
    assert decision.belief.failures == 0


@pytest.mark.weather("NXDOMAIN or an empty answer")
def test_an_outage_does_not_count_towards_the_hold() -> None:
    """
    Time in which nobody answered says nothing about the pods.
    """
    decision = after(
        *(Answer([A]), 5, NOT_THERE, 1, NOT_THERE),
        *(1, FAILURE, 600, FAILURE, 1, NOT_THERE),
    )

    assert decision.belief.endpoints == (A,)


@pytest.mark.weather("NXDOMAIN or an empty answer")
@pytest.mark.parametrize(
    ("loss", "median", "most"), [(0, 31, 31), (0.05, 31, 35), (0.2, 32, 45), (0.5, 40, 300)]
)
def test_a_service_that_was_scaled_to_zero_is_empty_soon(
    loss: float, median: float, most: float
) -> None:
    """
    While some lookups fail: half a minute in the median, and some minutes where half of them do and the
    waits after failures grow.
    """
    took = []
    for seed in range(100):
        rng = random.Random(seed)
        belief, now, wait = after(Answer([A], 5)).belief, 5.0, 0.0
        while belief.endpoints:
            now += wait
            told = FAILURE if rng.random() < loss else NOT_THERE
            decision = decide(belief, told, now=now, policy=POLICY, jitter=rng.random())
            belief, wait = decision.belief, decision.wait
        took.append(now - 5.0)

    took.sort()
    assert POLICY.empty_hold * 0.8 <= took[0]
    assert took[50] <= median
    assert took[-1] <= most


@pytest.mark.weather("NXDOMAIN or an empty answer")
def test_an_outage_after_the_first_word_does_not_empty_a_ring_when_it_ends() -> None:
    """
    One NXDOMAIN, an hour of SERVFAIL, NXDOMAIN again: a server that has not heard of its API yet.
    """
    hour = [x for _ in range(120) for x in (30, FAILURE)]
    begun = (Answer([A]), 5, NOT_THERE, *hour, 30, NOT_THERE)
    words = [x for _ in range(24) for x in (1, NOT_THERE)]

    assert after(*begun, *words).belief.endpoints == (A,)
    assert after(*begun, *words, 1, NOT_THERE, 1, NOT_THERE).belief.endpoints == ()


def test_a_ring_that_never_had_an_answer_is_starting() -> None:
    """
    Neither failures nor NXDOMAIN make it stale or empty.
    """
    assert after(FAILURE, FAILURE).state == "starting"
    assert after(NOT_THERE).wait == POLICY.min_interval
    assert after(NOT_THERE, 60, NOT_THERE, 60, NOT_THERE).state == "starting"


@pytest.mark.parametrize(
    ("ttl", "wait"),
    [(None, 5), (30, 5), (5, 5), (3, 3), (1, 1), (0.2, 1), (0, 1), (-1, 1), (2**31, 5)],
)
@pytest.mark.weather("A TTL of 0, a huge or a negative one")
def test_a_ttl_shortens_the_interval_within_limits(ttl: float | None, wait: float) -> None:
    """
    Asking earlier than a cache expires is useless, asking later is late.
    """
    assert after(Answer([A], ttl)).wait == wait


@pytest.mark.parametrize(
    ("failures", "wait"), [(1, 0.25), (2, 1), (3, 1), (4, 2), (7, 15), (8, 15), (5000, 15)]
)
def test_retries_back_off(failures: int, wait: float) -> None:
    """
    Doubling from `retry` to `max_retry`, halved where the jitter is least; never overflowing. Only the
    first one may come before `min_interval` is over.
    """
    assert after(FAILURE, belief=Belief((A,), failures=failures - 1, resolved_at=0)).wait == wait


def test_a_start_is_tried_again_soon() -> None:
    """
    A DNS that is back after 8 s must not fail a program that waits for 10.
    """
    policy = RefreshPolicy(retry=0.5, max_retry=30)

    assert decide(Belief(failures=9), FAILURE, now=0, policy=policy, jitter=0.999).wait <= 2
    assert decide(Belief((A,), failures=9, resolved_at=0), FAILURE, now=0, policy=policy).wait == 15


@given(jitter=st.floats(0, 1, exclude_max=True), failures=st.integers(0, 100))
def test_jitter_spreads_without_hurry(jitter: float, failures: int) -> None:
    """
    After success a wait is never shorter than planned, after failure never shorter than half.
    """
    good = decide(Belief(), Answer([A]), now=0, policy=POLICY, jitter=jitter)
    known = Belief((A,), failures=failures, resolved_at=0)
    bad = decide(known, FAILURE, now=0, policy=POLICY, jitter=jitter)

    assert 5 <= good.wait < 5.5 + 1e-9
    planned = min(0.5 * 2.0**failures, 30)
    assert planned / 2 <= bad.wait <= planned


def test_an_interval_below_the_least_counts() -> None:
    """
    Who asks for a short interval gets it without setting `min_interval` as well.
    """
    policy = RefreshPolicy(interval=0.2)

    assert after(Answer([A]), policy=policy).wait == 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": 0},
        {"interval": -1},
        {"interval": math.inf},
        {"interval": math.nan},
        {"min_interval": 0},
        {"interval": 1, "min_interval": 5},
        {"min_interval": 6},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"retry": 0},
        {"retry": 60},
        {"max_retry": 0.1},
        {"empty_hold": -1},
        {"empty_hold": math.nan},
        {"confirm": 0},
    ],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    """
    The message names the option.
    """
    option = list(wrong)[-1]

    with pytest.raises(ConfigError, match="retry" if option in ("retry", "max_retry") else option):
        RefreshPolicy(**wrong)  # type: ignore[arg-type]


def test_caches_that_were_filled_within_a_second_are_not_told_apart_by_their_ttl() -> None:
    """
    The change was between the two, and TTLs are rounded up: what came before looks as young.
    """
    old, new = (A, B, C), (A, B, D)
    expires = {old: 30.0, new: 30.5}
    belief = after(Answer(old, 30)).belief
    snapshots = [belief.endpoints]
    for now, named in ((1.6, new), (2.65, old), (3.7, old), (4.75, new), (5.8, new)):
        answer = Answer(named, math.ceil(expires[named] - now))
        belief = decide(belief, answer, now=now, policy=POLICY).belief
        if belief.endpoints is not snapshots[-1]:
            snapshots.append(belief.endpoints)

    assert snapshots == [old, (A, B, C, D), new]


@pytest.mark.parametrize("ttl", [None, 0])
def test_answers_that_nobody_may_keep_are_believed_however_soon_they_come(ttl: int | None) -> None:
    """
    What a registry or a server without caches takes back after a moment is taken back.
    """
    both, one = Answer([A, B], ttl), Answer([A], ttl)

    assert after(both, 0.1, one, 0.1, one, 0.1, both).belief.endpoints == (A, B)


@pytest.mark.parametrize("pause", [0.05, 0.2, 0.9, 1.1])
def test_a_replica_that_knows_less_removes_nobody(pause: float) -> None:
    """
    It has lost the API, and half of all queries go to it; both say that they are good for 30 s.
    """
    policy = RefreshPolicy(interval=pause, min_interval=pause)
    belief = after(Answer([A, B, C, D], 30), policy=policy).belief
    for number in range(1, 400):
        answer = Answer([A, B] if number % 2 else [A, B, C, D], 30)
        belief = decide(belief, answer, now=number * pause, policy=policy).belief
        assert belief.endpoints == (A, B, C, D)


# --- two families


SIX = (Endpoint("fd00::1", "fd00::1", 80), Endpoint("fd00::2", "fd00::2", 80))


@pytest.mark.weather("One family of a dual-stack Service fails")
@pytest.mark.parametrize("empty_hold", [30.0, math.inf])
def test_ipv6_alone_counts_as_nothing_until_the_hold_is_over(empty_hold: float) -> None:
    """
    The IPv4 slice of a Service may be missing for a moment; if it is gone, so are the old pods.
    """
    policy = RefreshPolicy(empty_hold=empty_hold)
    held = after(Answer([A, B]), *(5, Answer(SIX)) * 6, policy=policy)
    assert held.belief.endpoints == (A, B)
    assert held.state == "stale"

    back = after(Answer([A, C]), policy=policy, belief=held.belief)
    assert back.belief.endpoints == (A, B, C)
    assert back.state == "fresh"

    moved = after(Answer([A, B]), *(5, Answer(SIX)) * 7, policy=policy)
    assert moved.belief.endpoints == SIX
    assert moved.state == "fresh"


def test_nothing_at_all_and_nothing_of_ipv4_are_different_stories() -> None:
    """
    Neither counts towards the hold of the other.
    """
    held = after(Answer([A, B]), *(5, Answer(SIX)) * 5, 5, NOT_THERE, 1, NOT_THERE)
    assert held.belief.endpoints == (A, B)

    never = RefreshPolicy(empty_hold=math.inf)
    held = after(Answer([A, B]), *(5, NOT_THERE) * 100, 1, Answer(SIX), policy=never)
    assert held.belief.endpoints == (A, B)


def test_ipv6_alone_in_an_incomplete_answer_is_a_failure() -> None:
    """
    The addresses of both families were on their way, and those of one got lost.
    """
    decision = after(Answer([A, B]), *(5, Answer(SIX, gap="targets")) * 100)

    assert decision.belief.endpoints == (A, B)
    assert decision.state == "stale"


def test_a_mixture_and_a_return_to_ipv4_are_believed_at_once() -> None:
    """
    Only what would move every key is doubted.
    """
    assert after(Answer([A]), 5, Answer([B, *SIX])).belief.endpoints == (A, B, *SIX)
    assert after(Answer(SIX), 5, Answer([A])).belief.endpoints == (A, *SIX)


# --- addresses that change hands


def test_a_pod_whose_address_is_another_pods_is_not_held() -> None:
    """
    It needs no second word, and placements that hash addresses cannot have both.
    """
    moved = Endpoint("b", A.address, 80)

    assert after(Answer([A, B]), 5, Answer([moved])).belief.endpoints == (moved,)


# --- answers that blink


def test_an_older_answer_has_no_news() -> None:
    """
    It adds nothing, removes nothing and brings no old address back, however often it comes.
    """
    moved = Endpoint("b", "10.0.0.99", 80)
    old, new = Answer([A, B], ttl=10), Answer([moved, C], ttl=30)

    decision = after(Answer([A, B], ttl=11), 1, new, 1, old, 1, old, 1, old)

    assert decision.belief.endpoints == (A, moved, C)
    assert decision.belief.absence.missing == {"a": 1}
    assert decision.state == "fresh"


def test_an_answer_is_old_only_until_it_cannot_be() -> None:
    """
    When the newest answer has expired, whoever is left speaks the truth.
    """
    decision = after(Answer([A, B], ttl=30), 28, Answer([A], ttl=0), 1, Answer([A], ttl=0))
    late = after(Answer([A, B], ttl=30), 30, Answer([A], ttl=0), 1, Answer([A], ttl=0))

    assert decision.belief.endpoints == (A, B)
    assert late.belief.endpoints == (A,)


@pytest.mark.weather("A TTL of 0, a huge or a negative one")
def test_a_ttl_without_measure_does_not_blind_a_ring() -> None:
    """
    After an answer that claims to be good for a week, others are believed within a minute.
    """
    decision = after(Answer([A, B], ttl=604_800), 61, Answer([A], ttl=5), 1, Answer([A], ttl=4))

    assert decision.belief.endpoints == (A,)


def test_somebody_whom_nobody_named_before_is_news_however_old_the_answer_looks() -> None:
    """
    A cache that serves expired answers says that they are good for 30 s; what is true then says 5.
    """
    stale, true = Answer([A, B], ttl=30), Answer([C, D], ttl=5)

    decision = after(*(5, Answer([A, B], ttl=5)) * 13, 5, stale, 1, true, 1, Answer([C, D], ttl=4))

    assert decision.belief.endpoints == (C, D)


def test_at_its_beginning_a_ring_knows_of_no_answer_that_it_is_new() -> None:
    """
    It may come from the oldest of many caches, which has not been heard before.
    """
    young, old = Answer([A, B], ttl=30), Answer([A, C], ttl=5)

    decision = after(young, 5, old, 1, Answer([A, C], ttl=4))

    assert decision.belief.endpoints == (A, B, C)


def test_news_of_a_server_that_answers_live_makes_a_cache_older_than_it_says() -> None:
    """
    It was heard before B was there, so it cannot know of it.
    """
    history: list[Answer | ResolveError | float] = [Answer([A], ttl=30)]
    history += [5, Answer([A], ttl=25), 5, Answer([A, B], ttl=5), 5.5, Answer([A], ttl=14)]
    history += [1, Answer([A], ttl=13), 3.5, Answer([A], ttl=10)]
    assert after(*history).belief.endpoints == (A, B)

    warm = (*(20, Answer([A], ttl=5)) * 4, 5)
    assert after(*warm, *history).belief.endpoints == (A, B)
    # And it knows of nobody who was removed since.
    gone = (1, Answer([B, C], ttl=5), 1, Answer([B, C], ttl=5))
    decision = after(*warm, *history, *gone, 1, Answer([A], ttl=7))
    assert decision.belief.endpoints == (B, C)


def test_whom_an_older_answer_added_is_protected_from_one_fill_only() -> None:
    """
    Also where a ring asks so often that each answer expires hardly later than the one before.
    """
    often = RefreshPolicy(interval=0.05, min_interval=0.05)
    young, old = Answer([A], ttl=2), Answer([A, B], ttl=0)
    joined = (young, 0.05, old, *(0.05, young) * 3)
    assert after(*joined, policy=often).belief.endpoints == (A, B)
    assert after(*joined, *(0.05, young) * 40, policy=often).belief.endpoints == (A,)


def test_a_server_may_change_to_a_shorter_ttl() -> None:
    """
    A removal is news to nobody; a minute of older answers is.
    """
    before = (Answer([A, B], ttl=3600), 1)
    minute = (5, Answer([A], ttl=5)) * 12
    assert after(*before, *minute).belief.endpoints == (A, B)
    assert after(*before, *minute, *(5, Answer([A], ttl=5)) * 2).belief.endpoints == (A,)
    # A cache that was filled before counts down, and is one fill for all that time.
    old = [part for n in range(100) for part in (5, Answer([A], ttl=3000 - 5 * n))]
    assert after(*before, *old).belief.endpoints == (A, B)


# --- who is there by one word and gone by another


def test_who_came_back_leaves_less_easily() -> None:
    """
    After 60 s and 8 answers, instead of 2 answers; for 10 minutes.
    """
    both, one = Answer([A, B], ttl=5), Answer([A], ttl=5)
    back = (both, 5, one, 1, one, 5, both)
    assert after(*back[:-2]).belief.endpoints == (A,)

    leaving = after(*back, *(5, one) * 12)
    assert leaving.belief.endpoints == (A, B)
    assert leaving.belief.held == leaving.belief.disputed == 1
    assert leaving.wait == POLICY.interval  # nobody asks sooner for its sake
    assert after(*back, *(5, one) * 13).belief.endpoints == (A,)
    assert after(*back, *(10, one) * 7).belief.endpoints == (A, B)
    assert after(*back, *(10, one) * 8).belief.endpoints == (A,)

    assert after(*back, *(5, both) * 119).belief.disputed == 1
    assert after(*back, *(5, both) * 120).belief.disputed == 0
    assert after(*back, *(5, both) * 120, 5, one, 1, one).belief.endpoints == (A,)


def test_who_is_disputed_leaves_by_no_answer_with_a_gap() -> None:
    both, one, part = Answer([A, B], ttl=5), Answer([A], ttl=5), Answer([A], ttl=5, gap="targets")
    leaving = (both, 5, one, 1, one, 5, both, *(5, one) * 12)
    assert after(*leaving, *(5, part) * 5).belief.endpoints == (A, B)
    assert after(*leaving, *(5, part) * 5, 5, one).belief.endpoints == (A,)


def test_who_came_back_to_an_address_that_it_had_left_stays_at_the_other() -> None:
    moved = replace(B, address="10.9.9.9")
    old, new = Answer([A, B], ttl=30), Answer([A, moved], ttl=30)

    turns = (old, 5, new, *(5, old, 5, new) * 10)
    assert after(*turns, *(5, old) * 12).belief.endpoints == (A, moved)
    assert after(*turns, *(5, old) * 13).belief.endpoints == (A, B)


# --- a server that names some of those who are there


def test_draws_are_recognised_and_remove_nobody_but_by_odds() -> None:
    """
    Of 20 pods 8 are named, others each time.
    """
    chance = random.Random(1)
    pods = endpoints(20)
    belief = Belief()
    for number in range(200):
        draw = Answer(chance.sample(pods, 8), ttl=30)
        belief = decide(belief, draw, now=5.0 * number, policy=POLICY).belief
    assert belief.endpoints == pods
    assert belief.samples.are_drawn

    # And that ends when the server names all.
    for number in range(200, 203):
        belief = decide(belief, Answer(pods[1:], ttl=30), now=5.0 * number, policy=POLICY).belief
    assert belief.endpoints == pods[1:]
    assert not belief.samples.are_drawn


def test_who_left_long_ago_is_news_again() -> None:
    """
    Beside a server that makes up TTLs, all that is true looks old.
    """
    made_up = Answer([A], ttl=30)
    gone = after(Answer([A, B], ttl=5), 6, Answer([A], ttl=5), 1, Answer([A], ttl=5)).belief
    assert gone.endpoints == (A,)

    back = after(*(5, made_up) * 20, 1, Answer([A, B], ttl=5), belief=gone)
    assert back.belief.endpoints == (A, B)


def test_somebody_who_left_lately_is_no_news() -> None:
    """
    Another cache names the old ones for as long as it keeps them, and brings nobody back.
    """
    old, new = Answer([A, B], ttl=10), Answer([C, D], ttl=30)

    gone = after(old, 1, new, 1, new)
    assert gone.belief.endpoints == (C, D)

    still = after(*(1, Answer([A, B], ttl=2)) * 5, belief=gone.belief)
    assert still.belief.endpoints == (C, D)


# --- services that have outgrown a DNS message


def shuffled(pods: tuple[Endpoint, ...], size: int, chance: random.Random) -> Answer:
    return Answer(chance.sample(pods, size), ttl=0, gap="cut off")


@pytest.mark.long
@pytest.mark.weather("The answer is as large as DNS can carry")
@pytest.mark.parametrize("total", [330, 400, 600])
def test_of_shuffled_answers_that_are_cut_off_the_dead_are_told_from_the_unlucky(
    total: int,
) -> None:
    """
    Five rollouts of a service whose answers show 300 pods: nobody who is there is ever dropped, and
    of those who are not, nobody stays.
    """
    chance = random.Random(total)
    everybody = endpoints(6 * total)
    belief = Belief()
    for rollout in range(6):
        pods = everybody[rollout * total : (rollout + 1) * total]
        seen: set[Endpoint] = set()
        for number in range(200):
            answer = shuffled(pods, 300, chance)
            belief = decide(belief, answer, now=1000 * rollout + number, policy=POLICY).belief
            seen |= set(answer.endpoints)
            assert seen <= set(belief.endpoints)
        assert belief.endpoints == pods
    assert len(belief.age.removed_at) <= 6 * total


def test_answers_that_are_always_cut_off_at_the_same_place_remove_nothing() -> None:
    """
    A server that does not shuffle never names the others, who are there all the same.
    """
    pods = endpoints(400)
    always = Answer(pods[:300], ttl=0, gap="cut off")
    decision = after(Answer(pods, ttl=0), *(5, always) * 500)
    assert decision.belief.endpoints == pods

    # One of them goes, so that another one gets its place, and comes back.
    without = Answer(pods[1:301], ttl=0, gap="cut off")
    decision = after(*(5, always, 5, without) * 100, belief=decision.belief)
    assert decision.belief.endpoints == pods


def test_a_cut_off_answer_that_comes_again_is_no_second_sample() -> None:
    """
    A cache gives it to everybody until it expires.
    """
    chance = random.Random(7)
    pods = endpoints(500)
    belief = after(Answer(pods, ttl=0)).belief
    for number in range(50):
        answer = shuffled(pods, 400, chance)
        for _ in range(6):
            belief = decide(belief, answer, now=5 * number, policy=POLICY).belief
            assert belief.endpoints == pods


def test_what_failures_have_left_is_no_sample() -> None:
    """
    Of 400 pods the addresses of about 300 can be had, and it is always the same ones that cannot.
    """
    chance = random.Random(8)
    pods = endpoints(400)
    belief = after(Answer(pods, ttl=0)).belief
    for number in range(300):
        answer = Answer(pods[: chance.randint(295, 340)], ttl=0, gap="targets")
        belief = decide(belief, answer, now=5 * number, policy=POLICY).belief
        assert belief.endpoints == pods


@pytest.mark.parametrize("size", [1, 10, 255])
def test_short_answers_are_no_sample(size: int) -> None:
    """
    They were not cut off by their length, but because something failed, for which there is no odds.
    """
    chance = random.Random(size)
    pods = endpoints(256)
    belief = after(Answer(pods, ttl=0)).belief
    for now in range(500):
        belief = decide(belief, shuffled(pods[:size], size, chance), now=now, policy=POLICY).belief
        assert belief.endpoints == pods


@pytest.mark.long
@pytest.mark.weather("More records than can be true")
def test_a_ring_that_hears_only_cut_off_answers_stops_growing() -> None:
    """
    Whoever answers with other pods each time, for ever, costs a bounded amount of memory.
    """
    everybody = endpoints(60_000)
    belief = Belief()
    for number in range(15):
        pods = everybody[number * 4000 : (number + 1) * 4000]
        answer = Answer(pods, ttl=0, gap="cut off")
        belief = decide(belief, answer, now=number, policy=POLICY).belief

    assert len(belief.endpoints) == belief.held + 4000 == 16_384
    assert set(everybody[-4000:]) <= set(belief.endpoints)
    assert len(belief.age.removed_at) <= 16_384
    assert belief.samples.absences.keys() == belief.absence.missing.keys()


class Cache:
    """
    A cache before a live server: answers what the truth was when it last asked, with an aged TTL.
    """

    def __init__(self, ttl: int, expires_at: float, *, busy: bool) -> None:
        self.ttl = ttl
        self.expires_at = expires_at
        self.busy = busy  # others ask it too, so that it refills as soon as it expires
        self.held: tuple[Endpoint, ...] = ()

    def answer(self, now: float, changed_at: float) -> Answer:
        while self.expires_at <= now:
            filled = self.expires_at if self.busy else now
            self.held = (A, B) if filled < changed_at else (A, C)
            self.expires_at = filled + self.ttl
        return Answer(self.held, ttl=int(self.expires_at - now))


@pytest.mark.sampled(12)
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
@pytest.mark.parametrize("interval", [0.25, 5.0])
@pytest.mark.parametrize("caches", [1, 2, 3])
@pytest.mark.parametrize("ttl", [5, 30])
@pytest.mark.parametrize("turns", ["alternating", "random"])
@pytest.mark.weather("Replicas of CoreDNS answer old and new in turns")
def test_a_ring_does_not_follow_a_blink(
    busy: bool, interval: float, caches: int, ttl: int, turns: str
) -> None:
    """
    One pod replaced by another is two snapshots, and the old one is gone in time.

    Replicas of a DNS server whose caches were filled at different times name the old pod and the new
    one in turns, as through the address of a cluster's DNS service. Whoever believes each answer
    changes its mind up to 71 times in 30 s.
    """
    policy = RefreshPolicy(interval=interval, min_interval=min(interval, 1.0))
    changes_at = 100.0
    for seed in range(20):
        chance = random.Random(seed)
        # Apart by more than the second that TTLs are rounded to.
        phases = [ttl * (n + chance.uniform(0.1, 0.3)) / caches for n in range(caches)]
        servers = [Cache(ttl, phase, busy=busy) for phase in phases]
        changed_at = changes_at + chance.uniform(0, ttl)
        belief, snapshots, gone_at = Belief(), 0, math.inf
        now, asked = 0.0, 0
        while now < changed_at + 3 * ttl:
            server = servers[asked % caches] if turns == "alternating" else chance.choice(servers)
            answer = server.answer(now, changed_at)
            if answer.endpoints:
                decision = decide(belief, answer, now=now, policy=policy, jitter=chance.random())
                snapshots += decision.belief.endpoints is not belief.endpoints
                belief = decision.belief
                if B not in belief.endpoints and now > changed_at:
                    gone_at = min(gone_at, now)
                now += decision.wait
            else:
                now += interval
            asked += 1

        assert belief.endpoints == (A, C)
        assert snapshots - 1 <= 2
        assert gone_at - changed_at <= ttl + 2 * interval * (1 + policy.jitter)


def test_a_policy_shows_what_is_not_the_default() -> None:
    """
    The signature of a ring shows it as its default.
    """
    assert repr(RefreshPolicy()) == "RefreshPolicy()"
    assert repr(RefreshPolicy(interval=2, confirm=3)) == "RefreshPolicy(interval=2, confirm=3)"
