from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bus import codec, publish
from bus.acks import ack_inbox, read_answer
from bus.errors import BusTimeout, StaleWrite, StoreRefused, StoreUnavailable
from bus.fencing import EXPECTED_STREAM, EXPECTED_SUBJECT_SEQUENCE, MESSAGE_ID, fence_of
from bus.guard import guard_of
from bus.interface import Message, StoreAck, StoredMessage
from bus.memory import MemoryConnection, MemoryServer
from bus.publish import Recorder, RecorderFigures
from schemas import subjects
from schemas.base import Event
from tests.bus.samples import CALL, answered, final, partial, sentence, short, turn_ended, until
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _fresh_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "figures", RecorderFigures())


class Bus:
    """A memory server, a sender, and somebody who listens to everything of all calls."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.sender = self.server.connect("asr-1")
        self.listener = self.server.connect("tail")
        self.live: list[Message] = []

    async def listen(self) -> Bus:
        await self.listener.subscribe("call.>", self.live.append)
        return self

    def stored(self) -> list[str]:
        return [message.headers[MESSAGE_ID].split(":", 1)[1] for message in self.server.streams["CALLS"].read("call.>")]

    def heard(self) -> list[str]:
        """What a listener that drops second copies has heard, in order."""
        return list(dict.fromkeys(message.headers[MESSAGE_ID].split(":", 1)[1] for message in self.live))


async def ready_recorder(connection: MemoryConnection) -> Recorder:
    recorder = Recorder(connection, service="asr")
    await until(lambda: ack_inbox(connection).ready)
    return recorder


def hide_stream(server: MemoryServer) -> object:
    """The stream has no leader: nothing captures, nothing answers. Put it back with :func:`show_stream`."""
    return server.streams.pop("CALLS")


def show_stream(server: MemoryServer, stream: object) -> None:
    server.streams["CALLS"] = stream  # type: ignore[assignment]


def test_events_are_live_and_stored_in_order() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        for number in range(20):
            recorder.record(partial(number))
        recorder.record(turn_ended(1))
        assert recorder.pending == 21
        assert await recorder.flush(1000)
        assert recorder.pending == 0
        assert bus.stored() == bus.heard() == [f"asr.partial:1:{n}" for n in range(20)] + ["turn.ended:1"]
        assert len(bus.live) == 21, "in the normal state nobody gets anything twice"
        assert publish.figures.stored == 21

    run_virtual(scenario())


def test_first_events_do_not_wait_for_the_inbox() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = Recorder(bus.sender, service="asr")
        recorder.record(partial(0))
        recorder.record(partial(1))
        assert await recorder.flush(1000)
        assert bus.stored() == bus.heard() == ["asr.partial:1:0", "asr.partial:1:1"]

    run_virtual(scenario())


def test_stream_away_live_goes_on_and_order_is_kept() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        recorder.record(partial(0))
        assert await recorder.flush(1000)
        stream = hide_stream(bus.server)
        for number in range(1, 30):
            recorder.record(partial(number))
            await asyncio.sleep(0.2)
            assert bus.heard()[-1] == f"asr.partial:1:{number}", "a live reader never waits for the stream"
        assert recorder.stalled
        assert recorder.pending == 29
        assert not await recorder.flush(100)
        show_stream(bus.server, stream)
        recorder.record(turn_ended(1))
        assert await recorder.flush(5000)
        assert not recorder.stalled
        assert bus.stored() == [f"asr.partial:1:{n}" for n in range(30)] + ["turn.ended:1"]
        assert publish.figures.live_copies > 0
        assert publish.figures.reordered == 0
        recorder.record(turn_ended(2))
        await recorder.flush(1000)
        assert sum(m.headers[MESSAGE_ID].endswith("turn.ended:2") for m in bus.live) == 1, "normal again: one copy"

    run_virtual(scenario())


def test_audio_has_no_live_copy_and_keeps_its_place() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        stream = hide_stream(bus.server)
        recorder.record(partial(0))
        recorder.record_audio(subjects.recording("in", CALL), b"x" * 1600, f"{CALL}:rec.in:0")
        recorder.record(partial(1))
        recorder.record_audio(subjects.recording("in", CALL), b"x" * 1600, f"{CALL}:rec.in:1")
        await asyncio.sleep(3.0)
        copies = [m for m in bus.live if EXPECTED_STREAM in m.headers]
        assert not any("rec.in" in m.subject for m in copies)
        show_stream(bus.server, stream)
        assert await recorder.flush(5000)
        assert bus.stored() == ["asr.partial:1:0", "rec.in:0", "asr.partial:1:1", "rec.in:1"]

    run_virtual(scenario())


def test_connection_lost_and_back() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        recorder.record(partial(0))
        assert await recorder.flush(1000)
        bus.sender.interrupt()
        recorder.record(partial(1))
        recorder.record(partial(2))
        await asyncio.sleep(30)
        assert recorder.pending == 2
        before = asyncio.get_running_loop().time()
        bus.sender.restore()
        assert await recorder.flush(1000)
        assert asyncio.get_running_loop().time() - before < 0.05, "what waits leaves as soon as the connection is back"
        assert bus.stored() == bus.heard() == [f"asr.partial:1:{n}" for n in range(3)]

    run_virtual(scenario())


def test_retry_of_something_stored_is_a_duplicate() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        await bus.server.connect("before").store(
            subjects.event_subject("asr.partial", CALL), b"{}", {MESSAGE_ID: partial(0).dedupe_id}
        )
        recorder.record(partial(0))
        assert await recorder.flush(1000)
        assert publish.figures.duplicates == 1

    run_virtual(scenario())


def test_predecessors_last_breath_does_not_fence_off_the_successor() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        old, new = Recorder(bus.sender, service="asr"), Recorder(bus.server.connect("asr-2"), service="asr")
        old.record(final(1, epoch=1), fenced=True)
        assert await old.flush(1000)
        new.record(final(2, epoch=2), fenced=True)
        assert await new.flush(1000)
        # The old one is stopped in its tracks; pretend that it had written between the successor's look and its word.
        new._sequences = {fence_of(subjects.event_subject("asr.final", CALL)): 1}
        new.record(final(3, epoch=3), fenced=True)
        assert await new.flush(1000)
        assert bus.stored() == ["asr.final:1:0", "asr.final:2:0", "asr.final:3:0"]
        assert publish.figures.fenced == 0

    run_virtual(scenario())


def test_zombie_is_fenced_off_once_and_stops() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        old, new = Recorder(bus.sender, service="asr"), Recorder(bus.server.connect("asr-2"), service="asr")
        fenced: list[Event] = []
        old.on_fenced = fenced.append
        old.record(final(1, epoch=1), fenced=True)
        assert await old.flush(1000)
        new.record(final(2, epoch=2), fenced=True)
        assert await new.flush(1000)
        old.record(final(2, epoch=1), fenced=True)
        old.record(turn_ended(2, epoch=1), fenced=True)
        await until(lambda: fenced)
        assert short(fenced) == ["asr.final:2:0"]
        old.record(final(3, epoch=1), fenced=True)
        await asyncio.sleep(5)
        assert len(fenced) == 1
        assert old.pending == 0
        assert not await old.flush(100)
        assert bus.stored()[:2] == ["asr.final:1:0", "asr.final:2:0"]
        assert "asr.final:3:0" not in bus.stored()
        await old.close(1000)

    run_virtual(scenario())


def test_zombie_that_never_wrote_is_fenced_off_at_its_first_word() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        fenced: list[Event] = []
        new = Recorder(bus.server.connect("asr-2"), service="asr")
        new.record(final(1, epoch=2), fenced=True)
        assert await new.flush(1000)
        old = Recorder(bus.sender, service="asr")
        old.on_fenced = fenced.append
        old.record(final(2, epoch=1), fenced=True)
        await until(lambda: fenced)
        assert bus.stored() == ["asr.final:1:0"]

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("of_successor", "of_zombie"),
    [
        ([sentence(0, 2)], [sentence(1, 1)]),
        ([sentence(0, 2)], [answered(1)]),
        ([sentence(0, 2)], [sentence(0, 1), sentence(1, 1), answered(1)]),
        ([answered(2)], [sentence(1, 1)]),
    ],
    ids=["sentence-sentence", "sentence-done", "sentence-all", "done-sentence"],
)
def test_what_an_agents_worker_says_late_is_not_kept_for_what_its_successor_says(
    of_successor: list[Event], of_zombie: list[Event]
) -> None:
    """Both would say it under the same ids, and the stream keeps what comes first."""

    async def scenario() -> None:
        bus = await Bus().listen()
        old, new = Recorder(bus.sender, service="llm"), Recorder(bus.server.connect("llm-2"), service="llm")
        fenced: list[Event] = []
        old.on_fenced = fenced.append
        for event in of_successor:
            new.record(event, fenced=True)
        assert await new.flush(1000)
        for event in of_zombie:
            old.record(event, fenced=True)
        await until(lambda: fenced)
        said = [*of_successor, *(e for e in (sentence(1, 2), answered(2)) if e not in of_successor)]
        for event in said[len(of_successor) :]:
            new.record(event, fenced=True)
        assert await new.flush(1000)
        stored = [codec.decode_event(m.subject, m.data) for m in bus.server.streams["CALLS"].read("call.>")]
        assert stored == said
        assert old.pending == 0

    run_virtual(scenario())


@pytest.mark.parametrize("epoch", [1, 2])
def test_the_sequence_of_a_duplicate_opens_no_fence(epoch: int) -> None:
    """A stream with replicas looks at the dedupe id first, and tells the sequence of the message that it has."""

    async def scenario() -> None:
        bus = await Bus().listen()
        stream = bus.server.streams["CALLS"]
        check = stream._check

        def dedupe_first(subject: str, data: bytes, headers: dict[str, str]) -> None:
            if headers.get(MESSAGE_ID) not in stream._seen_ids:
                check(subject, data, headers)

        vars(stream)["_check"] = dedupe_first
        old, new = Recorder(bus.sender, service="llm"), Recorder(bus.server.connect("llm-2"), service="llm")
        fenced: list[Event] = []
        old.on_fenced = fenced.append
        said = [sentence(0, epoch + 1), sentence(1, epoch + 1)]
        await old.prepare(subjects.subject_of(said[0]))
        for event in said:
            new.record(event, fenced=True)
        assert await new.flush(1000)
        old.record(sentence(1, epoch), fenced=True)
        assert await old.flush(1000)
        old.record(sentence(2, epoch), fenced=True)
        await until(lambda: fenced)
        assert [codec.decode_event(m.subject, m.data) for m in stream.read("call.>")] == said

    run_virtual(scenario())


def test_an_agents_sentences_that_come_at_once_are_heard_at_once() -> None:
    """Behind one fence they are stored one after the other; who listens does not wait for that."""

    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        said = [sentence(0), sentence(1), sentence(2), answered()]
        stream = hide_stream(bus.server)
        for event in said:
            recorder.record(event, fenced=True)
        await asyncio.sleep(0.001)
        assert bus.heard() == short(said)
        show_stream(bus.server, stream)
        assert await recorder.flush(5000)
        assert bus.stored() == short(said)

    run_virtual(scenario())


def test_a_successor_goes_on_behind_what_its_predecessor_said_last() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        old, new = Recorder(bus.sender, service="llm"), await ready_recorder(bus.server.connect("llm-2"))
        old.record(sentence(0), fenced=True)
        assert await old.flush(1000)
        await new.prepare(subjects.subject_of(answered()))
        live = len(bus.live)
        new.record(sentence(1, 2), fenced=True)
        assert await new.flush(1000)
        assert len(bus.live) == live + 1, "its first word needs no second copy"
        # The predecessor wrote between the successor's look and its next word: its last breath.
        new._sequences = {fence_of(subjects.subject_of(answered())): 1}
        new.record(answered(2), fenced=True)
        assert await new.flush(1000)
        assert bus.stored() == short([sentence(0), sentence(1), answered()])

    run_virtual(scenario())


def test_a_successor_does_not_wait_for_a_replica_that_hangs() -> None:
    """What it could not learn in time it learns beside its first word, which is heard at once and stored after all."""

    async def scenario() -> None:
        bus = await Bus().listen()
        old, new = Recorder(bus.sender, service="llm"), await ready_recorder(bus.server.connect("llm-2"))
        old.record(sentence(0), fenced=True)
        assert await old.flush(1000)
        last, hangs = new._connection.last, [True]

        async def hang(subject: str, *arguments: Any) -> StoredMessage | None:
            if subject == subjects.subject_of(answered()) and hangs.pop() if hangs else False:
                await asyncio.sleep(2)
                raise BusTimeout("no answer")
            return await last(subject, *arguments)

        vars(new._connection)["last"] = hang
        began = asyncio.get_running_loop().time()
        await new.prepare(subjects.subject_of(answered()), subjects.subject_of(final(1)))
        assert asyncio.get_running_loop().time() - began < 0.5
        assert fence_of(subjects.subject_of(final(1))) in new._sequences, "one that hangs keeps nothing from the other"
        live = len(bus.live)
        new.record(sentence(1, 2), fenced=True)
        await asyncio.sleep(0.05)
        assert len(bus.live) > live
        assert await new.flush(1000)
        assert bus.stored() == short([sentence(0), sentence(1)])

    run_virtual(scenario())


@pytest.mark.parametrize("name", [name for name in subjects.EVENT_BY_NAME if name.startswith("llm.")])
def test_a_fence_of_several_subjects_knows_all_that_its_pattern_matches(name: str) -> None:
    """Else a refused writer never finds the message that refused it, and tries for ever."""
    subject = subjects.event_subject(name, CALL)
    fence = fence_of(subject)
    assert subjects.matches(fence.pattern, subject)
    assert subject in fence.members


def test_own_message_whose_word_was_lost_is_no_stale_write() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        recorder.record(final(1), fenced=True)
        assert await recorder.flush(1000)
        recorder._sequences[fence_of(subjects.event_subject("asr.final", CALL))] = 0
        recorder.record(final(1), fenced=True)
        recorder.record(final(2), fenced=True)
        assert await recorder.flush(5000)
        assert bus.stored() == ["asr.final:1:0", "asr.final:2:0"]

    run_virtual(scenario())


def test_fenced_message_carries_the_last_sequence() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        recorder.record(final(1), fenced=True)
        await recorder.flush(1000)
        recorder.record(final(2), fenced=True)
        await recorder.flush(1000)
        assert bus.live[-1].headers[EXPECTED_SUBJECT_SEQUENCE] == "1"

    run_virtual(scenario())


def test_refused_message_is_counted_and_the_rest_goes_on() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        recorder.record_audio(subjects.recording("in", CALL), b"x" * 70_000, "too-big")
        recorder.record(partial(1))
        assert await recorder.flush(1000)
        assert bus.stored() == ["asr.partial:1:1"]
        assert publish.figures.refused == 1

    run_virtual(scenario())


def test_message_that_can_not_be_sent_is_refused() -> None:
    async def scenario() -> None:
        server = MemoryServer()
        connection = server.connect("asr-1")
        recorder = await ready_recorder(connection)

        def explode(*_: object, **__: object) -> None:
            raise ValueError("too many bytes")

        connection.publish = explode  # type: ignore[method-assign]
        recorder.record_audio(subjects.recording("in", CALL), b"x", "a")
        assert await recorder.flush(1000)
        assert publish.figures.refused == 1

    run_virtual(scenario())


def test_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "AUDIO_LIMIT_BYTES", 5000)
    monkeypatch.setattr(publish, "EVENT_LIMIT", 6)

    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        bus.sender.interrupt()
        for number in range(10):
            recorder.record_audio(subjects.recording("in", CALL), b"x" * 1600, f"{CALL}:rec.in:{number}")
        assert recorder.pending == 3
        for number in range(10):
            recorder.record(partial(number))
        assert recorder.pending == 6
        assert publish.figures.dropped == 7 + 7
        bus.sender.restore()
        assert await recorder.flush(1000)
        assert bus.stored() == ["rec.in:0", "rec.in:1", "rec.in:2"] + [f"asr.partial:1:{n}" for n in range(3)]

    run_virtual(scenario())


def test_close_drops_what_is_not_stored_and_counts_it() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        bus.sender.interrupt()
        recorder.record(partial(0))
        await recorder.close(500)
        assert publish.figures.dropped == 1
        recorder.record(partial(1))
        assert publish.figures.dropped == 2
        bus.sender.restore()
        await asyncio.sleep(5)
        assert bus.stored() == []
        await recorder.close(0)

    run_virtual(scenario())


def test_old_unanswered_message_stops_the_pipeline() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        stream = hide_stream(bus.server)
        recorder.record(partial(0))
        await asyncio.sleep(0.15)
        show_stream(bus.server, stream)
        recorder.record(partial(1))
        await asyncio.sleep(0.1)
        assert bus.stored() == [], "the second must not overtake the first, whose fate is not known"
        assert bus.heard() == ["asr.partial:1:0", "asr.partial:1:1"]
        assert await recorder.flush(5000)
        assert bus.stored() == ["asr.partial:1:0", "asr.partial:1:1"]

    run_virtual(scenario())


def test_look_that_fails_after_a_refusal_is_made_again() -> None:
    """It takes longer than the pause before the retry, and no further event comes that would set things going."""

    async def scenario() -> None:
        bus = Bus()
        recorder = await ready_recorder(bus.sender)
        subject = subjects.subject_of(final(1))
        await recorder.prepare(subject)
        predecessor = final(1, epoch=1)
        await bus.sender.store(subject, codec.encode(predecessor), {MESSAGE_ID: predecessor.dedupe_id})
        last = bus.sender.last
        failures = [1]

        async def elected(*arguments: Any) -> StoredMessage | None:
            if failures.pop() if failures else 0:
                await asyncio.sleep(2)
                raise BusTimeout("the stream elects a leader")
            return await last(*arguments)

        vars(bus.sender)["last"] = elected
        recorder.record(final(2, epoch=2), fenced=True)
        assert await recorder.flush(10_000)
        assert bus.stored() == ["asr.final:1:0", "asr.final:2:0"]

    run_virtual(scenario())


def test_closed_guard_holds_everything_back() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        guard = guard_of(bus.sender)
        now = [0.0]
        guard._now = lambda: now[0]
        guard.arm(0.4)
        recorder.record(partial(0))
        assert await recorder.flush(1000)
        now[0] = 1.0
        recorder.record(partial(1))
        await asyncio.sleep(1)
        assert bus.heard() == bus.stored() == ["asr.partial:1:0"]
        guard.open()
        assert await recorder.flush(1000)
        assert bus.heard() == bus.stored() == ["asr.partial:1:0", "asr.partial:1:1"]
        await recorder.close(0)

    run_virtual(scenario())


def test_learning_waits_for_a_stream_that_answers() -> None:
    async def scenario() -> None:
        bus = await Bus().listen()
        recorder = await ready_recorder(bus.sender)
        original = bus.sender.last
        failures = [StoreUnavailable("no leader"), StoreUnavailable("no leader")]

        async def last(subject: str, stream: str = "CALLS") -> object:
            if failures:
                raise failures.pop()
            return await original(subject, stream)

        bus.sender.last = last  # type: ignore[method-assign, assignment]
        recorder.record(final(1), fenced=True)
        assert await recorder.flush(5000)
        failures.append(StoreUnavailable("no leader"))
        recorder._sequences[fence_of(subjects.event_subject("asr.final", CALL))] = 99
        recorder.record(final(2), fenced=True)
        assert await recorder.flush(5000)
        assert bus.stored() == ["asr.final:1:0", "asr.final:2:0"]

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("data", "headers", "expected"),
    [
        (b'{"stream":"CALLS","seq":7}', {}, StoreAck("CALLS", 7, False)),
        (b'{"stream":"CALLS","seq":7,"duplicate":true}', {}, StoreAck("CALLS", 7, True)),
    ],
)
def test_word_of_the_stream(data: bytes, headers: dict[str, str], expected: StoreAck) -> None:
    assert read_answer(Message("_INBOX.1", data, headers, "")) == expected


@pytest.mark.parametrize(
    ("data", "headers", "error"),
    [
        (b"", {"Status": "503"}, StoreUnavailable),
        (b"not json", {}, StoreUnavailable),
        (b'{"error":{"code":409,"err_code":10158,"description":"duplicate is in process"}}', {}, StoreUnavailable),
        (b'{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}', {}, StaleWrite),
        (b'{"error":{"code":503,"err_code":10008,"description":"no leader"}}', {}, StoreUnavailable),
        (b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"}}', {}, StaleWrite),
        (b'{"error":{"code":400,"err_code":10060,"description":"expected stream"}}', {}, StoreRefused),
    ],
)
def test_refusals_of_the_stream(data: bytes, headers: dict[str, str], error: type[Exception]) -> None:
    assert type(read_answer(Message("_INBOX.1", data, headers, ""))) is error
