"""What really left as RTP: the only ledger of what the caller heard. Said by the edge."""

from __future__ import annotations

from schemas.base import Event, NonNegative


class PlayoutStarted(Event, frozen=True, kw_only=True, tag="playout.started.v1"):
    """The first frame of an utterance left. ``media_time_ms``: agent's media time (same zero as the caller's)."""

    identity = ("utterance_id",)

    utterance_id: NonNegative
    media_time_ms: NonNegative


class PlayoutMark(Event, frozen=True, kw_only=True, tag="playout.mark.v1"):
    """Sentence ``index`` was sent to its last frame, at ``media_time_ms``; its first frame left at ``start_ms``."""

    identity = ("utterance_id", "index")

    utterance_id: NonNegative
    index: NonNegative
    media_time_ms: NonNegative
    start_ms: NonNegative = 0


class PlayoutPaused(Event, frozen=True, kw_only=True, tag="playout.paused.v1"):
    """An utterance is held: silence leaves in its place until it is resumed or flushed.

    Attributes:
        media_time_ms: end of the last packet of it that left; the time of the command where none did.
        number: counts the pauses of this utterance, from 0: two pauses may stand at the same sample.
        index, sent_ms: the sentence that stands still and how much of its audio has left; as in ``playout.flushed``.
        remaining_ms: audio of the utterance that is queued.
        complete: nothing more of the utterance is to come than what is queued.
        why: reason of the command, a token.
    """

    identity = ("utterance_id", "media_time_ms", "number")

    utterance_id: NonNegative
    media_time_ms: NonNegative
    number: NonNegative = 0
    index: NonNegative = 0
    sent_ms: NonNegative = 0
    remaining_ms: NonNegative = 0
    complete: bool = False
    why: str = ""


class PlayoutResumed(Event, frozen=True, kw_only=True, tag="playout.resumed.v1"):
    """A held utterance goes on from the sample after the last one sent: pause ``number`` of it is over.

    ``why``: reason of the command, or ``limit`` where nobody took the pause back in time and the edge did.
    """

    identity = ("utterance_id", "media_time_ms", "number")

    utterance_id: NonNegative
    media_time_ms: NonNegative
    number: NonNegative = 0
    why: str = ""


class PlayoutFinished(Event, frozen=True, kw_only=True, tag="playout.finished.v1"):
    """The whole utterance was sent; ``frames`` of it."""

    identity = ("utterance_id",)

    utterance_id: NonNegative
    media_time_ms: NonNegative
    frames: NonNegative = 0


class PlayoutFlushed(Event, frozen=True, kw_only=True, tag="playout.flushed.v1"):
    """The rest of an utterance was dropped and will never be heard.

    Attributes:
        media_time_ms: end of the last packet of it that left, as in ``playout.paused``; the time of the command where
            none did.
        index, sent_ms: the sentence that was cut and how much of its audio had left; ``index`` counts the sentences
            heard in full when nothing of the next one had left (``sent_ms`` 0).
        dropped_ms: audio that was queued and is gone.
    """

    identity = ("utterance_id",)

    utterance_id: NonNegative
    media_time_ms: NonNegative
    index: NonNegative = 0
    sent_ms: NonNegative = 0
    dropped_ms: NonNegative = 0
    why: str = ""
