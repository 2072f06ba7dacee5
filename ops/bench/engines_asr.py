"""One engine of speech recognition: sentences in telephone quality, at the pace of a call."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from config.settings import Settings
from ops.bench.engine_figures import (
    CALLER_SHARE,
    FINAL,
    PARTIAL,
    WORDS,
    Figures,
    Sound,
    Start,
    Task,
)
from ops.bench.results import Figure
from ops.caller.script import Say
from ops.caller.speech import prepare
from schemas.audio import Codec
from schemas.llm import ListenFor
from services.asr.engine import Engine, load_engine
from services.asr.recognition import BATCH_BYTES, SLICE_BYTES
from services.audio import g711
from services.audio.g711 import audioop
from services.audio.resample import Resampler

SENTENCES = (
    "where is my credit card",
    "i want to check my account balance",
    "four two seven one",
    "no thank you",
    "i have lost my debit card this morning",
    "can i speak to someone",
    "how much money do i have in my account",
    "my card has not arrived yet",
    "please block my card",
    "yes that is right",
    "i would like to order a new card",
    "what are your opening hours",
)
VOICES = ("en-us+klatt4", "en-us+f1")
LEAD_MS, TAIL_MS = 300, 200
"""What the detector leaves before and after a sentence: some history, and the silence until it is sure of the end."""
AUDIBLE = 290
"""Peak of a window with sound: -41 dBFS."""
WINDOW_BYTES = 160
BYTES_PER_MS = 16
FRAME_S = 0.02
FRAME_BYTES = 320
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Clock(NamedTuple):
    """Time in seconds: of the wall, of this process' work; and how to wait."""

    now: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = time.process_time
    sleep: Callable[[float], None] = time.sleep


class Heard(NamedTuple):
    """What came of one sentence. ``partial_ms``: None where there was none before the end."""

    text: str
    partial_ms: float | None
    final_ms: float
    busy_s: float


async def sounds() -> tuple[Sound, ...]:
    """The sentences, said by each voice in turn, through G.711.

    Raises:
        ConfigError: eSpeak NG is missing.
    """
    said = [await prepare([Say(sentence) for sentence in SENTENCES], voice) for voice in VOICES]
    return tuple(
        Sound(sentence, _on_the_line(said[(number + turn) % len(VOICES)][number]))
        for turn in range(len(VOICES))
        for number, sentence in enumerate(SENTENCES)
    )


def _on_the_line(pcm: bytes) -> bytes:
    """Speech from its first to its last sound, silence around it, as a telephone carries it."""
    starts = range(0, len(pcm), WINDOW_BYTES)
    loud = [at for at in starts if audioop.max(pcm[at : at + WINDOW_BYTES], g711.PCM_SAMPLE_BYTES) > AUDIBLE]
    if not loud:
        raise RuntimeError("the caller's voice made no sound")
    speech = pcm[loud[0] : loud[-1] + WINDOW_BYTES]
    speech += bytes(-len(speech) % FRAME_BYTES)
    whole = bytes(LEAD_MS * BYTES_PER_MS) + speech + bytes(TAIL_MS * BYTES_PER_MS)
    return g711.decode(g711.encode(whole, Codec.PCMU), Codec.PCMU)


async def measure(task: Task, settings: Settings) -> list[Figure]:
    """All sentences once, and on until there were ``seconds`` of audio."""
    # What a worker without an engine has loaded.
    import services.asr.worker  # noqa: F401

    before = Start.now()
    engine = load_engine(task.engine, settings.asr, settings)
    engine.warm()
    ready = Start.now()
    figures = hear_all(engine, task)
    figures.loading(before, ready)
    return figures.made


def hear_all(engine: Engine, task: Task, clock: Clock = Clock()) -> Figures:  # noqa: B008
    """Hear the sentences with a warm engine."""
    heard: list[tuple[str, Heard]] = []
    audio_s, cpu_s = 0.0, 0.0
    while audio_s < task.seconds or len(heard) < len(SENTENCES):
        sound = task.sounds[len(heard) % len(task.sounds)]
        began = clock.cpu()
        heard.append((sound.text, hear(engine, sound.pcm, clock)))
        cpu_s += clock.cpu() - began
        audio_s += len(sound.pcm) / BYTES_PER_MS / 1000
    figures = Figures(task)
    can = engine.capabilities
    busy_s = sum(each.busy_s for _, each in heard)
    figures.speech_work(cpu_s, busy_s, audio_s, CALLER_SHARE, streams=can.streaming)
    partials = [each.partial_ms for _, each in heard if each.partial_ms is not None]
    few = f"{len(partials)} of {len(heard)} sentences had one"
    figures.spread(PARTIAL, partials, note=few if len(partials) < len(heard) else "")
    figures.spread(FINAL, [each.final_ms for _, each in heard], note="fed at the pace of a call")
    counts = [count_words(text, each.text) for text, each in heard]
    right, said, over = (sum(column) for column in zip(*counts, strict=True))
    note = "the sentences are the grammar" if can.grammars else "without a grammar"
    figures.add(WORDS, "%", {"value": 100 * right / said, "n": said, "too_many": over}, note=note)
    return figures


def hear(engine: Engine, pcm: bytes, clock: Clock) -> Heard:
    """One sentence: audio is given as it comes, or, where the engine is behind it, what has come meanwhile."""
    rates = engine.capabilities.sample_rates_hz
    rate_hz = g711.SAMPLE_RATE_HZ if g711.SAMPLE_RATE_HZ in rates else rates[0]
    resampler = Resampler(g711.SAMPLE_RATE_HZ, rate_hz)
    batch = BATCH_BYTES if engine.capabilities.blocking else FRAME_BYTES
    run = engine.open(ListenFor(state="bench", phrases=SENTENCES))
    given, busy_s, partial_ms = 0, 0.0, None
    begun = clock.now()
    ends_s = len(pcm) / BYTES_PER_MS / 1000
    while given < len(pcm):
        frames = int((clock.now() - begun) / FRAME_S + 1e-6)
        there = frames * FRAME_BYTES
        if there - given < batch and there < len(pcm):
            clock.sleep(begun + (frames + 1) * FRAME_S - clock.now())
            continue
        chunk = pcm[given : min(there, given + SLICE_BYTES)]
        given += len(chunk)
        started = clock.now()
        text = run.accept(resampler.feed(chunk) + (resampler.finish() if given == len(pcm) else b""))
        busy_s += clock.now() - started
        if text and partial_ms is None:
            partial_ms = (clock.now() - begun) * 1000 - LEAD_MS
    started = clock.now()
    transcript = run.finish()
    ended = clock.now()
    return Heard(transcript.text, partial_ms, (ended - begun - ends_s) * 1000, busy_s + ended - started)


def count_words(said: str, heard: str) -> tuple[int, int, int]:
    """Words right, in their order; words said; words heard beyond those. Digits count as words, signs as nothing."""
    expected, found = plain_words(said), plain_words(heard)
    right = _common(expected, found)
    return right, len(expected), len(found) - right


def plain_words(text: str) -> list[str]:
    """Lower case, without signs, digits one by one as words."""
    spelled = re.sub(r"[0-9]", lambda digit: f" {DIGITS[int(digit.group())]} ", text.lower())
    return re.findall(r"[a-z']+", spelled)


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest row of words that both have in this order."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = row[:]
        for at, other in enumerate(second, start=1):
            row[at] = before[at - 1] + 1 if word == other else max(before[at], row[at - 1])
    return row[-1]
