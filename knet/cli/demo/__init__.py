"""
`knet demo`: knet's main job on a service of its own, played in acts.
"""

from __future__ import annotations

from knet.cli.demo.acts import Played, play

__all__ = ["Played", "play"]
