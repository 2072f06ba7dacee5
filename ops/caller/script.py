"""What a test caller does, step by step. Steps run in order; the call is hung up after the last one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge.media.dtmf import DIGITS

WAIT_LIMIT_S = 3600.0


class ScriptError(ValueError):
    """A step that can't be carried out; the text says which and why."""


class Say(NamedTuple):
    """Speak a text."""

    text: str


class PlayFile(NamedTuple):
    """Play a WAV file: 16-bit PCM, A-law or mu-law, any rate, mono or stereo."""

    path: Path


class PressKeys(NamedTuple):
    """Press keys, as RFC 4733 events."""

    digits: str


class Pause(NamedTuple):
    """Do nothing for a while."""

    seconds: float


class WaitForSilence(NamedTuple):
    """Wait until the other side has spoken and is silent again.

    Attributes:
        silence_ms: silence that counts as the end of its speech.
        patience_s: how long to wait for its first sound.
        limit_s: how long to wait in all.
    """

    silence_ms: int = 800
    patience_s: float = 5.0
    limit_s: float = 30.0


class Hold(NamedTuple):
    """Put the other side on hold: re-INVITE with ``sendonly``, nothing is sent meanwhile."""


class Resume(NamedTuple):
    """Take it back: re-INVITE with ``sendrecv``."""


class HangUp(NamedTuple):
    """End the call here."""


Step = Say | PlayFile | PressKeys | Pause | WaitForSilence | Hold | Resume | HangUp


class CallScript(NamedTuple):
    """All steps of a call."""

    steps: tuple[Step, ...] = ()

    def check(self) -> None:
        """Find what can't be done before anybody's telephone rings.

        Raises:
            ScriptError: keys that are none, a file that is not there, a wait without end.
        """
        for number, step in enumerate(self.steps, start=1):
            problem = _problem(step)
            if problem:
                raise ScriptError(f"step {number}: {problem}")


def kind_of(step: Step) -> str:
    """Name of a step's kind for reports: ``say``, ``wait_for_silence``."""
    names: dict[type, str] = {
        Say: "say",
        PlayFile: "wav",
        PressKeys: "dtmf",
        Pause: "wait",
        WaitForSilence: "wait_for_silence",
        Hold: "hold",
        Resume: "resume",
        HangUp: "hang_up",
    }
    return names[type(step)]


def _problem(step: Step) -> str:
    match step:
        case PressKeys(digits) if not digits or any(digit not in DIGITS for digit in digits.upper()):
            return f"{digits!r} are not telephone keys; keys are {DIGITS}"
        case PlayFile(path) if not path.is_file():
            return f"there is no file {path}"
        case Pause(seconds) if not 0 <= seconds <= WAIT_LIMIT_S:
            return f"a wait of {seconds} s; it may last up to {WAIT_LIMIT_S:.0f} s"
        case Say(text) if not text.strip():
            return "nothing to say"
    return ""
