"""The caller's turn: when it begins, what belongs to it, and when it is the agent's turn.

Theory of operation. The gate (``gate.py``) turns speech probabilities into VOICE and SILENCE. VOICE opens a run of the
engine. The turn begins once it is CERTAIN that it will be answered, so that each turn that begins also ends: it has
words, or its speech is too long for a noise, or it has stopped the agent. When the caller has been silent for as long
as patience lasts (PATIENCE_OVER) the run is finished, and once its final is there the turn ends. How long patience
lasts is said by ``endpointing.py``. Keys are a turn as well: they end it when they are as many as expected, at the
terminator, or ``dtmf_timeout_ms`` after the last one. Speech while a final is awaited is kept and taken up after it. A
turn of ``monologue_limit_ms`` is answered as it stands; what the caller goes on to say is the next one.

Noise is no turn. Where a final is empty nothing is announced, and the next final is the next part under the same
number. But who spoke for :data:`UNCLEAR_SPEECH_MS`, or made the agent fall silent, waits for an answer: such a turn
ends without words, with confidence 0. So does speech that no engine could hear (``unheard``). Words that only say "I am
listening" while the agent speaks belong to no turn; the floor (``floor.py``) knows them.
"""

from __future__ import annotations

from config.settings import TurnSection
from services.asr.grammar import count_digits
from services.asr.turn import values as v
from services.asr.turn.caller_table import CALLER_TABLE, CallerState, CallerTrigger
from services.asr.turn.endpointing import Endpointing, Silence
from services.asr.turn.floor import Floor
from services.asr.turn.gate import Gate, VoiceBegan, VoiceEnded
from services.asr.turn.start import Start
from services.asr.turn.table import Tabled

PRE_ROLL_MS = 300
"""Audio before the first voiced sample that a run gets: soft beginnings of words lie under the threshold."""

RUN_LIMIT_MS = 20_000
"""A longer run is cut in two, so that a successor never needs more audio than the edge's ring holds (30 s)."""

UNCLEAR_SPEECH_MS = 1000
"""Speech of this length is more than a noise, even where no word of it was recognised."""

BETWEEN_WORDS_MS = 100
"""Without sound for so long: words that stand still before that only wait for the next one to be recognised."""

PREFLIGHT_LIMIT = 3
"""Preflights of one turn, at most: each may cost an answer that nobody hears."""


_S, _T = CallerState, CallerTrigger
_LISTENING = (_S.VOICED, _S.PAUSED)


class CallerTurn(Tabled[CallerState, CallerTrigger]):
    """The caller's side of one call.

    Attributes:
        gate: judges the caller's windows.
        turn: number of the turn that is open, or comes next.
        partial: words of the open run so far.
        commands: taken by the machine after each input.
    """

    def __init__(self, settings: TurnSection, floor: Floor, start: Start, language: str) -> None:
        super().__init__(CALLER_TABLE, _S.IDLE)
        self.gate = Gate(settings.vad_confidence, settings.vad_start_ms, settings.vad_stop_ms)
        self.turn = start.turn
        self.partial = ""
        self._whole = False
        self.commands: list[v.Command] = []
        self._settings = settings
        self._endpointing = Endpointing(settings, language)
        self._floor = floor
        self._open = start.open
        self._part = start.part
        self._texts: dict[int, str] = {-1: start.text} if start.text else {}
        self._confidence = start.confidence
        self._failed = self._down = False
        self._unanswered = False
        self._cut_in = False
        self._start_ms = start.speech_start_ms
        self._end_ms = start.speech_end_ms
        self._leftover_voiced = start.voiced
        self._expected = start.expected_digits
        self._keys = ""
        self._keys_done = False
        self._counted_ms: int | None = None
        self._first_key_ms = self._last_key_ms = 0
        self._pressed = v.Key("", 0)
        self._change: VoiceBegan | VoiceEnded = VoiceEnded(0)
        self._deferred: list[VoiceBegan | VoiceEnded] = []
        self._runs = 0
        self._run: int | None = None
        self._run_opened_ms = 0
        self._run_speech_ms = 0
        self._awaited: set[int] = set()
        self._silence = Silence()
        self._ask = -1
        self._still_since_ms = 0
        self._preflights = start.preflights
        self._preflight = ""
        self._now_ms = 0

    # Inputs.

    def heard(self, change: VoiceBegan | VoiceEnded | None, now_ms: int) -> None:
        """What the gate made of a window, or of time."""
        self._now_ms = now_ms
        self._voice(change)

    def partially(self, given: v.Partial, now_ms: int) -> None:
        """Words of the open run."""
        if given.run == self._run and given.text != self.partial:
            self.partial, self._still_since_ms = given.text, now_ms
            self._whole = given.whole and not self._texts

    def judged(self, given: v.Verdict) -> None:
        """The turn model's verdict counts for the silence that it was asked in."""
        if given.ask == self._ask and self.state is _S.PAUSED:
            self._silence = self._silence.judged(given.probability)

    def expects(self, digits: int) -> None:
        """The agent asked for so many digits; 0: for none."""
        self._expected = digits

    def ends_nothing(self, key: v.Key) -> bool:
        """Whether this is the terminator of keys that were complete without it: many press it all the same."""
        if self._counted_ms is None or self._keys or key.digit != self._settings.dtmf_terminator:
            return False
        return key.at_ms - self._counted_ms <= self._settings.dtmf_timeout_ms

    def key(self, key: v.Key, now_ms: int) -> None:
        """A key was pressed."""
        self._now_ms = now_ms
        self._pressed = key
        self.pull(_T.KEY)
        if self._keys_done:
            self.pull(_T.KEYS_DONE)

    def final(self, given: v.Final, now_ms: int) -> None:
        """A run is over."""
        if given.run not in self._awaited:
            return
        self._now_ms = now_ms
        self._awaited.discard(given.run)
        if given.text:
            self._texts[given.run] = given.text
            self._confidence = min(self._confidence, given.confidence)
        self._failed = self._failed or given.failed
        self._down = self._down or given.down
        if self._awaited or self._run is not None:
            self.pull(_T.PART)
        elif self._keys and not self._keys_done:
            self.pull(_T.KEYS_PENDING)
        else:
            self._conclude()

    def _conclude(self) -> None:
        """The last awaited final is there: is it a turn?"""
        listening = self._floor.settle(self._text(), self._now_ms, voiced=self.gate.voiced, certain=self._open)
        if listening and not self._keys:
            self.pull(_T.BACKCHANNEL)
            return
        # Where no engine hears, a sound over the agent that did not stop it is taken for a noise, as it mostly is.
        failed = self._failed and (self._floor.silent or not self._down)
        wanted = self._texts or self._keys or failed or self._unanswered or self._open or self._floor.stopped
        self.pull(_T.WORDS if wanted else _T.NOTHING)

    def _voice(self, change: VoiceBegan | VoiceEnded | None) -> None:
        if change is not None:
            self._change = change
            self.pull(_T.VOICE if isinstance(change, VoiceBegan) else _T.SILENCE)

    # Time.

    @property
    def undisturbed(self) -> bool:
        """No speech, no keys, nothing to come."""
        return self.state is _S.IDLE and not self._texts

    @property
    def deadline_ms(self) -> int | None:
        """When something is due even if nothing more is heard."""
        due = (self.gate.deadline_ms, self._patience_ms(), self._ask_ms(), self._keys_ms(), self._leftover_ms(),
               self._preflight_ms())  # fmt: skip
        return min((at for at in due if at is not None), default=None)

    def pass_deadlines(self, now_ms: int) -> None:
        """Do what is due."""
        self._now_ms = now_ms
        quiet = not self.gate.rising
        if not self._open and self._is_certain():
            self.pull(_T.CERTAIN)
        if _due(self._preflight_ms(), now_ms):
            self._prepare()
        if _due(self._ask_ms(), now_ms):
            self._ask_model()
        if _due(self._patience_ms(), now_ms) and quiet:
            self.pull(_T.PATIENCE_OVER)
        if _due(self._keys_ms(), now_ms):
            self._keys_done = True
            self.pull(_T.KEYS_DONE)
        if _due(self._leftover_ms(), now_ms) and quiet:
            self.pull(_T.LEFTOVER)
        if self._is_monologue():
            self.pull(_T.MONOLOGUE)
        if self._run is not None and now_ms - self._run_opened_ms >= RUN_LIMIT_MS:
            self.pull(_T.RUN_FULL)

    def _is_certain(self) -> bool:
        if self._run is None and not self._awaited:
            return False
        long = self._run is not None and self.gate.last_voiced_ms - self._run_speech_ms >= UNCLEAR_SPEECH_MS
        return bool(self._texts) or self._floor.stopped or (self._floor.silent and (long or self._unanswered))

    def _known(self) -> Silence:
        digits = count_digits(self.partial) if self._expected else 0
        return self._silence._replace(
            text=self._text(self.partial), expected_digits=self._expected, digits=digits, whole=self._whole
        )

    def _patience_ms(self) -> int | None:
        if self.state is not _S.PAUSED:
            return None
        patience_ms = self._endpointing.patience_ms(self._known())
        if self._floor.suspect and (not self.partial or self._floor.is_backchannel(self.partial)):
            # The agent stands still for a sound without words so far: what it was must be known soon.
            patience_ms = min(patience_ms, self._settings.endpointing_fixed_ms)
        return self.gate.last_voiced_ms + patience_ms

    def _ask_ms(self) -> int | None:
        if self.state is not _S.PAUSED:
            return None
        after_ms = self._endpointing.next_ask_ms(self._known())
        return None if after_ms is None else self.gate.last_voiced_ms + after_ms

    def _keys_ms(self) -> int | None:
        if not self._keys or self._keys_done:
            return None
        return self._last_key_ms + self._settings.dtmf_timeout_ms

    def _leftover_ms(self) -> int | None:
        if self.state is not _S.IDLE or not self._texts:
            return None
        settings = self._settings
        return self._end_ms + (settings.endpointing_max_ms if self._leftover_voiced else settings.endpointing_fixed_ms)

    def _is_monologue(self) -> bool:
        """Counted in the caller's own speech: a clock that jumps makes nobody talk longer."""
        limit_ms = self._settings.monologue_limit_ms
        if not limit_ms or self._start_ms is None or self.state not in _LISTENING:
            return False
        return self.gate.last_voiced_ms - self._start_ms >= limit_ms

    def _preflight_ms(self) -> int | None:
        still_ms = self._settings.preflight_ms
        if not still_ms or self.state not in _LISTENING or not self.partial or self._preflights >= PREFLIGHT_LIMIT:
            return None
        text = self._text(self.partial)
        if text == self._preflight or (not self._floor.silent and self._floor.is_backchannel(text)):
            return None
        return max(self._still_since_ms + still_ms, self.gate.last_voiced_ms + BETWEEN_WORDS_MS)

    def _prepare(self) -> None:
        self._preflight = self._text(self.partial)
        self.commands.append(v.Preflight(self.turn, self._preflights, self._preflight))
        self._preflights += 1

    def _ask_model(self) -> None:
        self._ask += 1
        self._silence = self._silence._replace(asks=self._silence.asks + 1)
        # Only what was said since the silence before: with the pause inside it, a sentence that is whole sounds broken.
        self.commands.append(v.Ask(self._ask, self.gate.began_ms, self.gate.last_voiced_ms))

    def _text(self, partial: str = "") -> str:
        texts = [self._texts[run] for run in sorted(self._texts)]
        return " ".join([*texts, partial] if partial else texts)

    # Actions, named by the table.

    def _do_say_voice(self) -> None:
        self._silence = Silence()
        self.commands.append(v.VadStarted(self._change.at_ms, self.turn))
        if self._start_ms is None:
            self._start_ms = self._change.at_ms

    def _do_say_silence(self) -> None:
        self.commands.append(v.VadStopped(self._change.at_ms, self.turn))

    def _do_open_turn(self) -> None:
        if not self._open:
            self._open = True
            at_ms, why = (self._first_key_ms, "dtmf") if self._keys else (self._start_ms or 0, "speech")
            self.commands.append(v.TurnStarted(self.turn, at_ms, why))

    def _do_open_run(self) -> None:
        self._run = self._runs
        self._runs += 1
        self._run_opened_ms = self._now_ms
        self._run_speech_ms = max(self._change.at_ms, self._end_ms)
        self.partial, self._whole = "", False
        since_ms = max(0, self._change.at_ms - PRE_ROLL_MS)
        self.commands.append(v.OpenRun(self._run, self.turn, self._part, since_ms))
        self._part += 1

    def _do_finish_run(self) -> None:
        if self._run is not None:
            self._end_ms = self.gate.last_voiced_ms
            self._unanswered = self._unanswered or self._end_ms - self._run_speech_ms >= UNCLEAR_SPEECH_MS
            self._awaited.add(self._run)
            self.commands.append(v.FinishRun(self._run, self._run_speech_ms, self._end_ms))
            self._run = None

    def _do_cut_in(self) -> None:
        """The caller may go on speaking: that is the next turn, and no interruption of the answer to this one."""
        self._cut_in = True
        if self.gate.voiced:
            self._deferred.append(VoiceBegan(self.gate.last_voiced_ms))

    def _do_take_key(self) -> None:
        key = self._pressed
        self._last_key_ms = key.at_ms
        if key.digit == self._settings.dtmf_terminator and self._keys:
            self._keys_done = True
            return
        if not self._keys:
            self._first_key_ms = key.at_ms
        self._keys += key.digit
        self._keys_done = 0 < self._expected <= len(self._keys)
        self._counted_ms = key.at_ms if self._keys_done else None

    def _do_defer(self) -> None:
        self._deferred.append(self._change)

    def _do_take_up_deferred(self) -> None:
        deferred, self._deferred = self._deferred, []
        for change in deferred:
            self._voice(change)

    def _do_end_turn(self) -> None:
        text = self._text()
        start_ms = self._first_key_ms if self._start_ms is None else self._start_ms
        end_ms = self._last_key_ms if self._keys else self._end_ms
        confidence = self._confidence if text or self._keys else 0.0
        self.commands.append(v.EndTurn(self.turn, self._why(text), text, self._keys, confidence, start_ms, end_ms))
        if self._cut_in:
            self._floor.overlook(self.gate.began_ms)
        self.turn += 1
        self._open = False
        self._part = self._preflights = 0
        self._keys = ""
        self._keys_done = False
        self._do_drop_words()
        self._do_drop_speech()

    def _why(self, text: str) -> str:
        if self._keys:
            return "dtmf"
        if self._down and not text:
            return "unheard"
        if self._cut_in:
            return "monologue"
        if self._failed and not text:
            return "timeout"
        return "silence" if self._silence.probability is None else "semantic"

    def _do_drop_words(self) -> None:
        self._texts = {}
        self._unanswered = False
        self._floor.stopped = False

    def _do_drop_speech(self) -> None:
        self._confidence = 1.0
        self._failed = self._down = self._cut_in = False
        self._start_ms = None
        self.partial = self._preflight = ""
        self._silence = Silence()


def _due(deadline_ms: int | None, now_ms: int) -> bool:
    return deadline_ms is not None and now_ms >= deadline_ms
