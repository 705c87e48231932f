"""
Bounded imbalance: a table of slots in which nobody owns more than its limit.

`HashRing(balance=...)` fills its table as ever and has it levelled here before anyone sees it, so
that a lookup stays one read. The rules are written down in `knet.hashring.hash_ring`, from 6 on.

It works on runs: neighbouring slots with one owner. All slots of a run have the same way clockwise. A
member that owns too much gives up the first slots of its longest runs, which lie farthest from its own
points. Three other choices were tried (the nearest slots; those that sort last by a hash of the slot; by
a hash of slot and member). Each moved a few more keys on a join or a leave and cut the runs to pieces.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator, Sequence
from itertools import compress
from math import ceil, floor
from operator import gt, is_not
from typing import Any, TypeVar

from knet.errors import ConfigError
from knet.hashring.placement import Entry

__all__ = ["check_balance", "level", "limits_of", "run_starts"]

T = TypeVar("T")

# About 0.1 ms of work each.
_SLOTS_PER_SLICE = 2048
_RUNS_PER_SLICE = 512
_MEMBERS_PER_SLICE = 128


def check_balance(balance: object) -> float | None:
    """
    Return *balance* as a float, or None, and raise unless it is a finite number above 1.
    """
    if balance is None:
        return None
    if not isinstance(balance, (int, float)) or isinstance(balance, bool):
        raise TypeError(f"balance must be a number or None, not {type(balance).__name__}")
    if not 1 < balance < 2**53:
        raise ConfigError(
            f"balance must be above 1 (and below 2**53), got {balance}; "
            "1.1 lets no member own more than 1.1 times its fair share"
        )
    return float(balance)


def limits_of(
    entries: Sequence[Entry[Any]], slots: int, balance: float
) -> Generator[None, None, list[int]]:
    """
    Return how many slots each of *entries* may own: at least 1, and together at least *slots*.

    Args:
        entries: The members that have points, sorted by name.
        slots: How many there are to own.
        balance: What may be owned, as a multiple of the fair share.
    """
    # In doubles, one after the other, as any language adds. Python's own sum() is more exact from
    # 3.12 on, so that it would be another total there.
    total = 0.0
    for entry in entries:
        total += entry.weight
    yield
    limits: list[int] = []
    for first in range(0, len(entries), _MEMBERS_PER_SLICE):
        for entry in entries[first : first + _MEMBERS_PER_SLICE]:
            fair = slots * entry.weight / total
            limits.append(max(1, ceil(fair), floor(min(balance * fair, slots))))
        yield
    return limits


def run_starts(table: Sequence[object]) -> Generator[None, None, array[int]]:
    """
    Return slot 0 and all slots that have another owner than the slot before, ascending.
    """
    # No list: its integers would take milliseconds to free.
    starts = array("I", [0])
    for low in range(1, len(table), _SLOTS_PER_SLICE):
        yield
        here = table[low : low + _SLOTS_PER_SLICE]
        before = table[low - 1 : low + len(here) - 1]
        starts.extend(compress(range(low, low + len(here)), map(is_not, here, before)))
    return starts


def level(
    table: list[T], starts: array[int], members: Sequence[T], limits: Sequence[int]
) -> Generator[None, None, list[int] | None]:
    """
    Give the slots that members own beyond their limits to others, in place.

    Args:
        table: The owner of each slot.
        starts: Where its runs start.
        members: Those that may own slots, sorted by name.
        limits: How many each of them may own; together at least as many as there are.

    Returns:
        How many slots each of *members* owns; None if nobody owned too much, so that all is as it
        was.
    """
    # Of each run: which of *members* owns it, and the run after it.
    owners, onward = array("I"), array("I")
    number_of = {id(member): number for number, member in enumerate(members)}
    for first in range(0, len(starts), _RUNS_PER_SLICE):
        yield
        firsts = map(table.__getitem__, starts[first : first + _RUNS_PER_SLICE])
        owners.extend(map(number_of.__getitem__, map(id, firsts)))
        onward.extend(range(first + 1, len(owners) + 1))
    onward[-1] = 0
    starts = starts + array("I", [len(table)])

    owned = [0] * len(members)
    for first in range(0, len(owners), _RUNS_PER_SLICE):
        yield
        for owner, start, end in _runs(owners, starts, first):
            owned[owner] += end - start
    yield
    if not any(map(gt, owned, limits)):
        return None
    yield
    depths, deeper = yield from _depths(owned, limits, owners, starts)
    # How many slots more each can take, and all together that have a run already.
    room = [limit - has if has < limit else 0 for limit, has in zip(limits, owned, strict=True)]
    yield
    spare = sum([left for left, has in zip(room, owned, strict=True) if has])
    landless = [number for number, has in enumerate(owned) if not has]
    landless.reverse()

    steps = 0
    for first in range(0, len(owners), _RUNS_PER_SLICE):
        yield
        for run, (owner, start, end) in enumerate(_runs(owners, starts, first), first):
            if owner not in depths or end - start <= depths[owner]:
                continue
            end -= depths[owner]
            if deeper[owner]:
                deeper[owner] -= 1
                end -= 1
            owned[owner] -= end - start
            at = run
            while start < end:
                # Clockwise to a run whose owner has room, and no way is gone twice.
                while spare and not room[owners[at]]:
                    after = onward[at]
                    if not room[owners[after]]:
                        after = onward[at] = onward[after]
                    at = after
                    steps += 1
                    if steps % _RUNS_PER_SLICE == 0:
                        yield
                while not spare and not room[landless[-1]]:
                    landless.pop()
                taker = owners[at] if spare else landless[-1]
                given = min(end - start, room[taker], _SLOTS_PER_SLICE)
                table[start : start + given] = [members[taker]] * given
                start += given
                owned[taker] += given
                room[taker] -= given
                spare = max(0, spare - given)
                yield
    return owned


def _depths(
    owned: Sequence[int], limits: Sequence[int], owners: array[int], starts: array[int]
) -> Generator[None, None, tuple[dict[int, int], dict[int, int]]]:
    """
    Return how much members that own too much keep of the end of each run, by their numbers.

    Returns:
        How many slots of each run, and of how many of the longer runs, from slot 0 on, one more.
    """
    lengths: dict[int, dict[int, int]] = {}
    for first in range(0, len(owners), _RUNS_PER_SLICE):
        yield
        for owner, start, end in _runs(owners, starts, first):
            if owned[owner] > limits[owner]:
                runs = lengths.setdefault(owner, {})
                runs[end - start] = runs.get(end - start, 0) + 1
    depths: dict[int, int] = {}
    deeper: dict[int, int] = {}
    for owner in list(lengths):
        yield
        runs = lengths.pop(owner)
        left, longer = limits[owner], sum(runs.values())
        # The short runs are kept whole, as long as that leaves as much for each of the others.
        for length in sorted(runs):
            if length * longer > left:
                break
            left -= length * runs[length]
            longer -= runs[length]
        depths[owner], deeper[owner] = divmod(left, longer)
    return depths, deeper


def _runs(owners: array[int], starts: array[int], first: int) -> Iterator[tuple[int, int, int]]:
    """
    Iterate over a slice of the runs: the owner, the first slot and the one after the last.
    """
    last = first + _RUNS_PER_SLICE
    return zip(owners[first:last], starts[first:last], starts[first + 1 : last + 1], strict=False)
