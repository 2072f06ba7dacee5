from __future__ import annotations

import pytest

from bus import codec
from bus.errors import DecodeError
from schemas import subjects
from schemas.control import ControlMessage, Flush, Hangup
from tests.bus.samples import CALL, final, offered

pytestmark = pytest.mark.unit


def test_event_survives_the_bus() -> None:
    event = final(3, epoch=2)
    assert codec.decode_event(subjects.subject_of(event), codec.encode(event)) == event


def test_bytes_are_json_that_people_can_read() -> None:
    assert codec.encode(offered()).startswith(b'{"type":"call.offered.v1"')


def test_union_of_commands_is_told_apart_by_tag() -> None:
    for command in (Flush(call_id=CALL, utterance_id=100), Hangup(call_id=CALL)):
        assert codec.decode(codec.encode(command), ControlMessage) == command


@pytest.mark.parametrize(
    "data", [b"", b"no json", b"{}", b'{"type":"asr.final.v9"}', b"\xff\xfe", b'{"type":"call.offered.v1"}']
)
def test_bytes_that_are_not_the_event_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not a AsrFinal"):
        codec.decode_event(f"call.default.{CALL}.asr.final", data)


def test_body_of_another_call_is_refused() -> None:
    other = final(1, call_id="0192f0c0aaaa7bbb8ccceeeeeeeeeeee")
    with pytest.raises(DecodeError, match="names another call"):
        codec.decode_event(f"call.default.{CALL}.asr.final", codec.encode(other))


def test_event_of_a_newer_peer_is_told_from_a_broken_one() -> None:
    with pytest.raises(codec.UnknownEventError):
        codec.decode_event(f"call.default.{CALL}.asr.mood", b"{}")
    with pytest.raises(codec.UnknownEventError):
        codec.decode_event(f"rt.default.{CALL}.asr.final", b"{}")


def test_subject_of_no_call_is_refused() -> None:
    with pytest.raises(DecodeError, match="is not call"):
        codec.decode_event("hb.asr.w1", b"{}")


def test_error_does_not_quote_content() -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode_event(
            f"call.default.{CALL}.asr.final",
            b'{"type":"asr.final.v1","call_id":"%s","at_us":1,"turn":"my secret","text":"s"}' % CALL.encode(),
        )
    assert "secret" not in str(caught.value)
