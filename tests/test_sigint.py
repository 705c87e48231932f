"""
The programs under test can be interrupted, whoever runs the tests.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.sigint import default_sigint

PROGRAM = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"


def can_be_interrupted() -> bool:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    return done.stdout.strip() == "True"


def test_a_program_can_be_interrupted_where_sigint_is_ignored() -> None:
    """
    As below `nohup`, or in the background of a script.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert not can_be_interrupted()
        with default_sigint():
            assert can_be_interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
