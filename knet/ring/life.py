"""
The life of a ring: ask, decide, build, swap, rest, until it ends.

One coroutine, `Life.live`, which somebody hosts. It knows nothing of who that is, nor of picks. What
is decided is decided elsewhere: names and records by the resolver, belief and timing by `refresh`,
placement by `hashring`; what rings of one question share is in `sharing`. Here is the waiting, and
the one assignment that replaces a ring's `Standing`.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
import random
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from threading import get_ident
from typing import Any, Protocol, final

import anyio
from anyio.lowlevel import current_token

from knet.belief import Decision, RefreshPolicy, State, pace
from knet.endpoint import Endpoint
from knet.errors import (
    ConfigError,
    NameNotFound,
    NoData,
    NoEndpoints,
    ResolveError,
    ResolveTimeout,
    RingClosed,
    RingMisused,
    RingNotReady,
    ServerUnreachable,
)
from knet.hashring import Placement
from knet.hosting import (
    call_later,
    caller_here,
    clock_here,
    is_cancelled,
    process_number,
    wait_in_full,
)
from knet.pods import differing
from knet.promise import Promise, copy_of
from knet.question import Question
from knet.resolver import Answer, Resolver
from knet.ring.feeds import Feed
from knet.ring.sharing import Build, Builds, Heard, Make, shared
from knet.ring.standing import RingStats, Standing
from knet.ring.words import log, on_one_line, shown_object, text_of
from knet.routing.ownership import Lookout, Me, Myself, several_workers
from knet.snapshot import Snapshot
from knet.turns import turns

__all__ = ["CLOSED", "Life"]

_logger = logging.getLogger("knet")

_GAPS = {
    "": "the answer is whole again",
    "cut off": "the answer looks cut off and removes nobody whom it merely leaves out",
    "targets": "SRV targets could not be resolved, and nobody is removed for that",
    "sample": "the server names some of its pods at random, and nobody is removed but by odds",
}
# What an error means at a start, when a name has never been found before.
_OUTSIDE = (
    "outside of a cluster try `knet demo`, knet.Ring.static([...]), or knet.testing.HeadlessService"
)
_HINTS: dict[type[BaseException], str] = {
    NameNotFound: f"a cluster's DNS knows such names, and no other does: {_OUTSIDE}",
    ServerUnreachable: (
        f"is this a cluster's DNS server, and does a NetworkPolicy let its port 53 through? {_OUTSIDE}"
    ),
}
# What ends a ring that nothing has gone wrong with.
CLOSED = "it was closed, by the end of its `async with` or by `aclose`"
_FAILED = "%s: its resolver or its placement failed"

_CANNOT = (
    "{!r} cannot {} while its own resolver, which asks for that, looks it up: neither could end"
)

# Seconds between two looks whether the task that is to run a ring has begun, and how long callers wait
# for that. It takes a turn of the loop.
_BEGIN = 0.01
_PATIENCE = 1.0

# Seconds after which a start that has found nothing says so.
_SILENCE = 1.0

# Set in whatever a lookup of a ring does: what it must not wait for is the end of that lookup.
_looking_up: ContextVar[object] = ContextVar("knet_looking_up", default=None)


class Follow(Protocol):
    """
    What picks from each snapshot that stands.
    """

    def __call__(self, snapshot: Snapshot | None, *, here: bool) -> None: ...


@final
class Life:
    """
    What keeps a ring's standing true, from its start to its end; there is one for each ring.

    Args:
        question: Which pods are wanted.
        feed: Where it hears of them.
        make: What makes a placement.
        empty: A placement without members that *make* made; all others grow from it.
        policy: When to ask, and what to believe.
        start_timeout: Seconds that the first answer may take.
        may_be_empty: Whether an answer that nobody is there is enough to begin with.
        me: What says who this program is; asked at the start. `None`: nobody in particular.
        follow: Told of each snapshot that stands, and of the end by `None`; *here*: on this event loop.

    Attributes:
        standing: What the ring has to tell now.
    """

    __slots__ = (
        "_asked",
        "_body",
        "_build",
        "_builds",
        "_call",
        "_changed",
        "_clock",
        "_empty",
        "_feed",
        "_follow",
        "_is_begun",
        "_is_claimed",
        "_lookout",
        "_lookup_token",
        "_make",
        "_may_be_empty",
        "_me",
        "_me_in",
        "_myself",
        "_next",
        "_over",
        "_policy",
        "_question",
        "_scope",
        "_start_timeout",
        "_task_id",
        "_thread",
        "_token",
        "_waiting",
        "standing",
    )

    standing: Standing

    def __init__(
        self,
        question: Question,
        feed: Feed,
        make: Make,
        empty: Placement[Endpoint],
        policy: RefreshPolicy,
        start_timeout: float,
        *,
        may_be_empty: bool = False,
        me: Me | None = None,
        follow: Follow,
    ) -> None:
        self._follow = follow
        self._question = question
        self._feed = feed
        self._make = make
        self._empty = empty
        self._policy = policy
        self._start_timeout = start_timeout
        self._may_be_empty = may_be_empty
        self._me = me
        self._myself: Myself | None = None
        # Who that is in which snapshot.
        self._me_in: tuple[Snapshot | None, Endpoint | None] = (None, None)
        self._lookout: Lookout | None = None
        self.standing = Standing()
        self._is_claimed = False
        self._is_begun = False
        self._body: weakref.ref[Coroutine[Any, Any, None]] | None = None
        self._token: object = None
        self._thread = 0
        self._clock: Callable[[], float] | None = None
        self._call: Callable[[Callable[[], object]], object] | None = None
        self._scope: anyio.CancelScope | None = None
        self._lookup_token: object = None
        self._task_id: int | None = None
        # Holds the tables that rings share for as long as this one serves them.
        self._build: Build | None = None
        self._builds: Builds | None = None
        # Somebody asks for a lookup; another snapshot stands; the next lookup is over; all is over.
        self._asked = anyio.Event()
        self._changed = anyio.Event()
        self._next: Promise[None] = Promise()
        self._over = anyio.Event()
        self._waiting: dict[Promise[State], frozenset[str]] = {}

    def __repr__(self) -> str:
        return self.standing.told_of(self._question)

    # --- what others ask of it

    @property
    def source(self) -> object:
        """
        Who is asked or tells at the moment.
        """
        return self._feed.source

    @property
    def is_running(self) -> bool:
        """
        Was it claimed, and has it not ended?
        """
        return self._is_claimed and not self.has_ended

    @property
    def has_ended(self) -> bool:
        """
        Is it over, whatever for?
        """
        return self.standing.ended is not None

    def stats(self) -> RingStats:
        """
        Return the standing as an operator wants it, in any thread.
        """
        standing, clock, feed = self.standing, self._clock, self._feed
        stats = standing.stats(None if clock is None or standing.ended is not None else clock())
        return replace(stats, source=type(feed.source).__name__, alive=feed.is_alive)

    async def first_snapshot(self) -> Snapshot:
        """
        Return the snapshot that stands; on a ring that is starting, wait for it.
        """
        while (snapshot := self.standing.snapshot) is None:
            self.check_running()
            self.check_here()
            await self._change()
        return snapshot

    async def next_snapshot(self, seen: Snapshot | None) -> Snapshot | None:
        """
        Wait until another snapshot than *seen* stands, and return it; `None` once the ring has ended.
        """
        self.check_here()
        while not self.has_ended:
            snapshot = self.standing.snapshot
            if snapshot is not None and snapshot is not seen:
                return snapshot
            with suppress(RingClosed):
                await self._change()
        return None

    async def _change(self) -> None:
        """
        Wait until another snapshot stands or the ring has ended.
        """
        changed = self._changed
        await self._begun()
        await changed.wait()

    async def _begun(self) -> None:
        """
        Wait until the task that is to run the ring has taken its first step.

        Nobody is told if it never does: it may be cancelled before that, or refused by its task group.
        """
        if self._is_begun:
            return
        patience = anyio.current_time() + _PATIENCE
        while not self._is_begun:
            self.check_running()
            if anyio.current_time() > patience:
                raise RingNotReady(
                    f"{self!r} was started and is not run: nobody has awaited `ring.run()` for "
                    f"{_PATIENCE:g} s; was its task refused?"
                )
            await anyio.sleep(_BEGIN)

    async def wait_for(self, states: frozenset[str]) -> State:
        """
        Return the state as soon as it is one of *states*, however short it lasts.
        """
        self.check_here()
        state = self.standing.state
        if state in states:
            return state
        if self.standing.ended is not None:
            raise RingClosed(f"{self!r}: {self.standing.ended}")
        waiter: Promise[State] = Promise()
        self._waiting[waiter] = states
        try:
            if self._is_claimed:
                await self._begun()
            return await waiter.wait()
        finally:
            self._waiting.pop(waiter, None)

    async def refresh(self) -> Snapshot:
        """
        Ask for a lookup that begins from now on, and return what stands after it.
        """
        self.check_running()
        self.check_here()
        if self._is_looked_up_here():
            raise RingMisused(_CANNOT.format(self, "refresh"))
        coming = self._next
        self._asked.set()
        await self._begun()
        await coming.wait()
        return await self.first_snapshot()

    def no_endpoints(self) -> NoEndpoints:
        """
        Return the error of a pick from nobody.
        """
        error = self.standing.last_error
        why = f"; last lookup: {error}" if error else ""
        return NoEndpoints(f"{self._question} has no endpoints{why}")

    def ask_soon(self) -> None:
        """
        Ask for a lookup, from any thread, and leave it at that.
        """
        if self.has_ended or self._call is None:
            return
        try:
            here = current_token() == self._token
        except anyio.NoEventLoopError:
            here = False
        if here:
            self._asked.set()
        else:
            with suppress(RuntimeError):  # its loop has ended
                self._call(lambda: self._asked.set())  # noqa: PLW0108 - it is another one later

    # --- its beginning and its end

    def claim(self) -> None:
        """
        Begin: a ring lives once.
        """
        if self.standing.ended is not None:
            raise RingClosed(f"{self!r}: {self.standing.ended}; make a new one")
        if self._is_claimed:
            raise RingMisused(f"{self!r} was started already; each ring lives once")
        if self._me is not None:
            self._myself = Myself.told(self._me)
            self._lookout = Lookout(self._myself)
            if why := several_workers(os.environ, process_number()):
                log(_logger, logging.WARNING, "%s: %s", self._question, why)
        self._is_claimed = True

    def body(self, started: Callable[[], None]) -> Coroutine[Any, Any, None]:
        """
        Return the one coroutine, for whoever will run it.
        """
        body = self._live(started)
        self._body = weakref.ref(body)
        return body

    def arrive(self) -> anyio.CancelScope:
        """
        Belong to this event loop from now on; what ends the life is returned.
        """
        if self._scope is None:
            self._token = current_token()
            self._thread = get_ident()
            self._clock = clock_here()
            self._call = caller_here()
            self._scope = anyio.CancelScope()
        return self._scope

    async def leave(self) -> None:
        """
        End it, and wait until it is over, however the caller is cancelled meanwhile.

        Raises:
            RingMisused: The ring's own resolver asks, which the end would have to wait for.
        """
        self.check_here()
        is_looked_up = self._is_looked_up_here()
        if is_looked_up and anyio.get_current_task().id == self._task_id:
            raise RingMisused(_CANNOT.format(self, "close"))
        if self._scope is not None:
            self._scope.cancel()
        if self._is_begun and is_looked_up:
            # The lookup may be waiting for this task, and then it is cancelled with the lookup.
            await self._over.wait()
        elif self._is_begun:
            await wait_in_full(self._over)

    def end(self, why: str, *, tell: bool = True) -> None:
        """
        Be over, whoever says so: nothing is served and nothing is kept from now on.

        Args:
            why: What a caller will read who comes too late.
            tell: Whether to wake those who wait; they cannot be woken from outside of the event
                loop, nor in a forked child, where they are the parent's.
        """
        if self.standing.ended is None:
            self._build = self._builds = None
            self._stand(self.standing.after_end(why), tell=tell)

    def check_running(self) -> None:
        """
        Raise unless the ring was started and has not ended.
        """
        if self._is_claimed and not self._is_begun and self._is_lost():
            self.end(
                "the task that was to run it never began, or was cancelled before its first step"
            )
        if self.standing.ended is not None:
            raise RingClosed(f"{self!r}: {self.standing.ended}")
        if not self._is_claimed:
            raise RingNotReady(
                f"{self!r} was not started: use `async with ring:`, `await ring.start()` "
                "or `nursery.start(ring.run)`"
            )

    def check_thread(self) -> None:
        """
        Raise unless this is the thread of the event loop that the ring lives on: the cheaper half.
        """
        if get_ident() != self._thread:
            raise RingMisused(f"{self!r} belongs to the event loop of another thread")

    def check_here(self) -> None:
        """
        Raise unless this is the event loop that the ring lives on.
        """
        if self._token is not None and current_token() != self._token:
            raise RingMisused(f"{self!r} belongs to another event loop than this one")

    def _is_looked_up_here(self) -> bool:
        """
        Is this called by what a lookup of this ring does, and may wait for?
        """
        token = self._lookup_token
        return token is not None and _looking_up.get() is token

    def _is_lost(self) -> bool:
        """
        Is the coroutine gone, or was it closed, before it took a step?
        """
        body = None if self._body is None else self._body()
        return self._body is not None and (
            body is None or inspect.getcoroutinestate(body) == inspect.CORO_CLOSED
        )

    # --- the one coroutine

    async def _live(self, started: Callable[[], None]) -> None:
        """
        Live; call *started* once the first snapshot stands.
        """
        why = CLOSED
        self._is_begun = True
        self._task_id = anyio.get_current_task().id
        try:
            if self.has_ended:
                return
            with self.arrive():
                self._builds = shared(Builds, Builds, self.source, self._question)
                try:
                    await self._feed.open(self.ask_soon)
                    await self._find_first()
                    started()
                    while await self._rest():
                        await self._look_up()
                finally:
                    await self._feed.aclose()
        except BaseException as error:
            if isinstance(error, ResolveError):
                why = f"its start failed: {text_of(error)}"
            elif isinstance(error, anyio.get_cancelled_exc_class()):
                why = "its task was cancelled, as at the end of an event loop"
            else:
                why = f"it was ended by {shown_object(error)}"
            raise
        finally:
            self.end(why)
            self._over.set()

    async def _find_first(self) -> None:
        began = anyio.current_time()
        error: BaseException | None = None

        async def keep_trying() -> None:
            nonlocal error
            while self.standing.snapshot is None:
                error = await self._look_up() or error
                if self.standing.snapshot is None:
                    if isinstance(error, ConfigError | TypeError):
                        raise error
                    await self._rest()

        call_off = call_later(_SILENCE, self._tell_of_silence)
        try:
            with anyio.move_on_after(self._start_timeout):
                await keep_trying()
            waited = anyio.current_time() - began
            more = pace.extra_patience(self._start_timeout, waited)
            if self.standing.snapshot is None and more:
                with anyio.move_on_after(more):
                    await keep_trying()
        finally:
            call_off()
        if self.standing.snapshot is None:
            waited = anyio.current_time() - began
            raise self._why_not_found(error, waited)

    def _why_not_found(self, error: BaseException | None, waited: float) -> BaseException:
        """
        Return what a start fails with: the last *error*, with what it may mean at a start.
        """
        source = shown_object(self.source)
        if error is None and self.standing.belief.absence.empty is not None:
            return NoData(
                f"{self._question} has no endpoints, says {source}, and got none in {waited:.1f} s"
            )
        if error is None:
            return ResolveTimeout(
                f"no answer for {self._question} from {source} within {waited:.1f} s"
            )
        hint = _HINTS.get(type(error))
        if hint is not None and isinstance(self.source, Resolver):
            hinted = copy_of(error)  # others may have it too
            hinted.args = (f"{text_of(error)}; {hint}",)
            return hinted.with_traceback(error.__traceback__)
        return error

    def _tell_of_silence(self) -> None:
        """
        Say that a start takes long, what for, and for how long it may.
        """
        standing = self.standing
        if standing.snapshot is not None or standing.ended is not None:
            return
        whom = shown_object(self.source)
        if isinstance(self.source, Resolver):
            with suppress(Exception):  # a subclass may do as it likes
                whom = ", ".join(self.source.servers)
        log(
            _logger,
            logging.WARNING,
            "%s: no endpoints yet, %g s after the start; asking %s, for %g s in all%s",
            *(self._question, _SILENCE, whom, self._start_timeout),
            f": {standing.last_error}" if standing.last_error else "",
        )

    async def _rest(self) -> bool:
        """
        Wait until the next lookup is due, or asked for and allowed; return whether to go on.
        """
        with anyio.CancelScope(deadline=self.standing.due):
            await self._asked.wait()
        if self._asked.is_set() and self._feed.is_telling:
            # What is told soon after is believed together with it.
            await anyio.sleep_until((self.standing.began_at or 0.0) + pace.SETTLE)
        elif self._asked.is_set():
            now = anyio.current_time()
            await anyio.sleep_until(pace.earliest(self.standing.began_at, self._policy, now))
        return not self.has_ended  # a fork's copy of the task has

    async def _look_up(self) -> BaseException | None:
        """
        Look up once and believe what follows from it; return how it failed, if it did.
        """
        coming, self._next = self._next, Promise()
        since = self._oldest_answer()
        is_paced = self._asked.is_set() and not self._feed.is_telling
        pause = self._policy.shortest if is_paced else 0.0
        self._asked = anyio.Event()
        try:
            failure = await self._hear(since, pause)
        except BaseException:
            coming.fail(RingClosed(f"{self!r} was closed during the lookup"))
            raise
        if failure is None:
            coming.keep(None)
        else:
            coming.fail(failure)
        return failure

    def _oldest_answer(self) -> float:
        """
        Return when a lookup must have begun, at the earliest, for its answer to count now.
        """
        standing = self.standing
        return pace.oldest_answer(
            anyio.current_time(),
            began_at=standing.began_at,
            heard_at=standing.heard_at,
            wait=standing.wait,
            failures=standing.belief.failures,
            asked_for=self._asked.is_set(),
            policy=self._policy,
        )

    async def _hear(self, since: float, pause: float) -> BaseException | None:
        builds, build = self._builds, self._build
        assert builds is not None
        began = anyio.current_time()
        failure: BaseException | None
        try:
            heard = await self._ask(since, pause)
            failure = heard.told if isinstance(heard.told, ResolveError) else None
            if isinstance(heard.told, Answer):
                await turns.give_way(len(heard.told.endpoints))
            decision = self._decide(heard)
            snapshot, build = await self._snapshot_of(builds, decision)
        except BaseException as error:
            if _ends_a_ring(error):
                raise
            # Neither a resolver nor a placement that a user brought may end a ring with its bugs.
            if not self.standing.belief.failures:
                log(_logger, logging.ERROR, _FAILED, self._question, exc_info=error)
            failure = error
            told = ResolveError(f"{shown_object(self.source)} raised {shown_object(error)}")
            heard = Heard(told, began, anyio.current_time())
            decision = self._decide(heard)
            snapshot = self.standing.snapshot
        if self.has_ended:
            return failure  # this is a fork's copy of the task
        before = self.standing
        after = before.after(
            heard.told,
            decision,
            snapshot,
            began_at=began,
            asked_at=heard.asked_at,
            told_at=heard.told_at,
        )
        self._build = build
        self._stand(after)
        _report(self._question, before, after, heard.told, may_be_empty=self._may_be_empty)
        self._look_for_me()
        return failure

    def me(self) -> Endpoint | None:
        """
        Return who this program is in the snapshot that stands, if it is one of them.
        """
        snapshot = self.standing.snapshot
        return None if snapshot is None else self.me_in(snapshot)

    def me_in(self, snapshot: Snapshot) -> Endpoint | None:
        """
        Return who this program is in *snapshot*.
        """
        myself = self._myself
        if myself is None:
            return None
        seen, found = self._me_in
        if seen is not snapshot:
            found = myself.among(snapshot.endpoints)
            self._me_in = snapshot, found
        return found

    @property
    def has_me(self) -> bool:
        """
        Was it told who this program is?
        """
        return self._me is not None

    def check_me(self) -> None:
        """
        Raise unless it was told who this program is.
        """
        if not self.has_me:
            raise ConfigError(
                f"{self!r} does not know who it is: write Ring(..., me=knet.this_pod)"
            )

    def _look_for_me(self) -> None:
        """
        Warn once, where this program is in no snapshot for long.
        """
        snapshot, lookout = self.standing.snapshot, self._lookout
        if snapshot is None or lookout is None:
            return
        warning = lookout.after(self.me(), snapshot.endpoints, anyio.current_time())
        if warning:
            log(_logger, logging.WARNING, "%s: %s", self._question, on_one_line(warning))

    async def _ask(self, since: float, pause: float) -> Heard:
        """
        Ask, and be known to ask to whatever is done for it, in tasks of its own too.
        """
        self._lookup_token = object()
        reset = _looking_up.set(self._lookup_token)
        try:
            return await self._feed.hear(since, pause)
        finally:
            _looking_up.reset(reset)
            self._lookup_token = None

    def _decide(self, heard: Heard) -> Decision:
        return self._feed.judge(
            self.standing.belief, heard, policy=self._policy, jitter=random.random()
        )

    async def _snapshot_of(
        self, builds: Builds, decision: Decision
    ) -> tuple[Snapshot | None, Build | None]:
        """
        Return the snapshot of what is believed, and what it was built as: the present one, if
        nothing changed.
        """
        present, endpoints = self.standing.snapshot, decision.belief.endpoints
        if not decision.changed:
            says_nobody = decision.belief.absence.empty is not None
            if present is None and self._may_be_empty and says_nobody:
                return Snapshot(self._empty), None
            return present, self._build
        await turns.give_way(len(endpoints))
        # From what stands, so that it costs what changes.
        last = self._empty if self._build is None else self._build.placement
        build = await builds.build(self._make, last, endpoints)
        await turns.give_way(len(endpoints))
        generation = 1 if present is None else present.generation + 1
        return Snapshot(build.placement, generation=generation), build

    def _stand(self, standing: Standing, *, tell: bool = True) -> None:
        """
        Replace what stands. Nothing here awaits: readers see all of it or none.
        """
        before, self.standing = self.standing, standing
        if standing.snapshot is not before.snapshot:
            self._follow(standing.snapshot, here=tell)
        if not tell:
            return
        if standing.snapshot is not before.snapshot or standing.ended is not None:
            changed, self._changed = self._changed, anyio.Event()
            changed.set()
        for waiter, states in list(self._waiting.items()):
            if standing.state in states:
                waiter.keep(standing.state)
            elif standing.ended is not None:
                waiter.fail(RingClosed(f"{self!r}: {standing.ended}"))
        if standing.ended is not None:
            self._next.fail(RingClosed(f"{self!r} was closed"))


def _ends_a_ring(error: BaseException) -> bool:
    """
    Does *error* end the life of a ring, and is no failed lookup?

    A cancellation does if it is this task's own. A resolver can also leak the cancellation of a task
    that it made itself, alone or in a group. `GeneratorExit` may be that of a task that is thrown away.
    """
    if isinstance(error, Exception):
        return False
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return True
    if isinstance(error, BaseExceptionGroup):
        fatal = error.subgroup((KeyboardInterrupt, SystemExit, GeneratorExit))
        return fatal is not None or is_cancelled()
    return is_cancelled()


def _report(
    question: Question,
    before: Standing,
    after: Standing,
    told: Answer | ResolveError,
    *,
    may_be_empty: bool,
) -> None:
    """
    Log one line each for a change of state, of endpoints, and of how whole the answers are.
    """
    count = len(after.belief.endpoints)
    if after.gap != before.gap:
        assert isinstance(told, Answer)
        why = f": {on_one_line(after.gap_reason)}" if after.gap_reason else ""
        log(
            _logger,
            logging.WARNING if after.gap else logging.INFO,
            "%s: %s, %d endpoints in it%s",
            *(question, _GAPS[after.gap], len(told.endpoints), why),
        )
    if after.belief.disputed and not before.belief.disputed:
        log(
            _logger,
            logging.WARNING,
            "%s: %d endpoints came back soon after they had left: flapping pods, or DNS servers that "
            "contradict each other. They leave once nobody has named them for a minute",
            *(question, after.belief.disputed),
        )
    if after.state != before.state:
        if after.state == "fresh":
            log(
                _logger,
                logging.INFO,
                "%s: %s -> fresh, %d endpoints",
                question,
                before.state,
                count,
                state=after.state,
            )
        elif after.state == "empty" and may_be_empty and before.state == "starting":
            log(
                _logger,
                logging.INFO,
                "%s: starting -> empty, nobody is there yet",
                question,
                state=after.state,
            )
        else:
            if isinstance(told, Answer):
                why = "only IPv6 endpoints answer" if told.endpoints else "an empty answer"
            else:
                why = on_one_line(text_of(told))
            # A source that tells by itself is not asked.
            then = "" if math.isinf(after.wait) else f", asking again in {after.wait:.1f} s"
            log(
                _logger,
                logging.WARNING,
                "%s: %s -> %s, keeping %d endpoints%s: %s",
                *(question, before.state, after.state, count, then, why),
                state=after.state,
            )
    old, new = before.snapshot, after.snapshot
    if old is not None and new is not None and old is not new:
        lost, found = differing(old.endpoints, new.endpoints)
        log(
            _logger,
            logging.INFO,
            "%s: generation %d, %d endpoints, %d added, %d removed",
            *(question, new.generation, count, len(found), len(lost)),
        )
