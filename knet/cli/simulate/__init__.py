"""
`knet simulate`: what a change of pods does to keys, pods, clients and the cluster, before it happens.
"""

from __future__ import annotations

from knet.cli.simulate.report import Report, as_json, show
from knet.cli.simulate.simulation import SIMULATED, Wanted, picture, simulate

__all__ = ["SIMULATED", "Report", "Wanted", "as_json", "picture", "show", "simulate"]
