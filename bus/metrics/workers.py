"""Workers: their calls and slots, whom they took calls over from, and the queue that new calls wait in."""

from __future__ import annotations

from bus.metrics.registry import OWN_STAGE, WORKERS, Label, counter, histogram, reading

CONSUMERS = tuple(f"{stage}-assign" for stage in WORKERS)
CONSUMER = Label("consumer", CONSUMERS)
TAKEOVER_REASONS = ("lost", "handed_over", "given_up")
TAKEOVER_BUCKETS_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)

CALLS = reading("callbus_worker_calls", "Calls that the worker owns or is taking", OWN_STAGE)
SLOTS = reading("callbus_worker_slots", "Calls that the worker can own at once", OWN_STAGE)
UTILIZATION = reading("callbus_worker_utilization", "Calls / slots", OWN_STAGE)
TAKEOVERS = counter(
    "callbus_takeovers_total",
    "Calls taken from another worker: it was lost, it handed them over, or it could not go on with them",
    OWN_STAGE,
    Label("why", TAKEOVER_REASONS),
    by=WORKERS,
)
TAKEOVER_SECONDS = histogram(
    "callbus_takeover_seconds",
    "Last sign of life of a lost worker until another one works on its call",
    OWN_STAGE,
    buckets=TAKEOVER_BUCKETS_S,
    by=WORKERS,
)
QUEUE_PENDING = reading(
    "callbus_queue_pending", "New calls that no worker of the stage was given yet", CONSUMER, by=WORKERS
)
QUEUE_UNACKNOWLEDGED = reading(
    "callbus_queue_unacknowledged", "New calls given to a worker that has not taken them yet", CONSUMER, by=WORKERS
)
QUEUE_OLDEST = reading(
    "callbus_queue_oldest_seconds",
    "How long the oldest call that nobody has taken has waited at least (asked every 5 to 7 s); 0: none waits",
    CONSUMER,
    by=WORKERS,
)


def observe_takeover(stage: str, silence_ms: float | None, waited_ms: float) -> None:
    """A call of another worker is worked on here. ``silence_ms``: how long that worker had been silent when the call
    was taken, None where it asked for that; ``waited_ms``: from then until now."""
    if silence_ms is None:
        TAKEOVERS.inc(stage=stage, why="handed_over")
        return
    TAKEOVERS.inc(stage=stage, why="lost")
    TAKEOVER_SECONDS.observe((silence_ms + waited_ms) / 1000, stage=stage)


def count_readopted(stage: str) -> None:
    """A call is worked on that nobody worked on: a worker could not go on with it, or did not know that it was its."""
    TAKEOVERS.inc(stage=stage, why="given_up")
