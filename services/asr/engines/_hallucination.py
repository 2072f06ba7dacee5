"""Whether Whisper heard what it wrote. Pure.

Whisper was taught with subtitles: where nobody speaks it writes what stands under films ("Thank you for watching"), and
where it loses its way it says the same again and again. What it says of itself (the probability that nobody spoke, and
how likely its words are), the words, and the length of the audio tell most of that from speech.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from services.asr.grammar import DIGITS

UNSURE_LOGPROB = -1.0
"""Mean logarithm of the words' probabilities under which they are a guess: the bound of OpenAI's own decoding."""
REPETITIVE = 2.4
"""Bytes of the text by bytes of its compressed form: over this it repeats itself, as in OpenAI's own decoding. Digits
are left out: who says a card's number repeats himself."""
MOST_CHARACTERS_PER_S, MOST_CHARACTERS = 25, 20
"""A fast speaker says 20 characters a second; a text longer than so many a second, and some, is not in the audio."""
LONGEST_LOOP = 8
LOOPS = {1: 6}
LOOPS_OF_SEVERAL_WORDS = 4
"""So many times the same words in a row are a loop. Nobody's "no, no, no", and no row of digits."""
DIGIT_WORDS = frozenset((
    *DIGITS, "double", "triple", "null", "eins", "zwei", "zwo", "drei", "vier", "fünf", "sechs", "sieben", "acht",
    "neun", "zéro", "un", "deux", "trois", "quatre", "cinq", "sept", "huit", "neuf", "cero", "uno", "dos", "tres",
    "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "due", "tre", "quattro", "cinque", "sei", "sette", "otto",
    "nove", "nul", "een", "twee", "drie", "vijf", "zes", "zeven", "negen",
))  # fmt: skip
"""As callers say them one by one, in the languages of :data:`SILENCE_PHRASES`."""

SILENCE_PHRASES = frozenset((
    "thank you", "thanks", "thank you very much", "thank you so much", "thanks for watching", "thank you for watching",
    "thank you for watching and see you next time", "thank you for listening", "please subscribe", "like and subscribe",
    "please subscribe to my channel", "don't forget to subscribe", "see you next time", "see you in the next video",
    "i'll see you in the next video", "subtitles by the amara org community", "subtitles by amara org",
    "you", "bye", "bye bye", "so", "oh",
    "vielen dank", "vielen dank fürs zuschauen", "bis zum nächsten mal", "untertitel der amara org community",
    "untertitel im auftrag des zdf", "untertitel von stephanie geiges",
    "merci", "merci d'avoir regardé cette vidéo", "sous titres réalisés par la communauté d'amara org",
    "sous titres par la communauté d'amara org", "gracias", "gracias por ver el video", "suscríbete al canal",
    "subtítulos por la comunidad de amara org", "grazie", "grazie a tutti",
    "sottotitoli creati dalla comunità amara org", "sottotitoli e revisione a cura di qtss",
    "bedankt voor het kijken", "ondertiteling door de amara org gemeenschap",
    "ondertitels ingediend door de amara org gemeenschap",
))  # fmt: skip
"""What Whisper writes where nobody speaks. Callers say some of it too, so it counts only where no speech is likely."""

_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W_]+)*")


class Heard(NamedTuple):
    """What Whisper wrote for ``seconds`` of audio, and what it says of it."""

    text: str
    seconds: float
    logprob: float
    no_speech: float


def spoken(heard: Heard, no_speech_threshold: float) -> str:
    """The text without loops; empty where it was most likely not said."""
    text = without_loops(" ".join(heard.text.split()))
    words = [word.lower() for word in _WORD.findall(text)]
    if not words:
        return ""
    silent = heard.no_speech > no_speech_threshold
    if silent and (heard.logprob < UNSURE_LOGPROB or " ".join(words) in SILENCE_PHRASES):
        return ""
    if len(text) > MOST_CHARACTERS + MOST_CHARACTERS_PER_S * heard.seconds:
        return ""
    said = " ".join(word for word in text.split() if not _is_digit(_bare(word)))
    return "" if said and _repetition(said) > REPETITIVE else text


def without_loops(text: str) -> str:
    """The text with each loop said once."""
    words = text.split()
    bare = [_bare(word) for word in words]
    kept: list[str] = []
    at = 0
    while at < len(words):
        size, times = _loop_at(bare, at)
        kept.extend(words[at : at + size])
        at += size * times
    return " ".join(kept)


def _loop_at(words: Sequence[str], at: int) -> tuple[int, int]:
    """How many words repeat themselves from here on, and how often; ``(1, 1)`` where it is no loop."""
    for size in range(1, LONGEST_LOOP + 1):
        first = words[at : at + size]
        if len(first) < size or all(_is_digit(word) for word in first):
            continue
        times = 1
        while words[at + times * size : at + (times + 1) * size] == first:
            times += 1
        if times >= LOOPS.get(size, LOOPS_OF_SEVERAL_WORDS):
            return size, times
    return 1, 1


def _bare(word: str) -> str:
    return " ".join(_WORD.findall(word)).lower()


def _is_digit(word: str) -> bool:
    return word in DIGIT_WORDS or word.replace(" ", "").isdigit()


def _repetition(text: str) -> float:
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))
