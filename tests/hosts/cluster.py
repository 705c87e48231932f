"""
A cluster for examples: they say `knet.Ring("web.prod.svc.cluster.local", port=8080)` and mean it.

No example knows that it is being tested, so what surrounds it is what differs: the system's DNS
settings lead to a `HeadlessService`, and the time between two lookups is short.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from knet import RefreshPolicy, Ring
from knet.resolver import dns
from knet.testing import HeadlessService, Pod

__all__ = ["QUICK", "WEB", "cluster", "follows_a_rollout"]

WEB = "web.prod.svc.cluster.local"

# Nothing waits for five seconds here; what is decided, and in what order, stays the same.
QUICK = RefreshPolicy(interval=0.05, min_interval=0.05, retry=0.05, empty_hold=1.0)

_KEYS = [f"user-{i}" for i in range(40)]


@contextmanager
def cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stateful: bool = False
) -> Iterator[HeadlessService]:
    """
    Be in the namespace `prod` of a cluster in which the service `web` has three pods.
    """
    with HeadlessService(WEB, pods=3, stateful=stateful) as service:
        # kubelet's resolv.conf, but for the nameserver: its line has no room for a port.
        conf = tmp_path / "resolv.conf"
        conf.write_text("search prod.svc.cluster.local svc.cluster.local cluster.local\n")
        monkeypatch.setattr(dns, "_RESOLV_CONF", conf)
        monkeypatch.setattr(dns, "_NAMESPACE", tmp_path / "namespace")
        monkeypatch.setattr(dns, "system_nameservers", lambda: (service.nameserver,))
        defaults = Ring.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "refresh", QUICK)
        monkeypatch.setitem(defaults, "start_timeout", 0.5)
        yield service


async def follows_a_rollout(service: HeadlessService, ask: Callable[[str], Awaitable[str]]) -> None:
    """
    Replace every pod and add two, asking for keys all the while; see all keys with the new pods.

    Args:
        service: Whose pods are replaced.
        ask: Sends a request for a key and returns the `host:port` that it met. It may never fail.
    """
    with anyio.fail_after(20):
        for pod in service.pods:
            service.replace(pod)
            for key in _KEYS:
                await ask(key)
            await anyio.sleep(0.02)
        service.scale(5)
        wanted = {_address(pod) for pod in service.pods}
        while {await ask(key) for key in _KEYS} != wanted:
            await anyio.sleep(0.01)


def _address(pod: Pod) -> str:
    return f"{pod.addresses[0]}:8080"
