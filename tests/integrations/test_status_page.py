"""
The page that shows rings: what it says, to whom, and that it harms nobody.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from fastapi import FastAPI
from fastapi.testclient import TestClient

import knet
from knet import Endpoint, HashRing, RefreshPolicy, Ring, ServerFailure, StaticResolver
from knet.hashring import Maglev, Rendezvous
from knet.integrations.asgi import StatusPage, ring_lifespan
from knet.integrations.status.facts import CELLS, Facts, parting
from knet.integrations.status.page import LONGEST_KEY
from knet.integrations.status.picture import drawing
from knet.integrations.status.text import MOST_ROWS, why
from knet.integrations.status.words import ago, escaped, lasting, percent
from tests.fakes import FakeResolver, FakeWatcher
from tests.waiting import until_state

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

PODS = [Endpoint(f"web-{n}", f"10.0.0.{n + 1}", 80, zone=f"zone-{n % 2}") for n in range(4)]
QUICK = RefreshPolicy(interval=0.05, min_interval=0.02, retry=0.05, confirm=1, jitter=0)
WITHIN = 30.0


class Answer:
    """
    What an application has answered.
    """

    def __init__(self, messages: list[Any]) -> None:
        start, *bodies = messages
        self.messages = messages
        self.status: int = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.text = b"".join(each["body"] for each in bodies).decode()
        assert not bodies[-1].get("more_body")
        assert all(each["more_body"] for each in bodies[:-1])

    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def ring(self) -> Any:
        (ring,) = self.json()["rings"]
        return ring


async def ask(
    app: Any, query: str = "", *, method: str = "GET", accept: str = "", **scope: Any
) -> Answer:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("it reads no body")

    headers = [(b"accept", accept.encode())] if accept else []
    given = {"type": "http", "method": method, "path": "/", "query_string": query.encode()}
    await app({**given, "headers": headers, **scope}, receive, send)
    return Answer(messages)


async def ask_json(app: Any, query: str = "") -> Answer:
    return await ask(app, query, accept="application/json")


@asynccontextmanager
async def ring_and_resolver(
    *pods: Endpoint, **options: Any
) -> AsyncIterator[tuple[Ring, FakeResolver]]:
    resolver = FakeResolver(*(pods or PODS))
    options.setdefault("refresh", QUICK)
    async with Ring("web.prod", resolver=resolver, **options) as ring:
        yield ring, resolver


class Checked(HTMLParser):
    """
    What a page is made of; fails where elements are not closed in order.
    """

    VOID = frozenset({"meta", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.found.append((tag, names))
        if identity := names.get("id"):
            self.ids.append(identity)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [names for found, names in self.found if found == tag]


# --- what it says


async def test_a_page_says_who_owns_what() -> None:
    async with ring_and_resolver(me="web-2") as (ring, _):
        shares = ring.snapshot.share()
        async with ring.acquire("a") as busy:
            answer = await ask(StatusPage(ring))

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Checked(answer.text)
    assert len(page.ids) == len(set(page.ids))
    assert "web.prod" in answer.text
    assert ring.service in answer.text
    for pod in PODS:
        row = re.search(rf"<tr><th scope=\"row\">(?:(?!</tr>).)*{pod.name}.*?</tr>", answer.text)
        assert row is not None
        assert str(pod) in row[0]
        assert str(pod.zone) in row[0]
        assert percent(shares[pod]) in row[0]
        assert f'flight">{int(pod == busy)}<' in row[0]
        assert ("this pod" in row[0]) == (pod.name == "web-2")


async def test_a_page_says_where_most_is_in_flight_and_what_failed() -> None:
    """
    A hot key is seen in the one, and a dead pod in the other.
    """

    async def refuse_first(pod: Endpoint) -> None:
        if pod == dead:
            raise ConnectionRefusedError(111, "refused")

    async with ring_and_resolver() as (ring, _):
        idle = await ask(StatusPage(ring))
        dead = await ring.get("user-42")
        await ring.call("user-42", refuse_first)
        async with ring.acquire("a", bound=None) as busy, ring.acquire("a", bound=None):
            answer = await ask(StatusPage(ring))

    assert "<dt>In flight</dt><dd>0</dd>" in idle.text
    assert "<dt>Attempts</dt>" not in idle.text
    assert f"<dt>In flight</dt><dd>2, of them 2 at {busy.name}</dd>" in answer.text
    told = "2; 1 failed, and 1 of these went on to another pod"
    assert f"<dt>Attempts</dt><dd>{told}</dd>" in answer.text
    assert "<dt>Failed attempts</dt><dd>refused: 1</dd>" in answer.text


async def test_a_page_names_the_source_and_says_whether_it_is_alive() -> None:
    """
    One that is asked is neither alive nor silent.
    """

    def told(source: str) -> str:
        return f"<dt>Source</dt><dd>{source}</dd>"

    async with ring_and_resolver() as (ring, _):
        assert told("FakeResolver") in (await ask(StatusPage(ring))).text
    watcher = FakeWatcher(knet.Answer(PODS))
    async with Ring("web.prod", resolver=watcher, refresh=QUICK) as ring:
        page = StatusPage(ring)
        assert told("FakeWatcher, alive") in (await ask(page)).text
        watcher.tell(ServerFailure("away"))
        with anyio.fail_after(WITHIN):
            await ring.wait_for("stale")
        assert told("FakeWatcher, silent") in (await ask(page)).text


async def test_machines_are_told_the_same() -> None:
    async with ring_and_resolver() as (ring, resolver):
        assert ring.eject(PODS[1], 60)
        first = ring.snapshot
        resolver.answer(*PODS, replace(PODS[0], name="web-9", address="10.0.0.10"))
        await ring.refresh()
        with anyio.fail_after(WITHIN):
            while ring.history()[0].moved is None:
                await checkpoint()
        answer = await ask_json(StatusPage(ring), "key=user-42")

        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json().keys() == {"key", "error", "rings"}
        told = answer.ring
        assert (told["name"], told["state"], told["missing"]) == ("web.prod", "fresh", None)
        assert told["generation"] == 2
        assert told["digest"] == ring.snapshot.digest
        assert told["stats"]["endpoints"] == 5
        assert told["me"] is None
        shares = ring.snapshot.share()
        assert {e["name"]: e["share"] for e in told["endpoints"]} == {
            e.name: share for e, share in shares.items()
        }
        assert [e["name"] for e in told["endpoints"]][:2] == ["web-1", "web-0"]
        assert 0 < told["endpoints"][0]["ejected_for"] <= 60
        assert all(e.pop("age") >= 0 for e in told["endpoints"])
        assert told["endpoints"][1] == {
            "name": "web-0",
            "address": "10.0.0.1",
            "port": 80,
            "zone": "zone-0",
            "weight": 1,
            "share": shares[PODS[0]],
            "in_flight": 0,
            "ejected_for": None,
        }
        (change,) = told["changes"]
        assert (change["joined"], change["left"], change["generation"]) == (1, 0, 2)
        assert [e["name"] for e in change["added"]] == ["web-9"]
        assert change["moved"] == first.diff(ring.snapshot).moved > 0
        assert [e["name"] for e in told["lookup"]["now"]] == [
            e.name for e in ring.snapshot.get_n("user-42", 3)
        ]
        assert [e["name"] for e in told["lookup"]["before"]] == [
            e.name for e in first.get_n("user-42", 3)
        ]


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json", True),
        ("Application/JSON; q=0.9, */*", True),
        ("text/html,application/xhtml+xml,application/json;q=0.1", False),
        ("*/*", False),
        ("", False),
    ],
)
async def test_who_asks_for_json_gets_it(accept: str, is_json: bool) -> None:
    async with Ring.static(PODS) as ring:
        answer = await ask(StatusPage(ring), accept=accept)

    assert answer.headers["content-type"].startswith("application/json") == is_json
    assert answer.headers["vary"] == "accept"


async def test_the_ejected_come_first_and_are_hatched() -> None:
    async with Ring.static(PODS) as ring:
        assert ring.eject(PODS[3], 60)
        page = (await ask(StatusPage(ring), "key=a")).text

    names = re.findall(r"<tr(?: class=out)?><th scope=\"row\">.*?(web-\d)", page)
    assert names == ["web-3", "web-0", "web-1", "web-2"]
    assert re.search(r"<tr class=out>.*?for (59|60) s more", page)
    assert "1 ejected" in page
    assert "Ejected: web-3." in page
    assert 'stroke="url(#hatch-0)"' in page


async def test_changes_are_told_and_large_ones_cut() -> None:
    many = [Endpoint(f"new-{n:03}", f"10.1.{n // 250}.{n % 250 + 1}", 80) for n in range(150)]
    async with ring_and_resolver() as (ring, resolver):
        assert "None since the start." in (await ask(StatusPage(ring))).text
        resolver.answer(*PODS, *many)
        await ring.refresh()
        page = (await ask(StatusPage(ring))).text
        (change,) = (await ask_json(StatusPage(ring))).ring["changes"]

    assert "+ new-000, + new-001" in page
    assert "and 145 more" in page
    assert "just now" in page
    assert change["joined"] == 150
    assert len(change["added"]) == 100


# --- each state


async def test_before_there_is_a_ring_it_says_so() -> None:
    app = StatusPage("ring")
    answer = await ask(app)
    told = await ask_json(app)

    assert answer.status == told.status == 503
    assert answer.headers["retry-after"] == "1"
    assert "no ring yet" in answer.text
    assert "ring_lifespan" in answer.text
    Checked(answer.text)
    assert told.ring["state"] is None
    assert "there is no ring called 'ring'" in told.ring["missing"]
    assert told.ring["endpoints"] == []


async def test_a_function_that_has_no_ring_yet() -> None:
    rings: list[Ring | None] = [None]
    app = StatusPage(lambda: rings[0])

    assert (await ask(app)).status == 503
    async with Ring.static(PODS) as rings[0]:
        assert (await ask(app)).status == 200


async def test_a_ring_that_starts_is_shown_as_starting() -> None:
    """
    Also before it was started at all.
    """
    resolver = FakeResolver()
    resolver.outcome = ServerFailure("SERVFAIL from <1.2.3.4>")
    ring = Ring("web.prod", resolver=resolver, refresh=QUICK)
    app, answers = StatusPage(ring), list[Answer]()
    assert (await ask_json(app)).ring["state"] == "starting"
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            with pytest.raises(knet.RingClosed):
                await ring.get("a")

        tasks.start_soon(ring.run)
        tasks.start_soon(run)
        with anyio.fail_after(WITHIN):
            while ring.stats().last_error is None:
                await anyio.sleep(0.01)
        answers.append(await ask(app, "key=a"))
        await ring.aclose()

    (answer,) = answers
    assert answer.status == 200
    Checked(answer.text)
    assert "waits for its first answer" in answer.text
    assert "SERVFAIL from &lt;1.2.3.4&gt;" in answer.text
    assert "There are none." in answer.text


async def test_an_outage_is_told_with_its_reason() -> None:
    async with ring_and_resolver() as (ring, resolver):
        resolver.outcome = ServerFailure("SERVFAIL from the server")
        await until_state(ring, "stale")
        page = (await ask(StatusPage(ring))).text

    assert "The endpoints are the last good ones: an answer last named some" in page
    assert "in a row failed." in page
    assert "SERVFAIL from the server" in page
    assert 'class="state stale">stale' in page


async def test_an_empty_ring_and_a_closed_one() -> None:
    resolver = FakeResolver()
    async with Ring("web.prod", resolver=resolver, refresh=QUICK, require_endpoints=False) as ring:
        app = StatusPage(ring)
        empty = await ask(app, "key=a")
        told = await ask_json(app, "key=a")
    closed = await ask(app, "key=a")

    assert (empty.status, closed.status) == (200, 200)
    assert "Nobody is ready" in empty.text
    assert "Nobody: there are no endpoints." in empty.text
    assert "Nobody has keys." in empty.text
    assert told.ring["state"] == "empty"
    assert told.ring["lookup"] == {"now": [], "before": None}
    assert "The ring is closed." in closed.text
    assert (await ask_json(app)).ring["state"] == "closed"
    for answer in (empty, closed):
        Checked(answer.text)


def test_why_tells_of_gaps_and_of_who_is_held() -> None:
    """
    Each is a sentence of its own.
    """
    ring = Ring.static(PODS)
    usual = replace(ring.stats(), state="fresh", last_success_age=12.0)

    def said(**stats: Any) -> list[str]:
        return why(Facts(name="web", stats=replace(usual, **stats)))

    assert said() == ["The last answer named endpoints, 12 s ago."]
    assert said(gap="targets", gap_reason="web-1: SERVFAIL")[1:] == [
        "The last answer may lack pods, so it removes none (targets: web-1: SERVFAIL)."
    ]
    assert said(held=1)[1:] == [
        "The last answer left out 1 endpoint, kept until that is confirmed."
    ]
    assert "flapping" in said(disputed=2)[1]
    assert said(state="stale", consecutive_failures=1)[1] == "1 lookup in a row failed."


# --- who owns a key


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("key=user-42", b"user-42"),
        ("other=1&key=a+b%20c", b"a b c"),
        ("key=%C3%BC", "ü".encode()),
        ("key=%ff%00", b"\xff\x00"),
        ("key=a%3Db=c", b"a=b=c"),
        ("key=a&key=b", b"a"),
        ("key=100%", b"100%"),
    ],
)
async def test_a_key_is_looked_up(query: str, key: bytes) -> None:
    """
    By its bytes, whatever they are.
    """
    async with Ring.static(PODS) as ring:
        told = await ask_json(StatusPage(ring), query)
        page = await ask(StatusPage(ring), query)
        owners = [pod.name for pod in ring.snapshot.get_n(key, 3)]

    assert told.json()["key"] == key.decode(errors="replace")
    assert [e["name"] for e in told.ring["lookup"]["now"]] == owners
    assert told.ring["lookup"]["before"] is None
    items = re.findall(r"<li>(web-\d) ", page.text)
    assert items == owners
    assert "Nothing has changed since the start." in page.text


@pytest.mark.parametrize("query", ["", "key=", "key", "keys=a", "&&=", "key=&key="])
async def test_no_key_is_no_question(query: str) -> None:
    async with Ring.static(PODS) as ring:
        told = await ask_json(StatusPage(ring), query)

    assert told.status == 200
    assert told.json()["key"] is None
    assert told.ring["lookup"] is None


@pytest.mark.parametrize("size", [LONGEST_KEY + 1, 5_000_000])
async def test_a_huge_key_is_refused(size: int) -> None:
    async with Ring.static(PODS) as ring:
        longest = await ask_json(StatusPage(ring), "key=" + "%61" * LONGEST_KEY)
        told = await ask_json(StatusPage(ring), "key=" + "a" * size)
        page = await ask(StatusPage(ring), "key=" + "a" * size)

    assert longest.json()["key"] == "a" * LONGEST_KEY
    assert told.status == page.status == 400
    assert "4,096 bytes" in told.json()["error"]
    assert 'role="alert">A key of more than 4,096 bytes' in page.text
    assert len(page.text) < 100_000
    Checked(page.text)


async def test_a_key_that_moved_is_told_with_who_had_it() -> None:
    async with ring_and_resolver(*PODS[:3]) as (ring, resolver):
        before = ring.snapshot
        resolver.answer(*PODS)
        await ring.refresh()
        keys = [f"user-{n}" for n in range(300)]
        moved = next(k for k in keys if ring.snapshot.get(k) == PODS[3])
        same = next(k for k in keys if ring.snapshot.get_n(k, 3) == before.get_n(k, 3))
        after_it = next(
            k
            for k in keys
            if ring.snapshot.get(k) == before.get(k)
            and ring.snapshot.get_n(k, 3) != before.get_n(k, 3)
        )
        pages = [(await ask(StatusPage(ring), f"key={k}")).text for k in (moved, same, after_it)]

    assert "The last change moved it. Before that:" in pages[0]
    assert re.findall(r"<li>(web-\d) ", pages[0])[3] == before.get(moved).name
    assert "The owner was the same before the last change.<" in pages[1]
    assert "and who comes after it was not:" in pages[2]


# --- hostile


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "web-\u202etxt.exe\u0000\u001b[31m",
    "&amp;lt;",
    "a" * 5_000,
    "{{7*7}}${7*7}",
]


async def test_hostile_names_zones_and_errors_are_text() -> None:
    """
    Nothing that others name becomes markup, is read as something else, or makes the page large.
    """
    pods = [Endpoint(name, f"10.0.0.{n + 1}", 80, zone=name) for n, name in enumerate(HOSTILE)]
    async with ring_and_resolver(*pods[:-1]) as (ring, resolver):
        resolver.answer(*pods)
        await ring.refresh()
        resolver.outcome = ServerFailure(" ".join(HOSTILE))
        await until_state(ring, "stale")
        ring.eject(pods[0], 60)
        for query in ("", "key=%3Cscript%3Ealert(1)%3C/script%3E%22%27%3E"):
            answer = await ask(StatusPage(ring), query)
            page = Checked(answer.text)
            assert len(page.all("script")) == 1
            assert len(page.all("style")) == 1
            assert not page.all("img")
            assert not [
                n for _, names in page.found for n in names if n.startswith("on") or n == "style"
            ]
            assert not re.search("[\u202e\x00\x1b]", answer.text)
            assert "a" * 1_001 not in answer.text
        told = (await ask_json(StatusPage(ring))).ring
        assert {e["name"] for e in told["endpoints"]} == set(HOSTILE)


async def test_a_key_is_shown_as_text_in_its_field() -> None:
    key = "\"><script>alert('1')</script>"
    async with Ring.static(PODS) as ring:
        answer = await ask(StatusPage(ring), "key=" + "".join(f"%{b:02x}" for b in key.encode()))

    (field,) = Checked(answer.text).all("input")
    assert field["value"] == key
    assert html.escape(key) in answer.text


def test_what_cannot_be_seen_is_shown_as_such() -> None:
    assert (
        escaped("a\nb\u200b\ud800")
        == "a\N{REPLACEMENT CHARACTER}b" + "\N{REPLACEMENT CHARACTER}" * 2
    )
    assert escaped("abcdef", 4) == "abc…"


# --- what a browser may do with it


async def test_a_browser_may_run_what_is_in_the_page_and_nothing_else() -> None:
    async with Ring.static(PODS) as ring:
        app = StatusPage(ring)
        first, second = await ask(app), await ask(app)

    policy = dict(
        each.strip().partition(" ")[::2]
        for each in first.headers["content-security-policy"].split(";")
    )
    page = Checked(first.text)
    (script,), (style,) = page.all("script"), page.all("style")
    nonce = f"'nonce-{script['nonce']}'"
    assert script["nonce"] == style["nonce"]
    assert policy == {
        "default-src": "'none'",
        "script-src": nonce,
        "style-src": nonce,
        "connect-src": "'self'",
        "img-src": "data:",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert nonce not in second.headers["content-security-policy"]
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["referrer-policy"] == "no-referrer"
    # Nothing leads elsewhere.
    links = [
        v for _, names in page.found for n, v in names.items() if n in ("href", "src", "action")
    ]
    assert links == ["data:,"]


async def test_a_page_can_be_read_without_seeing_it() -> None:
    async with ring_and_resolver() as (ring, _):
        page = Checked((await ask(StatusPage(ring), "key=a")).text)

    assert all("scope" in names for names in page.all("th"))
    (label,), (field,) = page.all("label"), page.all("input")
    assert label["for"] == field["id"]
    (picture,) = [names for names in page.all("svg") if names.get("role") == "img"]
    assert all("aria-hidden" in names for names in page.all("svg") if names is not picture)
    named = [names.get("aria-labelledby") for _, names in page.found]
    for identity in " ".join(filter(None, named)).split():
        assert identity in page.ids
    assert page.all("html")[0]["lang"] == "en"
    assert [names["role"] for _, names in page.found if "role" in names].count("status") == 2


# --- how it is asked


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_nothing_but_reading_is_allowed(method: str) -> None:
    async with Ring.static(PODS) as ring:
        answer = await ask(StatusPage(ring), method=method)

    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("accept", ["", "application/json"])
async def test_head_is_get_without_a_body(accept: str) -> None:
    async with Ring.static(PODS) as ring:
        got = await ask(StatusPage(ring), accept=accept)
        head = await ask(StatusPage(ring), accept=accept, method="HEAD")

    assert head.text == ""
    assert head.status == got.status
    assert head.headers.keys() == got.headers.keys()


@pytest.mark.parametrize(
    ("path", "root_path", "status"),
    [
        ("/", "", 200),
        ("", "", 200),
        ("/knet", "/knet", 200),
        ("/knet/", "/knet", 200),
        ("/a/knet/", "/a/knet/", 200),
        ("/", "/behind/a/proxy", 200),
        ("/knet/favicon.ico", "/knet", 404),
        ("/knetted", "/knet", 404),
        ("/../etc/passwd", "", 404),
    ],
)
async def test_it_is_one_page_wherever_it_is_mounted(
    path: str, root_path: str, status: int
) -> None:
    async with Ring.static(PODS) as ring:
        answer = await ask(StatusPage(ring), path=path, root_path=root_path)

    assert answer.status == status


async def test_a_websocket_is_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("it waits for nothing")

    async with Ring.static(PODS) as ring:
        scope = {"type": "websocket", "path": "/", "headers": []}
        await StatusPage(ring)(scope, receive, send)

    assert [message["type"] for message in sent] == ["websocket.close"]


def test_mounted_in_an_application_it_finds_the_ring_by_name() -> None:
    app = FastAPI(lifespan=ring_lifespan("web.prod", resolver=StaticResolver(PODS)))
    app.mount("/knet", StatusPage())
    app.mount("/other", StatusPage("other"))

    with TestClient(app) as client:
        for path in ("/knet", "/knet/"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert "web.prod" in answer.text
        assert client.get("/knet/more").status_code == 404
        assert client.post("/knet/").status_code == 405
        assert client.get("/other").status_code == 503
    assert TestClient(app).get("/knet").status_code == 503


def test_alone_it_takes_part_in_the_lifespan() -> None:
    with TestClient(StatusPage(lambda: None)) as client:
        assert client.get("/").status_code == 503


async def test_several_rings_are_on_one_page() -> None:
    """
    While one of them is not there the status says so, and the other is shown.
    """
    async with Ring.static(PODS, service="one") as one, Ring.static(PODS, service="two") as two:
        both = await ask(StatusPage(one, two), "key=a")
        told = await ask_json(StatusPage(one, two), "key=a")
        half = await ask(StatusPage(one, "two"))

    assert both.status == 200
    page = Checked(both.text)
    assert len(page.ids) == len(set(page.ids))
    assert len(page.all("section")) == 2
    assert [ring["name"] for ring in told.json()["rings"]] == ["one", "two"]
    assert told.json()["rings"][0]["lookup"] == told.json()["rings"][1]["lookup"]
    assert half.status == 503
    assert len(Checked(half.text).all("section")) == 2


@pytest.mark.parametrize("given", [7, None, PODS])
def test_what_is_no_ring_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="ring must be a Ring, a function or a name"):
        StatusPage("ring", given)


# --- many


@pytest.mark.parametrize("placement", [HashRing, Rendezvous, Maglev])
async def test_a_thousand_pods_come_in_parts_with_turns_for_the_others(
    placement: Callable[..., Any],
) -> None:
    """
    Whoever else runs gets a turn after every few rows, and nothing is sent in one piece.
    """
    many = [Endpoint(f"web-{n:04}", f"10.1.{n // 250}.{n % 250 + 1}", 80) for n in range(1_000)]
    resolver = StaticResolver(many)
    async with Ring("web.prod", resolver=resolver, placement=placement) as ring:
        ring.eject(many[500], 60)
        app, turns, is_over = StatusPage(ring), 0, False

        async def others() -> None:
            nonlocal turns
            while not is_over:
                turns += 1
                await checkpoint()

        for accept in ("", "application/json"):
            turns, is_over = 0, False
            answers = list[Answer]()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(others)
                answers.append(await ask(app, accept=accept))
                is_over = True
            (answer,) = answers
            assert turns > 40
            assert len(answer.messages) > 8
            assert max(len(each.get("body", b"")) for each in answer.messages) < 64_000
            assert len(answer.text) < 600_000
        told = await ask_json(app)

    assert len(told.ring["endpoints"]) == 1_000


async def test_of_more_than_a_thousand_the_table_has_the_first() -> None:
    many = [
        Endpoint(f"web-{n:04}", f"10.1.{n // 250}.{n % 250 + 1}", 80) for n in range(MOST_ROWS + 20)
    ]
    async with Ring.static(many) as ring:
        ring.eject(many[-1], 60)
        page = (await ask(StatusPage(ring))).text
        told = await ask_json(StatusPage(ring))

    assert page.count('<th scope="row">') == MOST_ROWS
    assert many[-1].name in page
    assert "20 more, which JSON has." in page
    assert len(told.ring["endpoints"]) == MOST_ROWS + 20


# --- the picture and its words


def test_a_picture_covers_the_ring_and_stays_small() -> None:
    """
    However many pods there are.
    """
    for count in (1, 2, 3, 60, 1_000):
        many = [Endpoint(f"web-{n}", f"10.1.{n // 250}.{n % 250 + 1}") for n in range(count)]
        snapshot = knet.Snapshot(HashRing(many))
        parts = taken(parting(snapshot))
        assert len(parts.cells) == CELLS
        assert sum(parts.shares) == pytest.approx(1)
        step = 2**64 // CELLS
        for cell in (0, 100, CELLS - 1):
            owner = snapshot.placement.get_hash(step * cell + step // 2)
            assert snapshot.endpoints[parts.cells[cell]] == owner
        text = "".join(drawing(Facts(name="web", snapshot=snapshot, parts=parts), 0))
        arcs = re.findall(r'class="band" d="([^"]+)"', text)
        assert len(arcs) == len(set(parts.cells))
        assert len(text) < 70_000
        Checked(text)


def taken(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def test_numbers_are_short() -> None:
    assert [percent(x) for x in (0, 0.331, 0.04851, 0.00104, 1)] == [
        *("0 %", "33.1 %", "4.85 %", "0.104 %", "100.0 %"),
    ]
    assert [lasting(x) for x in (0.2, 119, 120, 7_199, 7_200, 200_000, 10**6)] == [
        *("0 s", "119 s", "2 min", "120 min", "2 h", "56 h", "12 days"),
    ]
    assert [ago(x) for x in (0.5, 3.2)] == ["just now", "3 s ago"]
