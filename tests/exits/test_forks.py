"""
A ring belongs to the process that opened it; what its children find, and what they do to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .forking import PROGRAMS
from .watch import ROOT, Servers, servers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

# A fork beside other threads is what is tested here; the interpreter warns of it.
_QUIET = "ignore:This process:DeprecationWarning"

MARKS = {
    "lookups_of_a_child_do_not_pile_up": (
        pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc"),
    ),
}


@pytest.fixture(scope="module")
def where() -> Iterator[Servers]:
    with servers() as both:
        yield both


def run(name: str, where: Servers) -> None:
    """
    Run a program of `forking`; it and its children have nothing to say.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-W", _QUIET),
            *("-m", "tests.exits.forking", name, where.talking),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.weather("The process forks")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=(*MARKS.get(n, ()), pytest.mark.long)) for n in PROGRAMS]
)
def test_a_program_that_forks_keeps_its_promise(name: str, where: Servers) -> None:
    """
    The promise is the docstring of the program.
    """
    run(name, where)


@pytest.mark.long
def test_a_master_preloads_a_ring_and_forks_workers(where: Servers) -> None:
    """
    Its loop stands still when it forks, and its workers end as whole interpreters do.

    The master's loop is asyncio's; the workers have one or the other.
    """
    run("master", where)
