"""
Owning keys: what a peer holds for a key, and how it hears that the key belongs to another pod.

Ownership is the snapshot's: ejections do not count. It is eventual, and no lock: for as long as news
takes, two pods may both hold a key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, final

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from knet.endpoint import Endpoint
from knet.errors import ConfigError, KeyMoved, NoEndpoints, RingClosed, RingMisused
from knet.hashring.placement import key_list
from knet.hosting import HostedTask, Interrupt, call_later
from knet.question import Question
from knet.ring.life import Life
from knet.snapshot import Snapshot

__all__ = ["Held", "Owning", "WhileMine", "own"]

T = TypeVar("T")

# So many snapshots of the past are kept, and for so many seconds.
MOST_REMEMBERED = 8
REMEMBERED = 60.0

# How many held keys are looked at together: about 0.2 ms, if all of them moved.
_PER_SLICE = 32


@final
class Owning:
    """
    The keys that are held of one ring, and who had them before.
    """

    __slots__ = (
        "_held",
        "_past",
        "_question",
        "_snapshot",
        "_telling",
        "_waiting",
        "has_let_go",
        "life",
    )

    def __init__(self, question: Question) -> None:
        self.life: Life
        self._question = question
        self._held: dict[int, Held] = {}
        self._snapshot: Snapshot | None = None
        # Those before, latest last, and when each of them ended.
        self._past: deque[tuple[float, Snapshot]] = deque(maxlen=MOST_REMEMBERED)
        # Tasks that tell who holds a key.
        self._telling: set[HostedTask] = set()
        # Who waits for another snapshot, or for nothing to be this pod's any more.
        self._waiting = anyio.Event()
        self.has_let_go = False

    def let_go(self) -> None:
        """
        Own nothing any more, and tell who holds something.
        """
        if self.has_let_go:
            return
        self.has_let_go = True
        self._wake()
        held = list(self._held.values())
        if held:
            self._tell_of(held, None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, anyio.Event()
        waiting.set()

    @property
    def news(self) -> anyio.Event:
        """
        What is set once another set of keys may be this pod's.
        """
        return self._waiting

    @property
    def is_over(self) -> bool:
        """
        Will nothing ever be this pod's again?
        """
        return self.has_let_go or self.life.has_ended

    def mine(self, keys: tuple[str | bytes, ...]) -> list[str | bytes]:
        """
        Return which of *keys* are this pod's.
        """
        snapshot = self._snapshot
        if self.is_over or snapshot is None:
            return []
        me = self.life.me_in(snapshot)
        if me is None:
            return []
        return [key for key, e in zip(keys, snapshot.get_many(keys), strict=True) if e is me]

    def follow(self, snapshot: Snapshot | None, *, here: bool, now: float) -> None:
        """
        Tell who holds a key that is not this pod's by *snapshot*; `None`: the ring has ended.
        """
        before, self._snapshot = self._snapshot, snapshot
        if before is not None and snapshot is not None:
            while self._past and now - self._past[0][0] > REMEMBERED:
                self._past.popleft()
            self._past.append((now, before))
        if snapshot is None:
            self._past.clear()
        if not here:
            return
        self._wake()
        if self._held:
            self._tell_of(list(self._held.values()), snapshot)

    def _tell_of(self, held: list[Held], snapshot: Snapshot | None) -> None:
        if len(held) <= _PER_SLICE:
            self._tell(held, snapshot)
        else:
            told = HostedTask(
                lambda: self._tell_all(held, snapshot),
                f"knet {self._question}: held keys",
                lambda: self._telling.discard(told),
            )
            self._telling.add(told)

    async def settle(self) -> None:
        """
        Wait until nobody is being told any more, after the ring's end.
        """
        for told in list(self._telling):
            await told.join()

    async def _tell_all(self, held: list[Held], snapshot: Snapshot | None) -> None:
        """
        Tell them in turns with the other tasks; each by the snapshot of the assignment, so that a key
        that comes back meanwhile is told all the same.
        """
        for first in range(0, len(held), _PER_SLICE):
            self._tell(held[first : first + _PER_SLICE], snapshot)
            await checkpoint()

    def _tell(self, held: list[Held], snapshot: Snapshot | None) -> None:
        me = None if snapshot is None else self.life.me_in(snapshot)
        for each in held:
            if not each.lost.is_set() and id(each) in self._held:
                owner = _owner(snapshot, each.key)
                if owner is None or owner is not me:
                    each.lose(owner, has_ended=snapshot is None and not self.has_let_go)

    def previous_owners(self, key: str | bytes, within: float, now: float) -> tuple[Endpoint, ...]:
        """
        Return who had *key* before who has it now, latest first.
        """
        owner = _owner(self._snapshot, key)
        found: dict[Endpoint, None] = {}
        for ended_at, snapshot in reversed(self._past):
            if now - ended_at > within:
                break
            before = _owner(snapshot, key)
            if before is not None and before != owner:
                found[before] = None
        return tuple(found)

    def hold(self, key: str | bytes) -> Held:
        """
        Return what holds *key*, if it is this pod's.
        """
        self._check(key)
        return Held(self, key)

    def enter(self, held: Held) -> None:
        self._check(held.key)
        self._held[id(held)] = held

    def leave(self, held: Held) -> None:
        self._held.pop(id(held), None)

    def _check(self, key: str | bytes) -> None:
        life = self.life
        life.check_me()
        life.check_running()
        life.check_thread()
        snapshot = self._snapshot
        owner = _owner(snapshot, key)
        if self.has_let_go:
            raise moved(key, None)
        if owner is None or snapshot is None or owner is not life.me_in(snapshot):
            raise moved(key, owner)


@final
class Held:
    """
    A key that this pod holds: what `Ring.hold` returns.

        with ring.hold(topic) as held:
            while not held.lost.is_set(): ...

    Attributes:
        key: Which.
        lost: An event that is set when the key moves away, or the ring ends.
        to: Who has it then, or `None`: nobody, or the ring has ended.
    """

    __slots__ = ("_has_ended", "_on_lost", "_owning", "key", "lost", "to")

    def __init__(self, owning: Owning, key: str | bytes) -> None:
        self.key = key
        self.lost = anyio.Event()
        self.to: Endpoint | None = None
        self._owning = owning
        self._has_ended = False
        self._on_lost: Callable[[], None] | None = None

    def lose(self, to: Endpoint | None, *, has_ended: bool) -> None:
        """
        Tell that the key has moved; for the ring.
        """
        self.to = to
        self._has_ended = has_ended
        self.lost.set()
        if self._on_lost is not None:
            self._on_lost()

    def when_lost(self, function: Callable[[], None] | None) -> None:
        """
        Have *function* called when it is lost.
        """
        self._on_lost = function

    def why(self) -> Exception:
        """
        Return the error of who goes on to hold it: `KeyMoved`, or `RingClosed`.
        """
        if self._has_ended:
            return RingClosed(f"{self._owning.life!r} ended while {_shown(self.key)} was held")
        return moved(self.key, self.to)

    async def wait_for(self, function: Callable[[], Awaitable[T]]) -> T:
        """
        Return what *function* returns, unless the key is lost first.

            async def events():
                with held:
                    while True:
                        yield await held.wait_for(queue.get)

        *function* is cancelled when the key is lost. Nothing is held across a `yield`.

        Raises:
            KeyMoved: The key was lost, before or meanwhile.
            RingClosed: The ring has ended.
        """
        if self.lost.is_set():
            raise self.why()
        result: list[T] = []
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                await self.lost.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(wait)
            try:
                result.append(await function())
            except Exception as error:  # noqa: BLE001 - raised below, without the group around it
                failure = error
            tasks.cancel_scope.cancel()
        if result:
            return result[0]
        if failure is not None:
            raise failure
        raise self.why()

    def __enter__(self) -> Self:
        self._owning.enter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._owning.leave(self)

    def __repr__(self) -> str:
        return f"<Held {_shown(self.key)}{' lost' if self.lost.is_set() else ''}>"


@final
class WhileMine:
    """
    A block that ends when its key moves away: what `Ring.while_mine` returns.
    """

    __slots__ = ("_call_off", "_grace", "_held", "_interrupt", "_key", "_owning")

    def __init__(self, owning: Owning, key: str | bytes, grace: float) -> None:
        if isinstance(grace, bool) or not isinstance(grace, int | float):
            raise TypeError(f"grace must be a number of seconds, not {type(grace).__name__}")
        if not grace >= 0:
            raise ConfigError(f"grace must be 0 or more, got {grace}")
        self._owning = owning
        self._key = key
        self._grace = grace
        self._held: Held | None = None
        self._interrupt: Interrupt | None = None
        self._call_off: Callable[[], object] | None = None

    async def __aenter__(self) -> Held:
        if self._held is not None:
            raise RingMisused(f"{self!r} was entered already")
        owning = self._owning
        await owning.life.first_snapshot()
        held = owning.hold(self._key)
        held.__enter__()
        self._held = held
        self._interrupt = Interrupt()
        held.when_lost(self._lost)
        return held

    def _lost(self) -> None:
        interrupt = self._interrupt
        assert interrupt is not None
        if self._grace:
            self._call_off = call_later(self._grace, interrupt.cancel)
        else:
            interrupt.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        held, interrupt = self._held, self._interrupt
        assert held is not None
        assert interrupt is not None
        held.when_lost(None)
        held.__exit__(kind, error, traceback)
        if self._call_off is not None:
            self._call_off()
        if not interrupt.is_here():
            raise RingMisused(
                f"{self!r} was left in another task than it was entered in: around a `yield` use ring.hold"
            )
        if interrupt.leave(kind, error, traceback):
            await checkpoint_if_cancelled()  # by a scope around it, which goes before
            raise held.why() from None
        if error is not None and held.lost.is_set() and isinstance(error, Exception):
            error.add_note(f"knet: {held.why()}")
        return False

    def __repr__(self) -> str:
        return f"<while {_shown(self._key)} is mine>"


async def own(
    owning: Owning,
    keys: Iterable[str | bytes],
    function: Callable[[Any, Held], Awaitable[object]],
    grace: float,
) -> None:
    """
    Run *function* for each of *keys* while it is this pod's; see `Ring.own`.
    """
    wanted = tuple(dict.fromkeys(key_list(keys)))
    WhileMine(owning, "", grace)  # for what it refuses
    await owning.life.first_snapshot()
    running: set[str | bytes] = set()
    failures: list[Exception] = []
    async with anyio.create_task_group() as tasks:

        async def work(key: str | bytes) -> None:
            try:
                async with WhileMine(owning, key, grace) as held:
                    await function(key, held)
                    await held.lost.wait()  # it is done, and not to be begun again
            except (KeyMoved, RingClosed):
                pass
            except Exception as error:  # noqa: BLE001 - raised below, without the group around it
                failures.append(error)
                tasks.cancel_scope.cancel()
            finally:
                running.discard(key)
                ended.set()

        while not owning.is_over:
            ended, news = anyio.Event(), owning.news
            for key in owning.mine(wanted):
                if key not in running:
                    running.add(key)
                    tasks.start_soon(work, key)
            await _first_of(news.wait, ended.wait)
    if failures:
        raise failures[0]


async def _first_of(*functions: Callable[[], Awaitable[object]]) -> None:
    """
    Wait until one of *functions* is done.
    """
    async with anyio.create_task_group() as tasks:

        async def wait(function: Callable[[], Awaitable[object]]) -> None:
            await function()
            tasks.cancel_scope.cancel()

        for function in functions:
            tasks.start_soon(wait, function)


def _owner(snapshot: Snapshot | None, key: str | bytes) -> Endpoint | None:
    if snapshot is None:
        return None
    try:
        return snapshot.get(key)
    except NoEndpoints:
        return None


def moved(key: str | bytes, to: Endpoint | None) -> KeyMoved:
    """
    Return the error of who wants to hold a key that belongs to another pod.
    """
    whose = "nobody" if to is None else f"{to.name} ({to})" if to.name != to.address else str(to)
    return KeyMoved(f"{_shown(key)} belongs to {whose}", key=key, to=to)


def _shown(key: str | bytes) -> str:
    text = repr(key)
    return text if len(text) <= 80 else f"{text[:77]}..."
