"""
`Ring`: the door to the pods behind a service.

Everything that a caller can ask of a ring is here, with what it promises. The life that keeps it
fresh is in `life`, what it knows in `standing`; picks read the snapshot that stands.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, NoReturn, Self, final, get_args

import anyio
from anyio.abc import TaskStatus

from knet.belief import RefreshPolicy, State
from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints, RingClosed, RingNotReady
from knet.hashring import HashRing, Placement
from knet.hashring.base import check_placement, needs_ports
from knet.hashring.hashing import xxh64
from knet.hosting import HostedTask, note_open
from knet.promise import Promise
from knet.question import Family, Protocol, Question, shown
from knet.resolver import Resolver, StaticResolver
from knet.ring.life import Life
from knet.ring.standing import RingStats
from knet.routing.ownership import Me, Myself
from knet.snapshot import Change, Snapshot
from knet.sources import Asked, ResolverProtocol, asking

__all__ = ["Ring"]


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
        resolver: A `Resolver`, a `StaticResolver` or anything with `async def resolve`: see
            `ResolverProtocol` and `Asked`. `None`: `Resolver()`.
        refresh: When to ask, and what to believe.
        start_timeout: Seconds that entering waits for the first answer.
        require_endpoints: Whether entering waits for a pod. If not, an answer that none is there is
            enough; picks raise `NoEndpoints` until one is. `None`: as long as *me* is not given, since
            no peer is ready before it has entered.
        me: Which pod of the service this program is, if it is one: an address, a name as the ring has
            it, a hostname (`"web-0"`), an `Endpoint`, several of them, of which the first that fits counts,
            or a function that gives them, called at the start: `me=knet.this_pod`.

    Raises:
        ConfigError: An argument cannot be right.
        TypeError: An argument has the wrong type.
    """

    __slots__ = ("__weakref__", "_life", "_question", "_task")

    def __init__(
        self,
        service: str,
        *,
        port: int | str | None = None,
        protocol: Protocol = "tcp",
        family: Family = "auto",
        placement: Callable[[tuple[Endpoint, ...]], Placement[Endpoint]] = HashRing,
        resolver: Asked | ResolverProtocol | None = None,
        refresh: RefreshPolicy = RefreshPolicy(),  # noqa: B008 - frozen
        start_timeout: float = 10.0,
        require_endpoints: bool | None = None,
        me: Me | None = None,
    ) -> None:
        question = Question(service, port, protocol, family)
        if not callable(placement):
            raise TypeError(f"placement must be callable, not {type(placement).__name__}")
        source = Resolver() if resolver is None else resolver
        ask = asking(source)
        if not isinstance(refresh, RefreshPolicy):
            raise TypeError(f"refresh must be a RefreshPolicy, not {type(refresh).__name__}")
        if isinstance(start_timeout, bool) or not isinstance(start_timeout, int | float):
            raise TypeError(
                "start_timeout must be a number of seconds (math.inf: wait for ever), "
                f"not {type(start_timeout).__name__}"
            )
        if not start_timeout > 0:
            raise ConfigError(f"start_timeout must be above 0, got {start_timeout}")
        # Make one without members now. Each later one comes from its `replace`, which keeps the
        # options that the caller gave.
        empty = placement(())
        check_placement(empty)
        if port is None and isinstance(source, Resolver) and needs_ports(empty):
            raise ConfigError(
                f"{type(empty).__name__} hashes addresses with their ports, as the proxy does, and this "
                "ring has none: write port=8080, the port that the proxy connects to"
            )
        self._question = question
        if require_endpoints is not None and not isinstance(require_endpoints, bool):
            raise TypeError(
                f"require_endpoints must be True, False or None, not {type(require_endpoints).__name__}"
            )
        if me is not None and not callable(me):
            me = Myself.told(me).words
        self._life = Life(
            question,
            source,
            ask,
            placement,
            empty,
            refresh,
            start_timeout,
            may_be_empty=me is not None if require_endpoints is None else not require_endpoints,
            me=me,
        )
        self._task: HostedTask | None = None

    @classmethod
    def static(
        cls,
        endpoints: Iterable[Endpoint | str],
        *,
        service: str = "static",
        placement: Callable[[tuple[Endpoint, ...]], Placement[Endpoint]] = HashRing,
        me: Me | None = None,
    ) -> Self:
        """
        Make a ring of *endpoints* that are known beforehand, where there is no DNS.

            async with knet.Ring.static(["10.0.0.1:8080", "10.0.0.2:8080"]) as ring: ...

        Args:
            endpoints: `Endpoint` values or texts, at least one; see `StaticResolver`.
            service: What it is called in logs.
            placement: What places the keys.
            me: Which of them this program is, if it is one.
        """
        resolver = StaticResolver(endpoints)
        if not resolver.endpoints:
            raise ConfigError("a static ring needs at least one endpoint")
        return cls(service, resolver=resolver, placement=placement, me=me)

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
        snapshot = self._life.standing.snapshot
        # One coroutine and no call: with a call for the lookup it takes a fifth longer. A bytes key
        # or a missing snapshot fails in here, which costs the usual case nothing.
        try:
            shift = snapshot.shift  # type: ignore[union-attr]
            if shift:  # a HashRing
                return snapshot.table[xxh64(key.encode()) >> shift]  # type: ignore[union-attr]
        except (AttributeError, IndexError, UnicodeEncodeError):
            pass
        if snapshot is None:
            snapshot = await self._life.first_snapshot()
        try:
            return snapshot.get(key)
        except NoEndpoints:
            raise self._no_endpoints() from None

    async def get_n(self, key: str | bytes, n: int) -> tuple[Endpoint, ...]:
        """
        Return the distinct endpoints for *key*, most preferred first; like `get` otherwise.

        Returns:
            `min(n, endpoints)` of them, the first being `get(key)`: replicas, or whom to try next.
            If the first leaves, the second has the key with `Rendezvous` always, and with a
            `HashRing` nearly always while each pod has hundreds of slots: in 98 of 100 cases with
            10 pods, in 91 with 100.
        """
        snapshot = self._life.standing.snapshot
        if snapshot is None:
            snapshot = await self._life.first_snapshot()
        try:
            return snapshot.get_n(key, n)
        except NoEndpoints:
            raise self._no_endpoints() from None

    async def get_many(self, keys: Iterable[str | bytes]) -> list[Endpoint]:
        """
        Return the endpoint of each key, in order and from one snapshot; like `get` otherwise.

        It holds the event loop for about 0.1 us a key: split millions of them.
        """
        snapshot = self._life.standing.snapshot
        if snapshot is None:
            snapshot = await self._life.first_snapshot()
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

    # --- who I am

    @property
    def me(self) -> Endpoint | None:
        """
        This program's own endpoint in the snapshot that stands; `None` while it has none.

        A pod is in the snapshot of its own ring as soon as it is ready and DNS has told so.
        """
        return self._life.me()

    def is_mine(self, key: str | bytes) -> bool:
        """
        Return whether *key* belongs to this program, by the snapshot that stands.

        Eventually right, and no lock: for as long as news takes, two pods may both think so.

        Raises:
            ConfigError: The ring was not told who it is by *me*; or *key* holds a lone surrogate.
            RingNotReady: There is no snapshot yet.
            RingClosed: The ring is closed.
            TypeError: *key* is neither `str` nor `bytes`.
        """
        if not self._life.has_me:
            raise ConfigError(
                f"{self!r} does not know who it is: write Ring(..., me=knet.this_pod)"
            )
        snapshot, me = self.snapshot, self._life.me()
        try:
            return snapshot.get(key) is me
        except NoEndpoints:
            return False

    # --- what it knows

    @property
    def snapshot(self) -> Snapshot:
        """
        The latest snapshot.

        Raises:
            RingNotReady: There is none yet.
            RingClosed: The ring is closed.
        """
        snapshot = self._life.standing.snapshot
        if snapshot is None:
            self._life.check_running()
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
        return self._life.standing.state

    async def wait_for(self, *states: State) -> State:
        """
        Wait until the ring is in one of *states*, and return which.

        Nobody needs to poll `state`: a state is told of as it comes, also one that lasts for a moment.
        Before the start it waits.

            await ring.wait_for("stale", "empty")

        Raises:
            RingClosed: The ring has ended, or ends meanwhile, and `"closed"` was not asked for.
            RingMisused: This is another event loop than the ring's.
            ConfigError: *states* is empty, or one of them is no state.
        """
        if not states or not all(state in get_args(State) for state in states):
            raise ConfigError(
                f"wait_for takes one or more of {', '.join(get_args(State))}, got {shown(states)}"
            )
        return await self._life.wait_for(frozenset(states))

    def stats(self) -> RingStats:
        """
        Return counters and ages, for a log line or a dashboard; in any thread.
        """
        return self._life.stats()

    def __del__(self) -> None:
        # An argument that was refused leaves a ring without attributes.
        life = getattr(self, "_life", None)
        if life is not None:
            self.note_exit()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled or copied, since it has a task running; send its snapshot, "
            "or open another ring there"
        )

    def __repr__(self) -> str:
        return self._life.standing.told_of(self._question)

    # --- news

    async def refresh(self) -> Snapshot:
        """
        Ask DNS now, past every cache, and return the snapshot that stands after the answer.

        For tests and tools that want to see the answer. A request that met a refused connection has
        no time for that: `refresh_soon` asks as well and does not wait. All that ask at the same
        time share one lookup, and there is at most one in `RefreshPolicy.min_interval`. A pod that is
        missing from the answer is still kept until that is confirmed.

        Raises:
            ResolveError: The lookup failed; the ring keeps what it has.
            RingNotReady: The ring was not started.
            RingClosed: It is closed, or was closed meanwhile.
            RingMisused: This is another event loop than the ring's.
        """
        return await self._life.refresh()

    def refresh_soon(self) -> None:
        """
        Ask DNS now, as `refresh` does, without waiting and without raising; from any thread.

        For a request that met a refused connection: it goes on to the next pod of `get_n`, and the
        ring hears of it meanwhile. On a ring that is starting or has ended it does nothing.

            ring.refresh_soon()
        """
        self._life.ask_soon()

    def changes(self) -> AsyncIterator[Change]:
        """
        Iterate over what changes from now on; ends when the ring is closed.

        Each iterator goes at its own pace: who is slow gets one `Change` for all that happened
        meanwhile, and never keeps the ring waiting. It begins with the snapshot that stands at the
        call: take the iterator first and look at `snapshot` then, and nothing is missed in between.
        On a ring that is starting, the first change is the one after the first snapshot.

            async for change in ring.changes():
                print("+", change.added, "-", change.removed, f"{change.moved:.0%} of the keys")

        Raises:
            RingNotReady: The ring was not started.
            RingClosed: It is closed.
        """
        self._life.check_running()
        return _Changes(self._life)

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
        life = self._claimed()
        life.arrive()
        start: Promise[None] = Promise()

        async def host() -> None:
            try:
                await life.body(lambda: start.keep(None))
            except Exception as error:  # noqa: BLE001 - start() raises it
                start.fail(error)

        def ended() -> None:
            life.end("its task was cancelled")
            start.keep(None)

        try:
            self._task = HostedTask(host, f"knet {self._question}", ended)
            await start.settled()
        except BaseException:
            await self.aclose()
            raise
        start.result()
        if life.has_ended:
            raise RingClosed(f"{self!r} was closed while it was starting: {life.standing.ended}")

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
        return self._claimed().body(lambda: task_status.started(self))

    async def aclose(self) -> None:
        """
        Stop refreshing, and wait until nothing of this ring is left running.

        May be called from another task than the one that started the ring, more than once, and on a
        ring that was never started.

        Raises:
            RingMisused: This is another event loop than the ring's.
        """
        life = self._life
        if life.is_running:
            await life.leave()
            if self._task is not None:
                await self._task.join()
        life.end("closed")

    def note_exit(self) -> None:
        """
        End where nobody has closed the ring, with a warning: it is forgotten, or the interpreter ends.
        """
        if self._life.is_running:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=3, source=self)
            self._life.end("it was left open", tell=False)

    def note_fork(self) -> None:
        """
        Be closed in a forked child: the task that would refresh the ring is the parent's.
        """
        self._life.end("it was opened before a fork; open a ring in the child", tell=False)

    def _claimed(self) -> Life:
        self._life.claim()
        note_open(self)
        return self._life

    def _no_endpoints(self) -> NoEndpoints:
        error = self._life.standing.last_error
        why = f"; last lookup: {error}" if error else ""
        return NoEndpoints(f"{self._question} has no endpoints{why}")


@final
class _Changes(AsyncIterator[Change]):
    """
    A place in the history of a ring. A class and no generator, so that nobody has to close it.
    """

    __slots__ = ("_life", "_seen")

    def __init__(self, life: Life) -> None:
        self._life = life
        self._seen = life.standing.snapshot

    async def __anext__(self) -> Change:
        while True:
            before, self._seen = self._seen, await self._life.next_snapshot(self._seen)
            if self._seen is None:
                raise StopAsyncIteration
            if before is not None:
                return Change(before, self._seen)
