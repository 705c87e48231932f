"""
What the demo calls right and wrong.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from knet.cli.demo.verdict import Act, judge
from knet.hashring import HashRing

_KEYS = tuple(f"key-{n}" for n in range(1000))


def _pods(*ordinals: int) -> frozenset[str]:
    return frozenset(f"web-{n}" for n in ordinals)


def _picks(pods: frozenset[str], keys: tuple[str, ...] = _KEYS) -> dict[str, str]:
    return dict(zip(keys, HashRing(pods).get_many(keys), strict=True))


def _act(before: frozenset[str], after: frozenset[str]) -> Act:
    return Act(
        title="an act",
        before=_picks(before),
        after=_picks(after),
        pods_before=before,
        pods_after=after,
        answered=10,
    )


STEADY = _act(_pods(0, 1, 2), _pods(0, 1, 2))
JOIN = _act(_pods(0, 1, 2), _pods(0, 1, 2, 3))
LEAVE = _act(_pods(0, 1, 2), _pods(0, 2))


@pytest.mark.parametrize(
    ("act", "ideal"),
    [
        (STEADY, 0.0),
        (JOIN, 1 / 4),
        (LEAVE, 1 / 3),
        (_act(_pods(0, 1), _pods(2, 3)), 1.0),
        (_act(_pods(0, 1, 2, 3), _pods(0, 1)), 1 / 2),
    ],
)
def test_the_ideal_share_is_what_any_even_placement_would_have_to_move(
    act: Act, ideal: float
) -> None:
    """
    1/N for one pod of N, whether it comes or goes.
    """
    assert act.ideal_share == pytest.approx(ideal)


def test_moved_keys_are_counted_by_comparing_picks() -> None:
    """
    A tiny act by hand: one key follows its pod out, one moves for no reason.
    """
    act = Act(
        title="by hand",
        before={"a": "web-0", "b": "web-1", "c": "web-2"},
        after={"a": "web-0", "b": "web-2", "c": "web-0"},
        pods_before=_pods(0, 1, 2),
        pods_after=_pods(0, 2),
        answered=1,
    )

    assert act.moved == ("b", "c")
    assert act.moved_share == pytest.approx(2 / 3)
    assert act.without_cause == ("c",)


@pytest.mark.parametrize("act", [STEADY, JOIN, LEAVE])
def test_what_knet_promises_is_right(act: Act) -> None:
    """
    Nothing moves, a joiner receives, a leaver gives.
    """
    assert act.without_cause == ()
    assert judge([act]) == ()


@pytest.mark.sampled(8)
@pytest.mark.parametrize("pods", range(2, 51))
def test_the_demo_is_right_with_every_number_of_pods(pods: int) -> None:
    """
    Its names and keys are always the same, so no hash can be unlucky later.
    """
    users = tuple(f"user-{n}" for n in range(1000))
    at_first = _pods(*range(pods))
    joined = at_first | _pods(pods)
    stages = [at_first, joined, joined - _pods(1), joined - _pods(1, 2)]
    acts = [
        dataclasses.replace(
            STEADY,
            before=_picks(before, users),
            after=_picks(after, users),
            pods_before=before,
            pods_after=after,
        )
        for before, after in itertools.pairwise(stages)
    ]

    assert judge(acts) == ()


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (dataclasses.replace(STEADY, failed_gets=1), "1 picks failed"),
        (dataclasses.replace(STEADY, wrong=2), "2 requests were answered by another pod"),
        (dataclasses.replace(STEADY, answered=0), "no request was answered"),
        (dataclasses.replace(STEADY, unanswered=3), "3 requests went unanswered while"),
        (dataclasses.replace(STEADY, trouble="it never came"), "it never came"),
        (dataclasses.replace(STEADY, after=LEAVE.after), "keys moved without cause, such as key-"),
        (
            dataclasses.replace(LEAVE, after=LEAVE.before),
            "keys belong to pods that are gone: web-1",
        ),
        (dataclasses.replace(JOIN, after=JOIN.before), "0.0% of the keys moved, where 25.0%"),
        (
            dataclasses.replace(JOIN, after=dict.fromkeys(_KEYS, "web-3")),
            "100.0% of the keys moved, where 25.0%",
        ),
    ],
)
def test_each_fault_is_a_reason(act: Act, reason: str) -> None:
    """
    The reason names the act, so that a person knows where to look.
    """
    faults = judge([STEADY, act])

    assert any(fault.startswith("an act: ") and reason in fault for fault in faults), faults


def test_requests_may_go_unanswered_while_a_pod_is_down() -> None:
    """
    Nobody can answer for a pod that has just died.
    """
    assert judge([dataclasses.replace(LEAVE, unanswered=7, deadly=True)]) == ()
    # But not where clients go on with the next pod.
    faults = judge([dataclasses.replace(LEAVE, unanswered=7, deadly=True, cured=True)])
    assert faults == ("an act: 7 requests went unanswered although another pod could be asked",)


def test_a_demo_in_which_nothing_was_played_is_not_right() -> None:
    """
    Silence proves nothing.
    """
    assert judge([]) == ("nothing was played",)
