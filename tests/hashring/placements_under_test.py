"""
Every placement, and what it promises beyond what all of them do; `test_every_placement` holds it to that.

A new placement gets its line here and with it all the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from zlib import crc32

from hypothesis import strategies as st

from knet.hashring import HashRing, Maglev, Member, Rendezvous, TreePlacement
from knet.hashring.proxies import (
    EnvoyMaglev,
    EnvoyRing,
    GrpcRing,
    HAProxyRing,
    Ketama,
    NginxRing,
    PymemcacheRendezvous,
)


class UnderTest(NamedTuple):
    """
    A placement with options that keep it small, and its promises.

    Attributes:
        name: What it is called in the output of the tests.
        make: Makes one of members, with these options and perhaps a `name`.
        weights: Some that it accepts; 0 and 1 are among them.
        any_order: The order of members decides nothing.
        keeps_order: `members` are in the order given, not sorted.
        moves_with_cause: Who leaves moves only its own keys, and who joins only receives.
        merges: Two members of one name are taken for one.
    """

    name: str
    make: Callable[..., Any]
    weights: tuple[float, ...] = (0, 1, 1, 1, 2, 3)
    any_order: bool = False
    keeps_order: bool = True
    moves_with_cause: bool = False
    merges: bool = False


_ALPHABET = "abcé☃0"


def _number(member: Any) -> int:
    """
    An id for HAProxy that depends on a member's name and on nothing else.
    """
    text: str = getattr(member, "name", member)
    if not set(text) <= set(_ALPHABET):
        return crc32(text.encode()) % 2**19 + 2**10
    number = 0
    for letter in text:
        number = 7 * number + _ALPHABET.index(letter) + 1
    return number or 1


_FRACTIONS = (0, 0.1, 0.5, 1, 1, 1, 2.5, 3)

# The order of members decides, in the algorithms that these agree with, about single points: where
# two servers' points are equal, which their 32 bits allow (nginx, Ketama), and where doubles are summed
# up (Envoy, gRPC). HAProxy numbers its servers in the order given, unless they have ids.
PLACEMENTS = [
    UnderTest(
        "HashRing",
        partial(HashRing, points=20, slots=256),
        weights=_FRACTIONS,
        any_order=True,
        keeps_order=False,
        moves_with_cause=True,
    ),
    UnderTest(
        "Maglev",
        partial(Maglev, table_size=251),
        weights=_FRACTIONS,
        any_order=True,
        keeps_order=False,
    ),
    UnderTest(
        "Rendezvous",
        Rendezvous,
        weights=_FRACTIONS,
        any_order=True,
        keeps_order=False,
        moves_with_cause=True,
    ),
    UnderTest(
        "TreePlacement",
        partial(TreePlacement, points=8, slots=512),
        weights=(0, 0.5, 1, 1, 1, 2.5, 3),
        any_order=True,
        keeps_order=False,
        moves_with_cause=True,
    ),
    UnderTest("EnvoyRing", partial(EnvoyRing, min_size=64)),
    UnderTest("EnvoyRing, murmur2", partial(EnvoyRing, min_size=16, max_size=16, hash="murmur2")),
    UnderTest(
        "EnvoyMaglev", partial(EnvoyMaglev, table_size=251), any_order=True, keeps_order=False
    ),
    UnderTest("GrpcRing", partial(GrpcRing, min_size=64), merges=True),
    UnderTest("NginxRing", NginxRing, moves_with_cause=True),
    UnderTest("Ketama", Ketama),
    UnderTest("Ketama, plain", partial(Ketama, behavior="ketama", hash="fnv1a_32")),
    UnderTest("HAProxyRing", HAProxyRing),
    UnderTest(
        "HAProxyRing, with ids",
        partial(HAProxyRing, ids=_number),
        any_order=True,
        moves_with_cause=True,
    ),
    UnderTest(
        "PymemcacheRendezvous",
        PymemcacheRendezvous,
        weights=(0, 1, 1),
        any_order=True,
        keeps_order=False,
        moves_with_cause=True,
    ),
]

_names = st.text(st.sampled_from(_ALPHABET), min_size=1, max_size=3)


def members_of(under_test: UnderTest, min_size: int = 0) -> st.SearchStrategy[list[Member]]:
    """
    Some members, each with a name of its own, that *under_test* accepts.
    """
    member = st.builds(Member, _names, st.sampled_from(under_test.weights))
    return st.lists(member, min_size=min_size, max_size=8, unique_by=lambda each: each.name)
