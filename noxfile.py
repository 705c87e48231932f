"""
What is run on this project, and with what; `nox -l` lists it.

Plain `nox` is what a change needs: style, types, and the tests on the Python that runs nox. It needs no
more than one CPython from 3.11 to 3.14. Hundreds of exits, forks, soaks and long histories, and every
other CPython that is found, have sessions of their own, which CI runs: `.ci/run`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
ROOT = Path(__file__).parent
# What runs real servers has sessions of its own.
NO_SERVERS = ["--ignore=tests/e2e", "--ignore=tests/conformance/live"]
# Many tests wait for other processes: four at a time take half as long, on two cores too.
SEVERAL = ["-n", "4"]
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "check", "e2e"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
# CI sets this to true by itself, and then a machine with one CPython would fail.
nox.options.error_on_missing_interpreters = False


def find_pythons_of_pyenv() -> None:
    """
    Let pyenv's shims run every CPython that we support: they run only the versions that are named.
    """
    pyenv = shutil.which("pyenv")
    if pyenv is None or "PYENV_VERSION" in os.environ:
        return
    found: list[str] = []
    for command in (["version-name"], ["versions", "--bare"]):
        done = subprocess.run([pyenv, *command], capture_output=True, text=True, check=False)
        found += re.split(r"[:\s]+", done.stdout.strip())
    usable = [name for name in found if re.fullmatch(r"system|3\.1[1-4]\.\d+", name)]
    if usable:
        os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys(usable))


find_pythons_of_pyenv()


def install(session: nox.Session, *groups: str, extras: str = "cli") -> None:
    """Install knet as a user gets it, and the dependency groups that a session needs."""
    requirements = nox.project.dependency_groups(PROJECT, *groups)
    session.install("-q", f".[{extras}]", *requirements)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    session.install("-q", *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def check(session: nox.Session) -> None:
    """Most of what `typing` and `tests` do, in one environment: to make it takes half a minute."""
    install(session, "typing")
    # The tests take as long again; `typing` has them.
    check_types(session, "knet", "tests/typing")
    run_short_tests(session)
    if has_coredns() and not wants_all_e2e():
        session.run("pytest", "tests/e2e", *SEVERAL, "-m", "not long")


@nox.session(default=False)
def typing(session: nox.Session) -> None:
    """`mypy --strict` and pyright, both at once."""
    install(session, "typing")
    check_types(session)


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """The tests that need no server and take no time, on the Python that runs nox."""
    install(session, "test")
    run_short_tests(session)


def check_types(session: nox.Session, *places: str) -> None:
    environment = {k: v for k, v in {**os.environ, **session.env}.items() if v is not None}
    python = str(Path(session.bin) / "python")
    command = [python, "-m", "pyright", "--pythonpath", python, *places]
    with subprocess.Popen(command, env=environment) as pyright:
        session.run("mypy", *places)
    if pyright.returncode:
        session.error("pyright found something")


def run_short_tests(session: nox.Session) -> None:
    short = ["-m", "not long", "--hypothesis-profile=quick"]
    session.run("pytest", *NO_SERVERS, *SEVERAL, *short, *session.posargs)


@nox.session(python=PYTHONS, default=False)
def everything(session: nox.Session) -> None:
    """Every test that needs no server on the oldest CPython found, and the short ones of them on the others."""
    install(session, "test")
    found = [version for version in PYTHONS if shutil.which(f"python{version}")]
    if session.python in found[1:] and not session.posargs:
        run_short_tests(session)
    else:
        session.run("pytest", *NO_SERVERS, *SEVERAL, *session.posargs)


@nox.session
def e2e(session: nox.Session) -> None:
    """Against a real CoreDNS and Unbound: `$COREDNS_BIN`, `$UNBOUND_BIN`, or on the PATH."""
    if not has_coredns() and "KNET_REQUIRE_E2E" not in os.environ:
        session.skip("no CoreDNS here: set COREDNS_BIN, or put coredns on the PATH")
    if not wants_all_e2e():
        session.skip("one in ten of its tests ran in `check`; `nox -s e2e` runs them all")
    install(session, "test")
    session.run("pytest", "tests/e2e", *SEVERAL, *session.posargs)


def wants_all_e2e() -> bool:
    """Is this CI, or was the session asked for by name?"""
    return "KNET_REQUIRE_E2E" in os.environ or any("e2e" in word for word in sys.argv[1:])


def has_coredns() -> bool:
    """Look where the tests look."""
    go = shutil.which("go")
    built = ""
    if go is not None:
        done = subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=False)
        built = str(Path(done.stdout.strip().partition(os.pathsep)[0]) / "bin" / "coredns")
    return any(map(shutil.which, filter(None, (os.environ.get("COREDNS_BIN"), "coredns", built))))


@nox.session(default=False)
def weather(session: nox.Session) -> None:
    """Ten thousand histories of truths, lies, losses and delays, and what a ring believes of them."""
    install(session, "test")
    examples = {"KNET_WEATHER_EXAMPLES": "10000"}
    session.run("pytest", "tests/belief/test_machine.py", *session.posargs, env=examples)


@nox.session(python=PYTHONS, default=False)
def exits(session: nox.Session) -> None:
    """Hundreds of programs that end with a ring open, as a table; docs/endurance.md has one."""
    install(session, "test")
    session.run("python", "-m", "tests.exits", *session.posargs)


@nox.session(default=False)
def conformance(session: nox.Session) -> None:
    """
    Picks beside real proxies.

    Envoy, gRPC and pymemcache come from PyPI; nginx, HAProxy, twemproxy and libmemcached count where
    they are installed: `apt-get install nginx-light haproxy nutcracker libmemcached11`.
    """
    install(session, "test", "conformance")
    session.run("pytest", "tests/conformance/live", *session.posargs)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Bad weather on both loops, ten minutes of it; `-- --brief` is one. docs/endurance.md has figures."""
    install(session, "test", extras="testing")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session(python=["3.11", "3.13"], default=False)
def fuzz(session: nox.Session) -> None:
    """Names and records, fuzzed by coverage for a minute each; `-- -max_total_time=600` for longer."""
    session.install("-q", ".[testing]", *nox.project.dependency_groups(PROJECT, "fuzz"))
    for target in ("records", "names"):
        corpus = Path(session.create_tmp()) / f"corpus-{target}"
        corpus.mkdir(exist_ok=True)
        # Of two options that are alike libFuzzer takes the last.
        options = ["-max_total_time=60", *session.posargs, str(corpus)]
        session.run("python", "-m", "tests.fuzz.atheris_targets", target, *options)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Which lines the tests reach."""
    session.install("-q", "-e", ".[cli]", *nox.project.dependency_groups(PROJECT, "test"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *NO_SERVERS, *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(python=PYTHONS[:1], default=False)
def floors(session: nox.Session) -> None:
    """The tests again, on the oldest dependencies that pyproject.toml allows."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    requirements = [
        *PROJECT["project"]["dependencies"],
        *(r for extra in extras for r in extra if "knet" not in r),
    ]
    constraints = Path(session.create_tmp()) / "floors.txt"
    # Constraints have no extras: `httpx2[ws]`.
    exact = [re.sub(r"\[.*\]", "", r).replace(">=", "==") for r in requirements]
    constraints.write_text("".join(f"{r}\n" for r in dict.fromkeys(exact)))
    session.install(
        "-q", ".[cli]", "-c", str(constraints), *nox.project.dependency_groups(PROJECT, "test")
    )
    session.run("pytest", *NO_SERVERS, *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13"], default=False)
def bench(session: nox.Session) -> None:
    """The benchmarks, with the peers beside us in the same run; benchmarks/README.md says which."""
    install(session, "bench")
    brief = ["--benchmark-max-time=0.2", "--benchmark-min-rounds=3"]
    session.run("pytest", "benchmarks", "-p", "no:cacheprovider", *brief, *session.posargs)
    for script in ("ratios", "balance", "stall", "refresh", "many", "told", "imports"):
        session.run("python", "-m", f"benchmarks.{script}")


@nox.session(default=False, venv_backend="none")
def dev(session: nox.Session) -> None:
    """An environment to work in, `.venv`, with knet as it is here and all that its tests and checks need."""
    session.run(sys.executable, "-m", "venv", ".venv")
    groups = nox.project.dependency_groups(PROJECT, "typing", "lint", "docs")
    python = str(ROOT / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "-q", "-e", ".[cli,kubernetes]", *groups)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The site, out of docs/: a link or an anchor that leads nowhere fails. `-- serve` shows it on loopback."""
    session.install("-q", *nox.project.dependency_groups(PROJECT, "docs"))
    config = ["-f", "docs/site/mkdocs.yml"]
    # What its theme says of its future is for its maintainers.
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    if session.posargs[:1] == ["serve"]:
        session.run("mkdocs", "serve", *config, *session.posargs[1:], env=quiet)
    else:
        # Of a relative path MkDocs would think that it is beside its configuration.
        site = Path(session.create_tmp()).resolve() / "site"
        session.run("mkdocs", "build", *config, "-d", str(site), *session.posargs, env=quiet)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build sdist and wheel, check them, and import what the wheel installs."""
    session.install("-q", "build", "twine")
    dist = Path(session.create_tmp()) / "dist"
    for old in dist.glob("*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(dist), str(ROOT))
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    session.run("python", str(ROOT / "tests" / "contents.py"), str(wheel), str(sdist))
    session.install("-q", "--force-reinstall", f"{wheel}[cli]")
    session.chdir(os.fspath(dist))
    session.run("knet", "--help", silent=True)
    script = "import knet, knet.hashring, knet.resolver, knet.testing; knet.Ring; print(knet.__version__)"
    session.run("python", "-c", script)
