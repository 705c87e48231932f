"""
Names: what a person may write, and what is asked for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knet import ConfigError
from knet.question import Question, check_name, shown, srv_name
from knet.resolver.names import candidates, is_hostname, is_within, service_in, spellings
from knet.surroundings import Surroundings, surroundings_from


def cluster_of(resolv_conf: str, namespace: str | None = None) -> Surroundings:
    """
    What the two files say but for the nameservers.
    """
    return replace(surroundings_from(resolv_conf, namespace), nameservers=())


def servers_of(resolv_conf: str) -> tuple[str, ...]:
    return surroundings_from(resolv_conf).nameservers


KUBELET = """\
search prod.svc.cluster.local svc.cluster.local cluster.local corp.example.com example.com
nameserver 10.96.0.10
options ndots:5
"""

LABEL = "a" * 63
LONGEST = ".".join([LABEL, LABEL, LABEL, "a" * 61])  # 253 characters


def brief(value: object) -> str:
    """
    Name a test by the beginning of what it is given.
    """
    return shown(value)[:40]


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
    cluster = Surroundings("prod", "cluster.local", ("example.com",))

    assert list(candidates(Question(written).service, cluster)) == asked


def test_no_spelling_is_tried_twice() -> None:
    cluster = Surroundings("prod", "cluster.local", ("svc.cluster.local", "prod.svc.cluster.local"))

    assert candidates("web", cluster).count("web.prod.svc.cluster.local.") == 1


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("web", "web web.prod web.prod.svc web.prod.svc.c.test"),
        ("web.prod", "web web.prod web.prod.svc web.prod.svc.c.test"),
        ("web.other", "web.other web.other.svc web.other.svc.c.test"),
        ("web.other.svc", "web.other web.other.svc web.other.svc.c.test"),
        ("web.other.svc.c.test.", "web.other web.other.svc web.other.svc.c.test"),
        ("web.other.svc.d.test", "web.other web.other.svc web.other.svc.d.test"),
        ("example.com.", "example.com"),
    ],
)
def test_a_client_may_ask_for_a_service_by_these_names(written: str, names: str) -> None:
    assert spellings(Question(written).service, Surroundings("prod", "c.test")) == tuple(
        names.split()
    )


def test_a_spelling_too_long_for_dns_is_left_out() -> None:
    service = f"{LABEL}.{LABEL}.{LABEL}"

    assert candidates(service, Surroundings(search=(LONGEST, "a.b"))) == (
        f"{service}.svc.cluster.local.",
        f"{service}.a.b.",
        f"{service}.",
    )


@pytest.mark.parametrize("port", ["h", "http", "a" * 62])
def test_a_spelling_too_long_for_dns_with_its_port_is_left_out(port: str) -> None:
    """
    The prefix of a named port counts: the longest name that fits has 253 characters with it.
    """
    prefix = srv_name("", port, "sctp")
    room = 253 - len(f"{prefix}web.")
    cluster = Surroundings("prod", "k.test", ("a" * room, "b" * (room + 1)))

    assert candidates("web", cluster, prefix=prefix) == (
        "web.prod.svc.k.test.",
        f"web.{'a' * room}.",
        "web.",
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

    cluster = cluster_of(f"search {' '.join(search)}")
    found = candidates(name, cluster)

    assert found
    assert len(set(found)) == len(found)
    for candidate in found:
        assert candidate.endswith(".")
        assert len(candidate) <= 254
        assert check_name(candidate, "candidate") == candidate


def test_a_service_and_a_namespace_make_the_name_of_the_go_original() -> None:
    cluster = Surroundings("prod", "cluster.test")

    assert service_in("Web", "Shop", cluster) == "web.shop.svc.cluster.test."
    assert service_in("web", "", cluster) == "web.default.svc.cluster.test."


def test_a_service_and_a_namespace_that_are_too_long_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="service has 269 characters, DNS allows 253"):
        service_in(LONGEST, "shop", Surroundings("prod", "k.test"))


def test_a_named_port_goes_before_the_name() -> None:
    assert srv_name("web.prod.", "http", "tcp") == "_http._tcp.web.prod."


# --- where a pod runs


def test_kubelets_search_list_gives_namespace_and_zone() -> None:
    assert cluster_of(KUBELET) == Surroundings(
        "prod", "cluster.local", ("corp.example.com", "example.com")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Surroundings()),
        ("nameserver 10.0.0.1\n", Surroundings()),
        ("search\n", Surroundings()),
        ("search example.com", Surroundings(search=("example.com",))),
        ("domain example.com\n", Surroundings(search=("example.com",))),
        # resolv.conf(5): the two exclude each other, and the last one wins.
        (
            "domain one.test\nsearch two.test three.test\n",
            Surroundings(search=("two.test", "three.test")),
        ),
        ("search one.test\nsearch two.test\n", Surroundings(search=("two.test",))),
        ("# search one.test\n; search two.test\n", Surroundings()),
        ("search one.test # two.test\n", Surroundings(search=("one.test",))),
        (KUBELET.replace("\n", "\r\n"), cluster_of(KUBELET)),
        (KUBELET.upper().replace("SEARCH", "search"), cluster_of(KUBELET)),
        ("search . a..b 10.0.0.1 \N{SNOWMAN} good.test.\n", Surroundings(search=("good.test",))),
        ("\x00\x01 \ufffd\nsearch\x00 x\n\n\n", Surroundings()),
        # No namespace of its own in the list: as on a node.
        ("search svc.cluster.test cluster.test", Surroundings("default", "cluster.test")),
        # What only looks like kubelet's.
        ("search a.svc.test b.test", Surroundings(search=("a.svc.test", "b.test"))),
        (
            "search x.prod.svc.k.test svc.k.test",
            Surroundings("default", "k.test", ("x.prod.svc.k.test",)),
        ),
    ],
)
def test_other_resolv_confs_give_what_they_hold(text: str, expected: Surroundings) -> None:
    """
    The cluster's domain is known only where it is told.
    """
    knows_zone = expected.zone != Surroundings().zone or "svc.cluster.local" in text.lower()
    assert cluster_of(text) == replace(expected, knows_zone=knows_zone)


def test_a_corporate_domain_before_the_clusters_own_does_not_hide_it() -> None:
    text = "search corp.test prod.svc.k.test svc.k.test k.test"

    assert cluster_of(text) == Surroundings("prod", "k.test", ("corp.test",))


@pytest.mark.parametrize("text", ["shop", "shop\n", "  Shop.\r\n"])
def test_the_service_accounts_namespace_goes_before_the_search_list(text: str) -> None:
    assert cluster_of(KUBELET, text).namespace == "shop"


@pytest.mark.parametrize("text", [None, "", "\n", "two words", "\ufffd", "10.0.0.1", "a" * 64])
def test_a_namespace_file_that_makes_no_sense_is_passed_over(text: str | None) -> None:
    assert cluster_of(KUBELET, text).namespace == "prod"


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
        (f"nameserver fe80::1%{'a' * 15}\n", (f"fe80::1%{'a' * 15}",)),
        (f"nameserver fe80::1%{'a' * 16}\n", ()),
        # resolv.conf(5): no more than three are used.
        (
            "".join(f"nameserver 10.0.0.{n}\n" for n in range(1, 6)),
            ("10.0.0.1", "10.0.0.2", "10.0.0.3"),
        ),
        # What libc takes for the rest of a comment.
        ("# none\x0bnameserver 10.0.0.1\x85nameserver 10.0.0.2\u2028nameserver 10.0.0.3\r", ()),
        ("", ()),
    ],
)
def test_nameserver_lines_give_their_addresses_in_order(
    text: str, servers: tuple[str, ...]
) -> None:
    assert servers_of(text) == servers


def test_no_more_search_domains_are_kept_than_kubernetes_allows() -> None:
    """
    Each of them is a query for every name that is not there.
    """
    domains = [f"d{n}.test" for n in range(10_000)]

    assert cluster_of(f"search a..b {' '.join(domains)}").search == tuple(domains[:32])


@pytest.mark.parametrize(
    "text",
    [
        "search " + "a." * 500_000,
        "search " + "a " * 500_000,
        "search a\n" * 100_000,
        "nameserver " + "1" * 1_000_000,
        "nameserver " + ":" * 1_000_000,
        "nameserver fe80::1%" + "a" * 1_000_000,
        "nameserver 10.0.0.1\n" * 50_000,
        "#" * 1_000_000,
        ";;##" * 250_000,
        "\n" * 1_000_000,
        " \t\0" * 300_000,
    ],
    ids=brief,
)
def test_a_file_of_a_megabyte_gives_no_more_than_one_of_a_line(text: str) -> None:
    cluster = cluster_of(text, text)

    assert cluster.namespace == "default"
    assert len(cluster.search) <= 32
    assert sum(map(len, servers_of(text))) < 100


@given(st.text() | st.lists(texts).map(lambda words: "search " + " ".join(words)), texts)
def test_no_text_of_these_files_is_an_error(resolv_conf: str, namespace: str) -> None:
    cluster = cluster_of(resolv_conf, namespace)
    servers_of(resolv_conf)

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
        ("x" * 1_000_000, "1000000 characters"),
        ("." * 1_000_000, "999999 characters"),
        (":" * 1_000_000, "1000000 characters"),
        ("1." * 500_000, "999999 characters"),
        ("\n" * 1_000_000, "1000000 characters"),
        ("web\x1b[2J\r\nERROR", "got 'web.x1b.2J.r.nERROR'"),
        ("web\u202e", "got 'web.u202e'"),
        ("\u2028", "got '.u2028'"),
        ("\u0130" * 127, "must be a DNS name|label of"),
    ],
    ids=brief,
)
def test_what_cannot_be_a_name_is_refused_by_its_text(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^service .*{said}") as caught:
        Question(name)

    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", [LONGEST, f"{LONGEST}.", LABEL, "_http._tcp.web", "1", "a--b"])
def test_whatever_dns_allows_is_allowed(name: str) -> None:
    assert Question(name).service == name


@pytest.mark.parametrize(
    "label",
    ["a", "a" * 63, "-", "_", "a-", "-a", "a" * 64, "a b", "a\n", "\u00e9", "10", "a.b"],
)
def test_a_label_has_1_to_63_letters_digits_underscores_and_inner_hyphens(label: str) -> None:
    """
    On the way in as on the way back.
    """
    allowed = label in ("a", "a" * 63, "_", "10", "a.b")

    for name in (label, f"{label}.test", f"test.{label}", f"a.{label}.test"):
        try:
            check_name(name, "name")
        except ConfigError:
            assert not allowed
        else:
            assert allowed
        assert is_hostname(name) == allowed


@given(texts)
@example("10.0.0.1")
@example("10.0.0.256")
@example("a" * 254)
@example(LONGEST)
@example("web\n")
def test_a_hostname_from_the_wire_is_what_a_user_might_write_too(text: str) -> None:
    try:
        written = check_name(text, "name") == text and not text.endswith(".")
    except ConfigError:
        written = False

    assert is_hostname(text) == written


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("web.prod", True),
        ("a.web.prod", True),
        ("a.b.web.prod", True),
        ("prod", False),
        ("myweb.prod", False),
        ("web.prod.test", False),
        (".web.prod", True),  # no hostname, which is another question
        ("", False),
    ],
)
def test_a_domain_is_a_name_and_what_is_below_it(name: str, within: bool) -> None:
    assert is_within(name, "web.prod") is within


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
        ("1" * 1_000_000, "got '1111"),
        ("x" * 1_000_000, "got 'xxxx"),
        (10**5000, "got a number of 16610 bits"),
        (-(10**5000), "got a number of 16610 bits"),
        ("http\x1b[2J\n", r"got 'http.x1b\[2J.n'"),
    ],
    ids=brief,
)
def test_a_port_that_cannot_be_is_refused(port: int | str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Question("web", port)

    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


def test_a_service_that_is_too_long_with_its_port_is_refused() -> None:
    """
    `_http._tcp.` before it takes 11 of the 253 characters.
    """
    longest = LONGEST[11:]

    assert Question(longest, "http").service == longest
    assert Question(f"{longest}.", "http").service == f"{longest}."
    with pytest.raises(ConfigError, match="254 characters with its port 'http' before it"):
        Question(f"a{longest}", "http")
    assert Question(f"a{longest}", 8080).port == 8080


@pytest.mark.parametrize("port", [True, False, 8080.0, b"http", (80,)])
def test_a_port_of_another_type_is_refused(port: Any) -> None:
    with pytest.raises(TypeError, match=f"port must be .* not {type(port).__name__}"):
        Question("web", port)


@pytest.mark.parametrize(
    "value",
    ["", "TCP", "icmp", None, 6, ["tcp"], "\n" * 10**6, ["\n"] * 10**5, 10**5000],
    ids=brief,
)
def test_an_unknown_protocol_is_refused(value: Any) -> None:
    said = r"protocol must be 'tcp' or 'udp' or 'sctp', got "
    with pytest.raises(ConfigError, match=said) as caught:
        Question("web", "http", value)

    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("web", "'web'"),
        ("a" * 80, f"'{'a' * 80}'"),
        ("a" * 81, f"'{'a' * 77}...'"),
        ("\x00\n\u2028\ud800", r"'\x00\n\u2028\ud800'"),
        (None, "None"),
        (True, "True"),
        (-(2**63), str(-(2**63))),
        (2**64, "a number of 65 bits"),
        (["a" * 1000], f"['{'a' * 75}..."),
    ],
    ids=brief,
)
def test_a_value_is_shown_printably_and_not_for_long(value: object, text: str) -> None:
    assert shown(value) == text


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
