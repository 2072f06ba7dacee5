"""Every message: round trip, golden bytes, strict agreement of typed and untyped reading, old and new peers."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from schemas.base import Command, Event, tag_of, type_name
from schemas.control import ControlReply, ReplayReply, ReplayRequest
from schemas.subjects import COMMAND_TYPES, EVENT_TYPES, STORED_TYPES
from tests.schemas.samples import SAMPLES

pytestmark = pytest.mark.contract

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden" / "v1"
EARLIER = GOLDEN.parent / "earlier"
"""Bytes of messages as they were before they got further fields: what a stream still holds, or an older peer sends."""
REPLY_TYPES = (ReplayRequest, ReplayReply, ControlReply)
BY_TYPE = {type(sample): sample for sample in SAMPLES}


def all_structs(base: type) -> set[type]:
    return {leaf for child in base.__subclasses__() for leaf in ({child} | all_structs(child))}


def test_no_message_escapes_the_samples_or_the_catalogue() -> None:
    assert all_structs(Event) == set(EVENT_TYPES)
    assert all_structs(Command) == {*COMMAND_TYPES, ReplayRequest}
    assert set(BY_TYPE) == {*EVENT_TYPES, *COMMAND_TYPES, *STORED_TYPES, *REPLY_TYPES}


def test_tags_are_unique_and_versioned() -> None:
    tags = [tag_of(message_type) for message_type in BY_TYPE]
    assert len(tags) == len(set(tags))
    assert all(tag.rsplit(".v", 1)[1].isdigit() for tag in tags)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: tag_of(type(sample)))
class TestEveryMessage:
    def test_is_frozen_and_keyword_only(self, sample: msgspec.Struct) -> None:
        config = type(sample).__struct_config__
        assert config.frozen
        with pytest.raises(TypeError):
            type(sample)("positional")  # type: ignore[call-arg]

    def test_round_trip(self, sample: msgspec.Struct) -> None:
        assert msgspec.json.decode(msgspec.json.encode(sample), type=type(sample)) == sample

    def test_sample_sets_every_field(self, sample: msgspec.Struct) -> None:
        for field in msgspec.structs.fields(type(sample)):
            if field.default is not msgspec.NODEFAULT and field.name not in ("clock_rate_hz", "utterance_id", "ok"):
                assert getattr(sample, field.name) != field.default, field.name

    def test_golden_bytes(self, sample: msgspec.Struct) -> None:
        """A released message never changes its bytes; CALLBUS_WRITE_GOLDEN=1 writes those of a new one."""
        path = GOLDEN / f"{tag_of(type(sample))}.json"
        data = msgspec.json.encode(sample)
        if not path.exists() and os.environ.get("CALLBUS_WRITE_GOLDEN") == "1":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data + b"\n")
        assert path.read_bytes() == data + b"\n"

    def test_typed_reading_equals_untyped_reading(self, sample: msgspec.Struct) -> None:
        data = (GOLDEN / f"{tag_of(type(sample))}.json").read_bytes()
        typed = msgspec.json.decode(data, type=type(sample))
        assert msgspec.json.decode(msgspec.json.encode(typed)) == msgspec.json.decode(data)

    def test_an_older_peer_reads_a_newer_message(self, sample: msgspec.Struct) -> None:
        newer = msgspec.json.decode(msgspec.json.encode(sample))
        newer["added_in_a_later_release"] = {"anything": [1, 2]}
        assert msgspec.json.decode(msgspec.json.encode(newer), type=type(sample)) == sample

    def test_a_newer_peer_reads_an_older_message(self, sample: msgspec.Struct) -> None:
        """Every field with a default may be missing: that is what a release before the field sends."""
        older = msgspec.json.decode(msgspec.json.encode(sample))
        for field in msgspec.structs.fields(type(sample)):
            if field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT:
                older.pop(field.name)
        read = msgspec.json.decode(msgspec.json.encode(older), type=type(sample))
        for name, value in older.items():
            if name != "type":
                assert msgspec.to_builtins(getattr(read, name)) == value

    def test_units_stand_in_the_names_of_numbers(self, sample: msgspec.Struct) -> None:
        counts = {
            "epoch", "change", "press", "turn", "revision", "part", "through_sequence", "utterance_id", "index",
            "sentences", "frames", "number", "confidence", "from_sequence", "first_sequence", "next_sequence",
            "last_turn", "calls", "slots", "process_id", "max_calls", "away",
        }  # fmt: skip
        for field in msgspec.structs.fields(type(sample)):
            value = getattr(sample, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and field.name not in counts:
                assert field.name.endswith(("_ms", "_us", "_hz", "_bytes")), f"{field.name} names no unit"


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=type_name)
def test_dedupe_id_tells_events_apart(event_type: type[Event]) -> None:
    sample = BY_TYPE[event_type]
    assert isinstance(sample, Event)
    assert sample.dedupe_id.startswith(f"{sample.call_id}:{type_name(event_type)}")
    assert msgspec.structs.replace(sample, epoch=9, at_us=1).dedupe_id == sample.dedupe_id
    for name in event_type.identity:
        value = getattr(sample, name)
        other = msgspec.structs.replace(sample, **{name: value + 1 if isinstance(value, int) else value + "x"})
        assert other.dedupe_id != sample.dedupe_id


def test_bad_values_are_refused() -> None:
    data = msgspec.json.decode(msgspec.json.encode(BY_TYPE[EVENT_TYPES[0]]))
    for field, value in (("call_id", "a.b"), ("call_id", "*"), ("tenant", ""), ("at_us", -1), ("caller", "9" * 65)):
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.json.decode(msgspec.json.encode({**data, field: value}), type=EVENT_TYPES[0])


@pytest.mark.parametrize("path", sorted(EARLIER.iterdir()), ids=lambda path: path.stem)
def test_earlier_bytes_are_still_read(path: Path) -> None:
    message_type = {tag_of(each): each for each in BY_TYPE}[path.stem]
    message = msgspec.json.decode(path.read_bytes(), type=message_type)
    told = msgspec.json.decode(path.read_bytes())
    again = msgspec.json.decode(msgspec.json.encode(message))
    nested = {name for name, value in told.items() if isinstance(value, dict)}
    assert set(again) - set(told) or any(set(again[name]) - set(told[name]) for name in nested)
    # Nested structs may have got fields too: what was told comes back, more may.
    flat = {name for name, value in told.items() if not isinstance(value, dict)}
    assert {name: again[name] for name in flat} == {name: told[name] for name in flat}
