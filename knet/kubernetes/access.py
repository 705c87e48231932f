"""
Where the API of Kubernetes is, and who we are: in the cluster, by a kubeconfig, or as told.

TLS is always verified. The token of a pod is renewed while it runs, so its file is read again for each
connection.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knet.errors import ConfigError
from knet.question import shown

__all__ = ["ACCOUNT", "Access", "explicit", "from_kubeconfig", "in_cluster"]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_NOT_MOUNTED = (
    "this pod has no service account mounted ({}): set automountServiceAccountToken: true in its spec, or ask "
    "DNS, with knet.Resolver()"
)
_OUTSIDE = (
    "this is no pod of a cluster, since $KUBERNETES_SERVICE_HOST is not set: give a kubeconfig, "
    "EndpointSlices(kubeconfig='~/.kube/config'), or an api and a token"
)


@dataclass(frozen=True, slots=True)
class Access:
    """
    How the API is reached.

    Attributes:
        url: Without a path behind it.
        token: Gives the bearer token that counts now, or `None`.
        context: What verifies the server, and knows our certificate if we have one; `None`: plain HTTP.
        namespace: Which one a bare name is in, where this tells.
    """

    url: str
    token: Callable[[], str | None]
    context: ssl.SSLContext | None
    namespace: str | None = None


def explicit(api: str, token: str | Path | None, ca: str | Path | None) -> Access:
    """
    Return the access that a user wrote down.

    Args:
        api: `"https://10.0.0.1:6443"`.
        token: The token, or the path of a file that has it.
        ca: The path of a file of certificates; `None`: those of this machine.
    """
    if not api.startswith(("https://", "http://127.", "http://[::1]", "http://localhost")):
        raise ConfigError(f"api must be an https:// URL, got {shown(api)}")
    context = None if api.startswith("http://") else _context(ca)
    if isinstance(token, Path):
        path = token
        return Access(api.rstrip("/"), lambda: _read(path), context)
    return Access(api.rstrip("/"), lambda: token, context)


def in_cluster(environment: Mapping[str, str] = os.environ, account: Path = ACCOUNT) -> Access:
    """
    Return the access of a pod.

    Raises:
        ConfigError: This is none, or it has no service account.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    if not host:
        raise ConfigError(_OUTSIDE)
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not (account / "token").exists():
        raise ConfigError(_NOT_MOUNTED.format(account / "token"))
    there = f"[{host}]" if ":" in host else host
    try:
        namespace = (account / "namespace").read_text("utf-8").strip() or None
    except OSError:
        namespace = None
    return Access(
        f"https://{there}:{port}",
        lambda: _read(account / "token"),
        _context(account / "ca.crt"),
        namespace,
    )


def from_kubeconfig(path: str | Path) -> Access:
    """
    Return the access of the current context of a kubeconfig: by a token, a token's file, or a certificate.

    Raises:
        ConfigError: It is not there, makes no sense, or asks for a program that gives credentials.
    """
    try:
        import yaml  # noqa: PLC0415 - whoever is in a cluster needs none of it
    except ImportError as error:
        raise ImportError(
            "PyYAML is not installed: python -m pip install 'knet-ring[kubernetes]'"
        ) from error
    file = Path(path).expanduser()
    what = f"the kubeconfig {file}"
    try:
        told: Any = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{what} cannot be read: {error}") from error
    context = _named(told, "contexts", "context", _get(told, "current-context"), what)
    cluster = _named(told, "clusters", "cluster", _get(context, "cluster"), what)
    user = _named(told, "users", "user", _get(context, "user"), what)
    if "exec" in user or "auth-provider" in user:
        raise ConfigError(
            f"{what} has its credentials given by a program ({_get(_get(user, 'exec'), 'command') or 'auth-provider'}), "
            "which knet does not run: make a token, `kubectl create token ACCOUNT`, and write "
            "EndpointSlices(api=..., token=..., ca=...)"
        )
    if _get(cluster, "proxy-url"):
        raise ConfigError(f"{what} asks for a proxy (proxy-url), which knet does not use")
    if _get(cluster, "insecure-skip-tls-verify"):
        raise ConfigError(f"{what} asks not to verify TLS, which knet always does")
    url = str(_get(cluster, "server") or "")
    ca_data = _data(cluster, "certificate-authority-data", what)
    ca_file = _get(cluster, "certificate-authority")
    verify = None
    if not url.startswith("http://"):
        verify = ssl.create_default_context(
            cafile=str(file.parent / str(ca_file)) if ca_file else None,
            cadata=ca_data.decode() if ca_data else None,
        )
        _load_certificate(verify, user, file.parent, what)
    token_file = _get(user, "tokenFile")
    token = _get(user, "token")
    namespace = _get(context, "namespace")
    return Access(
        explicit(url, None, None).url if verify is None else url.rstrip("/"),
        (lambda: _read(file.parent / str(token_file))) if token_file else (lambda: token),
        verify,
        str(namespace) if namespace else None,
    )


def _load_certificate(
    context: ssl.SSLContext, user: Mapping[str, Any], folder: Path, what: str
) -> None:
    data = _data(user, "client-certificate-data", what), _data(user, "client-key-data", what)
    files = _get(user, "client-certificate"), _get(user, "client-key")
    if all(files):
        context.load_cert_chain(str(folder / str(files[0])), str(folder / str(files[1])))
    elif data[0] and data[1]:
        # `ssl` reads them from files only.
        with tempfile.TemporaryDirectory() as place:
            certificate, key = Path(place, "certificate"), Path(place, "key")
            certificate.write_bytes(data[0])
            key.touch(mode=0o600)
            key.write_bytes(data[1])
            context.load_cert_chain(str(certificate), str(key))


def _context(ca: str | Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the certificates of {ca} cannot be read: {error}") from error


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip() or None
    except OSError:
        return None


def _get(told: object, name: str) -> Any:
    return told.get(name) if isinstance(told, Mapping) else None


def _named(told: object, several: str, one: str, name: object, what: str) -> Mapping[str, Any]:
    listed = _get(told, several)
    for each in listed if isinstance(listed, list) else ():
        found = _get(each, one)
        if _get(each, "name") == name and isinstance(found, Mapping):
            return found
    raise ConfigError(f"{what} has no {one} called {shown(str(name))}")


def _data(told: Mapping[str, Any], name: str, what: str) -> bytes | None:
    text = _get(told, name)
    if not text:
        return None
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{what}: {name} is not base64: {error}") from error
