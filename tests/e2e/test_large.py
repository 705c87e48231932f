"""
Services of a thousand pods, and of more than a DNS message can carry, on a real CoreDNS.

A message ends at 64 KiB: after 4,092 A records, 2,338 AAAA records or, with names as short as here,
some 1,200 SRV records; with their addresses some 800. Of more than that CoreDNS sends what fits, and
others each time, and c-ares does not tell that something is missing. The size does: an answer near
the limit adds pods and removes none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import dns.flags
import pytest

from knet.hashring import HashRing

from .coredns import CoreDNS
from .fake_kube_api import FakeKubeAPI, HeadlessService, Pod, Port
from .rings import (
    KEYS,
    QUICK,
    WEB,
    addresses,
    asked,
    deployment,
    picks,
    picks_of_addresses,
    resolver_at,
    ring_at,
    shown,
    stateful_set,
    until,
)
from .traffic import traffic

pytestmark = pytest.mark.anyio

# As soon as one lookup has ended the next one begins: it takes long enough by itself.
HASTY = replace(QUICK, interval=0.05)

FAMILIES: dict[Literal["ipv4", "ipv6"], list[Pod]] = {
    "ipv4": deployment(4_200),
    "ipv6": [Pod(ipv6=f"fd00::{n:x}") for n in range(1, 2_401)],
}


@pytest.fixture
def web(kube_api: FakeKubeAPI) -> HeadlessService:
    return kube_api.create_service("web", "prod", Port("http", 8080))


def is_cut_off(coredns: CoreDNS, rdtype: str) -> bool:
    """
    Does an answer about the pods not even fit into TCP?
    """
    return bool(coredns.query(WEB, rdtype, tcp=True).flags & dns.flags.TC)


# --- what fits, more or less


async def test_a_thousand_pods_of_a_stateful_set_own_their_keys_by_hostname(
    web: HeadlessService, coredns: CoreDNS
) -> None:
    """
    Two thirds of the addresses do not fit into the message with the SRV records and are asked for
    one by one, others at each lookup. The ring picks as one that was given all pods at once, and
    further lookups change nothing.
    """
    pods = stateful_set(1_000)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port="http", refresh=HASTY) as ring, traffic(ring, pods):
        await asked(ring, 2)

        assert shown(ring) == addresses(pods)
        assert ring.snapshot.generation == 1
        static = HashRing([f"{pod.hostname}.{WEB}" for pod in pods])
        assert [e.name for e in picks(ring)] == [static.get(key) for key in KEYS]


async def test_slices_that_are_written_one_by_one_lose_no_pod(
    web: HeadlessService, coredns: CoreDNS
) -> None:
    """
    A thousand pods are ten objects, and while a rollout writes one after the other, every answer is
    of a moment in between. No pod that stays is ever out of the ring.
    """
    before, after = deployment(1_000), []
    web.set_pods(before)
    coredns.wait_for(WEB, addresses(before))

    async with ring_at(coredns, port=8080, refresh=HASTY) as ring, traffic(ring, before) as flow:
        for number in range(10):
            stay = before[100 * number + 20 : 100 * number + 100]
            new = deployment(20, start=2_000 + 20 * number)
            flow.announce(new)
            web.set_slice(number, [*stay, *new])
            after += [*stay, *new]
            await asked(ring)
        await until(lambda: shown(ring), addresses(after), within=60)

        stayed = addresses(before) & addresses(after)
        assert all(stayed <= addresses(met.endpoints) for met in flow.snapshots)
        assert [e.address for e in picks(ring)] == picks_of_addresses(after)


# --- what does not


@pytest.mark.parametrize("family", FAMILIES)
async def test_addresses_beyond_a_message_are_known_to_be_incomplete(
    web: HeadlessService, coredns: CoreDNS, family: Literal["ipv4", "ipv6"]
) -> None:
    """
    All of them exist, some are missing, and the answer says that it is not the whole.
    """
    pods = FAMILIES[family]
    web.set_pods(pods)
    rdtype = "A" if family == "ipv4" else "AAAA"
    await until(lambda: is_cut_off(coredns, rdtype), True)

    answer = await resolver_at(coredns).resolve(WEB, family=family)

    assert addresses(answer.endpoints) < addresses(pods)
    assert not answer.complete


async def test_a_ring_outgrows_a_message_and_is_itself_again_when_all_fit(
    web: HeadlessService, coredns: CoreDNS
) -> None:
    """
    Of 4,200 pods each answer names others. The ring comes to know them all and never loses one; and
    once there are so few that an answer is whole, the rest leave it.
    """
    pods = deployment(4_200)
    web.set_pods(pods)

    async with ring_at(coredns, port=8080, refresh=HASTY) as ring, traffic(ring, pods) as flow:
        await until(lambda: shown(ring), addresses(pods), within=60)
        grown = ring.snapshot
        await asked(ring, 3)
        assert ring.snapshot is grown
        met = [addresses(snapshot.endpoints) for snapshot in flow.snapshots]
        assert all(before < after for before, after in pairwise(met))

        web.set_pods(pods[:1_000])
        await until(lambda: shown(ring), addresses(pods[:1_000]), within=60)
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods[:1_000])


@pytest.mark.parametrize(("kind", "count"), [(deployment, 1_200), (stateful_set, 1_250)])
async def test_pods_leave_a_ring_by_srv_once_an_answer_is_whole(
    web: HeadlessService, coredns: CoreDNS, kind: Callable[[int], list[Pod]], count: int
) -> None:
    """
    With so many pods no answer with SRV records is, and who dies meanwhile stays: the price of a
    named port in a large service. At 900 they are gone.
    """
    pods = kind(count)
    web.set_pods(pods)

    async with ring_at(coredns, port="http", refresh=HASTY) as ring, traffic(ring, pods):
        await until(lambda: shown(ring), addresses(pods), within=60)
        web.set_pods(pods[:-20])
        coredns.wait_for(WEB, addresses(pods[:-20]))
        await asked(ring, 2)
        assert shown(ring) == addresses(pods)

        web.set_pods(pods[:900])
        await until(lambda: shown(ring), addresses(pods[:900]), within=60)
