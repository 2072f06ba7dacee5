"""What may be asked of the edge for a call (``rt.*.*.control.edge.<command>``), and what it answers."""

from __future__ import annotations

import re
from typing import Protocol

from edge.call_media import CallMedia
from edge.handover import Handover
from edge.text import reason_token
from schemas.call import EndedBy
from schemas.control import ControlMessage, ControlReply, Flush, GiveUp, Hangup, Pause, Resume, SendDtmf, Transfer

MAX_DIGITS = 32
GIVE_UP_SILENCE_S = 1.0
"""asr may end a call that nobody answers, and no other: so long the agent has said nothing."""
_DIGITS = re.compile(r"[0-9*#A-D]+")
DONE = ControlReply(ok=True)


class Endable(Protocol):
    """A call that can be ended."""

    def hang_up(self, reason: str, ended_by: EndedBy) -> None: ...


class CommandHandler:
    """Commands to one call. Each takes effect before its answer leaves."""

    def __init__(self, call: Endable, media: CallMedia, handover: Handover) -> None:
        self._call = call
        self._media = media
        self._handover = handover

    def handle(self, command: ControlMessage) -> ControlReply:
        """Carry out and answer."""
        match command:
            case Flush():
                return self._flush(command)
            case Pause():
                return self._pause(command)
            case Resume():
                return self._resume(command)
            case SendDtmf():
                return self._send_keys(command)
            case Transfer():
                return self._handover.begin(command.target)
            case Hangup():
                self._call.hang_up(reason_token(command.reason, "agent_hung_up"), EndedBy.AGENT)
                return DONE
            case GiveUp():
                return self._give_up(command)
        return _error("not_supported", f"the edge does not carry out {type(command).__name__}")

    def _give_up(self, command: GiveUp) -> ControlReply:
        if self._media.agent_silent_s() < GIVE_UP_SILENCE_S:
            return _error("invalid_argument", "the agent is heard: a call is given up only where nobody answers")
        self._call.hang_up(reason_token(command.reason, "turn_stuck"), EndedBy.AGENT)
        return DONE

    def _flush(self, command: Flush) -> ControlReply:
        if self._media.flush(command.utterance_id, reason_token(command.reason, "command")):
            return DONE
        return _error("unknown_utterance", "nothing of that utterance is queued or playing")

    def _pause(self, command: Pause) -> ControlReply:
        if self._media.pause(command.utterance_id, command.limit_ms, reason_token(command.reason, "command")):
            return DONE
        return _error("unknown_utterance", "nothing of that utterance is queued or playing")

    def _resume(self, command: Resume) -> ControlReply:
        if self._media.resume(command.utterance_id, reason_token(command.reason, "command")):
            return DONE
        return _error("unknown_utterance", "that utterance is not held")

    def _send_keys(self, command: SendDtmf) -> ControlReply:
        if len(command.digits) > MAX_DIGITS or not _DIGITS.fullmatch(command.digits):
            return _error("invalid_argument", f"digits must be 1 to {MAX_DIGITS} of 0-9, *, #, A-D")
        if not self._media.send_keys(command.digits):
            return _error("not_supported", "the caller's telephone takes no RFC 4733 events")
        return DONE


def _error(code: str, message: str) -> ControlReply:
    return ControlReply(ok=False, error=code, message=message)
