"""
The options of the `knet` command, and how it ends.

Exit codes: 0 done, 1 failed, 2 asked for in a wrong way, 130 ended by Ctrl-C, 141 nobody reads any more.
An error of knet is one line on standard error.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer
from rich.console import Console

from knet import ConfigError, KnetError, NameNotFound, ServerUnreachable
from knet.cli import lookups
from knet.cli.lookups import By, Family, Protocol, Target
from knet.cli.loop import Backend, is_installed, run

__all__ = ["app"]

T = TypeVar("T")

_DISTRIBUTION = "knet-ring"

# What the library calls its arguments, at the beginning of a message, and what they are here.
_OPTIONS = {
    "interval": "--interval",
    "min_interval": "--interval",
    "namespace": "--namespace",
    "a nameserver": "--nameserver",
    "nameservers": "--nameserver",
    "port": "--port",
    "service": "SERVICE",
}
_ARGUMENT = re.compile(rf"^({'|'.join(_OPTIONS)})\b")

# Seconds that the demo takes: time to look on, or just enough for a log.
_LIVE_SECONDS = 20.0
_PLAIN_SECONDS = 6.0
_MIN_PODS, _MAX_PODS = 2, 50

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Service = Annotated[
    str,
    typer.Argument(
        help="The headless Service: `web`, `web.prod`, or the whole name, "
        "`web.prod.svc.cluster.local`.",
        show_default=False,
    ),
]
_Port = Annotated[
    str | None,
    typer.Option(
        "--port",
        "-p",
        metavar="NUMBER|NAME",
        help="A number asks for A/AAAA records and adds that port. A name, such as `http`, asks for "
        "SRV records and takes port and hostname from there.",
        show_default="no port",
    ),
]
_Protocol = Annotated[Protocol, typer.Option(help="The protocol of a named port.")]
_Family = Annotated[Family, typer.Option(help="auto: IPv4 where there is any, else IPv6.")]
_Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="Where a bare `web` is looked up.",
        show_default="this pod's own, else default",
    ),
]
_Nameservers = Annotated[
    list[str] | None,
    typer.Option(
        "--nameserver",
        metavar="ADDRESS",
        help="A DNS server, `10.96.0.10` or `127.0.0.1:5353`; repeat it for more.",
        show_default="/etc/resolv.conf",
    ),
]
_External = Annotated[
    bool,
    typer.Option(
        "--external",
        help="Follow names outside of the service's own, as of an ExternalName Service.",
    ),
]
_By = Annotated[
    By,
    typer.Option(
        "--source",
        help="Where the pods come from: `dns`; `slices`, the EndpointSlices of the API of Kubernetes; or `auto`, "
        "the API, and DNS where that cannot tell.",
    ),
]
_Kubeconfig = Annotated[
    str | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Where the API is, and who asks.",
        show_default="the pod's service account, else $KUBECONFIG or ~/.kube/config",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
_Backend = Annotated[Backend, typer.Option(help="The event loop to run on.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            version = importlib.metadata.version(_DISTRIBUTION)
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        typer.echo(f"knet {version}")
        raise typer.Exit


@app.callback()
def knet(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_show_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """
    Every request for a key at the same pod of a Kubernetes headless Service.

    Start with `knet demo`, which needs no cluster.
    """
    # What the ring logs, the commands say themselves.
    logging.getLogger("knet").addHandler(logging.NullHandler())


@app.command()
def demo(
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Lines of text, as on a pipe, instead of the live picture."),
    ] = False,
    pods: Annotated[
        int, typer.Option(min=_MIN_PODS, max=_MAX_PODS, help="How many pods there are at first.")
    ] = 5,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            max=3600.0,
            help="About how long it takes.",
            show_default=f"{_LIVE_SECONDS:g}, plain {_PLAIN_SECONDS:g}",
        ),
    ] = None,
    backend: _Backend = "asyncio",
) -> None:
    """
    See it work, on this machine, with no cluster.

    Starts pods that really answer, on 127.0.0.1, and a DNS server in front of them, and sends the
    requests of 1,000 users each to its pod while a pod joins, pods die, one restarts, and DNS goes
    down.

    Ends with what happened in each act, and exits with 0 only if every pick worked, every request
    was answered by the picked pod, and no key moved without cause.
    """
    # Imported here because the other commands can do without dnspython, and start sooner.
    from knet.cli.demo import play  # noqa: PLC0415
    from knet.cli.demo.screen import LiveView, PlainView, summary  # noqa: PLC0415
    from knet.cli.demo.verdict import judge  # noqa: PLC0415

    console = Console()
    live = not plain and console.is_terminal and not console.is_dumb_terminal
    if not (console.encoding or "").startswith("utf"):
        live = False  # bars and cells are no ASCII
    length = seconds or (_LIVE_SECONDS if live else _PLAIN_SECONDS)
    with LiveView(console) if live else PlainView(console) as view:
        outcome = _run(lambda: play(view, pods=pods, seconds=length), backend)
    console.print()
    console.print(summary(outcome.acts, console.width))
    console.print()
    for note in outcome.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=not live)
    faults = judge(outcome.acts)
    for fault in faults:
        _complain(fault)
    if faults:
        raise typer.Exit(1)
    console.print("All was right: no failed pick, no wrong pod, no key moved without cause.")


@app.command()
def resolve(
    service: _Service,
    port: _Port = None,
    protocol: _Protocol = "tcp",
    family: _Family = "auto",
    namespace: _Namespace = None,
    nameserver: _Nameservers = None,
    external: _External = False,
    source: _By = "dns",
    kubeconfig: _Kubeconfig = None,
    json: _Json = False,
    backend: _Backend = "asyncio",
) -> None:
    """
    Look a service up once, as a ring would.

    With `--json`: an object with `service`, `source`, `name` (the DNS name that answered), `ttl` (seconds or
    null), `complete` (false where the answer was cut off) and `endpoints`, a list of objects with
    `name`, `address` and `port` (or null).

    Example: `knet resolve web.prod --port http`
    """
    where = source, kubeconfig
    target = _target(service, port, protocol, family, namespace, nameserver, external, where)
    _run(lambda: lookups.resolve(target(), as_json=json), backend)


@app.command()
def get(
    service: _Service,
    keys: Annotated[list[str], typer.Argument(help="What is routed.", show_default=False)],
    port: _Port = None,
    protocol: _Protocol = "tcp",
    family: _Family = "auto",
    count: Annotated[
        int, typer.Option("--count", "-c", min=1, help="How many pods for each key, best first.")
    ] = 1,
    placement: Annotated[
        lookups.Placing,
        typer.Option(
            metavar="NAME",
            help=f"Whose picks, knet's own or those of a proxy: {', '.join(lookups.PLACEMENTS)}.",
        ),
    ] = "hashring",
    namespace: _Namespace = None,
    nameserver: _Nameservers = None,
    external: _External = False,
    source: _By = "dns",
    kubeconfig: _Kubeconfig = None,
    json: _Json = False,
    backend: _Backend = "asyncio",
) -> None:
    """
    Say which pod each key belongs to.

    The picks are those of every `knet.Ring` that sees the same pods under the same names. Names
    differ between a `--port` that is a number or left out (addresses) and one that is a name
    (hostnames): ask as your program does.

    With `--placement envoy` and the like they are the picks of that proxy with its default options.
    Proxies hash the pods' addresses and ports, so they need `--port`; where their picks depend on
    the order of the pods, it is that of their names.

    With `--json`: for each key an object with `key` and `endpoints`, most preferred first, as
    `knet resolve` has them.

    Example: `knet get web.prod user-42 user-43 --port http -c 2`
    """
    where = source, kubeconfig
    target = _target(service, port, protocol, family, namespace, nameserver, external, where)
    _run(lambda: lookups.get(target(), keys, placing=placement, count=count, as_json=json), backend)


@app.command()
def watch(
    service: _Service,
    port: _Port = None,
    protocol: _Protocol = "tcp",
    family: _Family = "auto",
    interval: Annotated[
        float, typer.Option(help="Seconds between lookups, at most; a shorter TTL shortens it.")
    ] = 5.0,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", "-c", min=1, help="End after so many changes.", show_default="until Ctrl-C"
        ),
    ] = None,
    namespace: _Namespace = None,
    nameserver: _Nameservers = None,
    external: _External = False,
    source: _By = "dns",
    kubeconfig: _Kubeconfig = None,
    json: _Json = False,
    backend: _Backend = "asyncio",
) -> None:
    """
    Follow a service, a line for each change.

    The first line is what there is. Then one for each change of the endpoints, with the share of
    all keys that moved, or of the ring's state: fresh, stale (DNS fails, the last pods are kept) or
    empty.

    With `--json`: objects with `time`, `event` (`start`, `change` or `state`), `generation`,
    `state`, `endpoints`, `added`, `removed`, `moved` (0 to 1), `error` (the last failure, while
    not fresh, or null) and `source`, the class of what is asked or tells.

    From a laptop, told by the API within milliseconds: `knet watch web.prod --source slices`

    Example: `knet watch web.prod --port http --interval 1`
    """
    where = source, kubeconfig
    target = _target(service, port, protocol, family, namespace, nameserver, external, where)
    _run(
        lambda: lookups.watch(target(), interval=interval, changes=count, as_json=json),
        backend,
    )


@app.command()
def simulate(
    pods: Annotated[int, typer.Option(help="How many pods there are, up to 10,000.")] = 10,
    scale: Annotated[
        int | None,
        typer.Option(help="To how many pods the service is scaled.", show_default=False),
    ] = None,
    rolling: Annotated[
        Literal["deployment", "statefulset"] | None,
        typer.Option(
            help="A rolling update. Pods of a Deployment get new names; those of a StatefulSet go away and "
            "come back, the last one first.",
            show_default=False,
        ),
    ] = None,
    max_surge: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|PERCENT", help="How many pods more there may be.", show_default="25%"
        ),
    ] = None,
    max_unavailable: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|PERCENT",
            help="How many fewer may be ready.",
            show_default="25%, of a StatefulSet 1",
        ),
    ] = None,
    lose_zone: Annotated[
        bool, typer.Option("--lose-zone", help="All pods of one zone are gone at once.")
    ] = False,
    zones: Annotated[
        int | None,
        typer.Option(help="Over how many zones the pods are spread.", show_default="3"),
    ] = None,
    placement: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="As of `knet get`, or `balanced`: HashRing(balance=1.1). Repeat it to see several side by "
            "side.",
            show_default="hashring",
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(metavar="N,N,...", help="Weights of the pods, used again and again."),
    ] = "1",
    keys: Annotated[
        int | None,
        typer.Option(help="How many keys, up to 5,000,000.", show_default="100000"),
    ] = None,
    zipf: Annotated[
        float | None,
        typer.Option(
            help="Keys are asked for by Zipf's law: the n-th 1/n^ZIPF times as often as the first.",
            show_default="all alike",
        ),
    ] = None,
    keys_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The keys, one a line; how often each is asked for may follow after a tab.",
            show_default=False,
        ),
    ] = None,
    hot: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="One key has that part of all requests, such as 0.2.",
            show_default=False,
        ),
    ] = None,
    bound: Annotated[
        float | None,
        typer.Option(
            help="Bounded load, as of `ring.acquire`: 1.25 evens out more, 1.5 keeps more keys at their "
            "pod.",
            show_default=False,
        ),
    ] = None,
    in_flight: Annotated[
        int | None,
        typer.Option(
            help="How many requests one client has under way, for --bound.",
            show_default="10 for each pod",
        ),
    ] = None,
    clients: Annotated[
        int, typer.Option(help="How many processes follow the service, up to 1,000,000.")
    ] = 100,
    draws: Annotated[
        int | None,
        typer.Option(
            help="How many clusters are drawn, for the error bars; 0: none.",
            show_default="19, where that takes some seconds",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same addresses.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw it too, as `.svg` or `.png`; needs matplotlib, the extra `plot`.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """
    Say what a change of pods would do, before it happens: no cluster is asked.

    How uneven the load gets, how many keys move and how many of them miss in a cache: exactly, since
    the placements themselves are asked for every key. How much of that is luck, of names and of batches: by
    drawing other clusters. When clients hear of it, and what that costs the DNS of the cluster and the API
    server: by a model, which says what it assumes.

    With `--json`: an object with `change`, `placements` (`busiest_before`, `busiest_after`, `moved`, `net`,
    `least`, `misses`, `requests_by_pod`, `steps`), `bars`, `bounded`, `news` (seconds) and `costs`.

    A million keys take some seconds for each step and placement.

    Example: `knet simulate --pods 10 --scale 12 --zipf 1.1 --placement hashring --placement maglev`
    """
    # Imported here because the other commands can do without it, and start sooner.
    from knet.cli import simulate as simulation  # noqa: PLC0415

    with _told():
        picture = None if plot is None else simulation.picture(plot)
        wanted = simulation.Wanted(
            pods=pods,
            weights=_numbers(weights, "--weights"),
            placements=placement or ("hashring",),
            keys=keys,
            zipf=zipf,
            keys_file=keys_file,
            hot=hot,
            scale=scale,
            rolling=rolling,
            surge=max_surge,
            unavailable=max_unavailable,
            lose_zone=lose_zone,
            zones=zones,
            bound=bound,
            in_flight=in_flight,
            clients=clients,
            draws=draws,
            seed=seed,
        )
        found = simulation.simulate(wanted, progress=Console(stderr=True).is_terminal)
        if json:
            typer.echo(simulation.as_json(found))
        else:
            simulation.show(found)
        if picture is not None:
            picture(found)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} must be numbers such as 1,1,2, got {text!r}") from None


def _target(
    service: str,
    port: str | None,
    protocol: Protocol,
    family: Family,
    namespace: str | None,
    nameservers: list[str] | None,
    external: bool,
    where: tuple[By, str | None],
) -> Callable[[], Target]:
    number = port is not None and port.isascii() and port.isdecimal()
    return lambda: Target(
        service,
        int(port) if port is not None and number else port,
        protocol,
        family,
        tuple(nameservers or ()),
        external,
        namespace,
        *where,
    )


def _run(main: Callable[[], Awaitable[T]], backend: Backend) -> T:
    """
    Run *main* to its end; what goes wrong becomes a line and an exit code.
    """
    if not is_installed(backend):
        raise typer.BadParameter(f"{backend} is not installed", param_hint="--backend")
    with _told():
        return run(main, backend)


@contextmanager
def _told() -> Iterator[None]:
    """
    Let what goes wrong become a line and an exit code.
    """
    try:
        yield
    except (KnetError, ImportError) as error:
        _complain(error)
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _complain(what: object) -> None:
    text = " ".join(str(what).split())
    if isinstance(what, ConfigError):
        text = _ARGUMENT.sub(lambda match: _OPTIONS[match[1]], text, count=1)
    elif isinstance(what, NameNotFound | ServerUnreachable) and not _is_in_cluster():
        text += "; outside of a cluster try `knet demo`, or `--source slices` with a kubeconfig"
    typer.echo(f"knet: {text.replace('Resolver(external=True)', '--external')}", err=True)


def _is_in_cluster() -> bool:
    """
    Does the kubelet say so, as it does to every container?
    """
    return "KUBERNETES_SERVICE_HOST" in os.environ
