"""Commands to the owner of a stage of a call: request and reply, ahead of all data."""

from __future__ import annotations

from collections.abc import Callable

from bus import codec, tracing
from bus.dead_letter import bury
from bus.errors import BusError, BusTimeout, DecodeError, NoResponders
from bus.interface import INBOXES, Connection, Message, Subscription
from bus.logs import get_logger
from schemas import subjects
from schemas.base import DEFAULT_TENANT, Command
from schemas.control import ControlMessage, ControlReply
from schemas.subjects import command_name

log = get_logger(__name__)

ControlHandler = Callable[[ControlMessage], ControlReply]


async def serve_control(
    connection: Connection,
    stage: str,
    call_id: str,
    tenant: str,
    handler: ControlHandler,
    *,
    service: str,
) -> Subscription:
    """Answer commands to ``stage`` of one call, whatever their name, until the subscription is closed.

    A command is a request: one that names no inbox for the answer is none.

    What does not decode is answered with ``bad_message`` and goes to the dead letters; a handler that raises is
    answered with ``engine_failed``.
    """

    def serve(message: Message) -> None:
        reply = ControlReply(ok=False, error="engine_failed", message=f"the {stage} stage failed; its log says why")

        def run(command: ControlMessage) -> None:
            nonlocal reply
            reply = handler(command)

        try:
            command: ControlMessage = codec.decode(message.data, ControlMessage)  # type: ignore[arg-type]
            # Who may send what is ruled by subject: a command under another's name is none.
            if message.subject != subjects.control_of(stage, command.call_id, command.tenant, command_name(command)):
                raise DecodeError("the command is another one, or of another call or tenant, than its subject says")
            # The server sends what is stored to whatever subject a reader names, but never with a reply subject: so
            # bytes that somebody stored elsewhere become no command.
            if not message.reply.startswith(INBOXES):
                raise DecodeError("nobody waits for an answer to this command")
        except DecodeError as error:
            bury(connection, service, message.subject, message.data, str(error))
            reply = ControlReply(ok=False, error="bad_message", message=str(error))
        else:
            guarded = tracing.GuardedHandler(service, run)
            guarded(message.subject, message.headers, command)
        # An answer goes to an inbox and nowhere else: a command must not make a stage write into somebody's record.
        if message.reply.startswith(INBOXES):
            connection.publish(message.reply, codec.encode(reply))

    return await connection.subscribe(subjects.control_of(stage, call_id, tenant), serve)


async def send_control(connection: Connection, stage: str, command: Command, *, timeout_ms: int = 1000) -> ControlReply:
    """Send a command to the owner of ``stage`` and wait for its answer.

    Never raises for what a caller of a command has to expect: nobody owns the call there (``not_owner``), no answer in
    time (``engine_timeout``), no connection (``bus_disconnected``), an answer that can't be read (``bad_message``).
    """
    subject = subjects.control_of(stage, command.call_id, command.tenant or DEFAULT_TENANT, command_name(command))
    headers: dict[str, str] = {}
    tracing.inject(subject, headers)
    try:
        answer = await connection.request(
            subject, codec.encode(command), timeout_ms=timeout_ms, headers=headers or None
        )
        return codec.decode(answer.data, ControlReply)
    except NoResponders as error:
        return ControlReply(ok=False, error="not_owner", message=str(error))
    except BusTimeout as error:
        return ControlReply(ok=False, error="engine_timeout", message=str(error))
    except DecodeError as error:
        return ControlReply(ok=False, error="bad_message", message=str(error))
    except BusError as error:
        return ControlReply(ok=False, error="bus_disconnected", message=str(error))
