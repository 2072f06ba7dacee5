"""Pause and resume of a call's agent: asked over the bus, heard on the wire, told in the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.control import send_control
from bus.memory import MemoryServer
from edge.net.pacer import Paced
from edge.sip.sdp import Direction
from schemas import call, control, playout
from schemas.audio import Codec
from schemas.base import Command, Event
from tests.edge.agent import finish, frames_of, speak
from tests.edge.harness import Edge, running_edge, until
from tests.fakes.caller import Caller, tone

pytestmark = pytest.mark.integration

SILENCE = bytes([Codec.PCMU.silence]) * 160


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


@pytest.fixture
async def edge(server: MemoryServer) -> AsyncIterator[Edge]:
    async with running_edge(server.connect("edge"), server.connect("observer")) as running:
        yield running


class Conversation:
    """A call whose agent speaks: utterance 100, one sentence of ``words``."""

    def __init__(self, edge: Edge, caller: Caller, words: list[bytes]) -> None:
        self.edge = edge
        self.caller = caller
        self.words = words

    async def begin(self, heard: int = 5) -> None:
        await self.caller.dial(self.edge.port)
        await self.edge.observer.wait_for(call.CallAnswered)
        speak(self.edge, 100, 0, self.words)
        await until(lambda: self.caller.has_heard(self.words[:heard]))

    async def ask(self, command: Command) -> control.ControlReply:
        return await send_control(self.edge.observer.connection, "edge", command)

    async def pause(
        self, utterance_id: int | None = 100, *, limit_ms: int = 10_000, reason: str = "barge_in"
    ) -> control.ControlReply:
        return await self.ask(
            control.Pause(
                call_id=self.edge.observer.call_id, utterance_id=utterance_id, limit_ms=limit_ms, reason=reason
            )
        )

    async def resume(self, utterance_id: int | None = 100, *, reason: str = "noise") -> control.ControlReply:
        return await self.ask(
            control.Resume(call_id=self.edge.observer.call_id, utterance_id=utterance_id, reason=reason)
        )

    async def listen(self, packets: int) -> None:
        """Until so many more packets came."""
        before = len(self.caller.rtp_in)
        await until(lambda: len(self.caller.rtp_in) >= before + packets)

    def heard(self) -> list[bytes]:
        """The agent's frames so far, without silence."""
        return [packet.payload for packet in self.caller.heard() if packet.payload in self.words]

    def told(self) -> list[Event]:
        """The record of the playout so far."""
        return [event for event in self.edge.observer.events if type(event).__module__ == playout.__name__]


async def test_a_pause_is_heard_told_and_taken_back(edge: Edge) -> None:
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(4000 + n) for n in range(30)])
        await line.begin()
        assert (await line.pause()).ok
        heard = len(line.heard())
        paused = await edge.observer.wait_for(playout.PlayoutPaused)
        await line.listen(8)
        assert len(line.heard()) <= heard + 1, "one may have been on its way"
        assert [packet.payload for packet in caller.heard()[-5:]] == [SILENCE] * 5
        started = edge.observer.of(playout.PlayoutStarted)[0]
        assert (paused.utterance_id, paused.number, paused.index, paused.why) == (100, 0, 0, "barge_in")
        assert paused.sent_ms == 20 * len(line.heard()) == paused.media_time_ms - started.media_time_ms
        assert (paused.remaining_ms, paused.complete) == (600 - paused.sent_ms, False)
        finish(edge, 100)
        assert (await line.resume()).ok
        finished = await edge.observer.wait_for(playout.PlayoutFinished)
        await until(lambda: caller.heard()[-1].payload == SILENCE)
        assert line.heard() == line.words
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
    resumed = edge.observer.of(playout.PlayoutResumed)[0]
    mark = edge.observer.of(playout.PlayoutMark)[0]
    assert line.told() == [started, paused, resumed, mark, finished]
    assert (resumed.number, resumed.why) == (0, "noise")
    silence_ms = resumed.media_time_ms - paused.media_time_ms
    assert silence_ms >= 140
    assert mark.start_ms == started.media_time_ms
    assert mark.media_time_ms == finished.media_time_ms == started.media_time_ms + 600 + silence_ms
    recorded = edge.observer.recorded["rec.out"]
    assert frames_of(recorded) == line.words
    assert recorded[-1].media_time + len(recorded[-1].payload) == finished.media_time_ms * 8


async def test_the_record_is_written_before_the_answer_leaves(edge: Edge) -> None:
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(n) for n in range(100)])
        await line.begin()
        (running,) = edge.board.calls.values()
        call_id, say = running.call_id, running.bus.say
        said: list[type[Event]] = []

        def spy(event_type: type[Event], **fields: Any) -> None:
            said.append(event_type)
            say(event_type, **fields)

        running.bus.say = spy  # type: ignore[method-assign]
        for command, event_type in (
            (control.Pause(call_id=call_id), playout.PlayoutPaused),
            (control.Resume(call_id=call_id), playout.PlayoutResumed),
            (control.Flush(call_id=call_id), playout.PlayoutFlushed),
        ):
            assert running.commands.handle(command).ok  # no turn to send comes in between
            assert said.pop() is event_type
            assert not said
        running.bus.say = say  # type: ignore[method-assign]
        caller.hang_up()


async def test_nobody_takes_it_back(edge: Edge) -> None:
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(n) for n in range(20)])
        await line.begin()
        assert (await line.pause(limit_ms=200)).ok
        finish(edge, 100)
        resumed = await edge.observer.wait_for(playout.PlayoutResumed)
        await edge.observer.wait_for(playout.PlayoutFinished)
        paused = edge.observer.of(playout.PlayoutPaused)[0]
        assert resumed.why == "limit"
        assert 200 <= resumed.media_time_ms - paused.media_time_ms <= 220
        await until(lambda: caller.heard()[-1].payload == SILENCE)
        assert line.heard() == line.words
        late = await line.resume()
        assert (late.ok, late.error) == (False, "unknown_utterance")
        caller.hang_up()


async def test_a_pause_that_is_confirmed(edge: Edge) -> None:
    """What was on its way is dropped by its id, and the next utterance begins."""
    answer = [tone(900 + n) for n in range(5)]
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(n) for n in range(40)])
        await line.begin()
        await line.pause()
        assert (await line.pause()).ok  # asked again: nothing is told
        await line.listen(5)
        flush = control.Flush(call_id=edge.observer.call_id, utterance_id=100, reason="barge_in")
        assert (await line.ask(flush)).ok
        speak(edge, 100, 1, line.words)
        speak(edge, 200, 0, answer)
        finish(edge, 200)
        await edge.observer.wait_for(playout.PlayoutFinished)
        await caller.hear(answer)
        caller.hang_up()
        ended = await edge.observer.wait_for(call.CallEnded)
    paused, flushed = edge.observer.of(playout.PlayoutPaused)[0], edge.observer.of(playout.PlayoutFlushed)[0]
    assert [type(event).__name__ for event in line.told()] == [
        "PlayoutStarted", "PlayoutPaused", "PlayoutFlushed", "PlayoutStarted", "PlayoutMark", "PlayoutFinished",
    ]  # fmt: skip
    assert (flushed.index, flushed.sent_ms, flushed.dropped_ms) == (0, paused.sent_ms, paused.remaining_ms)
    assert flushed.media_time_ms == paused.media_time_ms, "where the last packet of it ended"
    assert line.heard() == line.words[: paused.sent_ms // 20]
    assert ended.media.frames_dropped_stale == 40


async def test_what_cannot_be_held_or_resumed(edge: Edge) -> None:
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(n) for n in range(10)])
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        for reply in (await line.pause(None), await line.pause(100), await line.resume(None)):
            assert (reply.ok, reply.error) == (False, "unknown_utterance")
        speak(edge, 100, 0, line.words)
        finish(edge, 100)
        await until(lambda: caller.has_heard(line.words[:3]))
        assert (await line.pause(101)).error == "unknown_utterance"
        assert (await line.resume(100)).error == "unknown_utterance"
        await edge.observer.wait_for(playout.PlayoutFinished)
        assert (await line.pause(100)).error == "unknown_utterance"
        assert edge.observer.of(playout.PlayoutPaused) == []
        caller.hang_up()


async def test_reasons_are_tokens(edge: Edge) -> None:
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(n) for n in range(50)])
        await line.begin()
        await line.pause(None, reason="the caller said: one two three")
        await line.resume(None, reason="")
        resumed = await edge.observer.wait_for(playout.PlayoutResumed)
        assert (edge.observer.of(playout.PlayoutPaused)[0].why, resumed.why) == ("command", "command")
        caller.hang_up()


async def test_a_call_on_hold_with_a_paused_agent_loses_nothing(edge: Edge) -> None:
    """Held by the agent's policy, then by the caller, taken back in the same order."""
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(n) for n in range(40)])
        await line.begin()
        await line.pause()
        await caller.hold(Direction.SENDONLY)
        await edge.observer.wait_for(call.CallHeld)
        await asyncio.sleep(0.1)
        assert (await line.resume()).ok
        finish(edge, 100)
        await asyncio.sleep(0.1)
        heard = len(line.heard())
        assert heard < 40
        await caller.hold_off()
        await edge.observer.wait_for(playout.PlayoutFinished)
        await until(lambda: caller.heard()[-1].payload == SILENCE)
        assert line.heard() == line.words
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
    assert frames_of(edge.observer.recorded["rec.out"]) == line.words


async def test_a_limit_that_is_over_during_hold_ends_the_pause_after_it(edge: Edge) -> None:
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(n) for n in range(40)])
        await line.begin()
        await caller.hold(Direction.SENDONLY)
        await edge.observer.wait_for(call.CallHeld)
        await line.pause(limit_ms=60)
        finish(edge, 100)
        await asyncio.sleep(0.2)
        assert edge.observer.of(playout.PlayoutResumed) == []
        await caller.hold_off()
        assert (await edge.observer.wait_for(playout.PlayoutResumed)).why == "limit"
        await edge.observer.wait_for(playout.PlayoutFinished)
        await until(lambda: caller.heard()[-1].payload == SILENCE)
        assert line.heard() == line.words
        caller.hang_up()


async def test_a_held_utterance_at_the_end_of_the_call_is_told_as_flushed(edge: Edge) -> None:
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(n) for n in range(40)])
        await line.begin()
        await line.pause()
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
    flushed = edge.observer.of(playout.PlayoutFlushed)[0]
    assert (flushed.utterance_id, flushed.why) == (100, "call_ended")


async def test_silence_of_a_pause_keeps_the_slot_and_speech_after_it_does_not_wait(edge: Edge) -> None:
    """The pacer is asked to hurry once for the speech, not for what comes while it is held, and once to go on."""
    asked: list[str] = []
    pacer = edge.board.pacer
    hasten, relax = pacer.hasten, pacer.relax

    def spy_hasten(member: Paced) -> None:
        asked.append("hasten")
        hasten(member)

    def spy_relax(member: Paced) -> None:
        asked.append("relax")
        relax(member)

    pacer.hasten, pacer.relax = spy_hasten, spy_relax  # type: ignore[method-assign]
    async with Caller() as caller:
        line = Conversation(edge, caller, [tone(n) for n in range(40)])
        await line.begin()
        assert asked == ["hasten"]
        await line.pause()
        await line.listen(3)
        assert asked == ["hasten", "relax"]
        speak(edge, 100, 1, [tone(500 + n) for n in range(20)])
        finish(edge, 100, 2)
        await line.listen(3)
        assert asked == ["hasten", "relax"]
        await line.resume()
        await edge.observer.wait_for(playout.PlayoutFinished)
        await line.listen(2)
        assert asked == ["hasten", "relax", "hasten", "relax"]
        caller.hang_up()
