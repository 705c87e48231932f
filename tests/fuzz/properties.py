"""
What must hold of names and records, whoever wrote them.

Each function takes input that nobody has looked at and asserts what is promised of the result. The
property tests of this folder and the coverage-guided fuzzer both drive them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from knet import Answer, ConfigError, KnetError
from knet.pods import usable_address
from knet.question import Family, Protocol, Question, check_name, srv_name
from knet.resolver.names import candidates, is_hostname, is_within, service_in
from knet.resolver.records import Found, Known, Record, RecordType, addresses_of, dangling_alias
from knet.surroundings import Surroundings, surroundings_from
from tests.resolver.reading import find_addresses, find_services, targets_without_address

__all__ = ["check_answer", "check_error", "check_files", "check_records", "check_words"]

_MAX_TTL = 2**31 - 1
# What is written where these are meant.
_MEANS = {"127.0.0.1": "0.0.0.0", "::1": "::"}
_FAMILIES: dict[Family, tuple[RecordType, ...]] = {
    "auto": ("A", "AAAA"),
    "ipv4": ("A",),
    "ipv6": ("AAAA",),
}


# --- records


def check_records(
    service: str,
    answer: Sequence[Record],
    additional: Sequence[Record],
    *,
    family: Family = "auto",
    external: bool = False,
) -> None:
    """
    Take *answer* for what came back for *service*, by address and by the port named http.
    """
    for type in _FAMILIES[family]:
        _check_addresses(service, answer, type, external)
    _check_services(srv_name(service, "http", "tcp"), service, answer, additional, family, external)


def _check_addresses(
    service: str, answer: Sequence[Record], type: RecordType, external: bool
) -> None:
    found = find_addresses(service, answer, type=type, port=80, external=external)
    owners = _reachable(service, answer, service, external)
    said = {usable_address(r.value) for r in answer if r.owner in owners and r.type == type}

    _check_found(found, answer, external, service)
    assert {e.address for e in found.endpoints} <= said
    assert all(e.name == e.address and e.port == 80 for e in found.endpoints)
    alias = dangling_alias(service, answer, type=type, external=external)
    if alias is not None:
        assert not found.endpoints
        assert found.outside is None
        assert alias in owners
        _check_askable(alias, service, external)

    _check_known(
        found,
        lambda known: find_addresses(
            service, answer, type=type, port=80, external=external, known=known
        ),
    )

    again = find_addresses(service, _twice(answer), type=type, port=80, external=external)
    _check_same(found, again)


def _check_known(found: Found, read: Callable[[Known], Found]) -> None:
    """
    Read again, knowing what was found: the same comes out, and the same objects.
    """
    known = {(e.name, e.address, e.port): e for e in found.endpoints}
    again = read(known)
    assert again == found
    assert set(map(id, again.endpoints)) == set(map(id, found.endpoints))


def _check_services(
    name: str,
    service: str,
    answer: Sequence[Record],
    additional: Sequence[Record],
    family: Family,
    external: bool,
) -> None:
    found = find_services(name, answer, additional, family=family, external=external)
    owners = _reachable(name, answer, service, external)
    services = [r for r in answer if r.type == "SRV" and r.owner in owners]
    said = {
        (usable_address(r.value), s.port)
        for s in services
        for r in additional
        if r.owner == s.value and r.type in ("A", "AAAA")
    }

    _check_found(found, answer, external, service)
    assert {(e.address, e.port) for e in found.endpoints} <= said
    for endpoint in found.endpoints:
        host = endpoint.name.partition("/")[0]
        if host not in (endpoint.address, str(endpoint)):
            assert host in {s.value for s in services}
            _check_askable(host, service, external)
    if family != "auto":
        assert all((":" in e.address) == (family == "ipv6") for e in found.endpoints)
    else:
        assert len({":" in e.address for e in found.endpoints}) <= 1

    targets = targets_without_address(name, answer, additional, family=family, external=external)
    assert list(targets) == sorted({*targets} & {s.value for s in services})
    for target in targets:
        _check_askable(target, service, external)
        assert len(addresses_of(target, additional)) <= 2
    # The caller asks for none of them where nothing was left out.
    assert found.ignored or not targets

    more = find_services(name, _twice(answer), _twice(additional), family=family, external=external)
    _check_same(found, more)
    again = find_services(
        name,
        answer,
        additional,
        family=family,
        external=external,
        known={(e.name, e.address, e.port): e for e in found.endpoints},
    )
    assert again == found
    kept = [r for owner in {s.value for s in services} for r in addresses_of(owner, additional)]
    assert find_services(name, answer, kept, family=family, external=external) == found


def _check_found(found: Found, answer: Sequence[Record], external: bool, service: str) -> None:
    made = Answer(found.endpoints, found.ttl, name=service, ignored=found.ignored)
    assert len(made.endpoints) == len(found.endpoints) <= len(answer)
    assert 0 <= found.ignored <= len(answer)
    assert (found.ttl is None) == (not found.endpoints)
    assert found.ttl is None or 0 <= found.ttl <= _MAX_TTL
    if found.outside is not None:
        assert not external
        assert is_hostname(found.outside)
        assert not is_within(found.outside, _bare(service))
        assert found.outside in {r.value for r in answer}


def _check_askable(name: str, service: str, external: bool) -> None:
    """
    Nobody is asked for a name that is no host's, or that the user did not write.
    """
    assert is_hostname(name)
    assert len(name) <= 253
    assert external or name == _bare(service) or name.endswith(f".{_bare(service)}")


def _check_same(found: Found, again: Found) -> None:
    """
    Order and repetition change nothing but what is counted.
    """
    assert set(found.endpoints) == set(again.endpoints)
    assert len(found.endpoints) == len(again.endpoints)
    assert (found.ttl, found.outside) == (again.ttl, again.outside)


def _reachable(name: str, answer: Iterable[Record], domain: str, external: bool) -> set[str]:
    """
    Return all names that CNAMEs may lead to from *name*, whichever of them are followed.
    """
    reached, new = set[str](), {_bare(name)}
    while new:
        reached |= new
        new = {r.value for r in answer if r.type == "CNAME" and r.owner in reached} - reached
        if not external:
            new = {name for name in new if is_within(name, _bare(domain))}
    return reached


def _twice(records: Sequence[Record]) -> list[Record]:
    return [*reversed(records), *records]


def _bare(name: str) -> str:
    return name.lower().removesuffix(".")


# --- what a lookup came to


def check_answer(answer: Answer, service: str, *, external: bool = False) -> None:
    """
    Of an answer of a resolver to which anything may have been sent, for an absolute *service*.
    """
    assert answer.endpoints
    assert answer.name == _bare(service)
    assert answer.ttl is not None
    assert 0 <= answer.ttl <= _MAX_TTL
    assert answer.ignored >= 0
    for endpoint in answer.endpoints:
        assert usable_address(endpoint.address) == endpoint.address
        assert endpoint.port is None or 0 < endpoint.port < 65536
        host = endpoint.name.partition("/")[0]
        if host not in (endpoint.address, str(endpoint)):
            _check_askable(host, service, external)


# --- names


def check_words(service: str, namespace: str, port: str, cluster: Surroundings) -> None:
    """
    Take the words for what a user wrote; *cluster* came out of `surroundings_from`.
    """
    for text, what in ((service, "service"), (namespace, "namespace")):
        try:
            name = check_name(text, what)
        except ConfigError as error:
            check_error(error)
        else:
            assert name == text.lower()
            assert is_hostname(name.removesuffix("."))
    try:
        _check_asked(service_in(service, namespace, cluster))
    except ConfigError as error:
        check_error(error)
    for asked in (None, 80, port):
        try:
            question = Question(service, asked, _protocol(port))
        except ConfigError as error:
            check_error(error)
            continue
        assert str(question).isprintable()
        prefix = ""
        if isinstance(asked, str):
            prefix = srv_name("", asked, question.protocol)
        spellings = candidates(question.service, cluster, prefix=prefix)
        assert spellings
        assert len(set(spellings)) == len(spellings) <= 34
        for spelling in spellings:
            _check_asked(prefix + spelling)
            # Each is what was written, or that and a suffix.
            assert spelling.startswith(question.service.removesuffix("."))


def check_files(resolv_conf: str, namespace: str) -> Surroundings:
    """
    Take the texts for those of the files that a pod has; return what they tell.
    """
    cluster = surroundings_from(resolv_conf, namespace)
    assert len(cluster.search) <= 32
    for name in (cluster.namespace, cluster.zone, *cluster.search):
        assert check_name(name, "name") == name
        assert not name.endswith(".")
    servers = cluster.nameservers
    assert len(servers) <= 3
    for server in servers:
        # The address that stands for any is this host's.
        assert server in resolv_conf or _MEANS.get(server, server) in resolv_conf
        assert server.isprintable()
        assert len(server) <= 64
    return cluster


def _check_asked(name: str) -> None:
    assert name.endswith(".")
    assert is_hostname(name[:-1])


def check_error(error: KnetError) -> None:
    """
    Whatever was wrong, it is told on one line, in printable characters, and not for long.
    """
    text = str(error)
    assert text.isprintable()
    assert len(text) <= 1200


def _protocol(text: str) -> Protocol:
    protocols: tuple[Protocol, ...] = ("tcp", "udp", "sctp")
    return protocols[len(text) % 3]
