"""
What configurations of proxies say about a server: its address in two parts, and a whole weight.

Shared by the placements here; knows no algorithm.
"""

from __future__ import annotations

from typing import Any

from knet.errors import ConfigError
from knet.hashring.placement import Entry

__all__ = ["split_address", "whole_weight"]


def split_address(text: str) -> tuple[str, str]:
    """
    Split *text* in a host, IPv6 without its brackets, and a port, ``""`` where there is none.

        >>> split_address("10.0.0.1:8080"), split_address("[fd00::1]:8080")
        (('10.0.0.1', '8080'), ('fd00::1', '8080'))
        >>> split_address("fd00::1"), split_address("shard-0")
        (('fd00::1', ''), ('shard-0', ''))
    """
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()):
        host, port = text, ""
    elif ":" in host and not (host.startswith("[") and host.endswith("]")):
        # IPv6 without brackets has no room for a port.
        host, port = text, ""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, port


def whole_weight(entry: Entry[Any], most: int, proxy: str) -> int:
    """
    Return the weight of a member as the whole number that *proxy* would want.

    Raises:
        ConfigError: It is not whole, or above *most*.
    """
    weight = entry.weight
    if weight != int(weight):
        raise ConfigError(
            f"the weight of {entry.name.decode()!r} must be a whole number, as in {proxy}, got {weight}"
        )
    if weight > most:
        raise ConfigError(
            f"the weight of {entry.name.decode()!r} must be at most {most}, got {weight}"
        )
    return int(weight)
