"""
The `knet` command itself: help, version, what is missing, how it ends.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import knet
from knet.cli import loop
from knet.cli.loop import Backend
from tests.cli.commands import finish, run, start


@pytest.mark.parametrize("command", ["demo", "resolve", "get", "watch", "simulate"])
def test_each_command_explains_itself(command: str) -> None:
    """
    `--help` and `-h`, and the overview names it.
    """
    assert command in run("--help").stdout
    assert run(command, "--help").exit_code == 0
    assert run(command, "-h").stdout == run(command, "--help").stdout


def test_the_version_is_that_of_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    `knet --version` prints one line.
    """
    monkeypatch.setattr("importlib.metadata.version", {"knet-ring": "1.2.3"}.__getitem__)
    result = run("--version")

    assert (result.exit_code, result.stdout) == (0, "knet 1.2.3\n")


@pytest.mark.parametrize(
    "args", [(), ("resolve",), ("get", "web"), ("demo", "--pods", "1"), ("dance",)]
)
def test_a_wrong_call_is_a_usage_error(args: tuple[str, ...]) -> None:
    """
    Exit code 2.
    """
    assert run(*args).exit_code == 2


def test_a_backend_that_is_not_installed_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    trio is no dependency of knet.
    """
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("resolve", "web.prod", "--backend", "trio")

    assert result.exit_code == 2
    assert "trio is not installed" in result.stderr


@pytest.mark.parametrize(
    ("missing", "args"),
    [("typer", ("demo",)), ("rich", ("resolve", "web.prod")), ("dns", ("demo", "--plain"))],
)
def test_without_the_extra_one_line_says_what_to_install(
    missing: str, args: tuple[str, ...]
) -> None:
    """
    The entry point is installed with knet, the extra `cli` is not.
    """
    process = start(*args, code=f"import sys; sys.modules[{missing!r}] = None")
    code, out, err = finish(process)

    assert (code, out) == (1, "")
    assert err == f"knet: {missing} is missing: pip install 'knet-ring[cli]'\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_error_from_within_task_groups_leaves_as_itself(backend: Backend) -> None:
    """
    However deep it was raised.
    """

    async def main() -> None:
        async with anyio.create_task_group(), anyio.create_task_group():
            raise knet.ServerFailure("it is broken")

    with pytest.raises(knet.ServerFailure, match="it is broken"):
        loop.run(main, backend)


def test_python_runs_it_as_a_module() -> None:
    """
    Where scripts are not on the path; `-V` is short for `--version`.
    """
    done = subprocess.run(
        [sys.executable, "-m", "knet", "-V"],
        capture_output=True,
        text=True,
        cwd=Path(knet.__file__).parents[1],
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run("--version").stdout


def test_help_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ([], ["demo"], ["resolve"], ["get"], ["watch"], ["simulate"]):
        lines = run(*command, "--help").stdout.splitlines()
        assert max(map(len, lines)) <= 80


def test_a_shell_can_be_taught_to_complete() -> None:
    assert "--install-completion" in run("--help").stdout
