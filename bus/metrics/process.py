"""What every process tells: who it is, whether it works, its event loop, its bus, its handlers, its failures."""

from __future__ import annotations

from bus import drops
from bus.metrics.registry import OWN_STAGE, SERVICES, STAGES, Label, counter, distribution, gauge, histogram, reading
from bus.metrics.turns import EVENT_TEMPLATES
from schemas.base import type_name
from schemas.failure import FAILURES
from schemas.subjects import COMMAND_TYPES

COMMANDS = tuple(type_name(command).removeprefix("control.") for command in COMMAND_TYPES)
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
HANDLER_BUCKETS_S = (0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 1.0)
HANDLED = Label(
    "subject",
    (
        *EVENT_TEMPLATES,
        *(f"rt.*.*.control.{stage}.{name}" for stage in STAGES for name in COMMANDS),
    ),
    told="templates of the subjects of events and of commands: `call.*.*.asr.final`, `rt.*.*.control.edge.flush`, ...",
)

BUILD_INFO = gauge(
    "callbus_build_info",
    "Always 1; the labels say what runs",
    Label("version", (), limit=1, told="of the installed package"),
    Label("service", SERVICES, own=True),
)
READY = reading("callbus_ready", "1: the process takes work; 0: it starts, or it stops")
BUS_CONNECTED = reading("callbus_bus_connected", "1: connected to NATS; 0: not now")
BUS_RECONNECTS = counter("callbus_bus_reconnects_total", "The connection to NATS was lost and came back")
DROPPED_PUBLISHES = reading(
    "callbus_bus_dropped_publishes_total",
    "Live messages that did not leave because NATS was away. Callers miss audio and control; an event is stored once "
    "it is back, and a heartbeat is worth nothing by then",
    Label("kind", drops.KINDS),
)
LOOP_LAG = histogram(
    "callbus_event_loop_lag_seconds",
    "A timer of the event loop, four times a second: how much later than asked it came",
    buckets=LAG_BUCKETS_S,
)
FAILURES_TOTAL = counter(
    "callbus_failures_total",
    "`failure` events said, by code of the failure table",
    OWN_STAGE,
    Label("code", tuple(FAILURES)),
)
STORE_PENDING = reading("callbus_store_pending", "Events and recorded audio that the stream has not confirmed yet")
STORE_DROPPED = reading(
    "callbus_store_dropped_total", "Events and recorded audio that will never be stored: the stream was away too long"
)
DEAD_LETTERS = counter(
    "callbus_dead_letters_total",
    "Messages that could not be read and went to the dead letters",
    Label("service", SERVICES, own=True),
)
HANDLER_SECONDS = distribution(
    "callbus_handler_seconds", "Handling of one message, by subject template", HANDLED, buckets=HANDLER_BUCKETS_S
)
HANDLER_ERRORS = reading("callbus_handler_errors_total", "Handlers of messages that raised", HANDLED)
