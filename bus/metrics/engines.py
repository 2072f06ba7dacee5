"""Engines: whether they are used, how long they take, what they cost, and what callers get where none is left."""

from __future__ import annotations

from bus.metrics.registry import ASR, ENGINE, LLM, OWN_STAGE, STAGE, TTS, WORKERS, Label, counter, gauge, histogram
from schemas.failure import FAILURES

ENGINE_BUCKETS_S = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 5.0, 10.0, 20.0)
OK = "ok"
"""Result of a tool that worked."""

BREAKER_STATE = gauge(
    "callbus_engine_breaker_state",
    "Whether an engine is used: 0 closed (yes), 1 half-open (one run tries it), 2 open (it is left alone); only where "
    "a stage has fallbacks",
    OWN_STAGE,
    ENGINE,
    by=WORKERS,
)
ENGINE_ERRORS = counter(
    "callbus_engine_errors_total",
    "Tries of an engine that came to nothing",
    OWN_STAGE,
    ENGINE,
    Label("why", ("failed", "timeout", "empty", "cut")),
    by=WORKERS,
)
ENGINE_FAILOVERS = counter(
    "callbus_engine_failovers_total", "Another engine went on in place of this one", OWN_STAGE, ENGINE, by=WORKERS
)
ENGINE_HEDGES = counter(
    "callbus_engine_hedges_total",
    "Two engines were asked at once; who was first",
    OWN_STAGE,
    Label("result", ("primary", "hedge")),
    by=WORKERS,
)
DEGRADED_TOTAL = counter(
    "callbus_degraded_total",
    "What callers got where a stage had no engine left: an apology, the offer of a person, a transfer, a menu of keys, "
    "a goodbye, a recorded phrase; or a sentence is missing",
    STAGE,
    Label("what", ("apology", "offer", "transfer", "menu", "goodbye", "recorded", "missing")),
    by=(LLM, TTS),
)
ASR_SECONDS = histogram(
    "callbus_asr_seconds",
    "Last voiced sample of the caller to the final transcript, by the engine that heard it",
    ENGINE,
    buckets=ENGINE_BUCKETS_S,
    by=(ASR,),
)
LLM_SECONDS = histogram(
    "callbus_llm_seconds",
    "The turn's end received, or the engine asked where that was later, until the answer was whole, tools included",
    ENGINE,
    buckets=ENGINE_BUCKETS_S,
    by=(LLM,),
)
TTS_SECONDS = histogram(
    "callbus_tts_seconds",
    "An engine asked for a sentence until its last audio, without the wait for room at the edge",
    ENGINE,
    buckets=ENGINE_BUCKETS_S,
    by=(TTS,),
)
TOOL_SECONDS = histogram(
    "callbus_tool_seconds",
    "A tool asked until it returned; `result`: ok, or a code of the failure table",
    Label("result", (OK, *FAILURES)),
    buckets=ENGINE_BUCKETS_S,
    by=(LLM,),
)
LLM_TOKENS = counter(
    "callbus_llm_tokens_total",
    "Tokens that an engine said it read (input) and wrote (output); an engine that does not say so is not here",
    ENGINE,
    Label("direction", ("input", "output")),
    by=(LLM,),
)


def count_degraded(stage: str, what: str) -> None:
    """A caller got ``what`` because ``stage`` had no engine left."""
    DEGRADED_TOTAL.inc(stage=stage, what=what)


class EngineFigures:
    """What is counted of one stage's engines. ``engine``: its name in the settings."""

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def state(self, engine: str, state: int) -> None:
        """Its breaker is in this state from now on."""
        BREAKER_STATE.set(state, stage=self._stage, engine=engine)

    def error(self, engine: str, why: str) -> None:
        """A try with it came to nothing."""
        ENGINE_ERRORS.inc(stage=self._stage, engine=engine, why=why)

    def failover(self, engine: str) -> None:
        """Another one went on in its place."""
        ENGINE_FAILOVERS.inc(stage=self._stage, engine=engine)

    def hedge(self, result: str) -> None:
        """Two were asked at once."""
        ENGINE_HEDGES.inc(stage=self._stage, result=result)


def count_tokens(engine: str, read: int | None, written: int | None) -> None:
    """What an answer of a model took; None: the engine does not say."""
    for direction, tokens in (("input", read), ("output", written)):
        if tokens:
            LLM_TOKENS.inc(tokens, engine=engine, direction=direction)
