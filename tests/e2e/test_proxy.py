"""A proxy that stays in the way (Kamailio with record_route()): every request of a call goes through it, both ways."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from bus.consume import read_call
from ops.caller import CallReport, CallScript, Hold, Outcome, Pause, PressKeys, Resume
from ops.caller.call import CallOptions, place_call
from ops.caller.script import Step
from ops.session import offered_calls
from ops.supervisor import Supervisor
from schemas.base import Event
from schemas.call import CallEnded, CallHeld
from services.audio.wav import write_wav
from tests.e2e.peers import baresip_calls, baresip_home, free_port, program, running, text_of
from tests.e2e.system import HOST, INSTANT, running_system

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

DATA = Path(__file__).parents[1] / "data"
KEYS_AGENT = {**INSTANT, "CALLBUS_LLM__ENGINE": "scripted", "CALLBUS_LLM__AGENT": str(DATA / "agents" / "keys.toml")}
LEGS = [("udp", "udp"), ("udp", "tcp"), ("tcp", "udp"), ("tcp", "tcp")]
"""Transport from the caller to the proxy, and from the proxy to the edge."""
HOLDS = (Pause(0.6), Hold(), Pause(0.4), Resume(), Pause(0.4))
IS_HUNG_UP_ON = (Pause(1.0), PressKeys("1"), Pause(8.0))


async def records(supervisor: Supervisor, count: int) -> dict[str, list[Event]]:
    """What is on record, by caller, once ``count`` calls have ended."""
    async with asyncio.timeout(10):
        while True:
            calls = [call async for call in offered_calls(supervisor.connection)]
            found = {call.caller: await read_call(supervisor.connection, call.call_id, call.tenant) for call in calls}
            if sum(isinstance(event, CallEnded) for events in found.values() for event in events) == count:
                return found
            await asyncio.sleep(0.1)


def check(reports: Sequence[CallReport], ended_by: str, said: str) -> None:
    """Every call was completed and ended by ``ended_by``; ``said``: the proxy's words."""
    for report in reports:
        assert report.succeeded, (report, said)
        assert (report.outcome, report.ended_by) == (Outcome.COMPLETED, ended_by), said


async def test_calls_through_a_proxy_that_records_its_route(tmp_path: Path) -> None:
    kamailio = program("kamailio")
    program("baresip")
    port = free_port(socket.SOCK_STREAM)
    says = tmp_path / "silence.wav"
    write_wav(says, bytes(16 * 20_000), 8000)
    home = baresip_home(tmp_path / "baresip", says)

    async def call(name: str, caller_leg: str, edge_leg: str, steps: tuple[Step, ...]) -> CallReport:
        target = f"sip:{edge_leg}@{HOST}:{port};transport={caller_leg}"
        options = CallOptions(from_uri=f"sip:{name}_{caller_leg}_{edge_leg}@{HOST}", call_limit_s=15.0)
        return await place_call(target, CallScript(steps), options=options)

    async with running_system(tmp_path, environment=KEYS_AGENT) as supervisor:
        command = [kamailio, "-f", str(DATA / "kamailio" / "kamailio.cfg"), "-DD", "-E"]
        edge = f"sip:{HOST}:{supervisor.sip_port}"
        command += ["-A", f"PROXY_PORT={port}", "-A", f'EDGE_UDP="{edge}"', "-A", f'EDGE_TCP="{edge};transport=tcp"']
        log = tmp_path / "kamailio.log"
        async with running(*command, log=log, ready="Listening on"):
            await asyncio.sleep(0.5)
            held, left, phone = await asyncio.gather(
                asyncio.gather(*(call("holds", *legs, HOLDS) for legs in LEGS)),
                asyncio.gather(*(call("left", *legs, IS_HUNG_UP_ON) for legs in LEGS)),
                baresip_calls(f"sip:tcp@{HOST}:{port}", home, 4),
            )
        said = text_of(log)
        check(held, "caller", said)
        check(left, "callee", said)
        assert "Call established" in phone.said, phone.said
        found = await records(supervisor, 2 * len(LEGS) + 1)
    for name, events in found.items():
        (ended,) = (event for event in events if isinstance(event, CallEnded))
        assert ended.reason == ("agent_hung_up" if name.startswith("left") else "caller_hung_up"), (name, said)
        if name.startswith("holds"):
            assert [event.held for event in events if isinstance(event, CallHeld)] == [True, False]
