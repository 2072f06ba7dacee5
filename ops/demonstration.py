"""What ``callbus demo`` shows while the call runs, and after it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection

from bus.interface import Connection
from ops.caller.report import CallReport
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, DtmfIn
from schemas.failure import Failure
from schemas.llm import LlmSentence
from schemas.playout import PlayoutFlushed, PlayoutMark
from schemas.subjects import call_events
from schemas.turn import TurnEnded


class LiveTranscript:
    """Prints both sides of the first call that one of ``edges`` takes: the caller as recognised, the agent as it was
    really sent. Calls of others on the same server are let pass."""

    def __init__(self, show: Callable[[str], None], edges: Collection[str]) -> None:
        self._show = show
        self._edges = edges
        self._sentences: dict[tuple[int, int], str] = {}
        self._epoch_us = 0
        self.call_id = ""
        self.tenant = ""
        self.ended = asyncio.Event()

    def take(self, event: Event) -> None:
        """One event of any call."""
        if isinstance(event, CallOffered) and event.edge in self._edges:
            self.call_id, self.tenant = self.call_id or event.call_id, self.tenant or event.tenant
        if event.call_id != self.call_id:
            return
        match event:
            case CallAnswered():
                self._epoch_us = event.media_epoch_us
            case LlmSentence():
                self._sentences[event.utterance_id, event.index] = event.text
            case PlayoutMark():
                self._line(event, "agent", self._sentences.get((event.utterance_id, event.index), ""))
            case PlayoutFlushed():
                self._line(event, "agent", "[interrupted]")
            case TurnEnded():
                self._line(event, "caller", event.text or "[keys] " + " ".join(event.digits))
            case DtmfIn():
                self._line(event, "caller", f"[key] {event.digit}")
            case Failure():
                self._line(event, event.stage, f"failure: {event.code}")
            case CallEnded():
                self._line(event, "call", f"{event.result.value}, {event.reason}")
                self.ended.set()

    def _line(self, event: Event, who: str, text: str) -> None:
        since = (event.at_us - self._epoch_us) / 1_000_000 if self._epoch_us else 0.0
        self._show(f"{since:7.2f} s  {who:6}  {text}")


def caller_side(report: CallReport) -> bytes:
    """What the caller received, 16-bit PCM at 8,000 Hz."""
    return bytes(report.recording.heard.pcm) if report.recording is not None else b""


async def stored_lines(connection: Connection, call_id: str, tenant: str) -> list[str]:
    """What the stream holds of a call: messages and bytes per subject."""
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    async for message in connection.read(call_events(call_id, tenant)):
        name = message.subject.split(".", 3)[3]
        count[name] += 1
        size[name] += len(message.data)
    return [f"  call.{tenant}.{call_id}.{name:16} {count[name]:5} messages {size[name]:8} bytes" for name in count]
