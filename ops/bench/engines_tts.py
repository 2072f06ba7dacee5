"""One engine of speech synthesis: an agent's sentences, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence

from config.settings import Settings
from ops.bench.engine_figures import AGENT_SHARE, AUDIO, Figures, Start, Task
from ops.bench.results import Figure
from services.tts.engine import Engine, load_engine

TEXTS = (
    "Welcome to Example Bank.",
    "How can I help you?",
    "Please tell me the last four digits of your card, by voice or on your keypad.",
    "Thank you, Alex Morgan.",
    "Your credit card was shipped on Monday.",
    "The tracking number ends in 8 8 3 1.",
    "It should arrive within five working days, and if it does not, we will send you another one at no cost.",
    "Is there anything else I can help you with?",
)
PCM_SAMPLE_BYTES = 2


async def measure(task: Task, settings: Settings) -> list[Figure]:
    """All sentences twice, and on for ``seconds``; once where somebody else's machine speaks."""
    # What a worker without an engine has loaded.
    import services.tts.worker  # noqa: F401

    before = Start.now()
    engine = load_engine(task.engine, settings.tts, settings)
    await engine.warm()
    ready = Start.now()
    try:
        figures = await speak_all(engine, task)
    finally:
        await engine.close()
    figures.loading(before, ready)
    return figures.made


async def speak_all(engine: Engine, task: Task, texts: Sequence[str] = TEXTS) -> Figures:
    """Speak with a warm engine.

    Raises:
        RuntimeError: it gave no sound.
    """
    rate_hz = engine.capabilities.sample_rate_hz
    began, cpu = time.monotonic(), time.process_time()
    rounds, speech_s, first_ms = 0, 0.0, []
    while rounds < (1 if task.remote else 2) or (not task.remote and time.monotonic() - began < task.seconds):
        for text in texts:
            first, samples = await _speak(engine, text)
            first_ms.append(first)
            speech_s += samples / rate_hz
        rounds += 1
    wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    if not speech_s:
        raise RuntimeError("the engine gave no sound")
    figures = Figures(task)
    figures.spread(AUDIO, first_ms)
    figures.speech_work(cpu_s, wall_s, speech_s, AGENT_SHARE, streams=engine.capabilities.streaming)
    return figures


async def _speak(engine: Engine, text: str) -> tuple[float, int]:
    """Milliseconds to the first sound, and how many samples there were."""
    began, first_ms, samples = time.monotonic(), 0.0, 0
    async for chunk in engine.open(text):
        if chunk.pcm and not first_ms:
            first_ms = (time.monotonic() - began) * 1000
        samples += len(chunk.pcm) // PCM_SAMPLE_BYTES
    return first_ms, samples
