"""
What the project says of itself where it is published: its links lead back to this repository.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

import knet
from tests.hosts.documents import ROOT

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
URLS: dict[str, str] = PYPROJECT["project"]["urls"]
HOME = URLS["Homepage"]
HERE = re.compile(re.escape(HOME) + r"/(?:blob|tree)/main/(.+)")


def published() -> str:
    """
    Return the README as a build writes it.
    """
    hook = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join((ROOT / part["path"]).read_text("utf-8") for part in hook["fragments"])
    for each in hook["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    return text


def test_links_of_the_readme_work_on_an_index_page() -> None:
    """
    All are absolute there, and those into the repository name a file that it has.
    """
    targets = re.findall(r"\]\(([^)\s]+)\)", published())
    ours = [match[1] for target in targets if (match := HERE.fullmatch(target))]

    assert [target for target in targets if not target.startswith("https://")] == []
    assert ours
    assert [path for path in ours if not (ROOT / path.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("name", URLS)
def test_an_url_of_the_project_is_below_its_home(name: str) -> None:
    """
    There is one home, and what is said to be in the repository is there.
    """
    assert f"{URLS[name]}/".startswith(f"{HOME}/")
    if inside := HERE.fullmatch(URLS[name]):
        assert (ROOT / inside[1]).exists()


def test_the_forms_lead_to_the_same_home() -> None:
    """
    What stands in `.github` cannot read it from the project's metadata.
    """
    forms = [path for path in sorted((ROOT / ".github").rglob("*")) if path.is_file()]
    if not forms:
        pytest.skip("a source distribution has no forms")

    urls = [
        url
        for path in forms
        for url in re.findall(r"https://github\.com/[^\s)]+", path.read_text("utf-8"))
    ]

    assert urls
    assert [url for url in urls if not url.startswith(f"{HOME}/")] == []
    assert [
        url for url in urls if (at := HERE.fullmatch(url)) and not (ROOT / at[1]).exists()
    ] == []


def test_workflows_are_yaml_and_ask_for_no_more_rights_than_they_need() -> None:
    """
    Only the job that publishes may sign, and nothing may write to the repository.
    """
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    found = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    if not found:
        pytest.skip("a source distribution has no workflows")

    for path in found:
        workflow = yaml.safe_load(path.read_text("utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            signs = {"id-token": "write", "attestations": "write"}
            assert job.get("permissions") == (signs if name == "publish" else None)
            assert job["timeout-minutes"] <= 90
            assert all(set(step) & {"uses", "run"} for step in job["steps"])


def test_the_version_is_that_of_the_distribution() -> None:
    """
    An installed knet knows its version.
    """
    assert knet.__version__ == PYPROJECT["project"]["version"]
