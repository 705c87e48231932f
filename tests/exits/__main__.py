"""
Every kind of careless end, many times, as a table: `python -m tests.exits [--runs N]`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.sigint import default_sigint

from .programs import KINDS
from .watch import PLAIN, WARNED, Outcome, servers, watch

Program = tuple[str, str, tuple[str, ...]]


def main() -> int:
    """
    Run them, print the table, and return 1 if one of them ended otherwise than it should.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="how many processes, at least")
    parser.add_argument("--kind", action="append", help="only this kind; may be repeated")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()

    programs: list[Program] = [
        (name, backend, flags)
        for name in options.kind or KINDS
        for backend in KINDS[name].backends
        for flags in (PLAIN, WARNED)
    ]
    rounds = -(-options.runs // len(programs))
    began = time.monotonic()
    with servers() as where, default_sigint(), ThreadPoolExecutor(options.at_once) as pool:

        def run(program: Program) -> Outcome:
            name, backend, flags = program
            return watch(name, backend, where, flags)

        several = list(itertools.chain.from_iterable(itertools.repeat(programs, rounds)))
        outcomes = list(zip(several, pool.map(run, several), strict=True))

    seen = Counter[tuple[str, str]]()
    for (name, _, _), outcome in outcomes:
        seen[name, "runs"] += 1
        seen[name, "crashes"] += bool(outcome.crashed)
        seen[name, "hangs"] += outcome.hung
        seen[name, "noise"] += bool(outcome.noise) or outcome.warnings > 1
        seen[name, "wrong"] += bool(outcome.wrong)
        seen[name, "warned"] += outcome.warnings == 1
    columns = ("runs", "crashes", "hangs", "noise", "wrong", "warned")
    print(f"| kind | {' | '.join(columns)} |\n|---{'|---:' * len(columns)}|")
    for name in dict.fromkeys(name for (name, _, _), _ in outcomes):
        print(f"| {name.replace('_', ' ')} | {' | '.join(str(seen[name, c]) for c in columns)} |")
    total = {c: sum(n for (_, column), n in seen.items() if column == c) for c in columns}
    print(f"| all | {' | '.join(map(str, total.values()))} |")
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"\nCPython {version}, {time.monotonic() - began:.0f} s")

    unclean = {program: outcome for program, outcome in outcomes if not outcome.is_clean}
    for (name, backend, flags), outcome in unclean.items():
        print(f"\n{name} {backend} {' '.join(flags)}: {outcome.crashed or outcome.wrong}")
        print("hung" if outcome.hung else "", outcome.noise)
    return bool(unclean)


if __name__ == "__main__":
    sys.exit(main())
