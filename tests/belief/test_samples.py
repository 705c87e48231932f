"""
Who is gone by odds, of answers that were cut off.
"""

from __future__ import annotations

import pytest

from knet.belief.samples import LEAST_SAMPLE, LEAST_TURNOVER, MOST_HELD, Samples

NAMES = [f"pod-{number:04d}" for number in range(1000)]


def test_only_new_samples_count() -> None:
    once = Samples().after(["a", "b"], is_sample=True)
    assert once.absences == {"a": 1, "b": 1}
    assert once.after(["a", "c"], is_sample=True).absences == {"a": 2, "c": 1}
    assert once.after(["a", "c"], is_sample=False).absences == {"a": 1, "c": 0}
    assert once.after([], is_sample=True) == Samples()
    assert once.without(["a"]).absences == {"b": 1}


def shuffled(dead_for: int) -> tuple[Samples, Samples]:
    """
    Samples of half of the pods, before and after one more, in which one pod was never seen.
    """
    before = dict.fromkeys(NAMES[:400], 1) | {"dead": dead_for - 1}
    after = dict.fromkeys(NAMES[:200], 2) | dict.fromkeys(NAMES[400:700], 1)
    return Samples(before), Samples(after | {"dead": dead_for})


@pytest.mark.parametrize(
    ("dead_for", "size", "is_sample", "gone"),
    [
        (29, 500, True, False),
        (30, 500, True, True),  # half of them are missing: 2 ** -30 is 1e-9
        (31, 500, True, True),
        (99, 500, False, False),  # no sample, no odds
        (99, LEAST_SAMPLE - 1, True, False),  # too small to have been cut off
    ],
)
def test_who_is_missing_beyond_chance_is_gone(
    dead_for: int, size: int, is_sample: bool, gone: bool
) -> None:
    before, after = shuffled(dead_for)

    found = after.gone(before, size=size, total=1002, is_sample=is_sample)

    assert found == (("dead",) if gone else ())


def test_a_server_that_always_cuts_off_the_same_proves_nothing() -> None:
    """
    None of those who were left out for the first time comes back.
    """
    before = Samples(dict.fromkeys(NAMES[:500], 1) | {"dead": 98})
    after = Samples(dict.fromkeys(NAMES[:500], 2) | {"dead": 99})

    assert after.gone(before, size=500, total=1001, is_sample=True) == ()


def test_few_who_take_turns_prove_nothing() -> None:
    before = Samples(dict.fromkeys(NAMES[: LEAST_TURNOVER - 1], 1) | {"dead": 98})

    assert Samples({"dead": 99}).gone(before, size=500, total=501, is_sample=True) == ()


def test_a_ring_of_cut_off_answers_grows_no_further() -> None:
    """
    Those who were missing longest go first, and among equals those who sort first.
    """
    absent = Samples({"c": 1, "b": 2, "a": 1})

    gone = absent.gone(Samples(), size=3, total=MOST_HELD + 2, is_sample=False)

    assert gone == ("b", "a")
