"""
Keys out of requests: what of a request says where it belongs.

Pure. For models with a cache of prefixes (LLMs) a request belongs where one with the same beginning was
served last: the key is the model and the first characters of the first message of the user, which is
what KubeAI's `PrefixHash` takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from knet.errors import ConfigError
from knet.hashring.placement import check_count

__all__ = ["UnknownRequest", "chat_prefix", "path", "prefix"]

# KubeAI's `prefixCharLength`.
_LENGTH = 100


class UnknownRequest(ConfigError):
    """
    Raised when a request has no text to make a key of.

    A constant key in its place would send all such requests to one pod.
    """


def prefix(text: str, length: int = _LENGTH) -> str:
    """
    Return the first *length* characters of *text*.

    Raises:
        UnknownRequest: *text* is empty.
        ConfigError: *length* is below 1.
        TypeError: *text* is no `str`, or *length* no `int`.
    """
    if not isinstance(text, str):
        raise TypeError(f"a prefix is of a str, not of a {type(text).__name__}")
    if length.__class__ is not int or length < 1:
        check_count(length, "length")
    if not text:
        raise UnknownRequest("an empty text has no prefix: all such requests would have one key")
    return text[:length]


def path(request: Any) -> str:
    """
    Return the path of a request, without its query: of httpx2, httpx, aiohttp or Starlette, or of an ASGI scope.

        RingTransport(ring, key=knet.keys.path)

    Where all requests have one path, as at an LLM server, that is one key.

    Raises:
        TypeError: *request* has no URL.
    """
    if isinstance(request, Mapping):
        found = request.get("path")
    else:
        found = getattr(getattr(request, "url", None), "path", None)
    if not isinstance(found, str):
        raise TypeError(f"a {type(request).__name__} has no URL with a path")
    return found


def chat_prefix(body: Mapping[str, Any] | str | bytes, length: int = _LENGTH) -> str:
    r"""
    Return the model of a request in OpenAI's form, and the beginning of what its user says first.

        >>> chat_prefix({"model": "llama", "messages": [{"role": "user", "content": "Hello!"}]})
        'llama\nHello!'

    A chat has `messages`, a completion a `prompt`, a response an `input`. An adapter is a part of the
    model's name, as servers have it, and so of the key.

    Args:
        body: The request as a mapping, or as JSON.
        length: How many characters of the text, at most.

    Raises:
        UnknownRequest: It has no model, no text of a user, or another form.
        ConfigError: *length* is below 1.
        TypeError: *body* is neither a mapping nor text.
    """
    if isinstance(body, str | bytes | bytearray):
        try:
            body = json.loads(body)
        except ValueError as error:
            raise UnknownRequest(f"a request must be JSON: {error}") from error
        if not isinstance(body, Mapping):
            raise UnknownRequest(f"a request must be an object, not {type(body).__name__}")
    elif not isinstance(body, Mapping):
        raise TypeError(f"a request must be a mapping or JSON, not {type(body).__name__}")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise UnknownRequest("a request must name its model")
    return f"{model}\n{prefix(_text(body), length)}"


def _text(body: Mapping[str, Any]) -> str:
    """
    Return what the user says first.
    """
    for form in ("messages", "input"):
        told = body.get(form)
        if isinstance(told, str) and form == "input":
            return told
        if isinstance(told, Iterable) and not isinstance(told, str | bytes | Mapping):
            for message in told:
                if isinstance(message, Mapping) and message.get("role") == "user":
                    return _content(message.get("content"))
            raise UnknownRequest(f"none of its {form} is of a user")
    prompt = body.get("prompt")
    if isinstance(prompt, list | tuple) and prompt and isinstance(prompt[0], str):
        return prompt[0]
    if isinstance(prompt, str):
        return prompt
    raise UnknownRequest(
        "a request must have messages, a prompt or an input with text in it; it has "
        f"{', '.join(sorted(map(str, body))) or 'nothing'}"
    )


def _content(content: object) -> str:
    """
    Return the text of a message, which may have several parts.
    """
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else ()
    text = "".join(
        part["text"]
        for part in parts
        if isinstance(part, Mapping)
        and part.get("type") in ("text", "input_text")
        and isinstance(part.get("text"), str)
    )
    if not text:
        raise UnknownRequest("the first message of the user has no text")
    return text
