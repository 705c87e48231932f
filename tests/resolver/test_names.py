"""
Names: what a person may write, and what is asked for it.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knet import ConfigError
from knet.resolver.names import (
    Cluster,
    Question,
    candidates,
    check_name,
    cluster_from,
    nameservers_from,
    service_in,
    srv_name,
)

KUBELET = """\
search prod.svc.cluster.local svc.cluster.local cluster.local corp.example.com example.com
nameserver 10.96.0.10
options ndots:5
"""

LABEL = "a" * 63
LONGEST = ".".join([LABEL, LABEL, LABEL, "a" * 61])  # 253 characters

texts = st.text() | st.text("aZ09-_.:[]/ %\u212a\u0130\N{FULLWIDTH DIGIT ONE}", max_size=300)


# --- what a name can stand for


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("web", ["web.prod.svc.cluster.local.", "web.example.com.", "web."]),
        ("web.shop", ["web.shop.svc.cluster.local.", "web.shop.example.com.", "web.shop."]),
        (
            "web.shop.svc",
            ["web.shop.svc.cluster.local.", "web.shop.svc.example.com.", "web.shop.svc."],
        ),
        ("web.shop.svc.cluster.local", ["web.shop.svc.cluster.local."]),
        ("web.shop.svc.cluster.local.", ["web.shop.svc.cluster.local."]),
        ("web.", ["web."]),
        ("WEB.Shop.SVC.cluster.local", ["web.shop.svc.cluster.local."]),
        ("web.shop.svc.other.zone", ["web.shop.svc.other.zone."]),
        ("my_cache", ["my_cache.prod.svc.cluster.local.", "my_cache.example.com.", "my_cache."]),
        ("svc", ["svc.prod.svc.cluster.local.", "svc.example.com.", "svc."]),
        (
            "web-0.web.shop",
            ["web-0.web.shop.svc.cluster.local.", "web-0.web.shop.example.com.", "web-0.web.shop."],
        ),
    ],
)
def test_a_name_is_tried_in_every_spelling_likeliest_first(written: str, asked: list[str]) -> None:
    """
    The cluster first, then the rest of the search list, at last the name as it is.
    """
    cluster = Cluster("prod", "cluster.local", ("example.com",))

    assert list(candidates(Question(written).service, cluster)) == asked


def test_no_spelling_is_tried_twice() -> None:
    cluster = Cluster("prod", "cluster.local", ("svc.cluster.local", "prod.svc.cluster.local"))

    assert candidates("web", cluster).count("web.prod.svc.cluster.local.") == 1


def test_a_spelling_too_long_for_dns_is_left_out() -> None:
    service = f"{LABEL}.{LABEL}.{LABEL}"

    assert candidates(service, Cluster(search=(LONGEST, "a.b"))) == (
        f"{service}.svc.cluster.local.",
        f"{service}.a.b.",
        f"{service}.",
    )


@given(texts, st.lists(texts, max_size=4))
@example(LONGEST, ["svc"])
def test_candidates_are_absolute_different_and_short_enough(
    service: str, search: list[str]
) -> None:
    try:
        name = check_name(service, "service")
    except ConfigError:
        return

    cluster = cluster_from(f"search {' '.join(search)}")
    found = candidates(name, cluster)

    assert found
    assert len(set(found)) == len(found)
    for candidate in found:
        assert candidate.endswith(".")
        assert len(candidate) <= 254
        assert check_name(candidate, "candidate") == candidate


def test_a_service_and_a_namespace_make_the_name_of_the_go_original() -> None:
    cluster = Cluster("prod", "cluster.test")

    assert service_in("Web", "Shop", cluster) == "web.shop.svc.cluster.test."
    assert service_in("web", "", cluster) == "web.default.svc.cluster.test."


def test_a_named_port_goes_before_the_name() -> None:
    assert srv_name("web.prod.", "http", "tcp") == "_http._tcp.web.prod."


# --- where a pod runs


def test_kubelets_search_list_gives_namespace_and_zone() -> None:
    assert cluster_from(KUBELET) == Cluster(
        "prod", "cluster.local", ("corp.example.com", "example.com")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Cluster()),
        ("nameserver 10.0.0.1\n", Cluster()),
        ("search\n", Cluster()),
        ("search example.com", Cluster(search=("example.com",))),
        ("domain example.com\n", Cluster(search=("example.com",))),
        # resolv.conf(5): the two exclude each other, and the last one wins.
        (
            "domain one.test\nsearch two.test three.test\n",
            Cluster(search=("two.test", "three.test")),
        ),
        ("search one.test\nsearch two.test\n", Cluster(search=("two.test",))),
        ("# search one.test\n; search two.test\n", Cluster()),
        ("search one.test # two.test\n", Cluster(search=("one.test",))),
        (KUBELET.replace("\n", "\r\n"), cluster_from(KUBELET)),
        (KUBELET.upper().replace("SEARCH", "search"), cluster_from(KUBELET)),
        ("search . a..b 10.0.0.1 \N{SNOWMAN} good.test.\n", Cluster(search=("good.test",))),
        ("\x00\x01 \ufffd\nsearch\x00 x\n\n\n", Cluster()),
        # No namespace of its own in the list: as on a node.
        ("search svc.cluster.test cluster.test", Cluster("default", "cluster.test")),
        # What only looks like kubelet's.
        ("search a.svc.test b.test", Cluster(search=("a.svc.test", "b.test"))),
        (
            "search x.prod.svc.k.test svc.k.test",
            Cluster("default", "k.test", ("x.prod.svc.k.test",)),
        ),
    ],
)
def test_other_resolv_confs_give_what_they_hold(text: str, expected: Cluster) -> None:
    assert cluster_from(text) == expected


def test_a_corporate_domain_before_the_clusters_own_does_not_hide_it() -> None:
    text = "search corp.test prod.svc.k.test svc.k.test k.test"

    assert cluster_from(text) == Cluster("prod", "k.test", ("corp.test",))


@pytest.mark.parametrize("text", ["shop", "shop\n", "  Shop.\r\n"])
def test_the_service_accounts_namespace_goes_before_the_search_list(text: str) -> None:
    assert cluster_from(KUBELET, text).namespace == "shop"


@pytest.mark.parametrize("text", [None, "", "\n", "two words", "\ufffd", "10.0.0.1", "a" * 64])
def test_a_namespace_file_that_makes_no_sense_is_passed_over(text: str | None) -> None:
    assert cluster_from(KUBELET, text).namespace == "prod"


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        (KUBELET, ("10.96.0.10",)),
        ("nameserver 10.0.0.1\nnameserver fd00::a\n", ("10.0.0.1", "fd00::a")),
        ("nameserver fe80::1%eth0\n", ("fe80::1%eth0",)),
        ("nameserver 10.0.0.1 # the first\r\n", ("10.0.0.1",)),
        ("#nameserver 10.0.0.1\n;nameserver 10.0.0.2\n", ()),
        ("nameserver\nnameserver dns.example.com\nnameserver 10.0.0\n", ()),
        ("nameserver fe80::1%\nnameserver fe80::1%a,b\nnameserver fe80::1%\u00fc\n", ()),
        ("nameservers 10.0.0.1\nNAMESERVER 10.0.0.1", ()),
        ("", ()),
    ],
)
def test_nameserver_lines_give_their_addresses_in_order(
    text: str, servers: tuple[str, ...]
) -> None:
    assert nameservers_from(text) == servers


@given(st.text() | st.lists(texts).map(lambda words: "search " + " ".join(words)), texts)
def test_no_text_of_these_files_is_an_error(resolv_conf: str, namespace: str) -> None:
    cluster = cluster_from(resolv_conf, namespace)
    nameservers_from(resolv_conf)

    for name in (cluster.namespace, cluster.zone, *cluster.search):
        assert check_name(name, "name") == name


# --- what cannot be a name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must not be empty, got ''"),
        (".", "must not be empty, got '.'"),
        ("..", "empty label: '..'"),
        ("a..b", "empty label: 'a..b'"),
        (".web", "empty label: '.web'"),
        ("web..", "empty label: 'web..'"),
        ("we b", "got 'we b'"),
        ("web\n", "got 'web\\\\n'"),
        ("-web", "got '-web'"),
        ("web-.prod", "got 'web-.prod'"),
        ("*.prod", "got '\\*.prod'"),
        ("web\0", "got 'web\\\\x00'"),
        ("10.0.0.1", "got the address '10.0.0.1'; Ring.static takes addresses"),
        ("10.0.0.1.", "got the address"),
        ("fd00::1", "got the address 'fd00::1'"),
        ("[::1]", "got the address"),
        ("10.0.0.1:80", "got '10.0.0.1:80'"),
        ("web:8080", "got 'web:8080'"),
        ("http://web.prod/", "got 'http://web.prod/'"),
        ("dns:///web.prod", "got 'dns:///web.prod'"),
        ("b\u00fccher", "got 'b\u00fccher'"),
        ("\u212aelvin", "got '\u212aelvin'"),  # whose lower case is an ASCII "k"
        ("\ud800", "got '.ud800'"),
        ("a" * 64, "a label of 64 characters, DNS allows 63"),
        (f"{LONGEST}a", "254 characters, DNS allows 253"),
        ("x" * 10_000, "10000 characters"),
    ],
)
def test_what_cannot_be_a_name_is_refused_by_its_text(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^service .*{said}") as caught:
        Question(name)

    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", [LONGEST, f"{LONGEST}.", LABEL, "_http._tcp.web", "1", "a--b"])
def test_whatever_dns_allows_is_allowed(name: str) -> None:
    assert Question(name).service == name


@pytest.mark.parametrize("name", [None, b"web", 1, ["web"]])
def test_a_name_is_a_str(name: Any) -> None:
    with pytest.raises(TypeError, match=f"service must be a str, not {type(name).__name__}"):
        Question(name)


@given(texts)
def test_any_text_is_a_lower_case_name_or_a_config_error(text: str) -> None:
    try:
        name = check_name(text, "service")
    except ConfigError:
        return

    assert name == name.lower() == text.lower()
    assert name.isascii()
    labels = name.removesuffix(".").split(".")
    assert all(1 <= len(label) <= 63 for label in labels)
    assert len(".".join(labels)) <= 253


# --- ports, protocols, families


@pytest.mark.parametrize("port", [None, 1, 8080, 65535, "http", "h2-c", "a" * 62, "8080a"])
def test_a_port_is_a_number_a_name_or_none(port: int | str | None) -> None:
    assert Question("web", port).port == port


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (0, "port must be 1 to 65535, got 0"),
        (-1, "got -1"),
        (65536, "got 65536"),
        ("8080", "port='8080' has no name: write port=8080"),
        ("\N{FULLWIDTH DIGIT ONE}", "has no name"),
        ("", "got ''"),
        ("_http", "got '_http'"),
        ("http.tcp", "got 'http.tcp'"),
        ("-http", "got '-http'"),
        ("HTTP", "got 'HTTP'"),
        ("ht tp", "got 'ht tp'"),
        ("http\n", "got 'http"),
        ("a" * 63, "got 'aaa"),
        ("h\u00fc", "got 'h\u00fc'"),
    ],
)
def test_a_port_that_cannot_be_is_refused(port: int | str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Question("web", port)


@pytest.mark.parametrize("port", [True, False, 8080.0, b"http", (80,)])
def test_a_port_of_another_type_is_refused(port: Any) -> None:
    with pytest.raises(TypeError, match=f"port must be .* not {type(port).__name__}"):
        Question("web", port)


@pytest.mark.parametrize("value", ["", "TCP", "icmp", None, 6, ["tcp"]])
def test_an_unknown_protocol_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"protocol must be 'tcp' or 'udp' or 'sctp', got "):
        Question("web", "http", value)


@pytest.mark.parametrize("value", ["", "ipv5", "IPv4", None, 4])
def test_an_unknown_family_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"family must be 'auto' or 'ipv4' or 'ipv6', got "):
        Question("web", family=value)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (Question("Web.prod"), "web.prod"),
        (Question("web", 8080), "web (port 8080)"),
        (Question("web", "dns", "udp"), "web (port dns/udp)"),
    ],
)
def test_a_question_reads_as_what_was_asked(question: Question, text: str) -> None:
    assert str(question) == text
