"""One call on the bus: its subjects, its recorder, what others ask of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from bus import codec
from bus.clock import wall_us
from bus.consume import subscribe_audio
from bus.control import serve_control
from bus.dead_letter import bury
from bus.edges import is_recorded
from bus.errors import DecodeError
from bus.interface import Connection, Message, Subscription
from bus.metrics.calls import count_ended
from bus.publish import Recorder
from edge.outbox import Outbox
from schemas import subjects
from schemas.audio import AudioFrame
from schemas.base import DEFAULT_TENANT, Event
from schemas.call import EDGE_LOST, CallEnded
from schemas.control import ControlMessage, ControlReply, ReplayReply, ReplayRequest
from schemas.failure import FAILURES, Failure

SERVICE = "edge"
CLOSE_TIMEOUT_MS = 600_000
"""How long the last words of a call wait for a stream that is away."""

E = TypeVar("E", bound=Event)
Replay = Callable[[int], tuple[ReplayReply, list[bytes]]]


class CallBus:
    """Everything that one call says and hears on the bus.

    Attributes:
        audio_in: subject of the caller's live frames; append ``(audio_in, data)`` to the outbox.
    """

    def __init__(self, connection: Connection, outbox: Outbox, call_id: str, edge: str) -> None:
        """``edge``: name of this process."""
        self.call_id = call_id
        self.tenant = DEFAULT_TENANT
        self.audio_in = subjects.live_audio("in", call_id, self.tenant)
        self._connection = connection
        self._outbox = outbox
        self._edge = edge
        self._recorder = Recorder(connection, service=SERVICE)
        self._subscriptions: list[Subscription] = []
        self._closed = False
        self._failures = 0
        self._doubtful: CallEnded | None = None
        self._recordings = {way: subjects.recording(way, call_id, self.tenant) for way in ("in", "out")}
        self._chunks = {"in": 0, "out": 0}

    async def open(
        self,
        on_audio: Callable[[AudioFrame], None],
        on_command: Callable[[ControlMessage], ControlReply],
        replay: Replay,
    ) -> None:
        """Listen for the agent's audio, commands and replay requests.

        Raises:
            BusError: the subscriptions can't be made.
        """
        connection, call_id, tenant = self._connection, self.call_id, self.tenant
        audio = subjects.live_audio("out", call_id, tenant)
        replays = subjects.replay(call_id, tenant)
        await self._keep(subscribe_audio(connection, audio, on_audio, service=SERVICE))
        await self._keep(serve_control(connection, SERVICE, call_id, tenant, on_command, service=SERVICE))
        await self._keep(connection.subscribe(replays, lambda message: self._on_replay(message, replay)))

    async def _keep(self, subscribing: Awaitable[Subscription]) -> None:
        """The caller may have given up meanwhile: then the subscription ends as soon as it stands."""
        subscription = await subscribing
        self._subscriptions.append(subscription)
        if self._closed:
            await subscription.close()

    async def close(self) -> None:
        """Stop listening, and wait until everything said is stored; then count the call if that was put off."""
        self._closed = True
        for subscription in self._subscriptions:
            await subscription.close()
        await self._recorder.close(CLOSE_TIMEOUT_MS)
        if (end := self._doubtful) is not None and await is_recorded(self._connection, end):
            count_ended(end.result, end.reason, end.duration_ms)

    @property
    def pending(self) -> int:
        """Recorded messages that the stream has not confirmed."""
        return self._recorder.pending

    def say(self, event_type: type[E], **fields: Any) -> None:
        """Record an event of this call, after the live frames that came before it."""
        self._outbox.flush()
        self._recorder.record(event_type(call_id=self.call_id, tenant=self.tenant, at_us=wall_us(), **fields))

    def end(self, **fields: Any) -> None:
        """Record the end of this call, and count it. Where others took this edge for dead, another may have recorded
        the end: then that one has counted it."""
        self._outbox.flush()
        end = CallEnded(call_id=self.call_id, tenant=self.tenant, at_us=wall_us(), **fields)
        self._recorder.record(end)
        if end.reason == EDGE_LOST:
            self._doubtful = end
        else:
            count_ended(end.result, end.reason, end.duration_ms)

    def fail(self, code: str, *, detail: str = "", gap_ms: int = 0) -> None:
        """Record a ``failure`` event out of the failure table."""
        row = FAILURES[code]
        number, self._failures = self._failures, self._failures + 1
        self.say(
            Failure,
            code=code,
            stage=SERVICE,
            worker=self._edge,
            number=number,
            retryable=row.retryable,
            caller_hears=row.caller_hears,
            detail=detail,
            gap_ms=gap_ms,
        )

    def record_chunk(self, way: str, data: bytes) -> None:
        """Store one chunk of the recording; ``way`` is ``in`` or ``out``."""
        number = self._chunks[way]
        self._chunks[way] = number + 1
        self._recorder.record_audio(self._recordings[way], data, f"{self.call_id}:rec.{way}:{number}")

    def _on_replay(self, message: Message, replay: Replay) -> None:
        try:
            request = codec.decode(message.data, ReplayRequest)
            _check_reply_to(request.reply_to)
        except DecodeError as error:
            bury(self._connection, SERVICE, message.subject, message.data, str(error))
            return
        # What is still in the outbox is in the ring already: live subscribers must have it before the answer says so.
        self._outbox.flush()
        reply, frames = replay(request.from_sequence)
        if message.reply:
            self._connection.publish(message.reply, codec.encode(reply))
        self._connection.publish_many([(request.reply_to, data) for data in frames])


def _check_reply_to(subject: str) -> None:
    """Frames go to an inbox and nowhere else: not into the record, another call or the server's own interface."""
    tokens = subject.split(".")
    allowed = all(token and token not in ("*", ">") and token.isprintable() and " " not in token for token in tokens)
    if not allowed or not tokens[0].startswith("_INBOX"):
        raise DecodeError("reply_to of a replay request must be an inbox (_INBOX...) of the asker's own")
