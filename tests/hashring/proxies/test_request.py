"""
The hash of a request, where more than one value makes it.
"""

from __future__ import annotations

from typing import Any

import pytest

from knet.errors import ConfigError
from knet.hashring import hash_key
from knet.hashring.hashing import xxh64
from knet.hashring.proxies import envoy_hash, grpc_hash


def test_one_value_is_a_plain_key() -> None:
    """
    However it is written, the empty one too.
    """
    for key in ("", "alice", "é☃"):
        assert envoy_hash(key) == envoy_hash(key.encode()) == envoy_hash([key]) == hash_key(key)
        assert grpc_hash(key) == grpc_hash(key.encode()) == hash_key(key)


def test_envoy_turns_what_it_has_by_a_bit_for_each_policy() -> None:
    """
    ``rotl(rotl(a) ^ b) ^ c``, without what is absent.
    """
    a, b, c = map(hash_key, "abc")

    def turned(h: int) -> int:
        bits = f"{h:064b}"
        return int(bits[1:] + bits[0], 2)

    assert envoy_hash("a", "b") == turned(a) ^ b
    assert envoy_hash("a", "b", "c") == turned(turned(a) ^ b) ^ c
    assert envoy_hash(None, "a", None, "b", None) == envoy_hash("a", "b")
    assert envoy_hash("a", []) == envoy_hash("a")
    assert envoy_hash("b", "a") != envoy_hash("a", "b")
    assert all(0 <= envoy_hash(*map(str, range(n))) < 2**64 for n in range(1, 50))


def test_the_values_of_one_header_are_sorted_and_chained() -> None:
    """
    The hash of one is the seed of the next, by their bytes.
    """
    assert envoy_hash(["b", b"a"]) == xxh64(b"b", xxh64(b"a"))
    assert envoy_hash(["é", "z"]) == xxh64("é".encode(), xxh64(b"z"))
    assert envoy_hash(iter(["a", "a"])) == xxh64(b"a", xxh64(b"a"))


def test_grpc_joins_values_as_they_come() -> None:
    """
    With commas, unsorted.
    """
    assert grpc_hash("b", b"a") == hash_key("b,a")


@pytest.mark.parametrize("values", [(), (None,), ([],)])
def test_nothing_to_hash_is_refused(values: Any) -> None:
    """
    A proxy picks at random then, which nobody can agree with.
    """
    with pytest.raises(ConfigError, match="random host"):
        envoy_hash(*values)
    with pytest.raises(ConfigError, match="random host"):
        grpc_hash()


@pytest.mark.parametrize("value", [5, [5], b"a"[0]])
def test_other_types_are_refused(value: Any) -> None:
    """
    A number is not taken for its digits.
    """
    with pytest.raises(TypeError):
        envoy_hash(value)
    with pytest.raises(TypeError, match="str or bytes"):
        grpc_hash(value)
    with pytest.raises(ConfigError, match="lone surrogate"):
        envoy_hash("\ud800")
