"""
What the DNS servers of these tests have in common: a process on loopback, and asking it.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import dns.message
import dns.query

from .ports import HOST, reserve_port

__all__ = ["ServerProcess"]


class ServerProcess:
    """
    One process; a context manager, inside which it may be stopped and started again.

    Args:
        name: What it is called, in errors and by its log.
        directory: Where it runs, and where its log goes.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.port, self._reserved = reserve_port()
        self._name = name
        self._directory = directory
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """
        Where it listens, as a nameserver is written.
        """
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._reserved.close()

    def start(self) -> None:
        """
        Start it and return once it answers.
        """
        raise NotImplementedError

    def _run(
        self,
        command: Sequence[str | Path],
        answers: Callable[[], bool],
        env: Mapping[str, str] | None = None,
    ) -> None:
        """
        Run *command* and return once *answers* says so.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self._directory, env=env
            )
        deadline = time.monotonic() + 30
        while not answers():
            log_text = self._log.read_text(errors="replace")
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"{self._name} ended with {self._process.returncode}:\n{log_text}"
                )
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._name} does not answer:\n{log_text}")
            time.sleep(0.02)

    def stop(self) -> None:
        """
        Stop it, if it runs, and wait for its end.
        """
        if self._process is not None:
            self._process.kill()  # it has nothing to save
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """
        Make it hang: its sockets stay open and nothing comes back, until `resume` or `stop`.
        """
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """
        Let it go on; what it was asked meanwhile is answered late.
        """
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def query(self, name: str, rdtype: str = "A", *, tcp: bool = False) -> dns.message.Message:
        """
        Ask once, without EDNS, and return what came; a truncated answer is returned as it is.
        """
        query = dns.message.make_query(name, rdtype, use_edns=False)
        ask = dns.query.tcp if tcp else dns.query.udp
        return ask(query, HOST, port=self.port, timeout=5)
