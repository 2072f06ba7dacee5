"""One run of an engine over one stretch of speech: audio goes in as it comes, partials and one final come out.

A blocking engine works on the pool, one job at a time, in slices short enough for other calls (and, where the engine
keeps Python's lock, the event loop) to get their turn. Whatever the engine does, exactly one outcome comes: its
transcript, its error, or the end of its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from bus.clock import Clock, Timer
from bus.logs import get_logger
from config.load import ConfigError
from schemas.asr import Word
from schemas.llm import ListenFor
from services.asr.engine import Engine, EngineError, Run, Transcript
from services.asr.hearing import BYTES_PER_TICK, TICKS_PER_MS, Piece
from services.asr.pool import EnginePool, Job
from services.audio.resample import Resampler

log = get_logger(__name__)

SAMPLE_RATE_HZ = 8000
SLICE_BYTES = 1600
"""100 ms of audio: about 2 ms of work for PocketSphinx with a grammar."""
BATCH_BYTES = 960
"""60 ms of audio wait for a thread together: to wake one costs as much as the work on 20 ms."""


class Outcome(NamedTuple):
    """How a run ended. ``error``: empty, or a code of the failure table; then ``text`` is the last partial. ``engine``:
    who gave it, of several; empty: the only one."""

    text: str
    confidence: float
    words: tuple[Word, ...]
    error: str = ""
    detail: str = ""
    engine: str = ""


class Recognition:
    """Drives one run. The callbacks are called on the event loop, never after :meth:`cancel`.

    ``on_idle``: the engine has nothing to do until more audio comes. ``on_failed``: told at once, with the kind of
    error, where the engine fails, in place of an outcome; None: the outcome says so when it is wanted.
    """

    def __init__(
        self,
        engine: Engine,
        listen_for: ListenFor,
        *,
        pool: EnginePool,
        clock: Clock,
        deadline_ms: int,
        on_partial: Callable[[str], None],
        on_outcome: Callable[[Outcome], None],
        on_idle: Callable[[], None],
        on_failed: Callable[[Outcome, str], None] | None = None,
    ) -> None:
        self.through_sequence = -1
        self._engine = engine
        self._listen_for = listen_for
        self._pool = pool
        self._clock = clock
        self._deadline_ms = deadline_ms
        self._on_partial = on_partial
        self._on_outcome = on_outcome
        self._on_idle = on_idle
        self._on_failed = on_failed
        self._resampler = _resampler_for(engine.capabilities.sample_rates_hz)
        self._batch_bytes = BATCH_BYTES if engine.capabilities.blocking else 1
        self._run: Run | None = None
        self._waiting = bytearray()
        self._segments: list[tuple[float, float]] = []
        self._bytes = 0
        self._busy = self._finishing = self._over = False
        self._job: Job | None = None
        self._partial = ""
        self._timer: Timer | None = None
        self._held: Outcome | None = None
        self._given_us = 0

    @property
    def waiting_since_us(self) -> int | None:
        """When the engine was given what it works on, by the clock's elapsed time; None: it is at rest."""
        return self._given_us if self._busy and not self._over else None

    @property
    def behind_ms(self) -> float:
        """Audio that waits for the engine."""
        return len(self._waiting) / (TICKS_PER_MS * BYTES_PER_TICK)

    @property
    def busy(self) -> bool:
        """The engine has audio or an end to work on."""
        return not self._over and (self._busy or len(self._waiting) >= self._batch_bytes or self._finishing)

    def feed(self, piece: Piece) -> None:
        """The next audio. Nothing may be fed after :meth:`finish`."""
        self.through_sequence = piece.sequence
        if self._over:
            return
        self._note_time(piece)
        self._waiting += piece.pcm
        self._advance()

    def finish(self) -> None:
        """No more audio: the outcome is wanted within the deadline."""
        self._finishing = True
        if self._held is not None:
            self._on_outcome(self._held)
        elif not self._over:
            self._timer = self._clock.call_later(self._deadline_ms, self._time_out)
            self._advance()

    def cancel(self) -> None:
        """Nothing is wanted any more."""
        if not self._over:
            self._close()
            self._drop_run()
            if self._busy:
                # Nobody waits for it any more, but for the thread that it holds.
                self._clock.call_later(self._deadline_ms, self._replace_thread)

    def abandon(self) -> None:
        """As :meth:`cancel`, of an engine that does not come back: the thread that it holds is replaced."""
        self.cancel()
        self._replace_thread()

    def _replace_thread(self) -> None:
        """Once this is over: a thread that begins at this moment sees that, or is seen to be at work."""
        if self._job is not None:
            self._pool.replace_thread(self._job)

    def _advance(self) -> None:
        """Give the engine its next piece of work, if it is free and there is some."""
        while not self._busy and not self._over and (len(self._waiting) >= self._batch_bytes or self._finishing):
            chunk = bytes(self._waiting[:SLICE_BYTES])
            del self._waiting[:SLICE_BYTES]
            last = self._finishing and not self._waiting
            self._busy = True
            self._given_us = self._clock.elapsed_us()
            if self._engine.capabilities.blocking:
                self._job = self._pool.submit(lambda: self._work(chunk, last), self._worked)  # noqa: B023
                return
            try:
                self._worked(self._work(chunk, last), None)
            except Exception as error:
                self._worked(None, error)

    def _work(self, chunk: bytes, last: bool) -> str | Transcript | None:
        """On a thread of the pool where the engine blocks."""
        if self._over:
            # Out of time before the engine got to it: whoever waits behind need not wait for this as well.
            return None
        if self._run is None:
            self._run = self._engine.open(self._listen_for)
        partial = None
        if self._resampler is not None:
            chunk = self._resampler.feed(chunk) + (self._resampler.finish() if last else b"")
        if chunk:
            partial = self._run.accept(chunk)
        result = self._run.finish() if last else partial
        if not isinstance(result, Transcript if last else str | None):
            raise EngineError(f"it gave {type(result).__name__} in place of a {'transcript' if last else 'partial'}")
        return result

    def _worked(self, result: str | Transcript | None, error: Exception | None) -> None:
        self._busy, self._job = False, None
        if self._over:
            # Cancelled or out of time while the engine was at work: only now may the run be touched again.
            if not isinstance(result, Transcript):
                self._drop_run()
            return
        if error is not None:
            self._fail("engine_failed", error)
        elif isinstance(result, Transcript):
            try:
                outcome = self._outcome(result)
            except Exception as defect:
                self._fail("engine_failed", defect)
                return
            self._close()
            self._on_outcome(outcome)
        else:
            if result is not None and result != self._partial:
                self._partial = result
                self._on_partial(result)
            self._advance()
            if not self.busy:
                self._on_idle()

    def _outcome(self, transcript: Transcript) -> Outcome:
        """What events can hold of a transcript. Raises where it is none: an engine may pass on what a provider said."""
        if not isinstance(transcript.text, str):
            raise EngineError(f"it gave {type(transcript.text).__name__} in place of a text")
        if not isinstance(transcript.confidence, int | float) or math.isnan(transcript.confidence):
            raise EngineError("it gave a confidence that is no number")
        text = transcript.text.encode("utf-8", "replace").decode("utf-8")
        words = tuple(self._in_media_time(word) for word in transcript.words)
        return Outcome(text, _ratio(transcript.confidence), words)

    def _time_out(self) -> None:
        if not self._over:
            self._fail("engine_timeout", None)
            self._replace_thread()

    def _fail(self, code: str, error: Exception | None) -> None:
        """The outcome is what was known; it is kept until it is wanted where the speech still goes on."""
        name = self._engine.name
        if error is not None:
            kind = type(error).__name__
            detail = f"engine {name} raised {kind}"
            # Somebody else's text may hold what was said.
            log.error(code, message=f"{detail}: {error}" if isinstance(error, EngineError | ConfigError) else detail)
        else:
            kind = f"no transcript within {self._deadline_ms} ms"
            detail = f"engine {name} gave {kind}"
            log.error(code, message=detail)
        self._close()
        if error is not None:
            self._drop_run()
        outcome = Outcome(self._partial, 0.0, (), code, detail)
        if self._on_failed is not None:
            self._on_failed(outcome, kind)
        elif self._finishing:
            self._on_outcome(outcome)
        else:
            self._held = outcome

    def _close(self) -> None:
        self._over = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_run(self) -> None:
        if self._busy or self._run is None:
            return
        run, self._run = self._run, None
        try:
            run.cancel()
        except Exception as error:
            log.warning("engine_cancel_failed", message=f"engine {self._engine.name}: {type(error).__name__}")

    def _note_time(self, piece: Piece) -> None:
        """Remember where in the run's audio a jump of media time lies."""
        offset_ms = self._bytes / (TICKS_PER_MS * BYTES_PER_TICK)
        if not self._segments or abs(piece.media_ms - self._media_ms(offset_ms)) > 1:
            self._segments.append((offset_ms, piece.media_ms))
        self._bytes += len(piece.pcm)

    def _media_ms(self, offset_ms: float) -> float:
        start_offset, start_media = next(
            (segment for segment in reversed(self._segments) if segment[0] <= offset_ms), self._segments[0]
        )
        return start_media + offset_ms - start_offset

    def _in_media_time(self, word: Word) -> Word:
        start, end = (max(0, round(self._media_ms(at))) for at in (word.start_ms, word.end_ms))
        return Word(text=word.text, start_ms=start, end_ms=max(start, end), confidence=_ratio(word.confidence))


def _ratio(confidence: float) -> float:
    return min(1.0, max(0.0, confidence))


def _resampler_for(rates_hz: tuple[int, ...]) -> Resampler | None:
    if SAMPLE_RATE_HZ in rates_hz or not rates_hz:
        return None
    return Resampler(SAMPLE_RATE_HZ, rates_hz[0])
