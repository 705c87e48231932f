"""
Does knet hold its numbers, and how does it compare? Ratios from one run, on any machine:

    python -m benchmarks.ratios [--rounds 15]

Nanoseconds differ from machine to machine and from minute to minute; ratios of cases that took
turns do so much less. Every round runs every case once, in reverse order every other round, with
the garbage collector off, in CPU seconds of the thread, so that waiting for a busy machine does not
count. A ratio is the median of those of the rounds, and a time the median of times.

A case is a name and a function that times itself, so that one that needs an event loop can join the
others. A claim is a ratio of two cases, and what it should be. The tables at the end hold the rest: every
placement of knet and every peer that runs on this Python, over `HashRing`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import NamedTuple

import xxhash

import knet
from benchmarks.cases import ASK_ALL, KEYS, PLACEMENTS, SIZES, calls, floor, names
from benchmarks.peers import MISSING, PEERS
from knet.hashring import HashRing
from knet.hashring.base import owners

BUILD_SIZES = (10, 100, 1000)


class Case(NamedTuple):
    """
    Something to time: `run` does it many times over and returns the seconds for once.
    """

    name: str
    run: Callable[[], float]


class Claim(NamedTuple):
    """
    What the time of *case* divided by that of *by* should be: at most, or at least, *target*.
    """

    what: str
    case: str
    by: str
    relation: str
    target: float


def calls_for_3(function: Callable[[str, int], object], keys: Sequence[str]) -> Callable[[], float]:
    """
    Time *function* for three members for each of *keys*.
    """

    def run() -> float:
        started = time.thread_time()
        for key in keys:
            function(key, 3)
        return (time.thread_time() - started) / len(keys)

    return run


def awaits(ring: knet.Ring, runner: asyncio.Runner) -> Callable[[], float]:
    """
    Time `await ring.get(key)` for each of the keys, in one task.
    """

    async def pick_all() -> float:
        get = ring.get
        started = time.thread_time()
        for key in KEYS:
            await get(key)
        return (time.thread_time() - started) / len(KEYS)

    return lambda: runner.run(pick_all())


def once(function: Callable[[], object]) -> Callable[[], float]:
    """
    Time one call of *function*; what it returns is released outside the timed part.
    """

    def run() -> float:
        started = time.thread_time()
        made = function()
        elapsed = time.thread_time() - started
        del made
        return elapsed

    return run


def inline(ring: HashRing[str]) -> Callable[[], object]:
    """
    The least that a lookup of many keys can do: the table of a ring, and a comprehension.
    """
    table, xxh64 = owners(ring), xxhash.xxh64_intdigest
    assert table is not None
    return lambda: [table[xxh64(key.encode()) >> 48] for key in KEYS]


def some_keys(count: int, asks_all: bool) -> list[str]:
    """
    As many keys as can be looked up among *count* members in some milliseconds.
    """
    return KEYS[: max(5, 3000 // count)] if asks_all else KEYS


def lookup_cases(runner: asyncio.Runner) -> tuple[list[Case], list[Claim]]:
    """
    Finding members: against the floor, and against the peers.

    The rings that are entered here end with *runner*'s loop.
    """
    cases: list[Case] = []
    claims: list[Claim] = []
    pymemcache_target = {3: 4.0, 10: 14.0, 100: 125.0}
    for count in SIZES:
        ring = knet.Ring.static(names(count))
        runner.run(ring.start())
        snapshot = ring.snapshot
        plain = HashRing(names(count))
        cases += [
            Case(f"floor {count}", calls(floor, KEYS)),
            Case(f"get {count}", calls(snapshot.get, KEYS)),
            Case(f"await get {count}", awaits(ring, runner)),
            Case(f"get_n {count}", calls_for_3(snapshot.get_n, KEYS)),
            Case(f"get_many {count}", once(lambda plain=plain: plain.get_many(KEYS))),
            Case(f"inline {count}", once(inline(plain))),
        ]
        claims += [
            Claim(f"get / floor, {count} members", f"get {count}", f"floor {count}", "<=", 2.0),
            Claim(
                f"await get / get, {count} members", f"await get {count}", f"get {count}", "<=", 1.6
            ),
            Claim(f"get_n(3) / get, {count} members", f"get_n {count}", f"get {count}", "<=", 6.0),
            Claim(
                f"get_many of 10,000 / inline comprehension, {count} members",
                f"get_many {count}",
                f"inline {count}",
                "<=",
                1.15,
            ),
        ]
        if "uhashring" in PEERS:
            claims.append(
                Claim(
                    f"uhashring / get, {count} members",
                    f"uhashring, lookup {count}",
                    f"get {count}",
                    ">=",
                    17.0 if count == 1000 else 10.0,
                )
            )
        if "pymemcache, xxh64" in PEERS and count in pymemcache_target:
            claims.append(
                Claim(
                    f"pymemcache, xxh64 / get, {count} members",
                    f"pymemcache, xxh64, lookup {count}",
                    f"get {count}",
                    ">=",
                    pymemcache_target[count],
                )
            )
        for name, make in PLACEMENTS.items():
            keys = some_keys(count, name in ASK_ALL)
            cases.append(Case(f"{name}, lookup {count}", calls(make(names(count)).get, keys)))
        for peer in PEERS.values():
            get = peer.get(peer.build(names(count)))
            keys = some_keys(count, peer.asks_all)
            cases.append(Case(f"{peer.name}, lookup {count}", calls(get, keys)))
    return cases, claims


def build_cases() -> tuple[list[Case], list[Claim]]:
    """
    Building a ring from nothing.
    """
    cases: list[Case] = []
    claims: list[Claim] = []
    for count, target in zip(BUILD_SIZES, (1.0, 5.0, 8.0), strict=True):
        members = names(count)
        for name, make in PLACEMENTS.items():
            build = once(lambda make=make, members=members: make(members))
            cases.append(Case(f"{name}, build {count}", build))
        for peer in PEERS.values():
            build = once(lambda peer=peer, members=members: peer.build(members))
            cases.append(Case(f"{peer.name}, build {count}", build))
        if "uhashring" in PEERS:
            claims.append(
                Claim(
                    f"uhashring build / build, {count} members",
                    f"uhashring, build {count}",
                    f"HashRing, build {count}",
                    ">=",
                    target,
                )
            )
    return cases, claims


class Times(dict[str, list[float]]):
    """
    The seconds of each case in each round.
    """

    def ratio(self, case: str, by: str) -> float:
        """
        The median over the rounds of the time of *case* divided by that of *by*.
        """
        pairs = zip(self[case], self[by], strict=True)
        return statistics.median([one / other for one, other in pairs])

    def median(self, case: str) -> float:
        return statistics.median(self[case])


def measure(cases: Sequence[Case], rounds: int) -> Times:
    """
    Time every case in each of *rounds*, in which they take turns.
    """
    times = Times({case.name: [] for case in cases})
    # What stands now stays; collecting it over and over would take most of the time.
    gc.collect()
    gc.freeze()
    for number in range(rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            gc.collect()
            gc.disable()
            try:
                times[case.name].append(case.run())
            finally:
                gc.enable()
    gc.unfreeze()
    return times


def ring_bytes(count: int) -> int:
    """
    Return the memory that a ring of *count* members holds beside the members.
    """
    members = names(count)
    HashRing(members[:1])
    gc.collect()
    tracemalloc.start()
    ring = HashRing(members)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del ring
    return held


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


def print_claim(what: str, value: str, target: str, holds: bool) -> None:
    row(what, value, target, "holds" if holds else "**missed**")


def print_times(title: str, times: Times, what: str, sizes: Sequence[int]) -> None:
    """
    Print a table of the times of all placements and peers over those of `HashRing`.
    """
    unit, per_second = ("ns", 1e9) if what == "lookup" else ("ms", 1e3)
    print(f"\n{title}\n")
    row("", *[f"{size:,}" for size in sizes])
    row("---", *["---:"] * len(sizes))
    ours = [f"HashRing, {what} {size}" for size in sizes]
    row("HashRing", *[f"{times.median(case) * per_second:.3g} {unit}" for case in ours])
    for name in [*PLACEMENTS, *PEERS]:
        if name != "HashRing":
            cases = [f"{name}, {what} {size}" for size in sizes]
            ratios = [times.ratio(case, by) for case, by in zip(cases, ours, strict=True)]
            row(name, *[f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}" for ratio in ratios])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds

    print(
        f"CPython {sys.version.split()[0]}, xxhash {xxhash.VERSION}, {platform.system()} on "
        f"{platform.machine()}, medians of {rounds} rounds\n"
    )
    row("what", "ratio", "target", "")
    row("---", "---:", "---:", "---")
    times = Times()
    with asyncio.Runner() as runner:
        # Builds take longer and differ less.
        for (cases, claims), turns in (
            (lookup_cases(runner), rounds),
            (build_cases(), max(3, rounds // 3)),
        ):
            times.update(measure(cases, turns))
            for claim in claims:
                ratio = times.ratio(claim.case, claim.by)
                holds = ratio <= claim.target if claim.relation == "<=" else ratio >= claim.target
                target = f"{claim.relation} {claim.target:g}"
                print_claim(claim.what, f"{ratio:.2f}", target, holds)
    held = ring_bytes(1000)
    print_claim("memory of 1000 members, MB", f"{held / 1e6:.3f}", "<= 1", held <= 1_000_000)
    floor_time = times.median(f"floor {SIZES[0]}") * 1e9
    print(f"\nThe floor is {floor_time:.0f} ns: encode and hash, in a function.")
    print_times(
        "A lookup over that of `HashRing`, which is in nanoseconds, by members:",
        times,
        "lookup",
        SIZES,
    )
    print_times(
        "A build over that of `HashRing`, which is in milliseconds, by members:",
        times,
        "build",
        BUILD_SIZES,
    )
    for missing in MISSING:
        print(f"\nLeft out: {missing}")
    print("\nLeft out: grpcio, whose ring cannot be asked for a pick, only sent requests through")


if __name__ == "__main__":
    main()
