"""Speech from a model that gives a whole piece at a time: the text in pieces, a thread for the work, a run for each.

The first piece is short, so that it is heard early; no piece is long, so that no caller waits long for another's.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import CancelledError as WorkCancelledError
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from services.audio.g711 import PCM_SAMPLE_BYTES
from services.text.cutting import SentenceCutter
from services.tts.engine import EngineError, SpeechChunk, WordStart
from services.tts.engines._phoneme_words import WholeWords
from services.tts.sentences import split_text

PIECES_AHEAD = 2
"""Pieces that are kept while nobody takes them; a run makes no more before one of them is taken."""
CHUNKS_PER_SECOND = 2
"""Half a second is what one turn of the event loop is asked to take at most."""
PIECE_CHARACTERS_MIN = 20
"""A piece shorter than this would be over before the next one is made."""


class PieceLimits(NamedTuple):
    """Lengths of pieces in characters: the first one's and the others', at most."""

    first: int
    most: int


class Spoken(NamedTuple):
    """A piece as audio: 16-bit mono PCM, and where its words begin, if that is known."""

    pcm: bytes
    words: tuple[WordStart, ...] = ()


class Stop:
    """Tells the work on a run's pieces to end. A model that can be stopped in its work overrides :meth:`stop`."""

    stopped = False

    def stop(self) -> None:
        """From any thread, more than once."""
        self.stopped = True


def cut_pieces(text: str, limits: PieceLimits, language: str = "en") -> list[str]:
    """The text in pieces, cut at the ends of sentences and, where one is too long, where a voice would pause.

    Short sentences are joined. A piece without a letter or digit is left out.
    """
    cutter = SentenceCutter(language)
    pieces: list[str] = []
    joined = ""
    for sentence in (*cutter.feed(text), *cutter.finish(), ""):
        joined = f"{joined} {sentence}".strip()
        if len(joined) >= PIECE_CHARACTERS_MIN or not sentence:
            pieces += _cut_sentence(joined, limits if not pieces else limits._replace(first=limits.most))
            joined = ""
    return [piece for piece in pieces if any(character.isalnum() for character in piece)]


def _cut_sentence(text: str, limits: PieceLimits) -> list[str]:
    pieces = []
    if len(text) > limits.first:
        first = split_text(text, limits.first)[0].text.rstrip()
        # Where there is no pause to cut at: rather late than in the middle of a clause.
        if len(first) >= PIECE_CHARACTERS_MIN and not first[-1].isalnum():
            pieces.append(first)
            text = text[len(first) :].strip()
    while len(text) > limits.most + PIECE_CHARACTERS_MIN:
        end = len(split_text(text, limits.most)[0].text)
        if end < PIECE_CHARACTERS_MIN:
            end = text.rfind(" ", PIECE_CHARACTERS_MIN, limits.most)
        pieces.append(text[: end if end > 0 else limits.most].strip())
        text = text[end if end > 0 else limits.most :].strip()
    return [*pieces, text]


class PieceThread:
    """One thread that works for all runs: on the piece first that is due first."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, Future[Spoken], Callable[[], Spoken]]] = []
        self._numbers = itertools.count()
        self._closed = False

    def submit(self, due: float, work: Callable[[], Spoken]) -> Future[Spoken]:
        """Have ``work`` done. ``due``: when its audio is needed, on any clock that all callers share."""
        future: Future[Spoken] = Future()
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            heapq.heappush(self._waiting, (due, next(self._numbers), future, work))
            self._executor.submit(self._work)
        return future

    async def call(self, function: Callable[[], None]) -> None:
        """Have something else done in the thread, and wait for it."""
        await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """End after the piece under way; the others are cancelled."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
        self._executor.shutdown(wait=False, cancel_futures=True)
        for _, _, future, _ in waiting:
            future.cancel()

    def _work(self) -> None:
        with self._lock:
            if not self._waiting:
                return
            _, _, future, work = heapq.heappop(self._waiting)
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)


class PieceRun:
    """One sentence. Pieces are made one after the other, ``PIECES_AHEAD`` at most before the first of them is taken."""

    def __init__(
        self,
        engine: str,
        text: str,
        pieces: Iterable[str],
        speak: Callable[[str], Spoken],
        stop: Stop,
        thread: PieceThread,
        sample_rate_hz: int,
    ) -> None:
        """``pieces`` are those of ``text``; ``speak`` gives one's audio, in the thread. After ``stop`` it may raise."""
        self._engine = engine
        self._words = WholeWords(text)
        self._pieces = iter(pieces)
        self._speak = speak
        self._stop = stop
        self._thread = thread
        self._bytes_per_second = PCM_SAMPLE_BYTES * sample_rate_hz
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self._made_s = 0.0
        self._ready: deque[Iterator[SpeechChunk]] = deque()
        self._working: asyncio.Future[Spoken] | None = None
        self._error: Exception | None = None
        self._wake = asyncio.Event()

    def cancel(self) -> None:
        self._stop.stop()
        self._ready.clear()
        if self._working is not None:
            self._working.cancel()
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[SpeechChunk]:
        return self

    async def __anext__(self) -> SpeechChunk:
        while not self._stop.stopped:
            self._begin_next_piece()
            while self._ready:
                if chunk := next(self._ready[0], None):
                    return chunk
                self._ready.popleft()
                self._begin_next_piece()
            if self._error is not None:
                raise self._error
            if self._working is None:
                break
            await self._wake.wait()
            self._wake.clear()
        raise StopAsyncIteration

    def _begin_next_piece(self) -> None:
        if self._working is not None or self._error is not None or len(self._ready) >= PIECES_AHEAD:
            return
        piece = next(self._pieces, None)
        if piece is None:
            return
        # Its audio is needed when what was made before it has been played.
        work = self._thread.submit(self._opened_at + self._made_s, lambda: self._make(piece))
        self._working = asyncio.wrap_future(work, loop=self._loop)
        self._working.add_done_callback(self._take_piece)

    def _make(self, piece: str) -> Spoken:
        """In the thread."""
        return Spoken(b"") if self._stop.stopped else self._speak(piece)

    def _take_piece(self, done: asyncio.Future[Spoken]) -> None:
        self._working = None
        if done.cancelled():
            self._error = EngineError(f"{self._engine} was closed while it spoke")
        elif error := done.exception():
            self._error = self._failure(error)
        elif not self._stop.stopped:
            spoken = done.result()
            self._ready.append(self._chunks(spoken, round(1000 * self._made_s)))
            self._made_s += len(spoken.pcm) / self._bytes_per_second
            self._begin_next_piece()
        self._wake.set()

    def _failure(self, error: BaseException) -> Exception:
        """What a library says about its failure may hold the text that was to be said: its type alone is told."""
        if isinstance(error, EngineError):
            return error
        if isinstance(error, WorkCancelledError):
            return EngineError(f"{self._engine} was closed while it spoke")
        return EngineError(f"{self._engine} could not speak a sentence: {type(error).__name__}")

    def _chunks(self, spoken: Spoken, offset_ms: int) -> Iterator[SpeechChunk]:
        size = self._bytes_per_second // CHUNKS_PER_SECOND // PCM_SAMPLE_BYTES * PCM_SAMPLE_BYTES
        words = deque(
            WordStart(whole, offset_ms + word.start_ms)
            for word in spoken.words
            if (whole := self._words.of(word.text)) is not None
        )
        for begin in range(0, len(spoken.pcm), size):
            pcm = spoken.pcm[begin : begin + size]
            last = begin + size >= len(spoken.pcm)
            end_ms = offset_ms + 1000 * (begin + size) // self._bytes_per_second
            begun = []
            while words and (last or words[0].start_ms < end_ms):
                begun.append(words.popleft())
            yield SpeechChunk(pcm, tuple(begun))
