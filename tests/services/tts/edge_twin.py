"""A twin of the other rooms for tests of the tts stage: says the events, takes the audio as the edge does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bus.codec import decode_event, encode
from bus.interface import Message
from bus.memory import MemoryServer
from bus.ownership import Claim
from config.settings import TtsSection
from schemas import subjects
from schemas.audio import AudioFlag, AudioFrame, split_segment_sequence, unpack_audio
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, CallResult, EndedBy
from schemas.llm import LlmDone, LlmSentence
from services.audio import g711
from services.tts.apology import Apology
from services.tts.call import SpeechCall
from services.tts.engine import Engine
from services.tts.engines.instant import FrameLabel, InstantEngine, read_frame_label
from services.tts.phrasebook import PhraseBook

CALL = "c1"
EPOCH_US = 1_700_000_000_000_000


class EdgeTwin:
    """Records events as the edge and the llm do; keeps what the tts stage says and sends."""

    def __init__(self, server: MemoryServer | None = None) -> None:
        self.server = server or MemoryServer()
        self.connection = self.server.connect("edge-twin")
        self.frames: list[AudioFrame] = []
        self.sent_at: list[float] = []
        self.said: list[Event] = []

    async def listen(self) -> None:
        await self.connection.subscribe(subjects.live_audio("out", CALL), self._audio)
        await self.connection.subscribe(subjects.call_events(CALL), self._event)

    def _audio(self, message: Message) -> None:
        self.frames.append(unpack_audio(message.data))
        self.sent_at.append(asyncio.get_running_loop().time())

    def _event(self, message: Message) -> None:
        event = decode_event(message.subject, message.data)
        if subjects.parse_subject(message.subject).name.startswith(("tts.", "failure")):
            self.said.append(event)

    async def tell(self, *events: Event) -> None:
        for event in events:
            await self.connection.store(subjects.subject_of(event), encode(event), {"Nats-Msg-Id": event.dedupe_id})
        await settle()

    async def answer(self, codec: str = "PCMU") -> None:
        await self.tell(CallAnswered(call_id=CALL, at_us=EPOCH_US, edge="e1", codec=codec, media_epoch_us=EPOCH_US))

    def of(self, event_type: type[Any]) -> list[Any]:
        return [event for event in self.said if isinstance(event, event_type)]

    def labels(self) -> list[FrameLabel]:
        """What each frame of the instant engine says about itself, in order of arrival."""
        read = []
        for message in self.frames:
            for payload in message.frames():
                label = read_frame_label(g711.decode(payload, message.codec))
                if label is not None:
                    read.append(label)
        return read

    def played(self) -> list[FrameLabel]:
        """As :meth:`labels`, without the frames that the edge drops because it has them."""
        kept: list[FrameLabel] = []
        expected: dict[int, tuple[int, int]] = {}
        for label in self.labels():
            if (label.sentence, label.frame) >= expected.get(label.utterance_id, (0, 0)):
                expected[label.utterance_id] = (label.sentence, label.frame + 1)
                kept.append(label)
        return kept

    def ends(self) -> list[tuple[int, int]]:
        """(utterance, sentences) of each END message."""
        return [
            (frame.utterance, split_segment_sequence(frame.sequence)[0])
            for frame in self.frames
            if frame.flags & AudioFlag.END
        ]


def sentence(utterance_id: int, index: int, text: str = "hello there") -> LlmSentence:
    return LlmSentence(
        call_id=CALL, at_us=EPOCH_US, turn=utterance_id // 100, utterance_id=utterance_id, index=index, text=text
    )


def done(utterance_id: int, sentences: int) -> LlmDone:
    return LlmDone(
        call_id=CALL, at_us=EPOCH_US, turn=utterance_id // 100, utterance_id=utterance_id, sentences=sentences
    )


def ended() -> CallEnded:
    return CallEnded(
        call_id=CALL, at_us=EPOCH_US, edge="e1", result=CallResult.COMPLETED, reason="caller_hung_up",
        ended_by=EndedBy.CALLER,
    )  # fmt: skip


async def settle(turns: int = 60) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def wait_for(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Wait until something is so; fails with the deadline."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def speech_call(
    edge: EdgeTwin,
    engine: Engine | None = None,
    *,
    epoch: int = 1,
    settings: TtsSection | None = None,
    apology: Apology | None = None,
    book: PhraseBook | None = None,
) -> AsyncIterator[SpeechCall]:
    """A call owned by a worker of its own; let go at the end."""
    settings = settings or TtsSection()
    offered = CallOffered(call_id=CALL, at_us=EPOCH_US, edge="e1")
    over: list[str] = []

    async def on_over(call_id: str) -> None:
        over.append(call_id)

    figures: dict[str, float] = {}
    call = SpeechCall(
        edge.server.connect(f"tts-{epoch}"),
        Claim(CALL, "default", epoch, epoch > 1, offered, ""),
        engine or InstantEngine(settings),
        settings,
        worker=f"tts-{epoch}",
        figures=figures,
        on_over=on_over,
        apology=apology,
        book=book,
    )
    call.over, call.figures = over, figures  # type: ignore[attr-defined]
    await call.start()
    try:
        yield call
    finally:
        await call.release("superseded")
