"""
A source that tells by itself, as rings listen to it.

Its watch runs in a task of its own, so that what goes wrong in there, in a task group too, is an error
that is told, and cancels nobody. Where one stream serves several questions there is one watch for all of
them, for as long as a ring listens. A ring is woken by each word that is about its part of the stream; of several
that come before it has time the last one counts.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Hashable
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import Any

import anyio

from knet.answer import Answer
from knet.belief import RefreshPolicy, pace
from knet.errors import ResolveError
from knet.hosting import HostedTask, caller_here, is_cancelled, later_here
from knet.question import Question
from knet.ring.sharing import Reuse, shared
from knet.ring.words import shown_object
from knet.sources import Alive, Streaming, Telling, is_streaming

__all__ = ["Watched", "watched"]

Wake = Callable[[], None]

# What concerns all who listen, that the source is alive or away, is told to so many at once, and to the next ones this
# many seconds later. They may be thousands, each of whom works for some 0.2 ms.
_AT_ONCE = 4
_PAUSE = 0.004


def watched(source: Telling, question: Question, policy: RefreshPolicy) -> Watched:
    """
    Return what *source* tells of *question*, on this event loop; whoever listens last ends the watch.
    """
    if is_streaming(source):
        try:
            stream = source.stream_of(question)
        except Exception:  # noqa: BLE001, S110 - its watch raises it, too
            pass
        else:
            return _shared(source, stream, question, policy)
    return Watched(Stream(partial(source.watch, question), source, question, policy), question)


def _shared(
    source: Streaming, stream: Hashable, question: Question, policy: RefreshPolicy
) -> Watched:
    """
    Return what *stream* tells of *question*, and all who ask for the same: one watch serves them.
    """

    def make() -> Watched:
        opened = shared(
            Stream,
            lambda: Stream(
                partial(source.follow, stream), source, question, policy, source.news_in
            ),
            source,
            stream,
        )
        part, answer_of = source.part_of(question), partial(source.answer_of, question)
        return Watched(opened, question, part, answer_of)

    return shared(Watched, make, source, question, stream)


class Stream:
    """
    One watch, and who listens to it.

    Args:
        run: Watches until something is in the way, and tells by the function that it is given.
        source: Whose it is.
        question: Which pods are wanted, by who asked first.
        policy: How soon a watch that has ended is begun again.
        news_in: Of which parts a word is, as `Streaming` has it.

    Attributes:
        last: The last word but errors; `None`: there is none.
    """

    __slots__ = (
        *("__weakref__", "_call", "_call_off", "_current", "_error", "_later", "_listeners"),
        *("_name", "_news_in", "_policy", "_run", "_source", "_task", "_thread", "last"),
    )

    def __init__(
        self,
        run: Callable[[Callable[[Any], None]], Awaitable[None]],
        source: Telling,
        question: Question,
        policy: RefreshPolicy,
        news_in: Callable[[Any], Collection[Hashable] | None] = lambda _: None,
    ) -> None:
        self._run = run
        self._source = source
        self._name = f"knet {question}: watch"
        self._policy = policy
        self._news_in = news_in
        self._thread = get_ident()
        self._call = caller_here()
        self._later = later_here()
        # By the part that they listen to.
        self._listeners: dict[Hashable, dict[Watched, None]] = {}
        self.last: Any = None
        # What was told after it, if that was an error.
        self._error: Exception | None = None
        self._current = _Watch()
        self._task: HostedTask | None = None
        # Ends telling those who have not yet been told what concerns all.
        self._call_off: Callable[[], object] = lambda: None

    def join(self, listener: Watched) -> None:
        """
        Tell *listener*, too, from now on.
        """
        if self.last is not None:
            listener.take(self.last)
        if self._error is not None:
            listener.take(self._error)
        self._listeners.setdefault(listener.part, {})[listener] = None
        if self._task is None:
            self._task = HostedTask(self._live, self._name, lambda: None)

    async def leave(self, listener: Watched) -> None:
        """
        Tell *listener* no more; if it was the last one, wait until nothing of the watch is left.
        """
        others = self._listeners.get(listener.part, {})
        others.pop(listener, None)
        if not others:
            self._listeners.pop(listener.part, None)
        if self._listeners or self._task is None:
            return
        task, self._task = self._task, None
        self._current.is_over = True
        self._call_off()
        self.last = self._error = None
        task.cancel()
        await task.join()

    def _take(self, watch: _Watch, told: Any) -> None:
        """
        Take a word of *watch*, from any thread.
        """
        if watch.is_over:
            return
        if get_ident() != self._thread:
            with suppress(RuntimeError):  # the event loop has ended
                self._call(lambda: self._take(watch, told))
            return
        watch.has_told = watch.has_told or not isinstance(told, Exception)
        self._pass_on(told)

    def _pass_on(self, told: Any) -> None:
        parts: Collection[Hashable] | None = None
        if isinstance(told, Exception):
            self._error = told
        else:
            if not isinstance(told, Alive):
                if self.last is not None and self._error is None:
                    parts = self._news_in(told)
                self.last = told
            self._error = None
        if parts is None:
            self._call_off()
            self._catch_up([each for some in self._listeners.values() for each in some])
        else:
            for part in parts:
                for listener in list(self._listeners.get(part, ())):
                    listener.take(told)

    def _catch_up(self, listeners: list[Watched]) -> None:
        """
        Tell *listeners* how it is now, some of them at a time.
        """
        told = self.last if self._error is None else self._error
        if told is None:
            return
        for listener in listeners[:_AT_ONCE]:
            if listener in self._listeners.get(listener.part, ()):
                listener.take(told)
        rest = listeners[_AT_ONCE:]
        if rest:
            self._call_off = self._later(_PAUSE, partial(self._catch_up, rest))

    async def _live(self) -> None:
        failures = 0
        while True:
            watch = self._current = _Watch()
            error: Exception
            try:
                await self._run(partial(self._take, watch))
                error = ResolveError(f"{shown_object(self._source)} ended its watch")
            except anyio.get_cancelled_exc_class() as cancelled:
                if is_cancelled():
                    raise
                error = ResolveError(f"{shown_object(self._source)} cancelled its own watch")
                error.__cause__ = cancelled
            except Exception as raised:  # noqa: BLE001 - it is told
                error = raised
            finally:
                watch.is_over = True
            failures = 1 if watch.has_told else failures + 1
            is_starting = self.last is None
            self._pass_on(error)
            wait = pace.after_failure(failures, self._policy, random.random(), starting=is_starting)
            await anyio.sleep(wait)


class _Watch:
    """
    One call of `watch`: whether it is over, and whether it told anything but errors.
    """

    __slots__ = ("has_told", "is_over")

    def __init__(self) -> None:
        self.has_told = False
        self.is_over = False


class Watched:
    """
    What a stream tells of one question, and who is woken by it.

    Args:
        stream: Where it comes from.
        question: Which pods are wanted.
        part: Which part of the stream has them.
        answer_of: Makes an answer of a word; `None`: the word is one.

    Attributes:
        part: As given.
        version: How many words there have been of that part but errors; each makes an answer.
        error: What was told after the last of them, if that was an error.
        first: Set once there is a word.
    """

    __slots__ = (
        *("__weakref__", "_answer", "_answer_of", "_answered", "_lock", "_question", "_reuse"),
        *("_stream", "_wakes", "error", "first", "part", "version"),
    )

    def __init__(
        self,
        stream: Stream,
        question: Question,
        part: Hashable = None,
        answer_of: Callable[[Any], Answer] | None = None,
    ) -> None:
        self._stream = stream
        self._question = question
        self._answer_of = answer_of
        self._wakes: dict[object, Wake] = {}
        self._reuse = Reuse()
        self._lock = anyio.Lock()
        self._answer = Answer()
        self._answered = 0
        self.part = part
        self.version = 0
        self.error: Exception | None = None
        self.first = anyio.Event()

    @property
    def is_alive(self) -> bool:
        """
        Has it told, and no error since?
        """
        return self.version > 0 and self.error is None

    def join(self, who: object, wake: Wake) -> None:
        """
        Have *wake* called at each word of the part, for *who*; at once where there is one already.
        """
        is_first = not self._wakes
        self._wakes[who] = wake
        if is_first:
            self._stream.join(self)
        elif self.first.is_set():
            # What was told before is news to who joins now.
            wake()

    async def leave(self, who: object) -> None:
        """
        Wake *who* no more, and wait until nothing is left that nobody else needs.
        """
        self._wakes.pop(who, None)
        if not self._wakes:
            # Whoever joins again hears all anew.
            self.version, self._answered, self.error, self.first = 0, 0, None, anyio.Event()
            await self._stream.leave(self)

    def take(self, told: Any) -> None:
        """
        Take a word, on the rings' event loop; that the source is alive is its last word, told once more.
        """
        if isinstance(told, Exception):
            self.error = told
        else:
            self.error = None
            self.version += 1
        self.first.set()
        for wake in list(self._wakes.values()):
            wake()

    async def answer(self) -> Answer:
        """
        Return the answer in the last word but errors; it is made once for all who want it.

        Raises:
            Exception: There is none in there.
        """
        async with self._lock:
            version = self.version
            if self._answered != version:
                told = self._stream.last
                answer = told if self._answer_of is None else self._answer_of(told)
                if not isinstance(answer, Answer):
                    raise TypeError(
                        f"{self._question}: its source told {shown_object(told)}: tell takes an Answer, an "
                        "exception or knet.ALIVE"
                    )
                self._answer = await self._reuse.of(answer, self._question.port)
                self._answered = version
            return self._answer
