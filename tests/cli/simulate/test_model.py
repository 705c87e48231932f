"""
The model of time and bytes: its bounds, and how it grows.
"""

from __future__ import annotations

import pytest

from knet import RefreshPolicy
from knet.cli.simulate.model import MOST_A, MOST_SRV, TTLS, Range, costs, news

POLICY = RefreshPolicy()


def test_the_median_is_below_all_and_within_its_range() -> None:
    for told in news(50, 10):
        for half, everybody in ((told.join_half, told.join_all), (told.leave_half, told.leave_all)):
            assert 0 < half.low <= half.median <= half.high
            assert half.median <= everybody.median


@pytest.mark.parametrize(("number", "ttl"), list(enumerate(TTLS)))
def test_by_dns_nobody_is_later_than_the_docs_say(number: int, ttl: int) -> None:
    """
    The TTL, and then an interval; a pod that is gone takes one more answer, a second later.
    """
    told = news(100, 10)[number]
    interval = POLICY.interval * (1 + POLICY.jitter)

    assert told.join_all.high <= told.join_latest == ttl + interval
    assert told.leave_all.high <= told.leave_latest
    assert told.leave_latest == ttl + interval + POLICY.shortest * (1 + POLICY.jitter)
    assert told.leave_half.median - told.join_half.median == pytest.approx(1.05, abs=0.1)


def test_by_slices_the_last_of_many_waits_for_the_others() -> None:
    """
    Few hear at once, as measured; a million at a gigabit a second do not.
    """
    few, many = news(10, 100)[-1], news(1_000_000, 100)[-1]

    assert few.leave_all.high < 0.1
    assert many.join_all.median == pytest.approx(1_000_000 * 28_985 / 125_000_000, rel=0.01)
    assert many.join_half.median == pytest.approx(many.join_all.median / 2, rel=0.05)


def test_by_slices_several_pods_are_waited_for() -> None:
    """
    For up to 50 ms by the source, and as long by the ring; one that is in no slice any more is kept for a second.
    """
    alone, several = news(10, 100)[-1], news(10, 100, alone=False)[-1]

    assert several.join_latest == pytest.approx(alone.join_latest + 0.1)
    assert several.join_half.median > alone.join_half.median + 0.03
    for told in (alone, several):
        assert told.join_all.high <= told.join_latest
        assert told.leave_all.high + 0.9 < told.leave_latest


def test_one_client_is_a_model_too() -> None:
    assert len(news(1, 1)) == 3
    assert len(costs(1, 1, 0)) == 3


def test_costs_grow_with_the_clients() -> None:
    for one, hundred in zip(costs(1, 50, 1), costs(100, 50, 1), strict=True):
        assert hundred.queries == pytest.approx(100 * one.queries)
        assert hundred.watches == 100 * one.watches
        assert hundred.start == 100 * one.start
        assert hundred.steady == pytest.approx(100 * one.steady)
        assert hundred.change == 100 * one.change


def test_each_client_asks_about_every_interval() -> None:
    for cost in costs(1_000, 10, 0)[: len(TTLS)]:
        assert 1_000 / 5.5 <= cost.queries <= 1_000 / 4.5


@pytest.mark.parametrize(
    ("pods", "hostnames", "queries"), [(73, False, 1), (74, False, 2), (16, True, 1), (17, True, 2)]
)
def test_an_answer_that_is_cut_off_is_asked_for_again(
    pods: int, hostnames: bool, queries: int
) -> None:
    """
    By UDP an answer has 1,232 bytes: 73 addresses, or 16 hostnames with theirs.
    """
    least = costs(1_000, 1, 0, hostnames=hostnames)[0]

    assert costs(1_000, pods, 0, hostnames=hostnames)[0].queries == queries * least.queries


def test_an_answer_by_tcp_has_64_kib_at_most() -> None:
    for most, hostnames in ((MOST_A, False), (MOST_SRV, True)):
        full = costs(1, most, 0, hostnames=hostnames)[0]
        assert full.start <= 65_535 + 1_232 + 2 * 60
        assert costs(1, most + 500, 0, hostnames=hostnames)[0].start == full.start


def test_an_event_has_the_whole_slice_but_no_other_one() -> None:
    """
    A slice has 100 endpoints: a service of 1,000 costs no more for an event than one of 100.
    """
    small, full, large = (costs(1, pods, 3)[-1] for pods in (10, 100, 1_000))

    assert small.event < full.event == large.event
    assert large.start == 10 * full.start
    assert full.change == 6 * full.event


@pytest.mark.long
def test_the_same_seed_gives_the_same_model() -> None:
    assert news(100, 10, seed=3) == news(100, 10, seed=3)
    assert news(100, 10, seed=3) != news(100, 10, seed=4)
    assert isinstance(news(100, 10)[0].join_half, Range)
