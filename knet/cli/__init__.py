"""
The `knet` command; the extra `cli` brings what it needs.

Without the extra the command is there all the same, so it says what is missing.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

# What the extra brings, by the names that are imported.
_EXTRA = {"dns", "rich", "typer"}


def main() -> int:
    """
    Run the command line; return the exit code, or raise `SystemExit` with it.
    """
    try:
        from knet.cli.app import app  # noqa: PLC0415 - it may not be there

        app(prog_name="knet")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        print(f"knet: {missing} is missing: pip install 'knet-ring[cli]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
