"""
Which pods there are at each step of a change.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet import ConfigError
from knet.cli.simulate.plan import Fleet, Plan


def counts(plan: Plan) -> list[int]:
    return [len(step.pods) for step in plan.steps]


def told(plan: Plan) -> list[str]:
    return [step.told for step in plan.steps[1:]]


def test_pods_of_a_deployment_are_named_by_their_address() -> None:
    """
    And no address is given twice.
    """
    pods = Fleet().pods(2_000)

    assert all(pod.name == pod.address for pod in pods)
    assert len({pod.address for pod in pods}) == 2_000
    assert all(pod.address.startswith("10.244.") for pod in pods)


def test_weights_and_zones_are_used_again_and_again() -> None:
    pods = Fleet(weights=(1, 2.5), zones=3).pods(6)

    assert [pod.weight for pod in pods] == [1, 2.5, 1, 2.5, 1, 2.5]
    assert [pod.zone for pod in pods] == ["zone-a", "zone-b", "zone-c"] * 2


def test_the_same_seed_draws_the_same_pods() -> None:
    assert Fleet(seed=7).pods(50) == Fleet(seed=7).pods(50)
    assert Fleet(seed=7).pods(50) != Fleet(seed=8).pods(50)
    assert Fleet(seed=7).pods(60)[:50] == Fleet(seed=7).pods(50)


@pytest.mark.parametrize(("before", "to", "what"), [(3, 5, "2 join"), (5, 3, "2 leave")])
def test_scaling_keeps_whoever_can_stay(before: int, to: int, what: str) -> None:
    plan = Fleet().scale(before, to)

    assert told(plan) == [what]
    assert counts(plan) == [before, to]
    assert len({*plan.before} & {*plan.after}) == min(before, to)


def test_a_zone_is_lost_with_all_of_its_pods() -> None:
    plan = Fleet(zones=3).lose_zone(7)

    assert counts(plan) == [7, 4]
    assert {pod.zone for pod in plan.after} == {"zone-b", "zone-c"}


def test_a_deployment_goes_by_surge_and_unavailable() -> None:
    """
    Kubernetes's defaults for ten pods: three more, two fewer.
    """
    plan = Fleet().roll_deployment(10)

    assert told(plan) == ["2 leave", "5 join", "5 leave", "5 join", "3 leave"]
    assert counts(plan) == [10, 8, 13, 8, 13, 10]


def test_one_after_the_other_is_a_surge_of_one() -> None:
    plan = Fleet().roll_deployment(3, surge="1", unavailable="0")

    assert told(plan) == ["1 join", "1 leave"] * 3


@given(st.integers(1, 40), st.integers(0, 10), st.integers(0, 10), st.integers(0, 99))
def test_pods_that_get_ready_one_by_one_are_within_the_same_limits(
    count: int, surge: int, unavailable: int, seed: int
) -> None:
    chance = random.Random(seed)
    plan = Fleet().roll_deployment(
        *(count,),
        surge=str(surge),
        unavailable=str(unavailable if surge else unavailable + 1),
        ready=lambda made: chance.randint(1, made),
    )

    least = count - min(count, unavailable if surge else unavailable + 1)
    assert not {*plan.before} & {*plan.after}
    assert len(plan.after) == count
    assert all(least <= number <= count + surge for number in counts(plan))


def test_percentages_that_come_to_nothing_let_one_be_away() -> None:
    """
    As in Kubernetes, which never lets a rollout stand still.
    """
    assert (
        told(Fleet().roll_deployment(3, surge="0", unavailable="10%")) == ["1 leave", "1 join"] * 3
    )


@given(st.integers(1, 60), st.integers(0, 100), st.integers(0, 100))
def test_a_deployment_ends_with_new_pods_only(count: int, surge: int, unavailable: int) -> None:
    """
    There are never fewer, and never more, than was allowed; each step changes somebody.
    """
    plan = Fleet().roll_deployment(count, surge=f"{surge}%", unavailable=f"{unavailable}%")

    more = math.ceil(count * surge / 100)
    fewer = count * unavailable // 100
    assert not {*plan.before} & {*plan.after}
    assert len(plan.after) == count
    assert plan.joins >= count
    assert all(count - max(1, fewer) <= number <= count + more for number in counts(plan))
    assert all(a.pods != b.pods for a, b in pairwise(plan.steps))


@given(st.integers(1, 60), st.integers(1, 100))
def test_a_stateful_set_keeps_its_names_and_changes_its_addresses(count: int, away: int) -> None:
    plan = Fleet(stateful=True).roll_statefulset(count, unavailable=f"{away}%")

    assert [pod.name for pod in plan.before] == [pod.name for pod in plan.after]
    assert not {pod.address for pod in plan.before} & {pod.address for pod in plan.after}
    assert all(count - math.ceil(count * away / 100) <= number <= count for number in counts(plan))


def test_a_stateful_set_goes_from_the_highest_number_down() -> None:
    plan = Fleet(stateful=True).roll_statefulset(3)

    assert told(plan) == ["1 leave", "1 return"] * 3
    away = [{*a.pods} - {*b.pods} for a, b in pairwise(plan.steps)][::2]
    assert [pod.name.partition(".")[0] for (pod,) in away] == ["web-2", "web-1", "web-0"]


def test_a_ring_keeps_its_pods_while_nobody_is_ready() -> None:
    """
    So there is no step without pods.
    """
    assert counts(Fleet(stateful=True).roll_statefulset(1)) == [1, 1]
    assert counts(Fleet().roll_deployment(4, surge="0", unavailable="100%")) == [4, 4]


def test_names_are_in_order_as_a_ring_has_them() -> None:
    for plan in (Fleet().scale(30, 40), Fleet(stateful=True).roll_statefulset(12)):
        for step in plan.steps:
            assert list(step.pods) == sorted(step.pods, key=lambda pod: pod.name)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "%", "5 %", "٣", "9999999"])
def test_a_number_or_a_percentage_is_wanted(text: str) -> None:
    with pytest.raises(ConfigError, match="--max-surge must be a number or a percentage"):
        Fleet().roll_deployment(10, surge=text)
    with pytest.raises(ConfigError, match="--max-unavailable must be a number or a percentage"):
        Fleet().roll_statefulset(10, unavailable=text)


def test_what_would_never_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="must not both be 0"):
        Fleet().roll_deployment(10, surge="0", unavailable="0")
    with pytest.raises(ConfigError, match="must be at least 1 for a StatefulSet"):
        Fleet().roll_statefulset(10, unavailable="0")


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_pods_are_bounded(count: int) -> None:
    for change in (
        Fleet().stay,
        Fleet().lose_zone,
        Fleet().roll_deployment,
        Fleet().roll_statefulset,
    ):
        with pytest.raises(ConfigError, match="--pods must be from 1 to 10,000"):
            change(count)
    with pytest.raises(ConfigError, match="--scale must be from 1 to 10,000"):
        Fleet().scale(1, count)


def test_zones_and_weights_are_checked() -> None:
    for zones in (0, 27):
        with pytest.raises(ConfigError, match="--zones must be from 1 to 26"):
            Fleet(zones=zones)
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="--weights must be numbers of 0 or more"):
            Fleet(weights=(weight,))
    with pytest.raises(ConfigError, match="--lose-zone needs pods in two zones"):
        Fleet(zones=3).lose_zone(1)
