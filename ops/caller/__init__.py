"""A SIP/RTP caller for testing any SIP target: speaks, presses keys, listens, records, measures."""

from ops.caller.call import CallOptions, place_call
from ops.caller.report import CallReport, Outcome, StepReport
from ops.caller.script import (
    CallScript,
    HangUp,
    Hold,
    Pause,
    PlayFile,
    PressKeys,
    Resume,
    Say,
    ScriptError,
    WaitForSilence,
)

__all__ = [
    "CallOptions",
    "CallReport",
    "CallScript",
    "HangUp",
    "Hold",
    "Outcome",
    "Pause",
    "PlayFile",
    "PressKeys",
    "Resume",
    "Say",
    "ScriptError",
    "StepReport",
    "WaitForSilence",
    "place_call",
]
