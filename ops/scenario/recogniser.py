"""A recogniser in virtual time: it hears every word that the caller says, each a little later. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ops.scenario.virtual_caller import Caller, SpokenWord
from ops.scenario.world import World
from schemas.asr import AsrFinal, AsrPartial
from services.asr.turn import values as v

PARTIAL_MS = 100
"""From the end of a word to the partial that has it."""
FINAL_MS = 30
"""From the last audio of a run to its final."""
CONFIDENCE = 0.9
FRAME_MS = 20


@dataclass
class _Run:
    """One run. It has the words whose middle lies between ``since_ms`` and the end of its audio."""

    opened: v.OpenRun
    since_ms: int
    partial: str = ""


class Recogniser:
    """Partials and finals of the runs that the machine opens."""

    def __init__(self, world: World, caller: Caller, tell: Callable[[v.Input], None]) -> None:
        self._world = world
        self._caller = caller
        self._tell = tell
        self._runs: dict[int, _Run] = {}
        self._current: _Run | None = None
        self._through_ms = 0
        self._partials = 0

    def open(self, command: v.OpenRun) -> None:
        """Begin to recognise what was said since ``since_ms`` and in no earlier run."""
        run = _Run(command, max(command.since_ms, self._through_ms))
        self._runs[command.run] = self._current = run
        self._listen(run)

    def finish(self, command: v.FinishRun) -> None:
        """The run has had its last audio."""
        run = self._runs[command.run]
        if self._current is run:
            self._current = None
        self._through_ms = until_ms = self._world.now_ms
        text = _text(self._words(run, until_ms))
        self._world.after(FINAL_MS, lambda: self._final(run, command, text, until_ms))

    def _listen(self, run: _Run) -> None:
        """Look for new words as long as the run is open."""
        if self._current is not run:
            return
        heard = [word for word in self._words(run) if word.end_ms + PARTIAL_MS <= self._world.now_ms]
        text = _text(heard)
        if text != run.partial:
            run.partial = text
            self._world.say(AsrPartial, turn=run.opened.turn, revision=self._partials, text=text)
            self._partials += 1
            self._tell(v.Partial(run.opened.run, text))
        self._world.after(FRAME_MS, lambda: self._listen(run))

    def _final(self, run: _Run, command: v.FinishRun, text: str, until_ms: int) -> None:
        self._world.say(
            AsrFinal,
            turn=run.opened.turn,
            part=run.opened.part,
            text=text,
            through_sequence=until_ms // FRAME_MS,
            confidence=CONFIDENCE,
            speech_start_ms=command.speech_start_ms,
            speech_end_ms=command.speech_end_ms,
            transcription_delay_ms=float(self._world.now_ms - command.speech_end_ms),
            engine="virtual",
        )
        self._tell(v.Final(command.run, text, CONFIDENCE))

    def _words(self, run: _Run, until_ms: int | None = None) -> list[SpokenWord]:
        return [
            word
            for word in self._caller.words
            if 2 * run.since_ms < word.start_ms + word.end_ms
            and (until_ms is None or word.start_ms + word.end_ms <= 2 * until_ms)
        ]


def _text(words: list[SpokenWord]) -> str:
    return " ".join(word.text for word in words)
