"""An engine that answers at once with marked audio: for benches, for tests of takeover, and where no voice is wanted.

Each 20 ms frame tells which frame it is (utterance, sentence, number), as levels that survive G.711 of either law, so
that a test reads from what it received that every frame was played, once and in order (:func:`read_frame_label`).
"""

from __future__ import annotations

import array
import sys
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from config.settings import TtsSection
from services.tts.engine import Capabilities, Engine, Label, Run, SpeechChunk, WordStart

SAMPLE_RATE_HZ = 8000
FRAME_SAMPLES = 160
FRAMES_PER_CHARACTER = 3
"""60 ms a character: the pace of a person who reads aloud."""

_NIBBLES = (8, 3, 5)
"""Hexadecimal digits of utterance id, sentence and frame number, in this order, one per sample."""
_LABEL_SAMPLES = sum(_NIBBLES) + 1
_LEVEL_STEP = 1500
_TONE = (3000, 3000, 3000, 3000, -3000, -3000, -3000, -3000)
_CHUNK_FRAMES = 25


class FrameLabel(NamedTuple):
    """What a frame says about itself."""

    utterance_id: int
    sentence: int
    frame: int


def create(settings: TtsSection) -> Engine:
    """The engine. ``speed`` shortens the audio; ``voice`` is ignored."""
    return InstantEngine(settings)


def frame_count(text: str, speed: float = 1.0) -> int:
    """How many frames the engine says ``text`` with: at least one."""
    return max(1, round(FRAMES_PER_CHARACTER * len(text) / speed))


def frame_pcm(utterance_id: int, sentence: int, frame: int) -> bytes:
    """PCM of one marked frame: 18 samples of label and check digit, then a tone of 1 kHz."""
    digits: list[int] = []
    for value, count in zip((utterance_id, sentence, frame), _NIBBLES, strict=True):
        digits += [value >> 4 * place & 15 for place in reversed(range(count))]
    digits.append(sum(digits) % 16)
    samples = array.array("h", [_level(digit) for digit in digits])
    samples.extend(_TONE[number % len(_TONE)] for number in range(FRAME_SAMPLES - _LABEL_SAMPLES))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def read_frame_label(pcm: bytes) -> FrameLabel | None:
    """The label of a frame that came through G.711; None where it is not a frame of this engine."""
    samples = array.array("h", pcm[: 2 * _LABEL_SAMPLES])
    if sys.byteorder == "big":
        samples.byteswap()
    digits = [_digit(sample) for sample in samples]
    if len(digits) < _LABEL_SAMPLES or not all(0 <= digit < 16 for digit in digits):
        return None
    if sum(digits[:-1]) % 16 != digits[-1] or abs(samples[0] - _level(digits[0])) > _LEVEL_STEP // 4:
        return None
    values, position = [], 0
    for count in _NIBBLES:
        values.append(_number(digits[position : position + count]))
        position += count
    return FrameLabel(*values)


class InstantEngine:
    """Audio at once, of a length that depends on the text alone."""

    def __init__(self, settings: TtsSection) -> None:
        self._speed = settings.speed
        self.capabilities = Capabilities("instant", SAMPLE_RATE_HZ, streaming=True, word_times=True)

    async def warm(self) -> None:
        """Nothing to load."""

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        return InstantRun(text, frame_count(text, self._speed), label)

    async def list_voices(self) -> tuple[str, ...]:
        """It has none."""
        return ()

    async def close(self) -> None:
        """Nothing to let go of."""


class InstantRun:
    """The frames of one sentence, half a second to a chunk; the first chunk is a single frame."""

    def __init__(self, text: str, frames: int, label: Label) -> None:
        self._text = text
        self._frames = frames
        self._label = label
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    async def __aiter__(self) -> AsyncIterator[SpeechChunk]:
        first, words = 0, self._words()
        while first < self._frames and not self._cancelled:
            last = min(self._frames, first + (_CHUNK_FRAMES if first else 1))
            pcm = b"".join(frame_pcm(*self._label, frame) for frame in range(first, last))
            yield SpeechChunk(pcm, words if first == 0 else ())
            first = last

    def _words(self) -> tuple[WordStart, ...]:
        starts, position = [], 0
        for word in self._text.split():
            position = self._text.index(word, position)
            starts.append(WordStart(word, 20 * self._frames * position // len(self._text)))
            position += len(word)
        return tuple(starts)


def _level(digit: int) -> int:
    return (2 * digit - 15) * _LEVEL_STEP // 2


def _digit(sample: int) -> int:
    return round((2 * sample / _LEVEL_STEP + 15) / 2)


def _number(digits: Sequence[int]) -> int:
    value = 0
    for digit in digits:
        value = value * 16 + digit
    return value
