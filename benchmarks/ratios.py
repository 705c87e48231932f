"""
Does knet hold its numbers? Ratios from one run, against the targets, on any machine:

    python -m benchmarks.ratios [--rounds 15]

Nanoseconds differ from machine to machine and from minute to minute; ratios of cases that took
turns do so much less. Every round runs every case once, in reverse order every other round, with
the garbage collector off; a case's time is its median over the rounds, in CPU seconds of the thread,
so that waiting for a busy machine does not count.

A case is a name and a function that times itself, so that one that needs an event loop can join the
others. A claim is a ratio of two cases, and what it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import NamedTuple

import uhashring

import knet
from benchmarks.cases import KEYS, SIZES, floor, names, pymemcache_get, uhashring_get
from knet.hashring import HashRing


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


def calls(function: Callable[[str], object], keys: Sequence[str]) -> Callable[[], float]:
    """
    Time *function* for each of *keys*: a loop and a call are part of every such case.
    """

    def run() -> float:
        started = time.thread_time()
        for key in keys:
            function(key)
        return (time.thread_time() - started) / len(keys)

    return run


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


def lookup_cases(runner: asyncio.Runner) -> tuple[list[Case], list[Claim]]:
    """
    Finding members: against the floor, and against the peers.

    The rings that are entered here end with *runner*'s loop.
    """
    cases = [Case("floor", calls(floor, KEYS))]
    claims: list[Claim] = []
    pymemcache_target = {3: 4.0, 10: 14.0, 100: 125.0}
    for count in SIZES:
        ring = knet.Ring.static(names(count))
        runner.run(ring.start())
        snapshot = ring.snapshot
        cases += [
            Case(f"get {count}", calls(snapshot.get, KEYS)),
            Case(f"await get {count}", awaits(ring, runner)),
            Case(f"get_n {count}", calls_for_3(snapshot.get_n, KEYS)),
            Case(f"uhashring get {count}", calls(uhashring_get(count), KEYS)),
        ]
        claims += [
            Claim(f"get / floor, {count} members", f"get {count}", "floor", "<=", 2.0),
            Claim(
                f"await get / get, {count} members", f"await get {count}", f"get {count}", "<=", 1.6
            ),
            Claim(f"get_n(3) / get, {count} members", f"get_n {count}", f"get {count}", "<=", 6.0),
            Claim(
                f"uhashring / get, {count} members",
                f"uhashring get {count}",
                f"get {count}",
                ">=",
                17.0 if count == 1000 else 10.0,
            ),
        ]
        if count in pymemcache_target:
            cases.append(
                Case(f"pymemcache get {count}", calls(pymemcache_get(count), KEYS[: 9000 // count]))
            )
            claims.append(
                Claim(
                    f"pymemcache / get, {count} members",
                    f"pymemcache get {count}",
                    f"get {count}",
                    ">=",
                    pymemcache_target[count],
                )
            )
    return cases, claims


def build_cases() -> tuple[list[Case], list[Claim]]:
    """
    Building a ring from nothing.
    """
    cases: list[Case] = []
    claims: list[Claim] = []
    for count, target in ((10, 1.0), (100, 5.0), (1000, 8.0)):
        members = names(count)
        cases += [
            Case(f"build {count}", once(lambda members=members: HashRing(members))),
            Case(
                f"uhashring build {count}",
                once(lambda members=members: uhashring.HashRing(members)),
            ),
        ]
        claims.append(
            Claim(
                f"uhashring build / build, {count} members",
                f"uhashring build {count}",
                f"build {count}",
                ">=",
                target,
            )
        )
    return cases, claims


def measure(cases: Sequence[Case], rounds: int) -> dict[str, float]:
    """
    Return the median seconds of each case over *rounds* in which they take turns.
    """
    times: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            gc.collect()
            gc.disable()
            try:
                times[case.name].append(case.run())
            finally:
                gc.enable()
    return {name: statistics.median(taken) for name, taken in times.items()}


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


def line(what: str, value: str, target: str, holds: bool) -> str:
    return f"{what:<44} {value:>10} {target:>12}   {'holds' if holds else 'MISSED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds

    print(f"CPython {sys.version.split()[0]}, medians of {rounds} rounds\n")
    print(f"{'what':<44} {'ratio':>10} {'target':>12}")
    with asyncio.Runner() as runner:
        for cases, claims in (lookup_cases(runner), build_cases()):
            seconds = measure(cases, rounds)
            for claim in claims:
                ratio = seconds[claim.case] / seconds[claim.by]
                holds = ratio <= claim.target if claim.relation == "<=" else ratio >= claim.target
                print(line(claim.what, f"{ratio:.2f}", f"{claim.relation} {claim.target:g}", holds))
    held = ring_bytes(1000)
    print(line("memory of 1000 members, MB", f"{held / 1e6:.3f}", "<= 0.6", held <= 600_000))


if __name__ == "__main__":
    main()
