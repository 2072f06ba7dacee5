"""That no turn stays open for ever: each stage on the way to the answer has a deadline. Pure.

The turn's end is awaited by the llm stage, its sentence by tts, its audio by the edge. Events of different stages may
overtake each other, so a later one counts for those before it. The llm stage answers one turn after the other: its
deadline counts from the last that it said for an older one. While an older utterance plays, tts and the edge have
none: they deal with that one first. On hold nobody has one. An answer that comes after all is forgiven: only turns that
nobody answered are counted.
"""

from __future__ import annotations

from enum import Enum

from config.settings import TurnSection
from schemas.llm import APOLOGY_PART, UTTERANCES_PER_TURN
from services.asr.turn import values as v
from services.asr.turn.table import Table, Tabled


class WatchState(Enum):
    """Whose sign is awaited."""

    CALM = "calm"
    LLM = "llm"
    TTS = "tts"
    EDGE = "edge"
    ENDING = "ending"
    """The answer is heard, and llm has not said that it is complete."""


class WatchTrigger(Enum):
    """What moves it."""

    TURN = "turn"
    """The caller's turn ended."""
    SENTENCE = "sentence"
    SPEECH = "speech"
    PLAYOUT = "playout"
    """The answer, which is complete, is heard; or it was heard, or dropped."""
    BEGUN = "begun"
    """The beginning of the answer is heard."""
    COMPLETE = "complete"
    """llm has said that there is no more of it."""
    NOTHING_TO_SAY = "nothing_to_say"
    """The answer has no sentence."""
    OVERDUE = "overdue"


_S, _T = WatchState, WatchTrigger

WATCH_TABLE: Table[WatchState, WatchTrigger] = {
    (_S.CALM, _T.TURN): (_S.LLM, ("start",)),
    (_S.CALM, _T.PLAYOUT): (_S.CALM, ("forgive",)),
    (_S.LLM, _T.TURN): (_S.LLM, ("start",)),
    (_S.LLM, _T.SENTENCE): (_S.TTS, ("start",)),
    (_S.LLM, _T.SPEECH): (_S.EDGE, ("start",)),
    (_S.LLM, _T.PLAYOUT): (_S.CALM, ("forgive",)),
    (_S.LLM, _T.BEGUN): (_S.ENDING, ("forgive", "start")),
    (_S.LLM, _T.NOTHING_TO_SAY): (_S.CALM, ("forgive",)),
    (_S.LLM, _T.OVERDUE): (_S.CALM, ("complain_of_llm",)),
    (_S.TTS, _T.TURN): (_S.LLM, ("start",)),
    (_S.TTS, _T.SPEECH): (_S.EDGE, ("start",)),
    (_S.TTS, _T.PLAYOUT): (_S.CALM, ("forgive",)),
    (_S.TTS, _T.BEGUN): (_S.ENDING, ("forgive", "start")),
    (_S.TTS, _T.OVERDUE): (_S.CALM, ("complain_of_tts",)),
    (_S.EDGE, _T.TURN): (_S.LLM, ("start",)),
    (_S.EDGE, _T.PLAYOUT): (_S.CALM, ("forgive",)),
    (_S.EDGE, _T.BEGUN): (_S.ENDING, ("forgive", "start")),
    (_S.EDGE, _T.OVERDUE): (_S.CALM, ("complain_of_edge",)),
    (_S.ENDING, _T.TURN): (_S.LLM, ("start",)),
    (_S.ENDING, _T.SENTENCE): (_S.ENDING, ("start",)),
    (_S.ENDING, _T.COMPLETE): (_S.CALM, ()),
    (_S.ENDING, _T.PLAYOUT): (_S.CALM, ("forgive",)),
    (_S.ENDING, _T.OVERDUE): (_S.CALM, ("complain_of_llm",)),
}
"""(state, trigger) -> (next state, actions). A pair that is absent means: nothing to do."""

Sign = v.Sentence | v.Speech | v.PlayoutBegan | v.PlayoutEnded


class Watch(Tabled[WatchState, WatchTrigger]):
    """Awaits the answer to one turn. ``commands`` are taken by the machine after each input."""

    def __init__(
        self,
        settings: TurnSection,
        *,
        turn: int | None = None,
        stage: str = "llm",
        complete: bool = False,
        said: int = 0,
        marked: int = 0,
        in_a_row: int = 0,
    ) -> None:
        """``turn``: one that is awaited already (0: the greeting), by the stage ``stage``; ``complete``: llm has said
        all of its answer, of which ``said`` sentences are known and ``marked`` have left; ``in_a_row``: turns before
        it that were stuck."""
        super().__init__(WATCH_TABLE, _S.CALM if turn is None else _S(stage))
        self.commands: list[v.Command] = []
        self._deadlines_ms = {
            _S.LLM: settings.stuck_llm_ms,
            _S.TTS: settings.stuck_tts_ms,
            _S.EDGE: settings.stuck_playout_ms,
            _S.ENDING: settings.stuck_llm_ms,
        }
        self._turn = turn or 0
        self._complete = complete
        self._said, self._marked = said, marked
        self._in_a_row = in_a_row
        self._since_ms: int | None = None
        self._now_ms = 0

    @property
    def waiting(self) -> bool:
        """An answer is on its way."""
        return self.state is not _S.CALM

    @property
    def deadline_ms(self) -> int | None:
        """When the awaited stage is overdue."""
        if self._since_ms is None or self.state is _S.CALM:
            return None
        return self._since_ms + self._deadlines_ms[self.state]

    def turn_ended(self, turn: int, now_ms: int) -> None:
        """Await the answer to this turn."""
        self._turn, self._now_ms = turn, now_ms
        self._complete = False
        self._said = self._marked = 0
        self.pull(_T.TURN)

    def sign(self, given: Sign, now_ms: int) -> None:
        """A stage has done something for an utterance; only those of the awaited turn count."""
        self._now_ms = now_ms
        turn, part = divmod(given.utterance_id, UTTERANCES_PER_TURN)
        if turn == self._turn and part < APOLOGY_PART:
            if isinstance(given, v.Sentence) and not part:
                self._said = max(self._said, given.number + 1)
            self.pull(self._trigger_of(given))
        elif isinstance(given, v.Sentence):
            self._at_work_on(turn)

    def answered(self, given: v.Answered, now_ms: int) -> None:
        """The llm stage has ended an utterance; without a sentence nothing is to be heard."""
        self._now_ms = now_ms
        if given.utterance_id == self._turn * UTTERANCES_PER_TURN:
            self._complete = True
            self.pull(_T.COMPLETE if given.sentences else _T.NOTHING_TO_SAY)
        self._at_work_on(given.utterance_id // UTTERANCES_PER_TURN)

    def marked(self, given: v.Marked, now_ms: int) -> None:
        """A sentence has left; with the last of those that are known the silence begins."""
        self._now_ms = now_ms
        if given.utterance_id == self._turn * UTTERANCES_PER_TURN:
            self._marked = max(self._marked, given.number + 1)
            self.at_work(now_ms)

    def at_work(self, now_ms: int) -> None:
        """The llm stage uses a tool: it is not stuck, whatever the tool takes within its own deadline."""
        self._now_ms = now_ms
        if self.state in (_S.LLM, _S.ENDING):
            self._since_ms = now_ms

    def _trigger_of(self, given: Sign) -> WatchTrigger:
        match given:
            case v.Sentence():
                return _T.SENTENCE
            case v.Speech():
                return _T.SPEECH
            case v.PlayoutBegan() if not self._complete:
                return _T.BEGUN
            case _:
                return _T.PLAYOUT

    def _at_work_on(self, turn: int) -> None:
        """The llm stage had an older turn to answer until now."""
        if self.state is _S.LLM and turn < self._turn:
            self._since_ms = self._now_ms

    def look(self, *, held: bool, busy: bool, now_ms: int) -> None:
        """Look at the clock. ``held``: the call is on hold; ``busy``: an older utterance plays."""
        self._now_ms = now_ms
        speaking = self._marked < self._said if self.state is _S.ENDING else busy and self.state is not _S.LLM
        if self._since_ms is None or held or speaking:
            self._since_ms = now_ms
        deadline = self.deadline_ms
        if deadline is not None and now_ms >= deadline:
            self.pull(_T.OVERDUE)

    # Actions, named by the table.

    def _do_start(self) -> None:
        self._since_ms = self._now_ms

    def _do_forgive(self) -> None:
        self._in_a_row = 0

    def _do_complain_of_llm(self) -> None:
        self._complain("llm")

    def _do_complain_of_tts(self) -> None:
        self._complain("tts")

    def _do_complain_of_edge(self) -> None:
        self._complain("edge")

    def _complain(self, stage: str) -> None:
        self._in_a_row += 1
        waited_ms = self._now_ms - (self._since_ms or 0)
        self.commands.append(v.Stuck(self._turn, stage, waited_ms, self._in_a_row))
