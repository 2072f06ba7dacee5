"""Kokoro: 82 million parameters, 24 kHz, through kokoro-onnx. One model speaks for all calls, a piece at a time.

Its phonemes come from eSpeak NG (GPL-3.0-or-later), of which the package phonemizer loads a copy of its own: the engine
``espeak`` may live in the same process.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

from config.engine_sections import KokoroSection
from config.settings import Settings, TtsSection
from services.models import find_model
from services.onnx import StoppableSession, onnxruntime, open_session, own_choice_of_threads, report_to_nobody
from services.packages import installed
from services.tts.engine import Capabilities, Engine, EngineChoiceError, Label, Run, WordStart
from services.tts.engines._onnx_stop import OnnxStop, pcm_of
from services.tts.engines._phoneme_words import Phoneme, place_words
from services.tts.engines._pieces import PieceLimits, PieceRun, PieceThread, Spoken, cut_pieces

EXTRA = "kokoro"
SAMPLE_RATE_HZ = 24000
LIMITS = PieceLimits(first=60, most=120)
"""About 4 s and 8 s of speech: the model needs half a second of two cores for each second."""
WARM_TEXT = "Good morning. Thank you for calling, how can I help you today?"
SENTENCE_PAUSE_MS = 250
CLAUSE_PAUSE_MS = 100
"""The silence at the ends of a piece is cut off; between two pieces this much of it is put back."""

LANGUAGES = {"a": "en-us", "b": "en-gb", "e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}
"""A voice's first letter says what it speaks, here in eSpeak NG's naming. Japanese and Chinese need other phonemes."""

_SWITCH = re.compile(r"\((?:[a-z]{2,3})(?:-[a-z]+)*\)")
"""How eSpeak NG marks a word of another language among the phonemes."""
_MARKS = frozenset(';:,.!?¡¿—…"«»“”()')


def create(section: TtsSection, settings: Settings) -> Engine:
    """The engine with the model of [kokoro]; nothing is loaded yet.

    Raises:
        MissingPackageError: kokoro-onnx is not installed.
        MissingModelError: the model is not on this machine.
        EngineChoiceError: its folder is incomplete, or there is no such voice.
    """
    report_to_nobody()
    installed("kokoro", {"kokoro_onnx": EXTRA, "onnxruntime": EXTRA, "numpy": EXTRA})
    files = find_files(find_model(settings.kokoro.model, settings.models, setting="[kokoro] model"))
    return KokoroEngine(files, section.speed, settings.kokoro)


class KokoroFiles(NamedTuple):
    """The model and its voices on this machine."""

    model: Path
    voices: Path
    names: tuple[str, ...]


def find_files(folder: Path) -> KokoroFiles:
    """The two files in a folder. Raises :class:`EngineChoiceError` where one is missing or unusable."""
    import numpy

    models, voices = sorted(folder.glob("*.onnx")), sorted(folder.glob("voices*.bin"))
    if len(models) != 1 or len(voices) != 1:
        raise EngineChoiceError(
            f"[kokoro] model: {folder} must hold one model (kokoro-v1.0.onnx) and one file of voices "
            f"(voices-v1.0.bin), not {len(models)} and {len(voices)}"
        )
    try:
        with numpy.load(voices[0]) as styles:
            names = tuple(sorted(styles.keys()))
    except Exception as error:
        raise EngineChoiceError(
            f"[kokoro] model: {voices[0]} is no file of voices ({type(error).__name__}): "
            "fetch it again with callbus models pull"
        ) from error
    return KokoroFiles(models[0], voices[0], names)


class KokoroEngine:
    """Where the settings leave the voice as it is, a sentence in another language has a voice of that language.

    A voice that somebody chose speaks everything, with the accent that it has.
    """

    def __init__(self, files: KokoroFiles, speed: float, section: KokoroSection) -> None:
        if section.voice not in files.names:
            raise EngineChoiceError(
                f"[kokoro] voice = {section.voice!r}: {files.voices} has no such voice; "
                "python -m services.tts --voices lists them"
            )
        if section.voice[0] not in LANGUAGES:
            raise EngineChoiceError(
                f"[kokoro] voice = {section.voice!r}: voices whose names begin with {', '.join(LANGUAGES)} can be used"
            )
        self._files = files
        self._speed = speed
        self._voice = section.voice
        self._follows_language = section.voice == KokoroSection().voice
        self._threads = section.threads or own_choice_of_threads()
        self._thread = PieceThread("kokoro")
        self._runtime = onnxruntime("kokoro", EXTRA)
        self._session: StoppableSession | None = None
        self._kokoro: Any = None

    @property
    def capabilities(self) -> Capabilities:
        """``word_times`` is known once the model is loaded: newer exports tell how long each phoneme is."""
        timed = self._kokoro is not None and bool(self._kokoro.has_timings)
        return Capabilities("kokoro", SAMPLE_RATE_HZ, streaming=True, word_times=timed)

    async def warm(self) -> None:
        """Load the model, and speak a first sentence into the void."""
        await self._thread.call(self._warm)

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        stop, voice = OnnxStop(self._runtime), self.voice_for(language)
        return PieceRun(
            "kokoro",
            text,
            cut_pieces(text, LIMITS, language),
            lambda piece: self._speak(piece, voice, stop),
            stop,
            self._thread,
            SAMPLE_RATE_HZ,
        )

    async def list_voices(self) -> tuple[str, ...]:
        """Names for ``[kokoro] voice``."""
        return tuple(name for name in self._files.names if name[0] in LANGUAGES)

    async def close(self) -> None:
        """Stop after the piece that is being spoken; nothing may be opened any more."""
        self._thread.close()

    def voice_for(self, language: str) -> str:
        """The voice that speaks a language, a BCP 47 tag; the settings' where there is none of that language."""
        tag = language.lower().replace("_", "-")
        spoken = LANGUAGES[self._voice[0]]
        if not self._follows_language or tag.partition("-")[0] == spoken.partition("-")[0]:
            return self._voice
        for name in self._files.names:
            if LANGUAGES.get(name[0], "").partition("-")[0] == tag.partition("-")[0]:
                return name
        return self._voice

    def _warm(self) -> None:
        self._load()
        try:
            for piece in cut_pieces(WARM_TEXT, LIMITS):
                self._speak(piece, self._voice, OnnxStop(self._runtime))
        except Exception as error:
            raise EngineChoiceError(
                f"[kokoro] model: {self._files.model} can't speak ({type(error).__name__}): does "
                f"{self._files.voices.name} belong to it?"
            ) from error

    def _load(self) -> None:
        """In the thread; a run before ``warm`` comes here too."""
        if self._kokoro is not None:
            return
        import kokoro_onnx

        # Each brings a handler of its own, and logs the phonemes of what it speaks.
        for name in ("kokoro_onnx", "phonemizer"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.setLevel(logging.ERROR)
        try:
            session = open_session("kokoro", self._files.model, extra=EXTRA, threads=self._threads)
            self._session = StoppableSession(session)
            self._kokoro = kokoro_onnx.Kokoro.from_session(self._session, str(self._files.voices))
        except Exception as error:
            raise EngineChoiceError(
                f"[kokoro] model: {self._files.model} is not a model that onnxruntime opens "
                f"({type(error).__name__}): fetch it again with callbus models pull"
            ) from error

    def _speak(self, piece: str, voice: str, stop: OnnxStop) -> Spoken:
        """In the thread."""
        self._load()
        assert self._session is not None
        language = LANGUAGES[voice[0]]
        phonemes = self._phonemes(piece, language)
        if not phonemes:
            return Spoken(b"")
        with self._session.under(stop.token):
            samples, _, times = self._kokoro.create_timed(phonemes, voice, speed=self._speed, is_phonemes=True)
        words: tuple[WordStart, ...] = ()
        if times:
            spoken = [Phoneme(each.phoneme, round(1000 * each.start)) for each in times if each.phoneme not in _MARKS]
            words = place_words(piece, spoken, lambda word: len(self._phonemes(word, language)))
        return Spoken(pcm_of(samples) + _pause_after(piece), words)

    def _phonemes(self, text: str, language: str) -> str:
        clean = " ".join(text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8").split())
        found = _SWITCH.sub("", self._kokoro.tokenizer.phonemize(clean, language))
        return found if any(character not in _MARKS and not character.isspace() for character in found) else ""


def _pause_after(piece: str) -> bytes:
    mark = piece.rstrip()[-1:]
    pause_ms = SENTENCE_PAUSE_MS if mark in ".!?…。！？" else CLAUSE_PAUSE_MS if mark in ",;:" else 0
    return bytes(2 * SAMPLE_RATE_HZ * pause_ms // 1000)
