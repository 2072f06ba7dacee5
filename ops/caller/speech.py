"""The caller's voice: texts by eSpeak NG and WAV files, as 8 kHz PCM, ready before the call is placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from config.settings import TtsSection
from ops.caller.recording import SAMPLE_RATE_HZ
from ops.caller.script import PlayFile, Say, ScriptError, Step
from services.audio.resample import Resampler, resample
from services.audio.wav import WavError, read_wav
from services.tts.engine import load_engine

CALLER_VOICE = "en-us+klatt4"
"""The eSpeak NG voice that speech recognition on telephone audio understands best."""

Sounds = Mapping[int, bytes]
"""PCM by the step's place in the script."""


async def prepare(steps: Sequence[Step], voice: str = CALLER_VOICE, speed: float = 1.0) -> Sounds:
    """PCM of every step that makes a sound, 16-bit mono at 8 kHz.

    Raises:
        ScriptError: a file can't be read.
        ConfigError: eSpeak NG is missing, or has no such voice.
    """
    sounds = {number: file_pcm(step.path) for number, step in enumerate(steps) if isinstance(step, PlayFile)}
    texts = {number: step.text for number, step in enumerate(steps) if isinstance(step, Say)}
    if not texts:
        return sounds
    engine = load_engine("espeak", TtsSection(engine="espeak", voice=voice, speed=speed))
    try:
        await engine.warm()
        for number, text in texts.items():
            resampler = Resampler(engine.capabilities.sample_rate_hz, SAMPLE_RATE_HZ)
            pcm = [resampler.feed(chunk.pcm) async for chunk in engine.open(text)]
            sounds[number] = b"".join(pcm) + resampler.finish()
    finally:
        await engine.close()
    return sounds


def file_pcm(path: Path) -> bytes:
    """Audio of a WAV file, mono at 8 kHz.

    Raises:
        ScriptError: it can't be read, or is no WAV file.
    """
    try:
        wav = read_wav(path)
    except (OSError, WavError) as error:
        raise ScriptError(f"{path} can't be played: {error}") from error
    return resample(wav.mono(), wav.sample_rate_hz, SAMPLE_RATE_HZ)
