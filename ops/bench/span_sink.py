"""A receiver of spans that throws them away, as a process of its own: ``python -m ops.bench.span_sink``.

It writes its URL as one line and counts requests and bytes; a line on its standard input has it write what it counted.
"""

from __future__ import annotations

import sys
from concurrent import futures
from typing import Any

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Counted:
    """What came."""

    def __init__(self) -> None:
        self.requests = 0
        self.size = 0

    def take(self, request: bytes, _: Any) -> bytes:
        """An export; the answer is an empty message."""
        self.requests += 1
        self.size += len(request)
        return b""


def main() -> None:
    """Receive until standard input ends."""
    import grpc  # type: ignore[import-untyped]

    counted = Counted()
    handlers = grpc.method_handlers_generic_handler(
        EXPORT.rsplit("/", 1)[0].strip("/"),
        {"Export": grpc.unary_unary_rpc_method_handler(counted.take)},
    )
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"http://127.0.0.1:{port}", flush=True)
    for _ in sys.stdin:
        print(counted.requests, counted.size, flush=True)
    server.stop(0)


if __name__ == "__main__":
    main()
