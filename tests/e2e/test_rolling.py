"""A rolling restart of everything with 20 calls up, as an operator does it: no call is lost, no word, none said twice.

A worker of asr, llm and tts: the new one is started, and once it is ready the old one gets SIGTERM in the middle of a
turn. The edge: a second one takes the new calls while the first lets its own end. nats-server: stopped and started.
Every frame in both directions is marked: what is missing, twice or out of order is seen.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from bus.consume import read_call
from bus.kv import TypedBucket
from ops.supervisor import MODULES
from schemas.call import CallEnded, CallOffered, CallResult
from schemas.failure import Failure
from schemas.session import Owner
from tests.e2e.fleet import Fleet, fleet_of
from tests.e2e.nothing_lost import calls_in_order, check_heard, check_said_once, until_answered
from tests.e2e.system import INSTANT
from tests.fakes.crowd import Crowd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400), pytest.mark.xdist_group("timed")]

CALLS = 20
NEW_CALLS = 3
WORKER_DRAIN_S = 2.0
CALL_DRAIN_S = 60.0
ENVIRONMENT = {
    **INSTANT,
    "CALLBUS_OWNERSHIP__DRAIN_MS": str(int(WORKER_DRAIN_S * 1000)),
    "CALLBUS_EDGE__DRAIN_MS": str(int(CALL_DRAIN_S * 1000)),
}
SPEECH_FRAMES = 50
#: From the beginning of the callers' speech (1 s long; 0.5 s after it the turn ends and the answer, 1 s, begins).
SIGTERM_S = {"asr": 0.5, "llm": 1.45, "tts": 1.8}
ANSWER_DEADLINE_S = 15.0
END_DEADLINE_S = 10.0


class Conversation:
    """Callers who all speak at the same time, and what came of their calls."""

    def __init__(self, fleet: Fleet, crowd: Crowd, calls: list[CallOffered]) -> None:
        self.fleet = fleet
        self.crowd = crowd
        self.calls = calls
        self.turn = 0

    def speak(self) -> None:
        self.turn += 1
        for caller in self.crowd.callers:
            caller.speak(SPEECH_FRAMES)

    async def answered(self) -> None:
        """The turn is over, and nothing of it is lost or doubled."""
        supervisor = self.fleet.supervisor
        await until_answered(supervisor, self.calls, self.turn, time.monotonic() + ANSWER_DEADLINE_S)
        await asyncio.sleep(0.1)  # the last frame's way to the callers
        for caller, call in zip(self.crowd.callers, self.calls, strict=True):
            events = await read_call(supervisor.connection, call.call_id, call.tenant)
            check_heard(caller, events, self.turn)
            check_said_once(caller, events, self.turn)

    async def roll(self, stage: str) -> float:
        """A turn in whose middle the worker of a stage is replaced; ms until the new one owned every call."""
        old = self.fleet.running[stage]
        await self.fleet.start(stage)
        await self.fleet.ready()
        new = self.fleet.records[self.fleet.running[stage].pid].worker
        self.speak()
        await asyncio.sleep(SIGTERM_S[stage])
        told = time.monotonic()
        old.tell_to_stop()
        await self._owned(stage, new)
        took_ms = (time.monotonic() - told) * 1000
        assert await asyncio.wait_for(old.wait(), WORKER_DRAIN_S + 2) == 0
        await self.answered()
        return took_ms

    async def restart_server(self) -> None:
        """A turn in whose middle nats-server is stopped and started."""
        server = self.fleet.supervisor
        pid = server.server_pid
        self.speak()
        await asyncio.sleep(0.5)
        os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(10):
            while server.server_pid in (0, pid):
                await asyncio.sleep(0.05)
        await self.answered()

    async def hang_up(self) -> None:
        """Each caller hangs up; that, and nothing else, has ended the calls."""
        self.fleet.crowds.remove(self.crowd)
        await self.crowd.stop()
        connection = self.fleet.supervisor.connection
        async with asyncio.timeout(END_DEADLINE_S):
            for call in self.calls:
                ended: list[CallEnded] = []
                while not ended:
                    events = await read_call(connection, call.call_id, call.tenant)
                    ended = [event for event in events if isinstance(event, CallEnded)]
                    await asyncio.sleep(0.02)
                assert [(end.result, end.reason) for end in ended] == [(CallResult.COMPLETED, "caller_hung_up")]

    async def failures(self) -> set[str]:
        """The codes of all failure events of these calls."""
        connection = self.fleet.supervisor.connection
        found = [await read_call(connection, call.call_id, call.tenant) for call in self.calls]
        return {event.code for events in found for event in events if isinstance(event, Failure)}

    async def _owned(self, stage: str, worker: str) -> None:
        owners = await TypedBucket.open(self.fleet.supervisor.connection, "owners", Owner)
        async with asyncio.timeout(WORKER_DRAIN_S):
            for call in self.calls:
                while (entry := await owners.get(f"{stage}.{call.call_id}")) is None or entry.value.worker != worker:
                    await asyncio.sleep(0.01)


async def place(fleet: Fleet, count: int, known: frozenset[str] = frozenset()) -> Conversation:
    """Callers at the edge that takes new calls; they have heard the greeting."""
    crowd = Crowd()
    fleet.crowds.append(crowd)
    await crowd.start(count, fleet.sip_port())
    calls = await calls_in_order(fleet.supervisor, crowd, known)
    await until_answered(fleet.supervisor, calls, 0, time.monotonic() + ANSWER_DEADLINE_S)
    return Conversation(fleet, crowd, calls)


async def refused(sip_port: int) -> None:
    """One more call there is not taken."""
    crowd = Crowd()
    try:
        with pytest.raises(RuntimeError, match="503"):
            await crowd.start(1, sip_port)
    finally:
        await crowd.stop()


async def test_no_call_and_no_word_is_lost(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, ENVIRONMENT) as fleet:
        for service in MODULES:
            await fleet.start(service)
        await fleet.ready()
        callers = await place(fleet, CALLS)
        for stage in ("asr", "llm", "tts"):
            print(f"{stage}: the new worker owned all {CALLS} calls after {await callers.roll(stage):.0f} ms")
        assert await callers.failures() == set()
        await callers.restart_server()
        assert await callers.failures() <= {"bus_disconnected"}

        old, old_port = fleet.running["edge"], fleet.sip_port()
        await fleet.start("edge")
        await fleet.ready()
        told = time.monotonic()
        old.tell_to_stop()
        newcomers = await place(fleet, NEW_CALLS, frozenset(call.call_id for call in callers.calls))
        await refused(old_port)
        while time.monotonic() - told < WORKER_DRAIN_S + 0.5:
            await asyncio.sleep(0.05)
        callers.speak()
        newcomers.speak()
        await callers.answered()
        await newcomers.answered()
        assert old.return_code is None, "the edge waits for its calls"
        await callers.hang_up()
        assert await asyncio.wait_for(old.wait(), END_DEADLINE_S) == 0
        await newcomers.hang_up()
