"""
Where there is no control plane, there are no tests with one: it takes Go and five minutes to build.
"""

from __future__ import annotations

import os

# `python -m tests.e2e.control_plane.plane FILE` builds it; `.ci/run` does.
collect_ignore_glob = [] if os.environ.get("CONTROLPLANE_BIN") else ["test_*.py"]
