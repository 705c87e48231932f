"""
The c-ares engine: one channel per event loop and set of servers, shared by whoever asks there.

The only module that knows aiodns and pycares. Both are the choice of this project's user: pycares alone
would serve asyncio as it serves trio, so the driver around aiodns is kept thin. On asyncio the channel
is aiodns's; on trio, which aiodns does not run on, it is pycares's own, whose event thread hands each
result over to the loop. Both give the same records, errors, retries and failover, so everything above
is written once.

What c-ares does behind one's back, and what is done about it here:

- It caches answers for their TTL and "no data" for an hour, and neither binding can switch that
  off. Changing the list of servers empties the cache at once and leaves queries in flight alone, so
  `Engine.flush` adds a server and takes it away again. That costs 9 us and a lock, and `Engine.ask`
  spares it for a name that cannot be in the cache: ten thousand names in turn are one flush.
- Each channel is an OS thread and four descriptors, so there is one, counted, not one per ring.
- A channel that is not closed can crash the interpreter on its way out. The last user closes it;
  what is left over when the interpreter exits is closed then.
- Its thread does not survive a fork, and a query in the child would wait for ever. An engine
  belongs to the process that made it; another process makes its own. Nor does pycares's thread
  survive that tears closed channels down, so a forked process opens each engine once for each event
  loop, and keeps it to its end. To revive that thread would tear down what is the parent's.
- It keeps a connection for as long as queries come, also one that swallows them: the TCP connection to
  a server whose node died, or a UDP socket whose port some firewall has forgotten. So after a query that
  timed out `Engine.reconnect` takes another channel, which has no connection yet. The old one is closed
  when the last of its queries has ended, so nobody else's is lost.
- Its callback runs in its own thread and holds the channel's lock: it may only leave a note.
- More than a few hundred queries at once overflow a UDP socket's buffer: `places` has 64.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import functools
import os
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import aiodns
import anyio
import pycares
from anyio.lowlevel import RunVar, checkpoint, current_token

from knet.errors import (
    ConfigError,
    MalformedAnswer,
    NameNotFound,
    NoData,
    QueryRefused,
    ResolveError,
    ResolverClosed,
    ResolveTimeout,
    ServerFailure,
    ServerUnreachable,
)
from knet.hosting import tell_of_exit
from knet.resolver.places import Place, Places
from knet.resolver.records import Record, lowered

__all__ = [
    "Engine",
    "EngineSettings",
    "QueryType",
    "Sections",
    "check_nameservers",
    "drop_engine",
    "hold_engine",
    "on_open",
    "open_engine",
    "system_nameservers",
]

QueryType = Literal["A", "AAAA", "SRV"]

Key = tuple[str, QueryType]

# A changed list of servers flushes the cache. This one is never asked: it is gone again before the
# call returns. Port 9 is "discard" (RFC 863).
_FLUSH_SERVER = "127.0.0.1:9"

_RECORDS_AT_ONCE = 256

_NAMESERVER = re.compile(
    r"(?: \d+(?:\.\d+){3} | \[ [0-9a-f:.]+ (?:%[\w.-]+)? \] ) (?: :[1-9]\d* )?"
    r"| [0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]* (?: %[\w.-]+ )?",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)

_QUERY_TYPES = {
    "A": pycares.QUERY_TYPE_A,
    "AAAA": pycares.QUERY_TYPE_AAAA,
    "SRV": pycares.QUERY_TYPE_SRV,
}


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """
    What makes two resolvers share a channel.

    Attributes:
        nameservers: `"10.0.0.10"`, `"127.0.0.1:5353"`, `"[::1]:5353"`; asked in that order.
        timeout: Seconds before the first retry. c-ares adapts it to the latency that it sees,
            between 0.25 and 5 seconds.
        tries: How often each server is asked. With fewer than four, a server that slows down from
            1 ms to 600 ms fails every time.
        deadline: Seconds after which a query is given up, whatever c-ares still has in mind.
    """

    nameservers: tuple[str, ...]
    timeout: float = 1.0
    tries: int = 4
    deadline: float = 5.0


@dataclass(frozen=True, slots=True)
class Sections:
    """
    The sections of an answer that hold records, without the types that nobody asked for.
    """

    answer: tuple[Record, ...]
    additional: tuple[Record, ...]


class Engine:
    """
    One c-ares channel on one event loop. `hold_engine` makes them; nobody else should.

    Attributes:
        settings: Whom it asks.
        users: How many hold it open.
        process: Which process it belongs to.
        cached: What c-ares may know by now.
        flying: What it is asking at the moment, and how often.
        driver: What talks to c-ares on this loop.
        most_cached: How many names c-ares may have in its cache, at 1.7 KB or more each.
        reconnections: How often its connections were given up because a query timed out.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.users = 0
        self.process = os.getpid()
        self.cached: set[Key] = set()
        self.flying: Counter[Key] = Counter()
        self.most_cached = 20_000
        self.reconnections = 0
        self._places = Places()
        self.driver = self._new_driver()
        # Whose queries have not ended, the current one and those that were given up.
        self._in_flight: Counter[_Driver] = Counter()
        _open_engines.add(self)
        for tell in on_open:
            tell(self)

    def _new_driver(self) -> _Driver:
        loop = current_token().native_token
        if isinstance(loop, asyncio.AbstractEventLoop):
            return _AsyncioDriver(self.settings, loop)
        return _TrioDriver(self.settings)

    @property
    def is_ours(self) -> bool:
        """
        False in a process that was forked after this engine was made.
        """
        return self.process == os.getpid()

    def flush(self) -> None:
        """
        Forget every cached answer, so that the next query goes out on the wire.
        """
        self.driver.set_servers((*self.settings.nameservers, _FLUSH_SERVER))
        self.driver.set_servers(self.settings.nameservers)
        self.cached.clear()

    def reconnect(self) -> None:
        """
        Give up every connection: what is asked from now on goes over new ones.
        """
        retired = [driver for driver in self._in_flight if driver is not self.driver]
        if len(retired) >= _MOST_RETIRED:
            return  # nobody answers at all
        old, self.driver = self.driver, self._new_driver()
        self.reconnections += 1
        self.cached.clear()
        self._close_if_done(old)

    async def ask(self, name: str, type: QueryType) -> Sections:
        """
        Ask for the records of *type* at *name*, which ends in a dot; never answer from the cache.

        Raises:
            ResolveError: One of its leaves, with the name and the servers in its message.
        """
        key = name, type
        place = await self._places.take(key)
        try:
            # The last bound keeps c-ares's cache small, which itself forgets nothing in time.
            flush = key in self.cached or key in self.flying or len(self.cached) > self.most_cached
            sections = await self._query(name, type, place, flush=flush)
        except ResolveError as error:
            self._places.learn(key, is_late=isinstance(error, ResolveTimeout))
            raise
        else:
            self._places.learn(key, is_late=False)
            return sections
        finally:
            place.leave()

    async def _query(self, name: str, type: QueryType, place: Place, *, flush: bool) -> Sections:
        driver = self.driver
        box = _Box(functools.partial(self._landed, (name, type), driver))
        try:
            if flush:
                self.flush()
            driver.ask(name, type, box)
        except RuntimeError as error:
            raise ResolverClosed(
                f"cannot ask for {name} {type}: the resolver was closed"
            ) from error
        except pycares.AresError as error:  # refused before it was sent
            raise self._error(name, type, error.args[0] if error.args else 0) from error
        self.flying[name, type] += 1
        self._in_flight[driver] += 1
        with anyio.move_on_after(self.settings.deadline):
            await place.wait(box.full)
        # Look into the box before calling it a timeout: the answer may have come while the loop was
        # busy elsewhere.
        if box.result is not None:
            return Sections(
                await _records(box.result.answer), await _records(box.result.additional)
            )
        # Many queries may time out on one dead connection, and the first of them is enough. One that was
        # sent before says nothing about the connections that are there now.
        if box.code in _TIMED_OUT and driver is self.driver and self.users:
            with suppress(pycares.AresError):  # there is no means for another one
                self.reconnect()
        raise self._error(name, type, box.code)

    def _landed(self, key: Key, driver: _Driver) -> None:
        """
        Note that c-ares is done with a query, also one that nobody waits for any more.
        """
        self._in_flight[driver] -= 1
        self._close_if_done(driver)
        self.flying[key] -= 1
        if not self.flying[key]:
            del self.flying[key]
        self.cached.add(key)

    def close(self) -> None:
        """
        Close the channel, from any thread; queries in flight end in an error.

        In a forked child the channel belongs to the parent, whose threads are not there: it is
        dropped as it is.
        """
        if self.is_ours:
            for driver in {self.driver, *self._in_flight}:
                driver.close()

    def _close_if_done(self, driver: _Driver) -> None:
        if not self._in_flight[driver]:
            del self._in_flight[driver]
            if driver is not self.driver:
                driver.close()

    def leave_to_parent(self) -> None:
        """
        In a forked child that ends: let nothing of it be torn down.

        The finalisers of aiodns and pycares would do that at a time when pycares may be gone already.
        So it gets a reference that nobody gives back.
        """
        for driver in {self.driver, *self._in_flight}:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(driver))

    def _error(self, name: str, type: QueryType, code: int | None) -> ResolveError:
        servers = self.settings.nameservers
        if code is None:
            leaf, what = _ERRORS[pycares.errno.ARES_ETIMEOUT]
            what += f" within {self.settings.deadline:g} s"
        else:
            unknown = f"{pycares.errno.errorcode.get(code, code)} from {{}}"
            leaf, what = _ERRORS.get(code, (ResolveError, unknown))
        told = what.format(", ".join(servers))
        return leaf(f"cannot resolve {name} {type}: {told}", name=name, servers=servers)


_ERRORS: dict[int, tuple[type[ResolveError], str]] = {
    pycares.errno.ARES_ENOTFOUND: (NameNotFound, "NXDOMAIN, there is no such name, from {}"),
    pycares.errno.ARES_ENODATA: (NoData, "no such record, though the name exists, from {}"),
    pycares.errno.ARES_ESERVFAIL: (ServerFailure, "SERVFAIL from {}"),
    pycares.errno.ARES_EREFUSED: (QueryRefused, "REFUSED by {}"),
    pycares.errno.ARES_ENOTIMP: (QueryRefused, "NOTIMP from {}"),
    pycares.errno.ARES_EFORMERR: (MalformedAnswer, "FORMERR from {}"),
    pycares.errno.ARES_EBADRESP: (MalformedAnswer, "a malformed answer from {}"),
    pycares.errno.ARES_ETIMEOUT: (ResolveTimeout, "no answer from {}"),
    pycares.errno.ARES_ECONNREFUSED: (ServerUnreachable, "no connection to {}"),
    pycares.errno.ARES_ECANCELLED: (ResolverClosed, "the channel to {} was closed"),
    pycares.errno.ARES_EDESTRUCTION: (ResolverClosed, "the channel to {} was closed"),
}


# Channels that were given up and wait for the end of their queries; each is a thread. A query ends within
# some deadlines of the time-out, so more than a few mean that nobody answers.
_MOST_RETIRED = 4

# c-ares says so, or says nothing.
_TIMED_OUT = (None, pycares.errno.ARES_ETIMEOUT)


# --- which engine

# Called with each engine that is opened, by who wants to count them.
on_open: list[Callable[[Engine], object]] = []

_engines: RunVar[dict[EngineSettings, Engine]] = RunVar("knet_engines")
_is_forked = False
_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def hold_engine(settings: EngineSettings) -> Engine:
    """
    Return this event loop's engine for *settings*, and keep it open until `drop_engine`.

    Raises:
        ResolveError: The system has no means for another one.
    """
    engines = _engines.get(None)
    if engines is None:
        engines = {}
        _engines.set(engines)
    engine = engines.get(settings)
    if engine is None or not engine.is_ours:
        try:
            engine = engines[settings] = Engine(settings)
        except pycares.AresError as error:  # no thread or no descriptor is to be had
            raise ResolveError(
                f"cannot start c-ares: {error}", servers=settings.nameservers
            ) from error
    engine.users += 1
    return engine


def drop_engine(settings: EngineSettings) -> None:
    """
    Take back one `hold_engine` of this event loop; the last one closes the engine.
    """
    engines = _engines.get(None) or {}
    engine = engines.get(settings)
    if engine is None:
        return
    engine.users -= 1
    if not engine.users and not _is_forked:
        del engines[settings]
        engine.close()


@contextmanager
def open_engine(settings: EngineSettings) -> Iterator[Engine]:
    """
    Hold this event loop's engine for *settings* meanwhile.
    """
    engine = hold_engine(settings)
    try:
        yield engine
    finally:
        drop_engine(settings)


@atexit.register
def _close_what_is_left() -> None:
    # A ring in a daemon thread would take the end of its query for a failure, and say so.
    tell_of_exit()
    for engine in list(_open_engines):
        if engine.is_ours:
            engine.close()
        else:
            engine.leave_to_parent()


def _note_fork() -> None:
    global _is_forked  # noqa: PLW0603 - a fact of the process
    _is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def check_nameservers(nameservers: tuple[str, ...]) -> None:
    """
    Raise `ConfigError` unless c-ares takes *nameservers* as they are.
    """
    if not nameservers:
        raise ConfigError("nameservers must not be empty; None means those of resolv.conf")
    for server in nameservers:
        if not isinstance(server, str):
            raise TypeError(f"a nameserver must be a str, not {type(server).__name__}")
        if not _is_taken(server):
            raise ConfigError(
                "a nameserver must be an address, with a port if need be, like '10.0.0.10', "
                f"'127.0.0.1:5353' or '[::1]:5353'; got {server[:80]!r}"
            )


@functools.lru_cache(maxsize=64)
def _is_taken(server: str) -> bool:
    """
    Does c-ares take *server*? It has the last word, and is asked now rather than at the first lookup.
    """
    # It would also take "10.0.0" for 10.0.0.0, port 0 for 53, and pass over an interface that is
    # not there. The longest address with an interface and a port has 69 characters.
    if len(server) > 80 or not _NAMESERVER.fullmatch(server):
        return False
    channel = pycares.Channel()
    try:
        channel.servers = (server,)
        taken = channel.servers
    except (pycares.AresError, UnicodeEncodeError):
        return False
    finally:
        channel.close()
    return len(taken) == 1 and bool(taken[0])


def system_nameservers() -> tuple[str, ...]:
    """
    Return the servers that c-ares finds in this system's own configuration, with their ports.
    """
    channel = pycares.Channel()
    try:
        return tuple(channel.servers)
    finally:
        channel.close()


# --- the two drivers


class _Box:
    """
    Where a query's outcome is put, and what its asker waits for.
    """

    __slots__ = ("_on_full", "code", "full", "result")

    def __init__(self, on_full: Callable[[], object]) -> None:
        self.full = anyio.Event()
        self.result: pycares.DNSResult | None = None
        self.code: int | None = None
        self._on_full = on_full

    def fill(self) -> None:
        """
        Wake whoever waits; on the event loop, once *result* or *code* is set.
        """
        self._on_full()
        self.full.set()


class _Driver(Protocol):
    def ask(self, name: str, type: QueryType, box: _Box) -> None: ...
    def set_servers(self, servers: tuple[str, ...]) -> None: ...
    def close(self) -> None: ...


class _AsyncioDriver:
    def __init__(self, settings: EngineSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.resolver = aiodns.DNSResolver(
            nameservers=settings.nameservers,
            loop=cast(asyncio.AbstractEventLoop, _Loop(loop)),
            timeout=settings.timeout,
            tries=settings.tries,
        )

    def ask(self, name: str, type: QueryType, box: _Box) -> None:
        # Not cancelled with whoever waits: c-ares goes on, and what it hears it caches.
        future = self.resolver.query_dns(name, type)
        future.add_done_callback(functools.partial(self._put, box))

    @staticmethod
    def _put(box: _Box, future: asyncio.Future[pycares.DNSResult]) -> None:
        error = future.exception()
        if error is None:
            box.result = future.result()
        else:
            box.code = error.args[0] if isinstance(error, aiodns.error.DNSError) else 0
        box.fill()

    def set_servers(self, servers: tuple[str, ...]) -> None:
        self.resolver.nameservers = servers

    def close(self) -> None:
        # DNSResolver.close() is a coroutine that awaits nothing. Running it here lets an engine be
        # closed where nobody can await any more: in a finaliser, at exit, in another thread.
        closing = self.resolver.close()
        with suppress(StopIteration):
            closing.send(None)


class _Loop:
    """
    The event loop as aiodns sees it: an answer that comes after its end is dropped.

    aiodns calls the loop from c-ares's thread, where an error can only be printed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class _TrioDriver:
    def __init__(self, settings: EngineSettings) -> None:
        import trio  # noqa: PLC0415 - not installed where it is not used

        self._token = trio.lowlevel.current_trio_token()
        self._loop_is_gone = trio.RunFinishedError
        self._channel = pycares.Channel(
            servers=settings.nameservers, timeout=settings.timeout, tries=settings.tries
        )

    def ask(self, name: str, type: QueryType, box: _Box) -> None:
        self._channel.query(name, _QUERY_TYPES[type], callback=functools.partial(self._put, box))

    def _put(self, box: _Box, result: pycares.DNSResult | None, code: int | None) -> None:
        # In c-ares's thread, which holds the channel's lock: leave a note and be gone.
        box.result, box.code = result, code
        with suppress(self._loop_is_gone):
            self._token.run_sync_soon(box.fill)

    def set_servers(self, servers: tuple[str, ...]) -> None:
        self._channel.servers = servers

    def close(self) -> None:
        try:
            self._channel.cancel()
        except RuntimeError:  # closed before
            return
        self._channel.close()


# --- pycares' records to ours


async def _records(raw: Sequence[Any]) -> tuple[Record, ...]:
    """
    Convert a section, letting other tasks have a turn after each quarter of a millisecond or so.
    """
    records: list[Record] = []
    for low in range(0, len(raw), _RECORDS_AT_ONCE):
        if low:
            await checkpoint()
        records += _some_records(raw[low : low + _RECORDS_AT_ONCE])
    return tuple(records)


def _some_records(raw: Iterable[Any]) -> Iterator[Record]:
    """
    Convert those of the types that are of use.
    """
    name = owner = ""  # mostly the same in all of them
    for record in raw:
        if record.name != name:
            name = record.name
            owner = lowered(name)
        kind, data = record.type, record.data
        if kind == pycares.QUERY_TYPE_A:
            yield Record(owner, "A", record.ttl, data.addr)
        elif kind == pycares.QUERY_TYPE_AAAA:
            yield Record(owner, "AAAA", record.ttl, data.addr)
        elif kind == pycares.QUERY_TYPE_SRV:
            rank = (data.port, data.priority, data.weight)
            yield Record(owner, "SRV", record.ttl, lowered(data.target), *rank)
        elif kind == pycares.QUERY_TYPE_CNAME:
            yield Record(owner, "CNAME", record.ttl, lowered(data.cname))
