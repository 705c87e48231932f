"""
Keys become 64-bit integers here: XXH64 of their bytes, the same in every process, for ever.

The only importer of xxhash. It knows what a key may be and nothing of members.

XXH64 because Envoy and gRPC hash with it, and because it is the fastest of the hashes with a wheel
for every platform (md5 takes ten times as long). Text is always encoded first: xxhash 4 no longer
takes `str`, and encoding costs next to nothing.
"""

from __future__ import annotations

from typing import Protocol

import xxhash

from knet.errors import ConfigError

__all__ = ["encode_key", "hash_key", "xxh64"]


class _Hash64(Protocol):
    def __call__(self, data: bytes, seed: int = 0, /) -> int: ...


xxh64: _Hash64 = xxhash.xxh64_intdigest


def encode_key(key: str | bytes) -> bytes:
    """
    Return the bytes of *key* that are hashed: UTF-8 for text, bytes as they are.

    Raises:
        ConfigError: The text holds a lone surrogate, so it has no UTF-8 form.
        TypeError: The key is neither `str` nor `bytes`.
    """
    if isinstance(key, bytes):
        return key
    if not isinstance(key, str):
        raise TypeError(f"a key must be str or bytes, not {type(key).__name__}")
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the key {key!r} holds a lone surrogate and has no UTF-8 form; "
            "pass the bytes that it stands for"
        ) from error


def hash_key(key: str | bytes) -> int:
    """
    Return the 64 bits by which *key* finds its member: XXH64, seed 0, of its bytes.

        >>> hex(hash_key("alice"))
        '0x73a3ea485f2e6049'

    Raises:
        ConfigError: The text holds a lone surrogate, so it has no UTF-8 form.
        TypeError: The key is neither `str` nor `bytes`.
    """
    return xxh64(encode_key(key))
