"""
What the applications of ASGI have in common here: how they are called, where they find a ring, and how
they answer with a line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from knet import Ring

__all__ = [
    "App",
    "GivenRing",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "check_given",
    "found_in",
    "given_in",
    "nowhere",
    "say",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# A ring, what gives it, or its name in the state of the application, since an application is put together
# before its lifespan runs, and a ring lives once.
GivenRing = Ring | Callable[[], Ring | None] | str

# "Try Again Later", of the registry of RFC 6455.
_TRY_AGAIN_LATER = 1013


def check_given(ring: object) -> None:
    """
    Raise unless *ring* is a `GivenRing`.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(ring, Ring | str) and not callable(ring):
        raise TypeError(f"ring must be a Ring, a function or a name, not {type(ring).__name__}")


def given_in(scope: Mapping[str, Any], ring: GivenRing) -> Ring | None:
    """
    Return the ring that was given, or `None`: it is not there, or not yet.
    """
    if isinstance(ring, Ring):
        return ring
    return found_in(scope, ring) if isinstance(ring, str) else ring()


def found_in(scope: Mapping[str, Any], name: str) -> Ring | None:
    """
    Return the ring called *name* in the state of the lifespan or of the application.
    """
    state = scope.get("state")
    ring = state.get(name) if isinstance(state, Mapping) else None
    if ring is None:
        ring = getattr(getattr(scope.get("app"), "state", None), name, None)
    return ring if isinstance(ring, Ring) else None


def nowhere(name: str) -> str:
    """
    Say that there is no ring called *name*, and how there would be one.
    """
    return (
        f"there is no ring called {name!r}, neither in the state of the lifespan nor in app.state: "
        f"FastAPI(lifespan=ring_lifespan(..., name={name!r}))"
    )


async def say(
    scope: Scope,
    send: Send,
    status: int,
    text: str,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """
    Answer with a line of text, or close a WebSocket that was not accepted.
    """
    body = f"{text}\n".encode() if text else b""
    told = [
        *(headers or []),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 503:
        told.append((b"retry-after", b"1"))
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": text[:120]})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": status, "headers": told})
    await send({"type": f"{kind}.body", "body": body})
