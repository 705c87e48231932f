"""
When a watch tells what, and how long it waits for a server, on a virtual clock.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from knet.kubernetes.access import explicit
from knet.kubernetes.reflector import Reflector
from knet.kubernetes.slices import Slice, read_slice
from knet.kubernetes.source import Place, Told, _Telling
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = pytest.mark.anyio

SETTLE = 0.05
PROD = Place("prod", "", "cluster.local", knows_zone=True)


def slices(*addresses: str) -> Mapping[str, Slice]:
    """
    One slice, or none.
    """
    endpoints = [{"addresses": [address]} for address in addresses]
    told = {"addressType": "IPv4", "endpoints": endpoints}
    return {"a": read_slice(told)} if addresses else {}


class Telling:
    """
    What was told, and when, since it began.
    """

    def __init__(self) -> None:
        self.began = anyio.current_time()
        self.words: list[tuple[float, Told]] = []
        self._telling = _Telling(PROD, self._tell, SETTLE)
        self.heard = self._telling.heard
        self.run = self._telling.run

    def _tell(self, told: Told) -> None:
        self.words.append((round(anyio.current_time() - self.began, 3), told))

    @property
    def news(self) -> list[tuple[float, list[str] | None]]:
        return [
            (when, None if told.changed is None else sorted(told.changed))
            for when, told in self.words
        ]

    def addresses(self, service: str) -> list[list[str]]:
        """
        Who was told of a service, word for word.
        """
        found = [told.services.get(service) for _, told in self.words]
        return [
            [one.address for each in seen.slices for one in each.listed]
            + [one.address for _, one in seen.moving]
            if seen
            else []
            for seen in found
        ]


@asynccontextmanager
async def telling() -> AsyncIterator[Telling]:
    made = Telling()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run)
        yield made
        await anyio.sleep(5)
        tasks.cancel_scope.cancel()


async def test_the_first_word_has_all() -> None:
    async with telling() as it:
        it.heard({"web": slices("10.0.0.1"), "cart": slices("10.0.0.2")})
    assert it.news == [(0, None)]
    assert (it.addresses("web"), it.addresses("cart")) == ([["10.0.0.1"]], [["10.0.0.2"]])


async def test_of_an_empty_namespace_there_is_a_word_too() -> None:
    async with telling() as it:
        it.heard({})
        await anyio.sleep(1)
        it.heard({})
    assert it.news == [(0, None)]


async def test_a_busy_neighbour_delays_nobody() -> None:
    """
    What one service has to say is told together each 50 ms; what another says first is told at once.
    """
    async with telling() as it:
        it.heard({"web": slices("10.0.0.1"), "busy": slices("10.1.0.0")})
        await anyio.sleep(1)
        for number in range(12):
            it.heard({"busy": slices(*[f"10.1.0.{n}" for n in range(number + 2)])})
            if number == 7:
                it.heard({"web": slices("10.0.0.1", "10.0.0.2")})
            await anyio.sleep(0.01)
    busy = ["busy"]
    assert it.news == [
        *((0, None), (1.0, busy), (1.05, busy), (1.07, ["web"]), (1.1, busy), (1.15, busy))
    ]
    assert len(it.addresses("busy")[-1]) == 13


async def test_those_who_cease_to_count_do_so_together() -> None:
    async with telling() as it:
        it.heard({"web": slices("10.0.0.0")})
        await anyio.sleep(1)
        for number in range(1, 5):
            it.heard({"web": slices(f"10.0.0.{number}")})
            await anyio.sleep(0.01)
    web = ["web"]
    assert it.news == [(0, None), (1.0, web), (1.05, web), (2.0, web), (2.05, web)]
    assert it.addresses("web")[2:] == [
        ["10.0.0.4", *(f"10.0.0.{n}" for n in range(4))],
        ["10.0.0.4", "10.0.0.1", "10.0.0.2", "10.0.0.3"],
        ["10.0.0.4"],
    ]


async def test_a_pod_in_no_slice_is_kept_for_a_second() -> None:
    async with telling() as it:
        it.heard({"web": slices("10.0.0.1", "10.0.0.2"), "cart": slices("10.0.0.3")})
        await anyio.sleep(1)
        it.heard({"web": slices("10.0.0.1")})
    assert it.news == [(0, None), (1.0, ["web"]), (2.0, ["web"])]
    assert it.addresses("web") == [
        *(["10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.1"]),
    ]


async def test_one_that_moved_needs_no_second_word() -> None:
    async with telling() as it:
        it.heard({"web": slices("10.0.0.1")})
        await anyio.sleep(1)
        it.heard({"web": {}})
        await anyio.sleep(0.5)
        it.heard({"web": slices("10.0.0.1")})
    assert it.news == [(0, None), (1.0, ["web"]), (1.5, ["web"])]


async def test_a_service_that_is_gone_is_forgotten() -> None:
    async with telling() as it:
        it.heard({"web": slices("10.0.0.1")})
        await anyio.sleep(1)
        it.heard({"web": {}})
        await anyio.sleep(2)
        it.heard({"web": slices("10.0.0.1")})
    assert it.news == [(0, None), (1.0, ["web"]), (2.0, ["web"]), (3.0, ["web"])]
    assert "web" not in it.words[2][1].services


async def test_a_word_stays_what_it_was() -> None:
    async with telling() as it:
        it.heard({"web": slices("10.0.0.1")})
        await anyio.sleep(1)
        (first,) = it.words
        it.heard({"web": slices("10.0.0.1", "10.0.0.2"), "cart": slices("10.0.0.3")})
    assert list(first[1].services) == ["web"]
    assert len(first[1].services["web"].slices[0].listed) == 1


class _Response:
    """
    A watch whose lines come every two seconds.
    """

    def __init__(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._lines = lines

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        for line in self._lines:
            await anyio.sleep(2)
            yield json.dumps(line).encode() + b"\n"
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        pass


class _Stop(Exception):
    pass


@pytest.mark.parametrize("ends", [True, False])
async def test_what_is_there_first_may_take_long(
    ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As long as more of it comes. A server that goes silent before it says that this was all is listed.
    """
    verbs: list[str] = []
    labels = {"kubernetes.io/service-name": "web"}
    lines: list[Mapping[str, Any]] = [
        {"type": "ADDED", "object": {"metadata": {"name": f"web-{n}", "labels": labels}}}
        for n in range(10)
    ]
    if ends:
        marks = {"k8s.io/initial-events-end": "true"}
        meta = {"resourceVersion": "7", "annotations": marks}
        lines.append({"type": "BOOKMARK", "object": {"metadata": meta}})

    async def get(*_: object, stream: bool, is_first: bool = False) -> Any:
        del is_first
        verbs.append("watch" if stream else "list")
        if not stream:
            raise _Stop
        return _Response(lines)

    def heard(services: Mapping[str, Mapping[str, Slice]]) -> None:
        assert len(services["web"]) == 10
        raise _Stop

    monkeypatch.setattr(Reflector, "_get", get)
    monkeypatch.setattr("knet.kubernetes.reflector._REST", 0)
    access = explicit("http://127.0.0.1:9", None, None)
    began = anyio.current_time()
    with pytest.raises(_Stop):
        await Reflector(access, "prod", "", heard, lambda: None).run()
    assert anyio.current_time() - began == pytest.approx(22 if ends else 23, abs=0.1)
    assert verbs == (["watch"] if ends else ["watch", "list"])
