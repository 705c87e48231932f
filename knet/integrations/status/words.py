"""
How a page writes what others brought, and numbers, for people.

Pure. Names of pods and texts of errors come from whoever answers DNS: they are escaped, cut off, and
rid of characters that would change how the text around them is shown.
"""

from __future__ import annotations

import html
import re

from knet import Endpoint

__all__ = ["ago", "called", "count", "escaped", "lasting", "percent", "plain"]

# Controls, surrogates, and what turns the direction of a text around.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)


def plain(text: str, most: int = 300) -> str:
    """
    Return *text* on one line, without what cannot be seen, and not longer than *most* characters.
    """
    text = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 1]}…"


def escaped(text: str, most: int = 300) -> str:
    """
    Return *text* for HTML, in an element or in a quoted attribute.
    """
    return html.escape(plain(text, most))


def called(endpoint: Endpoint) -> str:
    """
    Return the name of *endpoint* for a person, not escaped.
    """
    return str(endpoint) if endpoint.name == endpoint.address else endpoint.name


def count(number: int, what: str) -> str:
    """
    Return how many there are, as in "1 pod" and "1,000 pods".
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """
    Return a share with three digits or so: "33.1 %", "0.104 %", "0 %".
    """
    value = share * 100
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f} %" if value else "0 %"


def lasting(seconds: float) -> str:
    """
    Return how long that is, in one unit.
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    for size, unit in ((60, "min"), (3600, "h")):
        if seconds < size * 120:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def ago(seconds: float) -> str:
    """
    Return how long ago that was.
    """
    return "just now" if seconds < 1 else f"{lasting(seconds)} ago"
