"""
Standard output as commands need it: one that is gone, full or closed ends them, in a line or in silence.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["OutputFailed", "watched_stdout"]


class OutputFailed(Exception):
    """
    Raised where something could not be written to standard output.

    No `OSError`, since those are handled on the way: by rich, by click, and by whoever asks DNS.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"write error: {error.strerror}")
        self.is_broken_pipe = error.errno == errno.EPIPE


class _Watched:
    """
    A text stream whose writes raise `OutputFailed`.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            written: int = self._stream.write(text)
        except OSError as error:
            raise OutputFailed(error) from None
        return written

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise OutputFailed(error) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def watched_stdout() -> Iterator[None]:
    """
    Let writes to `sys.stdout` raise `OutputFailed` meanwhile, the last flush too.

    Raises:
        OutputFailed: There is none, or something could not be written; what is still to be written is
            thrown away, so that the interpreter ends in silence.
    """
    stdout: Any = sys.stdout
    if stdout is None:  # as with `1>&-`
        raise OutputFailed(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    watched: Any = _Watched(stdout)
    sys.stdout = watched
    try:
        yield
        watched.flush()
    except OutputFailed:
        with suppress(OSError, ValueError):  # it has no descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stdout.fileno())
            os.close(nowhere)
        raise
    finally:
        sys.stdout = stdout
