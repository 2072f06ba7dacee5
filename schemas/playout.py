"""What really left as RTP: the only ledger of what the caller heard. Said by the edge."""

from __future__ import annotations

from schemas.base import Event, NonNegative


class PlayoutStarted(Event, frozen=True, kw_only=True, tag="playout.started.v1"):
    """The first frame of an utterance left. ``media_time_ms``: agent's media time (same zero as the caller's)."""

    identity = ("utterance_id",)

    utterance_id: NonNegative
    media_time_ms: NonNegative


class PlayoutMark(Event, frozen=True, kw_only=True, tag="playout.mark.v1"):
    """Sentence ``index`` was sent to its last frame."""

    identity = ("utterance_id", "index")

    utterance_id: NonNegative
    index: NonNegative
    media_time_ms: NonNegative


class PlayoutFinished(Event, frozen=True, kw_only=True, tag="playout.finished.v1"):
    """The whole utterance was sent; ``frames`` of it."""

    identity = ("utterance_id",)

    utterance_id: NonNegative
    media_time_ms: NonNegative
    frames: NonNegative = 0


class PlayoutFlushed(Event, frozen=True, kw_only=True, tag="playout.flushed.v1"):
    """The rest of an utterance was dropped and will never be heard.

    Attributes:
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
