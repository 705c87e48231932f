"""
`HeadlessService`: the controls over a pretended headless Service.

Every control makes a new `Zone` (or another fault) and swaps it in, from any thread; the server's
thread reads whatever is there when a query arrives.
"""

from __future__ import annotations

import ipaddress
import itertools
import random
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rrset

from knet import KnetError, open_rings
from knet.errors import ConfigError
from knet.resolver import Surroundings, surrounded_by
from knet.testing.api.door import KubernetesAPI
from knet.testing.api.responder import Responder as APIResponder
from knet.testing.api.server import Place
from knet.testing.controls import LOOK_AGAIN, check_delay
from knet.testing.responder import (
    Fault,
    FaultKind,
    Query,
    Respond,
    Responder,
    Transport,
    type_number,
)
from knet.testing.server import Server
from knet.testing.wire import LARGEST, write
from knet.testing.zone import (
    Addresses,
    Family,
    Pod,
    Port,
    Zone,
    check_int,
    is_address,
    ports_from,
    split_service,
)

__all__ = ["HeadlessService"]


class _API(NamedTuple):
    """
    The API, once it was asked for.
    """

    door: KubernetesAPI
    responder: APIResponder
    place: Place


class HeadlessService:
    """
    A headless Service in a box: a DNS server on loopback that answers as CoreDNS does, and the API of
    Kubernetes where it is asked for, `api`.

        >>> import dns.resolver
        >>> with HeadlessService("web.prod", pods=3) as service:
        ...     host, _, port = service.nameserver.rpartition(":")
        ...     client = dns.resolver.Resolver(configure=False)
        ...     client.nameservers, client.port = [host], int(port)
        ...     len(client.resolve("web.prod.svc.cluster.local", "A"))
        3

    Enter it with ``with`` or, on any event loop, ``async with``, or call `start` and `close`. It
    lives in a thread of its own. Every control can be called from any thread, before or while it
    runs, and holds for every query that arrives after the call returned. Nothing is cached
    between the controls and the answers, as in a CoreDNS without its ``cache`` plugin.

    Args:
        service: ``"web.prod"`` (in ``cluster.local``) or ``"web.prod.svc.cluster.local"``.
        pods: How many, or which: a `Pod`, an address, or a hostname.
        ports: ``{"http": 8080}``, ``{("dns", "udp"): 53}`` or `Port` values; may be empty. The
            name ``""`` is the unnamed port. Each pod may have other numbers of its own.
        stateful: Give pods the hostnames ``web-0``, ``web-1``, ... and keep them, as a
            StatefulSet does. Otherwise pods go by their dashed address, as a Deployment's do.
        families: Of which families a pod gets an address. Both: a dual-stack Service.
        networks: Where these addresses come from, at most one network per family, the third
            address of each first (``10.244.0.2``). ``["127.0.0.0/8"]`` gives addresses that
            servers on Linux can listen on; macOS has only 127.0.0.1, see `Pod.ports`.
        ttl: Seconds, of every record and of the SOA. 5, CoreDNS's default; kubeadm sets 30.
        shuffle: Answer A, AAAA and additional records in random order, as CoreDNS's
            ``loadbalance`` plugin does. SRV records are never shuffled.
        seed: Makes the shuffling, and the garbage, repeat from run to run.
        host: The loopback address to listen on, ``"127.0.0.1"`` or ``"::1"``.
        port: For UDP and TCP both; 0 takes a free one.
        tcp: Whether TCP connections are taken; see `set_tcp`.

    Raises:
        ConfigError: An argument that no Service could have.
    """

    _server: Server | None = None
    _api: _API | None = None

    def __init__(
        self,
        service: str,
        *,
        pods: int | Iterable[str | Pod] = 3,
        ports: Mapping[str, int] | Mapping[tuple[str, str], int] | Iterable[Port] = (
            Port("http", 8080),
        ),
        stateful: bool = False,
        families: Iterable[Family] = ("ipv4",),
        networks: Iterable[str] = ("10.244.0.0/16", "fd00:244::/64"),
        ttl: int = 5,
        shuffle: bool = True,
        seed: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tcp: bool = True,
    ) -> None:
        name, namespace, origin = split_service(service)
        for what, text in (("families", families), ("networks", networks)):
            if isinstance(text, str):
                raise TypeError(f"{what} is a sequence, as ({text!r},), not a str")
        self._stateful = stateful
        self._addresses = Addresses(networks, families)
        self._host = _loopback(host)
        self._port = check_int(port, "port", 0, 65535)
        self._tcp = tcp
        zone = Zone(name, namespace, origin, ports=ports_from(ports), serial=int(time.time()))
        self._seed = seed
        self._responder = Responder(zone, random.Random(seed), shuffle=shuffle)
        self.set_ttl(ttl)
        if isinstance(pods, int) and not isinstance(pods, bool):
            self.scale(pods)
        elif isinstance(pods, (str, bool)):
            raise TypeError(f"pods is a number or a sequence of pods, not {pods!r}")
        else:
            for pod in pods:
                self.add(pod)

    # --- life

    def start(self) -> Self:
        """
        Listen; return once queries are answered, after a few milliseconds.

        After `close` it starts again on the same port, like a DNS server that came back.

        Raises:
            OSError: The port is taken.
            RuntimeError: It runs already.
        """
        if self._server is not None:
            raise RuntimeError(f"{self!r} runs already")
        self._server = Server(self._responder, host=self._host, port=self._port, tcp=self._tcp)
        self._port = self._server.port
        if self._api is not None:
            try:
                self._api.place.open()
            except BaseException:
                self.close()
                raise
        return self

    def close(self) -> None:
        """
        Stop; return once the thread has ended and the sockets are closed. Twice does no harm.

        Raises:
            Exception: What `respond` raised while answering, if it did.
        """
        server = self._server
        if server is not None:
            if server.is_own_thread:
                raise RuntimeError("a headless service cannot be closed from its respond hook")
            if self._api is not None:
                self._api.place.close()
            self._server = None
            server.close()
        trouble, self._responder.trouble = self._responder.trouble, None
        if self._api is not None:
            responder = self._api.responder
            trouble, responder.trouble = trouble or responder.trouble, None
        if trouble is not None:
            raise trouble

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as trouble:
            if exc is None:
                raise
            exc.add_note(f"closing {self.name} raised {trouble!r}")

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def __del__(self) -> None:
        server = self._server
        if server is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            server.stop_soon()
            if self._api is not None:
                self._api.place.stop_soon()

    def __repr__(self) -> str:
        state = self.nameserver if self._server is not None else "closed"
        ready = sum(pod.is_listed for pod in self.pods)
        return f"<HeadlessService {self.name!r} {state} pods={len(self.pods)} ready={ready}>"

    # --- what it is

    @property
    def name(self) -> str:
        """
        The full name without final dot, ``web.prod.svc.cluster.local``.
        """
        return self._responder.zone.name

    @property
    def nameserver(self) -> str:
        """
        Where it answers, ``"127.0.0.1:5353"`` or ``"[::1]:5353"``; `knet.Resolver` takes it.

        Raises:
            RuntimeError: It was never started.
        """
        if not self._port:
            raise RuntimeError(f"the headless service {self.name!r} has no port before it started")
        return f"{'[::1]' if ':' in self._host else self._host}:{self._port}"

    @property
    def api(self) -> KubernetesAPI:
        """
        The API of Kubernetes, which tells the same pods as EndpointSlices, and its controls.

        It is there from the first time it is asked for, in a thread of its own, and runs when the service does.

        Raises:
            OSError: There is no port for it.
        """
        with self._responder.lock:
            if self._api is None:
                zone, rng = self._responder.zone, random.Random(self._seed)
                responder = APIResponder(self._addresses.families, zone, rng)
                place = Place(responder, self._host)
                if self._server is not None:
                    place.open()
                api = KubernetesAPI(responder, place, zone.namespace, zone.origin)
                self._api = _API(api, responder, place)
            return self._api.door

    @property
    def pods(self) -> tuple[Pod, ...]:
        """
        The pods as they are now, ready or not, oldest first.
        """
        return self._responder.zone.pods

    @property
    def ports(self) -> tuple[Port, ...]:
        """
        The ports of the Service.
        """
        return self._responder.zone.ports

    @contextmanager
    def as_default(self) -> Iterator[Self]:
        """
        Let every ring that starts meanwhile without a `resolver` ask this service, and every `EndpointSlices()` its
        API: for an app that makes its rings itself.

            with service.as_default(), TestClient(app) as client:
                service.remove(pod)
                service.wait_until_seen()
                assert client.get("/rooms/7").status_code == 200

        In the whole process, since an app under test may live in another thread.
        """
        zone = self._responder.zone
        nameservers = (self.nameserver,)
        here = Surroundings(zone.namespace, zone.origin, (), nameservers, api=self.api.url)
        with surrounded_by(here):
            yield self

    def wait_until_seen(self, timeout: float = 5.0) -> None:
        """
        Block until every ring of this service in this process has the pods that are ready now.

        Blocks its thread: on an event loop use `wait_until_seen_async`. The rings are told to ask at once. One that has
        nobody left keeps the last pods for half a minute, and is waited for in vain. A ring without a named port
        cannot tell pods that share an address.

        Raises:
            TimeoutError: *timeout* seconds were not enough; it says what which ring has.
        """
        end = time.monotonic() + timeout
        while (behind := self._behind()) and time.monotonic() < end:
            time.sleep(LOOK_AGAIN)
        self._check_seen(behind, timeout)

    async def wait_until_seen_async(self, timeout: float = 5.0) -> None:
        """
        `wait_until_seen` for asyncio and trio; looks every few milliseconds.

        The timeout is real time, whatever clock the loop runs on.
        """
        end = time.monotonic() + timeout
        while (behind := self._behind()) and time.monotonic() < end:  # noqa: ASYNC110 - as for queries
            await anyio.sleep(LOOK_AGAIN)
        self._check_seen(behind, timeout)

    def _behind(self) -> list[str]:
        """
        Ask the rings that have not seen what the pods are, and return what they have.
        """
        behind: list[str] = []
        for ring in open_rings():
            if self.name not in ring.names:
                continue
            try:
                has = {(each.address, each.port) for each in ring.snapshot.endpoints}
            except KnetError:  # it is starting, or was closed just now
                has = set()
            if has not in self._expected_by(ring.port):
                behind.append(f"{ring!r} has {', '.join(sorted({a for a, _ in has})) or 'none'}")
                ring.refresh_soon()
        return behind

    def _expected_by(self, port: int | str | None) -> list[set[tuple[str, int | None]]]:
        """
        Return what a ring of *port* may have once it has seen the pods, one family or the other: addresses and ports.
        """
        usual = next((each.number for each in self.ports if each.name == port), None)
        there = {
            (address, pod.ports.get(port, usual) if isinstance(port, str) else port)
            for pod in self.pods
            if pod.is_listed
            for address in pod.addresses
        }
        split = [{each for each in there if (":" in each[0]) == six} for six in (False, True)]
        return [family for family in split if family] or [set()]

    def _check_seen(self, behind: list[str], timeout: float) -> None:
        if behind:
            there = ", ".join(a for pod in self.pods if pod.is_listed for a in pod.addresses)
            raise TimeoutError(f"not seen in {timeout:g} s: {there or 'none'}; {'; '.join(behind)}")

    # --- pods come, go and change

    def scale(self, n: int) -> tuple[Pod, ...]:
        """
        Make it *n* pods, ready or not, and return them.

        Going down a StatefulSet loses its highest ordinals; a Deployment its unready pods first,
        then its youngest. Going up each new pod is ready.
        """
        check_int(n, "number of pods", 0)
        with self._responder.lock:
            by_age = self.pods
            last_to_go_first = sorted(by_age, key=_ordinal if self._stateful else _is_unready)
            kept = {id(pod) for pod in last_to_go_first[:n]}
            pods = [pod for pod in by_age if id(pod) in kept]
            used = _addresses_of(pods)
            for hostname in itertools.islice(self._free_hostnames(pods), n - len(pods)):
                pod = Pod(self._addresses.give(used), hostname=hostname)
                used.update(pod.addresses)
                pods.append(pod)
            self._put(pods=tuple(pods))
            return self.pods

    def add(self, pod: Pod | str | None = None) -> Pod:
        """
        One pod more.

        Args:
            pod: A `Pod`, an address or a hostname; what it leaves open (all of it, if `None`)
                is chosen as for every other pod.

        Returns:
            The pod as it is now in DNS.

        Raises:
            ConfigError: It cannot be told from a pod that is there.
        """
        with self._responder.lock:
            zone = self._responder.zone
            made = self._complete(_pod(pod), zone.pods)
            self._put(pods=(*zone.pods, zone.check(made)))
            return made

    def remove(self, pod: Pod | str) -> Pod:
        """
        Take one pod away and return what it was.

        Args:
            pod: A `Pod` (compared by hostname and addresses), a hostname or an address.

        Raises:
            LookupError: There is no such pod, or *pod* means several.
        """
        with self._responder.lock:
            zone = self._responder.zone
            at = zone.find(pod)
            self._put(pods=zone.pods[:at] + zone.pods[at + 1 :])
            return zone.pods[at]

    def replace(self, pod: Pod | str, new: Pod | str | None = None) -> Pod:
        """
        Restart one pod: a pod with a hostname keeps it at a new address; another gets both new.

        Args:
            pod: As for `remove`.
            new: The pod that takes its place, if chosen by the caller.

        Returns:
            The new pod, ready.
        """
        with self._responder.lock:
            zone = self._responder.zone
            at = zone.find(pod)
            old = zone.pods[at]
            # The old address is still in use here, so that the new one differs.
            made = self._complete(_pod(new), zone.pods, hostname=old.hostname)
            self._put(pods=zone.changed(at, zone.check(made, instead_of=at)))
            return made

    def rename(self, pod: Pod | str, hostname: str | None) -> Pod:
        """
        Give one pod another hostname; `None` leaves it its dashed address.
        """
        return self._alter(pod, hostname=hostname)

    def ready(self, pod: Pod | str) -> Pod:
        """
        Make one pod pass its readiness probe.
        """
        return self._alter(pod, ready=True)

    def unready(self, pod: Pod | str) -> Pod:
        """
        Make one pod fail its readiness probe, which takes it out of DNS.

        With no pod ready the Service answers NXDOMAIN, as if it did not exist.
        """
        return self._alter(pod, ready=False)

    def terminate(self, pod: Pod | str) -> Pod:
        """
        Delete one pod, and let it shut down until `remove`.

        DNS has it no longer. In slices it is terminating, and serves if it was ready.
        """
        return self._alter(pod, terminating=True)

    def set_ttl(self, ttl: int) -> None:
        """
        Change the seconds in every answer to come.
        """
        self._put(ttl=check_int(ttl, "ttl", 0, 2**31 - 1))

    def alias(self, service: str, target: str) -> None:
        """
        Add an ExternalName Service: a name that answers with a CNAME.

        Args:
            service: ``"shop.prod"``; in the zone of this service.
            target: Any name. Where it is this service's, or another alias, the answer goes on
                to the addresses; else it ends with the CNAME, as CoreDNS's does without upstream.
        """
        zone = self._responder.zone
        name, namespace, origin = split_service(service)
        if origin != zone.origin and service.count(".") > 2:
            raise ConfigError(f"an alias lives in the zone {zone.origin!r}, got {service!r}")
        if (name, namespace) == (zone.service, zone.namespace):
            raise ConfigError(f"{self.name} is the headless service itself")
        try:
            goal = dns.name.from_text(target).to_text()
        except dns.exception.DNSException as error:
            raise ConfigError(f"not a DNS name: {target!r} ({error})") from None
        with self._responder.lock:
            zone = self._responder.zone
            self._put(aliases={**zone.aliases, (name, namespace): goal})

    # --- things go wrong

    def fail(
        self,
        kind: FaultKind,
        *,
        times: int | None = None,
        rdtype: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        """
        Let queries fail, until `heal` or for a number of *times*.

        Several faults can stand at once; a query meets the newest one that matches it.

        Args:
            kind: ``"SERVFAIL"``, ``"REFUSED"``, ``"NOTIMP"``, ``"FORMERR"``: an empty answer
                with that code. ``"NXDOMAIN"``, ``"NODATA"``: as if there were no such name, no
                such record. ``"SILENCE"``: no answer. ``"GARBAGE"``: the right id, then bytes
                that are no DNS. ``"WRONG_ID"``: the right answer to another query.
                ``"WRONG_QUESTION"``: the right records below another question.
                ``"WRONG_SOURCE"``: the right answer from another port, over UDP.
                ``"TRUNCATE"``: half the records and TC, over UDP unless *transport* says TCP.
                ``"CLOSE"``: the TCP connection is closed instead of an answer.
            times: How many matching queries fail; `None`: all.
            rdtype: Only queries of this type, as ``"SRV"``.
            transport: Only queries over ``"udp"`` or ``"tcp"``.

        Raises:
            ConfigError: There is no such kind, type or transport.
        """
        self._responder.faults.add(Fault(kind, times, rdtype, transport))

    @contextmanager
    def failing(
        self,
        kind: FaultKind,
        *,
        times: int | None = None,
        rdtype: str | None = None,
        transport: Transport | None = None,
    ) -> Iterator[None]:
        """
        `fail` for the length of a ``with`` block; other faults stand as they are.
        """
        with self._responder.faults.during(Fault(kind, times, rdtype, transport)):
            yield

    def delay(self, seconds: float) -> None:
        """
        Send every answer that many seconds late, made from what was true when it was asked.
        """
        self._responder.delay = check_delay(seconds)

    def set_tcp(self, enabled: bool) -> None:
        """
        Take TCP connections; or refuse them and drop those that are open, as a firewall may.
        """
        if self._server is not None:
            if self._server.is_own_thread:
                raise RuntimeError("set_tcp cannot be called from the respond hook")
            self._server.set_tcp(enabled)
        self._tcp = enabled

    def heal(self) -> None:
        """
        End every fault and delay, and take TCP connections again. `respond` stays.
        """
        self._responder.faults.clear()
        self._responder.delay = 0.0
        if not self._tcp:
            self.set_tcp(True)

    # --- exact answers

    @property
    def respond(self) -> Respond | None:
        """
        A function that answers instead: from the query, as dnspython reads it, to a message or
        bytes, sent as they are whatever their size, or to `None` for the usual answer.

        It runs on the server's thread. Faults go before it. What it raises is answered with
        SERVFAIL, and raised by `close`. `answer` gives it the usual answer to alter::

            def without_additional(query: dns.message.Message) -> dns.message.Message:
                reply = service.answer(query)
                reply.additional.clear()
                return reply

            service.respond = without_additional
        """
        return self._responder.respond

    @respond.setter
    def respond(self, function: Respond | None) -> None:
        if function is not None and not callable(function):
            raise TypeError(f"respond must be callable or None, not {function!r}")
        with self._responder.lock:
            self._responder.respond = function

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """
        The usual answer to *query*, whole, as a message of one's own to look at or alter.
        """
        if query.flags & dns.flags.QR:
            raise ConfigError("not a query: it has the QR bit set")
        # There and back again, because the records are shared.
        return dns.message.from_wire(write(self._responder.answer(query), LARGEST))

    def answer_with(
        self, *records: str, additional: Iterable[str] = (), rdtype: str | None = None
    ) -> None:
        """
        Answer every query with exactly these records, whatever was asked.

        Sets `respond`; ``service.respond = None`` ends it.

        Args:
            records: The answer section, as in a zone file with full names:
                ``"web.prod.svc.cluster.local. 5 IN A 10.0.0.1"``. None: an empty NOERROR.
            additional: The additional section, likewise.
            rdtype: Only for queries of this type; others get the usual answer.

        Raises:
            ConfigError: A line that is no record.
        """
        answer = tuple(_rrset(line) for line in records)
        extra = tuple(_rrset(line) for line in additional)
        wanted = None if rdtype is None else type_number(rdtype)

        def fixed(query: dns.message.Message) -> dns.message.Message | None:
            if wanted is not None and query.question[0].rdtype != wanted:
                return None
            reply = dns.message.make_response(query)
            reply.flags |= dns.flags.AA
            reply.answer.extend(answer)
            reply.additional.extend(extra)
            return reply

        self.respond = fixed

    # --- what was asked

    @property
    def queries(self) -> tuple[Query, ...]:
        """
        The latest 10,000 queries, oldest first.
        """
        return self._responder.log.latest

    def forget_queries(self) -> None:
        """
        Begin to count from none.
        """
        self._responder.log.forget()

    def wait_for_queries(self, n: int, timeout: float = 5.0) -> tuple[Query, ...]:
        """
        Block until *n* queries have arrived since the start, or since `forget_queries`.

        Blocks its thread: on an event loop use `wait_for_queries_async`.

        Returns:
            `queries`; at least *n* of them unless forgotten.

        Raises:
            TimeoutError: *timeout* seconds were not enough.
        """
        return self._responder.log.wait(n, timeout)

    async def wait_for_queries_async(self, n: int, timeout: float = 5.0) -> tuple[Query, ...]:
        """
        `wait_for_queries` for asyncio and trio; looks every few milliseconds.

        The timeout is real time, whatever clock the loop runs on.
        """
        return await self._responder.log.wait_async(n, timeout)

    # --- inside

    def _put(self, **changes: Any) -> None:
        """
        The one place where the zone is swapped.
        """
        with self._responder.lock:
            now = int(time.time())
            zone = replace(self._responder.zone, serial=now, **changes)
            self._responder.zone = zone
            if self._api is not None and "pods" in changes:
                self._api.responder.publish(zone)

    def _alter(self, pod: Pod | str, **changes: Any) -> Pod:
        with self._responder.lock:
            zone = self._responder.zone
            at = zone.find(pod)
            made = zone.check(replace(zone.pods[at], **changes), instead_of=at)
            self._put(pods=zone.changed(at, made))
            return made

    def _complete(self, pod: Pod, others: tuple[Pod, ...], *, hostname: str | None = None) -> Pod:
        """
        *pod* with the address and hostname it left open.
        """
        return replace(
            pod,
            addresses=pod.addresses or self._addresses.give(_addresses_of(others)),
            hostname=pod.hostname or hostname or next(self._free_hostnames(others)),
        )

    def _free_hostnames(self, pods: Iterable[Pod]) -> Iterator[str | None]:
        """
        The free ordinals of a StatefulSet, lowest first; in a Deployment `None` for ever.
        """
        if not self._stateful:
            return itertools.repeat(None)
        taken = {pod.hostname for pod in pods}
        ordinals = (f"{self._responder.zone.service}-{n}" for n in itertools.count())
        return (hostname for hostname in ordinals if hostname not in taken)


def _ordinal(pod: Pod) -> int:
    number = pod.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _is_unready(pod: Pod) -> bool:
    return not pod.is_listed


def _addresses_of(pods: Iterable[Pod]) -> set[str]:
    return {address for pod in pods for address in pod.addresses}


def _pod(pod: Pod | str | None) -> Pod:
    """
    What `add` and `replace` take, as a `Pod`.
    """
    if pod is None:
        return Pod()
    if isinstance(pod, str):
        return Pod(pod) if is_address(pod) else Pod(hostname=pod)
    if isinstance(pod, Pod):
        return pod
    raise TypeError(f"expected a Pod, an address or a hostname, not {pod!r}")


def _loopback(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(f"host must be a numeric loopback address, got {host!r}") from None
    if not address.is_loopback:
        raise ConfigError(f"host must be a loopback address, got {host!r}")
    return str(address)


def _rrset(line: str) -> dns.rrset.RRset:
    parts = line.split(None, 4)
    try:
        owner, ttl, rdclass, rdtype, data = parts
        return dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, data)
    except (ValueError, dns.exception.DNSException) as error:
        raise ConfigError(
            f"expected a record as 'NAME TTL IN TYPE DATA', got {line!r} ({error})"
        ) from None
