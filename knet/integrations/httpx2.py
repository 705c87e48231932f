"""
`RingTransport`: httpx2 by way of a ring, every request to the pod of its key. The extra `httpx2`.
"""

from __future__ import annotations

from typing import Any

from knet import Kept
from knet.integrations.transport import Body, RoutedTransport

try:
    import httpx2
except ImportError as error:
    raise ImportError(
        "httpx2 is not installed: python -m pip install 'knet-ring[httpx2]'"
    ) from error

__all__ = ["RingTransport"]


class _Body(Body, httpx2.AsyncByteStream):
    pass


class RingTransport(
    RoutedTransport[httpx2.Request, httpx2.Response, httpx2.AsyncBaseTransport, httpx2.Limits],
    httpx2.AsyncBaseTransport,
):
    __doc__ = RoutedTransport.__doc__

    @staticmethod
    def _library() -> Any:
        return httpx2

    @staticmethod
    def _body(stream: Any, kept: Kept) -> httpx2.AsyncByteStream:
        return _Body(stream, kept)
