"""The shell around the user agent."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.net.addresses import interface_towards, is_literal
from edge.signalling import DEFECT_LINES_A_SECOND, Signalling
from edge.sip import events as sip
from edge.sip.events import CallEvent, Transport
from tests.edge.harness import until
from tests.fakes.caller import HOST, Caller

pytestmark = pytest.mark.integration


class Side(Signalling):
    """Keeps its events; ``fail``: the handler raises."""

    def __init__(self) -> None:
        self.told: list[CallEvent] = []
        self.fail = False
        super().__init__(self._keep, host=HOST, advertised_host="")

    def _keep(self, event: CallEvent) -> None:
        self.told.append(event)
        if self.fail:
            raise RuntimeError("a handler that is broken")


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    made = Side()
    await made.start(0, tcp=True)
    yield made
    made.close()
    await asyncio.sleep(0)


async def test_a_broken_handler_does_not_stop_the_listener(side: Side) -> None:
    side.fail = True
    async with Caller() as caller:
        caller.invite(side.port)
        await until(lambda: len(side.told) == 1)
        caller.hang_up()
        await until(lambda: any(isinstance(event, sip.CallCancelled) for event in side.told))


async def test_a_host_name_is_resolved(side: Side) -> None:
    async with Caller() as callee:
        handle = side.agent.invite(
            f"sip:x@localhost:{callee.signalling.port}", time.monotonic(),
            destination=("localhost", callee.signalling.port),
        )  # fmt: skip
        side.pump()
        await until(lambda: any(isinstance(event, sip.IncomingCall) for event in callee.events))
        side.agent.hang_up(handle, time.monotonic())
        side.pump()


async def test_a_host_name_that_does_not_resolve_ends_the_call(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise OSError("no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    side.agent.invite("sip:x@nowhere.invalid", time.monotonic(), destination=("nowhere.invalid", 5060))
    side.pump()
    await until(lambda: any(isinstance(event, sip.EndOfCall) for event in side.told))


async def test_a_tcp_peer_that_is_not_there_ends_the_call(side: Side) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as closed:
        closed.bind((HOST, 0))
        address = closed.getsockname()
    side.agent.invite(
        f"sip:x@{HOST}:{address[1]};transport=tcp", time.monotonic(), destination=address, transport=Transport.TCP
    )
    side.pump()
    await until(lambda: any(isinstance(event, sip.EndOfCall) for event in side.told))


async def test_defects_are_counted_and_few_are_logged(side: Side) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((HOST, 0))
        for _ in range(3 * DEFECT_LINES_A_SECOND):
            peer.sendto(b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP x\r\nCSeq: nonsense\r\n\r\n", (HOST, side.port))
        await until(lambda: side.defects == 3 * DEFECT_LINES_A_SECOND)
    assert side._defect_lines <= 3 * DEFECT_LINES_A_SECOND


def test_our_address_as_the_peer_must_write_it() -> None:
    assert Signalling(print, host=HOST, advertised_host="").address_towards("192.0.2.1") == HOST
    assert Signalling(print, host="0.0.0.0", advertised_host="198.51.100.7").address_towards(HOST) == "198.51.100.7"
    assert Signalling(print, host="0.0.0.0", advertised_host="").address_towards(HOST) == HOST
    interface_towards.cache_clear()
    assert interface_towards("::1") == "::1"


@pytest.mark.parametrize(
    ("text", "literal"), [("127.0.0.1", True), ("::1", True), ("example.org", False), ("", False), ("1.2.3", False)]
)
def test_literals(text: str, literal: bool) -> None:
    assert is_literal(text) is literal
