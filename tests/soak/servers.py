"""
The DNS servers of the real soak, in a process of their own.

    python -m tests.soak.servers

What is measured is then knet's process alone: no thread, no descriptor and no memory of a server is
in its figures. Commands come as lines of JSON, and each is answered by a line once it holds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from knet.testing import HeadlessService, Pod

__all__ = ["SERVICES", "Servers", "State", "running"]

# Small networks, so that addresses are used again and again, by other pods.
SERVICES: dict[str, dict[str, Any]] = {
    "web.prod": {
        "ttl": 1,
        "families": ("ipv4", "ipv6"),
        "networks": ("10.244.0.0/24", "fd00:244::/120"),
    },
    "db.prod": {"ttl": 1, "stateful": True, "networks": ("10.245.0.0/26",)},
}
_REPLICAS = 2
_COMMANDS = {
    "add", "remove", "replace", "ready", "unready", "scale", "set_ttl",
    "fail", "delay", "set_tcp", "heal", "close", "start",
}  # fmt: skip
_ROOT = Path(__file__).parents[2]


class State:
    """
    What one server says of itself: where it is, and its pods.
    """

    def __init__(self, raw: dict[str, Any]) -> None:
        self.nameserver: str = raw["nameserver"]
        self.queries: int = raw["queries"]
        self.pods = [
            Pod(pod["addresses"], hostname=pod["hostname"], ready=pod["ready"])
            for pod in raw["pods"]
        ]


class Servers:
    """
    The other end of the line. Every call blocks for the fraction of a millisecond that it takes.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, server: tuple[str, int], what: str, *args: Any, **options: Any) -> State:
        """
        Do *what* at a *server*: a service, and which of its replicas.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([server, what, args, options]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the servers are gone"}')
        if "error" in answer:
            raise RuntimeError(f"{what}{args} at {server}: {answer['error']}")
        return State(answer)

    def look(self, server: tuple[str, int]) -> State:
        """
        Change nothing.
        """
        return self.do(server, "look")

    def count(self, server: tuple[str, int]) -> int:
        """
        Return how many queries there were since the last count, 10,000 at most.
        """
        return self.do(server, "count").queries


@contextmanager
def running(seed: int) -> Iterator[Servers]:
    """
    Have the servers meanwhile.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.soak.servers", str(seed)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT,
    ) as process:  # fmt: skip
        try:
            yield Servers(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()  # which ends it
            process.wait(10)


def _start(service: HeadlessService) -> None:
    """
    Listen on the old port again; somebody's socket may sit on it for a moment.
    """
    for _ in range(200):
        try:
            service.start()
        except OSError:
            time.sleep(0.05)
        else:
            return
    service.start()


def _do(service: HeadlessService, what: str, args: list[Any], options: dict[str, Any]) -> None:
    if what == "start":
        _start(service)
    elif what in _COMMANDS:
        getattr(service, what)(*args, **options)


def _count(service: HeadlessService) -> int:
    count = len(service.queries)
    service.forget_queries()
    return count


def main() -> None:
    """
    Serve until the other end hangs up.
    """
    seed = int(sys.argv[1])
    with ExitStack() as stack:
        servers = {
            (name, number): stack.enter_context(HeadlessService(name, seed=seed, **facts))
            for name, facts in SERVICES.items()
            for number in range(_REPLICAS)
        }
        for line in sys.stdin:
            (name, number), what, args, options = json.loads(line)
            service = servers[name, number]
            answer: dict[str, Any]
            try:
                _do(service, what, args, options)
                pods = [
                    {"addresses": pod.addresses, "hostname": pod.hostname, "ready": pod.ready}
                    for pod in service.pods
                ]
                answer = {
                    "nameserver": service.nameserver,
                    "pods": pods,
                    "queries": _count(service) if what == "count" else 0,
                }
            except Exception as error:
                answer = {"error": repr(error)}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
