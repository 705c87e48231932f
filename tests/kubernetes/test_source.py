"""
`EndpointSlices`, against a small API server.
"""

from __future__ import annotations

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

from .api import Api, serving, slice_of

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

QUICK = RefreshPolicy(retry=0.02, min_interval=0.02, max_retry=0.1, empty_hold=0.3)


@asynccontextmanager
async def watched(api: Api, service: str = "web.prod", **options: Any) -> AsyncIterator[Ring]:
    source = EndpointSlices(api=api.url, **options.pop("source", {}))
    ring = Ring(
        service, **{"port": 80, "resolver": source, "refresh": QUICK, "start_timeout": 5, **options}
    )
    async with ring:
        yield ring


def addresses(ring: Ring) -> list[str]:
    return [pod.address for pod in ring.snapshot.endpoints]


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not true():
            await anyio.sleep(0.005)


async def test_what_the_api_tells_a_ring_knows() -> None:
    async with serving() as api:
        api.put(slice_of("web-a", "10.0.0.1", "10.0.0.2"))
        async with watched(api) as ring:
            assert addresses(ring) == ["10.0.0.1", "10.0.0.2"]
            assert str(ring.snapshot.endpoints[0]) == "10.0.0.1:80"
            api.put(slice_of("web-b", "10.0.0.3"))
            await until(lambda: len(ring.snapshot) == 3)
            unready = {"addresses": ["10.0.0.3"], "conditions": {"ready": False}}
            api.put(slice_of("web-b", unready))
            await until(lambda: len(ring.snapshot) == 2)
        (asked,) = api.requests
        assert asked["labelSelector"] == "kubernetes.io/service-name=web"
        assert asked["sendInitialEvents"] == "true"


async def test_a_server_that_cannot_send_what_is_there_is_listed_in_pages() -> None:
    async with serving() as api:
        api.can_send = False
        for n in range(10):
            api.put(slice_of(f"web-{n}", f"10.0.0.{n}"))
        async with watched(api) as ring:
            assert len(ring.snapshot) == 10
            assert api.page == 3
            api.delete("web-0")
            await until(lambda: len(ring.snapshot) == 9)
            assert api.requests[-1]["resourceVersion"] == "110"


async def test_a_pod_that_moves_from_slice_to_slice_is_kept() -> None:
    async with serving() as api:
        api.put(slice_of("web-a", "10.0.0.1", "10.0.0.2"))
        async with watched(api) as ring:
            api.put(slice_of("web-a", "10.0.0.1"))  # in neither for a moment
            await anyio.sleep(0.2)
            api.put(slice_of("web-b", "10.0.0.2"))
            await anyio.sleep(1.2)
            assert ring.snapshot.generation == 1
            api.put(slice_of("web-b"))
            await until(lambda: addresses(ring) == ["10.0.0.1"])


@pytest.mark.parametrize("how", ["break", "too old"])
async def test_a_watch_that_ends_goes_on(how: str) -> None:
    """
    From the last version where it broke, and from the beginning where that is too old. Nothing is missed.
    """
    async with serving() as api:
        api.put(slice_of("web-a", "10.0.0.1"))
        async with watched(api) as ring:
            await until(lambda: len(api.requests) == 1)
            (api.forget if how == "too old" else api.break_off)()
            api.put(slice_of("web-b", "10.0.0.2"))
            if how == "too old":
                api.oldest = api.version
            await until(lambda: len(ring.snapshot) == 2)
            assert ring.state == "fresh"
            assert "resourceVersion" in api.requests[1]
            assert ("sendInitialEvents" in api.requests[-1]) == (how == "too old")
            assert ring.stats().failures == {}


async def test_a_server_that_ends_every_watch_is_not_asked_in_a_hot_loop() -> None:
    async with serving() as api:
        api.put(slice_of("web-a", "10.0.0.1"))
        api.ends_at_once = True
        async with watched(api) as ring:
            await anyio.sleep(1.5)
            assert len(api.requests) <= 4
            assert ring.state == "fresh"


async def test_bookmarks_move_the_version_on_and_say_that_it_lives() -> None:
    async with serving() as api:
        api.put(slice_of("web-a", "10.0.0.1"))
        async with watched(api) as ring:
            before = ring.stats().lookups
            api.bookmark()
            await until(lambda: ring.stats().lookups > before)
            api.break_off()
            await until(lambda: len(api.requests) == 2)
            assert api.requests[1]["resourceVersion"] == str(api.version)


async def test_the_end_of_all_pods_is_held_and_then_believed() -> None:
    async with serving() as api:
        api.put(slice_of("web-a", "10.0.0.1"))
        async with watched(api) as ring:
            api.put(slice_of("web-a"))
            assert await ring.wait_for("stale", "empty") == "stale"
            assert addresses(ring) == ["10.0.0.1"]
            assert await ring.wait_for("empty") == "empty"


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
    async with serving() as api:
        api.status, api.body = status, body
        with pytest.raises(error, match=what):
            async with watched(api, start_timeout=0.3):
                pass


async def test_a_server_that_is_away_is_found_again() -> None:
    async with serving() as api:
        api.put(slice_of("web-a", "10.0.0.1"))
        async with watched(api) as ring:
            api.status = 503
            api.break_off()
            assert await ring.wait_for("stale") == "stale"
            assert addresses(ring) == ["10.0.0.1"]
            api.status = 0
            api.put(slice_of("web-a", "10.0.0.2"))
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


async def test_a_token_is_read_again_where_it_was_renewed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    async with serving() as api:
        api.token = "old"
        api.put(slice_of("web-a", "10.0.0.1"))
        async with watched(api, source={"token": file}) as ring:
            api.token = "new"
            file.write_text("new\n")
            api.break_off()
            api.put(slice_of("web-a", "10.0.0.2"))
            await until(lambda: addresses(ring)[-1:] == ["10.0.0.2"])
            assert api.tokens[0] == "old"
            assert api.tokens[-1] == "new"


async def test_too_many_requests_wait_as_long_as_they_are_told() -> None:
    async with serving() as api:
        api.put(slice_of("web-a", "10.0.0.1"))
        api.status, api.headers = 429, [("retry-after", "0")]

        async def heal() -> None:
            await until(lambda: len(api.requests) >= 2)
            api.status = 0

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heal)
            async with watched(api) as ring:
                assert addresses(ring) == ["10.0.0.1"]


async def test_where_nothing_says_what_the_clusters_domain_is() -> None:
    """
    Names by hostname cannot be made up; all others need no domain.
    """
    async with serving() as api:
        api.put(slice_of("web-a", {"addresses": ["10.0.0.1"], "hostname": "web-0"}))
        with surrounded_by(surroundings_from("")):
            with pytest.raises(ConfigError, match=r"cluster's domain is: write \"web\.prod\.svc\."):
                await watched(api, port="http").__aenter__()
            async with watched(api, port=80) as ring:
                assert addresses(ring) == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("put", "port", "why"),
    [
        ([], 80, "there is no EndpointSlice of it: either there is no such Service"),
        (
            [slice_of("web-a", "10.0.0.1")],
            "htp",
            r"no port of it has that name; there are http/tcp",
        ),
        (
            [slice_of("web-a", {"addresses": ["10.0.0.1"], "conditions": {"ready": False}})],
            80,
            "none of its 1 pods is ready",
        ),
    ],
)
async def test_where_there_is_nobody_what_is_known_is_told(put: Any, port: Any, why: str) -> None:
    async with serving() as api:
        for each in put:
            api.put(each)
        async with watched(api, port=port, require_endpoints=False) as ring:
            assert ring.state == "empty"
            assert why in str(ring.stats().last_error)
            with pytest.raises(knet.NoEndpoints, match=why):
                await ring.get("user-42")


async def test_rings_of_one_service_have_one_watch() -> None:
    """
    Whatever they ask for of it; the last one that is closed ends it.
    """
    async with serving() as api:
        api.put(slice_of("web-a", "10.0.0.1", "10.0.0.2"))
        async with watched(api) as first:
            async with watched(api) as second, watched(api, port="http") as third:
                api.put(slice_of("web-b", "10.0.0.3"))
                await until(lambda: {len(r.snapshot) for r in (first, second, third)} == {3})
                assert second.snapshot.endpoints[0] is first.snapshot.endpoints[0]
                assert third.snapshot.endpoints[0].port == 8080
            assert len(api.requests) == 1
            api.put(slice_of("web-c", "10.0.0.4"))
            await until(lambda: len(first.snapshot) == 4)
        async with watched(api, "other.prod"):
            pass
        async with watched(api) as again:
            assert len(again.snapshot) == 4
        assert len(api.requests) == 3


async def test_names_are_those_of_dns() -> None:
    zoned = {"addresses": ["10.0.0.1"], "hostname": "web-0", "zone": "a"}
    async with serving() as api:
        api.put(slice_of("web-a", zoned))
        with surrounded_by(surroundings_from("search prod.svc.k.test svc.k.test k.test")):
            for service in ("web", "web.prod", "web.prod.svc", "web.prod.svc.cluster.local"):
                async with watched(api, service, port="http") as ring:
                    zone = "cluster.local" if service.endswith("local") else "k.test"
                    name = f"web-0.web.prod.svc.{zone}"
                    assert ring.snapshot.endpoints == (Endpoint(name, "10.0.0.1", 8080),)
                    assert ring.snapshot.zones == {"a"}
        async with watched(api, port="http", source={"domain": "c.test"}) as ring:
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
