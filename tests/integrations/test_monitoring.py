"""
docs/monitoring: its table, its rules and its dashboard name what there is, and a real Prometheus takes them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from knet import RefreshPolicy, Ring
from knet.integrations.prometheus import RingCollector
from knet.integrations.readings import METRICS
from tests.fakes import A, B, C, D, FakeResolver
from tests.waiting import until_state

from .scraping import ALERTS, scraping

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "monitoring.md"
DASHBOARD = ROOT / "docs" / "monitoring" / "dashboard.json"
ALERTS_TEST = Path(__file__).with_name("alerts_test.yml")

PROMTOOL = shutil.which("promtool")
QUICK = RefreshPolicy(interval=0.05, min_interval=0.02, retry=0.05, confirm=1, empty_hold=0.1)
WITHIN = 60.0

# To be looked up, and no curve.
NOT_DRAWN = {
    *("knet_ring_info", "knet_ring_generation", "knet_ring_changes_total"),
    *("knet_ring_failed_lookups_in_a_row", "knet_ring_source"),
}


def exposed() -> dict[str, set[str]]:
    """
    Return the labels of each series, by its name, as Prometheus sees it.
    """
    labels: dict[str, set[str]] = {}
    for metric, family in zip(METRICS, RingCollector(endpoints=True).describe(), strict=True):
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        own = {family.name} if family.type == "stateset" else set(metric.labels)
        labels[f"{family.name}{suffix}"] = {"service", "port", "ring", *own}
    return labels


def panels() -> list[dict[str, Any]]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def expressions() -> list[str]:
    of_panels = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*of_panels, *(rule["expr"] for rule in rules())]


# --- the documents


def test_the_table_names_every_metric() -> None:
    """
    In the order of the list, each with what OpenTelemetry calls it.
    """
    rows = re.findall(
        r"^\| `(knet_\w+)`.*\| `(knet\.[\w.]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE
    )

    assert rows == list(zip(exposed(), (f"knet.{m.name}" for m in METRICS), strict=True))


def test_the_table_names_every_alert() -> None:
    shown = re.findall(r"^\| `(Knet\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)

    assert shown == [rule["alert"] for rule in rules()]


@pytest.mark.parametrize("expression", expressions())
def test_what_is_asked_for_is_there(expression: str) -> None:
    """
    Every series of the dashboard and of the rules is exposed, with the labels that are chosen by.
    """
    series = exposed()
    by = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
    rest = re.sub(r"by \([^)]*\)", "", expression)
    named = re.findall(r"(knet_\w+)(?:\{([^}]*)\})?", rest)
    assert named
    for name, selector in named:
        chosen = set(re.findall(r"(\w+)!?=", selector))
        assert by | chosen <= series[name], name


def test_the_dashboard_is_whole() -> None:
    """
    No panel lies over another one, and each says what it shows.
    """
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert all(panel["description"].endswith(".") and panel["targets"] for panel in panels())
    drawn = " ".join(expressions())
    assert {name for name in exposed() if name not in drawn} == NOT_DRAWN


def test_every_panel_can_be_read() -> None:
    """
    It has a unit, says what it shows, names each of its curves, and asks the Prometheus that is chosen above it.
    """
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    (choice,) = (v for v in dashboard["templating"]["list"] if v["type"] == "datasource")
    assert (choice["name"], choice["query"]) == ("datasource", "prometheus")
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len(panel["description"].split()) > 2, panel["title"]
        targets = panel["targets"]
        assert all(each["datasource"] == chosen for each in (panel, *targets)), panel["title"]
        assert all(target["legendFormat"] for target in targets), panel["title"]
        assert len({target["refId"] for target in targets}) == len(targets), panel["title"]


def test_the_dashboard_is_one_by_the_models_of_grafana() -> None:
    """
    They read all of it: what they write again is the same, and they know its units.
    """
    plugins: Any = pytest.importorskip("grafana_foundation_sdk.cog.plugins")
    encoder: Any = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    models: Any = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    units: Any = pytest.importorskip("grafana_foundation_sdk.models.units")
    plugins.register_default_plugins()
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))

    read = models.Dashboard.from_json(dashboard)

    again = json.loads(encoder.JSONEncoder(sort_keys=True).encode(read))
    assert missing(dashboard, again) == []
    used = {panel["fieldConfig"]["defaults"]["unit"] for panel in panels()}
    assert used <= {value for value in vars(units).values() if isinstance(value, str)}


def missing(given: Any, again: Any, at: str = "") -> list[str]:
    """
    Return what of *given* is not in *again*, which may have defaults beside it.
    """
    if isinstance(given, dict) and isinstance(again, dict):
        return [
            each
            for name, value in given.items()
            for each in missing(value, again.get(name), f"{at}.{name}")
        ]
    if isinstance(given, list) and isinstance(again, list) and len(given) == len(again):
        return [
            each
            for number, (value, other) in enumerate(zip(given, again, strict=True))
            for each in missing(value, other, f"{at}[{number}]")
        ]
    return [] if given == again else [f"{at}: {given!r} became {again!r}"]


# --- the tools of Prometheus


@pytest.fixture
def promtool() -> Callable[..., None]:
    """
    What runs promtool, which must be content.
    """
    if PROMTOOL is None:
        pytest.skip("promtool is not installed")
    tool = PROMTOOL

    def run(*words: str | Path, given: bytes = b"") -> None:
        command = [tool, *map(str, words)]
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=WITHIN, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # Of metrics it finds what is against the conventions, and calls that no failure.
        assert words[:2] != ("check", "metrics") or not done.stdout + done.stderr

    return run


def test_the_rules_are_rules(promtool: Callable[..., None]) -> None:
    promtool("check", "rules", ALERTS)


def test_the_rules_fire_when_they_should(promtool: Callable[..., None]) -> None:
    promtool("test", "rules", ALERTS_TEST)
    tested = {
        each["alertname"]
        for case in yaml.safe_load(ALERTS_TEST.read_text("utf-8"))["tests"]
        for each in case["alert_rule_test"]
        if each.get("exp_alerts")
    }
    assert tested == {rule["alert"] for rule in rules()}


async def test_the_exposition_keeps_the_conventions(promtool: Callable[..., None]) -> None:
    registry = CollectorRegistry()
    async with Ring.static(["10.0.0.1", "10.0.0.2"]) as ring:
        registry.register(RingCollector(ring, endpoints=True))
        promtool("check", "metrics", given=generate_latest(registry))


# --- a real Prometheus


@pytest.mark.sampled(2)
async def test_a_real_prometheus_follows_a_ring(tmp_path: Path) -> None:
    """
    A pod dies under requests, leaves and another one joins; then nobody is there, and an alert is pending.
    """
    resolver = FakeResolver(A, B, C)

    async def serve(pod: Any) -> None:
        if pod == dead:
            raise ConnectionRefusedError(111, "refused")

    async with Ring("web.prod", port=80, resolver=resolver, refresh=QUICK) as ring:
        dead = await ring.get("user-42")
        collector = RingCollector(ring, endpoints=True)
        async with scraping({"app": collector}, tmp_path) as prometheus:
            await prometheus.until("knet_ring_endpoints", 3)
            await prometheus.until('knet_ring_state{knet_ring_state="fresh"}', 1)
            await prometheus.until("sum by (service) (knet_endpoint_share_ratio)", 1)
            assert await prometheus.query("knet_ring_digest") == [
                (
                    {
                        "__name__": "knet_ring_digest",
                        "service": "web.prod",
                        "port": "80",
                        "ring": "1",
                        "job": "app",
                        "instance": "app",
                    },
                    int(ring.snapshot.digest[:13], 16),
                )
            ]
            await ring.call("user-42", serve)
            await prometheus.until('knet_ring_failovers_total{kind="refused"}', 1)
            await prometheus.until("knet_ring_ejected_endpoints", 1)
            await prometheus.until(f'knet_endpoint_ejected{{name="{dead.name}"}}', 1)
            changes = ring.changes()
            resolver.answer(*{A, B, C, D} - {dead})
            await anext(changes)
            await prometheus.until("knet_ring_changes_total", 1)
            await prometheus.until("knet_ring_ejected_endpoints", 0)
            for expression in expressions():
                chosen = expression.replace("$service", ".*").replace("$ring", ".*")
                await prometheus.query(chosen.replace("$__rate_interval", "5m"))
            resolver.answer()
            await until_state(ring, "empty")
            await prometheus.until('ALERTS{alertname="KnetRingEmpty", alertstate="pending"}', 1)
            assert await prometheus.query('ALERTS{alertname="KnetRingStale"}') == []


@pytest.mark.long
async def test_a_real_prometheus_sees_two_opinions(tmp_path: Path) -> None:
    """
    Digests are compared as numbers, which hold all of their 52 bits.
    """
    async with (
        Ring("web.prod", resolver=FakeResolver(A, B), refresh=QUICK) as one,
        Ring("web.prod", resolver=FakeResolver(A, B), refresh=QUICK) as two,
        Ring("web.prod", resolver=FakeResolver(A, C), refresh=QUICK) as other,
    ):
        rings = {"1": one, "2": two}
        async with scraping({"app": RingCollector(lambda: rings)}, tmp_path) as prometheus:
            disagree = "max(knet_ring_digest) != min(knet_ring_digest)"
            opinions = 'count(count_values("digest", knet_ring_digest))'
            await prometheus.until("count(knet_ring_digest)", 2)
            await prometheus.until(opinions, 1)
            assert await prometheus.query(disagree) == []
            rings["3"] = other
            await prometheus.until("count(knet_ring_digest)", 3)
            await prometheus.until(opinions, 2)
            assert len(await prometheus.query(disagree)) == 1


@pytest.mark.long
@pytest.mark.parametrize(("honors", "label"), [(False, "exported_service"), (True, "service")])
async def test_a_label_of_the_target_goes_before_ours(
    tmp_path: Path, honors: bool, label: str
) -> None:
    """
    As of a ServiceMonitor, unless ours are honoured.
    """
    async with Ring.static(["10.0.0.1"], service="web.prod") as ring:
        target: dict[str, Any] = {"labels": {"service": "shop"}, "honor_labels": honors}
        async with scraping({"app": RingCollector(ring)}, tmp_path, **target) as prometheus:
            await prometheus.until(f'knet_ring_endpoints{{{label}="web.prod"}}', 1)
