"""
Where a variable of the environment says so, a skipped test is a failure: CI must not pass by skipping.
"""

from __future__ import annotations

import os

import pytest


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport, variable: str) -> None:
    """
    Turn a skip into a failure where *variable* is 1; an expected failure stays one.
    """
    required = os.environ.get(variable) == "1"
    if required and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{variable}=1 allows no skip, and this was one: {reason}"
