"""The bytes of ElevenLabs' streams into audio and word times. Pure.

``/stream`` gives the PCM itself; ``/stream/with-timestamps`` gives lines of JSON, each with a piece of the PCM and the
times of the characters that it holds.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

from services.audio.g711 import PCM_SAMPLE_BYTES
from services.tts.engine import EngineError, SpeechChunk, WordStart

LINE_BYTES_MAX = 4 * 1024 * 1024
"""A line is a second or two of audio; what is so long and has no end is none."""

_WORD = re.compile(r"\S+")


class StreamReader(Protocol):
    """Takes a stream as it comes."""

    media_types: ClassVar[tuple[str, ...]]
    """Beginnings of the ``Content-Type`` that such a stream has."""

    def feed(self, data: bytes) -> Iterator[SpeechChunk]:
        """Chunks that are whole after these bytes. Raises :class:`EngineError` where they are none of the kind."""

    def finish(self) -> Iterator[SpeechChunk]:
        """The rest."""


class PcmReader:
    """PCM as it is; a sample that the network cut in two is put together again."""

    media_types: ClassVar[tuple[str, ...]] = ("audio/", "application/octet-stream", "binary/octet-stream")

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[SpeechChunk]:
        data = self._rest + data
        whole = len(data) - len(data) % PCM_SAMPLE_BYTES
        self._rest = data[whole:]
        if whole:
            yield SpeechChunk(data[:whole])

    def finish(self) -> Iterator[SpeechChunk]:
        """Half a sample is no sound."""
        yield from ()


class TimedReader:
    """Lines of JSON; the words of ``text`` are counted along the characters that are timed."""

    media_types: ClassVar[tuple[str, ...]] = (
        "application/json",
        "application/x-ndjson",
        "text/event-stream",
        *PcmReader.media_types,
    )

    def __init__(self, text: str, sample_rate_hz: int, begin_s: float = 0.0) -> None:
        """``begin_s``: the time at which this stream's audio begins."""
        self._words = _WORD.findall(text)
        self._next_word = 0
        self._in_word = False
        self._bytes_per_second = PCM_SAMPLE_BYTES * sample_rate_hz
        self._bytes = 0
        self._begin_s = self._latest_s = self._offset_s = begin_s
        self._line = b""
        self._pcm = PcmReader()

    def feed(self, data: bytes) -> Iterator[SpeechChunk]:
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > LINE_BYTES_MAX:
            raise EngineError("ElevenLabs sent a line without an end")
        for line in lines:
            yield from self._take(line)

    def finish(self) -> Iterator[SpeechChunk]:
        line, self._line = self._line, b""
        yield from self._take(line)

    def _take(self, line: bytes) -> Iterator[SpeechChunk]:
        line = line.strip().removeprefix(b"data:").strip()
        if not line:
            return
        try:
            told: dict[str, Any] = json.loads(line)
            audio = base64.b64decode(told.get("audio_base64") or b"", validate=True)
            words = self._words_of(told.get("alignment") or {})
        except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
            raise EngineError("ElevenLabs sent a line that holds no audio") from None
        chunks = list(self._pcm.feed(audio))
        pcm = chunks[0].pcm if chunks else b""
        self._bytes += len(pcm)
        if pcm or words:
            yield SpeechChunk(pcm, words)

    def _words_of(self, alignment: dict[str, Any]) -> tuple[WordStart, ...]:
        """Words of the text that begin."""
        characters = alignment.get("characters") or []
        times = [float(time) for time in alignment.get("character_start_times_seconds") or []]
        if times and times[0] + self._offset_s < self._latest_s:
            # The times began anew: they are counted from this piece of audio.
            self._offset_s = self._begin_s + self._bytes / self._bytes_per_second
        starts = []
        for character, time in zip(characters, times, strict=False):
            if character.isspace():
                self._in_word = False
            elif not self._in_word:
                self._in_word = True
                if self._next_word < len(self._words):
                    start_ms = max(0, round(1000 * (self._offset_s + time)))
                    starts.append(WordStart(self._words[self._next_word], start_ms))
                self._next_word += 1
        if times:
            self._latest_s = self._offset_s + times[-1]
        return tuple(starts)
