"""The calls of a process as traces: what it says and hears of each goes through its stage's fold, finished spans out.

A call that is not sampled is kept back, within bounds, until it has ended, and goes out after all when any process
finds an error or a slow turn in it and says so to all (``trace.keep``). Nothing here waits or sends: spans go to
``emit``, calls that are to be kept to ``ask``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from bus.metrics.traces import count_dropped_spans, count_kept_trace
from bus.spans import (
    ROOT_MASK,
    Attributes,
    Owner,
    Span,
    StageSpans,
    root_id_of,
    span_id_of,
    trace_id_of,
    turn_id_of,
    turn_named,
)
from schemas.base import Event
from schemas.call import CallEnded, CallOffered, CallResult
from schemas.failure import Failure
from schemas.subjects import EVENT_BY_NAME, SPEAKERS
from schemas.turn import TurnMeasured

EDGE = "edge"
LINGER_S = 10.0
"""A call that is over is kept so long: others may yet find a reason to keep its trace."""
HANDED_OVER_S = 3600.0
"""The same for what was kept back of a call that went to another worker: its end is not heard here, and few calls last
longer. Where there is no room for all that is kept back, this goes first."""
CALL_LIMIT = 5000
SPAN_LIMIT = 20_000
"""Spans kept back in a process, of all calls together; beyond it the oldest call's are dropped."""

CHAIN = {
    "asr": {"call.answered", "playout.started"},
    "llm": {"call.answered", "turn.ended", "turn.interrupted", "playout.flushed"},
    "tts": {"call.answered", "llm.sentence", "llm.done", "turn.interrupted"},
}
"""Messages that have a stage do something: each is a hop, from being said until received."""
SPEAKER = {kind: SPEAKERS[name.split(".", 1)[0]] for name, kind in EVENT_BY_NAME.items()}
TEMPLATE = {kind: f"call.*.*.{name}" for name, kind in EVENT_BY_NAME.items()}


class Rules(NamedTuple):
    """Settings of ``[tracing]`` that concern calls."""

    sample_ratio: float = 1.0
    slow_turn_ms: float = 2000.0
    hops: bool = True
    content: bool = False


class Emit(Protocol):
    """Where finished spans go."""

    def __call__(self, trace_id: int, span: Span) -> None: ...


class TracedCall:
    """One call as this process knows it. ``since_us``: what ended before that was told by a predecessor."""

    __slots__ = ("epoch", "fold", "forget_at", "held", "sampled", "since_us", "trace_id")

    def __init__(self, trace_id: int, fold: StageSpans, *, sampled: bool, epoch: int, since_us: int) -> None:
        self.trace_id = trace_id
        self.fold: StageSpans | None = fold
        self.sampled = sampled
        self.epoch = epoch
        self.since_us = since_us
        self.held: list[Span] = []
        self.forget_at: float | None = None


def is_sampled(trace_id: int, ratio: float) -> bool:
    """The same answer in every process: by the random half of the id, as OpenTelemetry's own ratio sampler."""
    return (trace_id & ROOT_MASK) < round(ratio * (ROOT_MASK + 1))


class CallTraces:
    """All calls of one process.

    Args:
        service: its stage: ``edge``, ``asr``, ``llm``, ``tts``.
        fold: makes the stage's fold.
        passes: whether this process may speak now (``bus.guard``): a worker that stood still may have been replaced,
            and what it finishes then waits until it knows.
        ask: told a call id that every process is to keep.
        now: monotonic seconds.
    """

    def __init__(
        self,
        service: str,
        worker: str,
        rules: Rules,
        *,
        fold: Callable[[Owner], StageSpans],
        emit: Emit,
        passes: Callable[[], bool],
        ask: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._service = service
        self._worker = worker
        self._rules = rules
        self._make = fold
        self._emit = emit
        self._passes = passes
        self._ask = ask
        self._now = now
        self._chain = {EVENT_BY_NAME[name] for name in CHAIN.get(service, ())} if rules.hops else set[type[Event]]()
        self._calls: OrderedDict[str, TracedCall] = OrderedDict()
        self._lost_at: dict[str, int] = {}
        self._kept: OrderedDict[str, None] = OrderedDict()
        self._kept_back = 0

    @property
    def calls(self) -> int:
        """Calls in memory, those that are over and linger included."""
        return len(self._calls)

    @property
    def kept_back(self) -> int:
        """Spans in memory."""
        return self._kept_back

    def sampled(self, call_id: str) -> bool:
        """Whether the trace of a call goes out, as far as is known."""
        known = self._calls.get(call_id)
        if known is not None and known.sampled:
            return True
        return call_id in self._kept or is_sampled(trace_id_of(call_id), self._rules.sample_ratio)

    # --- what happens ------------------------------------------------------------------------------------------------

    def claimed(self, offered: CallOffered, epoch: int, takeover: bool, now_us: int) -> None:
        """This worker owns the call in its stage from now on."""
        since_us = self._lost_at.pop(offered.call_id, now_us) if takeover else 0
        call = self._begin(offered.call_id, offered.tenant, epoch, since_us)
        if call is None or call.fold is None:
            return
        call.fold.apply(offered, offered.at_us)
        if not takeover and self._chain:
            self._hop(call, offered, now_us)

    def said(self, event: Event) -> None:
        """This process records an event."""
        if isinstance(event, Failure) and event.code == "worker_lost" and event.worker != self._worker:
            self._lost_at[event.call_id] = event.at_us - event.gap_ms * 1000
        if isinstance(event, CallOffered) and self._service == EDGE:
            self._begin(event.call_id, event.tenant, event.epoch, 0)
        call = self._calls.get(event.call_id)
        if call is not None:
            self._apply(call, event, event.at_us)
        self._judge(event)

    def heard(self, event: Event, received_us: int, live: bool) -> None:
        """An event of a call came in; ``live``: as it was said, else out of the stream."""
        call = self._calls.get(event.call_id)
        if call is None or call.fold is None:
            return
        kind = type(event)
        if SPEAKER[kind] == self._service:
            if event.epoch > call.epoch:
                self.left(event.call_id)
            if event.epoch >= call.epoch:
                return  # Folded when it was said.
        elif live and kind in self._chain:
            self._hop(call, event, received_us)
        if not (isinstance(event, Failure) and event.worker == self._worker):
            self._apply(call, event, received_us if live else event.at_us)

    def annotate(self, call_id: str, turn: int, attributes: Attributes) -> None:
        """What no event holds: attributes of the span that a stage has open for a turn, where it takes any."""
        call = self._calls.get(call_id)
        annotate = getattr(call.fold, "annotate", None) if call is not None else None
        if annotate is not None:
            annotate(turn, attributes)

    def left(self, call_id: str) -> None:
        """The call went to another worker: what is open is finished there. What waited because this process may have
        been replaced is told there, too; what was kept back may yet be asked for."""
        call = self._calls.get(call_id)
        if call is None or call.fold is None:
            return
        call.fold = None
        call.forget_at = self._now() + HANDED_OVER_S
        self._calls.move_to_end(call_id, last=False)
        if call.sampled or not call.held:
            self._forget(call_id)

    def keep(self, call_id: str) -> None:
        """Somebody found a reason to keep the trace of this call, which this process may come to own yet."""
        self._kept[call_id] = None
        if len(self._kept) > CALL_LIMIT:
            self._kept.popitem(last=False)
        call = self._calls.get(call_id)
        if call is not None and not call.sampled:
            call.sampled = True
            self._flush(call)

    def sweep(self) -> None:
        """To be called every second or so: forget what is long over."""
        now = self._now()
        for call_id in [each for each, call in self._calls.items() if call.forget_at is not None]:
            forget_at = self._calls[call_id].forget_at
            if forget_at is not None and forget_at <= now:
                self._forget(call_id)

    def release_held(self) -> None:
        """This process may speak again: what waited for that goes out."""
        for call in self._calls.values():
            if call.sampled and call.held:
                self._flush(call)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin(self, call_id: str, tenant: str, epoch: int, since_us: int) -> TracedCall | None:
        trace_id = trace_id_of(call_id)
        if not trace_id:
            return None
        fold = self._make(Owner(call_id, tenant, epoch, self._rules.content, self._rules.hops))
        call = TracedCall(trace_id, fold, sampled=self.sampled(call_id), epoch=epoch, since_us=since_us)
        if (before := self._calls.pop(call_id, None)) is not None:
            call.held = before.held
        self._calls[call_id] = call
        if len(self._calls) > CALL_LIMIT:
            self._forget(next(iter(self._calls)))
        return call

    def _apply(self, call: TracedCall, event: Event, at_us: int) -> None:
        if call.fold is None:
            return
        spans = call.fold.apply(event, at_us)
        if spans and event.at_us > call.since_us:
            for span in spans:
                self._finished(call, span)
        if isinstance(event, CallEnded):
            call.fold = None
            call.forget_at = self._now() + LINGER_S

    def _hop(self, call: TracedCall, event: Event, received_us: int) -> None:
        call_id, kind = event.call_id, type(event)
        turn = turn_named(event)
        attributes: Attributes = {
            "callbus.hop.from": SPEAKER[kind],
            "callbus.hop.to": self._service,
        }
        if turn is not None:
            attributes["callbus.turn"] = turn
        span = Span(
            TEMPLATE[kind],
            span_id_of(call_id, f"hop:{self._worker}:{event.dedupe_id}"),
            root_id_of(call_id) if turn is None else turn_id_of(call_id, turn),
            event.at_us,
            max(event.at_us, received_us),
            attributes,
            consumer=True,
        )
        self._finished(call, span)

    def _finished(self, call: TracedCall, span: Span) -> None:
        if call.sampled and not call.held and self._passes():
            self._emit(call.trace_id, span)
            return
        call.held.append(span)
        self._kept_back += 1
        if call.sampled:
            self._flush(call)
        while self._kept_back > SPAN_LIMIT:
            oldest = next(each for each in self._calls.values() if each.held)
            count_dropped_spans(len(oldest.held))
            self._drop_held(oldest)

    def _flush(self, call: TracedCall) -> None:
        if not self._passes():
            return
        held, call.held = call.held, []
        self._kept_back -= len(held)
        for span in held:
            self._emit(call.trace_id, span)

    def _judge(self, event: Event) -> None:
        """Whether this is a reason to keep a trace that would not go out."""
        match event:
            case Failure():
                why = "failure"
            case CallEnded(result=CallResult.FAILED):
                why = "failed_call"
            case TurnMeasured(e2e_latency_ms=float(late_ms)) if late_ms > self._rules.slow_turn_ms:
                why = "slow_turn"
            case _:
                return
        if not self.sampled(event.call_id):
            count_kept_trace(why)
            self.keep(event.call_id)
            self._ask(event.call_id)

    def _drop_held(self, call: TracedCall) -> None:
        self._kept_back -= len(call.held)
        call.held = []

    def _forget(self, call_id: str) -> None:
        call = self._calls.pop(call_id, None)
        if call is not None:
            self._drop_held(call)
