"""
What the endpointslice controller of Kubernetes would write about a `Zone`: zones go in, slices come out.

Knows who was in which slice, as the controller does: an endpoint stays in its slice, a new one goes to the first
that has room, and slices are not packed anew. Each family, and each set of ports, has slices of its own. Where
nobody is left, one slice of the family stays, with ``endpoints`` and ``ports`` null.

A pod that leaves is told as terminating first and is gone after that, since that is how pods end.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from knet.testing.zone import Pod, Zone

__all__ = ["Book", "Json"]

Json: TypeAlias = dict[str, Any]

# Endpoints in a slice, --max-endpoints-per-slice of kube-controller-manager.
_LARGEST = 100
# What names are made of that a server makes up: no vowels, and none of 0, 1, 3.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"

# A pod is known by its hostname and addresses, as everywhere in here.
_Who: TypeAlias = tuple[str | None, tuple[str, ...]]
_Ports: TypeAlias = tuple[tuple[str, str, int], ...]
_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}


@dataclass(slots=True, eq=False)
class _Page:
    """
    One slice.

    Attributes:
        name: Of the object, ``web-x2x4z``.
        uid: Likewise.
        family: ``"IPv4"`` or ``"IPv6"``.
        ports: Name, protocol and number of each.
        endpoints: By pod, in the order they came.
    """

    name: str
    uid: str
    family: str
    ports: _Ports
    endpoints: dict[_Who, Json] = field(default_factory=dict)


class Book:
    """
    The slices of one Service, and who is in which.

    Args:
        families: Of the Service, ``"ipv4"`` or ``"ipv6"``: each has a slice, also without any pod.
        rng: For names and uids.
    """

    def __init__(self, families: Iterable[str], rng: random.Random) -> None:
        self._families = [_FAMILIES[family] for family in families]
        self._rng = rng
        self._pages: list[_Page] = []
        self._pods: dict[_Who, Pod] = {}
        self._targets: dict[_Who, tuple[str, str]] = {}
        self._service_uid = self._uid()

    def write(self, zone: Zone) -> Iterator[dict[str, Json]]:
        """
        Yield the slices that follow, one after the other, by name: two times where a pod leaves, else once.

        A slice has all but ``resourceVersion``, ``generation`` and ``creationTimestamp``.
        """
        pods = {(pod.hostname, pod.addresses): pod for pod in zone.pods}
        renamed = {pod.addresses for who, pod in pods.items() if who not in self._pods}
        leaving = {
            who: replace(pod, terminating=True)
            for who, pod in self._pods.items()
            if who not in pods and pod.addresses not in renamed and not pod.terminating
        }
        if leaving:
            yield self._turn(zone, {**self._pods, **leaving})
        yield self._turn(zone, pods)

    def _turn(self, zone: Zone, pods: Mapping[_Who, Pod]) -> dict[str, Json]:
        """
        Let the slices have exactly these pods.
        """
        wanted: dict[tuple[str, _Ports], dict[_Who, Json]] = {}
        self._targets = {who: self._targets.get(who) or self._target(zone, who) for who in pods}
        for who, pod in pods.items():
            ports = tuple(
                (port.name, port.protocol.upper(), pod.ports.get(port.name, port.number))
                for port in zone.ports
            )
            for address in pod.addresses:
                family = "IPv6" if ":" in address else "IPv4"
                endpoint = self._endpoint(zone, who, pod, address)
                wanted.setdefault((family, ports), {})[who] = endpoint
        for page in self._pages:
            here = wanted.get((page.family, page.ports), {})
            page.endpoints = {who: here.pop(who) for who in page.endpoints if who in here}
        for (family, ports), coming in wanted.items():
            for who, endpoint in coming.items():
                self._room(zone, family, ports).endpoints[who] = endpoint
        self._drop_empty(zone)
        self._pods = dict(pods)
        return {page.name: self._object(zone, page) for page in self._pages}

    def _room(self, zone: Zone, family: str, ports: _Ports) -> _Page:
        """
        The first slice with room; one that is empty, whatever its ports were; or a new one.
        """
        of_family = [page for page in self._pages if page.family == family]
        for page in of_family:
            if page.ports == ports and len(page.endpoints) < _LARGEST:
                return page
        for page in of_family:
            if not page.endpoints:
                page.ports = ports
                return page
        return self._new(zone, family, ports)

    def _drop_empty(self, zone: Zone) -> None:
        """
        Delete what is empty, but for one slice of each family that has no other.
        """
        for family in dict.fromkeys((*self._families, *(page.family for page in self._pages))):
            of_family = [page for page in self._pages if page.family == family]
            empty = [page for page in of_family if not page.endpoints]
            if len(empty) == len(of_family) and family in self._families:
                kept = empty.pop(0) if empty else self._new(zone, family, ())
                kept.ports = ()
            self._pages = [page for page in self._pages if page not in empty]

    def _new(self, zone: Zone, family: str, ports: _Ports) -> _Page:
        page = _Page(f"{zone.service}-{self._letters()}", self._uid(), family, ports)
        self._pages.append(page)
        return page

    def _target(self, zone: Zone, who: _Who) -> tuple[str, str]:
        """
        The name and uid of a pod.
        """
        return who[0] or f"{zone.service}-{self._letters()}", self._uid()

    def _endpoint(self, zone: Zone, who: _Who, pod: Pod, address: str) -> Json:
        name, uid = self._targets[who]
        made: Json = {
            "addresses": [address],
            "conditions": {
                "ready": pod.is_listed,
                "serving": pod.ready,
                "terminating": pod.terminating,
            },
        }
        if pod.hostname is not None:
            made["hostname"] = pod.hostname
        target = {"kind": "Pod", "namespace": zone.namespace, "name": name, "uid": uid}
        made |= {"targetRef": target, "nodeName": "node"}
        if pod.zone is not None:
            made["zone"] = pod.zone
        return made

    def _object(self, zone: Zone, page: _Page) -> Json:
        owner = {
            "apiVersion": "v1",
            "kind": "Service",
            "name": zone.service,
            "uid": self._service_uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        return {
            "metadata": {
                "name": page.name,
                "generateName": f"{zone.service}-",
                "namespace": zone.namespace,
                "uid": page.uid,
                "labels": {
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    "kubernetes.io/service-name": zone.service,
                    "service.kubernetes.io/headless": "",
                },
                "ownerReferences": [owner],
            },
            "addressType": page.family,
            "endpoints": list(page.endpoints.values()) or None,
            "ports": [
                {"name": name, "protocol": protocol, "port": number}
                for name, protocol, number in page.ports
            ]
            or None,
        }

    def _letters(self) -> str:
        return "".join(self._rng.choices(_LETTERS, k=5))

    def _uid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
