"""The one line of the log that stands for a turn: its latencies, why it ended, whose engines took part. No content."""

from __future__ import annotations

from bus.logs import get_logger
from schemas.turn import LATENCIES, TurnMeasured
from services.asr.measuring import TurnFacts

log = get_logger(__name__)

EVENT = "turn_summary"
LATENCY_KEYS = tuple(f"{name}_ms" for name in LATENCIES)


def tell_turn(measured: TurnMeasured, facts: TurnFacts) -> None:
    """Said once, with the turn's ``turn.measured``; a latency that the turn has not is left out."""
    known = {name: round(value, 1) for name in LATENCY_KEYS if (value := getattr(measured, name)) is not None}
    answer_ms = known.get("e2e_latency_ms")
    heard = "without an answer" if answer_ms is None else f"answered after {answer_ms:.0f} ms"
    log.info(
        EVENT,
        message=f"turn {measured.turn} {heard}",
        tenant=measured.tenant,
        call_id=measured.call_id,
        turn=measured.turn,
        why=facts.why,
        interrupted_agent=facts.interrupted_agent,
        preemptive=measured.preemptive,
        **known,
        **{f"{stage}_engine": engine for stage, engine in facts.engines.items() if engine},
    )
