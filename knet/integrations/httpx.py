"""
`RingTransport`: httpx by way of a ring, as `knet.integrations.httpx2` has it. The extra `httpx`.
"""

from __future__ import annotations

from typing import Any

from knet import Kept
from knet.integrations.transport import Body, RoutedTransport

try:
    import httpx
except ImportError as error:
    raise ImportError("httpx is not installed: python -m pip install 'knet-ring[httpx]'") from error

__all__ = ["RingTransport"]


class _Body(Body, httpx.AsyncByteStream):
    pass


class RingTransport(
    RoutedTransport[httpx.Request, httpx.Response, httpx.AsyncBaseTransport, httpx.Limits],
    httpx.AsyncBaseTransport,
):
    __doc__ = RoutedTransport.__doc__

    @staticmethod
    def _library() -> Any:
        return httpx

    @staticmethod
    def _body(stream: Any, kept: Kept) -> httpx.AsyncByteStream:
        return _Body(stream, kept)
