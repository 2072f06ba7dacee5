"""A caller who goes on talking while engines fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from bus.consume import follow_all, read_call
from ops.caller.call import place_conversation
from ops.caller.media import CallMedia, Span
from ops.caller.recording import CallRecording
from ops.caller.report import CallReport, Outcome
from ops.caller.running import Reinvite
from ops.caller.script import Say
from ops.caller.speech import prepare
from ops.supervisor import Supervisor
from schemas.base import Event
from schemas.llm import utterance_of
from schemas.playout import PlayoutFinished
from tests.e2e.chaos.stages import Fault, Stage, Talk
from tests.e2e.system import HOST

ANSWER_LIMIT_S = 20.0
BETWEEN_TURNS_S = 0.3


class Turn(NamedTuple):
    """One turn of the caller.

    Attributes:
        fault: begins before the caller speaks.
        mends: it is over when the answer has been heard.
        before: what else is to be waited for.
        left_alone: the breaker of the first engine is open.
    """

    talk: Talk
    fault: Fault | None = None
    mends: bool = True
    before: Callable[[], Awaitable[None]] | None = None
    left_alone: bool = False


class Held(NamedTuple):
    """A call that is over. ``spans``: when the caller spoke, a span for each turn."""

    turns: Sequence[Turn]
    spans: Sequence[Span]
    recording: CallRecording
    events: Sequence[Event]


class Caller:
    """The conversation: says the next thing once the answer to the last one has been played to its end."""

    def __init__(self, stage: Stage, turns: Sequence[Turn], sounds: dict[str, bytes]) -> None:
        self.call_id = ""
        self.tenant = ""
        self.spans: list[Span] = []
        self._stage = stage
        self._turns = turns
        self._sounds = sounds
        self._played: set[int] = set()
        self._changed = asyncio.Event()

    async def run(self, media: CallMedia, reinvite: Reinvite) -> None:
        await self._until_played(0)
        for number, turn in enumerate(self._turns, 1):
            await asyncio.sleep(BETWEEN_TURNS_S)
            if turn.before is not None:
                await turn.before()
            if turn.fault is not None:
                await turn.fault.hurt()
            self.spans.append(await media.play(self._sounds[turn.talk.say]))
            await self._until_played(utterance_of(number))
            if turn.mends:
                await self._stage.mend()

    def complete(self, report: CallReport) -> None:
        """The report needs nothing of it."""

    def take(self, event: Event) -> None:
        """An event of the only call that there is."""
        self.call_id, self.tenant = event.call_id, event.tenant
        if isinstance(event, PlayoutFinished):
            self._played.add(event.utterance_id)
            self._changed.set()

    async def _until_played(self, utterance_id: int) -> None:
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                while utterance_id not in self._played:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"utterance {utterance_id} was not played within {ANSWER_LIMIT_S:.0f} s") from None


async def hold(stage: Stage, turns: Sequence[Turn], supervisor: Supervisor) -> Held:
    """Hold the call."""
    says = sorted({turn.talk.say for turn in turns})
    sounds = await prepare([Say(text) for text in says])
    caller = Caller(stage, turns, {text: sounds[number] for number, text in enumerate(says)})
    following = await follow_all(
        supervisor.connection, ("call.offered", "playout.finished"), caller.take, service="chaos"
    )
    try:
        report = await place_conversation(f"sip:agent@{HOST}:{supervisor.sip_port}", caller)
    finally:
        await following.close()
    assert report.outcome is Outcome.COMPLETED, report.reason
    assert report.recording is not None
    assert len(caller.spans) == len(turns), f"the call ended after {len(caller.spans)} turns: {report.reason}"
    events = await read_call(supervisor.connection, caller.call_id, caller.tenant)
    return Held(turns, caller.spans, report.recording, events)
