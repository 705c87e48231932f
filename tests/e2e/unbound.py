"""
A real Unbound on loopback: the cache that a node or a data centre puts between clients and CoreDNS.

Knows how to find the binary, to start and stop it, and to ask it with dnspython. It resolves the
cluster's zone through the server that it is given, and nothing else, and answers from its cache for
as long as the TTL says. What it could not find out it calls SERVFAIL, and that for five seconds.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import dns.exception
import dns.message
import dns.query

from .coredns import ZONE
from .ports import HOST
from .process import ServerProcess

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


class Unbound(ServerProcess):
    """
    One Unbound process.

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
        super().__init__("unbound", directory)
        self.options = options
        self._binary = binary
        self._upstream = upstream.replace(":", "@")
        self._kind = kind
        self._config = directory / "unbound.conf"

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
        self._run([self._binary, "-d", "-c", self._config], self._answers)

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
