"""The small languages inside a scenario file: actions of a step, points of time, pauses in what is said. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

SPEECH_VARIABLE = "CALLBUS_TEST_SPEECH"
"""Names the folder of recordings that ``speech:clips_8k/yes.wav`` and the noise ``office`` are looked up in."""
SPEECH_PREFIX = "speech:"
NOISES = ("white", "pink", "office")

SOUNDS = ("say", "wav", "cough_ms", "noise_ms", "mumble_ms", "hum_ms", "echo_ms")
"""Actions of a step that make a sound."""
ACTIONS = (*SOUNDS, "keys", "hold_ms", "wait_ms", "hang_up")
"""What a step can do; exactly one of them each."""

_REFERENCE = re.compile(
    r"(?:event (?P<event>[a-z_.]+)(?:#(?P<number>[1-9]\d*))?|(?P<label>.+?)(?P<end> end)?)?"
    r"(?: (?P<sign>[+-]) (?P<offset>\d+))?"
)
_PAUSE = re.compile(r"\[pause (\d+)\]")


class Phrase(NamedTuple):
    """Words in one go, without the dots of an unfinished one, and the silence after them."""

    text: str
    pause_ms: int
    unfinished: bool


class Reference(NamedTuple):
    """A point of time in a conversation: an event, a step's begin or end, or (neither) the begin of the call."""

    event: str = ""
    number: int = 1
    label: str = ""
    end: bool = False
    offset_ms: int = 0


def parse_reference(text: str) -> Reference | None:
    """``cough``, ``cough end``, ``cough end + 300``, ``event turn.ended#2``, or empty; None: it is none of these."""
    found = _REFERENCE.fullmatch(text)
    if found is None:
        return None
    offset = int(found["offset"] or 0) * (-1 if found["sign"] == "-" else 1)
    return Reference(found["event"] or "", int(found["number"] or 1), found["label"] or "", bool(found["end"]), offset)


def parse_say(text: str) -> tuple[Phrase, ...]:
    """Split a ``say`` at its pauses. A pause at the very beginning belongs to an empty phrase."""
    pieces = _PAUSE.split(text)
    phrases = []
    for number in range(0, len(pieces), 2):
        words = pieces[number].strip()
        pause_ms = int(pieces[number + 1]) if number + 1 < len(pieces) else 0
        if words or pause_ms:
            phrases.append(Phrase(words.rstrip(".…").rstrip(), pause_ms, words.endswith(("...", "…"))))
    return tuple(phrases)
