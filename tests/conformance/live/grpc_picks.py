"""
Which server gRPC core picks for each key: a program of its own, so that `import grpc` stays out of tests.

Reads one JSON document from stdin and writes one to stdout. In: a list of cases with ``addresses`` in
the order the resolver would give, ``config`` of ``ring_hash_experimental``, channel ``arguments`` and
``keys``; out: for each case, the address that answered each key.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# Read when grpc is imported; without it the header is ignored and every call fails.
os.environ["GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY"] = "true"

# Without stubs, and not installed where types are checked.
grpc: Any = importlib.import_module("grpc")

METHOD = "/who/Are"


def serve(address: str) -> Any:
    """
    A server that answers every call with its own address.
    """

    class Who(grpc.GenericRpcHandler):  # type: ignore[misc]  # of no known type
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: address.encode())

    server = grpc.server(
        ThreadPoolExecutor(1), handlers=[Who()], options=[("grpc.so_reuseport", 0)]
    )
    server.add_insecure_port(address)
    server.start()
    return server


def picks(case: dict[str, Any]) -> list[str]:
    """
    Call once for each key.
    """
    config = {
        "loadBalancingConfig": [
            {"ring_hash_experimental": {**case["config"], "requestHashHeader": "x-key"}}
        ]
    }
    scheme = "ipv6" if case["addresses"][0].startswith("[") else "ipv4"
    options = [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_http_proxy", 0),
        *case["arguments"].items(),
    ]
    target = f"{scheme}:{','.join(case['addresses'])}"
    with grpc.insecure_channel(target, options=options) as channel:
        call = channel.unary_unary(METHOD)
        return [
            call(b"", metadata=[("x-key", key)], timeout=10, wait_for_ready=True).decode()
            for key in case["keys"]
        ]


def main() -> None:
    """
    Serve, call, and write down who answered.
    """
    cases = json.load(sys.stdin)
    with contextlib.ExitStack() as stack:
        for address in sorted({a for case in cases for a in case["addresses"]}):
            stack.callback(serve(address).stop, None)
        json.dump([picks(case) for case in cases], sys.stdout)


if __name__ == "__main__":
    main()
