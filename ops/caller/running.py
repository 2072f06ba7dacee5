"""The steps of a script, carried out on an answered call, and what they came to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from edge.sip.sdp import Direction
from ops.caller.media import CallMedia, Span
from ops.caller.recording import SAMPLE_RATE_HZ, Track
from ops.caller.report import CallReport, StepReport
from ops.caller.script import (
    CallScript,
    HangUp,
    Hold,
    Pause,
    PlayFile,
    PressKeys,
    Resume,
    Say,
    Step,
    WaitForSilence,
    kind_of,
)
from ops.caller.speech import Sounds

_TICKS_PER_MS = SAMPLE_RATE_HZ // 1000
_SPEAKING = ("say", "wav", "dtmf")

Reinvite = Callable[[Direction], Awaitable[str]]
"""Hold (``SENDONLY``) or resume (``SENDRECV``); empty where the other side agreed, else why not."""
Progress = Callable[[str], None]


class Conversation(Protocol):
    """What one side does on one answered call."""

    async def run(self, media: CallMedia, reinvite: Reinvite) -> None:
        """Everything, from the answer on; the call is hung up where this returns. Cancelled where the call ends."""

    def complete(self, report: CallReport) -> None:
        """Put into the report what came of it. Called once after ``run``, when nothing is sent or heard any more."""


class _Done:
    """A step that was begun; ``span``: what it sent; ``last_key``: when the last of its keys went down."""

    def __init__(self, kind: str, start: int) -> None:
        self.kind = kind
        self.span = Span(start, start)
        self.end = start
        self.last_key = start
        self.note = ""
        self.ok = True


class ScriptRun:
    """Runs one script once: a :class:`Conversation`."""

    _media: CallMedia
    _reinvite: Reinvite

    def __init__(self, script: CallScript, sounds: Sounds, progress: Progress) -> None:
        self._script = script
        self._sounds = sounds
        self._progress = progress
        self._done: list[_Done] = []

    async def run(self, media: CallMedia, reinvite: Reinvite) -> None:
        """Every step up to the end, or to ``HangUp``."""
        self._media, self._reinvite = media, reinvite
        for number, step in enumerate(self._script.steps):
            if isinstance(step, HangUp):
                return
            self._progress(_told(step))
            done = _Done(kind_of(step), self._media.ticks)
            self._done.append(done)
            # What stands if the end of the call cuts the step off; whoever only waited has missed nothing.
            done.ok, done.note = not _acts(step), "the call ended before this step did"
            done.ok, done.note = await self._carry_out(step, number, done)
            done.end = self._media.ticks

    async def _carry_out(self, step: Step, number: int, done: _Done) -> tuple[bool, str]:
        match step:
            case Say() | PlayFile():
                self._media.detector.forget()
                done.span = await self._media.play(self._sounds[number])
            case PressKeys(digits):
                self._media.detector.forget()
                return await self._press(digits, done)
            case Pause(seconds):
                await self._wait(seconds)
            case WaitForSilence():
                return True, await self._listen(step)
            case Hold() | Resume():
                return await self._hold(isinstance(step, Hold))
        return True, ""

    async def _press(self, digits: str, done: _Done) -> tuple[bool, str]:
        try:
            done.span = await self._media.press(digits)
        except ValueError:
            return False, "the other side takes no telephone-events (RFC 4733)"
        # Every key takes the same time.
        done.last_key = done.span.end - (done.span.end - done.span.start) // len(digits)
        return True, ""

    async def _wait(self, seconds: float) -> None:
        until = self._media.ticks + int(seconds * SAMPLE_RATE_HZ)
        while self._media.ticks < until:
            await self._media.next_turn()

    async def _listen(self, step: WaitForSilence) -> str:
        begun = self._media.ticks
        detector = self._media.detector
        while True:
            waited_s = (self._media.ticks - begun) / SAMPLE_RATE_HZ
            if detector.has_spoken and detector.silent_ms(self._media.ticks) >= step.silence_ms:
                # What was heard is used up: the next wait is for what comes after it.
                detector.forget()
                return ""
            if not detector.has_spoken and waited_s >= step.patience_s:
                return f"nothing was heard for {step.patience_s:g} s"
            if waited_s >= step.limit_s:
                return f"still speaking after {step.limit_s:g} s"
            await self._media.next_turn()

    async def _hold(self, holding: bool) -> tuple[bool, str]:
        problem = await self._reinvite(Direction.SENDONLY if holding else Direction.SENDRECV)
        if not problem:
            self._media.hold(holding)
        return not problem, problem

    # -- what it came to -------------------------------------------------------------------------------------------

    def complete(self, report: CallReport) -> None:
        """Put the steps and the measurements on the recording into the report. The call is over."""
        recording = self._media.recording
        spoken = [done for done in self._done if done.kind in _SPEAKING]
        first_word = min((done.span.start for done in spoken if done.ok), default=None)
        report.greeting_ms = _ms(recording.heard.first_voiced(0, first_word))
        for done in self._done:
            following = next((each.span.start for each in spoken if each.span.start > done.span.start), None)
            report.steps.append(_measured(done, recording.said, recording.heard, following))


def _measured(done: _Done, said: Track, heard: Track, following: int | None) -> StepReport:
    last: int | None = None
    if done.kind in ("say", "wav"):
        last = said.last_voiced(done.span.start, done.span.end)
    elif done.kind == "dtmf" and done.ok:
        last = done.last_key
    first = None if last is None else heard.answer_after(last, following)
    return StepReport(
        kind=done.kind,
        start_ms=done.span.start // _TICKS_PER_MS,
        end_ms=max(done.end, done.span.end) // _TICKS_PER_MS,
        ok=done.ok,
        note=done.note,
        last_voiced_ms=_ms(last),
        first_audio_ms=_ms(first),
        answer_latency_ms=None if first is None or last is None else (first - last) // _TICKS_PER_MS,
    )


def _acts(step: Step) -> bool:
    return not isinstance(step, Pause | WaitForSilence)


def _ms(ticks: int | None) -> int | None:
    return None if ticks is None else ticks // _TICKS_PER_MS


def _told(step: Step) -> str:
    match step:
        case Say(text):
            return f"say: {text}"
        case PlayFile(path):
            return f"play {path}"
        case PressKeys(digits):
            return f"press {digits}"
        case Pause(seconds):
            return f"wait {seconds:g} s"
        case WaitForSilence():
            return "listen"
    return kind_of(step).replace("_", " ")
