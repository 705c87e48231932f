"""
The tables of docs/weather.md and of docs/how-it-works.md: each row has a test, each number is the code's.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import knet
from knet import RefreshPolicy
from knet.belief.absence import EMPTY_ANSWERS, MOST_HEARD
from knet.belief.age import LEAST_FILLS, LONGEST_CACHED, LONGEST_UNHEARD
from knet.belief.disputes import DISPUTED, LEAST_UNNAMED, RETURNED, UNNAMED
from knet.belief.family import MOST_FAMILY_HOLD
from knet.resolver.places import BRIEF, IN_FLIGHT
from knet.resolver.records import MAX_ALIASES, SUSPICIOUS_SIZE

ROOT = Path(__file__).parents[2]

POLICY = RefreshPolicy()
SPREAD = 1 + POLICY.jitter


def default(function: object, option: str) -> float:
    """
    Return the default of an option.
    """
    value: float = inspect.signature(function).parameters[option].default  # type: ignore[arg-type]
    return value


LATE = POLICY.interval * SPREAD
CONFIRMED = LATE + (POLICY.confirm - 1) * POLICY.min_interval * SPREAD
DEADLINE = default(knet.Resolver, "deadline")
MAX_ENDPOINTS = default(knet.Resolver, "max_endpoints")
START_TIMEOUT = default(knet.Ring, "start_timeout")

# What Kubernetes, DNS and a measurement say: not knet's numbers.
TCP_PORT, LARGEST_KIB, NODE_GIVEN_UP = 53, 64, 53
SECOND_CHOICE = 2  # get_n(key, 2)
EJECTED = knet.EjectionPolicy().base
SAMPLED = (8, 20, 4)  # `tests.belief.worlds` measures it

# All numbers of each row that has any, in order, with those of the paragraph about it; first the short table.
SHORT_NUMBERS: dict[str, list[float]] = {
    "A pod becomes ready": [LATE],
    "A pod is deleted, dies or gets unready": [POLICY.min_interval, 7],
    "NXDOMAIN or an empty answer": [POLICY.empty_hold],
    "SERVFAIL; REFUSED; no answer; no server": [POLICY.retry, POLICY.max_retry],
    "The Service is scaled to zero": [POLICY.empty_hold],
    "A node dies": [NODE_GIVEN_UP],
    "The answer does not fit in UDP": [TCP_PORT, LARGEST_KIB],
    "The first lookup fails": [START_TIMEOUT],
    "A pod refuses your connection": [EJECTED],
}
NUMBERS: dict[str, list[float]] = {
    "A pod becomes ready": [LATE],
    "A pod is deleted, dies or gets unready": [POLICY.confirm, POLICY.min_interval, 7, 1],
    "A pod is missing from one answer": [POLICY.min_interval, 1],
    "Most pods vanish at once": [7],
    "A pod of a StatefulSet restarts": [LATE],
    "A pod of a Deployment restarts": [7],
    "A node dies": [SECOND_CHOICE],
    "The Service is scaled to zero": [POLICY.empty_hold, LATE],
    "A pod refuses your connection": [
        *(EJECTED, POLICY.confirm * POLICY.min_interval, POLICY.min_interval),
    ],
    "The first lookup fails": [START_TIMEOUT],
    "SERVFAIL": [POLICY.max_retry],
    "REFUSED": [POLICY.max_retry],
    "no answer": [DEADLINE, POLICY.max_retry + DEADLINE],
    "no server": [POLICY.max_retry],
    "answers that are no DNS": [POLICY.max_retry],
    "TCP is blocked": [POLICY.max_retry],
    "Many names time out": [BRIEF, IN_FLIGHT],
    "The server is slow": [DEADLINE],
    "More records than can be true": [MAX_ENDPOINTS],
    "NXDOMAIN or an empty answer": [
        *(POLICY.empty_hold, EMPTY_ANSWERS, POLICY.min_interval),
        *(POLICY.empty_hold, MOST_HEARD),
    ],
    "The answer is as large as DNS can carry": [SUSPICIOUS_SIZE],
    "CNAMEs in a circle, or to nowhere": [MAX_ALIASES],
    "A TTL of 0, a huge or a negative one": [
        *(POLICY.min_interval, POLICY.interval, 0, LONGEST_CACHED, LONGEST_UNHEARD),
    ],
    "Replicas of CoreDNS answer old and new in turns": [LONGEST_CACHED],
    "A replica of CoreDNS has lost its watch": [RETURNED, DISPUTED / 60, LEAST_UNNAMED, UNNAMED],
    "A pod flaps": [UNNAMED],
    "A server promises a longer life than it keeps": [
        LONGEST_UNHEARD,
        LONGEST_UNHEARD,
        LEAST_FILLS,
    ],
    "A server names some of its pods at random": [*SAMPLED],
    "One family of a dual-stack Service fails": [MOST_FAMILY_HOLD, POLICY.max_retry],
    "Thousands of rings in one process": [IN_FLIGHT],
}

Row = tuple[str, str]


def rows(document: str, heading: str = "") -> list[Row]:
    """
    Return the first cell of each row of a table below *heading*, and the rest with what is said of it below.

    Said of it is a paragraph that begins with that cell: `**A pod flaps.** ...`.
    """
    text = (ROOT / document).read_text("utf-8")
    if heading:
        _, _, text = text.partition(f"\n## {heading}\n")
        text, _, _ = text.partition("\n## ")
    found = re.findall(r"^\| ([^|]+?) \| (.+) \|$", text, re.MULTILINE)
    said = dict(re.findall(r"^\*\*(.+?)\.\*\* (.+?)\n(?:\n|\Z)", text, re.MULTILINE | re.DOTALL))
    table = [row for row in found if row[0] not in ("---", "What happens")]
    return [(title, f"{cells} {said.get(title, '')}") for title, cells in table]


def marked() -> Iterator[tuple[str, Path]]:
    """
    Yield the row of each `weather` mark in the tests, wherever it stands, and the file.
    """
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                called = node.func
                name = called.attr if isinstance(called, ast.Attribute) else ""
                if isinstance(called, ast.Name):
                    name = called.id
                row = node.args[0]
                if name == "weather":
                    assert isinstance(row, ast.Constant), f"{path}: a mark names its row in place"
                    assert isinstance(row.value, str)
                    yield row.value, path


WEATHER = rows("docs/weather.md")
SHORT = rows("docs/how-it-works.md", "What happens when")


def test_every_row_has_a_test_and_every_mark_a_row() -> None:
    """
    Nobody promises an operator what nobody has seen.
    """
    titles = [title for title, _ in WEATHER]

    assert len(titles) == len(set(titles)) > 40
    assert set(titles) == {row for row, _ in marked()}


def test_most_rows_are_shown_in_this_folder() -> None:
    """
    Through a ring; the others are those of processes that fork or end.
    """
    here = Path(__file__).parent
    elsewhere = {title for title, _ in WEATHER} - {
        row for row, path in marked() if here in path.parents
    }

    assert elsewhere == {"The process forks", "The loop ends and the ring is open"}


def test_the_rows_of_the_short_table_are_rows_of_the_whole_table() -> None:
    """
    By the same titles; one of its rows stands for several, with semicolons between them.
    """
    titles = {title for title, _ in WEATHER}

    for cell, _ in SHORT:
        assert set(cell.split("; ")) <= titles, cell
    assert 12 <= len(SHORT) <= 15


@pytest.mark.parametrize(
    ("title", "text", "numbers"),
    [
        *((title, text, SHORT_NUMBERS.get(title, [])) for title, text in SHORT),
        *((title, text, NUMBERS.get(title, [])) for title, text in WEATHER),
    ],
)
def test_every_number_of_a_row_is_the_codes(title: str, text: str, numbers: list[float]) -> None:
    """
    None is missing, none is made up.
    """
    shown = re.findall(r"(?<![\w.])\d[\d,.]*(?![\d])", re.sub(r"IPv\d", "", text))

    assert [float(each.rstrip(".,").replace(",", "")) for each in shown] == pytest.approx(numbers)


def test_a_paragraph_about_a_row_names_a_row_of_its_table() -> None:
    """
    Nothing is said of what is not there.
    """
    text = (ROOT / "docs" / "weather.md").read_text("utf-8")

    for part in text.split("\n## ")[1:]:
        titles = set(re.findall(r"^\| ([^|]+?) \|", part, re.MULTILINE))
        said = re.findall(r"^\*\*(.+?)\.\*\* ", part, re.MULTILINE)
        assert set(said) <= titles
        assert len(set(said)) == len(said)


def test_the_longest_that_a_dead_pod_is_served_is_below_what_is_shown() -> None:
    """
    An interval, and the second answer; the rest of the 7 s is for the lookups.
    """
    assert 6.5 < CONFIRMED < 7
