"""
What an API server says where it does not give what was asked for: a ``Status``, with the words of a real one.
"""

from __future__ import annotations

from typing import Any

from knet.testing.api.slices import Json

__all__ = ["anything", "forbidden", "future", "invalid", "missing", "status", "too_old"]

_GROUP = {"group": "discovery.k8s.io", "kind": "endpointslices"}
_USUAL = {
    400: ("BadRequest", "the request makes no sense"),
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", "endpointslices.discovery.k8s.io is forbidden"),
    404: ("NotFound", "the server could not find the requested resource"),
    405: (
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    ),
    410: ("Expired", "The resourceVersion for the provided list is too old."),
    429: ("TooManyRequests", "too many requests, please try again later"),
    500: ("InternalError", "Internal error occurred"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "the server was unable to return a response in the time allotted"),
}


def status(code: int, message: str, reason: str = "", **details: Any) -> Json:
    """
    A failure.
    """
    made: Json = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
    }
    if reason:
        made["reason"] = reason
    if details:
        made["details"] = details
    return {**made, "code": code}


def anything(code: int, message: str = "") -> Json:
    """
    What is usually said with a code.
    """
    reason, words = _USUAL.get(code, ("", f"the server says {code}"))
    return status(code, message or words, reason)


def forbidden(user: str, verb: str, namespace: str | None) -> Json:
    """
    RBAC gives *user* no right to *verb*, in *namespace* or, if that is `None`, in the cluster.
    """
    where = "at the cluster scope" if namespace is None else f'in the namespace "{namespace}"'
    return status(
        403,
        f'endpointslices.discovery.k8s.io is forbidden: User "{user}" cannot {verb} resource '
        f'"endpointslices" in API group "discovery.k8s.io" {where}',
        "Forbidden",
        **_GROUP,
    )


def missing(name: str) -> Json:
    """
    There is no slice of that name.
    """
    message = f'endpointslices.discovery.k8s.io "{name}" not found'
    return status(404, message, "NotFound", name=name, **_GROUP)


def too_old(version: int, oldest: int) -> Json:
    """
    A version that was forgotten.
    """
    return status(410, f"too old resource version: {version} ({oldest})", "Expired")


def future(version: int, current: int) -> Json:
    """
    A version that is not there yet. A real server waits for it for three seconds first.
    """
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return status(
        504,
        f"Timeout: Too large resource version: {version}, current: {current}",
        "Timeout",
        causes=[cause],
        retryAfterSeconds=1,
    )


def invalid(*causes: tuple[str, str]) -> Json:
    """
    Parameters that do not go together: the field of each, and what is said of it.
    """
    told = [f"{field}: Forbidden: {words}" for field, words in causes]
    listed = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    details = [
        {"reason": "FieldValueForbidden", "message": f"Forbidden: {words}", "field": field}
        for field, words in causes
    ]
    return status(
        422,
        f'ListOptions.meta.k8s.io "" is invalid: {listed}',
        "Invalid",
        group="meta.k8s.io",
        kind="ListOptions",
        causes=details,
    )
