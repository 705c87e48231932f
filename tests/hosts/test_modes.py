"""
Whatever way the interpreter is run, and whatever its process is short of: the same picks, in silence.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from knet.hashring import HashRing

from .job import KEYS, LOOPS, QUIRKS

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mode:
    """
    Attributes:
        flags: For the interpreter.
        environment: What is set; `None` is unset.
        quirk: What the process does to itself before it begins.
        shell: Redirections.
        directory: Where it runs.
        loops: On which of the job's loops.
    """

    flags: tuple[str, ...] = ()
    environment: dict[str, str | None] = field(default_factory=dict)
    quirk: str = ""
    shell: str = ""
    directory: str | None = None
    loops: tuple[str, ...] = tuple(LOOPS)


MODES = {
    "plain": Mode(),
    "-O": Mode(("-O",)),
    "-OO": Mode(("-OO",)),
    "-X dev": Mode(("-X", "dev")),
    "-W error": Mode(("-W", "error")),
    "-bb": Mode(("-bb", "-W", "error")),
    "-I": Mode(("-I",)),
    "-E -s": Mode(("-E", "-s")),
    "hash seed 0": Mode(environment={"PYTHONHASHSEED": "0"}),
    "hash seed 1": Mode(environment={"PYTHONHASHSEED": "1"}),
    "hash seed random": Mode(environment={"PYTHONHASHSEED": "random"}),
    "debugging loop": Mode(environment={"PYTHONASYNCIODEBUG": "1"}, quirk="a_stopwatch"),
    "debugging malloc": Mode(environment={"PYTHONMALLOC": "debug"}),
    "ASCII": Mode(
        environment={
            "LANG": "C",
            "LC_ALL": None,
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONIOENCODING": None,
            "PYTHONUTF8": "0",
        }
    ),
    "LC_ALL=C": Mode(environment={"LC_ALL": "C"}, quirk="a_locale"),
    "LC_ALL=POSIX": Mode(environment={"LC_ALL": "POSIX"}, quirk="a_locale"),
    "TZ=Troll": Mode(environment={"TZ": "Antarctica/Troll"}),
    "TZ=nonsense": Mode(environment={"TZ": ":no/such/zone"}),
    "no HOME, nowhere to write": Mode(
        environment={"HOME": None, "TMPDIR": None},
        directory="/proc" if Path("/proc/self").exists() else "/",
    ),
    # libuv aborts when it finds a descriptor of its own in the place of a standard one.
    "no standard input": Mode(shell="<&-", loops=("asyncio", "trio")),
    **{quirk.replace("_", " "): Mode(quirk=quirk) for quirk in QUIRKS},
}


def expected() -> str:
    """
    The picks from three pods, from five, from those five while DNS fails, and from three again.
    """
    lines = []
    for count in (3, 5, 5, 3):
        names = [f"kitchen-{i}.kitchen.prod.svc.cluster.local" for i in range(count)]
        picks = HashRing(names).get_many(KEYS)
        lines.append(" ".join(name.partition(".")[0] for name in picks))
    return "\n".join(lines) + "\n"


def run(mode: Mode) -> None:
    # By this path, since -I leaves the working directory out, where a checkout has knet.
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.hosts.job import main; main({mode.quirk!r}, {mode.loops!r})"
    )
    environment = {**os.environ, **mode.environment}
    done = subprocess.run(
        [
            *("sh", "-c", f'exec "$@" {mode.shell}', "sh"),
            *(sys.executable, *mode.flags, "-c", script),
        ],
        env={name: value for name, value in environment.items() if value is not None},
        cwd=mode.directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == expected() * len(mode.loops)


@pytest.mark.parametrize(
    "name",
    [name if name == "plain" else pytest.param(name, marks=pytest.mark.long) for name in MODES],
)
def test_a_ring_lives_the_same_in_every_mode(name: str) -> None:
    """
    From its start through a change, a failure and a recovery to its end; on every loop.
    """
    run(MODES[name])


@pytest.mark.long
def test_a_ring_lives_the_same_where_i_has_no_dot(tmp_path: Path) -> None:
    """
    In Turkish the small letter of I is another one than DNS means; case follows no locale.
    """
    command = ("localedef", "-i", "tr_TR", "-f", "UTF-8", str(tmp_path / "tr_TR.UTF-8"))
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no Turkish locale can be made here: {error}")

    environment: dict[str, str | None] = {"LOCPATH": str(tmp_path), "LC_ALL": "tr_TR.UTF-8"}
    run(Mode(environment=environment, quirk="a_locale"))
