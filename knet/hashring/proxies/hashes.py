"""
The 32-bit hashes of proxies and memcached clients that no library of ours has, in plain Python.

Pure functions from bytes to ``[0, 2**32)``, a few microseconds for a short key. What is exactly CRC-32
or MD5 comes from the standard library.

Written from the descriptions of their authors: Austin Appleby (MurmurHash2, MurmurHash3), Bob Jenkins
(one-at-a-time, lookup3, full avalanche), Paul Hsieh (SuperFastHash), Fowler, Noll and Vo (FNV), Ozan
Yigit (sdbm), Dan Bernstein (djb2) and Willy Tarreau (wt6). Where libmemcached and twemproxy have their
own idea of one of them, these are as there; the docstring says so.

libmemcached and twemproxy read a key as C's ``char``. On x86 that is signed: bytes from 0x80 on count
as negative numbers, and so they do here. Keys of ASCII hash alike on every machine.
"""

from __future__ import annotations

import binascii
import hashlib
import zlib
from struct import unpack_from

__all__ = [
    "MASK",
    "crc16",
    "crc32",
    "crc32_high",
    "djb2",
    "fnv1_32",
    "fnv1_64",
    "fnv1a_32",
    "fnv1a_64",
    "full_avalanche",
    "hsieh",
    "jenkins",
    "lookup3",
    "md5_word",
    "murmur",
    "murmur2_32",
    "murmur3",
    "murmur3_32",
    "one_at_a_time",
    "sdbm",
    "wt6",
]

MASK = 0xFFFF_FFFF


def crc32(data: bytes) -> int:
    """
    CRC-32, the one of zlib; twemproxy calls it crc32a.
    """
    return zlib.crc32(data)


def crc32_high(data: bytes) -> int:
    """
    Bits 16 to 30 of CRC-32: what libmemcached calls crc and twemproxy crc32. Never above 0x7fff.
    """
    return zlib.crc32(data) >> 16 & 0x7FFF


def crc16(data: bytes) -> int:
    """
    What twemproxy 0.5.0 calls crc16: CRC-16/XMODEM whose state is never cut down to 16 bits.

    Later sources of twemproxy have another one.
    """
    value = 0
    for byte in data:
        value = value << 8 & MASK ^ _CRC16[(value >> 8 ^ byte) & 0xFF]
    return value


_CRC16 = tuple(binascii.crc_hqx(bytes([byte]), 0) for byte in range(256))


def md5_word(data: bytes) -> int:
    """
    The first four bytes of the MD5 digest, read as a little-endian number.
    """
    return int.from_bytes(hashlib.md5(data, usedforsecurity=False).digest()[:4], "little")


def sdbm(data: bytes) -> int:
    """
    The hash of the sdbm database: ``hash = byte + 65599 * hash``.
    """
    value = 0
    for byte in data:
        value = byte + 65599 * value & MASK
    return value


def djb2(data: bytes) -> int:
    """
    Bernstein's hash: ``hash = 33 * hash + byte``, starting at 5381.
    """
    value = 5381
    for byte in data:
        value = 33 * value + byte & MASK
    return value


def wt6(data: bytes) -> int:
    """
    HAProxy's own: two words turned around by amounts that depend on what came before.
    """
    one, other = 0xA53C965A, 0x5CA6953A
    left, right = 6, 18
    for byte in data:
        one = ~(one ^ byte) & MASK
        other = ~(other + byte) & MASK
        one, other = _rotated(other, left), _rotated(one, right)
        turns = (one >> 16 ^ other) & 0xFFFF
        left, right = turns & 0x1F, turns >> 11
    return one ^ other


def full_avalanche(value: int) -> int:
    """
    HAProxy's avalanche: Jenkins' 32-bit integer hash, times 3221225473.
    """
    value = value + 0x7ED55D16 + (value << 12) & MASK
    value = value ^ 0xC761C23C ^ value >> 19
    value = value + 0x165667B1 + (value << 5) & MASK
    value = (value + 0xD3A2646C & MASK) ^ (value << 9 & MASK)
    value = value + 0xFD7046C5 + (value << 3) & MASK
    value = value ^ 0xB55A4F09 ^ value >> 16
    return value * 3221225473 & MASK


def one_at_a_time(data: bytes) -> int:
    """
    Jenkins' one-at-a-time, over signed bytes; libmemcached's default.
    """
    value = 0
    for byte in data:
        value = value + _signed(byte) & MASK
        value = value + (value << 10) & MASK
        value ^= value >> 6
    value = value + (value << 3) & MASK
    value ^= value >> 11
    return value + (value << 15) & MASK


def fnv1_32(data: bytes) -> int:
    """
    FNV-1 of 32 bits, over signed bytes.
    """
    value = 0x811C9DC5
    for byte in data:
        value = (value * 0x01000193 & MASK) ^ _signed(byte)
    return value


def fnv1a_32(data: bytes) -> int:
    """
    FNV-1a of 32 bits, over signed bytes.
    """
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ _signed(byte)) * 0x01000193 & MASK
    return value


def fnv1_64(data: bytes) -> int:
    """
    The lower half of FNV-1 of 64 bits, over signed bytes.
    """
    # No product carries downwards, so that the lower half can do without the upper one.
    value = 0x84222325
    for byte in data:
        value = (value * 0x1B3 & MASK) ^ _signed(byte)
    return value


def fnv1a_64(data: bytes) -> int:
    """
    The lower half of FNV-1a of 64 bits, over signed bytes; twemproxy's default.
    """
    value = 0x84222325
    for byte in data:
        value = (value ^ _signed(byte)) * 0x1B3 & MASK
    return value


def hsieh(data: bytes) -> int:
    """
    Hsieh's SuperFastHash starting at 0, where a third odd byte is signed.
    """
    if not data:
        return 0
    value = 0
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        low, high = unpack_from("<HH", data, at)
        value = value + low & MASK
        value = (value << 16 & MASK) ^ (high << 11) ^ value
        value = value + (value >> 11) & MASK
    rest = data[whole:]
    if len(rest) == 3:
        value = value + rest[0] + (rest[1] << 8) & MASK
        value ^= value << 16 & MASK
        value ^= _signed(rest[2]) << 18 & MASK
        value = value + (value >> 11) & MASK
    elif len(rest) == 2:
        value = value + rest[0] + (rest[1] << 8) & MASK
        value ^= value << 11 & MASK
        value = value + (value >> 17) & MASK
    elif rest:
        value = value + rest[0] & MASK
        value ^= value << 10 & MASK
        value = value + (value >> 1) & MASK
    value ^= value << 3 & MASK
    value = value + (value >> 5) & MASK
    value ^= value << 4 & MASK
    value = value + (value >> 17) & MASK
    value ^= value << 25 & MASK
    return value + (value >> 6) & MASK


def murmur(data: bytes) -> int:
    """
    MurmurHash2 of 32 bits, with the seed that libmemcached and twemproxy make of the length.
    """
    return murmur2_32(data, 0xDEADBEEF * len(data) & MASK)


def murmur2_32(data: bytes, seed: int = 0) -> int:
    """
    MurmurHash2 of 32 bits.
    """
    times = 0x5BD1E995
    whole = len(data) & ~3
    value = seed ^ len(data)
    for word in unpack_from(f"<{len(data) // 4}I", data):
        word = word * times & MASK
        word = (word ^ word >> 24) * times & MASK
        value = (value * times & MASK) ^ word
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * times & MASK
    value = (value ^ value >> 13) * times & MASK
    return value ^ value >> 15


def murmur3(data: bytes) -> int:
    """
    MurmurHash3 of 32 bits, with the seed that libmemcached makes of the length.
    """
    return murmur3_32(data, 0xDEADBEEF * len(data) & MASK)


def murmur3_32(data: bytes, seed: int = 0) -> int:
    """
    MurmurHash3_x86_32.
    """
    # No `_rotated` here: a pick of pymemcache's comes by once for each member.
    value = seed
    whole = len(data) & ~3
    for word in unpack_from(f"<{len(data) // 4}I", data):
        word = word * 0xCC9E2D51 & MASK
        value ^= (word << 15 | word >> 17) * 0x1B873593 & MASK
        value = (value << 13 | value >> 19) * 5 + 0xE6546B64 & MASK
    if whole < len(data):
        word = int.from_bytes(data[whole:], "little") * 0xCC9E2D51 & MASK
        value ^= (word << 15 | word >> 17) * 0x1B873593 & MASK
    value ^= len(data)
    value = (value ^ value >> 16) * 0x85EBCA6B & MASK
    value = (value ^ value >> 13) * 0xC2B2AE35 & MASK
    return value ^ value >> 16


def jenkins(data: bytes) -> int:
    """
    Jenkins' lookup3 with the initial value 13, libmemcached's and twemproxy's.
    """
    return lookup3(data, 13)


def lookup3(data: bytes, initial: int = 0) -> int:
    """
    Jenkins' lookup3, his ``hashlittle``.
    """
    a: int
    b: int
    c: int
    a = b = c = 0xDEADBEEF + len(data) + initial & MASK
    if not data:
        return c
    # The last block is never empty, and is filled up with zeros.
    last = (len(data) - 1) // 12 * 12
    for at in range(0, last, 12):
        x, y, z = unpack_from("<III", data, at)
        a, b, c = a + x & MASK, b + y & MASK, c + z & MASK
        a = (a - c & MASK) ^ _rotated(c, 4)
        c = c + b & MASK
        b = (b - a & MASK) ^ _rotated(a, 6)
        a = a + c & MASK
        c = (c - b & MASK) ^ _rotated(b, 8)
        b = b + a & MASK
        a = (a - c & MASK) ^ _rotated(c, 16)
        c = c + b & MASK
        b = (b - a & MASK) ^ _rotated(a, 19)
        a = a + c & MASK
        c = (c - b & MASK) ^ _rotated(b, 4)
        b = b + a & MASK
    x, y, z = unpack_from("<III", data[last:].ljust(12, b"\0"))
    a, b, c = a + x & MASK, b + y & MASK, c + z & MASK
    c = (c ^ b) - _rotated(b, 14) & MASK
    a = (a ^ c) - _rotated(c, 11) & MASK
    b = (b ^ a) - _rotated(a, 25) & MASK
    c = (c ^ b) - _rotated(b, 16) & MASK
    a = (a ^ c) - _rotated(c, 4) & MASK
    b = (b ^ a) - _rotated(a, 14) & MASK
    return (c ^ b) - _rotated(b, 24) & MASK


def _rotated(value: int, left: int) -> int:
    return (value << left | value >> 32 - left) & MASK


def _signed(byte: int) -> int:
    """
    A byte as 32 bits of a signed ``char``.
    """
    return byte if byte < 0x80 else byte | 0xFFFFFF00
