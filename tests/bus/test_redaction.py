"""What is taken out of a log line, and what is left as it is."""

from __future__ import annotations

import random

import pytest

from bus import redaction
from bus.clock import uuid7_hex
from bus.errors import DecodeError

pytestmark = pytest.mark.unit

CALL = "0193e4f2aa0b7c1d8e2f3a4b5c6d7e8f"


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("caller +49 30 1234567 said", "caller [number] said"),
        ("caller 0301234567", "caller [number]"),
        ("(030) 123-4567", "[number]"),
        ("+4930123456", "[number]"),
        ("00493012345678", "[number]"),
        ("card 4111 1111 1111 1111.", "card [number]."),
        ("4111-1111-1111-1111", "[number]"),
        ("4111111111111111", "[number]"),
        ("1 2 3 4 5 6 7", "[number]"),
        ("555-0123-4", "[number]"),
        ("From: <sip:+4930123456@10.0.0.1:5060;user=phone>", "From: <sip:[user]@10.0.0.1:5060;user=phone>"),
        ("SIPS:Alice.Smith@example.com", "SIPS:[user]@example.com"),
        ("tel:+49-30-123456 or TEL:110", "tel:[user] or TEL:[user]"),
        ("nats://asr:geheim@nats:4222", "nats://[user]@nats:4222"),
        ("Authorization: Bearer abcdefgh12", "Authorization: Bearer [secret]"),
        ("sent with bearer abcdefgh12", "sent with bearer [secret]"),
        ("{'xi-api-key': 'abcdef12'}", "{'xi-api-key': '[secret]'}"),
        ("api_key=abcdefgh&x=1", "api_key=[secret]&x=1"),
        ('{"token": "abcd1234"}', '{"token": "[secret]"}'),
        ("password=hunter22", "password=[secret]"),
        ("refused: sk-proj-abcdef0123456789", "refused: [secret]"),
        ("gsk_abcdef0123456789 is no key", "[secret] is no key"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "[secret]"),
        ("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY", "[secret]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY----- x", "[secret] x"),
    ],
)
def test_taken_out(written: str, left: str) -> None:
    assert redaction.text(written) == left


@pytest.mark.parametrize(
    "written",
    [
        CALL,
        f"call.acme.{CALL}.turn.ended",
        f"_INBOX_asr.{CALL}.12",
        f"00-{CALL}-8e2f3a4b5c6d7e8f-01",
        "asr-12345678", "edge-0a1b2c3d", "took over a call from worker llm-00000000",
        "01932f3e-1234-7890-8123-123456789012",
        "2026-11-20T20:09:09.123456Z", "on 2026-11-20 at 20:09:09",
        "192.168.100.200:16384", "nats://127.0.0.1:4222", "http://10.200.100.50:9100/metrics", "10.0.0.0/8",
        "silent for 750 ms", "pid 4194304", "sequence 12345678 of stream CALLS",
        "took 123456.789 ms", "0.30000000000000004", "1.5 s after 12.25 ms",
        "ports 5060, 5061, 5062", "SIP on 0.0.0.0 port 5060 (UDP and TCP)",
        "engine whisper-large-v3-turbo-q5_0", "model vosk-model-small-en-us-0.15", "nats-server 2.15.1",
        "[asr] slots = 16", "frames 12 to 48", "tokens: 12345", "basic recognition of speech",
        "key 'owners.asr' of bucket owners", "sip:10.0.0.1:5060",
        "call completed: caller_hung_up", "line 123, in handle", "error 10071",
    ],
)  # fmt: skip
def test_left_as_it_is(written: str) -> None:
    assert redaction.text(written) == written


def test_none_of_our_ids_is_ever_changed() -> None:
    """Whatever is drawn for them: calls, traces, spans, workers, in a sentence and in a subject."""
    random.seed(20_26)
    for _ in range(5000):
        call = uuid7_hex()
        worker = f"{random.choice(('edge', 'asr', 'llm', 'tts'))}-{random.getrandbits(32):08x}"
        for written in (call, f"call {call} of {worker}", f"rt.default.{call}.control.edge.flush", f"hb.asr.{worker}"):
            assert redaction.text(written) == written


def test_what_lies_in_a_value_is_looked_through_and_figures_stay() -> None:
    given = {
        "list": ["sip:alice@example.com", 12345678901],
        "map": {"+4930123456": ("tel:110",)},
        "error": ValueError("she said yes"),
        "at_us": 1_763_669_349_123_456,
        "ratio": 0.123456789012,
        "yes": True,
        "none": None,
        "object": Said(),
    }
    assert redaction.anything(given) == {
        "list": ["sip:[user]@example.com", 12345678901],
        "map": {"[number]": ["tel:[user]"]},
        "error": f"ValueError: {redaction.WITHHELD}",
        "at_us": 1_763_669_349_123_456,
        "ratio": 0.123456789012,
        "yes": True,
        "none": None,
        "object": "spoken to [number]",
    }
    nested: list[object] = []
    nested.append(nested)
    assert "..." in str(redaction.anything(nested))


class Said:
    def __str__(self) -> str:
        return "spoken to +4930123456"


def test_texts_of_others_exceptions_are_withheld_and_ours_are_not() -> None:
    assert redaction.describe(KeyError("my name is Bond")) == f"KeyError: {redaction.WITHHELD}"
    assert redaction.describe(KeyError("bank"), plainly=True) == "KeyError: 'bank'"
    assert redaction.describe(DecodeError("not JSON")) == "DecodeError: not JSON"
    assert redaction.describe(DecodeError("of +4930123456")) == "DecodeError: of [number]"
    assert redaction.describe(FileNotFoundError(2, "No such file", "x.onnx")).endswith("No such file: 'x.onnx'")
    assert redaction.describe(TimeoutError()) == "TimeoutError"


def test_a_traceback_tells_where_and_never_what() -> None:
    def engine(heard: str) -> None:
        try:
            int(heard)
        except ValueError as error:
            raise RuntimeError(f"can't use {heard}") from error

    said = "four two seven one"
    with pytest.raises(RuntimeError) as caught:
        engine(said)
    text = redaction.trace_of(caught.value)
    assert said not in text
    assert text.count("Traceback (most recent call last):") == 2
    assert "in engine" in text
    assert "[direct cause of the following]" in text
    assert text.endswith(f"RuntimeError: {redaction.WITHHELD}")
    plain = redaction.trace_of(caught.value, plainly=True)
    assert f"can't use {said}" in plain


def test_groups_and_circles_of_exceptions_come_to_an_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    text = redaction.trace_of(ExceptionGroup("both", [one, other]))
    assert text.count("ValueError") == 2
    assert text.startswith(f"ExceptionGroup: {redaction.WITHHELD}")
