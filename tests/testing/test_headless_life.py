"""
Starting and ending: nothing blocks, nothing is left.
"""

from __future__ import annotations

import contextlib
import doctest
import gc
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import anyio
import dns.asyncbackend
import dns.asyncquery
import dns.message
import pytest

import knet.testing
import knet.testing.service
import knet.testing.zone
from knet.testing import HeadlessService

from .asking import addresses, ask, where
from .scaling import scaled_meanwhile


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """
    Another Python with this knet.
    """
    root = str(Path(knet.testing.__file__).parents[2])
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root},
    )


def server_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if "headless" in one.name]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """
    Looks for threads of these servers only: the loops' own may linger for some seconds.
    """
    yield
    assert server_threads() == []


def open_sockets() -> int:
    """
    How many file descriptors of this process are sockets.
    """
    fds = Path("/proc/self/fd")
    if not fds.exists():
        return 0
    count = 0
    for fd in fds.iterdir():
        try:
            count += "socket:" in str(fd.readlink())
        except OSError:
            continue
    return count


async def ask_async(service: HeadlessService, backend: str) -> dns.message.Message:
    host, port = where(service)
    query = dns.message.make_query(service.name, "A")
    made = dns.asyncbackend.get_backend(backend)
    return await dns.asyncquery.udp(query, host, port=port, timeout=5, backend=made)


def test_leaving_ends_the_thread_and_closes_the_sockets() -> None:
    before = open_sockets()

    for _ in range(5):
        with HeadlessService("web.prod") as service:
            assert len(server_threads()) == 1
            addresses(service)
            addresses(service, tcp=True)

    assert server_threads() == []
    assert open_sockets() == before


def test_an_error_in_the_body_leaves_as_itself_and_leaves_nothing() -> None:
    before = open_sockets()

    with pytest.raises(ValueError, match="mine"), HeadlessService("web.prod"):
        raise ValueError("mine")

    assert open_sockets() == before


def test_open_connections_do_not_hold_up_the_end() -> None:
    with HeadlessService("web.prod") as service:
        client = socket.create_connection(where(service))
        assert len(addresses(service, tcp=True)) == 3
    with client:
        client.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_queries_are_pipelined_over_one_connection() -> None:
    with HeadlessService("web.prod", pods=1) as service:
        wires = [
            dns.message.make_query(service.name, "A", id=number).to_wire() for number in range(3)
        ]
        stream = b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires)
        with socket.create_connection(where(service), timeout=5) as client:
            # In pieces, so that a query arrives in two reads.
            client.sendall(stream[:30])
            client.sendall(stream[30:])
            received = client.makefile("rb")
            ids = []
            for _ in range(3):
                size = int.from_bytes(received.read(2), "big")
                ids.append(dns.message.from_wire(received.read(size)).id)
            received.close()

    assert ids == [0, 1, 2]


def test_it_can_be_started_and_closed_by_hand_and_come_back_on_the_same_port() -> None:
    service = HeadlessService("web.prod")
    with pytest.raises(RuntimeError, match="no port before it started"):
        _ = service.nameserver

    service.start()
    nameserver = service.nameserver
    with pytest.raises(RuntimeError, match="runs already"):
        service.start()
    assert len(addresses(service, tcp=True)) == 3
    service.close()
    service.close()

    service.start()
    assert service.nameserver == nameserver
    assert len(addresses(service, tcp=True)) == 3
    service.close()


def test_many_services_run_side_by_side() -> None:
    with HeadlessService("a.prod", pods=1) as a, HeadlessService("b.prod", pods=2) as b:
        assert a.nameserver != b.nameserver
        assert len(addresses(a)) == 1
        assert len(addresses(b)) == 2


def test_a_taken_port_is_an_os_error_and_leaves_nothing() -> None:
    with HeadlessService("web.prod") as service:
        before = open_sockets()
        _, port = where(service)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            HeadlessService("web.prod", port=port).start()
        assert open_sockets() == before


def test_an_unclosed_service_warns_and_ends() -> None:
    service = HeadlessService("web.prod").start()
    (thread,) = (one for one in threading.enumerate() if "headless" in one.name)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del service
        gc.collect()
    thread.join(5)

    assert [one.category for one in caught] == [ResourceWarning]
    assert "unclosed <HeadlessService" in str(caught[0].message)
    assert not thread.is_alive()


def test_a_service_that_never_started_is_collected_quietly() -> None:
    service = HeadlessService("web.prod")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del service
        gc.collect()


def test_a_process_that_forgets_to_close_ends_all_the_same() -> None:
    code = "from knet.testing import HeadlessService as H; s = H('web.prod').start(); print(s.name)"
    done = run("-c", code)

    assert done.returncode == 0
    assert done.stdout == "web.prod.svc.cluster.local\n"


@pytest.mark.anyio
async def test_both_event_loops_can_enter_and_ask(anyio_backend: str) -> None:
    async with HeadlessService("web.prod", pods=4) as service:
        reply = await ask_async(service, anyio_backend)
        assert len(reply.answer[0]) == 4
        service.scale(2)
        reply = await ask_async(service, anyio_backend)
        assert len(reply.answer[0]) == 2
    assert server_threads() == []


@pytest.mark.anyio
async def test_a_cancelled_body_leaves_nothing() -> None:
    with anyio.move_on_after(0.01) as scope:
        async with HeadlessService("web.prod"):
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert server_threads() == []


@pytest.mark.anyio
async def test_queries_can_be_awaited(anyio_backend: str) -> None:
    async with HeadlessService("web.prod") as service, anyio.create_task_group() as group:
        group.start_soon(ask_async, service, anyio_backend)
        (query,) = await service.wait_for_queries_async(1)
        assert query.rdtype == "A"


@pytest.mark.anyio
async def test_waiting_for_queries_can_be_cancelled() -> None:
    async with HeadlessService("web.prod") as service:
        with anyio.move_on_after(0.01) as scope:
            await service.wait_for_queries_async(1)
        with pytest.raises(TimeoutError, match="0 of 1"):
            await service.wait_for_queries_async(1, timeout=0.01)

    assert scope.cancelled_caught


def test_the_fixture_makes_services_that_end_with_the_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("knet.testing.pytest_plugin",)')
    (tmp_path / "test_mine.py").write_text(
        """
import threading

def test_one(headless_service):
    one, two = headless_service("one.prod", pods=1), headless_service(pods=2)
    assert (one.name, len(two.pods)) == ("one.prod.svc.cluster.local", 2)
    assert one.nameserver != two.nameserver
    assert one.api.url != two.api.url
    two.close()

def test_two():
    assert threading.active_count() == 1
"""
    )
    done = run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:anyio",
        str(tmp_path),
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_fixture_opens_rings_that_end_with_the_test(tmp_path: Path) -> None:
    """
    On both loops, also one that was opened within a time-out of the test, and one that the test has closed.
    """
    (tmp_path / "test_mine.py").write_text(
        """
import anyio
import knet
import pytest

pytest_plugins = ("knet.testing.pytest_plugin",)


@pytest.mark.anyio
async def test_rings(open_ring, headless_service):
    service = headless_service("cache.prod", pods=3)
    with anyio.fail_after(5):
        asks = await open_ring(service, port=8080)
        told = await open_ring(service, port="http", resolver=service.api.source())
    asks_by_itself = await open_ring(service, port="http", resolver=None)
    assert {ring.service for ring in knet.open_rings()} == {"cache.prod.svc.cluster.local"}
    service.scale(4)
    await service.wait_until_seen_async()
    assert [len(ring.snapshot) for ring in (asks, told, asks_by_itself)] == [4, 4, 4]
    assert await told.get("user-42") == await asks_by_itself.get("user-42")
    await asks_by_itself.aclose()


@pytest.mark.anyio
async def test_a_ring_that_cannot_start(open_ring, headless_service):
    service = headless_service("cache.prod")
    service.fail("SERVFAIL")
    with pytest.raises(knet.ServerFailure):
        await open_ring(service, port=8080, start_timeout=0.05)


def test_nothing_is_left():
    assert knet.open_rings() == []
"""
    )
    done = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)),
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


@pytest.mark.parametrize("module", [knet.testing.service, knet.testing.zone])
def test_the_examples_in_the_docstrings_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def test_dnspython_is_asked_for_by_the_name_of_the_extra() -> None:
    code = (
        "import sys; sys.modules['dns'] = sys.modules['dns.message'] = None\n"
        "try: import knet.testing\n"
        "except ImportError as error: print(error)"
    )
    done = run("-c", code)

    assert "pip install 'knet-ring[testing]'" in done.stdout


def test_a_name_asked_while_another_thread_scales_is_always_whole() -> None:
    """
    An answer shows the Service before or after a change, and nothing between.
    """
    with HeadlessService("web.prod", pods=10) as service, scaled_meanwhile(service, 20, 10):
        sizes = {len(ask(service).answer[0]) for _ in range(50)}

    assert sizes <= {10, 20}


def test_a_connection_that_is_just_being_accepted_is_not_lost() -> None:
    """
    When TCP is switched off, or the service closed, no socket is left to the garbage collector.
    """
    with HeadlessService("web.prod", pods=1) as service:
        host, port = service.nameserver.split(":")
        clients: list[socket.socket] = []

        def connect() -> None:
            for _ in range(3):
                client = socket.socket()
                client.settimeout(1)
                clients.append(client)
                with contextlib.suppress(OSError):
                    client.connect((host, int(port)))

        for _ in range(30):
            connecting = threading.Thread(target=connect)
            connecting.start()
            service.set_tcp(False)
            connecting.join()
            service.set_tcp(True)
        for client in clients:
            client.close()
    gc.collect()  # what it finds is an unraisable warning, and that an error
