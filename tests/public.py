"""
The public surface in one file: `python -m tests.public` writes `tests/public_names.txt` anew.

A line for each public name with its signature, and below a class its own members. So a change of the
surface is a change of that file, which a reviewer sees.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import knet.integrations

FILE = Path(__file__).parent / "public_names.txt"

# What several integrations are made of.
_INNER = {
    "forwarder",
    "forwarding",
    "readings",
    "retries",
    "scopes",
    "status",
    "tallies",
    "transport",
}
INTEGRATIONS = [
    f"knet.integrations.{module.name}"
    for module in pkgutil.iter_modules(knet.integrations.__path__)
    if module.name not in _INNER
]
DOORS = [
    *("knet", "knet.blocking", "knet.hashring", "knet.hashring.proxies", *INTEGRATIONS),
    *(
        "knet.keys",
        "knet.kubernetes",
        "knet.resolver",
        "knet.testing",
        "knet.testing.pytest_plugin",
    ),
]


def recorded() -> Iterator[tuple[str, str, Any]]:
    """
    Yield each front door, each name of its `__all__`, and what that is.
    """
    for door in DOORS:
        module = importlib.import_module(door)
        for name in sorted(module.__all__):
            yield door, name, getattr(module, name)


def surface() -> str:
    """
    Return the whole surface as text.
    """
    return "".join(f"{line}\n" for each in recorded() for line in _lines(*each))


def _lines(door: str, name: str, thing: Any) -> Iterator[str]:
    path = f"{door}.{name}"
    home = f"{getattr(thing, '__module__', door)}.{name}"
    if door != "knet" and getattr(knet, name, None) is thing:
        yield f"{path} = knet.{name}"
    elif isinstance(thing, type):
        yield f"class {path}{_signature(thing) if _has_own(thing) else ''}{_bases(thing)}"
        for member in sorted(_members(thing)):
            yield f"    {_member(member, inspect.getattr_static(thing, member, None))}"
    elif isinstance(thing, FunctionType):
        yield f"{_kind(thing)} {path}{_signature(thing)}"
    elif typing.get_origin(thing) is typing.Literal:
        yield f"{path} = {', '.join(map(repr, typing.get_args(thing)))}"
    elif home.startswith("knet."):
        yield f"{path}: {type(thing).__name__}"
    else:
        yield f"{path}: a type"


def _has_own(thing: type) -> bool:
    """
    Can one of it be made, in a way that knet has decided?
    """
    is_protocol = getattr(thing, "_is_protocol", False)
    is_plain = not isinstance(inspect.getattr_static(thing, "__init__"), FunctionType)
    is_error = issubclass(thing, BaseException)
    is_listed = issubclass(thing, enum.Enum) or typing.is_typeddict(thing)
    return not is_protocol and not is_listed and not (is_error and is_plain)


def _bases(thing: type) -> str:
    public = [b.__name__ for b in thing.__mro__[1:] if not b.__name__.startswith("_")]
    errors = [name for name in public if issubclass(thing, BaseException) and name != "object"]
    return f" <- {', '.join(errors)}" if errors else ""


def _members(thing: type) -> set[str]:
    """
    Return the public members that are knet's own, and the ways in and out of a block or a loop.
    """
    ways = {"__aenter__", "__aiter__", "__anext__", "__call__", "__contains__", "__enter__"}
    ways |= {"__iter__", "__len__", "__getitem__"}
    found = set(getattr(thing, "__annotations__", {}))
    for base in thing.__mro__:
        if base.__module__.startswith("knet"):
            found |= set(vars(base))
    hidden = {"_is_protocol"} | (ways if issubclass(thing, BaseException) else set())
    return {name for name in found - hidden if not name.startswith("_") or name in ways}


def _member(name: str, member: Any) -> str:
    if isinstance(member, property):
        told = inspect.get_annotations(member.fget) if member.fget else {}
        return f"{name}: {told.get('return', 'Any')}"
    if isinstance(member, staticmethod | classmethod):
        return (
            f"{type(member).__name__} {_kind(member.__func__)} {name}{_signature(member.__func__)}"
        )
    if isinstance(member, FunctionType):
        return f"{_kind(member)} {name}{_signature(member)}"
    return name


def _kind(function: Any) -> str:
    return "async def" if inspect.iscoroutinefunction(function) else "def"


def _signature(thing: Any) -> str:
    try:
        signature = inspect.signature(thing)
    except ValueError:  # a class of C
        return "(...)"
    told = signature.return_annotation
    shown: list[str] = []
    before: inspect.Parameter | None = None
    for each in signature.parameters.values():
        if before is not None and before.kind is before.POSITIONAL_ONLY is not each.kind:
            shown.append("/")
        if each.kind is each.KEYWORD_ONLY and not any(word.startswith("*") for word in shown):
            shown.append("*")
        shown.append(_parameter(each))
        before = each
    if before is not None and before.kind is before.POSITIONAL_ONLY:
        shown.append("/")
    returned = (
        "" if told is signature.empty or isinstance(thing, type) else f" -> {_annotation(told)}"
    )
    return f"({', '.join(shown)}){returned}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
    stars = "**" if parameter.kind is parameter.VAR_KEYWORD else stars
    shown = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        shown += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        shown += f" = {_default(parameter.default)}"
    return shown


def _annotation(told: Any) -> str:
    return told if isinstance(told, str) else getattr(told, "__name__", str(told))


def _default(value: Any) -> str:
    if isinstance(value, type | FunctionType):
        return value.__name__
    # What has no spelling of its own would show its address.
    return "..." if " at 0x" in repr(value) else repr(value)


if __name__ == "__main__":
    FILE.write_text(surface(), "utf-8")
