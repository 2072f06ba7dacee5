"""Callers for tests: eSpeak NG speaking as a telephone hears it, 8,000 Hz mu-law."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from schemas.audio import Codec
from services.audio import g711
from services.audio.resample import resample

CALLER_VOICES = ("en-us+klatt4", "en-us+f1")
_SYNCHRONOUS = 2
_NO_EXIT = 0x8000
_UTF8 = 1
_POSITION_CHARACTER = 1
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Speaker:
    """eSpeak NG has one state a process: one speaker is enough."""

    def __init__(self) -> None:
        loader = pytest.importorskip(
            "espeakng_loader", reason="eSpeak NG is not installed: pip install 'callbus[espeak]'"
        )
        self._library: Any = ctypes.CDLL(loader.get_library_path())
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.POINTER(ctypes.c_uint), ctypes.c_void_p,
        ]  # fmt: skip
        data_path = loader.get_data_path().encode()
        self.rate_hz = self._library.espeak_Initialize(_SYNCHRONOUS, 20, data_path, _NO_EXIT)
        self._callback = _Callback(self._receive)
        self._chunks: list[bytes] = []

    def say(self, text: str, voice: str = CALLER_VOICES[0]) -> bytes:
        """Mu-law payload of one sentence."""
        # A name that eSpeak NG does not know keeps the voice of before: only the return code tells.
        assert self._library.espeak_SetVoiceByName(voice.encode()) == 0, voice
        self._library.espeak_SetSynthCallback(self._callback)
        self._chunks = []
        data = text.encode() + b"\0"
        assert self._library.espeak_Synth(data, len(data), 0, _POSITION_CHARACTER, 0, _UTF8, None, None) == 0
        return g711.encode(resample(b"".join(self._chunks), self.rate_hz, 8000), Codec.PCMU)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, count * 2))
        return 0


def frames(payload: bytes) -> list[bytes]:
    """20 ms frames, the last one filled with silence."""
    padded = payload + b"\xff" * (-len(payload) % 160)
    return [padded[at : at + 160] for at in range(0, len(padded), 160)]
