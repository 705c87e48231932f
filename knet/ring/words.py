"""
What a ring says of things that others brought: errors, resolvers, and to a log that they configured.

Whatever a `__str__`, a `__repr__` or a logging filter of a user's does, it stays out of a ring's life.
"""

from __future__ import annotations

import logging
import sys
import traceback

from knet.endpoint import Endpoint
from knet.question import Question

__all__ = ["log", "on_one_line", "shown_object", "text_of"]

# Characters of an error's text that are kept and logged.
MOST_TEXT = 1000


def on_one_line(text: str) -> str:
    """
    Return the *text* of an error as a log can take it, whoever wrote it.
    """
    return " ".join(text.split())[:MOST_TEXT]


def text_of(error: BaseException) -> str:
    """
    Return the text of *error*, or its type where it cannot say.
    """
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a bug of whoever wrote the class
        return type(error).__name__


def shown_object(thing: object) -> str:
    """
    Return the `repr` of *thing*, or its type where it has none.
    """
    try:
        return repr(thing)
    except Exception:  # noqa: BLE001 - a bug of whoever wrote the class
        return f"<{type(thing).__name__}, whose repr fails>"


def log(
    logger: logging.Logger,
    level: int,
    message: str,
    *values: object,
    exc_info: BaseException | None = None,
    state: str | None = None,
) -> None:
    """
    Log it; a filter or handler that raises is reported as `logging` reports one that fails to write.

    The record has fields for whoever writes logs as JSON: `knet_service` and `knet_port` of a question among
    *values*, `knet_endpoint` of an endpoint, and `knet_state`, the new *state*.
    """
    fields: dict[str, object] = {} if state is None else {"knet_state": state}
    for value in values:
        if isinstance(value, Question):
            fields |= {"knet_service": value.service, "knet_port": value.port}
        elif isinstance(value, Endpoint):
            fields["knet_endpoint"] = value.name
    try:
        logger.log(level, message, *values, exc_info=exc_info, extra=fields)
    except Exception:  # noqa: BLE001 - whatever a filter raises
        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc()
