"""
Arbitrary text where a name, an address or a file of names should be.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knet import ConfigError, Resolver
from knet.resolver.cares import check_nameservers
from knet.surroundings import Surroundings, surroundings_from
from tests.fuzz.properties import check_error, check_files, check_words

LABEL = "a" * 63

texts = st.text() | st.text("aB09-_.:%[]/ \t\n\r\0\x0b\x85\u2028\u212a\u0130", max_size=300)
words = st.lists(
    st.sampled_from(["web", "prod", "svc", "cluster", "local", "_x", LABEL, "a" * 40, "", "1"]),
    max_size=9,
).map(".".join)
lines = st.lists(
    st.tuples(
        st.sampled_from(["search", "domain", "nameserver", "options", "#", ";"]),
        st.sampled_from([" ", "\t", ""]),
        st.lists(
            texts
            | words
            | words.map(lambda word: f"{word}.svc.k.test svc.k.test k.test")
            | st.ip_addresses().map(str),
            max_size=5,
        ).map(" ".join),
        st.sampled_from(["\n", "\r\n", "\r", " # ", ""]),
    ).map("".join),
    max_size=8,
).map("".join)


@given(texts | words, texts | words, texts | st.from_regex(r"[a-z0-9-]{1,70}"), lines | texts)
@example(LABEL, LABEL, "http", "")
@example("", "", "", "nameserver 0.0.0.0\n")
@example(".".join([LABEL] * 3 + ["a" * 61]), "", "http", "search a")
@example("web", "", "http", f"search {'.'.join([LABEL] * 3 + ['a' * 50])}")
@example("web", "", "http", "nameserver 10.0.0.1\n" * 4)
def test_any_words_make_names_that_dns_allows_or_an_error_of_one_short_line(
    service: str, namespace: str, port: str, resolv_conf: str
) -> None:
    check_words(service, namespace, port, check_files(resolv_conf, namespace))


@given(words, words, st.lists(words, max_size=40).map(" ".join))
def test_the_longest_search_list_makes_no_name_too_long(
    service: str, namespace: str, search: str
) -> None:
    check_words(service, namespace, "http", check_files(f"search {search}", namespace))


@given(lines | texts)
def test_servers_of_any_file_can_be_asked_or_are_refused(resolv_conf: str) -> None:
    """
    Nothing else than `ConfigError`, and a resolver that takes them says so on one line.
    """
    servers = surroundings_from(resolv_conf).nameservers
    try:
        resolver = Resolver(nameservers=servers)
    except ConfigError as error:
        check_error(error)
    else:
        assert repr(resolver).isprintable()


@given(
    st.lists(
        st.text(max_size=100)
        | st.ip_addresses().map(str)
        | st.from_regex(r"\[?[0-9a-f:.]{1,40}\]?(:[0-9]{1,6})?(%[a-z0-9]{1,9})?"),
        min_size=1,
        max_size=3,
    )
)
@example(["\0"])
@example(["127.0.0.1\n"])
@example(["\ud800"])
@example([":" * 100 + "!"])
def test_any_text_is_a_nameserver_or_a_config_error(servers: list[str]) -> None:
    try:
        check_nameservers(tuple(servers))
    except ConfigError as error:
        check_error(error)


@pytest.mark.parametrize("size", [33, 10_000])
def test_a_name_is_tried_in_no_more_spellings_than_a_pod_can_have(size: int) -> None:
    cluster = check_files("search " + " ".join(f"d{n}.test" for n in range(size)), "")

    assert len(cluster.search) == 32
    check_words("web", "prod", "http", cluster)
    check_words("web", "prod", "http", Surroundings(zone=".".join([LABEL] * 3)))
