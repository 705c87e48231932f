"""
A status page as HTML, in steps.

Pure: facts go in, text comes out. Parts that change while the page is open have an id and `data-live`,
by which the script of the page finds them again in a later page.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice

from knet import Endpoint, PastChange, RingStats
from knet.integrations.status.facts import Facts, Row
from knet.integrations.status.look import SCRIPT, STYLE
from knet.integrations.status.picture import drawing, swatch
from knet.integrations.status.words import (
    ago,
    called,
    count,
    escaped,
    lasting,
    percent,
    plain,
)

__all__ = ["page", "why"]

_ROWS_AT_ONCE = 15

# A table of more is nothing that a person reads, and megabytes.
MOST_ROWS = 1_000

# Of a change that is larger, so many endpoints are named.
_MOST_NAMED = 5

# Milliseconds from one look to the next: a page of many endpoints takes longer to make.
_EVERY = 2_000
_EVERY_OF_MANY = 5_000
_MANY = 300


def page(
    rings: Sequence[Facts],
    *,
    key: str | None,
    problem: str | None,
    longest: int,
    nonce: str,
    now: datetime,
) -> Generator[str, None, None]:
    """
    Yield the whole page, part by part.

    Args:
        rings: What is shown.
        key: The key that was asked for, or `None`.
        problem: Why it was not looked up, or `None`.
        longest: Characters that a key may have.
        nonce: By which the browser knows the page's own style and script.
        now: The time of the facts, in UTC.
    """
    names = ", ".join(plain(facts.name, 80) for facts in rings)
    many = sum(len(facts.endpoints) for facts in rings)
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escaped(names, 200)} – knet</title>\n"
        f'<style nonce="{nonce}">{STYLE}</style>\n</head>\n<body>\n'
        f"{_top(key, problem, longest, now)}"
        f'<main id="rings" data-every="{_EVERY_OF_MANY if many > _MANY else _EVERY}">\n'
    )
    for number, facts in enumerate(rings):
        yield from _section(facts, number, key, now)
    yield (
        "</main>\n<footer>The owner of a key is the snapshot’s; what is in flight, and who is ejected, is told "
        "by this process alone.</footer>\n"
        f'<script nonce="{nonce}">{SCRIPT}</script>\n</body>\n</html>\n'
    )


def _top(key: str | None, problem: str | None, longest: int, now: datetime) -> str:
    wrong = ' aria-invalid="true" aria-describedby="problem"' if problem else ""
    said = f'<p id="problem" class="problem" role="alert">{escaped(problem)}</p>' if problem else ""
    return (
        '<header class="top">\n<h1>knet</h1>\n'
        f'<p class="clock"><span id="live" role="status">Reload for news; as of</span> <time id="at" datetime="{_stamp(now)}">'
        f"{now:%H:%M:%S} UTC</time></p>\n"
        '<form method="get" role="search"><label for="key">Who owns this key?</label>'
        f'<span class="ask"><input id="key" name="key" type="text" maxlength="{longest}" autocomplete="off" '
        f'autocapitalize="off" spellcheck="false" value="{escaped(key or "", longest)}"{wrong}>'
        f"<button>Find</button></span>{said}</form>\n</header>\n"
    )


def _section(
    facts: Facts, number: int, key: str | None, now: datetime
) -> Generator[str, None, None]:
    state = "missing" if facts.stats is None else facts.stats.state
    yield (
        f'<section id="ring-{number}" aria-labelledby="name-{number}">\n'
        f'<div class="name"><h2 id="name-{number}">{escaped(facts.name)}</h2>'
        f'<p role="status"><span id="state-{number}" data-live class="state {state}">'
        f"{'no ring yet' if facts.stats is None else state}</span></p></div>\n"
        f'<div id="why-{number}" data-live class="why {state}">'
        + "".join(f"<p>{escaped(line, 1_200)}</p>" for line in why(facts))
        + "</div>\n"
    )
    if facts.stats is None:
        yield "</section>\n"
        return
    yield f'<div class="overview">\n<figure id="picture-{number}" data-live>'
    yield from drawing(facts, number)
    yield (
        "<figcaption>Outer band: the hash space, by owner. Inner band: shares."
        f"{' Hatched: ejected.' if facts.out else ''}</figcaption></figure>\n"
        f'<div><div id="lookup-{number}" data-live>{_answer(facts, key)}</div>\n'
        f'<dl id="facts-{number}" data-live>{_facts(facts)}</dl></div>\n</div>\n'
        f'<h3 id="changes-name-{number}">Changes</h3>\n<div id="changes-{number}" data-live>'
        f"{_changes(facts.changes, number, now)}</div>\n"
    )
    yield from _endpoints(facts, number)
    yield "</section>\n"


# --- what stands, in words


def why(facts: Facts) -> list[str]:
    """
    Say how a ring stands and why, in sentences, not escaped.
    """
    stats = facts.stats
    if stats is None:
        return [facts.missing]
    age = "" if stats.last_success_age is None else ago(stats.last_success_age)
    said = {
        "starting": "The ring waits for its first answer.",
        "fresh": f"The last answer named endpoints, {age}."
        if age
        else "The last answer named endpoints.",
        "stale": "The endpoints are the last good ones"
        + (f": an answer last named some {age}." if age else "."),
        "empty": "Nobody is ready, by all that is told"
        + (f"; an answer last named somebody {age}." if age else "."),
        "closed": "The ring is closed. A ring lives once.",
    }
    lines = [said[stats.state]]
    if stats.state == "closed":
        return lines
    if stats.consecutive_failures:
        lines.append(f"{count(stats.consecutive_failures, 'lookup')} in a row failed.")
    if stats.last_error:
        lines.append(f"Last error: {stats.last_error}")
    if stats.gap:
        reason = f": {stats.gap_reason}" if stats.gap_reason else ""
        lines.append(f"The last answer may lack pods, so it removes none ({stats.gap}{reason}).")
    if stats.held:
        lines.append(
            f"The last answer left out {count(stats.held, 'endpoint')}, kept until that is confirmed."
        )
    if stats.disputed:
        lines.append(
            f"{count(stats.disputed, 'endpoint')} left and came back within a minute: flapping pods, or DNS "
            "servers that contradict each other."
        )
    return lines


def _facts(facts: Facts) -> str:
    stats, snapshot = facts.stats, facts.snapshot
    assert stats is not None
    failed = sum(stats.failures.values())
    told = [("Endpoints", f"{len(facts.endpoints):,}")]
    if facts.out:
        told.append(("Ejected", f"{len(facts.out):,}"))
    shares = [share for share in facts.parts.shares if share]
    if len(shares) > 1:
        mean = 1 / len(shares)
        told.append(
            ("Shares", f"{min(shares) / mean:.2f}× to {max(shares) / mean:.2f}× of an even one")
        )
    told.append(("In flight", _in_flight(facts.in_flight)))
    if stats.attempts:
        told.append(("Attempts", _attempts(stats)))
    if stats.errors:
        told.append(("Failed attempts", _by_kind(stats.errors)))
    if facts.me is not None:
        told.append(("This pod", called(facts.me)))
    if stats.source:
        told.append(("Source", _source(stats)))
    told.append(("Lookups", f"{stats.lookups:,}{f', {failed:,} failed' if failed else ''}"))
    if stats.query_seconds is not None:
        told.append(("Last lookup", f"{stats.query_seconds * 1e3:.1f} ms"))
    if stats.failures:
        told.append(("Failed lookups", _by_kind(stats.failures)))
    if stats.ignored:
        told.append(("Ignored records", f"{stats.ignored:,}"))
    if snapshot is not None:
        told.append(("Placement", type(snapshot.placement).__name__))
        told.append(("Generation", f"{snapshot.generation:,}"))
        told.append(("Digest", snapshot.digest))
    return "".join(f"<div><dt>{name}</dt><dd>{escaped(text)}</dd></div>" for name, text in told)


def _source(stats: RingStats) -> str:
    """
    Say who tells which pods there are, and of one that tells by itself whether it does.
    """
    if stats.alive is None:
        return stats.source
    return f"{stats.source}, {'alive' if stats.alive else 'silent'}"


def _in_flight(counts: Mapping[Endpoint, int]) -> str:
    """
    Say how many requests there are, and where most of them are: at one pod where a key is hot.
    """
    total = sum(counts.values())
    if total < 2:
        return f"{total:,}"
    busiest = max(counts, key=lambda endpoint: (counts[endpoint], endpoint.name))
    return f"{total:,}, of them {counts[busiest]:,} at {called(busiest)}"


def _attempts(stats: RingStats) -> str:
    failed, followed = sum(stats.errors.values()), sum(stats.failovers.values())
    if not failed:
        return f"{stats.attempts:,}"
    return (
        f"{stats.attempts:,}; {failed:,} failed, and {followed:,} of these went on to another pod"
    )


def _by_kind(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind}: {many:,}" for kind, many in sorted(counts.items()))


# --- who owns a key


def _answer(facts: Facts, key: str | None) -> str:
    lookup, out = facts.lookup, facts.ejected
    if lookup is None or key is None:
        return ""
    shown = f"<h3>Owner of <q>{escaped(key, 120)}</q></h3>"
    if not lookup.now:
        shown += "<p>Nobody: there are no endpoints.</p>"
    else:
        shown += _preferred(lookup.now, out)
    if lookup.before is None:
        return f'<div class="answer">{shown}<p class="quiet">Nothing has changed since the start.</p></div>'
    if lookup.before[:1] == lookup.now[:1]:
        told = "The owner was the same before the last change"
        told += "." if lookup.before == lookup.now else ", and who comes after it was not:"
        shown += f'<p class="quiet">{told}</p>'
    else:
        shown += '<p class="moved">The last change moved it. Before that:</p>'
    if lookup.before != lookup.now:
        shown += _preferred(lookup.before, out) if lookup.before else "<p>Nobody.</p>"
    return f'<div class="answer">{shown}</div>'


def _preferred(endpoints: Sequence[Endpoint], out: Container[Endpoint]) -> str:
    each = "".join(
        f"<li>{escaped(called(e))}"
        + (f" <small>{escaped(str(e))}</small>" if e.name != e.address else "")
        + (' <span class="ejected">ejected</span>' if e in out else "")
        + "</li>"
        for e in endpoints
    )
    return f"<ol>{each}</ol>"


# --- what has changed


def _changes(changes: Sequence[PastChange], number: int, now: datetime) -> str:
    if not changes:
        return '<p class="quiet">None since the start.</p>'
    rows = "".join(
        f'<tr><th scope="row"><time datetime="{_stamp(at)}" title="{at:%Y-%m-%d %H:%M:%S} UTC">'
        f"{ago(change.age)}</time></th>"
        f'<td class="joined">{_names(change.added, "+")}</td>'
        f'<td class="left">{_names(change.removed, "−")}</td>'
        f'<td class="number">{"…" if change.moved is None else percent(change.moved)}</td></tr>'
        for change in changes
        for at in (now - timedelta(seconds=change.age),)
    )
    return (
        f'<table class="changes" aria-labelledby="changes-name-{number}"><thead><tr><th scope="col">When</th>'
        '<th scope="col">Joined</th><th scope="col">Left</th>'
        f'<th scope="col" class="number">Keys moved</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _names(endpoints: Sequence[Endpoint], sign: str) -> str:
    if not endpoints:
        return ""
    names = ", ".join(f"{sign} {escaped(called(e))}" for e in endpoints[:_MOST_NAMED])
    more = len(endpoints) - _MOST_NAMED
    return names + (f" and {more:,} more" if more > 0 else "")


# --- the endpoints


def _endpoints(facts: Facts, number: int) -> Generator[str, None, None]:
    has_zones = facts.snapshot is not None and facts.snapshot.zones not in ({None}, frozenset())
    zone = '<th scope="col">Zone</th>' if has_zones else ""
    yield (
        f'<h3 id="endpoints-name-{number}">Endpoints</h3>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="endpoints-name-{number}">'
        f'<table class="endpoints" aria-labelledby="endpoints-name-{number}"><thead><tr>'
        f'<th scope="col">Name</th><th scope="col">Address</th>{zone}'
        '<th scope="col" class="number">Share of keys</th><th scope="col" class="number">In flight</th>'
        '<th scope="col" class="number">There for</th><th scope="col">Ejected</th></tr></thead>'
        f'<tbody id="rows-{number}" data-live>'
    )
    of, largest = len(facts.endpoints), max(facts.parts.shares, default=0.0)
    most = max(facts.in_flight.values(), default=0)
    part: list[str] = []
    for row in islice(facts.rows(), MOST_ROWS):
        hatch = None if row.ejected_for is None else f"hatch-{number}"
        square = swatch(row.place, of, hatch)
        is_me = row.endpoint is facts.me
        part.append(_row(row, square, largest, most, is_me=is_me, has_zones=has_zones))
        if len(part) == _ROWS_AT_ONCE:
            yield "".join(part)
            part.clear()
    if not of or of > MOST_ROWS:
        more = f"{of - MOST_ROWS:,} more, which JSON has." if of else "There are none."
        part.append(f'<tr><td colspan="{7 if has_zones else 6}" class="quiet">{more}</td></tr>')
    yield "".join(part) + "</tbody></table></div>\n"


def _row(row: Row, square: str, largest: float, most: int, *, is_me: bool, has_zones: bool) -> str:
    endpoint = row.endpoint
    out = "" if row.ejected_for is None else f"for {lasting(row.ejected_for)} more"
    me = ' <span class="me">this pod</span>' if is_me else ""
    zone = f'<td class="zone">{escaped(endpoint.zone or "")}</td>' if has_zones else ""
    return (
        f'<tr{" class=out" if out else ""}><th scope="row">{square}{escaped(called(endpoint))}{me}</th>'
        f'<td class="address">{escaped(str(endpoint))}</td>{zone}'
        f'<td class="number share">{_bar(row.share, largest)}{percent(row.share)}</td>'
        f'<td class="number flight">{row.in_flight:,}{_bar(row.in_flight, most)}</td>'
        f'<td class="number age">{lasting(row.age)}</td>'
        f'<td class="ejected">{out}</td></tr>'
    )


def _bar(value: float, largest: float) -> str:
    """
    Draw how long *value* is beside the *largest* of its column.
    """
    part = 100 * value / largest if largest else 0
    return f'<svg aria-hidden="true"><rect width="{part:.0f}%" height="100%"/></svg>'


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
