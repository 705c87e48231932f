"""
The properties of this folder, driven by coverage: `python -m tests.fuzz.atheris_targets records`.

What follows the target goes to libFuzzer: `-max_total_time=60`, `-runs=100000`, a folder with a
corpus, or a file that a crash left behind. `nox -s fuzz` runs every target.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, get_args

# No type hints come with it, and only the session that fuzzes installs it.
atheris: Any = importlib.import_module("atheris")

with atheris.instrument_imports(include=["knet.resolver"]):
    from knet.question import Family
    from knet.resolver.records import Record, RecordType
    from tests.fuzz.properties import check_files, check_records, check_words

_WEB = "web.prod.svc.cluster.local"
_LABELS = ("web-0", "10-0-0-1", "fd00--1", "_http._tcp", "a", "-", "\\.", "evil", "x" * 64, "we b")
_ADDRESSES = ("10.0.0.1", "10.0.0.2", "fd00::1", "::ffff:10.0.0.1", "0.0.0.0", "fe80::1", "::")
_TTLS = (0, 5, -1, 2**31 - 1, 2**31, 2**32 - 1)
_LINES = ("search ", "domain ", "nameserver ", "# ", "prod.svc.k.test svc.k.test k.test ", "\n")


def records(data: bytes) -> None:
    """
    Any records, as the answer to a question.
    """
    given = atheris.FuzzedDataProvider(data)
    service = _WEB if given.ConsumeBool() else _name(given)
    check_records(
        service,
        [_record(given) for _ in range(given.ConsumeIntInRange(0, 12))],
        [_record(given) for _ in range(given.ConsumeIntInRange(0, 12))],
        family=given.PickValueInList(list(get_args(Family))),
        external=given.ConsumeBool(),
    )


def names(data: bytes) -> None:
    """
    Any words for a service, in a pod with any files.
    """
    given = atheris.FuzzedDataProvider(data)
    lines = [
        given.PickValueInList(list(_LINES)) + _text(given)
        for _ in range(given.ConsumeIntInRange(0, 8))
    ]
    cluster = check_files("".join(lines), _text(given))
    check_words(_text(given), _text(given), _text(given), cluster)


def _record(given: Any) -> Record:
    type: RecordType = given.PickValueInList(list(get_args(RecordType)))
    owner = _name(given)
    value = given.PickValueInList(list(_ADDRESSES)) if given.ConsumeBool() else _name(given)
    ttl = given.PickValueInList(list(_TTLS)) if given.ConsumeBool() else given.ConsumeInt(5)
    port, priority = given.ConsumeIntInRange(-1, 65536), given.ConsumeIntInRange(0, 2)
    return Record(owner, type, ttl, value, port, priority, 1)


def _name(given: Any) -> str:
    kind = given.ConsumeIntInRange(0, 3)
    if kind == 0:
        return _WEB
    if kind == 1:
        return f"{given.PickValueInList(list(_LABELS))}.{_WEB}"
    if kind == 2:
        return f"{given.PickValueInList(list(_LABELS))}.test"
    return _text(given)


def _text(given: Any) -> str:
    size = given.ConsumeIntInRange(0, 300)
    text: str = given.ConsumeString(size) if given.ConsumeBool() else given.ConsumeUnicode(size)
    return text


def main() -> None:
    """
    Fuzz one target until libFuzzer has had enough.
    """
    targets = {"records": records, "names": names}
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(targets)} [libFuzzer's options]")
    target = targets[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
