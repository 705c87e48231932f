"""
What is done with a pick. Pure: clocks and counts are handed in, and nothing here awaits.
"""

from __future__ import annotations

from knet.routing.errors import may_repeat, never_sent, unreachable

__all__ = ["may_repeat", "never_sent", "unreachable"]
