"""Which spans go out: hops, sampling, calls that are kept after all, takeovers, workers that stood still."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bus import tracing_calls
from bus.metrics import REGISTRY
from bus.spans import Span, root_id_of, turn_id_of
from bus.spans_asr import AsrSpans
from bus.spans_edge import EdgeSpans
from bus.spans_llm import LlmSpans
from bus.tracing_calls import HANDED_OVER_S, LINGER_S, CallTraces, Rules, is_sampled
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, CallResult, EndedBy
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence
from schemas.playout import PlayoutFinished
from schemas.turn import TurnEnded, TurnMeasured

pytestmark = pytest.mark.unit

CALL = "01a1f8b4d03b7720948db586252f54fb"
OTHER = "01a1f8b4d03b7720c48db586252f54fb"
START_US = 1_000_000_000
FOLDS = {"edge": EdgeSpans, "asr": AsrSpans, "llm": LlmSpans}


def at(ms: float, event_type: type[Event], call_id: str = CALL, **fields: Any) -> Event:
    return event_type(call_id=call_id, at_us=START_US + round(ms * 1000), **fields)


def offered(call_id: str = CALL) -> CallOffered:
    return CallOffered(call_id=call_id, at_us=START_US, edge="edge-1")


def answered(call_id: str = CALL) -> Event:
    return at(10, CallAnswered, call_id, edge="edge-1", codec="PCMU", media_epoch_us=START_US)


def ended(ms: float, result: CallResult = CallResult.COMPLETED, call_id: str = CALL) -> Event:
    return at(ms, CallEnded, call_id, edge="edge-1", result=result, reason="x", ended_by=EndedBy.CALLER)


def turn_ended(ms: float, turn: int = 1, epoch: int = 1) -> Event:
    return at(ms, TurnEnded, turn=turn, why="silence", epoch=epoch)


def kept(why: str) -> float:
    return REGISTRY.get_sample_value("callbus_traces_kept_total", {"why": why}) or 0.0


def dropped_spans() -> float:
    return REGISTRY.get_sample_value("callbus_spans_dropped_total") or 0.0


class Process:
    """The traces of one process with everything around it in hand."""

    def __init__(self, service: str, **rules: Any) -> None:
        self.out: list[tuple[int, Span]] = []
        self.asked: list[str] = []
        self.passes = True
        self.now = 0.0
        self.traces = CallTraces(
            service,
            f"{service}-1",
            Rules(**{"hops": False, **rules}),
            fold=FOLDS[service],
            emit=lambda trace_id, span: self.out.append((trace_id, span)),
            passes=lambda: self.passes,
            ask=self.asked.append,
            now=lambda: self.now,
        )

    @property
    def names(self) -> list[str]:
        return [span.name for _, span in self.out]

    def hear(self, *events: Event, live: bool = True) -> None:
        for event in events:
            self.traces.heard(event, event.at_us + 1000, live)

    def say(self, *events: Event) -> None:
        for event in events:
            self.traces.said(event)


def edge_with_a_call(**rules: Any) -> Process:
    process = Process("edge", **rules)
    process.say(offered(), answered())
    return process


def handed_over() -> Process:
    """A span of its call is kept back, and another worker has the call."""
    process = Process("asr", sample_ratio=0.0)
    process.traces.claimed(offered(), 1, False, START_US)
    process.hear(answered())
    process.say(turn_ended(100))
    process.traces.left(CALL)
    return process


class TestOut:
    def test_the_edge_begins_with_its_own_offer(self) -> None:
        process = edge_with_a_call()
        process.say(ended(5000))
        ((trace_id, span),) = process.out
        assert f"{trace_id:032x}" == CALL
        assert span.name == "call"

    def test_a_stage_begins_with_its_claim_and_folds_its_own_events_once(self) -> None:
        process = Process("asr")
        process.hear(answered())
        assert process.traces.calls == 0
        process.traces.claimed(offered(), 1, False, START_US)
        process.hear(answered())
        process.say(turn_ended(100))
        process.hear(turn_ended(100))
        assert process.names == ["turn"]
        process.hear(ended(200))
        assert process.names == ["turn", "asr", "turn"]

    def test_a_call_id_that_is_no_trace_id_has_no_trace(self) -> None:
        process = Process("edge")
        process.say(offered("c1"), ended(10, call_id="c1"))
        assert process.out == []

    def test_what_no_event_holds_reaches_the_open_span(self) -> None:
        process = Process("llm")
        process.traces.claimed(offered(), 1, False, START_US)
        process.hear(turn_ended(100))
        process.traces.annotate(CALL, 1, {"gen_ai.usage.input_tokens": 3})
        process.traces.annotate(OTHER, 1, {"gen_ai.usage.input_tokens": 4})
        process.say(at(200, LlmDone, turn=1, utterance_id=100, sentences=0, epoch=1))
        assert process.out[0][1].attributes["gen_ai.usage.input_tokens"] == 3


class TestHops:
    def process(self) -> Process:
        process = Process("llm", hops=True)
        process.traces.claimed(offered(), 1, False, START_US + 4000)
        return process

    def test_from_being_said_until_received_named_by_the_template(self) -> None:
        process = self.process()
        process.hear(answered(), turn_ended(100))
        claim, call, turn = [span for _, span in process.out]
        assert process.names == ["call.*.*.call.offered", "call.*.*.call.answered", "call.*.*.turn.ended"]
        assert (claim.start_us, claim.end_us) == (START_US, START_US + 4000)
        assert (call.parent_id, turn.parent_id) == (root_id_of(CALL), turn_id_of(CALL, 1))
        assert turn.end_us - turn.start_us == 1000
        assert turn.consumer
        wanted = {"callbus.hop.from": "asr", "callbus.hop.to": "llm", "callbus.turn": 1}
        assert wanted.items() <= turn.attributes.items()

    def test_what_is_read_from_the_stream_or_leads_to_nothing_is_none(self) -> None:
        process = self.process()
        process.out.clear()
        process.hear(answered(), live=False)
        process.hear(at(20, LlmSentence, turn=0, utterance_id=0, index=0, text="Hi.", epoch=1))
        assert process.out == []

    def test_a_clock_that_is_behind_makes_no_negative_span(self) -> None:
        process = self.process()
        process.traces.heard(turn_ended(100), START_US, True)
        span = process.out[-1][1]
        assert span.end_us == span.start_us

    def test_none_where_they_are_switched_off(self) -> None:
        process = Process("llm")
        process.traces.claimed(offered(), 1, False, START_US)
        process.hear(turn_ended(100))
        assert process.out == []


class TestSampling:
    def test_by_the_random_half_of_the_id(self) -> None:
        assert is_sampled(int(CALL, 16), 1.0)
        assert not is_sampled(int(CALL, 16), 0.0)
        assert is_sampled(int(CALL, 16), 0.6)
        assert not is_sampled(int(OTHER, 16), 0.6)

    def test_it_is_the_ratio_samplers_own_decision(self) -> None:
        from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

        for ratio in (0.1, 0.5, 0.77):
            for number in range(50):
                trace_id = int(CALL, 16) ^ (number * 0x9E3779B97F4A7C15 & ((1 << 64) - 1))
                decision = TraceIdRatioBased(ratio).should_sample(None, trace_id, "x").decision
                assert (decision is Decision.RECORD_AND_SAMPLE) == is_sampled(trace_id, ratio)

    def test_what_is_not_sampled_is_kept_back_and_forgotten(self) -> None:
        process = edge_with_a_call(sample_ratio=0.0)
        process.say(ended(5000))
        assert (process.out, process.traces.kept_back) == ([], 1)
        assert not process.traces.sampled(CALL)
        process.now = LINGER_S - 1
        process.traces.sweep()
        assert process.traces.kept_back == 1
        process.now = LINGER_S
        process.traces.sweep()
        assert (process.traces.kept_back, process.traces.calls) == (0, 0)
        assert process.asked == []

    @pytest.mark.parametrize(
        ("event", "why"),
        [
            (at(50, Failure, code="engine_failed", stage="llm"), "failure"),
            (at(50, TurnMeasured, turn=1, e2e_latency_ms=2001.0), "slow_turn"),
            (ended(50, CallResult.FAILED), "failed_call"),
        ],
    )
    def test_an_error_or_a_slow_turn_keeps_it_and_everybody_is_told(self, event: Event, why: str) -> None:
        before = kept(why)
        process = edge_with_a_call(sample_ratio=0.0)
        process.say(event)
        if not isinstance(event, CallEnded):
            process.say(ended(60))
        assert process.names == ["call"]
        assert process.asked == [CALL]
        assert kept(why) == before + 1

    @pytest.mark.parametrize(
        "event", [at(50, TurnMeasured, turn=1, e2e_latency_ms=1999.0), at(50, TurnMeasured, turn=1), ended(50)]
    )
    def test_what_is_no_reason(self, event: Event) -> None:
        process = edge_with_a_call(sample_ratio=0.0)
        process.say(event)
        assert (process.out, process.asked) == ([], [])

    def test_what_others_want_to_keep_goes_out_also_after_the_end(self) -> None:
        process = edge_with_a_call(sample_ratio=0.0)
        process.say(ended(5000))
        process.traces.keep(CALL)
        assert process.names == ["call"]
        assert (process.traces.kept_back, process.asked) == (0, [])
        assert process.traces.sampled(CALL)

    def test_a_successor_knows_what_was_kept_before_it_came(self) -> None:
        process = Process("asr", sample_ratio=0.0)
        process.traces.keep(CALL)
        process.traces.claimed(offered(), 2, True, START_US)
        process.hear(answered(), live=False)
        process.say(turn_ended(100, epoch=2))
        assert process.names == ["turn"]

    def test_of_a_sampled_call_nobody_is_asked(self) -> None:
        process = edge_with_a_call()
        process.say(at(50, Failure, code="engine_failed", stage="edge"))
        assert process.asked == []

    def test_memory_is_bounded_by_spans(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tracing_calls, "SPAN_LIMIT", 2)
        before = dropped_spans()
        process = Process("edge", sample_ratio=0.0)
        for number in range(4):
            call_id = f"{CALL[:-1]}{number}"
            process.say(offered(call_id), ended(10, call_id=call_id))
        assert process.traces.kept_back == 2
        assert dropped_spans() == before + 2
        for number in range(4):
            process.traces.keep(f"{CALL[:-1]}{number}")
        assert [f"{trace_id:032x}"[-1] for trace_id, _ in process.out] == ["2", "3"]

    def test_memory_is_bounded_by_calls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tracing_calls, "CALL_LIMIT", 2)
        process = Process("edge", sample_ratio=0.0)
        for number in range(4):
            process.say(offered(f"{CALL[:-1]}{number}"))
            process.traces.keep(f"{OTHER[:-1]}{number}")
        assert process.traces.calls == 2
        assert not process.traces.sampled(f"{OTHER[:-1]}0")


class TestTakeover:
    def successor(self, silent_ms: int) -> Process:
        """Took over at 5,000 ms from a worker that was silent for so long."""
        process = Process("asr")
        process.say(at(5000, Failure, code="worker_lost", stage="asr", worker="asr-0", gap_ms=silent_ms, epoch=2))
        process.traces.claimed(offered(), 2, True, START_US + 5_001_000)
        process.hear(answered(), live=False)
        return process

    def test_the_turn_goes_on_and_is_told_once_with_the_new_epoch(self) -> None:
        process = self.successor(silent_ms=500)
        process.hear(
            at(900, PlayoutFinished, utterance_id=0, media_time_ms=900),
            turn_ended(2000, epoch=1),
            live=False,
        )
        assert process.out == []
        process.hear(at(6000, PlayoutFinished, utterance_id=100, media_time_ms=6000))
        assert process.names == ["asr", "turn"]
        assert process.out[1][1].attributes["callbus.epoch"] == 2
        assert process.out[1][1].span_id == turn_id_of(CALL, 1)

    def test_what_ended_while_nobody_owned_the_call_is_told(self) -> None:
        process = self.successor(silent_ms=500)
        process.hear(at(4400, PlayoutFinished, utterance_id=0, media_time_ms=4400), live=False)
        assert process.out == []
        process = self.successor(silent_ms=500)
        process.hear(at(4600, PlayoutFinished, utterance_id=0, media_time_ms=4600), live=False)
        assert process.names == ["turn"]

    def test_without_a_death_everything_before_the_claim_is_the_predecessors(self) -> None:
        process = Process("asr")
        process.traces.claimed(offered(), 2, True, START_US + 5_000_000)
        process.hear(answered(), at(4999, PlayoutFinished, utterance_id=0, media_time_ms=4999), live=False)
        assert process.out == []

    def test_a_successors_word_ends_it(self) -> None:
        process = Process("asr")
        process.traces.claimed(offered(), 1, False, START_US)
        process.hear(answered(), turn_ended(100, epoch=2), ended(200))
        assert process.out == []

    def test_what_is_open_is_left_to_the_successor(self) -> None:
        process = Process("asr")
        process.traces.claimed(offered(), 1, False, START_US)
        process.hear(answered())
        process.traces.left(CALL)
        process.hear(ended(200))
        assert (process.out, process.traces.calls) == ([], 0)

    def test_what_was_kept_back_of_it_may_yet_be_asked_for(self) -> None:
        process = handed_over()
        process.now = HANDED_OVER_S - 1
        process.traces.sweep()
        process.traces.keep(CALL)
        assert process.names == ["turn"]
        process.now = HANDED_OVER_S
        process.traces.sweep()
        assert process.traces.calls == 0

    def test_a_long_call_that_was_handed_over_is_kept_to_its_end(self) -> None:
        process = handed_over()
        for minute in range(1, 50):
            process.now = 60.0 * minute
            process.traces.sweep()
        process.traces.keep(CALL)
        assert process.names == ["turn"]

    def test_it_goes_first_where_there_is_no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        process = Process("asr", sample_ratio=0.0)
        for call_id in (OTHER, CALL):
            process.traces.claimed(offered(call_id), 1, False, START_US)
            process.hear(msgspec.structs.replace(answered(), call_id=call_id))
            process.say(msgspec.structs.replace(turn_ended(100), call_id=call_id))
        assert process.traces.kept_back == 2
        process.traces.left(CALL)
        monkeypatch.setattr(tracing_calls, "SPAN_LIMIT", 3)
        process.say(msgspec.structs.replace(turn_ended(300), turn=2, call_id=OTHER))  # two spans
        process.traces.keep(CALL)
        assert process.out == []
        process.traces.keep(OTHER)
        assert [f"{trace_id:032x}" for trace_id, _ in process.out] == [OTHER] * 3

    def test_a_call_of_which_nothing_was_kept_back_is_forgotten_at_once(self) -> None:
        process = Process("asr", sample_ratio=0.0)
        process.traces.claimed(offered(), 1, False, START_US)
        process.traces.left(CALL)
        assert process.traces.calls == 0

    def test_a_call_that_comes_back_brings_what_was_kept_back(self) -> None:
        process = Process("asr", sample_ratio=0.0)
        process.traces.claimed(offered(), 1, False, START_US)
        process.hear(answered())
        process.say(turn_ended(100))
        process.traces.left(CALL)
        process.traces.claimed(offered(), 3, True, START_US + 200_000)
        process.traces.keep(CALL)
        assert process.names == ["turn"]


class TestAWorkerThatStoodStill:
    def process(self) -> Process:
        process = Process("asr")
        process.traces.claimed(offered(), 1, False, START_US)
        process.hear(answered())
        process.passes = False
        process.say(turn_ended(100))
        assert process.out == []
        return process

    def test_what_it_finished_goes_out_once_it_knows_that_it_owns_the_call(self) -> None:
        process = self.process()
        process.passes = True
        process.traces.release_held()
        assert process.names == ["turn"]
        assert process.traces.kept_back == 0

    def test_and_in_order_with_what_follows(self) -> None:
        process = self.process()
        process.passes = True
        process.hear(ended(200))
        assert process.names == ["turn", "asr", "turn"]

    def test_and_never_where_it_does_not(self) -> None:
        process = self.process()
        process.traces.left(CALL)
        process.passes = True
        process.traces.release_held()
        assert process.out == []
        assert process.traces.kept_back == 0
