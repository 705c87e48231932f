"""
What differs between two sets of pods, and what becomes of one.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from knet import Endpoint
from knet.pods import changed, differing

PODS = [Endpoint(f"pod-{number:03}", f"10.0.0.{number % 250}", 80) for number in range(300)]
MOVED = [replace(pod, port=81) for pod in PODS]

# Long stretches of the same, whatever else.
sets = st.builds(
    lambda left_out, moved, copied: tuple(
        MOVED[number]
        if number in moved
        else replace(PODS[number])
        if number in copied
        else PODS[number]
        for number in range(300)
        if number not in left_out
    ),
    *[st.sets(st.integers(0, 299), max_size=size) for size in (150, 20, 20)],
)


@given(sets, sets)
def test_what_differs_is_what_the_other_has_not(
    before: tuple[Endpoint, ...], after: tuple[Endpoint, ...]
) -> None:
    old, new = set(before), set(after)

    lost, found = differing(before, after)

    assert lost == [pod for pod in before if pod not in new]
    assert found == [pod for pod in after if pod not in old]


@given(sets, sets)
def test_what_differs_makes_the_one_into_the_other(
    before: tuple[Endpoint, ...], after: tuple[Endpoint, ...]
) -> None:
    """
    With few changes and with many; whoever stays is the same object.
    """
    old = {pod: pod for pod in before}

    made = changed(before, *differing(before, after))

    assert made == after
    assert all(old.get(pod, pod) is pod for pod in made)


def test_nobody_differs_from_nobody() -> None:
    assert differing((), ()) == ([], [])
    assert differing((), PODS[:2]) == ([], PODS[:2])
    assert differing(PODS[:2], ()) == (PODS[:2], [])
