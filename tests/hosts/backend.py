"""
One pod that answers every request with its address, after a moment, and notes what it was asked to do.

    python -m tests.hosts.backend ADDRESS PORT FILE DESKS TAKES

The path of each POST is a line of FILE, written before it is answered; without a name nothing is written. The
moment is TAKES seconds, and DESKS requests have theirs at once: the others queue.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.conformance.live.servers import free_port

from .documents import ROOT

__all__ = ["Backends", "backends"]


async def serve(address: str, port: int, file: str, places: int, takes: float) -> None:
    desks = asyncio.Semaphore(places)
    notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if file else -1

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [
                    int(line.partition(b":")[2])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ]
                await reader.readexactly(sum(lengths))
                if notes >= 0 and head.startswith(b"POST "):
                    os.write(notes, head.split()[1] + b"\n")
                async with desks:
                    await asyncio.sleep(takes)
                told = f"HTTP/1.1 200 OK\r\ncontent-length: {len(address)}\r\n\r\n{address}"
                writer.write(told.encode())
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, address, port)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


class Backends:
    """
    Pods in processes of their own, all at one port.
    """

    def __init__(self, port: int, file: str, desks: int, takes: float) -> None:
        self.port = port
        self.file = file
        self.manner = (str(desks), str(takes))
        self.running: dict[str, subprocess.Popen[str]] = {}

    def start(self, address: str) -> None:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.hosts.backend"),
                *(address, str(self.port), self.file, *self.manner),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running[address] = process
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def kill(self, address: str) -> None:
        """
        End it as a node that loses its power does, but for the kernel, which closes its sockets.
        """
        process = self.running.pop(address)
        process.kill()
        process.communicate()


@contextmanager
def backends(
    *addresses: str, file: str = "", desks: int = 10_000, takes: float = 0.002
) -> Iterator[Backends]:
    made = Backends(free_port(addresses), file, desks, takes)
    try:
        for address in addresses:
            made.start(address)
        yield made
    finally:
        for address in list(made.running):
            made.kill(address)


if __name__ == "__main__":
    at, port, file, desks, takes = sys.argv[1:]
    asyncio.run(serve(at, int(port), file, int(desks), float(takes)))
