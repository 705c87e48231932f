"""
Serving requests: the awaiting half of `knet.routing`.

`Serving` is what a ring remembers of its own requests: what is in flight, who is ejected, and so where
picks go. It is written on the ring's event loop only; picks read it in any thread. `Attempts` tries one
request at one pod after the other, and `Acquired` holds one place at one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Never, Self, TypeVar, final

import anyio

from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints, RingMisused
from knet.hashring.placement import check_count
from knet.hosting import HostedTask, call_later, caller_here, clock_here
from knet.pods import spread_over_zones
from knet.question import Question
from knet.ring.detour import Detour
from knet.ring.life import Life
from knet.ring.words import log, on_one_line, shown_object, text_of
from knet.routing.budget import Budget
from knet.routing.counts import Counts
from knet.routing.ejection import EjectionPolicy, Ejections
from knet.routing.errors import Kind, is_about, kind_of, never_sent, unreachable
from knet.routing.load import Bound, Load, Room, bound_of
from knet.snapshot import Snapshot
from knet.turns import turns

__all__ = [
    "Acquired",
    "Attempts",
    "EjectOn",
    "Kept",
    "Options",
    "RetryOn",
    "Serving",
    "call",
    "first_picks",
]

_logger = logging.getLogger("knet")

S = TypeVar("S")
T = TypeVar("T")

EjectOn = Callable[[BaseException], int]
RetryOn = Callable[[BaseException], object] | type[BaseException] | tuple[type[BaseException], ...]


@final
class Serving:
    """
    What a ring remembers of its own requests.

    Args:
        question: What the ring is called in logs.
        policy: Who is ejected, and for how long.

    Attributes:
        picks: What picks read: the snapshot that stands, or a detour around who is ejected; `None`
            before the first one and after the end.
        load: What is in flight.
        ejections: Who is out.
        budget: What may be repeated.
        counts: What became of requests and keys so far.
        is_troubled: Something is held against somebody.
        clock: The event loop's, once there is a snapshot.
        soon: Has the event loop call a function, from any thread; once there is a snapshot.
    """

    __slots__ = (
        "_call_off",
        "_has_missed_zones",
        "_patching",
        "_question",
        "_snapshot",
        "budget",
        "clock",
        "counts",
        "ejections",
        "is_troubled",
        "load",
        "picks",
        "soon",
    )

    def __init__(self, question: Question, policy: EjectionPolicy) -> None:
        self.picks: Snapshot | Detour | None = None
        self.load = Load()
        self.ejections = Ejections(policy)
        self.budget = Budget()
        self.counts = Counts()
        self.is_troubled = False
        self.clock: Callable[[], float] = lambda: -math.inf
        self.soon: Callable[[Callable[[], object]], object] = lambda function: function()
        self._question = question
        self._has_missed_zones = False
        self._snapshot: Snapshot | None = None
        self._call_off: Callable[[], object] | None = None
        self._patching: HostedTask | None = None

    def follow(self, snapshot: Snapshot | None, *, here: bool) -> None:
        """
        Pick from *snapshot* from now on; `None`: from nobody, the ring has ended.

        Args:
            snapshot: What stands.
            here: This is the ring's event loop.
        """
        self._snapshot = snapshot
        if snapshot is None:
            self.picks = None
            if here:
                self._forget_timer()
            return
        if self.clock() == -math.inf:
            self.clock = clock_here()
            self.soon = caller_here()
        if self.is_troubled:
            self.ejections.follow(snapshot.endpoints, self.clock())
            self.budget.keep(self.ejections.knows)
            self.update()
        else:
            self.ejections.follow(snapshot.endpoints, 0.0)
            self.picks = snapshot

    def spread(self, picks: Snapshot | Detour, key: str | bytes, n: int) -> tuple[Endpoint, ...]:
        """
        Return *n* endpoints for *key*, one of each zone first, and who is out last.
        """
        if isinstance(picks, Detour):
            snapshot, out = picks.snapshot, picks.out
        else:
            snapshot, out = picks, ()
        zones = snapshot.zones
        if zones == {None} and not self._has_missed_zones:
            self._has_missed_zones = True
            log(
                _logger,
                logging.WARNING,
                "%s: asked for endpoints of different zones, and knows the zone of none: DNS does not tell them",
                self._question,
            )
        return spread_over_zones(picks.walk(key), n, len(zones), out)

    def update(self) -> None:
        """
        Pick by who is out now, and see again when the next ejection is over.
        """
        snapshot = self._snapshot
        self._forget_timer()
        if snapshot is None:
            return
        now = self.clock()
        out = self.ejections.out(now)
        if not out:
            self.picks = snapshot
            return
        self.picks = Detour(snapshot, out)
        end = self.ejections.next_end(now)
        if end is not None:
            self._call_off = call_later(end - now, self.update)
        if self._patching is None and snapshot.shift:
            self._patching = HostedTask(
                self._patch, f"knet {self._question}: detour", self._patched
            )

    async def _patch(self) -> None:
        """
        Make tables for as long as picks walk around somebody; one that is late is dropped.
        """
        while isinstance(detour := self.picks, Detour) and not detour.shift:
            steps = detour.skipping()
            table = None if steps is None else await turns.take(steps)
            if self.picks is not detour:
                continue
            if table is None:
                return
            detour.settle(table)

    def _patched(self) -> None:
        self._patching = None

    async def settle(self) -> None:
        """
        Wait until nothing of it is running, after the ring's end.
        """
        if self._patching is not None:
            await self._patching.join()

    def _forget_timer(self) -> None:
        if self._call_off is not None:
            self._call_off()
            self._call_off = None

    def eject(self, endpoint: Endpoint, seconds: float | None) -> bool:
        """
        Eject somebody by hand.
        """
        is_out = self.ejections.eject(endpoint, seconds, self.clock())
        self.is_troubled = True
        if is_out:
            self.counts.ejections += 1
            self._tell(endpoint, "by hand")
            self.update()
        return is_out

    def restore(self, endpoint: Endpoint) -> None:
        """
        Hold nothing against somebody any more.
        """
        if self.ejections.restore(endpoint):
            self.update()

    def fail(self, endpoint: Endpoint, error: BaseException, grade: int, began_at: float) -> None:
        """
        Note that an exchange has failed.
        """
        self.is_troubled = True
        if self.ejections.fail(endpoint, grade, began_at, self.clock()):
            self.counts.ejections += 1
            self._tell(endpoint, on_one_line(f"{type(error).__name__}: {text_of(error)}"))
            self.update()

    def succeed(self, endpoint: Endpoint, began_at: float) -> None:
        """
        Note that an exchange has succeeded.
        """
        self.budget.succeed(endpoint, began_at)
        if self.ejections.succeed(endpoint, began_at):
            self.update()
        self.is_troubled = bool(self.ejections or self.budget)

    def _tell(self, endpoint: Endpoint, why: str) -> None:
        left = self.ejections.out(self.clock()).get(endpoint, 0.0)
        log(
            _logger,
            logging.WARNING,
            "%s: ejected %s for %.3g s: %s",
            *(self._question, endpoint, left, why),
        )


@dataclass(frozen=True, slots=True)
class Options:
    """
    How a request is tried; see `Ring.call`.

    Raises:
        ConfigError: A value is out of range.
        TypeError: A value has the wrong type.
    """

    n: int
    bound: Bound | None
    retry_on: Callable[[BaseException], object]
    eject_on: EjectOn
    total: float | None

    @classmethod
    def checked(
        cls,
        n: int,
        bound: float | Bound | None,
        retry_on: RetryOn,
        eject_on: EjectOn,
        total: float | None,
    ) -> Options:
        """
        Return what a caller gave; for the defaults always the same.
        """
        if retry_on is never_sent and eject_on is unreachable and n == 3 and total is bound is None:
            return USUAL
        if n.__class__ is not int or n < 1:
            check_count(n, "n")
        if not callable(eject_on):
            raise TypeError(f"eject_on must be a function, not {type(eject_on).__name__}")
        if total is not None:
            if isinstance(total, bool) or not isinstance(total, int | float):
                raise TypeError(
                    f"total must be a number of seconds or None, not {type(total).__name__}"
                )
            if not total > 0:
                raise ConfigError(f"total must be above 0, got {total}")
        return cls(n, bound_of(bound), _predicate(retry_on), eject_on, total)


USUAL = Options(3, None, never_sent, unreachable, None)


@final
class Attempts:
    """
    One request, tried at one pod after the other: what `Ring.attempts` returns.
    """

    # Most requests have one round, and most of this stays as it is.
    _picks: Snapshot | Detour | None = None
    _pods: Sequence[Endpoint] = ()
    _has_all = False
    _at = 0
    _deadline = math.inf
    _pod: Endpoint | None = None
    _began_at = 0.0
    _errors: Sequence[tuple[Endpoint, BaseException]] = ()
    _is_trial = False
    _is_repeated = False
    _is_free = True
    _is_offered = False
    _has_ended = False
    _next: tuple[BaseException, bool] | None = None
    _kept: Kept | None = None
    _scope: anyio.CancelScope | None = None

    def __init__(self, life: Life, serving: Serving, key: str | bytes, options: Options) -> None:
        self._life = life
        self._serving = serving
        self._key = key
        self._options = options

    @classmethod
    def part(
        cls,
        life: Life,
        serving: Serving,
        key: str | bytes,
        options: Options,
        *,
        picks: Snapshot | Detour,
        pods: Sequence[Endpoint],
        before: Attempts | None,
    ) -> Attempts:
        """
        Return one round at the first of *pods*, with the others left; *before* it, others have failed.

        *options* have no `total`: that is whoever's who has the other parts too.
        """
        tries = cls(life, serving, key, options)
        tries._picks, tries._pods, tries._has_all = picks, pods, True
        if before is not None:
            tries._errors, tries._is_free = before._errors, before._is_free
        return tries

    @property
    def last(self) -> bool:
        """
        No pod is left after the one of this round.
        """
        return self._picks is not None and self._at >= len(self._all())

    def next(self, error: BaseException, *, eject: bool = False) -> Never:
        """
        Go on with the next pod, as if *error* had been raised and accepted.

        For an answer that says no: `tries.next(Busy(response.status), eject=False)`. In the last round
        *error* leaves.

        Args:
            error: What is raised where no pod is left.
            eject: Whether the pod is ejected.
        """
        self.accept(error, eject=eject)
        raise error

    def accept(self, error: BaseException, *, eject: bool = False) -> None:
        """
        Take *error*, which is about to leave this round, as accepted: `next` without raising it.
        """
        if self._pod is None:
            raise RingMisused("next() belongs inside of a round")
        self._next = error, eject

    def succeeded(self) -> None:
        """
        Say that the pod of this round is well, before the round ends: at the head of a long answer.
        """
        if self._pod is None:
            raise RingMisused("succeeded() belongs inside of a round")
        self._serving.succeed(self._pod, self._began_at)
        if self._is_trial:
            self._is_trial = False
            self._serving.ejections.end_trial(self._pod, self._began_at)

    def keep(self) -> Kept:
        """
        Keep the place of this round beyond its block, for an answer that is read later.

            async def ask() -> tuple[Answer, knet.Kept]:
                while True:
                    async with tries as pod:
                        return await begin(pod), tries.keep()

            answer, kept = await ask()
            ...
            kept.end()

        No other pod is asked any more, and `total` ends with the block. Whether the pod is well is known at
        the end; if it was on trial, the beginning of an answer is enough.
        """
        if self._pod is None:
            raise RingMisused("keep() belongs inside of a round")
        if self._kept is None:
            if self._is_trial:
                self.succeeded()
            self._kept = Kept(
                self._serving,
                self._pod,
                self._began_at,
                self._options.eject_on,
                is_repeated=self._is_repeated,
            )
            self._is_repeated = False
        return self._kept

    # --- as `async with`, one round each

    async def __aenter__(self) -> Endpoint:
        if self._picks is None:
            await self._ready()
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self.__exit__(kind, error, traceback)

    # --- as a loop of rounds

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Self:
        if self._pod is not None:
            raise RingMisused("the round before has not ended")
        if self._is_offered:  # and was not taken
            self._at += 1
        if self._has_ended or self.last:
            raise StopAsyncIteration
        if self._picks is None:
            await self._ready()
        self._is_offered = True
        return self

    def __enter__(self) -> Endpoint:
        if self._pod is not None:
            raise RingMisused("this round was entered already")
        at = self._at
        if self._has_ended or self._picks is None or (at and at >= len(self._all())):
            raise RingMisused(
                "this request has ended: leave the loop after a round that succeeded, and make new attempts "
                "for another request"
            )
        serving, options = self._serving, self._options
        if options.bound is not None and at:
            self._prefer_room(options.bound)
        if options.total is not None:
            self._scope = anyio.CancelScope(deadline=self._deadline)
            self._scope.__enter__()
        self._is_offered = False
        self._at = at + 1
        self._pod = pod = self._pods[at]
        self._began_at = now = serving.clock()
        serving.load.begin(pod)
        serving.counts.attempts += 1
        if serving.is_troubled:
            self._is_trial = serving.ejections.begin(pod, now)
        if not self._is_free:
            serving.budget.repeating += 1
            self._is_repeated = True
        return pod

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        pod, serving = self._pod, self._serving
        assert pod is not None
        self._pod = None
        kept, self._kept = self._kept, None
        if kept is None:
            serving.load.end(pod)
        elif error is not None:
            kept.forget()
        if self._is_trial or self._is_repeated:
            self._give_back(pod)
        if self._scope is not None:
            scope, self._scope = self._scope, None
            if scope.__exit__(kind, error, traceback) and error is not None:
                self._has_ended = True
                serving.counts.fail("late")
                late = TimeoutError(
                    f"not served within {self._options.total:g} s; the last pod asked was {pod}"
                )
                raise self._with_notes(late) from None
        forced, self._next = self._next, None
        if error is None:
            self._has_ended = True
            if serving.is_troubled and kept is None:
                serving.succeed(pod, self._began_at)
            return False
        self._has_ended = True
        if not isinstance(error, Exception):
            return False
        why: Kind
        if forced is not None and forced[0] is error:
            accepted, grade, why = True, int(forced[1]), kind_of(error)
            why = "told" if why == "other" else why
        elif is_about(error, pod):
            options = self._options
            accepted, grade = bool(options.retry_on(error)), int(options.eject_on(error))
            why = kind_of(error)
        else:
            accepted, grade, why = False, 0, "other"
        serving.counts.fail(why)
        if grade:
            serving.fail(pod, error, grade, self._began_at)
        if accepted and kept is None:
            self._life.ask_soon()
            now = serving.clock()
            if (
                self._at < len(self._all())
                and now < self._deadline
                and self._may_go_on(pod, error, now)
            ):
                serving.counts.fail_over(why)
                self._errors = (*self._errors, (pod, error))
                self._has_ended = False
                return True
        self._with_notes(error)
        return False

    async def _ready(self) -> None:
        """
        Choose the pods, once: those of one snapshot, who are ejected last.
        """
        life, serving = self._life, self._serving
        picks = serving.picks or await first_picks(life, serving)
        life.check_thread()
        if self._options.total is not None:
            self._deadline = serving.clock() + self._options.total
        try:
            if self._options.bound is not None or (
                serving.is_troubled and serving.ejections.has_trials
            ):
                self._pods = self._preferred(picks)
                self._has_all = True
            else:
                self._pods = (picks.get(self._key),)
        except NoEndpoints:
            raise life.no_endpoints() from None
        self._picks = picks

    def _all(self) -> Sequence[Endpoint]:
        """
        Return all pods of this request, which the first round has fixed.
        """
        if not self._has_all:
            assert self._picks is not None
            self._pods = self._picks.get_n(self._key, self._options.n)
            self._has_all = True
        return self._pods

    def _preferred(self, picks: Snapshot | Detour) -> list[Endpoint]:
        """
        Return the pods to try: who is well and has room, who has none, and who is out or on trial.
        """
        ejections, now = self._serving.ejections, self._serving.clock()
        n, bound = self._options.n, self._options.bound
        room = None if bound is None else room_of(self._serving, bound, picks)
        ranks: tuple[list[Endpoint], list[Endpoint], list[Endpoint]] = ([], [], [])
        for pod in picks.walk(self._key):
            if ejections.is_spared(pod, now):
                ranks[2].append(pod)
            elif room is not None and not room.has(pod):
                ranks[1].append(pod)
            else:
                ranks[0].append(pod)
                if len(ranks[0]) == n:
                    break
        return [pod for rank in ranks for pod in rank][:n]

    def _prefer_room(self, bound: Bound) -> None:
        """
        Ask the next pod that has room now, of those who are left.
        """
        assert self._picks is not None
        room = room_of(self._serving, bound, self._picks)
        pods, at = list(self._pods), self._at
        free = next((i for i in range(at, len(pods)) if room.has(pods[i])), at)
        pods.insert(at, pods.pop(free))
        self._pods = pods

    def _give_back(self, pod: Endpoint) -> None:
        serving = self._serving
        if self._is_trial:
            self._is_trial = False
            serving.ejections.end_trial(pod, self._began_at)
        if self._is_repeated:
            self._is_repeated = False
            serving.budget.repeating -= 1

    def _may_go_on(self, pod: Endpoint, error: BaseException, now: float) -> bool:
        """
        Does the budget allow another round? What was never sent takes nothing from it.
        """
        budget = self._serving.budget
        self._is_free = never_sent(error)
        if not self._is_free:
            self._is_free = budget.is_free(pod, self._began_at, now)
            self._serving.is_troubled = True
        return self._is_free or budget.has_room(self._serving.load.total + 1)

    def _with_notes(self, error: BaseException) -> BaseException:
        for pod, earlier in self._errors:
            error.add_note(f"knet: {pod} before that: {shown_object(earlier)}")
        return error

    def __repr__(self) -> str:
        where = f" at {self._pod}" if self._pod is not None else ""
        return f"<Attempts of {self._key!r}, round {self._at} of {self._options.n}{where}>"


@final
class Kept:
    """
    A place that lasts beyond its round, until its `end`: what `Attempts.keep` returns.

    One that is forgotten ends when it is collected.

    Attributes:
        then: Called once it has ended, with how much its error speaks against the pod; `None`: nobody.
    """

    __slots__ = (
        "__weakref__",
        "_began_at",
        "_eject_on",
        "_is_repeated",
        "_pod",
        "_serving",
        "then",
    )

    def __init__(
        self,
        serving: Serving,
        pod: Endpoint,
        began_at: float,
        eject_on: EjectOn,
        *,
        is_repeated: bool,
    ) -> None:
        self._serving: Serving | None = serving
        self._pod = pod
        self._began_at = began_at
        self._eject_on = eject_on
        self._is_repeated = is_repeated
        self.then: Callable[[int], None] | None = None

    def end(self, error: BaseException | None = None) -> None:
        """
        Give the place back; a second time does nothing.

        Args:
            error: What broke the answer; it speaks against the pod as it would in the round.
        """
        serving = self._give_back()
        if serving is None:
            return
        grade = 0
        try:
            if isinstance(error, Exception) and is_about(error, self._pod):
                serving.counts.fail(kind_of(error))
                grade = int(self._eject_on(error))
        finally:
            self._tell(grade)
        if error is None:
            if serving.is_troubled:
                serving.succeed(self._pod, self._began_at)
        elif grade:
            serving.fail(self._pod, error, grade, self._began_at)

    def _give_back(self) -> Serving | None:
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.load.end(self._pod)
            if self._is_repeated:
                serving.budget.repeating -= 1
        return serving

    def _tell(self, grade: int) -> None:
        then, self.then = self.then, None
        if then is not None:
            then(grade)

    def forget(self) -> None:
        """
        Give the place back, and say nothing of how it went.
        """
        if self._give_back() is not None:
            self._tell(0)

    def __del__(self) -> None:
        serving = getattr(self, "_serving", None)
        if serving is not None:
            with suppress(RuntimeError):  # the event loop has ended
                serving.soon(self.forget)

    def __repr__(self) -> str:
        return f"<Kept at {self._pod}{'' if self._serving is not None else ', ended'}>"


async def call(
    attempts: AbstractAsyncContextManager[S, bool], function: Callable[[S], Awaitable[T]]
) -> T:
    """
    Return what *function* returns in the first round that serves it, of a pod or its client.
    """
    while True:
        async with attempts as given:
            return await function(given)


@final
class Acquired:
    """
    A place at a pod, for as long as the block lasts: what `Ring.acquire` returns.
    """

    __slots__ = ("_bound", "_key", "_life", "_pod", "_serving")

    def __init__(
        self, life: Life, serving: Serving, key: str | bytes, bound: float | Bound | None
    ) -> None:
        self._life = life
        self._serving = serving
        self._key = key
        self._bound = bound_of(bound)
        self._pod: Endpoint | None = None

    async def __aenter__(self) -> Endpoint:
        if self._pod is not None:
            raise RingMisused("this place is taken already: acquire another one")
        life, serving = self._life, self._serving
        picks = serving.picks or await first_picks(life, serving)
        life.check_thread()
        try:
            pod = picks.get(self._key)
        except NoEndpoints:
            raise life.no_endpoints() from None
        bound = self._bound
        if bound is not None and not serving.load.is_below(pod, bound.slack):
            room = room_of(serving, bound, picks)
            if not room.has(pod):
                pod = room.first(picks.walk(self._key)) or pod
        serving.load.begin(pod)
        self._pod = pod
        return pod

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pod, self._pod = self._pod, None
        assert pod is not None
        self._serving.load.end(pod)

    def __repr__(self) -> str:
        return f"<Acquired for {self._key!r}{f' at {self._pod}' if self._pod else ''}>"


async def first_picks(life: Life, serving: Serving) -> Snapshot | Detour:
    """
    Return what picks read, once there is something.
    """
    snapshot = await life.first_snapshot()
    return serving.picks or snapshot


def room_of(serving: Serving, bound: Bound, picks: Snapshot | Detour) -> Room:
    """
    Return who of *picks* may take one more now.
    """
    if isinstance(picks, Detour):
        return serving.load.room(bound, picks.snapshot.endpoints, picks.out)
    return serving.load.room(bound, picks.endpoints, ())


def _predicate(retry_on: RetryOn) -> Callable[[BaseException], object]:
    """
    Return what says whether another pod may be asked.
    """
    if callable(retry_on) and not isinstance(retry_on, type):
        return retry_on
    kinds: tuple[Any, ...] = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(
                "retry_on must be a function of an error, a type of exceptions, or several of them, "
                f"not {kind!r}"
            )
    return lambda error: isinstance(error, kinds)
