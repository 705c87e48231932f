"""
What a request and its answer carry when one pod hands it to another. Pure.

The hop header says that a pod of the service sent this, whom it took for the owner, by which snapshot,
and whether that owner could not be connected to. It counts with a proof of the secret, or, where there is
none, from an address of the snapshot; from anybody else it is taken out. `Host` stays. `Forwarded` (RFC 7239) and `X-Forwarded-*` are
appended, and headers that are of one connection are left behind (RFC 9110, 7.6.1).

`Via` (RFC 9110, 7.6.3) is the last resort against loops: where the address of the sender is hidden and there
is no secret, a pod that finds itself in there knows that it has had this request before.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from knet import KnetError

__all__ = [
    "HOP",
    "BadGateway",
    "Headers",
    "Hop",
    "answer_headers",
    "handshake_headers",
    "hop_in",
    "is_close_code",
    "is_in_via",
    "request_headers",
    "target_of",
]

Headers = list[tuple[bytes, bytes]]

HOP = b"knet-hop"

# Of one connection, and so not of the next one; `te` and `trailer` are about a body that is framed anew.
_OF_A_CONNECTION = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate"),
        *(b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
# The server has answered it already.
_NOT_SENT_ON = frozenset({b"expect", HOP})
# Of a WebSocket's handshake, which is made anew.
_OF_A_HANDSHAKE = frozenset(
    {
        *(b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions"),
        *(b"sec-websocket-accept", b"content-length"),
    }
)
# The server that hands an answer back says these of itself.
_OF_A_SERVER = frozenset({b"date", b"server"})

# How long the value of a hop header can be: a DNS name, a digest and a proof.
_LONGEST = 1024


class BadGateway(KnetError):
    """
    Raised when no pod could be reached for a request, and nothing was answered yet.

    Attributes:
        status: What to answer: 502, or 504 where it was a matter of time.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Hop:
    """
    What a pod says that hands a request on.

    Attributes:
        owner: Whom it takes for the owner, by name.
        digest: Of its snapshot.
        has_failed: It could not connect to that owner.
    """

    owner: str
    digest: str
    has_failed: bool = False

    def value(self, secret: bytes | None) -> bytes:
        """
        Return the header's value, with a proof of *secret*.
        """
        told = f"{self.owner};{self.digest};{'failed' if self.has_failed else 'owner'}".encode()
        return told if secret is None else told + b";" + _proof(told, secret)


def hop_in(
    headers: Iterable[tuple[bytes, bytes]],
    client: str | None,
    addresses: Collection[str],
    secret: bytes | None,
) -> tuple[Hop | None, bool]:
    """
    Return the hop that counts, and whether there is one that does not.

    Args:
        headers: Of the request.
        client: The address that it came from, if that is known.
        addresses: Those of the snapshot's pods.
        secret: What pods of the service prove to know.
    """
    values = [value for name, value in headers if name.lower() == HOP]
    if not values:
        return None, False
    if len(values) > 1 or len(values[0]) > _LONGEST:
        return None, True
    parts = values[0].split(b";")
    if len(parts) not in (3, 4):
        return None, True
    if secret is None:
        counts = client in addresses
    else:
        # An address may be what somebody says it is, where a server believes X-Forwarded-For.
        proof = _proof(b";".join(parts[:3]), secret)
        counts = len(parts) == 4 and hmac.compare_digest(parts[3], proof)
    if not counts:
        return None, True
    try:
        owner, digest, word = (part.decode("ascii") for part in parts[:3])
    except UnicodeDecodeError:
        return None, True
    return Hop(owner, digest, word == "failed"), False


def _proof(told: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, told, hashlib.sha256).hexdigest().encode()


def target_of(scope: Mapping[str, Any]) -> bytes:
    """
    Return the target of a request, as it came to the server: path and query.

    Without the prefix that a server puts before all paths (`uvicorn --root-path`), which the next one
    would put there again; but with that of an application that is mounted below another one.
    """
    path: bytes = scope.get("raw_path") or quote(scope["path"], safe="/:@!$&'()*+,;=~-._").encode(
        "ascii"
    )
    prefix = quote(scope.get("app_root_path", scope.get("root_path", "")), safe="/").encode("ascii")
    if prefix and path.startswith(prefix + b"/"):
        path = path[len(prefix) :]
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


def is_in_via(headers: Iterable[tuple[bytes, bytes]], me: str) -> bool:
    """
    Has the pod called *me* handed this request on before?
    """
    mine = _pseudonym(me)
    return any(
        mine in (word.strip().partition(b" ")[2] for word in value.split(b","))
        for name, value in headers
        if name.lower() == b"via"
    )


def _pseudonym(me: str) -> bytes:
    return b"knet-" + hashlib.sha256(me.encode()).hexdigest()[:16].encode()


def request_headers(
    headers: Iterable[tuple[bytes, bytes]],
    hop: bytes,
    *,
    me: str,
    client: str | None,
    scheme: str,
    version: str,
) -> Headers:
    """
    Return the headers of a request that is handed on.

    Args:
        headers: As they came.
        hop: The value of the hop header.
        me: What this pod is called; only a digest of it is sent.
        client: The address that it came from, if that is known.
        scheme: Of the request: `"http"` or `"ws"`, or these with TLS.
        version: Of HTTP, as it came: `"1.1"`.
    """
    came = [(name.lower(), value) for name, value in headers]
    dropped = _dropped(came)
    kept = [each for each in came if each[0] not in dropped]
    is_secure = scheme in ("https", "wss")
    host = next((value for name, value in came if name == b"host"), b"")
    whom = _node(client)
    if client is not None:
        _append(kept, b"x-forwarded-for", client.encode())
    # The first proxy knows by which host and scheme it was asked for.
    for name, value in (
        (b"x-forwarded-host", host),
        (b"x-forwarded-proto", b"https" if is_secure else b"http"),
    ):
        if value and not any(each[0] == name for each in kept):
            kept.append((name, value))
    told = [b"for=" + whom, b"proto=" + (b"https" if is_secure else b"http")]
    if host:
        told.append(b'host="' + host.replace(b"\\", b"").replace(b'"', b"") + b'"')
    _append(kept, b"forwarded", b";".join(told))
    _append(kept, b"via", version.encode() + b" " + _pseudonym(me))
    kept.append((HOP, hop))
    return kept


def answer_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """
    Return the headers of an answer that is handed back.
    """
    came = [(name.lower(), value) for name, value in headers]
    dropped = _dropped(came) | _OF_A_SERVER
    return [each for each in came if each[0] not in dropped]


def handshake_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """
    Return *headers* without those of a WebSocket's handshake.
    """
    return [each for each in headers if each[0] not in _OF_A_HANDSHAKE]


def is_close_code(code: int) -> bool:
    """
    May a WebSocket be closed with *code*? Some only say what happened (RFC 6455, 7.4.1).
    """
    return code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000


def _dropped(came: Headers) -> frozenset[bytes]:
    named = {
        word.strip().lower()
        for name, value in came
        if name == b"connection"
        for word in value.split(b",")
    }
    # A client cannot have these left behind.
    named -= {b"host", b"content-length", b"forwarded", b"via"}
    return _OF_A_CONNECTION | _NOT_SENT_ON | named


def _append(headers: Headers, name: bytes, value: bytes) -> None:
    """
    Add to a list that may be there already.
    """
    there = [told for each, told in headers if each == name]
    headers[:] = [each for each in headers if each[0] != name]
    headers.append((name, b", ".join((*there, value))))


def _node(client: str | None) -> bytes:
    """
    Return an address as RFC 7239 has it.
    """
    if client is None:
        return b"unknown"
    return f'"[{client}]"'.encode() if ":" in client else client.encode()
