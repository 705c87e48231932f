"""
The documents as tests see them: fenced blocks, the headings they stand under, and how to run them.

A block is run as it is printed. What a test has to know beyond that stands in a comment before the
fence, which readers of the rendered page do not see: `<!-- test: rollout -->`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["DOCUMENTS", "ROOT", "WRITTEN", "Block", "blocks", "dead_links", "example"]

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# With those that show no programs.
WRITTEN = (
    *DOCUMENTS,
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
    *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "benchmarks" / "README.md",
)

_HEADING = re.compile(r"#{1,6} (.+)")
_FENCE = re.compile(r"```(\w*)")
_DIRECTIVE = re.compile(r"<!-- test: (.+) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """
    One fenced block.

    Attributes:
        document: The file it stands in.
        line: The number of its first line, counting from 1.
        heading: The nearest heading above it.
        language: What its fence says: `"python"`, `"sh"`, `"yaml"`, `"text"`, or `""`.
        text: What is in it.
        directives: The words of the comment before it.
        prints: The text of the `text` block that follows a `python` block with nothing between.
    """

    document: Path
    line: int
    heading: str
    language: str
    text: str
    directives: frozenset[str] = frozenset()
    prints: str | None = None

    def run(self, name: str = "__main__") -> dict[str, Any]:
        """
        Execute it as a module called *name*, and return what it defined.
        """
        # Blank lines before it, so that a traceback shows lines of the document.
        source = "\n" * (self.line - 1) + self.text
        module: dict[str, Any] = {"__name__": name}
        exec(compile(source, str(self.document), "exec"), module)
        return module

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path, *languages: str) -> list[Block]:
    """
    Return the blocks of *document* in these *languages*, or all of them.
    """
    found: list[Block] = []
    heading, directives, opened, touching = "", frozenset[str](), None, False
    inside: list[str] = []
    for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
        if opened is None:
            if fence := _FENCE.fullmatch(line):
                opened, inside = (number + 1, fence[1]), []
            elif line.strip():
                match = _DIRECTIVE.fullmatch(line)
                directives = frozenset(match[1].split()) if match else frozenset()
                touching = False
                if match := _HEADING.fullmatch(line):
                    heading = match[1]
        elif line != "```":
            inside.append(line)
        else:
            text = "".join(f"{each}\n" for each in inside)
            if touching and opened[1] == "text" and found[-1].language == "python":
                found[-1] = replace(found[-1], prints=text)
            else:
                found.append(Block(document, opened[0], heading, opened[1], text, directives))
            opened, directives, touching = None, frozenset(), True
    assert opened is None, f"{document} ends inside a block"
    return [each for each in found if not languages or each.language in languages]


def dead_links(document: Path) -> list[str]:
    """
    Return the relative links of *document* that name no file, or no heading there.
    """
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        is_ours = "://" not in target
        if is_ours and (not file.exists() or (anchor and anchor not in anchors(file))):
            dead.append(target)
    return dead


def anchors(document: Path) -> set[str]:
    """
    Return what a link can point to in *document*, spelled as GitHub does.
    """
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def example(heading: str, document: str = "hosting") -> Block:
    """
    Return the one Python block under *heading* in a document of `docs`.
    """
    (block,) = [
        each
        for each in blocks(ROOT / "docs" / f"{document}.md", "python")
        if each.heading.strip("`") == heading
    ]
    return block
