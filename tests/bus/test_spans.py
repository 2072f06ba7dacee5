"""The folds of the stages: events in, finished spans out; without any SDK."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bus.spans import (
    DROPPED_EVENTS,
    SPAN_EVENT_LIMIT,
    Moment,
    OpenSpan,
    Owner,
    Span,
    StageSpans,
    root_id_of,
    span_id_of,
    trace_id_of,
    turn_id_of,
    turn_named,
)
from bus.spans_asr import AsrSpans
from bus.spans_edge import EdgeSpans
from bus.spans_llm import LlmSpans, Model
from bus.spans_tts import TtsSpans
from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import (
    EDGE_LOST,
    CallAnswered,
    CallEnded,
    CallHeld,
    CallOffered,
    CallResult,
    CallTransferred,
    DtmfIn,
    EndedBy,
    MediaCounts,
)
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, ToolCalled, ToolReturned
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnMeasured

pytestmark = pytest.mark.unit

CALL = "01a1f8b4d03b7720948db586252f54fb"
EPOCH_US = 1_000_000_000
OWNER = Owner(CALL, "acme", epoch=2)
READER = Owner(CALL, "acme", epoch=2, content=True)
MENDED = "nothing: the next engine took over"


def at(media_ms: float, event_type: type[Event], **fields: Any) -> Event:
    """An event said at a point of media time."""
    return event_type(call_id=CALL, at_us=EPOCH_US + round(media_ms * 1000), **fields)


def answered() -> Event:
    return at(0, CallAnswered, edge="edge-1", codec="PCMU", media_epoch_us=EPOCH_US)


def offered() -> Event:
    return at(-500, CallOffered, edge="edge-1", caller="+49301234567", called="100")


def ended(media_ms: float, result: CallResult = CallResult.COMPLETED, reason: str = "caller_hung_up") -> Event:
    return at(media_ms, CallEnded, edge="edge-1", result=result, reason=reason, ended_by=EndedBy.CALLER)


def turn_ended(turn: int, start_ms: int, end_ms: int, said_ms: float, **fields: Any) -> Event:
    return at(said_ms, TurnEnded, turn=turn, why="silence", speech_start_ms=start_ms, speech_end_ms=end_ms, **fields)


def failed(media_ms: float, code: str, stage: str, turn: int = 0, hears: str = "an apology") -> Event:
    return at(media_ms, Failure, code=code, stage=stage, turn=turn, caller_hears=hears, worker="w-9")


def fold(spans: StageSpans, *events: Event) -> list[Span]:
    """Everything that the events finish, each taken when it was said."""
    return [span for event in events for span in spans.apply(event, event.at_us)]


def times(span: Span) -> tuple[float, float]:
    """Begin and end in ms of media time."""
    return (span.start_us - EPOCH_US) / 1000, (span.end_us - EPOCH_US) / 1000


class TestIds:
    def test_the_trace_is_the_call_and_its_root_the_last_half(self) -> None:
        assert f"{trace_id_of(CALL):032x}" == CALL
        assert f"{root_id_of(CALL):016x}" == CALL[16:]

    @pytest.mark.parametrize("call_id", ["c1", "0" * 32, "a" * 16 + "0" * 16, CALL.upper(), CALL + "\n"])
    def test_what_can_be_no_trace_id_is_none(self, call_id: str) -> None:
        assert trace_id_of(call_id) == 0

    def test_ids_are_the_same_everywhere_and_differ_by_what_they_are_about(self) -> None:
        assert turn_id_of(CALL, 1) == span_id_of(CALL, "turn:1") == 0x28D72B283BB40004
        ids = {turn_id_of(CALL, turn) for turn in range(100)} | {turn_id_of(CALL[::-1], 1), root_id_of(CALL)}
        assert len(ids) == 102

    def test_an_utterance_belongs_to_the_turn_that_it_answers(self) -> None:
        assert turn_named(at(0, TurnInterrupted, turn=4, utterance_id=300)) == 3
        assert turn_named(turn_ended(4, 0, 0, 0)) == 4
        assert turn_named(at(0, PlayoutStarted, utterance_id=251, media_time_ms=0)) == 2
        assert turn_named(answered()) is None
        assert turn_named(failed(0, "media_timeout", "edge")) is None
        assert turn_named(failed(0, "turn_stuck", "asr", turn=2)) == 2


class TestASpan:
    def test_it_never_ends_before_it_begins(self) -> None:
        span = OpenSpan("x", 1, 2, 100).end(50, {})
        assert (span.start_us, span.end_us) == (100, 100)

    def test_its_events_are_bounded(self) -> None:
        span = OpenSpan("x", 1, 2, 0)
        for number in range(SPAN_EVENT_LIMIT + 3):
            span.note(Moment("again", number))
        finished = span.end(10, {})
        assert len(finished.moments) == SPAN_EVENT_LIMIT
        assert finished.attributes[DROPPED_EVENTS] == 3

    def test_the_first_failure_that_the_caller_notices_is_its_error(self) -> None:
        span = OpenSpan("x", 1, 2, 0)
        for event in (
            failed(0, "engine_failed", "llm", hears=MENDED),
            failed(1, "worker_lost", "llm"),
            failed(2, "engine_timeout", "llm"),
            failed(3, "stage_down", "llm"),
        ):
            assert isinstance(event, Failure)
            span.fail(event)
        finished = span.end(10, {})
        assert finished.error == "engine_timeout"
        assert [moment.attributes["callbus.failure.code"] for moment in finished.moments] == [
            "engine_failed", "worker_lost", "engine_timeout", "stage_down",
        ]  # fmt: skip


class TestEdge:
    def test_the_call_lasts_from_its_offer_to_its_end(self) -> None:
        (call,) = fold(
            EdgeSpans(OWNER), offered(), answered(),
            at(10, CallHeld, change=1, held=True), at(20, CallHeld, change=2, held=False),
            at(30, DtmfIn, press=1, digit="5"),
            at(40, CallTransferred, target_kind="sip", accepted=False),
            ended(5000),
        )  # fmt: skip
        assert (call.name, call.span_id, call.parent_id) == ("call", root_id_of(CALL), 0)
        assert times(call) == (-500, 5000)
        assert [moment.name for moment in call.moments] == ["answered", "held", "taken back", "dtmf", "transferred"]
        assert call.attributes["callbus.call.result"] == "completed"
        assert call.attributes["callbus.tenant"] == "acme"
        assert not call.error
        assert not any("pii" in name for name in call.attributes)
        assert "5" not in [value for moment in call.moments for value in moment.attributes.values()]

    def test_content_stands_under_pii_alone(self) -> None:
        (call,) = fold(EdgeSpans(READER), offered(), at(30, DtmfIn, press=1, digit="5"), ended(5000))
        assert call.attributes["callbus.pii.caller"] == "+49301234567"
        assert call.moments[0].attributes["callbus.pii.digit"] == "5"

    def test_a_failed_call_is_an_error(self) -> None:
        (call,) = fold(EdgeSpans(OWNER), offered(), ended(5000, CallResult.FAILED, "media_timeout"))
        assert call.error == "media_timeout"

    def test_playout_lasts_from_the_first_frame_to_the_last(self) -> None:
        (playout,) = fold(
            EdgeSpans(OWNER), offered(), answered(),
            at(2100, PlayoutStarted, utterance_id=100, media_time_ms=2080),
            at(2600, PlayoutPaused, utterance_id=100, media_time_ms=2600, why="speech"),
            at(2800, PlayoutResumed, utterance_id=100, media_time_ms=2800, why="noise"),
            at(3000, PlayoutMark, utterance_id=100, index=0, media_time_ms=3000),
            at(3501, PlayoutFinished, utterance_id=100, media_time_ms=3500),
        )  # fmt: skip
        assert (playout.name, playout.parent_id) == ("playout", turn_id_of(CALL, 1))
        assert times(playout) == (2080, 3500)
        assert [moment.name for moment in playout.moments] == ["paused", "resumed"]
        assert playout.attributes["callbus.playout.sentences"] == 1
        assert playout.attributes["callbus.playout.result"] == "finished"

    def test_what_plays_at_the_end_of_the_call_ends_with_it(self) -> None:
        playout, call = fold(
            EdgeSpans(OWNER), offered(), answered(), at(10, PlayoutStarted, utterance_id=0, media_time_ms=10), ended(99)
        )
        assert (playout.name, playout.attributes["callbus.playout.result"]) == ("playout", "call_ended")
        assert call.name == "call"
        assert playout.end_us == call.end_us

    def test_a_flush_of_what_never_played_is_no_span(self) -> None:
        spans = EdgeSpans(OWNER)
        assert fold(spans, offered(), answered(), at(9, PlayoutFlushed, utterance_id=100, media_time_ms=9)) == []


class TestAsr:
    def test_a_turn_lasts_from_the_first_voiced_sample_to_the_last_of_the_answer(self) -> None:
        spans = AsrSpans(OWNER)
        _, heard, turn = fold(
            spans, answered(),
            at(2550, AsrFinal, turn=1, text="4111 1111", through_sequence=120, engine="vosk"),
            turn_ended(1, 1000, 2000, 2555, text="4111 1111", end_of_turn_delay_ms=555, transcription_delay_ms=550),
            at(2700, PlayoutStarted, utterance_id=100, media_time_ms=2700),
            at(2701, TurnMeasured, turn=1, e2e_latency_ms=700.0, end_of_turn_delay_ms=555.0, preemptive="hit"),
            at(5001, PlayoutFinished, utterance_id=100, media_time_ms=5000),
        )  # fmt: skip
        assert (heard.name, heard.parent_id, times(heard)) == ("asr", turn_id_of(CALL, 1), (1000, 2555))
        assert heard.attributes["callbus.engine"] == "vosk"
        assert (turn.name, turn.span_id, turn.parent_id) == ("turn", turn_id_of(CALL, 1), root_id_of(CALL))
        assert times(turn) == (1000, 5000)
        assert turn.attributes["callbus.turn.e2e_latency"] == 0.7
        assert turn.attributes["turn.user_bot_latency_seconds"] == 0.7
        assert turn.attributes["callbus.turn.preemptive"] == "hit"
        assert turn.attributes["turn.number"] == 1
        assert turn.attributes["turn.was_interrupted"] is False
        assert "callbus.turn.barge_in" not in turn.attributes
        assert "4111" not in f"{heard}{turn}"

    def test_the_way_of_the_first_audio_to_the_edge_is_a_hop(self) -> None:
        for hops in (True, False):
            spans = AsrSpans(OWNER._replace(hops=hops))
            found = fold(
                spans, answered(),
                at(30, TtsStarted, turn=0, utterance_id=0, index=0),
                at(90, TtsStarted, turn=0, utterance_id=0, index=1),
                at(47, PlayoutStarted, utterance_id=0, media_time_ms=45),
            )  # fmt: skip
            assert [(span.name, times(span), span.parent_id) for span in found] == (
                [("rt.*.*.audio.out", (30, 45), turn_id_of(CALL, 0))] if hops else []
            )

    def test_the_greeting_is_turn_0(self) -> None:
        (turn,) = fold(AsrSpans(OWNER), answered(), at(900, PlayoutFinished, utterance_id=0, media_time_ms=900))
        assert (turn.attributes["turn.number"], turn.attributes["callbus.turn.why"]) == (0, "greeting")
        assert times(turn) == (0, 900)

    def test_an_interruption_ends_it_where_the_agent_stopped(self) -> None:
        (turn,) = fold(
            AsrSpans(OWNER), answered(), at(20, PlayoutStarted, utterance_id=0, media_time_ms=20),
            at(600, TurnInterrupted, turn=1, utterance_id=0),
            at(610, PlayoutFlushed, utterance_id=0, media_time_ms=605),
        )  # fmt: skip
        assert turn.attributes["turn.was_interrupted"] is True
        assert times(turn) == (0, 605)

    @pytest.mark.parametrize(
        "then", [at(605, PlayoutFlushed, utterance_id=0, media_time_ms=605), turn_ended(1, 590, 900, 1000), ended(2000)]
    )
    def test_an_answer_that_is_void_before_it_is_heard_ends_it_there(self, then: Event) -> None:
        spans = AsrSpans(OWNER)
        fold(spans, answered(), at(600, TurnInterrupted, turn=1, utterance_id=0))
        (turn,) = fold(spans, then)
        assert times(turn) == (0, 600)

    def test_an_answer_that_is_stopped_upon_its_first_frame_ends_with_its_last(self) -> None:
        """What is said because of an event comes before it."""
        (turn,) = fold(
            AsrSpans(OWNER), answered(),
            at(600, TurnInterrupted, turn=1, utterance_id=0),
            at(599, PlayoutStarted, utterance_id=0, media_time_ms=600),
            at(610, PlayoutFlushed, utterance_id=0, media_time_ms=620),
        )  # fmt: skip
        assert times(turn) == (0, 620)

    def test_the_apology_ends_it_and_what_is_said_beside_does_not(self) -> None:
        spans = AsrSpans(OWNER)
        fold(spans, answered(), at(900, PlayoutFinished, utterance_id=0, media_time_ms=900))
        fold(spans, turn_ended(1, 1000, 2000, 2500))
        assert fold(spans, at(3000, PlayoutFinished, utterance_id=101, media_time_ms=3000)) == []
        _, turn = fold(spans, at(4000, PlayoutFinished, utterance_id=150, media_time_ms=4000))
        assert times(turn) == (1000, 4000)

    def test_the_next_turn_and_the_end_of_the_call_end_it_too(self) -> None:
        spans = AsrSpans(OWNER)
        fold(spans, answered())
        (greeting,) = fold(spans, turn_ended(1, 1000, 2000, 2500))
        assert times(greeting) == (0, 1000)
        _, turn = fold(spans, ended(2600))
        assert times(turn) == (1000, 2600)

    def test_a_next_turn_that_is_over_before_the_agent_has_stopped_ends_nothing(self) -> None:
        spans = AsrSpans(OWNER)
        fold(spans, answered(), at(20, PlayoutStarted, utterance_id=0, media_time_ms=20))
        assert fold(spans, at(1500, TurnInterrupted, turn=1, utterance_id=0), turn_ended(1, 1000, 1200, 1500)) == []
        (greeting,) = fold(spans, at(1502, PlayoutFlushed, utterance_id=0, media_time_ms=1250))
        assert greeting.attributes["turn.was_interrupted"] is True
        assert times(greeting) == (0, 1250)
        assert [span.attributes["callbus.turn"] for span in fold(spans, ended(2600))] == [1, 1]

    def test_an_answer_of_nothing_ends_it(self) -> None:
        spans = AsrSpans(OWNER)
        fold(spans, answered(), at(900, PlayoutFinished, utterance_id=0, media_time_ms=900))
        fold(spans, turn_ended(1, 1000, 2000, 2500))
        assert fold(spans, at(2550, LlmDone, turn=1, utterance_id=101, sentences=0)) == []
        _, turn = fold(spans, at(2600, LlmDone, turn=1, utterance_id=100, sentences=0))
        assert times(turn) == (1000, 2600)

    def test_what_was_not_transcribed_has_no_delay_of_it(self) -> None:
        for fields, known in (({"digits": "42"}, False), ({"text": "hello"}, True)):
            spans = AsrSpans(OWNER)
            heard = fold(spans, answered(), turn_ended(1, 1000, 2000, 2500, **fields), ended(3000))[1]
            assert heard.name == "asr"
            assert ("callbus.asr.transcription_delay" in heard.attributes) is known

    def test_failures_stand_in_the_turn_and_what_was_mended_is_no_error(self) -> None:
        spans = AsrSpans(OWNER)
        fold(spans, answered(), failed(2400, "engine_failed", "asr", turn=1, hears=MENDED))
        fold(spans, failed(2410, "engine_failed", "asr", turn=1))
        fold(spans, turn_ended(1, 1000, 2000, 2500))
        heard, turn = fold(spans, failed(2600, "turn_stuck", "asr", turn=1), ended(9000))
        assert heard.error == "engine_failed"
        assert [moment.name for moment in heard.moments] == ["failure", "failure"]
        assert turn.error == "engine_failed"
        assert len(turn.moments) == 3

    def test_a_successor_tells_what_was_heard_before_it_came(self) -> None:
        spans = AsrSpans(OWNER)
        fold(spans, answered(), turn_ended(1, 1000, 2000, 2500, epoch=1))
        heard, turn = fold(spans, at(4000, PlayoutFinished, utterance_id=100, media_time_ms=4000))
        assert (heard.attributes["callbus.epoch"], turn.attributes["callbus.epoch"]) == (1, 2)
        assert heard.attributes["callbus.told_by_successor"] is True

    def test_content_stands_under_pii_alone(self) -> None:
        spans = AsrSpans(READER)
        fold(spans, answered())
        heard, _ = fold(spans, turn_ended(1, 1000, 2000, 2500, text="my name is Nadia", digits="42"), ended(3000))[1:]
        assert heard.attributes["callbus.pii.text"] == "my name is Nadia"
        assert heard.attributes["callbus.pii.digits"] == "42"

    def test_a_call_whose_edge_died_is_told_by_its_owner(self) -> None:
        _, call = fold(AsrSpans(OWNER), offered(), answered(), ended(9000, CallResult.FAILED, EDGE_LOST))
        assert (call.name, call.error, times(call)) == ("call", EDGE_LOST, (-500, 9000))
        assert len(fold(AsrSpans(OWNER), offered(), answered(), ended(9000))) == 1

    def test_an_edge_that_was_taken_for_dead_and_lives_tells_its_call_itself(self) -> None:
        end = ended(9000, CallResult.FAILED, EDGE_LOST)
        assert isinstance(end, CallEnded)
        own = msgspec.structs.replace(end, media=MediaCounts(packets_sent=450))
        assert [span.name for span in fold(AsrSpans(OWNER), offered(), answered(), own)] == ["turn"]
        assert [span.name for span in fold(EdgeSpans(OWNER), offered(), answered(), own)] == ["call"]


class TestLlm:
    def spans(self, owner: Owner = OWNER) -> LlmSpans:
        return LlmSpans(owner, {"openai": Model("openai", "gpt-4.1-mini")})

    def test_an_answer_lasts_from_the_turns_end_received_to_its_done(self) -> None:
        spans = self.spans()
        ending = turn_ended(1, 1000, 2000, 2500, text="hello")
        spans.apply(ending, ending.at_us + 700)
        fold(
            spans,
            at(2600, LlmSentence, turn=1, utterance_id=100, index=0, text="One moment.", filler=True),
            at(2900, LlmSentence, turn=1, utterance_id=100, index=1, text="Your card 4111 is on its way."),
        )
        spans.annotate(1, {"gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 9})
        (answer,) = fold(
            spans,
            at(3000, LlmDone, turn=1, utterance_id=100, sentences=2, ttft_ms=250.0, engine="openai", preemptive="miss"),
        )
        assert (answer.name, answer.parent_id, times(answer)) == ("llm", turn_id_of(CALL, 1), (2500.7, 3000))
        assert [moment.name for moment in answer.moments] == ["filler", "sentence"]
        wanted = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4.1-mini",
            "gen_ai.usage.output_tokens": 9,
            "gen_ai.response.finish_reasons": ("stop",),
            "callbus.llm.ttft": 0.25,
            "callbus.llm.preemptive": "miss",
        }
        assert wanted.items() <= answer.attributes.items()
        assert "4111" not in str(answer)

    def test_content_stands_under_pii_alone(self) -> None:
        spans = self.spans(READER)
        (answer,) = fold(
            spans, turn_ended(1, 0, 0, 10, text="hello"),
            at(20, LlmSentence, turn=1, utterance_id=100, index=0, text="Hi."),
            at(30, LlmDone, turn=1, utterance_id=100, sentences=1),
        )  # fmt: skip
        assert answer.attributes["callbus.pii.input"] == "hello"
        assert answer.moments[0].attributes["callbus.pii.text"] == "Hi."

    @pytest.mark.parametrize("why", ["interrupted", "call_ended"])
    def test_an_answer_that_breaks_off(self, why: str) -> None:
        spans = self.spans()
        fold(spans, answered())
        last = at(50, TurnInterrupted, turn=1, utterance_id=0) if why == "interrupted" else ended(50)
        (answer,) = fold(spans, last)
        assert answer.attributes["callbus.llm.broken_off"] == why
        assert answer.attributes["gen_ai.response.finish_reasons"] == ("cancelled",)
        assert fold(spans, at(60, LlmDone, turn=0, utterance_id=0, sentences=1)) == []

    def test_an_engine_that_fails(self) -> None:
        spans = self.spans()
        fold(spans, turn_ended(1, 0, 0, 10), failed(20, "engine_failed", "tts", turn=1))
        (answer,) = fold(
            spans, failed(30, "stage_down", "llm", turn=1), at(31, LlmDone, turn=1, utterance_id=100, sentences=1)
        )
        assert answer.error == "stage_down"
        assert len(answer.moments) == 1
        assert "gen_ai.response.finish_reasons" not in answer.attributes

    def test_what_an_engine_tells_before_the_turn_has_ended(self) -> None:
        spans = self.spans()
        spans.annotate(1, {"gen_ai.usage.output_tokens": 9, "gen_ai.response.finish_reasons": ("length",)})
        (answer,) = fold(spans, turn_ended(1, 0, 0, 10), at(31, LlmDone, turn=1, utterance_id=100, sentences=1))
        assert answer.attributes["gen_ai.usage.output_tokens"] == 9
        assert answer.attributes["gen_ai.response.finish_reasons"] == ("length",)

    def test_what_is_said_beside_an_answer_is_none(self) -> None:
        spans = self.spans()
        fold(spans, answered(), at(5, TurnAway, turn=0, number=1))
        beside = at(10, LlmSentence, turn=0, utterance_id=1, index=0, text="Are you there?")
        assert fold(spans, beside, at(11, LlmDone, turn=0, utterance_id=1, sentences=1)) == []

    def test_tools(self) -> None:
        spans = self.spans()
        (tool,) = fold(
            spans, turn_ended(1, 0, 0, 10),
            at(20, ToolCalled, turn=1, tool_call_id="t-1", name="find_card", arguments={"digits": "4271"}),
            at(45, ToolReturned, turn=1, tool_call_id="t-1", name="find_card", error="tool_failed"),
        )  # fmt: skip
        assert (tool.name, tool.parent_id, times(tool), tool.error) == (
            "tool", turn_id_of(CALL, 1), (20, 45), "tool_failed",
        )  # fmt: skip
        assert tool.attributes["gen_ai.operation.name"] == "execute_tool"
        assert tool.attributes["gen_ai.tool.name"] == "find_card"
        assert tool.attributes["gen_ai.tool.call.id"] == "t-1"
        assert "4271" not in str(tool)

    def test_tools_content_and_a_tool_that_the_call_does_not_outlive(self) -> None:
        spans = self.spans(READER)
        fold(spans, at(20, ToolCalled, turn=1, tool_call_id="t-1", name="find", arguments={"digits": "4271"}))
        (tool,) = fold(spans, ended(99))
        assert tool.error == "call_ended"
        assert tool.attributes["callbus.pii.arguments"] == '{"digits":"4271"}'


class TestTts:
    def test_a_sentence_lasts_from_its_arrival_to_its_last_audio(self) -> None:
        spans = TtsSpans(OWNER)
        sentence = at(10, LlmSentence, turn=1, utterance_id=100, index=0, text="Hello Nadia.")
        assert spans.apply(sentence, sentence.at_us + 500) == []
        (said,) = fold(
            spans,
            at(60, TtsStarted, turn=1, utterance_id=100, index=0, ttfb_ms=49.5, engine="piper", queue_wait_ms=2.0),
            at(200, TtsDone, turn=1, utterance_id=100, index=0, frames=52, duration_ms=1040),
        )
        assert (said.name, said.parent_id, times(said)) == ("tts", turn_id_of(CALL, 1), (10.5, 200))
        wanted = {"callbus.engine": "piper", "callbus.tts.ttfb": 0.0495, "callbus.tts.audio": 1.04}
        assert wanted.items() <= said.attributes.items()
        assert "Nadia" not in str(said)
        assert "callbus.tts.replaced" not in said.attributes

    def test_content_stands_under_pii_alone(self) -> None:
        spans = TtsSpans(READER)
        fold(spans, at(10, LlmSentence, turn=1, utterance_id=100, index=0, text="Hello Nadia."))
        (said,) = fold(spans, at(20, TtsDone, turn=1, utterance_id=100, index=0, frames=0, duration_ms=0, text=""))
        assert said.attributes["callbus.pii.text"] == "Hello Nadia."
        assert said.attributes["callbus.tts.replaced"] is True

    def test_what_was_ordered_has_no_sentence_on_record(self) -> None:
        (said,) = fold(
            TtsSpans(OWNER),
            at(60, TtsStarted, turn=1, utterance_id=150, index=0, ttfb_ms=40.0),
            at(90, TtsDone, turn=1, utterance_id=150, index=0, frames=5, duration_ms=100),
        )
        assert times(said) == (20, 90)

    def test_an_interruption_breaks_off_what_is_open_and_what_comes_late_is_nothing(self) -> None:
        spans = TtsSpans(OWNER)
        fold(spans, at(10, LlmSentence, turn=1, utterance_id=100, index=0, text="One."))
        fold(spans, at(10, LlmSentence, turn=2, utterance_id=200, index=0, text="Two."))
        (said,) = fold(spans, at(20, TurnInterrupted, turn=2, utterance_id=100))
        assert said.attributes["callbus.tts.broken_off"] is True
        late = at(21, LlmSentence, turn=1, utterance_id=100, index=1, text="Late.")
        assert [times(span) for span in fold(spans, late, ended(30))] == [(10, 30)]

    def test_audio_that_leaves_after_an_interruption_is_no_second_span(self) -> None:
        spans = TtsSpans(OWNER)
        fold(spans, at(100, LlmSentence, turn=1, utterance_id=100, index=0, text="One."))
        (broken_off,) = fold(spans, at(150, TurnInterrupted, turn=2, utterance_id=100))
        assert times(broken_off) == (100, 150)
        assert fold(spans, at(151, TtsStarted, turn=1, utterance_id=100, index=0), ended(9000)) == []

    def test_a_failure_is_of_the_sentence_in_work(self) -> None:
        spans = TtsSpans(OWNER)
        for index in (0, 1):
            fold(spans, at(10, LlmSentence, turn=1, utterance_id=100, index=index, text="Some."))
        fold(spans, failed(15, "engine_failed", "tts", turn=1), failed(16, "engine_failed", "llm", turn=1))
        first, second = fold(
            spans,
            at(20, TtsDone, turn=1, utterance_id=100, index=0, frames=0, duration_ms=0),
            at(30, TtsDone, turn=1, utterance_id=100, index=1, frames=0, duration_ms=0),
        )
        assert (first.error, second.error) == ("engine_failed", "")
