"""
Fixtures for pytest: headless Services that end with the test.

Not loaded by itself. In a ``conftest.py``::

    pytest_plugins = ("knet.testing.pytest_plugin",)

and then, in a test of any kind::

    async def test_my_client_follows_its_pods(headless_service):
        service = headless_service("cache.prod", pods=5)
        ...
        service.scale(3)

A ring that is told of the pods, by EndpointSlices, takes ``resolver=service.api.source()``; what goes wrong with the
API is done by ``service.api``, and both end with the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from knet.testing.service import HeadlessService

__all__ = ["MakeHeadlessService", "headless_service"]


class MakeHeadlessService(Protocol):
    """
    What the fixture `headless_service` is: a factory.
    """

    def __call__(self, service: str = "web.prod", **options: Any) -> HeadlessService:
        """
        Start a `HeadlessService`; *options* are its own.
        """
        ...


@pytest.fixture
def headless_service() -> Iterator[MakeHeadlessService]:
    """
    A factory of running headless Services, all closed when the test ends.
    """
    with ExitStack() as stack:

        def make(service: str = "web.prod", **options: Any) -> HeadlessService:
            return stack.enter_context(HeadlessService(service, **options))

        yield make
