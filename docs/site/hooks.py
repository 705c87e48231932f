"""
What MkDocs cannot know of this repository: pages that live outside of `docs`, and where links lead.

A link in a page is relative to its file, as GitHub has it. Here it is turned into one to the page of that
file, or, where the site has none, to the file in the repository.
"""

from __future__ import annotations

import os
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
HOME = PROJECT["urls"]["Homepage"]

# Files of the repository that are pages of the site, and their names there.
OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
}
PICTURES = sorted((ROOT / "benchmarks" / "plots").glob("*.svg"))

_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_NAMED_BY_FILE = re.compile(r"\[[\w./-]+\.md(\]\(([^)#\s]+\.md)[^)]*\))")
_TITLES: dict[str, str] = {}
_FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """
    Leave out of the navigation what is not written yet.
    """
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    config.nav = _without_missing(config.nav, there | set(OUTSIDE.values()))
    _TITLES.clear()
    _note_titles(config.nav)
    return config


def _note_titles(entry: Any) -> None:
    for each in entry if isinstance(entry, list) else ():
        for title, target in each.items() if isinstance(each, dict) else ():
            if isinstance(target, str):
                _TITLES[target] = title
            else:
                _note_titles(target)


def _without_missing(entry: Any, there: set[str]) -> Any:
    if isinstance(entry, list):
        kept = [_without_missing(each, there) for each in entry]
        return [each for each in kept if each is not None]
    if isinstance(entry, dict):
        ((title, target),) = entry.items()
        target = _without_missing(target, there)
        return None if target is None else {title: target}
    return entry if entry in there else None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """
    Add the pages and the pictures from outside of `docs`.
    """
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text("utf-8")))
    for picture in PICTURES:
        name = f"plots/{picture.name}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """
    Let every link lead to a page of the site, or else to the repository; what is named by a file gets its title.
    """
    at = page.file.src_uri
    source = next((path for path, name in OUTSIDE.items() if name == at), f"docs/{at}")

    def led(match: re.Match[str]) -> str:
        return match[1] + _target(match[2], source, at) + match[3]

    def named(match: re.Match[str]) -> str:
        page = posixpath.normpath(posixpath.join(posixpath.dirname(at), match[2]))
        return f"[{_TITLES[page]}{match[1]}" if page in _TITLES else match[0]

    parts = _FENCE.split(markdown)
    # Every other part is a block of code.
    parts[::2] = [_NAMED_BY_FILE.sub(named, _LINK.sub(led, part)) for part in parts[::2]]
    return "".join(parts)


def _target(link: str, source: str, at: str) -> str:
    path, mark, anchor = link.partition("#")
    if not path or "://" in link or link.startswith("mailto:"):
        return link
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    page = OUTSIDE.get(file)
    if page is None and file.startswith("docs/"):
        page = file.removeprefix("docs/")
    if page is None and file.startswith("benchmarks/plots/"):
        page = file.removeprefix("benchmarks/")
    if page is not None:
        return os.path.relpath(page, posixpath.dirname(at) or ".") + mark + anchor
    kind = "tree" if (ROOT / file).is_dir() else "blob"
    return f"{HOME}/{kind}/main/{file}{mark}{anchor}"
