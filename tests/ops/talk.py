"""A long conversation as its events: fillers, pauses, interruptions, silence, a stage that is stuck."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, CallResult, EndedBy
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
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnMeasured, TurnResumed, TurnStarted
from services.asr.measuring import TurnMeasures

CALL_ID = "01a1f8bd25a07df39d872e4c6f6cda92"
EPOCH_US = 1_790_000_000_000_000


def at(ms: float) -> dict[str, Any]:
    """Fields of an event that was said at this media time."""
    return {"call_id": CALL_ID, "at_us": EPOCH_US + int(ms * 1000)}


def say(utterance_id: int, index: int, ms: int, text: str, *, filler: bool = False) -> list[Event]:
    """A sentence, synthesised as a second of audio of which the first 40 ms are silent."""
    of = {"turn": utterance_id // 100, "utterance_id": utterance_id, "index": index}
    words = text.split()
    step = 960 // len(words)
    spoken = tuple(
        SpokenWord(text=word, start_ms=40 + place * step, end_ms=40 + (place + 1) * step)
        for place, word in enumerate(words)
    )
    return [
        LlmSentence(**at(ms), **of, text=text, filler=filler),
        TtsStarted(**at(ms + 14), **of, ttfb_ms=12.0, leading_silence_ms=40, bus_hop_ms=0.9 + index, queue_wait_ms=0.2),
        TtsDone(**at(ms + 20), **of, frames=50, duration_ms=1000, words=spoken),
    ]


def done(utterance_id: int, ms: int, sentences: int, **rest: Any) -> LlmDone:
    fields = {"ttft_ms": 30.0, "ttfs_ms": 48.0, "bus_hop_ms": 0.8, "queue_wait_ms": 0.3, **rest}
    return LlmDone(
        **at(ms), turn=utterance_id // 100, utterance_id=utterance_id, sentences=sentences, **fields
    )  # fmt: skip


def plays(utterance_id: int, ms: int) -> PlayoutStarted:
    return PlayoutStarted(**at(ms), utterance_id=utterance_id, media_time_ms=ms)


def mark(utterance_id: int, index: int, start_ms: int, end_ms: int) -> PlayoutMark:
    return PlayoutMark(
        **at(end_ms), utterance_id=utterance_id, index=index, media_time_ms=end_ms, start_ms=start_ms
    )  # fmt: skip


def finished(utterance_id: int, ms: int) -> PlayoutFinished:
    return PlayoutFinished(**at(ms), utterance_id=utterance_id, media_time_ms=ms)


def caller(turn: int, start_ms: int, end_ms: int, text: str, delay_ms: int = 320) -> list[Event]:
    """The caller speaks from the one to the other; the end is decided on after the delay."""
    return [
        TurnStarted(**at(start_ms + 200), turn=turn, media_time_ms=start_ms),
        AsrFinal(
            **at(end_ms + delay_ms - 60), turn=turn, text=text, through_sequence=end_ms // 20,
            speech_start_ms=start_ms, speech_end_ms=end_ms, transcription_delay_ms=delay_ms - 60.0,
        ),
        TurnEnded(
            **at(end_ms + delay_ms), turn=turn, why="semantic", text=text, speech_start_ms=start_ms,
            speech_end_ms=end_ms, end_of_turn_delay_ms=float(delay_ms),
        ),
    ]  # fmt: skip


def long_call() -> list[Event]:
    """A cough, an answer prepared ahead, an interruption, a filler, a silent caller, a stage that is stuck."""
    return [
        CallOffered(**at(-20), edge="edge-1", caller="+4930123", called="bank"),
        CallAnswered(**at(0), edge="edge-1", codec="PCMU", media_epoch_us=EPOCH_US),
        *greeting_with_a_cough(),
        *prepared_and_interrupted(),
        *answered_after_a_filler(),
        *silent_then_stuck(),
        CallEnded(
            **at(45_000), edge="edge-1", result=CallResult.COMPLETED, reason="agent_hung_up", ended_by=EndedBy.AGENT,
            duration_ms=45_000,
        ),
    ]  # fmt: skip


def greeting_with_a_cough() -> list[Event]:
    return [
        *say(0, 0, 5, "Welcome to Example Bank."),
        *say(0, 1, 6, "How can I help you?"),
        done(0, 7, 2),
        plays(0, 40),
        PlayoutPaused(**at(620), utterance_id=0, media_time_ms=620, index=0, sent_ms=580, why="barge_in"),
        TurnResumed(**at(1200), turn=1, utterance_id=0, media_time_ms=1200, why="noise", speech_start_ms=380),
        PlayoutResumed(**at(1220), utterance_id=0, media_time_ms=1220, why="noise"),
        mark(0, 0, 40, 1640),
        mark(0, 1, 1640, 2640),
        finished(0, 2640),
    ]


def prepared_and_interrupted() -> list[Event]:
    return [
        *caller(1, 3200, 4600, "where is my credit card"),
        *say(100, 0, 4922, "Your card was sent out on Monday, by registered mail."),
        *say(100, 1, 4923, "It should be with you by now."),
        done(100, 4924, 2, intent="card_delivery", ttft_ms=0.4, ttfs_ms=0.9, preemptive="hit"),
        plays(100, 4950),
        PlayoutPaused(**at(5680), utterance_id=100, media_time_ms=5680, index=0, sent_ms=730, why="barge_in"),
        TurnInterrupted(
            **at(5960), turn=2, utterance_id=100, why="words", media_time_ms=5960, speech_start_ms=5420
        ),
        PlayoutFlushed(**at(5970), utterance_id=100, media_time_ms=5680, index=0, sent_ms=730, dropped_ms=1270),
    ]  # fmt: skip


def answered_after_a_filler() -> list[Event]:
    return [
        *caller(2, 5420, 7000, "no I mean the other card", 540),
        *say(200, 0, 9060, "Let me look that up.", filler=True),
        plays(200, 9100),
        mark(200, 0, 9100, 10_100),
        ToolReturned(**at(10_900), turn=2, tool_call_id="2-0", name="card_status"),
        *say(200, 1, 10_920, "It is on its way."),
        done(200, 10_921, 2, intent="card_delivery", ttft_ms=3100.0, ttfs_ms=3380.0, preemptive="miss"),
        mark(200, 1, 10_960, 11_960),
        finished(200, 11_960),
    ]


def silent_then_stuck() -> list[Event]:
    return [
        TurnAway(**at(26_960), turn=3, number=1, media_time_ms=26_960, silent_ms=15_000),
        *say(201, 0, 26_962, "Are you still there?"),
        done(201, 26_963, 1),
        plays(201, 27_000),
        mark(201, 0, 27_000, 28_000),
        finished(201, 28_000),
        *caller(3, 28_500, 29_000, "yes"),
        Failure(**at(41_320), code="turn_stuck", stage="asr", turn=3, detail="llm gave no sign for 12000 ms"),
        *say(399, 0, 41_322, "I am sorry, something went wrong.")[1:],
        plays(399, 41_360),
        mark(399, 0, 41_360, 42_360),
        finished(399, 42_360),
    ]


def measured_by(events: Iterable[Event], late_us: int = 1500) -> list[TurnMeasured]:
    """The ``turn.measured`` that the asr stage says when it receives these events."""
    measures = TurnMeasures()
    return [
        TurnMeasured(**found._asdict(), **at(0))
        for event in events
        for found in measures.apply(event, event.at_us + late_us)
    ]
