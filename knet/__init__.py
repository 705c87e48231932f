"""
Every request for a key at the same pod: consistent hashing over a Kubernetes headless Service.

A front door that hands names on when they are asked for: who uses `knet.hashring` alone loads no DNS
and no event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str

    from knet import blocking as blocking
    from knet import hashring as hashring
    from knet import keys as keys
    from knet import kubernetes as kubernetes
    from knet import resolver as resolver
    from knet.answer import Answer, Gap
    from knet.belief import RefreshPolicy, State
    from knet.endpoint import Endpoint
    from knet.errors import (
        AnswerTooLarge,
        ConfigError,
        Forbidden,
        KeyMoved,
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
    from knet.pool import Pool
    from knet.question import Family, Protocol, Question
    from knet.resolver import SRV, Resolver, lookup_host, lookup_srv
    from knet.ring import (
        Attempts,
        Held,
        Kept,
        PastChange,
        RetryOn,
        Ring,
        RingOptions,
        RingStats,
        open_rings,
    )
    from knet.routing import Bound, EjectionPolicy, may_repeat, never_sent, unreachable
    from knet.snapshot import Change, KeySpace, Snapshot
    from knet.sources import ALIVE, Alive, Asked, Fallback, ResolverProtocol, Source, Tell, Telling
    from knet.static import StaticResolver
    from knet.surroundings import this_pod

__all__ = [
    "ALIVE",
    "SRV",
    "Alive",
    "Answer",
    "AnswerTooLarge",
    "Asked",
    "Attempts",
    "Bound",
    "Change",
    "ConfigError",
    "EjectionPolicy",
    "Endpoint",
    "Fallback",
    "Family",
    "Forbidden",
    "Gap",
    "HashRing",
    "Held",
    "Kept",
    "KeyMoved",
    "KeySpace",
    "KnetError",
    "MalformedAnswer",
    "NameNotFound",
    "NoData",
    "NoEndpoints",
    "PastChange",
    "Pool",
    "Protocol",
    "QueryRefused",
    "Question",
    "RefreshPolicy",
    "ResolveError",
    "ResolveTimeout",
    "Resolver",
    "ResolverClosed",
    "ResolverProtocol",
    "RetryOn",
    "Ring",
    "RingClosed",
    "RingMisused",
    "RingNotReady",
    "RingOptions",
    "RingStats",
    "ServerFailure",
    "ServerUnreachable",
    "Snapshot",
    "Source",
    "State",
    "StaticResolver",
    "Tell",
    "Telling",
    "lookup_host",
    "lookup_srv",
    "may_repeat",
    "never_sent",
    "open_rings",
    "this_pod",
    "unreachable",
]

# Where each name lives. A test holds this to what type checkers read above.
_HOMES = {
    "Answer": "knet.answer",
    "Gap": "knet.answer",
    "RefreshPolicy": "knet.belief",
    "State": "knet.belief",
    "Endpoint": "knet.endpoint",
    "AnswerTooLarge": "knet.errors",
    "ConfigError": "knet.errors",
    "Forbidden": "knet.errors",
    "KeyMoved": "knet.errors",
    "KnetError": "knet.errors",
    "MalformedAnswer": "knet.errors",
    "NameNotFound": "knet.errors",
    "NoData": "knet.errors",
    "NoEndpoints": "knet.errors",
    "QueryRefused": "knet.errors",
    "ResolveError": "knet.errors",
    "ResolverClosed": "knet.errors",
    "ResolveTimeout": "knet.errors",
    "RingClosed": "knet.errors",
    "RingMisused": "knet.errors",
    "RingNotReady": "knet.errors",
    "ServerFailure": "knet.errors",
    "ServerUnreachable": "knet.errors",
    "HashRing": "knet.hashring",
    "Pool": "knet.pool",
    "Family": "knet.question",
    "Protocol": "knet.question",
    "Question": "knet.question",
    "SRV": "knet.resolver",
    "Resolver": "knet.resolver",
    "lookup_host": "knet.resolver",
    "lookup_srv": "knet.resolver",
    "Ring": "knet.ring",
    "Attempts": "knet.ring",
    "Held": "knet.ring",
    "Kept": "knet.ring",
    "PastChange": "knet.ring",
    "RetryOn": "knet.ring",
    "RingOptions": "knet.ring",
    "RingStats": "knet.ring",
    "open_rings": "knet.ring",
    "Bound": "knet.routing",
    "EjectionPolicy": "knet.routing",
    "may_repeat": "knet.routing",
    "never_sent": "knet.routing",
    "unreachable": "knet.routing",
    "Change": "knet.snapshot",
    "KeySpace": "knet.snapshot",
    "Snapshot": "knet.snapshot",
    "ALIVE": "knet.sources",
    "Alive": "knet.sources",
    "Asked": "knet.sources",
    "Source": "knet.sources",
    "Tell": "knet.sources",
    "Telling": "knet.sources",
    "ResolverProtocol": "knet.sources",
    "Fallback": "knet.sources",
    "StaticResolver": "knet.static",
    "this_pod": "knet.surroundings",
}

# What `import knet` is enough for; the other packages are imported by name.
_PACKAGES = ("blocking", "hashring", "keys", "kubernetes", "resolver")


if not TYPE_CHECKING:  # they would take every name for an object

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            value: object = getattr(importlib.import_module(_HOMES[name]), name)
        elif name in _PACKAGES:
            value = importlib.import_module(f"knet.{name}")
        elif name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415 - it takes longer than all the rest

            value = version("knet-ring")
        else:
            raise AttributeError(f"module 'knet' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES, "__version__"})
