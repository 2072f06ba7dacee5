"""Every setting of callbus, one row each: the field's name, type and default, and its help in ``Meta``.

A section of ``app.ini`` is a struct here. ``config.load`` validates against these rows, ``callbus config show`` and
``docs/configuration.md`` are made from them. Units stand in the names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from config.engine_sections import (
    ElevenlabsSection,
    FasterWhisperSection,
    KokoroSection,
    LlamaCppSection,
    ModelsSection,
    OllamaSection,
    OpenaiSection,
    PipecatSection,
    PiperSection,
    VoskSection,
)
from config.nats_section import NatsSection
from config.observability_sections import LogSection, MetricsSection, TracingSection
from config.section import Count, Milliseconds, Port, Section

__all__ = [
    "Count",
    "LogSection",
    "MetricsSection",
    "Milliseconds",
    "NatsSection",
    "Port",
    "Section",
    "Settings",
    "TracingSection",
]


class StreamsSection(Section, frozen=True, kw_only=True):
    """[streams]: sizes and ages of what JetStream keeps; applied by `callbus provision`."""

    replicas: Annotated[int, Meta(ge=1, le=5, description="Copies of each stream: 1 alone, 3 in a cluster")] = 1
    calls_max_age_h: Annotated[Count, Meta(description="Hours that a call's events and audio are kept")] = 72
    calls_max_bytes: Annotated[int, Meta(ge=1_048_576, description="Size limit of the stream CALLS, bytes")] = (
        10_737_418_240
    )
    history_max_age_d: Annotated[Count, Meta(description="Days that a call's events without audio are kept")] = 30
    context_ttl_min: Annotated[Count, Meta(description="Minutes a conversation is kept after its last word")] = 30


class EdgeSection(Section, frozen=True, kw_only=True):
    """[edge]: SIP and RTP."""

    host: Annotated[str, Meta(description="Address to listen on for SIP and RTP")] = "0.0.0.0"
    advertised_host: Annotated[
        str, Meta(description="Address written into Contact and SDP; empty: the one that reaches the caller")
    ] = ""
    sip_port: Annotated[Port, Meta(description="UDP and TCP port for SIP; 0: any free one")] = 5060
    sip_tcp: Annotated[bool, Meta(description="Listen on TCP too")] = True
    rtp_port_min: Annotated[Port, Meta(description="First port of the RTP range; 0: any free ports")] = 10000
    rtp_port_max: Annotated[Port, Meta(description="Last port of the RTP range")] = 19999
    port_drain_ms: Annotated[Milliseconds, Meta(description="Rest of an RTP port after a call, before reuse")] = 5000
    max_calls: Annotated[Count, Meta(description="Calls at once; one more is refused with 503")] = 300
    max_calls_per_caller: Annotated[
        Count, Meta(description="Calls at once of one caller; one more is refused with 486; 0: no such limit")
    ] = 0
    retry_after_s: Annotated[int, Meta(ge=1, le=3600, description="Retry-After of a 503")] = 5
    required_stages: Annotated[
        str, Meta(description="Stages that need a worker with a free slot, or the call is refused with 503")
    ] = "asr,llm,tts"
    drain_ms: Annotated[
        Milliseconds,
        Meta(description="Time that running calls have to end at a stop; 0: that of [ownership] drain_ms"),
    ] = 0
    ring_ms: Annotated[Milliseconds, Meta(description="Answer after ringing this long")] = 0
    transfer_timeout_ms: Annotated[
        Milliseconds, Meta(description="A transfer of which the caller's telephone says nothing for so long has failed")
    ] = 60000
    media_timeout_ms: Annotated[
        Milliseconds, Meta(description="End a call after this long without RTP; not while it is on hold; 0: never")
    ] = 30000
    replay_ring_ms: Annotated[Milliseconds, Meta(description="Caller audio kept for a successor to ask for")] = 30000
    playout_limit_ms: Annotated[Milliseconds, Meta(description="Most agent audio queued per call")] = 60000
    prefill_frames: Annotated[
        int, Meta(ge=0, le=10, description="Frames of an utterance waited for before it starts")
    ] = 1
    reorder_wait_ms: Annotated[
        Milliseconds, Meta(description="How long a packet that came early waits for the ones before it")
    ] = 40
    niceness: Annotated[
        int,
        Meta(ge=-20, le=19, description="Priority wanted of the system: -20 first, 19 last; as far as it is allowed"),
    ] = -10
    realtime: Annotated[
        bool, Meta(description="Run before everything else (SCHED_RR) where the system allows it, else by niceness")
    ] = False


class AsrSection(Section, frozen=True, kw_only=True):
    """[asr]: speech to text."""

    engine: Annotated[str, Meta(description="Name of an engine, or module:Class of your own")] = "pocketsphinx"
    attempt_ms: Annotated[
        Milliseconds,
        Meta(
            description="Deadline of one engine's transcript, and of its progress, while another engine is left to ask"
        ),
    ] = 800
    fallbacks: Annotated[
        str, Meta(description="Engines that take over where the first one fails, in order, separated by commas")
    ] = ""
    vad: Annotated[str, Meta(description="Voice activity detector, or module:Class of your own")] = "silero"
    slots: Annotated[Count, Meta(description="Calls that one worker takes")] = 50
    turn_model: Annotated[
        str, Meta(description="Model that hears whether a caller is done, or module:Class of your own")
    ] = "smart_turn"
    language: Annotated[str, Meta(description="Language of the caller")] = "en"
    deadline_ms: Annotated[Milliseconds, Meta(description="Deadline of a final transcript after end of speech")] = 3000


class TurnSection(Section, frozen=True, kw_only=True):
    """[turn]: when the caller is done, and when the agent must stop."""

    vad_confidence: Annotated[float, Meta(ge=0.0, le=1.0, description="Speech probability that counts as speech")] = 0.7
    vad_start_ms: Annotated[Milliseconds, Meta(description="Speech this long starts a turn")] = 200
    vad_stop_ms: Annotated[Milliseconds, Meta(description="Silence this long ends speech")] = 200
    endpointing: Annotated[
        Literal["semantic", "fixed"],
        Meta(description="What says that the caller is done: the turn model and silence, or silence alone"),
    ] = "semantic"
    endpointing_fixed_ms: Annotated[Milliseconds, Meta(description="fixed: silence after which the caller is done")] = (
        500
    )
    endpointing_min_ms: Annotated[
        Milliseconds, Meta(description="semantic: silence after which the caller is done if the model is sure of it")
    ] = 300
    endpointing_max_ms: Annotated[
        Milliseconds, Meta(description="Silence after which the caller is done in any case")
    ] = 3000
    interruption: Annotated[
        Literal["pause", "confirm", "off"],
        Meta(
            description="Speech over the agent: pause it at once and then decide, let it speak until that is decided, "
            "or never stop it"
        ),
    ] = "pause"
    interruption_min_ms: Annotated[Milliseconds, Meta(description="Speech this long over the agent interrupts it")] = (
        500
    )
    interruption_min_words: Annotated[
        int, Meta(ge=1, le=20, description="So many words over the agent interrupt it")
    ] = 2
    false_interruption_ms: Annotated[
        Milliseconds, Meta(description="A paused agent goes on after this long without words")
    ] = 2000
    backchannels: Annotated[
        str,
        Meta(description="More words that only say 'I am listening', separated by commas, beside the language's own"),
    ] = ""
    backchannel_boundary_ms: Annotated[
        Milliseconds, Meta(description="When the agent has less than this left to say, such a word is an answer")
    ] = 1000
    protected_opening_ms: Annotated[
        Milliseconds, Meta(description="Nothing interrupts the agent's first words for this long; 0: not protected")
    ] = 0
    echo_dbfs: Annotated[
        float,
        Meta(ge=-96.0, le=0.0, description="While the agent speaks, sound below this level is its echo; -96: no guard"),
    ] = -45.0
    echo_tail_ms: Annotated[
        Milliseconds, Meta(description="How long after the agent's last sample its echo may still come")
    ] = 300
    preflight_ms: Annotated[
        Milliseconds, Meta(description="Prepare an answer on words that stand still for this long; 0: never")
    ] = 200
    monologue_limit_ms: Annotated[
        Milliseconds, Meta(description="A caller's turn is answered after this long without an end; 0: no limit")
    ] = 60_000
    away_ms: Annotated[
        Milliseconds, Meta(description="Ask whether the caller is still there after this long in silence; 0: never")
    ] = 15_000
    away_prompts: Annotated[
        int, Meta(ge=0, le=10, description="How often to ask before the agent says goodbye and hangs up")
    ] = 2
    dtmf_timeout_ms: Annotated[Milliseconds, Meta(description="Pause after a key that ends a turn of keys")] = 1500
    dtmf_terminator: Annotated[
        str, Meta(pattern="^[0-9*#A-D]?$", description="Key that ends a turn of keys; empty: none does")
    ] = "#"
    stuck_llm_ms: Annotated[
        Milliseconds, Meta(description="The llm stage counts as stuck this long after a turn's end without a sentence")
    ] = 12_000
    stuck_tts_ms: Annotated[
        Milliseconds, Meta(description="The tts stage counts as stuck this long after a sentence without audio")
    ] = 5000
    stuck_playout_ms: Annotated[
        Milliseconds, Meta(description="The edge counts as stuck this long after the first audio without playout")
    ] = 3000


class LlmSection(Section, frozen=True, kw_only=True):
    """[llm]: the conversation."""

    engine: Annotated[str, Meta(description="Name of an engine, or module:Class of your own")] = "scripted"
    attempt_ms: Annotated[
        Milliseconds, Meta(description="Deadline of one engine's first sentence while another engine is left to ask")
    ] = 2000
    fallbacks: Annotated[
        str, Meta(description="Engines that take over where the first one fails, in order, separated by commas")
    ] = ""
    hedge_ms: Annotated[
        Milliseconds,
        Meta(description="Ask the next engine as well after so long without output, and take the first; 0: never"),
    ] = 0
    agent: Annotated[str, Meta(description="Agent to run: a name in config/agents, or a path")] = "bank"
    slots: Annotated[Count, Meta(description="Calls that one worker takes")] = 200
    deadline_ms: Annotated[Milliseconds, Meta(description="Deadline of the first sentence of an answer")] = 10000
    preemptive: Annotated[
        bool, Meta(description="Prepare answers on words that stand still, before the caller's turn has ended")
    ] = True
    filler_ms: Annotated[
        Milliseconds, Meta(description="Say a filler when an answer or a tool takes longer than this; 0: never")
    ] = 1500
    fillers: Annotated[str, Meta(description="Fillers in turn, separated by '|'; the agent file's own win")] = (
        "Let me look that up. | One moment, please."
    )
    away_text: Annotated[
        str, Meta(description="What the agent asks a caller who says nothing; the agent file's own wins")
    ] = "Are you still there?"
    away_goodbye: Annotated[
        str, Meta(description="What the agent says before it hangs up on a silent caller; the agent file's own wins")
    ] = "I can not hear you any more. Goodbye."
    database: Annotated[str, Meta(description="SQLite file of the example bank; empty: made anew in memory")] = ""


class TtsSection(Section, frozen=True, kw_only=True):
    """[tts]: text to speech."""

    engine: Annotated[str, Meta(description="Name of an engine, or module:Class of your own")] = "espeak"
    attempt_ms: Annotated[
        Milliseconds, Meta(description="Deadline of one engine's first audio while another engine is left to ask")
    ] = 800
    fallbacks: Annotated[
        str, Meta(description="Engines that take over where the first one fails, in order, separated by commas")
    ] = ""
    hedge_ms: Annotated[
        Milliseconds,
        Meta(description="Ask the next engine as well after so long without output, and take the first; 0: never"),
    ] = 0
    voice: Annotated[str, Meta(description="Voice of the agent, in the engine's own naming")] = "en-us+f2"
    speed: Annotated[float, Meta(ge=0.5, le=2.0, description="Speed of speech, 1.0 is the engine's normal")] = 1.0
    shape_text: Annotated[
        bool, Meta(description="Give the engine the words that are spoken, not the numbers and signs that are written")
    ] = True
    slots: Annotated[Count, Meta(description="Calls that one worker takes")] = 100
    deadline_ms: Annotated[Milliseconds, Meta(description="Deadline of a sentence's first audio")] = 3000
    apology: Annotated[
        str,
        Meta(
            description="Said in place of an answer that the engine fails on, kept as audio from the start; empty: none"
        ),
    ] = "I am sorry, something went wrong. Please say that again."
    phrases: Annotated[
        str,
        Meta(
            description="Folder of recordings that are played where no engine is left: NAME.wav, and the texts in "
            "phrases.toml; empty: none"
        ),
    ] = ""


class FailoverSection(Section, frozen=True, kw_only=True):
    """[failover]: when an engine is left alone, and what a caller is offered where a whole stage has none left."""

    failures: Annotated[
        int, Meta(ge=1, le=100, description="Failures in a row after which an engine is left alone (its breaker opens)")
    ] = 5
    open_ms: Annotated[Milliseconds, Meta(description="Rest of an engine before it is tried again with one run")] = (
        30_000
    )
    attempts: Annotated[
        int, Meta(ge=1, le=3, description="Tries of one engine for one piece of work, before its first output")
    ] = 2
    backoff_ms: Annotated[
        Milliseconds, Meta(description="Longest pause before the second try, doubled for the third; chosen at random")
    ] = 50
    transfer_target: Annotated[
        str, Meta(description="SIP URI of a person, offered to callers where no llm engine answers; empty: no offer")
    ] = ""


class OwnershipSection(Section, frozen=True, kw_only=True):
    """[ownership]: how fast a dead worker is noticed."""

    heartbeat_ms: Annotated[Milliseconds, Meta(description="Interval of a worker's heartbeat")] = 100
    suspect_ms: Annotated[Milliseconds, Meta(description="Silence after which a worker is asked whether it lives")] = (
        250
    )
    confirm_ms: Annotated[Milliseconds, Meta(description="Time a suspect has to answer")] = 300
    drain_ms: Annotated[Milliseconds, Meta(description="Time that a worker has to end its work at a stop")] = 10000


class Settings(Section, frozen=True, kw_only=True):
    """Everything, section by section."""

    nats: NatsSection = NatsSection()
    log: LogSection = LogSection()
    metrics: MetricsSection = MetricsSection()
    tracing: TracingSection = TracingSection()
    streams: StreamsSection = StreamsSection()
    edge: EdgeSection = EdgeSection()
    asr: AsrSection = AsrSection()
    turn: TurnSection = TurnSection()
    llm: LlmSection = LlmSection()
    tts: TtsSection = TtsSection()
    failover: FailoverSection = FailoverSection()
    ownership: OwnershipSection = OwnershipSection()
    models: ModelsSection = ModelsSection()
    vosk: VoskSection = VoskSection()
    faster_whisper: FasterWhisperSection = FasterWhisperSection()
    llama_cpp: LlamaCppSection = LlamaCppSection()
    openai: OpenaiSection = OpenaiSection()
    ollama: OllamaSection = OllamaSection()
    piper: PiperSection = PiperSection()
    kokoro: KokoroSection = KokoroSection()
    elevenlabs: ElevenlabsSection = ElevenlabsSection()
    pipecat: PipecatSection = PipecatSection()
