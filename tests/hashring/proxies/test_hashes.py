"""
The hashes, by answers that others have published.

Of MurmurHash2, MurmurHash3 and lookup3 SMHasher publishes a verification value, a hash of the hashes of
256 keys. FNV's are from its authors' test program, CRC's from the catalogue of Greg Cook. The values of
signed bytes were recorded from libhashkit 1.1.4 on x86-64.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from knet.hashring.proxies import hashes

FOX = b"The quick brown fox jumps over the lazy dog"
SIGNED = "größe ☃".encode()


@pytest.mark.parametrize(
    ("hash", "data", "expected"),
    [
        (hashes.crc32, b"123456789", 0xCBF43926),
        (hashes.crc32_high, b"123456789", 0xCBF43926 >> 16 & 0x7FFF),
        (hashes.md5_word, b"", 0xD98C1DD4),
        (hashes.md5_word, b"abc", 0x98500190),
        (hashes.sdbm, b"", 0),
        (hashes.sdbm, b"a", 97),
        (hashes.sdbm, b"hello", 684824882),
        (hashes.djb2, b"", 5381),
        (hashes.djb2, b"a", 33 * 5381 + 97),
        (hashes.djb2, b"hello", 261238937),
        (hashes.wt6, b"", 0xA53C965A ^ 0x5CA6953A),
        (hashes.one_at_a_time, b"a", 0xCA2E9442),
        (hashes.one_at_a_time, FOX, 0x519E91F5),
        (hashes.fnv1_32, b"", 0x811C9DC5),
        (hashes.fnv1_32, b"a", 0x050C5D7E),
        (hashes.fnv1_32, b"foobar", 0x31F0B262),
        (hashes.fnv1a_32, b"a", 0xE40C292C),
        (hashes.fnv1a_32, b"foobar", 0xBF9CF968),
        (hashes.fnv1_64, b"a", 0xAF63BD4C8601B7BE & hashes.MASK),
        (hashes.fnv1_64, b"foobar", 0x340D8765A4DDA9C2 & hashes.MASK),
        (hashes.fnv1a_64, b"a", 0xAF63DC4C8601EC8C & hashes.MASK),
        (hashes.fnv1a_64, b"foobar", 0x85944171F73967E8 & hashes.MASK),
        (hashes.murmur3_32, b"", 0),
        (hashes.murmur3_32, b"test", 0xBA6BD213),
        (hashes.hsieh, b"", 0),
    ],
)
def test_published_answers(hash: Callable[[bytes], int], data: bytes, expected: int) -> None:
    """
    Of functions of nothing but the data.
    """
    assert hash(data) == expected


@pytest.mark.parametrize(
    ("hash", "data", "seed", "expected"),
    [
        (hashes.murmur3_32, b"", 1, 0x514E28B7),
        (hashes.murmur3_32, b"", 0xFFFFFFFF, 0x81F16F39),
        (hashes.murmur3_32, b"\0\0\0\0", 0, 0x2362F9DE),
        (hashes.murmur3_32, b"Hello, world!", 0x9747B28C, 0x24884CBA),
        (hashes.murmur3_32, FOX, 0x9747B28C, 0x2FA826CD),
        (hashes.lookup3, b"", 0, 0xDEADBEEF),
        (hashes.lookup3, b"Four score and seven years ago", 0, 0x17770551),
        (hashes.lookup3, b"Four score and seven years ago", 1, 0xCD628161),
    ],
)
def test_published_answers_with_a_seed(
    hash: Callable[[bytes, int], int], data: bytes, seed: int, expected: int
) -> None:
    """
    The last three are Jenkins' own.
    """
    assert hash(data, seed) == expected


@pytest.mark.parametrize(
    ("hash", "expected"),
    [
        (hashes.murmur2_32, 0x27864C1E),
        (hashes.murmur3_32, 0xB0F57EE3),
        (hashes.lookup3, 0x3D83917A),
    ],
)
def test_smhasher_verifies_them(hash: Callable[[bytes, int], int], expected: int) -> None:
    """
    Keys of 0 to 255 bytes 0, 1, 2 ..., each with 256 minus its length as the seed.
    """
    words = [hash(bytes(range(n)), 256 - n).to_bytes(4, "little") for n in range(256)]

    assert hash(b"".join(words), 0) == expected


@pytest.mark.parametrize(
    ("hash", "ascii", "signed"),
    [
        (hashes.one_at_a_time, 0xF616273E, 0x1B094D9F),
        (hashes.md5_word, 0x07BC3176, 0x18CD3BA7),
        (hashes.crc32_high, 0x7D06, 0x766D),
        (hashes.fnv1_64, 0xF245C417, 0xA1CB1601),
        (hashes.fnv1a_64, 0x4D35DACB, 0x48CDE255),
        (hashes.fnv1_32, 0x79C1DBF7, 0x8C664FA1),
        (hashes.fnv1a_32, 0x026073AB, 0xC8F16C75),
        (hashes.murmur, 0xC917ADEA, 0x56F13424),
        (hashes.jenkins, 0x4107489A, 0x39B4E174),
        (hashes.murmur3, 0xE7EE9A68, 0x2114D8EA),
    ],
)
def test_libhashkit_answers_alike(hash: Callable[[bytes], int], ascii: int, signed: int) -> None:
    """
    Also where a byte is a negative number to it.
    """
    assert hash(b"user-42") == ascii
    assert hash(SIGNED) == signed


def test_crc16_is_xmodem_with_more_above() -> None:
    """
    Its lower half is the published check value.
    """
    assert hashes.crc16(b"123456789") & 0xFFFF == 0x31C3


def test_avalanche_maps_no_two_numbers_to_one() -> None:
    """
    Every step of it can be undone, which is why servers of HAProxy never share a node.
    """
    some = [*range(200_000), *range(2**32 - 1000, 2**32)]

    assert len({hashes.full_avalanche(number) for number in some}) == len(some)


@pytest.mark.parametrize("length", range(30))
@pytest.mark.parametrize(
    "hash", [getattr(hashes, name) for name in hashes.__all__ if name[0].islower()]
)
def test_all_stay_within_32_bits(hash: Callable[..., int], length: int) -> None:
    """
    Whatever the length of the last block, and with the highest bytes.
    """
    data = length if hash is hashes.full_avalanche else bytes(255 - n for n in range(length))

    assert 0 <= hash(data) < 2**32
