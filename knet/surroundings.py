"""
`Surroundings`: what this machine says of itself, read once.

`/etc/resolv.conf` has the nameservers and the search list, a service account's files have the namespace
of the pod, and `/etc/hosts` its addresses, unless the environment has them. What makes no sense in
these files is passed over: whoever asks for a service did not write them.

Tests, and programs under test, surround themselves with something else: `surrounded_by`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from knet.errors import ConfigError
from knet.pods import usable_address
from knet.question import check_name, is_address, shown

__all__ = [
    "RESOLV_CONF",
    "Surroundings",
    "addresses_from",
    "read_surroundings",
    "surrounded_by",
    "surroundings_from",
    "surroundings_here",
    "this_pod",
]

RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

DEFAULT_NAMESPACE = "default"
DEFAULT_ZONE = "cluster.local"

# How many of them are used. resolv.conf(5) stops at 3 servers; Kubernetes refuses a pod with more
# than 32 search domains, and each of them costs a query for a name that is not there.
_MAX_SERVERS = 3
_MAX_SEARCH = 32

# How many characters of a file in /etc are read. No cluster writes a fiftieth of it.
MAX_FILE = 65_536

# As for the C library, the address that stands for any is this host's.
_THIS_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound there

# How much of a path is shown: as much as Linux allows.
_MAX_PATH = 4096

# The first line of the file that a kubelet writes; in the network of the node it is longer.
_BY_KUBELET = "# Kubernetes-managed hosts file.\n"

_SCOPE = re.compile(r"[a-z0-9._-]{1,15}", re.ASCII | re.IGNORECASE)  # as long as Linux allows


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What a pod knows of where it runs.

    Attributes:
        namespace: The pod's own namespace: where a bare service name is looked up.
        zone: The cluster's domain; as good as everybody's where nothing says so.
        search: The other domains of the search list, in order.
        nameservers: As `Resolver` takes them, in order; empty where nothing says so.
        addresses: The pod's own, the primary one first; empty where nothing says so.
        knows_zone: Whether something says what *zone* is.
        api: Where the API of Kubernetes is, for programs under test; `""`: where a pod finds it.
    """

    namespace: str = DEFAULT_NAMESPACE
    zone: str = DEFAULT_ZONE
    search: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    knows_zone: bool = True
    api: str = ""


def surroundings_from(resolv_conf: str, namespace: str | None = None) -> Surroundings:
    """
    Return what the text of a `resolv.conf` and of the service account's `namespace` file tell.

    kubelet writes `search <namespace>.svc.<zone> svc.<zone> <zone> ...`; those three give the
    namespace and the zone, the rest is kept in order. Of the nameservers the first three different
    ones count.
    """
    search: list[str] = []
    written: list[str] = []
    servers: list[str] = []
    for words in _lines(resolv_conf):
        if words[0] in ("search", "domain"):
            written = words[1:]  # resolv.conf(5): the last one wins
        elif words[0] == "nameserver" and len(words) > 1 and _is_server(words[1]):
            servers.append(_THIS_HOST.get(words[1], words[1]))
    for word in written:
        with suppress(ConfigError):
            search.append(check_name(word, "search").removesuffix("."))
        if len(search) == _MAX_SEARCH:
            break
    zone, found = DEFAULT_ZONE, DEFAULT_NAMESPACE
    own: set[str] = set()
    for domain in search:
        head, dot, rest = domain.partition(".svc.")
        if dot and head and "." not in head and f"svc.{rest}" in search:
            zone, found = rest, head
            own = {domain, f"svc.{rest}", rest}
            break
    else:
        for domain in search:
            if domain.startswith("svc."):
                zone = domain.removeprefix("svc.")
                own = {domain, zone}
                break
    with suppress(ConfigError):
        found = check_name((namespace or "").strip(), "namespace").removesuffix(".")
    rest_of_search = tuple(d for d in search if d not in own)
    # The same one twice would be asked twice.
    different = tuple(islice(dict.fromkeys(servers), _MAX_SERVERS))
    return Surroundings(found, zone, rest_of_search, different, knows_zone=bool(own))


def read_surroundings(resolv_conf: str | Path) -> Surroundings:
    """
    Read the file that *resolv_conf* names, and the service account's namespace.

    Raises:
        ConfigError: It is not there, cannot be read, or is longer than 64 KiB.
        TypeError: It is no path.
    """
    if not isinstance(resolv_conf, str | Path):
        raise TypeError(f"resolv_conf must be a path, not {type(resolv_conf).__name__}")
    # Whole, since the end of a path says most.
    what = (
        f"resolv_conf must name a file like /etc/resolv.conf, got {str(resolv_conf)[:_MAX_PATH]!r}"
    )
    try:
        # A pipe would be waited for.
        if Path(resolv_conf).exists() and not Path(resolv_conf).is_file():
            raise ConfigError(f"{what}: it is no file")
        text = _read(Path(resolv_conf))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: {error}") from error
    if len(text) > MAX_FILE:
        raise ConfigError(f"{what}: it is longer than {MAX_FILE} characters")
    return surroundings_from(text, _text(NAMESPACE))


def surroundings_here(resolv_conf: Path = RESOLV_CONF, namespace: Path = NAMESPACE) -> Surroundings:
    """
    Read what this machine says; a file that is not there says nothing.
    """
    if _pretended:
        return _pretended[-1]
    return surroundings_from(_text(resolv_conf), _text(namespace))


def this_pod() -> tuple[str, ...]:
    """
    Return the addresses of the pod that this runs in, for `Ring(me=knet.this_pod)`.

    From `$POD_IPS` or `$POD_IP`, which the downward API sets, else from the lines that the kubelet
    writes into `/etc/hosts`. On a dual-stack cluster there are two, and a ring has endpoints of one
    family: with all of them it finds itself either way.

    Raises:
        ConfigError: This is no pod, or one in its node's network, and nothing says its address; or
            `$POD_IPS` or `$POD_IP` holds something else.
    """
    addresses = _pretended[-1].addresses if _pretended else _addresses_here()
    if not addresses:
        raise ConfigError(
            "nothing tells the address of this pod: neither $POD_IPS nor $POD_IP is set, and /etc/hosts "
            "was not written by a kubelet; give the container `env: [{name: POD_IPS, valueFrom: "
            "{fieldRef: {fieldPath: status.podIPs}}}]`, or outside of a cluster pass me='127.0.0.1'"
        )
    return addresses


def addresses_from(environment: Mapping[str, str], hosts: str, hostname: str) -> tuple[str, ...]:
    """
    Return the addresses of a pod by its environment, or else by the text of its `/etc/hosts`.

    Raises:
        ConfigError: A variable holds no addresses.
    """
    for variable in ("POD_IPS", "POD_IP"):
        words = environment.get(variable, "").replace(",", " ").split()
        found = [usable_address(word) for word in words]
        if None in found:
            raise ConfigError(
                f"${variable} must hold the addresses of this pod, got {shown(environment[variable])}"
            )
        if words:
            return tuple(dict.fromkeys(word for word in found if word is not None))
    if not hosts.startswith(_BY_KUBELET):
        return ()
    own = [words[0] for words in _lines(hosts) if hostname in words[1:]]
    usable = [address for word in own if (address := usable_address(word)) is not None]
    return tuple(dict.fromkeys(usable))


def _addresses_here() -> tuple[str, ...]:
    return addresses_from(os.environ, _text(HOSTS), socket.gethostname())


_pretended: list[Surroundings] = []


@contextmanager
def surrounded_by(surroundings: Surroundings) -> Iterator[None]:
    """
    Let every resolver that reads what this machine says read *surroundings* meanwhile.

    In the whole process, since an app under test may live in another thread.
    """
    _pretended.append(surroundings)
    try:
        yield
    finally:
        _pretended.remove(surroundings)


def _read(path: Path) -> str:
    # A byte-order mark is no part of the first word.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return file.read(MAX_FILE + 1)


def _text(path: Path) -> str:
    try:
        text = _read(path)
    except OSError:
        return ""
    # What was cut in two is no name or address any more.
    return text if len(text) <= MAX_FILE else text.rpartition("\n")[0]


def _lines(text: str) -> Iterator[list[str]]:
    # Not splitlines(): it also ends a line, and with it a comment, where libc sees no end.
    for line in text.split("\n"):
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if words:
            yield words


def _is_server(text: str) -> bool:
    address, percent, scope = text.partition("%")
    return is_address(address) and (not percent or _SCOPE.fullmatch(scope) is not None)
