"""A call folded into what a person reads: transcript, latencies, heard text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import pytest

from ops.callview import LATENCY_NAMES, describe_failure, view_of
from ops.commands.show import Shown, hide_content, text_lines
from ops.page import latency_lines, transcript_lines, waterfall
from ops.session import as_json_text
from schemas.asr import AsrFinal
from schemas.base import Event, type_name
from schemas.call import CallAnswered, CallEnded, CallHeld, CallOffered, CallResult, DtmfIn, EndedBy
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, ToolReturned
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.tts import SpokenWord, TtsDone, TtsStarted
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnResumed
from tests.ops.talk import at, caller, long_call, measured_by, plays, say

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
    heard = PlayoutMark(**CALL, utterance_id=0, index=1, media_time_ms=2000)
    finished = PlayoutFinished(**CALL, utterance_id=0, media_time_ms=2000)
    view = view_of([*greeting(), heard, finished, *finished_turn()])
    assert [(line.at_ms, line.speaker, line.text) for line in view.lines] == [
        (40, "agent", "Welcome to the bank. How can I help you?"),
        (3000, "caller", "where is my card"),
        (4750, "agent", "It was sent on Monday."),
    ]
    assert view.state == "active"
    assert view.events == 19


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
    words = tuple(
        SpokenWord(text=word, start_ms=place * 200, end_ms=place * 200 + 200)
        for place, word in enumerate(["It", "was", "sent", "on", "Monday."])
    )
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


def page_end() -> list[Event]:
    return [
        CallEnded(
            **CALL, edge="e1", result=CallResult.COMPLETED, reason="caller_hung_up", ended_by=EndedBy.CALLER,
            duration_ms=9000,
        )
    ]  # fmt: skip


def page() -> tuple[Shown, str]:
    failure = Failure(**CALL, code="bus_disconnected", stage="edge", gap_ms=420, detail="server restarted")
    view = view_of([*greeting(), *finished_turn(), failure, *page_end()])
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


def test_a_call_without_a_turn_has_no_empty_table() -> None:
    answered = CallAnswered(**CALL, edge="e1", codec="PCMU", media_epoch_us=1_000_000)
    text = "\n".join(text_lines(Shown(view_of([answered, *page_end()]), (), ())))
    assert "latency" not in text
    assert "\n\n\n" not in text


def test_content_can_be_hidden() -> None:
    shown, _ = page()
    hide_content(shown.view)
    text = "\n".join(text_lines(shown))
    assert "card" not in text.replace("intent card", "").replace("card_status", "")
    assert "[4 words]" in text


# -- a long conversation -----------------------------------------------------------------------------------------------


def lines(events: Sequence[Event]) -> list[str]:
    return transcript_lines(view_of(events))


def test_what_happened_to_the_floor_stands_between_the_words() -> None:
    assert [line.split("s  ", 1)[1].strip() for line in lines(long_call())] == [
        "agent   Welcome to Example Bank. How can I help you?",
        "[paused 0.6 s: noise]",
        "caller  where is my credit card",
        "agent   Your card was sent out on Monday, [interrupted]",
        "[interruption (words): the agent is silent after 260 ms]",
        "caller  no I mean the other card",
        "agent   [filler] Let me look that up.",
        "agent   It is on its way.",
        "[nobody has spoken for 15.0 s: the agent asks]",
        "agent   Are you still there?",
        "caller  yes",
        "[no answer: llm gave no sign for 12000 ms]",
        "agent   I am sorry, something went wrong.",
    ]


def test_words_of_a_sentence_that_only_the_tts_stage_knows() -> None:
    assert not [event for event in long_call() if isinstance(event, LlmSentence) and event.utterance_id == 399]
    assert view_of(long_call()).lines[-1].text == "I am sorry, something went wrong."


def test_a_pause_that_the_edge_took_back_by_itself() -> None:
    events = [
        *say(0, 0, 5, "Welcome to Example Bank."),
        plays(0, 40),
        PlayoutPaused(**at(500), utterance_id=0, media_time_ms=500),
        TurnResumed(**at(2600), turn=1, utterance_id=0, media_time_ms=2500, why="silence"),
        PlayoutResumed(**at(2500), utterance_id=0, media_time_ms=2500, why="limit"),
        PlayoutPaused(**at(2700), utterance_id=0, media_time_ms=2700, number=1),
    ]
    found = [(pause.duration_ms, pause.why) for pause in view_of(events).pauses]
    assert found == [(2000, "limit"), (None, "")]
    assert [line[12:].strip() for line in lines(events)[-2:]] == ["[paused 2.0 s: limit]", "[paused]"]


def test_words_before_a_pause_were_heard_also_where_the_call_ends_in_it() -> None:
    held = PlayoutPaused(**at(620), utterance_id=0, media_time_ms=620, index=0, sent_ms=580)
    view = view_of([*say(0, 0, 5, "Welcome to Example Bank."), plays(0, 40), held])
    assert [line.text for line in view.lines] == ["Welcome to"]


def heard_as(turn: int, start_ms: int, end_ms: int, text: str = "") -> AsrFinal:
    return AsrFinal(
        **at(end_ms + 300), turn=turn, text=text, through_sequence=1, speech_start_ms=start_ms, speech_end_ms=end_ms
    )


def test_words_of_a_listener_stand_in_the_pause_that_they_made_and_can_be_hidden() -> None:
    events = [*say(0, 0, 5, "Welcome to Example Bank."), plays(0, 40)]
    events += [
        PlayoutPaused(**at(620), utterance_id=0, media_time_ms=620, sent_ms=580),
        heard_as(1, 380, 800, "uh huh"),
        TurnResumed(**at(1200), turn=1, utterance_id=0, media_time_ms=1200, why="backchannel", speech_start_ms=380),
        PlayoutResumed(**at(1220), utterance_id=0, media_time_ms=1220, why="backchannel"),
    ]
    view = view_of(events)
    assert "[paused 0.6 s: backchannel, 'uh huh']" in transcript_lines(view)[-1]
    hide_content(view)
    assert "[paused 0.6 s: backchannel, '[2 words]']" in transcript_lines(view)[-1]
    assert not view.unanswered


def test_a_sound_that_nothing_came_of_is_told() -> None:
    view = view_of([heard_as(1, 5231, 6159), heard_as(1, 9000, 9000), *caller(1, 11_000, 12_000, "hello")])
    assert [(each.at_ms, each.duration_ms) for each in view.unanswered] == [(5231, 928)]
    assert [line[11:].strip() for line in transcript_lines(view)] == [
        "[0.9 s of sound, no words were understood: not answered]",
        "caller  hello",
    ]


def test_a_turn_without_words_has_its_line_and_is_no_unanswered_sound() -> None:
    view = view_of(caller(1, 3200, 4600, ""))
    assert [line[11:] for line in transcript_lines(view)] == ["caller  [no words were understood]"]
    assert not view.unanswered


def test_an_interruption_stands_before_the_words_and_says_where_nothing_was_heard() -> None:
    interrupted = TurnInterrupted(**at(400), turn=1, utterance_id=0, why="words", speech_start_ms=108)
    flushed = PlayoutFlushed(**at(410), utterance_id=0, media_time_ms=300, sent_ms=30, dropped_ms=970)
    events = [*say(0, 0, 5, "Welcome to Example Bank."), plays(0, 40), interrupted, flushed]
    assert [line[11:].strip() for line in lines([*events, *caller(1, 100, 900, "where is my card")])] == [
        "[interruption (words): the agent is silent after 192 ms, no word of it was heard]",
        "caller  where is my card",
    ]


def test_an_interruption_stands_after_the_answer_that_it_cuts() -> None:
    answer = [
        *caller(1, 3200, 4600, "hello"),
        *say(100, 0, 4922, "Your card was sent out on Monday."),
        plays(100, 4950),
    ]
    interrupted = TurnInterrupted(**at(5400), turn=2, utterance_id=100, why="speech", speech_start_ms=4960)
    flushed = PlayoutFlushed(**at(5410), utterance_id=100, media_time_ms=5300, sent_ms=350, dropped_ms=650)
    told = lines([*answer, interrupted, flushed, *caller(2, 4940, 6000, "no")])
    assert [line[11:18].strip() for line in told] == ["caller", "caller", "agent", ""]


def test_hold_is_told() -> None:
    held = [CallHeld(**at(2700), change=0, held=True), CallHeld(**at(4700), change=1, held=False)]
    answered = CallAnswered(**at(0), edge="edge-1", codec="PCMU", media_epoch_us=at(0)["at_us"])
    assert [line.strip() for line in lines([answered, *held])] == [
        "2.70 s          [the caller puts the call on hold]",
        "4.70 s          [the caller is back from hold]",
    ]


def test_an_answer_that_the_end_of_the_call_cuts_was_not_interrupted() -> None:
    over = CallEnded(
        **at(620), edge="e1", result=CallResult.COMPLETED, reason="caller_hung_up", ended_by=EndedBy.CALLER,
        duration_ms=620,
    )  # fmt: skip
    flushed = PlayoutFlushed(**at(620), utterance_id=0, media_time_ms=620, sent_ms=580, dropped_ms=420)
    events = [*say(0, 0, 5, "Welcome to Example Bank."), plays(0, 40), flushed, over]
    assert lines(events)[-1].endswith("agent   Welcome to [cut off by the end of the call]")


def test_an_answer_stopped_before_it_was_heard() -> None:
    interrupted = TurnInterrupted(**at(5000), turn=2, utterance_id=100, why="speech", speech_start_ms=4900)
    assert (
        "[interruption (speech): the agent had not begun]" in lines([*caller(1, 3200, 4600, "hello"), interrupted])[-1]
    )
    turn = view_of([*caller(1, 3200, 4600, "hello"), interrupted]).turns[1]
    assert waterfall(turn)[0] == "turn 1: semantic, no intent, interrupted before an answer was heard"


def test_the_last_question_of_the_agent_is_a_goodbye() -> None:
    away = TurnAway(**at(30_000), turn=1, number=3, last=True, media_time_ms=30_000, silent_ms=15_000)
    assert "[nobody has spoken for 15.0 s: the agent says goodbye]" in lines([away])[0]


def test_the_answer_counts_and_the_filler_apart() -> None:
    view = view_of(long_call())
    assert view.latencies("e2e_latency") == [4950 + 40 - 4600, 10_960 + 40 - 7000]
    assert view.latencies("filler_latency") == [9100 + 40 - 7000]
    assert view.latencies("barge_in") == [260.0]
    assert [turn.preemptive for turn in view.turns.values()] == ["", "hit", "miss", ""]


def test_every_name_has_its_row() -> None:
    rows = latency_lines(view_of(long_call()))
    names = {line[:24].strip() for line in rows[1:]}
    assert names == {
        *LATENCY_NAMES, "bus_hop turn.ended", "bus_hop llm.sentence", "queue_wait llm", "queue_wait tts",
    }  # fmt: skip
    hops = [line.split()[1] for line in rows if line.startswith("bus_hop")]
    assert hops == ["turn.ended", "llm.sentence"], "in the order of the way to the answer"
    assert rows[0].split() == ["latency", "(ms)", "p50", "p95", "p99", "n"]


def test_the_waterfall_of_a_turn() -> None:
    text = "\n".join(waterfall(view_of(long_call()).turns[2]))
    for words in (
        "turn 2: semantic, intent card_delivery, tools: card_status, answered after 4000 ms",
        "prepared ahead in vain; interrupted the agent, which was silent after 260 ms; filler after 2140 ms",
        "filler_latency", "bus_hop llm.sentence", "  queue_wait tts", "leading silence, rest",
    ):  # fmt: skip
        assert words in text, words
    stuck = waterfall(view_of(long_call()).turns[3])
    assert stuck[0] == "turn 3: semantic, no intent, no answer: llm gave no sign for 12000 ms"


@pytest.mark.parametrize("order", ["as said", "edge late", "llm late"])
def test_figures_are_those_that_the_call_says_of_itself(order: str) -> None:
    late = {"as said": (), "edge late": ("playout.",), "llm late": ("llm.", "tts.")}[order]

    def arrived(event: Event) -> float:
        # Events of one stage come in order; those of another may come tens of milliseconds after them.
        return event.at_us + 30_000 * type_name(type(event)).startswith(late or ("none",))

    said = {event.turn: event for event in measured_by(sorted(long_call(), key=arrived))}
    view = view_of([*long_call(), *said.values()])
    assert set(said) == {1, 2, 3}
    for number, event in said.items():
        turn = view.turns[number]
        for name in LATENCY_NAMES:
            measured = getattr(event, f"{name}_ms")
            assert turn.latencies_ms.get(name) == (None if measured is None else pytest.approx(measured, abs=1.0)), name
        assert (turn.preemptive, turn.queue_wait_ms) == (event.preemptive, event.queue_wait_ms)
        assert turn.bus_hop_ms == event.bus_hop_ms


def test_json_holds_all_of_it() -> None:
    view = view_of([*long_call(), *measured_by(long_call())])
    found = json.loads(as_json_text({"state": view.state, **dataclasses.asdict(Shown(view, (), ()))}))["view"]
    assert [len(found[key]) for key in ("pauses", "interruptions", "away", "measured")] == [2, 1, 1, 3]
    assert found["turns"]["2"]["latencies_ms"]["barge_in"] == 260.0
    assert found["lines"][4]["filler"]


def test_a_failure_of_a_newer_release_is_still_shown() -> None:
    assert describe_failure(Failure(**CALL, code="meteor", stage="edge")) == "meteor at edge: meteor"
