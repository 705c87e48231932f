"""
A standard output that is broken, full or closed ends every command: in silence, or in a line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from knet.testing import HeadlessService
from tests.cli.commands import PATIENCE, start
from tests.sigint import default_sigint

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "demo": ["demo", "--plain", "--seconds", "1.5"],
    "resolve": ["resolve", "web.prod"],
    "get": ["get", "web.prod", "user-42", "--port", "8080"],
    "watch": ["watch", "web.prod", "--interval", "0.2"],
    "watch, JSON": ["watch", "web.prod", "--interval", "0.2", "--json"],
    "simulate": ["simulate", "--keys", "1000", "--scale", "12"],
    "simulate, JSON": ["simulate", "--keys", "1000", "--json"],
    "help": ["--help"],
}


def end(command: str, redirection: str, service: HeadlessService) -> tuple[int, str, str]:
    """
    Run a command below a shell; return its exit code and what it said.
    """
    args = COMMANDS[command]
    if args[0] in ("resolve", "get", "watch"):
        args = [*args, "--nameserver", service.nameserver]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with default_sigint():
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirection}', "sh", sys.executable, "-m", "knet", *args],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": ""},
            timeout=PATIENCE,
            check=False,
        )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.sampled(6)
def test_a_full_disk_is_told_in_a_line(command: str) -> None:
    with HeadlessService("web.prod", pods=3) as service:
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full")
        assert end(command, ">/dev/full", service) == (
            1,
            "",
            "knet: write error: No space left on device\n",
        )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.sampled(6)
def test_a_closed_output_is_told_in_a_line(command: str) -> None:
    with HeadlessService("web.prod", pods=3) as service:
        assert end(command, "1>&-", service) == (1, "", "knet: write error: Bad file descriptor\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.sampled(6)
def test_who_reads_no_more_hears_nothing(command: str) -> None:
    """
    As with `knet demo | head`: the first line comes, and the rest ends the command.
    """
    with HeadlessService("web.prod", pods=3) as service:
        args = COMMANDS[command]
        if args[0] in ("resolve", "get", "watch"):
            args = [*args, "--nameserver", service.nameserver]
        process = start(*args)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        service.scale(4)
        code = process.wait(PATIENCE)
        # Short ones may have written all before nobody read any more.
        assert code in ({0, 141} if args[0] in ("resolve", "get", "simulate", "--help") else {141})
        assert process.stderr.read() == ""
        process.stderr.close()
