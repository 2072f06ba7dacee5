"""Streams: storing, dedupe, fencing, reading."""

from __future__ import annotations

import json

import pytest

from bus.errors import NotProvisioned, StaleWrite, StoreRefused, StoreUnavailable
from bus.fencing import (
    EXPECTED_ON,
    EXPECTED_SEQUENCE,
    EXPECTED_STREAM,
    EXPECTED_SUBJECT_SEQUENCE,
    INCREMENT,
    MESSAGE_ID,
)
from bus.interface import Message
from tests.bus.behaviours.worlds import World, until

BOTH = [pytest.param("memory", marks=pytest.mark.unit), pytest.param("nats", marks=pytest.mark.bus)]
pytestmark = pytest.mark.parametrize("world", BOTH, indirect=True)

FINAL = "call.default.c1.asr.final"


async def test_storing_is_acknowledged_and_heard_live(world: World) -> None:
    bus = await world.connect("a")
    got: list[Message] = []
    await bus.subscribe("call.>", got.append)
    first = await bus.store(FINAL, b"1")
    second = await bus.store(FINAL, b"2", {"Kind": "k"})
    assert (first.stream, first.duplicate) == ("CALLS", False)
    assert second.sequence == first.sequence + 1
    await until(lambda: len(got) == 2)
    assert [m.data for m in got] == [b"1", b"2"]
    assert got[1].headers["Kind"] == "k"


async def test_the_same_dedupe_id_is_stored_once(world: World) -> None:
    bus = await world.connect("a")
    first = await bus.store(FINAL, b"1", {MESSAGE_ID: "c1:asr.final:1:0"})
    again = await bus.store(FINAL, b"1", {MESSAGE_ID: "c1:asr.final:1:0"})
    elsewhere = await bus.store("call.default.c1.asr.partial", b"1", {MESSAGE_ID: "c1:asr.final:1:0"})
    assert again == (first.stream, first.sequence, True)
    assert elsewhere == (first.stream, first.sequence, True)
    assert [m.data async for m in bus.read("call.default.c1.>")] == [b"1"]


async def test_a_fenced_write_needs_the_last_sequence_of_its_subject(world: World) -> None:
    bus = await world.connect("a")
    first = await bus.store(FINAL, b"1", {EXPECTED_SUBJECT_SEQUENCE: "0"})
    await bus.store("call.default.c1.vad.started", b"other subjects do not matter")
    await bus.store(FINAL, b"2", {EXPECTED_SUBJECT_SEQUENCE: str(first.sequence)})
    with pytest.raises(StaleWrite) as refused:
        await bus.store(FINAL, b"zombie", {EXPECTED_SUBJECT_SEQUENCE: str(first.sequence), MESSAGE_ID: "z"})
    assert refused.value.code == 10071
    assert [m.data async for m in bus.read(FINAL)] == [b"1", b"2"]


async def test_a_fence_may_stand_around_several_subjects(world: World) -> None:
    bus = await world.connect("a")
    sentence, done = "call.default.c1.llm.sentence", "call.default.c1.llm.done"

    def after(sequence: int) -> dict[str, str]:
        return {EXPECTED_SUBJECT_SEQUENCE: str(sequence), EXPECTED_ON: "call.default.c1.llm.*"}

    first = await bus.store(sentence, b"1", after(0))
    await bus.store("call.default.c1.asr.final", b"other subjects do not matter")
    await bus.store("call.default.c2.llm.done", b"nor do other calls")
    second = await bus.store(done, b"2", after(first.sequence))
    with pytest.raises(StaleWrite) as refused:
        await bus.store(sentence, b"zombie", after(first.sequence))
    assert refused.value.code == 10071
    await bus.store(sentence, b"3", after(second.sequence))
    assert [m.data async for m in bus.read("call.default.c1.llm.*")] == [b"1", b"2", b"3"]


async def test_a_retry_whose_first_acknowledgement_got_lost_is_a_duplicate_not_stale(world: World) -> None:
    """The server checks the expected sequence before the dedupe id, and would call the retry stale."""
    bus = await world.connect("a")
    headers = {EXPECTED_SUBJECT_SEQUENCE: "0", MESSAGE_ID: "c1:asr.final:1:0"}
    first = await bus.store(FINAL, b"words, epoch 1", headers)
    again = await bus.store(FINAL, b"words, epoch 1", headers)
    assert again == (first.stream, first.sequence, True)


async def test_the_same_event_of_another_epoch_is_a_stale_write(world: World) -> None:
    bus = await world.connect("a")
    await bus.store(FINAL, b"words, epoch 2", {EXPECTED_SUBJECT_SEQUENCE: "0", MESSAGE_ID: "c1:asr.final:1:0"})
    with pytest.raises(StaleWrite):
        await bus.store(FINAL, b"words, epoch 1", {EXPECTED_SUBJECT_SEQUENCE: "0", MESSAGE_ID: "c1:asr.final:1:0"})


async def test_expected_last_sequence_of_the_stream(world: World) -> None:
    bus = await world.connect("a")
    first = await bus.store(FINAL, b"1")
    await bus.store(FINAL, b"2", {EXPECTED_SEQUENCE: str(first.sequence)})
    with pytest.raises(StaleWrite):
        await bus.store(FINAL, b"3", {EXPECTED_SEQUENCE: str(first.sequence)})


async def test_a_message_that_expects_another_stream_is_heard_but_not_stored(world: World) -> None:
    bus = await world.connect("a")
    got: list[Message] = []
    answers: list[Message] = []
    await bus.subscribe("call.>", got.append)
    await bus.subscribe("my.inbox", answers.append)
    bus.publish(FINAL, b"live only", {EXPECTED_STREAM: "NONE", MESSAGE_ID: "m1"})
    bus.publish(FINAL, b"live only", {EXPECTED_STREAM: "NONE", MESSAGE_ID: "m1"}, "my.inbox")
    await until(lambda: len(got) == 2 and answers)
    assert json.loads(answers[0].data)["error"]["err_code"] == 10060
    with pytest.raises(StoreRefused) as refused:
        await bus.store(FINAL, b"live only", {EXPECTED_STREAM: "NONE"})
    assert refused.value.code == 10060
    assert [m async for m in bus.read(FINAL)] == []
    assert (await bus.store(FINAL, b"now stored", {MESSAGE_ID: "m1"})).duplicate is False


async def test_publishing_with_a_reply_brings_the_streams_word(world: World) -> None:
    bus = await world.connect("a")
    answers: list[Message] = []
    await bus.subscribe("my.inbox", answers.append)
    bus.publish(FINAL, b"1", {MESSAGE_ID: "m1"}, "my.inbox")
    bus.publish(FINAL, b"1", {MESSAGE_ID: "m1"}, "my.inbox")
    await until(lambda: len(answers) == 2)
    first, second = (json.loads(answer.data) for answer in answers)
    assert (first["stream"], "duplicate" in first) == ("CALLS", False)
    assert (second["seq"], second["duplicate"]) == (first["seq"], True)


async def test_what_no_stream_captures_is_unavailable_at_once(world: World) -> None:
    bus = await world.connect("a")
    with pytest.raises(StoreUnavailable):
        await bus.store("nowhere.at.all", b"", timeout_ms=60_000)


async def test_what_is_too_large_for_the_stream_is_refused_for_good(world: World) -> None:
    bus = await world.connect("a")
    with pytest.raises(StoreRefused) as refused:
        await bus.store(FINAL, b"x" * 65_537)
    assert not isinstance(refused.value, StaleWrite)


async def test_reading_is_in_order_across_subjects(world: World) -> None:
    bus = await world.connect("a")
    for number in range(700):
        name = ("asr.partial", "vad.started", "rec.in")[number % 3]
        bus.publish(f"call.default.c1.{name}", b"%d" % number, {"Number": str(number)})
        bus.publish("call.default.c2.asr.final", b"another call")
    await bus.store("call.default.c1.call.ended", b"700")
    read = [message async for message in bus.read("call.default.c1.>")]
    assert [m.data for m in read] == [b"%d" % number for number in range(701)]
    assert read[7].headers == {"Number": "7"}
    assert read[7].subject == "call.default.c1.vad.started"
    sequences = [m.stream_sequence for m in read]
    assert sequences == sorted(sequences)
    assert read[0].stored_us <= read[-1].stored_us
    later = [message async for message in bus.read("call.default.c1.>", from_sequence=sequences[690])]
    assert later == read[690:]


async def test_reading_ends_with_what_was_there_when_it_began(world: World) -> None:
    bus = await world.connect("a")
    for number in range(5):
        await bus.store(FINAL, b"%d" % number)
    read: list[bytes] = []
    async for message in bus.read(FINAL):
        read.append(message.data)
        await bus.store(FINAL, b"new")
    assert read == [b"0", b"1", b"2", b"3", b"4"]


async def test_reading_what_is_not_there(world: World) -> None:
    bus = await world.connect("a")
    assert [m async for m in bus.read("call.default.nobody.>")] == []
    await bus.store(FINAL, b"1")
    assert [m async for m in bus.read("call.default.nobody.>")] == []
    assert [m async for m in bus.read(FINAL, from_sequence=99)] == []
    with pytest.raises(NotProvisioned, match="callbus provision"):
        assert [m async for m in bus.read("x", stream="NO_SUCH_STREAM")]


async def test_last_is_the_newest_of_exactly_one_subject(world: World) -> None:
    bus = await world.connect("a")
    assert await bus.last(FINAL) is None
    await bus.store(FINAL, b"1", {"Kind": "k"})
    ack = await bus.store(FINAL, b"2", {"Kind": "k2"})
    await bus.store("call.default.c1.asr.partial", b"3")
    last = await bus.last(FINAL)
    assert (last.data, last.stream_sequence, last.headers["Kind"]) == (b"2", ack.sequence, "k2")
    assert last.subject == FINAL
    with pytest.raises(NotProvisioned):
        await bus.last(FINAL, stream="NO_SUCH_STREAM")


async def test_history_copies_events_but_no_audio_in_the_same_order(world: World) -> None:
    bus = await world.connect("a")
    names = ["call.offered", "rec.in", "asr.final", "rec.out", "failure", "turn.ended", "asr.final", "playout.mark"]
    for name in names:
        await bus.store(f"call.default.c1.{name}", name.encode())
    wanted = [name.encode() for name in names if not name.startswith("rec")]
    for _ in range(500):
        copied = [m.data async for m in bus.read("call.default.c1.>", stream="HISTORY")]
        if len(copied) == len(wanted):
            break
        await world.elapse(10)
    assert copied == wanted


async def test_limits_add_up(world: World) -> None:
    bus = await world.connect("a")
    await bus.store("limit.tenant.minute", b"", {INCREMENT: "+1"})
    await bus.store("limit.tenant.minute", b"", {INCREMENT: "+2"})
    last = await bus.last("limit.tenant.minute", stream="LIMITS")
    assert json.loads(last.data) == {"val": "3"}
    with pytest.raises(StoreRefused):
        await bus.store("limit.tenant.minute", b"")


async def test_dead_letters_are_kept(world: World) -> None:
    bus = await world.connect("a")
    ack = await bus.store("dead_letter.asr", b"\xff", {"Reason": "no JSON"})
    assert ack.stream == "DEAD_LETTERS"
    assert (await bus.last("dead_letter.asr", stream="DEAD_LETTERS")).headers["Reason"] == "no JSON"
