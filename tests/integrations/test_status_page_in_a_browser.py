"""
The page that shows rings in a real browser: it is live, fits a telephone, and breaks no policy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI

import knet
from knet import RefreshPolicy
from knet.integrations.asgi import StatusPage, ring_lifespan
from knet.testing import HeadlessService

from .served import served

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

QUICK = RefreshPolicy(interval=0.1, min_interval=0.05, retry=0.1, confirm=1, jitter=0)
SERVICE = "web.prod.svc.cluster.local"
# Milliseconds.
WITHIN = 30_000

# What a policy forbids is told to the page, and only partly to the console.
VIOLATIONS = """
addEventListener("securitypolicyviolation", event => console.error("violation", event.violatedDirective));
"""


def app_of(service: HeadlessService) -> FastAPI:
    resolver = knet.Resolver(nameservers=[service.nameserver])
    app = FastAPI(
        lifespan=ring_lifespan(SERVICE, port="http", resolver=resolver, refresh=QUICK, me="web-0")
    )
    app.mount("/below/knet", StatusPage("ring"))

    @app.post("/eject/{name}")
    async def eject(name: str) -> bool:
        ring: knet.Ring = app.state.ring
        pod = ring.snapshot.find(name)
        assert pod is not None
        return ring.eject(pod, 60)

    return app


@dataclass
class Shown:
    """
    What is behind a page.
    """

    service: HeadlessService
    browser: Any
    base: str
    complaints: list[str]

    @property
    def url(self) -> str:
        return f"{self.base}/below/knet/"

    def page(self, **options: Any) -> Any:
        """
        Open a page of its own, whose complaints are heard.
        """
        page = self.browser.new_page(**options)
        page.set_default_timeout(WITHIN)
        page.add_init_script(VIOLATIONS)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page


@contextmanager
def browsing() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Who tests in a container is root.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def shown(pods: int = 3) -> Iterator[Shown]:
    """
    A page of so many pods, and a browser that has not complained at the end.
    """
    with (
        browsing() as browser,
        HeadlessService(SERVICE, pods=pods, stateful=True) as service,
        served(app_of(service)) as base,
    ):
        behind = Shown(service, browser, base, [])
        yield behind
        assert behind.complaints == []


def is_wider_than_the_screen(page: Any) -> bool:
    too_wide: bool = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return too_wide


def test_it_is_live_without_a_reload() -> None:
    """
    A pod that joins, one that is ejected, and an outage are seen as they come; what was typed and
    where one was stays.
    """
    expect = sync_api.expect
    with shown() as behind:
        page = behind.page()
        page.goto(behind.url)
        page.evaluate("window.isTheSame = true")
        expect(page.locator("#live")).to_have_text("Live,", timeout=WITHIN)
        expect(page.locator(".ring .many")).to_have_text("3")
        page.get_by_label("Who owns this key?").fill("user-4")

        behind.service.scale(5)
        expect(page.locator(".ring .many")).to_have_text("5", timeout=WITHIN)
        expect(page.locator("#rows-0 tr")).to_have_count(5)
        expect(page.locator("#changes-0")).to_contain_text("+ web-3")

        page.request.post(f"{behind.base}/eject/web-4")
        expect(page.locator("tr.out")).to_contain_text("web-4", timeout=WITHIN)
        expect(page.locator(".ring .out")).to_have_text("1 ejected")
        assert page.locator('.ring path[stroke="url(#hatch-0)"]').count() > 1

        behind.service.fail("SERVFAIL")
        expect(page.get_by_role("status").last).to_have_text("stale", timeout=WITHIN)
        expect(page.locator("#why-0")).to_contain_text("SERVFAIL")

        page.keyboard.type("2")
        expect(page.get_by_label("Who owns this key?")).to_have_value("user-42")
        assert page.evaluate("window.isTheSame")


def test_it_says_when_nobody_answers_any_more() -> None:
    """
    What is shown is old then, and says of when.
    """
    with browsing() as browser:
        with (
            HeadlessService(SERVICE, pods=3) as service,
            served(app_of(service)) as base,
        ):
            page = browser.new_page()
            page.goto(f"{base}/below/knet/")
            sync_api.expect(page.locator("#live")).to_have_text("Live,", timeout=WITHIN)
        sync_api.expect(page.locator(".clock")).to_contain_text(
            "No answer from here since", timeout=WITHIN
        )


def test_the_keyboard_is_enough() -> None:
    with shown(pods=40) as behind:
        page = behind.page()
        page.goto(behind.url)
        focused = "document.activeElement.{}"

        page.keyboard.press("Tab")
        assert page.evaluate(focused.format("id")) == "key"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.type("user-42")
        page.keyboard.press("Tab")
        assert page.evaluate(focused.format("textContent")) == "Find"
        page.keyboard.press("Enter")
        page.wait_for_url("**/below/knet/?key=user-42")
        sync_api.expect(page.locator(".answer li")).to_have_count(3)
        sync_api.expect(page.get_by_label("Who owns this key?")).to_have_value("user-42")

        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate(focused.format("className")) == "scroll"
        page.keyboard.press("End")
        page.wait_for_function("document.activeElement.scrollTop > 0")


def test_it_works_without_a_script() -> None:
    with shown() as behind:
        page = behind.page(java_script_enabled=False)
        page.goto(f"{behind.url}?key=user-42")

        sync_api.expect(page.locator(".answer li")).to_have_count(3)
        sync_api.expect(page.locator(".clock")).to_contain_text("Reload for news")


@pytest.mark.parametrize("pods", [3, 300])
def test_it_fits_a_telephone(pods: int) -> None:
    """
    Whatever the pods are called, nobody scrolls sideways.
    """
    with shown(pods) as behind:
        behind.service.add("a-name-that-is-" + "-".join(["long"] * 9))
        for width in (320, 400, 1280):
            page = behind.page(viewport={"width": width, "height": 800})
            page.goto(f"{behind.url}?key={'k' * 2_000}")
            sync_api.expect(page.locator("#live")).to_have_text("Live,", timeout=WITHIN)
            sync_api.expect(page.locator("#rows-0")).to_contain_text("long-long", timeout=WITHIN)
            assert not is_wider_than_the_screen(page)
            page.close()


def test_it_is_dark_where_the_reader_is() -> None:
    """
    By the reader's setting, with what is written in contrast to what it is written on.
    """
    lightness: dict[str, list[float]] = {}
    with shown() as behind:
        for scheme in ("light", "dark"):
            page = behind.page(color_scheme=scheme)
            page.goto(behind.url)
            colours = page.evaluate(
                "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])"
            )
            lightness[scheme] = [
                sum(float(part) for part in colour.strip("rgb()").split(",")) for colour in colours
            ]
            page.close()

    assert lightness["light"][0] > 650 > 200 > lightness["light"][1]
    assert lightness["dark"][0] < 100 < 600 < lightness["dark"][1]
