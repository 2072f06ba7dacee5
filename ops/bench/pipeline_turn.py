"""The yardstick beside the turn bench: the same stub turn through a Pipecat pipeline in one process, no network.

Three processors stand for asr, llm and tts: the first ends the caller's turn after the same silence and says a fixed
text, the second answers with a fixed sentence, the third gives 200 ms of audio; all at once.
"""

from __future__ import annotations

import asyncio
import os
import time

os.environ.setdefault("LOGURU_LEVEL", "ERROR")

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    TextFrame,
    TranscriptionFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import WorkerRunner
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

SAMPLE_RATE_HZ = 8000
FRAME_MS = 20
FRAME_BYTES = SAMPLE_RATE_HZ * FRAME_MS // 1000 * 2
VOICED = b"\x00\x20" * (FRAME_BYTES // 2)
SILENT = bytes(FRAME_BYTES)
ANSWER = VOICED * 10


class StubAsr(FrameProcessor):
    """Ends the turn after ``silence_ms`` of silent frames."""

    def __init__(self, silence_ms: int) -> None:
        super().__init__()
        self._needed = silence_ms // FRAME_MS
        self._silent = 0
        self._speaking = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, InputAudioRawFrame):
            await self.push_frame(frame, direction)
            return
        if frame.audio != SILENT:
            self._speaking, self._silent = True, 0
            return
        self._silent += 1
        if self._speaking and self._silent >= self._needed:
            self._speaking = False
            await self.push_frame(TranscriptionFrame(text="hello", user_id="caller", timestamp=""))


class StubLlm(FrameProcessor):
    """Answers a transcript with one sentence."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        answered = isinstance(frame, TranscriptionFrame)
        await self.push_frame(TextFrame(text="An answer.") if answered else frame, direction)


class StubTts(FrameProcessor):
    """Speaks a sentence."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TextFrame):
            frame = OutputAudioRawFrame(audio=ANSWER, sample_rate=SAMPLE_RATE_HZ, num_channels=1)
        await self.push_frame(frame, direction)


class Sink(FrameProcessor):
    """Notes when audio comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.heard_at: asyncio.Queue[float] = asyncio.Queue()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputAudioRawFrame):
            self.heard_at.put_nowait(time.monotonic())
        await self.push_frame(frame, direction)


async def measure_pipeline(turns: int, speech_ms: int, silence_ms: int) -> list[float]:
    """Overhead of each turn in ms: last voiced frame pushed to first audio out, the endpointing silence taken off.

    Raises:
        TimeoutError: a turn had no answer in 5 s.
    """
    sink = Sink()
    worker = PipelineWorker(Pipeline([StubAsr(silence_ms), StubLlm(), StubTts(), sink]))
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        await asyncio.sleep(0.5)
        return [await _turn(worker, sink, speech_ms, silence_ms) for _ in range(turns)]
    finally:
        await worker.queue_frame(EndFrame())
        await asyncio.wait_for(running, 5)


async def _turn(worker: PipelineWorker, sink: Sink, speech_ms: int, silence_ms: int) -> float:
    start = time.monotonic()
    voiced = speech_ms // FRAME_MS
    last_voiced = start
    for number in range(voiced + silence_ms // FRAME_MS + 2):
        await asyncio.sleep(max(0.0, start + number * FRAME_MS / 1000 - time.monotonic()))
        audio = VOICED if number < voiced else SILENT
        if number == voiced - 1:
            last_voiced = time.monotonic()
        await worker.queue_frame(InputAudioRawFrame(audio=audio, sample_rate=SAMPLE_RATE_HZ, num_channels=1))
    async with asyncio.timeout(5):
        heard_at = await sink.heard_at.get()
    return (heard_at - last_voiced) * 1000 - silence_ms
