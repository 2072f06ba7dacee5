"""What it costs to know when a caller speaks: one call's voice activity detection, beside pipecat's analyzer.

Ours is what the asr stage does with each frame before any recogniser: G.711 to PCM, windows with their level, Silero,
the gate. pipecat's is its ``SileroVADAnalyzer`` fed with the same frames, decoded, as its transports do. Both run the
same model file in this process, in turns, so that a busy machine is as busy for the one as for the other.
"""

from __future__ import annotations

import time

from config.settings import AsrSection, TurnSection
from ops.bench.results import Figure, Limit
from ops.caller.script import Say
from ops.caller.speech import prepare
from schemas.audio import AudioFlag, AudioFrame, Codec
from services.asr.detector import VoiceModel, load_detector
from services.asr.hearing import Hearing
from services.asr.turn.gate import Gate, VoiceBegan
from services.audio import g711
from services.packages import MissingPackageError

DEFAULT_CALLS = 1
LEAST_SECONDS = 60.0
ROUNDS = 3
FRAME_SAMPLES = 160
PAUSE_MS = 1500
SENTENCES = (
    "where is my credit card",
    "i want to check my account balance",
    "four two seven one",
    "no thank you",
    "i have lost my debit card this morning",
    "can i speak to someone",
)
LIMIT_PERCENT = 0.5


async def measure(calls: int, seconds: float) -> list[Figure]:
    """CPU of ``calls`` calls' detection one after the other, per call, over at least a minute of speech and silence.

    Raises:
        RuntimeError: the audio was not heard as the speech that it is.
        MissingPackageError: Silero or pipecat is not installed.
    """
    payloads = await _line(max(seconds, LEAST_SECONDS))
    heard_s = len(payloads) * FRAME_SAMPLES / g711.SAMPLE_RATE_HZ
    model = load_detector("silero", AsrSection())
    ours, theirs = [], []
    # The first round warms caches up.
    for _ in range(ROUNDS + 1):
        ours.append(sum(_hear(model, payloads) for _ in range(calls)) / calls)
        theirs.append(sum([await _analyze(payloads) for _ in range(calls)]) / calls)
    percent, yardstick = (min(used_s[1:]) / heard_s * 100 for used_s in (ours, theirs))
    return [
        Figure(
            bench="vad",
            name=f"core per call, {heard_s:.0f} s of speech and silence, best of {ROUNDS} rounds",
            unit="%",
            statistics={"value": percent, "n": float(len(payloads))},
            limits=(Limit(statistic="value", value=LIMIT_PERCENT),),
        ),
        Figure(
            bench="vad",
            name="pipecat's SileroVADAnalyzer on the same frames",
            unit="%",
            statistics={"value": yardstick, "ratio": yardstick / percent, "n": float(len(payloads))},
        ),
    ]


async def _line(seconds: float) -> list[bytes]:
    """A caller's line as G.711 frames: sentences, and at least as much silence between them."""
    sounds = await prepare([Say(sentence) for sentence in SENTENCES])
    pause = bytes(PAUSE_MS * g711.SAMPLE_RATE_HZ // 1000 * g711.PCM_SAMPLE_BYTES)
    once = b"".join(pause + sounds[number] for number in range(len(SENTENCES)))
    wanted = int(seconds * g711.SAMPLE_RATE_HZ)
    payload = g711.encode(once, Codec.PCMU)
    payload *= wanted // len(payload) + 1
    return [payload[at : at + FRAME_SAMPLES] for at in range(0, wanted, FRAME_SAMPLES)]


def _hear(model: VoiceModel, payloads: list[bytes]) -> float:
    """CPU seconds of this process for one call of ours."""
    settings = TurnSection()
    frames = [
        AudioFrame(Codec.PCMU, AudioFlag.NONE, 1, number, 0, number * FRAME_SAMPLES, payload)
        for number, payload in enumerate(payloads)
    ]
    started = time.process_time()
    hearing = Hearing(model.open())
    gate = Gate(settings.vad_confidence, settings.vad_start_ms, settings.vad_stop_ms)
    begun = 0
    for frame in frames:
        for window in hearing.push(frame)[1]:
            begun += isinstance(gate.hear(*window), VoiceBegan)
    used_s = time.process_time() - started
    if not begun:
        raise RuntimeError("no speech was heard in the bench's audio")
    return used_s


async def _analyze(payloads: list[bytes]) -> float:
    """CPU seconds of this process for one call of pipecat's analyzer, which works on a thread of its own."""
    try:
        from loguru import logger
        from pipecat.audio.vad.silero import SileroVADAnalyzer
        from pipecat.audio.vad.vad_analyzer import VADState
    except ImportError as error:
        raise MissingPackageError("pipecat's analyzer", "pipecat-ai", "silero") from error
    logger.disable("pipecat")
    analyzer = SileroVADAnalyzer(sample_rate=g711.SAMPLE_RATE_HZ)
    analyzer.set_sample_rate(g711.SAMPLE_RATE_HZ)
    started = time.process_time()
    states = {await analyzer.analyze_audio(g711.decode(payload, Codec.PCMU)) for payload in payloads}
    used_s = time.process_time() - started
    await analyzer.cleanup()
    if VADState.SPEAKING not in states:
        raise RuntimeError("pipecat's analyzer heard no speech in the bench's audio")
    return used_s
