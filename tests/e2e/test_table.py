"""
The table of times in docs/kubernetes.md is one that `tests.e2e.control_plane.table` prints. Needs no server.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .control_plane.table import EVENTS, form, shown

DOCUMENT = Path(__file__).parents[2] / "docs" / "kubernetes.md"


def test_the_table_in_the_docs_has_the_form_of_the_one_that_is_measured() -> None:
    """
    Every event, its column titles and its units; no test says which times.
    """
    wanted = shown(dict.fromkeys(EVENTS, ([1.0], [1.0])))
    head = wanted.partition("\n")[0]

    (found,) = re.findall(rf"^{re.escape(head)}\n(?:\|.*\n)+", DOCUMENT.read_text(), re.MULTILINE)

    assert form(found.strip()) == form(wanted)


@pytest.mark.parametrize(("seconds", "cell"), [(0.0213, "21 ms"), (0.94, "0.9 s"), (6.26, "6.3 s")])
def test_a_time_is_shown_in_its_unit(seconds: float, cell: str) -> None:
    assert shown({"it": ([seconds], [seconds])}).endswith(f"| it |{f' {cell} |' * 6}")
