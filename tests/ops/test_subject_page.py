"""docs/subjects.md: made from the code, whole, and true for real messages."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import msgspec
import pytest

from bus.codec import decode_event
from ops import contract, subject_page
from ops.subject_examples import example_of
from schemas.base import Event, type_name
from schemas.control import ControlReply, ReplayReply, ReplayRequest
from schemas.subjects import COMMAND_TYPES, EVENT_TYPES, SPEAKERS, STORED_TYPES

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = (*EVENT_TYPES, *COMMAND_TYPES, ReplayRequest, ReplayReply, ControlReply, *STORED_TYPES)
MADE = subject_page.document()


def test_the_committed_page_is_current() -> None:
    committed = (ROOT / "docs" / "subjects.md").read_text(encoding="utf-8")
    assert committed == MADE, "docs/subjects.md is stale: run `make documents`"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
class TestEveryMessage:
    def test_its_example_is_allowed_and_whole(self, message: type[msgspec.Struct]) -> None:
        body = example_of(message)
        definitions = contract.json_schema()["$defs"]
        schema = {"$ref": f"#/$defs/{message.__name__}", "$defs": definitions}
        jsonschema.Draft202012Validator(schema).validate(body)
        assert set(body) == set(message.__struct_encode_fields__) | {"type"}
        assert msgspec.json.encode(body).decode() in MADE.replace('": ', '":').replace(', "', ',"')

    def test_its_fields_stand_in_its_table(self, message: type[msgspec.Struct]) -> None:
        heading = message.__name__ if message in STORED_TYPES else type_name(message)
        section = MADE.split(f"\n### {heading}\n")[1].split("\n### ")[0].split("\n## ")[0]
        common = set(Event.__struct_fields__) if issubclass(message, Event) else set()
        named = re.findall(r"^\| `([a-z0-9_]+)` \|", section, re.MULTILINE)
        assert named == [name for name in message.__struct_fields__ if name not in common]


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda event_type: event_type.__name__)
def test_an_example_is_what_a_reader_takes(event_type: type[Event]) -> None:
    body = example_of(event_type)
    subject = f"call.default.{body['call_id']}.{type_name(event_type)}"
    assert isinstance(decode_event(subject, msgspec.json.encode(body)), event_type)


def test_who_hears_what() -> None:
    assert subject_page.heard_by("call.offered") == ["asr", "llm", "tts"]
    assert subject_page.heard_by("turn.ended") == ["asr", "llm"]
    assert subject_page.heard_by("llm.sentence") == ["asr", "llm", "tts"]
    assert subject_page.heard_by("asr.partial") == []
    assert subject_page.heard_by("edge.lost") == ["edge"]


def test_every_pattern_of_a_stage_names_an_event() -> None:
    names = [type_name(event_type) for event_type in EVENT_TYPES]
    for stage, patterns in subject_page.HEARD.items():
        for pattern in patterns:
            assert any(subject_page.matches(pattern, name) for name in names), f"{stage} follows {pattern}: no event"


def test_what_is_kept() -> None:
    assert subject_page.kept_in("call.t.c.rec.in") == ["CALLS"]
    assert subject_page.kept_in("call.t.c.failure") == ["CALLS", "HISTORY"]
    assert subject_page.kept_in("rt.t.c.audio.in") == []


def test_durations_and_times_have_a_unit() -> None:
    for message in MESSAGES:
        for field in msgspec.structs.fields(message):
            if field.name.endswith(("_ms", "_us", "_hz")) and "number" in subject_page.kind_of(field.type):
                assert subject_page.unit_of(field.name, field.type), f"{message.__name__}.{field.name}"


class TestCommands:
    """What the page says of commands, against the code that carries them out."""

    SOURCES = {
        "edge": ROOT / "edge" / "commands.py",
        "llm": ROOT / "services" / "llm" / "call.py",
        "tts": ROOT / "services" / "tts" / "call.py",
    }

    @pytest.mark.parametrize("stage", SOURCES)
    def test_who_carries_out_what(self, stage: str) -> None:
        taken = set(re.findall(r"\b([A-Z][A-Za-z]+)\(\)", self.cases(self.SOURCES[stage].read_text(encoding="utf-8"))))
        said = {
            command.__name__ for command in COMMAND_TYPES if stage in subject_page.CARRIED_OUT_BY[type_name(command)]
        }
        assert taken & {command.__name__ for command in COMMAND_TYPES} == said

    @staticmethod
    def cases(source: str) -> str:
        return "\n".join(line for line in source.splitlines() if line.strip().startswith("case "))

    @pytest.mark.parametrize(("stage", "folder"), [("asr", "services/asr"), ("llm", "services/llm")])
    def test_who_gives_what(self, stage: str, folder: str) -> None:
        source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / folder).glob("*.py")))
        for command in COMMAND_TYPES:
            given = re.search(rf"(?<![\w.]){command.__name__}\((?!\))", source) is not None
            assert given == (stage in subject_page.ASKED_BY.get(type_name(command), ())), command.__name__


def test_every_speaker_is_named() -> None:
    page = MADE
    for event_type in EVENT_TYPES:
        speaker = SPEAKERS[type_name(event_type).split(".")[0]]
        wanted = subject_page.ANY_SPEAKER if speaker == "any" else speaker
        assert f"`call.<tenant>.<call>.{type_name(event_type)}`, said by {wanted}," in page
