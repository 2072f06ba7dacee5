"""A whole call on the in-memory bus, in virtual time, in which no engine of one stage is left: what its caller gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bus.control import serve_control
from bus.memory import MemoryServer
from bus.ownership import Claim
from config.settings import FailoverSection, LlmSection, Settings, TurnSection
from schemas.call import CallAnswered, CallOffered, DtmfIn
from schemas.control import ControlMessage, ControlReply, Hangup, Transfer
from schemas.failure import Failure
from schemas.llm import LlmSentence
from schemas.playout import PlayoutFinished
from schemas.tts import TtsStarted
from schemas.turn import TurnEnded
from services.asr.call import AsrCall, Tools
from services.asr.engine import Engine as Ear
from services.asr.pool import EnginePool
from services.asr.vad.energy import EnergyModel
from services.llm.engine import Engine as Mind
from services.llm.engine import load_engine
from services.llm.worker import Worker
from services.text.courtesies import courtesies
from services.tts.apology import Apology
from services.tts.call import SpeechCall
from services.tts.engine import Engine as Voice
from services.tts.phrasebook import RECORDED, PhraseBook
from tests.fakes.virtual import run_virtual
from tests.services.asr.ears import relay
from tests.services.asr.test_failover_call import Counter
from tests.services.llm.harness import InlineExecutor, LoopClock
from tests.services.llm.thinkers import Thinker, panel
from tests.services.test_failover_in_a_call import CALL, TENANT, Caller
from tests.services.tts.actors import Actor, tone, troupe

pytestmark = pytest.mark.integration

EN = courtesies("en")
TARGET = "sip:colleague@example.net"
DEAD = [OSError("x")]
SETTINGS = Settings(
    turn=TurnSection(endpointing="fixed", preflight_ms=0),
    llm=LlmSection(attempt_ms=800, filler_ms=0),
    failover=FailoverSection(transfer_target=TARGET),
)


class Line(Caller):
    """A caller at an edge that takes commands."""

    def __init__(self, server: MemoryServer, clock: LoopClock) -> None:
        super().__init__(server, clock)
        self.server = server
        self.commands: list[ControlMessage] = []
        self.book = PhraseBook(8000)
        self._presses = 0

    async def call(self, ear: Ear, mind: Mind, voice: Voice) -> None:
        """A call of one worker of each stage; returns once the greeting is over."""
        await self.begin()
        await serve_control(self.connection, "edge", CALL, TENANT, self._obey, service="edge")
        offered = CallOffered(edge="edge", caller="", sip_call_id="x", **self.base())
        await self.tell(offered)
        claim = Claim(CALL, TENANT, 1, False, offered, "")

        async def over(call_id: str) -> None: ...

        tools = Tools(
            connection=self.server.connect("asr"),
            settings=SETTINGS,
            worker="asr-1",
            engine=ear,
            detectors=EnergyModel(),
            desk=None,
            pool=EnginePool(1),
            clock=self.clock,
            figures={},
            on_over=over,
        )
        await AsrCall(tools, claim).start()
        worker = Worker(self.server.connect("llm"), "llm-1", mind, SETTINGS, self.clock, executor=InlineExecutor())
        await worker.bind()
        await worker.accept(claim)
        speech = SpeechCall(
            self.server.connect("tts"),
            claim,
            voice,
            SETTINGS.tts,
            worker="tts-1",
            figures={},
            on_over=over,
            apology=Apology(SETTINGS.tts.apology, tone(500, 1000)),
            book=self.book,
        )
        await speech.start()
        await self.tell(CallAnswered(edge="edge", codec="PCMU", media_epoch_us=self.clock.now_us(), **self.base()))
        await self._answer(1)

    async def turn(self, milliseconds: int) -> None:
        """Speak, and listen until the answer is over."""
        before = len(self.of(PlayoutFinished))
        await self.say(milliseconds)
        await self._answer(before + 1)

    async def press(self, keys: str) -> None:
        """Press keys, and listen until the answer is over."""
        before = len(self.of(PlayoutFinished))
        for key in keys:
            now = {"media_time_ms": len(self.sent) * 20, **self.base()}
            await self.tell(DtmfIn(press=self._presses, digit=key, duration_ms=100, **now))
            self._presses += 1
            await self.say(100, silent=True)
        await self._answer(before + 1)

    async def _answer(self, count: int) -> None:
        for _ in range(2500):
            await self.say(20, silent=True)
            if len(self.of(PlayoutFinished)) >= count:
                return
        raise AssertionError("no answer")

    def said(self, utterance_id: int) -> list[str]:
        return [each.text for each in self.of(LlmSentence) if each.utterance_id == utterance_id]

    def stage_down(self) -> set[str]:
        return {failure.stage for failure in self.of(Failure) if failure.code == "stage_down"}

    def _obey(self, command: ControlMessage) -> ControlReply:
        self.commands.append(command)
        return ControlReply(ok=True)


def on_a_line(scenario: Callable[[Line], Awaitable[Any]]) -> None:
    async def run() -> None:
        clock = LoopClock()
        await scenario(Line(MemoryServer(clock=clock), clock))

    run_virtual(run())


def ears(*, down: bool = False) -> Ear:
    first, second = Counter("a"), Counter("b")
    if down:
        first.fails = second.fails = {0}
    engine: Any = relay(first, second)  # type: ignore[arg-type]
    return engine  # type: ignore[no-any-return]


def test_no_engine_of_llm_the_caller_is_put_through_to_a_person() -> None:
    async def scenario(line: Line) -> None:
        first, second = Thinker("a"), Thinker("b")
        await line.call(ears(), panel(first, second, attempt_ms=800), troupe(Actor("v"), Actor("w")))
        first.always = second.always = DEAD
        await line.turn(1000)
        assert line.said(100) == [EN.cannot_help, *EN.offer]
        await line.press("1")
        await line.say(500, silent=True)
        assert line.said(200) == [EN.moment]
        assert [each.target for each in line.commands if isinstance(each, Transfer)] == [TARGET]
        assert line.stage_down() == {"llm"}
        assert line.waits[0].seconds < 1.5, "nobody is waited for who is known to fail"

    on_a_line(scenario)


def test_no_engine_of_asr_the_caller_goes_on_with_the_keys_of_the_telephone() -> None:
    async def scenario(line: Line) -> None:
        await line.call(ears(down=True), load_engine("scripted", SETTINGS.llm), troupe(Actor("v"), Actor("w")))
        await line.turn(1000)
        assert line.of(TurnEnded)[-1].why == "unheard"
        assert line.said(100)[:2] == [EN.cannot_hear, EN.use_keys]
        await line.press("2")
        assert line.said(200)[-2:] == ["Please key in the 4 digits.", "For a colleague, press 0."]
        await line.press("4271")
        assert "For no, press 2." in line.said(300)
        assert any(text.startswith("Your balance is") for text in line.said(300))
        await line.press("2")
        await line.say(500, silent=True)
        assert line.said(400)[-1] == "Goodbye."
        assert [type(each) for each in line.commands if isinstance(each, Hangup | Transfer)] == [Hangup]
        assert [ended.digits for ended in line.of(TurnEnded)] == ["", "2", "4271", "2"]
        assert line.stage_down() == {"asr"}

    on_a_line(scenario)


def test_no_engine_of_tts_the_caller_hears_recordings_and_then_a_goodbye() -> None:
    async def scenario(line: Line) -> None:
        first, second = Actor("v"), Actor("w")
        for text in (*EN.later, "Recorded one."):
            line.book.add(text, "en", tone(1500, 800), 8000)
        mind = Thinker("a")
        await line.call(ears(), mind, troupe(first, second))
        first.always = second.always = DEAD
        mind.scripts = [["Recorded one.", None]]
        await line.turn(600)
        assert line.of(TtsStarted)[-1].engine == RECORDED
        await line.turn(600)
        assert not [each for each in line.commands if isinstance(each, Hangup)], "one apology is no reason to end it"
        await line.turn(600)
        for _ in range(200):
            await line.say(20, silent=True)
        assert line.said(301) == list(EN.later)
        recited = [started.utterance_id for started in line.of(TtsStarted) if started.engine == RECORDED]
        assert recited == [100, 301, 301]
        assert len(line.played[301]) >= 2 * 40, "both sentences of the goodbye were heard"
        assert [type(each) for each in line.commands if isinstance(each, Hangup | Transfer)] == [Hangup]
        assert line.stage_down() == {"tts"}

    on_a_line(scenario)
