"""Whose turn it is; said by the turn policy, which lives where the caller's audio is (asr)."""

from __future__ import annotations

from schemas.base import Event, NonNegative


class TurnStarted(Event, frozen=True, kw_only=True, tag="turn.started.v1"):
    """The caller began turn ``turn`` (from 1; turn 0 is the agent's greeting)."""

    identity = ("turn",)

    turn: NonNegative
    media_time_ms: NonNegative = 0
    why: str = "speech"


class TurnEnded(Event, frozen=True, kw_only=True, tag="turn.ended.v1"):
    """The caller is done and the agent answers.

    Attributes:
        why: ``silence``, ``semantic`` (the turn model said that the caller is done), ``dtmf``, ``monologue``,
            ``timeout`` (the engine failed), ``unheard`` (no engine is left that could transcribe it).
        text: everything the caller said in this turn; empty for a turn of keys.
        digits: keys pressed in this turn.
        speech_end_ms: last voiced sample (or last key), caller's media time: latency starts here.
        end_of_turn_delay_ms: last voiced sample to this decision.
    """

    identity = ("turn",)

    turn: NonNegative
    why: str
    text: str = ""
    digits: str = ""
    confidence: float = 1.0
    speech_start_ms: NonNegative = 0
    speech_end_ms: NonNegative = 0
    transcription_delay_ms: float = 0.0
    end_of_turn_delay_ms: float = 0.0


class TurnInterrupted(Event, frozen=True, kw_only=True, tag="turn.interrupted.v1"):
    """The caller spoke over the agent and the agent stops. Work on ``utterance_id`` is void in every stage."""

    identity = ("utterance_id",)

    turn: NonNegative
    utterance_id: NonNegative
    why: str = "speech"
    media_time_ms: NonNegative = 0
    speech_start_ms: NonNegative = 0


class TurnResumed(Event, frozen=True, kw_only=True, tag="turn.resumed.v1"):
    """An interruption that was none: the agent's speech goes on from the sample it paused at.

    ``why``: ``noise`` (no words in it), ``backchannel``, ``silence`` (no words within the time for them). What began it
    was voiced from ``speech_start_ms`` on.
    """

    identity = ("utterance_id", "media_time_ms")

    turn: NonNegative
    utterance_id: NonNegative
    media_time_ms: NonNegative = 0
    why: str = ""
    speech_start_ms: NonNegative = 0


class TurnAway(Event, frozen=True, kw_only=True, tag="turn.away.v1"):
    """It is the caller's turn and nothing comes: the agent asks, or says goodbye.

    ``number`` counts these events in the call. ``last``: enough was asked; the agent says goodbye and hangs up.
    ``silent_ms``: how long nobody has spoken.
    """

    identity = ("number",)

    turn: NonNegative
    number: NonNegative
    last: bool = False
    media_time_ms: NonNegative = 0
    silent_ms: NonNegative = 0


class TurnMeasured(Event, frozen=True, kw_only=True, tag="turn.measured.v1"):
    """How long each step of a turn took, said once the caller hears the answer. None: there was no such step.

    The clock starts at the caller's last voiced sample and ends at the first audible sample sent (field names of
    LiveKit's ``MetricsReport``). A filler is counted apart: ``e2e_latency_ms`` ends where the answer itself begins.

    Attributes:
        end_of_turn_delay_ms: last voiced sample to ``turn.ended``.
        transcription_delay_ms: last voiced sample to the last ``asr.final``.
        llm_node_ttft_ms, llm_node_ttfs_ms: ``turn.ended`` received to first token, to first sentence.
        tts_node_ttfb_ms: first sentence of the answer received to its first audio.
        playback_latency_ms: that audio sent to the bus until the edge sent it as RTP.
        e2e_latency_ms: last voiced sample to the first audible sample of the answer.
        filler_latency_ms: last voiced sample to the first audible sample of the filler.
        barge_in_ms: where this turn interrupted the agent: first voiced sample to the end of the last agent packet.
        bus_hop_ms: by subject template, said by the sender until received.
        queue_wait_ms: by stage, received until work on it began.
        preemptive: ``hit``, ``miss`` or empty: whether the answer had been prepared on a partial.
    """

    identity = ("turn",)

    turn: NonNegative
    end_of_turn_delay_ms: float | None = None
    transcription_delay_ms: float | None = None
    llm_node_ttft_ms: float | None = None
    llm_node_ttfs_ms: float | None = None
    tts_node_ttfb_ms: float | None = None
    playback_latency_ms: float | None = None
    e2e_latency_ms: float | None = None
    filler_latency_ms: float | None = None
    barge_in_ms: float | None = None
    bus_hop_ms: dict[str, float] = {}
    queue_wait_ms: dict[str, float] = {}
    preemptive: str = ""


LATENCIES = tuple(
    name.removesuffix("_ms")
    for name in TurnMeasured.__struct_fields__
    if name.endswith("_ms") and name not in ("bus_hop_ms", "queue_wait_ms")
)
"""The latencies of a turn that are one number each, by the names that the field uses."""
