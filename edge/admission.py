"""May one more call come in? Limits of this edge, and whether the stages have a worker with a free slot.

What it knows of the stages is what their workers' heartbeats tell (``bus.heartbeat.WorkerDirectory``).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from schemas.session import Stage


class Refusal(NamedTuple):
    """Why a call is refused. ``reason`` is a token for the record, ``text`` the answer's reason phrase."""

    status: int
    text: str
    reason: str


DRAINING = Refusal(503, "Service Unavailable", "draining")
OVER_LIMIT = Refusal(503, "Service Unavailable", "over_limit")
BUS_AWAY = Refusal(503, "Service Unavailable", "bus_disconnected")
NO_PORT = Refusal(503, "Service Unavailable", "no_rtp_port")
CALLER_BUSY = Refusal(486, "Busy Here", "caller_limit")
NO_CODEC = Refusal(488, "Not Acceptable Here", "no_codec")
NO_AUDIO = Refusal(488, "Not Acceptable Here", "no_audio")
SETUP_FAILED = Refusal(500, "Server Internal Error", "setup_failed")


class FreeSlots(Protocol):
    """Who knows the workers: ``bus.heartbeat.WorkerDirectory``."""

    def free_slots(self, stage: str) -> int:
        """Calls that the stage can still take."""


class Admission:
    """The checks before a call is answered, in the order in which they are made."""

    def __init__(
        self, max_calls: int, required: tuple[Stage, ...], workers: FreeSlots, max_calls_per_caller: int = 0
    ) -> None:
        """``max_calls_per_caller``: calls at once with the same From user out of the same host; 0: no such limit."""
        self._max_calls = max_calls
        self._max_calls_per_caller = max_calls_per_caller
        self.required = required
        self._workers = workers
        self.draining = False

    def refusal(self, *, calls: int, bus_connected: bool, calls_of_caller: int = 0) -> Refusal | None:
        """None: the call may come in. ``calls_of_caller``: calls that this caller has up already."""
        if self.draining:
            return DRAINING
        if calls >= self._max_calls:
            return OVER_LIMIT
        if 0 < self._max_calls_per_caller <= calls_of_caller:
            return CALLER_BUSY
        if not bus_connected:
            return BUS_AWAY
        for stage in self.required:
            if self._workers.free_slots(stage.value) <= 0:
                return Refusal(503, "Service Unavailable", f"no_worker_{stage.value}")
        return None


def parse_stages(text: str) -> tuple[Stage, ...]:
    """Stages out of ``asr,llm,tts``; empty text: none.

    Raises:
        ValueError: a name that is no stage.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    allowed = [stage.value for stage in Stage if stage is not Stage.EDGE]
    for name in names:
        if name not in allowed:
            raise ValueError(f"[edge] required_stages = {text!r} names {name!r}; allowed are {', '.join(allowed)}")
    return tuple(Stage(name) for name in names)
