from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from bus import tracing
from bus.consume import follow_call
from bus.memory import MemoryServer
from bus.publish import Recorder
from schemas.base import Event
from tests.bus.samples import CALL, final
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SPAN_ID = 0xB7AD6B7169203331
PARENT = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"
SUBJECT = f"call.default.{CALL}.asr.final"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Spans recorded by a provider of this test's own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing.trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(tracing.trace, "get_tracer", lambda name: provider.get_tracer(name))
    return exporter


def test_without_trace_recorder_and_call_nothing_is_added() -> None:
    headers: dict[str, str] = {}
    tracing.inject("hb.asr.w1", headers)
    assert headers == {}
    with tracing.consumer_span(SUBJECT, headers):
        assert not trace.get_current_span().get_span_context().is_valid


class TestACallsOwnTrace:
    CALL_ID = "01a1f8b4d03b7720948db586252f54fb"
    SUBJECT = f"call.default.{CALL_ID}.call.offered"
    ROOT = f"00-{CALL_ID}-948db586252f54fb-01"

    def test_the_call_id_is_the_trace_id(self) -> None:
        headers: dict[str, str] = {}
        tracing.inject(self.SUBJECT, headers)
        assert headers == {tracing.TRACEPARENT: self.ROOT}

    def test_a_current_trace_wins(self) -> None:
        headers: dict[str, str] = {}
        with tracing.consumer_span(SUBJECT, {tracing.TRACEPARENT: PARENT}):
            tracing.inject(self.SUBJECT, headers)
        assert headers == {tracing.TRACEPARENT: PARENT}

    def test_recorded_spans_hang_on_the_root(self, spans: InMemorySpanExporter) -> None:
        headers: dict[str, str] = {}
        tracing.inject(self.SUBJECT, headers)
        (sent,) = spans.get_finished_spans()
        assert sent.parent is not None
        assert f"{sent.parent.trace_id:032x}" == self.CALL_ID
        assert headers[tracing.TRACEPARENT].split("-")[1] == self.CALL_ID
        assert self.CALL_ID not in sent.name

    @pytest.mark.parametrize(
        "call_id", ["c1", "0" * 32, "01a1f8b4d03b7720" + "0" * 16, "01A1F8B4D03B7720948DB586252F54FB"]
    )
    def test_an_id_that_is_no_trace_id_starts_none(self, call_id: str) -> None:
        headers: dict[str, str] = {}
        tracing.inject(f"call.default.{call_id}.call.offered", headers)
        assert headers == {}
        assert tracing.call_context("hb.asr.w1") is None


def test_trace_passes_through_where_no_spans_are_recorded() -> None:
    with tracing.consumer_span(SUBJECT, {tracing.TRACEPARENT: PARENT}):
        assert trace.get_current_span().get_span_context().trace_id == TRACE_ID
        headers: dict[str, str] = {}
        tracing.inject(SUBJECT, headers)
    assert headers[tracing.TRACEPARENT] == PARENT


def test_spans_are_named_by_template_and_joined_across_the_bus(spans: InMemorySpanExporter) -> None:
    parent = NonRecordingSpan(SpanContext(TRACE_ID, SPAN_ID, is_remote=True, trace_flags=TraceFlags(1)))
    headers: dict[str, str] = {}
    with trace.use_span(parent):
        tracing.inject(SUBJECT, headers)
    with tracing.consumer_span(SUBJECT, headers):
        pass
    sent, processed = spans.get_finished_spans()
    assert (sent.name, processed.name) == ("send call.*.*.asr.final", "process call.*.*.asr.final")
    assert sent.context is not None
    assert processed.parent is not None
    assert processed.parent.span_id == sent.context.span_id
    assert {sent.context.trace_id, processed.parent.trace_id} == {TRACE_ID}
    assert CALL not in f"{sent.to_json()}{processed.to_json()}"


def test_recorder_and_feed_carry_the_trace(spans: InMemorySpanExporter) -> None:
    async def scenario() -> None:
        server = MemoryServer()
        heard: list[int] = []

        def handle(_: Event) -> None:
            heard.append(trace.get_current_span().get_span_context().trace_id)

        feed = await follow_call(server.connect("llm-1"), CALL, "default", handle, service="llm")
        await feed.caught_up.wait()
        recorder = Recorder(server.connect("asr-1"), service="asr")
        recorder.record(final(1))
        assert await recorder.flush(1000)
        assert heard == [spans.get_finished_spans()[0].context.trace_id]  # type: ignore[union-attr]
        await feed.close()

    run_virtual(scenario())


def test_failing_handler_is_marked_in_its_span(spans: InMemorySpanExporter) -> None:
    def handle(_: int) -> None:
        raise RuntimeError("broken")

    handler = tracing.GuardedHandler("spanned", handle)
    handler(SUBJECT, {}, 1)
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok


def test_handlers_are_counted_and_timed() -> None:
    handler = tracing.GuardedHandler("timed", lambda _: None)
    for _ in range(3):
        handler(SUBJECT, {}, 1)
    figures = tracing.all_figures()["timed call.*.*.asr.final"]
    assert (figures.count, figures.errors) == (3, 0)
    assert 0 < figures.mean_ms <= figures.max_ms
    assert tracing.HandlerFigures().mean_ms == 0.0
