"""
A Service that is scaled all the time, by somebody else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from knet.testing import HeadlessService

__all__ = ["scaled_meanwhile"]


@contextmanager
def scaled_meanwhile(service: HeadlessService, *sizes: int) -> Iterator[None]:
    """
    Have another thread scale *service* to these *sizes*, again and again.
    """
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for size in sizes:
                service.scale(size)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
