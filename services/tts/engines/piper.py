"""Piper: neural voices on the processor, through piper-tts. One model speaks for all calls, a piece at a time.

piper-tts is GPL-3.0-or-later: it is imported at run time and only where this engine is chosen.
"""

from __future__ import annotations

import logging
from typing import Any

from config.settings import Settings, TtsSection
from services.models import find_model
from services.onnx import StoppableSession, onnxruntime, open_session, own_choice_of_threads, report_to_nobody
from services.packages import installed
from services.tts.engine import Capabilities, Engine, EngineChoiceError, Label, Run, WordStart
from services.tts.engines._onnx_stop import OnnxStop, pcm_of
from services.tts.engines._phoneme_words import Phoneme, place_words
from services.tts.engines._pieces import PieceLimits, PieceRun, PieceThread, Spoken, cut_pieces
from services.tts.engines._piper_voice import PiperFiles, find_voice, model_with_alignment
from services.tts.words import spread_words

EXTRA = "piper"
LIMITS = PieceLimits(first=90, most=200)
"""About 6 s and 13 s of speech: 0.3 s and 0.7 s of work of one core for a voice of medium quality."""
WARM_TEXT = "Good morning. Thank you for calling, how can I help you today? One moment, please, while I look that up."


def create(section: TtsSection, settings: Settings) -> Engine:
    """The engine with the voice of [piper]; its description is read, its model is not.

    Raises:
        MissingPackageError: piper-tts is not installed.
        MissingModelError: the voice is not on this machine.
        EngineChoiceError: the voice's description is unusable, or the voice lacks the speaker.
    """
    report_to_nobody()
    installed("piper", {"piper": EXTRA, "onnxruntime": EXTRA})
    files = find_voice(find_model(settings.piper.model, settings.models, setting="[piper] model"))
    return PiperEngine(files, section.speed, settings.piper.speaker, settings.piper.threads)


class PiperEngine:
    """A voice speaks one language, whatever the sentence's is."""

    def __init__(self, files: PiperFiles, speed: float, speaker: int, threads: int) -> None:
        """``speaker``: its number. ``threads``: of the model; 0: as many as this machine has, four at most."""
        if not 0 <= speaker < files.speakers:
            raise EngineChoiceError(
                f"[piper] speaker = {speaker}: the voice {files.model.name} has "
                + (f"speakers 0 to {files.speakers - 1}" if files.speakers > 1 else "one speaker, 0")
            )
        self._files = files
        self._speaker = speaker if files.speakers > 1 else None
        self._length_scale = files.length_scale / speed
        self._threads = threads or own_choice_of_threads()
        self._thread = PieceThread("piper")
        self._runtime = onnxruntime("piper", EXTRA)
        self._session: StoppableSession | None = None
        self._voice: Any = None
        self._aligned = False

    @property
    def capabilities(self) -> Capabilities:
        """``word_times`` is known once the model is loaded: not every voice tells how long its phonemes are."""
        return Capabilities("piper", self._files.sample_rate_hz, streaming=True, word_times=self._aligned)

    async def warm(self) -> None:
        """Load the voice, and speak a first sentence into the void."""
        await self._thread.call(self._warm)

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        stop = OnnxStop(self._runtime)
        return PieceRun(
            "piper",
            text,
            cut_pieces(text, LIMITS, language),
            lambda piece: self._speak(piece, stop),
            stop,
            self._thread,
            self._files.sample_rate_hz,
        )

    async def list_voices(self) -> tuple[str, ...]:
        """Numbers and names of the voice's speakers, for ``[piper] speaker``; empty where it has one."""
        return self._files.speaker_names

    async def close(self) -> None:
        """Stop after the piece that is being spoken; nothing may be opened any more."""
        self._thread.close()

    def _warm(self) -> None:
        self._load()
        try:
            for piece in cut_pieces(WARM_TEXT, LIMITS):
                self._speak(piece, OnnxStop(self._runtime))
        except ImportError as error:
            raise EngineChoiceError(
                f"[piper] model: the voice {self._files.model.name} needs the package {error.name}, which is not "
                f"installed: the extras of piper-tts name what each language needs"
            ) from error
        except Exception as error:
            raise EngineChoiceError(
                f"[piper] model: the voice {self._files.model.name} can't speak ({type(error).__name__}): is this the "
                ".onnx.json that belongs to it?"
            ) from error

    def _load(self) -> None:
        """In the thread; a run before ``warm`` comes here too."""
        if self._voice is not None:
            return
        import piper
        from piper.config import PiperConfig

        # It logs the texts that it speaks, and phonemes of them that the voice lacks.
        logging.getLogger("piper").setLevel(logging.ERROR)
        try:
            session = open_session("piper", model_with_alignment(self._files.model), extra=EXTRA, threads=self._threads)
            self._session = StoppableSession(session)
            self._aligned = len(session.get_outputs()) > 1
            self._voice = piper.PiperVoice(
                session=self._session,
                config=PiperConfig.from_dict(self._files.config),
                download_dir=self._files.model.parent,
            )
        except Exception as error:
            raise EngineChoiceError(
                f"[piper] model: {self._files.model} is not a voice that Piper opens ({type(error).__name__}): "
                "fetch it again with callbus models pull"
            ) from error

    def _speak(self, piece: str, stop: OnnxStop) -> Spoken:
        """In the thread."""
        from piper import SynthesisConfig

        self._load()
        assert self._session is not None
        how = SynthesisConfig(speaker_id=self._speaker, length_scale=self._length_scale)
        parts: list[bytes] = []
        phonemes: list[Phoneme] = []
        samples, known = 0, self._aligned
        with self._session.under(stop.token):
            for sentence in self._voice.synthesize(_speakable(piece), how, include_alignments=self._aligned):
                if sentence.phoneme_alignments is None:
                    known = False
                for each in sentence.phoneme_alignments or ():
                    if each.phoneme not in _MARKS:
                        phonemes.append(Phoneme(each.phoneme, 1000 * samples // self._files.sample_rate_hz))
                    samples += int(each.num_samples)
                phonemes.append(Phoneme(" ", 0))
                parts.append(pcm_of(sentence.audio_float_array))
                samples = sum(map(len, parts)) // 2
        words: tuple[WordStart, ...] = ()
        if known:
            words = place_words(piece, phonemes, self._weigh)
        elif self._aligned:
            # A phoneme that the voice does not have: the other pieces keep their times, so this one must have some.
            spread = spread_words(piece, 0, 1000 * samples // self._files.sample_rate_hz)
            words = tuple(WordStart(word.text, word.start_ms) for word in spread)
        return Spoken(b"".join(parts), words)

    def _weigh(self, word: str) -> int:
        """How many phonemes a word has when it stands alone."""
        sentences = self._voice.phonemize(_speakable(word))
        return sum(phoneme not in _MARKS and not phoneme.isspace() for sentence in sentences for phoneme in sentence)


_MARKS = frozenset("^$_.,:;!?\"'()-")
"""Begin, end, pad and punctuation: in the row of phonemes, and no sound of a word."""


def _speakable(text: str) -> str:
    """Piper takes what stands in ``[[ ]]`` for phonemes; a text has none."""
    return text.replace("[[", "[ [").replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
