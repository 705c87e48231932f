"""
`Answer`: what one resolution gave.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from knet import Answer, ConfigError, Endpoint

A = Endpoint("a", "10.0.0.1", 80)
B = Endpoint("b", "10.0.0.2", 80)
C = Endpoint("c", "10.0.0.3", 80)


def test_endpoints_come_sorted_by_name_whatever_their_order() -> None:
    assert Answer((C, A, B)).endpoints == (A, B, C)
    assert Answer((B, C, A)) == Answer((A, B, C))


def test_any_iterable_of_endpoints_will_do() -> None:
    many: Any = (e for e in [B, A])

    assert Answer(many).endpoints == (A, B)


def test_an_answer_with_a_gap_is_not_complete() -> None:
    """
    There is one reason why endpoints may be missing, or none.
    """
    assert Answer([A]).complete
    assert not Answer([A], gap="cut off").complete
    assert not Answer([A], gap="targets", gap_reason="web-1: SERVFAIL").complete
    gap: Any = "something else"
    with pytest.raises(ConfigError, match="gap must be one of"):
        Answer([A], gap=gap)
    with pytest.raises(ConfigError, match="there is none"):
        Answer([A], gap_reason="web-1: SERVFAIL")


def test_a_ttl_is_a_number() -> None:
    """
    NaN would be neither before nor after any other time.
    """
    with pytest.raises(ConfigError, match="ttl must be a number"):
        Answer([A], float("nan"))


def test_the_same_endpoint_twice_is_one() -> None:
    assert Answer((A, B, A)).endpoints == (A, B)


def test_two_endpoints_of_one_name_are_refused() -> None:
    """
    The name is what is hashed: a ring could not tell the two apart.
    """
    with pytest.raises(ConfigError, match=r"the name 'a': 10.0.0.1:80 and 10.0.0.1:81"):
        Answer((A, Endpoint("a", "10.0.0.1", 81)))


@pytest.mark.parametrize("endpoint", ["10.0.0.1", None, ("a", "10.0.0.1")])
def test_what_is_no_endpoint_is_refused(endpoint: Any) -> None:
    with pytest.raises(
        TypeError, match=f"an Answer holds Endpoints, not {type(endpoint).__name__}"
    ):
        Answer((endpoint,))


def test_an_empty_answer_is_complete_and_has_no_ttl() -> None:
    assert Answer() == Answer((), None, gap="", gap_reason="", name="", ignored=0)
    assert Answer().complete


def test_an_answer_pickles() -> None:
    answer = Answer((A, B), 5.0, gap="cut off", name="web.prod.svc.cluster.local", ignored=1)

    assert pickle.loads(pickle.dumps(answer)) == answer
