"""
A headless Service in a box: a DNS server on loopback that answers as CoreDNS does, and the API of Kubernetes.

For tests, yours and knet's own; needs no cluster and no event loop. Needs dnspython, which the
extra ``testing`` brings. Fixtures for pytest are in `knet.testing.pytest_plugin`.
"""

from __future__ import annotations

try:
    import dns.message as _dns_message  # noqa: F401 - only asked whether it is there
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "knet.testing needs dnspython: pip install 'knet-ring[testing]'", name=error.name
    ) from error

from knet.testing.api.door import KubernetesAPI
from knet.testing.api.responder import APIFaultKind, APIRequest, APIRespond, APIVerb
from knet.testing.responder import FaultKind, Query, Respond, Transport
from knet.testing.service import HeadlessService
from knet.testing.zone import Family, Pod, Port

__all__ = [
    "APIFaultKind",
    "APIRequest",
    "APIRespond",
    "APIVerb",
    "Family",
    "FaultKind",
    "HeadlessService",
    "KubernetesAPI",
    "Pod",
    "Port",
    "Query",
    "Respond",
    "Transport",
]
