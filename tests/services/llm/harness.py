"""A call around the llm stage, in memory and in virtual time: the other stages as small twins, the worker as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

import msgspec

from bus.clock import SystemClock, Timer, settle
from bus.consume import CallFeed, follow_call, read_call
from bus.control import send_control, serve_control
from bus.interface import Subscription
from bus.kv import TypedBucket
from bus.memory import MemoryConnection, MemoryServer
from bus.ownership import Claim
from bus.publish import Recorder
from config.settings import LlmSection, Settings
from schemas.asr import AsrPreflight
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, CallResult, EndedBy
from schemas.control import ControlMessage, ControlReply, Hangup, Transfer
from schemas.llm import APOLOGY_PART, LlmDone, LlmSentence, turn_of, utterance_of
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark, PlayoutStarted
from schemas.session import CallSession, ConversationContext
from schemas.tts import SpokenWord, TtsDone
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted
from services.llm.call import LlmCall
from services.llm.engine import Engine, load_engine
from services.llm.worker import Worker

E = TypeVar("E", bound=Event)

START_US = 1_700_000_000_000_000
CALL_ID = "0199aabbccdd7eeff001122334455667"
TENANT = "default"
WORD_MS = 100


class LoopClock(SystemClock):
    """The wall clock of a virtual loop."""

    def elapsed_us(self) -> int:
        return self.now_us()

    def now_us(self) -> int:
        return START_US + round(asyncio.get_running_loop().time() * 1_000_000)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_ms / 1000, callback)


class InlineExecutor(Executor):
    """Runs at once, on the loop's thread: virtual time does not run away from a tool."""

    def __init__(self) -> None:
        self.ran = 0

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self.ran += 1
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except BaseException as error:
            future.set_exception(error)
        return future


class World:
    """A server, the twins of edge, asr and tts, and as many workers as a test wants.

    ``transfers``: the edge takes a transfer.

    ``plays``: the twins synthesise and play every utterance to its end by themselves, at once; ``paced``: in the time
    that it takes to say it.
    """

    def __init__(self, *, plays: bool = True, paced: bool = False, clock: SystemClock | None = None) -> None:
        self.clock = clock or LoopClock()
        self.server = MemoryServer(clock=self.clock)
        self.connection = self.server.connect("twins")
        self.recorder = Recorder(self.connection, service="edge")
        self.plays = plays and not paced
        self.paced = paced
        self._busy_until = 0.0
        self.events: list[Event] = []
        self.commands: list[ControlMessage] = []
        self.edge_replies: list[ControlReply] = []
        self.transfers = False
        self.workers: list[MemoryConnection] = []
        self.executor = InlineExecutor()
        self._feed: CallFeed | None = None
        self._edge: Subscription | None = None

    async def begin(self, caller: str = "+15551234567") -> None:
        self._feed = await follow_call(self.connection, CALL_ID, TENANT, self._take_in, service="edge")
        self._edge = await serve_control(self.connection, "edge", CALL_ID, TENANT, self._command, service="edge")
        self.offered = CallOffered(**self.base(), edge="edge-1", caller=caller, sip_call_id="abc@host")
        self.recorder.record(self.offered)
        await settle()

    async def answer(self) -> None:
        self.recorder.record(
            CallAnswered(**self.base(), edge="edge-1", codec="PCMU", media_epoch_us=self.clock.now_us())
        )
        await self.rest()

    async def hang_up(self, result: CallResult = CallResult.COMPLETED) -> None:
        self.recorder.record(
            CallEnded(**self.base(), edge="edge-1", result=result, reason="caller_hung_up", ended_by=EndedBy.CALLER)
        )
        await self.rest(1000)

    async def say(self, turn: int, text: str = "", digits: str = "") -> list[str]:
        """The caller's turn; what the agent answers."""
        why = "dtmf" if digits else "silence" if text else "timeout"
        self.recorder.record(TurnEnded(**self.base(), turn=turn, why=why, text=text, digits=digits))
        await self.rest()
        return self.answer_to(turn)

    def end_turn(self, turn: int, text: str, *, why: str = "silence", digits: str = "", hop_ms: int = 0) -> None:
        """The caller's turn is over, said ``hop_ms`` ago; nothing is waited for."""
        base = self.base()
        base["at_us"] -= hop_ms * 1000
        self.recorder.record(TurnEnded(**base, turn=turn, why=why, text=text, digits=digits))

    async def stand_still(self, turn: int, text: str, number: int = 0, *, rest_ms: float = 250) -> None:
        """The caller's words have stood still."""
        self.recorder.record(AsrPreflight(**self.base(), turn=turn, number=number, text=text))
        await self.rest(rest_ms)

    async def away(self, number: int, *, last: bool = False, turn: int = 0) -> None:
        """Nobody says anything."""
        self.recorder.record(TurnAway(**self.base(), turn=turn, number=number, last=last))
        await self.rest()

    async def apologise(self, turn: int, text: str = "I am sorry. Please say that again.") -> None:
        """The tts stage says it where a turn is stuck; the llm stage gives no sign of it."""
        utterance_id = utterance_of(turn, APOLOGY_PART)
        self.synthesise(utterance_id, 0, text)
        self.play(utterance_id, 1)
        await self.rest()

    async def interrupt(self, turn: int, index: int, sent_ms: int, *, flush: bool = True) -> None:
        """The caller speaks over the answer of a turn, which is cut ``sent_ms`` into sentence ``index``."""
        utterance_id = utterance_of(turn)
        self.recorder.record(TurnInterrupted(**self.base(), turn=turn + 1, utterance_id=utterance_id))
        if flush:
            self.recorder.record(
                PlayoutFlushed(**self.base(), utterance_id=utterance_id, media_time_ms=0, index=index, sent_ms=sent_ms)
            )
        await self.rest()

    async def rest(self, milliseconds: float = 250) -> None:
        """Let everything happen that happens by itself."""
        await asyncio.sleep(milliseconds / 1000)

    # --- workers -----------------------------------------------------------------------------------------------------

    async def work(
        self,
        engine: Engine | None = None,
        *,
        epoch: int = 1,
        name: str = "",
        settings: Settings | None = None,
    ) -> LlmCall:
        """A worker that owns the call from now on."""
        settings = settings or Settings()
        connection = self.server.connect(name or f"llm-{epoch}")
        self.workers.append(connection)
        engine = engine or load_engine(settings.llm.engine, settings.llm)
        worker = Worker(connection, name or f"llm-{epoch}", engine, settings, self.clock, executor=self.executor)
        await worker.bind()
        return await worker.accept(Claim(CALL_ID, TENANT, epoch, epoch > 1, self.offered, ""))

    async def kill(self, call: LlmCall) -> None:
        """The worker's process dies: no word leaves it any more."""
        self.workers.pop(0).kill()
        await call.release("superseded")

    # --- what was said ----------------------------------------------------------------------------------------------

    def of(self, event_type: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, event_type)]

    def answer_to(self, turn: int) -> list[str]:
        said = [s for s in self.of(LlmSentence) if s.utterance_id == utterance_of(turn)]
        return [s.text for s in sorted(said, key=lambda s: s.index)]

    def done(self, turn: int) -> LlmDone:
        (found,) = [d for d in self.of(LlmDone) if d.utterance_id == utterance_of(turn)]
        return found

    async def stored(self, event_type: type[E]) -> list[E]:
        return [e for e in await read_call(self.connection, CALL_ID, TENANT) if isinstance(e, event_type)]

    async def context(self) -> ConversationContext:
        await self.rest(500)
        entry = await (await TypedBucket.open(self.connection, "context", ConversationContext)).get(CALL_ID)
        assert entry is not None
        return entry.value

    async def session(self) -> CallSession:
        await self.rest(500)
        entry = await (await TypedBucket.open(self.connection, "calls", CallSession)).get(CALL_ID)
        assert entry is not None
        return entry.value

    def figure(self, call: LlmCall, name: str) -> float:
        return call._place.figures.get(name, 0)

    async def history(self) -> list[str]:
        return [f"{e.speaker.value}: {e.text}" for e in (await self.context()).conversation_history]

    async def send(self, command: ControlMessage) -> ControlReply:
        reply = await send_control(self.connection, "llm", command)
        await self.rest()
        return reply

    def base(self) -> dict[str, Any]:
        return {"call_id": CALL_ID, "tenant": TENANT, "at_us": self.clock.now_us()}

    # --- twins -------------------------------------------------------------------------------------------------------

    def _command(self, command: ControlMessage) -> ControlReply:
        self.commands.append(command)
        if isinstance(command, Transfer) and not self.transfers:
            return ControlReply(ok=False, error="not_supported", message="no transfer here")
        return self.edge_replies.pop(0) if self.edge_replies else ControlReply(ok=True)

    def _take_in(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, LlmSentence) and self.plays:
            self.synthesise(event.utterance_id, event.index, event.text)
        elif isinstance(event, LlmDone) and self.plays:
            self.play(event.utterance_id, event.sentences)
        elif isinstance(event, LlmSentence | LlmDone) and self.paced:
            self._pace(event)

    def _pace(self, event: LlmSentence | LlmDone) -> None:
        """A sentence is heard after those before it, a word each 100 ms."""
        loop, utterance_id = asyncio.get_running_loop(), event.utterance_id
        if isinstance(event, LlmSentence):
            self.synthesise(utterance_id, event.index, event.text)
            begin = max(loop.time(), self._busy_until)
            self._busy_until = begin + WORD_MS * len(event.text.split()) / 1000
            ended: Event = PlayoutMark(**self.base(), utterance_id=utterance_id, index=event.index, media_time_ms=0)
        else:
            ended = PlayoutFinished(**self.base(), utterance_id=utterance_id, media_time_ms=0)
        loop.call_at(max(loop.time(), self._busy_until), self.recorder.record, ended)

    def synthesise(self, utterance_id: int, index: int, text: str, *, words: bool = True) -> None:
        """Every word takes 100 ms."""
        pieces = text.split()
        spoken = tuple(
            SpokenWord(text=piece, start_ms=WORD_MS * at, end_ms=WORD_MS * (at + 1)) for at, piece in enumerate(pieces)
        )
        self.recorder.record(
            TtsDone(
                **self.base(),
                turn=turn_of(utterance_id),
                utterance_id=utterance_id,
                index=index,
                frames=5 * len(pieces),
                duration_ms=WORD_MS * len(pieces),
                words=spoken if words else (),
            )
        )

    def play(self, utterance_id: int, sentences: int) -> None:
        self.recorder.record(PlayoutStarted(**self.base(), utterance_id=utterance_id, media_time_ms=0))
        for index in range(sentences):
            self.recorder.record(PlayoutMark(**self.base(), utterance_id=utterance_id, index=index, media_time_ms=0))
        self.recorder.record(PlayoutFinished(**self.base(), utterance_id=utterance_id, media_time_ms=0))


def hangups(commands: Sequence[ControlMessage]) -> int:
    return sum(isinstance(command, Hangup) for command in commands)


def settings_with(**llm: Any) -> Settings:
    return msgspec.structs.replace(Settings(), llm=msgspec.structs.replace(LlmSection(), **llm))
