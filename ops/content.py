"""What in an event is content: said, pressed, dialled, or known of the caller; and how to leave it out.

Every field of every event is in one of the two lists (a test holds them against the schemas), so that a new field is
hidden until somebody decides that it may be seen.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from schemas.base import Event

CONTENT = frozenset(
    {
        "text",
        "words",
        "digits",
        "digit",
        "arguments",
        "result",
        "slots",
        "listen_for",
        "caller",
        "called",
        "sip_call_id",
    }
)
"""What was said, pressed, or learned of the caller, and who called whom."""

PLAIN = frozenset(
    {
        "accepted", "at_us", "caller_hears", "call_id", "change", "clock_rate_hz", "code", "codec", "codecs",
        "confidence", "detail", "direction", "dropped_ms", "duration_ms", "edge", "end_of_turn_delay_ms", "ended_by",
        "engine", "epoch", "error", "frame_ms", "frames", "gap_ms", "held", "index", "intent", "language",
        "leading_silence_ms", "media", "media_epoch_us", "media_time_ms", "name", "number", "part", "press",
        "proportional", "reason", "retryable", "revision", "sent_ms", "sentences", "setup", "source", "speech_end_ms",
        "speech_start_ms", "stage", "target_kind", "tenant", "then", "through_sequence", "tool_call_id",
        "transcription_delay_ms", "transport", "ttfb_ms", "ttfs_ms", "ttft_ms", "turn", "utterance_id", "why",
        "worker",
        "remaining_ms", "complete", "start_ms", "last", "silent_ms", "filler", "away", "preemptive", "bus_hop_ms",
        "queue_wait_ms", "llm_node_ttft_ms", "llm_node_ttfs_ms", "tts_node_ttfb_ms", "playback_latency_ms",
        "e2e_latency_ms", "filler_latency_ms", "barge_in_ms",
    }
)  # fmt: skip
"""Times, counts, names of processes, of tools and of the agent's own intents."""

AnyEvent = TypeVar("AnyEvent", bound=Event)


def is_plain(event_type: type[Event], field: str) -> bool:
    """Whether a field may be shown where content is hidden. ``result``: a tool's answer, but of a call its class."""
    if field == "result":
        return event_type.__name__ in ("CallEnded", "CallTransferred")
    return field in PLAIN


def without_content(event: AnyEvent) -> AnyEvent:
    """The event with everything that is not plain replaced: texts and keys by their number, the rest by nothing."""
    changed = {
        field.name: _hidden(field.name, getattr(event, field.name))
        for field in msgspec.structs.fields(type(event))
        if not is_plain(type(event), field.name)
    }
    return msgspec.structs.replace(event, **changed)


def _hidden(field: str, value: object) -> object:
    match value:
        case str() if field in ("digit", "digits"):
            return "*" * len(value)
        case str():
            return words_of(value) if value and field == "text" else ""
        case None:
            return None
        case tuple() | dict() | msgspec.Struct():
            return type(value)()
        case _:
            raise TypeError(f"{field} of type {type(value).__name__} can't be hidden; say how in ops/content.py")


def words_of(text: str) -> str:
    """``[4 words]`` in place of four words."""
    count = len(text.split())
    return f"[{count} word{'' if count == 1 else 's'}]"
