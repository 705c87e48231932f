"""
`KubernetesAPI`: the controls over the API of a pretended headless Service.

It knows no `HeadlessService`, which tells the responder what the pods are, and runs and ends the server.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from knet.errors import ConfigError
from knet.kubernetes import EndpointSlices
from knet.testing.api.responder import (
    APIFaultKind,
    APIRequest,
    APIRespond,
    APIVerb,
    Fault,
    Responder,
)
from knet.testing.api.server import Place
from knet.testing.controls import check_delay

__all__ = ["KubernetesAPI"]


class KubernetesAPI:
    """
    The API of Kubernetes as far as the EndpointSlices of one Service go; `HeadlessService.api` is one.

        async with (
            HeadlessService("web.prod", pods=3) as service,
            knet.Ring("web.prod", port="http", resolver=service.api.source()) as ring,
        ):
            service.unready(service.pods[0])
            ...
            service.api.fail("FORBIDDEN")
            service.api.break_watches()

    What the controls of the service do to its pods is in the slices when the call returns, and sent to every open
    watch; DNS has it from the same moment on. A pod that leaves is told as terminating first and is gone in the next
    line, as a pod that dies; `HeadlessService.terminate` keeps it between the two.

    It lists in pages and watches, for any client, by plain HTTP, and asks nobody who he is. There is nothing in it but
    the slices of this Service: another service, or namespace, is an empty list. Pods may have loopback addresses, which
    a real server refuses. Clients know pods by their address, so that pods which share one are one to them.

    Args:
        responder: What the controls change.
        place: Where the server is.
        namespace: Of the Service.
        domain: Of the cluster.
    """

    def __init__(self, responder: Responder, place: Place, namespace: str, domain: str) -> None:
        self._responder = responder
        self._place = place
        self._namespace = namespace
        self._domain = domain

    def __repr__(self) -> str:
        state = self.url if self._place.is_open else "stopped"
        return f"<KubernetesAPI {state} watches={self.watches}>"

    # --- what it is

    @property
    def url(self) -> str:
        """
        Where it answers, ``"http://127.0.0.1:8001"``; ``EndpointSlices(api=...)`` takes it.

        Raises:
            RuntimeError: The service was never started.
        """
        return self._place.url

    def source(self) -> EndpointSlices:
        """
        A source that watches this API, for ``Ring(..., resolver=...)``, in the Service's namespace and domain.

        Raises:
            ImportError: The extra ``kubernetes`` is not installed.
        """
        return EndpointSlices(api=self.url, namespace=self._namespace, domain=self._domain)

    @property
    def slices(self) -> tuple[dict[str, Any], ...]:
        """
        The slices as a list shows them now: a copy, to look at or to alter for `send`.
        """
        with self._responder.lock:
            store = self._responder.store
            return tuple(copy.deepcopy(each) for each in store.at(store.version).values())

    @property
    def watches(self) -> int:
        """
        How many watches are open.
        """
        return self._responder.watches

    # --- things go wrong

    def fail(
        self,
        kind: APIFaultKind,
        *,
        times: int | None = None,
        verb: APIVerb | None = None,
        retry_after: int = 1,
    ) -> None:
        """
        Let requests fail, until `heal` or for a number of *times*. Watches that are open stay, but for ``"SILENCE"``.

        Several faults can stand at once; a request meets the newest one that matches it.

        Args:
            kind: ``"UNAUTHORIZED"``: the token is not taken, 401. ``"FORBIDDEN"``: RBAC gives no right, 403.
                ``"NOT_FOUND"``: there is no such API, 404. ``"GONE"``: the version is too old, 410 as a status; for
                that in a stream see `compact`. ``"TOO_MANY_REQUESTS"``, ``"UNAVAILABLE"``: 429 and 503, with
                ``Retry-After``. ``"SERVER_ERROR"``: 500. ``"NO_INITIAL_EVENTS"``: a watch that asks for what is
                there first is refused, 422, as by servers before 1.32. ``"SILENCE"``: no answer and, if there is no
                number of *times*, not a word in the open watches, as of a node that died; what they have to say comes
                when it is healed. ``"GARBAGE"``: 200, and then no JSON. ``"CLOSE"``: the connection is closed
                instead of an answer.
            times: How many matching requests fail; `None`: all.
            verb: Only ``"list"``, ``"watch"`` or ``"get"``.
            retry_after: Seconds that the client is told to wait, with 429 and 503.

        Raises:
            ConfigError: There is no such kind or verb.
        """
        self._responder.faults.add(Fault(kind, times, verb, retry_after))

    @contextmanager
    def failing(
        self,
        kind: APIFaultKind,
        *,
        times: int | None = None,
        verb: APIVerb | None = None,
        retry_after: int = 1,
    ) -> Iterator[None]:
        """
        `fail` for the length of a ``with`` block; other faults stand as they are.
        """
        try:
            with self._responder.faults.during(Fault(kind, times, verb, retry_after)):
                yield
        finally:
            self._responder.wake()

    def delay(self, seconds: float) -> None:
        """
        Send every answer, and every line of a watch, that many seconds late.
        """
        self._responder.delay = check_delay(seconds)

    def heal(self) -> None:
        """
        End every fault and delay, and start the server if it was stopped. `respond` stays.
        """
        self._responder.faults.clear()
        self._responder.delay = 0.0
        if not self._place.takes:
            self.start()
        self._responder.wake()

    def compact(self) -> None:
        """
        Forget the past, as etcd does after some minutes: a version from before is too old.

        A watch that begins at one is sent an ``ERROR`` line with the code 410; a list that goes on from one is
        answered 410. Watches that are open notice nothing.
        """
        self._responder.compact()

    def break_watches(self) -> None:
        """
        Break every open watch in the middle of a line, as a server that is killed.
        """
        self._responder.end("break")

    def end_watches(self) -> None:
        """
        End every open watch, as a server does by itself after some minutes.
        """
        self._responder.end("end")

    def stop(self) -> None:
        """
        Refuse connections, and break those that are open. DNS goes on. `start` or `heal` ends it.
        """
        self._place.set_taking(False)

    def start(self) -> None:
        """
        Take connections again, after `stop`, on the same port. Versions from before are too old, as after a restart.
        """
        self._place.set_taking(True)

    # --- exact answers

    def bookmark(self) -> None:
        """
        Send a bookmark to every open watch that takes them. One comes each minute, too.
        """
        self._responder.bookmark()

    def send(self, event: dict[str, Any] | bytes) -> None:
        """
        Send every open watch a line of your own; the slices stay what they are.

        Args:
            event: ``{"type": "MODIFIED", "object": {...}}``; or bytes, which are sent as they are, whether or not they
                are a line.
        """
        if isinstance(event, bytes):
            if not event:
                raise ConfigError("there is nothing to send: b''")
            self._responder.say(event)
        else:
            self._responder.say(json.dumps(event).encode() + b"\n")

    @property
    def respond(self) -> APIRespond | None:
        """
        A function that answers instead: from an `APIRequest` to a status code, with the words that are usual for it;
        to a status code and a body; or to `None` for the usual answer.

        It runs on the server's thread. Faults go before it. What it raises is answered with 500, and raised when the
        service is closed::

            service.api.respond = lambda request: None if request.token == "mine" else 401
        """
        return self._responder.respond

    @respond.setter
    def respond(self, function: APIRespond | None) -> None:
        if function is not None and not callable(function):
            raise TypeError(f"respond must be callable or None, not {function!r}")
        with self._responder.lock:
            self._responder.respond = function

    # --- what was asked

    @property
    def requests(self) -> tuple[APIRequest, ...]:
        """
        The latest 10,000 requests, oldest first.
        """
        return self._responder.log.latest

    def forget_requests(self) -> None:
        """
        Begin to count from none.
        """
        self._responder.log.forget()

    def wait_for_requests(self, n: int, timeout: float = 5.0) -> tuple[APIRequest, ...]:
        """
        Block until *n* requests have arrived since the start, or since `forget_requests`.

        Blocks its thread: on an event loop use `wait_for_requests_async`.

        Returns:
            `requests`; at least *n* of them unless forgotten.

        Raises:
            TimeoutError: *timeout* seconds were not enough.
        """
        return self._responder.log.wait(n, timeout)

    async def wait_for_requests_async(self, n: int, timeout: float = 5.0) -> tuple[APIRequest, ...]:
        """
        `wait_for_requests` for asyncio and trio; looks every few milliseconds.

        The timeout is real time, whatever clock the loop runs on.
        """
        return await self._responder.log.wait_async(n, timeout)
