"""
The API of the headless Service in a box: its controls, its life, and that it says what DNS says.

What it says of EndpointSlices is held against a real server in `tests.kubernetes.contract`.
"""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import pytest

from knet import Ring
from knet.errors import ConfigError
from knet.testing import APIRequest, HeadlessService, KubernetesAPI, Pod, Port

from .asking import addresses, ask, needs_ipv6
from .scaling import scaled_meanwhile

BASE = "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices"
Json = dict[str, Any]


def get(service: HeadlessService, path: str = BASE, **params: str) -> httpx.Response:
    # To load the certificates of the machine takes most of the time otherwise.
    return httpx.get(
        f"{service.api.url}{path}", params=params, timeout=10, trust_env=False, verify=False
    )


def items(service: HeadlessService, **params: str) -> list[Json]:
    found: list[Json] = get(service, **params).json()["items"]
    return found


def conditions(slices: list[Json]) -> dict[str, tuple[bool, bool, bool]]:
    """
    Ready, serving and terminating by address.
    """
    return {
        each["addresses"][0]: tuple(each["conditions"].values())
        for one in slices
        for each in one["endpoints"] or ()
    }


def in_slices(service: HeadlessService) -> set[str]:
    return {address for address, (ready, _, _) in conditions(items(service)).items() if ready}


@contextmanager
def watching(service: HeadlessService, **params: str) -> Iterator[Iterator[Json]]:
    """
    The events of a watch from now on.
    """
    version = get(service).json()["metadata"]["resourceVersion"]
    asked = {"watch": "true", "resourceVersion": version, **params}
    with httpx.stream(
        "GET", f"{service.api.url}{BASE}", params=asked, timeout=10, trust_env=False
    ) as reply:
        assert reply.status_code == 200
        yield map(json.loads, reply.iter_lines())


def api_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if "service-api" in one.name]


# --- pods


def test_slices_and_dns_say_the_same_after_every_change() -> None:
    with HeadlessService("web.prod", pods=3, stateful=True) as service:
        assert in_slices(service) == addresses(service)
        for change in (
            lambda: service.scale(5),
            lambda: service.unready("web-1"),
            lambda: service.replace("web-2"),
            lambda: service.rename("web-3", "other"),
            lambda: service.remove("web-0"),
            lambda: service.ready("web-1"),
            lambda: service.terminate("web-4"),
            lambda: service.add("web-9"),
        ):
            change()
            assert in_slices(service) == addresses(service)
        (one,) = items(service)
        told = {each["hostname"] for each in one["endpoints"]}
        assert told == {pod.hostname for pod in service.pods}


def test_a_pod_that_leaves_is_terminating_and_then_gone_and_one_that_is_renamed_is_not() -> None:
    with HeadlessService("web.prod", pods=["10.0.0.1", "10.0.0.2"]) as service:
        service.unready("10.0.0.2")
        with watching(service) as events:
            service.rename("10.0.0.2", "web-2")
            assert conditions([next(events)["object"]])["10.0.0.2"] == (False, False, False)
            service.scale(0)
            assert conditions([next(events)["object"]]) == {
                "10.0.0.1": (False, True, True),
                "10.0.0.2": (False, False, True),
            }
            assert conditions([next(events)["object"]]) == {}


def test_a_terminating_pod_serves_until_it_is_removed_and_dns_has_it_no_longer() -> None:
    with HeadlessService("web.prod", pods=["10.0.0.1", "10.0.0.2"]) as service:
        pod = service.terminate("10.0.0.1")

        assert (pod.terminating, pod.is_listed) == (True, False)
        assert addresses(service) == {"10.0.0.2"}
        assert conditions(items(service))["10.0.0.1"] == (False, True, True)
        with watching(service) as events:
            service.remove(pod)
            assert list(conditions([next(events)["object"]])) == ["10.0.0.2"]


def test_many_pods_are_in_slices_of_a_hundred_and_stay_where_they_are() -> None:
    with HeadlessService("web.prod", pods=250) as service:
        before = {each["metadata"]["name"]: each for each in items(service)}
        assert sorted(len(each["endpoints"]) for each in before.values()) == [50, 100, 100]
        service.remove(service.pods[0])
        with watching(service) as events:
            service.scale(260)
            assert next(events)["type"] == "MODIFIED"
        sizes = {
            name: len(each["endpoints"])
            for name, each in ((e["metadata"]["name"], e) for e in items(service))
        }
        assert sorted(sizes.values()) == [60, 100, 100]
        assert sizes.keys() == before.keys()
        service.scale(100)
        assert sum(len(each["endpoints"]) for each in items(service)) == 100
        # A slice that nobody is in any more is deleted.
        assert all(each["endpoints"] for each in items(service))


def test_each_family_and_each_set_of_ports_has_slices_of_its_own() -> None:
    ports = [Port("http", 8080), Port("dns", 53, "udp")]
    with HeadlessService("web.prod", pods=2, families=("ipv4", "ipv6"), ports=ports) as service:
        service.add(Pod(ports={"http": 9090}))
        found = {
            (
                each["addressType"],
                *((p["name"], p["protocol"], p["port"]) for p in each["ports"]),
            ): len(each["endpoints"])
            for each in items(service)
        }
        assert found == {
            ("IPv4", ("http", "TCP", 8080), ("dns", "UDP", 53)): 2,
            ("IPv6", ("http", "TCP", 8080), ("dns", "UDP", 53)): 2,
            ("IPv4", ("http", "TCP", 9090), ("dns", "UDP", 53)): 1,
            ("IPv6", ("http", "TCP", 9090), ("dns", "UDP", 53)): 1,
        }
        service.scale(0)
        assert sorted(each["addressType"] for each in items(service)) == ["IPv4", "IPv6"]


def test_a_zone_is_in_slices_and_a_pod_keeps_its_uid() -> None:
    with HeadlessService("web.prod", pods=[Pod("10.0.0.1", zone="a"), Pod("10.0.0.2")]) as service:
        (one,) = service.api.slices
        assert [each.get("zone") for each in one["endpoints"]] == ["a", None]
        uids = [each["targetRef"]["uid"] for each in one["endpoints"]]
        service.unready("10.0.0.1")
        (one,) = service.api.slices
        assert [each["targetRef"]["uid"] for each in one["endpoints"]] == uids
    with pytest.raises(TypeError, match="zone must be a str"):
        Pod(zone=7)  # type: ignore[arg-type]


def test_what_a_user_does_to_a_slice_is_done_to_a_copy() -> None:
    with HeadlessService("web.prod", pods=1) as service:
        (mine,) = service.api.slices
        mine["endpoints"].clear()
        assert len(in_slices(service)) == 1


def test_the_names_repeat_with_a_seed() -> None:
    one, two = (HeadlessService("web.prod", pods=2, seed=7) for _ in range(2))

    names = [[each["metadata"]["name"] for each in s.api.slices] for s in (one, two)]

    assert names[0] == names[1]


# --- what goes wrong


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("UNAUTHORIZED", 401, "Unauthorized"),
        ("FORBIDDEN", 403, "Forbidden"),
        ("NOT_FOUND", 404, "NotFound"),
        ("GONE", 410, "Expired"),
        ("TOO_MANY_REQUESTS", 429, "TooManyRequests"),
        ("SERVER_ERROR", 500, "InternalError"),
        ("UNAVAILABLE", 503, "ServiceUnavailable"),
    ],
)
def test_requests_fail_as_often_as_they_are_told(kind: Any, code: int, reason: str) -> None:
    with HeadlessService("web.prod") as service:
        service.api.fail(kind, times=2, retry_after=7)
        for _ in range(2):
            reply = get(service)
            assert (reply.status_code, reply.json()["reason"]) == (code, reason)
            assert reply.headers.get("retry-after") == ("7" if code in (429, 503) else None)
        assert get(service).status_code == 200


def test_a_fault_can_be_of_one_verb_or_of_a_block() -> None:
    with HeadlessService("web.prod") as service:
        service.api.fail("FORBIDDEN", verb="watch")
        assert get(service).status_code == 200
        assert get(service, watch="true").status_code == 403
        with service.api.failing("UNAUTHORIZED"):
            assert get(service).status_code == 401
        assert get(service, watch="true").status_code == 403
        service.api.heal()
        assert get(service, watch="true", timeoutSeconds="1").status_code == 200


def test_a_server_that_cannot_send_what_is_there_first_says_so() -> None:
    with HeadlessService("web.prod") as service:
        service.api.fail("NO_INITIAL_EVENTS")
        both = {
            "watch": "true",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
        }
        reply = get(service, **both)
        assert reply.status_code == 422
        assert "sendInitialEvents is forbidden for watch" in reply.json()["message"]
        assert get(service).status_code == 200


def test_garbage_is_no_json_and_a_closed_connection_is_no_answer() -> None:
    with HeadlessService("web.prod") as service:
        service.api.fail("GARBAGE", times=1)
        with pytest.raises(ValueError):
            get(service).json()
        service.api.fail("CLOSE", times=1)
        with pytest.raises(httpx.RemoteProtocolError):
            get(service)
        assert get(service).status_code == 200


def test_silence_is_in_open_watches_too_and_what_they_have_to_say_comes_after_it() -> None:
    with HeadlessService("web.prod", pods=["10.0.0.1"]) as service:
        with watching(service) as events:
            service.api.fail("SILENCE")
            service.add("10.0.0.2")
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(f"{service.api.url}{BASE}", timeout=0.1, trust_env=False)
            service.add("10.0.0.3")
            service.api.heal()
            told = [len(next(events)["object"]["endpoints"]) for _ in range(2)]
        assert told == [2, 3]
        assert service.api.requests[-1].verb == "list"


def test_a_silent_server_can_break_its_watches() -> None:
    with HeadlessService("web.prod") as service, watching(service) as events:
        service.api.fail("SILENCE")
        service.api.break_watches()
        with pytest.raises(httpx.TransportError):
            next(events)


def test_versions_of_before_are_too_old_and_open_watches_go_on() -> None:
    with HeadlessService("web.prod", pods=250) as service:
        page = get(service, limit="1").json()["metadata"]
        with watching(service) as events:
            service.api.compact()
            service.add()
            assert next(events)["type"] == "MODIFIED"
        assert get(service, limit="1", **{"continue": page["continue"]}).status_code == 410
        old = get(service, watch="true", resourceVersion=page["resourceVersion"])
        (line,) = old.text.splitlines()
        assert json.loads(line)["object"]["code"] == 410


def test_the_past_is_kept_for_a_thousand_changes() -> None:
    with HeadlessService("web.prod", pods=1) as service:
        version = get(service).json()["metadata"]["resourceVersion"]
        asked = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "1"}
        for _ in range(500):
            service.unready(service.pods[0])
            service.ready(service.pods[0])
        assert len(get(service, **asked).text.splitlines()) == 1000
        service.unready(service.pods[0])
        (line,) = get(service, **asked).text.splitlines()
        assert json.loads(line)["type"] == "ERROR"


def test_watches_end_break_and_are_counted() -> None:
    with HeadlessService("web.prod") as service:
        with watching(service) as events:
            assert service.api.watches == 1
            service.api.end_watches()
            assert list(events) == []
        with watching(service) as events:
            service.api.break_watches()
            with pytest.raises(httpx.TransportError):
                next(events)
        assert service.api.watches == 0


def test_a_stopped_api_refuses_and_is_back_on_its_port_with_another_past() -> None:
    with HeadlessService("web.prod", pods=["10.0.0.1"]) as service:
        url, version = service.api.url, get(service).json()["metadata"]["resourceVersion"]
        with watching(service) as events:
            service.api.stop()
            with pytest.raises(httpx.TransportError):
                next(events)
        with pytest.raises(httpx.ConnectError):
            get(service)
        assert repr(service.api) == "<KubernetesAPI stopped watches=0>"
        service.scale(0)
        assert len(ask(service).answer) == 0  # DNS goes on
        service.api.heal()
        assert service.api.url == url
        assert in_slices(service) == set()
        assert '"code":410' in get(service, watch="true", resourceVersion=version).text


def test_a_delay_is_before_answers_and_lines() -> None:
    with HeadlessService("web.prod", pods=["10.0.0.1"]) as service, watching(service) as events:
        service.api.delay(0.05)
        service.unready("10.0.0.1")
        service.ready("10.0.0.1")
        assert [conditions([next(events)["object"]])["10.0.0.1"][0] for _ in range(2)] == [
            False,
            True,
        ]
        assert in_slices(service) == {"10.0.0.1"}
        with pytest.raises(ConfigError, match="0 to 3600"):
            service.api.delay(-1)


def test_bookmarks_go_to_who_takes_them() -> None:
    with (
        HeadlessService("web.prod", pods=["10.0.0.1"]) as service,
        watching(service, allowWatchBookmarks="true") as takes,
        watching(service) as other,
    ):
        service.api.bookmark()
        service.unready("10.0.0.1")
        assert [next(takes)["type"] for _ in range(2)] == ["BOOKMARK", "MODIFIED"]
        assert next(other)["type"] == "MODIFIED"


def test_bookmarks_come_by_themselves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knet.testing.api.server._BOOKMARKS", 0.01)
    with (
        HeadlessService("web.prod") as service,
        watching(service, allowWatchBookmarks="1") as events,
    ):
        assert [next(events)["type"] for _ in range(3)] == ["BOOKMARK"] * 3


def test_a_list_can_be_had_from_before_a_slice_was_there() -> None:
    with HeadlessService("web.prod", pods=100) as service:
        version = get(service).json()["metadata"]["resourceVersion"]
        service.add()
        assert len(items(service)) == 2
        (one,) = items(service, resourceVersion=version, resourceVersionMatch="Exact")
        assert len(one["endpoints"]) == 100


def test_who_leaves_before_a_late_answer_has_no_watch() -> None:
    with HeadlessService("web.prod") as service:
        service.api.delay(0.05)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(
                f"{service.api.url}{BASE}?watch=1", timeout=0.01, trust_env=False, verify=False
            )
        assert service.api.watches == 1
        for _ in range(1000):
            if service.api.watches == 0:
                break
            time.sleep(0.005)
        assert service.api.watches == 0


def test_who_sends_on_and_on_while_a_watch_is_open_is_dropped() -> None:
    with HeadlessService("web.prod") as service:
        port = int(service.api.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(f"GET {BASE}?watch=1 HTTP/1.1\r\n\r\n".encode())
            service.api.wait_for_requests(1)
            with pytest.raises(OSError):
                for _ in range(1000):
                    client.sendall(b"x" * 65536)


def test_lines_of_ones_own_are_sent_as_they_are() -> None:
    with HeadlessService("web.prod") as service, watching(service) as events:
        service.api.send({"type": "ERROR", "object": {"code": 500}})
        service.api.send(b'{"type":')
        service.api.send(b'"X"}\nno json\n')
        assert next(events) == {"type": "ERROR", "object": {"code": 500}}
        assert next(events) == {"type": "X"}
        with pytest.raises(ValueError):
            next(events)
        with pytest.raises(ConfigError, match="nothing to send"):
            service.api.send(b"")


def test_a_function_can_answer_instead() -> None:
    with HeadlessService("web.prod") as service:

        def respond(request: APIRequest) -> int | tuple[int, dict[str, Any] | str] | None:
            if request.token == "new":
                return None
            if request.token == "old":
                return 499, {"a": 1}
            return (200, "text") if request.token else 401

        def code_of(token: str) -> tuple[int, str]:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            reply = httpx.get(f"{service.api.url}{BASE}", headers=headers, trust_env=False)
            return reply.status_code, reply.text

        service.api.respond = respond
        assert service.api.respond is respond
        assert code_of("new")[0] == 200
        assert json.loads(code_of("")[1])["reason"] == "Unauthorized"
        assert code_of("old") == (499, '{"a":1}')
        assert code_of("x") == (200, "text")
        service.api.respond = None
        assert code_of("")[0] == 200
        with pytest.raises(TypeError, match="respond must be callable"):
            service.api.respond = 7  # type: ignore[assignment]


def test_a_function_may_use_the_controls() -> None:
    with HeadlessService("web.prod", pods=["10.0.0.1"]) as service:

        def heals(request: APIRequest) -> None:
            service.scale(2)
            service.api.heal()

        service.api.respond = heals
        assert len(in_slices(service)) == 2


def test_watches_that_end_at_once_can_be_many_on_one_connection() -> None:
    with HeadlessService("web.prod") as service:
        service.api.compact()
        watch = f"GET {BASE}?watch=1&resourceVersion=1 HTTP/1.1\r\n\r\n".encode()
        received = raw(service, watch * 500 + b"nonsense\r\n\r\n")
        assert received.count(b'"code":410') == 500


def test_what_a_function_raises_is_raised_at_the_end() -> None:
    service = HeadlessService("web.prod").start()
    caught: list[str] = []

    def stops(request: APIRequest) -> int:
        for call in (service.api.stop, service.close):
            with pytest.raises(RuntimeError, match="from the respond hook of its API"):
                call()
            caught.append("refused")
        raise KeyError("mine")

    service.api.respond = stops
    assert get(service).status_code == 500
    with pytest.raises(KeyError, match="mine"):
        service.close()
    assert caught == ["refused"] * 2
    service.close()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"kind": "NONSENSE"}, "a fault is one of"),
        ({"kind": "GONE", "times": 0}, "times must be at least 1"),
        ({"kind": "GONE", "verb": "post"}, "a verb is one of"),
        ({"kind": "GONE", "retry_after": -1}, "retry_after must be at least 0"),
    ],
)
def test_a_fault_that_is_none_is_refused(options: Json, what: str) -> None:
    service = HeadlessService("web.prod")
    with pytest.raises(ConfigError, match=what):
        service.api.fail(**options)


# --- what is asked


def test_requests_are_told_apart_logged_and_awaited() -> None:
    with HeadlessService("web.prod") as service:
        get(service, limit="5")
        get(service, watch="1", timeoutSeconds="1")
        get(service, f"{BASE}/none")
        requests = service.api.wait_for_requests(3)
        assert [each.verb for each in requests] == ["list", "watch", "get"]
        assert requests[0].path == BASE
        assert requests[0].params == {"limit": "5"}
        service.api.forget_requests()
        assert service.api.requests == ()
        with pytest.raises(TimeoutError, match="0 of 1 requests"):
            service.api.wait_for_requests(1, timeout=0.01)


def test_it_is_only_read_from() -> None:
    with HeadlessService("web.prod") as service:
        reply = httpx.post(
            f"{service.api.url}{BASE}", json={"kind": "EndpointSlice"}, trust_env=False
        )
        assert (reply.status_code, reply.json()["reason"]) == (405, "MethodNotAllowed")
        assert service.api.requests[0].verb == "post"
        everywhere = get(service, "/apis/discovery.k8s.io/v1/endpointslices").json()["items"]
        assert len(everywhere) == 1


def raw(service: HeadlessService, data: bytes) -> bytes:
    """
    What comes back until the connection ends.
    """
    port = int(service.api.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(data)
        received = b""
        while part := client.recv(65536):
            received += part
    return received


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / SPDY/1\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: -90\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n",
        b"GET /" + b"x" * 70_000,
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with HeadlessService("web.prod") as service:
        assert raw(service, data).startswith(b"HTTP/1.1 400 ")
        assert service.api.requests == ()


def test_requests_in_one_packet_are_answered_in_order() -> None:
    with HeadlessService("web.prod") as service:
        watch = f"GET {BASE}?watch=1&timeoutSeconds=1 HTTP/1.1\r\n\r\n".encode()
        missing = b"GET /none HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
        service.api.fail("CLOSE", verb="get")
        data = watch + missing + b"GET /last HTTP/1.1\r\n\r\n"
        received = raw(service, data)
        assert received.count(b"HTTP/1.1 200 OK") == 1
        assert received.endswith(b"0\r\n\r\n")
        assert [each.path for each in service.api.requests] == [BASE, "/none"]


# --- its life


def test_it_is_there_once_it_is_asked_for_and_ends_with_its_service() -> None:
    with HeadlessService("web.prod") as service:
        assert api_threads() == []
        api = service.api
        assert isinstance(api, KubernetesAPI)
        assert service.api is api
        assert len(api_threads()) == 1
        url = api.url
    assert api_threads() == []
    with service:  # again, on the same port
        assert (service.api.url, service.api) == (url, api)
        assert in_slices(service) == addresses(service)


def test_it_can_be_asked_for_before_the_service_starts() -> None:
    service = HeadlessService("web.prod", pods=2)
    api = service.api
    with pytest.raises(RuntimeError, match="no port before"):
        _ = api.url
    api.stop()
    with service:
        with pytest.raises(httpx.ConnectError):
            get(service)
        api.start()
        assert len(in_slices(service)) == 2


def test_a_port_that_was_taken_meanwhile_leaves_nothing() -> None:
    service = HeadlessService("web.prod")
    with service:
        port = int(service.api.url.rpartition(":")[2])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            service.start()
    with service:
        assert len(in_slices(service)) == 3


def test_an_unclosed_service_ends_its_api_too() -> None:
    service = HeadlessService("web.prod").start()
    assert service.api.watches == 0
    (thread,) = (one for one in threading.enumerate() if "service-api" in one.name)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        del service
        gc.collect()
    thread.join(5)
    assert not thread.is_alive()


@needs_ipv6
def test_it_listens_where_dns_does() -> None:
    with HeadlessService("web.prod", host="::1") as service:
        assert service.api.url.startswith("http://[::1]:")
        assert len(in_slices(service)) == 3


def test_a_list_while_another_thread_scales_is_always_whole() -> None:
    with (
        HeadlessService("web.prod", pods=10) as service,
        httpx.Client(trust_env=False) as client,
        scaled_meanwhile(service, 20, 10),
    ):
        told = [client.get(f"{service.api.url}{BASE}").json()["items"] for _ in range(50)]
    assert {len(conditions(items)) for items in told} <= {10, 20}


def test_connections_that_are_just_being_accepted_are_not_lost() -> None:
    with HeadlessService("web.prod", pods=1) as service:
        port = int(service.api.url.rpartition(":")[2])

        def connect() -> None:
            for _ in range(3):
                with socket.socket() as client:
                    client.settimeout(1)
                    client.connect_ex(("127.0.0.1", port))

        for _ in range(20):
            connecting = threading.Thread(target=connect)
            connecting.start()
            service.api.stop()
            connecting.join()
            service.api.start()
    gc.collect()  # what it finds is an unraisable warning, and that an error


# --- with a ring


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["web.prod", "web", "web.prod.svc.c.test"])
async def test_a_ring_on_its_source_has_the_digest_of_one_on_dns(name: str) -> None:
    from knet import Resolver

    async with (
        HeadlessService("web.prod.svc.c.test", pods=4, stateful=True) as service,
        Ring(name, port="http", resolver=service.api.source()) as told,
        Ring(
            "web.prod.svc.c.test",
            port="http",
            resolver=Resolver(nameservers=[service.nameserver]),
        ) as asks,
    ):
        assert len(told.snapshot) == 4
        assert told.snapshot.digest == asks.snapshot.digest
        service.unready("web-1")
        with anyio.fail_after(10):
            async for _ in told.changes():
                break
        assert len(told.snapshot) == 3


@pytest.mark.anyio
async def test_requests_can_be_awaited() -> None:
    async with HeadlessService("web.prod") as service:
        async with Ring("web.prod", resolver=service.api.source()):
            (request,) = await service.api.wait_for_requests_async(1)
            assert request.verb == "watch"
            assert service.api.watches == 1
        with pytest.raises(TimeoutError, match="1 of 2"):
            await service.api.wait_for_requests_async(2, timeout=0.01)
