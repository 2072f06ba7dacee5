"""docs/log-schema.json: what a line of the logs is, the same for all services."""

from __future__ import annotations

from typing import Any

from bus.logs import JSON_KEYS, LEVELS
from edge.summary import EVENT as CALL_SUMMARY
from schemas.call import CallResult, EndedBy, MediaCounts
from services.asr.summary import EVENT as TURN_SUMMARY
from services.asr.summary import LATENCY_KEYS

CALL_ID = "^([0-9a-f]{32})?$"
NUMBER = {"type": "number"}
COUNT = {"type": "integer", "minimum": 0}
NAME = {"type": "string", "minLength": 1}
FRONT: dict[str, Any] = {
    "timestamp": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$", "description": "UTC"},
    "level": {"enum": [*LEVELS, "critical"]},
    "service": {"type": "string", "pattern": "^[a-z]+$"},
    "instance": {"type": "string", "pattern": "^[a-z]+(-[0-9a-f]{8})?$", "description": "of the service's process"},
    "tenant": {"type": "string", "pattern": "^[A-Za-z0-9_-]{0,64}$"},
    "call_id": {"type": "string", "pattern": CALL_ID, "description": "empty: the line is about no call"},
    "correlation_id": {"type": "string", "pattern": CALL_ID, "description": "the trace; of a call its id"},
    "event": {
        "type": "string",
        "pattern": r"^[A-Za-z_][A-Za-z0-9_.-]*$",
        "description": "a token, or a library's logger",
    },
    "message": {"type": "string", "minLength": 1},
}


def document() -> dict[str, Any]:
    """The whole schema (JSON Schema 2020-12)."""
    extra = {
        "span_id": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        "exception": {"type": "string", "minLength": 1},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of callbus's logs",
        "type": "object",
        "required": list(JSON_KEYS),
        "properties": {**{key: FRONT[key] for key in JSON_KEYS}, **extra},
        "additionalProperties": True,
        "allOf": [
            # A line about a call is found by its trace, too.
            {
                "if": {"properties": {"call_id": {"minLength": 1}}},
                "then": {"properties": {"correlation_id": {"minLength": 1}, "tenant": {"minLength": 1}}},
            },
            _of(CALL_SUMMARY, _call_summary()),
            _of(TURN_SUMMARY, _turn_summary()),
        ],
    }


def _of(event: str, then: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"properties": {"event": {"const": event}}}, "then": then}


def _call_summary() -> dict[str, Any]:
    counts = dict.fromkeys(MediaCounts.__struct_fields__, NUMBER)
    return {
        "title": "The line of a call",
        "required": ["result", "reason", "ended_by"],
        "properties": {
            "service": {"const": "edge"},
            "result": {"enum": [each.value for each in CallResult]},
            "reason": {"type": "string", "pattern": "^[a-z_]+$"},
            "ended_by": {"enum": [each.value for each in EndedBy]},
            "status": {"type": "integer", "description": "SIP status of a refusal"},
            "codec": {"type": "string"},
            **dict.fromkeys(("duration_ms", "keys_pressed", "holds", "transfers"), COUNT),
            **dict.fromkeys(("trying_ms", "ringing_ms", "answered_ms", "acknowledged_ms"), NUMBER),
            **counts,
        },
        "if": {"properties": {"call_id": {"minLength": 1}}},
        "then": {"required": ["duration_ms", "packets_received", "packets_sent", "lost", "jitter_ms"]},
    }


def _turn_summary() -> dict[str, Any]:
    return {
        "title": "The line of a turn",
        "required": ["turn", "why", "interrupted_agent", "preemptive"],
        "properties": {
            "service": {"const": "asr"},
            "call_id": {"minLength": 1},
            "turn": {"type": "integer", "minimum": 1},
            "why": {"type": "string", "pattern": "^[a-z_]*$"},
            "interrupted_agent": {"type": "boolean"},
            "preemptive": {"enum": ["hit", "miss", ""]},
            **dict.fromkeys(LATENCY_KEYS, NUMBER),
            **dict.fromkeys(("asr_engine", "llm_engine", "tts_engine"), NAME),
        },
    }
