"""
What the documents say is so: their Python runs and prints what they show, their commands parse,
their links lead somewhere.
"""

from __future__ import annotations

import dataclasses
import doctest
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner

from knet import RefreshPolicy
from knet.cli.app import app
from knet.testing import HeadlessService
from tests.hosts.cluster import cluster
from tests.hosts.documents import DOCUMENTS, ROOT, WRITTEN, Block, blocks, dead_links
from tests.sigint import default_sigint

PYTHON = [each for document in DOCUMENTS for each in blocks(document, "python")]
TESTS = [each for each in PYTHON if re.search(r"^(async )?def test_", each.text, re.MULTILINE)]
PROGRAMS = [each for each in PYTHON if each not in TESTS]
SHELL = [each for document in DOCUMENTS for each in blocks(document, "sh", "console")]
SESSIONS = [each for each in SHELL if each.text.startswith("$ knet ")]
YAML = [each for document in DOCUMENTS for each in blocks(document, "yaml")]
IN_BLOCKS = [
    line
    for block in SHELL
    for line in re.findall(r"(?:^|&& )(?:\$ )?(knet .+)$", block.text, re.MULTILINE)
]
IN_SENTENCES = [
    line
    for document in DOCUMENTS
    for line in re.findall(r"`(knet [^`]+)`", document.read_text("utf-8"))
]
COMMANDS = sorted({*IN_BLOCKS, *IN_SENTENCES})

# A program that takes longer hangs.
DEADLINE = 20.0


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HeadlessService]:
    """
    The service `web.prod` of the cluster that a program finds itself in.
    """
    logger = logging.getLogger("knet")
    handlers, level = logger.handlers.copy(), logger.level
    try:
        with cluster(monkeypatch) as service:
            yield service
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_runs_and_prints_what_is_shown(
    web: HeadlessService, block: Block, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Run as it is printed, in a cluster, and compared with the text block below it.
    """
    if "rollout" in block.directives:
        with default_sigint(), rollout_and_ctrl_c(web), pytest.raises(KeyboardInterrupt):
            block.run()
    else:
        with default_sigint(), deadline():
            block.run()

    printed = capsys.readouterr().out
    if block.prints is not None:
        assert_shown(block.prints, printed)


def test_the_readme_is_one_screen_with_the_two_commands() -> None:
    """
    Who tries it types these, so they stay what they are.
    """
    text = (ROOT / "README.md").read_text("utf-8")
    shown = [block.text.strip() for block in blocks(ROOT / "README.md", "sh")]
    (program,) = blocks(ROOT / "README.md", "python")

    assert shown == [
        "python -m pip install '.[cli]' && knet demo",
        "python -m pip install nox && nox",
    ]
    assert len(text.splitlines()) <= 80
    assert len(program.text.split("\n")) <= 12


@pytest.mark.long
@pytest.mark.parametrize("block", TESTS, ids=str)
def test_a_test_passes(block: Block, tmp_path: Path) -> None:
    """
    A test that users may copy passes, an async one on both loops, in a project that has nothing else.
    """
    (tmp_path / "test_example.py").write_text(block.text, "utf-8")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    tests = re.findall(r"^(async )?def test_", block.text, re.MULTILINE)
    assert f"{sum(2 if each else 1 for each in tests)} passed" in run.stdout


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_line_is_accepted(line: str) -> None:
    """
    Every `knet` command has arguments that it knows, in blocks; in a sentence only its name counts.
    """
    _, name, *arguments = shlex.split(line)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    context = group.make_context("knet", [name, *arguments], resilient_parsing=True)

    command = group.get_command(context, name)

    assert command is not None
    if arguments or line in IN_BLOCKS:
        command.make_context(name, arguments, parent=context)


@pytest.mark.parametrize("block", SESSIONS, ids=str)
def test_a_command_prints_what_is_shown(web: HeadlessService, block: Block) -> None:
    """
    The first line is the command; what follows is what it prints.
    """
    line, _, shown = block.text.partition("\n")

    with default_sigint(), deadline():
        outcome = CliRunner().invoke(app, shlex.split(line.removeprefix("$ knet ")))

    assert outcome.exit_code == 0, outcome.output
    assert_shown(shown, outcome.output)


@pytest.mark.parametrize("block", YAML, ids=str)
def test_a_manifest_is_yaml(block: Block) -> None:
    """
    A manifest parses, and each document in it says what it is.
    """
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

    for manifest in yaml.safe_load_all(block.text):
        assert {"apiVersion", "kind", "metadata", "spec"} <= manifest.keys()


@pytest.mark.long
@pytest.mark.parametrize("block", blocks(ROOT / "docs" / "placements.md", "python"), ids=str)
def test_a_placement_of_ones_own_passes_a_type_checker(block: Block, tmp_path: Path) -> None:
    """
    As it stands, by `mypy --strict`: the protocols take what one would write.
    """
    pytest.importorskip("mypy", reason="mypy is not installed")
    program = tmp_path / "program.py"
    program.write_text(block.text, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("document", WRITTEN, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """
    A relative link names a file of the repository, and its anchor a heading there.
    """
    assert dead_links(document) == []


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    """
    A missing file, a missing heading, and a heading that is a comment in a block of code.
    """
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n\n```sh\n# two\n```\n\n[1](#one) [2](#two) [3](no.md) [4](page.md#one) [5](page.md#six)\n"
    )

    assert dead_links(page) == ["#two", "no.md", "page.md#six"]


def test_the_table_of_defaults_is_that_of_refresh_policy() -> None:
    """
    Every argument is there, in its order, with its default.
    """
    text = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")

    shown = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text, re.MULTILINE)

    assert shown == [(f.name, str(f.default)) for f in dataclasses.fields(RefreshPolicy)]


def assert_shown(shown: str, printed: str) -> None:
    """
    Fail unless *printed* is *shown*, in which `...` stands for anything.
    """
    if not doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS):
        pytest.fail(f"shown:\n{shown}\nprinted:\n{printed}")


@contextmanager
def deadline() -> Iterator[None]:
    """
    Fail if the body has not ended after `DEADLINE`.
    """
    over = threading.Event()

    def watch() -> None:
        if not over.wait(DEADLINE):
            press_ctrl_c()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt:
        pytest.fail(f"still running after {DEADLINE} s")
    finally:
        over.set()
        watcher.join()


@contextmanager
def rollout_and_ctrl_c(service: HeadlessService) -> Iterator[None]:
    """
    Replace every pod while the body runs, one by one, and then press Ctrl-C.
    """

    def roll() -> None:
        # A few lookups between any two steps: the ring has then seen the one before the other.
        asked = 2
        service.wait_for_queries(asked, DEADLINE)
        for pod in service.pods:
            service.replace(pod)
            asked = len(service.queries) + 6
            service.wait_for_queries(asked, DEADLINE)
        press_ctrl_c()

    roller = threading.Thread(target=roll)
    roller.start()
    try:
        yield
    finally:
        roller.join()


def press_ctrl_c() -> None:
    """
    Interrupt the main thread as a terminal does.
    """
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
