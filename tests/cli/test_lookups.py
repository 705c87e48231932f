"""
`knet resolve`, `knet get` and `knet watch` against a headless service.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from typing import get_args

import pytest

from knet import Endpoint
from knet.cli.lookups import PLACEMENTS, Placing
from knet.hashring import HashRing
from knet.testing import HeadlessService
from tests.cli.commands import finish, run, start

NAMES = [f"web-{n}.web.prod.svc.cluster.local" for n in range(3)]


@pytest.fixture
def service() -> Iterator[HeadlessService]:
    with HeadlessService("web.prod", pods=3, stateful=True) as service:
        yield service


@pytest.mark.sampled(2)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_resolve_prints_a_table_and_what_the_answer_said(
    service: HeadlessService, backend: str
) -> None:
    """
    A named port brings hostnames and port numbers.
    """
    args = ("web.prod", "--port", "http", "--nameserver", service.nameserver)
    result = run("resolve", *args, "--backend", backend)

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["name", "address", "port"],
        [NAMES[0], "10.244.0.2", "8080"],
        [NAMES[1], "10.244.0.3", "8080"],
        [NAMES[2], "10.244.0.4", "8080"],
        [],
        ["3", "endpoints", "of", "web.prod.svc.cluster.local,", "ttl", "5", "s,", "complete"],
    ]


def test_resolve_prints_one_json_object(service: HeadlessService) -> None:
    """
    A port that is a number is a number.
    """
    service.scale(1)
    result = run(
        "resolve", "web.prod", "--port", "80", "--nameserver", service.nameserver, "--json"
    )

    assert json.loads(result.stdout) == {
        "service": "web.prod",
        "source": "dns",
        "name": "web.prod.svc.cluster.local",
        "ttl": 5.0,
        "complete": True,
        "endpoints": [{"name": "10.244.0.2", "address": "10.244.0.2", "port": 80}],
    }


def test_no_port_is_no_port(service: HeadlessService) -> None:
    """
    Without `--port` the endpoints are bare addresses.
    """
    args = ("web.prod", "--nameserver", service.nameserver)

    assert " - \n" not in run("resolve", *args).stdout
    assert "10.244.0.2  10.244.0.2  -" in run("resolve", *args).stdout
    document = json.loads(run("resolve", *args, "--json").stdout)
    assert {endpoint["port"] for endpoint in document["endpoints"]} == {None}


def test_names_outside_of_the_services_own_need_an_option(service: HeadlessService) -> None:
    """
    The error of `resolve` without it says which name that was.
    """
    service.alias("db.prod", "web.prod.svc.cluster.local")
    args = ("resolve", "db.prod", "--port", "80", "--nameserver", service.nameserver)

    refused = run(*args)
    assert refused.exit_code == 1
    assert "web.prod.svc.cluster.local" in refused.stderr
    assert "10.244.0.2" in run(*args, "--external").stdout


def test_a_failed_lookup_is_one_line_on_standard_error(service: HeadlessService) -> None:
    """
    No traceback, nothing on standard output, exit code 1.
    """
    service.fail("SERVFAIL")
    for command in (("resolve", "web.prod"), ("get", "web.prod", "key")):
        result = run(*command, "--nameserver", service.nameserver)

        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("knet: cannot resolve web.prod")
        assert "SERVFAIL" in result.stderr


@pytest.mark.parametrize(
    "args", [("10.0.0.1",), ("web.prod", "--nameserver", "nonsense"), ("web.prod", "--port", "0")]
)
def test_what_cannot_be_asked_is_a_usage_error(args: tuple[str, ...]) -> None:
    """
    One line again, and exit code 2.
    """
    result = run("resolve", *args)

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_get_agrees_with_the_placement(service: HeadlessService) -> None:
    """
    The picks are those of `HashRing` over the hostnames.
    """
    args = ("web.prod", "alice", "bob", "--port", "http", "--nameserver", service.nameserver)
    result = run("get", *args, "--json")

    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [d["key"] for d in documents] == ["alice", "bob"]
    ring = HashRing(NAMES)
    picks = [[e["name"] for e in d["endpoints"]] for d in documents]
    assert picks == [[ring.get("alice")], [ring.get("bob")]]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("placing", PLACEMENTS)
def test_get_shows_where_a_proxy_would_send_a_key(
    service: HeadlessService, placing: Placing
) -> None:
    """
    With `--placement` the picks are those of that class over the same endpoints.
    """
    args = ("web.prod", "alice", "bob", "--port", "http", "--nameserver", service.nameserver)
    result = run("get", *args, "--json", "--placement", placing)

    pods = json.loads(run("resolve", *args[:1], *args[3:], "--json").stdout)["endpoints"]
    placement = PLACEMENTS[placing](tuple(Endpoint(**pod) for pod in pods))
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    expected = [placement.get(key).name for key in ("alice", "bob")]
    assert [d["endpoints"][0]["name"] for d in documents] == expected


def test_every_placement_that_can_be_named_is_there() -> None:
    """
    The option's values and the table of classes agree.
    """
    assert tuple(PLACEMENTS) == get_args(Placing)


def test_get_prints_the_preferred_pods_of_each_key(service: HeadlessService) -> None:
    """
    With `--count` a row for each of them, best first; never more than there are.
    """
    args = ("web.prod", "alice", "--port", "http", "--nameserver", service.nameserver)
    result = run("get", *args, "--count", "5")

    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["key", "choice", "endpoint", "name"]
    assert [row[:2] for row in rows[1:]] == [["alice", "1"], ["alice", "2"], ["alice", "3"]]
    assert tuple(row[3] for row in rows[1:]) == HashRing(NAMES).get_n("alice", 3)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_watch_prints_an_object_for_each_change(service: HeadlessService, backend: str) -> None:
    """
    What there is, a pod that joins, and a failure that leaves the pods in place.
    """
    args = ("web.prod", "--port", "http", "--nameserver", service.nameserver, "--backend", backend)
    process = start("watch", *args, "--interval", "0.1", "--count", "2", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    service.scale(4)
    joined = json.loads(process.stdout.readline())
    service.fail("SERVFAIL")
    code, out, err = finish(process)
    failed = json.loads(out)

    assert (code, err) == (0, "")
    assert (first["event"], first["generation"], first["state"]) == ("start", 1, "fresh")
    assert [e["name"] for e in first["endpoints"]] == NAMES
    assert (joined["event"], joined["generation"]) == ("change", 2)
    assert [e["address"] for e in joined["added"]] == ["10.244.0.5"]
    assert joined["removed"] == []
    assert 0.1 < joined["moved"] < 0.4
    assert (failed["event"], failed["state"], failed["moved"]) == ("state", "stale", 0.0)
    assert len(failed["endpoints"]) == 4
    assert "SERVFAIL" in failed["error"]


def test_watch_prints_a_line_for_each_change(service: HeadlessService) -> None:
    """
    A person reads who came and how many keys moved.
    """
    args = ("web.prod", "--nameserver", service.nameserver, "--interval", "0.1", "--count", "1")
    process = start("watch", *args)
    assert process.stdout is not None
    first = process.stdout.readline()
    service.scale(4)
    code, second, err = finish(process)

    assert (code, err) == (0, "")
    assert "generation 1  fresh  3 endpoints  10.244.0.2  10.244.0.3" in first
    assert "generation 2  fresh  4 endpoints  +10.244.0.5" in second
    assert second.rstrip().endswith("% of the keys moved")


@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent there")
@pytest.mark.sampled(2)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_ends_watch_quietly(service: HeadlessService, backend: str) -> None:
    """
    Nothing on standard error, and the exit code of an interrupt.
    """
    process = start("watch", "web.prod", "--nameserver", service.nameserver, "--backend", backend)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)

    assert finish(process) == (130, "", "")


@pytest.mark.parametrize("placing", ["envoy", "envoy-maglev", "grpc", "nginx"])
def test_a_placement_that_hashes_ports_wants_one(service: HeadlessService, placing: str) -> None:
    """
    Picks without a port would be nobody's.
    """
    asked = ("get", "web.prod", "alice", "--nameserver", service.nameserver, "--placement", placing)
    refused = run(*asked)

    assert refused.exit_code == 2
    assert "add --port" in refused.stderr
    assert run(*asked, "--port", "8080").exit_code == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("watch", "web.prod", "--interval", "0"), "knet: --interval must be above 0"),
        (("resolve", "web.prod", "-p", "70000"), "knet: --port must be"),
        (("resolve", "web", "-n", "no dots.here"), "knet: --namespace must be"),
        (("resolve", "web", "--nameserver", "nowhere"), "knet: --nameserver must be"),
    ],
)
def test_an_error_names_the_option(args: tuple[str, ...], said: str) -> None:
    """
    And not the argument of the library that it became.
    """
    result = run(*args)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(said), result.stderr


def test_a_bare_name_is_looked_up_in_the_namespace_that_is_given(service: HeadlessService) -> None:
    """
    As kubectl has it, `-n`; and `-p` is the port.
    """
    args = ("resolve", "web", "--nameserver", service.nameserver, "-p", "8080", "--json")

    assert run(*args, "-n", "prod").exit_code == 0
    assert run(*args, "--namespace", "staging").exit_code == 1


@pytest.mark.parametrize(("inside", "hinted"), [(False, True), (True, False)])
def test_a_name_that_no_server_knows_may_be_asked_for_from_outside(
    service: HeadlessService, monkeypatch: pytest.MonkeyPatch, inside: bool, hinted: bool
) -> None:
    """
    Who tries it on a laptop is told what works there; in a pod that would lead astray.
    """
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if inside:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")

    outcome = run("resolve", "wob.prod", "--nameserver", service.nameserver)

    assert outcome.exit_code == 1
    assert ("try `knet demo`, or `--source slices` with" in outcome.stderr) is hinted


@pytest.mark.long
def test_watch_of_a_name_that_is_not_there_says_so_soon(service: HeadlessService) -> None:
    """
    A second after it has begun, and long before it gives up; the error lists what was tried.
    """
    process = start("watch", "wob.prod", "--nameserver", service.nameserver)
    assert process.stderr is not None
    line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    code, out, _ = finish(process)

    assert line.startswith(
        "knet: wob.prod: no endpoints yet, 1 s after the start; asking 127.0.0.1:"
    )
    assert "NXDOMAIN" in line
    assert "tried: wob.prod.svc.cluster.local., wob.prod." in line
    assert (code, out) == (130, "")
