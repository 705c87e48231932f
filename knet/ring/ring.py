"""
`Ring`: the door to the pods behind a service.

Everything that a caller can ask of a ring is here, with what it promises. The life that keeps it
fresh is in `life`, what it knows in `standing`; picks read the snapshot that stands.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Any, Literal, NoReturn, Self, TypeVar, final, get_args

import anyio
from anyio.abc import TaskStatus

from knet.belief import RefreshPolicy, State
from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints, RingClosed, RingNotReady
from knet.hashring import HashRing, Placement
from knet.hashring.base import check_placement, needs_ports
from knet.hashring.hashing import xxh64
from knet.hashring.placement import key_list
from knet.hosting import HostedTask, note_open, still_open
from knet.promise import Promise
from knet.question import Family, Protocol, Question, shown
from knet.resolver import Resolver, StaticResolver
from knet.ring.batches import by_pod, call_many
from knet.ring.feeds import feed_of
from knet.ring.history import History, PastChange
from knet.ring.life import CLOSED, Life
from knet.ring.owning import Held, Owning, WhileMine, own
from knet.ring.serving import (
    Acquired,
    Attempts,
    EjectOn,
    Options,
    RetryOn,
    Serving,
    call,
    first_picks,
)
from knet.ring.standing import RingStats
from knet.routing.ejection import EjectionPolicy
from knet.routing.errors import never_sent, unreachable
from knet.routing.load import Bound
from knet.routing.ownership import Me, Myself
from knet.snapshot import Change, Snapshot
from knet.sources import Fallback, Source, is_streaming

__all__ = ["Ring", "open_rings"]

T = TypeVar("T")
K = TypeVar("K", str, bytes)


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
            `ResolverProtocol` and `Asked`; or a source that tells by itself, with `async def watch`: see
            `Telling`. `None`: `Resolver()`.
        refresh: When to ask, and what to believe.
        start_timeout: Seconds that entering waits for the first answer.
        require_endpoints: Whether entering waits for a pod. If not, an answer that none is there is
            enough; picks raise `NoEndpoints` until one is. `None`: as long as *me* is not given, since
            no peer is ready before it has entered.
        me: Which pod of the service this program is, if it is one: an address, a name as the ring has
            it, a hostname (`"web-0"`), an `Endpoint`, several of them, of which the first that fits counts,
            or a function that gives them, called at the start: `me=knet.this_pod`.
        ejection: How long a pod is skipped that failed in `call` or `attempts`, and how many may be.

    Raises:
        ConfigError: An argument cannot be right.
        TypeError: An argument has the wrong type.
    """

    __slots__ = (
        "__weakref__",
        "_history",
        "_life",
        "_names",
        "_owning",
        "_question",
        "_serving",
        "_speller",
        "_task",
    )

    def __init__(
        self,
        service: str,
        *,
        port: int | str | None = None,
        protocol: Protocol = "tcp",
        family: Family = "auto",
        placement: Callable[[tuple[Endpoint, ...]], Placement[Endpoint]] = HashRing,
        resolver: Source | None = None,
        refresh: RefreshPolicy = RefreshPolicy(),  # noqa: B008 - frozen
        start_timeout: float = 10.0,
        require_endpoints: bool | None = None,
        me: Me | None = None,
        ejection: EjectionPolicy = EjectionPolicy(),  # noqa: B008 - frozen
    ) -> None:
        question = Question(service, port, protocol, family)
        if not callable(placement):
            raise TypeError(f"placement must be callable, not {type(placement).__name__}")
        source = Resolver() if resolver is None else resolver
        if not isinstance(refresh, RefreshPolicy):
            raise TypeError(f"refresh must be a RefreshPolicy, not {type(refresh).__name__}")
        feed = feed_of(source, question, refresh)
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
        sources = source.sources if isinstance(source, Fallback) else (source,)
        gives_none = any(isinstance(each, Resolver) or is_streaming(each) for each in sources)
        if port is None and gives_none and needs_ports(empty):
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
        if not isinstance(ejection, EjectionPolicy):
            raise TypeError(f"ejection must be an EjectionPolicy, not {type(ejection).__name__}")
        self._serving = Serving(question, ejection)
        self._owning = Owning(question)
        self._history = History(self._serving.counts)
        self._life = Life(
            question,
            feed,
            placement,
            empty,
            refresh,
            start_timeout,
            may_be_empty=me is not None if require_endpoints is None else not require_endpoints,
            me=me,
            follow=self._follow,
        )
        self._owning.life = self._life
        self._task: HostedTask | None = None
        self._names: tuple[str, ...] = ()
        self._speller = next((each for each in sources if isinstance(each, Resolver)), Resolver())

    def _follow(self, snapshot: Snapshot | None, *, here: bool) -> None:
        self._serving.follow(snapshot, here=here)
        now, soon = self._serving.clock(), self._serving.soon
        self._owning.follow(snapshot, here=here, now=now)
        self._history.follow(snapshot, here=here, now=now, soon=soon)

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
        Return the endpoint that *key* belongs to; where that is ejected, the next one.

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
        picks = self._serving.picks
        # One coroutine and no call: with a call for the lookup it takes a fifth longer. A bytes key
        # or a missing snapshot fails in here, which costs the usual case nothing.
        try:
            shift = picks.shift  # type: ignore[union-attr]
            if shift:  # a HashRing
                return picks.table[xxh64(key.encode()) >> shift]  # type: ignore[union-attr]
        except (AttributeError, IndexError, UnicodeEncodeError):
            pass
        if picks is None:
            picks = await first_picks(self._life, self._serving)
        try:
            return picks.get(key)
        except NoEndpoints:
            raise self._life.no_endpoints() from None

    async def get_n(
        self, key: str | bytes, n: int, spread: Literal["zone"] | None = None
    ) -> tuple[Endpoint, ...]:
        """
        Return the distinct endpoints for *key*, most preferred first; like `get` otherwise.

        Args:
            key: As for `get`.
            n: How many, at least 1.
            spread: `"zone"`: one of each zone first, and then the others. Where nobody tells zones, as DNS
                does not, the order is the usual one, and a warning says so once.

        Returns:
            `min(n, endpoints)` of them, the first being `get(key)`: whom to try next. Who is ejected
            comes last. A set of replicas is `snapshot.get_n(key, n)`, which no ejection changes. If the first leaves, the second has the key with `Rendezvous` always, and with a
            `HashRing` nearly always while each pod has hundreds of slots: in 98 of 100 cases with
            10 pods, in 91 with 100.
        """
        picks = self._serving.picks or await first_picks(self._life, self._serving)
        if spread not in (None, "zone"):
            raise ConfigError(f'spread must be "zone" or None, got {shown(spread)}')
        try:
            found = picks.get_n(key, n)
            return found if spread is None else self._serving.spread(picks, key, n)
        except NoEndpoints:
            raise self._life.no_endpoints() from None

    async def get_many(self, keys: Iterable[str | bytes]) -> list[Endpoint]:
        """
        Return the endpoint of each key, in order and from one snapshot; like `get` otherwise.

        It holds the event loop for about 0.1 us a key: split millions of them.
        """
        picks = self._serving.picks or await first_picks(self._life, self._serving)
        try:
            return picks.get_many(keys)
        except NoEndpoints:
            raise self._life.no_endpoints() from None

    def get_nowait(self, key: str | bytes) -> Endpoint:
        """
        Return the endpoint that *key* belongs to, synchronously.

        Raises:
            RingNotReady: There is no snapshot yet.
            NoEndpoints: As `get` does, and whatever else `get` raises.
        """
        try:
            return (self._serving.picks or self.snapshot).get(key)
        except NoEndpoints:
            raise self._life.no_endpoints() from None

    def group(self, keys: Iterable[str | bytes]) -> dict[Endpoint, list[str | bytes]]:
        """
        Return the keys of each endpoint, for requests that ask for several keys at once.

            for pod, part in ring.group(keys).items(): ...

        From one snapshot, and like `get_nowait` otherwise. Keys keep their order; who has none of them
        is not in it.
        """
        keys = key_list(keys)
        try:
            found = (self._serving.picks or self.snapshot).get_many(keys)
        except NoEndpoints:
            raise self._life.no_endpoints() from None
        return by_pod(keys, found)

    # --- serving a request

    async def call(
        self,
        key: str | bytes,
        function: Callable[[Endpoint], Awaitable[T]],
        *,
        n: int = 3,
        bound: float | Bound | None = None,
        retry_on: RetryOn = never_sent,
        eject_on: EjectOn = unreachable,
        total: float | None = None,
    ) -> T:
        """
        Return what *function* returns at the pod of *key*, or at the next one if that cannot be reached.

            async def fetch(pod: knet.Endpoint) -> bytes: ...

            body = await ring.call("user-42", fetch)

        Up to *n* pods of one snapshot are tried, most preferred first, ejected ones last and none of
        them twice. By default only a request that no pod can have seen goes on to the next one. When
        nobody is left, the last error leaves as itself, with the others as its notes; any other error,
        and a cancellation, leave at once. *function* does one exchange with the pod and nothing else:
        an error of its own database would look like one of the pod.

        Args:
            key: As for `get`.
            function: Given the pod; what it returns is awaited.
            n: How many pods are tried, at most.
            bound: How much more than its share a pod may have in flight: 1.5, or a `Bound`. `None`: as
                much as comes.
            retry_on: After which errors another pod may be asked: a function, a type of exceptions or
                several. `never_sent`, or `may_repeat` for work that may be done twice. What was perhaps
                sent is repeated for 20 % of what is in flight at most, 3 at least, beside what was in
                flight at a pod when it broke.
            eject_on: How much an error speaks against the pod: 0 not at all, 1 it is ejected at once, 2
                it is at the second in a row. An error that names another host speaks against nobody.
            total: Seconds for all of it; then `TimeoutError`.

        Raises:
            NoEndpoints: There are none.
            ConfigError: *n* is below 1, a bound is not above 1, or *total* not above 0.
            RingNotReady: The ring was not started.
            RingClosed: It is closed.
            RingMisused: This is another event loop than the ring's.
        """
        options = Options.checked(n, bound, retry_on, eject_on, total)
        return await call(Attempts(self._life, self._serving, key, options), function)

    async def call_many(
        self,
        keys: Iterable[K],
        function: Callable[[Endpoint, list[K]], Awaitable[Mapping[K, T]]],
        *,
        n: int = 3,
        retry_on: RetryOn = never_sent,
        eject_on: EjectOn = unreachable,
        total: float | None = None,
    ) -> dict[K, T]:
        """
        Return what *function* finds for *keys*: each pod is asked once, for all of its keys, and all pods at once.

            async def fetch(pod: knet.Endpoint, keys: list[str]) -> dict[str, bytes]: ...

            found = await ring.call_many(["user-42", "user-43"], fetch)

        The keys of a pod that cannot be reached are asked of others, each of the next pod of its own. So every key goes
        the way that it goes by `call`. Where one pod fails for good the other requests are cancelled, and its error
        leaves as itself.

        Args:
            keys: As for `get`; each counts once.
            function: Given the pod and its keys; what it returns is awaited, and has no keys but those.
            n: As for `call`: how many pods each key is asked of, at most.
            retry_on: As for `call`.
            eject_on: As for `call`.
            total: As for `call`: seconds for all of it.

        Returns:
            What was found, in the order of *keys*. A key is missing where *function* has left it out.

        Raises:
            TypeError: *function* found no mapping, or a key that it was not asked for.
            NoEndpoints: There are none. The other errors are those of `call`.
        """
        options = Options.checked(n, None, retry_on, eject_on, total)
        return await call_many(self._life, self._serving, keys, function, options)

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
        Return the rounds of `call`, for what is no function of the pod; its arguments are the same.

            tries = ring.attempts("user-42")
            while True:
                async with tries as pod:
                    return await fetch(pod)

        Each `async with` is one round, which ends the request unless it swallows an error: leave the
        loop after it. To enter once more raises `RingMisused`. Nothing is held between two rounds.
        `tries.next(error)` goes on with the next pod as if *error* had been raised and accepted, and
        `tries.succeeded()` says early that the pod is well. The same as a loop that ends by itself:

            async for attempt in ring.attempts("user-42"):
                with attempt as pod:
                    await send(pod)
        """
        options = Options.checked(n, bound, retry_on, eject_on, total)
        return Attempts(self._life, self._serving, key, options)

    def acquire(self, key: str | bytes, *, bound: float | Bound | None = 1.5) -> Acquired:
        """
        Hold a place at the pod of *key*, or at the next one that has room.

            async with ring.acquire("user-42", bound=1.5) as pod:
                await send(pod)

        Consistent hashing with bounded loads: no pod has more than *bound* times its share of what is
        in flight from here, by weight and among those who are not ejected. There is always room, so it
        never waits. Everything that this ring has in flight counts, that of `call` and `attempts` too.

        Args:
            key: As for `get`.
            bound: Above 1, or a `Bound`. `None`: only count.
        """
        return Acquired(self._life, self._serving, key, bound)

    def eject(self, endpoint: Endpoint, seconds: float | None = None) -> bool:
        """
        Skip *endpoint* for some seconds, by the caller's own experience; return whether it is out.

        Its keys go to the next endpoint, and no other key moves. `snapshot`, its digest and who owns a
        key stay as they are. It ends as `EjectionPolicy` says, or by `restore`. Where too many are out
        already, or *endpoint* is not in the snapshot, nothing happens.

        Args:
            endpoint: One of the snapshot's.
            seconds: `None`: as long as a refused connection would cost it.

        Raises:
            RingNotReady: There is no snapshot yet.
            RingClosed: The ring is closed.
            RingMisused: This is another event loop than the ring's.
        """
        self._check_endpoint(endpoint)
        if seconds is not None:
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise TypeError(f"seconds must be a number, not {type(seconds).__name__}")
            if not 0 < seconds < math.inf:
                raise ConfigError(f"seconds must be above 0 and finite, got {seconds}")
        return self._serving.eject(endpoint, seconds)

    def restore(self, endpoint: Endpoint) -> None:
        """
        Hold nothing against *endpoint* any more; nothing happens if nothing was.
        """
        self._check_endpoint(endpoint)
        self._serving.restore(endpoint)

    @property
    def ejected(self) -> Mapping[Endpoint, float]:
        """
        Who is skipped now, and for how many seconds more.
        """
        serving = self._serving
        return MappingProxyType(serving.ejections.out(serving.clock()))

    @property
    def in_flight(self) -> Mapping[Endpoint, int]:
        """
        How many attempts and acquired places there are now, at which endpoint; nobody has 0.

        An endpoint that has left is in it until the last one there has ended. `stats().in_flight` is
        the sum.
        """
        return MappingProxyType(self._serving.load.at)

    def _check_endpoint(self, endpoint: Endpoint) -> None:
        if not isinstance(endpoint, Endpoint):
            raise TypeError(
                f"an Endpoint is ejected, not a {type(endpoint).__name__}: `snapshot.find(text)` returns "
                "the endpoint of a name or an address"
            )
        _ = self.snapshot
        self._life.check_thread()

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
        self._life.check_me()
        snapshot, me = self.snapshot, self._life.me()
        try:
            return snapshot.get(key) is me and not self._owning.has_let_go
        except NoEndpoints:
            return False

    def while_mine(self, key: str | bytes, *, grace: float = 0.0) -> WhileMine:
        """
        Run a block for as long as *key* belongs to this program.

            async with ring.while_mine("room-42", grace=5) as held:
                await serve_room(held.lost)

        When the key moves away, `held.lost` is set; *grace* seconds later the block is cancelled, and
        then `KeyMoved` leaves. A block that ends by itself meanwhile has not failed, and its own exception
        goes before. Not around a `yield`: that is what `hold` is for. Eventual, and no lock: for as long as
        news takes, two pods may both be in their blocks.

        Args:
            key: As for `get`.
            grace: Seconds for the block to end by itself, once `held.lost` is set.

        Raises:
            KeyMoved: The key belongs to another pod, at entry or from then on; `.to` says to whom.
            RingClosed: The ring has ended, at entry or from then on.
            ConfigError: The ring was not told who it is by *me*; or *grace* is below 0.
        """
        return WhileMine(self._owning, key, grace)

    def hold(self, key: str | bytes) -> Held:
        """
        Hold *key* without being cancelled: for generators, streams, and loops of one's own.

            held = ring.hold("room-42")  # KeyMoved: answer 421, before the response begins
            with held:
                while not held.lost.is_set():
                    yield await held.wait_for(queue.get)

        Raises:
            KeyMoved: The key belongs to another pod, at this call or at entry.
            RingNotReady: There is no snapshot yet.
            RingClosed: The ring has ended.
            ConfigError: The ring was not told who it is by *me*.
        """
        if self._life.has_me:
            _ = self.snapshot
        return self._owning.hold(key)

    async def own(
        self,
        keys: Iterable[K],
        function: Callable[[K, Held], Awaitable[object]],
        *,
        grace: float = 0.0,
    ) -> None:
        """
        Run *function* for each of *keys* while it belongs to this program; return once nothing does for
        good: the ring has ended, or `let_go` was called.

            async def work(partition: str, held: Held) -> None: ...

            await ring.own([f"partition-{n}" for n in range(64)], work, grace=20)

        For each key that is or becomes this program's, *function* is called with it and what holds it, in a
        `while_mine` block. When the key moves away and comes back, it is called again, after the call before
        has ended. One that returns by itself is not called again while the key stays. An exception of one
        ends all, and leaves as itself.

        Args:
            keys: All that there are, whosever they are; like partitions, and not like users.
            function: Given a key and its `Held`; awaited.
            grace: Seconds for it to end by itself, once `held.lost` is set.

        Raises:
            ConfigError: The ring was not told who it is by *me*; or *grace* is below 0.
            RingNotReady: The ring was not started.
            RingClosed: The ring was closed before.
        """
        self._life.check_running()
        self._life.check_me()
        await own(self._owning, keys, function, grace)

    def let_go(self) -> None:
        """
        Own nothing any more, as before this program ends: for SIGTERM.

        From now on `is_mine` is False and `held.lost` is set of whatever is held; blocks are cancelled after
        their grace, and `own` returns. Others hear of it when this pod leaves the Service.

        Raises:
            RingNotReady: There is no snapshot yet.
            RingClosed: The ring is closed.
        """
        _ = self.snapshot
        self._life.check_thread()
        self._owning.let_go()

    def previous_owners(self, key: str | bytes, *, within: float = 60.0) -> tuple[Endpoint, ...]:
        """
        Return who had *key* before who has it now, latest first and each once: whom to ask for its state.

        Out of the last 8 snapshots, and of the last minute at most. In a rolling update the snapshot
        before may name the new owner itself, so that one look back is not enough.

        Args:
            key: As for `get`.
            within: Seconds since when it ended to have it, at most.
        """
        _ = self.snapshot
        return self._owning.previous_owners(key, within, self._serving.clock())

    # --- what it knows

    @property
    def service(self) -> str:
        """
        The service, as it was asked for, in lower case.
        """
        return self._question.service

    @property
    def port(self) -> int | str | None:
        """
        The port, as it was asked for: a number, a name or `None`.
        """
        return self._question.port

    @property
    def names(self) -> tuple[str, ...]:
        """
        The names by which a client may ask for this ring's service, shortest first.

        Those that a pod's search list leads to the same Service: what a URL or a `Host` may say.

            >>> knet.Ring("web.prod").names
            ('web.prod', 'web.prod.svc', 'web.prod.svc.cluster.local')
        """
        if not self._names:  # they are read out of files
            self._names = self._speller.spellings(self._question.service)
        return self._names

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
    def previous(self) -> Snapshot | None:
        """
        The snapshot before the latest, or `None` before the first change and after the end.

        One change back, for comparing: in a rolling update that is seconds ago, and may be no better.
        Who had a key before is what `previous_owners` tells.
        """
        return self._history.previous

    def history(self) -> tuple[PastChange, ...]:
        """
        Return the last 16 changes, latest first; also after the end.

            for change in ring.history():
                print(f"{change.age:.0f} s ago", "+", change.added, "-", change.removed)
        """
        return self._history.told(self._serving.clock())

    def ages(self) -> dict[str, float]:
        """
        Return for how many seconds each endpoint has been in the ring, by its name, sorted.

        Those of the first snapshot have been there since the start. A pod that came back has come anew, and so has one whose
        address changed.

        Raises:
            RingNotReady: There is no snapshot yet.
            RingClosed: The ring has ended.
        """
        return self._history.ages(self.snapshot.endpoints, self._serving.clock())

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
        serving = self._serving
        counts = serving.counts
        return replace(
            self._life.stats(),
            ejected=len(serving.ejections.out(serving.clock())),
            in_flight=serving.load.total,
            ejections=counts.ejections,
            attempts=counts.attempts,
            errors=counts.errors,
            failovers=counts.failovers,
            changes=counts.changes,
            moved=round(counts.moved, 6),
        )

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
        life.end(CLOSED)
        await self._serving.settle()
        await self._owning.settle()

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
                life = self._life
                me = (life.me_in(before), life.me_in(self._seen)) if life.has_me else None
                return Change(before, self._seen, me=me)


def open_rings() -> list[Ring]:
    """
    Return the rings of this process that were started and have not ended, in that order, also those of `knet.blocking`.

    In any thread.

        prometheus_client.REGISTRY.register(RingCollector(knet.open_rings))
    """
    return [each for each in still_open() if isinstance(each, Ring) and each.state != "closed"]
