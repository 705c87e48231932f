"""
What holds the documents together as a site: every page can be reached, tables can be read, and the pages of
the reference, of the errors and of the tuning say what the code says.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from types import FunctionType

import pytest

import knet
import knet.errors
from tests.hosts.documents import ROOT, WRITTEN
from tests.public import DOORS, FILE, recorded, surface

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NAVIGATION = re.findall(
    r"^ +- (?:.+: )?(\S+\.md)$", (DOCS / "site" / "mkdocs.yml").read_text("utf-8"), re.MULTILINE
)
# What the site takes from elsewhere in the repository: docs/site/hooks.py.
FROM_OUTSIDE = {"benchmarks.md", "changelog.md", "contributing.md", "security.md"}
# Pages that have their place, and may be written later.
MAY_BE_MISSING = {"monitoring.md", "simulate.md", "status-page.md"}
MOST_WORDS = 25


def test_every_page_is_in_the_navigation_once() -> None:
    """
    And what is there is a page.
    """
    pages = {path.relative_to(DOCS).as_posix() for path in PAGES}

    assert len(set(NAVIGATION)) == len(NAVIGATION)
    assert pages <= set(NAVIGATION)
    assert set(NAVIGATION) <= pages | FROM_OUTSIDE | MAY_BE_MISSING


def test_the_site_loads_nothing_from_elsewhere() -> None:
    """
    No fonts, no stars of a repository, no scripts.
    """
    settings = (DOCS / "site" / "mkdocs.yml").read_text("utf-8")

    assert "font: false" in settings
    assert "http" not in re.sub(r"#.*", "", settings)
    assert not re.search(
        r"^(repo_url|extra_javascript|site_url|copyright):", settings, re.MULTILINE
    )
    styles = (DOCS / "site" / "site.css").read_text("utf-8")
    assert not re.search(r"@import|url\(", styles)


def cells(document: Path) -> list[tuple[int, str]]:
    """
    Return each cell of the tables of *document*, without its markup, and its line.
    """
    found = []
    is_code = False
    for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
        if line.startswith("```"):
            is_code = not is_code
        if line.startswith("|") and not is_code:
            for cell in re.split(r"(?<!\\)\|", line.strip("|")):
                # Code is a word, and a link is its text.
                text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]+`", "code", cell))
                found.append((number, text.strip()))
    return found


@pytest.mark.parametrize("document", WRITTEN, ids=str)
def test_a_cell_of_a_table_is_a_sentence_at_most(document: Path) -> None:
    """
    What needs more is a paragraph under a heading.
    """
    long = [
        f"{document.name}:{number}: {text}"
        for number, text in cells(document)
        if len(text.split()) > MOST_WORDS or re.search(r"[.!?] ", text.replace("... ", ""))
    ]

    assert long == []


def test_the_reference_has_every_public_name_once() -> None:
    """
    What several modules hand on has one place, under one of its names.
    """
    shown = [
        name
        for page in PAGES
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    things = {f"{door}.{name}": thing for door, name, thing in recorded()}

    assert len(set(shown)) == len(shown)
    assert [name for name in shown if name not in things] == []
    described = [things[name] for name in shown]
    assert [n for n, thing in things.items() if not any(thing is each for each in described)] == []


def test_what_has_no_docstring_is_described_where_it_is_shown() -> None:
    """
    An alias of a type, or a constant.
    """
    things = {f"{door}.{name}": thing for door, name, thing in recorded()}
    silent = {n for n, thing in things.items() if not isinstance(thing, type | FunctionType)}
    # Functions to who reads them.
    silent -= {f"knet.testing.pytest_plugin.{name}" for name in ("headless_service", "open_ring")}
    shown = "\n".join(page.read_text("utf-8") for page in PAGES)

    followed = re.findall(r"^::: (\S+)\n\n(?=(.*))", shown, re.MULTILINE)

    named = [name for name, _ in followed if name in silent]
    assert len(named) >= 15
    assert [n for n, text in followed if n in silent and not re.match(r"[A-Z].*\.$", text)] == []


def test_the_table_of_the_reference_names_every_module() -> None:
    """
    Integrations are a group in it.
    """
    index = (DOCS / "reference" / "index.md").read_text("utf-8")

    for door in DOORS:
        assert f"`{re.sub(r'integrations[.].+', 'integrations.*', door)}`" in index


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    """
    With the built-ins that each resembles.
    """
    page = (DOCS / "errors.md").read_text("utf-8")
    (shown,) = re.findall(r"^```text\n(.+?)```$", page, re.MULTILINE | re.DOTALL)

    assert shown == tree(knet.KnetError)


def tree(error: type[BaseException], depth: int = 0) -> str:
    """
    Return *error* and what inherits from it in `knet.errors`, a line each.
    """
    built_in = [base.__name__ for base in error.__bases__ if not issubclass(base, knet.KnetError)]
    also = f" ({built_in[0]})" if built_in and depth else ""
    named = [each for each in vars(knet.errors).values() if isinstance(each, type)]
    below = [each for each in named if error in each.__bases__ and issubclass(each, error)]
    return f"{'    ' * depth}{error.__name__}{also}\n" + "".join(tree(e, depth + 1) for e in below)


def test_the_table_of_ejection_is_that_of_its_policy() -> None:
    """
    Every argument is there, in its order, with its default.
    """
    text = (DOCS / "tuning.md").read_text("utf-8")

    shown = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text, re.MULTILINE)

    fields = dataclasses.fields(knet.EjectionPolicy)
    assert shown == [(field.name, str(field.default)) for field in fields]


def test_the_knobs_of_refreshing_are_those_of_its_policy() -> None:
    """
    What each costs is said of each.
    """
    text = (DOCS / "tuning.md").read_text("utf-8")
    _, _, text = text.partition("## When DNS is asked")

    shown = re.findall(r"^\| `(\w+)` \|", text.partition("\n## ")[0], re.MULTILINE)

    assert sorted(shown) == sorted(field.name for field in dataclasses.fields(knet.RefreshPolicy))


def spoken(text: str) -> str:
    """
    Return *text* with its white space folded, and without quotes between parts of one string.
    """
    return re.sub(r"\s+", " ", re.sub(r'"\s*f?"', "", text))


def test_a_line_of_the_log_is_quoted_as_the_code_has_it() -> None:
    """
    Who searches the documents for what stands in a log finds it.
    """
    code = spoken("".join(p.read_text("utf-8") for p in sorted((ROOT / "knet").rglob("*.py"))))
    code = re.sub(r"\{[^{}\"]*\}|%(?:\.\d)?\w", "...", code)
    states = "|".join(typing.get_args(knet.State))
    filled = rf"\.\.\.|<[^>]+>|web\.prod \(port 8080\)|\d+(?:\.\d+)*(?::\d+)?|(?:{states})? -> (?:{states})?|: |ConnectError"

    parts = [part.strip(" .,:;()") for line in quoted_lines() for part in re.split(filled, line)]

    # The middle of a line is put together from two strings.
    code += "endpoints, asking again in"
    assert sorted(part for part in parts if part not in code) == []


def quoted_lines() -> list[str]:
    """
    Return the lines of the log that two pages show.
    """
    symptoms = (DOCS / "troubleshooting.md").read_text("utf-8")
    table = (DOCS / "logging.md").read_text("utf-8")
    quoted = re.findall(r"^> `(.+)`$", symptoms, re.MULTILINE)
    listed = re.findall(r"^\| `(?:INFO|WARNING|ERROR)` \| `([^`]+)`", table, re.MULTILINE)
    assert len(quoted) >= 6
    assert len(listed) >= 20
    return quoted + listed


def test_every_error_has_an_entry_by_symptom() -> None:
    """
    Whoever is on call finds what was raised.
    """
    text = (DOCS / "troubleshooting.md").read_text("utf-8")

    leaves = set(knet.errors.__all__) - {"KnetError"}
    assert sorted(name for name in leaves if f"`{name}`" not in text) == []


def test_the_public_surface_is_the_recorded_one() -> None:
    """
    No name and no signature changes by accident; `python -m tests.public` records what was meant.
    """
    assert surface().splitlines() == FILE.read_text("utf-8").splitlines(), (
        "if this was meant: python -m tests.public"
    )
