"""A whole call on the in-memory bus, in virtual time: whichever engine fails in the middle of it, and however, the
caller is understood to the last frame, hears every sentence, and waits no longer than a second and a half."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, NamedTuple, TypeVar

import pytest

from bus.codec import decode_event, encode
from bus.interface import Message
from bus.memory import MemoryServer
from bus.ownership import Claim
from config.settings import AsrSection, FailoverSection, LlmSection, Settings, TtsSection, TurnSection
from schemas import subjects
from schemas.asr import AsrFinal
from schemas.audio import AudioFlag, Codec, pack_audio, unpack_audio
from schemas.base import Event
from schemas.call import CallAnswered, CallOffered
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, utterance_of
from schemas.playout import PlayoutFinished, PlayoutMark, PlayoutStarted
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnEnded
from services.asr.call import AsrCall, Tools
from services.asr.pool import EnginePool
from services.asr.vad.energy import EnergyModel
from services.audio import g711
from services.llm.worker import Worker
from services.resilience.attempts import TAKEOVER_HEARD
from services.tts.call import SpeechCall
from tests.fakes.virtual import run_virtual
from tests.services.asr.ears import relay
from tests.services.asr.harness import SILENCE, voice
from tests.services.asr.test_failover_call import Counter
from tests.services.llm.harness import InlineExecutor, LoopClock
from tests.services.llm.thinkers import Thinker, panel
from tests.services.tts.actors import Actor, troupe

pytestmark = pytest.mark.integration

E = TypeVar("E", bound=Event)

CALL, TENANT = "0199aabbccdd7eeff001122334455667", "default"
FRAME_S = 0.02
LIMIT_S = 1.5
HANG = 3600.0
SETTINGS = Settings(
    turn=TurnSection(endpointing="fixed", preflight_ms=0),
    asr=AsrSection(),
    llm=LlmSection(attempt_ms=800, filler_ms=0),
    tts=TtsSection(),
    failover=FailoverSection(),
)


class Wait(NamedTuple):
    """The caller heard nothing for so long. ``why``: before an answer, or within one."""

    why: str
    seconds: float


class Caller:
    """Edge and caller in one: speaks, hears what is played, and measures how long it hears nothing."""

    def __init__(self, server: MemoryServer, clock: LoopClock) -> None:
        self.connection = server.connect("edge")
        self.clock = clock
        self.sent: list[bytes] = []
        self.events: list[Event] = []
        self.waits: list[Wait] = []
        self.played: dict[int, list[bytes]] = {}
        self._spoke_until = 0.0
        self._playing_until = 0.0
        self._marks = 0

    async def begin(self) -> None:
        await self.connection.subscribe(subjects.live_audio("out", CALL), self._hear)
        await self.connection.subscribe(subjects.call_events(CALL), self._note)

    async def tell(self, event: Event) -> None:
        await self.connection.store(subjects.subject_of(event), encode(event), {"Nats-Msg-Id": event.dedupe_id})

    async def say(self, milliseconds: int, *, silent: bool = False) -> None:
        for _ in range(milliseconds // 20):
            await asyncio.sleep(FRAME_S)
            number = len(self.sent)
            self.sent.append(SILENCE if silent else voice(number))
            data = pack_audio(self.sent[-1], sequence=number, media_time=number * 160)
            self.connection.publish(subjects.live_audio("in", CALL), data)
        if not silent:
            self._spoke_until = asyncio.get_running_loop().time()

    async def turn(self, milliseconds: int) -> None:
        """Speak, and listen until the answer is over."""
        before = len(self.of(PlayoutFinished))
        await self.say(milliseconds)
        for _ in range(600):
            await self.say(20, silent=True)
            if len(self.of(PlayoutFinished)) > before:
                return
        raise AssertionError("no answer")

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def base(self) -> dict[str, Any]:
        return {"call_id": CALL, "tenant": TENANT, "at_us": self.clock.now_us()}

    def _note(self, message: Message) -> None:
        event = decode_event(message.subject, message.data)
        # What waits for the one before it to be stored is live at once, and comes again when it is stored itself.
        if event.dedupe_id not in {each.dedupe_id for each in self.events}:
            self.events.append(event)

    def _hear(self, message: Message) -> None:
        frame, now = unpack_audio(message.data), asyncio.get_running_loop().time()
        if frame.flags & AudioFlag.END:
            asyncio.get_running_loop().call_at(max(now, self._playing_until), self._finish, frame.utterance)
            return
        if frame.utterance not in self.played:
            self.played[frame.utterance] = []
            if frame.utterance:
                self.waits.append(Wait("answer", now - self._spoke_until))
            self._playing_until = now
            self._publish(PlayoutStarted(utterance_id=frame.utterance, media_time_ms=0, **self.base()))
        elif now > self._playing_until:
            self.waits.append(Wait("gap", now - self._playing_until))
            self._playing_until = now
        self._playing_until += frame.frame_count * FRAME_S
        self.played[frame.utterance] += frame.frames()

    def _finish(self, utterance_id: int) -> None:
        for index in range(len([s for s in self.of(LlmSentence) if s.utterance_id == utterance_id])):
            self._publish(PlayoutMark(utterance_id=utterance_id, index=index, media_time_ms=0, **self.base()))
        self._publish(PlayoutFinished(utterance_id=utterance_id, media_time_ms=0, **self.base()))

    def _publish(self, event: Event) -> None:
        self.connection.publish(subjects.subject_of(event), encode(event))


class Engines(NamedTuple):
    """The first of each stage; the second ones do what they should."""

    ear: Counter
    thinker: Thinker
    actor: Actor


class Stages:
    """One worker's call in each stage."""

    def __init__(self, server: MemoryServer, clock: LoopClock, engines: Engines) -> None:
        self._server = server
        self._clock = clock
        self._engines = engines
        self._calls: list[Any] = []

    async def take(self, offered: CallOffered) -> None:
        claim = Claim(CALL, TENANT, 1, False, offered, "")
        ear, thinker, actor = self._engines

        async def over(call_id: str) -> None: ...

        tools = Tools(
            connection=self._server.connect("asr"),
            settings=SETTINGS,
            worker="asr-1",
            engine=relay(ear, Counter("second-ear")),
            detectors=EnergyModel(),
            desk=None,
            pool=EnginePool(1),
            clock=self._clock,
            figures={},
            on_over=over,
        )
        hearing = AsrCall(tools, claim)
        await hearing.start()
        second = Thinker("second-thinker")
        worker = Worker(
            self._server.connect("llm"),
            "llm-1",
            panel(thinker, second, attempt_ms=SETTINGS.llm.attempt_ms),
            SETTINGS,
            self._clock,
            executor=InlineExecutor(),
        )
        await worker.bind()
        thinking = await worker.accept(claim)
        speaking = SpeechCall(
            self._server.connect("tts"),
            claim,
            troupe(actor, Actor("second-actor", level=8000, times=True)),
            SETTINGS.tts,
            worker="tts-1",
            figures={},
            on_over=over,
        )
        await speaking.start()
        self._calls = [hearing, thinking, speaking]

    async def release(self) -> None:
        for call in self._calls:
            await call.release("superseded")


def break_ear(engines: Engines, how: str) -> None:
    """From here on it fails, in the middle of the next turn."""
    if how == "dead":
        engines.ear.fails = {engines.ear.accepted + 20}
    else:
        engines.ear.at_end = True


def break_thinker(engines: Engines, how: str) -> None:
    cut: dict[str, Any] = {"dead": OSError("x"), "hanging": HANG, "rubbish": b"<html>"}
    engines.thinker.scripts = [["Let me see now, please.", cut[how]], [cut[how]], [cut[how]]]


def break_actor(engines: Engines, how: str) -> None:
    cut: dict[str, Any] = {"dead": OSError("x"), "hanging": HANG, "rubbish": "<html>"}
    engines.actor.scripts = [
        [*engines.actor.speech("a-one two three four five.", 400), cut[how]],
        [cut[how]],
        [cut[how]],
    ]


FAULTS = [
    ("asr", "dead"), ("asr", "dead at the end"),
    ("llm", "dead"), ("llm", "hanging"), ("llm", "rubbish"),
    ("tts", "dead"), ("tts", "hanging"), ("tts", "rubbish"),
    ("all", "dead"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "how"), FAULTS)
def test_nobody_notices(stage: str, how: str) -> None:
    async def scenario() -> None:
        clock = LoopClock()
        server = MemoryServer(clock=clock)
        caller = Caller(server, clock)
        await caller.begin()
        engines = Engines(Counter("first-ear"), Thinker("first-thinker"), Actor("first-actor", times=True))
        stages = Stages(server, clock, engines)
        offered = CallOffered(edge="edge", caller="", sip_call_id="x", **caller.base())
        await caller.tell(offered)
        await stages.take(offered)
        await caller.tell(CallAnswered(edge="edge", codec="PCMU", media_epoch_us=clock.now_us(), **caller.base()))
        await caller.say(3000, silent=True)
        await caller.turn(600)
        breaks = {"asr": break_ear, "llm": break_thinker, "tts": break_actor}
        for each in breaks if stage == "all" else [stage]:
            breaks[each](engines, how)
        for _ in range(3):
            await caller.turn(1000)
        await stages.release()
        understood(caller)
        heard(caller)
        assert max(caller.waits, key=lambda wait: wait.seconds).seconds < LIMIT_S
        told(caller, stage)

    run_virtual(scenario())


def understood(caller: Caller) -> None:
    """Every frame of what the caller said is in the transcripts, once and in order."""
    finals, turns = caller.of(AsrFinal), caller.of(TurnEnded)
    assert [turn.turn for turn in turns] == [1, 2, 3, 4]
    for final in finals:
        count = int(final.text.split(":")[1])
        begin = final.through_sequence + 1 - count
        pcm = b"".join(g711.decode(payload, Codec.PCMU) for payload in caller.sent[begin : begin + count])
        assert final.text == f"frames:{count}:{zlib.crc32(pcm):08x}"
        assert begin * 20 <= final.speech_start_ms
    spoken = sum(final.speech_end_ms - final.speech_start_ms for final in finals)
    assert spoken == 600 + 3 * 1000


def heard(caller: Caller) -> None:
    """Every sentence was said to its last word, and the audio of each is one flow."""
    sentences = {(each.utterance_id, each.index): each.text for each in caller.of(LlmSentence)}
    spoken = {(each.utterance_id, each.index): each for each in caller.of(TtsDone)}
    assert sentences.keys() == spoken.keys()
    for key, text in sentences.items():
        assert spoken[key].text is None
        assert [word.text for word in spoken[key].words] == text.split()
    for turn in range(5):
        done = [each for each in caller.of(TtsDone) if each.utterance_id == utterance_of(turn)]
        assert len(caller.played[utterance_of(turn)]) == sum(each.frames for each in done)
    assert "sorry" not in " ".join(sentences.values())


def told(caller: Caller, stage: str) -> None:
    """The failures say that somebody took over, and the events who it was."""
    failures = caller.of(Failure)
    stages = {"asr", "llm", "tts"} if stage == "all" else {stage}
    assert {failure.stage for failure in failures} == stages
    assert {failure.caller_hears for failure in failures} == {TAKEOVER_HEARD}
    names: dict[str, list[str]] = {
        "asr": [each.engine for each in caller.of(AsrFinal)],
        "llm": [each.engine for each in caller.of(LlmDone)],
        "tts": [each.engine for each in caller.of(TtsStarted)],
    }
    for each, engines in names.items():
        assert engines[0].startswith("first-")
        # A voice may be taken over for the rest of a sentence only, of which nobody says who began it.
        taken = any(engine.startswith("second-") for engine in engines) or each == "tts"
        assert taken is (each in stages or each == "tts")
