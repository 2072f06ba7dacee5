"""Callers' turns as audio, for the bench of endpointing: eSpeak NG through G.711, and recordings of people.

Where somebody hesitates is written into the text: ``I would like to [900] check my balance`` is silent for 900 ms (and
whatever pause the voice makes there by itself). After a comma the voice speaks like somebody who goes on; elsewhere the
audio is cut between two words, in the middle of the phrase's melody. Two times out of three the last syllable before
the silence is drawn out to twice its length, as people do who are looking for words (Shriberg 2001, "To 'errrr' is
human", section 3).
"""

from __future__ import annotations

import array
import math
import operator
import os
import random
import re
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.audio import Codec
from services.audio import g711, wav
from services.audio.level import last_voiced_sample
from services.audio.resample import resample
from services.tts.engines._espeak_library import NORMAL_WORDS_PER_MINUTE, WordEvent, espeak_library

SAMPLE_RATE_HZ = 8000
SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000
SAMPLE_BYTES = 2
LEAD_MS = 400
TAIL_MS = 4000
"""Silence before and after each turn; the latter longer than any rule waits."""
END_THRESHOLD = round(32768 * 10 ** (-45 / 20))
"""The true end of a turn is its last sample over -45 dBFS."""
NOISE_RMS = 25.0
"""Of the quiet noise that every other line has: -62 dBFS."""
DRAWN_OUT_MS = 200
PIECE_MS = 20
VOICES = ("en-us+klatt4", "en-us+f1", "en-us+f2", "en-us+m3", "en+m7", "en-gb-x-rp+f4")
SPEECH_FOLDER = "CALLBUS_TEST_SPEECH"
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh")
SPREAD_MS = 20
SPEAKERS = ("george", "jackson", "lucas", "yweweler")

SENTENCES = (
    "I would like to check my balance.",
    "Can you tell me how much money is in my account?",
    "I lost my card yesterday.",
    "What are your opening hours?",
    "Please send me a new card.",
    "I want to talk to a person.",
    "How do I change my address?",
    "My card was stolen in Madrid last week.",
    "Could you block my credit card, please?",
    "When will my new card arrive?",
    "I need to transfer two hundred dollars to my sister.",
    "That is not correct.",
    "Why was I charged twice?",
    "The machine kept my card this morning.",
    "I am calling about a payment that I do not recognise.",
    "Thank you very much, goodbye.",
    "I would like to open a savings account.",
    "Is there a branch near the station?",
    "My name is Sarah Miller.",
    "I have forgotten my password.",
    "What is the exchange rate for euros today?",
    "Let us do it on Monday at nine.",
    "No, I do not think so.",
    "Who is this payment from?",
    "I do not want that.",
    "Can I pay my bill online?",
    "My phone number has changed.",
    "Which documents do I need to bring?",
    "I never received the letter.",
    "It is the blue card.",
    "Do you charge a fee for that?",
    "Good morning, I have a question about my mortgage.",
    "The last four digits are on the back.",
    "Yes, that is right.",
    "I will call again tomorrow.",
    "How long does it take?",
)
HESITATIONS = (
    "I would like to [900] check my balance.",
    "I want to transfer [600] two hundred dollars.",
    "My address is [1200] twelve Park Street.",
    "Can you tell me the [800] balance of my savings account?",
    "I lost my card, [700] and I need a new one.",
    "When I tried to pay, [500] the card was refused.",
    "I am calling because [1000] I was charged twice.",
    "It was on [1500] the third of May.",
    "If I close my account, [900] what happens to my money?",
    "I need um [700] the number of my account.",
    "Yes, [400] I would like that.",
    "The payment went to my [600] landlord in Boston.",
    "Could you please [300] send it to my office?",
    "I paid with my card, [1100] but the money is still there.",
    "My name is [500] Anna Kowalski.",
    "I think it was um [1300] about fifty dollars.",
    "Send the money to [400] my sister and [700] not to my brother.",
    "Well, [800] I am not sure about that.",
    "I have two cards, [600] a blue one, [500] and a red one.",
    "The last transaction was [700] at a petrol station.",
    "So [1000] how much do I owe?",
    "I want a new pin for [1500] my credit card.",
    "He said that he would [900] call me back.",
    "First block the card, [1400] then tell me the balance.",
    "I would like to make an appointment with [700] somebody from your branch.",
    "Could you tell me if [1200] my salary has arrived?",
    "The man on the phone said [500] he was from your bank.",
    "I need a loan for a [900] used car.",
    "We moved last month, [600] so our address has changed.",
    "My date of birth is [800] the first of June nineteen eighty.",
    "I tried to log in [400] but it did not work.",
    "Please cancel the order from [1100] last Tuesday.",
    "Is it possible to [600] raise my limit?",
    "The cash machine in [1300] Green Street is broken.",
    "I have been waiting for uh [500] three weeks now.",
    "There is a payment to [900] a hotel that I do not know.",
    "Yes, [700] that is the right one.",
    "Hello, [600] I have a question about my bill.",
    "What happens if [800] I pay it back early?",
    "My daughter is sixteen, [1000] can she have an account?",
    "I will be abroad until [700] the end of the month.",
    "It is a joint account with [500] my husband.",
    "The code that you sent me [900] does not work.",
    "I want to know how much [600] the transfer will cost.",
    "He bought it in [400] a shop in Paris.",
    "No, [500] the other one.",
    "I received a letter that says [1100] my account is blocked.",
    "Transfer one hundred to Anna, [1500] and fifty to Tom.",
)
SHORT = (
    "Yes.", "No.", "Okay.", "Thanks.", "Correct.", "Monday.", "Balance.", "Sure.", "Goodbye.", "Nothing.",
    "Tomorrow.", "Operator.", "Never.", "Anna.", "Yes please.", "No thanks.", "That is right.", "My account.",
    "Tuesday.", "All of it.", "In Boston.", "Savings.", "Exactly.", "The second one.",
)  # fmt: skip
DIGITS = (
    "four two seven one",
    "nine nine [400] zero three",
    "one two three [700] four five six",
    "eight [300] zero [300] five [300] one",
    "two zero one nine [1000] six six",
    "seven three [1500] two nine",
    "five five one [600] two eight [500] four",
    "zero four [900] one eight",
)

_PAUSE = re.compile(r"\s*\[(\d+)\]\s*")


class CallerTurn(NamedTuple):
    """One turn.

    Attributes:
        kind: ``sentence``, ``hesitation``, ``short``, ``digits``, ``recording`` or ``recorded digits``.
        pcm: 8,000 Hz, 16 bit, silence before and after included.
        end_ms: its true end, in ``pcm``.
        words: each with the time in ``pcm`` at which it was spoken; empty where that is not known.
        text: all that is said.
        expected_digits: digits that the agent asked for; 0: none.
    """

    kind: str
    name: str
    pcm: bytes
    end_ms: int
    words: tuple[tuple[int, str], ...]
    text: str
    expected_digits: int = 0


def synthesised(voices_each: int = 3) -> list[CallerTurn]:
    """Every text in ``voices_each`` voices. Raises ``EngineChoiceError`` where eSpeak NG is not installed."""
    turns = []
    kinds = (("sentence", SENTENCES), ("hesitation", HESITATIONS), ("short", SHORT), ("digits", DIGITS))
    for kind, texts in kinds:
        for number, text in enumerate(texts):
            for step in range(voices_each):
                voice = VOICES[(number + step * 2 + step // 3) % len(VOICES)]
                drawn_out = (number + step) % 3 < 2
                turns.append(_speak(kind, text, voice, drawn_out=drawn_out, noisy=bool((number // 2 + step) % 2)))
    return turns


def recordings() -> list[CallerTurn]:
    """People: the clips of the folder that CALLBUS_TEST_SPEECH names, and strings of four of its single digits. Empty
    where it is not set."""
    folder = os.environ.get(SPEECH_FOLDER, "")
    if not folder:
        return []
    return [*_clips(Path(folder)), *_digit_strings(Path(folder))]


def _speak(kind: str, text: str, voice: str, *, drawn_out: bool, noisy: bool) -> CallerTurn:
    """``drawn_out``: the last syllable before a hesitation."""
    pieces = _PAUSE.split(text)
    pauses = [int(piece) for piece in pieces[1::2]]
    spoken = " ".join(pieces[::2])
    cuts = [len(" ".join(pieces[: at + 1 : 2])) + 1 for at in range(0, len(pieces) - 1, 2)]
    pcm, events = _synthesise(spoken, voice)
    sound, words = bytearray(), []
    for event, following in zip(events, [*events[1:], WordEvent(len(spoken), len(pcm) // SAMPLE_BYTES)], strict=True):
        piece = pcm[event.sample * SAMPLE_BYTES : following.sample * SAMPLE_BYTES]
        hesitates = bool(cuts) and following.character >= cuts[0] and event is not events[-1]
        word = spoken[event.character :].split()[0]
        if hesitates and drawn_out and kind == "hesitation":
            piece = _drawn_out(piece)
        voiced = last_voiced_sample(piece, END_THRESHOLD) or 0
        words.append((LEAD_MS + (len(sound) // SAMPLE_BYTES + voiced) // SAMPLES_PER_MS, word))
        sound += _faded(piece) if hesitates else piece
        if hesitates:
            sound += bytes(pauses[len(pauses) - len(cuts)] * SAMPLES_PER_MS * SAMPLE_BYTES)
            del cuts[0]
    name = f"{text} ({voice}{', noise' if noisy else ''})"
    expected = len(words) if kind == "digits" else 0
    return _turn(kind, name, bytes(sound), tuple(words), " ".join(word for _, word in words), expected, noisy=noisy)


def _drawn_out(pcm: bytes) -> bytes:
    """The last :data:`DRAWN_OUT_MS` take twice as long, at the same pitch (WSOLA: overlapping pieces, each taken from
    where it fits best to the one before)."""
    size = PIECE_MS * SAMPLES_PER_MS
    half = size // 2
    last = last_voiced_sample(pcm, END_THRESHOLD) or 0
    values = [float(value) for value in _values(pcm[: (last + 1) * SAMPLE_BYTES])]
    begin = max(half, len(values) - DRAWN_OUT_MS * SAMPLES_PER_MS)
    if len(values) - begin < size:
        return pcm
    drawn = [0.0] * (2 * (len(values) - begin) + size)
    padded = [*values, *([0.0] * 2 * size)]
    taken = begin - half
    for at in range(0, len(drawn) - size, half):
        goes_on = padded[taken + half : taken + half + size]
        ideal = min(begin + at // 2, len(values) - size)
        taken = max(
            range(max(0, ideal - half // 2), ideal + half // 2), key=lambda k: _alike(padded[k : k + size], goes_on)
        )
        for offset in range(size):
            drawn[at + offset] += padded[taken + offset] * (0.5 - 0.5 * math.cos(2 * math.pi * offset / size))
    for offset in range(half):
        drawn[offset] += values[begin + offset] * (0.5 + 0.5 * math.cos(math.pi * offset / half))
    return _bytes(array.array("h", (max(-32768, min(32767, round(value))) for value in [*values[:begin], *drawn])))


def _alike(one: list[float], other: list[float]) -> float:
    """Correlation of two pieces, the first one's loudness aside."""
    return math.fsum(map(operator.mul, one, other)) / (math.sqrt(math.fsum(value * value for value in one)) + 1.0)


def _turn(
    kind: str,
    name: str,
    sound: bytes,
    words: tuple[tuple[int, str], ...],
    text: str,
    expected_digits: int = 0,
    *,
    noisy: bool = False,
) -> CallerTurn:
    last = last_voiced_sample(sound, END_THRESHOLD)
    if last is None:
        raise ValueError(f"nothing is heard in {name}")
    sound = sound[: (last + 1) * SAMPLE_BYTES]
    pcm = bytes(LEAD_MS * SAMPLES_PER_MS * SAMPLE_BYTES) + sound + bytes(TAIL_MS * SAMPLES_PER_MS * SAMPLE_BYTES)
    if noisy:
        pcm = _with_noise(pcm, name)
    pcm = g711.decode(g711.encode(pcm, Codec.PCMU), Codec.PCMU)
    return CallerTurn(kind, name, pcm, LEAD_MS + last // SAMPLES_PER_MS, words, text, expected_digits)


def _synthesise(text: str, voice: str) -> tuple[bytes, list[WordEvent]]:
    """Audio at the line's rate, and its words with their sample in that audio."""
    library = espeak_library()
    pieces: list[bytes] = []
    events: list[WordEvent] = []

    def take(pcm: bytes, words: list[WordEvent]) -> bool:
        pieces.append(pcm)
        events.extend(words)
        return False

    library.speak(text, voice, NORMAL_WORDS_PER_MINUTE, take)
    rate = library.sample_rate_hz
    words = [WordEvent(event.character, event.sample * SAMPLE_RATE_HZ // rate) for event in events]
    return resample(b"".join(pieces), rate, SAMPLE_RATE_HZ), words


def _clips(folder: Path) -> list[CallerTurn]:
    """Where all that is said are digits, the agent has asked for them."""
    turns = []
    texts = _transcripts(folder)
    for path in sorted((folder / "clips_8k").glob("*.wav")):
        text = texts.get(path.name, path.stem.replace("_", " "))
        words = text.split()
        sound = wav.read_wav(path).mono()
        expected = len(words) if all(word in DIGIT_WORDS for word in words) else 0
        turns.append(_turn("recording", path.name, sound, _spread(words, sound), text, expected))
    return turns


def _spread(words: list[str], sound: bytes) -> tuple[tuple[int, str], ...]:
    """When each word ends, about: as if all letters took the same share of the time in which something is heard."""
    size = SPREAD_MS * SAMPLES_PER_MS * SAMPLE_BYTES
    places = range(0, len(sound) - size + 1, size)
    heard = [at for at in places if last_voiced_sample(sound[at : at + size], END_THRESHOLD) is not None]
    letters = sum(map(len, words))
    spread, done = [], 0
    for word in words:
        done += len(word)
        at = heard[min(len(heard) - 1, len(heard) * done // letters)]
        spread.append((LEAD_MS + at // SAMPLE_BYTES // SAMPLES_PER_MS, word))
    return tuple(spread)


def _transcripts(folder: Path) -> dict[str, str]:
    manifest = folder.parent / "MANIFEST.json"
    if not manifest.is_file():
        return {}
    rows = msgspec.json.decode(manifest.read_bytes(), type=list[dict[str, object]])
    return {Path(str(row["file"])).name: str(row.get("transcript", "")) for row in rows}


def _digit_strings(folder: Path) -> list[CallerTurn]:
    """Each speaker says five strings of four digits, with 150 to 900 ms between them."""
    turns: list[CallerTurn] = []
    for speaker in SPEAKERS:
        chance = random.Random(speaker)
        for number in range(5):
            digits = [chance.randrange(10) for _ in range(4)]
            sound, words = bytearray(), []
            for digit in digits:
                path = folder / "digits_8k" / f"{digit}_{speaker}_{number % 2}.wav"
                if not path.is_file():
                    return turns
                sound += wav.read_wav(path).mono()
                words.append((LEAD_MS + len(sound) // SAMPLE_BYTES // SAMPLES_PER_MS, DIGIT_WORDS[digit]))
                sound += bytes(chance.randrange(150, 900) * SAMPLES_PER_MS * SAMPLE_BYTES)
            text = " ".join(word for _, word in words)
            name = f"{text} ({speaker})"
            turns.append(_turn("recorded digits", name, bytes(sound), tuple(words), text, len(digits)))
    return turns


def _faded(pcm: bytes) -> bytes:
    """Without a click at the end: its last 8 ms die away."""
    values = _values(pcm)
    count = min(8 * SAMPLES_PER_MS, len(values))
    for at in range(count):
        values[len(values) - 1 - at] = values[len(values) - 1 - at] * at // count
    return _bytes(values)


def _with_noise(pcm: bytes, seed: str) -> bytes:
    chance = random.Random(seed)
    values = _values(pcm)
    noisy = (max(-32768, min(32767, round(value + chance.gauss(0.0, NOISE_RMS)))) for value in values)
    return _bytes(array.array("h", noisy))


def _values(pcm: bytes) -> array.array[int]:
    values = array.array("h", pcm)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _bytes(values: array.array[int]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
