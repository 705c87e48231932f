"""
Pods come, go and change, and the next answer shows it.
"""

from __future__ import annotations

import itertools
import threading

import pytest

from knet.errors import ConfigError
from knet.testing import HeadlessService, Pod, Port

from .asking import addresses, ask, data

WEB = "web.prod.svc.cluster.local."


def targets(service: HeadlessService) -> list[str]:
    reply = ask(service, f"_http._tcp.{WEB}", "SRV")
    return [record.split()[3].partition(".")[0] for record in data(reply)]


def names(service: HeadlessService) -> list[str]:
    return [pod.name for pod in service.pods]


def test_scaling_is_in_the_very_next_answer() -> None:
    with HeadlessService("web.prod", pods=3) as service:
        for n in (5, 1, 0, 8):
            assert len(service.scale(n)) == n
            assert len(addresses(service)) == n


def test_a_stateful_service_shrinks_from_the_top_and_grows_back_with_the_same_names() -> None:
    with HeadlessService("web.prod", pods=4, stateful=True) as service:
        before = {pod.hostname: pod.addresses for pod in service.pods}
        service.scale(2)
        assert targets(service) == ["web-0", "web-1"]
        service.scale(3)
        assert targets(service) == ["web-0", "web-1", "web-2"]

        after = {pod.hostname: pod.addresses for pod in service.pods}
        assert after["web-1"] == before["web-1"]
        assert after["web-2"] != before["web-2"]


def test_a_deployment_shrinks_by_its_unready_pods_first_then_its_youngest() -> None:
    service = HeadlessService("web.prod", pods=4)
    service.unready("10.244.0.2")

    service.scale(2)

    assert names(service) == ["10-244-0-3", "10-244-0-4"]


def test_an_address_is_not_given_out_twice() -> None:
    service = HeadlessService("web.prod", pods=1)
    seen = {service.replace(service.pods[0]).address for _ in range(50)}

    assert len(seen) == 50


def test_addresses_are_reused_once_the_network_is_used_up() -> None:
    service = HeadlessService("web.prod", pods=0, networks=["10.0.0.0/29"])

    seen = []
    for _ in range(8):
        pod = service.add()
        seen.append(pod.address)
        service.remove(pod)

    assert seen[:5] == [f"10.0.0.{n}" for n in range(2, 7)]
    assert seen[5:] == seen[:3]
    with pytest.raises(ConfigError, match="no address is left"):
        service.scale(6)


def test_pods_can_have_loopback_addresses() -> None:
    service = HeadlessService("web.prod", pods=2, networks=["127.0.0.0/8"])

    assert [pod.address for pod in service.pods] == ["127.0.0.2", "127.0.0.3"]


def test_a_pod_can_be_added_as_nothing_an_address_a_hostname_or_a_pod() -> None:
    with HeadlessService("web.prod", pods=0) as service:
        assert service.add() == Pod("10.244.0.2")
        assert service.add("10.9.9.9") == Pod("10.9.9.9")
        assert service.add("special") == Pod("10.244.0.3", hostname="special")
        assert service.add(Pod(ready=False)) == Pod("10.244.0.4", ready=False)
        assert addresses(service) == {"10.244.0.2", "10.9.9.9", "10.244.0.3"}
        assert targets(service) == ["10-244-0-2", "10-9-9-9", "special"]


def test_a_pod_is_found_by_value_hostname_dashed_name_or_address() -> None:
    service = HeadlessService("web.prod", pods=["10.0.0.1", "10.0.0.2", "10.0.0.3", "b"])

    assert service.remove("10.0.0.1").address == "10.0.0.1"
    assert service.remove("10-0-0-2").address == "10.0.0.2"
    assert service.remove(Pod("10.0.0.3")).address == "10.0.0.3"
    assert service.remove("b").hostname == "b"
    assert service.pods == ()


def test_a_pod_value_stays_good_when_the_pod_changes_its_readiness() -> None:
    with HeadlessService("web.prod", pods=2) as service:
        pod = service.pods[0]

        assert service.unready(pod).ready is False
        assert addresses(service) == {"10.244.0.3"}
        assert service.ready(pod) == pod
        assert len(addresses(service)) == 2


def test_an_unknown_pod_is_a_lookup_error_that_names_the_pods_there_are() -> None:
    service = HeadlessService("web.prod", pods=7)

    with pytest.raises(LookupError, match=r"has no pod web-9; it has 10-244-0-2, .* and 2 more"):
        service.remove("web-9")


def test_an_address_shared_by_several_pods_means_none_of_them() -> None:
    pods = [Pod("127.0.0.1", hostname="a"), Pod("127.0.0.1", hostname="b")]
    service = HeadlessService("web.prod", pods=pods)

    with pytest.raises(LookupError, match="means 2 pods"):
        service.remove("127.0.0.1")
    assert service.remove("a").hostname == "a"


def test_pods_that_nothing_tells_apart_are_refused() -> None:
    with pytest.raises(ConfigError, match="already has a pod"):
        HeadlessService("web.prod", pods=["10.0.0.1", "10.0.0.1"])
    with pytest.raises(ConfigError, match="already has a pod"):
        HeadlessService("web.prod", pods=["web-0", "web-0"])


def test_a_restarted_stateful_pod_keeps_its_name_and_changes_its_address() -> None:
    with HeadlessService("web.prod", pods=2, stateful=True) as service:
        old = service.pods[0]
        new = service.replace("web-0")

        assert new.hostname == "web-0"
        assert new.addresses != old.addresses
        assert targets(service) == ["web-0", "web-1"]


def test_a_restarted_deployment_pod_changes_name_and_address() -> None:
    service = HeadlessService("web.prod", pods=2)

    new = service.replace("10.244.0.2")

    assert names(service) == ["10-244-0-4", "10-244-0-3"]
    assert new == service.pods[0]


def test_a_pod_can_be_replaced_by_a_chosen_one() -> None:
    service = HeadlessService("web.prod", pods=["web-0"])

    new = service.replace("web-0", Pod("127.0.0.1", hostname="web-0", ports={"http": 4000}))

    assert service.pods == (new,)
    assert new.ports == {"http": 4000}


def test_a_renamed_pod_keeps_its_address() -> None:
    with HeadlessService("web.prod", pods=1) as service:
        service.rename("10.244.0.2", "one")
        assert targets(service) == ["one"]
        service.rename("one", None)
        assert targets(service) == ["10-244-0-2"]


def test_the_ttl_can_change() -> None:
    with HeadlessService("web.prod", ttl=30) as service:
        assert ask(service).answer[0].ttl == 30
        service.set_ttl(0)
        assert ask(service).answer[0].ttl == 0
        assert ask(service, rdtype="AAAA").authority[0].ttl == 0


def test_controls_may_come_from_many_threads_at_once() -> None:
    with HeadlessService("web.prod", pods=0) as service:
        threads = [
            threading.Thread(target=lambda: [service.add() for _ in range(20)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(addresses(service, tcp=True)) == 80


@pytest.mark.parametrize(
    ("service", "options"),
    [
        ("web", {}),
        ("", {}),
        ("web.prod.pod.cluster.local", {}),
        ("web_1.prod", {}),
        ("_http._tcp.web.prod.svc.cluster.local", {}),
        ("web.prod", {"pods": -1}),
        ("web.prod", {"pods": ["10.0.0.1."]}),
        ("web.prod", {"ttl": -1}),
        ("web.prod", {"ports": {"http": 0}}),
        ("web.prod", {"ports": {"HTTP": 80}}),
        ("web.prod", {"ports": {("http", "quic"): 80}}),
        ("web.prod", {"ports": [Port("a", 1), Port("a", 2)]}),
        ("web.prod", {"families": ()}),
        ("web.prod", {"families": ["ipx"]}),
        ("web.prod", {"families": ["ipv6"], "networks": ["10.0.0.0/8"]}),
        ("web.prod", {"networks": ["10.0.0.0/33"]}),
        ("web.prod", {"host": "0.0.0.0"}),
        ("web.prod", {"host": "localhost"}),
        ("web.prod", {"port": 65536}),
        ("web.prod", {"pods": [Pod(ports={"grpc": 1})]}),
    ],
)
def test_what_no_service_could_have_is_a_config_error(
    service: str, options: dict[str, object]
) -> None:
    with pytest.raises(ConfigError):
        HeadlessService(service, **options)  # type: ignore[arg-type] # wrong on purpose


@pytest.mark.parametrize(
    "options", [{"pods": "10.0.0.1"}, {"pods": True}, {"families": "ipv4"}, {"ttl": "5"}]
)
def test_what_has_the_wrong_type_is_a_type_error(options: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        HeadlessService("web.prod", **options)  # type: ignore[arg-type] # wrong on purpose


def test_pods_are_values() -> None:
    pod = Pod(["10.0.0.1", "FD00:0::1"], ports={"http": 1})

    assert pod == Pod(("10.0.0.1", "fd00::1"), ports={"http": 1})
    assert hash(pod) == hash(Pod(("10.0.0.1", "fd00::1"), ports={"http": 1}))
    assert len({Pod(hostname=f"web-{n}") for n in itertools.islice(itertools.cycle("ab"), 4)}) == 2
    for bad in ("web-0", "10.0.0.1:80"):
        with pytest.raises(ConfigError):
            Pod(bad)
    with pytest.raises(ConfigError):
        Pod(["10.0.0.1", "10.0.0.2"])


def test_the_repr_says_where_and_how_many() -> None:
    with HeadlessService("web.prod", pods=2) as service:
        service.unready("10.244.0.2")
        assert repr(service) == (
            f"<HeadlessService 'web.prod.svc.cluster.local' {service.nameserver} pods=2 ready=1>"
        )
