"""The queue of finished spans, against receivers of both protocols and against none."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from bus import tracing_export
from bus.metrics import REGISTRY
from bus.spans import Moment, Span
from bus.tracing_export import SpanQueue, open_exporter, readable
from bus.tracing_setup import fold_of, models_of, read_headers
from config.load import ConfigError, load
from config.settings import TracingSection
from tests.fakes.otlp_sink import OtlpSink

pytestmark = pytest.mark.integration

TRACE_ID = 0x01A1F8B4D03B7720948DB586252F54FB
MAKE = readable(Resource({"service.name": "callbus-asr"}), InstrumentationScope("callbus", "0.1.0"))


def span(number: int = 1, **fields: object) -> ReadableSpan:
    moments = (Moment("final", 1500, {"callbus.asr.part": 0}),)
    attributes = {"turn.number": number, "gen_ai.response.finish_reasons": ("stop",)}
    return MAKE(TRACE_ID, Span("turn", number, 7, 1000, 2000, attributes, moments)._replace(**fields))


def dropped_spans() -> float:
    return REGISTRY.get_sample_value("callbus_spans_dropped_total") or 0.0


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    receiver = OtlpSink()
    yield receiver
    receiver.close()


class Slow(SpanExporter):
    """Takes nothing before it may; fails as long as it shall."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.failing = False
        self.batches: list[int] = []
        self.closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.may.wait(10)
        self.batches.append(len(spans))
        return SpanExportResult.FAILURE if self.failing else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed = True
        self.may.set()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_span_arrives_as_it_was_made(sink: OtlpSink, protocol: str, tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("# for the receiver\n\nX-Api-Key: secret: 1\n")
    url = sink.grpc_url if protocol == "grpc" else sink.http_url
    section = TracingSection(endpoint=url, protocol=protocol)  # type: ignore[arg-type]
    queue = SpanQueue(open_exporter(section, read_headers(str(headers))), url)
    queue.on_end(span(1))
    queue.on_end(span(2, parent_id=0, error="engine_failed", consumer=True))
    assert queue.force_flush(5000)
    queue.shutdown()
    turn, failed = sink.wait_for(lambda spans: len(spans) == 2)
    assert (turn.trace_id, turn.span_id, turn.parent_id) == (f"{TRACE_ID:032x}", f"{1:016x}", f"{7:016x}")
    assert (turn.name, turn.start_us, turn.end_us, turn.error) == ("turn", 1000, 2000, "")
    assert turn.attributes == {"turn.number": 1, "gen_ai.response.finish_reasons": ["stop"]}
    assert turn.events == [("final", 1500, {"callbus.asr.part": 0})]
    assert (failed.parent_id, failed.error) == ("", "engine_failed")
    assert turn.service == "callbus-asr"
    assert sink.headers[0]["x-api-key"] == "secret: 1"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_receiver_that_is_away_costs_one_warning_and_no_exit(
    protocol: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracing_export, "INTERVAL_S", 0.05)
    monkeypatch.setattr(tracing_export, "RETRY_S", 0.05)
    monkeypatch.setattr(tracing_export, "SEND_TIMEOUT_S", 0.2)
    said: list[str] = []
    monkeypatch.setattr(tracing_export.log, "warning", lambda event, **_: said.append(event))
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        section = TracingSection(endpoint=url, protocol=protocol)  # type: ignore[arg-type]
        queue = SpanQueue(open_exporter(section, {}), url)
        before = dropped_spans()
        for number in range(5):
            queue.on_end(span(number + 1))
        deadline = time.monotonic() + 10
        while dropped_spans() < before + 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        queue.on_end(span(9))
        begun = time.monotonic()
        queue.shutdown()
    assert time.monotonic() - begun < 0.5
    assert said == ["spans_not_sent"]
    assert dropped_spans() == before + 6
    assert capfd.readouterr().err == ""


def test_a_receiver_that_comes_back_gets_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_export, "INTERVAL_S", 0.02)
    monkeypatch.setattr(tracing_export, "RETRY_S", 0.02)
    exporter = Slow()
    exporter.failing = True
    exporter.may.set()
    queue = SpanQueue(exporter, "x")
    queue.on_end(span())
    while not exporter.batches:
        time.sleep(0.005)
    exporter.failing = False
    assert queue.force_flush(5000)
    queue.shutdown()
    assert exporter.batches[-1] == 1


def test_no_more_wait_than_the_queue_holds_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_export, "QUEUE_LIMIT", 10)
    exporter = Slow()
    queue = SpanQueue(exporter, "x")
    before = dropped_spans()
    for number in range(15):
        queue.on_end(span(number + 1))
    assert (queue.waiting, dropped_spans()) == (10, before + 5)
    exporter.may.set()
    queue.shutdown()
    assert exporter.batches == [10]
    queue.on_end(span())
    assert dropped_spans() == before + 6


def test_an_exit_does_not_wait_for_a_receiver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_export, "CLOSE_S", 0.2)
    exporter = Slow()
    queue = SpanQueue(exporter, "x")
    queue.on_end(span())
    begun = time.monotonic()
    queue.shutdown()
    queue.shutdown()
    assert 0.15 < time.monotonic() - begun < 1.0
    assert exporter.closed


def test_a_batch_is_small_enough_for_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Slow()
    queue = SpanQueue(exporter, "x")
    for number in range(300):
        queue.on_end(span(number + 1))
    exporter.may.set()
    queue.shutdown()
    assert sum(exporter.batches) == 300
    assert max(exporter.batches) == tracing_export.BATCH_SPANS


class TestHeaders:
    def test_none(self) -> None:
        assert read_headers("") == {}

    def test_a_line_that_is_no_header_is_named_without_its_value(self, tmp_path: Path) -> None:
        path = tmp_path / "headers"
        path.write_text("authorization: Bearer x\nBearer s3cr3t\n")
        with pytest.raises(ConfigError) as refusal:
            read_headers(str(path))
        assert "line 2" in str(refusal.value)
        assert "s3cr3t" not in str(refusal.value)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="headers_file"):
            read_headers(str(tmp_path / "none"))


def test_nothing_of_the_sdk_is_loaded_where_no_endpoint_is_set() -> None:
    program = (
        "import sys, bus.service, edge.process, services.asr.worker, services.llm.worker, services.tts.worker\n"
        "sdk = ('grpc', 'opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(sdk)])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert done.stdout.decode().strip() == "[]"


def test_every_stage_has_a_fold_and_models_go_by_name() -> None:
    settings = load({"CALLBUS_LLM__ENGINE": "openai", "CALLBUS_LLM__FALLBACKS": "llama_cpp,mine:Engine"})
    assert [fold_of(stage, settings) for stage in ("edge", "asr", "llm", "tts")]
    models = models_of(settings)
    assert models["openai"].model == "gpt-4.1-mini"
    assert models["mine:Engine"].provider == "mine.Engine"
    assert models["mine:Engine"].model == ""
