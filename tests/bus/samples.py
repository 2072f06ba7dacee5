"""Events for tests, with everything filled in that does not matter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from schemas.asr import AsrFinal, AsrPartial
from schemas.base import Event
from schemas.call import CallEnded, CallOffered, CallResult, EndedBy
from schemas.llm import LlmDone, LlmSentence
from schemas.turn import TurnEnded

CALL = "0192f0c0aaaa7bbb8cccdddddddddddd"
AT_US = 1_700_000_000_000_000


def offered(call_id: str = CALL, tenant: str = "default") -> CallOffered:
    return CallOffered(call_id=call_id, tenant=tenant, at_us=AT_US, edge="edge-1")


def ended(call_id: str = CALL, tenant: str = "default") -> CallEnded:
    return CallEnded(
        call_id=call_id,
        tenant=tenant,
        at_us=AT_US,
        edge="edge-1",
        result=CallResult.COMPLETED,
        reason="caller_hung_up",
        ended_by=EndedBy.CALLER,
    )


def partial(revision: int, epoch: int = 1, call_id: str = CALL) -> AsrPartial:
    return AsrPartial(call_id=call_id, at_us=AT_US, epoch=epoch, turn=1, revision=revision, text="wo")


def final(turn: int, epoch: int = 1, call_id: str = CALL) -> AsrFinal:
    return AsrFinal(call_id=call_id, at_us=AT_US, epoch=epoch, turn=turn, text="word", through_sequence=turn * 50)


def turn_ended(turn: int, epoch: int = 1, call_id: str = CALL) -> TurnEnded:
    return TurnEnded(call_id=call_id, at_us=AT_US, epoch=epoch, turn=turn, why="silence", text="word")


def sentence(index: int, epoch: int = 1, call_id: str = CALL) -> LlmSentence:
    return LlmSentence(
        call_id=call_id, at_us=AT_US, epoch=epoch, turn=1, utterance_id=100, index=index, text="An answer."
    )


def answered(epoch: int = 1, call_id: str = CALL) -> LlmDone:
    return LlmDone(call_id=call_id, at_us=AT_US, epoch=epoch, turn=1, utterance_id=100, sentences=2)


def short(events: list[Event]) -> list[str]:
    """Identity of each event without the call: ``asr.final:2:0``."""
    return [event.dedupe_id.split(":", 1)[1] for event in events]


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for something that must come; fails with a plain assertion."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, "what the test waits for did not come in time"
        await asyncio.sleep(0.005)
