"""JSON Schema and AsyncAPI 3 documents, made from the message structs and the subject catalogue."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from schemas.base import Event, tag_of, type_name
from schemas.control import ControlReply, ReplayReply, ReplayRequest
from schemas.subjects import COMMAND_TYPES, EVENT_TYPES, SPEAKERS, STORED_TYPES, command_name

REF_TEMPLATE = "#/components/schemas/{name}"
CONTROL_STAGES = ("edge", "asr", "llm", "tts")
AUDIO_FLOWS = {
    "audio.in": ("edge", "The caller's frames as they came in RTP"),
    "audio.out": ("tts", "The agent's frames in the codec of the leg, numbered within an utterance"),
}
RECORDINGS = {
    "rec.in": "200 ms of the caller's audio as received",
    "rec.out": "200 ms of the agent's audio as sent",
}


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of every message and stored value, under ``$defs``."""
    _, components = msgspec.json.schema_components(_all_types(), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "callbus messages",
        "$defs": dict(sorted(components.items())),
    }


def asyncapi(version: str) -> dict[str, Any]:
    """AsyncAPI 3.0 document: a channel per subject, who sends on it, and the message on it."""
    _, components = msgspec.json.schema_components(_all_types(), ref_template=REF_TEMPLATE)
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for event_type in EVENT_TYPES:
        _add_event(channels, operations, event_type)
    for name, (stage, text) in AUDIO_FLOWS.items():
        _add_audio(channels, operations, f"rt.{{tenant}}.{{call}}.{name}", name, stage, text)
    for name, text in RECORDINGS.items():
        _add_audio(channels, operations, f"call.{{tenant}}.{{call}}.{name}", name, "edge", text)
    for stage in CONTROL_STAGES:
        _add_control(channels, operations, stage)
    _add_replay(channels, operations)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "callbus",
            "version": version,
            "description": "Subjects of a call. call.> is recorded, all of it, in one order; rt.> is live only.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": dict(sorted(components.items())) | {"AudioMessage": _audio_schema()},
            "messages": {_name(t): _message(t) for t in _all_types()} | {"AudioMessage": _audio_message()},
        },
    }


def _all_types() -> list[type[msgspec.Struct]]:
    return [*EVENT_TYPES, *COMMAND_TYPES, ReplayRequest, ReplayReply, ControlReply, *STORED_TYPES]


def _name(message_type: type[msgspec.Struct]) -> str:
    return message_type.__name__


def _summary(message_type: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(message_type) or "").split("\n\n")[0].replace("\n", " ").replace("``", "")


def _message(message_type: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": tag_of(message_type),
        "summary": _summary(message_type),
        "payload": {"$ref": REF_TEMPLATE.format(name=_name(message_type))},
    }


def _parameters() -> dict[str, Any]:
    return {
        "tenant": {"description": "Who owns the call; default where nobody set one", "default": "default"},
        "call": {"description": "Our identifier of the call: a UUIDv7 as 32 hexadecimal digits"},
    }


def _channel(address: str, messages: list[str], description: str) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "parameters": _parameters(),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(channel: str, stage: str, messages: list[str]) -> dict[str, Any]:
    return {
        "action": "send",
        "title": f"said by {stage}",
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _add_event(channels: dict[str, Any], operations: dict[str, Any], event_type: type[Event]) -> None:
    name = type_name(event_type)
    channels[name] = _channel(f"call.{{tenant}}.{{call}}.{name}", [_name(event_type)], _summary(event_type))
    operations[f"send.{name}"] = _operation(name, SPEAKERS[name.split(".")[0]], [_name(event_type)])


def _add_audio(
    channels: dict[str, Any], operations: dict[str, Any], address: str, name: str, stage: str, text: str
) -> None:
    channels[name] = _channel(address, ["AudioMessage"], text)
    operations[f"send.{name}"] = _operation(name, stage, ["AudioMessage"])


def _add_control(channels: dict[str, Any], operations: dict[str, Any], stage: str) -> None:
    name = f"control.{stage}"
    commands = [_name(command) for command in COMMAND_TYPES]
    channels[name] = _channel(
        f"rt.{{tenant}}.{{call}}.{name}.{{command}}",
        [*commands, "ControlReply"],
        f"Commands to the owner of the call in {stage}; request/reply, ahead of all data",
    )
    names = [command_name(command) for command in COMMAND_TYPES]
    channels[name]["parameters"]["command"] = {"description": "Which command it is", "enum": names}
    operations[f"send.{name}"] = _operation(name, "anyone allowed", commands) | {"reply": _reply(name, "ControlReply")}


def _add_replay(channels: dict[str, Any], operations: dict[str, Any]) -> None:
    channels["replay"] = _channel(
        "rt.{tenant}.{call}.replay", ["ReplayRequest", "ReplayReply"], "Ask the edge for frames out of its ring"
    )
    operations["send.replay"] = _operation("replay", "asr", ["ReplayRequest"]) | {
        "reply": _reply("replay", "ReplayReply")
    }


def _reply(channel: str, message: str) -> dict[str, Any]:
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _audio_schema() -> dict[str, Any]:
    return {
        "type": "string",
        "format": "binary",
        "description": "16-byte header (version, codec, flags, frame_count: 1 byte each; sequence, utterance, "
        "media_time: 4 bytes each, network order), then the codec's payload as in RTP",
    }


def _audio_message() -> dict[str, Any]:
    return {
        "name": "audio.v1",
        "contentType": "application/octet-stream",
        "summary": "One or more frames of audio behind a 16-byte header",
        "payload": {"$ref": REF_TEMPLATE.format(name="AudioMessage")},
    }
