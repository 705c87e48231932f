"""
How even are the shares, and how many keys move when a member leaves or joins?

    python -m benchmarks.balance

Prints tables in Markdown; about a minute. Nothing is timed and nothing sampled, except where a line
says so: shares and moves are counted in slots, or measured in arcs between points, so that a run on
another machine prints the same.

A number of members stands for several sets of about so many, each of which loses one member after the
other, not the last one. Read backwards that is how members join: all of these are functions of the set of
members, but for jump, which is better when the last member leaves or a new last one joins. Ideal is the fair
share of one member: what has to move whoever it is.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import xxhash

from benchmarks.cases import names
from benchmarks.peers import MISSING, PEERS
from knet.hashring import HashRing, Maglev, Member, Rendezvous
from knet.hashring.base import owners
from knet.hashring.proxies import EnvoyRing

SIZES = (3, 10, 100, 300, 1000)
# How many sets there are of so many members, and how many members each loses: an even number of them, so
# that half the time there are more than so many members. Whole slots make the bounds of `balance` jump
# at some numbers of members and not at others.
SETS = {3: (8, 2), 10: (6, 2), 100: (2, 8), 300: (1, 12), 1000: (1, 16)}

# Of the peer that does not show its points.
_SAMPLES = [f"key-{number}" for number in range(200_000)]


class Owners(Protocol):
    """
    Who owns which part of the key space.
    """

    def share(self) -> dict[Any, float]:
        """
        What part of all keys each has that has any.
        """

    def moved(self, other: Any) -> float:
        """
        What part of all keys has another owner in *other*.
        """


class Slots(NamedTuple):
    """
    Equal parts of the key space, or keys to stand for all.
    """

    table: Sequence[Any]

    def share(self) -> dict[Any, float]:
        return {owner: count / len(self.table) for owner, count in Counter(self.table).items()}

    def moved(self, other: Slots) -> float:
        return sum(a != b for a, b in zip(self.table, other.table, strict=True)) / len(self.table)


class Arcs(NamedTuple):
    """
    Points, ascending, each of which has the hashes from the one below up to itself.
    """

    points: Sequence[int]
    owners: Sequence[Any]
    size: int

    def share(self) -> dict[Any, float]:
        arcs: Counter[Any] = Counter()
        below = self.points[-1] - self.size
        for point, owner in zip(self.points, self.owners, strict=True):
            arcs[owner] += point - below
            below = point
        return {owner: arc / self.size for owner, arc in arcs.items()}

    def moved(self, other: Arcs) -> float:
        ends = sorted({*self.points, *other.points})
        below = ends[-1] - self.size
        total = one = two = 0
        for end in ends:
            # The first point of each at or after this end.
            while one < len(self.points) and self.points[one] < end:
                one += 1
            while two < len(other.points) and other.points[two] < end:
                two += 1
            mine = self.owners[one % len(self.owners)]
            if mine != other.owners[two % len(other.owners)]:
                total += end - below
            below = end
        return total / self.size


class Even(NamedTuple):
    """
    Rendezvous, whose shares are those of the weights and of which only a leaver's keys move.
    """

    members: tuple[Any, ...]

    def share(self) -> dict[Any, float]:
        return {member: 1 / len(self.members) for member in self.members}

    def moved(self, other: Even) -> float:
        return 1 / max(len(self.members), len(other.members))


def owners_of(placement: Any) -> Owners:
    """
    Look into one of knet's placements.
    """
    if isinstance(placement, Rendezvous):
        return Even(placement.members)
    parts = owners(placement)
    if parts is not None:
        return Slots(parts)
    points, whose = zip(*placement.points, strict=True)
    return Arcs(points, whose, 2**placement.hash_bits)


def uhashring_owners(members: list[str]) -> Owners:
    ring = PEERS["uhashring"].build(members)
    points, owners = zip(*ring.get_points(), strict=True)
    return Arcs(points, owners, 2**128)


def hashring_owners(members: list[str]) -> Owners:
    ring = PEERS["hashring"].build(members)
    points = sorted(ring.ring)
    return Arcs(points, [ring.ring[point] for point in points], 2**32)


def sampled_owners(peer: str, members: list[str]) -> Owners:
    get = PEERS[peer].get(PEERS[peer].build(members))
    return Slots([get(key) for key in _SAMPLES])


class Subject(NamedTuple):
    """
    A placement or a peer, how many members it is asked about, and how many of them leave at most.
    """

    name: str
    owners: Callable[[list[Any]], Owners]
    sizes: Sequence[int] = SIZES
    leavers: int = 99


def subjects() -> list[Subject]:
    def knet(name: str, make: Callable[[Iterable[Hashable]], Any], *sizes: int) -> Subject:
        return Subject(name, lambda members: owners_of(make(members)), sizes or SIZES)

    # Others of knet are left out because their points are like those of one that is in: GrpcRing like
    # EnvoyRing, EnvoyMaglev like Maglev, and NginxRing, HAProxyRing and Ketama like uhashring.
    found = [
        knet("HashRing", HashRing),
        knet("HashRing, balance=1.1", partial(HashRing, balance=1.1)),
        knet("HashRing, 512 points", partial(HashRing, points=512)),
        knet("HashRing, 512 points, balance=1.1", partial(HashRing, points=512, balance=1.1)),
        knet("HashRing, 2**18 slots", partial(HashRing, slots=2**18), 1000),
        knet(
            "HashRing, 2**18 slots, balance=1.1", partial(HashRing, slots=2**18, balance=1.1), 1000
        ),
        knet("HashRing, 2**18 slots, 512 points", partial(HashRing, slots=2**18, points=512), 1000),
        knet(
            "HashRing, 2**18 slots, 512 points, balance=1.1",
            partial(HashRing, slots=2**18, points=512, balance=1.1),
            1000,
        ),
        knet("Maglev", Maglev),
        knet("Rendezvous (by its nature)", Rendezvous),
        knet("EnvoyRing, of 1024 points or more", EnvoyRing),
        knet(
            "EnvoyRing, of 65 536 points or more",
            partial(EnvoyRing, min_size=65_536),
            *(100, 300, 1000),
        ),
    ]
    if "uhashring" in PEERS:
        found.append(Subject("uhashring", uhashring_owners, leavers=4))
    if "hashring" in PEERS:
        found.append(Subject("hashring", hashring_owners, leavers=4))
    if "fastring" in PEERS:
        found.append(
            Subject("fastring (200 000 keys)", partial(sampled_owners, "fastring"), leavers=4)
        )
    if "jump, xxh64" in PEERS:
        found.append(
            Subject("jump (200 000 keys)", partial(sampled_owners, "jump, xxh64"), leavers=4)
        )
    return found


class Quality(NamedTuple):
    """
    What *subject* is like with so many members.

    Attributes:
        busiest: The largest share over the mean one, in the worst of the sets.
        spread: The standard deviation of shares over their mean, on average.
        moved: Keys moved when a member leaves or joins, over the ideal, on average.
    """

    busiest: float
    spread: float
    moved: float


def quality(subject: Subject, count: int) -> Quality:
    """
    Measure *subject* with the sets of about *count* members that `SETS` says.
    """
    sets, leavers = SETS[count]
    leavers = min(leavers, subject.leavers)
    busiest: list[float] = []
    spreads: list[float] = []
    moves: list[float] = []
    for family in range(sets):
        members = names(count + leavers // 2, family)
        before = subject.owners(members)
        while True:
            if len(members) == count:
                share = before.share()
                shares = [share.get(member, 0.0) * count for member in members]
                busiest.append(max(shares))
                spreads.append(statistics.pstdev(shares))
            if len(members) == count - leavers + leavers // 2:
                break
            ideal = 1 / len(members)
            members = members.copy()
            del members[len(members) // 2]
            after = subject.owners(members)
            moves.append(before.moved(after) / ideal)
            before = after
    return Quality(max(busiest), statistics.fmean(spreads), statistics.fmean(moves))


def weighted_error(make: Callable[[list[Member]], Any], members: list[Member]) -> list[float]:
    """
    Return how far off shares are from weights: the most by which one is above, below, the mean.
    """
    share = make(members).share()
    total = sum(member.weight for member in members)
    errors = [share[member] * total / member.weight - 1 for member in members]
    return [max(errors), min(errors), statistics.fmean(map(abs, errors))]


def weighted_members() -> list[Member]:
    """
    A hundred members, from a tenth to ten times the weight of the most.
    """
    weights = (1, 1, 1, 1, 1, 2, 2, 4, 0.1, 10)
    return [Member(name, weights[i % len(weights)]) for i, name in enumerate(names(100))]


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    results = {
        subject.name: {count: quality(subject, count) for count in subject.sizes}
        for subject in subjects()
    }
    headings = [f"{count:,}" for count in SIZES]

    def table(title: str, text: Callable[[Quality], str]) -> None:
        print(f"{title}\n")
        row("", *headings)
        row("---", *["---"] * len(headings))
        for name, found in results.items():
            row(name, *[text(found[count]) if count in found else "" for count in SIZES])
        print()

    print(f"CPython {sys.version.split()[0]}, xxhash {xxhash.VERSION}\n")
    table(
        "Busiest member over the mean (standard deviation over the mean), by members:",
        lambda found: f"{found.busiest:.3f} ({found.spread:.3f})",
    )
    table(
        "Keys moved when a member leaves or joins, over the ideal, by members:",
        lambda found: f"{found.moved:.2f}",
    )

    print(
        "Share over weight, of 100 members of weights 0.1 to 10: at most, at least, mean error:\n"
    )
    row("", "most", "least", "mean error")
    row("---", "---", "---", "---")
    for points in (40, 160, 512, 2048):
        for balance in (None, 1.1):
            make = partial(HashRing[Member], points=points, balance=balance)
            most, least, error = weighted_error(make, weighted_members())
            bound = f", balance={balance}" if balance else ""
            row(
                f"HashRing, {points} points{bound}", f"{most:+.1%}", f"{least:+.1%}", f"{error:.1%}"
            )
    most, least, error = weighted_error(Maglev, weighted_members())
    row("Maglev", f"{most:+.1%}", f"{least:+.1%}", f"{error:.1%}")
    for missing in MISSING:
        print(f"\nLeft out: {missing}")


if __name__ == "__main__":
    main()
