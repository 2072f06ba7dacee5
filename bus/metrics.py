"""What a process has measured, for Prometheus: the latencies of a turn under the field's names, and what is counted.

No identifier is ever a label: labels are subject templates, stages, engines of the settings, and reasons out of the
short lists below, so that the number of series does not grow with the number of calls. The page is served over HTTP
where ``[metrics] port`` is set; nothing is bound else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from bus.logs import get_logger
from config.settings import MetricsSection
from schemas.turn import TurnMeasured

log = get_logger(__name__)

REGISTRY = CollectorRegistry()
"""Of this process; its memory and processor time stand in it, too."""
ProcessCollector(registry=REGISTRY)

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

INTERRUPTION_REASONS = ("speech", "words", "dtmf")
FALSE_INTERRUPTION_REASONS = ("noise", "backchannel", "silence")
PREEMPTIVE_RESULTS = ("hit", "miss")
STAGES = ("edge", "asr", "llm", "tts")
ENGINE_ERRORS_WHY = ("failed", "timeout", "empty", "cut")
HEDGE_RESULTS = ("primary", "hedge")
DEGRADED = ("apology", "offer", "transfer", "menu", "goodbye", "recorded", "missing")
OTHER = "other"
"""Label of a reason that is in none of the lists."""

TURN_LATENCIES = {
    name: Histogram(
        f"callbus_turn_{name}_seconds",
        text,
        buckets=BARGE_IN_BUCKETS_S if name == "barge_in" else TURN_BUCKETS_S,
        registry=REGISTRY,
    )
    for name, text in TURN_FIELDS.items()
}
BUS_HOP = Histogram(
    "callbus_bus_hop_seconds",
    "An event said by its sender until received, by subject template; of several in a turn the slowest",
    ["subject"],
    buckets=BUS_BUCKETS_S,
    registry=REGISTRY,
)
QUEUE_WAIT = Histogram(
    "callbus_queue_wait_seconds",
    "Work received by a stage until begun",
    ["stage"],
    buckets=BUS_BUCKETS_S,
    registry=REGISTRY,
)
INTERRUPTIONS = Counter("callbus_interruptions", "The caller made the agent stop", ["why"], registry=REGISTRY)
FALSE_INTERRUPTIONS = Counter(
    "callbus_false_interruptions", "The agent was held and went on", ["why"], registry=REGISTRY
)
BACKCHANNELS = Counter("callbus_backchannels", "The caller only said that he is listening", registry=REGISTRY)
PREEMPTIVE = Counter(
    "callbus_preemptive", "Answers that were prepared before the turn's end", ["result"], registry=REGISTRY
)
TURNS_STUCK = Counter("callbus_turns_stuck", "A stage gave no sign within its deadline", ["stage"], registry=REGISTRY)
AWAY = Counter("callbus_away", "The agent asked a silent caller, or said goodbye to one", registry=REGISTRY)
BREAKER_STATE = Gauge(
    "callbus_engine_breaker_state",
    "Whether an engine is used: 0 closed (yes), 1 half-open (one run tries it), 2 open (it is left alone)",
    ["stage", "engine"],
    registry=REGISTRY,
)
ENGINE_ERRORS = Counter(
    "callbus_engine_errors", "Tries of an engine that came to nothing", ["stage", "engine", "why"], registry=REGISTRY
)
ENGINE_FAILOVERS = Counter(
    "callbus_engine_failovers", "Another engine went on in place of this one", ["stage", "engine"], registry=REGISTRY
)
ENGINE_HEDGES = Counter(
    "callbus_engine_hedges", "Two engines were asked at once; who was first", ["stage", "result"], registry=REGISTRY
)
DEGRADED_TOTAL = Counter(
    "callbus_degraded", "What callers got where a stage had no engine left", ["stage", "what"], registry=REGISTRY
)


def observe_measured(event: TurnMeasured) -> None:
    """Count a turn that was measured: every latency that it has, and whether its answer had been prepared."""
    for name, histogram in TURN_LATENCIES.items():
        value_ms: float | None = getattr(event, f"{name}_ms")
        if value_ms is not None:
            histogram.observe(value_ms / 1000)
    for subject, hop_ms in event.bus_hop_ms.items():
        BUS_HOP.labels(subject=subject if subject.startswith("call.*.*.") else OTHER).observe(hop_ms / 1000)
    for stage, wait_ms in event.queue_wait_ms.items():
        QUEUE_WAIT.labels(stage=_one_of(stage, STAGES)).observe(wait_ms / 1000)
    if event.preemptive:
        PREEMPTIVE.labels(result=_one_of(event.preemptive, PREEMPTIVE_RESULTS)).inc()


def count_interruption(why: str) -> None:
    """The caller made the agent stop; ``why`` as in ``turn.interrupted``."""
    INTERRUPTIONS.labels(why=_one_of(why, INTERRUPTION_REASONS)).inc()


def count_false_interruption(why: str) -> None:
    """The agent was held and goes on; ``why`` as in ``turn.resumed``. A backchannel is counted as one, too."""
    FALSE_INTERRUPTIONS.labels(why=_one_of(why, FALSE_INTERRUPTION_REASONS)).inc()
    if why == "backchannel":
        count_backchannel()


def count_backchannel() -> None:
    """The caller said a backchannel that did not even hold the agent."""
    BACKCHANNELS.inc()


def count_stuck(stage: str) -> None:
    """A turn is stuck at ``stage``."""
    TURNS_STUCK.labels(stage=_one_of(stage, STAGES)).inc()


def count_away() -> None:
    """A ``turn.away`` was said."""
    AWAY.inc()


def count_degraded(stage: str, what: str) -> None:
    """A caller got ``what`` because ``stage`` had no engine left; one of :data:`DEGRADED`."""
    DEGRADED_TOTAL.labels(stage=_one_of(stage, STAGES), what=_one_of(what, DEGRADED)).inc()


class EngineFigures:
    """What is counted of one stage's engines. ``engine``: its name in the settings."""

    def __init__(self, stage: str) -> None:
        self._stage = _one_of(stage, STAGES)

    def state(self, engine: str, state: int) -> None:
        """Its breaker is in this state from now on."""
        BREAKER_STATE.labels(stage=self._stage, engine=engine).set(state)

    def error(self, engine: str, why: str) -> None:
        """A try with it came to nothing."""
        ENGINE_ERRORS.labels(stage=self._stage, engine=engine, why=_one_of(why, ENGINE_ERRORS_WHY)).inc()

    def failover(self, engine: str) -> None:
        """Another one went on in its place."""
        ENGINE_FAILOVERS.labels(stage=self._stage, engine=engine).inc()

    def hedge(self, result: str) -> None:
        """Two were asked at once."""
        ENGINE_HEDGES.labels(stage=self._stage, result=_one_of(result, HEDGE_RESULTS)).inc()


def serve(section: MetricsSection) -> Callable[[], None]:
    """Serve the page of this process where a port is set; what is returned ends that.

    A port that is taken is a warning and no reason to stop: the calls matter more than their figures.
    """
    if not section.port:
        return lambda: None
    try:
        server, thread = start_http_server(section.port, section.host, registry=REGISTRY)
    except OSError as error:
        log.warning(
            "metrics_unavailable",
            message=f"no metrics on {section.host}:{section.port}: {error.strerror}; each process on a machine needs "
            "its own CALLBUS_METRICS__PORT (callbus up counts up from the first)",
        )
        return lambda: None
    log.info("metrics", message=f"metrics on http://{section.host}:{section.port}/metrics")

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close


def _one_of(value: str, allowed: Collection[str]) -> str:
    return value if value in allowed else OTHER
