"""
One request for many keys: split by pod, and what a pod cannot serve by the next pod of each key.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import anyio

from knet.endpoint import Endpoint
from knet.errors import NoEndpoints
from knet.hashring.placement import key_list
from knet.ring.detour import Detour
from knet.ring.life import Life
from knet.ring.serving import Attempts, Options, Serving, first_picks
from knet.ring.words import shown_object
from knet.snapshot import Snapshot

__all__ = ["by_pod", "call_many"]

K = TypeVar("K", str, bytes)
T = TypeVar("T")
Fetch = Callable[[Endpoint, list[K]], Awaitable[Mapping[K, T]]]


def by_pod(
    keys: Iterable[str | bytes], pods: Iterable[Endpoint]
) -> dict[Endpoint, list[str | bytes]]:
    """
    Return the keys of each pod, in their order; *pods* has the one of each key.
    """
    groups: dict[Endpoint, list[str | bytes]] = {}
    for key, pod in zip(keys, pods, strict=True):
        groups.setdefault(pod, []).append(key)
    return groups


async def call_many(
    life: Life, serving: Serving, keys: Iterable[K], function: Fetch[K, T], options: Options
) -> dict[K, T]:
    """
    Return what *function* finds for *keys*; see `Ring.call_many`.
    """
    wanted = cast("list[K]", list(dict.fromkeys(key_list(keys))))
    picks = serving.picks or await first_picks(life, serving)
    life.check_thread()
    if not wanted:
        return {}
    # There is one deadline, for all parts together.
    batch = _Batch(life, serving, picks, function, replace(options, total=None))
    deadline = math.inf if options.total is None else anyio.current_time() + options.total
    with anyio.CancelScope(deadline=deadline) as scope:
        try:
            first = picks.get_many(wanted)
        except NoEndpoints:
            raise life.no_endpoints() from None
        try:
            await batch.serve(wanted, first, 0, None)
        except BaseExceptionGroup as group:  # an interrupt leaves as itself, too
            raise _leaf(group) from None
    if batch.failed is not None:
        raise batch.failed
    if scope.cancelled_caught:
        serving.counts.fail("late")
        raise TimeoutError(
            f"{len(wanted) - len(batch.found)} of {len(wanted)} keys were not served within {options.total:g} s"
        )
    found = cast("dict[K, T]", batch.found)
    return {key: found[key] for key in wanted if key in found}


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Batch:
    """
    What is found so far, and which error ends it.
    """

    def __init__(
        self,
        life: Life,
        serving: Serving,
        picks: Snapshot | Detour,
        function: Fetch[K, T],
        options: Options,
    ) -> None:
        self._life = life
        self._serving = serving
        self._picks = picks
        self._function: Callable[[Endpoint, list[str | bytes]], Awaitable[object]]
        self._function = function  # type: ignore[assignment] # who asks gives the keys
        self._options = options
        self.found: dict[object, object] = {}
        self.failed: Exception | None = None

    async def serve(
        self,
        keys: Iterable[str | bytes],
        pods: Iterable[Endpoint],
        rank: int,
        before: Attempts | None,
    ) -> None:
        """
        Ask all pods at once, each for its keys.

        Args:
            keys: Which ones.
            pods: Which pod each of them is asked of.
            rank: How many pods of each key were asked before.
            before: What failed before, for these keys.
        """
        async with anyio.create_task_group() as tasks:
            for pod, part in by_pod(keys, pods).items():
                tasks.start_soon(self._serve_part, pod, part, rank, before, tasks.cancel_scope)

    async def _serve_part(
        self,
        pod: Endpoint,
        part: list[str | bytes],
        rank: int,
        before: Attempts | None,
        others: anyio.CancelScope,
    ) -> None:
        choices = self._picks.get_n(part[0], self._options.n)
        tries = Attempts.part(
            self._life,
            self._serving,
            part[0],
            self._options,
            picks=self._picks,
            # As many are left for one key of the part as for another.
            pods=(pod, *choices[rank + 1 :]),
            before=before,
        )
        try:
            async with tries:
                self._take(part, await self._function(pod, list(part)))
                return
        except Exception as error:  # noqa: BLE001 - it ends all of it, as itself and in no group
            if self.failed is None:
                self.failed = error
            others.cancel()
            return
        n = self._options.n
        following = [self._picks.get_n(key, n)[rank + 1] for key in part]
        await self.serve(part, following, rank + 1, tries)
        if self.failed is not None:
            others.cancel()

    def _take(self, part: Sequence[str | bytes], found: object) -> None:
        if not isinstance(found, Mapping):
            raise TypeError(
                f"what call_many calls returns what it has found, by key, not {shown_object(found)[:200]}"
            )
        strangers = found.keys() - set(part)
        if strangers:
            raise TypeError(
                f"it was not asked for {shown_object(next(iter(strangers)))[:200]}: keys are given back as they came"
            )
        self.found.update(found)
