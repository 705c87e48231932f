"""
What a source is: whatever tells which pods there are.

Pure. A source that is asked has one method, `resolve`. A resolver of a user's may have it in one of two
shapes, and is adapted here once, by its signature, to the one call that a ring makes. A source that tells
by itself has one method, `watch`, and is given a function to tell by. That is no async iterator: a task
group inside of one cancels whoever reads it (PEP 789).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, Protocol, TypeGuard

from knet.answer import Answer
from knet.errors import ConfigError
from knet.question import Question

__all__ = [
    "ALIVE",
    "Alive",
    "Ask",
    "Asked",
    "Fallback",
    "ResolverProtocol",
    "SingleSource",
    "Source",
    "Streaming",
    "Tell",
    "Telling",
    "asking",
    "is_streaming",
    "is_telling",
]


class Alive(Enum):
    """
    What a source tells that is connected and has nothing new: `knet.ALIVE`.
    """

    ALIVE = "ALIVE"

    def __repr__(self) -> str:
        return "knet.ALIVE"


ALIVE: Final[Literal[Alive.ALIVE]] = Alive.ALIVE

Tell = Callable[[Answer | Exception | Alive], None]

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


class Telling(Protocol):
    """
    A source that tells by itself: a watch of an API, a subscription.
    """

    async def watch(self, question: Question, tell: Tell, /) -> None:
        """
        Tell which pods there are, from now on and for as long as the ring lives.

        `tell(answer)` for each change, with all endpoints and not what has changed; `tell(error)` where
        it cannot know at the moment, which is not the end; `tell(knet.ALIVE)` when it is connected again and
        nothing is new. *tell* returns at once, never raises, may be called from any thread, and does nothing
        once this has ended.

        Runs in a task of its own, which is cancelled when the ring ends. To return, or to raise, is told as an
        error, and it is called again, after 0.5 s and then less and less often.
        """
        ...


class Streaming(Telling, Protocol):
    """
    A source that tells by itself, and one of whose streams serves several questions.

    It is a value: hashable, and equal ones tell the same. Rings of one event loop, whose questions have equal
    streams, have one watch.
    """

    def stream_of(self, question: Question, /) -> Hashable:
        """
        Return what tells the stream that answers *question* from others.

        Raises:
            Exception: Nobody can know at the moment; the ring calls `watch`, which says why.
        """
        ...

    async def follow(self, stream: Any, tell: Callable[[Any], None], /) -> None:
        """
        Tell what there is in *stream*, as `watch` does, but in words of its own where that has answers.
        """
        ...

    def part_of(self, question: Question, /) -> Hashable:
        """
        Return which part of its stream the answer to *question* is in; one that has no parts returns `None`.
        """
        ...

    def news_in(self, told: Any, /) -> Collection[Hashable] | None:
        """
        Return in which parts what `follow` *told* differs from its last word; `None`: in all.

        A ring is woken by what is told of its part, and by the first word after an error.
        """
        ...

    def answer_of(self, question: Question, told: Any, /) -> Answer:
        """
        Return the answer to *question* that is in what `follow` *told* last, of whichever parts that was.
        """
        ...


@dataclass(frozen=True, init=False)
class Fallback:
    """
    Several sources, of which the first that can tell counts.

        knet.Fallback(knet.kubernetes.EndpointSlices(), knet.Resolver())

    While the first has told an error, or nothing, for *patience* seconds, the next one is asked; it is taken back
    once it has been alive for 5 seconds, or for longer where it comes and goes. No pod is lost and none comes back by
    the change of source alone.

    Args:
        first: The one that counts where it can tell.
        others: What is asked where it cannot, in this order.
        patience: Seconds. An error that does not pass by itself, such as a `Forbidden`, is not waited for.

    Attributes:
        sources: All of them, in this order.

    Raises:
        ConfigError: There is one source only, or *patience* is no number of seconds.
        TypeError: A ring can neither ask one nor listen to it.
    """

    sources: tuple[SingleSource, ...]
    patience: float

    def __init__(self, first: SingleSource, *others: SingleSource, patience: float = 2.0) -> None:
        sources = first, *others
        if not others:
            raise ConfigError(
                "a Fallback has at least two sources: the first, and who is asked without it"
            )
        for source in sources:
            if isinstance(source, Fallback):
                raise TypeError("a Fallback within a Fallback: write all sources into one")
            if not is_telling(source):
                asking(source)
        if not 0 <= patience < math.inf:
            raise ConfigError(f"patience must be a number of seconds, at least 0, got {patience}")
        object.__setattr__(self, "sources", sources)
        object.__setattr__(self, "patience", patience)

    def __repr__(self) -> str:
        patience = "" if self.patience == 2.0 else f", patience={self.patience:g}"
        return f"Fallback({', '.join(map(repr, self.sources))}{patience})"


SingleSource = Asked | ResolverProtocol | Telling

Source = SingleSource | Fallback


def is_telling(source: object) -> TypeGuard[Telling]:
    """
    Does *source* tell by itself?

    Raises:
        TypeError: It has a `watch` that a ring cannot call.
    """
    watch: Any = getattr(source, "watch", None)
    if watch is None:
        return False
    kind = type(source).__name__
    write = "write `async def watch(self, question, tell, /) -> None`"
    if not inspect.iscoroutinefunction(watch):
        raise TypeError(f"watch of {kind} must be `async def`, as a ring awaits it: {write}")
    signature = inspect.signature(watch)
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise TypeError(
            f"a ring cannot call watch{signature} of {kind}, {error}: {write}"
        ) from None
    return True


def is_streaming(source: object) -> TypeGuard[Streaming]:
    """
    Does one stream of *source* serve several questions?
    """
    return callable(getattr(source, "stream_of", None))


def asking(resolver: SingleSource) -> Ask:
    """
    Return what asks *resolver*, which does not tell by itself, a question.

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
