"""From speech probabilities to "speech began" and "speech ended": hysteresis in level and in time. Pure.

The detector knows speech from noise, but not to the moment: it is sure of a word only at its vowel, 60 to 130 ms after
an s, f or h began, and goes on hearing speech for some 70 ms after its end. Loudness knows the moment, but not what it
is. So the detector decides whether, and the level over the line's own noise says when.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

EXIT_MARGIN = 0.15
"""Once in speech, a window counts as speech down to this much under the threshold: words fade, they don't stop."""

SURE_SHARE = 0.65
"""Speech begins ``start_ms`` after its onset if the detector was sure for this part of that time."""

FAINT_DBFS = -53.0
"""What the detector calls speech under this level is its memory of speech before: no voice fills a line so little."""

VOICED_DBFS = -45.0
"""Mean level of a window over which it holds sound that a caller would call heard; a voiced sample is a bit louder."""

QUIET_MARGIN_DB = 10.0
"""Of a quiet caller, whose loudest window is not so far over :data:`VOICED_DBFS`, softer windows are sound, too."""

NOISE_MARGIN_DB = 5.0
"""Sound is this much over the line's noise, where that is louder than :data:`VOICED_DBFS` would need."""

LOUDEST_LIMIT_DBFS = -30.0
"""However loud the noise, speech at this level is sound: else it would hide every end."""

CONSONANT_MARGIN_DB = 2.0
"""A consonant is softer than the vowel after it; a cough begins with its loudest part, and no word does."""

LOOK_BACK_MS = 200
"""The longest consonant before the first window that the detector is sure of."""

_RISE, _FALL = 0.03, 0.3
"""How far the estimate of the noise moves towards a louder and a softer window: up in a second, down in 100 ms."""


class VoiceBegan(NamedTuple):
    """``at_ms``: the first voiced sample."""

    at_ms: int


class VoiceEnded(NamedTuple):
    """``at_ms``: the last voiced sample."""

    at_ms: int


class _Rise:
    """Windows that may become speech. ``sure_ms``: how much of them the detector was sure of."""

    def __init__(self, start_ms: int, level_dbfs: float, sound_ms: int) -> None:
        self.start_ms = start_ms
        self.sound_ms = sound_ms
        self.peak_dbfs = level_dbfs
        self.sure_ms = 0
        self.last_voiced_ms = start_ms
        self.dipped = False


class Gate:
    """Speech begins ``start_ms`` after its onset, and ends ``stop_ms`` after the last window of it.

    ``began_ms`` and ``last_voiced_ms`` are the first and the last sound of it, as a meter sees them: earlier than the
    detector hears the one, and than it lets go of the other. ``began_ms`` is where the window of that first sound
    begins, and ``first_sound_ms`` the sound itself, up to a window later: what is measured counts from there, but what
    is decided does not wait for it.
    """

    def __init__(self, confidence: float, start_ms: int, stop_ms: int) -> None:
        self._confidence = confidence
        self._start_ms = start_ms
        self._stop_ms = stop_ms
        self.voiced = False
        self.began_ms = 0
        self.first_sound_ms = 0
        self.last_voiced_ms = 0
        self._last_speech_ms = 0
        self._peak_dbfs = 0.0
        self._rise: _Rise | None = None
        self._noise_dbfs: float | None = None
        self._before: deque[tuple[int, float, int]] = deque(maxlen=LOOK_BACK_MS // 10)

    @property
    def rising(self) -> bool:
        """Voiced windows are coming, and it is not known yet whether they are speech."""
        return self._rise is not None and not self._rise.dipped

    @property
    def deadline_ms(self) -> int | None:
        """When speech ends if nothing more is heard; None outside speech."""
        return self._last_speech_ms + self._stop_ms if self.voiced else None

    def hear(
        self, probability: float, start_ms: int, end_ms: int, level_dbfs: float = 0.0, sound_ms: int | None = None
    ) -> VoiceBegan | VoiceEnded | None:
        """Take the next window. Where levels are not known, all alike: then the probability alone says when.

        ``sound_ms``: its first sample that can be heard; None: not known, then it is its start.
        """
        if self._noise_dbfs is None:
            self._noise_dbfs = level_dbfs
        if self.voiced:
            return self._go_on(probability, end_ms, level_dbfs)
        sound_ms = start_ms if sound_ms is None else sound_ms
        began = self._rise_with(probability, start_ms, end_ms, level_dbfs, sound_ms)
        if self._rise is None and began is None:
            self._before.append((start_ms, level_dbfs, sound_ms))
            self._noise_dbfs += (_RISE if level_dbfs > self._noise_dbfs else _FALL) * (level_dbfs - self._noise_dbfs)
        return began

    def quiet(self, now_ms: int) -> VoiceEnded | None:
        """Nothing voiced up to ``now_ms``."""
        if not self.voiced or now_ms - self._last_speech_ms < self._stop_ms:
            return None
        self.voiced = False
        return VoiceEnded(self.last_voiced_ms)

    def silence(self) -> None:
        """No audio comes at all: what was rising is over."""
        self._rise = None
        self._before.clear()

    def _go_on(self, probability: float, end_ms: int, level_dbfs: float) -> VoiceEnded | None:
        if probability < self._confidence - EXIT_MARGIN or level_dbfs < FAINT_DBFS:
            return self.quiet(end_ms)
        self._last_speech_ms = max(self._last_speech_ms, end_ms)
        self._peak_dbfs = max(self._peak_dbfs, level_dbfs)
        softest_dbfs = min(VOICED_DBFS, self._peak_dbfs - QUIET_MARGIN_DB)
        if level_dbfs >= min(LOUDEST_LIMIT_DBFS, self._sound_dbfs(softest_dbfs)):
            self.last_voiced_ms = max(self.last_voiced_ms, end_ms)
        return None

    def _rise_with(
        self, probability: float, start_ms: int, end_ms: int, level_dbfs: float, sound_ms: int
    ) -> VoiceBegan | None:
        sure = probability >= self._confidence
        rise = self._rise
        if rise is None:
            if not sure:
                return None
            rise = self._rise = _Rise(start_ms, level_dbfs, sound_ms)
        if not sure:
            # One window between two parts of a word is no end.
            if rise.dipped and probability < self._confidence - EXIT_MARGIN:
                self._rise = None
            rise.dipped = rise.dipped or probability < self._confidence - EXIT_MARGIN
            return None
        rise.dipped = False
        rise.peak_dbfs = max(rise.peak_dbfs, level_dbfs)
        if level_dbfs >= min(LOUDEST_LIMIT_DBFS, self._sound_dbfs(FAINT_DBFS)):
            rise.sure_ms += end_ms - start_ms
            rise.last_voiced_ms = end_ms
        if rise.sure_ms < SURE_SHARE * self._start_ms:
            return None
        onset_ms, sound_ms = self._onset(rise)
        return self._begin(onset_ms, sound_ms, rise, end_ms) if end_ms - onset_ms >= self._start_ms else None

    def _begin(self, onset_ms: int, sound_ms: int, rise: _Rise, end_ms: int) -> VoiceBegan:
        self.voiced = True
        self.first_sound_ms = sound_ms
        self.began_ms, self.last_voiced_ms, self._last_speech_ms = onset_ms, rise.last_voiced_ms, end_ms
        self._peak_dbfs = rise.peak_dbfs
        self._rise = None
        self._before.clear()
        return VoiceBegan(onset_ms)

    def _onset(self, rise: _Rise) -> tuple[int, int]:
        """Where the sound began that the detector was sure of only later: its window, and its first sample."""
        onset_ms, first_sound_ms = rise.start_ms, rise.sound_ms
        softest, loudest = self._sound_dbfs(VOICED_DBFS), rise.peak_dbfs - CONSONANT_MARGIN_DB
        for start_ms, level_dbfs, sound_ms in reversed(self._before):
            is_consonant = softest <= level_dbfs <= loudest and rise.start_ms - start_ms <= LOOK_BACK_MS
            if not is_consonant or start_ms < self.last_voiced_ms:
                break
            onset_ms, first_sound_ms = start_ms, sound_ms
        return onset_ms, first_sound_ms

    def _sound_dbfs(self, least_dbfs: float) -> float:
        """Over this level there is sound that is not the line's noise."""
        assert self._noise_dbfs is not None
        return max(least_dbfs, self._noise_dbfs + NOISE_MARGIN_DB)
