"""
What is done with a pick. Pure: clocks and counts are handed in, and nothing here awaits.
"""

from __future__ import annotations
