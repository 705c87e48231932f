"""
What became of requests with a key, in this process, by the ring that says whose they are.

A server makes its middleware itself, and nobody else holds it; so what is to be read elsewhere is kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args
from weakref import WeakKeyDictionary

from knet import Ring

__all__ = ["ENDS", "Event", "count", "tally_of"]

# How a request may end, and that it came from a pod of another opinion.
Event = Literal["mine", "forwarded", "redirected", "refused", "failed", "disagreed"]
ENDS: tuple[Event, ...] = get_args(Event)[:-1]

_tallies: WeakKeyDictionary[Ring, dict[Event, int]] = WeakKeyDictionary()


def count(ring: Ring, what: Event) -> None:
    """
    Count that this happened to a request whose owner *ring* knows.
    """
    tally = _tallies.get(ring)
    if tally is None:
        tally = _tallies[ring] = dict.fromkeys(get_args(Event), 0)
    tally[what] += 1


def tally_of(ring: Ring) -> Mapping[Event, int]:
    """
    Return what happened so far; nothing where no request had a key.
    """
    return MappingProxyType(dict(_tallies.get(ring, {})))
