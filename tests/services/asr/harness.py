"""A scripted edge on the in-memory bus, and a worker's call to test against it, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from bus import codec
from bus.clock import ManualClock, settle
from bus.control import serve_control
from bus.interface import Message
from bus.memory import MemoryConnection, MemoryServer
from bus.ownership import Claim
from bus.publish import Recorder
from config.settings import AsrSection, Settings, TurnSection
from schemas import subjects
from schemas.audio import AudioFlag, Codec, pack_audio
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallHeld, CallOffered, CallResult, DtmfIn, EndedBy
from schemas.control import ControlMessage, ControlReply, ReplayReply, ReplayRequest
from schemas.llm import ListenFor, LlmDone, LlmSentence, utterance_of
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark, PlayoutPaused, PlayoutStarted
from services.asr.call import AsrCall, Tools
from services.asr.detector import VoiceModel
from services.asr.engine import Engine
from services.asr.engines.instant import FrameCounter
from services.asr.judge import TurnDesk
from services.asr.pool import EnginePool
from services.asr.turn_model import TurnModel
from services.asr.vad.energy import EnergyModel
from services.audio import g711

CALL_ID = "0190aaaa0000700080000000000000aa"
TENANT = "default"
FRAME_MS = 20
E = TypeVar("E", bound=Event)


def voice(number: int) -> bytes:
    """A loud frame that no other frame equals."""
    return bytes([0x10 | number >> shift & 0xF for shift in (0, 4, 8, 12)] * 40)


SILENCE = b"\xff" * 160


class FakeEdge:
    """Publishes frames every 20 ms of the clock, keeps them, answers ``replay`` and ``control.edge``."""

    def __init__(self, server: MemoryServer, clock: ManualClock) -> None:
        self.connection = server.connect("edge")
        self.clock = clock
        self.recorder = Recorder(self.connection, service="edge")
        self.frames: list[tuple[int, bytes]] = []
        self.first_kept = 0
        self.replays: list[int] = []
        self.commands: list[ControlMessage] = []
        self.reply = ControlReply(ok=True)
        self.mute_replay = False
        self.drop_replayed: set[int] = set()
        self.epoch_us = clock.now_us()
        self.media_ms = 0
        self._presses = 0
        self._changes = 0

    async def open(self, *, answered: bool = True) -> None:
        await self.connection.subscribe(subjects.replay(CALL_ID, TENANT), self._replay)
        for stage in ("edge", "tts"):
            await serve_control(self.connection, stage, CALL_ID, TENANT, self._control, service=stage)
        self.recorder.record(CallOffered(edge="edge-1", **self.base()))
        if answered:
            self.answer()
        await settle()

    def answer(self) -> None:
        self.epoch_us = self.clock.now_us()
        event = CallAnswered(edge="edge-1", codec="PCMU", media_epoch_us=self.epoch_us, **self.base())
        self.recorder.record(event)

    async def say(self, payloads: Iterable[bytes], *, lose: Iterable[int] = ()) -> None:
        """Live frames in real time; those whose index is in ``lose`` never reach the bus, but the ring has them."""
        dropped = set(lose)
        for index, payload in enumerate(payloads):
            await self.clock.advance(FRAME_MS)
            sequence = len(self.frames)
            self.frames.append((self.media_ms * 8, payload))
            self.media_ms += FRAME_MS
            if index not in dropped:
                self.connection.publish(subjects.live_audio("in", CALL_ID, TENANT), self.packed(sequence))
            await settle(4)

    async def speak(self, milliseconds: int) -> None:
        """Voice, frames that differ from each other."""
        await self.say(voice(len(self.frames) + index) for index in range(milliseconds // FRAME_MS))

    async def speak_into_a_stall(self, milliseconds: int) -> None:
        """Voice while the worker's process gets no time: a timer fires late, then the frames come all at once."""
        self.clock.stall(milliseconds)
        await self.clock.advance(0)
        for _ in range(milliseconds // FRAME_MS):
            sequence = len(self.frames)
            self.frames.append((self.media_ms * 8, voice(sequence)))
            self.media_ms += FRAME_MS
            self.connection.publish(subjects.live_audio("in", CALL_ID, TENANT), self.packed(sequence))
        await settle(milliseconds)

    async def hush(self, milliseconds: int) -> None:
        """Silence in frames."""
        await self.say([SILENCE] * (milliseconds // FRAME_MS))

    async def pause(self, milliseconds: int) -> None:
        """No frames at all."""
        await self.clock.advance(milliseconds)
        self.media_ms += milliseconds

    def press(self, digit: str) -> None:
        event = DtmfIn(press=self._presses, digit=digit, duration_ms=100, media_time_ms=self.media_ms, **self.base())
        self._presses += 1
        self.recorder.record(event)

    def hold(self, held: bool) -> None:
        self._changes += 1
        self.recorder.record(CallHeld(change=self._changes, held=held, **self.base()))

    def listen_for(self, turn: int, listen_for: ListenFor) -> None:
        event = LlmDone(
            turn=turn, utterance_id=utterance_of(turn), sentences=1, listen_for=listen_for, epoch=1, **self.base()
        )
        self.recorder.record(event)

    def play(self, utterance_id: int) -> None:
        self.recorder.record(PlayoutStarted(utterance_id=utterance_id, media_time_ms=self.media_ms, **self.base()))

    def played(self, utterance_id: int, *, flushed: bool = False) -> None:
        event = PlayoutFlushed if flushed else PlayoutFinished
        self.recorder.record(event(utterance_id=utterance_id, media_time_ms=self.media_ms, **self.base()))

    def paused(self, utterance_id: int, *, remaining_ms: int = 5000, complete: bool = True) -> None:
        event = PlayoutPaused(
            utterance_id=utterance_id,
            media_time_ms=self.media_ms,
            remaining_ms=remaining_ms,
            complete=complete,
            **self.base(),
        )
        self.recorder.record(event)

    def sentence(self, utterance_id: int) -> None:
        event = LlmSentence(
            turn=utterance_id // 100, utterance_id=utterance_id, index=0, text="Well.", epoch=1, **self.base()
        )
        self.recorder.record(event)

    def mark(self, utterance_id: int, index: int) -> None:
        event = PlayoutMark(utterance_id=utterance_id, index=index, media_time_ms=self.media_ms, **self.base())
        self.recorder.record(event)

    def end(self) -> None:
        event = CallEnded(
            edge="edge-1", result=CallResult.COMPLETED, reason="caller_hung_up", ended_by=EndedBy.CALLER, **self.base()
        )
        self.recorder.record(event)

    def packed(self, sequence: int, flags: AudioFlag = AudioFlag.NONE) -> bytes:
        media_time, payload = self.frames[sequence]
        return pack_audio(payload, sequence=sequence, codec=Codec.PCMU, media_time=media_time, flags=flags)

    def pcm(self, first: int, count: int) -> bytes:
        """Linear PCM of frames, as an engine gets it."""
        return b"".join(g711.decode(payload, Codec.PCMU) for _, payload in self.frames[first : first + count])

    def base(self) -> dict[str, Any]:
        return {"call_id": CALL_ID, "tenant": TENANT, "at_us": self.clock.now_us()}

    def _replay(self, message: Message) -> None:
        request = codec.decode(message.data, ReplayRequest)
        self.replays.append(request.from_sequence)
        if self.mute_replay:
            return
        first = max(request.from_sequence, self.first_kept)
        following = len(self.frames)
        self.connection.publish(message.reply, codec.encode(ReplayReply(first_sequence=first, next_sequence=following)))
        for start in range(first, following, 5):
            group = [n for n in range(start, min(start + 5, following)) if n not in self.drop_replayed]
            contiguous = group and group[-1] - group[0] + 1 == len(group)
            steps = all(self.frames[n][0] - self.frames[group[0]][0] == (n - group[0]) * 160 for n in group)
            for part in [group] if contiguous and steps else [[n] for n in group]:
                payload = b"".join(self.frames[n][1] for n in part)
                data = pack_audio(payload, sequence=part[0], frame_count=len(part), media_time=self.frames[part[0]][0])
                self.connection.publish(request.reply_to, data)
        self.drop_replayed = set()

    def _control(self, command: ControlMessage) -> ControlReply:
        self.commands.append(command)
        return self.reply


class Line:
    """An edge, the bus between, and asr calls on it."""

    def __init__(self, turn: TurnSection = TurnSection(endpointing="fixed"), asr: AsrSection = AsrSection()) -> None:  # noqa: B008
        self.clock = ManualClock()
        self.server = MemoryServer(clock=self.clock)
        self.edge = FakeEdge(self.server, self.clock)
        self.settings = Settings(turn=turn, asr=asr)
        self.over: list[str] = []
        self.pool = EnginePool(1)
        self.connections: list[MemoryConnection] = []
        self.turn_model: TurnModel | None = None

    async def call(self, epoch: int = 1, engine: Engine | None = None, detectors: VoiceModel | None = None) -> AsrCall:
        """A worker's call; ``epoch`` over 1 is a successor's."""
        connection = self.server.connect(f"asr-{epoch}")
        self.connections.append(connection)

        async def on_over(call_id: str) -> None:
            self.over.append(call_id)

        tools = Tools(
            connection=connection,
            settings=self.settings,
            worker=f"asr-{epoch}",
            engine=engine or FrameCounter(self.settings.asr),
            detectors=detectors or EnergyModel(),
            desk=None if self.turn_model is None else TurnDesk(self.turn_model, self.pool, self.clock),
            pool=self.pool,
            clock=self.clock,
            figures={},
            on_over=on_over,
        )
        offered = CallOffered(edge="edge-1", call_id=CALL_ID, at_us=1)
        call = AsrCall(tools, Claim(CALL_ID, TENANT, epoch, epoch > 1, offered, "asr-1" if epoch > 1 else ""))
        await call.start()
        await settle()
        return call

    def kill(self, number: int = 0) -> None:
        """The worker's process dies."""
        self.connections[number].kill()

    async def events(self, kind: type[E]) -> list[E]:
        """Stored events of a kind, in order."""
        await settle(40)
        found: list[E] = []
        async for message in self.edge.connection.read(subjects.event_subject(kind, CALL_ID, TENANT)):
            event = codec.decode_event(message.subject, message.data)
            assert isinstance(event, kind)
            found.append(event)
        return found
