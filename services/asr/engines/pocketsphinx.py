"""PocketSphinx with the English model of its wheel: works on any machine without a download.

It hears a telephone best with a grammar of what may be said (one per dialogue state); without phrases it falls back to
its general language model, which understands little at 8,000 Hz. What makes the difference, measured on speech of
eSpeak NG at 8,000 Hz mu-law (20 sentences of a bank's callers, voice en-us+klatt4):

* The decoder subtracts a running mean from the cepstrum (CMN), and its start value fits a 16,000 Hz microphone: 4 of 20
  sentences right. With the mean of telephone speech as start value: 20 of 20. It is set anew for each run, so that a
  transcript depends on the run's audio alone, and a successor hears what its predecessor would have heard.
* The last pass, over the lattice of words, leaves the grammar: of 120 times "no thank you" 24 became "no that is". It
  is done only for who asks for it: :mod:`ops.hearing`, to whom garbled speech must not sound like the right words.
* A grammar finds a phrase in anything that sounds, and says 1.0 to all of them without the last pass. What tells is the
  acoustic score: :class:`Fit`.
* A decoder with the wheel's dictionary of 134,000 words takes 0.1 s and 28 MB to make; with an empty one, to which the
  words of the grammars in use are added, 9 ms and 5 MB. So each run has a decoder of its own.

PocketSphinx keeps Python's lock while it works; ``services.asr.recognition`` gives it short slices.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
import sys
import tempfile
import threading
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bus.logs import get_logger
from config.settings import AsrSection
from schemas.asr import Word
from schemas.llm import ListenFor
from services.asr import grammar
from services.asr.engine import Capabilities, EngineError, Transcript
from services.packages import installed

log = get_logger(__name__)

SAMPLE_RATE_HZ = 16000
FRAMES_PER_S = 100
EXTRA = "pocketsphinx"
TELEPHONE_CMN = "44.9,30.0,-36.3,35.9,-24.4,1.8,8.8,-26.7,20.1,-14.9,2.0,6.7,-13.7"
"""Mean cepstrum of telephone speech at 16,000 Hz: half of 17 recorded people, half of eSpeak NG's klatt4 voice."""
LOG_BASE = 1.0001
MISFIT = 48.0
"""Points a frame (see :class:`Fit`) over which no sentence of the grammar was said."""
WORD_MISFIT = 55.0
"""One word may be slurred, or lie in a noise; not half of them."""
SHORT_MISFIT, SHORT_PARTIAL_MISFIT, MISFIT_PER_FRAME = 20.0, 10.0, 0.5
"""Of speech shorter than 560 ms a better fit is asked for, of a partial shorter than 760 ms."""
GRAMMARS_PER_DECODER = 16
IDLE_DECODERS = 8
WARM_DECODERS = 2
GRAMMAR_OPTIONS = {"bestpath": False}
"""The last pass takes up to 0.6 s after a row of digits, with Python's lock held, and spoils more than it mends at
8,000 Hz: of 108 sentences and 80 digits of recorded people 158 are right with it and 170 without."""
GENERAL_OPTIONS = {"fwdflat": False, "bestpath": False, "maxhmmpf": 3000, "ds": 2}
"""The second and third pass of the general model take 0.4 s at the end of speech; their gain is small at 8,000 Hz."""


class Dictionary:
    """Pronunciations of the wheel's dictionary, found by bisection in its lines: 4 MB instead of 134,000 objects."""

    def __init__(self, path: Path) -> None:
        lines = sorted(path.read_bytes().splitlines())
        self._text = b"\n".join(lines)
        self._starts = array("I", itertools.accumulate((len(line) + 1 for line in lines), initial=0))
        self._known: dict[str, tuple[str, ...]] = {}

    def pronunciations(self, word: str) -> tuple[str, ...]:
        """Every way to say ``word`` as phones; empty where the dictionary does not have it."""
        found = self._known.get(word)
        if found is None:
            entries = itertools.chain([word], (f"{word}({number})" for number in itertools.count(2)))
            found = self._known[word] = tuple(itertools.takewhile(bool, map(self._find, entries)))
        return found

    def _find(self, entry: str) -> str:
        key = entry.encode() + b" "
        lines = range(len(self._starts) - 1)
        at = bisect.bisect_left(lines, key, key=self._line)
        line = self._line(at) if at < len(lines) else b""
        return line[len(key) :].decode().strip() if line.startswith(key) else ""

    def _line(self, index: int) -> bytes:
        return self._text[self._starts[index] : self._starts[index + 1] - 1]


class GrammarDecoder:
    """A decoder that hears grammars; it keeps the last few."""

    def __init__(self, decoder: Any, dictionary: Dictionary) -> None:
        self.decoder = decoder
        self._dictionary = dictionary
        self._words: set[str] = set()
        self._grammars: list[str] = []

    def listen(self, made: grammar.Grammar) -> None:
        """Hear this grammar from the next utterance on."""
        name = hashlib.sha256(made.jsgf.encode()).hexdigest()[:16]
        if name in self._grammars:
            self._grammars.remove(name)
        else:
            for word in sorted(made.words - self._words):
                for number, phones in enumerate(self._dictionary.pronunciations(word), start=1):
                    self.decoder.add_word(word if number == 1 else f"{word}({number})", phones, False)
            self._words |= made.words
            self.decoder.add_jsgf_string(name, made.jsgf)
        self._grammars.append(name)
        self.decoder.activate_search(name)
        while len(self._grammars) > GRAMMARS_PER_DECODER:
            self.decoder.remove_search(self._grammars.pop(0))


class Fit(NamedTuple):
    """How well a word's sounds fit the audio of ``frames`` frames of 10 ms.

    ``misfit``: by how much its acoustic score is behind the best sound of the grammar, per frame, in PocketSphinx's
    points (logarithm to the base 1.0001). Measured at 8,000 Hz: people's sentences 9 to 28, eSpeak NG's 13 to 42, in
    noise of 10 dB up to 45; other sentences that a grammar was found in 51 to 66, its "no" in a cough 33 to 55.
    """

    frames: int
    misfit: float

    @property
    def confidence(self) -> float:
        """1.0 for a perfect fit; what is taken for words is over 0.5."""
        return min(1.0, max(0.0, 1 - self.misfit / 100))


def fits(words: Sequence[Fit], *, partial: bool = False) -> bool:
    """Whether this is speech of the grammar, and not something that sounds and was forced into it.

    Most words must fit, and all of them together; the shorter the speech, the better: a fifth of a second of a cough
    resembles some short word. A ``partial`` text must fit better still: two words of it interrupt the agent, and where
    it is right the next audio says so.
    """
    whole = _together(words)
    bad = sum(word.misfit > WORD_MISFIT for word in words)
    short = (SHORT_PARTIAL_MISFIT if partial else SHORT_MISFIT) + whole.frames * MISFIT_PER_FRAME
    return whole.misfit <= min(MISFIT, short) and 2 * bad < len(words)


def _together(words: Sequence[Fit]) -> Fit:
    frames = sum(word.frames for word in words)
    return Fit(frames, sum(word.frames * word.misfit for word in words) / max(1, frames))


class PocketSphinxRun:
    """One stretch of speech on a decoder of its own.

    ``choosy``: nothing is heard where the words don't :func:`fits`; else the confidence is what the last pass says.
    """

    def __init__(self, decoder: Any, give_back: Any, *, choosy: bool) -> None:
        self._decoder = decoder
        self._give_back = give_back
        self._choosy = choosy
        self._partial = ""
        decoder.set_cmn(TELEPHONE_CMN)
        decoder.start_utt()

    def accept(self, pcm: bytes) -> str | None:
        if not pcm:
            return None
        self._decoder.process_raw(pcm, False, False)
        hypothesis = self._decoder.hyp()
        text = hypothesis.hypstr if hypothesis is not None else ""
        if text == self._partial or not self._believable(text, partial=True):
            return None
        self._partial = text
        return text

    def finish(self) -> Transcript:
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        text = hypothesis.hypstr if hypothesis is not None else ""
        if not text or not self._believable(text):
            self._give_back()
            return Transcript("", 0.0)
        segments = self._segments()
        if self._choosy:
            confidence = _together([_fit(segment) for segment in segments]).confidence
            words = tuple(_word(segment, _fit(segment).confidence) for segment in segments)
        else:
            words = tuple(_word(segment, float(segment.prob)) for segment in segments)
            confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
        self._give_back()
        return Transcript(text, confidence, words)

    def _believable(self, text: str, *, partial: bool = False) -> bool:
        return not text or not self._choosy or fits([_fit(segment) for segment in self._segments()], partial=partial)

    def _segments(self) -> list[Any]:
        return [segment for segment in self._decoder.seg() or () if _is_word(segment.word)]

    def cancel(self) -> None:
        self._decoder.end_utt()
        self._give_back()


class PocketSphinxEngine:
    """The model's files, the dictionary, and the decoders that wait for a run."""

    name = "pocketsphinx"
    capabilities = Capabilities(
        streaming=True,
        partials=True,
        word_times=True,
        grammars=True,
        blocking=True,
        languages=("en",),
        sample_rates_hz=(SAMPLE_RATE_HZ,),
    )

    def __init__(self, settings: AsrSection, *, last_pass: bool = False) -> None:
        """``last_pass``: hear grammars in two passes, and take whatever comes out.

        Raises ``MissingPackageError`` where pocketsphinx or soxr is not installed.
        """
        self._last_pass = last_pass
        modules = installed(self.name, {"pocketsphinx": EXTRA, "numpy": EXTRA, "soxr": EXTRA})
        self._package = modules["pocketsphinx"]
        self._dictionary = Dictionary(Path(self._package.get_model_path("en-us/cmudict-en-us.dict")))
        self._lock = threading.Lock()
        self._idle: list[GrammarDecoder] = []
        self._idle_general: list[Any] = []
        self._grammars: dict[ListenFor, grammar.Grammar | None] = {}
        self._warned: set[str] = set()

    def warm(self) -> None:
        """Make decoders ahead and let each of them hear once.

        One is for speech that nobody expects, too: to load its model takes a third of a second with Python's lock held,
        and the first to need it is a caller who interrupts.
        """
        runs = [self.open(ListenFor(digits=1)) for _ in range(WARM_DECODERS)]
        runs.append(self._open_general())
        for run in runs:
            run.accept(bytes(SAMPLE_RATE_HZ // 5 * 2))
            run.finish()

    def open(self, listen_for: ListenFor) -> PocketSphinxRun:
        made = self._grammar_for(listen_for)
        if made is None:
            return self._open_general()
        with self._lock:
            decoder = self._idle.pop() if self._idle else None
        decoder = decoder or self._new_decoder()
        try:
            decoder.listen(made)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"PocketSphinx refuses the grammar of state {listen_for.state!r}: {error}") from error
        return PocketSphinxRun(decoder.decoder, lambda: self._keep(self._idle, decoder), choosy=not self._last_pass)

    def _grammar_for(self, listen_for: ListenFor) -> grammar.Grammar | None:
        with self._lock:
            if listen_for in self._grammars:
                return self._grammars[listen_for]
        made = grammar.build(listen_for, lambda word: bool(self._dictionary.pronunciations(word)))
        with self._lock:
            self._grammars[listen_for] = made
            if len(self._grammars) > GRAMMARS_PER_DECODER * IDLE_DECODERS:
                self._grammars.pop(next(iter(self._grammars)))
        self._warn(listen_for, made)
        return made

    def _warn(self, listen_for: ListenFor, made: grammar.Grammar | None) -> None:
        """Say once what of the agent's phrases can't be heard."""
        if made is None:
            if listen_for.phrases and listen_for.state not in self._warned:
                self._warned.add(listen_for.state)
                log.warning(
                    "grammar_empty",
                    message=f"state {listen_for.state!r}: no phrase can be heard, so anything is listened for",
                )
            return
        for word in made.missing:
            if word not in self._warned:
                self._warned.add(word)
                log.warning(
                    "word_unknown",
                    message=f"state {listen_for.state!r}: the dictionary has no word {word!r}; alternatives that need "
                    "it are left out, say it in other words",
                )
        for fault in made.faults:
            if fault not in self._warned:
                self._warned.add(fault)
                log.warning("phrase_refused", message=f"state {listen_for.state!r}: {fault}; it is left out")

    def _new_decoder(self) -> GrammarDecoder:
        with tempfile.NamedTemporaryFile("w", suffix=".dict") as empty:
            # The decoder wants a dictionary file with a word in it and reads it once.
            empty.write("_ AH\n")
            empty.flush()
            options = {} if self._last_pass else GRAMMAR_OPTIONS
            decoder = self._package.Decoder(lm=None, dict=empty.name, loglevel="FATAL", **options)
        return GrammarDecoder(decoder, self._dictionary)

    def _open_general(self) -> PocketSphinxRun:
        with self._lock:
            decoder = self._idle_general.pop() if self._idle_general else None
        decoder = decoder or self._package.Decoder(loglevel="FATAL", **GENERAL_OPTIONS)
        return PocketSphinxRun(decoder, lambda: self._keep(self._idle_general, decoder), choosy=False)

    def _keep(self, idle: list[Any], decoder: Any) -> None:
        with self._lock:
            if len(idle) < IDLE_DECODERS:
                idle.append(decoder)


def create(settings: AsrSection) -> PocketSphinxEngine:
    """The engine for ``[asr] engine = pocketsphinx``."""
    return PocketSphinxEngine(settings)


def _is_word(text: str) -> bool:
    """Not silence, noise, a sentence mark, or a step of the grammar without a word, ``(NULL)``."""
    return not text.startswith(("<", "[", "+", "("))


def _fit(segment: Any) -> Fit:
    frames = max(1, segment.end_frame + 1 - segment.start_frame)
    return Fit(frames, -math.log(max(segment.ascore, sys.float_info.min)) / math.log(LOG_BASE) / frames)


def _word(segment: Any, confidence: float) -> Word:
    start_ms = max(0, segment.start_frame) * 1000 // FRAMES_PER_S
    end_ms = (segment.end_frame + 1) * 1000 // FRAMES_PER_S
    text = segment.word.split("(", 1)[0]
    bounded = min(1.0, max(0.0, confidence))
    return Word(text=text, start_ms=start_ms, end_ms=max(start_ms, end_ms), confidence=bounded)
