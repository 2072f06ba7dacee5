"""Callers for tests: eSpeak NG speaking as a telephone hears it, 8,000 Hz mu-law."""

from __future__ import annotations

import pytest

from schemas.audio import Codec
from services.audio import g711
from services.audio.resample import resample
from services.tts.engine import EngineChoiceError
from services.tts.engines._espeak_library import NORMAL_WORDS_PER_MINUTE, WordEvent, espeak_library

CALLER_VOICES = ("en-us+klatt4", "en-us+f1")


class Speaker:
    """Speaks with the one library of this process: a second one would take its callback away for all other tests."""

    def __init__(self) -> None:
        try:
            self._library = espeak_library()
        except EngineChoiceError as error:
            pytest.skip(str(error))

    def say(self, text: str, voice: str = CALLER_VOICES[0]) -> bytes:
        """Mu-law payload of one sentence."""
        pieces: list[bytes] = []

        def take(pcm: bytes, words: list[WordEvent]) -> bool:
            pieces.append(pcm)
            return False

        self._library.speak(text, voice, NORMAL_WORDS_PER_MINUTE, take)
        return g711.encode(resample(b"".join(pieces), self._library.sample_rate_hz, 8000), Codec.PCMU)


def frames(payload: bytes) -> list[bytes]:
    """20 ms frames, the last one filled with silence."""
    padded = payload + b"\xff" * (-len(payload) % 160)
    return [padded[at : at + 160] for at in range(0, len(padded), 160)]
