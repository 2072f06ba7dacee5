"""Turns: the latencies under the field's names, who interrupted whom, and what stood still. Told by asr."""

from __future__ import annotations

from bus.metrics.registry import ASR, STAGE, Label, counter, histogram
from schemas.subjects import EVENT_BY_NAME
from schemas.turn import TurnMeasured

TURN_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
BARGE_IN_BUCKETS_S = (0.02, 0.05, 0.1, 0.15, 0.2, 0.225, 0.25, 0.275, 0.3, 0.325, 0.35, 0.4, 0.5, 0.75, 1.0, 2.0)
BUS_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

TURN_FIELDS = {
    "end_of_turn_delay": "Last voiced sample of the caller to the decision that the turn ended",
    "transcription_delay": "Last voiced sample of the caller to the last final transcript",
    "llm_node_ttft": "End of turn received by the llm stage to the first token",
    "llm_node_ttfs": "End of turn received by the llm stage to the first sentence",
    "tts_node_ttfb": "First sentence of the answer received by the tts stage to its first audio",
    "playback_latency": "First audio of the answer sent by the tts stage until the edge sent it as RTP",
    "e2e_latency": "Last voiced sample of the caller to the first audible sample of the answer; a filler is no answer",
    "filler_latency": "Last voiced sample of the caller to the first audible sample of the filler before the answer",
    "barge_in": "First voiced sample of a caller who interrupts to the end of the last agent packet",
}
"""Names of a turn's latencies, and what each is: ``callbus_turn_<name>_seconds``."""

EXEMPLARY = "e2e_latency"
"""The latency whose observations name the trace that they are of, on an OpenMetrics page."""
EVENT_TEMPLATES = tuple(f"call.*.*.{name}" for name in EVENT_BY_NAME)
EVENT_SUBJECT = Label("subject", EVENT_TEMPLATES, told="templates of the events' subjects: `call.*.*.asr.final`, ...")

TURN_LATENCIES = {
    name: histogram(
        f"callbus_turn_{name}_seconds",
        text,
        buckets=BARGE_IN_BUCKETS_S if name == "barge_in" else TURN_BUCKETS_S,
        by=(ASR,),
    )
    for name, text in TURN_FIELDS.items()
}
BUS_HOP = histogram(
    "callbus_bus_hop_seconds",
    "An event said by its sender until received; of several in a turn the slowest",
    EVENT_SUBJECT,
    buckets=BUS_BUCKETS_S,
    by=(ASR,),
)
QUEUE_WAIT = histogram(
    "callbus_queue_wait_seconds", "Work received by a stage until begun", STAGE, buckets=BUS_BUCKETS_S, by=(ASR,)
)
INTERRUPTIONS = counter(
    "callbus_interruptions_total",
    "The caller made the agent stop",
    Label("why", ("speech", "words", "dtmf")),
    by=(ASR,),
)
FALSE_INTERRUPTIONS = counter(
    "callbus_false_interruptions_total",
    "The agent was held and went on",
    Label("why", ("noise", "backchannel", "silence")),
    by=(ASR,),
)
BACKCHANNELS = counter("callbus_backchannels_total", "The caller only said that he is listening", by=(ASR,))
PREEMPTIVE = counter(
    "callbus_preemptive_total",
    "Answers that were prepared before the turn's end",
    Label("result", ("hit", "miss")),
    by=(ASR,),
)
TURNS_STUCK = counter("callbus_turns_stuck_total", "A stage gave no sign within its deadline", STAGE, by=(ASR,))
AWAY = counter("callbus_away_total", "The agent asked a silent caller, or said goodbye to one", by=(ASR,))


def observe_measured(event: TurnMeasured) -> None:
    """Count a turn that was measured: every latency that it has, and whether its answer had been prepared."""
    for name, latency in TURN_LATENCIES.items():
        value_ms: float | None = getattr(event, f"{name}_ms")
        if value_ms is not None:
            latency.observe(value_ms / 1000, {"trace_id": event.call_id} if name == EXEMPLARY else None)
    for subject, hop_ms in event.bus_hop_ms.items():
        BUS_HOP.observe(hop_ms / 1000, subject=subject)
    for stage, wait_ms in event.queue_wait_ms.items():
        QUEUE_WAIT.observe(wait_ms / 1000, stage=stage)
    if event.preemptive:
        PREEMPTIVE.inc(result=event.preemptive)


def count_interruption(why: str) -> None:
    """The caller made the agent stop; ``why`` as in ``turn.interrupted``."""
    INTERRUPTIONS.inc(why=why)


def count_false_interruption(why: str) -> None:
    """The agent was held and goes on; ``why`` as in ``turn.resumed``. A backchannel is counted as one, too."""
    FALSE_INTERRUPTIONS.inc(why=why)
    if why == "backchannel":
        count_backchannel()


def count_backchannel() -> None:
    """The caller said a backchannel that did not even hold the agent."""
    BACKCHANNELS.inc()


def count_stuck(stage: str) -> None:
    """A turn is stuck at ``stage``."""
    TURNS_STUCK.inc(stage=stage)


def count_away() -> None:
    """A ``turn.away`` was said."""
    AWAY.inc()
