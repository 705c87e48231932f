"""
The state behind a pretended headless Service: pods, ports, and the names they are known by.

Pure values. Knows what Kubernetes would publish about a Service; leaves what DNS makes of it to
`knet.testing.answers`. A change is a new `Zone`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from math import inf
from types import MappingProxyType
from typing import Literal, cast

from knet.errors import ConfigError

__all__ = ["Addresses", "Family", "Pod", "Port", "Zone", "ports_from", "split_service"]

Family = Literal["ipv4", "ipv6"]

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PROTOCOLS = ("tcp", "udp", "sctp")
# The first address of a pod network is its gateway, so pods begin after it. It also keeps pods
# in 127.0.0.0/8 away from 127.0.0.1, where everything else on the machine lives.
_FIRST_HOST = 2


def check_label(text: str, what: str) -> str:
    """
    Return *text*; raise `ConfigError` unless it is one lower-case DNS label.
    """
    if not isinstance(text, str):
        raise TypeError(f"a {what} must be a str, not {type(text).__name__}")
    if not _LABEL.fullmatch(text):
        raise ConfigError(
            f"a {what} is one DNS label (a-z, 0-9, '-', at most 63 characters), got {text!r}"
        )
    return text


def check_int(number: int, what: str, low: int, high: float = inf) -> int:
    """
    Return *number*; raise unless it is an int from *low* to *high*.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"a {what} must be an int, not {type(number).__name__}")
    if not low <= number <= high:
        allowed = f"{low} to {high}" if high < inf else f"at least {low}"
        raise ConfigError(f"a {what} must be {allowed}, got {number}")
    return number


def is_address(text: str) -> bool:
    """
    Whether *text* is a numeric IPv4 or IPv6 address.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def dashed(address: str) -> str:
    """
    The name of a pod that has no hostname: ``10-244-0-2``, ``fd00-244--2``.
    """
    return address.replace(".", "-").replace(":", "-")


@dataclass(frozen=True, slots=True)
class Port:
    """
    One port of a Service.

    Attributes:
        name: What SRV names begin with; ``""`` is the unnamed port a Service may have.
        number: 1 to 65535; a `Pod` may have its own.
        protocol: ``"tcp"``, ``"udp"`` or ``"sctp"``.
    """

    name: str
    number: int
    protocol: str = "tcp"

    def __post_init__(self) -> None:
        if self.name != "":
            check_label(self.name, "port name")
        check_int(self.number, "port's number", 1, 65535)
        if self.protocol not in _PROTOCOLS:
            raise ConfigError(f"a protocol is one of {_PROTOCOLS}, got {self.protocol!r}")


@dataclass(frozen=True, slots=True, init=False)
class Pod:
    """
    One pod of a `HeadlessService`, as it is now; a change makes another `Pod`.

        >>> Pod("127.0.0.1", hostname="web-0", ports={"http": 40001}).name
        'web-0'
        >>> Pod(["10.0.0.1", "fd00::1"]).name
        '10-0-0-1'

    Attributes:
        addresses: Numeric addresses in canonical spelling, at most one per family. Left out, the
            service gives the pod one per family of its own.
        hostname: The stable name of a StatefulSet's pod; `None` gives it the dashed name of
            each address, as a Deployment's pods have.
        ready: It passes its readiness probe. Only ready pods are in DNS.
        terminating: It was deleted and is shutting down, which takes it out of DNS; slices have it
            until it is gone.
        zone: Where it runs, as ``"eu-1a"``. Only slices show it.
        ports: The numbers of this pod's own named ports, where they differ from the service's:
            several pods can then share one address. Only SRV and slices show them.

    Raises:
        ConfigError: A value that no pod can have.
    """

    addresses: tuple[str, ...]
    hostname: str | None
    ready: bool
    terminating: bool
    zone: str | None
    ports: Mapping[str, int] = field(hash=False)

    def __init__(
        self,
        addresses: str | Iterable[str] = (),
        *,
        hostname: str | None = None,
        ready: bool = True,
        terminating: bool = False,
        zone: str | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        spelled: list[str] = []
        versions: set[int] = set()
        for text in (addresses,) if isinstance(addresses, str) else addresses:
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                raise ConfigError(f"a pod's address must be numeric, got {text!r}") from None
            if address.version in versions:
                raise ConfigError(f"a pod has one address per family, got a second: {text!r}")
            versions.add(address.version)
            spelled.append(str(address))
        if hostname is not None:
            check_label(hostname, "pod's hostname")
        if zone is not None and not isinstance(zone, str):
            raise TypeError(f"a pod's zone must be a str, not {type(zone).__name__}")
        own = dict(ports or {})
        for number in own.values():
            check_int(number, "pod's port", 1, 65535)
        object.__setattr__(self, "addresses", tuple(spelled))
        object.__setattr__(self, "hostname", hostname)
        object.__setattr__(self, "ready", bool(ready))
        object.__setattr__(self, "terminating", bool(terminating))
        object.__setattr__(self, "zone", zone)
        object.__setattr__(self, "ports", MappingProxyType(own))

    @property
    def address(self) -> str:
        """
        The first address; ``""`` while the pod has none.
        """
        return self.addresses[0] if self.addresses else ""

    @property
    def is_listed(self) -> bool:
        """
        Whether DNS has it: ready, and not terminating.
        """
        return self.ready and not self.terminating

    @property
    def name(self) -> str:
        """
        The label DNS knows the pod by: its hostname, else its first address with dashes.
        """
        return self.hostname or dashed(self.address)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.addresses)})"


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """
    Everything the server knows at one moment.

    Attributes:
        service: The Service's own name, ``web``.
        namespace: Where it lives, ``prod``.
        origin: The cluster's zone, ``cluster.local``.
        pods: Ready ones and others, in the order they are answered without shuffling.
        ports: The Service's ports; a Service may have none.
        ttl: Seconds, of every record.
        serial: Of the SOA record; Unix time of the last change.
        aliases: ExternalName Services: (service, namespace) to a target name.
    """

    service: str
    namespace: str
    origin: str
    pods: tuple[Pod, ...] = ()
    ports: tuple[Port, ...] = ()
    ttl: int = 5
    serial: int = 0
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """
        The Service's full name, without final dot.
        """
        return f"{self.service}.{self.namespace}.svc.{self.origin}"

    def find(self, wanted: Pod | str) -> int:
        """
        Where in `pods` the one meant by *wanted* is.

        Args:
            wanted: A `Pod` (compared by hostname and addresses), a hostname, a dashed name
                or an address.

        Raises:
            LookupError: No pod, or more than one, is meant.
        """
        if isinstance(wanted, Pod):
            key = (wanted.hostname, wanted.addresses)
            found = [i for i, pod in enumerate(self.pods) if (pod.hostname, pod.addresses) == key]
        elif isinstance(wanted, str):
            text = str(ipaddress.ip_address(wanted)) if is_address(wanted) else wanted
            found = [
                i for i, pod in enumerate(self.pods) if text == pod.name or text in pod.addresses
            ]
        else:
            raise TypeError(f"expected a Pod, a hostname or an address, not {wanted!r}")
        if len(found) == 1:
            return found[0]
        if found:
            among = ", ".join(str(self.pods[i]) for i in found[:3])
            raise LookupError(
                f"{wanted} means {len(found)} pods of {self.name} ({among}): name one by hostname"
            )
        raise LookupError(f"{self.name} has no pod {wanted}; it has {self._roll()}")

    def changed(self, index: int, pod: Pod) -> tuple[Pod, ...]:
        """
        The pods with another one in place of the one at *index*.
        """
        return (*self.pods[:index], pod, *self.pods[index + 1 :])

    def check(self, pod: Pod, *, instead_of: int | None = None) -> Pod:
        """
        Return *pod*; raise `ConfigError` if it cannot live beside the others.
        """
        names = {port.name for port in self.ports}
        for name in pod.ports:
            if name not in names:
                raise ConfigError(f"{self.name} has no port {name!r}; it has {sorted(names)}")
        for index, other in enumerate(self.pods):
            if index == instead_of:
                continue
            if pod.hostname is not None and pod.hostname == other.hostname:
                raise ConfigError(f"{self.name} already has a pod {other}")
            if (
                pod.hostname is None
                and other.hostname is None
                and set(pod.addresses) & set(other.addresses)
            ):
                raise ConfigError(
                    f"{self.name} already has a pod {other}; pods that share an address"
                    " need hostnames to tell them apart"
                )
        return pod

    def _roll(self) -> str:
        if not self.pods:
            return "none"
        names = ", ".join(pod.name for pod in self.pods[:5])
        return names if len(self.pods) <= 5 else f"{names} and {len(self.pods) - 5} more"


class Addresses:
    """
    Gives out pod addresses from networks, in order, and reuses none before it must.

    Args:
        networks: At most one per family, as ``10.244.0.0/16``.
        families: Of which families a pod gets an address, in this order.
    """

    def __init__(self, networks: Iterable[str], families: Iterable[str]) -> None:
        self._networks: dict[str, ipaddress.IPv4Network | ipaddress.IPv6Network] = {}
        for text in networks:
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError as error:
                raise ConfigError(f"not a network: {text!r} ({error})") from None
            family = f"ipv{network.version}"
            if family in self._networks:
                raise ConfigError(f"one network per family is enough, got a second: {text!r}")
            self._networks[family] = network
        self.families = tuple(dict.fromkeys(families))
        if not self.families:
            raise ConfigError("a service has at least one family: 'ipv4', 'ipv6' or both")
        for family in self.families:
            if family not in ("ipv4", "ipv6"):
                raise ConfigError(f"a family is 'ipv4' or 'ipv6', got {family!r}")
            if family not in self._networks:
                raise ConfigError(f"no network gives {family} addresses: {list(networks)}")
        self._hosts = {family: cycle(_hosts(network)) for family, network in self._networks.items()}

    def give(self, used: set[str]) -> tuple[str, ...]:
        """
        One free address per family.

        Raises:
            ConfigError: A network is used up.
        """
        return tuple(self._give(family, used) for family in self.families)

    def _give(self, family: str, used: set[str]) -> str:
        for address in islice(self._hosts[family], len(used) + 1):
            if address not in used:
                return address
        raise ConfigError(f"no address is left in {self._networks[family]}: give a wider network")


def _hosts(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Iterator[str]:
    last = network.num_addresses - 1  # the broadcast address, left out
    return (str(network[number]) for number in range(_FIRST_HOST, last))


def split_service(text: str) -> tuple[str, str, str]:
    """
    Take a Service's name apart.

        >>> split_service("web.prod")
        ('web', 'prod', 'cluster.local')
        >>> split_service("web.prod.svc.example.org.")
        ('web', 'prod', 'example.org')

    Raises:
        ConfigError: It is not a Service's name.
    """
    if not isinstance(text, str):
        raise TypeError(f"a service name must be a str, not {type(text).__name__}")
    labels = text.lower().removesuffix(".").split(".")
    if len(labels) < 2 or (len(labels) > 2 and labels[2] != "svc"):
        raise ConfigError(
            "expected a service as 'web.prod' or 'web.prod.svc.cluster.local'"
            f" (name, namespace, 'svc', zone), got {text!r}"
        )
    for label, what in zip(labels, ("service name", "namespace"), strict=False):
        check_label(label, what)
    for label in labels[3:]:
        check_label(label, "label of the zone")
    origin = ".".join(labels[3:]) or "cluster.local"
    if len(f"{labels[0]}.{labels[1]}.svc.{origin}") > 180:
        raise ConfigError(f"a service name longer than 180 characters leaves no room: {text!r}")
    return labels[0], labels[1], origin


def ports_from(
    ports: Mapping[str, int] | Mapping[tuple[str, str], int] | Iterable[Port],
) -> tuple[Port, ...]:
    """
    Ports from ``{"http": 8080}``, ``{("dns", "udp"): 53}`` or `Port` values.

    Raises:
        ConfigError: A name occurs twice, or a value is out of its range.
    """
    made: list[Port] = []
    if isinstance(ports, Mapping):
        for key, number in cast("Mapping[str | tuple[str, str], int]", ports).items():
            name, protocol = (key, "tcp") if isinstance(key, str) else key
            made.append(Port(name, number, protocol))
    else:
        for port in ports:
            if not isinstance(port, Port):
                raise TypeError(f"expected a Port, not {port!r}")
            made.append(port)
    names = [port.name for port in made]
    if len(set(names)) != len(names):
        raise ConfigError(f"the ports of a service have different names, got {names}")
    return tuple(made)
