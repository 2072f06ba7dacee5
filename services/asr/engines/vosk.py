"""Speech recognition by Vosk: Kaldi's decoder on a model that the user has. Streams on one thread a run.

* **Grammar.** A model whose graph is made at run time (``HCLr.fst`` and ``Gr.fst``, as in Vosk's small models) listens
  for the agent's phrases where there are some and ``[vosk] grammar`` is on. Vosk's grammar is a model of word pairs
  over a list of sentences (:mod:`services.asr.engines._phrases`), with ``[unk]`` for all other speech, which
  is no word of a transcript. A model with a graph of its own (``HCLG.fst``) hears all its words always, and says so.
* **Each run has a recogniser of its own** (0.2 ms): what one hears depends on its audio alone, so a successor
  hears what its predecessor would have heard.
* **Long audio.** Vosk ends an utterance after half a second of silence, or 20 seconds of speech; the run goes on with
  the next one, so that memory and the time for the end don't grow with its length.
* **Word times.** Only a model with ``word_boundary.int`` has true ones; those that libvosk gives without it count the
  silence to the words beside it, and are left out.
* libvosk works without Python's lock: two threads hear two callers at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any

from bus.logs import get_logger
from config.load import ConfigError
from config.settings import AsrSection, Settings
from schemas.asr import Word
from schemas.llm import ListenFor
from services.asr.engine import Capabilities, EngineError, Transcript
from services.asr.engines._phrases import Expected, expected_phrases
from services.asr.engines._vosk_folder import read_folder
from services.models import find_model
from services.packages import installed

log = get_logger(__name__)

EXTRA = "vosk"
SETTING = "[vosk] model"
TELEPHONE_RATE_HZ = 8000
ERRORS_ONLY = -2
"""Kaldi's level of log: why a model can't be read is said on stderr alone, and decoding's warnings are none of ours."""
UNKNOWN_WORD = "[unk]"
GRAMMARS_KEPT = 128
WARM_MS = 500


class ModelLoadError(ConfigError):
    """libvosk refuses the model."""


class VoskRun:
    """One stretch of speech on a recogniser of its own."""

    def __init__(self, recogniser: Any, *, word_times: bool) -> None:
        self._recogniser = recogniser
        self._word_times = word_times
        self._words: list[Word] = []
        self._texts: list[str] = []
        self._partial = ""

    def accept(self, pcm: bytes) -> str | None:
        if not pcm:
            return None
        if self._recogniser.AcceptWaveform(pcm):
            self._take(self._recogniser.Result())
            going_on = ""
        else:
            going_on = _spoken(json.loads(self._recogniser.PartialResult()).get("partial", ""))
        text = " ".join([*self._texts, going_on] if going_on else self._texts)
        if text == self._partial:
            return None
        self._partial = text
        return text

    def finish(self) -> Transcript:
        self._take(self._recogniser.FinalResult())
        self._recogniser = None
        words = tuple(self._words)
        confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
        return Transcript(" ".join(self._texts), confidence, words if self._word_times else ())

    def cancel(self) -> None:
        self._recogniser = None

    def _take(self, result: str) -> None:
        """Keep what an utterance of Vosk's held."""
        heard = json.loads(result)
        text = _spoken(heard.get("text", ""))
        if text:
            self._texts.append(text)
            self._words.extend(_word(entry) for entry in heard.get("result", ()) if _is_word(entry["word"]))


class VoskEngine:
    """The model, loaded at the first need, and the lists of phrases that runs asked for."""

    name = "vosk"

    def __init__(self, section: AsrSection, settings: Settings) -> None:
        """Looks through the model's folder.

        Raises:
            MissingPackageError: vosk is not installed, or soxr where the model's rate is not the telephone's.
            MissingModelError: the model is not there.
            ModelFolderError: the folder is no Vosk model.
        """
        self._package = installed(self.name, {"vosk": EXTRA})["vosk"]
        self._package.SetLogLevel(ERRORS_ONLY)
        self._folder = read_folder(find_model(settings.vosk.model, settings.models, setting=SETTING), SETTING)
        rate_hz = self._folder.sample_rate_hz
        if rate_hz != TELEPHONE_RATE_HZ:
            installed(f"{self.name} with a model of {rate_hz} Hz", {"soxr": EXTRA, "numpy": EXTRA})
        self.capabilities = Capabilities(
            streaming=True,
            partials=True,
            word_times=self._folder.word_times,
            grammars=self._folder.grammars and settings.vosk.grammar,
            blocking=True,
            languages=(section.language,),
            sample_rates_hz=(rate_hz,),
        )
        self._lock = threading.Lock()
        self._model: Any = None
        self._grammars: dict[ListenFor, str] = {}
        self._warned: set[str] = set()

    def warm(self) -> None:
        """Load the model and hear a little with it. Raises :class:`ModelLoadError`."""
        run = self.open(ListenFor())
        run.accept(bytes(2 * self._folder.sample_rate_hz * WARM_MS // 1000))
        run.finish()

    def open(self, listen_for: ListenFor) -> VoskRun:
        model = self._loaded()
        arguments: list[Any] = [model, float(self._folder.sample_rate_hz)]
        grammar = self._grammar_for(listen_for) if self.capabilities.grammars else ""
        if grammar:
            arguments.append(grammar)
        try:
            recogniser = self._package.KaldiRecognizer(*arguments)
        except Exception as error:  # the package raises nothing more special
            raise EngineError(f"Vosk makes no recogniser of the model {self._folder.path}: {error}") from error
        recogniser.SetWords(True)
        return VoskRun(recogniser, word_times=self._folder.word_times)

    def _loaded(self) -> Any:
        with self._lock:
            if self._model is None:
                try:
                    self._model = self._package.Model(str(self._folder.path))
                except Exception as error:  # the package raises nothing more special
                    raise ModelLoadError(
                        f"{SETTING}: libvosk can't load {self._folder.path} ({error}); its reason is on stderr"
                    ) from error
            return self._model

    def _grammar_for(self, listen_for: ListenFor) -> str:
        """The phrases as Vosk takes them, a JSON list; empty where there are none and all words are listened for."""
        if not listen_for.phrases and not listen_for.digits:
            return ""
        with self._lock:
            if listen_for in self._grammars:
                return self._grammars[listen_for]
        expected = expected_phrases(listen_for, self._knows)
        made = json.dumps([*expected.phrases, *self._unknown()], ensure_ascii=False) if expected.phrases else ""
        with self._lock:
            self._grammars[listen_for] = made
            if len(self._grammars) > GRAMMARS_KEPT:
                self._grammars.pop(next(iter(self._grammars)))
            news = self._news(listen_for.state, expected)
        for event, message in news:
            log.warning(event, message=f"state {listen_for.state!r}: {message}")
        return made

    def _knows(self, word: str) -> bool:
        return bool(self._model.vosk_model_find_word(word) >= 0)

    def _unknown(self) -> Iterable[str]:
        return (UNKNOWN_WORD,) if self._knows(UNKNOWN_WORD) else ()

    def _news(self, state: str, expected: Expected) -> list[tuple[str, str]]:
        """What can't be heard of an agent's phrases and was not said before: (event of the log, message)."""
        said = [
            ("word_unknown", f"the model has no word {word!r}; alternatives that need it are left out")
            for word in expected.missing
        ]
        said += [("phrase_refused", f"{fault}; it is left out") for fault in expected.faults]
        if not expected.phrases:
            said.append(("grammar_empty", f"no phrase of {state!r} can be heard, so anything is listened for"))
        news = [each for each in said if each[1] not in self._warned]
        self._warned.update(message for _, message in news)
        return news


def create(section: AsrSection, settings: Settings) -> VoskEngine:
    """The engine for ``[asr] engine = vosk``."""
    return VoskEngine(section, settings)


def _is_word(text: str) -> bool:
    """Not ``[unk]``, a noise, or a mark of silence."""
    return not text.startswith(("[", "<", "!"))


def _spoken(text: str) -> str:
    return " ".join(word for word in text.split() if _is_word(word))


def _word(entry: dict[str, Any]) -> Word:
    start_ms, end_ms = (max(0, round(float(entry[edge]) * 1000)) for edge in ("start", "end"))
    confidence = min(1.0, max(0.0, float(entry["conf"])))
    return Word(text=entry["word"], start_ms=start_ms, end_ms=max(start_ms, end_ms), confidence=confidence)
