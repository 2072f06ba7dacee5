"""An edge dies with calls up: the stages are told, once, and only where it is really gone."""

from __future__ import annotations

import asyncio

import pytest

from bus import codec, ownership
from bus.consume import follow_all, follow_call
from bus.edges import LOST_S
from bus.fencing import MESSAGE_ID
from bus.heartbeat import Heartbeat
from bus.interface import Message
from bus.memory import MemoryServer
from bus.ownership import Claim, StageOwner
from config.settings import OwnershipSection
from schemas import subjects
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, EdgeLost
from schemas.session import Stage
from tests.bus.samples import AT_US, CALL, ended, offered, until
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit

SETTINGS = OwnershipSection()


class Nothing:
    async def release(self, why: str) -> None: ...


class Stand:
    """An edge that says what an edge says, and a worker of each stage with its call."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.connection = self.server.connect("edge-1")
        self.edge = Heartbeat(self.connection, Stage.EDGE, "edge-1", settings=SETTINGS)
        self.heard: list[Event] = []
        self.owners = [self.owner(stage) for stage in (Stage.ASR, Stage.LLM, Stage.TTS)]

    def owner(self, stage: Stage) -> StageOwner:
        async def accept(_: Claim) -> Nothing:
            return Nothing()

        name = f"{stage.value}-1"
        return StageOwner(self.server.connect(name), stage, name, slots=5, settings=SETTINGS, accept=accept)

    async def start(self) -> Stand:
        await self.edge.start()
        for owner in self.owners:
            await owner.start()
            feed = await follow_call(
                owner._connection, CALL, "default", self.heard.append, names=("call.ended",), service="asr"
            )
            await feed.caught_up.wait()
        await self.say(offered())
        await self.say(CallAnswered(call_id=CALL, at_us=AT_US, edge="edge-1", codec="PCMU", media_epoch_us=AT_US))
        await until(lambda: all(owner.calls for owner in self.owners))
        return self

    async def say(self, event: Event) -> None:
        await self.connection.store(subjects.subject_of(event), codec.encode(event), {MESSAGE_ID: event.dedupe_id})

    def ends(self) -> list[CallEnded]:
        """What the stages take for the end of their call; none of them may write that into the record."""
        assert not self.server.streams["CALLS"].read("call.*.*.call.ended")
        return [event for event in self.heard if isinstance(event, CallEnded)]

    def lost(self) -> list[EdgeLost]:
        found = self.server.streams["CALLS"].read("call.*.*.edge.lost")
        return [codec.decode(message.data, EdgeLost) for message in found]


def test_calls_of_a_killed_edge_are_ended_once() -> None:
    async def scenario() -> None:
        stand = await Stand().start()
        await asyncio.sleep(60)
        assert not stand.ends(), "it lives"
        stand.connection.kill()
        await stand.edge.stop()
        await asyncio.sleep(LOST_S - 2)
        assert not stand.ends()
        await asyncio.sleep(5)
        assert len(stand.ends()) == 3, "each stage, by its own judgement"
        for end in stand.ends():
            assert (end.result, end.reason, end.edge, end.ended_by) == ("failed", "edge_lost", "edge-1", "edge")
            assert end.duration_ms > 0
        (lost,) = stand.lost()
        assert lost.edge == "edge-1"
        assert lost.silent_ms >= LOST_S * 1000
        assert lost.duration_ms == stand.ends()[0].duration_ms
        await asyncio.sleep(60)
        assert len(stand.ends()) == 3, "once each, however long the stages keep the call"
        assert len(stand.lost()) == 1

    run_virtual(scenario())


def test_an_edge_that_comes_later_is_told() -> None:
    """The only edge died and its successor took a minute: nobody else may end the record."""

    async def scenario() -> None:
        stand = await Stand().start()
        stand.connection.kill()
        await stand.edge.stop()
        await asyncio.sleep(LOST_S + 60)
        assert len(stand.ends()) == 3
        connection = stand.server.connect("edge-2")
        heard: list[Event] = []
        await follow_all(connection, ("edge.lost",), heard.append, service="edge")
        await Heartbeat(connection, Stage.EDGE, "edge-2", settings=SETTINGS).start()
        await until(lambda: bool(heard), 15)
        assert isinstance(heard[0], EdgeLost)
        assert heard[0].edge == "edge-1"
        end = ended()
        said: list[Message] = []
        await connection.subscribe("call.*.*.edge.lost", said.append)
        await connection.store(subjects.subject_of(end), codec.encode(end), {MESSAGE_ID: end.dedupe_id})
        await asyncio.sleep(30)
        assert not said, "somebody has ended it"

    run_virtual(scenario())


def test_edge_that_answers_or_a_worker_that_was_away_ends_nothing() -> None:
    async def scenario() -> None:
        stand = await Stand().start()
        for task in stand.edge._tasks:
            task.cancel()
        await asyncio.sleep(5 * LOST_S)
        assert not stand.ends(), "no heartbeat comes, but it answers"
        stand.server.stop()
        await asyncio.sleep(2 * LOST_S)
        stand.server.start()
        await asyncio.sleep(LOST_S - 2)
        assert not stand.ends(), "the server was away: that is nobody's silence"

    run_virtual(scenario())


def test_call_claimed_after_its_edge_died_is_ended_too() -> None:
    """It rang while no worker of the stage was there, and the edge died before one came."""

    async def scenario() -> None:
        stand = Stand()
        await stand.say(offered())
        owner = stand.owners[0]
        await owner.start()
        await until(lambda: bool(owner.calls))
        await asyncio.sleep(LOST_S + 5)
        assert [lost.edge for lost in stand.lost()] == ["edge-1"]

    run_virtual(scenario())


def test_clock_that_runs_ahead_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The age of an offer is told by two clocks; one of them may have been set."""

    async def scenario() -> None:
        stand = Stand()
        monkeypatch.setattr(ownership, "wall_us", lambda: stand.server.clock.now_us() + 3600 * 1_000_000)
        await stand.edge.start()
        owner = stand.owners[0]
        await owner.start()
        await asyncio.sleep(1)
        await stand.say(offered())
        await until(lambda: bool(owner.calls))

    run_virtual(scenario())
