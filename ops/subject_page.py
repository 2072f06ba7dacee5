"""docs/subjects.md, made from the messages and the catalogue: who says what and who hears it, bodies, examples."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Union, get_args, get_origin

import msgspec

from bus import topology
from config.settings import StreamsSection
from edge.process import HEARD as HEARD_BY_EDGE
from ops.subject_examples import example_of
from ops.subject_texts import AUDIO, COMMANDS, HEAD
from schemas.base import Event, type_name
from schemas.control import ControlReply, ReplayReply, ReplayRequest
from schemas.subjects import COMMAND_TYPES, EVENT_TYPES, SPEAKERS, STORED_TYPES, matches
from services.asr.fold import NAMES as HEARD_BY_ASR
from services.llm.conversation import EVENTS as HEARD_BY_LLM
from services.tts.call import FOLLOWED as HEARD_BY_TTS

HEARD: Mapping[str, tuple[str, ...]] = {
    "edge": HEARD_BY_EDGE, "asr": HEARD_BY_ASR, "llm": HEARD_BY_LLM, "tts": HEARD_BY_TTS,
}  # fmt: skip
"""Stage -> the events that it follows."""

WORK_QUEUE_EVENT = "call.offered"
ANY_SPEAKER = "edge, asr, llm, tts"
UNITS = (
    ("_at_us", "µs since 1970"), ("at_us", "µs since 1970"), ("_us", "µs since 1970"),
    ("media_time_ms", "ms after the answer"), ("speech_start_ms", "ms after the answer"),
    ("speech_end_ms", "ms after the answer"), ("_ms", "ms"), ("_hz", "Hz"), ("frames", "frames"),
    ("sequence", "number of a frame"), ("digits", "keys"), ("confidence", "0 to 1"), ("jitter_ms", "ms"),
)  # fmt: skip
"""End of a field's name -> its unit; the first that fits."""

CARRIED_OUT_BY: Mapping[str, tuple[str, ...]] = {
    "control.flush": ("edge", "llm", "tts"), "control.pause": ("edge",), "control.resume": ("edge",),
    "control.say": ("llm", "tts"), "control.hangup": ("edge",), "control.transfer": ("edge",),
    "control.dtmf": ("edge",), "control.inject": ("llm",), "control.give_up": ("edge",),
}  # fmt: skip
"""Command -> the stages that carry it out; others answer ``not_supported``."""

ASKED_BY: Mapping[str, tuple[str, ...]] = {
    "control.flush": ("asr",), "control.pause": ("asr",), "control.resume": ("asr",), "control.say": ("asr",),
    "control.hangup": ("llm",), "control.give_up": ("asr",), "control.transfer": ("llm",),
}  # fmt: skip
"""Command -> the stages that give it; the others are there for programs of your own."""


def document() -> str:
    """The page."""
    parts = [HEAD, _overview(), *(_event(event_type) for event_type in EVENT_TYPES), AUDIO, _commands(), _stored()]
    return "\n".join(parts)


def kept_in(subject: str) -> list[str]:
    """Streams that keep a subject."""
    return [
        stream.name
        for stream in topology.streams(StreamsSection())
        if any(matches(pattern, subject) for pattern in (*stream.subjects, *stream.source_filters))
    ]


def heard_by(name: str) -> list[str]:
    """Stages that follow an event; an offered call comes to the three that work through their queues."""
    found = [stage for stage, patterns in HEARD.items() if any(matches(pattern, name) for pattern in patterns)]
    return [*topology.ASSIGN_STAGES] if name == WORK_QUEUE_EVENT else found


def kind_of(annotation: Any) -> str:
    """What stands in JSON for a field's type: text, number, list of ..., one of the words that are allowed."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return kind_of(parts[0])
    if origin in (types.UnionType, Union):
        return " or ".join(kind_of(part) for part in parts)
    if origin is tuple:
        return f"list of {kind_of(parts[0])}"
    if origin is dict:
        return f"object of {kind_of(parts[1])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return "object"
    return {str: "text", bool: "true or false", int: "whole number", float: "number"}.get(annotation, "anything")


def unit_of(name: str, annotation: Any) -> str:
    """The unit of a field, empty where it has none."""
    if not any(word in kind_of(annotation) for word in ("number", "keys")) and not name.endswith("digits"):
        return ""
    return next((unit for end, unit in UNITS if name.endswith(end)), "")


def _overview() -> str:
    lines = ["## Events", "", "| event | said by | heard by | kept | |", "|---|---|---|---|---|"]
    for event_type in EVENT_TYPES:
        name = type_name(event_type)
        lines.append(
            f"| [`{name}`](#{_anchor(name)}) | {_speaker(name)} | {', '.join(heard_by(name))} | "
            f"{', '.join(kept_in(f'call.t.c.{name}'))} | {_first_sentence(event_type)} |"
        )
    return "\n".join([*lines, ""])


def _event(event_type: type[Event]) -> str:
    name = type_name(event_type)
    again = ":".join(["<call>", name, *(f"<{part}>" for part in event_type.identity)])
    heard = ", ".join(heard_by(name)) or "no stage"
    return "\n".join([
        f"### {name}", "", _prose(event_type), "",
        f"`call.<tenant>.<call>.{name}`, said by {_speaker(name)}, heard by {heard}. `Nats-Msg-Id`: `{again}`.", "",
        *_table(event_type, Event), *_example(event_type),
    ])  # fmt: skip


def _commands() -> str:
    lines = [
        COMMANDS,
        "| command | given by | carried out by | |", "|---|---|---|---|",
    ]  # fmt: skip
    for command in COMMAND_TYPES:
        name = type_name(command)
        given, carried = (", ".join(table.get(name, ())) for table in (ASKED_BY, CARRIED_OUT_BY))
        lines.append(f"| [`{name}`](#{_anchor(name)}) | {given} | {carried} | {_first_sentence(command)} |")
    lines.append("| [`control.replay`](#controlreplay) | asr | edge | on `rt.<tenant>.<call>.replay` |")
    for message in (*COMMAND_TYPES, ReplayRequest, ReplayReply, ControlReply):
        lines += ["", f"### {type_name(message)}", "", _prose(message), "", *_table(message), *_example(message)]
    return "\n".join([*lines, ""])


def _stored() -> str:
    lines = ["## Stored values", "", "Values of the KV buckets, JSON; a bucket is the stream `KV_<bucket>`.", ""]
    lines += ["| bucket | keeps | why |", "|---|---|---|"]
    for bucket in topology.buckets(StreamsSection()):
        kept = f"{bucket.ttl_s} s after the last write" if bucket.ttl_s else "until deleted"
        lines.append(f"| `{bucket.name}` | {kept}, {bucket.history} of each key | {bucket.why} |")
    for stored in STORED_TYPES:
        lines += ["", f"### {stored.__name__}", "", _prose(stored), "", *_table(stored), *_example(stored)]
    return "\n".join([*lines])


def _speaker(name: str) -> str:
    speaker = SPEAKERS[name.split(".")[0]]
    return ANY_SPEAKER if speaker == "any" else speaker


def _anchor(name: str) -> str:
    """The anchor that readers of Markdown make of a heading."""
    return re.sub(r"[^a-z0-9_ -]", "", name.lower()).replace(" ", "-")


def _text(message: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(message) or "").replace("``", "`")


def _prose(message: type[msgspec.Struct]) -> str:
    text = re.sub(r":[a-z]+:`([^`]+)`", r"`\1`", _text(message).split("\nAttributes:")[0])
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _first_sentence(message: type[msgspec.Struct]) -> str:
    text = _prose(message)
    ends = [end.start() for end in re.finditer(r"[.:;](?=\s|$)", text)]
    outside = [end for end in ends if text.count("(", 0, end) == text.count(")", 0, end)]
    return text[: outside[0]].replace("|", "\\|") if outside else text


def _told(message: type[msgspec.Struct]) -> dict[str, str]:
    """What the docstring's list of attributes says of each field."""
    _, _, block = _text(message).partition("\nAttributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n    (?=\S)", f"\n{block}")[1:]:
        names, _, text = entry.partition(":")
        found |= {name.strip(): " ".join(text.split()) for name in names.split(",")}
    return found


def _rows(message: type[msgspec.Struct], skip: frozenset[str], prefix: str = "") -> Iterator[str]:
    told = _told(message)
    for field in msgspec.structs.fields(message):
        if field.name in skip:
            continue
        unit = unit_of(field.name, field.type)
        default = "required" if field.required else _default(field)
        kind = kind_of(field.type) + (f", {unit}" if unit else "")
        said = told.get(field.name, "").replace("|", "\\|")
        yield f"| `{prefix}{field.name}` | {kind} | {default} | {said} |"
        for part in (field.type, *get_args(field.type)):
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                list_mark = "[]" if get_origin(field.type) is tuple else ""
                yield from _rows(part, frozenset(), f"{prefix}{field.name}{list_mark}.")


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if isinstance(value, msgspec.Struct):
        return ""
    return f"`{msgspec.json.encode(value).decode()}`"


def _table(message: type[msgspec.Struct], base: type[msgspec.Struct] | None = None) -> list[str]:
    skip = frozenset(base.__struct_fields__) if base is not None else frozenset()
    rows = list(_rows(message, skip))
    return ["| field | is | default | |", "|---|---|---|---|", *rows, ""] if rows else []


def _example(message: type[msgspec.Struct]) -> list[str]:
    body = msgspec.json.format(msgspec.json.encode(example_of(message)), indent=0).decode()
    return ["```json", body, "```", ""]
