"""Whether a crowd of callers lost a frame or heard one twice: engines ``instant`` mark each one, in both directions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

from bus.consume import read_call
from ops.session import offered_calls
from ops.supervisor import Supervisor
from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import CallOffered
from schemas.llm import LlmSentence, utterance_of
from schemas.playout import PlayoutFinished
from schemas.turn import TurnEnded
from services.tts.engines.instant import frame_count
from tests.fakes.crowd import Crowd, CrowdCaller, text_of


def check_heard(caller: CrowdCaller, events: list[Event], turn: int) -> None:
    """The transcript of the turn holds every frame that the caller spoke, each once, in order."""
    finals = [event for event in events if isinstance(event, AsrFinal) and event.turn == turn]
    ends = [event for event in events if isinstance(event, TurnEnded) and event.turn == turn]
    assert len(finals) == 1
    assert len(ends) == 1
    assert ends[0].text == finals[0].text
    count = int(finals[0].text.split(":")[1])
    last = finals[0].through_sequence
    frames = caller.sent[last - count + 1 : last + 1]
    assert finals[0].text == text_of(frames), "a frame is missing, repeated, or out of order"
    assert last - count + 1 <= caller.voiced[0], "the beginning of the utterance was not heard"
    assert caller.voiced[-1] <= last, "the end of the utterance was not heard"


def check_said_once(caller: CrowdCaller, events: list[Event], turn: int) -> None:
    """The answer is one sentence, and the caller received every frame of it, each once, in order."""
    utterance_id = utterance_of(turn)
    sentences = [event for event in events if isinstance(event, LlmSentence) and event.utterance_id == utterance_id]
    assert [sentence.index for sentence in sentences] == [0]
    frames = [label.frame for label in caller.heard if label.utterance_id == utterance_id]
    assert frames == list(range(frame_count(sentences[0].text)))


async def calls_in_order(supervisor: Supervisor, crowd: Crowd, known: Collection[str] = ()) -> list[CallOffered]:
    """The calls in the order of the callers: each was placed after the one before was under way. ``known``: ids of
    calls that are somebody else's."""
    async with asyncio.timeout(10):
        while True:
            found = [call async for call in offered_calls(supervisor.connection) if call.call_id not in known]
            if len(found) == len(crowd.callers):
                return sorted(found, key=lambda call: call.at_us)
            await asyncio.sleep(0.05)


async def until_answered(supervisor: Supervisor, calls: Sequence[CallOffered], turn: int, deadline: float) -> None:
    """Until the answer to a turn was played to its end in every call; ``deadline`` on the monotonic clock."""
    wanted = utterance_of(turn)
    for call in calls:
        while True:
            events = await read_call(supervisor.connection, call.call_id, call.tenant)
            if any(isinstance(e, PlayoutFinished) and e.utterance_id == wanted for e in events):
                break
            assert time.monotonic() < deadline, f"turn {turn} has no answer: {[type(e).__name__ for e in events]}"
            await asyncio.sleep(0.1)
