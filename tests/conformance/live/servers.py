"""
What the live tests put around a proxy: processes that end, free ports, and keys to ask for.

`Process` runs a real server, keeps what it says on stderr, and is always gone afterwards. `ask` sends
keys through a proxy and returns who answered: the upstreams tell who they are.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Process", "ask", "can_listen", "free_port", "keys_from", "upstreams_at"]

_READY_WITHIN = 20.0
_CONNECTIONS = 4


def can_listen(host: str, port: int = 0) -> bool:
    """
    Whether a TCP socket can be bound there; port 0 is any.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except OSError:
        return False
    return True


def free_port(hosts: Iterable[str] = ("127.0.0.1",)) -> int:
    """
    A TCP port on which nobody listens on any of *hosts*.

    Below the ports that systems give to clients, so that no outgoing connection comes to sit on it.
    """
    hosts = tuple(hosts)
    for _ in range(200):
        port = random.randrange(20_000, 30_000)
        if all(can_listen(host, port) for host in hosts):
            return port
    raise RuntimeError(f"no free port on {', '.join(hosts)}")


def keys_from(rng: random.Random, count: int) -> list[str]:
    """
    Keys of many shapes, as they stand in headers: ASCII for the most part, some with other letters.
    """
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/:+=@%,;"
    shapes: list[Callable[[], str]] = [
        lambda: f"user-{rng.randrange(10**6)}",
        lambda: f"{rng.randrange(10**9)}",
        lambda: f"{rng.getrandbits(128):032x}",
        lambda: f"/t/{rng.randrange(100)}/o/{rng.randrange(10**4)}",
        lambda: "".join(rng.choices(letters, k=rng.randint(1, 60))),
        lambda: "".join(rng.choices(letters + "äßéñ☃🐍", k=rng.randint(1, 12))),
    ]
    return [rng.choice(shapes)() for _ in range(count)]


class Process:
    """
    A real server on loopback; a context manager.

    Args:
        command: What to run.
        directory: Where it runs and its log goes.
        ready: Host and port that take connections once it is up.
    """

    def __init__(
        self, command: Sequence[str | Path], directory: Path, ready: tuple[str, int]
    ) -> None:
        self._command = command
        self._directory = directory
        self._ready = ready
        self._log = directory / "stderr.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """
        Its number, while it runs.
        """
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
            )
        deadline = time.monotonic() + _READY_WITHIN
        while True:
            with contextlib.suppress(OSError), socket.create_connection(self._ready, timeout=1):
                return self
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                what = "does not listen" if code is None else f"ended with {code}"
                said = self.said
                self.stop()
                raise RuntimeError(f"{self._command[0]} {what}:\n{said}")
            time.sleep(0.02)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if exc is not None:
            exc.add_note(f"{self._command[0]} said:\n{self.said}")

    @property
    def said(self) -> str:
        """
        The last of its output.
        """
        return self._log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """
        End it, if it runs, and wait for that.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def upstreams_at(listeners: Sequence[tuple[str, int]], directory: Path) -> Process:
    """
    A process with a server at each of *listeners*.
    """
    program = Path(__file__).with_name("upstreams.py")
    arguments = [text for host, port in listeners for text in (host, str(port))]
    # The last one listens last.
    return Process([sys.executable, program, *arguments], directory, listeners[-1])


def ask(proxy: tuple[str, int], keys: Sequence[str], *, path: str = "/") -> list[str]:
    """
    Send a GET with each key as the header ``x-key`` and return the bodies, in the order of *keys*.

    Raises:
        RuntimeError: The proxy answered with something else than 200.
    """

    def some(low: int) -> list[str]:
        answers = []
        with contextlib.closing(http.client.HTTPConnection(*proxy, timeout=10)) as connection:
            for key in keys[low::_CONNECTIONS]:
                connection.putrequest("GET", path, skip_accept_encoding=True)
                connection.putheader("x-key", key.encode())
                connection.endheaders()
                response = connection.getresponse()
                body = response.read().decode()
                if response.status != 200:
                    raise RuntimeError(f"{response.status} for {key!r}: {body[:300]}")
                answers.append(body)
        return answers

    found = [""] * len(keys)
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for low, answers in enumerate(pool.map(some, range(_CONNECTIONS))):
            found[low::_CONNECTIONS] = answers
    return found
