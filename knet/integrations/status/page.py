"""
`StatusPage`: the ASGI application of the status page.

It answers GET and HEAD and changes nothing. A page is sent in parts with a checkpoint after each, so that
nothing of it holds the event loop for long.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from typing import final
from urllib.parse import unquote_to_bytes
from weakref import WeakKeyDictionary

from anyio.lowlevel import checkpoint

from knet import Ring, Snapshot
from knet.integrations.scopes import (
    GivenRing,
    Receive,
    Scope,
    Send,
    check_given,
    given_in,
    nowhere,
    say,
)
from knet.integrations.status.facts import Facts, Parts, facts_of, parting, standing
from knet.integrations.status.machine import told
from knet.integrations.status.text import page

__all__ = ["StatusPage"]

# Bytes of a key that is looked up.
LONGEST_KEY = 4096

_NOBODY = Parts((), ())

# Bytes that are gathered before they are sent.
_SENT_AT_ONCE = 16_384

_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"vary", b"accept"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


@final
class StatusPage:
    """
    A page that shows rings: who owns what, who is ejected, what has changed, and who owns a key.

        app = FastAPI(lifespan=ring_lifespan("cache.prod", port=8080))
        app.mount("/knet", StatusPage("ring"))

    It can be mounted, or be served alone. It keeps itself up to date in the browser, and needs no script
    otherwise; `Accept: application/json` gets the same for machines, and `?key=user-42` says who owns that.
    While one of the rings is not there yet, its status is 503.

    It is for who runs the service: it names pods, addresses and errors. It has no login of its own.

    Args:
        rings: Each a `Ring`, a function that gives it, or its name in the state of the application. None:
            the one called `"ring"`.

    Raises:
        TypeError: One of them is something else.
    """

    def __init__(self, *rings: GivenRing) -> None:
        for ring in rings:
            check_given(ring)
        self._rings: tuple[GivenRing, ...] = rings or ("ring",)
        self._parts: WeakKeyDictionary[Snapshot, Parts] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Serve one connection, by the protocol of ASGI.
        """
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] != "http" or not _is_here(scope):
            await say(scope, send, 404, "there is nothing here")
        elif scope["method"] not in ("GET", "HEAD"):
            await say(scope, send, 405, "this page is for reading", [(b"allow", b"GET, HEAD")])
        else:
            await self._show(scope, send)

    async def _show(self, scope: Scope, send: Send) -> None:
        key = _key_in(scope)
        problem = None
        if key is not None and len(key) > LONGEST_KEY:
            problem = f"A key of more than {LONGEST_KEY:,} bytes is not looked up here."
            key = None
        is_head = scope["method"] == "HEAD"
        rings = [given_in(scope, ring) for ring in self._rings]
        status = 503 if None in rings else 200 if problem is None else 400
        facts = [
            await self._facts(ring, given, None if is_head else key)
            for ring, given in zip(rings, self._rings, strict=True)
            if not is_head
        ]
        shown = None if key is None else key.decode(errors="replace")
        if _wants_json(scope):
            headers = [(b"content-type", b"application/json")]
            parts = told(facts, shown, problem)
        else:
            nonce = secrets.token_urlsafe(16)
            headers = [
                (b"content-type", b"text/html; charset=utf-8"),
                (b"content-security-policy", _policy(nonce)),
            ]
            parts = page(
                facts,
                key=shown,
                problem=problem,
                longest=LONGEST_KEY,
                nonce=nonce,
                now=datetime.now(UTC),
            )
        if status == 503:
            headers.append((b"retry-after", b"1"))
        await send(
            {"type": "http.response.start", "status": status, "headers": [*_HEADERS, *headers]}
        )
        await _send_all((), send) if is_head else await _send_all(parts, send)

    async def _facts(self, ring: Ring | None, given: GivenRing, key: bytes | None) -> Facts:
        if ring is None:
            name = given if isinstance(given, str) else "a ring"
            why = (
                nowhere(given) if isinstance(given, str) else "the function that gives it has none"
            )
            return Facts(name=name, missing=f"Starting, or {why}.")
        snapshot = standing(ring)
        parts = _NOBODY if snapshot is None else await self._parts_of(snapshot)
        return facts_of(ring, snapshot, parts, key)

    async def _parts_of(self, snapshot: Snapshot) -> Parts:
        found = self._parts.get(snapshot)
        if found is None:
            found = await _taken(parting(snapshot))
            self._parts[snapshot] = found
        return found

    def __repr__(self) -> str:
        return f"<StatusPage of {', '.join(map(repr, self._rings))}>"


async def _live(receive: Receive, send: Send) -> None:
    """
    Take part in the lifespan where the page is served alone.
    """
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _is_here(scope: Scope) -> bool:
    """
    Is the page itself asked for, where it is mounted?
    """
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path in ("", "/")


def _key_in(scope: Scope) -> bytes | None:
    """
    Return the key that the query asks for, as bytes, or `None`: it asks for none, or for an empty one.
    """
    # A byte takes three at most, and one more than the longest is too many.
    query: bytes = scope.get("query_string", b"")[: 4 * LONGEST_KEY]
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"key" and value:
            return unquote_to_bytes(value.replace(b"+", b" "))
    return None


def _wants_json(scope: Scope) -> bool:
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept").lower()
    return b"application/json" in accept and b"text/html" not in accept


def _policy(nonce: str) -> bytes:
    """
    Return what the browser may do with the page: run and show what is in it, and ask for it again.
    """
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ).encode()


async def _taken(steps: Generator[None, None, Parts]) -> Parts:
    """
    Take all steps, with a turn for the other tasks after each, and return what they made.
    """
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            made: Parts = stop.value
            return made
        await checkpoint()


async def _send_all(parts: Iterable[str], send: Send) -> None:
    """
    Send the parts of a text, with a turn for the other tasks after each.
    """
    gathered = bytearray()
    for part in parts:
        gathered += part.encode(errors="replace")
        if len(gathered) >= _SENT_AT_ONCE:
            await send({"type": "http.response.body", "body": bytes(gathered), "more_body": True})
            gathered.clear()
        await checkpoint()
    await send({"type": "http.response.body", "body": bytes(gathered)})
