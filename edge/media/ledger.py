"""What the playout tells: when the agent's words really left, and what was dropped unheard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Started(NamedTuple):
    """The first frame of the utterance leaves at ``media_time`` (ticks)."""

    utterance: int
    media_time: int


class Mark(NamedTuple):
    """The sentence ``segment`` was sent to its last frame, whose audio ends at ``media_time`` (ticks).

    ``start``: where its first sample left, ticks; ``media_time`` where no sample of it came.
    """

    utterance: int
    segment: int
    media_time: int
    start: int


class Paused(NamedTuple):
    """The utterance is held from the next packet on.

    Attributes:
        number: which pause of this utterance, from 0.
        segment, sent_ms: where it stands still; as in :class:`Flushed`.
        remaining_ms: audio of it that is queued.
        complete: its end is known, nothing more is to come than what is queued.
        media_time: end of the last packet of it that left, ticks; the time of the command where none did.
        why: reason of the command.
    """

    utterance: int
    number: int
    segment: int
    sent_ms: int
    remaining_ms: int
    complete: bool
    media_time: int
    why: str


class Resumed(NamedTuple):
    """Pause ``number`` of the utterance is over: the packet that leaves at ``media_time`` (ticks) may be its next.

    ``why``: reason of the command, or ``limit`` where the pause lasted as long as it was allowed to.
    """

    utterance: int
    number: int
    media_time: int
    why: str


class Finished(NamedTuple):
    """The utterance is complete and sent: ``frames`` packets of it, the last ending at ``media_time`` (ticks)."""

    utterance: int
    frames: int
    media_time: int


class Flushed(NamedTuple):
    """The rest of the utterance is dropped and never leaves.

    Attributes:
        segment: the sentence that was cut; where none was cut in its middle, the number of sentences sent in full.
        sent_ms: audio of the cut sentence that left; 0 where none was cut in its middle.
        dropped_ms: audio that was queued and is gone.
        media_time: end of the last packet of it that left, ticks; the time of the command where none did.
        why: reason of the command.
    """

    utterance: int
    segment: int
    sent_ms: int
    dropped_ms: int
    media_time: int
    why: str = ""


LedgerEntry = Started | Mark | Paused | Resumed | Finished | Flushed


@dataclass(slots=True)
class PlayoutCounts:
    """Frames as the agent sent them, except ``sent``: packets of agent audio."""

    offered: int = 0
    sent: int = 0
    duplicate: int = 0
    stale: int = 0
    missing: int = 0
    overflow: int = 0
    starved: int = 0
    """Turns to send at which an utterance had begun but had nothing queued (the caller hears a hole)."""
    abandoned: int = 0
    """Utterances that were closed because their end never came."""
