"""
`Resolver`: a service name to an answer, over a real wire.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import anyio
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from knet import (
    SRV,
    AnswerTooLarge,
    ConfigError,
    Endpoint,
    NameNotFound,
    NoData,
    ResolveError,
    Resolver,
    ResolveTimeout,
    Ring,
    ServerFailure,
    ServerUnreachable,
    lookup_host,
    lookup_srv,
)
from knet.question import Family, Question
from knet.resolver import Surroundings, cares, surrounded_by
from knet.resolver.lookup import CHECK_PIN, Lookup, Settings
from knet.surroundings import surroundings_from, surroundings_here
from knet.testing import FaultKind, HeadlessService, Pod
from tests.testing.asking import needs_ipv6

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(3)]

WEB = "web.prod.svc.cluster.local"

KUBELET = """\
search prod.svc.cluster.local svc.cluster.local cluster.local corp.example.com
nameserver 10.96.0.10
options ndots:5
"""

Pretend = Callable[..., None]
Hook = Callable[[dns.message.Message], "dns.message.Message | None"]


@pytest.fixture(autouse=True)
def pod_in() -> Iterator[Pretend]:
    """
    Pretend to run in a pod with these files; without any until then.
    """
    with ExitStack() as stack:
        stack.enter_context(surrounded_by(Surroundings()))

        def pretend(resolv_conf: str = KUBELET, namespace: str | None = None) -> None:
            stack.enter_context(surrounded_by(surroundings_from(resolv_conf, namespace)))

        yield pretend


def asking(*services: HeadlessService, **options: Any) -> Resolver:
    """
    Return a resolver that asks *services*, patiently unless *options* say otherwise.
    """
    servers = [service.nameserver for service in services]
    return Resolver(nameservers=servers, **{"deadline": 10.0, **options})


def asked(service: HeadlessService) -> list[str]:
    return [f"{query.name} {query.rdtype}" for query in service.queries]


def addresses(found: tuple[Endpoint, ...]) -> list[str]:
    return [endpoint.address for endpoint in found]


def question(query: dns.message.Message) -> tuple[str, str]:
    one = query.question[0]
    return one.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(one.rdtype)


def refusing(query: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    reply = dns.message.make_response(query)
    reply.set_rcode(rcode)
    return reply


def without_glue(service: HeadlessService, *others: Hook) -> Hook:
    """
    Answer without an additional section, unless one of *others* has an answer of its own.
    """

    def answer(query: dns.message.Message) -> dns.message.Message:
        for other in others:
            said = other(query)
            if said is not None:
                return said
        reply = service.answer(query)
        reply.additional.clear()
        return reply

    return answer


def saying(answers: Mapping[str, list[str]], *, otherwise: HeadlessService | None = None) -> Hook:
    """
    Answer with these records of these names, whatever type was asked for, and else as *otherwise*
    would; without one, all other names are not there.
    """

    def answer(query: dns.message.Message) -> dns.message.Message:
        name, type = question(query)
        if name not in answers:
            return (
                refusing(query, dns.rcode.NXDOMAIN)
                if otherwise is None
                else otherwise.answer(query)
            )
        reply = dns.message.make_response(query)
        for text in answers[name]:
            owner, ttl, _, rdtype, rdata = text.split(" ", 4)
            if rdtype in (type, "CNAME"):
                reply.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", rdtype, rdata))
        return reply

    return answer


def failing_for(name: str, rcode: dns.rcode.Rcode) -> Hook:
    def answer(query: dns.message.Message) -> dns.message.Message | None:
        return refusing(query, rcode) if question(query)[0].startswith(f"{name}.") else None

    return answer


# --- names


@pytest.mark.parametrize(
    "service",
    [
        "web",
        "web.prod",
        "web.prod.svc",
        "web.prod.svc.cluster.local",
        "web.prod.svc.cluster.local.",
        "WEB.Prod",
    ],
)
async def test_every_spelling_of_a_service_finds_its_pods(pod_in: Pretend, service: str) -> None:
    pod_in(KUBELET)
    with HeadlessService("web.prod", pods=3) as web:
        answer = await asking(web).resolve(service, port=8080)

        assert answer.endpoints == tuple(
            Endpoint(f"10.244.0.{n}", f"10.244.0.{n}", 8080) for n in (2, 3, 4)
        )
        assert answer.ttl == 5
        assert answer.complete
        assert answer.name == WEB
        assert answer.ignored == 0
        assert asked(web) == [f"{WEB} A"]


async def test_the_service_accounts_namespace_is_where_a_bare_name_is_looked_up(
    pod_in: Pretend,
) -> None:
    pod_in("search elsewhere.svc.cluster.local svc.cluster.local cluster.local", "prod\n")
    with HeadlessService("web.prod") as web:
        assert (await asking(web).resolve("web")).name == WEB


async def test_namespace_and_zone_can_be_given(pod_in: Pretend) -> None:
    pod_in(KUBELET, "other")
    with HeadlessService("web.shop.svc.k8s.test") as web:
        resolver = asking(web, namespace="Shop", zone="K8s.test.")

        assert (await resolver.resolve("web")).name == "web.shop.svc.k8s.test"


async def test_outside_a_cluster_the_defaults_are_kubernetes_own() -> None:
    with HeadlessService("web.default") as web:
        assert (await asking(web).resolve("web")).name == "web.default.svc.cluster.local"


async def test_a_name_outside_the_cluster_is_found_as_it_is(pod_in: Pretend) -> None:
    """
    Such as a Docker Compose service, whose name may have an underscore.
    """
    pod_in("")

    with HeadlessService("web.prod") as server:

        def compose(query: dns.message.Message) -> dns.message.Message:
            if question(query)[0] != "my_cache":
                return refusing(query, dns.rcode.NXDOMAIN)
            reply = dns.message.make_response(query)
            reply.answer.append(dns.rrset.from_text("my_cache.", 600, "IN", "A", "172.18.0.2"))
            return reply

        server.respond = compose
        answer = await asking(server).resolve("my_cache", port=11211)

    assert answer.endpoints == (Endpoint("172.18.0.2", "172.18.0.2", 11211),)
    assert answer.name == "my_cache"


async def test_the_spelling_that_was_right_is_kept(pod_in: Pretend) -> None:
    """
    The spellings before it are asked for once, not at every refresh.
    """
    pod_in("search one.test two.test cluster.local")
    with HeadlessService("cache.prod") as service:

        def as_a_search_list_would(query: dns.message.Message) -> dns.message.Message:
            name, _ = question(query)
            if name != "web.shop.two.test":
                return refusing(query, dns.rcode.NXDOMAIN)
            reply = dns.message.make_response(query)
            reply.answer.append(dns.rrset.from_text(f"{name}.", 5, "IN", "A", "10.0.0.1"))
            return reply

        service.respond = as_a_search_list_would
        resolver = asking(service)
        first = await resolver.resolve("web.shop")
        assert asked(service) == [
            "web.shop.svc.cluster.local A",
            "web.shop.one.test A",
            "web.shop.two.test A",
        ]

        service.forget_queries()
        assert await resolver.resolve("web.shop") == first
        assert asked(service) == ["web.shop.two.test A"]


async def test_an_unlikely_spelling_is_kept_until_a_likelier_one_is_there(
    pod_in: Pretend,
) -> None:
    """
    A domain of the search list that answers to every name must not have a Service for good that was
    without pods at first; nor is the Service given up to it when it is without pods again.
    """
    pod_in("search prod.svc.cluster.local svc.cluster.local cluster.local corp.test")
    with HeadlessService("web.prod", pods=0) as web:
        web.respond = saying({"web.corp.test": ["web.corp.test. 5 IN A 10.6.6.6"]}, otherwise=web)
        now = 1000.0
        settings = Settings(
            cares.EngineSettings((web.nameserver,), deadline=10.0), surroundings_here(), 100, False
        )
        lookup = Lookup(settings, Question("web"), clock=lambda: now)
        assert (await lookup.ask()).name == "web.corp.test"
        web.scale(3)
        now += CHECK_PIN - 1
        assert (await lookup.ask()).name == "web.corp.test"

        now += 1
        assert (await lookup.ask()).name == WEB
        web.scale(0)
        with pytest.raises(NameNotFound):
            await lookup.ask()


@pytest.mark.parametrize("port", [80, "http"])
async def test_an_unchanged_answer_is_the_same_endpoints(port: int | str) -> None:
    """
    In whatever order the records come; whatever else changes makes a difference.
    """
    with HeadlessService("web.prod", pods=5, ttl=30) as web:
        resolver, question = asking(web), Question(WEB, port)
        first = await resolver.resolve(question)
        known = {id(endpoint) for endpoint in first.endpoints}
        for _ in range(5):
            again = await resolver.resolve(question)
            assert again == first
            assert {id(endpoint) for endpoint in again.endpoints} == known

        web.set_ttl(7)
        again = await resolver.resolve(question)
        assert again.ttl == 7
        assert {id(endpoint) for endpoint in again.endpoints} == known

        for change in (web.add, lambda: web.remove(web.pods[0]), lambda: web.scale(2)):
            change()
            again = await resolver.resolve(question)
            assert again == await asking(web).resolve(WEB, port=port)
            assert len(again.endpoints) == len(web.pods)


async def test_a_kept_spelling_stays_when_the_name_goes_away(pod_in: Pretend) -> None:
    pod_in(KUBELET)
    with HeadlessService("web.prod") as web:
        resolver = asking(web)
        await resolver.resolve("web")
        web.scale(0)
        web.forget_queries()

        with pytest.raises(NameNotFound):
            await resolver.resolve("web")
        assert asked(web) == [f"{WEB} A"]

        web.scale(2)
        assert len((await resolver.resolve("web")).endpoints) == 2


async def test_a_spelling_that_fails_otherwise_does_not_hide_that_the_likeliest_is_not_there(
    pod_in: Pretend,
) -> None:
    """
    A server that knows only the cluster fails for the corporate domains of the search list.
    """
    pod_in(KUBELET)
    with HeadlessService("web.prod") as web:
        with pytest.raises(NameNotFound, match=r"cannot resolve shop\.prod\.svc") as caught:
            await asking(web).resolve("shop")

        assert caught.value.name == "shop.prod.svc.cluster.local."
        assert asked(web)[0] == "shop.prod.svc.cluster.local A"
        assert asked(web)[1].startswith("shop.corp.example.com")


@pytest.mark.weather("The first lookup fails")
async def test_of_several_spellings_that_are_not_there_the_likeliest_is_reported(
    pod_in: Pretend,
) -> None:
    pod_in(KUBELET)
    with HeadlessService("web.prod") as web:
        web.fail("NXDOMAIN")

        with pytest.raises(NameNotFound) as caught:
            await asking(web).resolve("web")

        assert caught.value.name == f"{WEB}."
        assert asked(web) == [f"{WEB} A", "web.corp.example.com A", "web A"]


async def test_a_server_that_fails_for_the_likeliest_spelling_ends_the_search(
    pod_in: Pretend,
) -> None:
    """
    Else a moment's trouble could pin the ring to somebody else's service.
    """
    pod_in(KUBELET)
    with HeadlessService("web.prod") as web:
        web.fail("SERVFAIL")

        with pytest.raises(ServerFailure):
            await asking(web, tries=1).resolve("web")

        assert {query.name for query in web.queries} == {WEB}


async def test_a_name_that_is_not_there_tells_the_person_what_to_check(pod_in: Pretend) -> None:
    pod_in(KUBELET)
    with HeadlessService("web.prod") as web, pytest.raises(NameNotFound) as caught:
        await asking(web).resolve("shop")

    text = str(caught.value)
    assert "NXDOMAIN" in text
    assert web.nameserver in text
    assert "shop.prod.svc.cluster.local., shop.corp.example.com., shop." in text
    assert "headless" in text
    assert "ready" in text


async def test_a_named_port_that_is_not_there_tells_the_person_what_to_check() -> None:
    with HeadlessService("web.prod") as web, pytest.raises(NameNotFound) as caught:
        await asking(web).resolve(WEB, port="grpc", protocol="udp")

    assert "is there a port named 'grpc' (udp)" in str(caught.value)
    assert caught.value.name == f"_grpc._udp.{WEB}."
    assert caught.value.servers == (web.nameserver,)


async def test_bad_arguments_are_refused_before_anybody_is_asked() -> None:
    with HeadlessService("web.prod") as web:
        resolver = asking(web)
        bad: list[dict[str, Any]] = [{"port": 0}, {"port": "80"}, {"family": "ip"}, {"protocol": 6}]
        for options in bad:
            with pytest.raises(ConfigError):
                await resolver.resolve("web.prod", **options)
        with pytest.raises(ConfigError):
            await resolver.resolve("10.0.0.1")
        with pytest.raises(TypeError):
            await resolver.resolve("web.prod", port=80.0)  # type: ignore[arg-type]  # as it should

        assert web.queries == ()


# --- names outside of the service's own domain

SHOP = "shop.prod.svc.cluster.local"
ALIAS = f"{SHOP}. 5 IN CNAME db.example.com."


async def test_an_alias_leads_to_another_service_only_with_the_opt_in() -> None:
    """
    Though its addresses came along, as those of CoreDNS's ExternalName do.
    """
    with HeadlessService("web.prod", pods=2) as web:
        web.alias("shop.prod", WEB)

        with pytest.raises(NoData) as caught:
            await asking(web).resolve("shop.prod", port=80)
        assert asked(web) == [f"{SHOP} A"]
        answer = await asking(web, external=True).resolve("shop.prod", port=80)

    assert f"it leads to {WEB}" in str(caught.value)
    assert f"outside of {SHOP}" in str(caught.value)
    assert "Resolver(external=True) is the opt-in" in str(caught.value)
    assert caught.value.name == f"{SHOP}."
    assert caught.value.servers == (web.nameserver,)
    assert len(answer.endpoints) == 2
    assert answer.name == SHOP


@pytest.mark.parametrize(
    ("family", "given", "types"),
    [
        ("auto", ["A"], ["A", "A"]),
        ("auto", ["AAAA"], ["A", "A", "AAAA", "AAAA"]),
        ("ipv4", ["A", "AAAA"], ["A", "A"]),
        ("ipv6", ["A", "AAAA"], ["AAAA", "AAAA"]),
    ],
)
async def test_with_the_opt_in_the_target_of_a_bare_alias_is_asked_for_once_a_family(
    family: Family, given: list[str], types: list[str]
) -> None:
    with HeadlessService("web.prod") as server:

        def answer(query: dns.message.Message) -> dns.message.Message:
            name, type = question(query)
            reply = dns.message.make_response(query)
            if name == SHOP:
                reply.answer.append(dns.rrset.from_text(f"{SHOP}.", 9, "IN", "CNAME", "db.test."))
            elif type in given:
                address = "203.0.113.1" if type == "A" else "2001:db8::1"
                reply.answer.append(dns.rrset.from_text("db.test.", 5, "IN", type, address))
            return reply

        server.respond = answer
        found = await asking(server, external=True).resolve(f"{SHOP}.", port=80, family=family)

        assert [query.rdtype for query in server.queries] == types
        assert [query.name for query in server.queries] == [SHOP, "db.test"] * (len(types) // 2)
    assert len(found.endpoints) == 1
    assert found.ttl == 5
    assert found.name == SHOP
    assert found.complete


async def test_a_bare_alias_within_the_domain_is_asked_for_without_the_opt_in() -> None:
    with HeadlessService("web.prod") as server:
        server.respond = saying(
            {
                SHOP: [f"{SHOP}. 5 IN CNAME blue.{SHOP}."],
                f"blue.{SHOP}": [f"blue.{SHOP}. 5 IN A 10.0.0.1"],
                f"_http._tcp.{SHOP}": [f"_http._tcp.{SHOP}. 5 IN CNAME _blue._tcp.{SHOP}."],
                f"_blue._tcp.{SHOP}": [f"_blue._tcp.{SHOP}. 5 IN SRV 0 0 80 blue.{SHOP}."],
            }
        )

        by_number = await asking(server).resolve(f"{SHOP}.", port=80)
        by_name = await asking(server).resolve(f"{SHOP}.", port="http")

    assert addresses(by_number.endpoints) == addresses(by_name.endpoints) == ["10.0.0.1"]


@pytest.mark.parametrize("external", [False, True])
async def test_aliases_that_run_in_circles_end(external: bool) -> None:
    """
    Each server's answer starts another circle; none is followed further than one question.
    """
    with HeadlessService("web.prod") as server:
        server.respond = saying(
            {
                SHOP: [f"{SHOP}. 5 IN CNAME a.{SHOP}."],
                f"a.{SHOP}": [f"a.{SHOP}. 5 IN CNAME b.{SHOP}."],
                f"b.{SHOP}": [f"b.{SHOP}. 5 IN CNAME {SHOP}."],
            }
        )

        with pytest.raises(NoData, match="none that gives a usable address"):
            await asking(server, external=external).resolve(f"{SHOP}.", port=80)

        assert asked(server) == [f"{SHOP} A", f"a.{SHOP} A", f"{SHOP} AAAA", f"a.{SHOP} AAAA"]


async def test_the_target_of_an_alias_that_is_not_there_is_told_with_the_alias() -> None:
    with HeadlessService("web.prod") as web:
        web.answer_with(ALIAS)

        with pytest.raises(NoData, match=r"leads to db\.example\.com"):
            await asking(web).resolve(f"{SHOP}.", port=80)
        web.respond = saying({SHOP: [ALIAS]})
        with pytest.raises(
            NameNotFound, match=rf"db\.example\.com.* NXDOMAIN.*; {SHOP}\. is an alias of it"
        ):
            await asking(web, external=True).resolve(f"{SHOP}.", port=80)


async def test_a_spelling_that_leads_outside_ends_the_search(pod_in: Pretend) -> None:
    """
    Else a wildcard of a corporate domain, or what comes after it, could pin the ring to a stranger.
    """
    pod_in(KUBELET)
    with HeadlessService("web.prod") as server:
        wildcard = "web.corp.example.com"
        server.respond = saying(
            {
                wildcard: [f"{wildcard}. 5 IN CNAME parked.example.net."],
                "web": ["web. 5 IN A 10.6.6.6"],
            }
        )

        with pytest.raises(NoData) as caught:
            await asking(server).resolve("web", port=80)

        assert asked(server) == [f"{WEB} A", f"{wildcard} A"]
    text = str(caught.value)
    assert "leads to parked.example.net" in text
    assert f"before that, cannot resolve {WEB}. A: NXDOMAIN" in text


async def test_targets_outside_are_left_out_and_never_asked_for() -> None:
    """
    And those inside are used.
    """
    targets = ["a.example.com", f"web-0.{WEB}", "prod.svc.cluster.local", f"not{WEB}"]
    with HeadlessService("web.prod", pods=1, stateful=True) as web:
        srv = [f"_http._tcp.{WEB}. 5 IN SRV 0 0 80 {target}." for target in targets]
        web.respond = saying({f"_http._tcp.{WEB}": srv}, otherwise=web)

        answer = await asking(web).resolve(f"{WEB}.", port="http")

        assert answer.endpoints == (Endpoint(f"web-0.{WEB}", "10.244.0.2", 80),)
        assert answer.ignored == 3
        assert answer.complete
        assert asked(web) == [f"_http._tcp.{WEB} SRV", f"web-0.{WEB} A"]


async def test_targets_that_all_lie_outside_are_told() -> None:
    http = f"_http._tcp.{WEB}"
    with HeadlessService("web.prod") as web:
        web.respond = saying(
            {
                http: [
                    f"{http}. 5 IN SRV 0 0 80 b.example.com.",
                    f"{http}. 5 IN SRV 0 0 80 a.example.com.",
                ],
                "a.example.com": ["a.example.com. 5 IN A 203.0.113.1"],
                "b.example.com": ["b.example.com. 5 IN A 203.0.113.2"],
            }
        )

        with pytest.raises(NoData) as caught:
            await asking(web).resolve(f"{WEB}.", port="http")
        assert asked(web) == [f"{http} SRV"]
        answer = await asking(web, external=True).resolve(f"{WEB}.", port="http")

    assert f"cannot resolve {http}. SRV: it leads to a.example.com" in str(caught.value)
    assert f"outside of {WEB}; Resolver(external=True)" in str(caught.value)
    assert caught.value.name == f"{http}."
    assert [endpoint.name for endpoint in answer.endpoints] == ["a.example.com", "b.example.com"]


# --- hostile text

OCTETS = [
    b"we b",
    b"a\nERROR knet: all is lost",
    b"a\r\nb",
    b"\x1b[2J",
    b'a"b',
    b"a\\b",
    b"evil.test",
    b"\x00",
    b"\xff\xfe",
    b"\xe2\x84\xaa",
    b"%s%n",
    b"../../etc",
    b"$(reboot)",
    b"-rf",
    b"*",
]


def below_web(label: bytes) -> dns.name.Name:
    return dns.name.Name([label, *dns.name.from_text(f"{WEB}.").labels])


@pytest.mark.parametrize("external", [False, True])
async def test_names_of_strange_octets_are_nobodys(external: bool) -> None:
    """
    They are counted, never asked for, and no error shows a control character.
    """
    http = f"_http._tcp.{WEB}"
    with HeadlessService("web.prod", pods=1, stateful=True) as web:
        resolver = asking(web, external=external)
        strange = [below_web(label) for label in OCTETS]

        def with_them(query: dns.message.Message) -> dns.message.Message:
            reply = web.answer(query)
            for name in strange:
                reply.answer.append(
                    dns.rrset.from_text(f"{http}.", 5, "IN", "SRV", f"0 0 80 {name}")
                )
                reply.additional.append(dns.rrset.from_text(name, 5, "IN", "A", "10.6.6.6"))
            return reply

        web.respond = with_them
        answer = await resolver.resolve(f"{WEB}.", port="http")
        assert answer.endpoints == (Endpoint(f"web-0.{WEB}", "10.244.0.2", 8080),)
        assert answer.ignored == len(OCTETS)
        assert asked(web) == [f"{http} SRV"]

        for name in strange:

            def an_alias(
                query: dns.message.Message, target: dns.name.Name = name
            ) -> dns.message.Message:
                reply = dns.message.make_response(query)
                owner = query.question[0].name
                reply.answer.append(dns.rrset.from_text(owner, 5, "IN", "CNAME", str(target)))
                reply.answer.append(dns.rrset.from_text(target, 5, "IN", "A", "10.6.6.6"))
                return reply

            web.respond = an_alias
            for port in (8080, "http"):
                with pytest.raises(NoData) as caught:
                    await resolver.resolve(f"{WEB}.", port=port)
                assert str(caught.value).isprintable()
                assert len(str(caught.value)) < 1000
        assert {query.name for query in web.queries} == {WEB, http}


async def test_a_name_too_long_with_its_port_is_refused_before_anybody_is_asked() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    with HeadlessService("web.prod") as web:
        resolver = asking(web)

        with pytest.raises(ConfigError, match="264 characters with its port 'http' before it"):
            await resolver.resolve(longest, port="http")
        with pytest.raises(ConfigError, match="service has 273 characters"):
            await resolver.lookup_srv(longest, "b")
        assert asked(web) == []

        with pytest.raises(ResolveError):
            await resolver.resolve(f"{longest}.")
        assert {query.name for query in web.queries} == {longest}


async def test_a_spelling_kept_for_addresses_is_not_asked_for_services_where_it_is_too_long(
    pod_in: Pretend,
) -> None:
    domain = ".".join(["a" * 63] * 3 + ["a" * 50])
    pod_in(f"search {domain}")
    with HeadlessService("web.prod") as server:
        server.respond = saying({f"web.{domain}": [f"web.{domain}. 5 IN A 10.0.0.1"]})
        resolver = asking(server)
        assert (await resolver.resolve("web", port=80)).name == f"web.{domain}"
        server.forget_queries()

        with pytest.raises(NameNotFound):
            await resolver.resolve("web", port="a" * 50)

        assert len(server.queries) == 2
        assert not any(domain in query.name for query in server.queries)


# --- floods


async def test_a_flood_of_aliases_ends_in_no_data() -> None:
    """
    Sixty thousand octets of CNAMEs; the chain is not followed further than eight names.
    """
    chain = [f"{WEB}. 5 IN CNAME a0.{WEB}."]
    chain += [f"a{n}.{WEB}. 5 IN CNAME a{n + 1}.{WEB}." for n in range(1200)]
    with HeadlessService("web.prod") as web:
        web.answer_with(*chain)

        with pytest.raises(NoData, match="none that gives a usable address"):
            await asking(web).resolve(f"{WEB}.", port=80)

        assert {query.name for query in web.queries} == {WEB}


@pytest.mark.long
async def test_a_flood_of_targets_is_asked_for_a_few_at_a_time_and_not_for_ever() -> None:
    """
    What 50 targets that are not there cost others is a quarter of the engine, for one deadline.
    """
    with HeadlessService("web.prod", pods=50, stateful=True) as web:
        web.respond = without_glue(web)
        web.fail("SILENCE", rdtype="A")

        with pytest.raises(ResolveTimeout, match=r"50 in all: no answer .* within 2 s") as caught:
            await asking(web, timeout=60.0, deadline=2.0).resolve("web.prod", port="http")

        assert len(web.queries) == 1 + 16
    assert len(str(caught.value)) < 1000
    assert caught.value.servers == (web.nameserver,)


async def test_a_flood_of_addresses_for_every_target_leaves_one_pod_a_target() -> None:
    texts = [f"10.1.0.{n}" for n in range(1, 250)]
    with HeadlessService("web.prod", pods=4, stateful=True) as web:

        def flood(query: dns.message.Message) -> dns.message.Message:
            name, type = question(query)
            if type == "SRV":
                reply = web.answer(query)
                reply.additional.clear()
                return reply
            reply = dns.message.make_response(query)
            reply.answer.append(dns.rrset.from_text_list(f"{name}.", 5, "IN", "A", texts))
            return reply

        web.respond = flood
        answer = await asking(web).resolve("web.prod", port="http")

    assert len(answer.endpoints) == 4
    assert set(addresses(answer.endpoints)) == {"10.1.0.1"}


@pytest.mark.long
async def test_a_resolver_keeps_the_last_answer_of_a_question_and_nothing_else() -> None:
    """
    So that what is named again is the same object; whatever was answered before is gone.
    """

    def living() -> int:
        gc.collect()
        return sum(type(thing) is Endpoint for thing in gc.get_objects())

    before = living()
    with HeadlessService("web.prod", pods=100, stateful=True) as web:
        resolver = asking(web)
        for pods in (100, 50, 150, 80):
            web.scale(pods)
            for port in (8080, "http"):
                await resolver.resolve("web.prod", port=port)
            with pytest.raises(ResolveError):
                await resolver.resolve("shop.prod", port=8080)
            assert living() - before <= 2 * pods
        del resolver
        assert living() <= before


# --- addresses


async def test_without_a_port_endpoints_are_bare_addresses() -> None:
    with HeadlessService("web.prod", pods=1) as web:
        answer = await asking(web).resolve("web.prod")

    assert [str(endpoint) for endpoint in answer.endpoints] == ["10.244.0.2"]


async def test_each_lookup_asks_past_every_cache() -> None:
    with HeadlessService("web.prod", pods=1, ttl=3600) as web:
        async with asking(web) as resolver:
            for pods in (1, 3, 2):
                web.scale(pods)
                assert len((await resolver.resolve("web.prod")).endpoints) == pods


async def test_pods_that_are_not_ready_are_not_there() -> None:
    with HeadlessService("web.prod", pods=3) as web:
        web.unready("10.244.0.3")

        assert addresses((await asking(web).resolve("web.prod")).endpoints) == [
            "10.244.0.2",
            "10.244.0.4",
        ]


@pytest.mark.parametrize(
    ("families", "family", "expected", "types"),
    [
        (["ipv4"], "auto", ["10.244.0.2"], ["A"]),
        (["ipv4"], "ipv4", ["10.244.0.2"], ["A"]),
        (["ipv6"], "auto", ["fd00:244::2"], ["A", "AAAA"]),
        (["ipv6"], "ipv6", ["fd00:244::2"], ["AAAA"]),
        (["ipv4", "ipv6"], "auto", ["10.244.0.2"], ["A"]),
        (["ipv4", "ipv6"], "ipv4", ["10.244.0.2"], ["A"]),
        (["ipv4", "ipv6"], "ipv6", ["fd00:244::2"], ["AAAA"]),
    ],
)
@pytest.mark.sampled(3)
async def test_a_family_is_ipv4_where_there_is_any_unless_one_is_asked_for(
    families: list[Literal["ipv4", "ipv6"]],
    family: Family,
    expected: list[str],
    types: list[str],
) -> None:
    """
    And a service with IPv4 costs one query.
    """
    with HeadlessService("web.prod", pods=1, families=families) as web:
        answer = await asking(web).resolve("web.prod", family=family)

        assert addresses(answer.endpoints) == expected
        assert [query.rdtype for query in web.queries] == types


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("auto", ["10.244.0.2", "10.244.0.3"]),
        ("ipv4", ["10.244.0.2", "10.244.0.3"]),
        ("ipv6", ["fd00:244::2", "fd00:244::3"]),
    ],
)
@pytest.mark.parametrize("glue", [True, False])
@pytest.mark.sampled(6)
async def test_a_named_port_gives_a_dual_stack_pod_once(
    stateful: bool, family: Family, expected: list[str], glue: bool
) -> None:
    with HeadlessService("web.prod", pods=2, families=["ipv4", "ipv6"], stateful=stateful) as web:
        if not glue:
            web.respond = without_glue(web)
        answer = await asking(web).resolve("web.prod", port="http", family=family)

        assert addresses(answer.endpoints) == expected
        assert answer.complete
        if glue:
            assert asked(web) == [f"_http._tcp.{WEB} SRV"]


async def test_a_family_that_the_service_does_not_have_is_no_data() -> None:
    with HeadlessService("web.prod") as web:
        with pytest.raises(NoData):
            await asking(web).resolve(WEB, family="ipv6")
        with pytest.raises(NoData, match="none that gives a usable address"):
            await asking(web).resolve(WEB, port="http", family="ipv6")


@pytest.mark.parametrize("port", [8080, "http"])
async def test_an_answer_without_a_usable_address_is_no_data(port: int | str) -> None:
    with HeadlessService("web.prod") as web:
        web.answer_with(
            "evil.test. 5 IN A 10.6.6.6",
            f"{WEB}. 5 IN A 0.0.0.0",
            f"{WEB}. 5 IN AAAA fe80::1",
            f"_http._tcp.{WEB}. 5 IN SRV 0 0 80 {WEB}.",
            "_http._tcp.evil.test. 5 IN SRV 0 0 80 evil.test.",
        )

        with pytest.raises(NoData, match="none that gives a usable address") as caught:
            await asking(web).resolve(WEB, port=port)

    assert caught.value.servers == (web.nameserver,)


@pytest.mark.parametrize("pods", [200, 1000])
@pytest.mark.weather("The answer does not fit in UDP")
async def test_a_service_too_large_for_udp_is_found_whole_over_tcp(pods: int) -> None:
    with HeadlessService("web.prod", pods=pods) as web:
        answer = await asking(web).resolve("web.prod", port=8080)

        assert len(answer.endpoints) == pods
        assert answer.complete
        assert [query.transport for query in web.queries] == ["udp", "tcp"]


@pytest.mark.weather("TCP is blocked")
async def test_a_service_whose_tcp_is_blocked_is_an_error_and_never_half_a_service() -> None:
    with HeadlessService("web.prod", pods=200) as web:
        web.set_tcp(False)

        with pytest.raises(ServerUnreachable):
            await asking(web).resolve("web.prod")


@pytest.mark.weather("The answer is as large as DNS can carry")
async def test_an_answer_as_large_as_a_message_is_incomplete() -> None:
    """
    Half of the pods may be behind the end of the message, which c-ares does not show.
    """
    with HeadlessService("web.prod", pods=4500, shuffle=False) as web:
        answer = await asking(web).resolve("web.prod")

    assert 4000 < len(answer.endpoints) < 4100
    assert not answer.complete


@pytest.mark.weather("More records than can be true")
async def test_more_pods_than_allowed_are_refused() -> None:
    with HeadlessService("web.prod", pods=6) as web:
        resolver = asking(web, max_endpoints=5)

        for port in (8080, "http"):
            with pytest.raises(AnswerTooLarge, match="6 endpoints, more than 5") as caught:
                await resolver.resolve("web.prod", port=port)
            assert caught.value.servers == (web.nameserver,)

        web.scale(5)
        assert len((await resolver.resolve("web.prod", port="http")).endpoints) == 5


async def test_more_targets_than_allowed_are_refused_before_they_are_asked_for() -> None:
    with HeadlessService("web.prod", pods=6) as web:
        web.respond = without_glue(web)

        with pytest.raises(AnswerTooLarge, match="6 endpoints, more than 5"):
            await asking(web, max_endpoints=5).resolve("web.prod", port="http")

        assert len(web.queries) == 1


# --- services


async def test_a_named_port_takes_the_port_and_the_stable_hostname_from_dns() -> None:
    with HeadlessService("web.prod", pods=2, stateful=True, ports={"http": 8081}) as web:
        answer = await asking(web).resolve("web.prod", port="http")

        assert answer.endpoints == (
            Endpoint(f"web-0.{WEB}", "10.244.0.2", 8081),
            Endpoint(f"web-1.{WEB}", "10.244.0.3", 8081),
        )
        assert answer.name == WEB
        assert asked(web) == [f"_http._tcp.{WEB} SRV"]


async def test_a_restarted_pod_of_a_stateful_set_keeps_its_name() -> None:
    with HeadlessService("web.prod", pods=1, stateful=True) as web:
        (before,) = (await asking(web).resolve("web.prod", port="http")).endpoints
        web.replace("web-0")
        (after,) = (await asking(web).resolve("web.prod", port="http")).endpoints

    assert after.name == before.name
    assert after.address != before.address


async def test_a_number_and_a_name_of_a_port_give_the_same_pods() -> None:
    with HeadlessService("web.prod", pods=5) as web:
        by_number = await asking(web).resolve("web.prod", port=8080)
        by_name = await asking(web).resolve("web.prod", port="http")

    assert by_name.endpoints == by_number.endpoints


async def test_a_named_port_has_a_protocol() -> None:
    with HeadlessService("web.prod", pods=1, ports={("dns", "udp"): 53}) as web:
        answer = await asking(web).resolve("web.prod", port="dns", protocol="udp")

        assert [str(endpoint) for endpoint in answer.endpoints] == ["10.244.0.2:53"]


@pytest.mark.weather("Addresses of SRV targets are missing")
async def test_addresses_that_did_not_come_along_are_asked_for() -> None:
    with HeadlessService("web.prod", pods=3, stateful=True) as web:
        whole = await asking(web).resolve("web.prod", port="http")
        web.forget_queries()
        web.respond = without_glue(web)

        answer = await asking(web).resolve("web.prod", port="http")

        assert answer == whole
        assert sorted(asked(web)) == [
            f"_http._tcp.{WEB} SRV",
            *(f"web-{n}.{WEB} A" for n in range(3)),
        ]


async def test_addresses_of_ipv6_pods_are_asked_for_too() -> None:
    with HeadlessService("web.prod", pods=2, families=["ipv6"]) as web:
        web.respond = without_glue(web)

        answer = await asking(web).resolve("web.prod", port="http")

    assert addresses(answer.endpoints) == ["fd00:244::2", "fd00:244::3"]
    assert answer.complete


async def test_addresses_cut_off_between_the_families_of_a_pod_are_asked_for() -> None:
    """
    With IPv4 left of one pod only, and IPv6 of the other, both are still there.
    """
    with HeadlessService("web.prod", pods=2, families=["ipv4", "ipv6"], stateful=True) as web:

        def half(query: dns.message.Message) -> dns.message.Message:
            reply = web.answer(query)
            reply.additional = [
                one
                for one in reply.additional
                if one.name.to_text().startswith("web-0" if one.rdtype == 1 else "web-1")
            ]
            return reply

        web.respond = half
        wanted: list[tuple[Family, str]] = [("auto", "10.244.0.3"), ("ipv6", "fd00:244::2")]
        for family, expected in wanted:
            answer = await asking(web).resolve("web.prod", port="http", family=family)
            assert len(answer.endpoints) == 2
            assert expected in addresses(answer.endpoints)
            assert answer.complete


async def test_ipv4_that_shows_only_when_asked_for_is_ipv4_for_all_pods() -> None:
    """
    Of two dual-stack pods, all that came along is one IPv6 address.
    """
    with HeadlessService("web.prod", pods=2, families=["ipv4", "ipv6"], stateful=True) as web:

        def one_ipv6_address(query: dns.message.Message) -> dns.message.Message:
            reply = web.answer(query)
            reply.additional = [
                one
                for one in reply.additional
                if one.rdtype == 28 and one.name.to_text().startswith("web-0")
            ]
            return reply

        web.respond = one_ipv6_address
        answer = await asking(web).resolve("web.prod", port="http")

    assert addresses(answer.endpoints) == ["10.244.0.2", "10.244.0.3"]


@pytest.mark.weather("Addresses of SRV targets are missing")
async def test_a_target_that_cannot_be_looked_up_makes_the_answer_incomplete() -> None:
    """
    The ring then adds what is new and removes nothing.
    """
    with HeadlessService("web.prod", pods=3, stateful=True) as web:
        web.respond = without_glue(web, failing_for("web-1", dns.rcode.SERVFAIL))

        answer = await asking(web).resolve("web.prod", port="http")

    assert addresses(answer.endpoints) == ["10.244.0.2", "10.244.0.4"]
    assert not answer.complete


async def test_the_only_target_that_had_to_be_looked_up_may_fail_too() -> None:
    with HeadlessService("web.prod", pods=3, stateful=True) as web:

        def answer(query: dns.message.Message) -> dns.message.Message:
            if question(query)[1] != "SRV":
                return refusing(query, dns.rcode.SERVFAIL)
            reply = web.answer(query)
            reply.additional = [
                one for one in reply.additional if not one.name.to_text().startswith("web-1")
            ]
            return reply

        web.respond = answer
        found = await asking(web).resolve("web.prod", port="http")

    assert addresses(found.endpoints) == ["10.244.0.2", "10.244.0.4"]
    assert not found.complete


async def test_a_target_that_does_not_exist_is_a_pod_that_is_gone() -> None:
    with HeadlessService("web.prod", pods=3, stateful=True) as web:
        web.respond = without_glue(web, failing_for("web-1", dns.rcode.NXDOMAIN))

        answer = await asking(web).resolve("web.prod", port="http")

    assert addresses(answer.endpoints) == ["10.244.0.2", "10.244.0.4"]
    assert answer.complete
    assert answer.ignored == 1


async def test_targets_that_can_none_be_looked_up_are_the_error_of_one() -> None:
    with HeadlessService("web.prod", pods=2, stateful=True) as web:
        web.respond = without_glue(
            web,
            failing_for("web-0", dns.rcode.NXDOMAIN),
            failing_for("web-1", dns.rcode.SERVFAIL),
        )

        with pytest.raises(ServerFailure, match="web-1"):
            await asking(web).resolve("web.prod", port="http")


@pytest.mark.long
async def test_a_large_stateful_set_is_found_whole_without_its_addresses() -> None:
    """
    Their addresses do not fit beside a thousand SRV records, so most have to be asked for.
    """
    with HeadlessService("web.prod", pods=1000, stateful=True) as web:
        answer = await asking(web).resolve("web.prod", port="http")

        assert len(answer.endpoints) == 1000
        assert answer.complete
        assert len(web.queries) > 2


# --- errors


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("NXDOMAIN", "nxdomain"),
        ("NODATA", "nodata"),
        ("SERVFAIL", "servfail"),
        ("REFUSED", "refused"),
        ("GARBAGE", "malformed"),
        ("SILENCE", "timeout"),
    ],
)
@pytest.mark.parametrize("port", [8080, "http"])
async def test_a_failure_is_told_with_the_name_and_the_server(
    fault: FaultKind, kind: str, port: int | str
) -> None:
    with HeadlessService("web.prod") as web:
        web.fail(fault)

        with pytest.raises(ResolveError) as caught:
            await asking(web, deadline=0.1).resolve(WEB, port=port)

    name = f"{WEB}." if port == 8080 else f"_http._tcp.{WEB}."
    assert caught.value.kind == kind
    assert caught.value.name == name
    assert name in str(caught.value)
    assert web.nameserver in str(caught.value)


@pytest.mark.weather("One of several servers fails")
async def test_the_next_server_is_asked_where_one_fails() -> None:
    with HeadlessService("web.prod") as bad, HeadlessService("web.prod", pods=2) as good:
        bad.fail("SERVFAIL")

        assert len((await asking(bad, good).resolve("web.prod")).endpoints) == 2


async def test_a_failure_heals_with_the_server() -> None:
    with HeadlessService("web.prod") as web:
        async with asking(web) as resolver:
            for fault in ("NXDOMAIN", "NODATA", "SERVFAIL"):
                with web.failing(fault), pytest.raises(ResolveError):
                    await resolver.resolve(WEB)
                assert len((await resolver.resolve(WEB)).endpoints) == 3


# --- the shortcuts


async def test_lookup_host_gives_sorted_addresses() -> None:
    with HeadlessService("web.prod", pods=9) as web:
        found = await asking(web).lookup_host("web", "prod")

        assert found == tuple(sorted(f"10.244.0.{n}" for n in range(2, 11)))
        assert asked(web) == [f"{WEB} A"]


async def test_a_ring_takes_the_weights_of_srv_records_where_it_is_told_to() -> None:
    """
    A quarter and three quarters of the keys; without the option a half each.
    """
    with HeadlessService("web.prod", pods=0) as web:
        web.answer_with(
            f"_http._tcp.{WEB}. 5 IN SRV 1 1 8080 a.{WEB}.",
            f"_http._tcp.{WEB}. 5 IN SRV 1 3 8080 b.{WEB}.",
            additional=[f"a.{WEB}. 5 IN A 10.0.0.1", f"b.{WEB}. 5 IN A 10.0.0.2"],
        )
        for weights, share in ((True, 0.75), (False, 0.5)):
            resolver = Resolver(nameservers=[web.nameserver], srv_weights=weights)
            async with Ring("web.prod", port="http", resolver=resolver) as ring:
                shares = {pod.address: part for pod, part in ring.snapshot.share().items()}
                assert shares["10.0.0.2"] == pytest.approx(share, abs=0.08)


async def test_lookup_srv_gives_every_port_of_every_pod() -> None:
    with HeadlessService(
        "web.prod", pods=2, stateful=True, ports={"http": 8080, "grpc": 9090}
    ) as web:
        found = await asking(web).lookup_srv("Web", "prod")

        assert found == (
            SRV(f"web-0.{WEB}", 8080, 0, 25),
            SRV(f"web-0.{WEB}", 9090, 0, 25),
            SRV(f"web-1.{WEB}", 8080, 0, 25),
            SRV(f"web-1.{WEB}", 9090, 0, 25),
        )
        assert asked(web) == [f"{WEB} SRV"]


async def test_lookup_srv_leaves_other_names_out() -> None:
    with HeadlessService("web.prod") as web:
        web.answer_with(
            f"{WEB}. 5 IN SRV 1 0 80 b.{WEB}.",
            f"{WEB}. 5 IN SRV 0 0 80 c.{WEB}.",
            f"{WEB}. 5 IN SRV 0 0 80 c.{WEB}.",
            f"evil.test. 5 IN SRV 0 0 80 a.{WEB}.",
        )

        found = await asking(web).lookup_srv("web", "prod")

    assert found == (SRV(f"c.{WEB}", 80, 0, 0), SRV(f"b.{WEB}", 80, 1, 0))


async def test_the_shortcuts_ask_past_every_cache() -> None:
    with HeadlessService("web.prod", pods=1, ttl=3600) as web:
        async with asking(web) as resolver:
            for pods in (1, 2):
                web.scale(pods)
                assert len(await resolver.lookup_host("web", "prod")) == pods
                assert len(await resolver.lookup_srv("web", "prod")) == pods


@pytest.mark.parametrize("shortcut", ["lookup_host", "lookup_srv"])
async def test_a_shortcut_fails_as_resolve_does(shortcut: str) -> None:
    with HeadlessService("web.prod") as web:
        with pytest.raises(NameNotFound) as caught:
            await getattr(asking(web), shortcut)("web")  # in the namespace "default"
        assert caught.value.name == "web.default.svc.cluster.local."

        with pytest.raises(ConfigError, match="namespace"):
            await getattr(asking(web), shortcut)("web", "not a name")
        with pytest.raises(ConfigError, match="service"):
            await getattr(asking(web), shortcut)("10.0.0.1", "prod")


async def test_the_functions_ask_the_servers_of_the_system() -> None:
    with (
        HeadlessService("web.default", pods=2) as web,
        surrounded_by(Surroundings(nameservers=(web.nameserver,))),
    ):
        assert await lookup_host("web") == ("10.244.0.2", "10.244.0.3")
        assert [found.port for found in await lookup_srv("web", "default")] == [8080, 8080]


async def test_a_resolv_conf_can_be_named(tmp_path: Path) -> None:
    """
    It tells the search list, and the nameservers where none are given.
    """
    conf = tmp_path / "resolv.conf"
    conf.write_text("\ufeffnameserver 127.0.0.99\nsearch shop.svc.k.test svc.k.test k.test\n")
    with pytest.raises(ResolveError) as caught:
        await Resolver(resolv_conf=str(conf), deadline=0.1).resolve("web")
    assert caught.value.name == "web.shop.svc.k.test."
    assert caught.value.servers == ("127.0.0.99",)
    assert Resolver(resolv_conf=conf) == Resolver(resolv_conf=str(conf)) != Resolver()


async def test_a_spelling_is_kept_for_one_question(pod_in: Pretend) -> None:
    """
    Where the records of a named port are elsewhere than the addresses, neither decides for the other.
    """
    pod_in("search prod.svc.cluster.local svc.cluster.local cluster.local corp.test")
    with HeadlessService("web.prod", pods=2, ports={"other": 1}) as web:
        away = {
            "_http._tcp.web.corp.test": [
                "_http._tcp.web.corp.test. 5 IN SRV 0 1 80 a.web.corp.test."
            ],
            "a.web.corp.test": ["a.web.corp.test. 5 IN A 10.6.6.6"],
        }
        for first, second in (("http", 80), (80, "http")):
            web.respond = saying(away, otherwise=web)
            resolver = asking(web, namespace="prod")
            names = {80: WEB, "http": "web.corp.test"}
            for port in (first, second, first):
                answer = await resolver.resolve("web", port=port)
                assert answer.name == names[port]


async def test_lookup_srv_lets_through_what_resolve_lets_through() -> None:
    """
    No target outside of the service, unless the caller takes it; and no name that no host has.
    """
    with HeadlessService("web.prod", pods=1) as web:
        web.answer_with(
            f"{WEB}. 5 IN SRV 0 1 80 evil.test.",
            f"{WEB}. 5 IN SRV 0 1 80 ev\\\\032il.{WEB}.",
            f"{WEB}. 5 IN SRV 3 1 81 web-0.{WEB}.",
            rdtype="SRV",
        )
        assert await asking(web).lookup_srv("web", "prod") == (SRV(f"web-0.{WEB}", 81, 3, 1),)
        everywhere = await asking(web, external=True).lookup_srv("web", "prod")
        assert [found.target for found in everywhere] == ["evil.test", f"web-0.{WEB}"]

        web.answer_with(f"{WEB}. 5 IN SRV 0 1 80 evil.test.", rdtype="SRV")
        with pytest.raises(NoData, match=r"evil\.test, which is not followed"):
            await asking(web).lookup_srv("web", "prod")
        web.respond = None
        web.scale(3)
        with pytest.raises(AnswerTooLarge):
            await asking(web, max_endpoints=2).lookup_srv("web", "prod")


async def test_without_servers_of_its_own_a_resolver_asks_those_of_resolv_conf(
    pod_in: Pretend,
) -> None:
    """
    `.invalid` exists nowhere, so whoever answers there, it is an error.
    """
    pod_in("nameserver 127.0.0.99\nnameserver ::1\nnameserver nonsense\n")

    with pytest.raises(ResolveError) as caught:
        await Resolver(deadline=0.1).resolve("web.invalid.")

    assert caught.value.servers == ("127.0.0.99", "::1")


# --- how it is made


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nameservers": []}, "nameservers must not be empty"),
        ({"nameservers": ["dns.google"]}, "got 'dns.google'"),
        ({"nameservers": ["10.0.0.1", "10.0.0.1:0"]}, "got '10.0.0.1:0'"),
        ({"timeout": 0}, "timeout must be above 0 and at most 3600 s, got 0"),
        ({"timeout": -1.0}, "timeout .* got -1.0"),
        ({"timeout": float("nan")}, "timeout .* got nan"),
        ({"timeout": float("inf")}, "timeout .* got inf"),
        ({"deadline": 0.0}, "deadline must be above 0"),
        ({"deadline": 3601}, "deadline .* got 3601"),
        ({"tries": 0}, "tries must be 1 to 100, got 0"),
        ({"tries": 10**12}, "tries must be 1 to 100"),
        ({"max_endpoints": 0}, "max_endpoints must be .* got 0"),
        ({"tries": 10**5000}, "tries must be 1 to 100, got a number of 16610 bits"),
        ({"deadline": 10**5000}, "deadline .* got a number of 16610 bits"),
        ({"namespace": ""}, "namespace must not be empty"),
        ({"namespace": "a b"}, "namespace must be"),
        ({"zone": "."}, "zone must not be empty"),
        ({"zone": "10.0.0.1"}, "zone must be a DNS name"),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_its_name(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Resolver(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nameservers": "10.0.0.1"}, "nameservers must be several, in a list"),
        ({"nameservers": [b"10.0.0.1"]}, "a nameserver must be a str"),
        ({"timeout": "1"}, "timeout must be a number, not str"),
        ({"deadline": None}, "deadline must be a number, not NoneType"),
        ({"tries": 2.5}, "tries must be an int, not float"),
        ({"tries": True}, "tries must be an int, not bool"),
        ({"max_endpoints": None}, "max_endpoints must be an int, not NoneType"),
        ({"external": 1}, "external must be a bool, not int"),
        ({"external": "no"}, "external must be a bool, not str"),
        ({"external": None}, "external must be a bool, not NoneType"),
        ({"namespace": 1}, "namespace must be a str, not int"),
        ({"zone": b"cluster.local"}, "zone must be a str, not bytes"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_by_its_name(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        Resolver(**options)


def test_resolvers_that_follow_other_names_are_not_equal() -> None:
    """
    Equal ones share their lookups.
    """
    assert Resolver(external=True) != Resolver()
    assert Resolver(external=False) == Resolver()
    assert hash(Resolver(external=False)) == hash(Resolver())


def test_its_repr_says_whom_it_asks() -> None:
    assert repr(Resolver()) == "<Resolver nameservers=resolv.conf>"
    assert (
        repr(Resolver(nameservers=iter(["10.0.0.1", "[::1]:5353"])))
        == "<Resolver nameservers=10.0.0.1,[::1]:5353>"
    )


def test_making_one_asks_nothing_and_reads_nothing(pod_in: Pretend) -> None:
    """
    Resolvers are made at import time, before a fork, before there is an event loop.
    """
    resolver = Resolver(deadline=0.1)
    pod_in("nameserver 127.0.0.99")

    with pytest.raises(ResolveError) as caught:
        anyio.run(resolver.resolve, "web.invalid.")

    assert caught.value.servers == ("127.0.0.99",)


# --- where it runs


@pytest.fixture
def opened() -> Iterator[list[cares.Engine]]:
    """
    Every engine that is opened during the test.
    """
    engines: list[cares.Engine] = []
    cares.on_open.append(engines.append)
    yield engines
    cares.on_open.remove(engines.append)


async def test_a_resolver_held_open_keeps_its_channel(opened: list[cares.Engine]) -> None:
    with HeadlessService("web.prod") as web:
        resolver = asking(web)
        async with resolver as same:
            assert same is resolver
            for _ in range(3):
                await resolver.resolve("web.prod")
            await resolver.lookup_srv("web", "prod")

        assert len(opened) == 1
        assert opened[0].users == 0


async def test_resolvers_that_ask_the_same_servers_share_a_channel(
    opened: list[cares.Engine],
) -> None:
    with HeadlessService("web.prod") as web:
        async with asking(web) as one, asking(web, max_endpoints=9) as other:
            await one.resolve("web.prod")
            await other.resolve("web.prod")
            await asking(web).resolve("web.prod")

        assert len(opened) == 1


async def test_a_lookup_outside_of_everything_opens_and_closes_its_own(
    opened: list[cares.Engine],
) -> None:
    with HeadlessService("web.prod") as web:
        for _ in range(2):
            await asking(web).resolve("web.prod")
        with web.failing("SERVFAIL"), pytest.raises(ServerFailure):
            await asking(web).resolve("web.prod")

    assert [engine.users for engine in opened] == [0, 0, 0]


async def test_a_resolver_can_be_entered_twice_and_again() -> None:
    with HeadlessService("web.prod") as web:
        resolver = asking(web)
        async with resolver:
            async with resolver:
                await resolver.resolve("web.prod")
            assert len((await resolver.resolve("web.prod")).endpoints) == 3
        async with resolver:
            assert len((await resolver.resolve("web.prod")).endpoints) == 3


async def test_an_error_in_the_body_leaves_as_itself() -> None:
    with HeadlessService("web.prod") as web, pytest.raises(KeyError, match="body"):
        async with asking(web) as resolver:
            await resolver.resolve("web.prod")
            raise KeyError("body")


async def test_many_lookups_at_once_all_succeed() -> None:
    answers = []
    with HeadlessService("web.prod", pods=4) as web:
        resolver = asking(web)

        async def ask(port: int | str) -> None:
            answers.append(await resolver.resolve("web.prod", port=port))

        async with anyio.create_task_group() as tasks:
            for n in range(50):
                tasks.start_soon(ask, 8080 if n % 2 else "http")

    assert len(answers) == 50
    assert len({answer.endpoints for answer in answers}) == 1


@pytest.mark.parametrize("port", [8080, "http"])
async def test_a_cancelled_lookup_ends_at_once_and_leaves_nothing(port: int | str) -> None:
    with HeadlessService("web.prod", pods=50, stateful=True) as web:
        web.respond = without_glue(web)
        web.fail("SILENCE", rdtype="A")
        resolver = asking(web, timeout=60.0, deadline=60.0)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: resolver.resolve("web.prod", port=port))
                await web.wait_for_queries_async(1 if port == 8080 else 17)
                tasks.cancel_scope.cancel()

            web.heal()
            assert len((await resolver.resolve("web.prod", port=port)).endpoints) == 50


async def test_the_callers_deadline_passes_through() -> None:
    with HeadlessService("web.prod") as web:
        web.fail("SILENCE")

        with pytest.raises(TimeoutError) as caught, anyio.fail_after(0.05):
            await asking(web).resolve("web.prod")

    assert not isinstance(caught.value, ResolveTimeout)


@needs_ipv6
async def test_a_server_can_be_asked_over_ipv6() -> None:
    with HeadlessService("web.prod", host="::1") as web:
        assert len((await asking(web).resolve("web.prod")).endpoints) == 3


@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_one_resolver_serves_one_event_loop_after_the_other(
    anyio_backend: str, second: str
) -> None:
    with HeadlessService("web.prod") as web:
        resolver = asking(web)

        async def ask() -> int:
            async with resolver:
                return len((await resolver.resolve("web.prod")).endpoints)

        assert anyio.run(ask, backend=anyio_backend) == 3
        assert anyio.run(ask, backend=second) == 3
        assert anyio.run(ask, backend=anyio_backend) == 3


def test_one_resolver_serves_loops_in_several_threads_at_once() -> None:
    found: list[int] = []
    with HeadlessService("web.prod") as web:
        resolver = asking(web)
        together = threading.Barrier(4, timeout=10)

        async def ask() -> None:
            async with resolver:
                together.wait()
                for _ in range(20):
                    found.append(len((await resolver.resolve("web.prod")).endpoints))

        threads = [
            threading.Thread(target=anyio.run, args=(ask,), kwargs={"backend": backend})
            for backend in ("asyncio", "trio", "asyncio", "trio")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == [3] * 80


async def test_a_pod_without_a_hostname_among_others_is_named_by_its_address() -> None:
    with HeadlessService("web.prod", pods=[Pod("10.0.0.1"), Pod("10.0.0.2", hostname="a")]) as web:
        answer = await asking(web).resolve("web.prod", port="http")

    assert [endpoint.name for endpoint in answer.endpoints] == ["10.0.0.1", f"a.{WEB}"]
