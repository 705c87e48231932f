"""
A default SIGINT for programs under test, whoever runs the tests.

Shells start what runs in the background with SIGINT ignored, and so do `nohup` and many CI agents. A
process inherits that, and Python then installs no handler: such a program cannot be interrupted.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["default_sigint"]


@contextmanager
def default_sigint() -> Iterator[None]:
    """
    Have SIGINT interrupt this process, and those that it starts meanwhile.
    """
    # A handler does not survive an exec: what is started gets the system's default.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
