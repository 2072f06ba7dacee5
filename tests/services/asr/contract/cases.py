"""The engines that must keep the contract, a row each: how one is made, a sound that it understands, and what it must
give for it. An engine is added by a row; what a row may leave out has a default.

A row whose package or model is not on this machine skips its tests and says why.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import os
import re
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from config.engine_sections import FasterWhisperSection, VoskSection
from config.settings import AsrSection, Settings
from schemas.audio import Codec
from schemas.llm import ListenFor
from services.asr import grammar
from services.asr.engine import Engine, load_engine
from services.audio import g711
from tests.services.asr.speech import Speaker

RATE_HZ = 8000
SENTENCE = "where is my credit card"
BANK = ListenFor(
    state="menu",
    phrases=(
        "where is my [new] [credit | debit | bank] card",
        "what is my [account] balance",
        "(yes | no) [thank you]",
    ),
)
_STANDING = contextlib.ExitStack()
DIGITS_ONLY = ListenFor(state="verify", digits=4)
TINY_SENTENCE = "i want to check my balance today"
TINY = ListenFor(state="tiny", phrases=("check my balance",))
TINY_OTHER = ListenFor(state="other", phrases=("want today",))


class EngineCase(NamedTuple):
    """An engine and what is known of it.

    Attributes:
        make: the engine, not warm; gets a folder for a model that is built. Skips the test where parts are missing.
        sound: PCM at 8,000 Hz that it understands, with a little silence around.
        text: what it must hear in it, as a pattern.
        listen_for: what the agent expects there.
        other: something else that the agent may expect, for an engine that has grammars: it must then hear no other
            words than those of ``other_words``.
        empty: what it says where nobody spoke, as a pattern.
        speech_s, silence_s: length of the longest input; an hour where the engine is fast enough for a test.
        shorter: why it is less than an hour.
        runs: how many runs, one after the other, must leave nothing; fewer where one takes long.
        hurried: the engine as it is when audio comes faster than real time.
    """

    name: str
    make: Callable[[Path], Engine]
    sound: Callable[[], bytes]
    text: str
    listen_for: ListenFor = ListenFor()
    other: ListenFor = ListenFor()
    other_words: frozenset[str] = frozenset()
    empty: str = ""
    speech_s: int = 3600
    silence_s: int = 3600
    shorter: str = ""
    runs: int = 300
    hurried: Callable[[Engine], Engine] = lambda engine: engine

    def understood(self, text: str) -> bool:
        """Whether this is what the sound says."""
        return re.fullmatch(self.text, text) is not None


@cache
def voice(milliseconds: int) -> bytes:
    """A voice without words: 150 Hz with its harmonics, and a quarter of a second of silence on both sides."""
    harmonics = range(1, 24)
    loudest = 4000.0
    samples = array(
        "h",
        (
            round(loudest * sum(math.sin(2 * math.pi * 150 * k * at / RATE_HZ) / k for k in harmonics))
            for at in range(RATE_HZ * milliseconds // 1000)
        ),
    )
    quiet = bytes(RATE_HZ // 4 * 2)
    return quiet + samples.tobytes() + quiet


@cache
def spoken(text: str) -> bytes:
    """eSpeak NG's caller on a telephone line; the test is skipped where eSpeak NG is missing."""
    pause = b"\xff" * (RATE_HZ * 3 // 10)
    return g711.decode(pause + Speaker().say(text) + pause, Codec.PCMU)


def trained_model() -> Path:
    """The trained Vosk model for 8,000 Hz; the test is skipped where it is missing."""
    folder = os.environ.get("CALLBUS_TEST_MODELS")
    if not folder:
        pytest.skip("CALLBUS_TEST_MODELS is not set: no trained Vosk model here")
    return Path(folder, "vosk-tiny-bank-en-8k")


def vosk_engine(model: Path, *, grammar: bool = True) -> Engine:
    """The engine on a model; the test is skipped where vosk is missing."""
    pytest.importorskip("vosk", reason="Vosk is not installed: pip install 'callbus[vosk]'")
    settings = Settings(vosk=VoskSection(model=str(model), grammar=grammar))
    return load_engine("vosk", settings.asr, settings)


def whisper_engine(model: Path, **section: object) -> Engine:
    """The engine on a model, always in time for its partials; the test is skipped where faster-whisper is missing."""
    pytest.importorskip("faster_whisper", reason="faster-whisper is missing: pip install 'callbus[faster_whisper]'")
    from services.asr.engines.faster_whisper import FasterWhisperEngine

    settings = Settings(faster_whisper=FasterWhisperSection(model=str(model), **section))  # type: ignore[arg-type]
    return FasterWhisperEngine(settings.asr, settings, clock=itertools.count().__next__)


def _instant(folder: Path) -> Engine:
    return load_engine("instant", AsrSection())


def _pocketsphinx(folder: Path) -> Engine:
    pytest.importorskip("pocketsphinx", reason="PocketSphinx is not installed: pip install 'callbus[pocketsphinx]'")
    return load_engine("pocketsphinx", AsrSection())


def _tiny_vosk(rate_hz: int, *, grammars: bool) -> Callable[[Path], Engine]:
    def make(folder: Path) -> Engine:
        from tests.tiny_models import kaldi

        model = kaldi.build(folder, TINY_SENTENCE, sample_rate_hz=rate_hz, grammars=grammars, word_times=grammars)
        return vosk_engine(model)

    return make


def _pipecat(folder: Path) -> Engine:
    """OpenAI's service of pipecat's catalogue. Its provider stands until the tests end."""
    pytest.importorskip("pipecat", reason="pipecat is not installed: pip install 'callbus[pipecat]'")
    from tests.fakes.pipecat_providers import serving_in_a_thread
    from tests.services.pipecat.making import OPENAI_STT, settings_for

    providers = _STANDING.enter_context(serving_in_a_thread())
    providers.transcript = TINY_SENTENCE
    settings = settings_for("stt", OPENAI_STT, {"api_key": "none", "base_url": f"{providers.url}/v1"})
    return load_engine("pipecat", settings.asr, settings)


def _trained_vosk(folder: Path) -> Engine:
    return vosk_engine(trained_model())


def _tiny_whisper(folder: Path) -> Engine:
    pytest.importorskip("ctranslate2", reason="CTranslate2 is missing: pip install 'callbus[faster_whisper]'")
    from tests.tiny_models import whisper

    return whisper_engine(whisper.build(folder, TINY_SENTENCE), threads=1)


def _without_time(engine: Engine) -> Engine:
    """Whisper on a clock that stands still: it has never rested since its last partial, so there is none."""
    hurried = copy.copy(engine)
    hurried.clock = lambda: 0.0  # type: ignore[attr-defined]
    return hurried


CASES = (
    EngineCase("instant", _instant, lambda: voice(1500), r"frames:\d+:[0-9a-f]{8}", empty="frames:0:00000000"),
    EngineCase(
        "pocketsphinx",
        _pocketsphinx,
        lambda: spoken(SENTENCE),
        SENTENCE,
        BANK,
        DIGITS_ONLY,
        frozenset(grammar.DIGITS),
        speech_s=60,
        silence_s=60,
        shorter="it remembers each frame, 58 kB a second; what a worker gives to one run, 20 s, is 1.2 MB",
    ),
    EngineCase(
        "vosk, graph at run time",
        _tiny_vosk(8000, grammars=True),
        lambda: voice(660),
        "check my balance",
        TINY,
        TINY_OTHER,
        frozenset({"want", "today"}),
        silence_s=900,
        shorter="its hour is one of speech",
    ),
    EngineCase(
        "vosk, 16,000 Hz",
        _tiny_vosk(16000, grammars=False),
        lambda: voice(1080),
        "i want to check my",
        speech_s=900,
        silence_s=900,
        shorter="the engine is the one above, which hears the whole hour",
    ),
    EngineCase(
        "vosk, trained",
        _trained_vosk,
        lambda: spoken(SENTENCE),
        SENTENCE,
        BANK,
        speech_s=150,
        silence_s=40,
        shorter="an hour of speech takes it 40 s, one of digital silence 200 s",
    ),
    EngineCase(
        "pipecat",
        _pipecat,
        lambda: voice(1500),
        TINY_SENTENCE,
        TINY,
        speech_s=600,
        silence_s=600,
        shorter="OpenAI takes no more than 25 MB, 13 minutes",
    ),
    EngineCase(
        "faster_whisper",
        _tiny_whisper,
        lambda: voice(1500),
        TINY_SENTENCE,
        TINY,
        speech_s=900,
        shorter="an hour of speech takes it 10 s; its memory and its time are held to the same slope",
        runs=120,
        hurried=_without_time,
    ),
)
