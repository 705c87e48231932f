"""
`Ring`: a snapshot of the pods behind a service, kept fresh in the background.

Everything that is decided is decided elsewhere: names and records by the resolver, belief and
timing by `refresh`, placement by `hashring`. What rings of one name share is in `sharing`. This
module does the waiting, and it holds the one assignment that swaps a snapshot.

The life of a ring is one coroutine, `Ring._live`. `Ring.run` hands it to a nursery or task group;
`async with ring` and `ring.start()` host it in a task of their own.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import random
import warnings
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn, Self, final

import anyio
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint, current_token

from knet.background import Background
from knet.endpoint import Endpoint
from knet.errors import (
    ConfigError,
    NoEndpoints,
    ResolveError,
    ResolveTimeout,
    RingClosed,
    RingMisused,
    RingNotReady,
)
from knet.hashring import HashRing, Placement
from knet.hashring.hashing import xxh64
from knet.refresh import Belief, Decision, RefreshPolicy, State, decide
from knet.resolver import Answer, Resolver, ResolverProtocol, StaticResolver
from knet.resolver.names import Family, Protocol, Question
from knet.sharing import Build, Outcome, Source, copy_of, source_of
from knet.snapshot import Change, Snapshot

__all__ = ["Ring", "RingStats"]

_logger = logging.getLogger("knet")

_CUT_OFF = "the answer looks cut off and removes nobody whom it merely leaves out"
_WHOLE = "the answer is whole again"

_PLACEMENT = ("members", "get", "get_n", "get_many", "walk", "get_hash", "share", "replace")

# A deadline that is noticed this many seconds late was slept through.
_STALLED = 0.1

# Characters of an error's text that are kept and logged.
_MOST_TEXT = 1000

# With more endpoints than this, other tasks get a turn between reading, deciding and building.
_MANY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RingStats:
    """
    What an operator asks of a ring.

    Attributes:
        state: As `Ring.state`.
        endpoints: How many it serves.
        held: How many of them the last answer left out, and are kept until that is confirmed.
        generation: How many snapshots there have been.
        complete: False if the last answer looked cut off; nobody is missing for being left out of it.
        ignored: How many records of the last answer were left out: foreign, unusable or malformed.
        attempts: How many lookups it has taken part in: rings of one name share them.
        failures: How many of them failed, by `ResolveError.kind`.
        consecutive_failures: How many of the last ones failed in a row.
        last_error: The text of the last failure, on one line and not for long, or `None`.
        last_success_age: Seconds since an answer last named an endpoint, or `None`.
        query_seconds: How long the last lookup took, or `None`.
    """

    state: State
    endpoints: int
    held: int
    generation: int
    complete: bool
    ignored: int
    attempts: int
    failures: Mapping[str, int]
    consecutive_failures: int
    last_error: str | None
    last_success_age: float | None
    query_seconds: float | None


class _Attempt:
    """
    A lookup that has not begun, is under way or has ended, and those who wait for its end.
    """

    __slots__ = ("error", "over")

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.error: Exception | None = None

    def finish(self, error: Exception | None) -> None:
        self.error = error
        self.over.set()


class _Start:
    """
    The task status of a ring that hosts itself: how its start went.
    """

    __slots__ = ("error", "over")

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.error: BaseException | None = None

    def started(self, value: object = None) -> None:
        self.over.set()


@final
class Ring:
    """
    Sends every key to its pod.

        async with knet.Ring("web.prod.svc.cluster.local", port=8080) as ring:
            pod = await ring.get("user-42")

    Entering waits for the first answer; from then on a task in the background asks DNS again and
    again, and swaps a new immutable `Snapshot` in when the pods have changed. Picks read the
    snapshot and never wait for DNS. A ring lives once: closed, it stays closed.

    It can be hosted in three ways, which are the same otherwise:

    - `async with ring:`, also where entering and leaving happen in different tasks;
    - `await nursery.start(ring.run)`, or `task_group.create_task(ring.run())`;
    - `await ring.start()` and `await ring.aclose()`, in start-up and shutdown hooks.

    A ring belongs to the event loop and to the process that started it. In a process that was
    forked later it is closed: open another one there. A snapshot that was taken before goes on.

    Args:
        service: `"web"`, `"web.prod"`, `"web.prod.svc"` or the whole name.
        port: A number asks for A or AAAA records and gives each endpoint that port. A name, such as
            `"http"`, asks for SRV records and takes port and hostname from there. `None`: no port.
        protocol: `"tcp"`, `"udp"` or `"sctp"`, of a named port.
        family: `"ipv4"`, `"ipv6"`, or `"auto"`: IPv4 if there is any, else IPv6.
        placement: What places the keys: a class such as `HashRing`, or any callable that makes a
            `Placement` of endpoints, such as `functools.partial(HashRing, points=512)`.
        resolver: A `Resolver`, a `StaticResolver` or anything with `async def resolve(service)`.
            `None`: `Resolver()`.
        refresh: When to ask, and what to believe.
        start_timeout: Seconds that entering waits for the first answer.

    Raises:
        ConfigError: An argument cannot be right.
        TypeError: An argument has the wrong type.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_attempts",
        "_background",
        "_belief",
        "_build",
        "_changed",
        "_claimed",
        "_closed",
        "_complete",
        "_due",
        "_empty",
        "_ended",
        "_failures",
        "_heard_at",
        "_ignored",
        "_last_began",
        "_last_error",
        "_make",
        "_next",
        "_options",
        "_policy",
        "_query_seconds",
        "_question",
        "_resolver",
        "_scope",
        "_snapshot",
        "_source",
        "_start_timeout",
        "_state",
        "_token",
        "_wait",
    )

    def __init__(
        self,
        service: str,
        *,
        port: int | str | None = None,
        protocol: Protocol = "tcp",
        family: Family = "auto",
        placement: Callable[[tuple[Endpoint, ...]], Placement[Endpoint]] = HashRing,
        resolver: ResolverProtocol | None = None,
        refresh: RefreshPolicy = RefreshPolicy(),  # noqa: B008 - frozen
        start_timeout: float = 10.0,
    ) -> None:
        self._question = Question(service, port, protocol, family)
        if not callable(placement):
            raise TypeError(f"placement must be callable, not {type(placement).__name__}")
        if resolver is not None and not hasattr(resolver, "resolve"):
            raise TypeError(f"resolver must have a resolve method: {type(resolver).__name__}")
        if not isinstance(refresh, RefreshPolicy):
            raise TypeError(f"refresh must be a RefreshPolicy, not {type(refresh).__name__}")
        if not start_timeout > 0:
            raise ConfigError(f"start_timeout must be above 0, got {start_timeout}")
        # The options of a placement are known to what makes it, so an empty one is what all
        # others are grown from.
        self._make = placement
        self._empty = placement(())
        # By attribute, since isinstance looks past what a wrapper passes on with __getattr__.
        if not all(hasattr(self._empty, name) for name in _PLACEMENT):
            raise TypeError(f"placement must make a Placement, not {type(self._empty).__name__}")
        self._resolver: ResolverProtocol = Resolver() if resolver is None else resolver
        self._options = _options_not_default(self._question)
        self._policy = refresh
        self._start_timeout = start_timeout

        self._snapshot: Snapshot | None = None
        self._belief = Belief()
        self._state: State = "starting"
        self._claimed = False
        self._closed: str | None = None
        self._background: Background | None = None
        self._token: object = None
        self._source: Source | None = None
        self._build: Build | None = None
        self._due = 0.0
        self._wait = 0.0
        self._last_began: float | None = None
        self._heard_at = -math.inf
        self._last_error: str | None = None
        self._query_seconds: float | None = None
        self._complete = True
        self._ignored = 0
        self._attempts = 0
        self._failures: Counter[str] = Counter()
        self._changed = anyio.Event()
        self._asked = anyio.Event()
        self._ended = anyio.Event()
        self._next = _Attempt()
        self._scope: anyio.CancelScope | None = None

    @classmethod
    def static(
        cls,
        endpoints: Iterable[Endpoint | str],
        *,
        service: str = "static",
        placement: Callable[[tuple[Endpoint, ...]], Placement[Endpoint]] = HashRing,
    ) -> Self:
        """
        Make a ring of *endpoints* that are known beforehand, where there is no DNS.

            async with knet.Ring.static(["10.0.0.1:8080", "10.0.0.2:8080"]) as ring: ...

        Args:
            endpoints: `Endpoint` values or texts, at least one; see `StaticResolver`.
            service: What it is called in logs.
            placement: What places the keys.
        """
        resolver = StaticResolver(endpoints)
        if not resolver.endpoints:
            raise ConfigError("a static ring needs at least one endpoint")
        return cls(service, resolver=resolver, placement=placement)

    # --- picks

    async def get(self, key: str | bytes) -> Endpoint:
        """
        Return the endpoint that *key* belongs to.

        Waits only while the ring is starting. Once there is a snapshot it returns at once, without
        a checkpoint, which would cost twenty times the lookup: a loop around it should await
        something else too. Any task, thread or event loop may ask a ring that has a snapshot.

        Raises:
            NoEndpoints: DNS says that there are none, and has said so for a while.
            RingNotReady: The ring was not started.
            RingClosed: The ring is closed, or was closed or failed to start meanwhile.
            TypeError: *key* is neither `str` nor `bytes`.
            ConfigError: *key* holds a lone surrogate, so it has no UTF-8 form.
        """
        snapshot = self._snapshot
        # One coroutine and no call: with a call for the lookup it takes a fifth longer. A bytes key
        # or a missing snapshot fails in here, which costs the usual case nothing.
        try:
            shift = snapshot._shift  # type: ignore[union-attr]
            if shift:  # a placement with slots
                return snapshot._table[xxh64(key.encode()) >> shift]  # type: ignore[union-attr]
        except (AttributeError, IndexError, UnicodeEncodeError):
            pass
        if snapshot is None:
            snapshot = await self._first_snapshot()
        try:
            return snapshot.get(key)
        except NoEndpoints:
            raise self._no_endpoints() from None

    async def get_n(self, key: str | bytes, n: int) -> tuple[Endpoint, ...]:
        """
        Return the distinct endpoints for *key*, most preferred first; like `get` otherwise.

        Returns:
            `min(n, endpoints)` of them, the first being `get(key)`: replicas, or whom to try next.
        """
        snapshot = self._snapshot
        if snapshot is None:
            snapshot = await self._first_snapshot()
        try:
            return snapshot.get_n(key, n)
        except NoEndpoints:
            raise self._no_endpoints() from None

    async def get_many(self, keys: Iterable[str | bytes]) -> list[Endpoint]:
        """
        Return the endpoint of each key, in order and from one snapshot; like `get` otherwise.

        It holds the event loop for about 0.1 us a key: split millions of them.
        """
        snapshot = self._snapshot
        if snapshot is None:
            snapshot = await self._first_snapshot()
        try:
            return snapshot.get_many(keys)
        except NoEndpoints:
            raise self._no_endpoints() from None

    def get_nowait(self, key: str | bytes) -> Endpoint:
        """
        Return the endpoint that *key* belongs to, synchronously.

        Raises:
            RingNotReady: There is no snapshot yet.
            NoEndpoints: As `get` does, and whatever else `get` raises.
        """
        try:
            return self.snapshot.get(key)
        except NoEndpoints:
            raise self._no_endpoints() from None

    # --- what it knows

    @property
    def snapshot(self) -> Snapshot:
        """
        The latest snapshot.

        Raises:
            RingNotReady: There is none yet.
            RingClosed: The ring is closed.
        """
        snapshot = self._snapshot
        if snapshot is None:
            self._check_started()
            raise RingNotReady(
                f"{self!r} waits for its first answer; `await ring.get(key)` waits too"
            )
        return snapshot

    @property
    def state(self) -> State:
        """
        How much the ring can be trusted now.

        - `"starting"`: no answer yet;
        - `"fresh"`: the last lookup named endpoints;
        - `"stale"`: it failed or said that there are none; the endpoints are the last good ones;
        - `"empty"`: DNS has said for `RefreshPolicy.empty_hold` that there are none;
        - `"closed"`.
        """
        return self._state

    def stats(self) -> RingStats:
        """
        Return counters and ages, for a log line or a dashboard.
        """
        belief = self._belief
        age = None
        if belief.resolved_at is not None and self._closed is None:
            age = max(0.0, anyio.current_time() - belief.resolved_at)
        return RingStats(
            state=self._state,
            endpoints=len(belief.endpoints),
            held=len(belief.missing),
            generation=0 if self._snapshot is None else self._snapshot.generation,
            complete=self._complete,
            ignored=self._ignored,
            attempts=self._attempts,
            failures=MappingProxyType(dict(self._failures)),
            consecutive_failures=belief.failures,
            last_error=self._last_error,
            last_success_age=age,
            query_seconds=self._query_seconds,
        )

    def __del__(self) -> None:
        # An argument that was refused leaves a ring without attributes.
        if getattr(self, "_claimed", False) and self._closed is None:
            self._tell_unclosed()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled or copied, since it has a task running; send its snapshot, "
            "or open another ring there"
        )

    def __repr__(self) -> str:
        known = self._snapshot
        return (
            f"<Ring {self._question.service!r} generation={known.generation if known else 0} "
            f"endpoints={len(known.endpoints) if known else 0} state={self._state}>"
        )

    # --- news

    async def refresh(self) -> Snapshot:
        """
        Ask DNS now, past every cache, and return the snapshot that stands after the answer.

        For callers that met a refused connection and will not wait for the next lookup. All that
        ask at the same time share one lookup, and there is at most one in
        `RefreshPolicy.min_interval`. A pod that is missing from the answer is still kept until
        that is confirmed.

        Raises:
            ResolveError: The lookup failed; the ring keeps what it has.
            RingNotReady: The ring was not started.
            RingClosed: It is closed, or was closed meanwhile.
            RingMisused: This is another event loop than the ring's.
        """
        self._check_started()
        self._check_loop()
        attempt = self._next
        self._asked.set()
        await attempt.over.wait()
        if attempt.error is not None:
            # Several callers may wait: each raises a copy of its own.
            raise copy_of(attempt.error) from attempt.error
        return self.snapshot

    def changes(self) -> AsyncIterator[Change]:
        """
        Iterate over what changes from now on; ends when the ring is closed.

        Each iterator goes at its own pace: who is slow gets one `Change` for all that happened
        meanwhile, and never keeps the ring waiting. On a ring that is starting, the first change
        is the one after the first snapshot.

            async for change in ring.changes():
                print("+", change.added, "-", change.removed, f"{change.moved:.0%} of the keys")

        Raises:
            RingNotReady: The ring was not started.
            RingClosed: It is closed.
        """
        self._check_started()
        return _Changes(self, self._snapshot)

    # --- its life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """
        Start the ring in a task of its own, and return once the first snapshot stands.

        Raises:
            ResolveError: `start_timeout` has passed without an answer; this is why.
            RingMisused: The ring was started before.
            RingClosed: It was closed before.
        """
        self._claim()
        self._arrive()
        start = _Start()

        async def host() -> None:
            try:
                await self._live(start)
            except Exception as error:  # noqa: BLE001 - start() raises it
                start.error = error
            finally:
                start.over.set()

        self._background = Background(host, name=f"knet {self._question}")
        try:
            await start.over.wait()
        except BaseException:
            await self.aclose()
            raise
        if start.error is not None:
            raise start.error
        if self._closed is not None:
            raise RingClosed(f"{self!r} was closed while it was starting")

    def run(
        self, *, task_status: TaskStatus[Ring] = anyio.TASK_STATUS_IGNORED
    ) -> Coroutine[Any, Any, None]:
        """
        Be the ring: resolve, and keep resolving until cancelled or closed.

            await nursery.start(ring.run)           # trio, anyio: returns when the ring is ready
            task_group.create_task(ring.run())      # asyncio: `await ring.get` waits until it is

        The ring counts as started as soon as this is called.

        Raises:
            ResolveError: `start_timeout` has passed without an answer; this is why.
            RingMisused: The ring was started before.
            RingClosed: It was closed before.
        """
        self._claim()
        return self._live(task_status)

    async def aclose(self) -> None:
        """
        Stop refreshing, and wait until nothing of this ring is left running.

        May be called from another task than the one that started the ring, more than once, and on a
        ring that was never started.

        Raises:
            RingMisused: This is another event loop than the ring's.
        """
        if self._claimed and self._closed is None:
            self._check_loop()
            if self._scope is not None:
                self._scope.cancel()
            if self._background is not None:
                await self._background.join()
            elif self._scope is not None:
                with anyio.CancelScope(shield=True):
                    await self._ended.wait()
        self._close("closed")

    async def _live(self, task_status: TaskStatus[Ring] | _Start) -> None:
        """
        The one coroutine that everything else hosts.
        """
        why = "closed"
        try:
            if self._closed is not None:
                return
            with self._arrive():
                async with AsyncExitStack() as stack:
                    if isinstance(self._resolver, Resolver):
                        await stack.enter_async_context(self._resolver)
                    self._source = source_of(self._resolver, self._question, self._options)
                    await self._find_first()
                    task_status.started(self)
                    while True:
                        await self._rest()
                        if self._state == "closed":
                            break  # this is a fork's copy of the task
                        await self._attempt()
        except BaseException as error:
            if isinstance(error, ResolveError):
                why = f"its start failed: {error}"
            raise
        finally:
            self._close(why)
            self._ended.set()

    async def _find_first(self) -> None:
        began = anyio.current_time()
        error: Exception | None = None

        async def keep_trying() -> None:
            nonlocal error
            while self._snapshot is None:
                error = await self._attempt() or error
                if self._snapshot is None:
                    if isinstance(error, ConfigError | TypeError):
                        raise error
                    await self._rest()

        with anyio.move_on_after(self._start_timeout):
            await keep_trying()
        late = anyio.current_time() - began - self._start_timeout
        if self._snapshot is None and late > _STALLED:
            # The loop stood still past the deadline, so that nobody could look whether an answer
            # had come. Another one comes at once, if that is so.
            with anyio.move_on_after(min(self._start_timeout, late)):
                await keep_trying()
        if self._snapshot is None:
            waited = anyio.current_time() - began
            if error is None:
                raise ResolveTimeout(
                    f"no answer for {self._question} from {self._resolver!r} within {waited:.1f} s"
                )
            raise error

    async def _rest(self) -> None:
        """
        Wait until the next lookup is due, or asked for and allowed.
        """
        with anyio.CancelScope(deadline=self._due):
            await self._asked.wait()
        if self._asked.is_set() and self._last_began is not None:
            await anyio.sleep_until(self._last_began + self._policy.shortest)

    async def _attempt(self) -> Exception | None:
        """
        Look up once and believe what follows from it; return how it failed, if it did.
        """
        attempt, self._next = self._next, _Attempt()
        began = anyio.current_time()
        since = began
        if self._last_began is not None and not self._asked.is_set():
            # Nobody is in a hurry: what another ring has heard will do, if it is newer than what
            # this one has. The next lookup is due by the age of what was heard, so that no change
            # is felt later for it, and rings of one name come to keep step.
            shortest = self._policy.shortest
            apart = 0.0 if self._belief.failures else shortest
            oldest = began - max(shortest, self._wait / 2)
            since = min(began, max(oldest, self._heard_at + apart))
        self._asked = anyio.Event()
        self._attempts += 1
        self._last_began = began
        try:
            error = await self._look_up(since)
        except BaseException:
            attempt.finish(RingClosed(f"{self!r} was closed during the lookup"))
            raise
        attempt.finish(error)
        return error

    async def _look_up(self, since: float) -> Exception | None:
        assert self._source is not None
        began = anyio.current_time()
        since = max(since, math.nextafter(self._heard_at, math.inf))
        failure: Exception | None
        try:
            outcome = await self._source.ask(since)
            failure = outcome.result if isinstance(outcome.result, ResolveError) else None
            if isinstance(outcome.result, Answer) and len(outcome.result.endpoints) > _MANY:
                await checkpoint()
            decision = self._decide(outcome)
            snapshot, build = await self._snapshot_of(decision.belief.endpoints)
        except Exception as error:
            # Neither a resolver nor a placement that a user brought may end a ring with its bugs.
            if not self._belief.failures:
                _logger.exception("%s: its resolver or its placement failed", self._question)
            failure = error
            told = ResolveError(f"{self._resolver!r} raised {error!r}")
            outcome = Outcome(told, began, anyio.current_time())
            decision = self._decide(outcome)
            snapshot, build = self._snapshot, self._build
        if isinstance(outcome.result, ResolveError):
            self._failures[outcome.result.kind] += 1
            self._last_error = _on_one_line(str(outcome.result))
        else:
            self._note(outcome.result)
        self._heard_at = outcome.asked_at
        self._query_seconds = outcome.told_at - outcome.asked_at
        self._build = build
        self._believe(decision, snapshot, outcome)
        return failure

    def _note(self, answer: Answer) -> None:
        """
        Tell once when answers begin to be cut off, and when they are whole again.
        """
        if answer.complete != self._complete:
            _logger.log(
                logging.INFO if answer.complete else logging.WARNING,
                "%s: %s, %d endpoints in it",
                *(self._question, _WHOLE if answer.complete else _CUT_OFF, len(answer.endpoints)),
            )
        self._complete = answer.complete
        self._ignored = answer.ignored

    def _decide(self, outcome: Outcome) -> Decision:
        return decide(
            self._belief,
            outcome.result,
            now=outcome.told_at,
            policy=self._policy,
            jitter=random.random(),
        )

    async def _snapshot_of(
        self, endpoints: tuple[Endpoint, ...]
    ) -> tuple[Snapshot | None, Build | None]:
        """
        Return the snapshot of *endpoints*, and what it was built as: the present one, if nothing
        changed.
        """
        present = self._snapshot
        if endpoints is self._belief.endpoints:
            return present, self._build
        if len(endpoints) > _MANY:
            await checkpoint()
        assert self._source is not None
        build = await self._source.build(self._make, self._empty, endpoints)
        assert build.placement is not None
        if len(endpoints) > _MANY:
            await checkpoint()
        generation = 1 if present is None else present.generation + 1
        return Snapshot(build.placement, generation=generation), build

    def _believe(self, decision: Decision, snapshot: Snapshot | None, outcome: Outcome) -> None:
        """
        Make it so. Nothing here awaits: readers see all of it or none.
        """
        if self._closed is not None:
            return  # this is a fork's copy of the task
        before, state = self._snapshot, self._state
        self._belief = decision.belief
        self._due = outcome.told_at + decision.wait
        self._wait = decision.wait
        self._state = decision.state
        if snapshot is not before:
            self._snapshot = snapshot
            self._changed.set()
            self._changed = anyio.Event()
        _report(self._question, before, snapshot, state, decision, outcome.result)

    # --- the doors

    def _claim(self) -> None:
        if self._closed is not None:
            raise RingClosed(f"{self!r}: {self._closed}; make a new one")
        if self._claimed:
            raise RingMisused(f"{self!r} was started already; each ring lives once")
        self._claimed = True
        _open_rings.add(self)

    def _arrive(self) -> anyio.CancelScope:
        """
        Belong to this event loop from now on; what ends the ring is returned.
        """
        if self._scope is None:
            self._token = current_token()
            self._scope = anyio.CancelScope()
        return self._scope

    def _close(self, why: str) -> None:
        if self._closed is None:
            self._closed = why
            self._state = "closed"
            self._snapshot = None
            self._source = None
            self._build = None
            self._belief = Belief()
            self._next.finish(RingClosed(f"{self!r} was closed"))
            self._changed.set()
        _open_rings.discard(self)

    def _tell_unclosed(self) -> None:
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=3, source=self)
        self._closed = "it was left open"

    def _leave_to_parent(self) -> None:
        """
        In a forked child: be closed. The task that would refresh it is the parent's, and so are
        those that wait for it, so there is nobody to be told.
        """
        self._closed = "it was opened before a fork; open a ring in the child"
        self._state = "closed"
        self._snapshot = None
        self._belief = Belief()

    def _check_started(self) -> None:
        if self._closed is not None:
            raise RingClosed(f"{self!r}: {self._closed}")
        if not self._claimed:
            raise RingNotReady(
                f"{self!r} was not started: use `async with ring:`, `await ring.start()` "
                "or `nursery.start(ring.run)`"
            )

    def _check_loop(self) -> None:
        if self._token is not None and current_token() != self._token:
            raise RingMisused(f"{self!r} belongs to another event loop than this one")

    async def _first_snapshot(self) -> Snapshot:
        while self._snapshot is None:
            self._check_started()
            self._check_loop()
            await self._changed.wait()
        return self._snapshot

    def _no_endpoints(self) -> NoEndpoints:
        why = f"; last lookup: {self._last_error}" if self._last_error else ""
        return NoEndpoints(f"{self._question} has no endpoints{why}")


@final
class _Changes(AsyncIterator[Change]):
    """
    A place in the history of a ring. A class and no generator, so that nobody has to close it.
    """

    __slots__ = ("_ring", "_seen")

    def __init__(self, ring: Ring, seen: Snapshot | None) -> None:
        self._ring = ring
        self._seen = seen

    async def __anext__(self) -> Change:
        ring = self._ring
        ring._check_loop()
        while True:
            if ring._closed is not None:
                raise StopAsyncIteration
            before, self._seen = self._seen, ring._snapshot
            if before is not None and self._seen is not None and self._seen is not before:
                return Change(before, self._seen)
            await ring._changed.wait()


_open_rings: weakref.WeakSet[Ring] = weakref.WeakSet()


def _close_in_child() -> None:
    for ring in list(_open_rings):
        ring._leave_to_parent()
    _open_rings.clear()


@atexit.register
def _tell_unclosed() -> None:
    # An event loop that nobody closes is kept by what runs on it, and its rings with it.
    for ring in list(_open_rings):
        ring._tell_unclosed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _options_not_default(question: Question) -> dict[str, Any]:
    default = Question(question.service)
    return {
        name: getattr(question, name)
        for name in ("port", "protocol", "family")
        if getattr(question, name) != getattr(default, name)
    }


def _on_one_line(text: str) -> str:
    """
    Return the *text* of an error as a log can take it, whoever wrote it.
    """
    return " ".join(text.split())[:_MOST_TEXT]


def _report(
    question: Question,
    before: Snapshot | None,
    after: Snapshot | None,
    state: State,
    decision: Decision,
    result: Answer | ResolveError,
) -> None:
    """
    Log one line for a change of state, and one for a change of endpoints.
    """
    count = len(decision.belief.endpoints)
    if decision.state != state:
        if decision.state == "fresh":
            _logger.info("%s: %s -> fresh, %d endpoints", question, state, count)
        else:
            if isinstance(result, Answer):
                why = "only IPv6 endpoints answer" if result.endpoints else "an empty answer"
            else:
                why = _on_one_line(str(result))
            _logger.warning(
                "%s: %s -> %s, keeping %d endpoints, asking again in %.1f s: %s",
                *(question, state, decision.state, count, decision.wait, why),
            )
    if after is not None and before is not None and after is not before:
        # What stays is the same object in both, so that identities tell, in no time.
        old, new = set(map(id, before.endpoints)), set(map(id, after.endpoints))
        _logger.info(
            "%s: generation %d, %d endpoints, %d added, %d removed",
            *(question, after.generation, count, len(new - old), len(old - new)),
        )
