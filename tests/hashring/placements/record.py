"""
Records where `HashRing` puts keys, in `hashring.json` and `balance.json` beside this file.

Run once, when the placement was defined:

    python -m tests.hashring.placements.record

What it wrote is for ever: a test holds the library to it, and holds it to a slow reference that
shares no code with the library. Run it again only to add cases, and see that the old ones come out
the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from knet.hashring import HashRing, Member

HERE = Path(__file__).parent

KEYS = [
    "",
    "alice",
    "bob",
    "user-42",
    "tenant/7/room/3",
    "Ünïcödé",
    "键",
    "🐍",
    "a much longer key, of the kind that a prompt or a URL makes: https://example.com/?q="
    + "x" * 80,
    *(f"key-{number}" for number in range(40)),
]

CASES: dict[str, dict[str, Any]] = {
    "three strings": {"weights": {"a": 1, "b": 1, "c": 1}},
    "one member": {"weights": {"only": 1}},
    "a stateful set": {"weights": {f"web-{i}.web.prod.svc.cluster.local": 1 for i in range(10)}},
    "addresses, both families": {
        "weights": {"10.0.0.1": 1, "10.0.0.2": 1, "10.0.0.10": 1, "fd00::1": 1, "fd00::a": 1}
    },
    "weights": {"weights": {"none": 0, "tiny": 0.001, "half": 0.5, "one": 1, "three": 3}},
    "names beyond ASCII": {"weights": {"zürich": 1, "北京": 1, "🐍": 1, "z": 1}},
    "two points, four slots": {"weights": {"a": 1, "b": 1, "c": 1}, "points": 2, "slots": 4},
    "more members than slots": {
        "weights": {f"pod-{i}": 1 for i in range(12)},
        "points": 3,
        "slots": 4,
    },
    "a hundred pods": {"weights": {f"10.1.{i // 50}.{i % 50}": 1 for i in range(100)}},
    "fine slots": {"weights": {f"pod-{i}": 1 for i in range(30)}, "points": 500, "slots": 2**18},
}

BALANCE_CASES: dict[str, dict[str, Any]] = {
    "three strings": {"weights": {"a": 1, "b": 1, "c": 1}, "balance": 1.01},
    "one member": {"weights": {"only": 1}, "balance": 1.1},
    "a stateful set": {
        "weights": {f"web-{i}.web.prod.svc.cluster.local": 1 for i in range(10)},
        "balance": 1.02,
    },
    "weights": {
        "weights": {"none": 0, "tiny": 0.001, "half": 0.5, "one": 1, "three": 3},
        "balance": 1.001,
    },
    "weights that no double holds": {
        "weights": {f"pod-{i}": (i + 1) / 7 for i in range(7)},
        "points": 3,
        "slots": 2048,
        "balance": 1.1,
    },
    "names beyond ASCII": {"weights": {"zürich": 1, "北京": 1, "🐍": 1, "z": 1}, "balance": 1.001},
    "two points, eight slots": {
        "weights": {"a": 1, "b": 1, "c": 1},
        "points": 2,
        "slots": 8,
        "balance": 1.25,
    },
    "one point, half of all slots given up": {
        "weights": {f"pod-{i}": 1 for i in range(5)},
        "points": 1,
        "slots": 1024,
        "balance": 1.1,
    },
    "more members than slots": {
        "weights": {f"pod-{i}": 1 for i in range(12)},
        "points": 3,
        "slots": 4,
        "balance": 1.1,
    },
    "members without a slot of their own": {
        "weights": {f"pod-{i}": 1 for i in range(6)},
        "points": 1,
        "slots": 16,
        "balance": 1.1,
    },
    "a hundred pods": {
        "weights": {f"10.1.{i // 50}.{i % 50}": 1 for i in range(100)},
        "balance": 1.01,
    },
    "fine slots": {
        "weights": {f"pod-{i}": 1 for i in range(30)},
        "points": 500,
        "slots": 2**18,
        "balance": 1.01,
    },
}


def record(case: dict[str, Any]) -> dict[str, Any]:
    options = {"points": case.get("points", 160), "slots": case.get("slots", 65_536)}
    if "balance" in case:
        options["balance"] = case["balance"]
    ring = HashRing([Member(*item) for item in case["weights"].items()], **options)
    return {
        "weights": case["weights"],
        **options,
        "picks": {key: [member.name for member in ring.get_n(key, 3)] for key in KEYS},
    }


def main() -> None:
    for file, cases in (("hashring.json", CASES), ("balance.json", BALANCE_CASES)):
        recorded = {name: record(case) for name, case in cases.items()}
        text = json.dumps(recorded, indent=1, ensure_ascii=True) + "\n"
        (HERE / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
