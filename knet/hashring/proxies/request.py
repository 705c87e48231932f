"""
What a proxy hashes of a request: several values become the one hash that `get_hash` takes.

A single value needs nothing of this: ``ring.get(value)`` hashes it as Envoy and gRPC do.

Values are what the proxy sees: HTTP/1 drops blanks around a header's value, and an URL's escapes stay
as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from knet.errors import ConfigError
from knet.hashring.hashing import encode_key, xxh64

__all__ = ["envoy_hash", "grpc_hash"]


def envoy_hash(*values: str | bytes | Iterable[str | bytes] | None) -> int:
    """
    Return the hash that Envoy makes of a request by several ``hash_policy`` entries.

        >>> from knet.hashring.proxies import EnvoyRing
        >>> ring = EnvoyRing(["10.0.0.1:8080", "10.0.0.2:8080"])
        >>> ring.get_hash(envoy_hash("user-42", "tenant-7"))
        '10.0.0.1:8080'

    Args:
        values: What each entry finds, in the order of the configuration: the value of a header, a
            cookie or a query parameter, or the client's address; all values of a header that is
            there more than once, in any order; None where it finds nothing. What comes after a
            ``terminal`` entry that found something is to be left out.

    Raises:
        ConfigError: No entry finds anything: Envoy takes a random host then. Or a text holds a lone
            surrogate.
        TypeError: A value is none of these.
    """
    combined: int | None = None
    for value in values:
        if value is None:
            continue
        repeated = [value] if isinstance(value, (str, bytes)) else list(value)
        h = 0
        for each in sorted(map(encode_key, repeated)):
            h = xxh64(each, h)
        if not repeated:
            continue
        if combined is not None:
            h ^= (combined << 1 | combined >> 63) & 2**64 - 1
        combined = h
    if combined is None:
        raise ConfigError("there is no value to hash: Envoy sends such a request to a random host")
    return combined


def grpc_hash(*values: str | bytes) -> int:
    """
    Return the hash that gRPC makes of a request whose ``requestHashHeader`` has several values.

        >>> from knet.hashring import hash_key
        >>> grpc_hash("a", "b") == hash_key("a,b")
        True

    Args:
        values: The values of the header, in the order sent.

    Raises:
        ConfigError: There is none: gRPC takes a random host then. Or a text holds a lone surrogate.
        TypeError: A value is neither `str` nor `bytes`.
    """
    if not values:
        raise ConfigError("there is no value to hash: gRPC sends such a call to a random host")
    return xxh64(b",".join(map(encode_key, values)))
