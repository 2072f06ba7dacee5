"""A whole call as the stream would hold it, made without SIP: its events and its recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bus.interface import Connection
from bus.publish import Recorder
from schemas.asr import AsrFinal
from schemas.audio import Codec, pack_audio
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, CallResult, DtmfIn, EndedBy, MediaCounts
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, ToolCalled, ToolReturned
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark, PlayoutStarted
from schemas.subjects import recording
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnEnded, TurnInterrupted, TurnStarted

CALL_ID = "01a1f8bd25a07df39d872e4c6f6cda91"
EPOCH_US = 1_790_000_000_000_000
SECRETS = ("credit", "card", "4271", "4 2 7 1", "Alex", "Monday", "+4930123", "dialog-7")
"""What no command may show where content is hidden."""

CHUNK_TICKS = 1600


def call_events(call_id: str = CALL_ID, *, ended: bool = True, tenant: str = "default") -> list[Event]:
    """Greeting, a question, keys with an interrupted answer, a failure, the end. 12 s long."""

    def at(ms: int, **rest: Any) -> dict[str, Any]:
        return {"call_id": call_id, "tenant": tenant, "at_us": EPOCH_US + ms * 1000, **rest}

    events: list[Event] = [
        CallOffered(**at(-20), edge="edge-1", sip_call_id="dialog-7", caller="+4930123", called="bank"),
        CallAnswered(**at(0), edge="edge-1", codec="PCMU", media_epoch_us=EPOCH_US),
        *answer(at, 0, 0, ["Welcome to the bank."], 40),
        TurnStarted(**at(3000), turn=1, media_time_ms=3000),
        AsrFinal(
            **at(4700), turn=1, text="where is my credit card", through_sequence=230, transcription_delay_ms=500.0
        ),
        TurnEnded(
            **at(4701), turn=1, why="silence", text="where is my credit card", speech_start_ms=3000,
            speech_end_ms=4200, end_of_turn_delay_ms=501.0,
        ),
        *answer(at, 1, 4710, ["Please tell me the last four digits of your card."], 4740, intent="card_delivery"),
        *[DtmfIn(**at(8000 + press * 200), press=press, digit=digit) for press, digit in enumerate("4271", 1)],
        TurnEnded(
            **at(8810), turn=2, why="dtmf", digits="4271", speech_start_ms=8200, speech_end_ms=8800,
            end_of_turn_delay_ms=10.0,
        ),
        ToolCalled(**at(8811), turn=2, tool_call_id="2-0", name="verify", arguments={"card": "4271"}),
        ToolReturned(**at(8812), turn=2, tool_call_id="2-0", name="verify", result={"name": "Alex Morgan"}),
        *cut_answer(at),
        Failure(**at(11000), code="bus_disconnected", stage="edge", gap_ms=420),
    ]  # fmt: skip
    if ended:
        events.append(
            CallEnded(
                **at(12000), edge="edge-1", result=CallResult.COMPLETED, reason="caller_hung_up",
                ended_by=EndedBy.CALLER, duration_ms=12000,
                media=MediaCounts(packets_received=590, jitter_ms=2.5, loss_share=0.004, mos_in=4.31),
            )
        )  # fmt: skip
    return events


def answer(at: Any, turn: int, at_ms: int, sentences: list[str], media_ms: int, intent: str = "") -> list[Event]:
    """An answer that was heard to its end, a second a sentence."""
    of = {"utterance_id": turn * 100}
    events: list[Event] = []
    for index, text in enumerate(sentences):
        events.append(LlmSentence(**at(at_ms, **of), turn=turn, index=index, text=text))
        events.append(TtsStarted(**at(at_ms + 5, **of), turn=turn, index=index, ttfb_ms=4.0))
        events.append(TtsDone(**at(at_ms + 9, **of), turn=turn, index=index, frames=50, duration_ms=1000))
    events.append(LlmDone(**at(at_ms + 1, **of), turn=turn, sentences=len(sentences), intent=intent, ttfs_ms=1.5))
    events.append(PlayoutStarted(**at(at_ms + 25, **of), media_time_ms=media_ms))
    for index in range(len(sentences)):
        end_ms = media_ms + 1000 * (index + 1)
        events.append(PlayoutMark(**at(end_ms, **of), index=index, media_time_ms=end_ms))
    events.append(PlayoutFinished(**at(media_ms + 1000 * len(sentences), **of), media_time_ms=media_ms + 1000))
    return events


def cut_answer(at: Any) -> list[Event]:
    """The answer to turn 2: of eight words four had left when the caller spoke."""
    of = {"utterance_id": 200}
    text = "Your credit card was sent out on Monday."
    return [
        LlmSentence(**at(8813, **of), turn=2, index=0, text=text),
        LlmDone(**at(8814, **of), turn=2, sentences=1, intent="card_delivery", slots={"card": "4271"}),
        TtsStarted(**at(8815, **of), turn=2, index=0, ttfb_ms=2.0),
        TtsDone(**at(8816, **of), turn=2, index=0, frames=100, duration_ms=2000),
        PlayoutStarted(**at(8830, **of), media_time_ms=8840),
        TurnInterrupted(**at(9840, **of), turn=3),
        PlayoutFlushed(**at(9841, **of), media_time_ms=9840, index=0, sent_ms=1000, dropped_ms=1000),
    ]


async def record_call(
    connection: Connection,
    events: Sequence[Event] | None = None,
    *,
    missing: Sequence[int] = (),
    chunks: int = 60,
) -> None:
    """Store the events and the recording of both sides; ``missing``: chunks of the caller's side to leave out."""
    events = call_events() if events is None else events
    recorder = Recorder(connection, service="test")
    for event in events:
        recorder.record(event)
    call_id, tenant = events[0].call_id, events[0].tenant
    for direction, value in (("in", 0x10), ("out", 0x20)):
        for number in range(chunks):
            if direction == "out" or number not in missing:
                data = pack_audio(
                    bytes([value]) * CHUNK_TICKS, sequence=number * 10, codec=Codec.PCMU, frame_count=10,
                    media_time=number * CHUNK_TICKS,
                )  # fmt: skip
                recorder.record_audio(recording(direction, call_id, tenant), data, f"{call_id}:{direction}:{number}")
    assert await recorder.flush(5000)
    await recorder.close(1000)
