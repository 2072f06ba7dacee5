"""A client that is not ours, plain nats-py, reads a call: audio byte for byte, events in order, all of it JSON."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from pathlib import Path

import nats
import pytest

from tests.e2e.nothing_lost import calls_in_order, until_answered
from tests.e2e.system import INSTANT, running_system
from tests.fakes.crowd import Crowd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ANSWER_S = 20.0
TO_THE_TURN = (
    "call.offered", "call.answered", "llm.sentence", "playout.started", "playout.finished", "vad.started",
    "vad.stopped", "asr.final", "turn.started", "turn.ended",
)  # fmt: skip
IN_ORDER = (
    (*TO_THE_TURN, "llm.sentence", "llm.done", "call.ended"),
    (*TO_THE_TURN, "llm.sentence", "tts.done", "playout.finished", "call.ended"),
)
"""Names that a call with one turn holds in this order, among others. The llm and the tts end a turn each by itself."""


async def read_with_plain_client(url: str) -> list[tuple[str, bytes, dict[str, str]]]:
    """Everything under call.> in stream order, as (name, data, headers)."""
    client = await nats.connect(url)
    try:
        stream = client.jetstream()
        count = (await stream.stream_info("CALLS")).state.messages
        reader = await stream.subscribe("call.>", ordered_consumer=True)
        messages = [await reader.next_msg(timeout=5) for _ in range(count)]
        return [(message.subject.split(".", 3)[3], message.data, message.headers or {}) for message in messages]
    finally:
        await client.close()


async def test_a_plain_nats_client_reads_a_whole_call(tmp_path: Path) -> None:
    async with running_system(tmp_path, environment=INSTANT) as supervisor:
        crowd = Crowd()
        await crowd.start(1, supervisor.sip_port)
        await asyncio.sleep(2.5)
        calls = await calls_in_order(supervisor, crowd)
        crowd.callers[0].speak(40)
        await until_answered(supervisor, calls, 1, time.monotonic() + ANSWER_S)
        await crowd.stop()
        await asyncio.sleep(1.0)
        messages = await read_with_plain_client(supervisor.nats_url)
        sent = crowd.callers[0].sent

    received = []
    expected = 0
    for name, data, _ in messages:
        if name != "rec.in":
            continue
        version, codec, _, count, sequence, _, _ = struct.unpack_from("!BBBBIII", data)
        assert (version, codec, sequence) == (1, 0, expected)
        payload = data[16:]
        assert len(payload) == count * 160
        received += [payload[start : start + 160] for start in range(0, len(payload), 160)]
        expected += count
    assert expected > 200
    # The last packets were still under way when the call was hung up.
    assert received == sent[: len(received)]
    assert len(sent) - len(received) <= 5

    events = [(name, json.loads(data)) for name, data, _ in messages if not name.startswith("rec.")]
    traces = {headers["traceparent"].split("-")[1] for name, _, headers in messages if not name.startswith("rec.")}
    assert traces == {events[0][1]["call_id"]}, "one trace per call, across all processes, and the call id is its id"
    assert all(event["type"].startswith(name) for name, event in events)
    assert len({event["call_id"] for _, event in events}) == 1
    for row in IN_ORDER:
        names = iter(name for name, _ in events)
        assert all(wanted in names for wanted in row), " ".join(name for name, _ in events)
