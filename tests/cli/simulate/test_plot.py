"""
Pictures of a simulation.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import run

# Loaded here and not in a test: numpy starts threads that it never ends.
pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")

FEW = ("--keys", "2000")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["svg", "png"])
@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--scale", "12", "--placement", "hashring", "--placement", "maglev"),
        ("--rolling", "deployment", "--hot", "0.9", "--pods", "40"),
    ],
    ids=["stay", "scale", "rolling"],
)
def test_a_picture_is_drawn(tmp_path: Path, kind: str, args: tuple[str, ...]) -> None:
    """
    The same simulation gives the same file, byte for byte.
    """
    files = [tmp_path / f"{number}.{kind}" for number in range(2)]
    for file in files:
        result = run("simulate", *args, *FEW, "--plot", str(file))
        assert (result.exit_code, result.stderr) == (0, "")

    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert first.startswith({"svg": b"<?xml", "png": b"\x89PNG"}[kind])
    if kind == "svg":
        assert (b"keys moved" in first) == bool(args)
        assert b"requests over an even share" in first


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "out.svg").mkdir()

    result = run("simulate", *FEW, "--plot", str(tmp_path / "out.svg"))

    assert result.exit_code == 2
    assert "--plot: cannot write" in result.stderr
    assert result.stderr.endswith("Is a directory\n")
