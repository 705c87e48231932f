"""
What is counted of requests: numbers that only grow, by kinds of which there are few.
"""

from __future__ import annotations

import pytest

from knet.routing.counts import Counts
from knet.routing.errors import KINDS, kind_of


class ConnectTimeout(Exception):
    __module__ = "httpx2"


class PoolTimeout(Exception):
    __module__ = "httpx2"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(111, "refused"), "refused"),
        (OSError(113, "Connect call failed ('10.0.0.1', 80)"), "refused"),
        (ConnectTimeout(), "connect_timeout"),
        (PoolTimeout(), "busy"),
        (ConnectionResetError(104, "reset"), "broken"),
        (TimeoutError(), "broken"),
        (OSError(113, "no route to host"), "other"),
        (ValueError("of the application"), "other"),
        (ExceptionGroup("both", [ConnectionRefusedError(), ConnectionRefusedError()]), "refused"),
        (ExceptionGroup("both", [ConnectionRefusedError(), ConnectionResetError()]), "broken"),
    ],
)
def test_an_error_has_a_kind(error: BaseException, kind: str) -> None:
    assert kind_of(error) == kind
    assert kind in KINDS


def test_what_was_read_stays_as_it_was() -> None:
    """
    Numbers that were read are not changed by what is counted later.
    """
    counts = Counts()
    counts.fail("refused")
    errors, failovers = counts.errors, counts.failovers
    counts.fail("refused")
    counts.fail_over("refused")

    assert (errors, failovers) == ({"refused": 1}, {})
    assert (counts.errors, counts.failovers) == ({"refused": 2}, {"refused": 1})
