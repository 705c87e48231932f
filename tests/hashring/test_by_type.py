"""
What is faster on a placement of ours is done by type: a subclass, a wrapper and a placement of somebody's
own pick as they say, keep their type, and are compared honestly.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from functools import partial
from typing import Any, Self

import pytest

from knet import Endpoint, Ring, Snapshot
from knet.hashring import HashRing, Maglev, Rendezvous, hash_key
from knet.hashring.base import check_placement, owners, replacing
from knet.hashring.steps import exhaust
from tests.fakes import FakeResolver, endpoints
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

FEW, MORE = endpoints(5), endpoints(6)
KEYS = [f"Key-{number}" for number in range(500)]


class Lower(HashRing[Endpoint]):
    """
    A user's subclass: the case of a key does not matter.
    """

    def get(self, key: str | bytes) -> Endpoint:
        return super().get(key.lower())


class Caching(HashRing[Endpoint]):
    """
    A subclass with attributes of its own, and a `replace` that knows what becomes of them.
    """

    def __init__(self, members: Iterable[Endpoint] = (), *, salt: str = "") -> None:
        super().__init__(members)
        self.salt = salt
        self.cache: dict[str | bytes, Endpoint] = {}

    def get(self, key: str | bytes) -> Endpoint:
        if key not in self.cache:
            self.cache[key] = super().get(f"{self.salt}{key!r}")
        return self.cache[key]

    def replace(self, members: Iterable[Endpoint]) -> Self:
        return type(self)(members, salt=self.salt)


class Forgetful(HashRing[Endpoint]):
    """
    The same without, so that a cache would go on with pods that are gone.
    """

    def __init__(self, members: Iterable[Endpoint] = ()) -> None:
        super().__init__(members)
        self.cache: dict[str, Endpoint] = {}


class Replacing(HashRing[Endpoint]):
    """
    Does `replace` in its own way, and has not thought of `replacing`.
    """

    replaced = 0

    def replace(self, members: Iterable[Endpoint]) -> Self:
        other = type(self)(members)
        other.replaced = self.replaced + 1
        return other


class Wrapped:
    """
    A placement around another one, which passes on all that it does not do itself.
    """

    def __init__(self, members: Iterable[Endpoint] = ()) -> None:
        self.inner = HashRing(members)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def get(self, key: str | bytes) -> Endpoint:
        return self.inner.get(key.lower())

    def replace(self, members: Iterable[Endpoint]) -> Wrapped:
        return Wrapped(members)


class Own:
    """
    A placement of somebody's own, with attributes named like ours, of another kind.
    """

    def __init__(self, members: Iterable[Endpoint] = ()) -> None:
        self.members = tuple(members)
        self._table = {member.name: object() for member in self.members}
        self._shift = "left"

    def get_hash(self, h64: int) -> Endpoint:
        found = self.members[h64 * len(self.members) >> 64]
        # Equal, and another object each time.
        return Endpoint(found.name, found.address, found.port)

    def get(self, key: str | bytes) -> Endpoint:
        return self.get_hash(hash_key(key))

    def get_n(self, key: str | bytes, n: int) -> tuple[Endpoint, ...]:
        return tuple(self.walk(key))[:n]

    def get_many(self, keys: Iterable[str | bytes]) -> list[Endpoint]:
        return [self.get(key) for key in keys]

    def walk(self, key: str | bytes) -> Iterator[Endpoint]:
        first = self.get(key)
        return iter((first, *(member for member in self.members if member != first)))

    def share(self) -> dict[Endpoint, float]:
        return dict.fromkeys(self.members, 1 / len(self.members))

    def replace(self, members: Iterable[Endpoint]) -> Own:
        return Own(members)


MAKERS: list[Any] = [
    Lower,
    partial(Caching, salt="pepper"),
    Replacing,
    Wrapped,
    Own,
    HashRing,
    Maglev,
    Rendezvous,
]


@pytest.mark.anyio
@pytest.mark.parametrize("make", MAKERS)
async def test_each_placement_picks_as_it_says_and_survives_a_change(make: Any) -> None:
    """
    However a ring is asked, and after the pods have changed too.
    """
    resolver = FakeResolver(*FEW)
    async with Ring("web.prod", resolver=resolver, placement=make) as ring:
        for members in (FEW, MORE):
            resolver.answer(*members)
            await ring.refresh()
            expected = make(members)
            assert type(ring.snapshot.placement) is type(expected)
            assert ring.snapshot.endpoints == members
            for key in KEYS:
                pick = expected.get(key)
                assert await ring.get(key) == pick
                assert ring.get_nowait(key) == ring.snapshot.get(key) == pick


@pytest.mark.parametrize("make", MAKERS)
def test_moved_is_honest(make: Any) -> None:
    """
    Nothing has moved between equal members, and not everything where one joined.
    """
    before, again, after = (Snapshot(make(members)) for members in (FEW, FEW, MORE))

    assert before.diff(again).moved == 0
    assert 0 < before.diff(after).moved < 0.6
    joined = MORE[-1]
    assert before.diff(after).gained(joined).share == pytest.approx(1 / 6, abs=0.1)
    assert before.diff(again).lost(FEW[0]).share == 0


@pytest.mark.parametrize("kind", [HashRing, Maglev])
def test_the_owners_of_equal_parts_are_asked_of_the_type(kind: Any) -> None:
    """
    They are known where the type answers by them, and by nothing else.
    """

    class Sub(kind):  # type: ignore[misc]
        pass

    class Other(kind):  # type: ignore[misc]
        def get_hash(self, h64: int) -> Any:
            return super().get_hash(h64 ^ 1 << 63)

    parts = owners(kind(FEW))
    assert parts is not None
    assert set(parts) == set(FEW)
    assert owners(Sub(FEW)) == parts
    assert owners(Other(FEW)) is None
    assert owners(kind(())) == []
    others: list[Any] = [Wrapped(FEW), Own(FEW), Rendezvous(FEW), Lower(FEW)]
    assert [owners(other) for other in others] == [None] * 4


def test_a_build_takes_steps_where_the_type_has_them() -> None:
    """
    Also a placement of somebody's own; a `replace` that was overridden is the one that counts.
    """

    class Sliced(Own):
        def replacing(self, members: Iterable[Endpoint]) -> Generator[None, None, Sliced]:
            yield
            yield
            return Sliced(members)

    def steps(placement: Any) -> int:
        return sum(1 for _ in replacing(placement, MORE))

    assert steps(HashRing(())) > 3
    assert steps(Sliced()) == 2
    assert steps(Own()) == steps(Wrapped()) == steps(Replacing()) == 1
    replaced = exhaust(replacing(Replacing(()), MORE))
    assert isinstance(replaced, Replacing)
    assert replaced.replaced == 1


class Without(Own):
    get: Any = None


class Awaited(Own):
    async def get(self, key: str | bytes) -> Any:  # type: ignore[override]
        return super().get(key)


async def streamed_walk(self: Own, key: str | bytes) -> Any:
    yield self.get(key)


class Streamed(Own):
    walk: Any = streamed_walk


class Homeless(Own):
    def __init__(self) -> None:
        pass


class OfAnotherType(Own):
    pass


class Raising(Own):
    def replace(self, members: Iterable[Endpoint]) -> Own:
        raise ZeroDivisionError("no members")


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (Without(), r"Without has no get: write `def get\(self, key, /\)`"),
        (Awaited(), r"get of Awaited .* not be awaited: write `def get\("),
        (Streamed(), r"walk of Streamed .* not be awaited"),
        (Homeless(), "Homeless has no members: write"),
        (OfAnotherType(), "replace of OfAnotherType must return a OfAnotherType .* returned a Own"),
        (
            Forgetful(),
            r"raised TypeError.*Forgetful keeps attributes of its own \(cache\).*write `def rep",
        ),
        (Raising(), "replace of Raising must .* also of none, and raised ZeroDivisionError"),
        ({}, "dict has no get_n: write"),
        (None, "NoneType has no get: write"),
    ],
)
def test_what_is_no_placement_is_refused_with_the_line_to_write(bad: Any, told: str) -> None:
    """
    By the function, and by `Ring` at the call that got it.
    """
    with pytest.raises(TypeError, match=told):
        check_placement(bad)
    with pytest.raises(TypeError, match=told):
        Ring("web.prod", placement=lambda members: bad)


def test_a_placement_that_turns_into_another_is_refused_later_too() -> None:
    """
    A `replace` may be right for no members and wrong for some.
    """

    class Turning(Own):
        def replace(self, members: Iterable[Endpoint]) -> Own:
            members = tuple(members)
            return Own(members) if members else Turning()

    turning: Any = Turning()
    check_placement(turning)
    with pytest.raises(TypeError, match="returned a Own"):
        exhaust(replacing(turning, FEW))


def test_attributes_of_a_subclass_are_not_carried_over_in_silence() -> None:
    """
    A cache would name members that are gone.
    """
    ring = Forgetful(FEW)
    with pytest.raises(TypeError, match="needs its word"):
        ring.replace(MORE)
    with pytest.raises(TypeError, match="needs its word"):
        exhaust(ring.replacing(MORE))
