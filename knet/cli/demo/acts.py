"""
The demo: knet's main job on a service of its own, played in acts.

Pods that really answer, a DNS server in front of them, one ring, and a stream of requests for the
keys of a thousand users. Here the pods come and go and what happens is counted. How it looks is
left to `screen`, whether it was right to `verdict`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import anyio

from knet import (
    Change,
    Endpoint,
    KnetError,
    NoEndpoints,
    RefreshPolicy,
    Resolver,
    Ring,
    Snapshot,
    may_repeat,
)
from knet.cli.demo.pods import PORT, Fleet, ask, fetch, short
from knet.cli.demo.screen import Scene, View
from knet.cli.demo.verdict import Act
from knet.testing import HeadlessService

__all__ = ["Played", "play"]

_SERVICE = "web.demo.svc.cluster.local"
_USERS = tuple(f"user-{n}" for n in range(1000))

# Each worker sends a request, waits for the reply, rests: some 300 requests a second in all.
_WORKERS = 8
_REST = 0.02

# Whatever an act waits for comes within a fraction of a second; this ends a demo that hangs.
_DEADLINE = 15.0
_LOOK_AGAIN = 0.01
_FRAME = 0.1


@dataclass(frozen=True, slots=True)
class Played:
    """
    What there is to say in the end.

    Attributes:
        acts: In the order they were played.
        notes: What was measured besides, a sentence each.
    """

    acts: tuple[Act, ...]
    notes: tuple[str, ...]


async def play(view: View, *, pods: int, seconds: float) -> Played:
    """
    Play the demo once, and leave nothing running.

    Args:
        view: What shows it.
        pods: How many there are at first, at least 2: two of them are killed, and one joins.
        seconds: About how long it takes; every act gets its part.
    """
    async with Fleet() as fleet:
        made = [await fleet.start(f"web-{ordinal}") for ordinal in range(pods)]
        async with HeadlessService(_SERVICE, pods=made) as service:
            beat = seconds / len(_ACTS)
            ring = Ring(
                service.name,
                port=PORT,
                resolver=Resolver(nameservers=[service.nameserver]),
                refresh=_policy(beat),
            )
            async with ring:
                stage = _Stage(view, service, fleet, ring, beat)
                return await stage.play()


def _policy(beat: float) -> RefreshPolicy:
    """
    The defaults of `RefreshPolicy`, sped up so that an act shows what takes seconds otherwise.
    """
    often, seldom = beat * 0.04, beat * 0.4
    return RefreshPolicy(
        interval=seldom, min_interval=often, retry=often, max_retry=seldom, jitter=0.0
    )


@dataclass(slots=True)
class _Tally:
    """
    What became of the requests of one act.
    """

    answered: int = 0
    unanswered: int = 0
    wrong: int = 0
    failed_gets: int = 0


class _Stage:
    """
    Everything that takes part, and the acts.
    """

    def __init__(
        self, view: View, service: HeadlessService, fleet: Fleet, ring: Ring, beat: float
    ) -> None:
        self._view = view
        self._service = service
        self._fleet = fleet
        self._ring = ring
        self._beat = beat
        self._users: Iterator[str] = itertools.cycle(_USERS)
        self._notes: list[str] = []
        self._scene = Scene(service=service.name, acts=len(_ACTS))

    # --- the frame

    async def play(self) -> Played:
        self._learn(self._ring.snapshot)
        acts: list[Act] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_drawing)
            tasks.start_soon(self._tell_changes)
            for number, part in enumerate(_ACTS, 1):
                acts.append(await self._act(number, part))
            tasks.cancel_scope.cancel()
        self._draw()
        return Played(tuple(acts), tuple(self._notes))

    async def _act(self, number: int, part: _Part) -> Act:
        """
        Play one act under traffic; its requests are all over when it ends.
        """
        before, pods_before = self._picks(), self._in_dns()
        tally, over, trouble = _Tally(), anyio.Event(), None
        title = part.title
        self._scene.begin(number, title)
        self._view.heading(f"{number}/{len(_ACTS)} {title}")
        ends = anyio.current_time() + self._beat
        async with anyio.create_task_group() as tasks:
            for _ in range(_WORKERS):
                tasks.start_soon(self._send_requests, tally, over, part.calls)
            try:
                with anyio.fail_after(_DEADLINE):
                    await part.play(self)
            except TimeoutError:
                trouble = f"what was awaited did not happen within {_DEADLINE:.0f} s"
            # The rest of the beat, and in any case a few requests in the new order of things.
            await anyio.sleep(max(ends - anyio.current_time(), 3 * _REST))
            over.set()
        act = Act(
            title=title,
            before=before,
            after=self._picks(),
            pods_before=pods_before,
            pods_after=self._in_dns(),
            answered=tally.answered,
            unanswered=tally.unanswered,
            wrong=tally.wrong,
            failed_gets=tally.failed_gets,
            deadly=part.deadly,
            cured=part.calls,
            trouble=trouble,
        )
        self._say(_told(act))
        return act

    async def _send_requests(self, tally: _Tally, over: anyio.Event, calls: bool) -> None:
        """
        Be one client: pick, ask the picked pod, and see who answers.
        """
        send = self._call if calls else self._get_and_ask
        while not over.is_set():
            user = next(self._users)
            try:
                endpoint, name = await send(user)
            except NoEndpoints as error:
                tally.failed_gets += 1
                self._scene.failed_gets += 1
                self._say(f"the pick for {user} failed: {error}")
                await anyio.sleep(_REST)
                continue
            if name is None:
                tally.unanswered += 1
                self._scene.unanswered += 1
            elif name != short(endpoint):
                tally.wrong += 1
                self._scene.wrong += 1
                self._say(f"{name} answered for {user}, whose pod is {short(endpoint)}")
            else:
                tally.answered += 1
                self._scene.requests[name] += 1
            await anyio.sleep(_REST)

    async def _get_and_ask(self, user: str) -> tuple[Endpoint, str | None]:
        """
        Ask the pod that the ring picks, and nobody else.
        """
        endpoint = await self._ring.get(user)
        return endpoint, await ask(endpoint, user)

    async def _call(self, user: str) -> tuple[Endpoint, str | None]:
        """
        Let the ring go on with the next pod where one does not answer: reading may be done twice.
        """
        asked: list[Endpoint] = []

        async def read(endpoint: Endpoint) -> str:
            asked.append(endpoint)
            return await fetch(endpoint, user)

        try:
            name: str | None = await self._ring.call(user, read, retry_on=may_repeat)
        except KnetError:
            raise
        except Exception:  # noqa: BLE001 - whatever it was, nobody answered
            name = None
        return asked[-1], name

    async def _keep_drawing(self) -> None:
        while True:
            self._draw()
            await anyio.sleep(_FRAME)

    def _draw(self) -> None:
        self._scene.state = self._ring.state
        self._view.draw(self._scene)

    async def _tell_changes(self) -> None:
        """
        Say what each new snapshot brought, and which keys moved.
        """
        async for change in self._ring.changes():
            owners = self._scene.owners
            self._learn(change.after)
            self._say(f"generation {change.after.generation}: {_who(change)}")
            moved = [
                f"{user} {owners[user]} > {pod}"
                for user, pod in self._scene.owners.items()
                if owners[user] != pod
            ]
            if moved:
                self._say("moves: " + ", ".join(moved[:3]) + (", ..." if moved[3:] else ""))

    def _learn(self, snapshot: Snapshot) -> None:
        """
        Show the pods and the picks of *snapshot*.
        """
        shares = snapshot.share()
        pods = {short(e): (str(e), shares[e]) for e in snapshot.endpoints}
        self._scene.learn(pods, self._picks(snapshot), snapshot.generation)

    def _picks(self, snapshot: Snapshot | None = None) -> dict[str, str]:
        """
        The pod of every user.
        """
        picked = (snapshot or self._ring.snapshot).get_many(_USERS)
        return {user: short(endpoint) for user, endpoint in zip(_USERS, picked, strict=True)}

    def _in_dns(self) -> frozenset[str]:
        return frozenset(pod.name for pod in self._service.pods if pod.ready)

    def _say(self, text: str) -> None:
        self._scene.news.append(text)
        self._view.news(text)

    # --- what acts wait for

    async def _until_known(self) -> None:
        """
        Wait until the ring knows the pods that are in DNS, at their addresses.
        """
        known = {(pod.name, pod.ports[PORT]) for pod in self._service.pods if pod.ready}
        changes = self._ring.changes()
        while {(short(e), e.port) for e in self._ring.snapshot.endpoints} != known:
            await anext(changes)

    async def _until_it_looked(self) -> None:
        """
        Wait until an answer has come in.
        """
        age = math.inf

        def is_younger() -> bool:
            nonlocal age
            before, age = age, self._ring.stats().last_success_age or 0.0
            return age < before

        is_younger()
        await _until(is_younger)

    async def _until_missed(self) -> None:
        """
        Wait for a request that nobody answers, or that goes on with another pod.
        """
        unanswered = self._scene.unanswered
        await _until(lambda: self._scene.unanswered > unanswered or bool(self._ring.ejected))

    # --- the acts

    async def steady(self) -> None:
        share = f"{1 / len(self._in_dns()):.1%}"
        self._say(f"{len(_USERS):,} users, each at one of {len(self._in_dns())} pods: {share} each")

    async def add(self) -> None:
        pod = await self._fleet.start(f"web-{len(self._service.pods)}")
        self._service.add(pod)
        self._say(f"{pod.name} is ready; the ring finds it at its next lookup")
        await self._until_known()

    async def kill_and_wait(self) -> None:
        seconds = await self._kill("web-1")
        self._notes.append(
            f"Waiting for the next lookup, a dead pod left the ring {seconds:.2f} s after DNS "
            "dropped it."
        )

    async def kill_and_call(self) -> None:
        seconds = await self._kill("web-2")
        self._notes.append(
            "With `ring.call`, which goes on with the next pod and asks DNS, the requests of a dead pod "
            f"are answered all the same; it left the ring after {seconds:.2f} s."
        )

    async def _kill(self, name: str) -> float:
        """
        Let *name* die; return for how many seconds the ring kept it after DNS did not.
        """
        await self._fleet.kill(name)
        self._scene.mark_dead(name)
        self._say(f"{name} died; DNS still names it, as until Kubernetes notices")
        await self._until_missed()
        await anyio.sleep(self._beat * 0.1)
        # Dropped just after the ring looked: the longest that it can take.
        await self._until_it_looked()
        self._service.unready(name)
        dropped = anyio.current_time()
        self._say(f"DNS drops {name}")
        await self._until_known()
        return anyio.current_time() - dropped

    async def restart(self) -> None:
        name = "web-0"
        await self._fleet.kill(name)
        self._scene.mark_dead(name)
        self._say(f"{name} restarts: the same name at a new address, as in a StatefulSet")
        self._service.replace(name, await self._fleet.start(name))
        await self._until_known()

    async def outage(self) -> None:
        with self._service.failing("SERVFAIL"):
            self._say("DNS answers SERVFAIL; picks come from memory")
            await self._ring.wait_for("stale")
            self._say("the ring is stale: it keeps what it knows and asks again")
            await anyio.sleep(self._beat * 0.3)
        self._say("DNS is back")
        await self._ring.wait_for("fresh")


async def _until(condition: Callable[[], bool]) -> None:
    """
    Wait for what has no event of its own: a lookup, a count.
    """
    while not condition():  # noqa: ASYNC110
        await anyio.sleep(_LOOK_AGAIN)


def _who(change: Change) -> str:
    """
    Say which pods came, went, or have another address.
    """
    came = {short(e): str(e) for e in change.added}
    gone = {short(e) for e in change.removed}
    return ", ".join(
        [f"{name} is at {came[name]} now" for name in sorted(came.keys() & gone)]
        + [f"+{name} ({came[name]})" for name in sorted(came.keys() - gone)]
        + [f"-{name}" for name in sorted(gone - came.keys())]
    )


def _told(act: Act) -> str:
    text = (
        f"moved: {len(act.moved)} keys ({act.moved_share:.1%}, ideal {act.ideal_share:.1%}), "
        f"{len(act.without_cause)} without cause; {act.answered} answered"
    )
    return f"{text}, {act.unanswered} not" if act.unanswered else text


@dataclass(frozen=True, slots=True)
class _Part:
    """
    An act as it is written.

    Attributes:
        title: What it is called.
        play: What happens in it.
        deadly: Whether a pod is down in it.
        calls: Whether clients use `Ring.call`, which goes on with the next pod.
    """

    title: str
    play: Callable[[_Stage], Awaitable[None]]
    deadly: bool = False
    calls: bool = False


_ACTS = (
    _Part("steady", _Stage.steady),
    _Part("a pod joins", _Stage.add),
    _Part("a pod dies", _Stage.kill_and_wait, deadly=True),
    _Part("a pod dies; call", _Stage.kill_and_call, deadly=True, calls=True),
    _Part("a pod restarts; call", _Stage.restart, deadly=True, calls=True),
    _Part("DNS is down", _Stage.outage),
)
