"""
From a service name to an answer: `Resolver` by DNS, `StaticResolver` without.
"""

from __future__ import annotations

from knet.resolver.answer import Answer, ResolverProtocol
from knet.resolver.dns import SRV, Resolver, lookup_host, lookup_srv
from knet.resolver.static import StaticResolver

__all__ = [
    "SRV",
    "Answer",
    "Resolver",
    "ResolverProtocol",
    "StaticResolver",
    "lookup_host",
    "lookup_srv",
]
