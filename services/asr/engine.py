"""What an engine of speech recognition is, and how one is found by its name.

An ``Engine`` is heavy: the model, loaded once a process. It opens a light ``Run`` for each stretch of speech. A run
gets the audio of that stretch in order and gives its transcript at the end; only one thread at a time is inside a run.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from config.settings import AsrSection, Settings
from schemas.asr import Word
from schemas.llm import ListenFor
from services.asr.loading import load


class Capabilities(NamedTuple):
    """What an engine can do.

    Attributes:
        streaming: works while the audio comes, so that the end of speech leaves little to do.
        partials: ``accept`` gives a text before the end.
        word_times: transcripts hold words with times.
        grammars: listens for the phrases of a ``ListenFor``; others ignore them.
        blocking: takes time to think, so it runs off the event loop; false only where every call returns at once.
        languages: language codes; empty: any.
        sample_rates_hz: rates of audio that ``accept`` takes; the caller's 8,000 Hz is resampled to the first one
            where it isn't among them.
        waits: ``finish`` waits for somebody else more than it works, so that many runs may be inside one at once.
    """

    streaming: bool = True
    partials: bool = True
    word_times: bool = False
    grammars: bool = False
    blocking: bool = True
    languages: tuple[str, ...] = ("en",)
    sample_rates_hz: tuple[int, ...] = (8000,)
    waits: bool = False


class Transcript(NamedTuple):
    """What was said; empty ``text``: no words. Word times are milliseconds from the start of the run's audio."""

    text: str
    confidence: float = 1.0
    words: tuple[Word, ...] = ()


class EngineError(RuntimeError):
    """An engine cannot do what was asked; the text says why and never what the caller said."""


class Run(Protocol):
    """One stretch of speech. Whatever a method raises fails this run and nothing else."""

    def accept(self, pcm: bytes) -> str | None:
        """Take the next mono 16-bit little-endian samples; the partial text, or None where it did not change."""

    def finish(self) -> Transcript:
        """The transcript of everything accepted. Nothing may follow."""

    def cancel(self) -> None:
        """Drop the run and give back what it holds. Nothing may follow."""


class Engine(Protocol):
    """A model of a process. ``open`` is called from several threads.

    One that holds connections may have a ``close()``, called once, on a thread, when the process ends.
    """

    @property
    def name(self) -> str:
        """Short name for events and metrics."""

    @property
    def capabilities(self) -> Capabilities: ...

    def warm(self) -> None:
        """Load and run once, so that the first caller doesn't wait."""

    def open(self, listen_for: ListenFor) -> Run:
        """Begin a run that listens for what the agent expects to hear."""


def load_engine(name: str, section: AsrSection, settings: Settings | None = None) -> Engine:
    """The engine of that name: a file of ``services.asr.engines``, or ``module:Class`` of the user's own. Not warm yet.

    ``settings``: all of them, for an engine with a section of its own; None: the defaults.

    Raises:
        EngineChoiceError: no such engine; the text lists what there is.
        MissingPackageError: its package is not installed; the text names the extra.
    """
    engine: Engine = load("services.asr.engines", name, section, setting="[asr] engine", settings=settings)
    return engine
