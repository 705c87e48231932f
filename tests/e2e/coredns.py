"""
A real CoreDNS on loopback, serving the Services of a `FakeKubeAPI`.

Knows how to find the binary, to start and stop it, and to ask it with dnspython. The Corefile is
kubeadm's without `cache`, so that DNS shows a change within milliseconds: `ttl 30`, answers
shuffled by `loadbalance`. A test may ask for another TTL and for a cache.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from pathlib import Path

import dns.exception
import dns.rdatatype

from .ports import HOST
from .process import ServerProcess

__all__ = ["ZONE", "CoreDNS", "find_binary"]

ZONE = "cluster.local"

COREFILE = """\
.:{port} {{
    bind {host}
    errors
    kubernetes {zone} {{
        endpoint {api}
        ttl {ttl}
        startup_timeout 100ms
    }}
    {cache}
    loadbalance
}}
"""


@functools.cache
def find_binary() -> str | None:
    """
    Return the path of CoreDNS: `$COREDNS_BIN`, on the PATH, or where `go install` puts it.
    """
    found = os.environ.get("COREDNS_BIN") or shutil.which("coredns")
    if found is None and (go := shutil.which("go")):
        gopath = subprocess.run(
            [go, "env", "GOPATH"], capture_output=True, text=True, check=True
        ).stdout.strip()
        found = shutil.which("coredns", path=str(Path(gopath) / "bin"))
    return found and str(Path(found).absolute())


class CoreDNS(ServerProcess):
    """
    One CoreDNS process.

    Args:
        binary: Path of the executable.
        api: URL of the Kubernetes API.
        directory: Where its Corefile and its log go.
        ttl: Seconds, of every record.
        cache: Seconds for which answers are kept at most; the TTL counts too, and it is never less
            than five. `None`: each answer is made when it is asked for.
    """

    def __init__(
        self, binary: str, api: str, directory: Path, *, ttl: int = 30, cache: int | None = None
    ) -> None:
        super().__init__("coredns", directory)
        self._binary = binary
        self._corefile = directory / "Corefile"
        self._corefile.write_text(
            COREFILE.format(
                host=HOST,
                port=self.port,
                zone=ZONE,
                api=api,
                ttl=ttl,
                cache="" if cache is None else f"cache {cache}",
            )
        )

    def start(self, *, synced: bool = True) -> None:
        """
        Start it and return once it answers for the zone; once it answers at all, unless *synced*.

        Without an API it says SERVFAIL until it has seen the whole of it. By default CoreDNS would
        say nothing for five seconds before that; this Corefile makes a tenth of one of them.
        """
        # In particular no KUBECONFIG, and none of the variables of a pod.
        env = {"PATH": os.defpath, "HOME": str(self._directory)}
        self._run([self._binary, "-conf", self._corefile], lambda: self._answers(synced), env)

    def wait_for(self, name: str, wanted: set[str], rdtype: str = "A") -> None:
        """
        Return once *name* answers with exactly the addresses *wanted*.
        """
        deadline = time.monotonic() + 10
        while (found := self.addresses(name, rdtype)) != wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} {rdtype}: {len(found)} of {len(wanted)} addresses")
            time.sleep(0.002)

    def addresses(self, name: str, rdtype: str = "A") -> set[str]:
        """
        Return the addresses of *name*, asked for over TCP so that none is missing.
        """
        kind = dns.rdatatype.from_text(rdtype)
        answer = self.query(name, rdtype, tcp=True).answer
        return {record.address for rrset in answer if rrset.rdtype == kind for record in rrset}

    def _answers(self, synced: bool) -> bool:
        try:
            # This name is there as soon as the plugin has seen the whole API.
            found = self.query(f"dns-version.{ZONE}.", "TXT", tcp=True).answer
        except (dns.exception.DNSException, OSError):
            return False
        return bool(found) or not synced
