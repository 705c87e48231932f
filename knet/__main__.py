"""
`python -m knet`: the same as `knet`.
"""

from __future__ import annotations

import sys

from knet.cli import main

if __name__ == "__main__":
    sys.exit(main())
