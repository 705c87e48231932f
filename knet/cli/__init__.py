"""
The `knet` command; the extra `cli` brings what it needs.

Without the extra the command is there all the same, so it says what is missing.
"""

from __future__ import annotations

import sys

from knet.cli.output import OutputFailed, watched_stdout

__all__ = ["main"]

# What the extra brings, by the names that are imported.
_EXTRA = {"dns", "rich", "typer"}


# As a shell tells of a program that SIGPIPE has ended.
_BROKEN_PIPE = 141


def main() -> int:
    """
    Run the command line; return the exit code, or raise `SystemExit` with it.
    """
    try:
        with watched_stdout():
            from knet.cli.app import app  # noqa: PLC0415 - it may not be there

            app(prog_name="knet")
    except OutputFailed as error:
        # Who reads no more, as `head`, wants to hear no more.
        if error.is_broken_pipe:
            return _BROKEN_PIPE
        print(f"knet: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        print(f"knet: {missing} is missing: pip install 'knet-ring[cli]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
