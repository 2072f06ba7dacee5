"""Speech recognition by Whisper, on CTranslate2 through faster-whisper. It hears whole utterances, not streams.

* **What it costs.** Any audio up to 30 s costs one run of the encoder and a step per token, as long for a word as for
  half a minute. The final begins when speech has ended.
* **Partials** are the utterance so far, heard anew after ``partial_ms`` of new audio. They are left out while
  another caller is being heard, and while this run is behind its audio: the time belongs to finals. What a final says
  does not depend on them.
* **Long audio** is cut at its quietest place before it is ``window_s`` long, and each part is heard once for good.
* **Grammars** it has none. The agent's words go in as hotwords: they make themselves more likely, no more.
* **Word times** it gives none: they need the alignment pass, after which faster-whisper hears the silence behind the
  last word once more, for the price of another utterance.
* **Cancel.** Nothing stops CTranslate2 within a part of the audio. A run that nobody wants any more is dropped at once,
  its thread is free after the part it is at, and no other part is begun.
* Temperature is 0 and no text goes into the next part: the same audio gives the same words. What Whisper writes for
  silence is dropped (:mod:`services.asr.engines._hallucination`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from bus.logs import get_logger
from config.engine_sections import FasterWhisperSection
from config.load import ConfigError
from config.settings import AsrSection, Settings
from schemas.llm import ListenFor
from services.asr.engine import Capabilities, EngineError, Transcript
from services.asr.engines._hallucination import Heard, spoken
from services.asr.engines._phrases import words_of
from services.asr.engines._whisper_folder import read_folder
from services.audio.g711 import PCM_SAMPLE_BYTES, audioop
from services.models import find_model
from services.packages import installed

log = get_logger(__name__)

EXTRA = "faster_whisper"
SETTING = "[faster_whisper] model"
SAMPLE_RATE_HZ = 16000
BYTES_PER_S = SAMPLE_RATE_HZ * PCM_SAMPLE_BYTES
SHORTEST_S = 0.1
"""Less audio holds no word; Whisper writes one all the same."""
SILENT_PEAK = 100
"""Audio without a sample over this (-50 dBFS) is a quiet line; the model is not asked."""
RESTED = 0.25
"""A run that rested for less than this part of ``partial_ms`` since its last partial is behind its audio."""
MOST_TOKENS, TOKENS, TOKENS_PER_S = 200, 16, 20
"""Whisper's longest text for so much audio; the densest writing takes fewer tokens."""
PAUSE_MS = 200
STEP_MS = 20
HOTWORD_LETTERS, HOTWORDS_CHARACTERS = 4, 200
"""Short words need no help, and each hotword is read before each part."""
WARM_S = 1


class ModelLoadError(ConfigError):
    """CTranslate2 refuses the model, the device or the type of numbers."""


class _Part(NamedTuple):
    text: str
    confidence: float
    seconds: float


class FasterWhisperRun:
    """One stretch of speech: audio that waits for its text, and the text of the parts before it."""

    def __init__(self, engine: FasterWhisperEngine, hotwords: str) -> None:
        self._engine = engine
        self._hotwords = hotwords
        self._audio = bytearray()
        self._parts: list[_Part] = []
        self._fresh = 0
        self._rested_at = engine.clock()
        self._partial = ""

    def accept(self, pcm: bytes) -> str | None:
        self._audio += pcm
        self._fresh += len(pcm)
        section = self._engine.section
        if len(self._audio) >= section.window_s * BYTES_PER_S:
            self._settle()
            return self._news("")
        if not section.partial_ms or self._fresh * 1000 < section.partial_ms * BYTES_PER_S:
            return None
        if self._engine.clock() - self._rested_at < RESTED * section.partial_ms / 1000:
            return None
        part = self._engine.hear(bytes(self._audio), self._hotwords, wait=False)
        self._begin_anew()
        return None if part is None or not part.text else self._news(part.text)

    def finish(self) -> Transcript:
        if self._audio:
            self._keep(self._engine.hear(bytes(self._audio), self._hotwords))
            self._audio.clear()
        said = [part for part in self._parts if part.text]
        seconds = sum(part.seconds for part in said)
        confidence = sum(part.confidence * part.seconds for part in said) / seconds if said else 0.0
        return Transcript(" ".join(part.text for part in said), min(1.0, confidence))

    def cancel(self) -> None:
        self._audio.clear()

    def _settle(self) -> None:
        """Hear the audio up to its last pause for good; what follows waits."""
        cut = self._engine.quietest(bytes(self._audio))
        self._keep(self._engine.hear(bytes(self._audio[:cut]), self._hotwords))
        del self._audio[:cut]
        self._begin_anew()

    def _keep(self, part: _Part | None) -> None:
        if part is not None and part.text:
            self._parts.append(part)

    def _begin_anew(self) -> None:
        self._fresh = 0
        self._rested_at = self._engine.clock()

    def _news(self, going_on: str) -> str | None:
        text = " ".join(text for text in (*(part.text for part in self._parts), going_on) if text)
        if text == self._partial:
            return None
        self._partial = text
        return text


class FasterWhisperEngine:
    """The model, loaded at the first need. It hears one part of audio at a time."""

    name = "faster_whisper"

    def __init__(self, asr: AsrSection, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Looks through the model's folder.

        Args:
            clock: seconds, from any zero: whether a run is behind its audio.

        Raises:
            MissingPackageError: faster-whisper, numpy or soxr is not installed.
            MissingModelError: the model is not there.
            ConfigError: the folder is no Whisper model, or the model does not know the language.
        """
        modules = installed(self.name, dict.fromkeys(("faster_whisper", "ctranslate2", "numpy", "soxr"), EXTRA))
        self.section: FasterWhisperSection = settings.faster_whisper
        self.clock = clock
        self._package = modules["faster_whisper"]
        self._runtime = modules["ctranslate2"]
        self._numpy = modules["numpy"]
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)
        self._folder = read_folder(find_model(self.section.model, settings.models, setting=SETTING), SETTING)
        self._language = asr.language.replace("_", "-").split("-")[0].lower()
        if not self._folder.multilingual and self._language != "en":
            raise ConfigError(f"[asr] language = {asr.language!r}: the model {self._folder.path} knows English alone")
        self.capabilities = Capabilities(
            streaming=False,
            partials=self.section.partial_ms > 0,
            word_times=False,
            grammars=False,
            blocking=True,
            languages=() if self._folder.multilingual else ("en",),
            sample_rates_hz=(SAMPLE_RATE_HZ,),
        )
        self._loading = threading.Lock()
        self._hearing = threading.Lock()
        self._model: Any = None

    def warm(self) -> None:
        """Load the model and hear a second with it. Raises :class:`ModelLoadError`."""
        self._loaded()
        times = self._numpy.arange(WARM_S * SAMPLE_RATE_HZ, dtype="float32") / SAMPLE_RATE_HZ
        try:
            self._transcribe(0.1 * self._numpy.sin(2 * math.pi * 220 * times), "")
        except (RuntimeError, ValueError) as error:
            raise ModelLoadError(f"{SETTING}: {self._folder.path} hears nothing: {error}") from error

    def open(self, listen_for: ListenFor) -> FasterWhisperRun:
        self._loaded()
        words = [word for word in words_of(listen_for) if len(word) >= HOTWORD_LETTERS]
        while len(", ".join(words)) > HOTWORDS_CHARACTERS:
            words.pop()
        return FasterWhisperRun(self, ", ".join(words))

    def hear(self, pcm: bytes, hotwords: str, *, wait: bool = True) -> _Part | None:
        """The text of 16-bit PCM at 16,000 Hz; None where it holds nothing to hear.

        Args:
            wait: else nothing is heard, and None returned, while another run is being heard.

        Raises:
            EngineError: CTranslate2 fails.
        """
        seconds = len(pcm) / BYTES_PER_S
        if seconds < SHORTEST_S or audioop.max(pcm, PCM_SAMPLE_BYTES) <= SILENT_PEAK:
            return None
        if not self._hearing.acquire(blocking=wait):
            return None
        try:
            samples = self._numpy.frombuffer(pcm, dtype="<i2").astype("float32") / 32768
            segments = self._transcribe(samples, hotwords)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"Whisper fails on {seconds:.1f} s of audio: {error}") from error
        finally:
            self._hearing.release()
        if not segments:
            return None
        logprob = sum(segment.avg_logprob for segment in segments) / len(segments)
        no_speech = max(segment.no_speech_prob for segment in segments)
        whole = Heard(" ".join(segment.text for segment in segments), seconds, logprob, no_speech)
        return _Part(spoken(whole, self.section.no_speech_threshold), math.exp(min(0.0, logprob)), seconds)

    def quietest(self, pcm: bytes) -> int:
        """Where in the second half of the audio the caller pauses, in bytes: the middle of its quietest stretch."""
        step = SAMPLE_RATE_HZ * STEP_MS // 1000
        samples = self._numpy.frombuffer(pcm, dtype="<i2").astype("float64")
        steps = len(samples) // step
        energy = (samples[: steps * step].reshape(steps, step) ** 2).sum(axis=1)
        width = PAUSE_MS // STEP_MS
        stretches = self._numpy.convolve(energy[steps // 2 :], self._numpy.ones(width), mode="valid")
        middle = steps // 2 + int(stretches.argmin()) + width // 2
        return middle * step * PCM_SAMPLE_BYTES

    def _transcribe(self, samples: Any, hotwords: str) -> list[Any]:
        seconds = len(samples) / SAMPLE_RATE_HZ
        segments, _ = self._loaded().transcribe(
            samples,
            language=self._language,
            beam_size=self.section.beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
            hotwords=hotwords or None,
            max_new_tokens=min(MOST_TOKENS, TOKENS + math.ceil(TOKENS_PER_S * seconds)),
            # What is no speech is judged by _hallucination.py, with the same figures and the text.
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
        )
        return list(segments)

    def _loaded(self) -> Any:
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model

    def _load(self) -> Any:
        section = self.section
        device = section.device
        try:
            if device == "auto":
                device = "cuda" if self._runtime.get_cuda_device_count() > 0 else "cpu"
            model = self._package.WhisperModel(
                str(self._folder.path),
                device=device,
                compute_type=section.compute_type or ("float16" if device == "cuda" else "int8"),
                cpu_threads=section.threads,
                local_files_only=True,
            )
        except Exception as error:  # CTranslate2 and tokenizers raise RuntimeError, ValueError and bare Exception
            raise ModelLoadError(f"{SETTING}: {self._folder.path} can't be loaded on {device}: {error}") from error
        if self._language not in model.supported_languages:
            raise ConfigError(
                f"[asr] language: the model {self._folder.path} does not know {self._language!r}; it knows "
                + ", ".join(sorted(model.supported_languages))
            )
        return model


def create(section: AsrSection, settings: Settings) -> FasterWhisperEngine:
    """The engine for ``[asr] engine = faster_whisper``."""
    return FasterWhisperEngine(section, settings)
