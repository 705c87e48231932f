"""
What is in a wheel and in a source distribution: `python tests/contents.py WHEEL SDIST`.

Runs where a release is built, without the project's other tests.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import PurePosixPath


def check(names: set[str], needed: set[str], allowed: set[str], what: str) -> list[str]:
    """
    Return what is wrong with the files *names*: what is missing, and what lies in no *allowed* folder.
    """
    missing = [f"{what} lacks {name}" for name in sorted(needed - names)]
    tops = {name: PurePosixPath(name).parts[0] for name in names}
    strays = [f"{what} has {name}" for name, top in sorted(tops.items()) if top not in allowed]
    caches = [f"{what} has {name}" for name in sorted(names) if "__pycache__" in name]
    return missing + strays + caches


def main(wheel: str, sdist: str) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    (info,) = {PurePosixPath(n).parts[0] for n in in_wheel if ".dist-info/" in n}
    wrong = check(
        in_wheel,
        {
            "knet/py.typed",
            "knet/__init__.py",
            "knet/hashring/hash_ring.py",
            "knet/cli/demo/__init__.py",
            "knet/testing/pytest_plugin.py",
            f"{info}/licenses/LICENSE",
            f"{info}/entry_points.txt",
        },
        {"knet", info},
        "the wheel",
    )
    with zipfile.ZipFile(wheel) as archive:
        description = archive.read(f"{info}/METADATA").decode()
    for link in re.findall(r"\]\(([^)]+)\)", description):
        if not link.startswith(("https://", "#")):
            wrong.append(f"the description links to {link}, which an index page does not have")
    with tarfile.open(sdist) as tar:
        in_sdist = {name.partition("/")[2] for name in tar.getnames() if "/" in name}
    wrong += check(
        in_sdist,
        {
            "PKG-INFO",
            "LICENSE",
            "README.md",
            "CHANGELOG.md",
            "CONTRIBUTING.md",
            "SECURITY.md",
            "pyproject.toml",
            "noxfile.py",
            "docs/weather.md",
            "tests/conftest.py",
            "tests/hashring/placements/hashring.json",
            "benchmarks/README.md",
            "knet/py.typed",
        },
        {
            *("knet", "tests", "docs", "benchmarks", ".gitignore"),
            *("PKG-INFO", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
            *("pyproject.toml", "noxfile.py"),
        },
        "the source distribution",
    )
    return wrong


if __name__ == "__main__":
    problems = main(*sys.argv[1:])
    print("\n".join(problems) or "wheel and source distribution hold what they should")
    sys.exit(bool(problems))
