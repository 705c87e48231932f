"""
Keys and how often they are asked for: made, or read from files with odd contents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet import ConfigError
from knet.cli.simulate import traffic
from knet.cli.simulate.traffic import Traffic, from_file, with_hot_key, zipf


def read(tmp_path: Path, content: bytes) -> dict[str | bytes, float]:
    """
    Return the keys of a file with this content, and their shares.
    """
    file = tmp_path / "keys"
    file.write_bytes(content)
    found = from_file(file)
    return dict(zip(found.keys, found.shares, strict=True))


@given(st.integers(1, 300), st.floats(0, 10))
def test_shares_fall_by_zipfs_law_and_add_up_to_one(count: int, exponent: float) -> None:
    """
    The n-th key has ``n ** -exponent`` of what the first one has.
    """
    found = zipf(count, exponent)

    assert len(set(found.keys)) == count
    assert math.fsum(found.shares) == pytest.approx(1)
    assert list(found.shares) == pytest.approx(
        [found.shares[0] * n**-exponent for n in range(1, count + 1)]
    )


@pytest.mark.parametrize(
    ("count", "exponent", "said"),
    [
        (0, 0.0, "--keys must be from 1 to 5,000,000, got 0"),
        (5_000_001, 0.0, "--keys must be from 1 to 5,000,000, got 5,000,001"),
        (10, -1.0, "--zipf must be from 0 to 10, got -1"),
        (10, math.nan, "--zipf must be from 0 to 10, got nan"),
        (10, math.inf, "--zipf must be from 0 to 10, got inf"),
    ],
)
def test_what_is_out_of_range_is_refused(count: int, exponent: float, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        zipf(count, exponent)
    assert str(error.value) == said


@given(
    st.lists(st.floats(0.1, 100), min_size=2, max_size=20),
    st.floats(0.001, 0.999),
)
def test_a_hot_key_has_its_share_and_leaves_the_others_theirs(
    counts: Sequence[float], share: float
) -> None:
    """
    It is the one that was asked for most, and the rest keep their proportions.
    """
    total = sum(counts)
    before = Traffic([f"k{n}" for n in range(len(counts))], [c / total for c in counts], "some")

    after = with_hot_key(before, share)

    hot = counts.index(max(counts))
    assert after.keys is before.keys
    assert after.shares[hot] == share
    assert sum(after.shares) == pytest.approx(1)
    scale = (1 - share) / (1 - before.shares[hot])
    for n in range(len(counts)):
        if n != hot:
            assert after.shares[n] == pytest.approx(before.shares[n] * scale)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_a_hot_key_has_more_than_nothing_and_less_than_all(share: float) -> None:
    with pytest.raises(ConfigError, match="--hot must be above 0 and below 1"):
        with_hot_key(zipf(10), share)


def test_a_hot_key_needs_another_one() -> None:
    with pytest.raises(ConfigError, match="--hot needs a second key"):
        with_hot_key(zipf(1), 0.5)
    with pytest.raises(ConfigError, match="--hot needs a second key"):
        with_hot_key(Traffic(["a", "b"], [1.0, 0.0], ""), 0.5)


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"a\nb\n", {b"a": 0.5, b"b": 0.5}),
        (b"a\t3\nb", {b"a": 0.75, b"b": 0.25}),
        (b"\xef\xbb\xbfa\r\nb\r\n", {b"a": 0.5, b"b": 0.5}),
        (b"\n\na\n\n\r\n", {b"a": 1.0}),
        (b"a\na\nb\t2\n", {b"a": 0.5, b"b": 0.5}),
        (b"a key with spaces \t1\n", {b"a key with spaces ": 1.0}),
        (b"a\tb\t1\n", {b"a\tb": 1.0}),
        (b"\xff\x00\xfe\n", {b"\xff\x00\xfe": 1.0}),
        (b"a\t0.5\nb\t1e0\nc\t0\n", {b"a": 1 / 3, b"b": 2 / 3, b"c": 0.0}),
        ("schlüssel\n".encode(), {"schlüssel".encode(): 1.0}),
        (b"a\x0bb\x0cc\x85d\n", {b"a\x0bb\x0cc\x85d": 1.0}),
    ],
)
def test_a_file_has_a_key_a_line(tmp_path: Path, content: bytes, keys: dict[bytes, float]) -> None:
    """
    Any bytes are a key; a count follows after the last tab, and the same key counts again.
    """
    assert read(tmp_path, content) == pytest.approx(keys)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "are none"),
        (b"\n\r\n", "are none"),
        (b"a\t0\n", "are not asked for"),
        (b"a\tmany\n", "line 1 of .* must be a key, or a key, a tab and how often"),
        (b"a\nb\t-1\n", "line 2 of"),
        (b"a\tnan\n", "line 1 of"),
        (b"a\tinf\n", "line 1 of"),
        (b"\t5\n", "line 1 of"),
        (b"a\t\n", "line 1 of"),
        (b"a\t1e308\nb\t1e308\n", "asked for too often"),
        (b"x" * 65_537, "line 1 of .* has more than 64 KiB"),
    ],
)
def test_a_file_that_has_no_keys_says_where(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--keys-file: .*{said}"):
        read(tmp_path, content)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*missing: No such file"):
        from_file(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        from_file(tmp_path)


def test_a_file_with_too_many_keys_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "MOST_KEYS", 3)
    monkeypatch.setattr(traffic, "_MOST_BYTES", 20)

    with pytest.raises(ConfigError, match="has more than 3 keys"):
        read(tmp_path, b"a\nb\nc\nd\nnot\ta\tnumber\n")
    with pytest.raises(ConfigError, match="has more than 0 MB"):
        read(tmp_path, b"a\n" * 11)
    assert len(read(tmp_path, b"a\nb\nc\na\n")) == 3


def test_a_name_of_a_file_is_shown_as_far_as_it_can_be(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[31m\nb\udcff"
    file.write_bytes(b"key\n")

    assert from_file(file).told == "1 key of a?[31m?b?"
