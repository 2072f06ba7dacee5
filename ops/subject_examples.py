"""Example values for the page of subjects: one by the name of a field, another where a message means something else."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.base import tag_of, type_name
from schemas.subjects import SPEAKERS

CALL_ID = "01a1f8bd25a07df39d872e4c6f6cda91"

BY_FIELD: dict[str, Any] = {
    "accepted": True,
    "agent": "bank",
    "ai_provider_config": {"asr": "pocketsphinx"},
    "arguments": {"last_four": "4271"},
    "at_us": 1795174507812345,
    "away": None,
    "barge_in_ms": None,
    "bus_hop_ms": 0.5,
    "call_end_us": 1795174531112345,
    "call_id": CALL_ID,
    "call_start_us": 1795174507812345,
    "called": "bank",
    "caller": "caller",
    "caller_hears": "an apology",
    "caller_phone": "caller",
    "calls": 1,
    "change": 1,
    "clock_rate_hz": 8000,
    "code": "engine_timeout",
    "codec": "PCMU",
    "codecs": ["PCMU", "PCMA"],
    "complete": True,
    "confidence": 1.0,
    "context_id": CALL_ID,
    "created_at_us": 1795174507812345,
    "current_intent": "card_delivery_inquiry",
    "customer_data": {},
    "detail": "pocketsphinx gave no final within 3000 ms",
    "dialogue_state": "ask_digits",
    "digit": "4",
    "digits": "",
    "direction": "sendonly",
    "draining": False,
    "dropped_ms": 1480,
    "duration_ms": 1200,
    "e2e_latency_ms": 561.0,
    "edge": "edge-3f46959a",
    "end_ms": 4020,
    "end_of_turn_delay_ms": 520.7,
    "ended_by": "caller",
    "engine": "scripted",
    "epoch": 1,
    "error": "",
    "expires_at_us": 1795178120000000,
    "figures": {"loop_lag_ms": 0.4},
    "filler": False,
    "filler_latency_ms": None,
    "frame_ms": 20,
    "frames": 60,
    "gap_ms": 3000,
    "held": True,
    "host": "voice-1",
    "index": 0,
    "intent": "card_delivery_inquiry",
    "interrupted": False,
    "language": "en",
    "last": False,
    "last_turn": 1,
    "last_updated_us": 1795174520000000,
    "leading_silence_ms": 40,
    "limit_ms": 10000,
    "llm_node_ttfs_ms": 2.5,
    "llm_node_ttft_ms": 0.9,
    "max_calls": 0,
    "media_epoch_us": 1795174507815000,
    "media_time_ms": 3808,
    "message": "",
    "name": "card_status",
    "number": 1,
    "ok": True,
    "part": 0,
    "phrases": [],
    "playback_latency_ms": 14.0,
    "preemptive": "hit",
    "press": 1,
    "process_id": 18501,
    "proportional": False,
    "queue_wait_ms": 0.2,
    "reason": "caller_hung_up",
    "remaining_ms": 1480,
    "reply_to": "_INBOX_asr.8f2a",
    "result": "completed",
    "retryable": True,
    "revision": 3,
    "sent_ms": 500,
    "sentences": 2,
    "session_id": CALL_ID,
    "setup": {"answered_ms": 1.5},
    "since_us": 1795174507820000,
    "sip_call_id": "a84b4c76e66710",
    "slots": {},
    "source": "rtp",
    "speaker": "caller",
    "speech_end_ms": 5012,
    "speech_start_ms": 3808,
    "stage": "asr",
    "start_ms": 3808,
    "started_us": 1795174500000000,
    "state": "ask_digits",
    "status": "ACTIVE",
    "target": "sip:desk@bank.example",
    "target_kind": "sip",
    "tenant": "default",
    "text": "where is my credit card",
    "then": "listen",
    "through_sequence": 276,
    "tool_call_id": "1-0",
    "transcription_delay_ms": 512.5,
    "transport": "udp",
    "ttfb_ms": 3.0,
    "ttfs_ms": 2.5,
    "ttft_ms": 0.9,
    "tts_node_ttfb_ms": 3.0,
    "turn": 1,
    "utterance_id": 100,
    "why": "silence",
    "worker": "asr-1c9e0f3a",
    "from_sequence": 277,
    "first_sequence": 277,
    "next_sequence": 310,
    "conversation_history": [
        {"speaker": "caller", "text": "where is my credit card", "turn": 1, "at_us": 1795174513332345}
    ],
    "words": [{"text": "where", "start_ms": 3808, "end_ms": 4020}],
    "media": {"packets_received": 1166, "packets_sent": 1165, "jitter_ms": 0.4},
    "listen_for": {"state": "ask_digits", "phrases": ["<digit> <digit> <digit> <digit>"], "digits": 4},
}
"""Of a call with the bank's agent, as ``callbus demo`` makes it."""

BY_MESSAGE: dict[str, dict[str, Any]] = {
    "call.ended": {"duration_ms": 23300},
    "edge.lost": {"edge": "edge-1f3a90c2", "silent_ms": 15200, "duration_ms": 23300},
    "call.transferred": {"result": "connected"},
    "dtmf.in": {"duration_ms": 120},
    "vad.stopped": {"media_time_ms": 5012},
    "asr.final": {"engine": "pocketsphinx"},
    "llm.sentence": {"text": "I can help you with that."},
    "tool.returned": {"result": {"status": "shipped"}, "duration_ms": 3.5},
    "tts.started": {"engine": "espeak"},
    "tts.done": {"words": [{"text": "I", "start_ms": 40, "end_ms": 120}], "text": None},
    "turn.interrupted": {"turn": 2, "why": "words"},
    "turn.resumed": {"turn": 2, "why": "backchannel"},
    "turn.away": {"silent_ms": 7010},
    "turn.measured": {"bus_hop_ms": {"call.*.*.turn.ended": 0.5}, "queue_wait_ms": {"llm": 0.2}},
    "playout.mark": {"start_ms": 2400},
    "playout.paused": {"why": "barge_in"},
    "playout.resumed": {"why": "backchannel"},
    "playout.flushed": {"why": "interruption"},
    "control.flush": {"reason": "interruption"},
    "control.pause": {"reason": "barge_in"},
    "control.resume": {"reason": "backchannel"},
    "control.say": {"text": "One moment, please.", "utterance_id": None, "reason": "supervisor"},
    "control.hangup": {"reason": "agent_hung_up"},
    "control.give_up": {"reason": "turn_stuck"},
    "control.transfer": {"reason": "agent_transferred"},
    "control.dtmf": {"digits": "42#", "reason": "menu"},
    "control.inject": {"text": "The caller is a customer.", "reason": "supervisor"},
    "control.replay": {"reason": "takeover"},
    "session.worker": {"slots": 50, "engine": "pocketsphinx"},
}
"""Where a field of a message means something else, by the message's type without its version."""


def example_of(message_type: type[msgspec.Struct]) -> dict[str, Any]:
    """A body as it stands on the bus, every field in it.

    Raises:
        KeyError: a field has no example; it is to be written above.
        msgspec.ValidationError: an example does not fit its field.
    """
    own = BY_MESSAGE.get(type_name(message_type), {})
    body: dict[str, Any] = {"type": tag_of(message_type)}
    for field in msgspec.structs.fields(message_type):
        body[field.encode_name] = own[field.name] if field.name in own else BY_FIELD[field.name]
    if "epoch" in body and SPEAKERS.get(type_name(message_type).split(".")[0]) == "edge":
        body["epoch"] = 0
    decoded = msgspec.convert(body, message_type)
    if not isinstance(decoded, message_type):
        raise TypeError(tag_of(message_type))
    return body
