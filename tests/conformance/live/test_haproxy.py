"""
`HAProxyRing` against a running HAProxy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from knet.hashring.proxies import HAProxyRing
from tests.conformance.live.cases import MEMBERSHIPS, endpoints
from tests.conformance.live.servers import Process, ask, free_port

HEAD = """\
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend all
    bind 127.0.0.1:{port}
    use_backend %[path,field(2,/)]
"""

# The words after `hash-type consistent`, and ids by position from 0.
HASHES = ["", *(f"{f}{a}" for f in ("sdbm", "djb2", "wt6", "crc32") for a in ("", " avalanche"))]
IDS: dict[str, dict[int, int]] = {
    "all": {0: 70, 1: 5, 2: 2_000_000, 3: 1, 4: 99, 5: 6, 6: 44},
    "some": {0: 2, 3: 3, 5: 1},
    "last": {6: 1},
}


def backends() -> Iterator[tuple[str, str, str, dict[int, int]]]:
    """
    The name of each backend, its membership, its hash and its ids.
    """
    for name in MEMBERSHIPS:
        yield name, name, "", {}
    for words in HASHES[1:]:
        yield f"hash_{words.replace(' ', '_')}", "weights_1_2_3", words, {}
    for which, ids in IDS.items():
        yield f"ids_{which}", "seven", "", ids


BACKENDS = {name: (membership, words, ids) for name, membership, words, ids in backends()}


@pytest.fixture(scope="module")
def haproxy(
    _upstreams: None, ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """
    One HAProxy with all backends; its address.
    """
    binary = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if binary is None:
        pytest.skip("no haproxy on the PATH: apt-get install haproxy")
    directory = tmp_path_factory.mktemp("haproxy")
    port = free_port()
    text = HEAD.format(port=port)
    for name, membership, words, ids in backends():
        text += f"backend {name}\n    balance hdr(x-key)\n    hash-type consistent {words}\n"
        for at, endpoint in enumerate(endpoints(MEMBERSHIPS[membership], ports)):
            number = f" id {ids[at]}" if at in ids else ""
            text += f"    server s{at} {endpoint} weight {endpoint.weight}{number}\n"
    config = directory / "haproxy.cfg"
    config.write_text(text)
    with Process([binary, "-db", "-f", config], directory, ("127.0.0.1", port)):
        yield "127.0.0.1", port


@pytest.mark.parametrize("name", BACKENDS)
def test_haproxy_picks_alike(
    name: str, haproxy: tuple[str, int], ports: dict[str, int], keys: list[str]
) -> None:
    """
    Every key goes where HAProxy sends it.
    """
    membership, words, ids = BACKENDS[name]
    members = endpoints(MEMBERSHIPS[membership], ports)
    # `hdr()` hashes a header only up to its first comma.
    keys = [key.replace(",", "") or "none" for key in keys]
    ring = HAProxyRing(
        members,
        ids={members[at]: number for at, number in ids.items()} or None,
        hash=words or "sdbm avalanche",
    )

    assert list(map(str, ring.get_many(keys))) == ask(haproxy, keys, path=f"/{name}")
