"""
The facts of a status page for machines: JSON, in steps.

Pure. Names and errors are told as they are; what reads them as something else than text escapes them.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import Any

from knet import Endpoint, PastChange
from knet.integrations.status.facts import Facts, Lookup, Row

__all__ = ["told"]

# Of a change that is larger, so many endpoints are named.
_MOST_NAMED = 100

_ROWS_AT_ONCE = 20


def told(
    rings: Sequence[Facts], key: str | None, problem: str | None
) -> Generator[str, None, None]:
    """
    Yield the text of one JSON object, part by part.

    Args:
        rings: What is told.
        key: The key that was asked for.
        problem: Why it was not looked up.
    """
    yield f'{{"key": {json.dumps(key)}, "error": {json.dumps(problem)}, "rings": ['
    for number, facts in enumerate(rings):
        head = json.dumps(_head(facts))
        yield f'{", " if number else ""}{head[:-1]}, "endpoints": ['
        part: list[str] = []
        for position, row in enumerate(facts.rows()):
            part.append(f"{', ' if position else ''}{json.dumps(_row(row))}")
            if len(part) == _ROWS_AT_ONCE:
                yield "".join(part)
                part.clear()
        yield "".join(part) + "]}"
    yield "]}\n"


def _head(facts: Facts) -> dict[str, Any]:
    snapshot, stats = facts.snapshot, facts.stats
    return {
        "name": facts.name,
        "missing": facts.missing or None,
        "state": None if stats is None else stats.state,
        "generation": None if snapshot is None else snapshot.generation,
        "digest": None if snapshot is None else snapshot.digest,
        "me": None if facts.me is None else str(facts.me),
        "stats": None if stats is None else stats.as_dict(),
        "changes": [_change(change) for change in facts.changes],
        "lookup": None if facts.lookup is None else _lookup(facts.lookup),
    }


def _change(change: PastChange) -> dict[str, Any]:
    return {
        "age": round(change.age, 3),
        "generation": change.generation,
        "moved": change.moved,
        "joined": len(change.added),
        "left": len(change.removed),
        "added": [_endpoint(e) for e in change.added[:_MOST_NAMED]],
        "removed": [_endpoint(e) for e in change.removed[:_MOST_NAMED]],
    }


def _lookup(lookup: Lookup) -> dict[str, Any]:
    before = lookup.before
    return {
        "now": [_endpoint(e) for e in lookup.now],
        "before": None if before is None else [_endpoint(e) for e in before],
    }


def _row(row: Row) -> dict[str, Any]:
    left = row.ejected_for
    return {
        **_endpoint(row.endpoint),
        "weight": row.endpoint.weight,
        "share": row.share,
        "in_flight": row.in_flight,
        "ejected_for": None if left is None else round(left, 3),
        "age": round(row.age, 3),
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "address": endpoint.address,
        "port": endpoint.port,
        "zone": endpoint.zone,
    }
