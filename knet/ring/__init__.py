"""
The ring: a snapshot of the pods behind a service, kept fresh in the background.
"""

from __future__ import annotations

from knet.ring.history import PastChange
from knet.ring.options import RingOptions
from knet.ring.owning import Held
from knet.ring.ring import Ring, open_rings
from knet.ring.serving import Attempts, Kept, RetryOn
from knet.ring.standing import RingStats

__all__ = [
    "Attempts",
    "Held",
    "Kept",
    "PastChange",
    "RetryOn",
    "Ring",
    "RingOptions",
    "RingStats",
    "open_rings",
]
