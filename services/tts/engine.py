"""What a speech engine is: a heavy ``Engine``, loaded once per process, that opens a light ``Run`` per sentence.

An engine of callbus lives in ``services/tts/engines/<name>.py`` and is made by that module's ``create(section)``;
one of your own is any class named as ``module:Class`` in the settings and is made by ``Class(section)``. ``section`` is
[tts]; who takes a second argument gets all settings.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol, cast

from config.factories import make
from config.load import ConfigError
from config.settings import Settings, TtsSection

ENGINES_PACKAGE = "services.tts.engines"


class EngineError(Exception):
    """An engine could not do its work; the text never holds what was to be said."""


class EngineChoiceError(ConfigError):
    """The engine, or the voice, that the settings name can't be used; the text says what can."""


class Capabilities(NamedTuple):
    """What an engine declares about itself.

    Attributes:
        name: as the settings name it.
        sample_rate_hz: of the PCM that its runs give.
        streaming: audio comes before the whole sentence is synthesised.
        word_times: chunks say where words begin; otherwise word times are spread by length.
    """

    name: str
    sample_rate_hz: int
    streaming: bool
    word_times: bool


class WordStart(NamedTuple):
    """A word and where it begins, milliseconds from the start of the sentence's audio."""

    text: str
    start_ms: int


class SpeechChunk(NamedTuple):
    """A piece of a sentence: 16-bit little-endian mono PCM, and the words that are known to begin so far."""

    pcm: bytes
    words: tuple[WordStart, ...] = ()


class Label(NamedTuple):
    """Which sentence a run speaks; engines that mark their audio use it, the others ignore it."""

    utterance_id: int = 0
    sentence: int = 0


class Run(Protocol):
    """One sentence being spoken. Iterate it once; it ends when the sentence is complete or cancelled."""

    def __aiter__(self) -> AsyncIterator[SpeechChunk]:
        """Chunks as they become ready. Raises :class:`EngineError` where the engine fails."""

    def cancel(self) -> None:
        """Stop working on it. Takes effect within 50 ms; may be called at any time, more than once."""


class Engine(Protocol):
    """A model, or the access to one. Blocking work of it runs off the event loop."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def warm(self) -> None:
        """Load everything, so that the first sentence is as fast as the others.

        Raises:
            EngineChoiceError: the voice of the settings is unknown, or a package is missing.
        """

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        """Begin to speak ``text``. Any text is allowed: empty, very long, any script.

        ``language``: BCP 47 tag of the text. An engine whose voice speaks one language only ignores it, and so does
        one whose voice somebody chose in the settings.
        """

    async def list_voices(self) -> tuple[str, ...]:
        """Names for the ``voice`` setting; empty where the engine takes any, or can't tell. Needs no ``warm``."""

    async def close(self) -> None:
        """Let go of the model."""


def engine_names() -> list[str]:
    """Names of the engines that come with callbus; a module whose name begins with ``_`` is part of one."""
    package = importlib.import_module(ENGINES_PACKAGE)
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def load_engine(name: str, section: TtsSection, settings: Settings | None = None) -> Engine:
    """The engine of that name, not yet warm. ``settings``: all of them, for an engine with a section of its own.

    Raises:
        EngineChoiceError: no such engine, module or class, or it refuses the settings; the text lists what there is.
    """
    if ":" in name:
        return _load_class(name, section, settings)
    if name not in engine_names():
        raise EngineChoiceError(
            f"[tts] engine = {name!r}: no such engine; there are {', '.join(engine_names())}, "
            "or module:Class of your own"
        )
    module = importlib.import_module(f"{ENGINES_PACKAGE}.{name}")
    return cast(Engine, make(module.create, section, settings))


def _load_class(name: str, section: TtsSection, settings: Settings | None) -> Engine:
    module_name, _, class_name = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, ValueError) as error:
        raise EngineChoiceError(
            f"[tts] engine = {name!r}: module {module_name!r} can't be imported: {error}"
        ) from error
    except AttributeError as error:
        raise EngineChoiceError(f"[tts] engine = {name!r}: module {module_name!r} has no {class_name!r}") from error
    return cast(Engine, make(factory, section, settings))
