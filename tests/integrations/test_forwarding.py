"""
What a request carries when one pod hands it to another: headers in, headers out.
"""

from __future__ import annotations

import pytest

from knet.integrations.forwarding import (
    HOP,
    Hop,
    answer_headers,
    handshake_headers,
    hop_in,
    is_close_code,
    is_in_via,
    request_headers,
    target_of,
)

HEADERS = [(b"Host", b"rooms.example"), (b"Accept", b"*/*")]
PODS = {"10.0.0.1", "10.0.0.2"}
SECRET = b"hush"


def handed_on(headers: list[tuple[bytes, bytes]], **more: object) -> dict[bytes, bytes]:
    told = {"me": "web-0", "client": "192.0.2.7", "scheme": "http", "version": "1.1", **more}
    return dict(request_headers(headers, b"hop", **told))  # type: ignore[arg-type]


def test_the_host_stays_and_who_asked_is_appended() -> None:
    sent = handed_on(HEADERS)

    assert sent[b"host"] == b"rooms.example"
    assert sent[b"accept"] == b"*/*"
    assert sent[b"x-forwarded-for"] == b"192.0.2.7"
    assert sent[b"x-forwarded-host"] == b"rooms.example"
    assert sent[b"x-forwarded-proto"] == b"http"
    assert sent[b"forwarded"] == b'for=192.0.2.7;proto=http;host="rooms.example"'
    assert sent[HOP] == b"hop"


def test_what_other_proxies_said_is_kept() -> None:
    before = [
        *HEADERS,
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"X-Forwarded-For", b"198.51.100.3"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"www.example"),
        (b"Forwarded", b"for=203.0.113.9;proto=https"),
        (b"Via", b"1.1 edge"),
    ]
    sent = handed_on(before, client="fd00::7", scheme="wss")

    assert sent[b"x-forwarded-for"] == b"203.0.113.9, 198.51.100.3, fd00::7"
    assert sent[b"x-forwarded-proto"] == b"https"
    assert sent[b"x-forwarded-host"] == b"www.example"
    assert sent[b"forwarded"] == (
        b'for=203.0.113.9;proto=https, for="[fd00::7]";proto=https;host="rooms.example"'
    )
    assert sent[b"via"].startswith(b"1.1 edge, 1.1 knet-")


def test_nobody_known_is_unknown() -> None:
    sent = handed_on([], client=None)

    assert sent[b"forwarded"] == b"for=unknown;proto=http"
    assert b"x-forwarded-for" not in sent


def test_headers_of_one_connection_are_left_behind() -> None:
    names = "connection keep-alive proxy-connection te trailer transfer-encoding upgrade expect"
    of_a_connection = [(name.encode(), b"x") for name in names.split()]
    of_a_connection += [(b"Connection", b"close, X-Mine"), (b"x-mine", b"1"), (HOP, b"forged")]

    sent = handed_on([*HEADERS, *of_a_connection])
    assert not sent.keys() & {*map(str.encode, names.split()), b"x-mine"}
    assert sent[HOP] == b"hop"
    assert answer_headers([*of_a_connection, (b"Server", b"a"), (b"Set-Cookie", b"b")]) == [
        (b"set-cookie", b"b"),
    ], "and a server tells its own name"


def test_a_client_cannot_have_the_length_or_the_host_left_behind() -> None:
    """
    With the length gone, what follows would be read as another request.
    """
    sent = handed_on(
        [*HEADERS, (b"connection", b"content-length, host"), (b"content-length", b"3")]
    )

    assert sent[b"content-length"] == b"3"
    assert sent[b"host"] == b"rooms.example"


def test_a_handshake_is_made_anew() -> None:
    headers = [
        (b"sec-websocket-key", b"k"),
        (b"sec-websocket-protocol", b"chat"),
        (b"cookie", b"c"),
    ]

    assert handshake_headers(headers) == headers[1:]


@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_hop_counts_from_the_address_of_a_pod_or_with_a_proof(secret: bytes | None) -> None:
    hop = Hop("web-1", "0123456789abcdef", has_failed=True)
    headers = [(HOP, hop.value(secret))]

    assert hop_in(headers, "10.0.0.1", PODS, secret) == (hop, False)
    outside = hop_in(headers, "192.0.2.7", PODS, secret)
    assert outside == ((None, True) if secret is None else (hop, False))
    assert hop_in(headers, None, PODS, None) == (None, True)
    # Who has no secret yet goes by the address.
    assert hop_in(headers, "10.0.0.1", PODS, None) == (hop, False)
    # An address proves nothing to who has one.
    bare = [(HOP, hop.value(None))]
    assert hop_in(bare, "10.0.0.1", PODS, SECRET) == (None, True)
    assert hop_in(HEADERS, "10.0.0.1", PODS, secret) == (None, False)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"web-1",
        b"web-1;digest",
        b"web-1;digest;owner;proof;more",
        b"\xff;digest;owner",
        b"web-1;digest;owner;" + b"0" * 64,
        b"x" * 2000 + b";digest;owner",
    ],
)
def test_what_cannot_be_read_or_is_not_proved_does_not_count(value: bytes) -> None:
    assert hop_in([(HOP, value)], "192.0.2.7", PODS, SECRET) == (None, True)


def test_two_hops_are_none() -> None:
    value = Hop("web-1", "d").value(None)

    assert hop_in([(HOP, value), (HOP, value)], "10.0.0.1", PODS, None) == (None, True)


def test_a_proof_is_of_all_that_is_said() -> None:
    told, proof = Hop("web-1", "d").value(SECRET).rsplit(b";", 1)
    other = told.replace(b"web-1", b"web-2") + b";" + proof

    assert hop_in([(HOP, other)], "192.0.2.7", PODS, SECRET) == (None, True)


def test_a_pod_finds_itself_in_via() -> None:
    sent = list(handed_on(HEADERS).items())

    assert is_in_via(sent, "web-0")
    assert not is_in_via(sent, "web-1")
    assert not is_in_via(HEADERS, "web-0")
    assert b"web-0" not in dict(sent)[b"via"], "a name of a pod is nobody's business"


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        (
            {"raw_path": b"/a/../b%2Fc", "path": "/a/../b/c", "query_string": b"d=%20"},
            "/a/../b%2Fc?d=%20",
        ),
        ({"path": "/a b?c/\u00e9\r\n"}, "/a%20b%3Fc/%C3%A9%0D%0A"),
        ({"path": "/api/x", "root_path": "/api"}, "/x"),
        ({"path": "/apiary", "root_path": "/api"}, "/apiary"),
        ({"path": "/x", "root_path": "/api"}, "/x"),
        # An application that is mounted at /below, of a server without a prefix, and with one.
        ({"path": "/below/x", "root_path": "/below", "app_root_path": ""}, "/below/x"),
        ({"path": "/api/below/x", "root_path": "/api/below", "app_root_path": "/api"}, "/below/x"),
    ],
)
def test_a_target_is_what_came_to_the_server(scope: dict[str, object], target: str) -> None:
    assert target_of(scope) == target.encode()


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 3000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    assert is_close_code(code)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_codes_that_only_tell_what_happened(code: int) -> None:
    assert not is_close_code(code)
