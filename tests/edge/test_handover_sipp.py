"""A real telephone is handed over: sipp's caller takes the REFER and reports (Debian package sip-tester)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus.control import send_control
from bus.memory import MemoryServer
from schemas import call, control
from schemas.call import TransferResult
from tests.edge.harness import Edge, running_edge
from tests.fakes.caller import HOST

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not shutil.which("sipp"), reason="sipp is not installed: apt-get install sip-tester"),
]

DEADLINE_S = 20

HEAD = """<?xml version="1.0" encoding="UTF-8" ?>
<scenario name="a telephone that is handed over">
  <send retrans="500"><![CDATA[
    INVITE sip:bank@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    Max-Forwards: 70
    From: <sip:caller@[local_ip]:[local_port]>;tag=[pid]-[call_number]
    To: <sip:bank@[remote_ip]:[remote_port]>
    Call-ID: [call_id]
    CSeq: 1 INVITE
    Contact: <sip:caller@[local_ip]:[local_port]>
    Content-Type: application/sdp
    Content-Length: [len]

    v=0
    o=- 1 1 IN IP4 [local_ip]
    s=-
    c=IN IP4 [media_ip]
    t=0 0
    m=audio [media_port] RTP/AVP 0
    a=rtpmap:0 PCMU/8000

  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="200" rrs="true"/>
  <send><![CDATA[
    ACK sip:bank@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    Max-Forwards: 70
    From: <sip:caller@[local_ip]:[local_port]>;tag=[pid]-[call_number]
    [last_To:]
    Call-ID: [call_id]
    CSeq: 1 ACK
    Content-Length: 0

  ]]></send>
  <recv request="REFER">
    <action><ereg regexp="&lt;sip:desk@192.0.2.9&gt;" search_in="hdr" header="Refer-To:" check_it="true" assign_to="1"/>
    <log message="[$1]"/></action>
  </recv>
  <send><![CDATA[
    SIP/2.0 202 Accepted
    [last_Via:]
    [last_From:]
    [last_To:]
    [last_Call-ID:]
    [last_CSeq:]
    Contact: <sip:caller@[local_ip]:[local_port]>
    Content-Length: 0

  ]]></send>
"""

NOTIFY = """
  <send retrans="500"><![CDATA[
    NOTIFY sip:bank@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    Max-Forwards: 70
    From: <sip:caller@[local_ip]:[local_port]>;tag=[pid]-[call_number]
    To: <sip:bank@[remote_ip]:[remote_port]>[peer_tag_param]
    Call-ID: [call_id]
    CSeq: {number} NOTIFY
    Contact: <sip:caller@[local_ip]:[local_port]>
    Event: refer
    Subscription-State: {state}
    Content-Type: message/sipfrag;version=2.0
    Content-Length: [len]

    SIP/2.0 {status}
  ]]></send>
  <recv response="200"/>
"""

BYE_RECEIVED = """
  <recv request="BYE"/>
  <send><![CDATA[
    SIP/2.0 200 OK
    [last_Via:]
    [last_From:]
    [last_To:]
    [last_Call-ID:]
    [last_CSeq:]
    Content-Length: 0

  ]]></send>
"""

TAIL = "\n</scenario>\n"


def notify(number: int, status: str, state: str) -> str:
    """A report of the telephone on the call that it makes."""
    return NOTIFY.format(number=number, status=status, state=state)


CONNECTED = (
    HEAD
    + notify(2, "100 Trying", "active;expires=60")
    + notify(3, "200 OK", "terminated;reason=noresource")
    + BYE_RECEIVED
    + TAIL
)
BUSY = HEAD + notify(2, "486 Busy Here", "terminated;reason=noresource") + BYE_RECEIVED + TAIL


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    server = MemoryServer()
    async with running_edge(server.connect("edge"), server.connect("observer")) as running:
        yield running


async def run(edge: Edge, scenario: str, folder: Path) -> tuple[int, str]:
    """One call of sipp with this scenario; the agent asks for the transfer once the call is up."""
    (folder / "telephone.xml").write_text(scenario)
    process = await asyncio.create_subprocess_exec(
        "sipp",
        *["-sf", "telephone.xml", "-m", "1", "-i", HOST, f"{HOST}:{edge.port}", "-timeout", f"{DEADLINE_S}s"],
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    observer = edge.observer
    try:
        async with asyncio.timeout(DEADLINE_S):
            await observer.wait_for(call.CallAnswered)
            command = control.Transfer(call_id=observer.call_id, target="sip:desk@192.0.2.9")
            assert (await send_control(observer.connection, "edge", command)).ok
            transferred = await observer.wait_for(call.CallTransferred)
            if not transferred.accepted:
                await send_control(observer.connection, "edge", control.Hangup(call_id=observer.call_id))
            await observer.wait_for(call.CallEnded)
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output.decode(errors="replace")[-3000:]


async def test_connected_and_hung_up(edge: Edge, tmp_path: Path) -> None:
    code, output = await run(edge, CONNECTED, tmp_path)
    assert code == 0, output
    transferred, ended = edge.observer.of(call.CallTransferred)[0], edge.observer.of(call.CallEnded)[0]
    assert (transferred.accepted, transferred.result) == (True, TransferResult.CONNECTED)
    assert (ended.result, ended.reason, ended.ended_by) == ("completed", "agent_transferred", "agent")


async def test_busy_and_the_call_goes_on(edge: Edge, tmp_path: Path) -> None:
    code, output = await run(edge, BUSY, tmp_path)
    assert code == 0, output
    transferred, ended = edge.observer.of(call.CallTransferred)[0], edge.observer.of(call.CallEnded)[0]
    assert (transferred.accepted, transferred.result) == (False, TransferResult.FAILED)
    assert ended.reason == "agent_hung_up"
