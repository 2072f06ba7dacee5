"""Content is hidden field by field, and a field that nobody has judged counts as content."""

from __future__ import annotations

import msgspec
import pytest

from ops.commands.tail import line_of
from ops.content import CONTENT, PLAIN, is_plain, without_content
from schemas.base import Event
from schemas.call import CallEnded, CallResult, EndedBy
from schemas.subjects import EVENT_TYPES
from tests.ops.recorded import SECRETS, call_events
from tests.schemas.samples import SAMPLES

pytestmark = pytest.mark.unit

EVENTS = [sample for sample in SAMPLES if isinstance(sample, Event)]


def test_every_field_of_every_event_has_been_judged() -> None:
    fields = {field.name for event_type in EVENT_TYPES for field in msgspec.structs.fields(event_type)}
    assert fields <= CONTENT | PLAIN
    assert fields >= CONTENT | PLAIN, "a field that no event has any more"
    assert not CONTENT & PLAIN


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_what_is_hidden_can_still_be_read_as_the_same_message(event: Event) -> None:
    hidden = without_content(event)
    for field in msgspec.structs.fields(type(event)):
        if is_plain(type(event), field.name):
            assert getattr(hidden, field.name) == getattr(event, field.name)
    if type(event).__name__ != "DtmfIn":  # its digit is one of the twelve keys; a hidden one is none
        assert msgspec.json.decode(msgspec.json.encode(hidden), type=type(event)) == hidden


def test_nothing_of_a_whole_call_is_left() -> None:
    text = "\n".join(line_of(without_content(event), with_call=True) for event in call_events())
    for secret in SECRETS:
        assert secret not in text.replace("card_delivery", ""), secret


def test_the_class_of_a_call_is_no_answer_of_a_tool() -> None:
    ended = CallEnded(
        call_id="c", at_us=1, edge="e", result=CallResult.FAILED, reason="media_timeout", ended_by=EndedBy.EDGE
    )
    assert without_content(ended) == ended
