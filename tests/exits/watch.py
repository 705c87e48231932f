"""
How a careless program ended: what it did, beside what its kind says that it does.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from knet.testing import HeadlessService

from .programs import KINDS, Kind, warning

__all__ = ["PLAIN", "WARNED", "Outcome", "Servers", "judge", "servers", "watch"]

ROOT = Path(__file__).parents[2]

# Without warnings nothing of ours may be heard; with them, one line for the ring.
PLAIN: tuple[str, ...] = ()
WARNED = ("-W", "default", "-X", "faulthandler")

# Seconds. None of them takes one on an idle machine.
_PATIENCE = 20.0

_UNCLOSED = warning("unclosed <Ring ")

_DROPPED = r"Exception ignored in: .*_remove.*\n(?:Traceback .*\n)?(?: .*\n)+KeyboardInterrupt:? *\n(?:\n)?"
_ADVICE = r"\w+Warning: Enable tracemalloc .*\n"


@dataclass(frozen=True, slots=True)
class Servers:
    """
    Where programs ask: one that answers and one that does not.
    """

    talking: str
    silent: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What was seen of one program.

    Attributes:
        crashed: How it died, if of no signal that it was sent; else empty.
        hung: It had to be killed.
        wrong: What else is not as its kind says: the exit code, or what it printed.
        noise: What is left of its standard error without what its host says.
        warnings: How often it was told that a ring is not closed.
    """

    crashed: str = ""
    hung: bool = False
    wrong: str = ""
    noise: str = ""
    warnings: int = 0

    @property
    def is_clean(self) -> bool:
        """
        Did it end as its kind says, and in silence but for one warning?
        """
        return not (self.crashed or self.hung or self.wrong or self.noise or self.warnings > 1)


@contextmanager
def servers() -> Iterator[Servers]:
    """
    Serve `web.prod` for as long as programs run.
    """
    with HeadlessService("web.prod", pods=3) as talking, HeadlessService("web.prod") as silent:
        silent.fail("SILENCE")
        yield Servers(talking.nameserver, silent.nameserver)


def watch(name: str, backend: str, where: Servers, flags: tuple[str, ...] = WARNED) -> Outcome:
    """
    Run a program of the kind *name* to its end.
    """
    kind = KINDS[name]
    command = [
        *(sys.executable, *flags, "-m", "tests.exits.programs"),
        *(name, backend, where.talking, where.silent),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        # Memory that is used after it was freed shows.
        env={**os.environ, "PYTHONMALLOC": "debug"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first = ""
        if kind.sent is not None:
            assert process.stdout is not None
            if select.select([process.stdout], [], [], _PATIENCE)[0]:
                first = process.stdout.readline()
                process.send_signal(kind.sent)
        out, errors = _communicate(process, kind)
    except subprocess.TimeoutExpired:
        process.kill()
        out, errors = process.communicate()
        return Outcome(hung=True, noise=errors)
    return judge(kind, backend, process.returncode, first + out, errors)


def _communicate(process: subprocess.Popen[str], kind: Kind) -> tuple[str, str]:
    """
    Wait for the end of a program; where an interrupt shows no effect, press Ctrl-C once more.

    The interpreter drops a KeyboardInterrupt that happens to hit a finaliser, and says so.
    """
    try:
        return process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        if kind.sent != signal.SIGINT:
            raise
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=_PATIENCE)


def judge(kind: Kind, backend: str, code: int, out: str, errors: str) -> Outcome:
    """
    Hold what a program did and said against what its *kind* says of it.
    """
    ends = kind.ends if isinstance(kind.ends, int) else kind.ends[backend]
    says = kind.says if isinstance(kind.says, tuple) else kind.says.get(backend, ())
    crashed = ""
    if (code < 0 and code != ends) or "Fatal Python error" in errors:
        crashed = f"exit code {code}"
    wrong = ""
    if not crashed and code != ends:
        wrong = f"exit code {code}, not {ends}"
    elif out.split() != ["ready", *kind.prints.split()]:
        wrong = f"printed {out!r}"
    noise, warnings = re.subn(_UNCLOSED, "", errors)
    for pattern in (_ADVICE, _DROPPED, *says):
        noise = re.sub(rf"^{pattern}", "", noise, flags=re.MULTILINE)
    return Outcome(crashed, False, wrong, noise.strip(), warnings)
