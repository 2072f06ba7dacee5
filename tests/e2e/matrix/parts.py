"""The engines of the matrix: for each what this machine must have, its model or its provider, and what it can not do.

Models are the trained ones of ``CALLBUS_TEST_MODELS``, else the smallest that the real library loads, built here;
providers are servers of this process that speak their protocol.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from ops.engines import lacking
from ops.hearing import load_demonstration
from tests.e2e.matrix.bank_model import MODEL, BankOllama, BankOpenai
from tests.e2e.matrix.speech_server import SpeechServer, espeak_pcm, speech_server
from tests.fakes.elevenlabs_server import KEY, ElevenlabsServer, elevenlabs_server
from tests.services.pipecat.making import OPENAI_LLM, OPENAI_STT, OPENAI_TTS

DATA = Path(__file__).parents[2] / "data"
HEARD = "where is my credit card"
ANSWERED = "your new card will reach you within five working days"

ASR = ("pocketsphinx", "vosk", "faster_whisper", "pipecat")
LLM = ("scripted", "llama_cpp", "openai", "ollama", "pipecat")
TTS = ("espeak", "piper", "kokoro", "elevenlabs", "pipecat")
STAGES = {"asr": ASR, "llm": LLM, "tts": TTS}
"""The embedded engine of each stage first."""


class Part(NamedTuple):
    """An engine as it stands in a combination.

    Attributes:
        environment: settings that it needs.
        unclear: why nobody can judge by the audio what comes of it; empty: that can be judged.
        agent: for an engine of the llm stage: the agent that it plays, and its demonstration.
    """

    environment: dict[str, str] = {}
    unclear: str = ""
    agent: str = "short_bank"


class Servers(NamedTuple):
    """The providers, each for all calls at once."""

    openai: BankOpenai
    ollama: BankOllama
    elevenlabs: ElevenlabsServer
    speech: SpeechServer


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """All of them, for as long as they are wanted."""
    agents = ("short_bank", "tiny_bank")
    sentences = [text for name in agents for text in load_demonstration(demonstration_of(name)).say]
    async with AsyncExitStack() as stack:
        found = Servers(
            await stack.enter_async_context(BankOpenai()),
            await stack.enter_async_context(BankOllama()),
            await stack.enter_async_context(elevenlabs_server()),
            await stack.enter_async_context(speech_server(sentences)),
        )
        found.elevenlabs.speech = espeak_pcm
        yield found


def demonstration_of(agent: str) -> Path:
    """What the caller of an agent says."""
    return DATA / "demonstrations" / f"{agent}.toml"


def missing(stage: str, engine: str) -> str:
    """Why an engine can't be had on this machine; empty: it can."""
    absent = lacking(stage, engine)
    return f"{engine} is not installed: no {', '.join(absent)}" if absent else ""


def trained(name: str) -> Path | None:
    """A trained model, where there is one."""
    folder = os.environ.get("CALLBUS_TEST_MODELS", "")
    path = Path(folder, name)
    return path if folder and path.exists() else None


class Parts:
    """Makes parts, each once: building the model of one takes seconds, in which the providers do not answer."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self._folder = folder
        self._servers = servers
        self._made: dict[tuple[str, str], Part] = {}

    def of(self, combination: Iterable[str]) -> list[Part]:
        """The parts of a combination, asr, llm and tts, all of which this machine has."""
        return [self._part(*key) for key in zip(STAGES, combination, strict=True)]

    def _part(self, stage: str, engine: str) -> Part:
        key = stage, engine
        if key not in self._made:
            make: Callable[[], Part] = getattr(self, f"_{stage}_{engine}", Part)
            self._made[key] = make()
        return self._made[key]

    def _asr_vosk(self) -> Part:
        found = trained("vosk-tiny-bank-en-8k")
        if found is not None:
            return Part({"CALLBUS_VOSK__MODEL": str(found)})
        from tests.tiny_models import kaldi

        built = kaldi.build(self._folder / "vosk", HEARD)
        return Part({"CALLBUS_VOSK__MODEL": str(built)}, "the test model of vosk always hears the same words")

    def _asr_faster_whisper(self) -> Part:
        from tests.tiny_models import whisper

        built = whisper.build(self._folder / "whisper", HEARD)
        environment = {"CALLBUS_FASTER_WHISPER__MODEL": str(built), "CALLBUS_FASTER_WHISPER__THREADS": "1"}
        return Part(environment, "the test model of faster_whisper always hears the same words")

    def _asr_pipecat(self) -> Part:
        return self._pipecat("stt", OPENAI_STT, f"{self._servers.speech.url}/v1")

    def _llm_llama_cpp(self) -> Part:
        environment = {"CALLBUS_LLAMA_CPP__TEMPERATURE": "0.0", "CALLBUS_LLAMA_CPP__THREADS": "1"}
        found = trained("llm/bank-tiny-2m-q8_0.gguf")
        if found is not None:
            environment |= {"CALLBUS_LLAMA_CPP__MODEL": str(found), "CALLBUS_LLAMA_CPP__CONTEXT_TOKENS": "256"}
            return Part(environment, agent="tiny_bank")
        from tests.tiny_models import gguf

        words = [f"▁{word}" for word in f"{ANSWERED}.".split()]
        built = gguf.scripted_model(self._folder / "bank.gguf", words)
        environment |= {"CALLBUS_LLAMA_CPP__MODEL": str(built), "CALLBUS_LLAMA_CPP__CONTEXT_TOKENS": "2048"}
        return Part(environment, "the test model of llama_cpp always says the same", agent="tiny_bank")

    def _llm_openai(self) -> Part:
        url = self._servers.openai.url
        return Part(
            {"CALLBUS_OPENAI__BASE_URL": url, "CALLBUS_OPENAI__API_KEY": "none", "CALLBUS_OPENAI__MODEL": MODEL}
        )

    def _llm_ollama(self) -> Part:
        return Part({"CALLBUS_OLLAMA__URL": self._servers.ollama.url, "CALLBUS_OLLAMA__MODEL": MODEL})

    def _llm_pipecat(self) -> Part:
        return self._pipecat("llm", OPENAI_LLM, self._servers.openai.url)

    def _tts_piper(self) -> Part:
        from tests.tiny_models.piper import build_piper_voice

        built = build_piper_voice(self._folder / "piper")
        environment = {"CALLBUS_PIPER__MODEL": str(built), "CALLBUS_PIPER__THREADS": "1"}
        return Part(environment, "the test voice of piper speaks in tones")

    def _tts_kokoro(self) -> Part:
        from tests.tiny_models.kokoro import build_kokoro_model

        built = build_kokoro_model(self._folder / "kokoro")
        environment = {"CALLBUS_KOKORO__MODEL": str(built), "CALLBUS_KOKORO__THREADS": "1"}
        return Part(environment, "the test voice of kokoro speaks in tones")

    def _tts_elevenlabs(self) -> Part:
        return Part({"CALLBUS_ELEVENLABS__URL": self._servers.elevenlabs.url, "CALLBUS_ELEVENLABS__API_KEY": KEY})

    def _tts_pipecat(self) -> Part:
        return self._pipecat("tts", OPENAI_TTS, f"{self._servers.speech.url}/v1", sample_rate=24_000)

    def _pipecat(self, kind: str, service: str, url: str, **more: int) -> Part:
        name = f"CALLBUS_PIPECAT__{kind.upper()}"
        return Part({name: service, f"{name}_ARGUMENTS": json.dumps({"api_key": KEY, "base_url": url, **more})})
