"""
`python -m knet.cli`: the same as `knet`.
"""

from __future__ import annotations

import sys

from knet.cli import main

sys.exit(main())
