"""
How a service is spelled in DNS: the absolute names that what a user wrote can stand for.

Pure. A name is expanded here, once, and asked for with a trailing dot, because c-ares does not use
the search list and libc's use of it (`ndots:5`) costs up to eight queries a name.

The shapes are those of the Kubernetes DNS specification 1.1 (`kubernetes/dns`): a Service is
`<service>.<namespace>.svc.<zone>`, and a named port of it `_<port>._<protocol>.` before that.
"""

from __future__ import annotations

import re

from knet.question import MAX_NAME, check_name, is_address
from knet.surroundings import DEFAULT_NAMESPACE, Surroundings

__all__ = ["candidates", "is_hostname", "is_within", "service_in", "spellings"]

# Possessive, because it reads what comes from the wire: whatever that is, it goes over it once.
_HOSTNAME = re.compile(
    r"(?:[a-z0-9_][a-z0-9_-]{0,62}+(?<!-)\.)*+[a-z0-9_][a-z0-9_-]{0,62}+(?<!-)", re.ASCII
)


def is_hostname(name: str) -> bool:
    """
    Can *name*, which came from the wire in lower case without a trailing dot, be a host's?

    Letters, digits, inner hyphens, and underscores, within the limits of RFC 1035. c-ares writes
    other octets with a backslash or as they are: such a name is nobody's. Nor is an address.
    """
    return (
        len(name) <= MAX_NAME
        and _HOSTNAME.fullmatch(name) is not None
        and not (name[-1].isdigit() and is_address(name))
    )


def is_within(name: str, domain: str) -> bool:
    """
    Is *name* the same as *domain* or below it? Both in lower case, without a trailing dot.
    """
    return name == domain or name.endswith(f".{domain}")


def candidates(service: str, surroundings: Surroundings, *, prefix: str = "") -> tuple[str, ...]:
    """
    Return the absolute names that *service* can stand for, likeliest first, each with its dot.

    What would be too long for DNS with *prefix* before it is left out.

    A name with a trailing dot stands for itself, and so does one that contains `.svc.` or ends in
    the cluster's zone. `"web"` is looked for in the pod's own namespace and `"web.prod"` in
    `prod`; both are then tried with the rest of the search list and at last as they are, which is
    how a Docker Compose service or a name outside the cluster is found.

        >>> candidates("web.prod", Surroundings(search=("example.com",)))
        ('web.prod.svc.cluster.local.', 'web.prod.example.com.', 'web.prod.')
    """
    if service.endswith("."):
        return (service,)
    labels = service.split(".")
    zone = surroundings.zone
    if ".svc." in service or service.endswith(f".{zone}"):
        return (f"{service}.",)
    names: list[str] = []
    if labels[-1] == "svc" and len(labels) > 1:
        names.append(f"{service}.{zone}.")
    elif len(labels) == 1:
        names.append(f"{service}.{surroundings.namespace}.svc.{zone}.")
    else:
        names.append(f"{service}.svc.{zone}.")
    names += [f"{service}.{domain}." for domain in surroundings.search]
    names.append(f"{service}.")
    room = MAX_NAME + 1 - len(prefix)
    return tuple(n for n in dict.fromkeys(names) if len(n) <= room)


def spellings(service: str, surroundings: Surroundings) -> tuple[str, ...]:
    """
    Return the names by which a client may ask for *service*, shortest first, without a trailing dot.

    Those that the search list of a pod leads to the same Service, and the one that was written.

        >>> spellings("web.prod", Surroundings())
        ('web.prod', 'web.prod.svc', 'web.prod.svc.cluster.local')
    """
    written = service.removesuffix(".")
    whole = candidates(service, surroundings)[0].removesuffix(".")
    names = {written, whole}
    inner, is_service, _ = whole.partition(".svc.")
    if is_service:
        names |= {inner, f"{inner}.svc"}
        bare, _, namespace = inner.partition(".")
        if namespace == surroundings.namespace:
            names.add(bare)
    return tuple(sorted(names, key=lambda name: (len(name), name)))


def service_in(service: str, namespace: str, surroundings: Surroundings) -> str:
    """
    Return the absolute name of *service* in *namespace*, as the Go original composed it.

    Raises:
        ConfigError: One of them cannot be, or they make a name that is too long together.
    """
    name = check_name(service, "service").removesuffix(".")
    place = check_name(namespace or DEFAULT_NAMESPACE, "namespace").removesuffix(".")
    return check_name(f"{name}.{place}.svc.{surroundings.zone}.", "service")
