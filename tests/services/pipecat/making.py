"""Settings for services of pipecat."""

from __future__ import annotations

import json
from typing import Any

from config.engine_sections import PipecatSection
from config.settings import AsrSection, Settings

OWN = "tests.services.pipecat.own"
OPENAI_STT = "pipecat.services.openai.stt:OpenAISTTService"
OPENAI_TTS = "pipecat.services.openai.tts:OpenAITTSService"
GROQ_LLM = "pipecat.services.groq.llm:GroqLLMService"
OPENAI_LLM = "pipecat.services.openai.llm:OpenAILLMService"
CARTESIA_STT = "pipecat.services.cartesia.stt:CartesiaSTTService"
CARTESIA_TTS = "pipecat.services.cartesia.tts:CartesiaTTSService"
DEEPGRAM_STT = "pipecat.services.deepgram.stt:DeepgramSTTService"
KEY = "a-key-of-the-tests"
RATE_HZ = 16_000


def settings_for(
    kind: str, service: str, arguments: dict[str, Any], *, deadline_ms: int = 3000, **more: Any
) -> Settings:
    """All settings, with this service for a stage."""
    section = PipecatSection(**{kind: service, f"{kind}_arguments": json.dumps(arguments), **more})
    return Settings(pipecat=section, asr=AsrSection(deadline_ms=deadline_ms))
