"""What the events of a call say about its hearing so far: where a successor goes on. Pure."""

from __future__ import annotations

import msgspec

from schemas.asr import AsrFinal, AsrPreflight
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallHeld, DtmfIn
from schemas.failure import Failure
from schemas.llm import APOLOGY_PART, ListenFor, LlmDone, LlmSentence, turn_of, utterance_of
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.tts import TtsStarted
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnMeasured, TurnResumed, TurnStarted
from schemas.vad import VadStarted, VadStopped
from services.asr.turn.machine import Start

NAMES = (
    "call.answered", "call.held", "call.ended", "dtmf.in", "vad.*", "asr.preflight", "asr.final", "turn.*", "llm.*",
    "tool.*", "tts.started", "playout.*", "failure",
)  # fmt: skip
"""Events that the asr stage follows."""

OWN = (
    VadStarted, VadStopped, AsrPreflight, AsrFinal, TurnStarted, TurnEnded, TurnInterrupted, TurnResumed, TurnAway,
    TurnMeasured,
)  # fmt: skip
"""Events that this stage says itself: they count in the fold, and live only as a sign of a successor."""


class CallFold:
    """State of a call, event by event. ``start`` is what the turn machine of a successor begins with.

    Attributes:
        through_sequence: last frame that a final covers; -1 before the first.
        keys: keys that no ended turn has used.
    """

    def __init__(self) -> None:
        self.answered: CallAnswered | None = None
        self.held = False
        self.ended = False
        self.listen_for = ListenFor()
        self.through_sequence = -1
        self.keys: list[DtmfIn] = []
        self._turn = 1
        self._open = False
        self._finals: list[AsrFinal] = []
        self._voiced = False
        self._playing: int | None = None
        self._paused = False
        self._interrupted: set[int] = set()
        self._awaited = Awaited()
        self._away_number = self._away_asked = self._preflights = 0
        self._away_gone = False

    @property
    def turn_open(self) -> bool:
        """A turn was announced and has not ended, or the caller speaks."""
        return self._open or self._voiced

    @property
    def start(self) -> Start:
        """Where the turn machine goes on."""
        worded = [final for final in self._finals if final.text]
        return Start(
            turn=self._turn,
            open=self._open,
            part=self._finals[-1].part + 1 if self._finals else 0,
            text=" ".join(final.text for final in worded),
            confidence=min((final.confidence for final in worded), default=1.0),
            speech_start_ms=worded[0].speech_start_ms if worded else None,
            speech_end_ms=self._finals[-1].speech_end_ms if self._finals else 0,
            voiced=self._voiced,
            expected_digits=self.listen_for.digits,
            playing=self._playing,
            interrupted=frozenset(self._interrupted),
            paused=self._paused,
            awaited_turn=self._awaited.turn,
            awaited_stage=self._awaited.stage,
            awaited_complete=self._awaited.complete,
            awaited_said=self._awaited.said,
            awaited_marked=self._awaited.marked,
            stuck_in_a_row=self._awaited.stuck_in_a_row,
            away_number=self._away_number,
            away_asked=self._away_asked,
            away_gone=self._away_gone,
            preflights=self._preflights,
        )

    def apply(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case CallAnswered():
                self.answered = event
            case CallHeld():
                self.held = event.held
            case CallEnded():
                self.ended = True
            case LlmDone():
                self.listen_for = event.listen_for
            case DtmfIn():
                self.keys.append(event)
            case _:
                self._apply_playout(event)
                self._apply_own(event)
        self._awaited.apply(event)

    def _apply_playout(self, event: Event) -> None:
        match event:
            case PlayoutStarted():
                self._playing, self._paused = event.utterance_id, False
            case PlayoutPaused() | PlayoutResumed():
                self._paused = isinstance(event, PlayoutPaused) and event.utterance_id == self._playing
            case PlayoutFinished() | PlayoutFlushed():
                if self._playing == event.utterance_id:
                    self._playing, self._paused = None, False
            case _:
                pass

    def _apply_own(self, event: Event) -> None:
        match event:
            case VadStarted():
                self._voiced = True
            case VadStopped():
                self._voiced = False
            case TurnStarted():
                self._turn, self._open = event.turn, True
            case AsrPreflight():
                self._preflights = event.number + 1
            case AsrFinal():
                self.through_sequence = max(self.through_sequence, event.through_sequence)
                self._turn = max(self._turn, event.turn)
                self._finals.append(event)
            case TurnEnded():
                self._turn, self._open = event.turn + 1, False
                self._finals = []
                self._away_asked = self._preflights = 0
                self._away_gone = False
                self.keys = [key for key in self.keys if key.media_time_ms > event.speech_end_ms]
            case TurnInterrupted():
                self._interrupted.add(event.utterance_id)
            case TurnResumed() if event.why == "backchannel":
                # Those words belong to no turn; the number of the next final goes on.
                self._finals = [msgspec.structs.replace(final, text="") for final in self._finals]
            case TurnAway():
                self._away_number = event.number + 1
                self._away_asked += 1
                self._away_gone = event.last
            case _:
                pass


class Awaited:
    """The turn whose answer is awaited and the stage that has to give the next sign. ``turn`` None: none is.

    ``complete``: llm has said all of the answer; ``said``, ``marked``: its sentences known, and those that left.
    ``stuck_in_a_row``: turns one after another that nobody answered.
    """

    def __init__(self) -> None:
        self.turn: int | None = 0
        self.stage = "llm"
        self.complete = False
        self.said = self.marked = 0
        self.stuck_in_a_row = 0
        self._newest = 0

    def apply(self, event: Event) -> None:
        """Take the next event."""
        self._count(event)
        match event:
            case TurnEnded():
                self.turn, self.stage, self.complete = event.turn, "llm", False
                self.said = self.marked = 0
                self._newest = event.turn
            case LlmSentence() if self._of_it(event.utterance_id) and self.stage == "llm":
                self.stage = "tts"
            case TtsStarted() if self._of_it(event.utterance_id):
                self.stage = "edge"
            case PlayoutStarted() if self._of_it(event.utterance_id) and not self.complete:
                self.stage, self.stuck_in_a_row = "ending", 0
            case PlayoutStarted() | PlayoutFinished() | PlayoutFlushed() if self._answers(event.utterance_id):
                self.turn, self.stuck_in_a_row = None, 0
            case LlmDone() if event.utterance_id == utterance_of(self._newest):
                self.complete = True
                if self.stage == "ending" or (self.stage == "llm" and not event.sentences):
                    self.turn, self.stuck_in_a_row = None, 0
            case Failure() if event.code == "turn_stuck" and event.stage == "asr" and event.turn == self.turn:
                self.turn = None
                self.stuck_in_a_row += 1
            case _:
                pass

    def _count(self, event: Event) -> None:
        if isinstance(event, LlmSentence | PlayoutMark) and event.utterance_id == utterance_of(self._newest):
            if isinstance(event, LlmSentence):
                self.said = max(self.said, event.index + 1)
            else:
                self.marked = max(self.marked, event.index + 1)

    def _of_it(self, utterance_id: int) -> bool:
        return self.turn is not None and self._answers(utterance_id)

    def _answers(self, utterance_id: int) -> bool:
        """Whether it is said to the newest turn, and is no apology for it nor what follows one."""
        return turn_of(utterance_id) == self._newest and utterance_id < utterance_of(self._newest, APOLOGY_PART)
