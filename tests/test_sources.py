"""
What a ring may be given to ask, and how it is asked.
"""

from __future__ import annotations

import functools
from typing import Any
from unittest.mock import AsyncMock

import pytest

from knet import Answer, Endpoint, Question, Resolver, Ring, StaticResolver
from knet.sources import asking
from tests.fakes import A

pytestmark = pytest.mark.anyio

SRV = Question("web.prod", "http", "udp", "ipv6")


class Exact:
    async def resolve(self, service: str, /) -> Answer:
        return told(service)


class Named:
    async def resolve(self, service: str, *, port: int | str | None = None) -> Answer:
        return told(service, port=port)


class All:
    async def resolve(self, service: str, /, **options: object) -> Answer:
        return told(service, **options)


class ByQuestion:
    async def resolve(self, question: Question, /) -> Answer:
        return told(question)


class ByAnnotation:
    async def resolve(self, wanted: Question) -> Answer:
        return told(wanted)


class Wider:
    async def resolve(self, service: str, family: str = "auto", timeout: float = 1.0) -> Answer:
        return told(service, family=family, timeout=timeout)


def told(*values: object, **named: object) -> Answer:
    """
    An answer that says what it was asked.
    """
    return Answer([A], name=repr((values, named)))


@pytest.mark.parametrize(
    ("resolver", "values", "named"),
    [
        (Exact(), ("web.prod",), {}),
        (Named(), ("web.prod",), {"port": "http"}),
        (All(), ("web.prod",), {"port": "http", "protocol": "udp", "family": "ipv6"}),
        (ByQuestion(), (SRV,), {}),
        (ByAnnotation(), (SRV,), {}),
        (Wider(), ("web.prod",), {"family": "ipv6", "timeout": 1.0}),
    ],
)
async def test_a_resolver_is_asked_what_its_signature_has_room_for(
    resolver: Any, values: tuple[object, ...], named: dict[str, object]
) -> None:
    answer = await asking(resolver)(SRV)

    assert answer.name == repr((values, named))


@pytest.mark.parametrize("kind", [Exact, Named, All, ByQuestion, ByAnnotation, Wider])
@pytest.mark.parametrize(
    "options", [{}, {"port": 8080}, {"port": "http", "protocol": "udp"}, {"family": "ipv6"}]
)
async def test_it_serves_a_ring_with_every_option(kind: Any, options: dict[str, Any]) -> None:
    async with Ring("web.prod", resolver=kind(), **options) as ring:
        assert await ring.get("user-42") == A


async def test_our_own_resolvers_are_asked_as_others_are() -> None:
    """
    They take a question, too.
    """
    static = StaticResolver(["10.0.0.1"])
    assert (await asking(static)(SRV)).endpoints == (Endpoint("10.0.0.1", "10.0.0.1"),)
    assert callable(asking(Resolver()))


async def test_what_only_looks_like_a_method_will_do() -> None:
    """
    A partial, and a mock.
    """

    class Partial:
        def __init__(self) -> None:
            self.resolve = functools.partial(Exact.resolve, Exact())

    mock = AsyncMock()
    mock.resolve = AsyncMock(return_value=Answer([A]))
    for resolver in (Partial(), mock):
        any_: Any = resolver
        assert (await asking(any_)(SRV)).endpoints == (A,)


class Without:
    pass


class NoMethod:
    resolve = "10.0.0.1"


class Plain:
    def resolve(self, service: str) -> Answer:
        return Answer([A])


class Streaming:
    async def resolve(self, service: str) -> Any:
        yield Answer([A])


class TakesNothing:
    async def resolve(self) -> Answer:
        return Answer([A])


class OnlyByName:
    async def resolve(self, *, service: str) -> Answer:
        return Answer([A])


class NeedsMore:
    async def resolve(self, service: str, datacenter: str) -> Answer:
        return Answer([A])


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Without(), "a resolver needs a method resolve, and Without has none"),
        (NoMethod(), "NoMethod has none"),
        ("10.0.0.10", "str has none"),
        (Plain(), "resolve of Plain must be `async def`"),
        (Streaming(), "resolve of Streaming must be `async def`"),
        (TakesNothing(), r"cannot call resolve\(\) -> .* of TakesNothing, too many positional"),
        (OnlyByName(), "of OnlyByName, too many positional"),
        (NeedsMore(), "of NeedsMore, missing a required argument: 'datacenter'"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_line_to_write(bad: Any, why: str) -> None:
    """
    By `Ring`, at the call that got it.
    """
    with pytest.raises(TypeError, match=why) as caught:
        Ring("web.prod", resolver=bad)
    assert "write `async def resolve(self, service, /) -> Answer`" in str(caught.value)
