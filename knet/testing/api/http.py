"""
As much of HTTP/1.1 as an API server needs that is only read from: requests out of bytes, responses into bytes.

Pure. A request whose body is in chunks is refused, and so is one whose head is too long.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

__all__ = ["BROKEN_CHUNK", "LAST_CHUNK", "Head", "chunk", "read_head", "response_head"]

_LONGEST = 64 * 1024
_END = b"\r\n\r\n"

LAST_CHUNK = b"0\r\n\r\n"
# A chunk that promises more than follows.
BROKEN_CHUNK = b'400\r\n{"type":"MODI'


class Head(NamedTuple):
    """
    The head of a request.

    Attributes:
        method: ``"GET"``.
        path: Without the query.
        params: The query; of a name that occurs twice the first one.
        headers: By lower-case name.
        length: Bytes from the start of the head to the end of the body.
    """

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    length: int


def read_head(received: bytes | bytearray) -> Head | None:
    """
    Read the request that *received* begins with; `None` until all of it is there.

    Raises:
        ValueError: It is none.
    """
    end = received.find(_END)
    if end < 0 or end > _LONGEST:
        if len(received) > _LONGEST:
            raise ValueError("the head of a request is too long")
        return None
    first, *lines = received[:end].decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not HTTP/1: {version!r}")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if "transfer-encoding" in headers:
        raise ValueError("a body in chunks is not read")
    body = headers.get("content-length", "0")
    if not body.isdecimal():
        raise ValueError(f"no length: {body!r}")
    length = end + len(_END) + int(body)
    if length > len(received):
        if length > _LONGEST:
            raise ValueError("a request is too long")
        return None
    url = urlsplit(target)
    params: dict[str, str] = {}
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        params.setdefault(name, value)
    return Head(method, url.path, params, headers, length)


def response_head(status: int, headers: Mapping[str, str]) -> bytes:
    """
    The head of a response.
    """
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """
    *data* as a chunk; it is not empty.
    """
    return b"%x\r\n%b\r\n" % (len(data), data)
