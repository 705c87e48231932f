"""
`NginxRing`: the picks of nginx's ``hash <key> consistent``.

Every server has 160 points for each unit of its weight. They are CRC-32s in a chain: the first is that
of ``host NUL port`` and four zero bytes; each further one has the point before it, little-endian, in
place of the zeros. A key is its CRC-32.

Behaviour described by nginx's ``ngx_http_upstream_hash_module``, which owes it to Perl's
``Cache::Memcached::Fast``; checked against nginx 1.22.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, ClassVar, TypeVar
from zlib import crc32

from knet.endpoint import Endpoint
from knet.hashring.placement import Entry
from knet.hashring.proxies.continuum import Continuum, address_of
from knet.hashring.proxies.servers import whole_weight

__all__ = ["NginxRing"]

M = TypeVar("M", bound=Hashable)

_POINTS_PER_WEIGHT = 160
# A million points of one member take seconds to build, as in `HashRing`.
_MAX_WEIGHT = 2**20 // _POINTS_PER_WEIGHT
_POINTS_PER_SLICE = 256


class NginxRing(Continuum[M]):
    """
    The picks of nginx's ``hash $key consistent``.

        >>> ring = NginxRing(["10.0.0.1:8080", "10.0.0.2:8080"])
        >>> ring.get("/images/logo.png")
        '10.0.0.1:8080'

    Checked against nginx 1.22, in an ``http`` block. What is hashed of a server is its text in the
    configuration, so the members should be written alike: ``10.0.0.1:8080``, ``[fd00::1]:8080``,
    ``unix:/run/app.sock``, or a bare address where the configuration names no port. The key is what the
    variable after ``hash`` holds.

    When a server fails nginx goes on to the next point; `get_n` and `walk` go the same way.

    Parity ends where nginx itself leaves the ring: with an empty key (round robin), after 20 tries
    (round robin), and where the text of one server resolves to several addresses (they take turns).
    ``backup`` servers are not on the ring.

    Args:
        members: Strings, `Member`s, endpoints, in the order of the configuration. The order matters
            only in the rare case that two servers share a point.
        name: The text of a member in nginx's configuration; by default ``str(endpoint)``, IPv6 in
            brackets, or a string itself.

    Raises:
        ConfigError: A name is given twice or empty, or a weight is not whole or above 6553.
        TypeError: A member or its weight has the wrong type.
    """

    __slots__ = ()

    hash_bits: ClassVar[int] = 32
    hashes_ports: ClassVar[bool] = True
    _algorithm = "nginx/1"

    def __init__(
        self, members: Iterable[M] = (), *, name: Callable[[M], str] | None = None
    ) -> None:
        self._begin(members, name=name, key_hash=crc32)

    @staticmethod
    def _default_name(member: Any) -> str:
        if isinstance(member, Endpoint) and member.port is None and ":" in member.address:
            return f"[{member.address}]"
        return address_of(member)

    def _points(self, entries: list[Entry[M]]) -> Iterator[tuple[int, list[int]]]:
        for position, entry in enumerate(entries):
            count = _POINTS_PER_WEIGHT * whole_weight(entry, _MAX_WEIGHT, "nginx")
            base = crc32(_base(entry.name))
            point = 0
            for low in range(0, count, _POINTS_PER_SLICE):
                points = []
                for _ in range(low, min(low + _POINTS_PER_SLICE, count)):
                    point = crc32(point.to_bytes(4, "little"), base)
                    points.append(point)
                yield position, points


def _base(server: bytes) -> bytes:
    """
    Return what is hashed of a server: its host as written, brackets and all, NUL, and its port.
    """
    if server[:5].lower() == b"unix:":
        return server[5:] + b"\0"
    host, colon, port = server.rpartition(b":")
    if colon and (port.isdigit() or not port):
        return host + b"\0" + port
    return server + b"\0"
