"""
`RingOptions`: the keywords of a `Ring`, for who hands them on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from knet.belief import RefreshPolicy
from knet.endpoint import Endpoint
from knet.hashring import Placement
from knet.question import Family, Protocol
from knet.routing.ejection import EjectionPolicy
from knet.routing.ownership import Me
from knet.sources import Source

__all__ = ["RingOptions"]


class RingOptions(TypedDict, total=False):
    """
    The keywords of `Ring`, all of them optional: `def mine(**options: Unpack[knet.RingOptions])`.
    """

    port: int | str | None
    protocol: Protocol
    family: Family
    placement: Callable[[tuple[Endpoint, ...]], Placement[Endpoint]]
    resolver: Source | None
    refresh: RefreshPolicy
    start_timeout: float
    require_endpoints: bool | None
    me: Me | None
    ejection: EjectionPolicy
