"""eSpeak NG: small, quick (0.001 of real time), many languages, from the wheel ``espeakng-loader``.

eSpeak NG itself is GPL-3.0-or-later; it is loaded at run time and only where this engine is chosen.
"""

from __future__ import annotations

import asyncio
import bisect
import re
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from config.settings import TtsSection
from services.tts.engine import Capabilities, Engine, EngineError, Label, Run, SpeechChunk, WordStart
from services.tts.engines._espeak_library import (
    NORMAL_WORDS_PER_MINUTE,
    EspeakLibrary,
    WordEvent,
    espeak_library,
)
from services.tts.sentences import Piece, split_text

SAMPLE_RATE_HZ = 22050
CHUNK_BYTES_MAX = SAMPLE_RATE_HZ
"""Half a second: what one turn of the event loop is asked to take at most."""

_WORD = re.compile(r"\S+")
_TAG = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8})*")


def create(settings: TtsSection) -> Engine:
    """The engine with voice and speed of the settings; nothing is loaded yet."""
    return EspeakEngine(settings)


class EspeakEngine:
    """One thread speaks for all calls, a piece of at most about 20 s at a time.

    Where the settings leave the voice as it is, a sentence in another language is spoken by that language's own voice,
    if eSpeak NG has one. A voice that somebody chose speaks everything.
    """

    def __init__(self, settings: TtsSection) -> None:
        self.capabilities = Capabilities("espeak", SAMPLE_RATE_HZ, streaming=True, word_times=True)
        self._voice = settings.voice
        self._follows_language = settings.voice == TtsSection().voice
        self._words_per_minute = round(NORMAL_WORDS_PER_MINUTE * settings.speed)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="espeak")

    async def warm(self) -> None:
        """Load the library, check the voice, and speak a first word into the void."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._warm)

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        return EspeakRun(text, self._voices_for(language), self._words_per_minute, self._thread)

    async def list_voices(self) -> tuple[str, ...]:
        """Language codes, and as ``+name`` the variants that may follow each."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: espeak_library().voices())

    async def close(self) -> None:
        """Stop after the piece that is being spoken; nothing may be opened any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _voices_for(self, language: str) -> tuple[str, ...]:
        """The voices to try for a language, a BCP 47 tag; the last one is that of the settings."""
        base, plus, variant = self._voice.partition("+")
        own = base.partition("-")[0]
        tag = language.lower().replace("_", "-")
        tags = dict.fromkeys((tag, tag.partition("-")[0]))
        others = tuple(f"{each}{plus}{variant}" for each in tags if _TAG.fullmatch(each) and each != own)
        return (*others, self._voice) if self._follows_language else (self._voice,)

    def _warm(self) -> None:
        library = espeak_library()
        if library.sample_rate_hz != SAMPLE_RATE_HZ:
            raise EngineError(f"eSpeak NG speaks at {library.sample_rate_hz} Hz, not at {SAMPLE_RATE_HZ} Hz")
        library.speak("ready", self._voice, self._words_per_minute, lambda pcm, words: False)


class EspeakRun:
    """One sentence. The thread fills ``_ready``; the event loop empties it."""

    def __init__(self, text: str, voices: tuple[str, ...], words_per_minute: int, thread: ThreadPoolExecutor) -> None:
        self._pieces = deque(piece for piece in split_text(text) if piece.text.strip())
        self._words = [(match.start(), match.group()) for match in _WORD.finditer(text)]
        self._next_word = 0
        self._voices = voices
        self._words_per_minute = words_per_minute
        self._thread = thread
        self._ready: deque[SpeechChunk] = deque()
        self._samples = 0
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._wake_is_due = False
        self._cancelled = threading.Event()
        self._speaking: asyncio.Future[None] | None = None

    def cancel(self) -> None:
        self._cancelled.set()
        self._ready.clear()
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[SpeechChunk]:
        return self

    async def __anext__(self) -> SpeechChunk:
        while not self._cancelled.is_set():
            if self._ready:
                return self._take()
            if self._speaking is None or self._speaking.done():
                self._begin_next_piece()
            await self._wake.wait()
            self._wake.clear()
        raise StopAsyncIteration

    def _begin_next_piece(self) -> None:
        """Raises what the piece before ended with, or ``StopAsyncIteration`` after the last one."""
        if self._speaking is not None:
            self._speaking.result()
        if not self._pieces:
            raise StopAsyncIteration
        piece = self._pieces.popleft()
        self._speaking = self._loop.run_in_executor(self._thread, self._speak, piece)
        self._speaking.add_done_callback(lambda _: self._wake.set())

    def _take(self) -> SpeechChunk:
        """What is ready, up to half a second of it."""
        chunk = self._ready.popleft()
        while self._ready and len(chunk.pcm) < CHUNK_BYTES_MAX:
            following = self._ready.popleft()
            chunk = SpeechChunk(chunk.pcm + following.pcm, chunk.words + following.words)
        return chunk

    def _speak(self, piece: Piece) -> None:
        """In the thread."""
        if self._cancelled.is_set():
            return
        library: EspeakLibrary = espeak_library()
        first_sample = self._samples

        def take(pcm: bytes, events: list[WordEvent]) -> bool:
            if self._cancelled.is_set():
                return True
            words = self._words_of(events, piece.offset, first_sample)
            self._samples += len(pcm) // 2
            self._ready.append(SpeechChunk(pcm, words))
            if not self._wake_is_due:
                self._wake_is_due = True
                self._loop.call_soon_threadsafe(self._notify)
            return False

        library.speak(piece.text, library.first_voice(self._voices), self._words_per_minute, take)

    def _words_of(self, events: list[WordEvent], offset: int, first_sample: int) -> tuple[WordStart, ...]:
        """Words of the text that begin: "4271" has an event for each digit, of which the first counts."""
        starts = []
        for event in events:
            index = bisect.bisect_right(self._words, event.character + offset, key=lambda word: word[0]) - 1
            if index >= self._next_word:
                self._next_word = index + 1
                starts.append(WordStart(self._words[index][1], (first_sample + event.sample) * 1000 // SAMPLE_RATE_HZ))
        return tuple(starts)

    def _notify(self) -> None:
        self._wake_is_due = False
        self._wake.set()
