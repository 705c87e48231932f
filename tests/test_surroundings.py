"""
What this machine says of itself, as far as it can be read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from knet import ConfigError, Resolver
from knet.surroundings import (
    MAX_FILE,
    Surroundings,
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
    assert surroundings_here(tmp_path / "none", tmp_path / "none") == Surroundings()


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
