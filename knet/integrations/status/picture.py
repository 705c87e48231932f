"""
A ring as a picture: SVG, in steps.

Pure. The outer band is the hash space, clockwise from the top, in as many parts as can be told apart,
each in the colour of its owner. The inner band has the endpoints one after the other, each as long as
its share. Who is ejected is hatched in both. Of many endpoints, neighbours have one arc in the inner band
together, so that a thousand of them are no larger to send than a hundred.

Colours are attributes, and not styles, which the page's policy forbids.
"""

from __future__ import annotations

import math
from collections.abc import Generator

from knet.integrations.status.facts import CELLS, Facts
from knet.integrations.status.words import called, count, escaped, percent

__all__ = ["colour", "drawing", "swatch"]

_CENTRE = 120
_RING = 96
_SHARES = 71

# With more endpoints, neighbours share an arc of the inner band.
_MOST_ARCS = 120
# With more, names under the pointer tell nothing in the outer band.
_MOST_NAMED = 60
# With more, neighbours have colours alike: a rainbow by name.
_MOST_DISTINCT = 24
# An arc is drawn at least so wide, in turns of the ring: one in a thousand is still seen.
_LEAST = 0.0025
_NAMED = 8

_GOLDEN_ANGLE = 137.508


def colour(place: int, of: int) -> str:
    """
    Return the colour of the endpoint at *place* among so many.
    """
    hue = place * _GOLDEN_ANGLE + 250 if of <= _MOST_DISTINCT else 330 * place / of
    lightness = 0.68 + 0.08 * (place % 3 - 1)
    return f"oklch({lightness:.2f} .14 {hue % 360:.0f})"


def swatch(place: int, of: int, hatch: str | None) -> str:
    """
    Return the colour of an endpoint as a small square, hatched where *hatch* names a pattern.
    """
    square = '<rect width="100%" height="100%" fill="{}"/>'
    over = "" if hatch is None else square.format(f"url(#{hatch})")
    return f'<svg class="swatch" aria-hidden="true">{square.format(colour(place, of))}{over}</svg>'


def drawing(facts: Facts, number: int) -> Generator[str, None, None]:
    """
    Yield the picture of a ring, part by part.

    Args:
        facts: Of the ring.
        number: Of the ring on its page, for names that are used once.
    """
    endpoints, hatch = facts.endpoints, f"hatch-{number}"
    yield (
        f'<svg class="ring" viewBox="0 0 {2 * _CENTRE} {2 * _CENTRE}" role="img" '
        f'aria-labelledby="title-{number} desc-{number}">'
        f'<title id="title-{number}">Who owns which part of the keys of {escaped(facts.name)}</title>'
        f'<desc id="desc-{number}">{escaped(described(facts), 2_000)}</desc>'
        f'<defs><pattern id="{hatch}" width="5" height="5" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect class="hatch" width="3" height="5"/></pattern></defs>'
    )
    if facts.parts.cells:
        yield from _hash_space(facts, hatch)
        yield from _shares(facts, hatch)
    else:
        yield f'<circle class="nobody" cx="{_CENTRE}" cy="{_CENTRE}" r="{_RING}"/>'
    out = len(facts.out)
    yield (
        f'<text class="many" x="{_CENTRE}" y="{_CENTRE + (2 if out else 8)}">{len(endpoints):,}</text>'
        f'<text class="what" x="{_CENTRE}" y="{_CENTRE + (18 if out else 25)}">'
        f"pod{'' if len(endpoints) == 1 else 's'}</text>"
    )
    if out:
        yield f'<text class="out" x="{_CENTRE}" y="{_CENTRE + 36}">{out:,} ejected</text>'
    yield "</svg>"


def described(facts: Facts) -> str:
    """
    Say what the picture shows, for who does not see it.
    """
    if not facts.parts.cells:
        return "Nobody has keys."
    shares = [share for share in facts.parts.shares if share]
    told = f"{count(len(facts.endpoints), 'pod')}, "
    if len(shares) > 1:
        told += f"with shares from {percent(min(shares))} to {percent(max(shares))} of the keys."
    else:
        told += "which has all keys."
    if facts.out:
        names = [called(facts.endpoints[place]) for place in facts.out]
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        told += f" Ejected: {', '.join(names[:_NAMED])}{more}."
    return told


def _hash_space(facts: Facts, hatch: str) -> Generator[str, None, None]:
    of = len(facts.endpoints)
    arcs: dict[int, list[str]] = {}
    first = 0
    for cell in range(1, CELLS + 1):
        owner = facts.parts.cells[first]
        if cell == CELLS or facts.parts.cells[cell] != owner:
            arcs.setdefault(owner, []).append(_arc(_RING, first / CELLS, cell / CELLS))
            first = cell
            if not cell % 40:
                yield ""
    for place, several in arcs.items():
        d = "".join(several)
        title = ""
        if of <= _MOST_NAMED:
            share = percent(facts.parts.shares[place])
            title = f"<title>{escaped(called(facts.endpoints[place]))}: {share}</title>"
        yield f'<path class="band" d="{d}" stroke="{colour(place, of)}">{title}</path>'
        if place in facts.out:
            yield f'<path class="band" d="{d}" stroke="url(#{hatch})">{title}</path>'


def _shares(facts: Facts, hatch: str) -> Generator[str, None, None]:
    of, at = len(facts.endpoints), 0.0
    together = math.ceil(of / _MOST_ARCS)
    out: list[str] = []
    for first in range(0, of, together):
        began = at
        for place in range(first, min(first + together, of)):
            endpoint, share = facts.endpoints[place], facts.parts.shares[place]
            if place in facts.out and share:
                d = _arc(_SHARES, at, max(at + share, at + _LEAST))
                name = escaped(called(endpoint))
                out.append(
                    f'<path class="shares" d="{d}" stroke="{colour(place, of)}"/>'
                    f'<path class="shares" d="{d}" stroke="url(#{hatch})">'
                    f"<title>{name}: {percent(share)}, ejected</title></path>"
                )
            at += share
        if at > began:
            yield (
                f'<path class="shares" d="{_arc(_SHARES, began, at)}" stroke="{colour(first, of)}">'
                f"<title>{_whose(facts, first, min(first + together, of))}: {percent(at - began)}</title></path>"
            )
    yield "".join(out)


def _whose(facts: Facts, first: int, end: int) -> str:
    names = [escaped(called(facts.endpoints[place])) for place in sorted({first, end - 1})]
    return " to ".join(names)


def _arc(radius: int, first: float, last: float) -> str:
    """
    Return the way from *first* to *last* along a circle, in turns from the top, clockwise.
    """
    if last - first > 0.999:  # an arc that ends where it begins is none
        last = first + 0.999
    (a, b), (c, d) = _at(radius, first), _at(radius, last)
    return f"M{a} {b}A{radius} {radius} 0 {int(last - first > 0.5)} 1 {c} {d}"


def _at(radius: int, turn: float) -> tuple[str, str]:
    angle = 2 * math.pi * turn
    return (
        f"{_CENTRE + radius * math.sin(angle):.1f}",
        f"{_CENTRE - radius * math.cos(angle):.1f}",
    )
