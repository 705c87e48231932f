"""
A real Unbound on loopback: the cache that a node or a data centre puts between clients and CoreDNS.

Knows how to find the binary, to start and stop it, and to ask it with dnspython. It resolves the
cluster's zone through the server that it is given, and nothing else, and answers from its cache for
as long as the TTL says. What it could not find out it calls SERVFAIL, and that for five seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Literal

import dns.exception
import dns.message
import dns.query

from .coredns import ZONE
from .ports import HOST, reserve_port

__all__ = ["Unbound", "find_unbound"]

CONFIG = """\
server:
    interface: {host}
    port: {port}
    access-control: 127.0.0.0/8 allow
    directory: "{directory}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    logfile: ""
    log-time-ascii: yes
    num-threads: 1
    # The zone is not signed, its servers are on loopback, and both are unusual.
    module-config: "iterator"
    do-not-query-localhost: no
    local-zone: "{zone}." nodefault
    # A server that was away is asked again at once, where the default is after 15 minutes.
    infra-host-ttl: 1
    infra-cache-max-rtt: 500
    infra-keep-probing: yes
{options}
remote-control:
    control-enable: no
{kind}-zone:
    name: "{zone}."
    {kind}-addr: {upstream}
"""


def find_unbound() -> str | None:
    """
    Return the path of Unbound: `$UNBOUND_BIN`, or on the PATH.

    Debian has it in a directory that only root's PATH names.
    """
    return os.environ.get("UNBOUND_BIN") or shutil.which(
        "unbound", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    )


class Unbound:
    """
    One Unbound process; a context manager, inside which it may be stopped and started again.

    Args:
        binary: Path of the executable.
        directory: Where its configuration and its log go.
        upstream: The server of the zone, `"127.0.0.1:5353"`.
        kind: `"stub"`: it resolves the zone itself. `"forward"`: it passes questions on.
        options: Lines of the configuration's `server:` clause, such as `"cache-max-ttl: 1"`. Others
            count from the next `start` on.
    """

    def __init__(
        self,
        binary: str,
        directory: Path,
        upstream: str,
        *options: str,
        kind: Literal["stub", "forward"] = "stub",
    ) -> None:
        self.port, self._reserved = reserve_port()
        self.options = options
        self._binary = binary
        self._directory = directory
        self._upstream = upstream.replace(":", "@")
        self._kind = kind
        self._config = directory / "unbound.conf"
        self._log = directory / "unbound.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """
        Where it listens, as a nameserver is written.
        """
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Unbound:
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
        Start it, with an empty cache, and return once it answers.
        """
        self._config.write_text(
            CONFIG.format(
                host=HOST,
                port=self.port,
                directory=self._directory,
                zone=ZONE,
                kind=self._kind,
                upstream=self._upstream,
                options="\n".join(f"    {line}" for line in self.options),
            )
        )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "-d", "-c", self._config],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            log_text = self._log.read_text(errors="replace")
            if self._process.poll() is not None:
                raise RuntimeError(f"unbound ended with {self._process.returncode}:\n{log_text}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"unbound does not answer:\n{log_text}")
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

    def _answers(self) -> bool:
        # It knows this name by itself, so that nothing but the process has to be up; and one of the
        # two transports may be switched off.
        query = dns.message.make_query("localhost.", "A")
        for ask in (dns.query.tcp, dns.query.udp):
            try:
                ask(query, HOST, port=self.port, timeout=0.1)
            except (dns.exception.DNSException, OSError):
                continue
            return True
        return False
