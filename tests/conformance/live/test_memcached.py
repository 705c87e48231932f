"""
`Ketama` and `PymemcacheRendezvous` against libmemcached, a running twemproxy, and pymemcache.

libmemcached and pymemcache say where a key belongs without asking a server, so none is needed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from knet import Endpoint
from knet.hashring.proxies import Ketama, PymemcacheRendezvous
from tests.conformance.live.cases import IPV4, MEMBERSHIPS, Server, endpoints
from tests.conformance.live.servers import Process, free_port

# From libmemcached's constants.h.
BEHAVIORS = {"ketama": 3, "ketama_weighted": 16}
HASH = 2
HASHES = {
    "one_at_a_time": 0,
    "md5": 1,
    "crc": 2,
    "fnv1_64": 3,
    "fnv1a_64": 4,
    "fnv1_32": 5,
    "fnv1a_32": 6,
    "murmur": 8,
    "jenkins": 9,
    "murmur3": 10,
}

TWEMPROXY_HASHES = [
    "one_at_a_time",
    "md5",
    "crc16",
    "crc32",
    "crc32a",
    "fnv1_64",
    "fnv1a_64",
    "fnv1_32",
    "fnv1a_32",
    "hsieh",
    "murmur",
    "jenkins",
]

# What is in no other place: the port that is left out of names, many servers, odd weights.
MEMCACHED: dict[str, tuple[Endpoint, ...]] = {
    "port_11211": tuple(Endpoint(h, h, 11211) for h in IPV4[:5]),
    "both_ports": tuple(Endpoint(h, h, port) for h in IPV4[:5] for port in (11211, 11300)),
    "ipv6_11211": tuple(Endpoint("x", f"fd00::{n}", 11211) for n in range(1, 5)),
    "many_weights": tuple(
        Endpoint("x", f"10.0.{n}.1", 11211 + n % 2, 1 + n * 7 % 5) for n in range(75)
    ),
    "rounded_down": tuple(Endpoint("x", f"10.0.0.{n}", 11211) for n in range(25)),
    "one_heavy": tuple(Endpoint("x", h, 11211, 10_000 if h == IPV4[3] else 1) for h in IPV4),
}


@pytest.fixture(scope="module")
def libmemcached() -> Any:
    """
    The C library.
    """
    found = ctypes.util.find_library("memcached") or "libmemcached.so.11"
    try:
        library = ctypes.CDLL(found)
    except OSError:
        pytest.skip("no libmemcached: apt-get install libmemcached11")
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.memcached_create.restype = pointer
    library.memcached_create.argtypes = [pointer]
    library.memcached_free.argtypes = [pointer]
    library.memcached_behavior_set.argtypes = [pointer, ctypes.c_int, ctypes.c_uint64]
    add = library.memcached_server_add_with_weight
    add.argtypes = [pointer, ctypes.c_char_p, ctypes.c_uint16, ctypes.c_uint32]
    library.memcached_generate_hash.restype = ctypes.c_uint32
    library.memcached_generate_hash.argtypes = [pointer, ctypes.c_char_p, size]
    return library


def libmemcached_picks(
    library: Any, members: list[Endpoint], keys: list[str], behaviors: list[tuple[int, int]]
) -> list[Endpoint]:
    """
    Where libmemcached would send each key.
    """
    client = library.memcached_create(None)
    try:
        for behavior, value in behaviors:
            assert library.memcached_behavior_set(client, behavior, value) == 0
        for e in members:
            added = library.memcached_server_add_with_weight(
                client, e.address.encode(), e.port, int(e.weight)
            )
            assert added == 0
        encoded = [key.encode() for key in keys]
        return [members[library.memcached_generate_hash(client, k, len(k))] for k in encoded]
    finally:
        library.memcached_free(client)


def memberships(ports: dict[str, int]) -> dict[str, list[Endpoint]]:
    usual = {name: endpoints(servers, ports) for name, servers in MEMBERSHIPS.items()}
    return usual | {name: list(members) for name, members in MEMCACHED.items()}


@pytest.mark.parametrize("behavior", BEHAVIORS)
@pytest.mark.parametrize("name", [*MEMBERSHIPS, *MEMCACHED])
def test_libmemcached_picks_alike(
    name: str, behavior: str, libmemcached: Any, ports: dict[str, int], keys: list[str]
) -> None:
    """
    With each of its two ketamas; the weights of some memberships make the plain one weighted too.
    """
    members = memberships(ports)[name]
    ring = Ketama(members, behavior=behavior)

    theirs = libmemcached_picks(libmemcached, members, keys, [(BEHAVIORS[behavior], 1)])

    assert ring.get_many(keys) == theirs


@pytest.mark.parametrize("behavior", BEHAVIORS)
@pytest.mark.parametrize("hash", HASHES)
@pytest.mark.parametrize("name", ["both_families", "port_11211"])
def test_libmemcached_picks_alike_with_every_hash(
    name: str, hash: str, behavior: str, libmemcached: Any, ports: dict[str, int], keys: list[str]
) -> None:
    """
    Plain ketama places its points with it as well.
    """
    members = memberships(ports)[name]
    ring = Ketama(members, behavior=behavior, hash=hash)

    # The hash after the behavior, which would set its own.
    behaviors = [(BEHAVIORS[behavior], 1), (HASH, HASHES[hash])]
    if behavior == "ketama":
        behaviors.append((BEHAVIORS[behavior], 1))
    theirs = libmemcached_picks(libmemcached, members, keys, behaviors)

    assert ring.get_many(keys) == theirs


# The pools of one twemproxy: a membership, a hash, and whether servers have names.
POOLS: dict[str, tuple[tuple[Server, ...], str, bool]] = {
    **{name: (servers, "md5", False) for name, servers in MEMBERSHIPS.items()},
    **{f"hash_{hash}": (MEMBERSHIPS["seven"], hash, False) for hash in TWEMPROXY_HASHES},
    "named": (MEMBERSHIPS["weights_skewed"], "fnv1a_64", True),
    "named_equal": (MEMBERSHIPS["seven"], "murmur", True),
}


def named(server: Endpoint) -> str:
    """
    A name that is given to a server in twemproxy's configuration.
    """
    return f"shard-{server.address.rpartition('.')[2]}"


@pytest.fixture(scope="module")
def twemproxy(
    _upstreams: None, ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, int]]:
    """
    One twemproxy with all pools; the port of each.
    """
    binary = shutil.which("nutcracker") or shutil.which("nutcracker", path="/usr/sbin")
    if binary is None:
        pytest.skip("no nutcracker (twemproxy) on the PATH: apt-get install nutcracker")
    directory: Path = tmp_path_factory.mktemp("twemproxy")
    taken: dict[str, int] = {}
    port = 0
    text = ""
    for name, (servers, hash, with_names) in POOLS.items():
        while (port := free_port()) in taken.values():
            pass
        taken[name] = port
        text += f"{name}:\n  listen: 127.0.0.1:{port}\n  hash: {hash}\n"
        text += "  distribution: ketama\n  redis: true\n  servers:\n"
        for e in endpoints(servers, ports):
            text += f'   - "{e.address}:{e.port}:{e.weight}{f" {named(e)}" * with_names}"\n'
    config = directory / "nutcracker.yml"
    config.write_text(text)
    while (stats := free_port()) in taken.values():
        pass
    command: list[str | Path] = [binary, "-c", config, "-a", "127.0.0.1", "-s", str(stats)]
    with Process(command, directory, ("127.0.0.1", port)):
        yield taken


def redis_get(port: int, keys: list[str]) -> list[str]:
    """
    GET each key from the Redis at *port*.
    """
    answers = []
    with (
        closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as sock,
        sock.makefile("rb") as lines,
    ):
        for low in range(0, len(keys), 50):
            some = [key.encode() for key in keys[low : low + 50]]
            sock.sendall(b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(k), k) for k in some))
            for _ in some:
                length = lines.readline()
                assert length.startswith(b"$"), length
                answers.append(lines.readline().decode().strip())
    return answers


@pytest.mark.parametrize("name", POOLS)
def test_twemproxy_picks_alike(
    name: str, twemproxy: dict[str, int], ports: dict[str, int], keys: list[str]
) -> None:
    """
    Every key goes where twemproxy sends it.
    """
    servers, hash, with_names = POOLS[name]
    ring = Ketama(endpoints(servers, ports), hash=hash, name=named if with_names else None)

    assert list(map(str, ring.get_many(keys))) == redis_get(twemproxy[name], keys)


@pytest.mark.parametrize("name", [*MEMBERSHIPS, *MEMCACHED])
def test_pymemcache_picks_alike(name: str, ports: dict[str, int], keys: list[str]) -> None:
    """
    Its client, given the same servers, has every key at the same one.
    """
    pymemcache = pytest.importorskip("pymemcache", reason="no pymemcache: pip install pymemcache")
    members = [Endpoint(e.name, e.address, e.port) for e in memberships(ports)[name]]
    theirs = pymemcache.HashClient([str(e) for e in members], allow_unicode_keys=True)
    ring = PymemcacheRendezvous(members)

    ours = [(e.address, e.port) for e in ring.get_many(keys)]

    assert ours == [theirs._get_client(key).server for key in keys]
