"""
The same picks as proxies and memcached clients, key for key.
"""

from knet.hashring.proxies.envoy import EnvoyMaglev, EnvoyRing
from knet.hashring.proxies.grpc import GrpcRing
from knet.hashring.proxies.haproxy import HAProxyRing
from knet.hashring.proxies.ketama import Ketama
from knet.hashring.proxies.nginx import NginxRing
from knet.hashring.proxies.pymemcache import PymemcacheRendezvous
from knet.hashring.proxies.request import envoy_hash, grpc_hash

__all__ = [
    "EnvoyMaglev",
    "EnvoyRing",
    "GrpcRing",
    "HAProxyRing",
    "Ketama",
    "NginxRing",
    "PymemcacheRendezvous",
    "envoy_hash",
    "grpc_hash",
]
