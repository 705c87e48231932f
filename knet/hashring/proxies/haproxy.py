"""
`HAProxyRing`: the picks of HAProxy's ``hash-type consistent``.

Every server has 16 nodes for each unit of its weight, placed by its id alone: node *k* of server *s* is
at ``avalanche(4096 * s + k)``. A key belongs to the nearest node on either side, the lower one where
both are as near. So each node has the keys from the middle of the gap below it to the middle of the
gap above, and a ring of these middles can be looked up like any other:

    nodes      100 of a    200 of b    207 of a        (of 2**32)
    middles    150 of a    203 of b    ... of a        150 is as near to a as to b, and a is below

Two servers never share a node: ``avalanche`` maps no two numbers to one, and ids are told apart.

Behaviour described by HAProxy's configuration manual and ``lb_chash.c``; checked against HAProxy 2.6.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias, TypeVar

from knet.errors import ConfigError
from knet.hashring.placement import Entry
from knet.hashring.proxies.continuum import Continuum
from knet.hashring.proxies.hashes import MASK, crc32, djb2, full_avalanche, sdbm, wt6
from knet.hashring.proxies.servers import whole_weight

__all__ = ["HAProxyRing"]

M = TypeVar("M", bound=Hashable)

Ids: TypeAlias = "Callable[[M], int] | Mapping[Any, int] | Iterable[tuple[Any, int]]"

_FUNCTIONS: dict[str, Callable[[bytes], int]] = {
    "sdbm": sdbm,
    "djb2": djb2,
    "wt6": wt6,
    "crc32": crc32,
}

_NODES_PER_WEIGHT = 16
_MAX_WEIGHT = 256
_NODES_PER_ID = _NODES_PER_WEIGHT * _MAX_WEIGHT
_NODES_PER_SLICE = 64
_MEMBERS_PER_SLICE = 64
_MIDDLES_PER_SLICE = 512
# Ids that differ by this much have the same nodes.
_IDS = 2**32 // _NODES_PER_ID


class HAProxyRing(Continuum[M]):
    """
    The picks of HAProxy's ``hash-type consistent``.

        >>> ring = HAProxyRing(["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"])
        >>> ring.get("user-42")
        '10.0.0.1:8080'

    Checked against HAProxy 2.6. It places a server by its **id and nothing else**: the number after
    ``id``, or else its position in the backend, from 1. Addresses play no part, so when a server in
    the middle of the list goes, all behind it change places, unless they have ids of their own. Give
    them with *ids* whenever members come and go:

        >>> ordinal = lambda pod: int(pod.rpartition("-")[2]) + 1
        >>> ring = HAProxyRing(["web-0", "web-2"], ids=ordinal)

    The key is what ``balance`` looks at, such as ``hdr(x-user)``, of which it hashes the part before
    the first comma. `get_n` and `walk` go by what HAProxy would pick if the members before were down.

    Parity ends where there is nothing to hash (round robin), with ``hash-balance-factor``, ``slowstart``,
    and, since 3.0, with ``hash-key addr``.

    Args:
        members: Strings, `Member`s, endpoints, in the order of the backend.
        ids: The ids that the configuration gives: a function of a member, or a mapping (or pairs)
            from members or their names. Members not in it get the next free id from their
            position on, as in HAProxy.
        hash: The words after ``hash-type consistent``: ``sdbm``, ``djb2``, ``wt6`` or ``crc32``, each
            alone or followed by ``avalanche``. Without any HAProxy takes the default here.
        name: What of a member must be its own, and is looked up in *ids*; by default
            ``str(endpoint)``, or a string itself.

    Raises:
        ConfigError: A name is given twice or empty; a weight is not whole or above 256; an id is below
            1 or given twice, also modulo 2**20, where HAProxy's nodes repeat; *hash* is none of these.
        TypeError: A member, weight, id or option has the wrong type.
    """

    __slots__ = ("_hash", "_ids", "_nodes", "_numbers", "_turned")

    hash_bits: ClassVar[int] = 32
    _algorithm = "haproxy/1"
    _options = ("ids", "hash")

    _ids: Callable[[M], int] | tuple[tuple[Any, int], ...] | None
    # The id of each member.
    _numbers: tuple[int, ...]
    # Every node, ascending. Node i has `_sorted[i]`, or, where the last middle lies past the top and
    # so comes first, `_sorted[i + 1]`; `_turned` is 0 or 1 accordingly.
    _nodes: array[int]
    _turned: int

    def __init__(
        self,
        members: Iterable[M] = (),
        *,
        ids: Ids[M] | None = None,
        hash: str = "sdbm avalanche",
        name: Callable[[M], str] | None = None,
    ) -> None:
        if ids is None or callable(ids):
            self._ids = ids
        else:
            self._ids = tuple(ids.items() if isinstance(ids, Mapping) else ids)
        self._hash = hash
        self._begin(members, name=name, key_hash=_key_hash(hash))

    @property
    def ids(self) -> tuple[int, ...]:
        """
        The id of each of `members`.
        """
        return self._numbers

    @property
    def points(self) -> tuple[tuple[int, M], ...]:
        """
        Every node on the circle and whose it is, ascending, as a new tuple.
        """
        owners = self._owners[self._turned :]
        return tuple(zip(self._nodes, owners, strict=False))

    @property
    def spec(self) -> str:
        """
        The placement and its options; with the members' weights it decides every pick.
        """
        return f"{self._algorithm} hash={self._hash!r} ids={','.join(map(str, self._numbers))}"

    def _option_texts(self) -> list[str]:
        return [f"hash={self._hash!r}"]

    def _walk(self, h: int) -> Iterator[M]:
        nodes, owners, size = self._nodes, self._owners, len(self._nodes)
        above = bisect_left(nodes, h) % size
        below = (above or size) - 1
        seen: set[int] = set()
        while len(seen) < self._owning:
            # Outwards on both sides at once, always to the nearer one.
            if h - nodes[below] & MASK <= nodes[above] - h & MASK:
                node = below
                below = (below or size) - 1
            else:
                node = above
                above = (above + 1) % size
            member = owners[(node + self._turned) % size]
            if id(member) not in seen:
                seen.add(id(member))
                yield member

    def _build(self, members: Iterable[M]) -> Generator[None, None, None]:
        self._numbers = ()
        self._nodes = array("I")
        self._turned = 0
        yield from super()._build(members)

    def _points(self, entries: list[Entry[M]]) -> Iterator[tuple[int, list[int]]]:
        given: list[int | None] = []
        look_up = _reader(self._ids)
        for low in range(0, len(entries), _MEMBERS_PER_SLICE):
            given += [look_up(entry) for entry in entries[low : low + _MEMBERS_PER_SLICE]]
            yield 0, []
        self._numbers = _numbers(given)
        for position, (entry, number) in enumerate(zip(entries, self._numbers, strict=True)):
            first = number * _NODES_PER_ID
            last = first + _NODES_PER_WEIGHT * whole_weight(entry, _MAX_WEIGHT, "HAProxy")
            for low in range(first, last, _NODES_PER_SLICE):
                some = range(low, min(low + _NODES_PER_SLICE, last))
                yield position, [full_avalanche(node & MASK) for node in some]

    def _sort(
        self, packed: list[list[int]], count: int, entries: list[Entry[M]]
    ) -> Generator[None, None, None]:
        """
        Sort the nodes, and put the middles in their place.
        """
        yield from super()._sort(packed, count, entries)
        nodes, owners = self._sorted, self._owners
        middles = array("I")
        for low in range(0, len(nodes) - 1, _MIDDLES_PER_SLICE):
            some = nodes[low : low + _MIDDLES_PER_SLICE + 1]
            middles.extend([(one + other) // 2 for one, other in pairwise(some)])
            yield
        top = (nodes[-1] + nodes[0] + 2**32) // 2
        if top <= MASK:
            middles.append(top)
        else:
            middles.insert(0, top & MASK)
            # The owners go round; the last one is the first once more, at the end as before.
            owners.insert(0, owners[-2])
            owners.pop()
            owners[-1] = owners[0]
            self._turned = 1
        self._nodes, self._sorted = nodes, middles


def _key_hash(words: object) -> Callable[[bytes], int]:
    if not isinstance(words, str):
        raise TypeError(f"hash must be a str, not {type(words).__name__}")
    function, *modifiers = words.split() or [""]
    if function not in _FUNCTIONS or modifiers not in ([], ["avalanche"]):
        raise ConfigError(
            f"hash must be one of {', '.join(_FUNCTIONS)}, alone or followed by avalanche, got {words!r}"
        )
    plain = _FUNCTIONS[function]
    return (lambda data: full_avalanche(plain(data))) if modifiers else plain


def _reader(
    ids: Callable[[M], int] | tuple[tuple[Any, int], ...] | None,
) -> Callable[[Entry[M]], int | None]:
    """
    Return what says which id was given to a member, if any.
    """
    if ids is None:
        return lambda entry: None
    if callable(ids):
        return lambda entry: _checked(ids(entry.member), entry)
    known = dict(ids)

    def look_up(entry: Entry[M]) -> int | None:
        number = known.get(entry.member, known.get(entry.name.decode()))
        return None if number is None else _checked(number, entry)

    return look_up


def _numbers(given: list[int | None]) -> tuple[int, ...]:
    """
    Return the id of each member: the one that was given, else the next free one.
    """
    used = {number for number in given if number is not None}
    numbers = []
    free = 1
    for number in given:
        if number is None:
            while free in used:
                free += 1
            number = free
            used.add(number)
        numbers.append(number)
        # Every server counts, also one with an id of its own.
        free += 1
    if len({number % _IDS for number in numbers}) < len(numbers):
        raise ConfigError(
            f"every member needs an id of its own, also modulo {_IDS}, got {', '.join(map(str, numbers))}"
        )
    return tuple(numbers)


def _checked(number: object, entry: Entry[Any]) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(
            f"the id of {entry.name.decode()!r} must be an int, not {type(number).__name__}"
        )
    if not 0 < number < 2**31:
        raise ConfigError(f"the id of {entry.name.decode()!r} must be 1 to 2**31 - 1, got {number}")
    return number
