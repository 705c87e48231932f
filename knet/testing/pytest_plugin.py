"""
Fixtures for pytest: headless Services, and rings, that end with the test.

Not loaded by itself. In a ``conftest.py``, or in the file of a test::

    pytest_plugins = ("knet.testing.pytest_plugin",)

and then, in a test of any kind::

    async def test_my_client_follows_its_pods(headless_service):
        service = headless_service("cache.prod", pods=5)
        ...
        service.scale(3)

In an async test that the plugin of anyio runs, a ring of the pods is one line more::

    async def test_a_key_stays_where_it_is(headless_service, open_ring):
        service = headless_service("cache.prod", pods=5)
        ring = await open_ring(service, port=8080)

The API of a service is ``service.api``: a ring that is told of the pods, by EndpointSlices, takes
``resolver=service.api.source()``, and what goes wrong with the API is done by ``service.api``. It ends with its service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Protocol, Unpack

import pytest

from knet import Resolver, Ring, RingOptions
from knet.testing.service import HeadlessService

__all__ = ["MakeHeadlessService", "OpenRing", "headless_service", "open_ring"]


class MakeHeadlessService(Protocol):
    """
    What the fixture `headless_service` is: a factory.
    """

    def __call__(self, service: str = "web.prod", **options: Any) -> HeadlessService:
        """
        Start a `HeadlessService`; *options* are its own.
        """
        ...


class OpenRing(Protocol):
    """
    What the fixture `open_ring` is: a factory.
    """

    async def __call__(self, service: HeadlessService, **options: Unpack[RingOptions]) -> Ring:
        """
        Open a `Ring` of *service* and wait until it knows the pods.

        Without a `resolver` it asks the DNS of *service*. ``resolver=service.api.source()`` lets it be told by the API.

        Args:
            service: Whose pods, and whose name.
            options: Those of `Ring`.

        Raises:
            ConfigError: An option that `Ring` refuses.
            ResolveError: There was no usable answer within ``start_timeout``.
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


@pytest.fixture
async def open_ring(headless_service: MakeHeadlessService) -> AsyncIterator[OpenRing]:
    """
    A factory of open rings, all closed when the test ends, before its services are.

    For async tests that the plugin of anyio runs. Other tests open a `Ring` with ``async with``, or a
    `knet.blocking.Ring` with ``with``.
    """
    async with AsyncExitStack() as stack:

        async def open_one(service: HeadlessService, **options: Unpack[RingOptions]) -> Ring:
            if options.get("resolver") is None:
                options["resolver"] = Resolver(nameservers=[service.nameserver])
            return await stack.enter_async_context(Ring(service.name, **options))

        yield open_one
