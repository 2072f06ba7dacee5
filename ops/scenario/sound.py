"""What a scenario's caller lets be heard: speech, files, coughs and other sounds without words, echo, background noise.

Everything is 16-bit little-endian mono PCM at 8,000 Hz, and the same from run to run; only eSpeak NG's samples differ
a little from time to time. Pure but for reading files and for eSpeak NG.
"""

from __future__ import annotations

import array
import math
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ops.caller.recording import SAMPLE_BYTES, SAMPLE_RATE_HZ
from ops.caller.script import Say, ScriptError
from ops.caller.speech import CALLER_VOICE, file_pcm, prepare
from ops.scenario.document import DEFAULT_LEVELS_DBFS
from ops.scenario.grammar import Phrase, parse_say
from services.audio import level
from services.audio.g711 import audioop

SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000
SPEECH_DBFS = -20.0
"""What a level is measured against where nobody has spoken yet."""
BURST_MS = 420
"""A cough lasts about so long; a longer one is several."""
BURST_GAP_MS = 90
BACKGROUND_MS = 10_000
"""Background noise repeats after this; long enough that nobody hears it."""
ECHO_DELAY_MS = 80
"""Of an acoustic echo: the caller's jitter buffer, the room, and the way back."""
ACTIVE_WINDOW_BYTES = 20 * SAMPLES_PER_MS * SAMPLE_BYTES
ACTIVE_SHARE = 0.16
"""A window counts as speech from 16 dB under the loudest on: near to ITU-T P.56, whose margin is 15.9 dB."""
FADE_MS = 15
MUMBLE_TEXT = "Mm lamoo nam oolo wamee noorla mow ama."
MUMBLE_CUTOFF_HZ = 500.0


class SoundError(ValueError):
    """A sound can't be had; the text says which and why."""


def silence(duration_ms: int) -> bytes:
    """Digital silence."""
    return bytes(duration_ms * SAMPLES_PER_MS * SAMPLE_BYTES)


async def speech(says: Sequence[Sequence[Phrase]], voice: str = CALLER_VOICE, speed: float = 1.0) -> list[bytes]:
    """What eSpeak NG makes of the phrases of each ``say`` and the pauses between them, without silence around.

    A phrase that others follow, and one that is unfinished, is spoken as by somebody who goes on.

    Raises:
        ConfigError: eSpeak NG is missing, or has no such voice.
    """
    texts = [_spoken(phrase, last=phrase is phrases[-1]) for phrases in says for phrase in phrases]
    steps = [Say(text) for text in texts if text]
    made = await prepare(steps, voice, speed)
    sounds = (made[place] for place in range(len(steps)))
    spoken = iter([trim(next(sounds)) if text else b"" for text in texts])
    return [b"".join(next(spoken) + silence(phrase.pause_ms) for phrase in phrases) for phrases in says]


def recording(path: Path) -> bytes:
    """Audio of a WAV file, without silence around it.

    Raises:
        SoundError: it can't be read.
    """
    return trim(_read(path))


def trim(pcm: bytes) -> bytes:
    """The sound from its first voiced sample to its last one; nothing where nothing is voiced."""
    first, last = level.first_voiced_sample(pcm), level.last_voiced_sample(pcm)
    if first is None or last is None:
        return b""
    return pcm[first * SAMPLE_BYTES : (last + 1) * SAMPLE_BYTES]


def cough(duration_ms: int, level_dbfs: float = DEFAULT_LEVELS_DBFS["cough_ms"], seed: int = 1) -> bytes:
    """One cough, or several: a burst of air, a hiss that dies down, and a short voiced end."""
    count = max(1, round((duration_ms + BURST_GAP_MS) / (BURST_MS + BURST_GAP_MS)))
    each_ms = (duration_ms - (count - 1) * BURST_GAP_MS) // count
    chance = random.Random(seed)
    bursts = [_cough_burst(each_ms, chance) for _ in range(count)]
    gap = [0.0] * (BURST_GAP_MS * SAMPLES_PER_MS)
    samples = bursts[0]
    for burst in bursts[1:]:
        samples = [*samples, *gap, *burst]
    return _fitted(samples, duration_ms, level_dbfs)


def noise(
    duration_ms: int, level_dbfs: float = DEFAULT_LEVELS_DBFS["noise_ms"], seed: int = 2, colour: str = "white"
) -> bytes:
    """A stretch of ``white`` or ``pink`` noise."""
    chance = random.Random(seed)
    count = duration_ms * SAMPLES_PER_MS
    samples = _pink(count, chance) if colour == "pink" else [chance.gauss(0.0, 1.0) for _ in range(count)]
    return _fitted(samples, duration_ms, level_dbfs)


def hum(duration_ms: int, level_dbfs: float = DEFAULT_LEVELS_DBFS["hum_ms"]) -> bytes:
    """A tune without words: a voice of 180 Hz with its overtones, the pitch swaying five times a second."""
    samples, phase = [], 0.0
    for number in range(duration_ms * SAMPLES_PER_MS):
        seconds = number / SAMPLE_RATE_HZ
        phase += 2 * math.pi * (180.0 + 6.0 * math.sin(2 * math.pi * 5.0 * seconds)) / SAMPLE_RATE_HZ
        samples.append(sum(math.sin(phase * overtone) / overtone**2 for overtone in range(1, 7)))
    return _fitted(_faded(samples), duration_ms, level_dbfs)


async def mumble(
    duration_ms: int, level_dbfs: float = DEFAULT_LEVELS_DBFS["mumble_ms"], voice: str = CALLER_VOICE
) -> bytes:
    """A voice in which no word can be made out: speech of soft sounds, and only what is below 500 Hz of it.

    Raises:
        ConfigError: eSpeak NG is missing, or has no such voice.
    """
    (spoken,) = await speech([parse_say(MUMBLE_TEXT)], voice)
    wanted = duration_ms * SAMPLES_PER_MS
    samples = [float(value) for value in _values(spoken)]
    samples = (samples * (wanted // max(1, len(samples)) + 1))[:wanted]
    for _ in range(2):
        samples = _low_pass(samples, MUMBLE_CUTOFF_HZ)
    return _fitted(_faded(samples), duration_ms, level_dbfs)


def active_rms(sounds: Iterable[bytes]) -> float:
    """Root mean square of what is speech in the sounds, pauses left out; 0 where there is none."""
    values = [
        level.rms(pcm[start : start + ACTIVE_WINDOW_BYTES])
        for pcm in sounds
        for start in range(0, len(pcm), ACTIVE_WINDOW_BYTES)
    ]
    least = ACTIVE_SHARE * max(values, default=0)
    active = [value for value in values if value and value >= least]
    return math.sqrt(sum(value * value for value in active) / len(active)) if active else 0.0


def at_level(pcm: bytes, level_dbfs: float) -> bytes:
    """The sound with its active part at this level; what would be over full scale is clipped. Silence stays silence."""
    now = active_rms([pcm])
    return audioop.mul(pcm, SAMPLE_BYTES, rms_of(level_dbfs) / now) if now else pcm


def rms_of(level_dbfs: float) -> float:
    """Sample value of a level in decibels under full scale."""
    return float(level.FULL_SCALE * 10 ** (level_dbfs / 20))


class Background:
    """Noise under everything the caller sends, ``snr_db`` under the speech; it repeats, and knows where it stands."""

    def __init__(self, pcm: bytes, speech_rms: float, snr_db: float) -> None:
        """``speech_rms``: of the caller's active speech; 0: nobody speaks, and -20 dBFS is taken instead."""
        wanted = (speech_rms or rms_of(SPEECH_DBFS)) / 10 ** (snr_db / 20)
        self._pcm = audioop.mul(pcm, SAMPLE_BYTES, wanted / level.rms(pcm))
        self._at = 0

    @property
    def rms(self) -> int:
        return level.rms(self._pcm)

    def next(self, samples: int) -> bytes:
        """The next stretch."""
        size = samples * SAMPLE_BYTES
        taken = b""
        while len(taken) < size:
            piece = self._pcm[self._at : self._at + size - len(taken)]
            self._at = (self._at + len(piece)) % len(self._pcm)
            taken += piece
        return taken


def background_noise(noise_or_file: str | Path) -> bytes:
    """Noise for :class:`Background`: ``white``, ``pink``, or a WAV file.

    Raises:
        SoundError: a file that can't be read, or holds nothing.
    """
    if isinstance(noise_or_file, str):
        return noise(BACKGROUND_MS, colour=noise_or_file)
    pcm = _read(noise_or_file)
    if not level.rms(pcm):
        raise SoundError(f"{noise_or_file} is silent: it can't be a background")
    return pcm


class Echo:
    """The other side's own sound, coming back later and quieter while it is switched on."""

    def __init__(self, delay_ms: int = ECHO_DELAY_MS) -> None:
        self._delay = delay_ms * SAMPLES_PER_MS
        self._heard: dict[int, bytes] = {}
        self._loudest = 0.0
        self._square, self._windows = 0.0, 0
        self.level_dbfs: float | None = None
        """How loud it comes back, in decibels under full scale while the other side speaks; None: not at all."""

    def feed(self, ticks: int, pcm: bytes) -> None:
        """A frame of the other side, heard at ``ticks``."""
        self._heard[ticks] = pcm
        for old in [at for at in self._heard if at < ticks - self._delay * 8]:
            del self._heard[old]
        value = float(level.rms(pcm))
        self._loudest = max(self._loudest, value)
        if value and value >= ACTIVE_SHARE * self._loudest:
            self._square, self._windows = self._square + value * value, self._windows + 1

    def at(self, ticks: int, samples: int) -> bytes:
        """What comes back in the frame of ``samples`` that leaves at ``ticks``."""
        out = bytearray(samples * SAMPLE_BYTES)
        if self.level_dbfs is None or not self._windows:
            return bytes(out)
        start = ticks - self._delay
        for at, pcm in self._heard.items():
            first, last = max(at, start), min(at + len(pcm) // SAMPLE_BYTES, start + samples)
            if first < last:
                piece = pcm[(first - at) * SAMPLE_BYTES : (last - at) * SAMPLE_BYTES]
                out[(first - start) * SAMPLE_BYTES : (last - start) * SAMPLE_BYTES] = piece
        usual = math.sqrt(self._square / self._windows)
        return audioop.mul(bytes(out), SAMPLE_BYTES, min(1.0, rms_of(self.level_dbfs) / usual))


# -- shapes ------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        return file_pcm(path)
    except ScriptError as error:
        raise SoundError(str(error)) from error


def _spoken(phrase: Phrase, *, last: bool) -> str:
    # A comma is spoken with the pitch of somebody who goes on, a full stop with that of one who is done.
    return f"{phrase.text.rstrip('.,!?')}," if phrase.text and (phrase.unfinished or not last) else phrase.text


def _cough_burst(duration_ms: int, chance: random.Random) -> list[float]:
    count = duration_ms * SAMPLES_PER_MS
    attack, burst, hiss = int(count * 0.02) + 1, int(count * 0.2), int(count * 0.45)
    samples, phase = [], 0.0
    for number in range(count):
        air = chance.gauss(0.0, 1.0)
        if number < burst:
            value = min(1.0, number / attack) * air
        elif number < hiss:
            value = (0.75 - 0.45 * (number - burst) / (hiss - burst)) * air
        else:
            share = (number - hiss) / (count - hiss)
            phase += 2 * math.pi * (260.0 - 110.0 * share) / SAMPLE_RATE_HZ
            tone = sum(math.sin(phase * overtone) / overtone for overtone in range(1, 9))
            value = (1.0 - share) * (0.6 * tone + 0.25 * air)
        samples.append(value)
    return _resonant(samples, ((550.0, 120.0, 1.0), (1500.0, 250.0, 0.8), (2600.0, 500.0, 0.5)))


def _resonant(samples: Sequence[float], formants: Sequence[tuple[float, float, float]]) -> list[float]:
    """A throat: the sum of two-pole resonators of (Hz, bandwidth in Hz, share)."""
    out = [0.15 * value for value in samples]
    for centre, width, share in formants:
        radius = math.exp(-math.pi * width / SAMPLE_RATE_HZ)
        back = 2 * radius * math.cos(2 * math.pi * centre / SAMPLE_RATE_HZ)
        gain, before, before_that = (1 - radius) * share, 0.0, 0.0
        for number, value in enumerate(samples):
            now = gain * value + back * before - radius * radius * before_that
            before_that, before = before, now
            out[number] += now
    return out


def _pink(count: int, chance: random.Random) -> list[float]:
    """Noise that falls by 3 dB an octave (Paul Kellet's filter of three poles)."""
    low = middle = high = 0.0
    samples = []
    for _ in range(count):
        white = chance.gauss(0.0, 1.0)
        low = 0.99765 * low + white * 0.0990460
        middle = 0.96300 * middle + white * 0.2965164
        high = 0.57000 * high + white * 1.0526913
        samples.append(low + middle + high + white * 0.1848)
    return samples


def _low_pass(samples: Sequence[float], cutoff_hz: float) -> list[float]:
    """Second order, Butterworth (bilinear transform)."""
    slope = math.tan(math.pi * cutoff_hz / SAMPLE_RATE_HZ)
    norm = 1 / (1 + math.sqrt(2) * slope + slope * slope)
    forward = slope * slope * norm
    back, back_again = 2 * (slope * slope - 1) * norm, (1 - math.sqrt(2) * slope + slope * slope) * norm
    x1 = x2 = y1 = y2 = 0.0
    out = []
    for x0 in samples:
        y0 = forward * (x0 + 2 * x1 + x2) - back * y1 - back_again * y2
        x2, x1, y2, y1 = x1, x0, y1, y0
        out.append(y0)
    return out


def _faded(samples: Sequence[float]) -> list[float]:
    """Without a click at either end."""
    fade = max(1, min(FADE_MS * SAMPLES_PER_MS, len(samples) // 2))
    ending: Callable[[int], int] = lambda number: min(number, len(samples) - 1 - number)  # noqa: E731
    return [value * min(1.0, ending(number) / fade) for number, value in enumerate(samples)]


def _fitted(samples: Sequence[float], duration_ms: int, level_dbfs: float) -> bytes:
    """As PCM of exactly this length and this root mean square; single peaks over full scale are clipped."""
    wanted = duration_ms * SAMPLES_PER_MS
    cut = [*samples[:wanted], *([0.0] * (wanted - len(samples)))]
    power = math.sqrt(sum(value * value for value in cut) / len(cut)) if cut else 0.0
    gain = rms_of(level_dbfs) / power if power else 0.0
    return _pcm(max(-32768, min(32767, round(value * gain))) for value in cut)


def _values(pcm: bytes) -> array.array[int]:
    values = array.array("h")
    values.frombytes(pcm)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _pcm(values: Iterable[int]) -> bytes:
    samples = array.array("h", values)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
