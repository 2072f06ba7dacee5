"""Commands to the owner of a stage, on ``rt.<tenant>.<call>.control.<stage>``: request/reply, ahead of all data."""

from __future__ import annotations

import msgspec

from schemas.base import Command, NonNegative


class Flush(Command, frozen=True, kw_only=True, tag="control.flush.v1"):
    """Drop an utterance now: at the edge its queued audio, in llm and tts the work on it. None: whatever plays."""

    utterance_id: NonNegative | None = None


class Pause(Command, frozen=True, kw_only=True, tag="control.pause.v1"):
    """Hold an utterance: send silence, keep what is queued, remember the sample. None: whatever plays, or is next.

    ``limit_ms``: the edge goes on by itself after so long, so that a policy that died leaves no caller in silence; 0:
    never. Where the utterance is held already the limit counts anew.
    """

    utterance_id: NonNegative | None = None
    limit_ms: NonNegative = 10_000


class Resume(Command, frozen=True, kw_only=True, tag="control.resume.v1"):
    """Go on from the sample after the last one sent. None: whatever is held."""

    utterance_id: NonNegative | None = None


class Say(Command, frozen=True, kw_only=True, tag="control.say.v1"):
    """Say this text now, outside any turn: to the llm stage, which owns utterance ids.

    With ``utterance_id`` to the tts stage: say it as that utterance, without the llm stage, which gives no sign.
    """

    text: str
    utterance_id: NonNegative | None = None


class Hangup(Command, frozen=True, kw_only=True, tag="control.hangup.v1"):
    """End the call (to the edge)."""


class GiveUp(Command, frozen=True, kw_only=True, tag="control.give_up.v1"):
    """End a call that nobody answers (to the edge, by asr). Refused while the agent is heard: asr may not hang up."""


class Transfer(Command, frozen=True, kw_only=True, tag="control.transfer.v1"):
    """Hand the caller to ``target`` (to the edge)."""

    target: str


class SendDtmf(Command, frozen=True, kw_only=True, tag="control.dtmf.v1"):
    """Send keys to the caller as RFC 4733 events (to the edge)."""

    digits: str


class Inject(Command, frozen=True, kw_only=True, tag="control.inject.v1"):
    """Add a line to the context of the conversation without speaking it (to the llm stage)."""

    text: str


class ReplayRequest(Command, frozen=True, kw_only=True, tag="control.replay.v1"):
    """On ``rt.<tenant>.<call>.replay``: send the frames from ``from_sequence`` out of the edge's ring to ``reply_to``.

    The edge answers with a ``ReplayReply`` and then publishes the frames (``audio.in`` messages, several frames each)
    to ``reply_to``.
    """

    from_sequence: NonNegative
    reply_to: str


class ReplayReply(msgspec.Struct, frozen=True, kw_only=True, tag="control.replay_reply.v1"):
    """The frames ``first_sequence`` to ``next_sequence`` - 1 follow. ``first_sequence`` is later than asked for where
    the ring no longer holds the beginning: that audio is lost to live processing and stands in ``rec.in`` only."""

    first_sequence: NonNegative
    next_sequence: NonNegative


class ControlReply(msgspec.Struct, frozen=True, kw_only=True, tag="control.reply.v1"):
    """Answer to a command. ``error``: a code of the failure table, empty where the command took effect."""

    ok: bool
    error: str = ""
    message: str = ""


ControlMessage = Flush | Pause | Resume | Say | Hangup | GiveUp | Transfer | SendDtmf | Inject
