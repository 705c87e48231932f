"""
What an API server says of EndpointSlices: one set of checks, for the one in the box and for the real one.

Each check is a coroutine that is given a `World`, and makes the services that it looks at.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import anyio
import httpx

__all__ = ["CONTRACT", "Service", "World"]

Json = dict[str, Any]
Check = Callable[["World"], Awaitable[None]]

WITHIN = 30.0
INITIAL = {
    "watch": "true",
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}
FUTURE = "99999999"

CONTRACT: dict[str, Check] = {}


class Service(Protocol):
    """
    One headless Service with pods that can be changed.
    """

    name: str
    namespace: str

    async def scale(self, pods: int) -> None: ...

    async def set_ready(self, address: str, ready: bool) -> None: ...

    async def terminate(self, address: str) -> None:
        """
        Delete a pod that takes its time; another one may come in its place.
        """


class World(Protocol):
    """
    An API server.

    Attributes:
        client: Of somebody who may read.
    """

    client: httpx.AsyncClient

    def service(
        self, pods: int, *, stateful: bool = False, port: str = "http", slices: int = 1
    ) -> AbstractAsyncContextManager[Service]:
        """
        Make a Service, in at least so many slices; when this is entered, all pods are there and ready.
        """
        ...

    def forbidden(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """
        Have a client of somebody who may not.
        """
        ...

    def unauthorized(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """
        Have a client of somebody whose token is not taken.
        """
        ...

    async def forget(self) -> None:
        """
        Let the past be too old.
        """


def check(function: Check) -> Check:
    CONTRACT[getattr(function, "__name__")] = function  # noqa: B009
    return function


# --- how it is asked


def path_of(namespace: str) -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def selector(service: Service) -> dict[str, str]:
    return {"labelSelector": f"kubernetes.io/service-name={service.name}"}


async def listed(world: World, service: Service, **params: str) -> Json:
    reply = await world.client.get(
        path_of(service.namespace), params={**selector(service), **params}
    )
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    told: Json = reply.json()
    return told


@asynccontextmanager
async def watched(
    world: World, service: Service, **params: str
) -> AsyncIterator[AsyncIterator[Json]]:
    """
    Open a watch, and give its events.
    """
    asked = {**selector(service), "watch": "true", **params}
    send, receive = anyio.create_memory_object_stream[Json](1000)

    async def read(reply: httpx.Response) -> None:
        # In a task that is cancelled: a generator that is left in the middle is a warning on trio.
        with send:
            async for line in reply.aiter_lines():
                send.send_nowait(json.loads(line))

    async with world.client.stream("GET", path_of(service.namespace), params=asked) as reply:
        assert reply.status_code == 200, await reply.aread()
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["transfer-encoding"] == "chunked"
        with anyio.fail_after(WITHIN), receive:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, reply)
                yield receive
                tasks.cancel_scope.cancel()


async def all_of(world: World, service: Service, **params: str) -> list[Json]:
    """
    Return the events of a watch that ends by itself.
    """
    async with watched(world, service, **params) as events:
        return [event async for event in events]


async def until(events: AsyncIterator[Json], true: Callable[[Json], bool]) -> list[Json]:
    """
    Return the events up to the first one for which *true* holds.
    """
    seen: list[Json] = []
    async for event in events:
        seen.append(event)
        if true(event):
            return seen
    raise AssertionError(f"the watch ended: {seen}")


def endpoints_of(thing: Json) -> list[Json]:
    return thing.get("endpoints") or []


def conditions_of(thing: Json) -> dict[str, tuple[bool, bool, bool]]:
    """
    Return ready, serving and terminating by address.
    """
    return {
        each["addresses"][0]: tuple(
            each["conditions"][what] for what in ("ready", "serving", "terminating")
        )
        for each in endpoints_of(thing)
    }


def version_of(told: Json) -> str:
    return str(told["metadata"]["resourceVersion"])


def refused(code: int, reason: str | None, message: str, **more: Any) -> Json:
    told: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    told |= {"message": message, "code": code, **more}
    return told | ({"reason": reason} if reason else {})


def status_of(reply: httpx.Response) -> Json:
    told: Json = reply.json()
    assert reply.status_code == told["code"]
    return told


# --- what is there


@check
async def a_list_has_the_slices_of_a_service(world: World) -> None:
    async with world.service(2) as web:
        told = await listed(world, web)
        assert set(told) == {"kind", "apiVersion", "metadata", "items"}
        assert (told["kind"], told["apiVersion"]) == (
            "EndpointSliceList",
            "discovery.k8s.io/v1",
        )
        assert set(told["metadata"]) == {"resourceVersion"}
        (one,) = told["items"]
        assert set(one) == {"metadata", "addressType", "endpoints", "ports"}
        metadata = {k: v for k, v in one["metadata"].items() if k not in SOMETIMES}
        assert set(metadata) == {
            *("name", "generateName", "namespace", "uid", "resourceVersion", "generation"),
            *("creationTimestamp", "labels", "ownerReferences"),
        }
        assert metadata["name"].startswith(f"{web.name}-")
        assert metadata["namespace"] == web.namespace
        assert metadata["labels"] == {
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": web.name,
            "service.kubernetes.io/headless": "",
        }
        assert int(version_of(one)) <= int(version_of(told))
        assert one["addressType"] == "IPv4"
        assert one["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
        for endpoint in one["endpoints"]:
            assert set(endpoint) == {
                *("addresses", "conditions", "targetRef", "nodeName", "zone"),
            }
            assert len(endpoint["addresses"]) == 1
            target = endpoint["targetRef"]
            assert set(target) == {"kind", "namespace", "name", "uid"}
            assert (target["kind"], target["namespace"]) == ("Pod", web.namespace)
            assert target["name"].startswith(f"{web.name}-")
        assert list(conditions_of(one).values()) == [(True, True, False)] * 2


SOMETIMES = {"annotations", "managedFields"}


@check
async def pods_of_a_stateful_set_have_hostnames(world: World) -> None:
    async with world.service(2, stateful=True) as db:
        (one,) = (await listed(world, db))["items"]
        names = [f"{db.name}-{n}" for n in range(2)]
        assert sorted(each["hostname"] for each in endpoints_of(one)) == names
        assert sorted(each["targetRef"]["name"] for each in endpoints_of(one)) == names


@check
async def a_port_may_have_no_name(world: World) -> None:
    async with world.service(1, port="") as web:
        (one,) = (await listed(world, web))["items"]
        assert one["ports"] == [{"name": "", "protocol": "TCP", "port": 8080}]


@check
async def a_service_without_pods_has_one_slice_of_nothing(world: World) -> None:
    async with world.service(0) as web:
        (one,) = (await listed(world, web))["items"]
        assert (one["endpoints"], one["ports"]) == (None, None)


@check
async def what_is_not_there_is_an_empty_list(world: World) -> None:
    async with world.service(1) as web:
        for namespace, service in ((web.namespace, "nobody"), ("nowhere", web.name)):
            asked = {"labelSelector": f"kubernetes.io/service-name={service}"}
            reply = await world.client.get(path_of(namespace), params=asked)
            assert reply.status_code == 200
            assert reply.json()["items"] == []
            assert int(version_of(reply.json())) > 0


@check
async def a_selector_knows_what_is_equal_and_what_is_not(world: World) -> None:
    async with world.service(1) as web:
        label = "kubernetes.io/service-name"
        for asked, is_in in (
            (f"{label}=={web.name}", True),
            (f"{label}={web.name},service.kubernetes.io/headless", True),
            (f"{label}={web.name},!service.kubernetes.io/headless", False),
            (f"{label}!={web.name}", False),
            (label, True),
        ):
            reply = await world.client.get(path_of(web.namespace), params={"labelSelector": asked})
            owners = [each["metadata"]["labels"].get(label) for each in reply.json()["items"]]
            assert (web.name in owners) == is_in, asked


@check
async def one_slice_can_be_had_by_name(world: World) -> None:
    async with world.service(1) as web:
        (one,) = (await listed(world, web))["items"]
        base = path_of(web.namespace)
        kind = {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1"}
        reply = await world.client.get(f"{base}/{one['metadata']['name']}")
        assert reply.json() == {**kind, **one}
        missing = await world.client.get(f"{base}/nobody")
        group = {"name": "nobody", "group": "discovery.k8s.io", "kind": "endpointslices"}
        message = 'endpointslices.discovery.k8s.io "nobody" not found'
        assert status_of(missing) == refused(404, "NotFound", message, details=group)


@check
async def what_is_no_resource_is_not_found(world: World) -> None:
    message = "the server could not find the requested resource"
    for path in (
        "/apis/discovery.k8s.io/v9/namespaces/default/endpointslices",
        "/apis/discovery.k8s.io/v1/namespaces/default/nothing",
    ):
        told = status_of(await world.client.get(path))
        assert {k: v for k, v in told.items() if k != "details"} == refused(
            404, "NotFound", message
        )


@check
async def a_list_comes_in_pages_of_one_version(world: World) -> None:
    async with world.service(1, slices=3) as web:
        whole = await listed(world, web)
        assert len(whole["items"]) >= 3
        found: list[Json] = []
        params = {"limit": "2"}
        version = ""
        for _ in range(len(whole["items"])):
            page = await listed(world, web, **params)
            # With a selector the server does not count what is left.
            assert "remainingItemCount" not in page["metadata"]
            assert version in ("", version_of(page))
            if not version:
                # What changes between two pages is in none of them.
                await web.set_ready(a_pod_of(whole), False)
            version = version_of(page)
            found += page["items"]
            if not page["metadata"].get("continue"):
                break
            params["continue"] = page["metadata"]["continue"]
        assert [plain(each) for each in found] == [plain(each) for each in whole["items"]]
        page = (await world.client.get(path_of(web.namespace), params={"limit": "1"})).json()
        assert page["metadata"]["remainingItemCount"] >= 2
        both = {"limit": "1", "resourceVersion": version_of(page)}
        both["continue"] = page["metadata"]["continue"]
        message = "specifying resource version is not allowed when using continue"
        reply = await world.client.get(path_of(web.namespace), params=both)
        assert status_of(reply) == refused(400, "BadRequest", message)
        reply = await world.client.get(path_of(web.namespace), params={"continue": "xx"})
        assert status_of(reply)["message"].startswith(
            "invalid continue token: continue key is not valid"
        )


def a_pod_of(told: Json) -> str:
    """
    Return the address of an endpoint that is a pod.
    """
    found = (e for each in told["items"] for e in endpoints_of(each) if "targetRef" in e)
    return str(next(found)["addresses"][0])


def plain(told: Json) -> Json:
    """
    Return a slice without what only some servers add.
    """
    metadata = {k: v for k, v in told["metadata"].items() if k not in SOMETIMES}
    return {**told, "metadata": metadata}


@check
async def a_list_can_be_had_as_it_was(world: World) -> None:
    async with world.service(1) as web:
        before = await listed(world, web)
        version = version_of(before)
        await web.scale(2)
        exact = await listed(world, web, resourceVersion=version, resourceVersionMatch="Exact")
        assert (version_of(exact), exact["items"]) == (version, before["items"])
        for params in ({"resourceVersion": "0"}, {"resourceVersion": version}, {"limit": "-1"}):
            assert int(version_of(await listed(world, web, **params))) > int(version)


# --- what is told


@check
async def a_watch_goes_on_from_a_version(world: World) -> None:
    async with world.service(2) as web:
        before = await listed(world, web)
        (old,) = before["items"]
        first, second = conditions_of(old)
        await web.set_ready(first, False)
        async with watched(world, web, resourceVersion=version_of(before)) as events:
            seen = await until(
                events, lambda e: conditions_of(e["object"])[first] == (False, False, False)
            )
            await web.set_ready(second, False)
            await web.set_ready(first, True)
            seen += await until(
                events,
                lambda e: (
                    conditions_of(e["object"])
                    == {first: (True, True, False), second: (False, False, False)}
                ),
            )
        assert {event["type"] for event in seen} == {"MODIFIED"}
        for event in seen:
            thing = event["object"]
            assert (thing["kind"], thing["apiVersion"]) == (
                "EndpointSlice",
                "discovery.k8s.io/v1",
            )
            assert thing["metadata"]["uid"] == old["metadata"]["uid"]
        versions = [int(version_of(event["object"])) for event in seen]
        assert versions == sorted(set(versions))
        assert versions[0] > int(version_of(before))
        generations = [event["object"]["metadata"]["generation"] for event in seen]
        assert generations == sorted(set(generations))


@check
async def a_pod_that_ends_is_terminating_first(world: World) -> None:
    async with world.service(2) as web:
        before = await listed(world, web)
        (old,) = before["items"]
        gone, _ = conditions_of(old)
        await web.terminate(gone)
        async with watched(world, web, resourceVersion=version_of(before)) as events:
            seen = await until(events, lambda e: gone not in conditions_of(e["object"]))
            told = [conditions_of(event["object"]).get(gone) for event in seen]
            assert (False, True, True) in told
            assert told[-1] is None


@check
async def at_zero_pods_the_slice_stays_and_is_empty(world: World) -> None:
    async with world.service(2) as web:
        before = await listed(world, web)
        await web.scale(0)
        async with watched(world, web, resourceVersion=version_of(before)) as events:
            seen = await until(events, lambda e: not endpoints_of(e["object"]))
        assert {event["type"] for event in seen} == {"MODIFIED"}
        assert (seen[-1]["object"]["endpoints"], seen[-1]["object"]["ports"]) == (None, None)
        # Whoever left was told to be terminating before.
        for address in conditions_of(before["items"][0]):
            told = [conditions_of(event["object"]).get(address) for event in seen]
            assert (False, True, True) in told
        await web.scale(1)
        (new,) = (await listed(world, web))["items"]
        assert new["metadata"]["name"] == before["items"][0]["metadata"]["name"]
        assert new["ports"] == before["items"][0]["ports"]


@check
async def a_watch_can_send_what_is_there_first(world: World) -> None:
    async with world.service(2) as web:
        (old,) = (await listed(world, web))["items"]
        async with watched(world, web, **INITIAL) as events:
            added, bookmark = await until(events, lambda e: e["type"] == "BOOKMARK")
            assert added["type"] == "ADDED"
            kind = {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1"}
            assert added["object"] == {**kind, **old}
            thing = bookmark["object"]
            assert int(version_of(thing)) >= int(version_of(old))
            annotations = {"k8s.io/initial-events-end": "true"}
            nothing = {"addressType": "", "endpoints": None, "ports": None}
            metadata = {"resourceVersion": version_of(thing), "annotations": annotations}
            assert thing == {**kind, "metadata": metadata, **nothing}
            # And then what happens.
            await web.set_ready(next(iter(conditions_of(old))), False)
            (event, *_) = await until(events, lambda e: e["type"] == "MODIFIED")
            assert int(version_of(event["object"])) > int(version_of(thing))


@check
async def the_end_of_what_is_there_comes_with_bookmarks_only(world: World) -> None:
    async with world.service(1) as web:
        params = {k: v for k, v in INITIAL.items() if k != "allowWatchBookmarks"}
        seen = await all_of(world, web, **params, timeoutSeconds="1")
        assert [event["type"] for event in seen] == ["ADDED"]


@check
async def a_service_that_is_not_there_is_a_bookmark_alone(world: World) -> None:
    asked = {**INITIAL, "timeoutSeconds": "1", "labelSelector": "kubernetes.io/service-name=no"}
    reply = await world.client.get(path_of("default"), params=asked)
    first, *later = map(json.loads, reply.text.splitlines())
    assert first["type"] == "BOOKMARK"
    assert first["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    # Shortly before a watch times out, a server may send one more.
    assert all(event["type"] == "BOOKMARK" for event in later)


@check
async def a_watch_without_a_version_sends_what_is_there(world: World) -> None:
    async with world.service(1) as web:
        for params, kinds in (
            ({}, ["ADDED"]),
            ({"resourceVersion": "0"}, ["ADDED"]),
            ({"sendInitialEvents": "false", "resourceVersionMatch": "NotOlderThan"}, []),
        ):
            seen = await all_of(world, web, timeoutSeconds="1", **params)
            assert [event["type"] for event in seen] == kinds, params


@check
async def a_bookmark_tells_the_version_where_nothing_else_does(world: World) -> None:
    """
    Before the watch ends, of changes that are of no concern to it.
    """
    async with world.service(1) as web:
        version = version_of(await listed(world, web))
        nobody = {"labelSelector": "kubernetes.io/service-name=nobody"}
        params = {**nobody, "allowWatchBookmarks": "true", "timeoutSeconds": "5"}
        async with watched(world, web, resourceVersion=version, **params) as events:
            await web.scale(2)
            changed = version_of((await listed(world, web))["items"][0])
            bookmarks = [event async for event in events]
        for bookmark in bookmarks:
            assert bookmark["type"] == "BOOKMARK"
            assert set(bookmark["object"]["metadata"]) == {"resourceVersion"}
        assert int(version_of(bookmarks[-1]["object"])) >= int(changed)


# --- what is refused


@check
async def who_may_not_read_is_told_so(world: World) -> None:
    async with world.service(1) as web, world.forbidden() as client:
        group = {"group": "discovery.k8s.io", "kind": "endpointslices"}
        for verb, params in (("list", {}), ("watch", {"watch": "true"})):
            told = status_of(await client.get(path_of(web.namespace), params=params))
            head, tail = told.pop("message").split('"system:', 1)
            assert head == "endpointslices.discovery.k8s.io is forbidden: User "
            assert tail.partition('" ')[2] == (
                f'cannot {verb} resource "endpointslices" in API group "discovery.k8s.io" '
                f'in the namespace "{web.namespace}"'
            )
            assert told == {
                k: v
                for k, v in refused(403, "Forbidden", "", details=group).items()
                if k != "message"
            }


@check
async def whose_token_is_not_taken_is_told_so(world: World) -> None:
    async with world.unauthorized() as client:
        told = status_of(await client.get(path_of("default")))
        assert told == refused(401, "Unauthorized", "Unauthorized")


@check
async def parameters_that_make_no_sense_are_refused(world: World) -> None:
    def integer(text: str, function: str = "ParseInt") -> str:
        return f'strconv.{function}: parsing "{text}": invalid syntax'

    wrong = f'resourceVersion: Invalid value: "abc": {integer("abc", "ParseUint")}'
    for params, expected in (
        ({"limit": "abc"}, refused(400, "BadRequest", integer("abc"))),
        (
            {"watch": "true", "timeoutSeconds": "x"},
            refused(400, "BadRequest", integer("x")),
        ),
        (
            {"resourceVersion": "abc"},
            refused(400, "BadRequest", f"invalid resource version: {wrong}"),
        ),
        ({"watch": "true", "resourceVersion": "abc"}, refused(500, None, wrong)),
        (
            {"watch": "true", "sendInitialEvents": "true"},
            invalid(
                (
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                )
            ),
        ),
        (
            {
                "watch": "true",
                "resourceVersionMatch": "NotOlderThan",
                "resourceVersion": "1",
            },
            invalid(
                (
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                )
            ),
        ),
        (
            {"resourceVersionMatch": "NotOlderThan", "sendInitialEvents": "true"},
            invalid(
                (
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ),
                ("sendInitialEvents", "sendInitialEvents is forbidden for list"),
            ),
        ),
    ):
        told = status_of(await world.client.get(path_of("default"), params=params))
        assert told == expected, params
    told = status_of(
        await world.client.get(path_of("default"), params={"labelSelector": "a==b==c"})
    )
    assert (told["code"], told["reason"]) == (400, "BadRequest")


def invalid(*causes: tuple[str, str]) -> Json:
    words = [f"{field}: Forbidden: {message}" for field, message in causes]
    listing = words[0] if len(words) == 1 else f"[{', '.join(words)}]"
    details = {
        "group": "meta.k8s.io",
        "kind": "ListOptions",
        "causes": [
            {"reason": "FieldValueForbidden", "message": f"Forbidden: {m}", "field": f}
            for f, m in causes
        ],
    }
    message = f'ListOptions.meta.k8s.io "" is invalid: {listing}'
    return refused(422, "Invalid", message, details=details)


@check
async def a_version_of_the_future_is_too_large(world: World) -> None:
    async with world.service(1) as web:
        asked = {**selector(web), "resourceVersion": FUTURE}
        reply = await world.client.get(path_of(web.namespace), params=asked)
        assert reply.headers["retry-after"] == "1"
        told = status_of(reply)
        assert told["message"].startswith(
            f"Timeout: Too large resource version: {FUTURE}, current: "
        )
        assert told["details"] == {
            "causes": [
                {
                    "reason": "ResourceVersionTooLarge",
                    "message": "Too large resource version",
                }
            ],
            "retryAfterSeconds": 1,
        }
        # In a watch that sends what is there it is a line, and in another one nothing at all.
        (event,) = await all_of(world, web, **INITIAL, resourceVersion=FUTURE)
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (504, "Timeout")
        assert await all_of(world, web, resourceVersion=FUTURE, timeoutSeconds="1") == []


@check
async def a_version_that_is_too_old_is_a_line_that_says_so(world: World) -> None:
    """
    The last one, since it restarts what is real.
    """
    async with world.service(1) as web:
        version = version_of(await listed(world, web))
        await web.scale(2)
        await world.forget()
        (event,) = await all_of(world, web, resourceVersion=version)
        assert event["type"] == "ERROR"
        message = event["object"].pop("message")
        assert message.startswith(f"too old resource version: {version} (")
        expected = refused(410, "Expired", "")
        assert event["object"] == {k: v for k, v in expected.items() if k != "message"}
        (one,) = (await listed(world, web))["items"]
        assert len(endpoints_of(one)) == 2
