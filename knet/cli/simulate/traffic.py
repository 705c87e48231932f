"""
The keys of a simulation, and what part of all requests each of them has.

Requests are shares that add up to 1, and are not drawn: a load that follows from them is exact.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from knet import ConfigError

__all__ = ["MOST_KEYS", "Traffic", "from_file", "sample", "with_hot_key", "zipf"]

MOST_KEYS = 5_000_000

# Bytes of a line of a file. Longer keys are no keys, but a file of something else.
_LONGEST_LINE = 65_536

# Bytes of a file that are read.
_MOST_BYTES = 500_000_000

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Traffic:
    """
    Who is asked for, and how often.

    Attributes:
        keys: Distinct.
        shares: What part of all requests is for each of them, in the order of *keys*; together 1.
        told: What it is, for a heading.
        counts: For how many keys each of them stands; `None`: for itself.
    """

    keys: Sequence[str | bytes]
    shares: Sequence[float]
    told: str
    counts: Sequence[int] | None = None

    def count(self, numbers: Sequence[int]) -> int:
        """
        Return for how many keys those of these *numbers* stand.
        """
        if self.counts is None:
            return len(numbers)
        return sum(map(self.counts.__getitem__, numbers))


def zipf(count: int, exponent: float = 0.0) -> Traffic:
    """
    Return *count* keys, the n-th of which is asked for ``n ** -exponent`` times as often as the first.

    Args:
        count: From 1 to `MOST_KEYS`.
        exponent: 0 or more: 0 for all alike, about 1 for words of a text or pages of a site.

    Raises:
        ConfigError: A value is out of range.
    """
    if not 1 <= count <= MOST_KEYS:
        raise ConfigError(f"--keys must be from 1 to {MOST_KEYS:,}, got {count:,}")
    if not 0 <= exponent <= 10:
        raise ConfigError(f"--zipf must be from 0 to 10, got {exponent:g}")
    keys = [f"key-{n}" for n in range(1, count + 1)]
    told = f"{count:,} key{'' if count == 1 else 's'}, " + (
        f"by Zipf's law, {exponent:g}" if exponent else "all alike"
    )
    if not exponent:
        return Traffic(keys, _as_shares([1.0] * count), told)
    return Traffic(keys, _as_shares([n**-exponent for n in range(1, count + 1)]), told)


def from_file(path: Path) -> Traffic:
    """
    Read a key a line; how often it is asked for may follow after a tab, else it is once.

    Keys are bytes, whatever they mean, and a key that comes again counts again. Empty lines are passed
    over.

    Raises:
        ConfigError: It cannot be read, has no key that is asked for, more than `MOST_KEYS` or 500 MB, a line
            of more than 64 KiB, or a count that is none.
    """
    try:
        with path.open("rb") as file:
            counts = _counts(file, path)
    except OSError as error:
        raise ConfigError(f"--keys-file: cannot read {path}: {error.strerror}") from error
    total = sum(counts.values())
    if not 0 < total < math.inf:
        what = "are not asked for, or are asked for too often" if counts else "are none"
        raise ConfigError(f"--keys-file: the keys in {path} {what}")
    name = "".join(each if each.isprintable() else "?" for each in path.name)
    told = f"{len(counts):,} key{'' if len(counts) == 1 else 's'} of {name}"
    return Traffic(list(counts), _as_shares(counts.values()), told)


def with_hot_key(traffic: Traffic, share: float) -> Traffic:
    """
    Return *traffic* in which the key that is asked for most has *share* of all requests.

    What is left is divided among the others as before.

    Raises:
        ConfigError: *share* is not between 0 and 1, or there is only one key.
    """
    if not 0 < share < 1:
        raise ConfigError(f"--hot must be above 0 and below 1, got {share:g}")
    hottest = max(range(len(traffic.keys)), key=traffic.shares.__getitem__)
    others = 1 - traffic.shares[hottest]
    if len(traffic.keys) < 2 or others <= 0:
        raise ConfigError("--hot needs a second key that is asked for")
    scale = (1 - share) / others
    shares = array("d", (each * scale for each in traffic.shares))
    shares[hottest] = share
    return Traffic(traffic.keys, shares, f"{traffic.told}, one with {share:.0%} of all requests")


def sample(traffic: Traffic, most: int) -> Traffic:
    """
    Return at most *most* keys of *traffic* that stand for all of them.

    The half that are asked for most stand for themselves; one of each so many others has the requests of those.

    Args:
        traffic: What they are taken from.
        most: How many, at least 2.
    """
    total = len(traffic.keys)
    if total <= most:
        return traffic
    order = sorted(range(total), key=traffic.shares.__getitem__, reverse=True)
    heavy = most // 2
    size = math.ceil((total - heavy) / (most - heavy))
    groups = [order[n : n + 1] for n in range(heavy)]
    groups += [order[n : n + size] for n in range(heavy, total, size)]
    return Traffic(
        [traffic.keys[group[len(group) // 2]] for group in groups],
        array("d", (math.fsum(map(traffic.shares.__getitem__, group)) for group in groups)),
        traffic.told,
        array("q", map(len, groups)),
    )


def _as_shares(counts: Iterable[float]) -> Sequence[float]:
    values = array("d", counts)
    total = math.fsum(values)
    return array("d", (each / total for each in values))


def _counts(file: BinaryIO, path: Path) -> dict[bytes, float]:
    counts: dict[bytes, float] = {}
    number = size = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        size += len(line)
        if len(line) > _LONGEST_LINE:
            raise ConfigError(f"--keys-file: line {number} of {path} has more than 64 KiB")
        line = line.removeprefix(_BOM) if number == 1 else line
        key, tab, text = line.rstrip(b"\r\n").rpartition(b"\t")
        if not tab:
            key, text = text, b"1"
        if not key and not tab:
            continue  # an empty line
        count = _count(text)
        if count is None or not key:
            raise ConfigError(
                f"--keys-file: line {number} of {path} must be a key, or a key, a tab and how often it is "
                f"asked for; got {line[:60]!r}"
            )
        counts[key] = counts.get(key, 0.0) + count
        if len(counts) > MOST_KEYS:
            raise ConfigError(f"--keys-file: {path} has more than {MOST_KEYS:,} keys")
        if size > _MOST_BYTES:
            raise ConfigError(f"--keys-file: {path} has more than {_MOST_BYTES // 1_000_000} MB")
    return counts


def _count(text: bytes) -> float | None:
    try:
        count = float(text)
    except ValueError:
        return None
    return count if 0 <= count < math.inf else None
