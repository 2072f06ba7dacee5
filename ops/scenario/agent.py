"""The agent's side in virtual time: what llm and tts would say, and the edge's own playout. Pure.

An answer's sentences come half way to its first audio; a sentence lasts :data:`CHARACTER_MS` per character. What plays,
pauses and is dropped is decided by the same ``edge.media.playout.Playout`` that real calls have.
"""

from __future__ import annotations

from collections.abc import Callable

from config.settings import Settings
from edge.media.playout import Playout
from edge.playout_events import event_of
from ops.scenario.document import Agent
from ops.scenario.expectations import same_words
from ops.scenario.world import BUS_MS, World
from schemas.asr import AsrPreflight
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallResult, EndedBy
from schemas.llm import APOLOGY_PART, ListenFor, LlmDone, LlmSentence, turn_of, utterance_of
from schemas.playout import PlayoutFinished
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted
from services.llm.sentences import split_sentences
from services.tts.words import spread_words

CHARACTER_MS = 60
"""The pace of a person who reads aloud; as the engine ``instant`` of tts."""
FRAME_MS = 20
TICKS_PER_MS = 8
FRAME = bytes(FRAME_MS * TICKS_PER_MS)
PREPARED_MS = 10
"""From the end of a turn to the first audio of an answer that was ready by then."""


class Line:
    """The edge: packets every 20 ms while there is something to send, commands, and the end of the call.

    Attributes:
        ended: nobody is there any more.
    """

    def __init__(self, world: World) -> None:
        self.ended = False
        self.playout = Playout()
        self._world = world
        self._ticking = False
        self._held = False

    @property
    def speaking(self) -> bool:
        """An utterance has begun and is not over, held or not."""
        return self.playout.playing is not None

    @property
    def busy(self) -> bool:
        """Something is still to be sent."""
        return self.speaking or bool(self.playout.queued_ms)

    def offer(self, utterance_id: int, index: int, frames: int) -> None:
        """The audio of a sentence."""
        self.playout.offer(utterance_id, index, 0, [FRAME] * frames, segment_end=True)
        self._start()

    def complete(self, utterance_id: int, sentences: int) -> None:
        """An utterance has no further sentence."""
        self.playout.offer(utterance_id, sentences, 0, [], end=True)
        self._start()

    def hold(self, *, held: bool) -> None:
        """Nothing is sent to a caller who put the call on hold."""
        self._held = held

    def pause(self, utterance_id: int, limit_ms: int, why: str) -> None:
        self.playout.pause(utterance_id, limit_ms, self._media_time(), why)
        self._tell()

    def resume(self, utterance_id: int, why: str) -> None:
        self.playout.resume(utterance_id, self._media_time(), why)
        self._tell()

    def flush(self, utterance_id: int | None, why: str) -> None:
        self.playout.flush(utterance_id, self._media_time(), why)
        self._tell()

    def hang_up(self, reason: str, ended_by: EndedBy) -> None:
        """End the call; what plays is cut."""
        if self.ended:
            return
        if self.busy:
            self.flush(None, "call_ended")
        self.ended = True
        duration_ms = self._world.now_ms
        result = CallResult.COMPLETED
        self._world.say(
            CallEnded, edge="virtual", result=result, reason=reason, ended_by=ended_by, duration_ms=duration_ms
        )

    def _media_time(self) -> int:
        """Of the next packet, ticks."""
        return -(-self._world.now_ms // FRAME_MS) * FRAME_MS * TICKS_PER_MS

    def _start(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._world.at(self._media_time() // TICKS_PER_MS, self._tick)

    def _tick(self) -> None:
        if not self._held:
            self.playout.next_frame(self._world.now_ms * TICKS_PER_MS)
            self._tell()
        self._ticking = self.busy and not self.ended
        if self._ticking:
            self._world.after(FRAME_MS, self._tick)

    def _tell(self) -> None:
        for entry in self.playout.take_ledger():
            event_type, fields = event_of(entry)
            self._world.say(event_type, **fields)


class Speaker:
    """The llm and tts stages: a greeting, an answer to each turn, prompts to a silent caller."""

    def __init__(self, world: World, line: Line, agent: Agent, settings: Settings) -> None:
        self._world = world
        self._line = line
        self._agent = agent
        self._settings = settings
        self._turn = 0
        self._parts = 0
        self._void: set[int] = set()
        self._farewell: int | None = None
        self._preflights: dict[int, tuple[str, int]] = {}
        self._fillers = 0
        self._coming = 0

    @property
    def busy(self) -> bool:
        """An answer is on its way."""
        return self._coming > 0

    def hear(self, event: Event) -> None:
        """An event of the call."""
        match event:
            case CallAnswered():
                self._answer(0, self._delay_ms(0), "")
            case AsrPreflight():
                self._preflights[event.turn] = (event.text, self._world.now_ms)
            case TurnEnded():
                self._turn, self._parts = event.turn, 0
                delay_ms, preemptive = self._prepared(event)
                self._answer(event.turn, delay_ms, preemptive)
            case TurnInterrupted():
                self._void.add(event.utterance_id)
            case TurnAway():
                self._prompt(event)
            case PlayoutFinished() if event.utterance_id == self._farewell:
                self._world.after(BUS_MS, lambda: self._line.hang_up("agent_hung_up", EndedBy.AGENT))

    def apologise(self, turn: int) -> None:
        """tts is told to say the apology by itself."""
        text = self._settings.tts.apology
        utterance_id = utterance_of(turn, APOLOGY_PART)
        self._parts = max(self._parts, APOLOGY_PART)
        sentences = split_sentences(text)
        for index, sentence in enumerate(sentences):
            self._speak(utterance_id, index, sentence, by_itself=True)
        self._line.complete(utterance_id, len(sentences))

    def _delay_ms(self, turn: int) -> int:
        given = self._agent.answer_ms
        return given if isinstance(given, int) else given[min(turn, len(given) - 1)] if given else 0

    def _prepared(self, ended: TurnEnded) -> tuple[int, str]:
        """When the answer's first audio comes, and whether it had been prepared on a preflight."""
        delay_ms = self._delay_ms(ended.turn)
        if not self._settings.llm.preemptive or ended.turn not in self._preflights:
            return delay_ms, ""
        text, since_ms = self._preflights[ended.turn]
        if not same_words(text, ended.text):
            return delay_ms, "miss"
        return max(min(delay_ms, PREPARED_MS), delay_ms - (self._world.now_ms - since_ms)), "hit"

    def _answer(self, turn: int, delay_ms: int, preemptive: str) -> None:
        if turn in self._agent.silent_turns:
            return
        utterance_id = utterance_of(turn)
        sentences = split_sentences(self._agent.says[min(turn, len(self._agent.says) - 1)])
        filler_ms = self._settings.llm.filler_ms
        first = 0
        if turn and filler_ms and delay_ms > filler_ms + PREPARED_MS and sentences:
            first = 1
            self._later(filler_ms, lambda: self._fill(utterance_id))
        self._later(delay_ms // 2, lambda: self._think(utterance_id, sentences, first, preemptive))
        if turn not in self._agent.mute_turns:
            self._later(delay_ms, lambda: self._utter(utterance_id, sentences, first))

    def _later(self, delay_ms: int, action: Callable[[], None]) -> None:
        def act() -> None:
            self._coming -= 1
            action()

        self._coming += 1
        self._world.after(delay_ms, act)

    def _fill(self, utterance_id: int) -> None:
        if utterance_id not in self._void:
            fillers = [text.strip() for text in self._settings.llm.fillers.split("|")]
            text = fillers[self._fillers % len(fillers)]
            self._fillers += 1
            self._sentence(utterance_id, 0, text, filler=True)
            self._speak(utterance_id, 0, text)

    def _think(self, utterance_id: int, sentences: list[str], first: int, preemptive: str = "") -> None:
        if utterance_id in self._void:
            return
        for index, text in enumerate(sentences, start=first):
            self._sentence(utterance_id, index, text)
        turn, expected = turn_of(utterance_id), self._agent.expects_digits
        self._world.say(
            LlmDone,
            turn=turn,
            utterance_id=utterance_id,
            sentences=first + len(sentences),
            listen_for=ListenFor(state="virtual", digits=expected[turn] if turn < len(expected) else 0),
            preemptive=preemptive,
        )

    def _sentence(self, utterance_id: int, index: int, text: str, *, filler: bool = False) -> None:
        self._world.say(
            LlmSentence, turn=turn_of(utterance_id), utterance_id=utterance_id, index=index, text=text, filler=filler
        )

    def _utter(self, utterance_id: int, sentences: list[str], first: int) -> None:
        if utterance_id in self._void:
            return
        for index, text in enumerate(sentences, start=first):
            self._speak(utterance_id, index, text)
        if sentences:
            self._line.complete(utterance_id, first + len(sentences))

    def _speak(self, utterance_id: int, index: int, text: str, *, by_itself: bool = False) -> None:
        frames = CHARACTER_MS // FRAME_MS * len(text)
        place = {"turn": turn_of(utterance_id), "utterance_id": utterance_id, "index": index}
        self._world.say(TtsStarted, **place)
        self._world.say(
            TtsDone,
            **place,
            frames=frames,
            duration_ms=frames * FRAME_MS,
            words=spread_words(text, 0, frames * FRAME_MS),
            text=text if by_itself else None,
        )
        self._line.offer(utterance_id, index, frames)

    def _prompt(self, away: TurnAway) -> None:
        self._parts += 1
        utterance_id = utterance_of(self._turn, self._parts)
        text = self._settings.llm.away_goodbye if away.last else self._settings.llm.away_text
        if away.last:
            self._farewell = utterance_id
        sentences = split_sentences(text)
        delay_ms = self._delay_ms(self._turn)
        self._later(delay_ms // 2, lambda: self._think(utterance_id, sentences, 0))
        self._later(delay_ms, lambda: self._utter(utterance_id, sentences, 0))
