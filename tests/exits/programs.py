"""
Programs that end carelessly, one function each: `python -m tests.exits.programs KIND BACKEND ...`.

Each opens a ring, says so on its standard output, and goes. Beside each stands how it is to end:
its exit code, and what its host, which is the interpreter, asyncio or trio, says of it by itself.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn

import anyio

import knet

__all__ = ["ASYNCIO", "EVERY", "KINDS", "TRIO", "Kind"]

Program = Callable[[], object]

ASYNCIO = ("asyncio", "uvloop")
TRIO = ("trio",)
EVERY = (*ASYNCIO, *TRIO)

WEB = "web.prod.svc.cluster.local"

# So short that a query is under way as often as not.
QUICK = knet.RefreshPolicy(interval=0.01, min_interval=0.01, retry=0.01)


@dataclass(frozen=True, slots=True)
class Kind:
    """
    One way to end.

    Attributes:
        program: What runs.
        backends: On which it makes sense.
        ends: The exit code, negative for the signal that it dies of; that of a backend where they differ.
        sent: The signal that it gets once its ring is open.
        says: Patterns of what its host says on standard error, on all backends or on one.
        prints: What it prints after `ready`.
    """

    program: Program
    backends: tuple[str, ...] = EVERY
    ends: int | Mapping[str, int] = 0
    sent: signal.Signals | None = None
    says: tuple[str, ...] | Mapping[str, tuple[str, ...]] = ()
    prints: str = ""


KINDS: dict[str, Kind] = {}


def kind(**facts: Any) -> Callable[[Program], Program]:
    """
    Add a program to `KINDS`, under its own name.
    """

    def add(program: Program) -> Program:
        KINDS[getattr(program, "__name__")] = Kind(program, **facts)  # noqa: B009
        return program

    return add


def traceback(error: str) -> str:
    """
    Return the pattern of a traceback that ends in *error*, and of nothing before it.
    """
    return rf"Traceback \(most recent call last\):\n(?:[ ].*\n)+{error}\n"


def group(error: str) -> str:
    """
    Return the pattern of the traceback of an exception group that holds *error* alone.
    """
    return (
        r"  \+ Exception Group Traceback \(most recent call last\):\n(?:  \|.*\n)+"
        rf"  \+-\+-+ 1 -+\n(?:    \|.*\n)+    \| {error}\n    \+-+\n"
    )


def warning(text: str) -> str:
    """
    Return the pattern of a warning, with the line of source that is shown under it.
    """
    return rf".*Warning: {text}.*\n(?:  .*\n)?"


def on_asyncio(*patterns: str) -> dict[str, tuple[str, ...]]:
    """
    Return what both loops of asyncio say, and trio does not.
    """
    return dict.fromkeys(ASYNCIO, patterns)


DURING = r"\nDuring handling of the above exception, another exception occurred:\n\n"

CANCELLED = traceback(r"asyncio\.exceptions\.CancelledError")

INTERRUPTED = {
    **on_asyncio(CANCELLED + DURING + traceback("KeyboardInterrupt")),
    "trio": (traceback("KeyboardInterrupt"),),
}

# What asyncio says of a loop that nobody closed.
LOOP_LEFT = (warning("unclosed event loop"), warning(r"unclosed <socket\.socket"))


# --- what the programs share


@dataclass(slots=True)
class Host:
    """
    Where a program runs; its command line says.
    """

    backend: str = "asyncio"
    nameserver: str = ""
    silent: str = ""
    kept: list[object] = field(default_factory=list)


HOST = Host()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """
    Run *main* as users of the backend do.
    """
    if HOST.backend == "trio":
        import trio

        trio.run(main)
    else:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())  # type: ignore[arg-type]


def new_loop() -> asyncio.AbstractEventLoop:
    if HOST.backend == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def new_ring() -> knet.Ring:
    return knet.Ring(WEB, port=8080, resolver=new_resolver(), refresh=QUICK)


def new_resolver() -> knet.Resolver:
    return knet.Resolver(nameservers=[HOST.nameserver])


def deaf_resolver() -> knet.Resolver:
    return knet.Resolver(nameservers=[HOST.silent])


def ready() -> None:
    print("ready", flush=True)


async def opened() -> knet.Ring:
    """
    Return a ring that answers, and that nobody is going to close.
    """
    ring = new_ring()
    await ring.start()
    await ring.get("user-42")
    ready()
    return ring


# --- main ends before its ring


@kind()
def returns() -> None:
    async def main() -> None:
        await opened()

    run(main)


@kind(says=(warning("Async generator .* was garbage collected"),))
def leaves_a_generator() -> None:
    async def rings() -> AsyncIterator[knet.Ring]:
        async with new_ring() as ring:
            yield ring

    async def main() -> None:
        async for ring in rings():
            await ring.get("user-42")
            ready()
            break

    run(main)


@kind(ends={"asyncio": 1, "uvloop": 1, "trio": 0}, says=on_asyncio(CANCELLED))
def is_cancelled() -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with new_ring() as ring:
                await ring.get("user-42")
                ready()
                if HOST.backend == "trio":
                    scope.cancel()
                else:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                await anyio.sleep_forever()

    run(main)


@kind()
def returns_while_another_watches() -> None:
    async def main() -> None:
        ring = await opened()

        async def watch() -> None:
            async for _ in ring.changes():
                pass

        with anyio.move_on_after(0.05):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)

    run(main)


@kind()
def opens_a_ring_on_many_loops() -> None:
    async def main() -> None:
        ring = new_ring()
        await ring.start()
        await ring.get("user-42")

    for _ in range(20):
        run(main)
    ready()


@kind()
def gives_up_while_starting() -> None:
    async def main() -> None:
        ready()
        with anyio.move_on_after(0.05):
            await knet.Ring(WEB, resolver=deaf_resolver()).start()

    run(main)


@kind(
    says=(
        warning(r"coroutine '[\w.]+' was never awaited"),
        r"Coroutine created at .*\n(?:  .*\n)+",
    )
)
def forgets_to_await_run() -> None:
    async def main() -> None:
        forgotten = new_ring().run()
        del forgotten
        ready()

    run(main)


# --- exceptions


@kind(ends=1, says=(traceback("ValueError: careless"),))
def raises_inside() -> None:
    async def main() -> None:
        async with new_ring() as ring:
            await ring.get("user-42")
            ready()
            raise ValueError("careless")

    run(main)


@kind(ends=1, says=(traceback("ValueError: careless"),))
def raises() -> None:
    async def main() -> None:
        await opened()
        raise ValueError("careless")

    run(main)


@kind(ends=1, says=(group("ValueError: careless"),))
def raises_beside_it() -> None:
    async def crash(ring: knet.Ring) -> NoReturn:
        await ring.get("user-42")
        ready()
        raise ValueError("careless")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            ring: knet.Ring = await tasks.start(new_ring().run)
            tasks.start_soon(crash, ring)

    run(main)


@kind(ends=3)
def exits_inside() -> None:
    async def main() -> None:
        async with new_ring() as ring:
            await ring.get("user-42")
            ready()
            sys.exit(3)

    run(main)


@kind(ends=3)
def exits() -> None:
    async def main() -> None:
        await opened()
        sys.exit(3)

    run(main)


@kind(
    ends={"asyncio": 3, "uvloop": 3, "trio": 1},
    says={
        **on_asyncio(
            r"unhandled exception during asyncio\.run\(\) shutdown\ntask: .*\n"
            + group("SystemExit: 3")
        ),
        "trio": (group("SystemExit: 3"),),
    },
)
def exits_in_a_task() -> None:
    async def leave() -> NoReturn:
        sys.exit(3)

    async def main() -> None:
        await opened()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)

    run(main)


# --- signals


@kind(ends=-signal.SIGINT, sent=signal.SIGINT, says=INTERRUPTED)
def is_interrupted() -> None:
    async def main() -> None:
        await opened()
        await anyio.sleep_forever()

    run(main)


@kind(ends=-signal.SIGINT, sent=signal.SIGINT, says=INTERRUPTED)
def is_interrupted_inside() -> None:
    async def main() -> None:
        async with new_ring() as ring:
            await ring.get("user-42")
            ready()
            await anyio.sleep_forever()

    run(main)


@kind(ends=-signal.SIGTERM, sent=signal.SIGTERM)
def is_terminated() -> None:
    async def main() -> None:
        await opened()
        await anyio.sleep_forever()

    run(main)


@kind(ends=7, sent=signal.SIGTERM)
def is_terminated_and_exits() -> None:
    async def main() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            await opened()
            async for _ in signals:
                sys.exit(7)

    run(main)


# Not on trio, where a signal handler that raises may end the loop in the middle of its own work.
@kind(backends=ASYNCIO, ends=7, sent=signal.SIGTERM)
def is_terminated_and_raises() -> None:
    """
    The handler interrupts a loop that has nothing to do.
    """

    async def main() -> None:
        ring = knet.Ring(WEB, resolver=new_resolver())
        await ring.start()
        ready()
        await anyio.sleep_forever()

    signal.signal(signal.SIGTERM, leave)
    run(main)


@kind(backends=ASYNCIO, ends=7)
def is_terminated_in_a_lookup() -> None:
    """
    The handler interrupts the ring at its work, and raises there.
    """

    class Terminated(knet.StaticResolver):
        asked = 0

        async def resolve(self, service: str, /, **options: object) -> knet.Answer:
            self.asked += 1
            if self.asked == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return await super().resolve(service, **options)

    async def main() -> None:
        ring = knet.Ring(WEB, resolver=Terminated(["10.0.0.1"]), refresh=QUICK)
        await ring.start()
        ready()
        await anyio.sleep_forever()

    signal.signal(signal.SIGTERM, leave)
    run(main)


def leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(7)


# --- no way out but out


@kind(ends=5)
def vanishes() -> None:
    async def main() -> None:
        await opened()
        os._exit(5)

    run(main)


@kind(ends=5)
def vanishes_with_a_query_in_flight() -> None:
    async def main() -> None:
        await opened()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deaf_resolver().resolve, WEB)
            await anyio.sleep(0.05)
            os._exit(5)

    run(main)


@kind()
def becomes_another_program() -> None:
    """
    What it becomes finds none of its descriptors open.
    """
    script = (
        "import os\n"
        "sockets = [f for f in map(int, os.listdir('/proc/self/fd')) if f > 2]\n"
        "links = [os.path.realpath(f'/proc/self/fd/{f}') for f in sockets]\n"
        "print(*(link for link in links if 'socket' in link or 'anon_inode' in link))"
    )

    async def main() -> None:
        await opened()
        os.execv(sys.executable, [sys.executable, "-I", "-c", script])

    run(main)


@kind(says=(warning(r"This process .* is multi-threaded, use of fork\(\)"),))
def forks_a_child_that_vanishes() -> None:
    async def main() -> None:
        ring = await opened()
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)  # noqa: ASYNC222 - careless
        await ring.refresh()

    run(main)


# --- threads


@kind()
def runs_in_a_daemon_thread() -> None:
    async def main() -> None:
        await opened()
        there.set()
        await anyio.sleep_forever()

    there = threading.Event()
    threading.Thread(target=run, args=(main,), daemon=True).start()
    there.wait()


@kind()
def runs_in_a_thread() -> None:
    async def main() -> None:
        await opened()
        there.set()
        await anyio.sleep(0.1)

    there = threading.Event()
    threading.Thread(target=run, args=(main,)).start()
    there.wait()


# --- things that are kept


@kind()
def keeps_it_in_a_global() -> None:
    async def main() -> None:
        HOST.kept.append(await opened())

    run(main)


@kind()
def keeps_it_in_a_cycle() -> None:
    class Pool:
        def __init__(self, ring: knet.Ring) -> None:
            self.ring = ring
            self.me = self

    async def main() -> None:
        Pool(await opened())

    run(main)


@kind()
def keeps_a_resolver_open() -> None:
    async def main() -> None:
        resolver = await new_resolver().__aenter__()
        await resolver.resolve(WEB)
        HOST.kept.append(resolver)
        ready()

    run(main)


@kind()
def returns_with_64_queries_in_flight() -> None:
    resolver = deaf_resolver()

    async def main() -> None:
        await opened()
        await resolver.__aenter__()
        with anyio.move_on_after(0.05):
            async with anyio.create_task_group() as tasks:
                for _ in range(64):
                    tasks.start_soon(resolver.resolve, WEB)

    run(main)


# --- loops that are not run to their end


@kind(backends=ASYNCIO)
def closes_the_loop() -> None:
    loop = new_loop()
    HOST.kept.append(loop.run_until_complete(opened()))
    loop.close()


@kind(backends=ASYNCIO, says=LOOP_LEFT)
def leaves_the_loop() -> None:
    loop = new_loop()
    HOST.kept += (loop, loop.run_until_complete(opened()))


@kind(backends=ASYNCIO, says=LOOP_LEFT)
def stops_the_loop() -> None:
    async def main() -> None:
        await opened()
        asyncio.get_running_loop().stop()
        await anyio.sleep_forever()

    loop = new_loop()
    task = loop.create_task(main())
    loop.run_forever()
    HOST.kept += (loop, task)


@kind(backends=ASYNCIO, says=LOOP_LEFT)
def drops_the_loop() -> None:
    def work() -> None:
        new_loop().run_until_complete(opened())

    work()
    gc.collect()


@kind(backends=ASYNCIO)
def closes_and_drops_the_loop() -> None:
    def work() -> None:
        loop = new_loop()
        loop.run_until_complete(opened())
        loop.close()

    work()
    gc.collect()


@kind(backends=ASYNCIO, says=LOOP_LEFT)
def leaves_the_loop_with_64_queries_in_flight() -> None:
    resolver = deaf_resolver()

    async def main() -> None:
        HOST.kept.append(await opened())
        await resolver.__aenter__()
        tasks = [asyncio.ensure_future(resolver.resolve(WEB)) for _ in range(64)]
        HOST.kept.append(tasks)
        await anyio.sleep(0.05)

    loop = new_loop()
    loop.run_until_complete(main())
    HOST.kept.append(loop)


@kind(backends=TRIO)
def leaves_a_guest() -> None:
    import trio

    async def main() -> None:
        await opened()
        loop.call_soon_threadsafe(loop.stop)
        await trio.sleep_forever()

    loop = asyncio.new_event_loop()
    loop.call_soon(
        lambda: trio.lowlevel.start_guest_run(
            main, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=print
        )
    )
    loop.run_forever()
    HOST.kept.append(loop)


# --- last words


@kind(prints="RingClosed RingClosed")
def asks_at_exit() -> None:
    """
    The ring was closed when its loop ended, and says so.
    """

    async def main() -> None:
        HOST.kept.append(await opened())

    @atexit.register
    def last_words() -> None:
        (ring,) = HOST.kept
        assert isinstance(ring, knet.Ring)
        said = []
        for ask in (lambda: ring.get_nowait("user-42"), lambda: run(ring.start)):
            try:
                ask()
            except knet.KnetError as error:
                said.append(type(error).__name__)
        print(*said, flush=True)

    run(main)


@kind(prints="ready")
def opens_a_ring_at_exit() -> None:
    async def main() -> None:
        await opened()

    @atexit.register
    def last_words() -> None:
        run(main)

    run(main)


if __name__ == "__main__":
    _, name, HOST.backend, HOST.nameserver, HOST.silent = sys.argv
    KINDS[name].program()
