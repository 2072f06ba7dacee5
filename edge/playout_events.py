"""The playout's ledger as events of the bus. Pure."""

from __future__ import annotations

from typing import Any

from edge.media.ledger import Finished, Flushed, LedgerEntry, Mark, Paused, Resumed, Started
from edge.media.utterance import BYTES_PER_MS as TICKS_PER_MS
from schemas.base import Event
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)


def event_of(entry: LedgerEntry) -> tuple[type[Event], dict[str, Any]]:
    """Type of the event that tells of ``entry``, and its fields but those of every event (call, tenant, time)."""
    fields: dict[str, Any] = {
        "utterance_id": entry.utterance,
        "media_time_ms": entry.media_time // TICKS_PER_MS,
    }
    match entry:
        case Started():
            return PlayoutStarted, fields
        case Mark():
            return PlayoutMark, fields | {"index": entry.segment, "start_ms": entry.start // TICKS_PER_MS}
        case Paused():
            return PlayoutPaused, fields | {
                "number": entry.number,
                "index": entry.segment,
                "sent_ms": entry.sent_ms,
                "remaining_ms": entry.remaining_ms,
                "complete": entry.complete,
                "why": entry.why,
            }
        case Resumed():
            return PlayoutResumed, fields | {"number": entry.number, "why": entry.why}
        case Finished():
            return PlayoutFinished, fields | {"frames": entry.frames}
        case Flushed():
            return PlayoutFlushed, fields | {
                "index": entry.segment,
                "sent_ms": entry.sent_ms,
                "dropped_ms": entry.dropped_ms,
                "why": entry.why,
            }
