"""
Who this program is among the endpoints, as tables.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from knet import ConfigError, Endpoint
from knet.routing.ownership import NEVER_ME, NOBODY_YET, Lookout, Myself, several_workers

ZERO = Endpoint("web-0.web.prod.svc.cluster.local", "10.0.0.1", 80)
ONE = Endpoint("web-1.web.prod.svc.cluster.local", "10.0.0.2", 80)
PLAIN = Endpoint("10.0.0.3", "10.0.0.3", 80)
SIX = Endpoint("fd00::4", "fd00::4", 80)
PODS = tuple(sorted((ZERO, ONE, PLAIN, SIX)))


@pytest.mark.parametrize(
    ("me", "found"),
    [
        ("10.0.0.1", ZERO),
        ("10.0.0.1:80", ZERO),
        ("10.0.0.1:81", None),
        ("web-0", ZERO),
        ("web-0.web.prod.svc.cluster.local", ZERO),
        ("web", None),
        ("10", None),  # no label of an address
        ("10.0.0.3", PLAIN),
        ("FD00:0::4", SIX),
        ("[fd00::4]:80", SIX),
        (ONE, ONE),
        (replace(ONE, weight=2), ONE),
        (replace(ONE, port=81), None),
        (replace(ONE, address="10.0.0.9"), None),
        (("fd00::9", "10.0.0.2"), ONE),
        (["nobody", ZERO], ZERO),
        (iter(["10.0.0.3"]), PLAIN),
        (lambda: "web-1", ONE),
        (lambda: ("fd00::4", "10.0.0.77"), SIX),
    ],
)
def test_this_program_is_found_by_what_it_knows_of_itself(me: Any, found: Endpoint | None) -> None:
    assert Myself.told(me).among(PODS) is found


def test_an_address_that_several_share_is_nobodys() -> None:
    twins = (Endpoint("a", "10.0.0.1", 1), Endpoint("b", "10.0.0.1", 2))

    assert Myself.told("10.0.0.1").among(twins) is None
    assert Myself.told("10.0.0.1:2").among(twins) is twins[1]


@pytest.mark.parametrize(
    ("me", "error", "words"),
    [
        ("", ConfigError, r"is \$POD_IP set\?"),
        ((), ConfigError, "names nobody"),
        (("10.0.0.1", ""), ConfigError, "is empty"),
        (lambda: (), ConfigError, "names nobody"),
        (7, TypeError, "not int"),
        (["10.0.0.1", None], TypeError, "not NoneType"),
        (b"10.0.0.1", TypeError, "not int"),
    ],
)
def test_who_names_nobody_is_refused(me: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Myself.told(me)


def test_who_is_never_there_is_told_once_with_both_lists() -> None:
    lookout = Lookout(Myself.told(("10.0.0.9", "web-9")))

    assert lookout.after(None, PODS, 100.0) is None
    assert lookout.after(None, PODS, 99.9 + NEVER_ME) is None
    warning = lookout.after(None, PODS, 100.0 + NEVER_ME)
    assert warning is not None
    assert "me is 10.0.0.9 or web-9" in warning
    assert "10.0.0.3:80" in warning
    assert "web-0.web.prod.svc.cluster.local at 10.0.0.1:80" in warning
    assert "has never been ready" in warning
    assert lookout.after(None, PODS, 999.0) is None


def test_who_was_there_once_is_not_told() -> None:
    """
    A pod that is unready for long knows it.
    """
    lookout = Lookout(Myself.told("10.0.0.1"))

    assert lookout.after(ZERO, PODS, 0.0) is None
    assert lookout.after(None, PODS[1:], 999.0) is None
    assert lookout.after(None, (), 9999.0) is None


def test_an_empty_start_is_told_and_who_came_later_is_looked_for() -> None:
    lookout = Lookout(Myself.told("10.0.0.9"))

    assert lookout.after(None, (), 0.0) is None
    warning = lookout.after(None, (), NOBODY_YET)
    assert warning is not None
    assert "the name may be wrong" in warning
    assert lookout.after(None, (), 99.0) is None
    assert lookout.after(None, PODS, 100.0) is None
    assert lookout.after(None, PODS, 100.0 + NEVER_ME) is not None


@pytest.mark.parametrize(
    ("me", "pods", "cause"),
    [
        ("fd00::9", (ZERO, ONE), "different families"),
        (("10.0.0.9", "fd00::9"), (ZERO, ONE), "never been ready"),
        ("10.0.0.9", (SIX,), "different families"),
        (replace(ONE, port=81), (ZERO, ONE), "equal to the ring's in name, address and port"),
    ],
)
def test_the_likely_cause_is_named(me: Any, pods: tuple[Endpoint, ...], cause: str) -> None:
    assert cause in Myself.told(me).why_not(pods)


def test_of_many_endpoints_a_few_are_named() -> None:
    many = [Endpoint(f"10.0.1.{number}", f"10.0.1.{number}") for number in range(100)]

    assert "and 95 more" in Myself.told("10.0.0.1").why_not(many)


@pytest.mark.parametrize(
    ("environment", "number", "is_told"),
    [
        ({}, 0, False),
        ({}, 1, False),  # a server that reloads has one child
        ({}, 2, True),
        ({"WEB_CONCURRENCY": "1"}, 0, False),
        ({"WEB_CONCURRENCY": "4"}, 0, True),
        ({"WEB_CONCURRENCY": "many"}, 0, False),
    ],
)
def test_several_workers_behind_one_port_are_told(
    environment: dict[str, str], number: int, is_told: bool
) -> None:
    assert (several_workers(environment, number) is not None) == is_told
