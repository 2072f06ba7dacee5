"""The turn machine: whose turn it is, decided by a table.

House rules of this file:

1. Every transition is a row of :data:`TABLE`. Code may derive a trigger and may do what a row names; it never sets
   ``state`` in any other way.
2. The machine knows the caller's media time and nothing else: not which clock moves it, which engine listens, or
   whether its audio is live or heard a second time. The same inputs give the same commands.

Theory of operation. The gate (``gate.py``) turns speech probabilities into VOICE and SILENCE. VOICE opens a turn and a
run of the engine; when the caller has been silent for as long as patience lasts (PATIENCE_OVER) the run is finished,
and once its final is there the turn ends. Patience is ``endpointing_min_ms``, counted from the last voiced sample; it
is shorter when all expected digits were heard, and ``endpointing_max_ms`` while some of them are still to come. Keys
are a turn as well: they end it when they are as many as expected, at ``#``, or ``dtmf_timeout_ms`` after the last one.
Speech while a final is awaited is kept and taken up after it.

Noise ends no turn. Where a final is empty nothing is announced: the turn stays open under its number, its next final is
its next part, and it ends with the words that come then. But who spoke for :data:`UNCLEAR_SPEECH_MS`, or made the agent
fall silent, waits for an answer: such a turn ends without words, with confidence 0.

Barge-in lies across all states: speech of ``interruption_min_ms``, a partial of two words, or a key, while an utterance
of the agent plays, interrupts that utterance, once.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from config.settings import TurnSection
from services.asr.grammar import count_digits
from services.asr.turn import values as v
from services.asr.turn.gate import Gate, VoiceBegan, VoiceEnded

PRE_ROLL_MS = 300
"""Audio before the first voiced sample that a run gets: soft beginnings of words lie under the threshold."""

DIGITS_CONFIRM_MS = 250
"""Patience once all expected digits were heard: a digit too many would still come within it."""

RUN_LIMIT_MS = 20_000
"""A longer run is cut in two, so that a successor never needs more audio than the edge's ring holds (30 s)."""

UNCLEAR_SPEECH_MS = 1000
"""Speech of this length is more than a noise, even where no word of it was recognised."""

INTERRUPTING_WORDS = 2
TERMINATOR = "#"


class State(Enum):
    """Where the caller's turn stands."""

    IDLE = "idle"
    """Nobody speaks, no keys are pending."""
    KEYING = "keying"
    """Keys are pending; no run is open."""
    VOICED = "voiced"
    """The caller speaks; a run is open."""
    PAUSED = "paused"
    """The caller fell silent, perhaps only for breath; the run is open."""
    FINISHING = "finishing"
    """The run was finished; its final is awaited."""


class Trigger(Enum):
    """What moves the machine, derived from inputs and time."""

    VOICE = "voice"
    SILENCE = "silence"
    PATIENCE_OVER = "patience_over"
    RUN_FULL = "run_full"
    KEY = "key"
    KEYS_DONE = "keys_done"
    PART = "part"
    """A final, and another is still awaited or open."""
    WORDS = "words"
    """The last awaited final: the turn has words, its keys are done, or it wants an answer for another reason."""
    NOTHING = "nothing"
    """The last awaited final: no words in the turn, no keys."""
    KEYS_PENDING = "keys_pending"
    """The last awaited final, while keys are pending."""
    LEFTOVER = "leftover"
    """Words that a predecessor had recognised, and nothing follows them."""


_S, _T = State, Trigger

TABLE: dict[tuple[State, Trigger], tuple[State, tuple[str, ...]]] = {
    (_S.IDLE, _T.VOICE): (_S.VOICED, ("say_voice", "open_turn", "open_run")),
    (_S.IDLE, _T.SILENCE): (_S.IDLE, ("say_silence",)),
    (_S.IDLE, _T.LEFTOVER): (_S.IDLE, ("end_turn",)),
    (_S.IDLE, _T.KEY): (_S.KEYING, ("take_key", "open_turn")),
    (_S.KEYING, _T.VOICE): (_S.VOICED, ("say_voice", "open_run")),
    (_S.KEYING, _T.SILENCE): (_S.KEYING, ("say_silence",)),
    (_S.KEYING, _T.KEY): (_S.KEYING, ("take_key",)),
    (_S.KEYING, _T.KEYS_DONE): (_S.IDLE, ("end_turn",)),
    (_S.VOICED, _T.SILENCE): (_S.PAUSED, ("say_silence",)),
    (_S.VOICED, _T.KEY): (_S.VOICED, ("take_key",)),
    (_S.VOICED, _T.KEYS_DONE): (_S.FINISHING, ("finish_run",)),
    (_S.VOICED, _T.RUN_FULL): (_S.VOICED, ("finish_run", "open_run")),
    (_S.VOICED, _T.PART): (_S.VOICED, ()),
    (_S.PAUSED, _T.VOICE): (_S.VOICED, ("say_voice",)),
    (_S.PAUSED, _T.PATIENCE_OVER): (_S.FINISHING, ("finish_run",)),
    (_S.PAUSED, _T.KEY): (_S.PAUSED, ("take_key",)),
    (_S.PAUSED, _T.KEYS_DONE): (_S.FINISHING, ("finish_run",)),
    (_S.PAUSED, _T.PART): (_S.PAUSED, ()),
    (_S.FINISHING, _T.VOICE): (_S.FINISHING, ("defer",)),
    (_S.FINISHING, _T.SILENCE): (_S.FINISHING, ("defer",)),
    (_S.FINISHING, _T.KEY): (_S.FINISHING, ("take_key",)),
    (_S.FINISHING, _T.PART): (_S.FINISHING, ()),
    (_S.FINISHING, _T.WORDS): (_S.IDLE, ("end_turn", "take_up_deferred")),
    (_S.FINISHING, _T.NOTHING): (_S.IDLE, ("drop_speech", "take_up_deferred")),
    (_S.FINISHING, _T.KEYS_PENDING): (_S.KEYING, ("take_up_deferred",)),
}
"""(state, trigger) -> (next state, actions). A pair that is absent means: nothing to do."""


class Start(NamedTuple):
    """Where a machine begins: the defaults for a new call, else what a successor knows from the call's events.

    Attributes:
        turn, open: the caller's turn; ``open``: it was announced and has not ended.
        part, text, confidence: number of its next final, and the words of its finals so far.
        speech_start_ms, speech_end_ms: of those words.
        voiced: the caller was still speaking when those finals were made.
    """

    turn: int = 1
    open: bool = False
    part: int = 0
    text: str = ""
    confidence: float = 1.0
    speech_start_ms: int | None = None
    speech_end_ms: int = 0
    voiced: bool = False
    expected_digits: int = 0
    playing: int | None = None
    interrupted: frozenset[int] = frozenset()


class TurnMachine:
    """One call's turns. ``handle`` takes an input; ``deadline_ms`` says when a ``Tick`` is due if nothing is heard."""

    def __init__(self, settings: TurnSection, start: Start = Start()) -> None:  # noqa: B008
        self.state = State.IDLE
        self.turn = start.turn
        self._settings = settings
        self._gate = Gate(settings.vad_confidence, settings.vad_start_ms, settings.vad_stop_ms)
        self._open = start.open
        self._part = start.part
        self._texts: dict[int, str] = {-1: start.text} if start.text else {}
        self._confidence = start.confidence
        self._failed = False
        self._unanswered = False
        self._start_ms = start.speech_start_ms
        self._end_ms = start.speech_end_ms
        self._leftover_voiced = start.voiced
        self._expected = start.expected_digits
        self._playing = start.playing
        self._interrupted = set(start.interrupted)
        self._keys = ""
        self._keys_done = False
        self._first_key_ms = self._last_key_ms = 0
        self._pressed = v.Key("", 0)
        self._change: VoiceBegan | VoiceEnded = VoiceEnded(0)
        self._deferred: list[VoiceBegan | VoiceEnded] = []
        self._runs = 0
        self._run: int | None = None
        self._run_opened_ms = 0
        self._run_speech_ms = 0
        self._awaited: set[int] = set()
        self._partial = ""
        self._now_ms = 0
        self._commands: list[v.Command] = []

    @property
    def deadline_ms(self) -> int | None:
        """The media time at which something is due even if nothing more is heard; None: nothing is."""
        due = (self._gate.deadline_ms, self._patience_ms(), self._keys_ms(), self._leftover_ms())
        return min((at for at in due if at is not None), default=None)

    def handle(self, given: v.Input, now_ms: int) -> list[v.Command]:
        """Take one input at media time ``now_ms``; the commands that follow, in order."""
        self._now_ms = max(self._now_ms, now_ms)
        match given:
            case v.Heard():
                self._voice(self._gate.hear(given.probability, given.start_ms, given.end_ms))
            case v.Tick():
                self._gate.silence()
                self._voice(self._gate.quiet(self._now_ms))
            case v.Partial():
                self._partial = given.text if given.run == self._run else self._partial
            case v.Final():
                self._final(given)
            case v.Key():
                self._key(given)
            case v.Expect():
                self._expected = given.digits
            case v.PlayoutBegan():
                self._playing = given.utterance_id
            case v.PlayoutEnded():
                self._playing = None if self._playing == given.utterance_id else self._playing
        self._pass_deadlines()
        if not (isinstance(given, v.Heard) and given.stale):
            self._check_interruption()
        commands, self._commands = self._commands, []
        return commands

    def _pull(self, trigger: Trigger) -> None:
        row = TABLE.get((self.state, trigger))
        if row is None:
            return
        self.state, actions = row
        for action in actions:
            getattr(self, f"_do_{action}")()

    # Triggers out of inputs and time.

    def _voice(self, change: VoiceBegan | VoiceEnded | None) -> None:
        if change is not None:
            self._change = change
            self._pull(Trigger.VOICE if isinstance(change, VoiceBegan) else Trigger.SILENCE)

    def _key(self, key: v.Key) -> None:
        self._interrupt("dtmf", key.at_ms)
        self._pressed = key
        self._pull(Trigger.KEY)
        if self._keys_done:
            self._pull(Trigger.KEYS_DONE)

    def _final(self, final: v.Final) -> None:
        if final.run not in self._awaited:
            return
        self._awaited.discard(final.run)
        if final.text:
            self._texts[final.run] = final.text
            self._confidence = min(self._confidence, final.confidence)
        self._failed = self._failed or final.failed
        if self._awaited or self._run is not None:
            self._pull(Trigger.PART)
        elif self._keys and not self._keys_done:
            self._pull(Trigger.KEYS_PENDING)
        else:
            wanted = self._texts or self._keys or self._failed or self._unanswered
            self._pull(Trigger.WORDS if wanted else Trigger.NOTHING)

    def _pass_deadlines(self) -> None:
        now = self._now_ms
        patience, keys, leftover = self._patience_ms(), self._keys_ms(), self._leftover_ms()
        if patience is not None and now >= patience and not self._gate.rising:
            self._pull(Trigger.PATIENCE_OVER)
        if keys is not None and now >= keys:
            self._keys_done = True
            self._pull(Trigger.KEYS_DONE)
        if leftover is not None and now >= leftover and not self._gate.rising:
            self._pull(Trigger.LEFTOVER)
        if self._run is not None and now - self._run_opened_ms >= RUN_LIMIT_MS:
            self._pull(Trigger.RUN_FULL)

    def _patience_ms(self) -> int | None:
        if self.state is not State.PAUSED:
            return None
        settings = self._settings
        patience = min(settings.endpointing_min_ms, settings.endpointing_max_ms)
        heard = count_digits(self._partial) if self._expected else 0
        if 0 < heard < self._expected:
            patience = settings.endpointing_max_ms
        elif heard:
            patience = min(patience, max(DIGITS_CONFIRM_MS, settings.vad_stop_ms))
        return self._gate.last_voiced_ms + patience

    def _keys_ms(self) -> int | None:
        if not self._keys or self._keys_done:
            return None
        return self._last_key_ms + self._settings.dtmf_timeout_ms

    def _leftover_ms(self) -> int | None:
        if self.state is not State.IDLE or not self._texts:
            return None
        settings = self._settings
        return self._end_ms + (settings.endpointing_max_ms if self._leftover_voiced else settings.endpointing_min_ms)

    def _check_interruption(self) -> None:
        gate = self._gate
        if gate.voiced and gate.last_voiced_ms - gate.began_ms >= self._settings.interruption_min_ms:
            self._interrupt("speech", gate.began_ms)
        elif self.state in (State.VOICED, State.PAUSED) and len(self._partial.split()) >= INTERRUPTING_WORDS:
            self._interrupt("words", gate.began_ms)

    def _interrupt(self, why: str, began_ms: int) -> None:
        if self._playing is None or self._playing in self._interrupted:
            return
        self._interrupted.add(self._playing)
        self._unanswered = True
        self._commands.append(v.Interrupt(self._playing, self.turn, why, self._now_ms, began_ms))

    # Actions, named by the table.

    def _do_say_voice(self) -> None:
        self._commands.append(v.VadStarted(self._change.at_ms, self.turn))
        if self._start_ms is None:
            self._start_ms = self._change.at_ms

    def _do_say_silence(self) -> None:
        self._commands.append(v.VadStopped(self._change.at_ms, self.turn))

    def _do_open_turn(self) -> None:
        if not self._open:
            self._open = True
            at_ms, why = (self._first_key_ms, "dtmf") if self._keys else (self._change.at_ms, "speech")
            self._commands.append(v.TurnStarted(self.turn, at_ms, why))

    def _do_open_run(self) -> None:
        self._run = self._runs
        self._runs += 1
        self._run_opened_ms = self._now_ms
        self._run_speech_ms = max(self._change.at_ms, self._end_ms)
        self._partial = ""
        since_ms = max(0, self._change.at_ms - PRE_ROLL_MS)
        self._commands.append(v.OpenRun(self._run, self.turn, self._part, since_ms))
        self._part += 1

    def _do_finish_run(self) -> None:
        if self._run is not None:
            self._end_ms = self._gate.last_voiced_ms
            self._unanswered = self._unanswered or self._end_ms - self._run_speech_ms >= UNCLEAR_SPEECH_MS
            self._awaited.add(self._run)
            self._commands.append(v.FinishRun(self._run, self._run_speech_ms, self._end_ms))
            self._run = None

    def _do_take_key(self) -> None:
        key = self._pressed
        self._last_key_ms = key.at_ms
        if key.digit == TERMINATOR and self._keys:
            self._keys_done = True
            return
        if not self._keys:
            self._first_key_ms = key.at_ms
        self._keys += key.digit
        self._keys_done = 0 < self._expected <= len(self._keys)

    def _do_defer(self) -> None:
        self._deferred.append(self._change)

    def _do_take_up_deferred(self) -> None:
        deferred, self._deferred = self._deferred, []
        for change in deferred:
            self._voice(change)

    def _do_end_turn(self) -> None:
        text = " ".join(self._texts[run] for run in sorted(self._texts))
        why = "dtmf" if self._keys else "timeout" if self._failed and not text else "silence"
        start_ms = self._first_key_ms if self._start_ms is None else self._start_ms
        end_ms = self._last_key_ms if self._keys else self._end_ms
        confidence = self._confidence if text or self._keys else 0.0
        self._commands.append(v.EndTurn(self.turn, why, text, self._keys, confidence, start_ms, end_ms))
        self.turn += 1
        self._open = False
        self._part = 0
        self._texts = {}
        self._keys = ""
        self._keys_done = False
        self._unanswered = False
        self._do_drop_speech()

    def _do_drop_speech(self) -> None:
        self._confidence = 1.0
        self._failed = False
        self._start_ms = None
        self._partial = ""
