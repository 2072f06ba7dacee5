"""Speech or not, as the asr stage hears the caller."""

from __future__ import annotations

from schemas.base import Event, NonNegative


class VadStarted(Event, frozen=True, kw_only=True, tag="vad.started.v1"):
    """The caller began to speak. ``media_time_ms``: the first voiced sample, caller's media time."""

    identity = ("media_time_ms",)

    media_time_ms: NonNegative
    turn: NonNegative


class VadStopped(Event, frozen=True, kw_only=True, tag="vad.stopped.v1"):
    """The caller fell silent. ``media_time_ms``: the last voiced sample, where every latency clock starts."""

    identity = ("media_time_ms",)

    media_time_ms: NonNegative
    turn: NonNegative
