"""Engines that stand in for each other, so that a sentence is said to its end whatever becomes of one of them.

A :class:`FailoverEngine` is an engine like any other. Its run asks one engine after the other until one gives audio
that can be heard, and where that one breaks off in the middle, has another say the rest of the sentence, from the last
word that was surely said (``rest.py``), in the same flow of audio at the same rate.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

from bus.logs import get_logger
from bus.metrics import EngineFigures
from config.load import ConfigError
from config.settings import Settings, TtsSection
from services.audio.g711 import PCM_SAMPLE_BYTES
from services.audio.resample import Resampler, ResamplerMissingError
from services.racing import Race, StalledError, broken_off, explain, now_ms
from services.resilience.attempts import Attempt, Attempts, Roster, StageDownError, Takeover
from services.tts.engine import Capabilities, Engine, EngineChoiceError, EngineError, Label, SpeechChunk, load_engine
from services.tts.rest import Pace, speakable, without_words
from services.tts.speaking import Manner, Speaking, Voice
from services.warming import Warming, engines_of

log = get_logger(__name__)

STAGE = "tts"
Load = Callable[[str, TtsSection, Settings | None], Engine]


class FailoverRun:
    """One sentence, said by whoever can.

    Attributes:
        engine: who speaks now, or spoke last; empty: nobody yet.
        takeovers: who took over from whom so far.
    """

    def __init__(self, voices: Sequence[Voice], roster: Roster, section: TtsSection, text: str, manner: Manner) -> None:
        self.engine = ""
        self.takeovers: list[Takeover] = []
        self._voices = voices
        self._attempts = Attempts(roster)
        self._section = section
        self._text = text
        self._manner = manner
        self._race: Race[Speaking] | None = None
        self._speaking: tuple[Speaking, Attempt] | None = None
        self._given_bytes = 0
        self._heard_until_ms = 0.0
        self._starved_ms = 0.0
        self._over = False

    def cancel(self) -> None:
        """Stop whoever is at work on it, now."""
        self._over = True
        if self._race is not None:
            self._race.close()
        if self._speaking is not None:
            speaking, attempt = self._speaking
            waited_ms = speaking.reader.waited_ms
            attempt.let_go(now_ms(), waited_ms=waited_ms, limit_ms=self._patience_ms(waited_ms), output=True)
            speaking.close()

    def down(self) -> StageDownError:
        """The error where nobody says it."""
        return self._attempts.down()

    async def __aiter__(self) -> AsyncGenerator[SpeechChunk, None]:
        text: str | None = self._text
        withheld = SpeechChunk(b"")
        try:
            while text is not None:
                try:
                    speaking = await self._win(text)
                except StageDownError:
                    yield withheld
                    raise
                if speaking is None:
                    return
                speaking.begin(self._given_bytes)
                while (chunk := await speaking.next(self._limit_ms())) is not None:
                    yield self._given(chunk)
                    if self._over:
                        return
                if self._over:
                    return
                text = self._rest(speaking, text)
                last = speaking.finish(spread=self._spreads(speaking, broke=text is not None))
                withheld = SpeechChunk(b"", speaking.withheld())
                yield self._given(last)
        finally:
            self.cancel()

    async def _win(self, text: str) -> Speaking | None:
        """Whoever gives audio of this text first; None: nobody is wanted any more."""
        self._race = Race(
            self._attempts,
            lambda index: Speaking(self._voices[index], text, self._manner),
            attempt_ms=self._section.attempt_ms,
            hedge_ms=self._section.hedge_ms,
            explain=partial(explain, EngineError),
        )
        won = await self._race.winner()
        if won is None or self._over:
            return None
        self._speaking = won
        self._heard_until_ms, self._starved_ms = max(now_ms(), self._heard_until_ms), 0.0
        speaking, attempt = won
        self.engine = speaking.voice.engine.capabilities.name
        self.takeovers += self._attempts.takeovers(attempt)
        return speaking

    def _given(self, chunk: SpeechChunk) -> SpeechChunk:
        self._starved_ms += max(0.0, now_ms() - self._heard_until_ms)
        self._given_bytes += len(chunk.pcm)
        chunk_ms = 1000 * len(chunk.pcm) / PCM_SAMPLE_BYTES / self._manner.rate_hz
        self._heard_until_ms = max(now_ms(), self._heard_until_ms) + chunk_ms
        return chunk

    def _limit_ms(self) -> float | None:
        """How long the next audio may be waited for; None: nobody else is left, so that is not for this to say."""
        assert self._speaking is not None
        others = self._attempts.others(now_ms(), self._speaking[1].index)
        return self._patience_ms() if others else None

    def _patience_ms(self, waited_ms: float = 0.0) -> float:
        """For how long it is no failure that no audio comes, counted from ``waited_ms`` ago: as long as what was given
        can be heard, since an engine may do first what is needed first, but so that the next one still has time. The
        gaps of one that is slower than speech are counted together."""
        attempt_ms, deadline_ms = self._section.attempt_ms, self._section.deadline_ms
        heard_ms = max(0.0, self._heard_until_ms - now_ms() + waited_ms)
        patience_ms = max(attempt_ms, min(heard_ms, deadline_ms - attempt_ms))
        return max(0.0, min(patience_ms, heard_ms + attempt_ms - self._starved_ms))

    def _rest(self, speaking: Speaking, text: str) -> str | None:
        """What is still to be said of ``text``; None: nothing."""
        assert self._speaking is not None
        _, attempt = self._speaking
        self._speaking = None
        speaking.close()
        error = speaking.verdict()
        if error is None:
            attempt.succeeded(now_ms())
            speaking.voice.pace.learn(text, speaking.given_ms - speaking.silence_ms)
            return None
        why, kind = broken_off(error)
        if self._starved_ms and isinstance(error, StalledError):
            kind = f"slower than speech by more than {self._section.attempt_ms} ms"
        log.warning(
            "engine_error",
            message=f"engine {attempt.name}: {explain(EngineError, error)}",
            engine=attempt.name,
            why=why,
        )
        attempt.failed(now_ms(), why, kind, output=True)
        rest = without_words(text, speaking.words_said())
        return rest if speakable(rest) else None

    def _spreads(self, speaking: Speaking, *, broke: bool) -> bool:
        """Whether words without times are given some: where several engines share a sentence, and one knows times."""
        return (broke or speaking.shared) and any(voice.engine.capabilities.word_times for voice in self._voices)


class FailoverEngine:
    """Several engines in their order, as one."""

    def __init__(self, engines: Sequence[tuple[str, Engine]], settings: Settings, roster: Roster | None = None) -> None:
        """``engines``: with their names in the settings. ``roster``: of the same names; None: a new one."""
        section = settings.tts
        names = [name for name, _ in engines]
        self.name = ",".join(names)
        self.roster = roster or Roster(names, settings.failover, random.random, EngineFigures(STAGE))
        self._section = section
        self._voices = tuple(Voice(engine, Pace(section.speed), name, section.speed) for name, engine in engines)
        self._leader = 0
        self._warming = Warming(self.roster, [engine.warm for _, engine in engines], STAGE)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the first engine that could be loaded; all audio has its rate."""
        leader = self._voices[self._leader].engine.capabilities
        return leader._replace(name=self.name)

    async def warm(self) -> None:
        """Load every engine. Those that fail are left out, until they can be loaded.

        Raises:
            Exception: none can be loaded; what the first one raised.
            ConfigError: nothing is installed that brings their audio to one rate.
        """
        self._leader = await self._warming.warm()
        for index, voice in enumerate(self._voices):
            if self.roster.allows(index, now_ms()):
                try:
                    Resampler(voice.engine.capabilities.sample_rate_hz, self.capabilities.sample_rate_hz)
                except ResamplerMissingError as error:
                    raise ConfigError(str(error)) from error

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> FailoverRun:  # noqa: B008
        manner = Manner(language, label, self.capabilities.sample_rate_hz)
        return FailoverRun(self._voices, self.roster, self._section, text, manner)

    async def list_voices(self) -> tuple[str, ...]:
        """The first engine's."""
        return await self._voices[0].engine.list_voices()

    async def close(self) -> None:
        self._warming.close()
        for voice in self._voices:
            await voice.engine.close()


def load_engines(settings: Settings, load: Load = load_engine) -> Engine:
    """The engine of ``[tts] engine``; where ``fallbacks`` are set, all of them as one. Not yet warm.

    Raises:
        EngineChoiceError: one of them does not exist or refuses the settings, or is named twice.
    """
    section = settings.tts
    engines = engines_of(
        "tts", section.engine, section.fallbacks, lambda name: load(name, section, settings), EngineChoiceError
    )
    return engines[0][1] if len(engines) == 1 else FailoverEngine(engines, settings)
