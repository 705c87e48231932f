"""
MurmurHash2 of 64 bits, as Envoy's ``MURMUR_HASH_2`` has it: that of libstdc++, `_Hash_bytes`.

It differs from Austin Appleby's MurmurHash64A in the mixing of a block, and has a seed of its own.
No maintained package offers it.
"""

from __future__ import annotations

from struct import unpack_from

__all__ = ["murmur2_64"]

_MASK = 2**64 - 1
_TIMES = 0xC6A4_A793_5BD1_E995
_SEED = 0xC70F_6907


def murmur2_64(data: bytes) -> int:
    """
    Return 64 bits for *data*; takes some 2 us for an address.

        >>> murmur2_64(b"foo")
        9631199822919835226
    """
    size = len(data)
    h = _SEED ^ size * _TIMES & _MASK
    for block in unpack_from(f"<{size // 8}Q", data):
        block = block * _TIMES & _MASK
        h = (h ^ (block ^ block >> 47) * _TIMES) * _TIMES & _MASK
    if size & 7:
        h = (h ^ int.from_bytes(data[size & ~7 :], "little")) * _TIMES & _MASK
    h = (h ^ h >> 47) * _TIMES & _MASK
    return h ^ h >> 47
