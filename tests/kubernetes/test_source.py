"""
`EndpointSlices`, against the API server of the headless Service in a box.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import knet
from knet import (
    ConfigError,
    Endpoint,
    Forbidden,
    RefreshPolicy,
    ResolveError,
    Ring,
    ServerFailure,
    ServerUnreachable,
)
from knet.kubernetes import EndpointSlices
from knet.kubernetes.access import from_kubeconfig, in_cluster
from knet.surroundings import surrounded_by, surroundings_from
from knet.testing import APIRequest, HeadlessService, Pod

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(4)]

QUICK = RefreshPolicy(retry=0.02, min_interval=0.02, max_retry=0.1, empty_hold=0.3)


# Of the sources that `watched` makes.
OPTIONS: dict[str, Any] = {}


@pytest.fixture(params=[False, True], ids=["a service", "a namespace"])
def whole(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """
    Have a watch for each service, and then one for the whole namespace.
    """
    monkeypatch.setitem(OPTIONS, "whole_namespace", request.param)
    return bool(request.param)


both = pytest.mark.usefixtures("whole")


def web(*pods: str | Pod) -> HeadlessService:
    return HeadlessService("web.prod", pods=pods)


@asynccontextmanager
async def watched(
    service: HeadlessService, name: str = "web.prod", **options: Any
) -> AsyncIterator[Ring]:
    source = EndpointSlices(api=service.api.url, **OPTIONS, **options.pop("source", {}))
    ring = Ring(
        name, **{"port": 80, "resolver": source, "refresh": QUICK, "start_timeout": 5, **options}
    )
    async with ring:
        yield ring


def addresses(ring: Ring) -> list[str]:
    return [pod.address for pod in ring.snapshot.endpoints]


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not true():
            await anyio.sleep(0.005)


async def test_what_the_api_tells_a_ring_knows(whole: bool) -> None:
    with web("10.0.0.1", "10.0.0.2") as service:
        async with watched(service) as ring:
            assert addresses(ring) == ["10.0.0.1", "10.0.0.2"]
            assert str(ring.snapshot.endpoints[0]) == "10.0.0.1:80"
            service.add("10.0.0.3")
            await until(lambda: len(ring.snapshot) == 3)
            service.unready("10.0.0.3")
            await until(lambda: len(ring.snapshot) == 2)
        (asked,) = service.api.requests
        label = "kubernetes.io/service-name"
        assert asked.params["labelSelector"] == (label if whole else f"{label}=web")
        assert asked.params["sendInitialEvents"] == "true"


async def test_a_server_that_cannot_send_what_is_there_is_listed_in_pages(whole: bool) -> None:
    """
    The pages of a namespace grow where slices are small.
    """
    # Each with a port of its own, and so in a slice of its own.
    pods = [Pod(f"10.0.0.{n}", ports={"http": 8000 + n}) for n in range(1, 11)]
    with web(*pods) as service:
        service.api.fail("NO_INITIAL_EVENTS")
        version = max(each["metadata"]["resourceVersion"] for each in service.api.slices)
        async with watched(service) as ring:
            assert len(ring.snapshot) == 10
            asked = [each for each in service.api.requests[:4] if each.verb == "list"]
            assert [each.params["limit"] for each in asked] == (["4", "8"] if whole else ["4"] * 3)
            assert service.api.requests[0].verb == "watch"
            service.remove("10.0.0.1")
            await until(lambda: len(ring.snapshot) == 9)
            assert service.api.requests[-1].params["resourceVersion"] == version


@both
async def test_a_pod_that_moves_from_slice_to_slice_is_kept() -> None:
    with web("10.0.0.1", "10.0.0.2") as service:
        (told,) = service.api.slices

        def say(kind: str, name: str, *endpoints: object) -> None:
            thing = {**told, "metadata": {**told["metadata"], "name": name}}
            service.api.send({"type": kind, "object": {**thing, "endpoints": list(endpoints)}})

        async with watched(service) as ring:
            stays, moves = told["endpoints"]
            say("MODIFIED", told["metadata"]["name"], stays)  # in neither for a moment
            await anyio.sleep(0.2)
            say("ADDED", "web-b", moves)
            await anyio.sleep(1.2)
            assert ring.snapshot.generation == 1
            say("MODIFIED", "web-b")
            await until(lambda: addresses(ring) == ["10.0.0.1"])


@both
@pytest.mark.parametrize("how", ["break", "end", "too old", "gone"])
async def test_a_watch_that_ends_goes_on(how: str) -> None:
    """
    From the last version where it broke, and from the beginning where that is too old. Nothing is missed.
    """
    with web("10.0.0.1") as service:
        api = service.api
        async with watched(service) as ring:
            await api.wait_for_requests_async(1)
            if how == "too old":
                api.compact()
            elif how == "gone":
                api.fail("GONE", times=1)
            (api.end_watches if how == "end" else api.break_watches)()
            service.add("10.0.0.2")
            await until(lambda: len(ring.snapshot) == 2)
            # What came before the end of the watch is known before the next one is opened.
            await api.wait_for_requests_async(2)
            assert "resourceVersion" in api.requests[1].params
            if how in ("too old", "gone"):
                await api.wait_for_requests_async(3)
                assert "sendInitialEvents" in api.requests[2].params
            else:
                assert "sendInitialEvents" not in api.requests[1].params
            assert ring.state == "fresh"
            assert ring.stats().failures == {}


@both
async def test_a_server_that_ends_every_watch_is_not_asked_in_a_hot_loop() -> None:
    with web("10.0.0.1") as service:
        (told,) = service.api.slices
        end = {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}
        lines = (
            {"type": "ADDED", "object": told},
            {"type": "BOOKMARK", "object": {"metadata": end}},
        )
        whole = "".join(f"{json.dumps(line)}\n" for line in lines)

        def respond(request: APIRequest) -> tuple[int, str]:
            return 200, whole if "sendInitialEvents" in request.params else ""

        service.api.respond = respond
        async with watched(service) as ring:
            await anyio.sleep(1.5)
            assert 2 <= len(service.api.requests) <= 4
            assert ring.state == "fresh"


@both
async def test_bookmarks_move_the_version_on_and_say_that_it_lives() -> None:
    with web("10.0.0.1") as service:
        api = service.api
        async with watched(service) as ring:
            before = ring.stats().lookups
            api.compact()  # all versions are too old, but for that of the bookmark
            api.bookmark()
            await until(lambda: ring.stats().lookups > before)
            api.break_watches()
            await api.wait_for_requests_async(2)
            (told,) = api.slices
            asked = api.requests[1].params
            assert int(asked["resourceVersion"]) > int(told["metadata"]["resourceVersion"])
            service.add("10.0.0.2")
            await until(lambda: len(ring.snapshot) == 2)
            assert len(api.requests) == 2


@both
async def test_the_end_of_all_pods_is_held_and_then_believed() -> None:
    with web("10.0.0.1") as service:
        async with watched(service) as ring:
            service.scale(0)
            assert await ring.wait_for("stale", "empty") == "stale"
            assert addresses(ring) == ["10.0.0.1"]
            assert await ring.wait_for("empty") == "empty"


@both
@pytest.mark.parametrize(
    ("status", "body", "error", "what"),
    [
        (401, '{"message": "Unauthorized"}', Forbidden, "does not take our token"),
        (
            403,
            '{"message": "cannot list"}',
            Forbidden,
            "resources: \\[endpointslices\\], verbs: \\[list, watch\\]",
        ),
        (404, "not found", ResolveError, "knows no EndpointSlices"),
        (500, "oops", ServerFailure, "says 500: oops"),
    ],
)
async def test_a_refusal_says_what_to_do(
    status: int, body: str, error: type[Exception], what: str
) -> None:
    with web("10.0.0.1") as service:
        service.api.respond = lambda _: (status, body)
        with pytest.raises(error, match=what):
            async with watched(service, start_timeout=0.3):
                pass


@both
async def test_a_server_that_is_away_is_found_again() -> None:
    with web("10.0.0.1") as service:
        async with watched(service) as ring:
            service.api.fail("UNAVAILABLE")
            service.api.break_watches()
            assert await ring.wait_for("stale") == "stale"
            assert addresses(ring) == ["10.0.0.1"]
            service.api.heal()
            service.replace("10.0.0.1", "10.0.0.2")
            await until(lambda: addresses(ring) == ["10.0.0.2"])
            assert ring.state == "fresh"


async def test_nobody_at_the_address_is_unreachable() -> None:
    ring = Ring(
        "web.prod",
        resolver=EndpointSlices(api="http://127.0.0.1:9"),
        refresh=QUICK,
        start_timeout=0.3,
    )
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        await ring.start()


@both
async def test_a_token_is_read_again_where_it_was_renewed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    token = "old"
    with web("10.0.0.1") as service:
        service.api.respond = lambda request: None if request.token == token else 401
        async with watched(service, source={"token": file}) as ring:
            token = "new"
            file.write_text("new\n")
            service.api.break_watches()
            service.replace("10.0.0.1", "10.0.0.2")
            await until(lambda: addresses(ring)[-1:] == ["10.0.0.2"])
            await service.api.wait_for_requests_async(2)
            assert service.api.requests[0].token == "old"
            assert service.api.requests[-1].token == "new"


@both
async def test_too_many_requests_wait_as_long_as_they_are_told() -> None:
    with web("10.0.0.1") as service:
        service.api.fail("TOO_MANY_REQUESTS", times=2, retry_after=0)
        async with watched(service) as ring:
            assert addresses(ring) == ["10.0.0.1"]
            assert len(service.api.requests) >= 3
            assert ring.stats().failures == {}


@both
async def test_what_is_no_json_is_said_to_be_none() -> None:
    with web("10.0.0.1") as service:
        service.api.fail("GARBAGE")
        with pytest.raises(ResolveError, match="did not answer in JSON"):
            async with watched(service, start_timeout=0.3):
                pass


@both
async def test_a_line_of_an_error_is_a_failure_and_the_ring_keeps_its_pods() -> None:
    with web("10.0.0.1") as service:
        async with watched(service) as ring:
            service.api.send({"type": "ERROR", "object": {"code": 500, "message": "oops"}})
            assert await ring.wait_for("stale") == "stale"
            assert addresses(ring) == ["10.0.0.1"]
            assert ring.stats().failures == {"servfail": 1}
            assert await ring.wait_for("fresh") == "fresh"


@both
async def test_where_nothing_says_what_the_clusters_domain_is() -> None:
    """
    Names by hostname cannot be made up; all others need no domain.
    """
    with web(Pod("10.0.0.1", hostname="web-0")) as service, surrounded_by(surroundings_from("")):
        with pytest.raises(ConfigError, match=r"cluster's domain is: write \"web\.prod\.svc\."):
            await watched(service, port="http").__aenter__()
        async with watched(service, port=80) as ring:
            assert addresses(ring) == ["10.0.0.1"]


@both
@pytest.mark.parametrize(
    ("name", "port", "why"),
    [
        ("other.prod", 80, "there is no EndpointSlice of it: either there is no such Service"),
        ("web.prod", "htp", r"no port of it has that name; there are http/tcp"),
        ("web.prod", 80, "none of its 1 pods is ready"),
    ],
)
async def test_where_there_is_nobody_what_is_known_is_told(name: str, port: Any, why: str) -> None:
    with web(Pod("10.0.0.1", ready=port != 80)) as service:
        async with watched(service, name, port=port, require_endpoints=False) as ring:
            assert ring.state == "empty"
            assert why in str(ring.stats().last_error)
            with pytest.raises(knet.NoEndpoints, match=why):
                await ring.get("user-42")


@both
async def test_rings_of_one_service_have_one_watch() -> None:
    """
    Whatever they ask for of it; the last one that is closed ends it.
    """
    with web("10.0.0.1", "10.0.0.2") as service:
        async with watched(service) as first:
            async with watched(service) as second, watched(service, port="http") as third:
                service.add("10.0.0.3")
                await until(lambda: {len(r.snapshot) for r in (first, second, third)} == {3})
                assert second.snapshot.endpoints[0] is first.snapshot.endpoints[0]
                assert third.snapshot.endpoints[0].port == 8080
            assert (len(service.api.requests), service.api.watches) == (1, 1)
            service.add("10.0.0.4")
            await until(lambda: len(first.snapshot) == 4)
        async with watched(service, "other.prod", require_endpoints=False):
            pass
        async with watched(service) as again:
            assert len(again.snapshot) == 4
        assert len(service.api.requests) == 3


@both
async def test_names_are_those_of_dns() -> None:
    with web(Pod("10.0.0.1", hostname="web-0", zone="a")) as service:
        with surrounded_by(surroundings_from("search prod.svc.k.test svc.k.test k.test")):
            for name in ("web", "web.prod", "web.prod.svc", "web.prod.svc.cluster.local"):
                async with watched(service, name, port="http") as ring:
                    zone = "cluster.local" if name.endswith("local") else "k.test"
                    whole = f"web-0.web.prod.svc.{zone}"
                    assert ring.snapshot.endpoints == (Endpoint(whole, "10.0.0.1", 8080),)
                    assert ring.snapshot.zones == {"a"}
        async with watched(service, port="http", source={"domain": "c.test"}) as ring:
            assert ring.snapshot.endpoints[0].name == "web-0.web.prod.svc.c.test"


def test_arguments_that_do_not_go_together_are_refused() -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"api": "https://a", "kubeconfig": "b"}, "not both"),
        ({"token": "t"}, "go with api"),
        ({"settle": -1}, "settle must be"),
        ({"namespace": "a b"}, "namespace"),
    ]
    for options, what in refused:
        with pytest.raises(ConfigError, match=what):
            EndpointSlices(**options)
    assert EndpointSlices(api="https://a") == EndpointSlices(api="https://a")
    assert len({EndpointSlices(), EndpointSlices()}) == 1
    assert EndpointSlices(whole_namespace=True) != EndpointSlices()


@pytest.mark.parametrize(
    ("source", "service", "what"),
    [
        (EndpointSlices(), "web.prod", "this is no pod of a cluster"),
        (EndpointSlices(api="http://10.0.0.1"), "web.prod", "must be an https:// URL"),
        (EndpointSlices(api="http://127.0.0.1:9"), "a.b.c", "is no Service of Kubernetes"),
        (
            EndpointSlices(kubeconfig="/nowhere"),
            "web.prod",
            "the kubeconfig /nowhere cannot be read",
        ),
    ],
)
async def test_what_cannot_be_is_refused_at_the_start(
    source: EndpointSlices, service: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match=what):
        await Ring(service, resolver=source).start()


def test_without_the_extra_it_says_so_where_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knet.kubernetes.source.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"knet-ring\[kubernetes\]"):
        EndpointSlices()


# --- who we are


def test_a_pod_without_an_account_is_told_what_to_write(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ConfigError, match="automountServiceAccountToken: true"):
        in_cluster(environment, tmp_path)


def test_a_pod_is_who_its_account_is(tmp_path: Path) -> None:
    import trustme

    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "namespace").write_text("prod")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}

    found = in_cluster(environment, tmp_path)

    assert (found.url, found.token(), found.namespace) == (
        "https://[fd00::1]:6443",
        "secret",
        "prod",
    )


KUBECONFIG = """
current-context: here
contexts: [{name: here, context: {cluster: c, user: u, namespace: prod}}]
clusters: [{name: c, cluster: {server: "https://10.0.0.1:6443"}}]
users: [{name: u, user: USER}]
"""


@pytest.mark.parametrize(
    ("user", "what"),
    [
        ("{exec: {command: aws}}", "given by a program"),
        ("{auth-provider: {name: gcp}}", "given by a program"),
        ("{client-certificate-data: '???', client-key-data: eA==}", "is not base64"),
    ],
)
def test_a_kubeconfig_that_cannot_serve_says_why(tmp_path: Path, user: str, what: str) -> None:
    file = tmp_path / "config"
    file.write_text(KUBECONFIG.replace("USER", user))
    with pytest.raises(ConfigError, match=what):
        from_kubeconfig(file)


def test_a_kubeconfig_tells_where_and_who(tmp_path: Path) -> None:
    file = tmp_path / "config"
    (tmp_path / "token").write_text("mine")
    file.write_text(KUBECONFIG.replace("USER", "{tokenFile: token}"))
    found = from_kubeconfig(file)
    assert (found.url, found.token(), found.namespace) == ("https://10.0.0.1:6443", "mine", "prod")

    file.write_text(KUBECONFIG.replace("USER", "{token: t}").replace("current-context: here", ""))
    with pytest.raises(ConfigError, match="has no context called"):
        from_kubeconfig(file)


def test_it_is_a_source() -> None:
    source: knet.Source = EndpointSlices()
    assert repr(source) == "<EndpointSlices in the cluster>"
    source = EndpointSlices(api="https://a", whole_namespace=True)
    assert repr(source) == "<EndpointSlices https://a, whole namespace>"
