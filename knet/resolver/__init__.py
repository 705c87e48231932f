"""
From a service name to an answer, by DNS.
"""

from __future__ import annotations

from knet.answer import Answer
from knet.resolver.dns import SRV, Resolver, lookup_host, lookup_srv
from knet.static import StaticResolver
from knet.surroundings import Surroundings, surrounded_by

__all__ = [
    "SRV",
    "Answer",
    "Resolver",
    "StaticResolver",
    "Surroundings",
    "lookup_host",
    "lookup_srv",
    "surrounded_by",
]
