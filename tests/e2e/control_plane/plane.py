"""
A real Kubernetes control plane on loopback, without a cluster: etcd, kube-apiserver and kube-controller-manager
(one binary, built from Go modules by `build`), and a kubelet that is none: `Kubelet` binds pods to a node, gives
them addresses, makes them ready and lets them go as a real one would, except that nothing runs.

    async with ControlPlane(binary, directory) as plane, Kubelet(plane):
        await plane.apply({"apiVersion": "apps/v1", "kind": "Deployment", ...})

Needs httpx. Everything listens on 127.0.0.1. One node, named `n1`. Services may have IPv4, IPv6 or both. Pods get addresses
from 10.244.0.0/16 and fd00:10:244::/64, where nothing answers; the API refuses loopback addresses in slices.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import httpx

from tests.conformance.live.servers import free_port

CONTROLLERS = (
    "deployment-controller,replicaset-controller,statefulset-controller,endpointslice-controller,"
    "serviceaccount-controller,namespace-controller,garbage-collector-controller,"
    "pod-garbage-collector-controller,root-ca-certificate-publisher-controller"
)

Json = dict[str, Any]

# Seconds, of all that takes a few.
_WITHIN = 90.0


def build(target: Path) -> Path:
    """
    Build the binary with Go at *target*, unless it is there. Some five minutes on two cores the first time, 3 GB of Go's caches.
    """
    if not target.exists():
        version = "k8s.io/component-base/version"
        flags = f"-s -w -X {version}.gitVersion=v1.36.3 -X {version}.gitMajor=1 -X {version}.gitMinor=36"
        here = Path(__file__).parent
        subprocess.run(
            ["go", "build", "-trimpath", "-ldflags", flags, "-o", str(target), "."],
            cwd=here,
            check=True,
        )
    return target


class ControlPlane:
    """
    etcd, kube-apiserver (TLS, RBAC, tokens) and kube-controller-manager.

    `async with` runs it for one event loop. Several loops, one after the other, can have the same one: `launch`, then
    `connected` on each of them, and `halt`.

    Args:
        binary: That `build` made.
        directory: Where its files go.
        apiserver: More arguments of the API server.
        manager: More arguments of the controller manager.

    Attributes:
        url: `https://127.0.0.1:PORT`.
        etcd: `http://127.0.0.1:PORT`, of its database.
        ca: The file of the certificate that it can be verified with.
        api: An `httpx.AsyncClient` of an administrator, while `connected`.
        numbers: Of pods, which make their addresses.
    """

    def __init__(
        self,
        binary: Path,
        directory: Path,
        *,
        apiserver: Sequence[str] = (),
        manager: Sequence[str] = (),
    ) -> None:
        self.binary = binary
        self.dir = directory
        self.numbers: Iterator[int] = itertools.count(1)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._arguments: dict[str, list[str]] = {}
        self._more = {"apiserver": apiserver, "controller-manager": manager}
        self.ca = directory / "certs" / "apiserver.crt"

    async def __aenter__(self) -> Self:
        await self.launch()
        self._connection = self.connected()
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._connection.__aexit__(kind, error, tb)
        self.halt()

    async def launch(self) -> None:
        """
        Start its parts, and return once they are ready.
        """
        self.dir.mkdir(parents=True, exist_ok=True)
        for words in (
            ("openssl", "genrsa", "-out", "sa.key", "2048"),
            ("openssl", "rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"),
        ):
            await anyio.run_process(words, cwd=self.dir)
        (self.dir / "tokens.csv").write_text("admin-token,admin,admin,system:masters\n")
        client, peer, secure, manager = free_port(), free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{secure}"
        self.etcd = f"http://127.0.0.1:{client}"
        self._arguments = {
            "etcd": [str(self.dir / "etcd"), self.etcd, f"http://127.0.0.1:{peer}"],
            "apiserver": [
                f"--etcd-servers={self.etcd}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={secure}",
                f"--cert-dir={self.dir / 'certs'}",
                "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
                "--endpoint-reconciler-type=none",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self.dir / 'sa.pub'}",
                f"--service-account-signing-key-file={self.dir / 'sa.key'}",
                f"--token-auth-file={self.dir / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            ],
            "controller-manager": [
                f"--kubeconfig={self.dir / 'kubeconfig'}",
                f"--service-account-private-key-file={self.dir / 'sa.key'}",
                f"--root-ca-file={self.ca}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={manager}",
                f"--cert-dir={self.dir / 'manager'}",
                f"--controllers={CONTROLLERS}",
                "--authentication-skip-lookup",
            ],
        }
        for part, more in self._more.items():
            self._arguments[part] += more
        try:
            await self._launch(client)
        except BaseException:
            self.halt()
            raise

    async def _launch(self, etcd: int) -> None:
        with anyio.fail_after(_WITHIN):
            self.start("etcd")
            await _until_open(etcd)
            self.start("apiserver")
            while not self.ca.exists():
                await anyio.sleep(0.05)
            self.kubeconfig("admin-token")
            async with self.connected():
                await self.until_ready()
                self.start("controller-manager")
                await self.apply(
                    {
                        "apiVersion": "v1",
                        "kind": "Node",
                        "metadata": {
                            "name": "n1",
                            "labels": {"topology.kubernetes.io/zone": "zone-a"},
                        },
                    }
                )
                await self.until(
                    "/api/v1/namespaces/default/serviceaccounts/default", lambda _: True
                )

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """
        Have `api` on this event loop.
        """
        async with httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": "Bearer admin-token"},
            verify=False,
            timeout=30,
        ) as self.api:
            yield

    # --- its parts

    def start(self, part: str) -> None:
        with (self.dir / f"{part}.log").open("ab") as log:
            self._processes[part] = subprocess.Popen(
                [str(self.binary), part, *self._arguments[part]],
                stdout=log,
                stderr=log,
                cwd=self.dir,
            )

    def stop(self, part: str, *, kill: bool = False) -> None:
        process = self._processes.pop(part, None)
        if process is not None:
            process.kill() if kill or part != "etcd" else process.terminate()
            process.wait(20)

    def halt(self) -> None:
        """
        Stop all that still runs.
        """
        for part in reversed(list(self._processes)):
            self.stop(part)

    def is_running(self, part: str) -> bool:
        return part in self._processes

    def pid(self, part: str) -> int:
        return self._processes[part].pid

    async def until_ready(self, seconds: float = 60) -> None:
        with anyio.fail_after(seconds):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await self.api.get("/readyz")).text == "ok":
                        return
                await anyio.sleep(0.1)

    def kubeconfig(self, token: str, name: str = "kubeconfig", *, url: str | None = None) -> Path:
        """
        Write a kubeconfig and return its path; *url* is where the API is reached, if not directly.
        """
        authority = base64.b64encode(self.ca.read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "loopback",
            "clusters": [
                {
                    "name": "loopback",
                    "cluster": {"server": url or self.url, "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "loopback", "context": {"cluster": "loopback", "user": "user"}}],
        }
        path = self.dir / name
        path.write_text(json.dumps(config))
        return path

    # --- its objects

    @staticmethod
    def path_of(thing: Json) -> str:
        """
        Where objects of the kind of *thing* live in its namespace.
        """
        version, meta = thing["apiVersion"], thing.get("metadata", {})
        plural = {"EndpointSlice": "endpointslices"}.get(thing["kind"], thing["kind"].lower() + "s")
        base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        clustered = thing["kind"] in ("Node", "Namespace", "ClusterRole", "ClusterRoleBinding")
        return (
            f"{base}/{plural}"
            if clustered
            else f"{base}/namespaces/{meta.get('namespace', 'default')}/{plural}"
        )

    async def apply(self, thing: Json) -> Json:
        path = f"{self.path_of(thing)}/{thing['metadata']['name']}"
        reply = await self.api.patch(
            path,
            params={"fieldManager": "tests", "force": "true"},
            content=json.dumps(thing),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        reply.raise_for_status()
        made: Json = reply.json()
        return made

    async def delete(self, path: str, **options: Any) -> None:
        (
            await self.api.request(
                "DELETE", path, json={"kind": "DeleteOptions", "apiVersion": "v1", **options}
            )
        ).raise_for_status()

    async def until(self, path: str, true: Callable[[Json], bool], seconds: float = 60) -> Json:
        with anyio.fail_after(seconds):
            while True:
                reply = await self.api.get(path)
                if reply.status_code == 200:
                    found: Json = reply.json()
                    if true(found):
                        return found
                await anyio.sleep(0.05)

    async def scale(self, kind: str, name: str, replicas: int, namespace: str = "default") -> None:
        path = f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s/{name}/scale"
        merge = {"Content-Type": "application/merge-patch+json"}
        (
            await self.api.patch(
                path, content=json.dumps({"spec": {"replicas": replicas}}), headers=merge
            )
        ).raise_for_status()

    async def token(self, account: str, namespace: str = "default", seconds: int = 3600) -> str:
        """
        A token of a service account, as a pod gets it; the least time is 600 s.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        reply = await self.api.post(path, json=request)
        reply.raise_for_status()
        return str(reply.json()["status"]["token"])

    async def watch(self, path: str, **params: str) -> AsyncIterator[Json]:
        async with self.api.stream(
            "GET", path, params={"watch": "true", **params}, timeout=httpx.Timeout(30, read=None)
        ) as reply:
            async for line in reply.aiter_lines():
                yield json.loads(line)


class Kubelet:
    """
    Makes pods of the node that are pending run and be ready, and those that are deleted go.

    Args:
        delay: Seconds that new pods take to get ready.
        grace: Seconds between a pod's deletion and its end: what its preStop hook and shutdown would take.

    Attributes:
        given: The namespace of each pod that ever had an address, by that address.
        numbers: Of the pods of an app that has its own, by its name; others have those of the control plane.
    """

    def __init__(self, plane: ControlPlane, *, delay: float = 0.0, grace: float = 0.0) -> None:
        self.plane = plane
        self.delay = delay
        self.grace = grace
        self.given: dict[str, str] = {}
        self.numbers: dict[str, Iterator[int]] = {}
        self._seen: set[str] = set()
        self._going: set[str] = set()
        self._at_work = 0
        # A client with a thousand requests at once looks at all of them at each.
        self._turns = anyio.CapacityLimiter(16)

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._work)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> bool | None:
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(kind, error, tb)

    async def _work(self) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                listed = (await self.plane.api.get("/api/v1/pods")).json()
                for pod in listed["items"]:
                    self._tasks.start_soon(self._look_at, pod)
                version = listed["metadata"]["resourceVersion"]
                async for event in self.plane.watch("/api/v1/pods", resourceVersion=version):
                    if event["type"] == "ERROR":
                        break  # the version is too old
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._tasks.start_soon(self._look_at, event["object"])
            await anyio.sleep(0.2)

    async def until_idle(self) -> None:
        """
        Return once it is in the middle of nothing.
        """
        with anyio.fail_after(_WITHIN):
            while self._at_work:
                await anyio.sleep(0.02)

    async def _look_at(self, pod: Json) -> None:
        self._at_work += 1
        try:
            await self._see_to(pod)
        finally:
            self._at_work -= 1

    async def _see_to(self, pod: Json) -> None:
        meta = pod["metadata"]
        uid, path = meta["uid"], f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        try:
            if meta.get("deletionTimestamp"):
                if uid not in self._going:
                    self._going.add(uid)
                    await anyio.sleep(self.grace)
                    async with self._turns:
                        await self.plane.delete(
                            path, gracePeriodSeconds=0, preconditions={"uid": uid}
                        )
            elif uid not in self._seen:
                self._seen.add(uid)
                await self._run(pod, path)
        except httpx.HTTPStatusError:
            pass  # it has gone
        except httpx.TransportError:
            # The API is away: whoever lists again sees it once more.
            self._going.discard(uid)
            self._seen.discard(uid)

    async def _run(self, pod: Json, path: str) -> None:
        meta = pod["metadata"]
        if not pod["spec"].get("nodeName"):
            target = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": meta["name"]},
                "target": {"kind": "Node", "name": "n1"},
            }
            async with self._turns:
                await self.plane.api.post(f"{path}/binding", json=target)
        addresses: list[str] = [each["ip"] for each in pod["status"].get("podIPs", ())]
        if not addresses:
            app = meta.get("labels", {}).get("app", "")
            number = next(self.numbers.get(app, self.plane.numbers))
            addresses = [f"10.244.{number // 256}.{number % 256}", f"fd00:10:244::{number:x}"]
        for address in addresses:
            self.given[address] = meta["namespace"]
        status = {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": a} for a in addresses],
            "hostIP": "127.0.0.1",
        }
        delay = self.delay
        await self._patch(path, status, not delay)
        if delay:
            await anyio.sleep(delay)
            await self._patch(path, {}, ready=True)

    async def set_ready(self, pod: str, ready: bool, namespace: str = "default") -> None:
        """
        Let the readiness probe of *pod* succeed or fail.
        """
        await self._patch(f"/api/v1/namespaces/{namespace}/pods/{pod}", {}, ready)

    async def crash(self, pod: str, restarts: int, namespace: str = "default") -> None:
        """
        Let the container of *pod* die, for so many times now; it waits to be started again.
        """
        waits = {
            "name": "c",
            "image": "none",
            "imageID": "",
            "ready": False,
            "restartCount": restarts,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        await self._patch(path, {"containerStatuses": [waits]}, ready=False)

    async def evict(self, pod: str, namespace: str = "default") -> None:
        """
        Let *pod* fail for good: it stays, and its controller makes another one.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        await self._patch(path, {"phase": "Failed", "reason": "Evicted"}, ready=False)

    async def _patch(self, path: str, status: Json, ready: bool) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        word = "True" if ready else "False"
        conditions = [
            {"type": t, "status": word, "lastTransitionTime": now}
            for t in ("Ready", "ContainersReady")
        ]
        body = {"status": {**status, "conditions": conditions}}
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        async with self._turns:
            reply = await self.plane.api.patch(
                f"{path}/status", content=json.dumps(body), headers=headers
            )
        reply.raise_for_status()


def deployment(name: str, replicas: int, **labels: str) -> Json:
    match = {"app": name, **labels}
    spec = {"containers": [{"name": "c", "image": "none"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": match},
            "template": {"metadata": {"labels": match}, "spec": spec},
        },
    }


def stateful_set(name: str, replicas: int) -> Json:
    thing = deployment(name, replicas)
    thing["kind"] = "StatefulSet"
    thing["spec"] |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    return thing


def headless(name: str, *, port: int = 8080, port_name: str = "http", **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "clusterIP": "None",
            "selector": {"app": name},
            "ports": [{"name": port_name, "port": port}],
            **spec,
        },
    }


async def _until_open(port: int) -> None:
    while True:
        try:
            async with await anyio.connect_tcp("127.0.0.1", port):
                return
        except OSError:
            await anyio.sleep(0.05)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["CONTROLPLANE_BIN"]))
