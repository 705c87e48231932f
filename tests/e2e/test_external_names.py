"""
`knet.Resolver` and ExternalName Services of a real CoreDNS: where they lead, and who goes there.
"""

from __future__ import annotations

import pytest

from knet import NoData, ResolveError

from .coredns import ZONE, CoreDNS
from .fake_kube_api import SERVICES, FakeKubeAPI, Object
from .rings import WEB, addresses, deployment, resolver_at

pytestmark = pytest.mark.anyio

SHOP = f"shop.prod.svc.{ZONE}"


def external_name(kube_api: FakeKubeAPI, target: str) -> None:
    """
    Make the Service `shop.prod` stand for *target*.
    """
    spec: Object = {"type": "ExternalName", "externalName": target}
    kube_api.change(lambda: kube_api.store(SERVICES, "prod", "shop", {"spec": spec}))


async def test_an_external_name_is_followed_only_with_the_opt_in(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    CoreDNS sends the addresses along, and still nobody asked for the name that they are of.
    """
    kube_api.create_service("web", "prod").set_pods(deployment(2))
    external_name(kube_api, WEB)
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    coredns.wait_for(SHOP, {"10.1.0.1", "10.1.0.2"})

    with pytest.raises(NoData, match=rf"leads to {WEB}.*Resolver\(external=True\)"):
        await resolver_at(coredns).resolve(SHOP, port=80)
    answer = await resolver_at(coredns, external=True).resolve(SHOP, port=80)

    assert addresses(answer.endpoints) == {"10.1.0.1", "10.1.0.2"}
    assert answer.name == SHOP


async def test_the_target_that_coredns_does_not_look_up_is_asked_for(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Without `forward` its answer ends at the CNAME, and so does what it knows.
    """
    kube_api.create_service("web", "prod").set_pods(deployment(1))
    external_name(kube_api, "db.example.test")
    coredns.wait_for(WEB, {"10.1.0.1"})

    with pytest.raises(NoData, match=r"leads to db\.example\.test"):
        await resolver_at(coredns).resolve(SHOP, port=80)
    with pytest.raises(ResolveError, match=rf"{SHOP}\. is an alias of it") as caught:
        await resolver_at(coredns, external=True).resolve(SHOP, port=80)

    assert caught.value.name == "db.example.test."
