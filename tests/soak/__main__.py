"""
Run the soak, and say what it found; the exit code is 1 if anything is broken.

Every part on every loop is a process of its own, so that its figures are its own, and so that a crash
on the way out is seen. The same seed gives the same churn and weather; what happens at one moment of
virtual time in which order, and all that real time has a part in, is the loop's and the machine's.
"""

from __future__ import annotations

import argparse
import faulthandler
import platform
import random
import subprocess
import sys
import time
from functools import partial
from typing import Any

import anyio
from trio.testing import MockClock

from tests.soak import real, virtual
from tests.soak.figures import Report
from tests.virtual_time import VirtualLoop

PARTS = ("virtual", "real")
LOOPS = ("asyncio", "trio")


def options() -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Rings in bad weather, for a long time."
    )
    add = parser.add_argument
    add("--part", choices=PARTS, help="only this part")
    add("--loop", choices=LOOPS, help="only on this event loop")
    add("--seed", type=int, default=random.randrange(10**6), help="of churn and weather")
    add("--hours", type=float, help="of virtual time; default 12")
    add("--refreshes", type=int, help="of real rings, at least unless the time is up; 15,000")
    add("--seconds", type=float, help="of real time for them, on each loop; default 150")
    add("--brief", action="store_true", help="a minute for all of it")
    found = parser.parse_args()
    for name, usual, brief in (("hours", 12, 1), ("refreshes", 15_000, 1000), ("seconds", 150, 8)):
        if getattr(found, name) is None:
            setattr(found, name, brief if found.brief else usual)
    return found


def run(wanted: argparse.Namespace) -> int:
    """
    Run one part on one loop, in this process.
    """
    report = Report(f"{wanted.part}, {wanted.loop}, seed {wanted.seed}")
    # A soak that hangs is broken too: it shows where, and exits.
    patience = 120 + (wanted.hours * 90 if wanted.part == "virtual" else wanted.seconds * 4)
    faulthandler.dump_traceback_later(patience, exit=True)
    began = time.perf_counter()
    backend: dict[str, Any] = {}
    if wanted.part == "virtual":
        soak = partial(virtual.soak, report, seed=wanted.seed, hours=wanted.hours)
        backend = {"loop_factory": VirtualLoop}
        if wanted.loop == "trio":
            backend = {"clock": MockClock(autojump_threshold=0)}
    else:
        limits = {"refreshes": wanted.refreshes, "seconds": wanted.seconds}
        soak = partial(real.soak, report, seed=wanted.seed, **limits)
    anyio.run(soak, backend=wanted.loop, backend_options=backend)
    report.row("seconds that it all took", f"{time.perf_counter() - began:.0f}")
    print(report, flush=True)
    return 1 if report.breaches else 0


def main() -> int:
    """
    Run every part that is wanted on every loop that is wanted.
    """
    wanted = options()
    if wanted.part and wanted.loop:
        return run(wanted)
    print(f"CPython {platform.python_version()} on {platform.platform()}, seed {wanted.seed}\n")
    broken = []
    for part in (wanted.part,) if wanted.part else PARTS:
        for loop in (wanted.loop,) if wanted.loop else LOOPS:
            arguments = {
                "--part": part, "--loop": loop, "--seed": wanted.seed, "--hours": wanted.hours,
                "--refreshes": wanted.refreshes, "--seconds": wanted.seconds,
            }  # fmt: skip
            words = [str(word) for pair in arguments.items() for word in pair]
            command = [sys.executable, "-X", "faulthandler", "-m", "tests.soak", *words]
            code = subprocess.run(command, check=False).returncode
            if code:
                broken.append(f"{part} on {loop}: exit code {code}")
            print(flush=True)
    print("\n".join(broken) or "Nothing is broken.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
