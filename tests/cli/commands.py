"""
The `knet` command, in this process and in one of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

import knet
from knet.cli.app import app
from tests.sigint import default_sigint

_ROOT = Path(knet.__file__).parents[1]

# A process that needs longer than this hangs.
PATIENCE = 60


def run(*args: str) -> Result:
    """
    Run the command in this process, with its output on a pipe.
    """
    return CliRunner().invoke(app, args)


def start(*args: str, code: str = "") -> subprocess.Popen[str]:
    """
    Start the command as a process of its own, after *code* has run there.
    """
    program = f"{code}\nimport sys\nfrom knet.cli import main\nsys.exit(main())"
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with default_sigint():
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """
    Return exit code, output and errors of *process*, once it has ended.
    """
    with process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.kill()
            raise
    return process.returncode, out, err
