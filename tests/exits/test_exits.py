"""
Each kind of careless end, once, on both event loops; `python -m tests.exits` does it many times.

A program may leave its ring open. It does not crash for it, does not hang, ends with the exit code
that it asked for, and hears of it at most once, if it asked for warnings.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sigint import default_sigint

from .programs import KINDS, Kind, traceback
from .watch import Outcome, Servers, judge, servers, watch

BACKENDS = ("asyncio", "trio")


@pytest.fixture(scope="module")
def where() -> Iterator[Servers]:
    with servers() as both:
        yield both


@pytest.mark.weather("The loop ends and the ring is open")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if number % 12 == 0 else pytest.mark.long)
        for number, name in enumerate(KINDS)
    ],
)
def test_a_careless_end_is_an_end(name: str, where: Servers) -> None:
    """
    With warnings on and memory checked, nothing is said but that a ring is not closed.
    """
    backends = [backend for backend in BACKENDS if backend in KINDS[name].backends]
    with default_sigint(), ThreadPoolExecutor(len(backends)) as pool:
        outcomes = list(pool.map(lambda backend: watch(name, backend, where), backends))

    for outcome in outcomes:
        assert outcome.is_clean, outcome


@pytest.mark.parametrize(
    ("code", "out", "errors", "expected"),
    [
        (0, "ready\n", "", Outcome()),
        (0, "ready\n", "a.py:1: ResourceWarning: unclosed <Ring 'web'>\n", Outcome(warnings=1)),
        (-signal.SIGSEGV, "ready\n", "", Outcome(crashed="exit code -11")),
        (3, "ready\n", "", Outcome(wrong="exit code 3, not 0")),
        (0, "", "", Outcome(wrong="printed ''")),
        (0, "ready\n", "Task was destroyed!\n", Outcome(noise="Task was destroyed!")),
    ],
)
def test_what_should_not_be_is_seen(code: int, out: str, errors: str, expected: Outcome) -> None:
    """
    The judge is awake: a crash, a wrong code, a ring that was never open, and noise.
    """
    outcome = judge(Kind(lambda: None), "asyncio", code, out, errors)

    assert outcome == expected
    assert outcome.is_clean == (expected in (Outcome(), Outcome(warnings=1)))


def test_a_traceback_of_ours_is_not_taken_for_the_hosts() -> None:
    """
    The program's own exception is expected, and nothing that was raised on the way to it.
    """
    kind = Kind(lambda: None, ends=1, says=(traceback("ValueError: careless"),))
    mine = 'Traceback (most recent call last):\n  File "a.py"\nValueError: careless\n'
    ours = 'Traceback (most recent call last):\n  File "knet.py"\nKeyError: 1\n\nDuring ...\n\n'

    assert judge(kind, "asyncio", 1, "ready\n", mine).is_clean
    assert not judge(kind, "asyncio", 1, "ready\n", ours + mine).is_clean


def test_an_interrupt_that_the_interpreter_dropped_is_no_noise() -> None:
    """
    It says so itself, and the program is interrupted once more.
    """
    dropped = (
        "Exception ignored in: <function WeakSet.__init__.<locals>._remove at 0x7f54d73c8e90>\n"
        "Traceback (most recent call last):\n"
        '  File "_weakrefset.py", line 39, in _remove\n'
        "    def _remove(item, selfref=ref(self)):\n"
        '  File "trio/_core/_ki.py", line 262, in handler\n'
        "    raise KeyboardInterrupt\n"
        "KeyboardInterrupt: \n"
    )

    assert judge(Kind(lambda: None), "trio", 0, "ready\n", dropped) == Outcome()
