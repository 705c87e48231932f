"""
What this machine says of itself, as far as it can be read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from knet import ConfigError, Resolver, this_pod
from knet.surroundings import (
    MAX_FILE,
    Surroundings,
    addresses_from,
    read_surroundings,
    surrounded_by,
    surroundings_from,
    surroundings_here,
)


def test_no_more_of_a_file_is_read_than_any_cluster_writes(tmp_path: Path) -> None:
    """
    And what the end of that cuts in two does not count. A file that somebody names is refused.
    """
    first, second = "nameserver 127.0.0.99\n", "nameserver 127.0.0.98"
    text = first + "#" * (MAX_FILE - len(first) - len(second)) + f"\n{second}7\n" + "#\n" * 10**6
    conf = tmp_path / "resolv.conf"
    conf.write_text(text)

    assert surroundings_here(conf, tmp_path / "none").nameservers == ("127.0.0.99",)
    with pytest.raises(ConfigError, match="longer than 65536 characters"):
        Resolver(resolv_conf=conf)


@pytest.mark.parametrize("what", ["nothing", "folder", "unreadable", "pipe", "\0"])
def test_a_resolv_conf_that_cannot_be_read_is_refused(tmp_path: Path, what: str) -> None:
    """
    At the call that got it, with its name.
    """
    conf: Path | str = tmp_path / "its-name"
    if what == "folder":
        (tmp_path / "its-name").mkdir()
    elif what == "unreadable":
        (tmp_path / "its-name").symlink_to(tmp_path / "its-name")
    elif what == "pipe":
        os.mkfifo(tmp_path / "its-name")
    elif what == "\0":
        conf = f"its-name{what}"
    with pytest.raises(ConfigError, match=r"resolv_conf must name a file like .*its-name"):
        Resolver(resolv_conf=conf)
    path: Any = 7
    with pytest.raises(TypeError, match="resolv_conf must be a path, not int"):
        Resolver(resolv_conf=path)


def test_what_is_read_is_what_is_written(tmp_path: Path) -> None:
    """
    With a byte-order mark or without.
    """
    conf = tmp_path / "resolv.conf"
    for mark in ("", "\ufeff"):
        conf.write_text(
            f"{mark}nameserver 10.0.0.1\nsearch shop.svc.k.test svc.k.test k.test x.test\n"
        )
        read = read_surroundings(conf)
        assert read == Surroundings("shop", "k.test", ("x.test",), ("10.0.0.1",))
        assert surroundings_here(conf, tmp_path / "none") == read
    nothing = surroundings_here(tmp_path / "none", tmp_path / "none")
    assert nothing == Surroundings(knows_zone=False)


def test_a_program_under_test_is_surrounded_by_what_it_is_told() -> None:
    """
    Inside out, whoever ends first.
    """
    one, two = surroundings_from("nameserver 10.0.0.1"), surroundings_from("nameserver 10.0.0.2")
    with surrounded_by(one):
        assert surroundings_here() is one
        with surrounded_by(two):
            assert surroundings_here() is two
        assert surroundings_here() is one


def test_each_nameserver_is_asked_once_and_any_means_this_host() -> None:
    """
    As the C library reads the file, but for the repetitions.
    """
    text = "nameserver 0.0.0.0\nnameserver 10.0.0.1\nnameserver 10.0.0.1\nnameserver ::\nnameserver 10.0.0.2"

    assert surroundings_from(text).nameservers == ("127.0.0.1", "10.0.0.1", "::1")


BY_KUBELET = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
10.244.1.7\tweb-0.web.prod.svc.cluster.local\tweb-0
fd00:10::7\tweb-0.web.prod.svc.cluster.local\tweb-0

# Entries added by HostAliases.
10.9.9.9\tother.example
"""


@pytest.mark.parametrize(
    ("environment", "hosts", "hostname", "addresses"),
    [
        ({}, "", "web-0", ()),
        ({}, BY_KUBELET, "web-0", ("10.244.1.7", "fd00:10::7")),
        ({}, BY_KUBELET, "web-0.web.prod.svc.cluster.local", ("10.244.1.7", "fd00:10::7")),
        ({}, BY_KUBELET, "web-1", ()),
        # In the network of the node it is the node's file, whatever stands there.
        ({}, BY_KUBELET.replace("file.", "file (host network)."), "web-0", ()),
        ({}, "127.0.1.1 web-0\n10.0.0.1 web-0\n", "web-0", ()),
        ({"POD_IP": "10.0.0.1"}, BY_KUBELET, "web-0", ("10.0.0.1",)),
        ({"POD_IPS": "10.0.0.1,fd00::1"}, "", "web-0", ("10.0.0.1", "fd00::1")),
        ({"POD_IPS": "FD00:0::1", "POD_IP": "10.0.0.1"}, "", "web-0", ("fd00::1",)),
        ({"POD_IPS": "", "POD_IP": " 10.0.0.1 "}, "", "web-0", ("10.0.0.1",)),
        ({"POD_IP": ""}, "", "web-0", ()),
    ],
)
def test_a_pod_knows_its_addresses(
    environment: dict[str, str], hosts: str, hostname: str, addresses: tuple[str, ...]
) -> None:
    """
    By what the downward API sets, or by what the kubelet has written.
    """
    assert addresses_from(environment, hosts, hostname) == addresses


@pytest.mark.parametrize("words", ["status.podIP", "10.0.0", "10.0.0.1;10.0.0.2", "0.0.0.0"])
def test_a_variable_that_holds_something_else_is_refused(words: str) -> None:
    with pytest.raises(ConfigError, match=r"\$POD_IP must hold the addresses of this pod, got"):
        addresses_from({"POD_IP": words}, "", "web-0")


def test_outside_of_a_pod_it_says_what_to_write() -> None:
    with (
        surrounded_by(Surroundings()),
        pytest.raises(ConfigError, match=r"fieldPath: status\.podIPs"),
    ):
        this_pod()
    with surrounded_by(Surroundings(addresses=("10.0.0.1",))):
        assert this_pod() == ("10.0.0.1",)


def test_here_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IPS", "127.0.0.7")

    assert this_pod() == ("127.0.0.7",)
