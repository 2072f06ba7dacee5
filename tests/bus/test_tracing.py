from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from bus import tracing
from bus.consume import follow_call
from bus.memory import MemoryServer
from bus.publish import Recorder
from bus.spans import turn_id_of
from schemas.base import Event
from schemas.call import CallOffered
from schemas.llm import LlmDone
from schemas.subjects import subject_of
from schemas.turn import TurnEnded
from tests.bus.samples import CALL, final
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SPAN_ID = 0xB7AD6B7169203331
PARENT = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"
SUBJECT = f"call.default.{CALL}.asr.final"
CALL_ID = "01a1f8b4d03b7720948db586252f54fb"


class Listener:
    """An observer that notes what it is told."""

    def __init__(self, sampled: bool = True) -> None:
        self.told: list[tuple[object, ...]] = []
        self._sampled = sampled

    def claimed(self, offered: CallOffered, epoch: int, takeover: bool, now_us: int) -> None:
        self.told.append(("claimed", epoch, takeover))

    def said(self, event: Event) -> None:
        self.told.append(("said", type(event).__name__))

    def heard(self, event: Event, received_us: int, live: bool) -> None:
        self.told.append(("heard", type(event).__name__, live))

    def left(self, call_id: str) -> None:
        self.told.append(("left", call_id))

    def annotate(self, call_id: str, turn: int, attributes: dict[str, object]) -> None:
        self.told.append(("annotate", turn, attributes))

    def sampled(self, call_id: str) -> bool:
        return self._sampled


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    tracing.observe(listening)
    yield listening
    tracing.observe(None)


def test_without_trace_and_call_nothing_is_added() -> None:
    headers: dict[str, str] = {}
    tracing.inject("hb.asr.w1", headers)
    assert headers == {}
    with tracing.continued(headers):
        assert not trace.get_current_span().get_span_context().is_valid


class TestACallsOwnTrace:
    SUBJECT = f"call.default.{CALL_ID}.call.offered"
    ROOT = f"00-{CALL_ID}-948db586252f54fb-01"

    def test_the_call_id_is_the_trace_id(self) -> None:
        headers: dict[str, str] = {}
        tracing.inject(self.SUBJECT, headers)
        assert headers == {tracing.TRACEPARENT: self.ROOT}

    def test_an_event_of_a_turn_hangs_on_the_turn(self) -> None:
        event = TurnEnded(call_id=CALL_ID, at_us=1, turn=3, why="silence")
        headers: dict[str, str] = {}
        tracing.inject(subject_of(event), headers, event)
        assert headers == {tracing.TRACEPARENT: f"00-{CALL_ID}-{turn_id_of(CALL_ID, 3):016x}-01"}

    def test_a_call_that_is_not_sampled_says_so(self) -> None:
        tracing.observe(Listener(sampled=False))
        headers: dict[str, str] = {}
        try:
            tracing.inject(self.SUBJECT, headers)
        finally:
            tracing.observe(None)
        assert headers[tracing.TRACEPARENT].endswith("-00")

    def test_another_trace_that_is_current_wins(self) -> None:
        headers: dict[str, str] = {}
        with tracing.continued({tracing.TRACEPARENT: PARENT}):
            tracing.inject(self.SUBJECT, headers)
        assert headers == {tracing.TRACEPARENT: PARENT}

    def test_the_message_before_is_no_parent_within_the_call(self) -> None:
        event = TurnEnded(call_id=CALL_ID, at_us=1, turn=3, why="silence")
        headers: dict[str, str] = {}
        with tracing.continued({tracing.TRACEPARENT: self.ROOT}):
            tracing.inject(subject_of(event), headers, event)
        assert headers[tracing.TRACEPARENT].split("-")[2] == f"{turn_id_of(CALL_ID, 3):016x}"

    def test_a_span_of_an_engines_own_is_the_parent(self) -> None:
        headers: dict[str, str] = {}
        tracer = TracerProvider().get_tracer("engine")
        with tracing.continued({tracing.TRACEPARENT: self.ROOT}), tracer.start_as_current_span("request") as span:
            tracing.inject(self.SUBJECT, headers)
        assert headers[tracing.TRACEPARENT] == f"00-{CALL_ID}-{span.get_span_context().span_id:016x}-01"

    @pytest.mark.parametrize(
        "call_id", ["c1", "0" * 32, "01a1f8b4d03b7720" + "0" * 16, "01A1F8B4D03B7720948DB586252F54FB"]
    )
    def test_an_id_that_is_no_trace_id_starts_none(self, call_id: str) -> None:
        headers: dict[str, str] = {}
        tracing.inject(f"call.default.{call_id}.call.offered", headers)
        assert headers == {}


def test_trace_passes_through() -> None:
    with tracing.continued({tracing.TRACEPARENT: PARENT}):
        assert trace.get_current_span().get_span_context().trace_id == TRACE_ID
        headers: dict[str, str] = {}
        tracing.inject(SUBJECT, headers)
    assert headers[tracing.TRACEPARENT] == PARENT
    assert not trace.get_current_span().get_span_context().is_valid


def test_what_is_said_because_of_an_event_is_told_before_it(listener: Listener) -> None:
    async def scenario() -> None:
        server = MemoryServer()
        llm = Recorder(server.connect("llm-1"), service="llm")
        done = LlmDone(call_id=CALL, at_us=2, turn=1, utterance_id=100, sentences=0)

        def answer(_: Event) -> None:
            llm.record(done)

        feed = await follow_call(server.connect("llm-1"), CALL, "default", answer, service="llm")
        await feed.caught_up.wait()
        asr = Recorder(server.connect("asr-1"), service="asr")
        asr.record(TurnEnded(call_id=CALL, at_us=1, turn=1, why="silence"))
        assert await asr.flush(1000)
        await feed.close()

    run_virtual(scenario())
    assert listener.told[:3] == [("said", "TurnEnded"), ("said", "LlmDone"), ("heard", "TurnEnded", True)]


def test_a_fault_in_making_spans_costs_no_event(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[Event] = []

    def fail(*_: object) -> None:
        raise ValueError("no span")

    async def scenario() -> None:
        server = MemoryServer()
        recorder = Recorder(server.connect("asr-1"), service="asr")
        feed = await follow_call(server.connect("llm-1"), CALL, "default", handled.append, service="llm")
        await feed.caught_up.wait()
        recorder.record(final(1))
        assert await recorder.flush(1000)
        await feed.close()

    monkeypatch.setattr(listener, "said", fail)
    monkeypatch.setattr(listener, "heard", fail)
    run_virtual(scenario())
    assert [type(event).__name__ for event in handled] == ["AsrFinal"]


def test_recorder_and_feed_carry_the_trace_and_tell_the_observer(listener: Listener) -> None:
    heard: list[int] = []

    async def scenario() -> None:
        server = MemoryServer()

        def handle(_: Event) -> None:
            heard.append(trace.get_current_span().get_span_context().trace_id)

        recorder = Recorder(server.connect("asr-1"), service="asr")
        recorder.record(final(1))
        assert await recorder.flush(1000)
        feed = await follow_call(server.connect("llm-1"), CALL, "default", handle, service="llm")
        await feed.caught_up.wait()
        parent = NonRecordingSpan(SpanContext(TRACE_ID, SPAN_ID, is_remote=True, trace_flags=TraceFlags(1)))
        with trace.use_span(parent):
            recorder.record(final(2))
        assert await recorder.flush(1000)
        await feed.close()

    run_virtual(scenario())
    assert heard == [int(CALL, 16), TRACE_ID]
    assert listener.told == [
        ("said", "AsrFinal"),
        ("heard", "AsrFinal", False),
        ("said", "AsrFinal"),
        ("heard", "AsrFinal", True),
        ("left", CALL),
    ]


def test_what_no_event_holds_goes_to_the_observer(listener: Listener) -> None:
    tracing.annotate(CALL_ID, 2, {"gen_ai.usage.output_tokens": 7})
    tracing.claimed(CallOffered(call_id=CALL_ID, at_us=1, edge="edge-1"), 2, True)
    assert listener.told == [("annotate", 2, {"gen_ai.usage.output_tokens": 7}), ("claimed", 2, True)]


def test_handlers_are_counted_and_timed() -> None:
    handler = tracing.GuardedHandler("timed", lambda _: None)
    for _ in range(3):
        handler(SUBJECT, {}, 1)
    figures = tracing.all_figures()["timed call.*.*.asr.final"]
    assert (figures.count, figures.errors) == (3, 0)
    assert 0 < figures.mean_ms <= figures.max_ms
    assert tracing.HandlerFigures().mean_ms == 0.0
