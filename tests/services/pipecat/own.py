"""Services of one's own, as a user would write them. Imports pipecat: named in settings, never imported by tests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterimTranscriptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.services.stt_service import SegmentedSTTService, STTService
from pipecat.services.tts_service import TTSService

SECRET = "xylophone"


def tell(text: str) -> None:
    """What a careless author does."""
    logger.error(f"heard {text}")
    logger.debug(f"heard {text}")
    logging.getLogger("careless").error("heard %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception(f"about {text}")
        logging.getLogger("careless").exception("about %s", text)


class Listener(STTService):
    """Says ``text`` when the speech is over. ``how``: confirmed, quiet, hangs, errors, raises, late."""

    def __init__(self, *, text: str = SECRET, how: str = "confirmed", **rest: Any) -> None:
        super().__init__(ttfs_p99_latency=rest.pop("ttfs_p99_latency", 0.1), **rest)
        self._text, self._how = text, how

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        if self._how == "errors":
            yield ErrorFrame(f"can't understand {self._text}")
        elif self._how == "raises":
            raise ValueError(self._text)
        yield InterimTranscriptionFrame(self._text[:3], "", "")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, VADUserStoppedSpeakingFrame):
            return
        tell(self._text)
        if self._how == "confirmed":
            self.request_finalize()
            self.create_task(self._confirm())
        elif self._how == "quiet":
            for word in self._text.split():
                await self.push_frame(TranscriptionFrame(word, "", ""))

    async def _confirm(self) -> None:
        await asyncio.sleep(0.01)
        self.confirm_finalize()
        await self.push_frame(TranscriptionFrame(self._text, "", ""))


class Segments(SegmentedSTTService):
    """Transcribes a stretch at once: how long it is, in milliseconds."""

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        yield TranscriptionFrame(str(len(audio) * 1000 // (2 * self.sample_rate)), "", "")

    @property
    def wants_wav_segments(self) -> bool:
        return False


class Voice(TTSService):
    """Speaks each character as 10 ms. ``how``: fine, errors, hangs, silent, raises."""

    def __init__(self, *, how: str = "fine", **rest: Any) -> None:
        super().__init__(push_start_frame=True, push_stop_frames=True, **rest)
        self._how = how

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        tell(text)
        if self._how == "errors":
            yield ErrorFrame(f"can't say {text}")
        elif self._how == "raises":
            raise ValueError(text)
        elif self._how == "hangs" and text != "Ready.":
            await asyncio.sleep(3600)
        elif self._how != "silent":
            yield TTSAudioRawFrame(b"\0\x20" * (self.sample_rate // 100 * len(text)), self.sample_rate, 1, context_id)


class WantsSession(Voice):
    """Wants an HTTP session made for it."""

    def __init__(self, *, aiohttp_session: Any, refuses: bool = False, **rest: Any) -> None:
        super().__init__(**rest)
        if refuses:
            raise ValueError("no such voice")
        self.session = aiohttp_session


class DoesNotStart(Voice):
    """Fails where pipecat looks away."""

    async def start(self, frame: StartFrame) -> None:
        raise RuntimeError("no model in /models/voice")


class Refuses(Voice):
    """Its constructor finds fault with a key."""

    def __init__(self, *, api_key: str, **rest: Any) -> None:
        super().__init__(**rest)
        raise ValueError(f"{api_key} is no key")


class Thinker(LLMService):
    """Repeats what it is told. ``how``: fine, errors, hangs, raises."""

    def __init__(self, *, how: str = "fine", **rest: Any) -> None:
        super().__init__(**rest)
        self._how = how

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        text = str(frame.context.messages[-1]["content"])
        tell(text)
        await self.push_frame(LLMFullResponseStartFrame())
        if self._how == "errors":
            await self.push_error(f"can't answer {text}")
        elif self._how == "raises":
            raise ValueError(text)
        elif self._how == "hangs":
            await asyncio.sleep(3600)
        for word in text.split():
            await self.push_frame(LLMTextFrame(word + " "))
        await self.push_frame(LLMFullResponseEndFrame())
