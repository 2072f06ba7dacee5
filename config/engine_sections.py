"""Settings of the engines, a section each, named after the engine. Only the engine that is chosen reads its own."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from config.section import Count, Milliseconds, Section

Model = Annotated[str, Meta(description="A model that `callbus models list` names, or a path")]
ApiKey = Annotated[str, Meta(description="Key of the account; empty: api_key_file, then the provider's own variable")]
ApiKeyFile = Annotated[str, Meta(description="File that holds the key, as Docker secrets are; empty: none")]
Threads = Annotated[int, Meta(ge=0, le=256, description="Threads of the model; 0: the engine's own choice")]


class ModelsSection(Section, frozen=True, kw_only=True):
    """[models]: where model files lie, and from where they are fetched."""

    folder: Annotated[str, Meta(description="Folder of the models; empty: ~/.cache/callbus/models")] = ""
    manifest: Annotated[
        str, Meta(description="File that lists models beside those of config/models.toml; its entries win; empty: none")
    ] = ""


class VoskSection(Section, frozen=True, kw_only=True):
    """[vosk]: speech recognition that streams, on the processor."""

    model: Model = "vosk-model-small-en-us-0.15"
    grammar: Annotated[
        bool, Meta(description="Listen only for the agent's phrases where it has some and the model can")
    ] = True


class FasterWhisperSection(Section, frozen=True, kw_only=True):
    """[faster_whisper]: Whisper on CTranslate2, an utterance at a time."""

    model: Model = "faster-whisper-base.en"
    device: Annotated[Literal["auto", "cpu", "cuda"], Meta(description="Where the model runs")] = "auto"
    compute_type: Annotated[
        str, Meta(description="CTranslate2's type of numbers; empty: int8 on a processor, float16 on a GPU")
    ] = ""
    threads: Threads = 0
    beam_size: Annotated[int, Meta(ge=1, le=10, description="Hypotheses that are followed at once")] = 1
    partial_ms: Annotated[
        Milliseconds, Meta(description="New audio after which the utterance is heard again for a partial; 0: none")
    ] = 800
    no_speech_threshold: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Over this probability of no speech, with unsure words, nothing was said"),
    ] = 0.6
    window_s: Annotated[int, Meta(ge=5, le=30, description="Audio heard at once; what is longer is cut at a pause")] = (
        28
    )


class LlamaCppSection(Section, frozen=True, kw_only=True):
    """[llama_cpp]: language models as GGUF files, in the worker itself."""

    model: Model = "qwen2.5-1.5b-instruct-q4_k_m.gguf"
    context_tokens: Annotated[int, Meta(ge=128, le=131_072, description="Longest prompt with its answer")] = 4096
    max_tokens: Annotated[int, Meta(ge=8, le=4096, description="Longest answer")] = 256
    temperature: Annotated[float, Meta(ge=0.0, le=2.0, description="Chance in the choice of words; 0.0: none")] = 0.2
    slots: Annotated[int, Meta(ge=1, le=64, description="Answers that are made at once, each with a context")] = 2
    threads: Threads = 0
    gpu_layers: Annotated[int, Meta(ge=-1, le=1000, description="Layers on the GPU; -1: all")] = 0
    chat_template: Annotated[
        str, Meta(description="File of a Jinja template to use in place of the model's own; empty: the model's own")
    ] = ""


class OpenaiSection(Section, frozen=True, kw_only=True):
    """[openai]: any server that speaks OpenAI's chat completions: OpenAI, Groq, vLLM, llama-server and others."""

    base_url: Annotated[str, Meta(description="Address of the interface, with its /v1")] = "https://api.openai.com/v1"
    api_key: ApiKey = ""
    api_key_file: ApiKeyFile = ""
    model: Annotated[str, Meta(description="Name of the model at that server")] = "gpt-4.1-mini"
    max_tokens: Annotated[int, Meta(ge=8, le=4096, description="Longest answer")] = 256
    temperature: Annotated[float, Meta(ge=0.0, le=2.0, description="Chance in the choice of words")] = 0.2
    connect_ms: Annotated[Milliseconds, Meta(description="Deadline of a connection to the server")] = 3000


class OllamaSection(Section, frozen=True, kw_only=True):
    """[ollama]: language models of an Ollama server."""

    url: Annotated[str, Meta(description="Address of the server")] = "http://127.0.0.1:11434"
    model: Annotated[str, Meta(description="Name of the model there")] = "qwen2.5:1.5b"
    pull: Annotated[bool, Meta(description="Have the server fetch the model at start where it lacks it")] = False
    keep_alive: Annotated[str, Meta(description="How long the server keeps the model loaded; -1: for ever")] = "30m"
    context_tokens: Annotated[int, Meta(ge=128, le=131_072, description="Longest prompt with its answer")] = 4096
    max_tokens: Annotated[int, Meta(ge=8, le=4096, description="Longest answer")] = 256
    temperature: Annotated[float, Meta(ge=0.0, le=2.0, description="Chance in the choice of words")] = 0.2
    connect_ms: Annotated[Milliseconds, Meta(description="Deadline of a connection to the server")] = 3000


class PiperSection(Section, frozen=True, kw_only=True):
    """[piper]: neural voices on the processor."""

    model: Model = "en_US-ljspeech-medium"
    speaker: Annotated[Count, Meta(description="Number of the speaker in a voice that has several")] = 0
    threads: Threads = 0


class KokoroSection(Section, frozen=True, kw_only=True):
    """[kokoro]: the Kokoro voices on onnxruntime."""

    model: Model = "kokoro-v1.0"
    voice: Annotated[str, Meta(description="Name of a voice in the model's file of voices")] = "af_heart"
    threads: Threads = 0


class ElevenlabsSection(Section, frozen=True, kw_only=True):
    """[elevenlabs]: voices of ElevenLabs, over HTTP."""

    url: Annotated[str, Meta(description="Address of the interface")] = "https://api.elevenlabs.io"
    api_key: ApiKey = ""
    api_key_file: ApiKeyFile = ""
    voice: Annotated[str, Meta(description="Id of the voice")] = "21m00Tcm4TlvDq8ikWAM"
    model: Annotated[str, Meta(description="Id of the model")] = "eleven_flash_v2_5"
    sample_rate_hz: Annotated[
        Literal[8000, 16000, 22050, 24000], Meta(description="Rate of the audio that is asked for")
    ] = 16000
    word_times: Annotated[
        bool,
        Meta(description="Ask for the times of words too: what a caller heard is known to the word"),
    ] = True
    connect_ms: Annotated[Milliseconds, Meta(description="Deadline of a connection to the server")] = 3000


class PipecatSection(Section, frozen=True, kw_only=True):
    """[pipecat]: services of pipecat's catalogue as engines; one each for the stages whose engine is `pipecat`."""

    stt: Annotated[
        str,
        Meta(description="Class of a speech-to-text service, such as pipecat.services.deepgram.stt:DeepgramSTTService"),
    ] = ""
    stt_arguments: Annotated[str, Meta(description="Its arguments as a JSON object; $NAME stands for a variable")] = (
        "{}"
    )
    llm: Annotated[
        str, Meta(description="Class of a language model service, such as pipecat.services.groq.llm:GroqLLMService")
    ] = ""
    llm_arguments: Annotated[str, Meta(description="Its arguments as a JSON object; $NAME stands for a variable")] = (
        "{}"
    )
    tts: Annotated[
        str,
        Meta(description="Class of a text-to-speech service, such as pipecat.services.cartesia.tts:CartesiaTTSService"),
    ] = ""
    tts_arguments: Annotated[str, Meta(description="Its arguments as a JSON object; $NAME stands for a variable")] = (
        "{}"
    )
    sample_rate_hz: Annotated[
        Literal[8000, 16000, 22050, 24000], Meta(description="Rate of the audio that a service is asked for")
    ] = 16000
    spare_services: Annotated[
        int, Meta(ge=0, le=64, description="Connected services that wait ready, beside those in use")
    ] = 1
    most_services: Annotated[
        int,
        Meta(ge=0, le=4096, description="Services that a worker has at once, as an account allows; 0: any number"),
    ] = 0
