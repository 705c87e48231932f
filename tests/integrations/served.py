"""
An application that is served by uvicorn, in a thread with a loop of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tests.conformance.live.servers import free_port

__all__ = ["served"]

WITHIN = 30.0


@contextmanager
def served(app: Any) -> Iterator[str]:
    """
    Serve *app* while the block lasts, and give its URL.
    """
    port = free_port()
    # Not on uvloop, whose threads stay.
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        loop="asyncio",
        log_level="warning",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + WITHIN
        while not server.started:
            assert thread.is_alive(), "the application has not started"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(WITHIN)
    assert not thread.is_alive()
