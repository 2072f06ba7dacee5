"""Live messages of all calls between two ticks of the pacer: one write to the bus for all of them."""

from __future__ import annotations

from bus.interface import Connection


class Outbox:
    """Collects ``(subject, data)``; the pacer flushes it every tick.

    ``pending`` is a plain list on purpose: the hot path appends to it without a call between.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.pending: list[tuple[str, bytes]] = []
        self.sent = 0

    def flush(self) -> None:
        """Send what was collected. While the bus is away it is dropped there and counted: the ring still has it."""
        if self.pending:
            batch, self.pending = self.pending, []
            self.sent += len(batch)
            self._connection.publish_many(batch)
