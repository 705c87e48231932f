"""
One pod of a service that routes to itself: serves a program of the documents until it is ended.

    python -m tests.hosts.peer DOCUMENT NUMBER ADDRESS PORT NAMESERVER

NUMBER is that of the program in the document, from 0.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import uvicorn

import knet
import knet.integrations.asgi
from knet.resolver import surrounded_by
from knet.surroundings import surroundings_from

from .cluster import QUICK
from .documents import ROOT, blocks


def main(document: str, number: str, address: str, port: str, nameserver: str) -> None:
    class QuickRing(knet.Ring):  # type: ignore[misc] # it is final for users
        def __init__(self, service: str, **options: Any) -> None:
            super().__init__(service, refresh=QUICK, **options)

    for maker in (knet, knet.integrations.asgi):
        setattr(maker, "Ring", QuickRing)  # noqa: B010 - it is a class for type checkers
    block = blocks(ROOT / "docs" / f"{document}.md", "python")[int(number)]
    kubelet = surroundings_from("search prod.svc.cluster.local svc.cluster.local cluster.local")
    here = replace(kubelet, nameservers=(nameserver,), addresses=(address,))
    with surrounded_by(here):
        app = replace(block, text=block.text.replace("8080", port)).run("example")["app"]
        uvicorn.run(app, host=address, port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
