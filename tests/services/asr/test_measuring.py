"""How long each step of a turn took: from events to the fields of ``turn.measured``."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import CallEnded, CallResult, EndedBy
from schemas.llm import LlmDone, LlmSentence
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.tts import TtsStarted
from schemas.turn import TurnEnded, TurnInterrupted, TurnMeasured
from services.asr.measuring import Measured, TurnFacts, TurnMeasures

pytestmark = pytest.mark.unit

EPOCH_US = 1_700_000_000_000_000


def at(ms: float) -> dict[str, Any]:
    """Fields of an event that was said at this media time."""
    return {"call_id": "c1", "at_us": EPOCH_US + int(ms * 1000)}


def ended(turn: int = 1, speech_end_ms: int = 4000, text: str = "where is my card", **rest: Any) -> list[Event]:
    """The caller's words, decided on 500 ms after the last of them."""
    found: list[Event] = []
    if text:
        found.append(
            AsrFinal(**at(speech_end_ms + 450), turn=turn, text=text, through_sequence=1, transcription_delay_ms=450.0)
        )
    end = TurnEnded(
        **at(speech_end_ms + 500), turn=turn, why="silence", text=text, speech_end_ms=speech_end_ms,
        end_of_turn_delay_ms=500.0, **rest,
    )  # fmt: skip
    return [*found, end]


def sentence(utterance_id: int = 100, index: int = 0, *, filler: bool = False, ms: float = 4510) -> LlmSentence:
    turn = utterance_id // 100
    return LlmSentence(**at(ms), turn=turn, utterance_id=utterance_id, index=index, text="It is.", filler=filler)


def done(utterance_id: int = 100, ms: float = 4520, sentences: int = 1, **rest: Any) -> LlmDone:
    fields = {"ttft_ms": 5.0, "ttfs_ms": 8.0, "bus_hop_ms": 1.5, "queue_wait_ms": 0.5, **rest}
    turn = utterance_id // 100
    return LlmDone(**at(ms), turn=turn, utterance_id=utterance_id, sentences=sentences, **fields)


def audio(utterance_id: int = 100, index: int = 0, silence_ms: int = 20, ms: float = 4530) -> TtsStarted:
    return TtsStarted(
        **at(ms), turn=utterance_id // 100, utterance_id=utterance_id, index=index, ttfb_ms=12.0,
        leading_silence_ms=silence_ms, bus_hop_ms=1.0, queue_wait_ms=2.0,
    )  # fmt: skip


def started(utterance_id: int = 100, ms: int = 4540) -> PlayoutStarted:
    return PlayoutStarted(**at(ms), utterance_id=utterance_id, media_time_ms=ms)


def mark(start_ms: int, end_ms: int, index: int = 0, utterance_id: int = 100) -> PlayoutMark:
    return PlayoutMark(
        **at(end_ms), utterance_id=utterance_id, index=index, media_time_ms=end_ms, start_ms=start_ms
    )  # fmt: skip


def paused(ms: int, number: int = 0) -> PlayoutPaused:
    return PlayoutPaused(**at(ms), utterance_id=100, media_time_ms=ms, number=number)


def resumed(ms: int, number: int = 0) -> PlayoutResumed:
    return PlayoutResumed(**at(ms), utterance_id=100, media_time_ms=ms, number=number)


def finished(ms: int, utterance_id: int = 100) -> PlayoutFinished:
    return PlayoutFinished(**at(ms), utterance_id=utterance_id, media_time_ms=ms)


def flushed(ms: int, utterance_id: int = 100, index: int = 0, sent_ms: int = 0) -> PlayoutFlushed:
    return PlayoutFlushed(**at(ms), utterance_id=utterance_id, media_time_ms=ms, index=index, sent_ms=sent_ms)


def interrupted(speech_start_ms: int, turn: int = 2, utterance_id: int = 100) -> TurnInterrupted:
    return TurnInterrupted(
        **at(speech_start_ms + 500), turn=turn, utterance_id=utterance_id, speech_start_ms=speech_start_ms
    )


def call_ended(ms: int = 20_000) -> CallEnded:
    return CallEnded(
        **at(ms), edge="e1", result=CallResult.COMPLETED, reason="caller_hung_up", ended_by=EndedBy.CALLER
    )  # fmt: skip


ANSWERED = [*ended(), sentence(), done(), audio(), started()]


def run(events: list[Event], late_ms: float = 2.0) -> list[Measured]:
    """Everything that is measured, each event received ``late_ms`` after it was said."""
    measures = TurnMeasures()
    return [each for event in events for each in measures.apply(event, event.at_us + int(late_ms * 1000))]


def one(events: list[Event]) -> Measured:
    (found,) = run(events)
    return found


# -- an answer ---------------------------------------------------------------------------------------------------------


def test_a_turn_is_measured_at_the_first_audible_sample_of_its_answer() -> None:
    assert run(ANSWERED[:-1]) == []
    found = one(ANSWERED)
    assert found._replace(bus_hop_ms={}) == Measured(
        turn=1,
        end_of_turn_delay_ms=500.0,
        transcription_delay_ms=450.0,
        llm_node_ttft_ms=5.0,
        llm_node_ttfs_ms=8.0,
        tts_node_ttfb_ms=12.0,
        playback_latency_ms=10.0,
        e2e_latency_ms=4540 + 20 - 4000,
        queue_wait_ms={"llm": 0.5, "tts": 2.0},
    )


def test_hops_are_those_that_the_stages_say_and_those_seen_from_here() -> None:
    assert one(ANSWERED).bus_hop_ms == {
        "call.*.*.turn.ended": 1.5,
        "call.*.*.llm.sentence": 1.0,
        "call.*.*.llm.done": 2.0,
        "call.*.*.tts.started": 2.0,
        "call.*.*.playout.started": 2.0,
    }


def test_the_fields_are_those_of_the_event() -> None:
    event = TurnMeasured(**one(ANSWERED)._asdict(), **at(5000))
    assert event.e2e_latency_ms == 560.0


def test_the_order_in_which_other_stages_are_heard_changes_nothing() -> None:
    final, *rest = ANSWERED
    for order in itertools.permutations(rest):
        assert one([final, *order])._replace(bus_hop_ms={}) == one(ANSWERED)._replace(bus_hop_ms={})


def test_an_event_that_comes_again_changes_nothing() -> None:
    assert run([*ANSWERED, *ANSWERED, finished(6000), call_ended()]) == run(ANSWERED)


def test_the_word_of_the_llm_stage_is_waited_for_while_the_answer_plays() -> None:
    without = [event for event in ANSWERED if not isinstance(event, LlmDone)]
    assert run(without) == []
    assert one([*without, done(ms=5000)]).llm_node_ttft_ms == 5.0
    late = one([*without, finished(6000), done(ms=7000)])
    assert (late.llm_node_ttft_ms, late.e2e_latency_ms) == (None, 560.0)


def test_a_turn_of_keys_has_no_transcript() -> None:
    found = one([*ended(text="", digits="4271"), *ANSWERED[2:]])
    assert (found.transcription_delay_ms, found.end_of_turn_delay_ms) == (None, 500.0)


def test_what_nobody_measured_is_left_out() -> None:
    silent = done(bus_hop_ms=0.0, queue_wait_ms=0.0)
    found = one([*ended(), sentence(), silent, audio(), started()])
    assert "call.*.*.turn.ended" not in found.bus_hop_ms
    assert found.queue_wait_ms == {"llm": 0.0, "tts": 2.0}, "a wait too short for the clock is a wait"


def test_a_clock_that_is_behind_gives_no_negative_times() -> None:
    (found,) = run([*ended(), sentence(), done(), audio(ms=4600), started()], late_ms=-5)
    assert found.playback_latency_ms == 0.0
    assert min(found.bus_hop_ms.values()) == 0.0


@pytest.mark.parametrize("result", ["hit", "miss", ""])
def test_whether_it_was_prepared(result: str) -> None:
    assert one([*ended(), sentence(), done(preemptive=result), audio(), started()]).preemptive == result


# -- fillers -----------------------------------------------------------------------------------------------------------


def with_filler() -> list[Event]:
    return [
        *ended(), sentence(filler=True, ms=6000), audio(ms=6010, silence_ms=30), started(ms=6020), mark(6020, 7000),
        sentence(index=1, ms=9000), audio(index=1, ms=9010, silence_ms=40), done(ms=9020, sentences=2),
    ]  # fmt: skip


def test_a_filler_is_no_answer() -> None:
    assert run(with_filler()) == []
    found = one([*with_filler(), mark(9050, 10_000, index=1)])
    assert found.filler_latency_ms == 6020 + 30 - 4000
    assert found.e2e_latency_ms == 9050 + 40 - 4000
    assert found.playback_latency_ms == 40.0
    assert found.tts_node_ttfb_ms == 12.0


def test_an_answer_after_a_filler_that_is_cut_is_counted_from_what_was_sent() -> None:
    cut = flushed(10_050, index=1, sent_ms=1000)
    found = one([*with_filler(), cut])
    assert (found.e2e_latency_ms, found.playback_latency_ms) == (9050 + 40 - 4000, 40.0)
    held = [paused(9550), resumed(9950), flushed(10_450, index=1, sent_ms=1000)]
    assert one([*with_filler(), *held]).e2e_latency_ms == 9050 + 40 - 4000
    earlier = [paused(6500), resumed(6900), cut]
    assert one([*with_filler(), *earlier]).e2e_latency_ms == 9050 + 40 - 4000


def test_a_filler_that_was_all_that_was_heard() -> None:
    events = [*ended(), sentence(filler=True), audio(), started(), flushed(5000, sent_ms=460)]
    found = one(events)
    assert (found.filler_latency_ms, found.e2e_latency_ms) == (560.0, None)


def test_a_filler_within_the_answer_bridges_nothing_before_it() -> None:
    events = [*ended(), sentence(), sentence(index=1, filler=True), audio(), audio(index=1), done(), started()]
    assert one(events).filler_latency_ms is None


def test_a_mark_without_its_begin_follows_the_one_before() -> None:
    events = [*with_filler(), mark(0, 10_000, index=1)]
    assert one(events).e2e_latency_ms == 7000 + 40 - 4000


def test_a_first_sentence_that_could_not_be_synthesised() -> None:
    events = [
        *ended(), sentence(), sentence(index=1), audio(index=1), done(sentences=2), started(), mark(4540, 5540, index=1)
    ]  # fmt: skip
    assert one(events).e2e_latency_ms == 560.0


# -- held and cut ------------------------------------------------------------------------------------------------------


def test_an_answer_held_within_its_leading_silence_is_audible_after_it() -> None:
    begun = [*ended(), sentence(), audio(silence_ms=100), started(), paused(4600)]
    assert run([*begun, done()]) == []
    assert one([*begun, done(), resumed(5000)]).e2e_latency_ms == 5000 + 40 - 4000


def test_an_answer_of_which_something_was_heard_counts_and_one_cut_before_that_does_not() -> None:
    base = [*ended(), sentence(), audio(silence_ms=100), started()]
    assert one([*base, flushed(4800, sent_ms=260)]).e2e_latency_ms == 640.0
    assert one([*base, flushed(4600, sent_ms=60)]).e2e_latency_ms is None
    assert one([*base, paused(4600), flushed(4600, sent_ms=60)]).e2e_latency_ms is None


def test_sound_without_a_word_from_tts_counts_from_its_first_frame() -> None:
    assert one([*ended(), sentence(), started(), finished(5000)]).e2e_latency_ms == 540.0


# -- no answer ---------------------------------------------------------------------------------------------------------


def test_a_turn_without_answer_is_measured_at_the_end_of_the_next_or_of_the_call() -> None:
    found = run([*ended(), *ended(2, 9000)])
    assert [(each.turn, each.e2e_latency_ms, each.end_of_turn_delay_ms) for each in found] == [(1, None, 500.0)]
    found = run([*ended(), *ended(2, 9000), call_ended()])
    assert [each.turn for each in found] == [1, 2]
    assert found[1].llm_node_ttft_ms is None


def test_an_apology_is_no_answer() -> None:
    events = [*ended(), audio(150), started(150, 9000), finished(10_000, 150)]
    assert run(events) == []
    assert one([*events, call_ended()]).e2e_latency_ms is None


def test_the_greeting_is_no_turn() -> None:
    assert run([sentence(0), done(0), audio(0), started(0, 40), finished(2000, 0), call_ended()]) == []


# -- barge-in ----------------------------------------------------------------------------------------------------------


SECOND = [*ended(2, 9000), sentence(200, ms=9510), done(200, 9520), audio(200, ms=9530), started(200, 9540)]


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        pytest.param([paused(7260), flushed(7260)], 260.0, id="held, then flushed"),
        pytest.param([flushed(7520)], 520.0, id="flushed at once"),
        pytest.param(
            [paused(6000), resumed(6500), paused(7260, 1), flushed(7260)], 260.0, id="a pause before counts not"
        ),
        pytest.param([paused(7260), resumed(7400), flushed(7520)], 520.0, id="taken back, then flushed"),
        pytest.param([paused(6800), flushed(6800)], 0.0, id="held before the caller spoke"),
        pytest.param([], None, id="it has come to its end by itself"),
    ],
)
def test_barge_in_is_from_the_first_voiced_sample_to_the_end_of_the_last_packet(
    stop: list[Event], expected: float | None
) -> None:
    found = run([*ANSWERED, *stop, interrupted(7000), *SECOND])
    assert [(each.turn, each.barge_in_ms) for each in found] == [(1, None), (2, expected)]


def test_an_answer_stopped_before_it_was_heard_is_no_barge_in() -> None:
    found = run([*ended(), interrupted(4600), flushed(5000), *SECOND])
    assert [each.barge_in_ms for each in found] == [None, None]


def test_of_several_stopped_utterances_the_slowest_counts() -> None:
    apology = [started(101, 6000), interrupted(6500, utterance_id=101), flushed(6600, 101)]
    found = run([*ANSWERED, interrupted(4800), flushed(5300), *apology, interrupted(6500, utterance_id=101), *SECOND])
    assert found[-1].barge_in_ms == 500.0


# -- a successor -------------------------------------------------------------------------------------------------------


def test_a_successor_does_not_say_again_what_stands_in_the_record() -> None:
    measures = TurnMeasures()
    for event in [*ANSWERED, TurnMeasured(**run(ANSWERED)[0]._asdict(), **at(4545)), *ended(2, 9000)]:
        measures.fold(event)
    assert measures.due() == []
    assert measures.apply(call_ended(), EPOCH_US)[0].turn == 2


def test_a_successor_says_what_its_predecessor_did_not() -> None:
    measures = TurnMeasures()
    for event in ANSWERED:
        measures.fold(event)
    assert [each.turn for each in measures.due()] == [1]
    assert measures.due() == []
    assert measures.open_turns() == []


def test_a_long_call_is_forgotten() -> None:
    measures = TurnMeasures()
    for turn in range(1, 200):
        for event in (*ended(turn, turn * 9000), started(turn * 100, turn * 9000 + 540), flushed(0, turn * 100)):
            measures.apply(event, EPOCH_US)
    kept = (measures._ended, measures._finals, measures._playouts, measures._hops)
    assert max(len(each) for each in kept) <= 3


def test_turns_that_are_not_measured_yet_can_be_looked_at() -> None:
    measures = TurnMeasures()
    for event in ended():
        measures.fold(event)
    assert [each.end_of_turn_delay_ms for each in measures.open_turns()] == [500.0]


def test_facts_of_a_turn_for_its_line() -> None:
    measures = TurnMeasures()
    final, end = ended(2)
    interrupted = TurnInterrupted(**at(4100), turn=2, utterance_id=100, speech_start_ms=4000)
    for event in (final, end, interrupted, sentence(200), done(200, engine="scripted"), audio(200), started(200, 4600)):
        measures.fold(event)
    facts = measures.facts(2)
    assert (facts.why, facts.interrupted_agent) == ("silence", True)
    assert facts.engines["llm"] == "scripted"
    assert measures.facts(7) == TurnFacts(engines={"asr": "", "llm": "", "tts": ""})
