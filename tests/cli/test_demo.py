"""
`knet demo`, played in full.
"""

from __future__ import annotations

import dataclasses
import io
import re
import signal
import sys

import pytest
from rich.console import Console

from knet.cli import demo, loop
from knet.cli.demo.screen import LiveView, View
from knet.cli.demo.verdict import Act, judge
from knet.cli.loop import Backend
from tests.cli.commands import finish, run, start

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_ALL_WAS_RIGHT = "All was right: no failed pick, no wrong pod, no key moved without cause."

_STEADY = Act(
    title="steady",
    before={"user-1": "web-0"},
    after={"user-1": "web-0"},
    pods_before=frozenset({"web-0"}),
    pods_after=frozenset({"web-0"}),
    answered=1,
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_demo_is_right_from_end_to_end(backend: str) -> None:
    """
    On a pipe it prints lines, ends by itself, and exits with 0.
    """
    code, out, err = finish(start("demo", "--seconds", "2", "--backend", backend))

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == _ALL_WAS_RIGHT
    assert [line for line in lines if line[:2] in {f"{n}/" for n in range(1, 7)}] == [
        "1/6 steady",
        "2/6 a pod joins",
        "3/6 a pod dies",
        "4/6 a pod dies; refresh",
        "5/6 a pod restarts",
        "6/6 DNS is down",
    ]
    assert "\x1b" not in out


@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent there")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_ends_the_demo_quietly(backend: str) -> None:
    """
    Pods, DNS server and ring are gone without a word on standard error.
    """
    process = start("demo", "--plain", "--seconds", "60", "--backend", backend)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)

    assert (code, err) == (130, "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_live_picture_fits_a_small_terminal(backend: Backend) -> None:
    """
    80 x 24 shows pods, keys and news, whatever the number of pods; and it leaves nothing behind.
    """
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=24, color_system=None)
    with LiveView(console) as view:
        outcome = loop.run(lambda: demo.play(view, pods=12, seconds=2), backend)

    assert judge(outcome.acts) == ()
    frames = screen.getvalue().split("\x1b[H")[1:]
    last = [_ESCAPES.sub("", line) for line in frames[-1].splitlines()]
    assert "6/6 DNS is down" in last[0]
    assert any("ring fresh  generation 5" in line for line in last)
    assert any("requests answered" in line for line in last)
    assert any("more" in line for line in last)
    assert len(last) == 24
    assert {len(line) for line in last} == {80}


@pytest.mark.parametrize(
    ("act", "code", "reason"),
    [
        (_STEADY, 0, ""),
        (dataclasses.replace(_STEADY, wrong=1), 1, "knet: steady: 1 requests were answered by"),
        (dataclasses.replace(_STEADY, failed_gets=2), 1, "knet: steady: 2 picks failed\n"),
    ],
)
def test_the_exit_code_is_the_verdict(
    monkeypatch: pytest.MonkeyPatch, act: Act, code: int, reason: str
) -> None:
    """
    1 where anything was not as promised, with the reason on standard error.
    """

    async def play(view: View, *, pods: int, seconds: float) -> demo.Played:
        return demo.Played((act,), ("a note",))

    monkeypatch.setattr(demo, "play", play)
    result = run("demo")

    assert result.exit_code == code
    assert result.stderr.startswith(reason)
    assert (_ALL_WAS_RIGHT in result.stdout) == (code == 0)
    assert "a note" in result.stdout
