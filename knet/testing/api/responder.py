"""
The mind of the pretended API server: a request goes in, what to send comes out.

Holds what the controls change (the slices, the faults, the delay, the hook), the open watches and the log of
requests, under one lock: controls come from any thread, requests from the server's own. Does no I/O and never
sleeps. Whoever changes something calls `wake` after it.

The answers are those of a real server, which tests hold them against.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from knet.errors import ConfigError
from knet.testing.api import statuses
from knet.testing.api.slices import Book, Json
from knet.testing.api.store import Event, Store
from knet.testing.controls import Faults, Log, check_times
from knet.testing.zone import Zone

__all__ = [
    "APIFaultKind",
    "APIRequest",
    "APIRespond",
    "APIVerb",
    "Fault",
    "Responder",
    "Silence",
    "Stream",
    "Watch",
    "Whole",
]

APIFaultKind = Literal[
    "UNAUTHORIZED",
    "FORBIDDEN",
    "NOT_FOUND",
    "GONE",
    "TOO_MANY_REQUESTS",
    "SERVER_ERROR",
    "UNAVAILABLE",
    "NO_INITIAL_EVENTS",
    "SILENCE",
    "GARBAGE",
    "CLOSE",
]
APIVerb = Literal["list", "watch", "get"]
_CODES: dict[str, int] = {
    "UNAUTHORIZED": 401,
    "NOT_FOUND": 404,
    "GONE": 410,
    "TOO_MANY_REQUESTS": 429,
    "SERVER_ERROR": 500,
    "UNAVAILABLE": 503,
}
_LATER = (429, 503, 504)

_PATH = re.compile(
    r"/apis/discovery\.k8s\.io/v1(?:/namespaces/([^/]+))?/endpointslices(?:/([^/]+))?"
)
_KIND = {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1"}
_NOT_SENT = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"


@dataclass(frozen=True, slots=True)
class APIRequest:
    """
    One request the API server received.

    Attributes:
        verb: ``"list"``, ``"watch"`` or ``"get"``, as RBAC has it; of other methods, those in lower case.
        path: ``"/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices"``.
        params: The query: ``labelSelector``, ``limit``, ``continue``, ``resourceVersion``, ...
        token: The bearer token, or ``""``.
        time: Seconds on `time.monotonic`'s clock.
    """

    verb: str
    path: str
    params: Mapping[str, str] = field(hash=False)
    token: str
    time: float


APIRespond: TypeAlias = Callable[
    [APIRequest], "int | tuple[int, str | bytes | dict[str, Any]] | None"
]


@dataclass(slots=True, eq=False)
class Fault:
    """
    One thing that goes wrong, for the requests it matches.

    Attributes:
        kind: What goes wrong.
        times: How many requests more, `None` for all until healed.
        verb: Only requests of this kind; `None` for all.
        retry_after: Seconds, of the header with 429 and 503.
    """

    kind: APIFaultKind
    times: int | None = None
    verb: APIVerb | None = None
    retry_after: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(APIFaultKind):
            raise ConfigError(f"a fault is one of {get_args(APIFaultKind)}, got {self.kind!r}")
        check_times(self.times)
        if self.verb not in (None, *get_args(APIVerb)):
            raise ConfigError(f"a verb is one of {get_args(APIVerb)}, got {self.verb!r}")
        if self.retry_after < 0:
            raise ConfigError(f"retry_after must be at least 0, got {self.retry_after}")

    def matches(self, request: APIRequest) -> bool:
        """
        Whether *request* meets this fault.
        """
        if self.kind == "NO_INITIAL_EVENTS" and not _is_true(request, "sendInitialEvents"):
            return False
        return self.verb in (None, request.verb)

    @property
    def stills(self) -> bool:
        """
        Whether open watches say nothing while it stands.
        """
        return self.kind == "SILENCE" and self.times is None and self.verb in (None, "watch")


class Watch:
    """
    One open watch.

    Attributes:
        lines: What is to be sent, and when, on `time.monotonic`'s clock: a line, or how the watch ends,
            by itself (``"end"``) or in the middle of a line (``"break"``).
        seconds: After which it ends by itself.
        began: The version when it was opened.
    """

    def __init__(
        self,
        matches: Callable[[Json], bool],
        began: int,
        after: int,
        seconds: float,
        *,
        bookmarks: bool,
    ) -> None:
        self.lines: deque[tuple[float, bytes | Literal["end", "break"]]] = deque()
        self.began = began
        self.seconds = seconds
        self.bookmarks = bookmarks
        self._matches = matches
        self._after = after

    def tell(self, event: Event, due: float) -> None:
        """
        Send what happened, unless it is of no concern.
        """
        if event.version > self._after and self._matches(event.object):
            self.say(event.kind, {**_KIND, **event.object}, due)

    def say(self, kind: str, told: Json, due: float) -> None:
        """
        Send a line.
        """
        self.lines.append((due, _dumped({"type": kind, "object": told}) + b"\n"))

    def bookmark(self, version: int, due: float, *, is_first: bool = False) -> None:
        """
        Send a bookmark, if they are wanted; the first one ends what was there before.
        """
        if self.bookmarks:
            metadata: Json = {"resourceVersion": str(version)}
            if is_first:
                metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
            nothing = {"addressType": "", "endpoints": None, "ports": None}
            self.say("BOOKMARK", {**_KIND, "metadata": metadata, **nothing}, due)


@dataclass(frozen=True, slots=True)
class Whole:
    """
    A response that is sent at once.
    """

    code: int
    body: bytes
    delay: float = 0.0
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """
    A watch that is open from now on.
    """

    watch: Watch
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Silence:
    """
    No response, on a connection that stays or is closed.
    """

    close: bool = False
    delay: float = 0.0


Outcome: TypeAlias = "Whole | Stream | Silence"


class _Refused(Exception):
    """
    Raised with the ``Status`` that is the answer.
    """

    def __init__(self, told: Json) -> None:
        super().__init__(told["message"])
        self.told = told


class Responder:
    """
    What the controls change and the server reads.

    Args:
        families: Of the Service.
        zone: The state before the first change.
        rng: For names, uids and garbage.

    Attributes:
        lock: Held for every change, and while an answer is made.
        faults: What goes wrong.
        delay: Seconds before everything that is sent.
        respond: The user's own answers, if any.
        trouble: What `respond` raised, first one only.
        log: The requests.
        store: The slices.
        wake: Called after a change, with or without the lock; returns at once.
    """

    def __init__(self, families: Iterable[str], zone: Zone, rng: random.Random) -> None:
        self.lock = threading.Condition()
        self.faults: Faults[Fault] = Faults(self.lock)
        self.delay = 0.0
        self.respond: APIRespond | None = None
        self.trouble: Exception | None = None
        self.log: Log[APIRequest] = Log(self.lock, f"the API of {zone.name}", "requests")
        self.store = Store()
        self.wake: Callable[[], None] = lambda: None
        self._rng = rng
        self._families = tuple(families)
        # Of each service, who is in which slice, and its slices by name.
        self._books: dict[str, tuple[Book, dict[str, Json]]] = {}
        self._watches: set[Watch] = set()
        self._namespace = zone.namespace
        self.publish(zone)

    # --- what changes

    def publish(self, zone: Zone) -> None:
        """
        Let the slices of the service be those of *zone*, and tell every open watch. Other services keep theirs.
        """
        with self.lock:
            if zone.service not in self._books:
                self._books[zone.service] = Book(self._families, self._rng), {}
            book, written = self._books[zone.service]
            for slices in book.write(zone):
                written.clear()
                written.update(slices)
                self._put()
        self.wake()

    def withdraw(self, service: str) -> None:
        """
        Let there be no slice of a service, as when it is deleted, and tell every open watch.
        """
        with self.lock:
            del self._books[service]
            self._put()
        self.wake()

    def _put(self) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        wanted = {name: each for _, of in self._books.values() for name, each in of.items()}
        due = self._due()
        for event in self.store.replace(wanted, now):
            for watch in self._watches:
                watch.tell(event, due)

    def compact(self) -> None:
        """
        Let every version that was given out be too old.
        """
        with self.lock:
            self.store.compact()

    def say(self, line: bytes) -> None:
        """
        Send every open watch this, as it is.
        """
        with self.lock:
            for watch in self._watches:
                watch.lines.append((self._due(), line))
        self.wake()

    def last_bookmark(self, watch: Watch) -> None:
        """
        Send a bookmark to a watch that is about to end, unless nothing has changed since it began.
        """
        if self.store.version > watch.began:
            self.bookmark(watch)

    def bookmark(self, *watches: Watch) -> None:
        """
        Send a bookmark to these watches, or all, that take them.
        """
        with self.lock:
            for watch in watches or self._watches:
                watch.bookmark(self.store.version, self._due())
        self.wake()

    def end(self, how: Literal["end", "break"], *watches: Watch) -> None:
        """
        End these watches, or all.
        """
        with self.lock:
            for watch in watches or tuple(self._watches):
                if watch in self._watches:
                    watch.lines.append((self._due(), how))
                    self._watches.discard(watch)
        self.wake()

    def forget(self, watch: Watch) -> None:
        """
        Tell a watch nothing more, since its connection has ended.
        """
        with self.lock:
            self._watches.discard(watch)

    @property
    def watches(self) -> int:
        """
        How many are open.
        """
        return len(self._watches)

    @property
    def is_silent(self) -> bool:
        """
        Whether open watches say nothing now.
        """
        return any(fault.stills for fault in self.faults)

    def _due(self) -> float:
        return time.monotonic() + self.delay

    # --- what is asked

    def handle(
        self, method: str, path: str, params: Mapping[str, str], authorization: str
    ) -> Outcome:
        """
        Decide about one request.
        """
        match = _PATH.fullmatch(path)
        verb = method.lower()
        if verb == "get" and match is not None and match[2] is None:
            verb = "watch" if params.get("watch", "") not in ("", "0", "false") else "list"
        token = authorization.removeprefix("Bearer ").strip()
        request = APIRequest(verb, path, params, token, time.monotonic())
        with self.lock:
            fault = self.faults.meet(request)
            respond = self.respond if fault is None else None
        # Without the lock: the hook may wait for a thread that wants to use a control.
        own = None if respond is None else self._own_answer(respond, request)
        with self.lock:
            if own is not None:
                outcome: Outcome = own
            elif fault is not None:
                outcome = self._go_wrong(fault, request, match[1] if match else None)
            else:
                try:
                    outcome = self._usual(request, match)
                except _Refused as refused:
                    outcome = self._whole(refused.told["code"], refused.told)
            # Logged last: who saw a request may change the slices, and that request not notice.
            self.log.add(request)
        return outcome

    def _whole(self, code: int, told: Json | bytes, retry_after: int = 1) -> Whole:
        body = told if isinstance(told, bytes) else _dumped(told)
        return Whole(code, body, self.delay, retry_after if code in _LATER else None)

    def _usual(self, request: APIRequest, match: re.Match[str] | None) -> Outcome:
        if match is None:
            raise _Refused(statuses.anything(404))
        if request.verb not in get_args(APIVerb):
            raise _Refused(statuses.anything(405))
        namespace, name = match.groups()
        if request.verb == "get":
            found = self.store.at(self.store.version).get(name)
            if found is None or namespace != self._namespace:
                raise _Refused(statuses.missing(name))
            return self._whole(200, {**_KIND, **found})
        matches = _matcher(namespace, request.params.get("labelSelector", ""))
        _check(request)
        if request.verb == "watch":
            return self._watch(request.params, matches)
        return self._whole(200, self._list(request.params, matches))

    def _list(self, params: Mapping[str, str], matches: Callable[[Json], bool]) -> Json:
        limit = _number(params.get("limit", ""))
        store, start, wanted = self.store, "", params.get("resourceVersion", "")
        version = store.version
        if params.get("continue"):
            if wanted:
                words = "specifying resource version is not allowed when using continue"
                raise _Refused(statuses.anything(400, words))
            version, start = _read_continue(params["continue"])
        elif wanted:
            asked = _version(wanted, 400, "invalid resource version: ")
            if asked > store.version:
                raise _Refused(statuses.future(asked, store.version))
            if params.get("resourceVersionMatch") == "Exact":
                version = asked
        if version < store.oldest:
            raise _Refused(statuses.anything(410))
        found = [
            each
            for each in store.at(version).values()
            if matches(each) and each["metadata"]["name"] > start
        ]
        metadata: Json = {"resourceVersion": str(version)}
        if 0 < limit < len(found):
            metadata["continue"] = _continue(version, found[limit - 1]["metadata"]["name"])
            if not params.get("labelSelector"):
                metadata["remainingItemCount"] = len(found) - limit
            found = found[:limit]
        kind = {"kind": "EndpointSliceList", "apiVersion": _KIND["apiVersion"]}
        return {**kind, "metadata": metadata, "items": found}

    def _watch(self, params: Mapping[str, str], matches: Callable[[Json], bool]) -> Stream:
        store, due = self.store, self._due()
        wanted, sends = params.get("resourceVersion", ""), params.get("sendInitialEvents")
        asked = _version(wanted, 500) if wanted else 0
        # A real server takes one between 30 and 60 minutes where none is asked for.
        seconds = _number(params.get("timeoutSeconds", "")) or 1800
        bookmarks = params.get("allowWatchBookmarks") in ("true", "1")
        after = max(asked, store.version)
        watch = Watch(matches, store.version, after, seconds, bookmarks=bookmarks)
        stream = Stream(watch, self.delay)
        if sends == "true" and asked > store.version:
            watch.say("ERROR", statuses.future(asked, store.version), due)
        elif sends != "true" and 0 < asked < store.oldest:
            watch.say("ERROR", statuses.too_old(asked, store.oldest), due)
        else:
            if sends == "true" or (sends is None and asked == 0):
                for each in store.at(store.version).values():
                    if matches(each):
                        watch.say("ADDED", {**_KIND, **each}, due)
                if sends == "true":
                    watch.bookmark(store.version, due, is_first=True)
            elif asked:
                for event in store.since(asked):
                    if matches(event.object):
                        watch.say(event.kind, {**_KIND, **event.object}, due)
            self._watches.add(watch)
            return stream
        watch.lines.append((due, "end"))
        return stream

    def _go_wrong(self, fault: Fault, request: APIRequest, namespace: str | None) -> Outcome:
        if fault.kind == "SILENCE":
            return Silence()
        if fault.kind == "CLOSE":
            return Silence(close=True, delay=self.delay)
        if fault.kind == "GARBAGE":
            # The beginning of an answer, and then what is no JSON, nor text.
            return self._whole(200, b'{"type":"\xff' + self._rng.randbytes(40) + b"\n")
        if fault.kind == "FORBIDDEN":
            account = f"system:serviceaccount:{self._namespace}:default"
            user = account if request.token else "system:anonymous"
            return self._whole(403, statuses.forbidden(user, request.verb, namespace))
        if fault.kind == "NO_INITIAL_EVENTS":
            return self._whole(422, statuses.invalid(("sendInitialEvents", _NOT_SENT)))
        code = _CODES[fault.kind]
        return self._whole(code, statuses.anything(code), fault.retry_after)

    def _own_answer(self, respond: APIRespond, request: APIRequest) -> Whole | None:
        """
        What the user's hook says; 500 where it raises.
        """
        try:
            said = respond(request)
            if said is None:
                return None
            if isinstance(said, int):
                return self._whole(said, statuses.anything(said))
            code, body = said
            return self._whole(code, body.encode() if isinstance(body, str) else body)
        except Exception as error:  # noqa: BLE001 - a test's own code; reported on closing
            if self.trouble is None:
                self.trouble = error
            return self._whole(500, statuses.anything(500))


def _is_true(request: APIRequest, param: str) -> bool:
    return request.params.get(param) == "true"


def _check(request: APIRequest) -> None:
    """
    Refuse parameters that do not go together.
    """
    is_watch = request.verb == "watch"
    match = request.params.get("resourceVersionMatch", "")
    has_sends = "sendInitialEvents" in request.params
    causes: list[tuple[str, str]] = []
    if is_watch and has_sends and match != "NotOlderThan":
        words = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        causes.append(("resourceVersionMatch", words))
    elif is_watch and match and not has_sends:
        words = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(("resourceVersionMatch", words))
    elif not is_watch:
        if match and not request.params.get("resourceVersion"):
            words = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            causes.append(("resourceVersionMatch", words))
        if has_sends:
            causes.append(("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if causes:
        raise _Refused(statuses.invalid(*causes))


def _matcher(namespace: str | None, selector: str) -> Callable[[Json], bool]:
    """
    Whether an object is in *namespace*, or anywhere, and has the labels that *selector* asks for.
    """
    wanted: list[tuple[str, str | None, bool]] = []
    for part in filter(None, selector.split(",")):
        match = re.fullmatch(r"\s*(!?)([\w./-]+)\s*(?:(!=|==?)\s*([\w.-]*)\s*)?", part)
        if match is None or (match[1] and match[3]):
            words = f"{selector!r}: of label selectors only a, !a, a=b and a!=b are known here"
            raise _Refused(statuses.anything(400, words))
        wanted.append((match[2], match[4], not match[1] and match[3] != "!="))

    def matches(each: Json) -> bool:
        metadata = each["metadata"]
        if namespace not in (None, metadata["namespace"]):
            return False
        labels = metadata["labels"]
        return all(
            (name in labels if value is None else labels.get(name) == value) == has
            for name, value, has in wanted
        )

    return matches


def _number(text: str) -> int:
    try:
        return int(text or "0")
    except ValueError:
        words = f'strconv.ParseInt: parsing "{text}": invalid syntax'
        raise _Refused(statuses.anything(400, words)) from None


def _version(text: str, code: int, before: str = "") -> int:
    if text.isascii() and text.isdecimal():
        return int(text)
    words = (
        f'{before}resourceVersion: Invalid value: "{text}": '
        f'strconv.ParseUint: parsing "{text}": invalid syntax'
    )
    # A real server gives a reason with one and not with the other.
    raise _Refused(statuses.status(code, words, "BadRequest" if code == 400 else ""))


def _continue(version: int, last: str) -> str:
    told = {"v": "meta.k8s.io/v1", "rv": version, "start": f"/{last}\0"}
    return base64.urlsafe_b64encode(_dumped(told)).decode().rstrip("=")


def _read_continue(text: str) -> tuple[int, str]:
    try:
        told = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return int(told["rv"]), str(told["start"]).strip("/\0")
    except (binascii.Error, ValueError, KeyError, TypeError):
        words = "invalid continue token: continue key is not valid"
        raise _Refused(statuses.anything(400, words)) from None


def _dumped(told: Any) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode()
