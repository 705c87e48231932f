"""
Every request for a key at the same pod: consistent hashing over a Kubernetes headless Service.
"""

from __future__ import annotations

from knet.answer import Answer
from knet.belief import RefreshPolicy
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
from knet.question import Family, Protocol, Question
from knet.resolver import SRV, Resolver, lookup_host, lookup_srv
from knet.ring import Ring, RingStats
from knet.snapshot import Change, KeySpace, Snapshot
from knet.sources import Asked, ResolverProtocol
from knet.static import StaticResolver

__all__ = [
    "SRV",
    "Answer",
    "AnswerTooLarge",
    "Asked",
    "Change",
    "ConfigError",
    "Endpoint",
    "Family",
    "HashRing",
    "KeySpace",
    "KnetError",
    "MalformedAnswer",
    "NameNotFound",
    "NoData",
    "NoEndpoints",
    "Protocol",
    "QueryRefused",
    "Question",
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
