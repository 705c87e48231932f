"""
`knet resolve`, `get` and `watch` by the API of Kubernetes, and by whichever can tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from knet.testing import HeadlessService
from tests.cli.commands import finish, run, start

WHOLE = "web.prod.svc.cluster.local"
NAMES = [f"web-{n}.{WHOLE}" for n in range(3)]


@pytest.fixture
def service() -> Iterator[HeadlessService]:
    with HeadlessService("web.prod", pods=3, stateful=True) as service:
        yield service


@pytest.fixture
def kubeconfig(service: HeadlessService, tmp_path: Path) -> str:
    """
    A file as kubectl has it, which leads to the API of *service*.
    """
    path = tmp_path / "config"
    told = {
        "current-context": "box",
        "contexts": [
            {"name": "box", "context": {"cluster": "box", "user": "me", "namespace": "prod"}}
        ],
        "clusters": [{"name": "box", "cluster": {"server": service.api.url}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
    }
    path.write_text(json.dumps(told))
    return str(path)


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_same_pods_as_by_dns(service: HeadlessService, kubeconfig: str, backend: str) -> None:
    args = (WHOLE, "--port", "http", "--json", "--backend", backend)
    by_dns = json.loads(run("resolve", *args, "--nameserver", service.nameserver).stdout)
    slices = ("--source", "slices", "--kubeconfig", kubeconfig)
    by_slices = json.loads(run("resolve", *args, *slices).stdout)

    assert by_slices["endpoints"] == by_dns["endpoints"]
    assert [each["name"] for each in by_slices["endpoints"]] == NAMES
    assert (by_dns["source"], by_slices["source"], by_slices["ttl"]) == ("dns", "slices", None)
    picked = [
        run("get", *args[:1], "user-42", *args[1:], *source).stdout
        for source in (slices, ("--nameserver", service.nameserver))
    ]
    assert picked[0] == picked[1]


def test_a_person_reads_who_told_it(
    service: HeadlessService, kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A bare name is looked up in the namespace of the kubeconfig, which kubectl's variable names.
    """
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    result = run("resolve", "web", "--port", "80", "--source", "slices")

    assert result.exit_code == 0
    assert (
        "3 endpoints of web.prod.svc.cluster.local., as the API told it, complete" in result.stdout
    )
    assert len(service.api.requests) == 1


def test_watch_is_told_at_once(service: HeadlessService, kubeconfig: str) -> None:
    """
    An hour between lookups is of no matter.
    """
    args = (
        "--port",
        "http",
        "--source",
        "slices",
        "--kubeconfig",
        kubeconfig,
        "--interval",
        "3600",
    )
    process = start("watch", WHOLE, *args, "--count", "1", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    service.scale(4)
    code, out, err = finish(process)
    joined = json.loads(out)

    assert code == 0, err
    assert (first["event"], first["source"]) == ("start", "EndpointSlices")
    assert len(first["endpoints"]) == 3
    assert [each["name"] for each in joined["added"]] == [f"web-3.{WHOLE}"]


def test_where_the_api_cannot_tell_auto_asks_dns(service: HeadlessService, kubeconfig: str) -> None:
    """
    A line on standard error says why, and what to grant.
    """
    service.api.fail("FORBIDDEN")
    args = ("web.prod", "--port", "80", "--source", "auto", "--kubeconfig", kubeconfig)
    asked = run("resolve", *args, "--nameserver", service.nameserver, "--json")

    assert (asked.exit_code, json.loads(asked.stdout)["source"]) == (0, "dns")
    assert "asking DNS" in asked.stderr
    assert "resources: [endpointslices], verbs: [list, watch]" in asked.stderr

    process = start("watch", *args, "--nameserver", service.nameserver, "--count", "1", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["source"] == "Resolver"
    service.scale(4)
    code, out, err = finish(process)
    assert (code, json.loads(out)["event"]) == (0, "change")
    assert "cannot tell" in err


def test_without_a_cluster_auto_asks_dns(service: HeadlessService) -> None:
    args = ("web.prod", "--port", "80", "--source", "auto", "--nameserver", service.nameserver)
    asked = run("resolve", *args)

    assert asked.exit_code == 0
    assert "this is no pod of a cluster" in asked.stderr
    assert "3 endpoints" in asked.stdout


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("--source", "slices"), 2, "this is no pod of a cluster"),
        (("--source", "slices", "--kubeconfig", "/nowhere"), 2, "cannot be read"),
        (("--kubeconfig", "/nowhere"), 2, "--source slices, or auto"),
        (("--source", "slices", "--nameserver", "127.0.0.1"), 2, "are for DNS"),
        (("--source", "consul"), 2, "consul"),
    ],
)
def test_what_makes_no_sense_is_refused(options: tuple[str, ...], code: int, why: str) -> None:
    for command in (("resolve", "web.prod"), ("get", "web.prod", "k"), ("watch", "web.prod")):
        result = run(*command, *options)
        assert result.exit_code == code
        assert why in result.stderr


def test_an_api_that_refuses_is_one_line(service: HeadlessService, kubeconfig: str) -> None:
    service.api.fail("UNAUTHORIZED")
    args = ("web.prod", "--source", "slices", "--kubeconfig", kubeconfig)
    for command in (("resolve", *args), ("get", *args, "--", "k")):
        result = run(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "does not take our token (401)" in result.stderr
        assert result.stderr.count("\n") == 1
