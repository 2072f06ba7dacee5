"""What a worker's phrase book begins with: the user's own recordings, and the fixed sentences of an agent, said by the
first engine that can and kept on disk, so that a worker that starts while its provider is down has them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tomllib
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bus.logs import get_logger
from config.load import ConfigError
from config.settings import Settings
from services.audio.resample import ResamplerMissingError
from services.audio.wav import Wav, WavError, build_wav, read_wav
from services.models import models_folder
from services.text.courtesies import courtesies
from services.text.speakable import shape
from services.tts.apology import Apology, keep_apology, voice_of
from services.tts.engine import Engine
from services.tts.phrasebook import PhraseBook
from services.warming import names_of

log = get_logger(__name__)

LIST = "phrases.toml"
FOLDER = ".phrases"
"""In the folder of the models."""
LOCAL = ("espeak", "instant")
"""Engines that come with callbus and need nobody: what they say is not kept on disk."""
PREPARE_S = 10.0
"""For all the fixed sentences together: a worker that has not got them all takes calls all the same, and the next start
goes on where this one stopped."""
LONGEST_MS = 60_000
VOICE_SETTINGS = ("url", "voice", "model", "speaker", "tts", "tts_arguments")
"""What makes the voice of an engine in its own section."""


class PhrasesError(ConfigError):
    """A recording of ``[tts] phrases`` that can't be used; the text says what to mend."""


class OwnPhrase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of ``phrases.toml``. ``language``: empty: that of ``[asr] language``."""

    text: str
    language: str = ""


class Spoken(NamedTuple):
    """A fixed sentence that was said. ``engine``: by whom, of several; empty: by two of them, or the only one."""

    pcm: bytes
    rate_hz: int
    engine: str


async def open_book(engine: Engine, settings: Settings) -> tuple[PhraseBook, Apology | None]:
    """The phrase book of a worker whose engine is warm, and its apology.

    Raises:
        PhrasesError: a recording of the user's own can't be used.
    """
    book = PhraseBook(engine.capabilities.sample_rate_hz)
    if settings.tts.phrases.strip():
        await asyncio.to_thread(add_own, book, settings.tts.phrases.strip(), settings.asr.language)
    shelf = Shelf(settings)
    section, language = settings.tts, settings.asr.language
    apology = await keep_apology(engine, section.apology, shape_text=section.shape_text)
    if apology is not None:
        book.add(apology.text, language, apology.pcm, book.rate_hz)
        spoken = Spoken(apology.pcm, book.rate_hz, apology.engine)
        await shelf.save(apology.text, spoken)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PREPARE_S):
            speaks = apology is not None or not section.apology.strip()
            await _prepare(book, engine, shelf, settings, speaks=speaks)
    if apology is None and (pcm := book.recording(section.apology, language)) is not None:
        apology = Apology(section.apology, pcm)
    return book, apology


def add_own(book: PhraseBook, name: str, language: str) -> None:
    """Take in the recordings of a folder: ``<name>.wav``, whose texts stand in ``phrases.toml``.

    Raises:
        PhrasesError: the list or a recording is missing or can't be read, or they do not fit each other.
    """
    folder = Path(name).expanduser()
    entries = _read_list(folder)
    for name in sorted(path.stem for path in folder.glob("*.wav")):
        if name not in entries:
            raise PhrasesError(
                f"[tts] phrases: {folder / LIST} has no entry for {name}.wav: add [{name}] with its text"
            )
    for name, phrase in entries.items():
        wav = _read_recording(folder / f"{name}.wav")
        try:
            book.add(phrase.text, phrase.language or language, wav.mono(), wav.sample_rate_hz)
        except ResamplerMissingError as error:
            raise PhrasesError(f"[tts] phrases: {folder / name}.wav: {error}") from error


def _read_list(folder: Path) -> dict[str, OwnPhrase]:
    place = folder / LIST
    try:
        raw = tomllib.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PhrasesError(f"[tts] phrases: {place} is missing; it names the text of each recording") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PhrasesError(f"[tts] phrases: {place} can't be read as TOML: {error}") from error
    return {name: _entry(place, name, value) for name, value in raw.items()}


def _entry(place: Path, name: str, value: Any) -> OwnPhrase:
    try:
        phrase = msgspec.convert({"text": value} if isinstance(value, str) else value, OwnPhrase)
    except msgspec.ValidationError as error:
        raise PhrasesError(f"[tts] phrases: {place}: [{name}]: {error}; keys are: text, language") from None
    if not any(character.isalnum() for character in phrase.text):
        raise PhrasesError(f"[tts] phrases: {place}: [{name}] has no text; write what the recording says")
    return phrase


def _read_recording(path: Path) -> Wav:
    try:
        wav = read_wav(path)
    except FileNotFoundError:
        raise PhrasesError(
            f"[tts] phrases: {path} is missing; record it, or remove [{path.stem}] from {LIST}"
        ) from None
    except (OSError, WavError) as error:
        raise PhrasesError(f"[tts] phrases: {error}") from error
    if not wav.pcm or wav.duration_ms > LONGEST_MS:
        length = f"{wav.duration_ms / 1000:.0f} s"
        raise PhrasesError(f"[tts] phrases: {path} is {length} long; a phrase has up to {LONGEST_MS // 1000} s")
    return wav


class Shelf:
    """Fixed sentences on disk, by engine and voice."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        names = names_of(settings.tts.engine, settings.tts.fallbacks)
        self._alone = names[0] if len(names) == 1 else ""
        self._names = [name for name in names if name not in LOCAL]
        self._folder = models_folder(settings.models) / FOLDER

    async def load(self, text: str) -> Wav | None:
        """As the first engine said it that has; None: none has yet."""
        return await asyncio.to_thread(self._load, text) if self._names else None

    async def save(self, text: str, spoken: Spoken) -> None:
        """Keep it, where it is of an engine that may be away. What can't be written is told and does no harm."""
        name = self._alone or spoken.engine
        if name in self._names and spoken.pcm:
            await asyncio.to_thread(self._save, self._place(name, text), spoken)

    def _load(self, text: str) -> Wav | None:
        for name in self._names:
            with contextlib.suppress(OSError, WavError):
                wav = read_wav(self._place(name, text))
                if wav.pcm:
                    return wav
        return None

    def _save(self, place: Path, spoken: Spoken) -> None:
        fresh = place.with_suffix(f".{os.getpid()}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(build_wav(spoken.pcm, spoken.rate_hz))
            fresh.replace(place)
        except OSError as error:
            log.warning("phrase_not_kept", message=f"a fixed phrase can't be kept in {place.parent}: {error.strerror}")

    def _place(self, name: str, text: str) -> Path:
        section, own = self._settings.tts, getattr(self._settings, name, None)
        voice = [section.voice, section.speed, section.shape_text, *(getattr(own, key, "") for key in VOICE_SETTINGS)]
        token = "".join(character if character.isalnum() else "_" for character in name)
        return self._folder / f"{token}-{_digest(repr(voice))}" / f"{_digest(text)}.wav"


async def _prepare(book: PhraseBook, engine: Engine, shelf: Shelf, settings: Settings, *, speaks: bool) -> None:
    """Have each sentence in the book: from the shelf, else said now where the engine ``speaks``. The first that it does
    not say is the last tried."""
    language = settings.asr.language
    for text in (settings.tts.apology, *courtesies(language).recited):
        if not text.strip() or book.recording(text, language) is not None:
            continue
        kept = await shelf.load(text)
        if kept is not None:
            with contextlib.suppress(ResamplerMissingError):
                book.add(text, language, kept.mono(), kept.sample_rate_hz)
        elif speaks:
            said = shape(text, language).text if settings.tts.shape_text else text
            spoken = await _speak(engine, said, language)
            speaks = spoken is not None
            if spoken is not None:
                book.add(text, language, spoken.pcm, spoken.rate_hz)
                await shelf.save(text, spoken)


async def _speak(engine: Engine, text: str, language: str) -> Spoken | None:
    try:
        run = engine.open(text, language=language)
        try:
            pieces = [(chunk.pcm, voice_of(run)) async for chunk in run]
        finally:
            run.cancel()
    except Exception as error:
        log.warning(
            "phrases_missing",
            message=f"engine {engine.capabilities.name} did not say the fixed phrases ({type(error).__name__}); "
            "where no engine is left, a caller hears only those that were kept before",
        )
        return None
    voices = {voice for _, voice in pieces}
    pcm = b"".join(pcm for pcm, _ in pieces)
    return Spoken(pcm, engine.capabilities.sample_rate_hz, voices.pop() if len(voices) == 1 else "")


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
