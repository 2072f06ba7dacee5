from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bus import codec, consume
from bus.consume import CallFeed, follow_all, follow_call, read_call, read_recording, subscribe_audio
from bus.dead_letter import REASON_HEADER, SUBJECT_HEADER
from bus.errors import BusUnavailable
from bus.fencing import MESSAGE_ID
from bus.interface import Message
from bus.memory import MemoryServer
from bus.tracing import figures_of
from schemas import subjects
from schemas.audio import AudioFrame, pack_audio
from schemas.base import Event
from tests.bus.samples import CALL, ended, final, offered, partial, sentence, short, turn_ended, until
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit


class Bus:
    """A server, somebody who says things, a reader, and the dead letters."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.speaker = self.server.connect("edge-1")
        self.reader = self.server.connect("llm-1")
        self.dead: list[Message] = []
        self.events: list[Event] = []

    async def open(self) -> Bus:
        await self.speaker.subscribe("dead_letter.>", self.dead.append)
        return self

    async def say(self, *events: Event) -> None:
        for event in events:
            await self.speaker.store(subjects.subject_of(event), codec.encode(event), {MESSAGE_ID: event.dedupe_id})

    def say_live(self, *events: Event) -> None:
        for event in events:
            self.speaker.publish(
                subjects.subject_of(event),
                codec.encode(event),
                {MESSAGE_ID: event.dedupe_id, "Nats-Expected-Stream": "live-only"},
            )

    async def follow(self, names: tuple[str, ...] = (), **options: Any) -> CallFeed:
        return await follow_call(
            self.reader, CALL, "default", self.events.append, names=names, service="llm", **options
        )

    def heard(self) -> list[str]:
        return short(self.events)


def test_stored_first_then_live_each_once() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        await bus.say(offered(), partial(0), final(1))
        feed = await bus.follow()
        await bus.say(turn_ended(1))
        await feed.caught_up.wait()
        await bus.say(sentence(0))
        bus.say_live(sentence(0), sentence(1))
        await bus.say(sentence(1))
        await until(lambda: len(bus.events) >= 6)
        await asyncio.sleep(1)
        assert bus.heard() == [
            "call.offered", "asr.partial:1:0", "asr.final:1:0", "turn.ended:1", "llm.sentence:100:0",
            "llm.sentence:100:1",
        ]  # fmt: skip
        await feed.close()
        await bus.say(ended())
        await asyncio.sleep(1)
        assert len(bus.events) == 6, "a closed feed is silent"
        await feed.close()

    run_virtual(scenario())


def test_only_the_wanted_names_in_one_order() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        await bus.say(offered(), partial(0), final(1), turn_ended(1), sentence(0), ended())
        feed = await bus.follow(("llm.*", "asr.final", "call.ended"))
        await feed.caught_up.wait()
        await bus.say(turn_ended(2), sentence(1), final(2))
        await asyncio.sleep(1)
        assert bus.heard() == [
            "asr.final:1:0", "llm.sentence:100:0", "call.ended", "llm.sentence:100:1", "asr.final:2:0"
        ]  # fmt: skip
        await feed.close()

    run_virtual(scenario())


def test_order_holds_across_names_when_much_comes_at_once() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        feed = await bus.follow()
        await feed.caught_up.wait()
        said: list[Event] = []
        for number in range(1, 20):
            said += [partial(number), final(number), turn_ended(number), sentence(number)]
        bus.say_live(*said)
        await asyncio.sleep(1)
        assert bus.heard() == short(said)
        await feed.close()

    run_virtual(scenario())


def test_live_only_from_now_on() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        await bus.say(offered())
        feed = await bus.follow(from_start=False)
        assert feed.caught_up.is_set()
        await bus.say(final(1))
        bus.reader.interrupt()
        await bus.say(final(2))
        bus.reader.restore()
        await asyncio.sleep(1)
        assert bus.heard() == ["asr.final:1:0", "asr.final:2:0"]
        await feed.close()

    run_virtual(scenario())


def test_what_was_missed_is_read_after_a_reconnect() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        feed = await bus.follow()
        await bus.say(offered(), final(1))
        await asyncio.sleep(0.1)
        bus.reader.interrupt()
        await bus.say(final(2), turn_ended(2))
        await asyncio.sleep(5)
        bus.reader.restore()
        await bus.say(final(3))
        await asyncio.sleep(1)
        assert bus.heard() == ["call.offered", "asr.final:1:0", "asr.final:2:0", "turn.ended:2", "asr.final:3:0"]
        await feed.close()

    run_virtual(scenario())


def test_live_goes_on_while_the_stream_can_not_be_read() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        feed = await bus.follow(("asr.*",))
        await bus.say(final(1))
        await asyncio.sleep(0.1)
        bus.reader.interrupt()
        await bus.say(final(2))
        reading, bus.reader.read = bus.reader.read, _unreadable  # type: ignore[method-assign, assignment]
        bus.reader.restore()
        await bus.say(final(3))
        await asyncio.sleep(0.2)
        assert bus.heard() == ["asr.final:1:0"], "held for a moment, so that the missed one can come first"
        await asyncio.sleep(0.2)
        assert bus.heard() == ["asr.final:1:0", "asr.final:3:0"], "then live goes on"
        bus.reader.read = reading  # type: ignore[method-assign]
        await asyncio.sleep(3)
        assert bus.heard() == ["asr.final:1:0", "asr.final:3:0", "asr.final:2:0"]
        await feed.close()

    run_virtual(scenario())


def test_first_reading_waits_for_the_stream() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        await bus.say(offered())
        reading, bus.reader.read = bus.reader.read, _unreadable  # type: ignore[method-assign, assignment]
        feed = await bus.follow()
        await bus.say(final(1))
        await asyncio.sleep(2)
        assert bus.heard() == []
        assert not feed.caught_up.is_set()
        bus.reader.read = reading  # type: ignore[method-assign]
        await feed.caught_up.wait()
        assert bus.heard() == ["call.offered", "asr.final:1:0"]
        await feed.close()

    run_virtual(scenario())


def _unreadable(*_: object, **__: object) -> Any:
    async def nothing() -> Any:
        raise BusUnavailable("no leader")
        yield

    return nothing()


def test_slow_reader_that_lost_messages_reads_them_again() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        feed = await bus.follow(("asr.*",))
        await feed.caught_up.wait()
        subscription = bus.server._subscriptions[-1]
        subscription._pending_limit = 2
        for turn in range(1, 6):
            message = Message(
                subjects.subject_of(final(turn)), codec.encode(final(turn)), {MESSAGE_ID: final(turn).dedupe_id}, ""
            )
            bus.server.publish(message)
        await asyncio.sleep(1)
        assert subscription.dropped == 3
        assert sorted(bus.heard()) == [f"asr.final:{turn}:0" for turn in range(1, 6)]
        await feed.close()

    run_virtual(scenario())


def test_lower_epoch_than_seen_is_ignored_and_does_not_hide_the_successors_word() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        feed = await bus.follow()
        await feed.caught_up.wait()
        bus.say_live(partial(1, epoch=1), partial(2, epoch=2))
        bus.say_live(turn_ended(5, epoch=1))
        bus.say_live(turn_ended(5, epoch=2))
        bus.say_live(sentence(0, epoch=1))
        await asyncio.sleep(1)
        assert bus.heard() == ["asr.partial:1:1", "asr.partial:1:2", "turn.ended:5", "llm.sentence:100:0"]
        assert [event.epoch for event in bus.events] == [1, 2, 2, 1]
        await feed.close()

    run_virtual(scenario())


def test_undecodable_goes_to_the_dead_letters_once_and_the_feed_goes_on() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        subject = subjects.event_subject("asr.final", CALL)
        await bus.speaker.store(subject, b"\x00rubbish", {})
        feed = await bus.follow()
        await bus.speaker.store(subject, b"{}", {MESSAGE_ID: "bad"})
        bus.reader.interrupt()
        bus.reader.restore()
        await bus.say(final(1))
        await asyncio.sleep(1)
        assert bus.heard() == ["asr.final:1:0"]
        assert [(m.subject, m.data) for m in bus.dead] == [
            ("dead_letter.llm", b"\x00rubbish"),
            ("dead_letter.llm", b"{}"),
        ]
        assert bus.dead[0].headers[SUBJECT_HEADER] == subject
        assert "not a AsrFinal" in bus.dead[0].headers[REASON_HEADER]
        await feed.close()

    run_virtual(scenario())


def test_events_of_newer_peers_are_left_out() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        await bus.speaker.store(subjects.event_subject("asr.mood", CALL), b"{}", {})
        feed = await bus.follow()
        await bus.speaker.store(subjects.event_subject("asr.mood", CALL), b"{}", {})
        await feed.caught_up.wait()
        await asyncio.sleep(1)
        assert bus.events == []
        assert bus.dead == []
        assert await read_call(bus.reader, CALL, "default") == []
        await feed.close()

    run_virtual(scenario())


def test_raising_handler_is_counted_and_ends_nothing() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        seen: list[Event] = []

        def handler(event: Event) -> None:
            seen.append(event)
            raise RuntimeError("broken")

        feed = await follow_call(bus.reader, CALL, "default", handler, names=("asr.final",), service="raising")
        await bus.say(final(1), final(2))
        await asyncio.sleep(1)
        assert short(seen) == ["asr.final:1:0", "asr.final:2:0"]
        figures = figures_of("raising call.*.*.asr.final")
        assert (figures.count, figures.errors, figures.last_error) == (2, 2, "RuntimeError")
        await feed.close()

    run_virtual(scenario())


def test_follow_that_can_not_subscribe_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        connection = MemoryServer().connect("x")

        async def refuse(*_: object, **__: object) -> Any:
            raise BusUnavailable("closed")

        connection.subscribe = refuse  # type: ignore[method-assign]
        with pytest.raises(BusUnavailable):
            await follow_call(connection, CALL, "default", lambda _: None, service="x")
        assert not consume._feeds_of(connection)

    run_virtual(scenario())


def test_reconnect_while_reading_reads_once_more() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        await bus.say(offered())
        feed = await bus.follow()
        feed.read_again()
        await feed.caught_up.wait()
        await asyncio.sleep(1)
        assert bus.heard() == ["call.offered"]
        await feed.close()
        feed.read_again()

    run_virtual(scenario())


def test_follow_all_hears_every_call_once() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        other = "0192f0c0aaaa7bbb8ccceeeeeeeeeeee"
        everything = await follow_all(bus.reader, (), bus.events.append, service="tail")
        bus.say_live(offered(), offered(other), final(1))
        await bus.say(final(1), final(1, call_id=other))
        bus.speaker.publish(subjects.event_subject("asr.final", other), b"rubbish")
        bus.speaker.publish(subjects.event_subject("asr.mood", other), b"{}")
        await asyncio.sleep(1)
        assert [event.call_id for event in bus.events] == [CALL, other, CALL, other]
        assert len(bus.dead) == 1
        assert everything.dropped == 0
        await everything.close()
        bus.say_live(ended())
        await asyncio.sleep(1)
        assert len(bus.events) == 4

    run_virtual(scenario())


def test_follow_all_in_a_group_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "LIVE_MEMORY", 2)

    async def scenario() -> None:
        bus = await Bus().open()
        for _ in range(2):
            await follow_all(bus.reader, ("asr.final",), bus.events.append, service="tail", queue="group")
        bus.say_live(*(final(turn) for turn in range(1, 9)))
        await asyncio.sleep(1)
        assert sorted(bus.heard()) == [f"asr.final:{turn}:0" for turn in range(1, 9)]

    run_virtual(scenario())


def test_read_call_gives_the_stream_in_order() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        await bus.say(offered(), final(1), sentence(0), ended())
        await bus.speaker.store(subjects.event_subject("asr.final", CALL), b"rubbish", {})
        assert short(await read_call(bus.reader, CALL, "default")) == [
            "call.offered", "asr.final:1:0", "llm.sentence:100:0", "call.ended"
        ]  # fmt: skip
        assert short(await read_call(bus.reader, CALL, "default", ("call.*",))) == ["call.offered", "call.ended"]

    run_virtual(scenario())


def test_recording_is_read_chunk_by_chunk() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        subject = subjects.recording("in", CALL)
        for number in range(3):
            await bus.speaker.store(subject, pack_audio(b"x" * 1600, sequence=number * 10, frame_count=10), {})
        await bus.speaker.store(subject, b"short", {})
        chunks = [frame async for frame in read_recording(bus.reader, "in", CALL, "default")]
        assert [chunk.sequence for chunk in chunks] == [0, 10, 20]

    run_virtual(scenario())


def test_audio_is_live_and_rubbish_goes_to_the_dead_letters() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        frames: list[AudioFrame] = []
        subject = subjects.live_audio("in", CALL)
        subscription = await subscribe_audio(bus.reader, subject, frames.append, service="asr")
        bus.speaker.publish(subject, pack_audio(b"\xff" * 160, sequence=1))
        bus.speaker.publish(subject, b"short")
        bus.speaker.publish(subject, pack_audio(b"\xff" * 160, sequence=2))
        await asyncio.sleep(1)
        assert [frame.sequence for frame in frames] == [1, 2]
        assert "shorter than its 16-byte header" in bus.dead[0].headers[REASON_HEADER]
        await subscription.close()

    run_virtual(scenario())


def test_feed_of_a_connection_that_is_gone_is_forgotten() -> None:
    async def scenario() -> None:
        bus = await Bus().open()
        feed = await bus.follow()
        assert consume._feeds_of(bus.reader) == {feed}
        await feed.close()
        assert not consume._feeds_of(bus.reader)

    run_virtual(scenario())


def test_a_stage_that_reads_a_copy_finds_what_came_into_it_late() -> None:
    """A copy stands still while its servers elect, and the stage was not there when the event was live."""

    async def scenario() -> None:
        bus = await Bus().open()
        copies, bus.server.streams["CALLS"].copies = bus.server.streams["CALLS"].copies, []
        said = sentence(0)
        await bus.say(said)
        heard: dict[str, list[Event]] = {"tts": [], "asr": []}
        for service, events in heard.items():
            feed = await follow_call(
                bus.reader, CALL, "default", events.append, names=("llm.sentence",), service=service
            )
            await feed.caught_up.wait()
        assert {name: len(events) for name, events in heard.items()} == {"tts": 0, "asr": 1}
        await asyncio.sleep(4)
        for copy in copies:
            copy.append(subjects.subject_of(said), codec.encode(said), {MESSAGE_ID: said.dedupe_id})
        await until(lambda: len(heard["tts"]) == 1)
        await asyncio.sleep(60)
        assert {name: len(events) for name, events in heard.items()} == {"tts": 1, "asr": 1}, "once each"

    run_virtual(scenario())
