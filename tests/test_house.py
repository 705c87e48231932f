"""
The house rules that a reader of imports can check: arrows, front doors, what is imported where.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

import knet

ROOT = Path(knet.__file__).parent

# From the ground up: a room may import from the rooms above it in this list, never from below.
ROOMS = [
    "knet.errors",
    "knet.endpoint",
    "knet.question",
    "knet.answer",
    "knet.pods",
    "knet.hashring",
    "knet.promise",
    "knet.turns",
    "knet.hosting",
    "knet.surroundings",
    "knet.static",
    "knet.resolver",
    "knet.belief",
    "knet.snapshot",
    "knet.sources",
    "knet.kubernetes",
    "knet.routing",
    "knet.ring",
    "knet.pool",
    "knet.blocking",
    "knet.keys",
    "knet",
    "knet.integrations",
    "knet.testing",
    "knet.cli",
    "knet.__main__",
]

# Inside a room the same holds for its modules.
INSIDE = {
    "knet.hashring": [
        "steps",
        "hashing",
        "placement",
        "base",
        "balance",
        "points",
        "patch",
        "hash_ring",
        "maglev",
        "rendezvous",
        "tree",
        "proxies.hashes",
        "proxies.murmur",
        "proxies.request",
        "proxies.servers",
        "proxies.continuum",
        "proxies.envoy",
        "proxies.grpc",
        "proxies.nginx",
        "proxies.haproxy",
        "proxies.ketama",
        "proxies.pymemcache",
    ],
    "knet.resolver": ["names", "records", "places", "cares", "lookup", "dns"],
    # A rule imports no other rule: what one needs of another's facts `decide` hands over.
    "knet.belief": [
        *(
            "policy",
            "pace",
            "age",
            "family",
            "absence",
            "disputes",
            "samples",
            "decide",
            "choice",
            "handover",
        ),
    ],
    "knet.kubernetes": ["slices", "access", "reflector", "source"],
    "knet.cli.simulate": [
        *("traffic", "plan", "moves", "bounded", "model", "luck", "report", "plot"),
        "simulation",
    ],
    "knet.integrations": [
        *("retries", "transport", "httpx2", "httpx", "aiohttp", "grpc"),
        *("scopes", "forwarding", "tallies", "forwarder", "status", "status.facts", "status.words"),
        *("status.machine", "status.picture", "status.look", "status.text", "status.page", "asgi"),
        *("readings", "prometheus", "opentelemetry"),
    ],
    "knet.testing": [
        *("host", "controls", "zone", "answers", "wire", "responder", "server"),
        *("api.slices", "api.store", "api.statuses", "api.http", "api.responder", "api.server"),
        *("api.door", "service", "pytest_plugin"),
    ],
    "knet.ring": [
        *("words", "standing", "sharing", "watching", "asking", "listening", "falling", "feeds"),
        *("life", "detour", "serving", "batches", "owning", "history", "options", "ring"),
    ],
}
RULES = ["pace", "age", "family", "absence", "disputes", "samples", "choice", "handover"]

# Rooms and modules that know nothing of DNS, clocks, sockets, event loops or chance, nor reach by way of
# other rooms what does.
PURE = [
    "knet.errors",
    "knet.endpoint",
    "knet.question",
    "knet.answer",
    "knet.pods",
    "knet.hashring",
    "knet.resolver.names",
    "knet.resolver.records",
    "knet.belief",
    "knet.snapshot",
    "knet.sources",
    "knet.kubernetes.slices",
    "knet.routing",
    "knet.ring.standing",
    "knet.integrations.status.text",
    "knet.integrations.status.machine",
]
IMPURE_IMPORTS = {
    "aiodns",
    "anyio",
    "asyncio",
    "pycares",
    "random",
    "sniffio",
    "socket",
    "time",
    "trio",
}
# `socket` is where Python keeps the reading and writing of addresses, and the name of this host; nobody
# is asked for that.
HARMLESS = {("knet.pods", "socket"), ("knet.surroundings", "socket")}

# What is imported in one place only.
ONLY_IN = {
    "aiodns": {"knet.resolver.cares"},
    "pycares": {"knet.resolver.cares"},
    "xxhash": {"knet.hashring.hashing"},
    "bintrees": {"knet.hashring.tree"},
    "asyncio": {
        *("knet.hosting", "knet.resolver.cares", "knet.testing.host"),
        *("knet.testing.server", "knet.testing.api.server"),
        "knet.integrations.grpc",
    },
    "trio": {"knet.hosting", "knet.resolver.cares"},
    "dns": {"knet.testing"},
    "typer": {"knet.cli"},
    "matplotlib": {"knet.cli.simulate.plot"},
    "rich": {"knet.cli"},
}

FRONT_DOORS = [
    *("knet", "knet.hashring", "knet.hashring.proxies", "knet.resolver", "knet.testing"),
    "knet.kubernetes",
]


@functools.cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append((name, ast.parse(path.read_text("utf-8"))))
    return tuple(found)


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def room_of(name: str) -> str:
    matching = [room for room in ROOMS if is_in(name, room)]
    return max(matching, key=len)


@functools.cache
def imported() -> dict[str, set[str]]:
    """
    Return what each module imports, also inside of its functions.
    """
    return {name: set(imports(tree)) for name, tree in modules()}


def test_every_module_has_a_room() -> None:
    """
    A file outside the plan is a decision that somebody should take.
    """
    homeless = [name for name, _ in modules() if name != "knet" and room_of(name) == "knet"]

    assert not homeless


def test_arrows_between_rooms_point_one_way() -> None:
    """
    A module imports only from rooms that stand before its own in the house.
    """
    upwards = [
        f"{name} imports {imported}"
        for name, tree in modules()
        for imported in imports(tree)
        if is_in(imported, "knet")
        and imported != "knet"
        and ROOMS.index(room_of(imported)) > ROOMS.index(room_of(name))
    ]

    assert not upwards


@pytest.mark.parametrize(("package", "order"), INSIDE.items())
def test_arrows_inside_a_room_point_one_way(package: str, order: list[str]) -> None:
    """
    Inside a package, too, no module imports one that comes after it.
    """
    rank = {f"{package}.{module}": i for i, module in enumerate(order)}
    inside = {name for name, _ in modules() if is_in(name, package)}
    front_doors = {package, *(name for name in inside if name.endswith((".proxies", ".api")))}
    assert inside - front_doors == set(rank)
    upwards = [
        f"{name} imports {imported}"
        for name, tree in modules()
        for imported in imports(tree)
        if name in rank and imported in rank and rank[imported] >= rank[name]
    ]

    assert not upwards


@pytest.mark.parametrize("room", PURE)
def test_thinking_and_waiting_live_apart(room: str) -> None:
    """
    Pure modules reach nothing that waits, looks at a clock or rolls dice, by however many hops.
    """
    asked = {name for name, _ in modules() if is_in(name, room)}
    assert asked
    impure = [
        f"{' -> '.join(way)} -> {target}"
        for way in ways_from(asked)
        for target in imported()[way[-1]]
        if target.split(".")[0] in IMPURE_IMPORTS and (way[-1], target) not in HARMLESS
    ]

    assert not impure


def ways_from(names: set[str]) -> Iterator[tuple[str, ...]]:
    """
    Yield how each module of knet is reached by imports from *names*, the shortest ways first.
    """
    reached = set(names)
    ways: list[tuple[str, ...]] = [(name,) for name in sorted(names)]
    while ways:
        yield from ways
        further = []
        for way in ways:
            for target in sorted(imported()[way[-1]]):
                if target in imported() and target != "knet" and target not in reached:
                    reached.add(target)
                    further.append((*way, target))
        ways = further


def test_the_way_by_hops_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A clock two rooms away is a clock.
    """
    monkeypatch.setitem(imported(), "knet.errors", {"time"})

    with pytest.raises(AssertionError, match=r"knet\.errors -> time"):
        test_thinking_and_waiting_live_apart("knet.hashring")


def test_a_rule_of_belief_imports_no_other_rule() -> None:
    """
    What it needs of another's facts it is handed.
    """
    crossing = [
        f"knet.belief.{rule} imports {other}"
        for rule in RULES
        for other in RULES
        if other != rule and f"knet.belief.{other}" in imported()[f"knet.belief.{rule}"]
    ]

    assert not crossing


def test_names_that_begin_with_an_underscore_stay_in_their_package() -> None:
    """
    Nobody imports, or reads off a module, what another package keeps to itself.
    """
    reaching = [
        f"{name} imports {imported}"
        for name, names in imported().items()
        for imported in names
        if is_in(imported, "knet")
        and imported.rpartition(".")[2].startswith("_")
        and not imported.endswith("__version__")
        and room_of(imported) != room_of(name)
    ]

    assert not reaching


@pytest.mark.parametrize("package", ONLY_IN)
def test_foreign_packages_enter_through_one_door(package: str) -> None:
    """
    Loop-specific and untyped packages are wrapped where they are imported.
    """
    places = {
        name for name, tree in modules() for imported in imports(tree) if is_in(imported, package)
    }
    allowed = ONLY_IN[package]

    assert not [place for place in places if not any(is_in(place, door) for door in allowed)]


@pytest.mark.parametrize("room", ["knet.integrations", "knet.testing", "knet.cli"])
def test_the_outer_rooms_use_public_names_only(room: str) -> None:
    """
    What users cannot import, the command and the test kit do not import either.
    """
    doors = {*FRONT_DOORS, "knet.errors"}
    around_the_back = []
    for name, tree in modules():
        for node in ast.walk(tree):
            if is_in(name, room) and isinstance(node, ast.ImportFrom) and node.module:
                inside = is_in(node.module, room)
                if is_in(node.module, "knet") and not inside and node.module not in doors:
                    around_the_back.append(f"{name} imports {node.module}")

    assert not around_the_back


@pytest.mark.parametrize("door", FRONT_DOORS[1:])
def test_a_front_door_lists_what_it_has(door: str) -> None:
    """
    `__all__` names everything public that is there, and nothing that is not.
    """
    module = importlib.import_module(door)
    children = {m.name for m in pkgutil.iter_modules(module.__path__)}
    public = {n for n in vars(module) if not n.startswith("_")} - children - {"annotations"}

    assert sorted(module.__all__) == sorted(public)
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("door", FRONT_DOORS[1:])
def test_a_front_door_holds_imports_and_nothing_else(door: str) -> None:
    """
    Definitions live in rooms, not in doors.
    """
    tree = dict(modules())[door]
    kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr, ast.Try)

    assert all(isinstance(node, kinds) for node in tree.body)


def test_the_main_door_hands_on_what_type_checkers_see() -> None:
    """
    Each name that it hands on when asked is the one that it shows to type checkers, and is listed.
    """
    shown, _ = (n for n in dict(modules())["knet"].body if isinstance(n, ast.If))
    homes = {
        alias.name: node.module
        for node in shown.body
        if isinstance(node, ast.ImportFrom) and node.module != "knet"  # packages of its own
        for alias in node.names
    }

    assert sorted(homes) == sorted(knet.__all__)
    for name, home in homes.items():
        assert home is not None
        assert getattr(knet, name) is getattr(importlib.import_module(home), name)
        assert name in vars(knet), "it is looked up once"
    assert {*knet.__all__, "__version__", "hashring", "resolver"} <= set(dir(knet))
    assert knet.__version__ == importlib.metadata.version("knet-ring")
    with pytest.raises(AttributeError, match="module 'knet' has no attribute 'Rings'"):
        _ = knet.Rings  # type: ignore[attr-defined]


def test_everything_can_be_had_at_once() -> None:
    """
    `from knet import *` gives what is listed.
    """
    names: dict[str, object] = {}
    exec("from knet import *", names)

    assert set(knet.__all__) <= set(names)


def test_public_things_have_docstrings() -> None:
    """
    Whatever is behind a front door says what it is.
    """
    silent = [
        f"{door}.{name}"
        for door in FRONT_DOORS
        for module in [importlib.import_module(door)]
        for name in module.__all__
        for thing in [getattr(module, name)]
        if isinstance(thing, (type, FunctionType)) and not (thing.__doc__ or "").strip()
    ]

    assert not silent


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("statement", "without"),
    [
        (
            "import knet",
            "aiodns pycares anyio asyncio xxhash bintrees knet.hashring knet.ring importlib.metadata",
        ),
        (
            "import knet.hashring, knet.hashring.proxies; knet.hashring.HashRing(['a']).get('k')",
            "aiodns pycares anyio asyncio bintrees knet.resolver knet.ring",
        ),
        ("from knet import Endpoint, ConfigError", "aiodns pycares anyio asyncio xxhash"),
        ("import knet; knet.Ring, knet.lookup_host", "bintrees trio dns typer rich pytest"),
    ],
)
def test_an_import_loads_what_it_needs(statement: str, without: str) -> None:
    """
    Placement loads no DNS and no event loop, and nothing loads a tree that nobody asked for.
    """
    script = (
        f"import sys; before = set(sys.modules); {statement}\n"
        f"loaded = set({without.split()!r}) & (set(sys.modules) - before)\n"
        "assert not loaded, loaded"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_hashring_is_importable_alone() -> None:
    """
    Placement needs neither DNS nor an event loop.
    """
    script = (
        "import sys\n"
        "sys.modules['anyio'] = sys.modules['aiodns'] = sys.modules['pycares'] = None\n"
        "import importlib.util, types\n"
        f"knet = types.ModuleType('knet'); knet.__path__ = [{str(ROOT)!r}]\n"
        "sys.modules['knet'] = knet\n"
        "from knet.hashring import HashRing\n"
        "assert HashRing(['a', 'b', 'c']).get('user-42') in 'abc'"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
