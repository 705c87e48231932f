"""
What a key may be, and the 64 bits that it becomes.
"""

from __future__ import annotations

from typing import Any

import pytest

from knet.errors import ConfigError
from knet.hashring import hash_key


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # XXH64 as published: the empty input, and the first letters.
        ("", 0xEF46DB3751D8E999),
        ("a", 0xD24EC4F1A98C6E5B),
        ("abc", 0x44BC2CF5AD770999),
        (b"abc", 0x44BC2CF5AD770999),
    ],
)
def test_a_key_is_hashed_with_xxh64_and_seed_0(key: str | bytes, expected: int) -> None:
    """
    The hash is the published one, so that other languages can follow.
    """
    assert hash_key(key) == expected


@pytest.mark.parametrize("key", ["", "alice", "Ünïcödé", "键", "🐍", "\0"])
def test_text_is_hashed_as_its_utf_8_bytes(key: str) -> None:
    """
    A key is the same key as text and as bytes.
    """
    assert hash_key(key) == hash_key(key.encode("utf-8"))


@pytest.mark.parametrize("key", [1, None, 1.5, bytearray(b"a"), memoryview(b"a"), ("a",), object()])
def test_a_key_of_another_type_is_refused_by_name(key: Any) -> None:
    """
    The message names the type that was given.
    """
    with pytest.raises(TypeError, match=f"str or bytes, not {type(key).__name__}"):
        hash_key(key)


def test_a_lone_surrogate_is_refused_with_a_way_out() -> None:
    """
    Text without a UTF-8 form is bad input, and the message says what to pass instead.
    """
    with pytest.raises(ConfigError, match=r"lone surrogate.*pass the bytes") as raised:
        hash_key("\ud800")

    assert isinstance(raised.value.__cause__, UnicodeEncodeError)
