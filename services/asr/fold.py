"""What the events of a call say about its hearing so far: where a successor goes on. Pure."""

from __future__ import annotations

from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallHeld, DtmfIn
from schemas.llm import ListenFor, LlmDone
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutStarted
from schemas.turn import TurnEnded, TurnInterrupted, TurnStarted
from schemas.vad import VadStarted, VadStopped
from services.asr.turn.machine import Start

NAMES = (
    "call.answered", "call.held", "call.ended", "dtmf.in", "vad.*", "asr.final", "turn.*", "llm.done",
    "playout.started", "playout.finished", "playout.flushed",
)  # fmt: skip
"""Events that the asr stage follows."""

OWN = (VadStarted, VadStopped, AsrFinal, TurnStarted, TurnEnded, TurnInterrupted)
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
        self._interrupted: set[int] = set()

    @property
    def turn_open(self) -> bool:
        """A turn was announced and has not ended."""
        return self._open

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
            case PlayoutStarted():
                self._playing = event.utterance_id
            case PlayoutFinished() | PlayoutFlushed():
                if self._playing == event.utterance_id:
                    self._playing = None
            case _:
                self._apply_own(event)

    def _apply_own(self, event: Event) -> None:
        match event:
            case VadStarted():
                self._voiced = True
            case VadStopped():
                self._voiced = False
            case TurnStarted():
                self._turn, self._open = event.turn, True
            case AsrFinal():
                self.through_sequence = max(self.through_sequence, event.through_sequence)
                self._turn = max(self._turn, event.turn)
                self._finals.append(event)
            case TurnEnded():
                self._turn, self._open = event.turn + 1, False
                self._finals = []
                self.keys = [key for key in self.keys if key.media_time_ms > event.speech_end_ms]
            case TurnInterrupted():
                self._interrupted.add(event.utterance_id)
            case _:
                pass
