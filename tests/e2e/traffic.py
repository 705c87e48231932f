"""
Requests that go on all the time while a test changes the world, and what they must never meet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus

from knet import Endpoint, NoEndpoints, Ring, Snapshot

from .fake_kube_api import Pod
from .rings import KEYS, addresses

__all__ = ["Traffic", "traffic"]


class Traffic:
    """
    Somebody who picks keys again and again, a hundred times a second and more.

    At each moment no pick raises, each goes to a pod that was there at some time, and a key has
    another pod than before only if the old one left the ring or the new one joined it.

    Attributes:
        snapshots: The generations that were met, oldest first.
        states: The states of the ring that were met, one after the other.
        may_be_empty: Whether there may be no endpoints. That is an error unless a test says so.
    """

    def __init__(self, ring: Ring, pods: Iterable[Pod]) -> None:
        self.snapshots: list[Snapshot] = []
        self.states: list[str] = []
        self.may_be_empty = False
        self._ring = ring
        self._existed: set[str | None] = set()
        self._owners: dict[str, Endpoint] = {}
        self.announce(pods)

    def announce(self, pods: Iterable[Pod]) -> None:
        """
        From now on *pods* may be picked as well.
        """
        for pod in pods:
            self._existed |= {pod.ipv4, pod.ipv6}

    @property
    def fewest(self) -> int:
        """
        How many endpoints the ring had when it had the fewest.
        """
        return min(len(snapshot.endpoints) for snapshot in self.snapshots)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        await self.pick()
        task_status.started()
        while True:
            await anyio.sleep(0.005)
            await self.pick()

    async def pick(self) -> None:
        """
        Pick every key once, and look at what came.
        """
        snapshot, state = self._ring.snapshot, self._ring.state
        if not self.states or state != self.states[-1]:
            self.states.append(state)
        previous = self.snapshots[-1] if self.snapshots else snapshot
        if not self.snapshots or snapshot is not previous:
            self.snapshots.append(snapshot)
        before, self._owners = self._owners, {}
        try:
            for key in KEYS[::10]:
                self._owners[key] = await self._ring.get(key)
        except NoEndpoints:
            assert self.may_be_empty
            assert state == "empty"
        # A pick of a ring that has started is no checkpoint: all of them are from one snapshot.
        assert self._ring.snapshot is snapshot
        assert addresses(self._owners.values()) <= self._existed
        then, now = set[str](), set[str]()
        if snapshot is not previous:
            then, now = _names(previous), _names(snapshot)
        for key, owner in self._owners.items():
            old = before.get(key, owner)
            if old.name != owner.name:
                assert old.name in then - now or owner.name in now - then, f"{key} moved"


def _names(snapshot: Snapshot) -> set[str]:
    return {endpoint.name for endpoint in snapshot.endpoints}


@asynccontextmanager
async def traffic(ring: Ring, pods: Iterable[Pod]) -> AsyncIterator[Traffic]:
    """
    Have requests for the keys of *ring* meanwhile; *pods* are those that are there at first.
    """
    flow = Traffic(ring, pods)
    async with anyio.create_task_group() as tasks:
        await tasks.start(flow.run)
        yield flow
        tasks.cancel_scope.cancel()
    await flow.pick()
