"""Traces of real calls through real processes, as an OTLP receiver gets them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bus.consume import read_call
from bus.kv import TypedBucket
from ops.session import offered_calls
from ops.supervisor import Supervisor
from schemas.base import Event
from schemas.call import CallEnded, CallOffered
from schemas.llm import utterance_of
from schemas.playout import PlayoutFinished, PlayoutStarted
from schemas.session import Owner, WorkerRecord
from tests.e2e.system import INSTANT, running_system
from tests.fakes import traced_call
from tests.fakes.crowd import Crowd, CrowdCaller
from tests.fakes.otlp_sink import OtlpSink, SinkSpan

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.xdist_group("timed")]

PLANTED = {
    **INSTANT,
    "CALLBUS_ASR__ENGINE": "tests.fakes.traced_call:Caller",
    "CALLBUS_LLM__ENGINE": "tests.fakes.traced_call:Agent",
    "CALLBUS_LLM__FILLER_MS": "0",
}
STAGES = ("asr", "llm", "tool", "tts", "playout")
SPEECH_FRAMES = 30
CLOSE_MS = 5.0
"""How far ``callbus show`` and the trace may be apart."""
NAMES = re.compile(r"^(call|turn|asr|llm|tool|tts|playout|call\.\*\.\*(\.[a-z]+)+|rt\.\*\.\*\.audio\.out)$")


class Line:
    """One call at a time through a running system."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.known: set[str] = set()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[tuple[CrowdCaller, CallOffered]]:
        """A caller whose greeting has been played; hung up at the end, and the end recorded."""
        crowd = Crowd()
        await crowd.start(1, self.supervisor.sip_port)
        try:
            offered = await self._offered()
            await self.until(offered, PlayoutFinished, utterance_id=0)
            yield crowd.callers[0], offered
        finally:
            await crowd.stop()
        await self.until(offered, CallEnded)

    async def events(self, offered: CallOffered) -> list[Event]:
        return await read_call(self.supervisor.connection, offered.call_id, offered.tenant)

    async def until(self, offered: CallOffered, event_type: type[Event], **fields: Any) -> Event:
        """Wait for an event of the call."""
        async with asyncio.timeout(15):
            while True:
                for event in await self.events(offered):
                    if isinstance(event, event_type) and all(getattr(event, n) == v for n, v in fields.items()):
                        return event
                await asyncio.sleep(0.05)

    async def turn(self, caller: CrowdCaller, offered: CallOffered, turn: int, until: type[Event]) -> None:
        """The caller speaks; until its answer begins or was played."""
        caller.speak(SPEECH_FRAMES)
        await self.until(offered, until, utterance_id=utterance_of(turn))

    async def kill_owner(self, stage: str, offered: CallOffered) -> None:
        """Kill the worker that owns the call in a stage."""
        owners = await TypedBucket.open(self.supervisor.connection, "owners", Owner)
        workers = await TypedBucket.open(self.supervisor.connection, "workers", WorkerRecord)
        owner = await owners.get(f"{stage}.{offered.call_id}")
        assert owner is not None
        for key in await workers.keys():
            entry = await workers.get(key)
            if entry is not None and entry.value.worker == owner.value.worker:
                os.kill(entry.value.process_id, signal.SIGKILL)
                return
        raise AssertionError("the owner is no worker")

    async def _offered(self) -> CallOffered:
        async with asyncio.timeout(10):
            while True:
                async for offered in offered_calls(self.supervisor.connection):
                    if offered.call_id not in self.known:
                        self.known.add(offered.call_id)
                        return offered
                await asyncio.sleep(0.05)

    async def shown(self, offered: CallOffered) -> dict[str, Any]:
        """What ``callbus show --json`` says of a call."""
        command = [sys.executable, "-m", "ops.main", "show", offered.call_id, "--json"]
        environment = {**os.environ, "NATS_URL": self.supervisor.nats_url}
        done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, timeout=30)
        assert done.returncode == 0, done.stderr.decode()
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown


def traces_of(spans: list[SinkSpan]) -> dict[str, list[SinkSpan]]:
    found: dict[str, list[SinkSpan]] = {}
    for span in spans:
        found.setdefault(span.trace_id, []).append(span)
    return found


def check_tree(spans: list[SinkSpan], call_id: str) -> SinkSpan:
    """One tree under one root, every span of it once; the root."""
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans), "an id was exported twice"
    roots = [span for span in spans if not span.parent_id]
    assert [root.name for root in roots] == ["call"]
    assert roots[0].span_id == call_id[16:]
    for span in spans:
        assert NAMES.match(span.name), span.name
        assert span.trace_id == call_id
        assert span.attributes.get("callbus.call_id", call_id) == call_id
        if span.parent_id:
            assert span.parent_id in by_id, (
                f"{span.name} of turn {span.attributes.get('callbus.turn')} hangs in the air"
            )
            by_id[span.parent_id].children.append(span)
        if span.name in STAGES:
            assert by_id[span.parent_id].name == "turn"
        if span.name == "turn":
            assert span.parent_id == roots[0].span_id
    return roots[0]


def check_covered(turn: SinkSpan) -> None:
    """The children cover at least 95 % of the turn's time."""
    within = [child for child in turn.children if child.start_us < turn.end_us]
    parts = sorted((max(turn.start_us, child.start_us), min(turn.end_us, child.end_us)) for child in within)
    gaps, reached = [], turn.start_us
    for start, end in [*parts, (turn.end_us, turn.end_us)]:
        if start > reached:
            gaps.append((reached - turn.start_us, start - reached))
        reached = max(reached, end)
    covered = 1 - sum(length for _, length in gaps) / (turn.end_us - turn.start_us)
    assert covered >= 0.95, f"turn {turn.attributes['turn.number']}: {covered:.1%}, gaps (µs from its start): {gaps}"


def turns_of(root: SinkSpan) -> dict[int, SinkSpan]:
    return {span.attributes["turn.number"]: span for span in root.children if span.name == "turn"}


def child(turn: SinkSpan, name: str) -> SinkSpan:
    return min((span for span in turn.children if span.name == name), key=lambda span: span.start_us)


def check_agreement(root: SinkSpan, shown: dict[str, Any]) -> int:
    """Every figure of ``callbus show`` stands in the trace; how many were compared."""
    view, compared = shown["view"], 0
    epoch_us = view["answered"]["media_epoch_us"]

    def agree(what: str, ours_ms: float, theirs_ms: float) -> None:
        nonlocal compared
        compared += 1
        assert abs(ours_ms - theirs_ms) <= CLOSE_MS, f"{what}: show {ours_ms} ms, trace {theirs_ms} ms"

    turns = turns_of(root)
    assert set(turns) == {int(number) for number in view["turns"]}
    agree("call", view["ended"]["at_us"] / 1000, root.end_us / 1000)
    for number, turn in turns.items():
        row = view["turns"][str(number)]
        assert turn.attributes["turn.was_interrupted"] == row["interrupted"]
        for name, value_ms in row["latencies_ms"].items():
            agree(f"turn {number} {name}", value_ms, turn.attributes[f"callbus.turn.{name}"] * 1000)
        playout = child(turn, "playout")
        agree("answer begins", row["answer_started_ms"], (playout.start_us - epoch_us) / 1000)
        agree("answer ends", row["answer_ended_ms"], (playout.end_us - epoch_us) / 1000)
        agree("turn ends", row["answer_ended_ms"], (turn.end_us - epoch_us) / 1000)
        if number:
            spoken_us = epoch_us + row["speech_end_ms"] * 1000
            latencies = row["latencies_ms"]
            agree("turn begins", row["speech_start_ms"], (turn.start_us - epoch_us) / 1000)
            agree("end of turn", latencies["end_of_turn_delay"], (child(turn, "asr").end_us - spoken_us) / 1000)
            agree("end to end", latencies["e2e_latency"], (playout.start_us - spoken_us) / 1000)
            llm = child(turn, "llm")
            first = min(at_us for name, at_us, _ in llm.events if name == "sentence")
            agree("first sentence", latencies["llm_node_ttfs"], (first - llm.start_us) / 1000)
    return compared


def check_no_content(sink: OtlpSink, events: list[Event]) -> None:
    raw = b"".join(sink.raw)
    texts = {str(getattr(event, "text", "") or "") for event in events} | {*traced_call.PLANTED}
    for text in filter(None, texts):
        assert text.encode() not in raw, "content in a trace"
    assert b"pii" not in raw


async def interrupted_call(line: Line) -> tuple[CallOffered, dict[str, Any]]:
    """A greeting, an answer that the caller cuts off, and one that is heard to its end."""
    async with line.call() as (caller, offered):
        await line.turn(caller, offered, 1, PlayoutStarted)
        await asyncio.sleep(0.6)
        await line.turn(caller, offered, 2, PlayoutFinished)
    return offered, await line.shown(offered)


async def call_with_a_kill(line: Line) -> CallOffered:
    """The asr worker dies while the answer plays; its successor ends the turn and hears the next."""
    async with line.call() as (caller, offered):
        await line.turn(caller, offered, 1, PlayoutStarted)
        await line.kill_owner("asr", offered)
        await line.until(offered, PlayoutFinished, utterance_id=utterance_of(1))
        await asyncio.sleep(0.6)
        await line.turn(caller, offered, 2, PlayoutFinished)
    return offered


async def call_without_a_receiver(line: Line, sink: OtlpSink) -> None:
    """The receiver dies in mid-call, and the call goes on."""
    async with line.call() as (caller, offered):
        await asyncio.to_thread(sink.close)
        await line.turn(caller, offered, 1, PlayoutFinished)
    (ended,) = [event for event in await line.events(offered) if isinstance(event, CallEnded)]
    assert ended.result.value == "completed"


async def test_one_call_is_one_trace_whatever_happens(tmp_path: Path) -> None:
    sink = OtlpSink()
    environment = {**PLANTED, "CALLBUS_TRACING__ENDPOINT": sink.grpc_url}
    async with running_system(tmp_path, workers={"asr": 2}, environment=environment) as supervisor:
        line = Line(supervisor)
        offered, shown = await interrupted_call(line)
        events = await line.events(offered)
        killed = await call_with_a_kill(line)
        spans = await asyncio.to_thread(sink.wait_for, lambda spans: complete(spans, 2))
        await call_without_a_receiver(line, sink)
        begun = time.monotonic()
    assert time.monotonic() - begun < 8
    traces = traces_of(spans)
    assert set(traces) == {offered.call_id, killed.call_id}
    root = check_tree(traces[offered.call_id], offered.call_id)
    turns = turns_of(root)
    assert list(turns) == [0, 1, 2]
    assert [turns[number].attributes["turn.was_interrupted"] for number in turns] == [False, True, False]
    assert {span.name for span in turns[2].children if span.name in STAGES} == set(STAGES)
    assert {span.service for span in traces[offered.call_id]} == {f"callbus-{s}" for s in ("edge", "asr", "llm", "tts")}
    assert any(span.name == "call.*.*.turn.ended" for span in turns[1].children)
    for turn in turns.values():
        check_covered(turn)
    assert check_agreement(root, shown) >= 20
    tool = child(turns[1], "tool")
    assert tool.attributes["gen_ai.tool.name"] == "find_card"
    assert child(turns[1], "llm").attributes["gen_ai.operation.name"] == "chat"
    check_no_content(sink, events)
    after = turns_of(check_tree(traces[killed.call_id], killed.call_id))
    assert list(after) == [0, 1, 2]
    assert [after[number].attributes["callbus.epoch"] for number in after] == [1, 2, 2]
    for turn in after.values():
        check_covered(turn)
    check_warned_once(tmp_path)


def check_warned_once(folder: Path) -> None:
    logs = [log.read_text() for log in folder.rglob("*.log")]
    assert len(logs) >= 5
    assert all(log.count('"event": "spans_not_sent"') <= 1 for log in logs)


def complete(spans: list[SinkSpan], calls: int) -> bool:
    """Whether so many calls, of three turns each, are there and no parent is missing; spans wait 4 s at most."""
    known = {span.span_id for span in spans}
    found = [sum(span.name == name for span in spans) for name in ("call", "turn")]
    return found == [calls, 3 * calls] and all(span.parent_id in known for span in spans if span.parent_id)


async def test_errors_and_slow_turns_are_kept_and_content_is_there_where_it_is_wanted(tmp_path: Path) -> None:
    sink = OtlpSink()
    mode = tmp_path / "mode"
    mode.write_text("")
    environment = {
        **PLANTED,
        traced_call.MODE_FILE: str(mode),
        "CALLBUS_TRACING__ENDPOINT": sink.http_url,
        "CALLBUS_TRACING__PROTOCOL": "http",
        "CALLBUS_TRACING__SAMPLE_RATIO": "0",
        "CALLBUS_TRACING__SLOW_TURN_MS": "1200",
        "CALLBUS_TRACING__CONTENT": "true",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    async with running_system(tmp_path / "data", environment=environment) as supervisor:
        line = Line(supervisor)
        calls: dict[str, CallOffered] = {}
        for each in ("", "slow", "fail"):
            mode.write_text(each)
            async with line.call() as (caller, calls[each]):
                await line.turn(caller, calls[each], 1, PlayoutStarted)
    sink.close()
    traces = traces_of(sink.spans())
    assert set(traces) == {calls["slow"].call_id, calls["fail"].call_id}
    assert all(headers["content-encoding"] == "gzip" for headers in sink.headers)
    for each in ("slow", "fail"):
        turns = turns_of(check_tree(traces[calls[each].call_id], calls[each].call_id))
        assert list(turns) == [0, 1]
        assert child(turns[1], "llm").error == ("engine_failed" if each == "fail" else "")
        assert turns[1].error == ("engine_failed" if each == "fail" else "")
    slow = turns_of(check_tree(traces_of(sink.spans())[calls["slow"].call_id], calls["slow"].call_id))[1]
    assert slow.attributes["callbus.turn.e2e_latency"] > 1.2
    assert slow.attributes["callbus.pii.text"] == traced_call.SAID
    for span in sink.spans():
        for attributes in (span.attributes, *(each for _, _, each in span.events)):
            for name, value in attributes.items():
                if "pii" not in name.split("."):
                    assert not any(text in str(value) for text in traced_call.PLANTED), name
