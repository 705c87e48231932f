"""
Kubernetes names: what a user writes, and the absolute DNS names that it can stand for.

Pure: the texts of `/etc/resolv.conf` and of the service account's namespace file go in, names come
out. A name is expanded here, once, and asked for with a trailing dot, because c-ares does not use
the search list and libc's use of it (`ndots:5`) costs up to eight queries a name.

The shapes are those of the Kubernetes DNS specification 1.1 (`kubernetes/dns`): a Service is
`<service>.<namespace>.svc.<zone>`, and a named port of it `_<port>._<protocol>.` before that.

Every text is taken for hostile: it is measured before it is parsed, and an error shows no more than
the beginning of it, escaped.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

from knet.errors import ConfigError

__all__ = [
    "Cluster",
    "Family",
    "Protocol",
    "Question",
    "candidates",
    "check_name",
    "cluster_from",
    "is_hostname",
    "is_within",
    "nameservers_from",
    "service_in",
    "shown",
    "srv_name",
]

Family = Literal["auto", "ipv4", "ipv6"]
Protocol = Literal["tcp", "udp", "sctp"]

DEFAULT_NAMESPACE = "default"
DEFAULT_ZONE = "cluster.local"

# RFC 1035: 63 octets a label and 255 a name on the wire, which is 253 characters of text.
_MAX_LABEL = 63
_MAX_NAME = 253

# Underscores are not for hostnames, and are common all the same: Docker Compose, SRV names.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?", re.ASCII)
_SCOPE = re.compile(r"[a-z0-9._-]{1,15}", re.ASCII | re.IGNORECASE)  # as long as Linux allows
_PORT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.ASCII)
# Possessive, because it reads what comes from the wire: whatever that is, it goes over it once.
_HOSTNAME = re.compile(
    r"(?:[a-z0-9_][a-z0-9_-]{0,62}+(?<!-)\.)*+[a-z0-9_][a-z0-9_-]{0,62}+(?<!-)", re.ASCII
)

# How many of them are used. resolv.conf(5) stops at 3 servers; Kubernetes refuses a pod with more
# than 32 search domains, and each of them costs a query for a name that is not there.
_MAX_SERVERS = 3
_MAX_SEARCH = 32

# How much of a text an error shows.
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Cluster:
    """
    What a pod knows of where it runs.

    Attributes:
        namespace: The pod's own namespace: where a bare service name is looked up.
        zone: The cluster's domain.
        search: The other domains of the search list, in order.
    """

    namespace: str = DEFAULT_NAMESPACE
    zone: str = DEFAULT_ZONE
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """
    Which pods are wanted: a service and what of it.

    Attributes:
        service: As the user wrote it, lower-cased; a trailing dot makes it absolute.
        port: A number asks A or AAAA records and adds that port; a name asks SRV records, whose
            ports it takes; `None` asks A or AAAA records and leaves the port out.
        protocol: Of a named port.
        family: `"auto"` is IPv4 where the service has any IPv4 address, else IPv6, so that a
            dual-stack pod is never listed twice.

    Raises:
        ConfigError: One of them is empty, misspelt or out of range.
        TypeError: One of them has the wrong type.
    """

    service: str
    port: int | str | None = None
    protocol: Protocol = "tcp"
    family: Family = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "service", check_name(self.service, "service"))
        _check_port(self.port)
        if self.protocol not in get_args(Protocol):
            raise ConfigError(f"protocol must be {_one_of(Protocol)}, got {shown(self.protocol)}")
        if self.family not in get_args(Family):
            raise ConfigError(f"family must be {_one_of(Family)}, got {shown(self.family)}")
        if isinstance(self.port, str):
            size = len(srv_name(self.service, self.port, self.protocol).removesuffix("."))
            if size > _MAX_NAME:
                raise ConfigError(
                    f"service has {size} characters with its port {self.port!r} before it, DNS "
                    f"allows {_MAX_NAME}: {shown(self.service)}"
                )

    def __str__(self) -> str:
        if isinstance(self.port, str):
            return f"{self.service} (port {self.port}/{self.protocol})"
        return self.service if self.port is None else f"{self.service} (port {self.port})"


def check_name(name: str, what: str) -> str:
    """
    Return *name* in lower case if it can be a DNS name, with or without a trailing dot.

    Raises:
        ConfigError: It is empty, an address, or has a label or a character that no name has; the
            message starts with *what* and shows at most 80 characters of it.
        TypeError: It is not a str.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    bare = name.removesuffix(".")
    if not bare:
        raise ConfigError(f"{what} must not be empty, got {shown(name)}")
    if len(bare) > _MAX_NAME:
        raise ConfigError(
            f"{what} has {len(bare)} characters, DNS allows {_MAX_NAME}: {shown(name)}"
        )
    text = bare.lower()
    if _is_address(text):
        raise ConfigError(
            f"{what} must be a DNS name, got the address {shown(name)}; Ring.static takes addresses"
        )
    for label in text.split("."):
        if not label:
            raise ConfigError(f"{what} has an empty label: {shown(name)}")
        if len(label) > _MAX_LABEL:
            raise ConfigError(
                f"{what} has a label of {len(label)} characters, DNS allows {_MAX_LABEL}: "
                f"{shown(name)}"
            )
        # Lower-casing makes ASCII of a few letters that are not: the Kelvin sign becomes a "k".
        if not (name.isascii() and _LABEL.fullmatch(label)):
            raise ConfigError(
                f"{what} must be a DNS name like 'web.prod.svc.cluster.local' (letters, digits "
                f"and inner hyphens), got {shown(name)}"
            )
    return name.lower()


def is_hostname(name: str) -> bool:
    """
    Can *name*, which came from the wire in lower case without a trailing dot, be a host's?

    Letters, digits, inner hyphens, and underscores, within the limits of RFC 1035. c-ares writes
    other octets with a backslash or as they are: such a name is nobody's. Nor is an address.
    """
    return (
        len(name) <= _MAX_NAME
        and _HOSTNAME.fullmatch(name) is not None
        and not (name[-1].isdigit() and _is_address(name))
    )


def is_within(name: str, domain: str) -> bool:
    """
    Is *name* the same as *domain* or below it? Both in lower case, without a trailing dot.
    """
    return name == domain or name.endswith(f".{domain}")


def shown(value: object) -> str:
    """
    Return *value* as an error shows it: on one line, in printable characters, and not for long.
    """
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"  # Python refuses to print the longest ones
    if isinstance(value, str) and len(value) > _SHOWN:
        return repr(f"{value[: _SHOWN - 3]}...")
    text = repr(value)
    return text if len(text) <= 10 * _SHOWN + 2 else f"{text[: _SHOWN - 3]}..."


def cluster_from(resolv_conf: str, namespace: str | None = None) -> Cluster:
    """
    Return what the text of a `resolv.conf` and of the service account's `namespace` file tell.

    kubelet writes `search <namespace>.svc.<zone> svc.<zone> <zone> ...`; those three give the
    namespace and the zone, the rest is kept in order. What makes no sense is passed over: whoever
    asks for a service did not write these files.
    """
    search: list[str] = []
    written: list[str] = []
    for words in _lines(resolv_conf):
        if words[0] in ("search", "domain"):
            written = words[1:]  # resolv.conf(5): the last one wins
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
    return Cluster(found, zone, tuple(d for d in search if d not in own))


def nameservers_from(resolv_conf: str) -> tuple[str, ...]:
    """
    Return the `nameserver` addresses of the text of a `resolv.conf`, in order, at most three.
    """
    found = (
        words[1]
        for words in _lines(resolv_conf)
        if words[0] == "nameserver" and len(words) > 1 and _is_server(words[1])
    )
    return tuple(islice(found, _MAX_SERVERS))


def candidates(service: str, cluster: Cluster, *, prefix: str = "") -> tuple[str, ...]:
    """
    Return the absolute names that *service* can stand for, likeliest first, each with its dot.

    What would be too long for DNS with *prefix* before it is left out.

    A name with a trailing dot stands for itself, and so does one that contains `.svc.` or ends in
    the cluster's zone. `"web"` is looked for in the pod's own namespace and `"web.prod"` in
    `prod`; both are then tried with the rest of the search list and at last as they are, which is
    how a Docker Compose service or a name outside the cluster is found.

        >>> candidates("web.prod", Cluster(search=("example.com",)))
        ('web.prod.svc.cluster.local.', 'web.prod.example.com.', 'web.prod.')
    """
    if service.endswith("."):
        return (service,)
    labels = service.split(".")
    zone = cluster.zone
    if ".svc." in service or service.endswith(f".{zone}"):
        return (f"{service}.",)
    names: list[str] = []
    if labels[-1] == "svc" and len(labels) > 1:
        names.append(f"{service}.{zone}.")
    elif len(labels) == 1:
        names.append(f"{service}.{cluster.namespace}.svc.{zone}.")
    else:
        names.append(f"{service}.svc.{zone}.")
    names += [f"{service}.{domain}." for domain in cluster.search]
    names.append(f"{service}.")
    room = _MAX_NAME + 1 - len(prefix)
    return tuple(n for n in dict.fromkeys(names) if len(n) <= room)


def service_in(service: str, namespace: str, cluster: Cluster) -> str:
    """
    Return the absolute name of *service* in *namespace*, as the Go original composed it.

    Raises:
        ConfigError: One of them cannot be, or they make a name that is too long together.
    """
    name = check_name(service, "service").removesuffix(".")
    place = check_name(namespace or DEFAULT_NAMESPACE, "namespace").removesuffix(".")
    return check_name(f"{name}.{place}.svc.{cluster.zone}.", "service")


def srv_name(name: str, port: str, protocol: str) -> str:
    """
    Return the name of the SRV records of a named port: `_http._tcp.` before *name*.
    """
    return f"_{port}._{protocol}.{name}"


def _check_port(port: object) -> None:
    if port is None:
        return
    if isinstance(port, bool) or not isinstance(port, (int, str)):
        raise TypeError(f"port must be an int, a str or None, not {type(port).__name__}")
    if isinstance(port, int):
        if not 1 <= port <= 65535:
            raise ConfigError(f"port must be 1 to 65535, got {shown(port)}")
        return
    if port.isdecimal() and len(port) <= 5:
        raise ConfigError(f"port={port!r} has no name: write port={port}, or the port's own name")
    if len(port) > _MAX_LABEL - 1 or port.isdecimal() or not _PORT_NAME.fullmatch(port):
        raise ConfigError(
            f"port must be a number or the name of a port, like 'http', got {shown(port)}"
        )


def _lines(text: str) -> Iterator[list[str]]:
    # Not splitlines(): it also ends a line, and with it a comment, where libc sees no end.
    for line in text.split("\n"):
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if words:
            yield words


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _is_server(text: str) -> bool:
    address, percent, scope = text.partition("%")
    return _is_address(address) and (not percent or _SCOPE.fullmatch(scope) is not None)


def _one_of(literal: object) -> str:
    return " or ".join(repr(value) for value in get_args(literal))
