"""
Every error that knet raises of its own accord.

All of them are a `KnetError`; a leaf also inherits the built-in that it resembles. Bad input is a
`ConfigError` or a plain `TypeError`, at the call that got it. Cancellation is not an error.
"""

from __future__ import annotations

__all__ = [
    "AnswerTooLarge",
    "ConfigError",
    "Forbidden",
    "KeyMoved",
    "KnetError",
    "MalformedAnswer",
    "NameNotFound",
    "NoData",
    "NoEndpoints",
    "QueryRefused",
    "ResolveError",
    "ResolveTimeout",
    "ResolverClosed",
    "RingClosed",
    "RingMisused",
    "RingNotReady",
    "ServerFailure",
    "ServerUnreachable",
]


class KnetError(Exception):
    """
    The base of every error of knet.
    """


class ConfigError(KnetError, ValueError):
    """
    Raised when an argument has the right type and a value that cannot work.
    """


class NoEndpoints(KnetError, LookupError):
    """
    Raised when a key is asked for and there is no member to give it to.
    """


class KeyMoved(KnetError):
    """
    Raised when a key is to be held, or is held, that belongs to another pod.

    Attributes:
        key: Which.
        to: Who has it, or `None`: nobody.
    """

    def __init__(self, message: str, *, key: str | bytes = "", to: object = None) -> None:
        super().__init__(message)
        self.key = key
        self.to = to

    def __reduce__(self) -> tuple[object, ...]:
        return _key_moved, (str(self), self.key, self.to)


def _key_moved(message: str, key: str | bytes, to: object) -> KeyMoved:
    return KeyMoved(message, key=key, to=to)


class RingNotReady(KnetError, RuntimeError):
    """
    Raised when a ring is used before it was entered, or synchronously before its first snapshot.
    """


class RingClosed(KnetError, RuntimeError):
    """
    Raised when a ring is used after it was closed.
    """


class RingMisused(KnetError, RuntimeError):
    """
    Raised when a ring is entered a second time, or used from another event loop than its own.
    """


class ResolveError(KnetError):
    """
    Raised when a service could not be resolved; the leaves say how.

    Attributes:
        kind: One word for counters and logs: `"nxdomain"`, `"nodata"`, `"servfail"`, `"refused"`,
            `"forbidden"`, `"timeout"`, `"unreachable"`, `"malformed"`, `"toolarge"`, `"closed"`, else `"error"`.
        name: The DNS name asked for, absolute, or `""` where no query was sent.
        servers: The DNS servers that may have been asked, in order.
    """

    kind = "error"

    def __init__(self, message: str, *, name: str = "", servers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.servers = servers


class NameNotFound(ResolveError, LookupError):
    """
    Raised when the servers say that the name does not exist (NXDOMAIN).

    A headless Service whose pods are all unready answers just the same.
    """

    kind = "nxdomain"


class NoData(ResolveError, LookupError):
    """
    Raised when the name exists but has no usable record of the type that was asked for.
    """

    kind = "nodata"


class ServerFailure(ResolveError):
    """
    Raised when the servers could not answer (SERVFAIL), as while CoreDNS has no API server.
    """

    kind = "servfail"


class QueryRefused(ResolveError):
    """
    Raised when the servers would not answer (REFUSED, NOTIMP).
    """

    kind = "refused"


class ResolveTimeout(ResolveError, TimeoutError):
    """
    Raised when no server answered in time.
    """

    kind = "timeout"


class Forbidden(ResolveError, PermissionError):
    """
    Raised when a source does not let us ask: no token, a wrong one, or no right to read.
    """

    kind = "forbidden"


class ServerUnreachable(ResolveError, ConnectionError):
    """
    Raised when no server could be reached at all, as when its port is closed.
    """

    kind = "unreachable"


class MalformedAnswer(ResolveError):
    """
    Raised when what came back was not a DNS answer to the question.
    """

    kind = "malformed"


class AnswerTooLarge(ResolveError):
    """
    Raised when an answer names more pods than the resolver was told to believe.
    """

    kind = "toolarge"


class ResolverClosed(ResolveError, RuntimeError):
    """
    Raised when the resolver's channel was closed while a lookup was under way.
    """

    kind = "closed"
