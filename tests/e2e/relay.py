"""
One address in front of several DNS servers, which answer in turns.

What kube-dns is to its clients: a virtual IP, behind which each query may reach another replica of
CoreDNS, with a cache of another age. Knows how to pass queries on, over UDP and TCP, and writes
down what came back; no message is changed.

It lives on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from .ports import HOST, reserve_port

__all__ = ["Heard", "Relay"]


@dataclass(frozen=True, slots=True)
class Heard:
    """
    One answer that was passed on.

    Attributes:
        server: Which of the servers gave it, from 0 on.
        name: What was asked for, without the last dot.
        addresses: The A and AAAA records of the answer section.
        rcode: How it went, "NOERROR" or another.
    """

    server: int
    name: str
    addresses: frozenset[str]
    rcode: str


class Relay:
    """
    A context manager that runs it on a free port of loopback.

    Args:
        servers: Ports of loopback where the servers are.
            They take turns name by name, so that each name's queries reach all of them.
    """

    def __init__(self, *servers: int) -> None:
        self.heard: list[Heard] = []
        self.port, self._reserved = reserve_port()
        self._servers = servers
        self._turns: dict[dns.name.Name, Iterator[int]] = {}
        # The last query for each name, by its id.
        self._asked: dict[dns.name.Name, tuple[int, asyncio.Task[bytes]]] = {}
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="relay")
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._udp: asyncio.DatagramTransport
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """
        Where it listens, as a nameserver is written.
        """
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Relay:
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the relay did not start")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._reserved.close()

    def about(self, name: str) -> list[Heard]:
        """
        Return what was heard of *name*, oldest first.
        """
        return [one for one in self.heard if one.name == name]

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        local = (HOST, self.port)
        self._udp, _ = await self._loop.create_datagram_endpoint(
            lambda: _Datagrams(self._take), local_addr=local
        )
        tcp = await asyncio.start_server(self._converse, *local, reuse_port=True)
        self._started.set()
        try:
            await self._stopping.wait()
        finally:
            tcp.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._udp.close()

    def _take(self, query: bytes, client: tuple[str, int]) -> None:
        task = self._loop.create_task(self._answer_udp(query, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_udp(self, query: bytes, client: tuple[str, int]) -> None:
        message = dns.message.from_wire(query)
        name = message.question[0].name
        id, asking = self._asked.get(name, (None, None))
        if asking is None or id != message.id:
            asking = self._loop.create_task(self._ask_udp(query))
            self._asked[name] = message.id, asking
        # A client that waits for too long asks again. What it gets is one answer to one query.
        with suppress(TimeoutError):
            self._udp.sendto(await asyncio.shield(asking), client)

    async def _ask_udp(self, query: bytes) -> bytes:
        server = self._next_server(query)
        answers: asyncio.Queue[bytes] = asyncio.Queue()
        transport, _ = await self._loop.create_datagram_endpoint(
            lambda: _Datagrams(lambda answer, _: answers.put_nowait(answer)),
            remote_addr=(HOST, self._servers[server]),
        )
        try:
            transport.sendto(query)
            answer = await asyncio.wait_for(answers.get(), 5)
        finally:
            transport.close()
        self._write_down(server, answer)
        return answer

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                query = await _read_message(reader)
                server = self._next_server(query)
                theirs, ours = await asyncio.open_connection(HOST, self._servers[server])
                try:
                    ours.write(len(query).to_bytes(2) + query)
                    answer = await _read_message(theirs)
                finally:
                    ours.close()
                self._write_down(server, answer)
                writer.write(len(answer).to_bytes(2) + answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _next_server(self, query: bytes) -> int:
        name = dns.message.from_wire(query).question[0].name
        turns = self._turns.setdefault(name, itertools.cycle(range(len(self._servers))))
        return next(turns)

    def _write_down(self, server: int, wire: bytes) -> None:
        message = dns.message.from_wire(wire)
        name = message.question[0].name
        kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
        self.heard.append(
            Heard(
                server=server,
                name=name.to_text(omit_final_dot=True),
                addresses=frozenset(
                    record.address
                    for rrset in message.answer
                    if rrset.rdtype in kinds
                    for record in rrset
                ),
                rcode=dns.rcode.to_text(message.rcode()),
            )
        )


class _Datagrams(asyncio.DatagramProtocol):
    """
    Hands each datagram over, with its sender.
    """

    def __init__(self, take: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._take(data, addr)


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(2))
    return await reader.readexactly(length)
