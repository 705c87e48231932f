"""
`knet.Ring` behind two real CoreDNS that disagree, as behind the virtual IP of kube-dns.

For seconds after a change the cache of one is older than that of the other, and a client that is
sent to each in turn hears of the new pods, of the old ones, and of the new ones again. Or one of
them has lost the API, and knows less than the other for as long as that lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import anyio
import pytest

from knet import Answer, Change, RefreshPolicy, Resolver, Ring

from .coredns import ZONE, CoreDNS
from .fake_kube_api import FakeKubeAPI, HeadlessService, Pod, Port
from .relay import Relay
from .rings import QUICK, WEB, addresses, asked, deployment, resolver_at, ring_at, shown, until
from .traffic import traffic

pytestmark = pytest.mark.anyio

TTL = 5  # the least that the cache of CoreDNS keeps anything for

POLICY = RefreshPolicy(interval=0.3, min_interval=0.1)

CHANGES = {
    "removal": (deployment(4), deployment(3)),
    "addition": (deployment(3), deployment(4)),
    "replacement": (deployment(4), [*deployment(3), *deployment(1, start=9)]),
}


class Recorder:
    """
    A resolver that writes down what it told its ring: c-ares may have asked more than once for it.
    """

    def __init__(self, resolver: Resolver, told: list[Answer]) -> None:
        self._resolver = resolver
        self._told = told

    async def resolve(self, service: str, **options: Any) -> Answer:
        answer = await self._resolver.resolve(service, **options)
        self._told.append(answer)
        return answer


@dataclass
class Case:
    """
    A Service that changes once, and what a ring made of it.

    Attributes:
        left: The TTL that its answer has left in the older cache when the younger one is filled.
        told: What the ring was told.
        seen: The changes of the ring, each with how many answers it had been told by then.
    """

    name: str
    service: HeadlessService
    old: list[Pod]
    new: list[Pod]
    left: int
    told: list[Answer] = field(default_factory=list)
    seen: list[tuple[Change, int]] = field(default_factory=list)

    def story(self) -> str:
        """
        Return what the ring was told, and what it made of it, for people to read.
        """
        lines = [self.name]
        for count, answer in enumerate(self.told, start=1):
            lines.append(f"ttl {answer.ttl}: {sorted(addresses(answer.endpoints))}")
            lines += [
                f"    + {sorted(addresses(c.added))} - {sorted(addresses(c.removed))}"
                for c, after in self.seen
                if after == count
            ]
        return "\n".join(lines)


def ttl_of(server: CoreDNS, name: str) -> int:
    return server.query(name).answer[0].ttl


async def test_a_ring_between_two_caches_does_not_blink(
    kube_api: FakeKubeAPI, new_coredns: Callable[..., CoreDNS]
) -> None:
    """
    One change is two snapshots at most: who joined stays, and who left stays away. A new pod is
    there with the first answer that names it, and an old one is gone no later than with the second
    one after the last that does.
    """
    cases = []
    for kind, (old, new) in CHANGES.items():
        # Whole seconds apart: a TTL does not tell which of two answers is older by less than one.
        for left in (3, 2):
            web = kube_api.create_service(f"{kind}-{left}", "prod", Port("http", 8080))
            web.set_pods(old)
            cases.append(Case(f"{kind}-{left}.prod.svc.{ZONE}", web, old, new, left))

    # After the services, since a cache would also keep that there are none.
    older, younger = new_coredns(ttl=TTL, cache=30), new_coredns(ttl=TTL, cache=30)
    for case in cases:
        older.query(case.name)
    for case in sorted(cases, key=lambda case: -case.left):
        await until(partial(ttl_of, older, case.name), case.left)
        younger.query(case.name)

    with Relay(older.port, younger.port) as relay:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            rings = {}
            for case in cases:
                recorder = Recorder(resolver_at(relay), case.told)
                ring = Ring(case.name, port=8080, resolver=recorder, refresh=POLICY)
                rings[case.name] = await stack.enter_async_context(ring)
                await stack.enter_async_context(traffic(ring, [*case.old, *case.new]))
                tasks.start_soon(follow, case, ring)
            for case in cases:
                assert shown(rings[case.name]) == addresses(case.old)
                case.service.set_pods(case.new)
            for case in cases:
                # Once both have said so, neither can say otherwise any more.
                await until(partial(latest, relay, case.name), [addresses(case.new)] * 2)
            async with anyio.create_task_group() as settling:
                for ring in rings.values():
                    settling.start_soon(asked, ring, 3)

        for case in cases:
            assert_no_blink(case)
        assert any(old_after_new(case) for case in cases)


async def follow(case: Case, ring: Ring) -> None:
    async for change in ring.changes():
        case.seen.append((change, len(case.told)))


def latest(relay: Relay, name: str) -> list[set[str]]:
    """
    Return what the older server and the younger one said last.
    """
    said = {one.server: set(one.addresses) for one in relay.about(name)}
    return [said.get(0, set()), said.get(1, set())]


def old_after_new(case: Case) -> bool:
    """
    Return whether the servers disagreed, which a machine that is busy elsewhere may sleep through.
    """
    new = [addresses(answer.endpoints) == addresses(case.new) for answer in case.told]
    return True in new and False in new[new.index(True) :]


def assert_no_blink(case: Case) -> None:
    story = case.story()
    old, new = addresses(case.old), addresses(case.new)
    told = [addresses(answer.endpoints) for answer in case.told]
    added = [(e.address, after) for change, after in case.seen for e in change.added]
    removed = [(e.address, after) for change, after in case.seen for e in change.removed]
    assert len(case.seen) <= 2, story
    assert sorted(address for address, _ in added) == sorted(new - old), story
    assert sorted(address for address, _ in removed) == sorted(old - new), story
    for address, after in added:
        assert after == 1 + next(n for n, named in enumerate(told) if address in named), story
    for address, after in removed:
        assert after <= 3 + max(n for n, named in enumerate(told) if address in named), story


@pytest.mark.parametrize("known", [0, 2])
async def test_a_replica_that_knows_less_is_not_felt(
    kube_api: FakeKubeAPI, new_coredns: Callable[..., CoreDNS], known: int
) -> None:
    """
    Its answers are doubted, and the other one's in between clear that up, however long it lasts.
    """
    pods = deployment(4)
    with FakeKubeAPI() as other_api:
        for api, count in ((kube_api, 4), (other_api, known)):
            api.create_service("web", "prod", Port("http", 8080)).set_pods(pods[:count])
        whole, part = new_coredns(), new_coredns(api=other_api)
        brief = replace(QUICK, empty_hold=0.1)
        with Relay(whole.port, part.port) as relay:
            async with (
                ring_at(relay, port=8080, refresh=brief) as ring,
                traffic(ring, pods) as flow,
            ):
                await asked(ring, 12)

            assert latest(relay, WEB) == [addresses(pods), addresses(pods[:known])]
            assert len(flow.snapshots) == flow.snapshots[-1].generation == 1


async def test_a_replica_that_has_not_seen_the_api_is_not_felt(
    kube_api: FakeKubeAPI, new_coredns: Callable[..., CoreDNS]
) -> None:
    """
    It says SERVFAIL to every other query.
    """
    pods = deployment(4)
    kube_api.create_service("web", "prod", Port("http", 8080)).set_pods(pods)
    well, ill = new_coredns(), new_coredns()
    ill.stop()
    kube_api.stop()
    ill.start(synced=False)

    with Relay(well.port, ill.port) as relay:
        async with ring_at(relay, port=8080) as ring, traffic(ring, pods) as flow:
            await asked(ring, 6)

        assert {"NOERROR", "SERVFAIL"} == {one.rcode for one in relay.about(WEB)}
        assert len(flow.snapshots) == flow.snapshots[-1].generation == 1
