"""
What an error of a client proves: three questions about a request that failed at a pod, never one.

- `never_sent`: is it certain that the pod has not seen the request? Then another pod may be asked.
- `may_repeat`: has it been seen at most in part, or is nobody sure? Then another pod may be asked if the
  work may be done twice.
- `unreachable`: is the pod at fault, so that it is skipped for a while?

Proof is a refused connection, or a type that says "while connecting"; of an OSError, which has no such
type, the text that asyncio, anyio and trio give to a connect and to nothing else. A bare errno is none: a
connection that died and a connect that failed give the same 113. No status of gRPC is, since a handler can give
any. A certificate that is not the service's proves nothing: every pod may have the wrong one. And an
error that names another host is not about this pod at all: the handler's own database refused it, say.

Pure. No client is imported: types are known by the package that they come from and by their name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal, get_args

from knet.endpoint import Endpoint

__all__ = [
    "KINDS",
    "ErrorJudge",
    "Grade",
    "Kind",
    "is_about",
    "kind_of",
    "may_repeat",
    "never_sent",
    "unreachable",
]

# How much an error speaks against a pod: 0 not at all, 1 it is ejected at once, 2 at the second in a row.
Grade = int
ErrorJudge = Callable[[BaseException], int]

# What an attempt fails of, for counters: there are few kinds, whatever clients raise.
Kind = Literal["refused", "connect_timeout", "busy", "broken", "told", "late", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_HTTPX = ("httpx", "httpx2")

# The connection could not be made.
_REFUSED = {
    "builtins.ConnectionRefusedError",
    "anyio.ConnectionFailed",
    *(f"{package}.ConnectError" for package in _HTTPX),
    "aiohttp.ClientConnectorError",
    "urllib3.NewConnectionError",
}
_TIMED_OUT_CONNECTING = {
    *(f"{package}.ConnectTimeout" for package in _HTTPX),
    "aiohttp.ConnectionTimeoutError",
    "requests.ConnectTimeout",
    "urllib3.ConnectTimeoutError",
}
# All connections of this client are taken, which is not the pod's fault.
_BUSY_HERE = {
    *(f"{package}.PoolTimeout" for package in _HTTPX),
    "redis.MaxConnectionsError",
}
# The exchange broke or took too long, after the pod may have seen the request.
_BROKEN = {
    *(f"{package}.RemoteProtocolError" for package in _HTTPX),
    *(f"{package}.NetworkError" for package in _HTTPX),
    *(f"{package}.TimeoutException" for package in _HTTPX),
    "aiohttp.ServerDisconnectedError",
    "aiohttp.ClientOSError",
    "aiohttp.SocketTimeoutError",
    "aiohttp.ServerTimeoutError",
    "aiohttp.ClientPayloadError",
    "redis.ConnectionError",
    "redis.TimeoutError",
    "requests.ConnectionError",
    "requests.Timeout",
    "requests.ChunkedEncodingError",
    "urllib3.ProtocolError",
    "urllib3.ReadTimeoutError",
}
# The same of sockets, whose errors do not say whose they are: no pod is at fault for one of them.
_BROKEN_SOMEWHERE = {
    "builtins.ConnectionError",
    "builtins.EOFError",
    "builtins.TimeoutError",
    "anyio.BrokenResourceError",
    "anyio.ClosedResourceError",
    "anyio.EndOfStream",
    "anyio.IncompleteRead",
    "trio.BrokenResourceError",
    "trio.TooSlowError",
}
# What a client of redis raises for a server that answered, and says no.
_ANSWERED = {"redis.AuthenticationError", "redis.BusyLoadingError", "redis.ReadOnlyError"}
_CERTIFICATE = {"ssl.SSLCertVerificationError", "aiohttp.ClientConnectorCertificateError"}
# A name was looked up, and pods are addresses.
_OF_A_NAME = {
    "socket.gaierror",
    "aiohttp.ClientConnectorDNSError",
    "urllib3.NameResolutionError",
}

# What asyncio writes into the error of a connect: ('10.0.0.1', 8080) or, for IPv6, four of them.
_CALL_FAILED = re.compile(r"Connect call failed \('([^']+)', (\d+)")

# What anyio and trio write where no address of a host could be connected to.
_NO_ATTEMPT = re.compile(r"All connection attempts failed|all attempts to connect to \S+ failed")

_MOST_LINKS = 16


def never_sent(error: BaseException) -> bool:
    """
    Is it certain that the pod has not seen the request for which a client raised *error*?

    True for a connection that could not be made, over sockets (as asyncio, anyio and trio wrap it) and
    by httpx2, httpx, aiohttp, redis, requests, urllib3 and urllib, and where a client's own pool was full. Of a
    group each leaf must be proof. False for all else: also for any error of gRPC, whatever its status,
    and for a certificate that is not the service's.
    """
    leaves = _leaves(error)
    if leaves is not None:
        return all(map(never_sent, leaves))
    if not isinstance(error, Exception) or _is_certificate(error):
        return False
    names = _names(error)
    if names & _OF_A_NAME or _is_of_a_name(error):
        return False
    if names & (_REFUSED | _TIMED_OUT_CONNECTING | _BUSY_HERE) or _is_of_a_connect(error):
        return True
    inner = _wrapped(error, names)
    return inner is not None and never_sent(inner)


def may_repeat(error: BaseException) -> bool:
    """
    May the request for which a client raised *error* be sent to another pod, if it may be done twice?

    True where `never_sent` is, and where the exchange with the pod broke or timed out. For reads and
    other idempotent requests: `await ring.call(key, fetch, retry_on=knet.may_repeat)`. Answers that say
    no, such as a 503 or a wrong password, are no such errors.
    """
    leaves = _leaves(error)
    if leaves is not None:
        return all(map(may_repeat, leaves))
    if never_sent(error):
        return True
    if not isinstance(error, Exception) or _is_certificate(error):
        return False
    names = _names(error)
    if names & (_OF_A_NAME | _ANSWERED) or _is_of_a_name(error):
        return False
    if names & (_BROKEN | _BROKEN_SOMEWHERE) or _is_grpc_unavailable(error, names):
        return True
    inner = _wrapped(error, names)
    return inner is not None and may_repeat(inner)


def unreachable(error: BaseException) -> Grade:
    """
    Return how much *error* speaks against the pod that a client asked.

    Returns:
        0: not at all. 1: the connection was refused, or could not be made; the pod is ejected at once.
        2: it timed out, or the exchange broke where a client says so; the pod is ejected at the second
        in a row, since one lost packet is no death.
    """
    leaves = _leaves(error)
    if leaves is not None:
        grades = [unreachable(leaf) for leaf in leaves]
        return max(grades) if all(grades) else 0
    if not isinstance(error, Exception) or _is_certificate(error):
        return 0
    names = _names(error)
    if names & (_OF_A_NAME | _ANSWERED | _BUSY_HERE) or _is_of_a_name(error):
        return 0
    if names & _REFUSED or _is_of_a_connect(error):
        return 1
    if names & _TIMED_OUT_CONNECTING:
        return 2
    inner = _wrapped(error, names)
    if inner is not None and (grade := unreachable(inner)):
        return grade
    return 2 if names & _BROKEN else 0


def kind_of(error: BaseException) -> Kind:
    """
    Return what an attempt failed of, for counters, by what the three questions say of *error*.

    Returns:
        `"refused"`: the connection could not be made. `"connect_timeout"`: nor in time. `"busy"`: the client's
        own pool was full. `"broken"`: the exchange broke or timed out. `"other"`: all else, such as an
        error of the application.
    """
    if never_sent(error):
        return ("busy", "refused", "connect_timeout")[min(unreachable(error), 2)]
    return "broken" if may_repeat(error) else "other"


def is_about(error: BaseException, endpoint: Endpoint) -> bool:
    """
    May *error* be about *endpoint*? Not where it names another host, and only that.
    """
    leaves = _leaves(error)
    if leaves is not None:
        return all(is_about(leaf, endpoint) for leaf in leaves)
    told = list(_told_hosts(error))
    return not told or any(
        host in (endpoint.address, endpoint.name)
        and (port is None or endpoint.port is None or port == endpoint.port)
        for host, port in told
    )


def _told_hosts(error: BaseException) -> Iterator[tuple[str, int | None]]:
    """
    Yield the hosts and ports that an error and its causes name.
    """
    for link in _chain(error):
        if isinstance(link, OSError):
            text = link.args[1] if len(link.args) > 1 else link.args[0] if link.args else ""
            for host, port in _CALL_FAILED.findall(text if isinstance(text, str) else ""):
                yield host, int(port)
        host, port = getattr(link, "host", None), getattr(link, "port", None)
        if isinstance(host, str):  # aiohttp
            yield host.strip("[]"), port if isinstance(port, int) else None
        try:
            url = getattr(getattr(link, "request", None), "url", None)
        except RuntimeError:  # httpx: there is no request yet
            url = None
        host, port = getattr(url, "host", None), getattr(url, "port", None)
        if isinstance(host, str):  # httpx2, httpx
            yield host.strip("[]"), port if isinstance(port, int) else None


def _leaves(error: BaseException) -> tuple[BaseException, ...] | None:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else None


def _names(error: BaseException) -> set[str]:
    """
    Return the classes of an error, each as the package that it is from and its own name.
    """
    return {f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in type(error).__mro__}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """
    Yield an error, and what it came from.
    """
    link: BaseException | None = error
    for _ in range(_MOST_LINKS):
        if link is None:
            return
        yield link
        reason = getattr(link, "reason", None)  # urllib3
        inside = link.args[0] if link.args else None  # requests
        if isinstance(reason, BaseException):
            link = reason
        elif isinstance(inside, BaseException):
            link = inside
        elif link.__cause__ is not None or link.__suppress_context__:
            link = link.__cause__
        else:
            link = link.__context__


def _is_certificate(error: BaseException) -> bool:
    return any(_names(link) & _CERTIFICATE for link in _chain(error))


def _is_of_a_name(error: BaseException) -> bool:
    return any(_names(link) & _OF_A_NAME for link in _chain(error))


def _is_of_a_connect(error: BaseException) -> bool:
    """
    Does an OSError say that it is of a connect?
    """
    if not isinstance(error, OSError) or not error.args:
        return False
    text = error.args[-1]
    if not isinstance(text, str):
        return False
    return bool(_CALL_FAILED.match(text)) or (error.errno is None and bool(_NO_ATTEMPT.match(text)))


def _wrapped(error: BaseException, names: set[str]) -> BaseException | None:
    """
    Return the error of a connect that *error* is made of, if its own type does not say so.
    """
    if "redis.ConnectionError" in names and error.__cause__ is None:
        # One that broke has a cause. A connect that failed has none, but a context.
        return error.__context__ if isinstance(error.__context__, OSError) else None
    if names & {"requests.ConnectionError", "urllib3.MaxRetryError", "urllib.URLError"}:
        links = iter(_chain(error))
        next(links)
        return next(links, None)
    return None


def _is_grpc_unavailable(error: BaseException, names: set[str]) -> bool:
    if "grpc.RpcError" not in names:
        return False
    code = getattr(error, "code", None)
    status = code() if callable(code) else None
    return getattr(status, "name", "") == "UNAVAILABLE"
