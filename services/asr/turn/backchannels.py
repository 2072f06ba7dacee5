"""Words that only say "I am listening": they do not take the floor. Pure.

What answers a question (yes, no) or gives an order (stop, wait) is none of them, in any language: who says it over the
agent wants to be heard.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

BACKCHANNELS: dict[str, tuple[str, ...]] = {
    "en": (
        "mm", "mmm", "mm hm", "mm hmm", "mhm", "hm", "hmm", "uh huh", "uh", "um", "ah", "aha", "oh",
        "okay", "ok", "okey dokey", "yeah", "yep", "right", "sure", "alright", "all right", "cool", "great", "good",
        "fine", "i see", "got it", "i understand", "understood", "go on", "oh i see", "oh okay", "that's right",
        "that is right", "sounds good", "of course", "exactly", "really", "interesting", "very good",
    ),
    "de": (
        "mm", "mhm", "hm", "hmm", "äh", "ähm", "ah", "aha", "oh", "ach", "ach so", "achso", "ah ja", "ach ja", "so so",
        "okay", "ok", "gut", "sehr gut", "klar", "alles klar", "na klar", "genau", "richtig", "stimmt", "verstehe",
        "ich verstehe", "verstanden", "in ordnung", "prima", "super", "natürlich", "interessant",
    ),
    "es": (
        "mm", "mhm", "hm", "hmm", "ah", "ajá", "oh", "eh", "vale", "claro", "claro que sí", "ya", "ya veo", "entiendo",
        "entendido", "comprendo", "okay", "ok", "bien", "muy bien", "bueno", "de acuerdo", "perfecto", "exacto",
        "por supuesto",
    ),
    "fr": (
        "mm", "mhm", "hm", "hmm", "hum", "euh", "ah", "aha", "oh", "ah bon", "d'accord", "ah d'accord", "okay", "ok",
        "ouais", "je vois", "je comprends", "compris", "entendu", "bien", "très bien", "bien sûr", "exact",
        "exactement", "c'est ça", "parfait", "bon", "tout à fait",
    ),
    "nl": (
        "mm", "mhm", "hm", "hmm", "eh", "ah", "aha", "oh", "och", "oké", "okay", "ok", "goed", "heel goed", "prima",
        "precies", "juist", "klopt", "duidelijk", "ik snap het", "snap ik", "ik begrijp het", "begrijp ik", "begrepen",
        "natuurlijk", "in orde", "inderdaad",
    ),
    "it": (
        "mm", "mhm", "hm", "hmm", "eh", "ah", "aha", "oh", "okay", "ok", "capito", "ho capito", "capisco", "certo",
        "va bene", "bene", "molto bene", "d'accordo", "giusto", "esatto", "chiaro", "perfetto", "ecco", "vedo",
        "certamente", "naturalmente",
    ),
}  # fmt: skip
"""Language -> words and short phrases, in lower case without punctuation."""

USUAL: dict[str, tuple[str, ...]] = {
    "en": ("okay", "uh huh", "mm hm", "right", "i see", "sure", "all right"),
}
"""The usual ones that a recogniser with a grammar tells from what callers say to be heard: it can hear nothing else
than its phrases, and without these it takes an "okay" for one of them. Shorter ones (oh, hm), "yeah" (yes) and "got it"
(stop) are heard in the place of such words too often."""


def usual_backchannels(language: str) -> tuple[str, ...]:
    """What a recogniser with a grammar listens for beside it, while the agent speaks."""
    return USUAL.get(_primary(language), ())


def is_backchannel(text: str, language: str, extra: frozenset[str] = frozenset()) -> bool:
    """Whether all of ``text`` is made of backchannels, one after the other; of no words: False.

    Case, punctuation, hyphens and accents do not count. ``language`` is a code as in ``[asr] language`` (``en``,
    ``en-US``); of one that is not in :data:`BACKCHANNELS` only ``extra`` counts: more words and phrases.
    """
    spoken = _words(text)
    return bool(spoken) and len(spoken) in _reached(spoken, _phrases(language, extra))


def may_become_backchannel(text: str, language: str, extra: frozenset[str] = frozenset()) -> bool:
    """Whether ``text`` is made of backchannels and the beginning of one more: "okay I", before "see" is known."""
    spoken = _words(text)
    phrases = _phrases(language, extra)
    reached = _reached(spoken, phrases)
    begun = {phrase[:length] for phrase in phrases for length in range(1, len(phrase))}
    return any(spoken[start:] in begun for start in reached if start < len(spoken))


@lru_cache(maxsize=64)
def _phrases(language: str, extra: frozenset[str]) -> frozenset[tuple[str, ...]]:
    known = BACKCHANNELS.get(_primary(language), ())
    return frozenset(_words(phrase) for phrase in (*known, *extra)) - {()}


def _reached(spoken: tuple[str, ...], phrases: frozenset[tuple[str, ...]]) -> set[int]:
    """Up to where the words can be read as phrases, one after the other."""
    reached = {0}
    for start in range(len(spoken)):
        if start in reached:
            reached |= {start + len(phrase) for phrase in phrases if spoken[start : start + len(phrase)] == phrase}
    return reached


def _primary(language: str) -> str:
    return language.replace("_", "-").split("-")[0].lower()


def _words(text: str) -> tuple[str, ...]:
    bare = "".join(
        character if character.isalnum() else "" if character in "'\N{RIGHT SINGLE QUOTATION MARK}" else " "
        for character in unicodedata.normalize("NFKD", text.casefold())
        if not unicodedata.combining(character)
    )
    return tuple(bare.split())
