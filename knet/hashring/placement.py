"""
What every placement is, and what it may be made of: the `Placement` protocol and its members.

Says which questions a placement answers and how a member's name and weight are read. Knows no
algorithm; those are in the modules beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

from knet.errors import ConfigError, NoEndpoints

__all__ = [
    "Entry",
    "Member",
    "Placement",
    "Sliced",
    "check_count",
    "check_distinct",
    "check_hash",
    "check_weight",
    "in_order",
    "key_list",
    "name_of",
    "no_members",
    "read_member",
    "sorted_entries",
]

M = TypeVar("M", bound=Hashable)
M_contra = TypeVar("M_contra", bound=Hashable, contravariant=True)
T = TypeVar("T")

# Reading one member takes about a microsecond, so that a step stays well below 0.1 ms.
_MEMBERS_PER_SLICE = 64


@dataclass(frozen=True, slots=True)
class Member:
    """
    A name with a weight, for placements that are not made of endpoints.

        >>> from knet.hashring import HashRing
        >>> ring = HashRing([Member("small"), Member("large", weight=3)])
        >>> {member.name: round(share, 2) for member, share in ring.share().items()}
        {'large': 0.73, 'small': 0.27}

    Attributes:
        name: What is hashed; must not be empty.
        weight: The share of keys it gets relative to the others; 0 gets none.

    Raises:
        ConfigError: The name is empty, or the weight is negative, infinite or NaN.
        TypeError: The name is no `str` or the weight no number.
    """

    name: str
    weight: float = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"a member's name must be a str, not {type(self.name).__name__}")
        if not self.name:
            raise ConfigError("a member's name must not be empty")
        check_weight(self.weight, self.name)


@runtime_checkable
class Placement(Protocol[M]):
    """
    Members and the answer to "whose is this key?": what `knet.Ring` needs of a placement.

    A placement is immutable; a change of members makes another one. A ring calls
    ``placement(())`` first, so a placement of no members must be legal: it raises `NoEndpoints` when
    asked for a key.

    Keys are `str`, hashed as UTF-8, or `bytes`. The methods that take one raise:

    - `NoEndpoints` when no member has keys,
    - `ConfigError` when the key is text with a lone surrogate,
    - `TypeError` when it is neither `str` nor `bytes`.
    """

    @property
    def members(self) -> tuple[M, ...]:
        """
        Every member, those of weight 0 too: sorted by name, or as given where the order decides.
        """
        ...

    def get(self, key: str | bytes, /) -> M:
        """
        Return the member that *key* belongs to.
        """
        ...

    def get_n(self, key: str | bytes, n: int, /) -> tuple[M, ...]:
        """
        Return the distinct members for *key*, most preferred first.

        Returns:
            ``min(n, members that have keys)`` members, the first being ``get(key)``.

        Raises:
            ConfigError: *n* is below 1.
            TypeError: *n* is no `int`.
        """
        ...

    def get_many(self, keys: Iterable[str | bytes], /) -> list[M]:
        """
        Return the member of each key, in the order of *keys*.
        """
        ...

    def walk(self, key: str | bytes, /) -> Iterator[M]:
        """
        Iterate over all members that have keys, most preferred for *key* first.
        """
        ...

    def get_hash(self, h64: int, /) -> M:
        """
        Return the member that a key of this hash belongs to.

        Where a proxy's hash has fewer bits, as its placement's `hash_bits` say, the upper ones count.

        Raises:
            ConfigError: The hash is not in ``[0, 2**64)``.
            TypeError: It is no `int`.
        """
        ...

    def share(self) -> dict[M, float]:
        """
        Return the share of the key space that each member has; members without keys have 0.0.
        """
        ...

    def replace(self, members: Iterable[M], /) -> Self:
        """
        Return a placement of *members* with the options of this one.
        """
        ...


@runtime_checkable
class Sliced(Protocol[M_contra]):
    """
    A placement whose type can build it in steps, so that an event loop can breathe meanwhile.
    """

    def replacing(self, members: Iterable[M_contra], /) -> Generator[None, None, Self]:
        """
        Do the work of `replace`, yielding after about every 0.1 ms of it; return the placement.

        The caller owns the clock: it may take several steps before it lets others run. *members*
        is read in full before the first step ends, and bad members raise from whichever step
        finds them.
        """
        ...


class Entry(NamedTuple, Generic[T]):
    """
    A member as placements see it: the UTF-8 bytes of its name, its weight, and itself.
    """

    name: bytes
    weight: float
    member: T


def name_of(member: Any) -> str:
    """
    Return what is hashed of *member* unless told otherwise: a `str` itself, else its `name`.
    """
    if isinstance(member, str):
        return member
    try:
        name: str = member.name
    except AttributeError:
        raise TypeError(
            f"a member must be a str or have a name, not {type(member).__name__}; "
            "pass name= to say what of it is hashed"
        ) from None
    return name


def check_weight(weight: float, name: str) -> None:
    """
    Raise unless *weight* is a finite number >= 0.
    """
    if not isinstance(weight, (int, float)):
        raise TypeError(f"the weight of {name!r} must be a number, not {type(weight).__name__}")
    if not 0 <= weight < math.inf:
        raise ConfigError(f"the weight of {name!r} must be finite and >= 0, got {weight}")


def read_member(member: T, name: Callable[[T], str]) -> Entry[T]:
    """
    Read what a placement needs of *member*; `weight` is 1 where it has none.

    Raises:
        ConfigError: Its name is empty or has no UTF-8 form, or its weight is out of range.
        TypeError: It is unhashable or nameless, or its name or weight has the wrong type.
    """
    text = name(member)
    if not isinstance(text, str):
        raise TypeError(f"the name of a member must be a str, not {type(text).__name__}")
    if not text:
        raise ConfigError(f"the name of a member must not be empty: {member!r}")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the name {text!r} of a member holds a lone surrogate and has no UTF-8 form"
        ) from error
    weight = getattr(member, "weight", 1)
    if weight != 1:
        check_weight(weight, text)
    hash(member)
    return Entry(encoded, weight, member)


def in_order(
    members: Iterable[T], name: Callable[[T], str]
) -> Generator[None, None, list[Entry[T]]]:
    """
    Read *members* in steps and return them in the order given, with the same name twice or not.

    Raises:
        ConfigError: `read_member` says so.
        TypeError: *members* is a single name, or `read_member` says so.
    """
    if isinstance(members, (str, bytes)):
        raise TypeError(f"members must be an iterable of members, not one {type(members).__name__}")
    # Read at once: the caller's collection may change between two steps.
    waiting = tuple(members)
    entries: list[Entry[T]] = []
    for low in range(0, len(waiting), _MEMBERS_PER_SLICE):
        entries += [read_member(m, name) for m in waiting[low : low + _MEMBERS_PER_SLICE]]
        yield
    return entries


def sorted_entries(
    members: Iterable[T], name: Callable[[T], str]
) -> Generator[None, None, list[Entry[T]]]:
    """
    Read *members* in steps and return them sorted by the UTF-8 bytes of their names.

    Raises:
        ConfigError: Two members have the same name, or `read_member` says so.
        TypeError: *members* is a single name, or `read_member` says so.
    """
    entries = yield from in_order(members, name)
    entries.sort(key=itemgetter(0))
    yield
    check_distinct([entry.name for entry in entries])
    yield
    return entries


def check_distinct(names: list[bytes]) -> None:
    """
    Raise unless each of *names*, sorted, is there once.
    """
    if len(set(names)) < len(names):
        twice = [one for one, other in pairwise(names) if one == other]
        text = ", ".join(repr(each.decode()) for each in dict.fromkeys(twice))
        raise ConfigError(f"every member needs a name of its own; given more than once: {text}")


def check_count(value: object, what: str, *, most: int | None = None) -> None:
    """
    Raise unless *value* is an `int` from 1 to *most*.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ConfigError(f"{what} must be at least 1, got {value}")
    if most is not None and value > most:
        raise ConfigError(f"{what} must be at most {most}, got {value}")


def check_hash(h64: object, bits: int = 64) -> None:
    """
    Raise unless *h64* is an `int` in ``[0, 2**bits)``.
    """
    if not isinstance(h64, int) or isinstance(h64, bool):
        raise TypeError(f"a hash must be an int, not {type(h64).__name__}")
    if not 0 <= h64 < 2**bits:
        raise ConfigError(f"a hash must be in [0, 2**{bits}), got {h64}")


def key_list(keys: Iterable[str | bytes]) -> list[str | bytes] | tuple[str | bytes, ...]:
    """
    Return *keys* as something that can be read twice, and refuse a single key.
    """
    if isinstance(keys, (list, tuple)):
        return keys
    if isinstance(keys, (str, bytes)):
        raise TypeError(f"keys must be an iterable of keys, not one {type(keys).__name__}")
    return list(keys)


def no_members(members: Collection[object]) -> NoEndpoints:
    """
    The error for a key that has nobody to go to.
    """
    if members:
        return NoEndpoints(f"all {len(members)} members have weight 0, so none can have a key")
    return NoEndpoints("the ring has no members")
