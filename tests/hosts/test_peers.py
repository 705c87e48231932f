"""
The example of docs/peers.md, as three pods of one service: all unready at first, and all restarted at once.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from knet.testing import HeadlessService, Pod
from tests.conformance.live.servers import free_port

from .cluster import WEB
from .documents import ROOT

ADDRESSES = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]
ROOMS = [f"room-{number}" for number in range(12)]
WITHIN = 30.0


@contextmanager
def processes(port: int, nameserver: str) -> Iterator[list[subprocess.Popen[str]]]:
    """
    Run the three pods; end them as a kubelet does.
    """
    command = [sys.executable, "-m", "tests.hosts.peer"]
    running = [
        subprocess.Popen(
            [*command, "peers", "0", address, str(port), nameserver],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for address in ADDRESSES
    ]
    try:
        yield running
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=WITHIN)[1] for process in running]
    assert said == ["", "", ""], said


def probe(
    service: HeadlessService,
    pods: list[Pod],
    port: int,
    client: httpx.Client,
    running: list[subprocess.Popen[str]],
) -> None:
    """
    Make each pod ready once its own /healthz answers, as a kubelet does.
    """
    unready = list(pods)
    deadline = time.monotonic() + WITHIN
    while unready:
        assert all(process.poll() is None for process in running), "a pod has crashed"
        assert time.monotonic() < deadline, f"never ready: {unready}"
        for pod in list(unready):
            with suppress(httpx.TransportError):
                if client.get(f"http://{pod.addresses[0]}:{port}/healthz").status_code == 200:
                    service.ready(pod)
                    unready.remove(pod)
        time.sleep(0.02)


def owners(port: int, client: httpx.Client) -> dict[str, set[str]]:
    """
    Ask every pod for every room; return who answered, "" where nobody did.

    A server may close a connection that was idle in the instant in which it is used again.
    """
    answers: dict[str, set[str]] = {room: set() for room in ROOMS}
    for address in ADDRESSES:
        for room in ROOMS:
            try:
                answer = client.get(f"http://{address}:{port}/rooms/{room}")
            except httpx.TransportError:
                answers[room].add("")
            else:
                answers[room].add(answer.text if answer.status_code == 200 else "")
    return answers


@pytest.mark.long
def test_pods_that_are_all_unready_get_ready_twice() -> None:
    """
    Each room is answered by one pod, whoever is asked: after the first start, and after all pods were
    restarted at once.
    """
    port = free_port(ADDRESSES)
    seen = []
    with HeadlessService(WEB, pods=ADDRESSES) as service, httpx.Client(trust_env=False) as client:
        for _ in range(2):
            pods = [service.unready(pod) for pod in service.pods]
            with processes(port, service.nameserver) as running:
                probe(service, pods, port, client, running)
                deadline = time.monotonic() + WITHIN
                while True:
                    found = owners(port, client)
                    if all(len(who) == 1 and "" not in who for who in found.values()) and len(
                        {text.rpartition(" ")[2] for who in found.values() for text in who}
                    ) == len(ADDRESSES):
                        break
                    assert time.monotonic() < deadline, found
                seen.append(found)

    assert seen[0] == seen[1]
    assert all(
        text.endswith(tuple(f"{address}:{port}" for address in ADDRESSES))
        for who in seen[0].values()
        for text in who
    )
