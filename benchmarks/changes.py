"""
What does a change of one member cost, beside a build from nothing and beside uhashring?

    python -m benchmarks.changes [--rounds 9]

`HashRing.replace` with one member more, one fewer, and one in the place of another; from 10 members to
10,000. In CPU seconds of the thread, the garbage collector off, a round for each random member; a ratio is the
median of those of the rounds. uhashring changes its ring in place, where `replace` leaves the old one
as it is for those who read it; its sizes end where one change takes seconds.
"""

from __future__ import annotations

import argparse
import gc
import platform
import random
import sys
from collections.abc import Callable

from benchmarks.cases import names
from benchmarks.peers import PEERS
from benchmarks.ratios import Times, once
from knet.hashring import HashRing

SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)
# At most so much of a build, by members: a join and a leave.
TARGETS = {100: (1 / 5, 1 / 3), 1000: (1 / 10, 1 / 5), 10_000: (1 / 10, 1 / 5)}
PEER = "uhashring"
PEER_SIZES = [size for size in SIZES if size <= 1000]


def measure(count: int, rounds: int) -> Times:
    """
    Return the seconds of each change of a ring of *count* members, and of a build, in each round.
    """
    members, rng = names(count), random.Random(count)
    ring = HashRing(members)
    peer = PEERS[PEER].build(members) if PEER in PEERS and count in PEER_SIZES else None
    times = Times()
    gc.collect()
    gc.disable()
    for number in range(rounds):
        joiner, leaver = f"10.9.0.{number + 1}", rng.choice(members)
        fewer = [member for member in members if member != leaver]
        cases: dict[str, Callable[[], object]] = {
            "build": lambda: HashRing(members),
            "join": lambda joiner=joiner: ring.replace([*members, joiner]),
            "leave": lambda fewer=fewer: ring.replace(fewer),
            "replaced": lambda fewer=fewer, joiner=joiner: ring.replace([*fewer, joiner]),
        }
        if peer is not None:
            cases[f"{PEER}, join"] = lambda joiner=joiner: peer.add_node(joiner)
            cases[f"{PEER}, leave"] = lambda joiner=joiner: peer.remove_node(joiner)
        for name, case in cases.items():
            times.setdefault(name, []).append(once(case)())
    gc.enable()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds

    print(
        f"CPython {sys.version.split()[0]}, {platform.system()} on {platform.machine()}, medians of "
        f"{rounds} rounds, over a build of `HashRing`\n"
    )
    cases = ["join", "leave", "replaced", f"{PEER}, join", f"{PEER}, leave"]
    print(f"| members | build | {' | '.join(cases)} |")
    print(f"| ---: | ---: |{' ---: |' * len(cases)}")
    for count in SIZES:
        times = measure(count, rounds)
        cells = []
        for case, target in zip(cases, [*TARGETS.get(count, ()), *[None] * 5], strict=False):
            if case not in times:
                cells.append("")
                continue
            found = times.ratio(case, "build")
            if target is not None and found > target:
                cells.append(f"**{found:.3f}** (<= {target:.2f})")
            else:
                cells.append(f"{found:.3f}" if found < 1 else f"{found:.1f}")
        print(
            f"| {count:,} | {times.median('build') * 1e3:.3g} ms | {' | '.join(cells)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
