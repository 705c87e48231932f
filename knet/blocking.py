"""
A ring for programs without an event loop: WSGI applications, Celery workers, scripts.

    with knet.blocking.Ring("cache.prod", port=8080) as ring:
        pod = ring.get("user-42")

The ring lives on an event loop in a thread of its own (anyio's blocking portal). Picks read its snapshot, in
whatever thread they are made; what changes something hops to that loop and back. It lives in one process:
open it after a fork, or let `lazy=True` do so.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Literal, Never, Self, TypeVar, Unpack, final

from anyio.from_thread import BlockingPortal, start_blocking_portal

import knet.ring
from knet.belief import State
from knet.endpoint import Endpoint
from knet.errors import RingClosed, RingMisused, RingNotReady
from knet.ring import PastChange, RingOptions, RingStats
from knet.ring.serving import Acquired, EjectOn, RetryOn
from knet.ring.serving import Attempts as AsyncAttempts
from knet.routing.errors import never_sent, unreachable
from knet.routing.load import Bound
from knet.snapshot import Change, Snapshot

__all__ = ["Attempts", "Ring"]

T = TypeVar("T")


@final
class Ring:
    """
    `knet.Ring` for programs without an event loop; any thread may use it.

    Everything is as there, without `await`. `call` runs its function in the calling thread, which nobody can
    cancel: *total* only keeps it from going on with another pod.

    Args:
        service: As for `knet.Ring`.
        lazy: Open it at its first use in each process, again after a fork, and close it when the process
            ends: for modules that are imported before a server forks.
        options: As for `knet.Ring`.
    """

    __slots__ = (
        "__weakref__",
        "_is_lazy",
        "_lock",
        "_options",
        "_portal",
        "_process",
        "_ring",
        "_service",
        "_stack",
        "_was_closed",
    )

    def __init__(self, service: str, *, lazy: bool = False, **options: Unpack[RingOptions]) -> None:
        self._service = service
        self._options = options
        self._is_lazy = lazy
        self._ring = knet.ring.Ring(service, **options)  # what is wrong is wrong now
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()
        self._process = os.getpid()
        self._was_closed = False
        self._lock = threading.Lock()

    # --- its life

    def start(self) -> None:
        """
        Open it, and return once the first snapshot stands.

        Raises:
            ResolveError: `start_timeout` has passed without an answer; this is why.
            RingMisused: It was started before.
            RingClosed: It was closed before.
        """
        with self._lock:
            self._leave_to_parent()
            if self._portal is not None:
                raise RingMisused(f"{self!r} was started already; each ring lives once")
            self._start()

    def close(self) -> None:
        """
        Close it, and wait until nothing of it is left.
        """
        with self._lock:
            self._leave_to_parent()
            self._was_closed = True
            portal, self._portal = self._portal, None
            if portal is not None:
                atexit.unregister(self.close)
                try:
                    portal.call(self._ring.aclose)
                finally:
                    self._stack.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        if self._was_closed:
            raise RingClosed(f"{self!r} was closed; make a new one")
        stack = ExitStack()
        portal = stack.enter_context(start_blocking_portal("asyncio", name="knet"))
        try:
            # One that was made in a task of trio would have trio's events.
            ring = portal.call(partial(knet.ring.Ring, self._service, **self._options))
            portal.call(ring.start)
        except BaseException:
            stack.close()
            self._was_closed = not self._is_lazy
            raise
        self._ring, self._stack, self._portal = ring, stack, portal
        # Threads of a portal are daemons, and an open channel of c-ares is better closed.
        atexit.register(self.close)

    def _leave_to_parent(self) -> None:
        """
        In a forked child: drop what is the parent's.
        """
        if self._process == os.getpid():
            return
        # To take a portal down waits for its thread, which is not there. So what holds it gets a reference
        # that nobody gives back.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._stack))
        self._process = os.getpid()
        was_open = self._portal is not None
        self._portal, self._stack = None, ExitStack()
        self._ring = knet.ring.Ring(self._service, **self._options)
        self._was_closed = self._was_closed or (was_open and not self._is_lazy)

    def _running(self) -> tuple[BlockingPortal, knet.ring.Ring]:
        """
        Return what runs here; a lazy ring is opened.
        """
        portal = self._portal
        if portal is not None and self._process == os.getpid():
            return portal, self._ring
        with self._lock:
            self._leave_to_parent()
            if self._portal is None:
                if self._was_closed:
                    raise RingClosed(
                        f"{self!r} was closed, or opened before a fork; open it in the child, or "
                        "write lazy=True"
                    )
                if not self._is_lazy:
                    raise RingNotReady(
                        f"{self!r} was not started: use `with ring:` or `ring.start()`"
                    )
                self._start()
            assert self._portal is not None
            return self._portal, self._ring

    # --- picks

    def get(self, key: str | bytes) -> Endpoint:
        """
        As `knet.Ring.get`.
        """
        return self._running()[1].get_nowait(key)

    def get_n(
        self, key: str | bytes, n: int, spread: Literal["zone"] | None = None
    ) -> tuple[Endpoint, ...]:
        """
        As `knet.Ring.get_n`.
        """
        return _now(self._running()[1].get_n(key, n, spread))

    def get_many(self, keys: Iterable[str | bytes]) -> list[Endpoint]:
        """
        As `knet.Ring.get_many`.
        """
        return _now(self._running()[1].get_many(keys))

    def group(self, keys: Iterable[str | bytes]) -> dict[Endpoint, list[str | bytes]]:
        """
        As `knet.Ring.group`.
        """
        return self._running()[1].group(keys)

    # --- serving

    def call(
        self,
        key: str | bytes,
        function: Callable[[Endpoint], T],
        *,
        n: int = 3,
        bound: float | Bound | None = None,
        retry_on: RetryOn = never_sent,
        eject_on: EjectOn = unreachable,
        total: float | None = None,
    ) -> T:
        """
        As `knet.Ring.call`, of a plain function, in this thread.
        """
        tries = self.attempts(
            key, n=n, bound=bound, retry_on=retry_on, eject_on=eject_on, total=total
        )
        while True:
            with tries as pod:
                return function(pod)

    def attempts(
        self,
        key: str | bytes,
        *,
        n: int = 3,
        bound: float | Bound | None = None,
        retry_on: RetryOn = never_sent,
        eject_on: EjectOn = unreachable,
        total: float | None = None,
    ) -> Attempts:
        """
        As `knet.Ring.attempts`: each `with` is one round.

            tries = ring.attempts("user-42")
            while True:
                with tries as pod:
                    return fetch(pod)
        """
        portal, ring = self._running()
        # A scope cannot be held from one hop to the loop to the next.
        ring.attempts(key, total=total)  # for what it refuses
        rounds = ring.attempts(key, n=n, bound=bound, retry_on=retry_on, eject_on=eject_on)
        return Attempts(portal, rounds, total)

    def acquire(
        self, key: str | bytes, *, bound: float | Bound | None = 1.5
    ) -> AbstractContextManager[Endpoint]:
        """
        As `knet.Ring.acquire`: `with ring.acquire(key) as pod:`.
        """
        portal, ring = self._running()
        return _Place(portal, ring.acquire(key, bound=bound))

    def eject(self, endpoint: Endpoint, seconds: float | None = None) -> bool:
        """
        As `knet.Ring.eject`.
        """
        portal, ring = self._running()
        return portal.call(ring.eject, endpoint, seconds)

    def restore(self, endpoint: Endpoint) -> None:
        """
        As `knet.Ring.restore`.
        """
        portal, ring = self._running()
        portal.call(ring.restore, endpoint)

    @property
    def ejected(self) -> Mapping[Endpoint, float]:
        """
        As `knet.Ring.ejected`.
        """
        return self._running()[1].ejected

    @property
    def in_flight(self) -> Mapping[Endpoint, int]:
        """
        As `knet.Ring.in_flight`; opens nothing.
        """
        return self._ring.in_flight

    # --- what it knows

    @property
    def service(self) -> str:
        """
        As `knet.Ring.service`.
        """
        return self._ring.service

    @property
    def port(self) -> int | str | None:
        """
        As `knet.Ring.port`.
        """
        return self._ring.port

    @property
    def me(self) -> Endpoint | None:
        """
        As `knet.Ring.me`.
        """
        return self._running()[1].me

    def is_mine(self, key: str | bytes) -> bool:
        """
        As `knet.Ring.is_mine`.
        """
        return self._running()[1].is_mine(key)

    @property
    def previous(self) -> Snapshot | None:
        """
        As `knet.Ring.previous`.
        """
        return self._running()[1].previous

    def history(self) -> tuple[PastChange, ...]:
        """
        As `knet.Ring.history`.
        """
        return self._running()[1].history()

    def ages(self) -> dict[str, float]:
        """
        As `knet.Ring.ages`.
        """
        return self._running()[1].ages()

    @property
    def snapshot(self) -> Snapshot:
        """
        As `knet.Ring.snapshot`.
        """
        return self._running()[1].snapshot

    @property
    def state(self) -> State:
        """
        As `knet.Ring.state`; opens nothing.
        """
        return "closed" if self._was_closed else self._ring.state

    def stats(self) -> RingStats:
        """
        As `knet.Ring.stats`; opens nothing.
        """
        return self._ring.stats()

    def wait_for(self, *states: State) -> State:
        """
        As `knet.Ring.wait_for`.
        """
        portal, ring = self._running()
        return portal.call(ring.wait_for, *states)

    def refresh(self) -> Snapshot:
        """
        As `knet.Ring.refresh`.
        """
        portal, ring = self._running()
        return portal.call(ring.refresh)

    def refresh_soon(self) -> None:
        """
        As `knet.Ring.refresh_soon`.
        """
        self._running()[1].refresh_soon()

    def changes(self) -> Iterator[Change]:
        """
        As `knet.Ring.changes`: `for change in ring.changes():`.
        """
        portal, ring = self._running()
        # Before the first one is asked for, so that nothing is missed in between.
        changes = portal.call(ring.changes)

        def follow() -> Iterator[Change]:
            while True:
                try:
                    change = portal.call(changes.__anext__)
                except (StopAsyncIteration, RuntimeError):  # the ring, or its thread, has ended
                    return
                yield change

        return follow()

    def __reduce__(self) -> Never:
        raise TypeError(
            f"{self!r} cannot be pickled or copied, since it has a thread running; send its snapshot, "
            "or open another ring there"
        )

    def __repr__(self) -> str:
        return f"<blocking {self._ring!r}>"


@final
class Attempts:
    """
    One request, tried at one pod after the other: what `Ring.attempts` returns.
    """

    __slots__ = ("_deadline", "_portal", "_rounds")

    def __init__(self, portal: BlockingPortal, rounds: AsyncAttempts, total: float | None) -> None:
        self._portal = portal
        self._rounds = rounds
        self._deadline = None if total is None else time.monotonic() + total

    @property
    def last(self) -> bool:
        """
        No pod is left after the one of this round.
        """
        return self._rounds.last

    def next(self, error: BaseException, *, eject: bool = False) -> Never:
        """
        As `knet`'s own: go on with the next pod, as if *error* had been raised and accepted.
        """
        self._rounds.next(error, eject=eject)

    def __enter__(self) -> Endpoint:
        return self._portal.call(self._rounds.__aenter__)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        swallowed = self._portal.call(self._rounds.__aexit__, kind, error, traceback)
        is_late = self._deadline is not None and time.monotonic() >= self._deadline
        return swallowed and not is_late

    def __repr__(self) -> str:
        return repr(self._rounds)


@final
class _Place(AbstractContextManager[Endpoint]):
    """
    A place at a pod.
    """

    __slots__ = ("_place", "_portal")

    def __init__(self, portal: BlockingPortal, place: Acquired) -> None:
        self._portal = portal
        self._place = place

    def __enter__(self) -> Endpoint:
        return self._portal.call(self._place.__aenter__)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.call(self._place.__aexit__, kind, error, traceback)


def _now(coroutine: Coroutine[Any, Any, T]) -> T:
    """
    Return what a coroutine returns that awaits nothing, as picks of a ring that has a snapshot.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise RingNotReady("the ring has no snapshot")
