"""
What do the words of the API cost a ring that is told, and what is left of them?

    python -m benchmarks.told [--events 10000] [--pods 1000]

One ring of a thousand pods in ten slices, at the defaults. Each event is a slice as the API sends it, in which another
pod is not ready; they come as fast as they are read. Counted are the events and the builds a second, the CPU of the
process for each, and the memory that Python has handed out (`tracemalloc`) after a tenth, a half and all of them. The API
server is another process, which sends what it was told to and knows nothing else.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

import knet
from knet.kubernetes import EndpointSlices

# Sends all slices, then so many changes as each line of stdin says, and a mark behind them: a pod of its own.
SERVER = """
import json, socket, sys
pods = int(sys.argv[1])
addresses = ["10.1.%d.%d" % divmod(n, 250) for n in range(pods)]
slices = [addresses[n : n + 100] for n in range(0, pods, 100)]
version = 100

def line(kind, number, unready="", mark=""):
    global version
    version += 1
    endpoints = [
        {
            "addresses": [a],
            "conditions": {"ready": a != unready, "serving": a != unready, "terminating": False},
            "nodeName": "node-%d" % number,
            "targetRef": {"kind": "Pod", "namespace": "prod", "name": "web-" + a, "uid": a},
            "zone": "eu-1a",
        }
        for a in slices[number] + [mark] * bool(mark)
    ]
    meta = {"name": "web-%d" % number, "resourceVersion": str(version)}
    ports = [{"name": "http", "protocol": "TCP", "port": 8080}]
    thing = {"metadata": meta, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}
    return json.dumps({"type": kind, "object": thing}).encode() + b"\\n"

server = socket.create_server(("127.0.0.1", 0))
print("http://127.0.0.1:%d" % server.getsockname()[1], flush=True)
client, _ = server.accept()
asked = b""
while b"\\r\\n\\r\\n" not in asked:
    asked += client.recv(4096)
client.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\n\\r\\n")
client.sendall(b"".join(line("ADDED", n) for n in range(len(slices))))
meta = {"resourceVersion": str(version), "annotations": {"k8s.io/initial-events-end": "true"}}
client.sendall(json.dumps({"type": "BOOKMARK", "object": {"metadata": meta}}).encode() + b"\\n")
sent = marks = 0
for count in map(int, sys.stdin):
    for _ in range(count):
        number = sent % len(slices)
        some = slices[number]
        client.sendall(line("MODIFIED", number, some[sent // len(slices) % len(some)]))
        sent += 1
    marks += 1
    client.sendall(line("MODIFIED", 0, mark="10.9.0.%d" % marks))
"""


class Server:
    """
    The other process, and the ring that listens to it.
    """

    def __init__(self, process: subprocess.Popen[str], ring: knet.Ring) -> None:
        self._process = process
        self._marks = 0
        self.ring = ring

    async def send(self, events: int) -> None:
        """
        Have so many *events* sent, and return once the ring has heard the last of them.
        """
        assert self._process.stdin is not None
        print(events, file=self._process.stdin, flush=True)
        self._marks += 1
        changes = self.ring.changes()
        while self.ring.snapshot.find(f"10.9.0.{self._marks}") is None:
            await anext(changes)


@asynccontextmanager
async def listening(pods: int) -> AsyncIterator[Server]:
    with subprocess.Popen(  # noqa: ASYNC220 - before anything else runs
        [sys.executable, "-c", SERVER, str(pods)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        source = EndpointSlices(api=process.stdout.readline().strip())
        async with knet.Ring("web.prod", port=8080, resolver=source) as ring:
            yield Server(process, ring)
        process.kill()


def traced() -> float:
    """
    Megabytes that Python has handed out since tracing began.
    """
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 2**20


async def measure(backend: str, events: int, pods: int) -> None:
    async with listening(pods) as server:
        await server.send(events // 10)
        cpu, began, built = (
            time.process_time(),
            time.perf_counter(),
            server.ring.snapshot.generation,
        )
        await server.send(events)
        cpu, took = time.process_time() - cpu, time.perf_counter() - began
        built = server.ring.snapshot.generation - built
    tracemalloc.start()
    try:
        async with listening(pods) as server:
            memory = []
            for part in (0.1, 0.4, 0.5):
                await server.send(int(events * part))
                memory.append(f"{traced():.2f}")
    finally:
        tracemalloc.stop()
    print(
        f"| {backend} | {events / took:.0f} | {built / took:.1f} | {cpu / events * 1e3:.2f} | {cpu / built * 1e3:.1f} "
        f"| {' | '.join(memory)} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--pods", type=int, default=1_000)
    given = parser.parse_args()

    print(f"CPython {sys.version.split()[0]}; {given.events} events of {given.pods} pods\n")
    print(
        "| | events/s | builds/s | CPU, ms an event | ms a build | MB after a tenth | a half | all |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for backend in ("asyncio", "trio"):
        anyio.run(measure, backend, given.events, given.pods, backend=backend)


if __name__ == "__main__":
    main()
