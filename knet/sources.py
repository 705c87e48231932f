"""
What a source is: whatever tells which pods there are.

Pure. A source that is asked has one method, `resolve`. A resolver of a user's may have it in one of two
shapes, and is adapted here once, by its signature, to the one call that a ring makes.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from knet.answer import Answer
from knet.question import Question

__all__ = ["Ask", "Asked", "ResolverProtocol", "asking"]

Ask = Callable[[Question], Awaitable[Answer]]

_WRITE = (
    'write `async def resolve(self, service, /) -> Answer`, with `port=None`, `protocol="tcp"` and '
    '`family="auto"` behind it if they are of use, or `async def resolve(self, question, /) -> Answer`'
)

# What a ring knows of its question, beside the service.
_OPTIONS = ("port", "protocol", "family")


class Asked(Protocol):
    """
    A source that is asked, with a `knet.Question`: which service, and what of it.
    """

    async def resolve(self, question: Question, /) -> Answer:
        """
        Look it up once, now, past every cache.

        Raises:
            ResolveError: That failed; the ring keeps what it has and asks again.
        """
        ...


class ResolverProtocol(Protocol):
    """
    A source that is asked, with the text of a service: a fake, a client of another registry.
    """

    async def resolve(self, service: str, /) -> Answer:
        """
        Look *service* up once, now, past every cache.

        A ring passes on, as keywords, its `port`, `protocol` and `family`, those of them that the
        signature has room for. So a resolver takes only the ones that it has a use for.

        Raises:
            ResolveError: That failed; the ring keeps what it has and asks again.
        """
        ...


def asking(resolver: Asked | ResolverProtocol) -> Ask:
    """
    Return what asks *resolver* a question.

    Its `resolve` gets the `Question` itself if its first parameter is called `question` or says that it
    takes one, and else the service as text and what it has room for of port, protocol and family.

    Raises:
        TypeError: It has no such method, or one that a ring cannot call; the message says what to
            write.
    """
    kind = type(resolver).__name__
    resolve: Any = getattr(resolver, "resolve", None)
    if not callable(resolve):
        raise TypeError(f"a resolver needs a method resolve, and {kind} has none: {_WRITE}")
    if not inspect.iscoroutinefunction(resolve):
        raise TypeError(f"resolve of {kind} must be `async def`, as a ring awaits it: {_WRITE}")
    try:
        signature = inspect.signature(resolve)
    except (TypeError, ValueError):  # as of what is written in C
        return lambda question: resolve(question.service)
    parameters = list(signature.parameters.values())
    first = parameters[0] if parameters else None
    if first is not None and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        if first.name == "question" or "Question" in str(first.annotation):
            _check_bound(signature, kind, Question("service"))
            ask: Ask = resolve
            return ask
        parameters = parameters[1:]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    names = [name for name in _OPTIONS if takes_all or name in named]
    _check_bound(signature, kind, "service", **dict.fromkeys(names))
    return lambda question: resolve(
        question.service, **{name: getattr(question, name) for name in names}
    )


def _check_bound(signature: inspect.Signature, kind: str, *values: object, **named: object) -> None:
    try:
        signature.bind(*values, **named)
    except TypeError as error:
        raise TypeError(
            f"a ring cannot call resolve{signature} of {kind}, {error}: {_WRITE}"
        ) from None
