"""
Every request for a key at the same pod: consistent hashing over a Kubernetes headless Service.
"""

from __future__ import annotations

from knet.endpoint import Endpoint
from knet.errors import (
    AnswerTooLarge,
    ConfigError,
    KnetError,
    MalformedAnswer,
    NameNotFound,
    NoData,
    NoEndpoints,
    QueryRefused,
    ResolveError,
    ResolverClosed,
    ResolveTimeout,
    RingClosed,
    RingMisused,
    RingNotReady,
    ServerFailure,
    ServerUnreachable,
)
from knet.hashring import HashRing
from knet.refresh import RefreshPolicy
from knet.resolver import (
    SRV,
    Answer,
    Resolver,
    ResolverProtocol,
    StaticResolver,
    lookup_host,
    lookup_srv,
)
from knet.ring import Ring, RingStats
from knet.snapshot import Change, KeySpace, Snapshot

__all__ = [
    "SRV",
    "Answer",
    "AnswerTooLarge",
    "Change",
    "ConfigError",
    "Endpoint",
    "HashRing",
    "KeySpace",
    "KnetError",
    "MalformedAnswer",
    "NameNotFound",
    "NoData",
    "NoEndpoints",
    "QueryRefused",
    "RefreshPolicy",
    "ResolveError",
    "ResolveTimeout",
    "Resolver",
    "ResolverClosed",
    "ResolverProtocol",
    "Ring",
    "RingClosed",
    "RingMisused",
    "RingNotReady",
    "RingStats",
    "ServerFailure",
    "ServerUnreachable",
    "Snapshot",
    "StaticResolver",
    "lookup_host",
    "lookup_srv",
]
