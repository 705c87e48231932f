"""
Several sources, of which the first that can tell counts: `knet.Fallback`.

Which one that is, and what of its words counts after a change, is decided in `knet.belief`. Here the
sources are opened and closed, and heard. One that tells by itself is listened to for as long as a later one is
in use; one that is asked is asked now and then, in a task of its own, to see whether it answers again.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import anyio

from knet.answer import Answer
from knet.belief import Belief, Choice, Decision, Handover, Health, RefreshPolicy, pace
from knet.errors import Forbidden, ResolveError, ResolveTimeout
from knet.hosting import HostedTask, call_later
from knet.pods import differing
from knet.promise import copy_of
from knet.question import Question
from knet.ring.asking import Asking
from knet.ring.listening import Listening
from knet.ring.sharing import Heard
from knet.ring.words import log, on_one_line, shown_object, text_of

__all__ = ["Falling"]

_logger = logging.getLogger("knet")


class Falling:
    """
    Hears of *question* from the first of several sources that can tell.

    Args:
        feeds: Of the sources, in the order of preference.
        question: Which pods are wanted.
        policy: How often to ask one again that is not in use.
        patience: Seconds that one may be without a word.
    """

    def __init__(
        self,
        feeds: tuple[Asking | Listening, ...],
        question: Question,
        policy: RefreshPolicy,
        patience: float,
    ) -> None:
        self._feeds = feeds
        self._question = question
        self._policy = policy
        self._patience = patience
        self._wake: Callable[[], None] = _nothing
        self._health = [Health() for _ in feeds]
        self._errors: list[Exception | None] = [None for _ in feeds]
        self._choice = Choice()
        self._handover = Handover()
        # When the one in use stood by its last word; whether endpoints are known.
        self._spoke_at = -math.inf
        self._knows = False
        self._is_open = [False for _ in feeds]
        self._probes: dict[int, HostedTask] = {}
        self._call_off: Callable[[], object] = _nothing
        self._news = anyio.Event()
        # What is heard at the moment, to be called off where another source is to be heard.
        self._hearing: anyio.CancelScope | None = None
        self._warned: set[tuple[int, type[Exception]]] = set()

    @property
    def _in_use(self) -> Asking | Listening:
        return self._feeds[self._choice.index]

    @property
    def source(self) -> object:
        return self._in_use.source

    @property
    def is_telling(self) -> bool:
        return self._in_use.is_telling

    @property
    def is_alive(self) -> bool | None:
        return self._in_use.is_alive

    async def open(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        await self._arrange()
        self._turn()

    async def aclose(self) -> None:
        self._wake = _nothing
        self._call_off()
        self._call_off = _nothing
        with anyio.CancelScope(shield=True):
            for index in range(len(self._feeds)):
                await self._close(index)

    async def hear(self, since: float, pause: float) -> Heard:
        while True:
            await self._arrange()
            index = self._choice.index
            if (heard := await self._hear_of(index, since, pause)) is None:
                continue
            self._turn()
            if self._choice.index == index:
                return heard

    def judge(
        self, belief: Belief, heard: Heard, *, policy: RefreshPolicy, jitter: float
    ) -> Decision:
        due, told, now = math.inf, heard.told, heard.told_at
        if isinstance(told, Answer) and told.endpoints:
            self._spoke_at = now
            told, self._handover, due = self._handover.heard(told, belief.endpoints, now)
            heard = replace(heard, told=told)
        decision = self._in_use.judge(belief, heard, policy=policy, jitter=jitter)
        if decision.changed:
            lost, found = differing(belief.endpoints, decision.belief.endpoints)
            self._handover = self._handover.after_change(lost, found, now)
        self._knows = bool(decision.belief.endpoints)
        return replace(decision, wait=min(decision.wait, max(0.0, due - now)))

    async def _hear_of(self, index: int, since: float, pause: float) -> Heard | None:
        """
        Return the next word of one source; `None` where another one is to be heard instead.
        """
        feed = self._feeds[index]
        is_last = index + 1 == len(self._feeds)
        if isinstance(feed, Listening):
            if feed.error is not None and not is_last:
                # It may be back before it is given up; who listens hears of that.
                self._turn()
                if self._choice.index == index:
                    await self._next_news()
                return None
            deadline = math.inf
        else:
            deadline = math.inf if is_last else anyio.current_time() + self._patience
        began = anyio.current_time()
        heard: Heard | None = None
        with anyio.CancelScope(deadline=deadline) as self._hearing:
            try:
                heard = await feed.hear(since, pause)
            except Exception as error:
                if is_last:
                    raise
                heard = Heard(
                    ResolveError(f"{shown_object(feed.source)} raised {shown_object(error)}"),
                    began,
                    anyio.current_time(),
                )
        self._hearing = None
        if heard is None:  # it was called off
            if anyio.current_time() < deadline:
                return None
            late = f"{shown_object(feed.source)} did not answer within {self._patience:g} s"
            heard = Heard(ResolveTimeout(late), began, anyio.current_time())
            # It was waited for as long as it may be.
            self._health[index] = Health("down", began)
        if not isinstance(feed, Listening):
            self._note(index, heard.told if isinstance(heard.told, Exception) else None)
        if is_last and isinstance(heard.told, ResolveError):
            heard = replace(heard, told=self._with_all(heard.told))
        return heard

    async def _next_news(self) -> None:
        self._news = anyio.Event()
        await self._news.wait()

    def _with_all(self, error: ResolveError) -> ResolveError:
        """
        Return the *error* of the last source with what those before it told.
        """
        before = [
            f"{shown_object(feed.source)}: {text_of(told)}"
            for feed, told in zip(self._feeds, self._errors, strict=True)
            if told is not None and feed is not self._feeds[-1]
        ]
        told = copy_of(error)
        told.args = ("; before it, ".join([text_of(error), *before]),)
        return told.with_traceback(None)

    # --- which one it is

    def _note(self, index: int, error: Exception | None) -> None:
        """
        Note how a source does: it told *error*, or an answer.
        """
        now = anyio.current_time()
        self._errors[index] = error
        if error is None:
            self._health[index] = self._health[index].now("alive", now)
            return
        was_alive = self._health[index].state == "alive"
        if was_alive and index == self._choice.index and self._feeds[index].is_telling:
            self._spoke_at = now  # until now, no word meant that nothing is new
        will_pass = isinstance(error, ResolveError) and not isinstance(error, Forbidden)
        self._health[index] = self._health[index].now("down" if will_pass else "hopeless", now)

    def _turn(self) -> bool:
        """
        See which source is to be in use now; return whether that is another one.
        """
        self._call_off()
        self._call_off = _nothing
        now, before = anyio.current_time(), self._choice.index
        choice, due = self._choice.after(
            self._health, now, patience=self._patience, knows=self._knows
        )
        self._choice = choice
        if due < math.inf:
            self._call_off = call_later(max(0.0, due - now), self._look_again)
        if choice.index == before:
            return False
        self._handover = self._handover.taken_over(choice.index, self._spoke_at, now)
        self._tell_of_change(before, choice.index)
        if self._hearing is not None:
            self._hearing.cancel()
        self._news.set()
        return True

    def _look_again(self) -> None:
        if self._turn():
            self._wake()

    def _woken(self, index: int) -> None:
        """
        Be told that a source which tells by itself has told something.
        """
        feed = self._feeds[index]
        assert isinstance(feed, Listening)
        self._note(index, feed.error)
        self._news.set()
        is_last = index + 1 == len(self._feeds)
        is_in_use = index == self._choice.index
        if self._turn() or (is_in_use and (feed.error is None or is_last)):
            self._wake()

    def _tell_of_change(self, before: int, after: int) -> None:
        old, new = shown_object(self._feeds[before].source), shown_object(self._feeds[after].source)
        if after < before:
            log(_logger, logging.INFO, "%s: %s tells again", self._question, new)
            return
        error = self._errors[before]
        known = (before, type(error) if error is not None else Exception)
        is_first = known not in self._warned
        self._warned.add(known)
        # Once in full: it may say what to grant, to be pasted.
        said = "it says nothing" if error is None else text_of(error)
        log(
            _logger,
            logging.WARNING if is_first else logging.INFO,
            "%s: %s cannot tell, and %s is asked until it can: %s",
            *(self._question, old, new, said if is_first else on_one_line(said)),
        )

    # --- what is open

    async def _arrange(self) -> None:
        """
        Open what is needed, and close what is not: those up to the one in use are needed.
        """
        for index in range(len(self._feeds)):
            if index <= self._choice.index:
                await self._open(index)
            else:
                await self._close(index)

    async def _open(self, index: int) -> None:
        feed = self._feeds[index]
        if not self._is_open[index]:
            self._is_open[index] = True
            if isinstance(feed, Listening):
                self._health[index] = Health("silent", anyio.current_time())
            await feed.open(
                partial(self._woken, index) if isinstance(feed, Listening) else _nothing
            )
        if isinstance(feed, Listening):
            return
        if index < self._choice.index and index not in self._probes:
            name = f"knet {self._question}: probe"
            self._probes[index] = HostedTask(partial(self._probe, index), name, _nothing)
        elif index == self._choice.index and index in self._probes:
            await self._end_probe(index)

    async def _close(self, index: int) -> None:
        if not self._is_open[index]:
            return
        self._is_open[index] = False
        await self._end_probe(index)
        await self._feeds[index].aclose()
        self._health[index], self._errors[index] = Health(), None

    async def _end_probe(self, index: int) -> None:
        probe = self._probes.pop(index, None)
        if probe is not None:
            probe.cancel()
            await probe.join()

    async def _probe(self, index: int) -> None:
        """
        Ask a source now and then that is not in use, to see whether it answers again.
        """
        feed, failures = self._feeds[index], 1
        while True:
            is_alive = self._health[index].state == "alive"
            wait = (
                self._policy.interval
                if is_alive
                else pace.after_failure(failures, self._policy, random.random(), starting=False)
            )
            await anyio.sleep(wait)
            try:
                heard = await feed.hear(anyio.current_time(), 0.0)
            except Exception as raised:  # noqa: BLE001 - whatever it raises, it cannot tell
                error: Exception | None = raised
            else:
                error = heard.told if isinstance(heard.told, Exception) else None
            failures = 1 if error is None else failures + 1
            self._note(index, error)
            if self._turn():
                self._wake()


def _nothing() -> None:
    pass
