"""
`Question`: which pods are wanted, and what of them; checked once, where it is asked.

Pure. Every text is taken for hostile: it is measured before it is parsed, and an error shows no more
than the beginning of it, escaped.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, get_args

from knet.errors import ConfigError

__all__ = [
    "MAX_NAME",
    "Family",
    "Protocol",
    "Question",
    "check_name",
    "is_address",
    "shown",
    "srv_name",
]

Family = Literal["auto", "ipv4", "ipv6"]
Protocol = Literal["tcp", "udp", "sctp"]

# RFC 1035: 63 octets a label and 255 a name on the wire, which is 253 characters of text.
MAX_LABEL = 63
MAX_NAME = 253

# Underscores are not for hostnames, and are common all the same: Docker Compose, SRV names.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?", re.ASCII)
_PORT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.ASCII)

# How much of a text an error shows.
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Question:
    """
    Which pods are wanted: a service and what of it.

    Attributes:
        service: As the user wrote it, lower-cased; a trailing dot makes it absolute.
        port: A number asks A or AAAA records and adds that port; a name asks SRV records, whose
            ports it takes; `None` asks A or AAAA records and leaves the port out.
        protocol: Of a named port.
        family: `"auto"` is IPv4 where the service has any IPv4 address, else IPv6, so that a
            dual-stack pod is never listed twice.

    Raises:
        ConfigError: One of them is empty, misspelt or out of range.
        TypeError: One of them has the wrong type.
    """

    service: str
    port: int | str | None = None
    protocol: Protocol = "tcp"
    family: Family = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "service", check_name(self.service, "service"))
        _check_port(self.port)
        if self.protocol not in get_args(Protocol):
            raise ConfigError(f"protocol must be {_one_of(Protocol)}, got {shown(self.protocol)}")
        if self.family not in get_args(Family):
            raise ConfigError(f"family must be {_one_of(Family)}, got {shown(self.family)}")
        if isinstance(self.port, str):
            size = len(srv_name(self.service, self.port, self.protocol).removesuffix("."))
            if size > MAX_NAME:
                raise ConfigError(
                    f"service has {size} characters with its port {self.port!r} before it, DNS "
                    f"allows {MAX_NAME}: {shown(self.service)}"
                )

    def __str__(self) -> str:
        if isinstance(self.port, str):
            return f"{self.service} (port {self.port}/{self.protocol})"
        return self.service if self.port is None else f"{self.service} (port {self.port})"


def check_name(name: str, what: str) -> str:
    """
    Return *name* in lower case if it can be a DNS name, with or without a trailing dot.

    Raises:
        ConfigError: It is empty, an address, or has a label or a character that no name has; the
            message starts with *what* and shows at most 80 characters of it.
        TypeError: It is not a str.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    bare = name.removesuffix(".")
    if not bare:
        raise ConfigError(f"{what} must not be empty, got {shown(name)}")
    if len(bare) > MAX_NAME:
        raise ConfigError(
            f"{what} has {len(bare)} characters, DNS allows {MAX_NAME}: {shown(name)}"
        )
    text = bare.lower()
    if is_address(text):
        raise ConfigError(
            f"{what} must be a DNS name, got the address {shown(name)}; Ring.static takes addresses"
        )
    for label in text.split("."):
        if not label:
            raise ConfigError(f"{what} has an empty label: {shown(name)}")
        if len(label) > MAX_LABEL:
            raise ConfigError(
                f"{what} has a label of {len(label)} characters, DNS allows {MAX_LABEL}: "
                f"{shown(name)}"
            )
        # Lower-casing makes ASCII of a few letters that are not: the Kelvin sign becomes a "k".
        if not (name.isascii() and _LABEL.fullmatch(label)):
            raise ConfigError(
                f"{what} must be a DNS name like 'web.prod.svc.cluster.local' (letters, digits "
                f"and inner hyphens), got {shown(name)}"
            )
    return name.lower()


def shown(value: object) -> str:
    """
    Return *value* as an error shows it: on one line, in printable characters, and not for long.
    """
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"  # Python refuses to print the longest ones
    if isinstance(value, str) and len(value) > _SHOWN:
        return repr(f"{value[: _SHOWN - 3]}...")
    text = repr(value)
    return text if len(text) <= 10 * _SHOWN + 2 else f"{text[: _SHOWN - 3]}..."


def is_address(text: str) -> bool:
    """
    Is *text* a numeric address, in brackets or not?
    """
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def srv_name(name: str, port: str, protocol: str) -> str:
    """
    Return the name of the SRV records of a named port: `_http._tcp.` before *name*.
    """
    return f"_{port}._{protocol}.{name}"


def _check_port(port: object) -> None:
    if port is None:
        return
    if isinstance(port, bool) or not isinstance(port, (int, str)):
        raise TypeError(f"port must be an int, a str or None, not {type(port).__name__}")
    if isinstance(port, int):
        if not 1 <= port <= 65535:
            raise ConfigError(f"port must be 1 to 65535, got {shown(port)}")
        return
    if port.isdecimal() and len(port) <= 5:
        raise ConfigError(f"port={port!r} has no name: write port={port}, or the port's own name")
    if len(port) > MAX_LABEL - 1 or port.isdecimal() or not _PORT_NAME.fullmatch(port):
        raise ConfigError(
            f"port must be a number or the name of a port, like 'http', got {shown(port)}"
        )


def _one_of(literal: object) -> str:
    return " or ".join(repr(value) for value in get_args(literal))
