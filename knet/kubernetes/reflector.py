"""
Follows the EndpointSlices of one service, or of all in a namespace: list and watch, resume, list again.

A watch that sends what is there first is list and watch in one request; where a server cannot, the list comes in
pages and the watch begins at its version. Bookmarks move the version on. A watch that ends by itself, or breaks,
goes on from there; one whose version is too old (410) begins anew. Versions order one stream and nothing
else: a list that is whole counts, whatever its version.

How client-go's reflector does it, and what a real server says: docs/kubernetes.md.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio

from knet.errors import Forbidden, ResolveError, ServerFailure, ServerUnreachable
from knet.kubernetes.access import Access
from knet.kubernetes.slices import Slice, mapping, mappings, read_slice

try:
    import httpx2
except ImportError as error:
    raise ImportError(
        "httpx2 is not installed: python -m pip install 'knet-ring[kubernetes]'"
    ) from error

__all__ = ["Reflector"]

# Seconds. A bookmark comes about once a minute, so that a silence of this length is a dead server.
_SILENCE = 90.0
_CONNECT = 5.0
# How long the server is asked to keep a watch, at least; it is spread, so that clients do not come at once.
_WATCH = 300
# The end of the initial events comes within this after the last of them, or the server does not send one.
_INITIAL = 3.0
# Slices in a page of a list: a hundred endpoints each, as many as are read without holding the loop. A namespace has
# many small ones: the next page of it is twice as long where one has fewer bytes than this.
_PAGE = 4
_SMALL_PAGE = 64 * 1024
_LONGEST_PAGE = 512
# A line is a slice, of 1,000 endpoints at most by what a controller can be told.
_LONGEST_LINE = 4 * 1024 * 1024
_MOST_SLICES = 2000
# Kubernetes is tested with 5,000 services in a namespace, which have a slice or two each.
_MOST_IN_NAMESPACE = 20_000
_LONGEST_PAUSE = 30.0
# Seconds; a watch that lasts no longer is not opened again at once.
_SHORT = 1.0
# Seconds in which a stream that ends with an error is read to its end.
_REST = 1.0

_LABEL = "kubernetes.io/service-name"

_ROLE = """\
apply this, with the name of the service account of your pods:
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: knet, namespace: {namespace}}}
rules: [{{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: knet, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: knet}}
subjects: [{{kind: ServiceAccount, name: ACCOUNT, namespace: {namespace}}}]"""


class _TooOld(Exception):
    """
    Raised when a version is too old to watch from.
    """


class _CannotSend(Exception):
    """
    Raised when a server does not send what is there before a watch.
    """


class _Known:
    """
    Slices by service, those of each in the order in which they were heard of.
    """

    def __init__(self) -> None:
        self.of: dict[str, dict[str, Slice]] = {}
        # By the name of a slice, which need not tell its service.
        self._services: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._services)

    def put(self, name: str, service: str, told: Slice) -> set[str]:
        """
        Take a slice as it is now; return the services that had it and have it.
        """
        changed = self.drop(name)
        self._services[name] = service
        self.of.setdefault(service, {})[name] = told
        return changed | {service}

    def drop(self, name: str) -> set[str]:
        """
        Forget a slice; return the service that had it, if one did.
        """
        service = self._services.pop(name, None)
        if service is None:
            return set()
        slices = self.of[service]
        del slices[name]
        if not slices:
            del self.of[service]
        return {service}


class Reflector:
    """
    The slices of one service, or of all services of a namespace, kept true.

    Args:
        access: Where the API is.
        namespace: Of the service.
        service: Its name there; `""`: all that are there.
        heard: Called at each change with the services that it is about: all slices of each, in the order in which they
            were heard of. A list that is whole comes first, and is about all services that have slices, or had.
        alive: Called when the server says that nothing is new.
    """

    def __init__(
        self,
        access: Access,
        namespace: str,
        service: str,
        heard: Callable[[Mapping[str, Mapping[str, Slice]]], None],
        alive: Callable[[], None],
    ) -> None:
        self._access = access
        self._namespace = namespace
        self._service = service
        self._heard = heard
        self._alive = alive
        self._known = _Known()
        self._version: str | None = None
        self._lists = False

    async def run(self) -> None:
        """
        Follow them until something is in the way.

        Raises:
            Forbidden: The server does not let us.
            ServerUnreachable: It cannot be reached, or was lost and does not come back at once.
            ServerFailure: It cannot answer.
            ResolveError: It says something else.
        """
        async with httpx2.AsyncClient(
            base_url=self._access.url,
            trust_env=False,
            transport=httpx2.AsyncHTTPTransport(
                verify=self._access.context or False, socket_options=_keep_alive()
            ),
            timeout=httpx2.Timeout(_CONNECT, read=_SILENCE),
        ) as client:
            while True:
                began = anyio.current_time()
                try:
                    if self._version is None and self._lists:
                        await self._list(client)
                    await self._watch(client)
                except _TooOld:
                    self._version = None
                except _CannotSend:
                    self._lists, self._version = True, None
                else:
                    # Somebody in between ends it each time: as for client-go, a very short watch.
                    if anyio.current_time() - began < _SHORT:
                        await anyio.sleep(_SHORT * (0.5 + random.random() / 2))

    async def _list(self, client: httpx2.AsyncClient) -> None:
        found = _Known()
        page = _PAGE
        params: dict[str, str] = {}
        while True:
            params["limit"] = str(page)
            response = await self._get(client, params, stream=False)
            told = _json(response.content)
            for each in mappings(told.get("items")):
                self._put(each, found)
            if not self._service and len(response.content) < _SMALL_PAGE:
                page = min(page * 2, _LONGEST_PAGE)
            metadata = mapping(told.get("metadata"))
            self._version = str(metadata.get("resourceVersion") or "") or None
            following = metadata.get("continue")
            if not following:
                break
            params["continue"] = str(following)
        self._begin(found)

    async def _watch(self, client: httpx2.AsyncClient) -> None:
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH + random.randrange(_WATCH)),
        }
        coming: _Known | None = None
        if self._version is None:
            params |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            coming = _Known()
        else:
            params["resourceVersion"] = self._version
        response = await self._get(client, params, stream=True, is_first=coming is not None)
        try:
            if coming is None:
                self._alive()
            deadline, came = anyio.current_time() + _INITIAL, 0
            lines, line = _lines(response), None
            while True:
                if coming is None:
                    line = await anext(lines, None)
                else:
                    if len(coming) > came:
                        deadline, came = anyio.current_time() + _INITIAL, len(coming)
                    with anyio.move_on_after(deadline - anyio.current_time()) as scope:
                        line = await anext(lines, None)
                    if scope.cancelled_caught:
                        raise _CannotSend
                if line is None:
                    return  # by itself, as each watch does
                try:
                    coming = self._take(_json(line), coming)
                except Exception:
                    # To the end, or cancelled: a generator that is left in the middle is a warning on trio.
                    with anyio.move_on_after(_REST):
                        async for _ in lines:
                            pass
                    raise
        except httpx2.TransportError:
            return  # it is opened again from the last version; if that fails, somebody hears of it
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    def _take(self, event: Mapping[str, Any], coming: _Known | None) -> _Known | None:
        """
        Take one event of a watch; return what is still coming of those that are sent first.
        """
        kind, thing = event.get("type"), mapping(event.get("object"))
        if kind == "ERROR":
            if thing.get("code") in (410, 504):
                raise _TooOld
            raise ServerFailure(f"the watch ended with {str(thing.get('message') or thing)[:500]}")
        metadata = mapping(thing.get("metadata"))
        version = metadata.get("resourceVersion")
        if version and coming is None:
            self._version = str(version)
        if kind == "BOOKMARK":
            annotations = mapping(metadata.get("annotations"))
            if coming is not None and annotations.get("k8s.io/initial-events-end") == "true":
                self._version = str(version)
                self._begin(coming)
                return None
            if coming is None:
                self._alive()
            return coming
        known = self._known if coming is None else coming
        if kind in ("ADDED", "MODIFIED"):
            changed = self._put(thing, known)
        else:
            changed = known.drop(_name_of(thing))
        if coming is None:
            self._heard({service: known.of.get(service, {}) for service in changed})
        return coming

    def _put(self, thing: Mapping[str, Any], known: _Known) -> set[str]:
        service = self._service or _service_of(thing)
        changed = known.put(_name_of(thing), service, read_slice(thing))
        what, most = (
            ("service", _MOST_SLICES) if self._service else ("namespace", _MOST_IN_NAMESPACE)
        )
        if len(known) > most:
            raise ResolveError(f"the {what} has more than {most} slices")
        return changed

    def _begin(self, found: _Known) -> None:
        """
        Let what was *found* be all there is.
        """
        services = dict.fromkeys((*self._known.of, *found.of))
        self._known = found
        self._heard({service: found.of.get(service, {}) for service in services})

    async def _get(
        self,
        client: httpx2.AsyncClient,
        params: Mapping[str, str],
        *,
        stream: bool,
        is_first: bool = False,
    ) -> httpx2.Response:
        """
        Ask for the slices; once more where the token has just been renewed, and later where that is asked for.
        """
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices"
        selector = {"labelSelector": f"{_LABEL}={self._service}" if self._service else _LABEL}
        pauses = unauthorized = 0
        while True:
            token = self._access.token()
            headers = {"accept": "application/json", "user-agent": "knet"}
            if token:
                headers["authorization"] = f"Bearer {token}"
            request = client.build_request(
                "GET", path, params={**selector, **params}, headers=headers
            )
            try:
                response = await client.send(request, stream=stream)
            except httpx2.TransportError as error:
                raise self._unreachable(error) from error
            if response.status_code == 200:
                return response
            text = ""
            with anyio.CancelScope(shield=True), anyio.move_on_after(_CONNECT):
                text = (await response.aread()).decode("utf-8", "replace")
            await response.aclose()
            status = response.status_code
            if status == 401 and not unauthorized:
                unauthorized = 1
                continue
            if status == 410 or (status == 504 and "ResourceVersionTooLarge" in text):
                raise _TooOld
            if status in (400, 422) and is_first:
                raise _CannotSend
            if status == 429 and pauses < 2:
                pauses += 1
                if pauses == 2 and is_first:
                    raise _CannotSend
                await anyio.sleep(_pause_of(response))
                continue
            raise self._refused(status, text)

    def _unreachable(self, error: httpx2.TransportError) -> ServerUnreachable:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
            cause = cause.__cause__ or cause.__context__
        why = f"{type(error).__name__}{f': {error}' if str(error) else ''}"
        if cause is not None:
            why = f"its certificate is not to be trusted ({cause}): is `ca` that of this cluster, and its clock right?"
        return ServerUnreachable(f"the API at {self._access.url} cannot be reached: {why}")

    def _refused(self, status: int, text: str) -> ResolveError:
        try:
            said = str(_json(text.encode()).get("message") or text)[:500]
        except ResolveError:
            said = text[:500]
        where = f"the API at {self._access.url}"
        if status == 401:
            return Forbidden(f"{where} does not take our token (401): {said}")
        if status == 403:
            return Forbidden(
                f"{where} does not let us read EndpointSlices (403): {said}; {_ROLE.format(namespace=self._namespace)}"
            )
        if status == 404:
            return ResolveError(
                f"{where} knows no EndpointSlices (404), which Kubernetes has since 1.21: {said}"
            )
        return ServerFailure(f"{where} says {status}: {said}")


async def _lines(response: httpx2.Response) -> AsyncIterator[bytes]:
    """
    Yield the lines of a stream, of a bounded length.
    """
    rest = b""
    async for part in response.aiter_bytes():
        *whole, rest = (rest + part).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise ResolveError(f"a line of the watch is longer than {_LONGEST_LINE} bytes")
        for line in whole:
            if line:
                yield line


def _json(text: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ResolveError(f"the API did not answer in JSON: {text[:80]!r}") from error
    return mapping(told)


def _name_of(thing: Mapping[str, Any]) -> str:
    return str(mapping(thing.get("metadata")).get("name") or "")


def _service_of(thing: Mapping[str, Any]) -> str:
    labels = mapping(mapping(thing.get("metadata")).get("labels"))
    return str(labels.get(_LABEL) or "")


def _pause_of(response: httpx2.Response) -> float:
    after = response.headers.get("retry-after", "1")
    return min(float(after), _LONGEST_PAUSE) if after.isdecimal() else 1.0


def _keep_alive() -> list[tuple[int, int, int]]:
    """
    Let the kernel find out within half a minute that a server's node is gone.
    """
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options
