"""
Upstreams that tell who they are: a program of its own, so that a proxy and its test have a core each.

    python upstreams.py 127.0.0.2 8080 127.0.0.3 8080 ::1 8080

It listens at each host and port and answers every request, HTTP or Redis, with the ``host:port`` that
was reached, until it is terminated.
"""

from __future__ import annotations

import asyncio
import sys


def address(host: str, port: int) -> str:
    """
    The text of an address, IPv6 in brackets.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Answering(asyncio.Protocol):
    """
    Answers pipelined requests without bodies, HTTP or Redis, with the address they came in at.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._who = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        host, port, *_ = transport.get_extra_info("sockname")
        self._transport = transport
        self._who = address(host, port).encode()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        if self._buffer.startswith(b"*"):
            # GET: *2, $3, GET, $length, key. A key has no line ends.
            end, each = b"\r\n", 5
            answer = b"$%d\r\n%s\r\n" % (len(self._who), self._who)
        else:
            end, each = b"\r\n\r\n", 1
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (
                len(self._who),
                self._who,
            )
        *whole, rest = self._buffer.split(end)
        count, left = divmod(len(whole), each)
        self._buffer = end.join([*whole[len(whole) - left :], rest])
        self._transport.write(answer * count)


async def main(arguments: list[str]) -> None:
    """
    Listen everywhere, for ever.
    """
    loop = asyncio.get_running_loop()
    for host, port in zip(arguments[::2], arguments[1::2], strict=True):
        await loop.create_server(Answering, host, int(port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
