"""
What does an import cost? Whole processes, in turns, and the ratio of their times.

    python -m benchmarks.imports [--rounds 20]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys

CASES = {
    "nothing": "pass",
    "knet": "import knet",
    "knet.hashring": "import knet.hashring",
    "knet.resolver": "import knet.resolver",
    "knet, and its Ring": "import knet; knet.Ring",
}


def cpu_seconds(statement: str) -> float:
    """
    Run *statement* in an interpreter of its own and return the CPU time of that.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, statement in CASES.items():
            took = cpu_seconds(statement)
            if number:  # the first round writes bytecode
                times[name].append(took)
    bare = statistics.median(times["nothing"])
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    print(f"{'import':<20} {'ms of CPU':>10} {'beyond the interpreter':>23}")
    for name, median in medians.items():
        print(f"{name:<20} {median * 1e3:>10.1f} {(median - bare) * 1e3:>23.1f}")
    whole = medians["knet.hashring"] / medians["knet.resolver"]
    beyond = (medians["knet.hashring"] - bare) / (medians["knet.resolver"] - bare)
    print(
        f"\nknet.hashring / knet.resolver: {whole:.2f} of the process, {beyond:.2f} of the import"
    )


if __name__ == "__main__":
    main()
