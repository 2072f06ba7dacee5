"""A call folded into what a person reads: transcript, latencies, heard text."""

from __future__ import annotations

import pytest

from ops.callview import describe_failure, view_of
from ops.commands.show import Shown, hide_content, text_lines
from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, CallResult, DtmfIn, EndedBy
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, ToolReturned
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark, PlayoutStarted
from schemas.tts import SpokenWord, TtsDone, TtsStarted
from schemas.turn import TurnEnded, TurnInterrupted

pytestmark = pytest.mark.unit

CALL = {"call_id": "c1", "at_us": 1_000_000}


def greeting() -> list[Event]:
    return [
        CallOffered(**CALL, edge="e1", caller="+491234"),
        CallAnswered(**CALL, edge="e1", codec="PCMU", media_epoch_us=1_000_000),
        LlmSentence(**CALL, turn=0, utterance_id=0, index=0, text="Welcome to the bank."),
        LlmSentence(**CALL, turn=0, utterance_id=0, index=1, text="How can I help you?"),
        TtsStarted(**CALL, turn=0, utterance_id=0, index=0, ttfb_ms=2.0),
        TtsDone(**CALL, turn=0, utterance_id=0, index=0, frames=50, duration_ms=1000),
        PlayoutStarted(**CALL, utterance_id=0, media_time_ms=40),
        PlayoutMark(**CALL, utterance_id=0, index=0, media_time_ms=1040),
    ]


def first_turn() -> list[Event]:
    return [
        AsrFinal(**CALL, turn=1, text="where is my card", through_sequence=200, transcription_delay_ms=510.0),
        TurnEnded(
            **CALL, turn=1, why="silence", text="where is my card", speech_start_ms=3000, speech_end_ms=4200,
            end_of_turn_delay_ms=520.0,
        ),
        ToolReturned(**CALL, turn=1, tool_call_id="1-0", name="card_status"),
        ToolReturned(**CALL, turn=1, tool_call_id="1-1", name="balance", error="tool_failed"),
        LlmSentence(**CALL, turn=1, utterance_id=100, index=0, text="It was sent on Monday."),
        LlmDone(**CALL, turn=1, utterance_id=100, sentences=1, intent="card", ttft_ms=1.0, ttfs_ms=2.0),
        TtsStarted(
            call_id="c1", at_us=5_000_000, turn=1, utterance_id=100, index=0, ttfb_ms=3.0, leading_silence_ms=20
        ),
        PlayoutStarted(call_id="c1", at_us=5_012_000, utterance_id=100, media_time_ms=4750),
    ]  # fmt: skip


def finished_turn() -> list[Event]:
    return [*first_turn(), PlayoutFinished(**CALL, utterance_id=100, media_time_ms=6000, frames=60)]


def test_transcript_in_the_order_of_hearing() -> None:
    view = view_of([*greeting(), PlayoutFinished(**CALL, utterance_id=0, media_time_ms=2000), *finished_turn()])
    assert [(line.at_ms, line.speaker, line.text) for line in view.lines] == [
        (40, "agent", "Welcome to the bank. How can I help you?"),
        (3000, "caller", "where is my card"),
        (4750, "agent", "It was sent on Monday."),
    ]
    assert view.state == "active"
    assert view.events == 18


def test_latencies_start_at_the_last_voiced_sample_and_end_at_the_first_audible_one() -> None:
    turn = view_of([*greeting(), *finished_turn()]).turns[1]
    assert turn.latencies_ms == {
        "transcription_delay": 510.0,
        "end_of_turn_delay": 520.0,
        "llm_node_ttft": 1.0,
        "llm_node_ttfs": 2.0,
        "tts_node_ttfb": 3.0,
        "playback_latency": 12.0,
        "e2e_latency": 4750 + 20 - 4200,
    }
    assert turn.tools == ["card_status", "balance (tool_failed)"]
    assert (turn.intent, turn.answer_ended_ms) == ("card", 6000)


def test_only_sentences_that_were_played_are_heard() -> None:
    assert [line.text for line in view_of(greeting()).lines] == ["Welcome to the bank."]


def test_an_interrupted_sentence_is_cut_at_the_word_that_left() -> None:
    words = (SpokenWord(text="It", start_ms=0, end_ms=100), SpokenWord(text="was", start_ms=100, end_ms=300))
    spoken = TtsDone(
        **CALL, turn=1, utterance_id=100, index=0, frames=60, duration_ms=1200, words=words, proportional=False
    )
    flushed = PlayoutFlushed(**CALL, utterance_id=100, media_time_ms=5000, index=0, sent_ms=250)
    view = view_of([*first_turn(), spoken, TurnInterrupted(**CALL, turn=2, utterance_id=100), flushed])
    assert [(line.text, line.cut) for line in view.lines if line.speaker == "agent"] == [("It", True)]
    assert view.turns[1].interrupted


def test_without_word_times_the_cut_is_proportional() -> None:
    spoken = TtsDone(**CALL, turn=1, utterance_id=100, index=0, frames=50, duration_ms=1000)
    flushed = PlayoutFlushed(**CALL, utterance_id=100, media_time_ms=5000, index=0, sent_ms=400)
    view = view_of([*first_turn(), spoken, flushed])
    assert [line.text for line in view.lines if line.speaker == "agent"] == ["It was"]
    nothing = PlayoutFlushed(**CALL, utterance_id=100, media_time_ms=5000, index=0, sent_ms=0)
    assert not [line for line in view_of([*first_turn(), nothing]).lines if line.speaker == "agent"]


def test_keys_are_a_caller_line() -> None:
    turn = TurnEnded(**CALL, turn=1, why="dtmf", digits="4271", speech_start_ms=100, speech_end_ms=900)
    view = view_of([DtmfIn(**CALL, press=0, digit="4"), turn])
    assert view.lines[0].text == "[keys] 4 2 7 1"
    assert len(view.keys) == 1


def page() -> tuple[Shown, str]:
    ended = CallEnded(
        **CALL, edge="e1", result=CallResult.COMPLETED, reason="caller_hung_up", ended_by=EndedBy.CALLER,
        duration_ms=9000,
    )  # fmt: skip
    failure = Failure(**CALL, code="bus_disconnected", stage="edge", gap_ms=420, detail="server restarted")
    view = view_of([*greeting(), *finished_turn(), failure, ended])
    shown = Shown(view, ((12, 3),), ())
    return shown, "\n".join(text_lines(shown))


def test_the_page_names_everything_that_matters() -> None:
    _, text = page()
    for words in (
        "call c1", "completed", "where is my card", "e2e_latency", "570.0", "turn 1: silence, intent card",
        "bus_disconnected at edge, gap 420 ms", "gap in the recording of the caller: 3 frames from number 12",
        "ended: completed by caller, caller_hung_up, 9.0 s",
    ):  # fmt: skip
        assert words in text, words


def test_content_can_be_hidden() -> None:
    shown, _ = page()
    hide_content(shown.view)
    text = "\n".join(text_lines(shown))
    assert "card" not in text.replace("intent card", "").replace("card_status", "")
    assert "[4 words]" in text


def test_a_failure_of_a_newer_release_is_still_shown() -> None:
    assert describe_failure(Failure(**CALL, code="meteor", stage="edge")) == "meteor at edge: meteor"
