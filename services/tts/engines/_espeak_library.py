"""The eSpeak NG library through ``ctypes``: one global state per process, so one lock and one thread of its own.

Speech comes through a callback in pieces of 60 ms (1,324 samples); the callback's return value 1 stops it at once.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from services.tts.engine import EngineChoiceError, EngineError

# speak_lib.h of eSpeak NG 1.52
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
END_PAUSE = 0x1000
POSITION_CHARACTER = 1
RATE = 1
EVENT_LIST_TERMINATED = 0
EVENT_WORD = 1

NORMAL_WORDS_PER_MINUTE = 175
BUFFER_MS = 20
MISSING = "engine espeak: the package espeakng-loader is not installed; run pip install 'callbus[espeak]'"
HOW_TO_SEE_VOICES = "python -m services.tts --voices lists them"


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


class _Voice(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class WordEvent(NamedTuple):
    """A word begins: index of its first character in the text, and sample from the start of the audio."""

    character: int
    sample: int


Sink = Callable[[bytes, list[WordEvent]], bool]
"""Takes PCM and the words that begin; True stops the synthesis."""


_PROCESS_LOCK = threading.Lock()


class EspeakLibrary:
    """The loaded library. Every method blocks for milliseconds and may be called from any one thread at a time."""

    def __init__(self) -> None:
        """Load and initialise.

        Raises:
            EngineChoiceError: the package is not installed.
            EngineError: the library does not start.
        """
        try:
            import espeakng_loader
        except ImportError as error:
            raise EngineChoiceError(MISSING) from error
        self._data_path = Path(espeakng_loader.get_data_path())
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._declare()
        self.sample_rate_hz = int(
            self._library.espeak_Initialize(
                AUDIO_OUTPUT_SYNCHRONOUS, BUFFER_MS, str(self._data_path).encode(), INITIALIZE_DONT_EXIT
            )
        )
        if self.sample_rate_hz <= 0:
            raise EngineError(f"eSpeak NG did not start: espeak_Initialize returned {self.sample_rate_hz}")
        self._lock = _PROCESS_LOCK
        self._sink: Sink | None = None
        self._sink_error: BaseException | None = None
        self._chosen: tuple[str, int] | None = None
        self._unusable: set[str] = set()
        # Kept on the object: the library calls it for as long as it lives.
        self._callback = _CALLBACK(self._receive)

    def voices(self) -> tuple[str, ...]:
        """Language codes and, as ``+name``, the variants that may follow each of them."""
        with self._lock:
            listed = self._library.espeak_ListVoices(None)
            codes = set()
            index = 0
            while listed[index]:
                # One byte of priority, then the code of the voice's first language.
                codes.add(listed[index].contents.languages[1:].decode("ascii", "replace"))
                index += 1
        return (*sorted(codes), *(f"+{name}" for name in self._variants()))

    def check_voice(self, voice: str) -> None:
        """Raise :class:`EngineChoiceError` where there is no such voice."""
        with self._lock:
            self._choose(voice, NORMAL_WORDS_PER_MINUTE)

    def first_voice(self, voices: Sequence[str]) -> str:
        """The first of these that can be spoken with; not all that eSpeak NG lists can. The last one is not tried."""
        for voice in voices[:-1]:
            if voice not in self._unusable:
                try:
                    self.check_voice(voice)
                except EngineChoiceError:
                    self._unusable.add(voice)
                else:
                    return voice
        return voices[-1]

    def speak(self, text: str, voice: str, words_per_minute: int, sink: Sink) -> None:
        """Synthesise ``text``; the pause after a sentence belongs to it.

        Raises:
            EngineChoiceError: no such voice.
            EngineError: eSpeak NG refuses; whatever ``sink`` raises is raised too.
        """
        data = text.replace("\0", " ").encode("utf-8", "replace") + b"\0"
        with self._lock:
            self._choose(voice, words_per_minute)
            self._sink, self._sink_error = sink, None
            # The library has one callback for the whole process: another object may have set its own, and be gone.
            self._library.espeak_SetSynthCallback(self._callback)
            try:
                code = self._library.espeak_Synth(
                    data, len(data), 0, POSITION_CHARACTER, 0, CHARS_UTF8 | END_PAUSE, None, None
                )
            finally:
                self._sink = None
            if self._sink_error is not None:
                raise self._sink_error
        if code != 0:
            raise EngineError(f"eSpeak NG could not speak: espeak_Synth returned {code}")

    def _choose(self, voice: str, words_per_minute: int) -> None:
        if self._chosen == (voice, words_per_minute):
            return
        self._chosen = None
        base, plus, variant = voice.partition("+")
        # eSpeak NG takes an unknown variant in silence and speaks with the plain voice.
        if plus and variant not in self._variants():
            raise EngineChoiceError(
                f"eSpeak NG has no variant {variant!r} (voice {voice!r}); {HOW_TO_SEE_VOICES}, [tts] voice chooses one"
            )
        if not base or self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise EngineChoiceError(f"eSpeak NG has no voice {voice!r}; {HOW_TO_SEE_VOICES}, [tts] voice chooses one")
        self._library.espeak_SetParameter(RATE, words_per_minute, 0)
        self._chosen = (voice, words_per_minute)

    def _variants(self) -> list[str]:
        return sorted(path.name for path in (self._data_path / "voices" / "!v").iterdir())

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        """SynthCallback. Nothing may be raised into C: an error is kept and stops the synthesis."""
        if self._sink is None or not samples:
            return 0
        try:
            pcm = ctypes.string_at(samples, 2 * count) if count > 0 else b""
            return int(self._sink(pcm, _word_events(events)))
        except BaseException as error:
            self._sink_error = error
            return 1

    def _declare(self) -> None:
        library = self._library
        library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
        library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
        library.espeak_ListVoices.argtypes = [ctypes.c_void_p]
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.POINTER(ctypes.c_uint),
            ctypes.c_void_p,
        ]


def _word_events(events: Any) -> list[WordEvent]:
    words = []
    index = 0
    while events and events[index].type != EVENT_LIST_TERMINATED:
        if events[index].type == EVENT_WORD:
            words.append(WordEvent(events[index].text_position - 1, events[index].sample))
        index += 1
    return words


_library_lock = threading.Lock()
_loaded: EspeakLibrary | None = None


def espeak_library() -> EspeakLibrary:
    """The one library of this process, loaded at the first call. Raises as :class:`EspeakLibrary`."""
    global _loaded
    with _library_lock:
        if _loaded is None:
            _loaded = EspeakLibrary()
        return _loaded
