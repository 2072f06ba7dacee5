from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bus import codec
from bus.control import send_control, serve_control
from bus.dead_letter import REASON_HEADER
from bus.errors import BusUnavailable
from bus.interface import Message
from bus.memory import MemoryServer
from schemas import subjects
from schemas.control import ControlMessage, ControlReply, Flush, Hangup, Transfer
from tests.bus.samples import CALL
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit

SUBJECT = subjects.control_of("edge", CALL, command="hangup")


def test_command_is_carried_out_and_answered() -> None:
    async def scenario() -> None:
        server = MemoryServer()
        edge, asr = server.connect("edge-1"), server.connect("asr-1")
        commands: list[ControlMessage] = []

        def handle(command: ControlMessage) -> ControlReply:
            commands.append(command)
            if isinstance(command, Transfer):
                return ControlReply(ok=False, error="not_supported")
            return ControlReply(ok=True)

        serving = await serve_control(edge, "edge", CALL, "default", handle, service="edge")
        flush = Flush(call_id=CALL, utterance_id=100, reason="interrupted")
        assert await send_control(asr, "edge", flush) == ControlReply(ok=True)
        reply = await send_control(asr, "edge", Transfer(call_id=CALL, target="sip:other"))
        assert reply.error == "not_supported"
        assert commands[0] == flush
        await serving.close()
        assert (await send_control(asr, "edge", flush)).error == "not_owner"

    run_virtual(scenario())


def test_nobody_owns_the_call() -> None:
    async def scenario() -> None:
        reply = await send_control(MemoryServer().connect("asr-1"), "edge", Hangup(call_id=CALL))
        assert (reply.ok, reply.error) == (False, "not_owner")

    run_virtual(scenario())


@pytest.mark.parametrize(
    "data",
    [
        b"rubbish",
        b"{}",
        b'{"type":"control.dance.v1"}',
        codec.encode(Hangup(call_id="0192f0c0aaaa7bbb8ccceeeeeeeeeeee")),
        codec.encode(Hangup(call_id=CALL, tenant="other")),
        codec.encode(Transfer(call_id=CALL, target="sip:other")),
    ],
)
def test_command_that_can_not_be_read(data: bytes) -> None:
    async def scenario() -> None:
        server = MemoryServer()
        edge, other = server.connect("edge-1"), server.connect("other")
        dead: list[Message] = []
        await other.subscribe("dead_letter.edge", dead.append)
        await serve_control(edge, "edge", CALL, "default", lambda _: ControlReply(ok=True), service="edge")
        answer = codec.decode((await other.request(SUBJECT, data)).data, ControlReply)
        await asyncio.sleep(0.1)
        assert (answer.ok, answer.error) == (False, "bad_message")
        assert dead[0].data == data
        assert dead[0].headers[REASON_HEADER]

    run_virtual(scenario())


def test_handler_that_raises_is_answered_with_a_failure() -> None:
    async def scenario() -> None:
        server = MemoryServer()

        def handle(_: ControlMessage) -> ControlReply:
            raise RuntimeError("broken")

        await serve_control(server.connect("edge-1"), "edge", CALL, "default", handle, service="edge")
        reply = await send_control(server.connect("asr-1"), "edge", Hangup(call_id=CALL))
        assert (reply.ok, reply.error) == (False, "engine_failed")

    run_virtual(scenario())


@pytest.mark.parametrize("reply", ["", "$JS.ACK.CALLS.tts-assign.1.2.3.4.5"])
def test_command_that_nobody_waits_for_is_refused(reply: str) -> None:
    """The server can be made to send stored bytes to any subject; it can't be made to ask for an answer."""

    async def scenario() -> None:
        server = MemoryServer()
        commands: list[ControlMessage] = []
        dead: list[Message] = []

        def handle(command: ControlMessage) -> ControlReply:
            commands.append(command)
            return ControlReply(ok=True)

        other = server.connect("x")
        await other.subscribe("dead_letter.edge", dead.append)
        await serve_control(server.connect("edge-1"), "edge", CALL, "default", handle, service="edge")
        other.publish(SUBJECT, codec.encode(Hangup(call_id=CALL)), reply=reply)
        await asyncio.sleep(0.1)
        assert not commands
        assert "nobody waits for an answer" in dead[0].headers[REASON_HEADER]

    run_virtual(scenario())


def test_an_answer_goes_to_an_inbox_and_nowhere_else() -> None:
    """A command can't make a stage write into the record of a call."""

    async def scenario() -> None:
        server = MemoryServer()
        heard: list[str] = []
        witness = server.connect("witness")
        await witness.subscribe("call.>", lambda message: heard.append(message.subject))
        await witness.subscribe("_INBOX_x.>", lambda message: heard.append(message.subject))
        await serve_control(
            server.connect("edge-1"), "edge", CALL, "default", lambda _: ControlReply(ok=True), service="edge"
        )
        for reply in (f"call.default.{CALL}.asr.final", "_INBOX_x.1"):
            server.connect("x").publish(SUBJECT, codec.encode(Hangup(call_id=CALL)), reply=reply)
        await asyncio.sleep(0.1)
        assert heard == ["_INBOX_x.1"]

    run_virtual(scenario())


def test_answer_that_is_late_unreadable_or_impossible() -> None:
    async def scenario() -> None:
        server = MemoryServer()
        silent, asr = server.connect("edge-1"), server.connect("asr-1")
        subscription = await silent.subscribe(SUBJECT, lambda _: None)
        assert (await send_control(asr, "edge", Hangup(call_id=CALL), timeout_ms=50)).error == "engine_timeout"
        await subscription.close()
        await silent.subscribe(SUBJECT, lambda m: silent.publish(m.reply, b"what?"))
        assert (await send_control(asr, "edge", Hangup(call_id=CALL))).error == "bad_message"

        async def broken(*_: object, **__: object) -> Any:
            raise BusUnavailable("not connected")

        asr.request = broken  # type: ignore[method-assign]
        assert (await send_control(asr, "edge", Hangup(call_id=CALL))).error == "bus_disconnected"

    run_virtual(scenario())
