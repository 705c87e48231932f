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


@pytest.mark.sampled(2)
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
        "4/6 a pod dies; call",
        "5/6 a pod restarts; call",
        "6/6 DNS is down",
    ]
    assert "\x1b" not in out


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("width", "height", "no_color"),
    [(80, 24, False), (120, 40, False), (80, 12, False), (40, 24, True), (40, 12, True)],
)
def test_the_live_picture_fits_the_terminal(
    backend: Backend, width: int, height: int, no_color: bool
) -> None:
    """
    Pods show at any size, and how many more there are; the last picture stays when the demo has ended.
    """
    screen = io.StringIO()
    console = Console(
        file=screen,
        force_terminal=True,
        width=width,
        height=height,
        color_system=None,
        no_color=no_color,
    )
    with LiveView(console) as view:
        outcome = loop.run(lambda: demo.play(view, pods=12, seconds=2), backend)

    assert judge(outcome.acts) == ()
    while_on, _, left = screen.getvalue().partition("\x1b[?1049l")
    live = [_ESCAPES.sub("", line) for line in while_on.split("\x1b[H")[-1].splitlines()]
    kept = [
        _ESCAPES.sub("", line) for line in left.strip("\n").splitlines() if _ESCAPES.sub("", line)
    ]
    for picture, lines in ((live, height), (kept, height - 1)):
        assert len(picture) == lines
        assert {len(line) for line in picture} == {width}
        assert "6/6 DNS is" in picture[0]
        assert any("ring fresh  generation 5" in line for line in picture)
        assert any("requests answered" in line for line in picture)
        pods = sum("│ web-" in line for line in picture)
        assert pods >= 3
        assert (pods < 11) == any("more" in line for line in picture)
    keys = next((line for line in live if "keys" in line and "by their pod" in line), "")
    assert bool(keys) == (no_color and height > 12)


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
