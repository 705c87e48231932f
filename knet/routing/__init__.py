"""
What is done with a pick. Pure: clocks and counts are handed in, and nothing here awaits.
"""

from __future__ import annotations

from knet.routing.ejection import EjectionPolicy
from knet.routing.errors import may_repeat, never_sent, unreachable
from knet.routing.load import Bound

__all__ = ["Bound", "EjectionPolicy", "may_repeat", "never_sent", "unreachable"]
