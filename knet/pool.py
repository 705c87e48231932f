"""
One client for each endpoint: opened when it is first asked for, closed when its pod has left.

A client is opened and closed in one task of its own, which the pool hosts. So it may hold task groups and
scopes, it is opened once however many ask for it at the same time, and who asked first may be cancelled
without harm to the others. It is closed once its endpoint has left the ring and its last user is done,
or when the pool closes.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Generic, Never, Self, TypeVar, final, overload

import anyio

from knet.endpoint import Endpoint
from knet.errors import RingClosed, RingMisused
from knet.hosting import HostedTask, is_cancelled
from knet.pods import Identity, identity
from knet.promise import Promise
from knet.ring import Ring
from knet.ring.serving import Attempts, EjectOn, Kept, RetryOn, call
from knet.ring.words import log, on_one_line, shown_object, text_of
from knet.routing.errors import may_repeat, never_sent, unreachable
from knet.routing.load import Bound

__all__ = ["Pool", "PooledAttempts"]

_logger = logging.getLogger("knet")

C = TypeVar("C")
T = TypeVar("T")

# The pools of which this task holds a client.
_holding: ContextVar[tuple[int, ...]] = ContextVar("knet_pools", default=())


@final
class Pool(Generic[C]):
    """
    A client for each endpoint of a ring.

        def connect(pod: knet.Endpoint) -> Redis:
            return Redis(host=pod.address, port=pod.port, retry=Retry(NoBackoff(), 0))

        async with knet.Pool(ring, connect) as pool:
            value = await pool.call("user-42", lambda client: client.get("user-42"))

    A client is used by many tasks at once, and must stand their cancellation. A client of a pod that came
    back at another address is another client. One whose `open` fails has sent nothing, so another pod is
    asked, and the pod is ejected.

    Args:
        ring: Where its endpoints come from; it must run.
        open: Given an endpoint; gives a client, an awaitable of one, or an async context manager of one.
            What can be awaited is awaited.
        close: Closes what `open` gave, awaited if need be; `None`: its `aclose`, else its `close`. A context
            manager closes itself.
        usable: Whether a client may be handed out once more; one that may not is replaced.
    """

    __slots__ = (
        "__weakref__",
        "_close",
        "_entries",
        "_has_ended",
        "_leaving",
        "_open",
        "_ring",
        "_usable",
        "_watching",
    )

    @overload
    def __init__(
        self,
        ring: Ring,
        open: Callable[[Endpoint], AbstractAsyncContextManager[C]],
        close: Callable[[C], object] | None = None,
        *,
        usable: Callable[[C], bool] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        ring: Ring,
        open: Callable[[Endpoint], Awaitable[C]],
        close: Callable[[C], object] | None = None,
        *,
        usable: Callable[[C], bool] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        ring: Ring,
        open: Callable[[Endpoint], C],
        close: Callable[[C], object] | None = None,
        *,
        usable: Callable[[C], bool] | None = None,
    ) -> None: ...

    def __init__(
        self,
        ring: Ring,
        open: Callable[[Endpoint], Any],
        close: Callable[[C], object] | None = None,
        *,
        usable: Callable[[C], bool] | None = None,
    ) -> None:
        if not isinstance(ring, Ring):
            raise TypeError(f"a pool is of a Ring, not of a {type(ring).__name__}")
        for name, given in (("open", open), ("close", close), ("usable", usable)):
            is_optional = name != "open"
            if not (callable(given) or (is_optional and given is None)):
                raise TypeError(f"{name} must be a function, not {type(given).__name__}")
        self._ring = ring
        self._open = open
        self._close = close
        self._usable = usable
        self._entries: dict[Identity, _Entry[C]] = {}
        # Those that are not handed out any more, and are in use or being closed.
        self._leaving: set[_Entry[C]] = set()
        self._watching: HostedTask | None = None
        self._has_ended = False

    # --- its life

    async def __aenter__(self) -> Self:
        if self._watching is not None or self._has_ended:
            raise RingMisused(f"{self!r} was entered already; each pool lives once")
        changes = self._ring.changes()

        async def watch() -> None:
            async for change in changes:
                there = {identity(e) for e in change.after.endpoints}
                for pod in [pod for pod in self._entries if pod not in there]:
                    self.let_go(self._entries[pod])

        self._watching = HostedTask(watch, f"knet pool of {self._ring!r}", lambda: None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        Close all clients, also those in use, and wait until nothing of them is left.

        Raises:
            RingMisused: This task holds a client of this pool, which would wait for itself.
        """
        if id(self) in _holding.get():
            raise RingMisused(f"{self!r} cannot be closed by who holds one of its clients")
        self._has_ended = True
        for entry in list(self._entries.values()):
            self.let_go(entry)
        leaving = list(self._leaving)
        for entry in leaving:
            entry.end()
        if self._watching is not None:
            self._watching.cancel()
            await self._watching.join()
        for entry in leaving:
            await entry.task.join()

    # --- clients

    def client(self, key_or_endpoint: str | bytes | Endpoint) -> Borrowed[C]:
        """
        Use the client of a key's pod, or of an endpoint, for as long as a block lasts.

            async with pool.client("user-42") as client: ...

        Raises:
            RingClosed: The pool is closed.
            RingMisused: The pool was not entered.
        """
        return Borrowed(self, key_or_endpoint)

    async def call(
        self,
        key: str | bytes,
        function: Callable[[C], Awaitable[T]],
        *,
        n: int = 3,
        bound: float | Bound | None = None,
        retry_on: RetryOn = never_sent,
        eject_on: EjectOn = unreachable,
        total: float | None = None,
    ) -> T:
        """
        Return what *function* returns with the client of the key's pod; as `Ring.call` does otherwise.
        """
        tries = self.attempts(
            key, n=n, bound=bound, retry_on=retry_on, eject_on=eject_on, total=total
        )
        return await call(tries, function)

    def attempts(
        self,
        key: str | bytes,
        *,
        n: int = 3,
        bound: float | Bound | None = None,
        retry_on: RetryOn = never_sent,
        eject_on: EjectOn = unreachable,
        total: float | None = None,
    ) -> PooledAttempts[C]:
        """
        Return rounds as `Ring.attempts` does, each with a client.

            tries = pool.attempts("user-42")
            while True:
                async with tries as client:
                    return await client.get("user-42")
        """
        rounds = self._ring.attempts(
            key, n=n, bound=bound, retry_on=retry_on, eject_on=eject_on, total=total
        )
        return PooledAttempts(self, rounds, eject_on)

    async def take(self, endpoint: Endpoint) -> _Entry[C]:
        """
        Return the entry of *endpoint* with its client open, and one user more; for the pool's own.
        """
        while True:
            if self._has_ended:
                raise RingClosed(f"{self!r} was closed")
            if self._watching is None:
                raise RingMisused(f"{self!r} was not entered: use `async with pool:`")
            entry = self._entries.get(identity(endpoint))
            if entry is None:
                entry = _Entry(endpoint, self._open, self._close, self.forget)
                self._entries[identity(endpoint)] = entry
            entry.users += 1
            try:
                client = await entry.opened.wait()
                if self._usable is None or self._usable(client):
                    return entry
            except BaseException:
                self.give_back(entry)
                raise
            # It is replaced, and closed once nobody uses it.
            self.let_go(entry)
            self.give_back(entry)

    def give_back(self, entry: _Entry[C], *, replace: bool = False) -> None:
        """
        Count one user less; *replace*: nobody is to use this client any more.
        """
        entry.users -= 1
        if replace:
            self.let_go(entry)
        if not entry.users and entry in self._leaving:
            entry.end()

    def forget(self, entry: _Entry[C]) -> None:
        """
        Hand it out no more: its task has ended.
        """
        if self._entries.get(identity(entry.endpoint)) is entry:
            del self._entries[identity(entry.endpoint)]
        self._leaving.discard(entry)

    def let_go(self, entry: _Entry[C]) -> None:
        """
        Hand it out no more, and close it once nobody uses it.
        """
        if self._entries.get(identity(entry.endpoint)) is entry:
            del self._entries[identity(entry.endpoint)]
            self._leaving.add(entry)
            if not entry.users:
                entry.end()

    async def endpoint_of(self, key_or_endpoint: str | bytes | Endpoint) -> Endpoint:
        """
        Return whose client is meant.
        """
        if isinstance(key_or_endpoint, Endpoint):
            return key_or_endpoint
        return await self._ring.get(key_or_endpoint)

    def __len__(self) -> int:
        """
        How many clients are open or being opened, and handed out.
        """
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Pool of {self._ring!r} clients={len(self._entries)}>"


@final
class _Entry(Generic[C]):
    """
    A client, from its opening to its end, in a task of its own.

    Attributes:
        endpoint: Whose.
        users: How many hold it, or wait for it to be open.
        opened: The client, once it is open.
        task: In which it lives.
    """

    __slots__ = (
        "_close",
        "_done",
        "_forget",
        "_open",
        "endpoint",
        "opened",
        "task",
        "users",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        open: Callable[[Endpoint], Any],
        close: Callable[[C], object] | None,
        forget: Callable[[_Entry[C]], None],
    ) -> None:
        self.endpoint = endpoint
        self.users = 0
        self.opened: Promise[C] = Promise()
        self._open = open
        self._close = close
        self._forget = forget
        self._done = anyio.Event()
        self.task = HostedTask(self._live, f"knet client of {endpoint}", self._ended)

    def end(self) -> None:
        """
        Close the client; an opening that has not ended is cancelled.
        """
        self._done.set()
        if not self.opened.is_known:
            self.task.cancel()

    async def _live(self) -> None:
        try:
            await self._open_and_close()
        except Exception as error:  # noqa: BLE001 - of a user's client
            if not self.opened.is_known:
                self.opened.fail(error)
            else:
                log(
                    _logger,
                    logging.WARNING,
                    "the client of %s ended with %s",
                    *(self.endpoint, on_one_line(f"{type(error).__name__}: {text_of(error)}")),
                )
        finally:
            self._forget(self)

    async def _open_and_close(self) -> None:
        made = self._open(self.endpoint)
        if not inspect.isawaitable(made) and isinstance(made, AbstractAsyncContextManager):
            async with made as client:
                self.opened.keep(client)
                await self._done.wait()
            return
        client = await made if inspect.isawaitable(made) else made
        self.opened.keep(client)
        await self._done.wait()
        close = self._close
        if close is None:
            own = getattr(client, "aclose", None) or getattr(client, "close", None)
            closed = own() if callable(own) else None
        else:
            closed = close(client)
        if inspect.isawaitable(closed):
            await closed

    def _ended(self) -> None:
        self.opened.fail(RingClosed(f"the client of {self.endpoint} was closed"))

    def __repr__(self) -> str:
        return f"<client of {self.endpoint}, {self.users} users>"


@final
class Borrowed(Generic[C]):
    """
    A client, for as long as a block lasts: what `Pool.client` returns.
    """

    __slots__ = ("_entry", "_for", "_pool", "_token")

    def __init__(self, pool: Pool[C], key_or_endpoint: str | bytes | Endpoint) -> None:
        self._pool = pool
        self._for = key_or_endpoint
        self._entry: _Entry[C] | None = None
        self._token: Token[tuple[int, ...]] | None = None

    async def __aenter__(self) -> C:
        if self._entry is not None:
            raise RingMisused("this client is in use already: ask for another one")
        entry = await self._pool.take(await self._pool.endpoint_of(self._for))
        self._entry = entry
        self._token = _holding.set((*_holding.get(), id(self._pool)))
        return entry.opened.result()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entry, self._entry = self._entry, None
        assert entry is not None
        _leave(self._token)
        self._pool.give_back(
            entry, replace=isinstance(error, Exception) and bool(unreachable(error))
        )

    def __repr__(self) -> str:
        return f"<client for {shown_object(self._for)}>"


@final
class PooledAttempts(Generic[C]):
    """
    One request, tried with one client after the other: what `Pool.attempts` returns.
    """

    __slots__ = ("_eject_on", "_entry", "_is_kept", "_pool", "_rounds", "_token")

    def __init__(self, pool: Pool[C], rounds: Attempts, eject_on: EjectOn) -> None:
        self._pool = pool
        self._rounds = rounds
        self._eject_on = eject_on
        self._entry: _Entry[C] | None = None
        self._is_kept = False
        self._token: Token[tuple[int, ...]] | None = None

    @property
    def last(self) -> bool:
        """
        No pod is left after the one of this round.
        """
        return self._rounds.last

    @property
    def pod(self) -> Endpoint | None:
        """
        Whose client this round has.
        """
        return None if self._entry is None else self._entry.endpoint

    @property
    def users(self) -> int:
        """
        How many use the client of this round, this one included.
        """
        return 0 if self._entry is None else self._entry.users

    def next(self, error: BaseException, *, eject: bool = False) -> Never:
        """
        As `Attempts.next`.
        """
        self._rounds.next(error, eject=eject)

    def accept(self, error: BaseException, *, eject: bool = False) -> None:
        """
        As `Attempts.accept`.
        """
        self._rounds.accept(error, eject=eject)

    def succeeded(self) -> None:
        """
        As `Attempts.succeeded`.
        """
        self._rounds.succeeded()

    def keep(self) -> Kept:
        """
        As `Attempts.keep`: the client stays open with the place, unless the pool closes.
        """
        entry, pool = self._entry, self._pool
        kept = self._rounds.keep()
        if entry is not None and not self._is_kept:
            self._is_kept = True
            kept.then = lambda grade: pool.give_back(entry, replace=bool(grade))
        return kept

    async def __aenter__(self) -> C:
        while True:
            pod = await self._rounds.__aenter__()
            try:
                entry = await self._pool.take(pod)
            except BaseException as error:
                # Nothing of the request was sent.
                if isinstance(error, Exception) and may_repeat(error) and not is_cancelled():
                    self._rounds.accept(error, eject=True)
                if not await self._rounds.__aexit__(type(error), error, error.__traceback__):
                    raise
                continue
            self._entry = entry
            self._token = _holding.set((*_holding.get(), id(self._pool)))
            return entry.opened.result()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        entry, self._entry = self._entry, None
        assert entry is not None
        _leave(self._token)
        is_kept, self._is_kept = self._is_kept, False
        try:
            broken = isinstance(error, Exception) and bool(self._eject_on(error))
        finally:
            if not is_kept:
                self._pool.give_back(entry)
        if broken:
            self._pool.let_go(entry)
        return await self._rounds.__aexit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<Pooled {self._rounds!r}>"


def _leave(token: Token[tuple[int, ...]] | None) -> None:
    if token is not None:
        with suppress(ValueError):  # it is left in another task than it was entered in
            _holding.reset(token)
