"""
What to believe, and when to ask again: what was believed, what was told and the time go in, a decision
comes out.
"""

from __future__ import annotations

from knet.belief.decide import Belief, Decision, State, believe, decide
from knet.belief.policy import RefreshPolicy

__all__ = ["Belief", "Decision", "RefreshPolicy", "State", "believe", "decide"]
