"""
Keys out of requests.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

import knet
from knet import ConfigError
from knet.keys import UnknownRequest, chat_prefix, path, prefix


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


SYSTEM = {"role": "system", "content": "You are kind."}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"model": "m", "messages": [user("Hello")]}, "m\nHello"),
        ({"model": "m", "messages": [SYSTEM, user("Hello"), user("more")]}, "m\nHello"),
        ({"model": "m_adapter", "messages": [user("Hello")]}, "m_adapter\nHello"),
        ({"model": "m", "messages": [user([{"type": "text", "text": "Hello"}])]}, "m\nHello"),
        (
            {
                "model": "m",
                "messages": [
                    user(
                        [
                            {"type": "image_url", "image_url": {"url": "data:"}},
                            {"type": "text", "text": "What "},
                            {"type": "text", "text": "is this?"},
                        ]
                    )
                ],
            },
            "m\nWhat is this?",
        ),
        ({"model": "m", "prompt": "Once"}, "m\nOnce"),
        ({"model": "m", "prompt": ["Once", "Twice"]}, "m\nOnce"),
        ({"model": "m", "input": "Once"}, "m\nOnce"),
        ({"model": "m", "input": [user([{"type": "input_text", "text": "Once"}])]}, "m\nOnce"),
        ({"model": "m", "prompt": "x" * 500}, "m\n" + "x" * 100),
        ({"model": "m", "prompt": "\U0001f600" * 200}, "m\n" + "\U0001f600" * 100),
    ],
)
def test_the_key_is_the_model_and_what_the_user_says_first(body: dict[str, Any], key: str) -> None:
    assert chat_prefix(body) == key
    assert chat_prefix(json.dumps(body)) == chat_prefix(json.dumps(body).encode()) == key


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": "m"},
        {"messages": [user("Hello")]},
        {"model": "", "prompt": "x"},
        {"model": 5, "prompt": "x"},
        {"model": "m", "messages": []},
        {"model": "m", "messages": [SYSTEM]},
        {"model": "m", "messages": [user("")]},
        {"model": "m", "messages": [user(None)]},
        {"model": "m", "messages": [user([{"type": "image_url"}])]},
        {"model": "m", "messages": ["Hello"]},
        {"model": "m", "prompt": ""},
        {"model": "m", "prompt": [1, 2, 3]},
        {"model": "m", "prompt": []},
        "not json",
        "[]",
        b"\xff",
    ],
)
def test_a_request_without_text_is_no_constant_key(body: Any) -> None:
    with pytest.raises(UnknownRequest):
        chat_prefix(body)


def test_a_prefix_has_so_many_characters_at_most() -> None:
    assert prefix("hello", 2) == "he"
    assert prefix("hello") == "hello"
    with pytest.raises(UnknownRequest):
        prefix("")
    with pytest.raises(ConfigError, match="length"):
        prefix("x", 0)
    with pytest.raises(TypeError, match="length"):
        prefix("x", 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="of a str, not of a bytes"):
        prefix(b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mapping or JSON"):
        chat_prefix(5)  # type: ignore[arg-type]


def test_it_is_there_without_an_import_of_its_own() -> None:
    assert knet.keys.prefix is prefix
    assert issubclass(UnknownRequest, ConfigError)


def test_the_path_of_a_request_or_a_scope_is_a_key() -> None:
    import httpx2
    from starlette.requests import Request

    scope = {
        "type": "http",
        "path": "/a/b",
        "query_string": b"n=1",
        "headers": [],
        "server": ("h", 1),
    }

    assert path(httpx2.Request("GET", "http://web.prod/a/b?n=1")) == "/a/b"
    assert path(scope) == path(Request({**scope, "method": "GET"})) == "/a/b"
    for nothing in ({"type": "lifespan"}, "/a/b", None):
        with pytest.raises(TypeError, match="has no URL with a path"):
            path(nothing)
