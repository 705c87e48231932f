"""
What to believe, and when to ask again: what was believed, what was told and the time go in, a decision
comes out.
"""

from __future__ import annotations

from knet.belief.choice import Choice, Health
from knet.belief.decide import Belief, Decision, State, believe, decide
from knet.belief.handover import Handover
from knet.belief.policy import RefreshPolicy

__all__ = [
    "Belief",
    "Choice",
    "Decision",
    "Handover",
    "Health",
    "RefreshPolicy",
    "State",
    "believe",
    "decide",
]
