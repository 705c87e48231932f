"""
`Rendezvous`, example by example and against a slow reference; what all placements share is in
`test_every_placement`.
"""

from __future__ import annotations

import decimal
import math
from collections import Counter
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet.errors import ConfigError
from knet.hashring import Member, Rendezvous, hash_key, rendezvous
from tests.hashring.reference import xxh64
from tests.hashring.tools import KEYS, few_bits, keys, sets_of_members


def reference_walk(members: list[Member], key: str) -> list[Member]:
    """
    The rules of the module taken literally, with all logarithms as decimals.
    """
    h = hash_key(key)
    ranked = []
    with localcontext(decimal.Context(prec=100)):
        for member in members:
            if member.weight:
                bid = vars(rendezvous)["xxh64"](member.name.encode(), h)
                u = Decimal((bid >> 11) + 1) / 2**53
                score = u.ln() / Decimal(member.weight)
                ranked.append(
                    (-decimal.Context(prec=50).plus(score), -bid, member.name.encode(), member)
                )
    return [member for *_, member in sorted(ranked)]


def test_the_example_of_the_module_holds() -> None:
    """
    The worked example beside the rules.
    """
    h = hash_key("alice")

    assert [h >> 48, *(xxh64(name, h) >> 48 for name in (b"a", b"b", b"c"))] == [
        *(0x73A3, 0x4984, 0x4EA5, 0x14EE)
    ]
    assert Rendezvous(["a", "b", "c"]).get_n("alice", 3) == ("b", "a", "c")


@given(sets_of_members(min_size=1), keys)
def test_the_rules_as_written_give_the_same_walk(members: list[Member], key: str) -> None:
    """
    Doubles where they are enough, decimals where they are not: the order is the same.
    """
    members.append(Member("with keys"))
    placement = Rendezvous(members)

    assert list(placement.walk(key)) == reference_walk(members, key)
    assert placement.get(key) == reference_walk(members, key)[0]


@given(sets_of_members(min_size=1), keys, st.sampled_from(["few", "close", "top", "powers"]))
def test_close_calls_are_decided_by_the_rules(members: list[Member], key: str, kind: str) -> None:
    """
    Where bids are equal, or so close that doubles cannot tell, or the highest there are.
    """
    hashes: dict[str, Callable[[bytes, int], int]] = {
        "few": few_bits,
        "close": lambda data, seed: (2**63 + sum(data) % 5 * 2**11) % 2**64,
        "top": lambda data, seed: 2**64 - 1 - sum(data) % 3,
        # u, its square and its fourth power: equal scores for weights of 1, 2 and 4 in that order.
        "powers": lambda data, seed: (2 ** (53 - (1, 2, 4, 8)[len(data) % 4]) - 1) << 11,
    }
    members.append(Member("with keys"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendezvous, "xxh64", lambda data, seed=0: hashes[kind](data, seed))
        placement = Rendezvous(members)
        h = hash_key(key)

        assert list(placement._walk(h)) == reference_walk(members, key)
        assert placement.get_hash(h) == reference_walk(members, key)[0]


def test_equal_scores_go_to_the_higher_bid_and_then_to_the_first_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A quarter to the weight of 2 is a half to the weight of 1, exactly.
    """
    bids = {b"half": 2**63 - 1, b"quarter": 2**62 - 1, b"twin": 2**63 - 1}
    monkeypatch.setattr(rendezvous, "xxh64", lambda data, seed=0: bids[data])

    members = [Member("twin"), Member("quarter", 2), Member("half")]
    walk = [member.name for member in Rendezvous(members)._walk(0)]

    assert walk == ["half", "twin", "quarter"]


@pytest.mark.long
def test_a_bad_logarithm_changes_no_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    C libraries differ in the last digit; ten times that is still no difference here.
    """
    members = [Member(f"pod-{number}", 1 + number % 3) for number in range(10)]
    monkeypatch.setattr(
        rendezvous, "xxh64", lambda data, seed=0: 2**63 + xxh64(data, seed) % 8 * 2**11
    )
    placement = Rendezvous(members)
    walks = [list(placement._walk(hash_key(key))) for key in KEYS]
    firsts = [placement.get_hash(hash_key(key)) for key in KEYS]
    for error in (1 + 2e-15, 1 - 2e-15):
        monkeypatch.setattr(rendezvous, "log", lambda u, error=error: math.log(u) * error)

        assert [list(placement._walk(hash_key(key))) for key in KEYS] == walks
        assert [placement.get_hash(hash_key(key)) for key in KEYS] == firsts


def test_a_programs_decimal_context_changes_nothing() -> None:
    """
    The rules have a precision of their own.
    """
    with localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP)):
        coarse = rendezvous._exact(2**63, 3)

    assert coarse == rendezvous._exact(2**63, 3)
    assert len(coarse.as_tuple().digits) == 50


@pytest.mark.parametrize(
    "members",
    [
        [Member(name) for name in "abcdefghij"],
        [Member(f"10.0.0.{number}") for number in range(10)],
        [Member(f"web-{n}.web.prod.svc.cluster.local", 1 + n % 4) for n in range(10)],
    ],
    ids=["letters", "addresses", "weights"],
)
def test_keys_spread_by_weight(members: list[Member]) -> None:
    """
    Over all members, and those of a leaver over all that remain.
    """
    placement = Rendezvous(members)
    several = [f"key-{number}" for number in range(20_000)]
    firsts = Counter(placement.get_many(several))
    for member, share in placement.share().items():
        assert firsts[member] / 20_000 == pytest.approx(share, rel=0.12)

    leaver = max(members, key=lambda member: member.weight)
    orphans = [
        key
        for key, owner in zip(several, placement.get_many(several), strict=True)
        if owner is leaver
    ]
    after = placement.replace([member for member in members if member is not leaver])
    heirs = Counter(after.get_many(orphans))
    for member, share in after.share().items():
        assert heirs[member] / len(orphans) == pytest.approx(share, rel=0.3)


@given(sets_of_members(min_size=2))
def test_a_change_of_weight_moves_keys_of_that_member_only(members: list[Member]) -> None:
    """
    To it when it grows, from it when it shrinks.
    """
    members.append(Member("with keys"))
    small, *rest = members
    before = Rendezvous([Member(small.name, 1), *rest])
    after = before.replace([Member(small.name, 2), *rest])

    for key in KEYS:
        old, new = before.get(key), after.get(key)
        assert old.name == new.name or new.name == small.name


@pytest.mark.parametrize("weight", [5e-324, 1e-300, 2**32 - 1])
def test_extreme_weights_work(weight: float) -> None:
    """
    Where scores are beyond doubles, decimals go on.
    """
    members = [Member("a", weight), Member("b", weight), Member("c", 5e-324), Member("d", 2.5)]
    placement = Rendezvous(members)

    for key in KEYS[:50]:
        assert list(placement.walk(key)) == reference_walk(members, key)


@pytest.mark.parametrize("weight", [2**32, 1e308, 10**400])
def test_a_weight_that_overflows_is_refused(weight: float) -> None:
    """
    As by the other placements.
    """
    with pytest.raises(ConfigError, match="the weight of 'a' must be at most 4294967295"):
        Rendezvous([Member("a", weight)])


def test_it_has_no_options() -> None:
    """
    But for `name`.
    """
    placement: Any = Rendezvous(["a", "b"])

    assert repr(placement) == "<Rendezvous members=2>"
    assert placement.spec == "rendezvous/1"
