"""
What all placements have in common: everything but the algorithm.

`BasePlacement` answers all questions of the `Placement` protocol from a few of an algorithm's own:
how to build, who owns a hash, and who comes next. It also makes a placement immutable, comparable,
picklable and buildable in steps.

Some work is faster on a placement of ours than through the protocol: building it in steps, and
comparing the owners of equal parts of the key space. Whether a placement is one is asked of its type.
A user's subclass may answer otherwise, a wrapper passes on every attribute, and a placement of
somebody's own may have an attribute of the same name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from inspect import isasyncgenfunction, iscoroutinefunction
from itertools import islice
from math import inf
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from knet.hashring.hashing import encode_key, xxh64
from knet.hashring.placement import (
    Placement,
    Sliced,
    check_count,
    check_hash,
    key_list,
    name_of,
    no_members,
)
from knet.hashring.steps import Steps, exhaust

__all__ = ["BasePlacement", "check_placement", "needs_ports", "owners", "replacing"]

M = TypeVar("M", bound=Hashable)


class BasePlacement(ABC, Generic[M]):
    """
    A placement but for its algorithm.

    A subclass has options and an algorithm. Its constructor checks the options, keeps each of them
    in an attribute of its name with an underscore before it, and calls `_begin`. It implements
    `_build`, `_has_keys`, `_owner`, `_walk` and `share`, and may do `get` and `get_many` faster.

    Attributes:
        hash_bits: A key's hash is in ``[0, 2**hash_bits)``.
        hashes_ports: Unless *name* says otherwise, an endpoint's port is part of what is hashed.
        _algorithm: What `spec` begins with: a name and a version.
        _options: The names of the constructor's options, without `name`.
    """

    __slots__ = ("__weakref__", "_key_hash", "_members", "_name")

    hash_bits: ClassVar[int] = 64
    hashes_ports: ClassVar[bool] = False
    _algorithm: ClassVar[str]
    _options: ClassVar[tuple[str, ...]] = ()

    _key_hash: Callable[[bytes], int]
    _members: tuple[M, ...]
    _name: Callable[[M], str] | None

    def get(self, key: str | bytes) -> M:
        """
        Return the member that *key* belongs to.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: The key is text with a lone surrogate.
            TypeError: The key is neither `str` nor `bytes`.
        """
        return self._owner(self._key_hash(encode_key(key)))

    def get_n(self, key: str | bytes, n: int) -> tuple[M, ...]:
        """
        Return the distinct members for *key*, most preferred first.

        Returns:
            ``min(n, members that have keys)`` members, the first being ``get(key)``. A shorter
            answer is the beginning of a longer one.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: *n* is below 1, or the key is text with a lone surrogate.
            TypeError: *n* is no `int`, or the key is neither `str` nor `bytes`.
        """
        if n.__class__ is not int or n < 1:
            check_count(n, "n")
        return tuple(islice(self.walk(key), n))

    def get_many(self, keys: Iterable[str | bytes]) -> list[M]:
        """
        Return the member of each key, in the order of *keys*.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: A key is text with a lone surrogate.
            TypeError: A key is neither `str` nor `bytes`, or *keys* is a single one.
        """
        return [self.get(key) for key in key_list(keys)]

    def walk(self, key: str | bytes) -> Iterator[M]:
        """
        Iterate over all members that have keys, most preferred for *key* first.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: The key is text with a lone surrogate.
            TypeError: The key is neither `str` nor `bytes`.
        """
        h = self._key_hash(encode_key(key))
        if not self._has_keys():
            raise no_members(self._members)
        return self._walk(h)

    def get_hash(self, h64: int) -> M:
        """
        Return the member that a key of this hash belongs to.

        Of the 64 bits the upper `hash_bits` count, so that the whole range stands for the whole key
        space: a key whose own hash is *h* has ``h << 64 - hash_bits`` here.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: The hash is not in ``[0, 2**64)``.
            TypeError: It is no `int`.
        """
        check_hash(h64)
        return self._owner(h64 >> 64 - self.hash_bits)

    @abstractmethod
    def share(self) -> dict[M, float]:
        """
        Return the share of the key space that each member has; members without keys have 0.0.
        """

    def replace(self, members: Iterable[M]) -> Self:
        """
        Return a placement of *members* with the options of this one.

        Raises:
            ConfigError: A name is given twice or empty, or a weight is out of range.
            TypeError: A member or its weight has the wrong type.
        """
        return exhaust(self.replacing(members))

    def replacing(self, members: Iterable[M]) -> Generator[None, None, Self]:
        """
        Do the work of `replace`, yielding after about every 0.1 ms of it; return the placement.

        Raises:
            TypeError: A subclass keeps attributes of its own, such as a cache or a copy of the
                members; only its own `replace` can tell what becomes of them.
        """
        if own := getattr(self, "__dict__", None):
            kind = self.__class__.__name__
            raise TypeError(
                f"{kind} keeps attributes of its own ({', '.join(own)}), so that a change of members "
                f"needs its word: write `def replace(self, members, /)`, which returns a {kind}"
            )
        other = self.__class__.__new__(self.__class__)
        for option in self._options:
            setattr(other, f"_{option}", getattr(self, f"_{option}"))
        other._key_hash = self._key_hash
        other._name = self._name
        yield from other._build_on(self, members)
        return other

    @property
    def members(self) -> tuple[M, ...]:
        """
        Every member, those of weight 0 too, sorted by the UTF-8 bytes of its name.
        """
        return self._members

    @property
    def spec(self) -> str:
        """
        The placement and its options; with the members' names and weights it decides every pick.
        """
        return " ".join([self._algorithm, *self._option_texts()])

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        texts = " ".join([f"members={len(self._members)}", *self._option_texts()])
        return f"<{self.__class__.__name__} {texts}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BasePlacement):
            return NotImplemented
        return self is other or self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self._identity()

    def _begin(
        self,
        members: Iterable[M],
        *,
        name: Callable[[M], str] | None,
        key_hash: Callable[[bytes], int] = xxh64,
    ) -> None:
        """
        End a constructor: all options are set, the members are to be placed.

        Args:
            members: As the caller gave them.
            name: What of a member is hashed; None: what `_default_name` says.
            key_hash: What hashes the bytes of a key to `hash_bits` bits.
        """
        if name is not None and not callable(name):
            raise TypeError(f"name must be a function of a member, not {type(name).__name__}")
        self._name = name
        self._key_hash = key_hash
        exhaust(self._build(members))

    @staticmethod
    def _default_name(member: Any) -> str:
        return name_of(member)

    @abstractmethod
    def _build(self, members: Iterable[M]) -> Generator[None, None, None]:
        """
        Set `_members` and whatever else depends on them, in slices of about 0.1 ms.
        """

    def _build_on(self, before: Any, members: Iterable[M]) -> Generator[None, None, None]:
        """
        Do what `_build` does, perhaps faster by what *before* has: one with the same options.
        """
        yield from self._build(members)

    @abstractmethod
    def _has_keys(self) -> bool:
        """
        Whether any member has keys.
        """

    @abstractmethod
    def _owner(self, h: int) -> M:
        """
        Return the owner of a hash, or raise `no_members(self._members)`.
        """

    @abstractmethod
    def _walk(self, h: int) -> Iterator[M]:
        """
        Iterate over the members that have keys, beginning with the owner of *h*; there is one.
        """

    def _parts(self) -> Sequence[M] | None:
        """
        Return who owns each equal part of the key space, or None where there are no such parts.

        Empty where no member has keys. For `owners`; nobody writes to it.
        """
        return None

    def _option_texts(self) -> list[str]:
        return [f"{option}={getattr(self, f'_{option}')}" for option in self._options]

    def _identity(self) -> tuple[Any, ...]:
        values = tuple([getattr(self, f"_{option}") for option in self._options])
        return self.__class__, self._members, values, self._name


def _rebuild(
    cls: Callable[..., BasePlacement[M]],
    members: tuple[M, ...],
    values: tuple[Any, ...],
    name: Callable[[M], str] | None,
) -> BasePlacement[M]:
    options = dict(zip(cls._options, values, strict=True))  # type: ignore[attr-defined]
    return cls(members, name=name, **options)


def owners(placement: Placement[M]) -> Sequence[M] | None:
    """
    Return who owns each equal part of the key space; nobody writes to what is returned.

    Returns:
        References to `placement.members`, so that identities tell; empty where nobody has keys. None
        where the placement has no such parts, or its type answers otherwise than by them.
    """
    if not issubclass(type(placement), BasePlacement):
        return None
    kind = type(placement)
    answers = ("get", "get_hash", "_owner", "members", "_parts")
    ours = next(base for base in kind.__mro__ if "_parts" in vars(base))
    if any(getattr(kind, name) is not getattr(ours, name) for name in answers):
        return None
    return cast(BasePlacement[M], placement)._parts()


def replacing(placement: Placement[M], members: Iterable[M]) -> Steps[Placement[M]]:
    """
    Make a placement of *members* with the options of *placement*: in steps, where its type can.

    Raises:
        TypeError: What came of it is of another type.
    """
    kind = type(placement)
    # A subclass that does `replace` in its own way has not thought of `replacing`.
    if _depth(kind, "replacing") <= _depth(kind, "replace"):
        sliced = cast(Sliced[M], placement)
        replaced = cast(Placement[M], (yield from sliced.replacing(members)))
    else:
        replaced = placement.replace(members)
        yield
    _check_replaced(placement, replaced)
    return replaced


def _depth(kind: type, name: str) -> float:
    """
    Return how far up the ancestors of *kind* the definition of *name* is.
    """
    return next((depth for depth, base in enumerate(kind.__mro__) if name in vars(base)), inf)


def needs_ports(placement: object) -> bool:
    """
    Does *placement* hash the ports of its members, so that without one it agrees with nobody?
    """
    kind = type(placement)
    if not (issubclass(kind, BasePlacement) and kind.hashes_ports):
        return False
    return cast(BasePlacement[Any], placement)._name is None


# Of each method the line to write.
_METHODS = {
    "get": "def get(self, key, /)",
    "get_n": "def get_n(self, key, n, /)",
    "get_many": "def get_many(self, keys, /)",
    "walk": "def walk(self, key, /)",
    "get_hash": "def get_hash(self, h64, /)",
    "share": "def share(self)",
    "replace": "def replace(self, members, /)",
}


def check_placement(placement: object) -> None:
    """
    Raise unless *placement*, which has no members, can be grown into one that has.

    Raises:
        TypeError: It lacks a method of the `Placement` protocol, or one of them has to be awaited, or
            its `replace` fails or gives something of another type.
    """
    kind = type(placement).__name__
    # By attribute, since a wrapper may pass them on with `__getattr__`.
    for name, line in _METHODS.items():
        method = getattr(placement, name, None)
        if not callable(method):
            if callable(getattr(placement, "add", None)):
                raise TypeError(
                    f"placement must make a Placement, which never changes, and {kind} is changed by add: "
                    "in place of a TreeRing write placement=TreePlacement, or "
                    "partial(TreePlacement, tree=MyTree)"
                )
            raise TypeError(
                f"placement must make a Placement, and {kind} has no {name}: write `{line}`"
            )
        if iscoroutinefunction(method) or isasyncgenfunction(method):
            raise TypeError(
                f"{name} of {kind} must return what it finds and not be awaited: write `{line}`"
            )
    if not hasattr(placement, "members"):
        raise TypeError(
            f"placement must make a Placement, and {kind} has no members: write "
            "`def members(self)` below `@property`"
        )
    try:
        replaced = placement.replace(())  # type: ignore[attr-defined]
    except Exception as error:
        raise TypeError(
            f"replace of {kind} must make a {kind} of any members, also of none, and raised {error!r}"
        ) from error
    _check_replaced(placement, replaced)


def _check_replaced(placement: object, replaced: object) -> None:
    if type(replaced) is not type(placement):
        raise TypeError(
            f"replace of {type(placement).__name__} must return a {type(placement).__name__} with the "
            f"same options, and returned a {type(replaced).__name__}"
        )
