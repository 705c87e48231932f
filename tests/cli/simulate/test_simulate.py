"""
`knet simulate`, as it is called: tables, JSON, pictures, and what it refuses.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from knet.cli.simulate import SIMULATED, Report, Wanted, show, simulate
from knet.cli.simulate import simulation as module
from knet.hashring import HashRing
from tests.cli.commands import finish, run, start
from tests.hosts.documents import ROOT

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
FEW = ("--keys", "2000")
SCALED = ("simulate", "--scale", "12", *FEW)


def report(*args: str) -> dict[str, Any]:
    """
    Return what `--json` gives.
    """
    result = run("simulate", *args, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_tables_say_what_json_says() -> None:
    """
    The numbers of the first placement, as they are printed.
    """
    found = report("--scale", "12", *FEW)["placements"][0]

    text = run(*SCALED).stdout

    assert text.startswith("10 pods to 12\n2,000 keys, all alike; seed 0\n")
    moved = f"hashring   {found['moved']:,}"
    assert any(line.split()[:2] == moved.split() for line in text.splitlines())
    assert f"{found['busiest_after']['requests']:.2f}" in text
    assert "\x1b" not in text


def test_json_has_what_the_help_says() -> None:
    found = report("--rolling", "statefulset", "--bound", "1.5", *FEW, "--pods", "3")

    assert found["change"] == "rolling update of a StatefulSet of 3 pods"
    assert (found["pods_before"], found["pods_after"], found["keys"]) == (3, 3, 2000)
    (placement,) = found["placements"]
    assert len(placement["steps"]) == 6
    assert placement["net"] == 2000
    assert placement["moved"] == sum(step["moved"] for step in placement["steps"]) == 4000
    assert sum(placement["requests_by_pod"]) == pytest.approx(1)
    assert found["bounded"][0]["placement"] == "hashring"
    assert found["in_flight"] == 30
    assert [each["source"] for each in found["news"]] == [
        *("DNS, TTL 5 s", "DNS, TTL 30 s", "EndpointSlices")
    ]
    assert found["costs"][-1]["watches"] == found["clients"] == 100


@pytest.mark.long
def test_error_bars_stand_beside() -> None:
    """
    Of as many clusters as are wanted, 19 if nobody says; and the exact figures do not depend on them.
    """
    usual, none, few = (
        report("--scale", "12", *FEW, *more) for more in ((), ("--draws", "0"), ("--draws", "3"))
    )

    assert [len(each["bars"]) for each in (usual, none, few)] == [1, 0, 1]
    assert (usual["bars"][0]["draws"], usual["bars"][0]["coverage"]) == (19, 0.9)
    assert few["bars"][0]["draws"] == 3
    assert usual["placements"] == none["placements"]
    moved, bars = usual["placements"][0]["net"], usual["bars"][0]["net"]
    assert 0.5 * moved < bars["low"] < bars["high"] < 2 * moved
    text = run(*SCALED, "--draws", "3").stdout
    assert "Luck: the least and the most of 3 clusters, this one among them" in text
    assert "50% of clusters are within" in text
    assert "--draws 19 says how much" in run(*SCALED, "--draws", "0").stdout


def test_error_bars_that_would_take_long_have_to_be_asked_for() -> None:
    found = report("--pods", "5000", "--scale", "5001", "--keys", "100")

    assert found["bars"] == []


def test_without_a_change_nothing_moves() -> None:
    """
    And nobody has to hear of it.
    """
    found = report(*FEW)

    assert found["placements"][0]["steps"] == found["news"] == found["bounded"] == []
    assert found["bound"] is found["in_flight"] is None
    assert "move" not in run("simulate", *FEW).stdout


COSTS = re.findall(
    r"^\| ([\d,]+) \| ([\d,]+) \| (.+) \| (.+) \| (.+) \| (.+) \| (.+) \|$",
    (ROOT / "docs" / "simulate.md").read_text("utf-8"),
    re.MULTILINE,
)


@pytest.mark.long
@pytest.mark.parametrize("row", COSTS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_costs_in_the_docs_are_those_that_are_printed(row: tuple[str, ...]) -> None:
    clients, pods = (cell.replace(",", "") for cell in row[:2])

    lines = run("simulate", "--clients", clients, "--pods", pods, "--keys", "100").stdout
    by_dns, by_api = (
        re.split(r"  +", line)[1:]
        for line in lines.splitlines()
        if line.startswith(("DNS, TTL 5 s", "EndpointSlices  "))
    )

    assert (by_dns[0], by_dns[3], by_api[1], by_api[2], by_api[4]) == row[2:]


def test_the_docs_go_up_to_a_million_clients() -> None:
    assert ("1,000,000", "10,000") in [row[:2] for row in COSTS]


@pytest.mark.long
def test_the_same_seed_gives_the_same_output() -> None:
    args = ("--rolling", "deployment", "--zipf", "1", *FEW)

    assert run("simulate", *args).stdout == run("simulate", *args, "--seed", "0").stdout
    assert report(*args) != report(*args, "--seed", "1")


@pytest.mark.long
def test_another_process_gives_the_same_output() -> None:
    code, out, err = finish(start(*SCALED, "--json"))

    assert (code, err) == (0, "")
    assert json.loads(out) == report("--scale", "12", *FEW)


def test_placements_stand_side_by_side() -> None:
    names = [name for name in SIMULATED if name != "pymemcache"]
    chosen = [word for name in names for word in ("--placement", name)]

    found = report("--lose-zone", *chosen, "--keys", "500")

    assert [each["placement"] for each in found["placements"]] == names
    assert len({each["moved"] for each in found["placements"]}) > 3


def test_keys_of_a_file_are_those_of_a_ring(tmp_path: Path) -> None:
    """
    Bytes of a file are hashed as a program's text.
    """
    keys = [f"schlüssel {n}" for n in range(300)]
    file = tmp_path / "keys.txt"
    file.write_text("".join(f"{key}\t{n}\n" for n, key in enumerate(keys)), "utf-8")
    result = simulate(Wanted(pods=4, keys_file=file))

    placement = HashRing(result.plan.before)
    requests = dict.fromkeys(result.plan.before, 0)
    for n, key in enumerate(keys):
        requests[placement.get(key)] += n
    assert result.outcomes[0].after.requests == pytest.approx(
        [count / sum(range(300)) for count in requests.values()]
    )
    assert "300 keys of keys.txt" in run("simulate", "--keys-file", str(file)).stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--pods", "0"), "--pods must be from 1 to 10,000, got 0"),
        (("--scale", "10001"), "--scale must be from 1 to 10,000, got 10,001"),
        (("--keys", "0"), "--keys must be from 1 to 5,000,000, got 0"),
        (("--clients", "1000001"), "--clients must be from 1 to 1,000,000, got 1,000,001"),
        (("--draws", "2"), "--draws must be 0, or from 3 to 10,000, got 2"),
        (("--draws", "10001"), "--draws must be 0, or from 3 to 10,000, got 10,001"),
        (("--clients", "0"), "--clients must be from 1 to 1,000,000, got 0"),
        (("--placement", "best"), "--placement must be one of hashring, maglev"),
        (("--weights", "1,x"), "--weights must be numbers such as 1,1,2, got '1,x'"),
        (("--weights", ""), "--weights must be numbers such as 1,1,2, got ''"),
        (("--weights", "0"), "--weights: some pod must have a weight above 0"),
        (
            ("--weights", "1,0", "--pods", "2", "--rolling", "deployment", "--max-surge", "0"),
            "--weights: some",
        ),
        (
            ("--pods", "10000", "--rolling", "statefulset"),
            "take more pods at a time by --max-unavailable, 50",
        ),
        (("--weights", "0.5", "--placement", "envoy"), "must be a whole number, as in Envoy"),
        (("--scale", "5", "--lose-zone"), "--scale and --lose-zone are two changes"),
        (("--max-surge", "1"), "--max-surge is for --rolling"),
        (("--max-unavailable", "1"), "--max-unavailable is for --rolling"),
        (
            ("--rolling", "statefulset", "--max-surge", "1"),
            "--max-surge is for a Deployment: a StatefulSet makes no pod too many",
        ),
        (("--zones", "3"), "--zones is for --lose-zone"),
        (("--in-flight", "3"), "--in-flight is for --bound"),
        (("--bound", "1"), "a bound's factor must be above 1, got 1"),
        (("--bound", "2", "--in-flight", "100001"), "--in-flight must be from 1 to 100,000"),
        (("--keys-file", "/nowhere"), "--keys-file: cannot read /nowhere: No such file"),
        (("--keys-file", "/nowhere", "--zipf", "1"), "--keys-file has the keys: leave out --keys"),
        (("--hot", "1.5"), "--hot must be above 0 and below 1, got 1.5"),
        (("--plot", "out.pdf"), "--plot must end in .svg or .png, got 'out.pdf'"),
        (("--plot", "/nowhere/out.svg"), "--plot: there is no directory /nowhere"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(args: tuple[str, ...], said: str) -> None:
    """
    Before any work is done, with exit code 2.
    """
    result = run("simulate", *args)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("knet: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "args",
    [
        ("--pods", "1000", "--keys", "1000000", "--rolling", "statefulset"),
        ("--pods", "10000", "--placement", "pymemcache"),
        ("--pods", "10000", "--bound", "1.5", "--placement", "rendezvous", "--keys", "2000000"),
    ],
)
def test_what_would_take_too_long_is_refused(args: tuple[str, ...]) -> None:
    """
    It says how long it would be, and what to do.
    """
    result = run("simulate", *args)

    assert result.exit_code == 2
    assert "minutes, and the most is 10: take fewer keys" in result.stderr


@pytest.mark.sampled(6)
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(keys=500),
        Wanted(keys=500, scale=12, placements=tuple(SIMULATED.keys() - {"pymemcache"})),
        Wanted(keys=5000, zipf=2, pods=10_000, scale=9_000, clients=1_000_000, hot=0.5),
        Wanted(keys=500, rolling="deployment", bound=1.25, clients=1_000_000, pods=200),
        Wanted(keys=500, rolling="statefulset", placements=("hashring", "envoy-maglev")),
        Wanted(keys=500, lose_zone=True, pods=5_000, clients=1),
    ],
    ids=["stay", "placements", "large", "rolling", "statefulset", "zone"],
)
def test_it_fits_the_terminal(width: int, wanted: Wanted) -> None:
    """
    No line is wider than 80 columns, in whatever terminal, and its colours are no part of it.
    """
    found = simulate(wanted)
    plain, coloured = shown(found, None), shown(found, width)

    assert max(map(len, plain.splitlines())) <= 80
    assert "\x1b[1m" in coloured
    assert _ESCAPES.sub("", coloured) == plain


def shown(found: Report, width: int | None) -> str:
    """
    Return what is printed on a pipe, or on a terminal as wide as this.
    """
    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        if width:
            patch.setenv("FORCE_COLOR", "1")
            patch.setenv("COLUMNS", str(width))
        show(found)
    return screen.getvalue()


@pytest.mark.long
def test_every_step_is_shown_where_there_are_few() -> None:
    few = run("simulate", "--rolling", "deployment", *FEW).stdout
    many = run("simulate", "--rolling", "statefulset", *FEW, "--pods", "11").stdout

    assert "1. 2 leave" in few
    assert "5. 3 leave" in few
    assert "--json" not in few
    assert "1. " not in many
    assert many.count("--json and --plot have every step.") == 1


@pytest.mark.long
def test_pods_that_an_answer_cannot_hold_are_told() -> None:
    said = "An answer of DNS holds {} pods: the others are missing from it."

    assert said.format("4,093") in run("simulate", "--pods", "4094", *FEW).stdout
    assert "An answer" not in run("simulate", "--pods", "4093", *FEW).stdout
    rolling = ("--rolling", "statefulset", "--max-unavailable", "50%")
    assert said.format("896") in run("simulate", "--pods", "897", *rolling, *FEW).stdout


def test_without_matplotlib_a_line_says_what_to_install(tmp_path: Path) -> None:
    """
    Before the work; and without `--plot` it is not missed.
    """
    hidden = "import sys; sys.modules['matplotlib'] = None"
    args = ("simulate", *FEW)

    code, out, err = finish(start(*args, "--plot", str(tmp_path / "a.svg"), code=hidden))

    assert (code, out) == (1, "")
    assert err == "knet: --plot: matplotlib is missing: pip install 'knet-ring[cli,plot]'\n"
    assert finish(start(*args, code=hidden))[0] == 0


@pytest.mark.sampled(2)
@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent there")
@pytest.mark.parametrize("args", [("--scale", "11"), ("--bound", "1.5", "--in-flight", "9000")])
def test_ctrl_c_ends_it_quietly(args: tuple[str, ...]) -> None:
    """
    In the middle of the work: no table, no traceback.
    """
    # It sends the signal itself, once the work has begun.
    code = (
        "import os, signal\n"
        "from knet.cli.simulate import simulation\n"
        "told = simulation._sent if {bound} else simulation._looked_up\n"
        "def stop(*args):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    told(*args)\n"
        "simulation.{name} = stop"
    ).format(bound="--bound" in args, name="_sent" if "--bound" in args else "_looked_up")
    process = start("simulate", *FEW, *args, code=code)

    assert finish(process) == (130, "", "")


def test_a_bar_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    On standard error, and all of the work is done in the end.
    """
    screen = io.StringIO()
    monkeypatch.setattr(
        module,
        "Console",
        lambda stderr: Console(file=screen, force_terminal=True, width=80, height=24),
    )

    simulate(Wanted(scale=12, bound=1.5, keys=2000), progress=True)

    assert "simulating" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")


@pytest.mark.long
def test_the_work_that_is_told_is_the_work_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[float] = []
    works: list[float] = []

    class Bar:
        def __init__(self, work: float) -> None:
            works.append(work)

        def __enter__(self) -> Any:
            return done.append

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(module, "_Bar", Bar)
    simulate(
        Wanted(rolling="deployment", bound=1.5, keys=2000, placements=("hashring", "rendezvous")),
        progress=True,
    )

    assert sum(done) == pytest.approx(works[0])
