"""
The API that is away, that has forgotten, and that does not let us: rings by slices wait, rings by both ask DNS.
"""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest

from knet import Forbidden, Ring, ServerUnreachable
from knet.kubernetes import EndpointSlices

from .plane import ControlPlane, Json, deployment, headless
from .test_rollouts import roll
from .world import QUICK, Rings, World, until, without_api, world

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

one_loop = pytest.mark.parametrize("anyio_backend", ["trio"])
other_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])

# Seconds after its end in which a token is good.
_FORGIVEN = 60
# Seconds in which controllers and CoreDNS find an API server again that was away.
_BACK = 150


async def without_slices(rings: Rings) -> None:
    """
    Return once the ring by slices hears nothing, and the one by both has DNS.
    """
    await until(lambda: (rings.told.state, source(rings)) == ("stale", "Resolver"))


async def with_slices(rings: Rings) -> None:
    await until(lambda: (rings.told.state, source(rings)) == ("fresh", "EndpointSlices"))


def source(rings: Rings) -> str:
    return rings.falls.stats().source


# A request of the tests' own that broke in the middle: its client leaves its content to the collector.
@pytest.mark.filterwarnings(r"ignore:.*'httpx\._content\.ByteStream:ResourceWarning")
async def test_the_api_server_is_killed_and_comes_back(plane: ControlPlane) -> None:
    """
    First while nothing else happens, then in the middle of a rollout.
    """
    async with world(plane, delay=0.3, grace=0.3) as it:
        await it.apply(headless("web"))
        await it.apply(deployment("web", 4))
        async with it.rings() as rings:
            await it.settled(rings, 4)
            generations = [ring.snapshot.generation for ring in rings]
            async with without_api(plane):
                await without_slices(rings)
            await with_slices(rings)
            assert [ring.snapshot.generation for ring in rings] == generations
            await it.scale("deployment", "web", 6)
            await it.settled(rings, 6, within=_BACK)

            before = rings.shown[0]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(patiently_roll, it)
                await until(lambda: rings.shown[1] != before)
                async with without_api(plane):
                    await without_slices(rings)
            await it.settled(rings, 6, within=_BACK)
            assert not before & rings.shown[0]


async def patiently_roll(it: World) -> None:
    """
    Roll, also while the API is away for a while.
    """
    for _ in range(100):
        try:
            return await roll(it)
        except httpx.TransportError:
            await anyio.sleep(0.2)
    raise TimeoutError("the API did not come back")


@one_loop
async def test_a_watch_from_a_version_that_was_compacted(
    tmp_path: Path, anyio_backend: str
) -> None:
    """
    The rings were cut off while much happened, and etcd has forgotten it: 410, and they list again.

    Without the API server's own cache of what happened, which would know longer than etcd does.
    """
    without_cache = ("--watch-cache-sizes=endpointslices.discovery.k8s.io#0",)
    plane = ControlPlane(
        Path(os.environ["CONTROLPLANE_BIN"]), tmp_path / "plane", apiserver=without_cache
    )
    try:
        await plane.launch()
        async with world(plane) as it:
            await it.apply(headless("web"))
            await it.apply(deployment("web", 5))
            async with it.rings() as rings:
                await it.settled(rings, 5)
                listed = (await plane.api.get(it.path("endpointslices"))).json()
                old = listed["metadata"]["resourceVersion"]
                it.gate.shut()
                await without_slices(rings)
                for replicas in (9, 3):
                    await it.scale("deployment", "web", replicas)
                    await it.plane.until(
                        it.path("deployments", "web"), partial(has_ready, replicas)
                    )
                await compact(plane)
                assert (await first_word(it, old))["object"]["code"] == 410
                it.gate.is_open = True
                await with_slices(rings)
                await it.settled(rings, 3)
    finally:
        plane.halt()


def has_ready(count: int, told: Json) -> bool:
    return bool(told["status"].get("readyReplicas") == count)


async def compact(plane: ControlPlane) -> None:
    """
    Let etcd forget all but the last version.
    """
    async with httpx.AsyncClient(base_url=plane.etcd, timeout=30) as client:
        ranged = await client.post("/v3/kv/range", json={"key": base64.b64encode(b"/").decode()})
        revision = ranged.raise_for_status().json()["header"]["revision"]
        done = await client.post("/v3/kv/compaction", json={"revision": revision, "physical": True})
        done.raise_for_status()


async def first_word(it: World, version: str) -> Json:
    """
    Return the first event of a watch of the slices from *version* on.
    """
    params = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "5"}
    reply = await it.plane.api.get(it.path("endpointslices"), params=params)
    event: Json = json.loads(reply.text.splitlines()[0])
    return event


class Account:
    """
    A service account that may read slices, and the file of its token, as in a pod.
    """

    def __init__(self, it: World, folder: Path) -> None:
        self._it = it
        self.file = folder / "token"
        self.slices = EndpointSlices(
            api=it.url, token=self.file, ca=str(it.plane.ca), domain=it.domain
        )

    async def make(self) -> None:
        meta = {"name": "app", "namespace": self._it.namespace}
        await self._it.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})

    async def allow(self) -> None:
        group = "rbac.authorization.k8s.io"
        rule = {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "watch"],
        }
        role = {"kind": "Role", "metadata": {"name": "knet"}, "rules": [rule]}
        binding = {
            "kind": "RoleBinding",
            "metadata": {"name": "knet"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "knet"},
            "subjects": [
                {"kind": "ServiceAccount", "name": "app", "namespace": self._it.namespace}
            ],
        }
        for thing in (role, binding):
            await self._it.apply({"apiVersion": f"{group}/v1", **thing})

    async def renew(self, seconds: float = 3600) -> str:
        """
        Write a token that is good for so long, as the kubelet does, and return it.

        It is signed here with the cluster's key, since the API gives none for less than ten minutes. The API forgives
        a minute of delay, which is taken off.
        """
        it, issuer, now = self._it, "https://kubernetes.default.svc", time.time()
        account = (await it.plane.api.get(it.path("serviceaccounts", "app"))).json()
        claims = {
            "iss": issuer,
            "aud": [issuer],
            "sub": f"system:serviceaccount:{it.namespace}:app",
            "iat": int(now - 2 * _FORGIVEN),
            "nbf": int(now - 2 * _FORGIVEN),
            "exp": int(now + seconds - _FORGIVEN),
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": it.namespace,
                "serviceaccount": {"name": "app", "uid": account["metadata"]["uid"]},
            },
        }
        signed = ".".join(_base64(json.dumps(each).encode()) for each in ({"alg": "RS256"}, claims))
        words = ("openssl", "dgst", "-sha256", "-sign", "sa.key")
        done = await anyio.run_process(words, input=signed.encode(), cwd=it.plane.dir)
        token = f"{signed}.{_base64(done.stdout)}"
        self.file.write_text(token)
        return token

    async def until_refused(self, token: str) -> None:
        """
        Return once the API server takes *token* no more; it remembers for ten seconds that it did.
        """
        path = self._it.path("endpointslices")
        with anyio.fail_after(60):
            while True:
                reply = await self._it.plane.api.get(
                    path, headers={"Authorization": f"Bearer {token}"}
                )
                if reply.status_code == 401:
                    return
                await anyio.sleep(0.2)


def _base64(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@asynccontextmanager
async def as_a_pod(plane: ControlPlane, folder: Path) -> AsyncIterator[tuple[World, Account]]:
    """
    Have a service of six pods, and an account that may read its slices.
    """
    async with world(plane, delay=0.3, grace=0.3) as it:
        account = Account(it, folder)
        await account.make()
        await account.allow()
        await it.apply(headless("web"))
        await it.apply(deployment("web", 6))
        yield it, account


async def test_who_may_not_read_slices_is_told_what_to_apply(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """
    A ring opens once it is applied. Nobody is trusted for an address alone.
    """
    async with world(plane) as it:
        account = Account(it, tmp_path)
        await account.make()
        await account.renew()
        await it.apply(headless("web"))
        await it.apply(deployment("web", 5))
        service = f"web.{it.namespace}"

        role = r"resources: \[endpointslices\], verbs: \[list, watch\]"
        with pytest.raises(Forbidden, match=role):
            await Ring(service, resolver=account.slices, refresh=QUICK, start_timeout=1).start()
        await account.allow()
        async with Ring(service, port=80, resolver=account.slices, refresh=QUICK) as ring:
            await until(lambda: len(ring.snapshot) == 5)

        stranger = EndpointSlices(api=it.url, token="x")
        with pytest.raises(ServerUnreachable, match="is not to be trusted"):
            await Ring(service, resolver=stranger, refresh=QUICK, start_timeout=1).start()


@one_loop
async def test_a_token_that_expires_and_is_renewed(plane: ControlPlane, tmp_path: Path) -> None:
    """
    An open watch outlives its token; the next one reads the file again. Without a new token in there, DNS is asked.
    """
    async with as_a_pod(plane, tmp_path) as (it, account):
        token = await account.renew(3)
        async with it.rings(slices=account.slices) as rings:
            await it.settled(rings, 6)
            await account.until_refused(token)
            await it.scale("deployment", "web", 5)
            await it.settled(rings, 5)

            it.gate.cut()
            await without_slices(rings)
            await it.scale("deployment", "web", 7)
            await until(lambda: len(rings.falls.snapshot) == len(rings.asks.snapshot) == 7)
            assert len(rings.told.snapshot) == 5
            await account.renew()
            await with_slices(rings)
            await it.settled(rings, 7)

            # Renewed in time: nobody notices.
            await account.renew()
            it.gate.cut()
            await it.scale("deployment", "web", 4)
            await it.settled(rings, 4)


@other_loop
async def test_an_account_that_is_deleted_and_made_again(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with as_a_pod(plane, tmp_path) as (it, account):
        token = await account.renew()
        async with it.rings(slices=account.slices) as rings:
            await it.settled(rings, 6)
            await it.plane.delete(it.path("serviceaccounts", "app"))
            await account.until_refused(token)
            it.gate.cut()
            await without_slices(rings)
            await roll(it)
            await account.make()
            await account.renew()
            await with_slices(rings)
            await it.settled(rings, 6)


async def test_a_role_is_taken_away_in_the_middle_of_a_rollout_and_given_back(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """
    The ring by slices stays with what it knew; the one by both follows the rollout by DNS.
    """
    async with as_a_pod(plane, tmp_path) as (it, account):
        await account.renew()
        async with it.rings(slices=account.slices) as rings:
            await it.settled(rings, 6)
            before = rings.shown[1]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(roll, it)
                await until(lambda: rings.shown[1] != before)
                await it.plane.delete(it.path("roles", "knet"))
                it.gate.cut()
                await without_slices(rings)
            await until(lambda: len(rings.shown[2]) == 6 and not rings.shown[2] & before)
            assert rings.told.state == "stale"
            assert "403" in (rings.told.stats().last_error or "")
            await account.allow()
            await with_slices(rings)
            await it.settled(rings, 6)
