"""The caller of a run over SIP: acts when it hears what a step waits for, and speaks over the agent where told to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping

from edge.sip.sdp import Direction
from ops.caller.media import CallMedia, Span
from ops.caller.recording import SAMPLE_BYTES, SpeechDetector
from ops.caller.report import CallReport
from ops.caller.running import Reinvite
from ops.scenario.document import Scenario, Step
from ops.scenario.sound import SAMPLES_PER_MS, Background, Echo
from services.audio import level
from services.audio.g711 import audioop

AGENT_SILENT_MS = 600
"""The agent is silent once nothing was heard of it for so long: more than there is between two of its sentences."""
PATIENCE_MS = 20_000
"""How long a step waits for the agent before the caller gives up."""
LINGER_LIMIT_MS = 60_000
KEY_MS = 100
"""How long the sender holds a key down."""

Progress = Callable[[str], None]


class Ears:
    """When the other side could be heard. Times are ticks since the answer."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._starts: list[int] = []

    def hear(self, ticks: int, pcm: bytes) -> None:
        """A frame; those of one call come in order but for a few that are late."""
        if level.rms(pcm) >= SpeechDetector.RMS_THRESHOLD:
            place = bisect_right(self._starts, ticks)
            self._starts.insert(place, ticks)
            self._ends.insert(place, ticks + len(pcm) // SAMPLE_BYTES)

    def sound_after(self, ticks: int) -> int | None:
        """First moment from ``ticks`` on at which the other side sounded; None: not yet."""
        place = bisect_right(self._ends, ticks)
        return max(ticks, self._starts[place]) if place < len(self._starts) else None

    @property
    def last_sound(self) -> int:
        """End of the last sound; 0 before the first."""
        return self._ends[-1] if self._ends else 0


class Surroundings:
    """What lies between the caller's mouth and ear and the line: ears, an echo, noise in the background."""

    def __init__(self, background: Background | None) -> None:
        self.ears = Ears()
        self.echo = Echo()
        self._background = background

    def hear(self, ticks: int, pcm: bytes) -> None:
        self.ears.hear(ticks, pcm)
        self.echo.feed(ticks, pcm)

    def mix(self, ticks: int, pcm: bytes) -> bytes:
        samples = len(pcm) // SAMPLE_BYTES
        if self.echo.level_dbfs is not None:
            pcm = audioop.add(pcm, self.echo.at(ticks, samples), SAMPLE_BYTES)
        if self._background is not None:
            pcm = audioop.add(pcm, self._background.next(samples), SAMPLE_BYTES)
        return pcm


class SipCaller:
    """Carries out the steps of one scenario: a :class:`ops.caller.running.Conversation`.

    Attributes:
        spans: what was begun, by the step's name; ticks since the answer.
        started_at: the monotonic clock's time of tick 0, seconds; 0 where the call was never answered.
        problems: what could not be carried out, in words.
    """

    _media: CallMedia
    _reinvite: Reinvite

    def __init__(
        self, scenario: Scenario, sounds: Mapping[str, bytes], background: Background | None, progress: Progress
    ) -> None:
        """``sounds``: PCM of each step that makes one of its own, by the step's name."""
        self.spans: dict[str, Span] = {}
        self.started_at = 0.0
        self.problems: list[str] = []
        self._scenario = scenario
        self._sounds = sounds
        self._surroundings = Surroundings(background)
        self._progress = progress

    async def run(self, media: CallMedia, reinvite: Reinvite) -> None:
        """Every step, then wait until the agent has been silent for ``linger_ms``, unless a step hung up."""
        self._media, self._reinvite = media, reinvite
        self.started_at = media.started_at
        media.effects = self._surroundings
        since = 0
        for step in self._scenario.caller:
            if not await self._reached(step, since):
                self._progress(f"{step.name}: waited for {step.when!r} in vain")
                return
            if step.hang_up:
                self._begin(step)
                return
            self._progress(f"{step.name}: {step.action}")
            begun = self._begin(step)
            since = await self._act(step)
            self.spans[step.name] = Span(begun, since)
        await self._linger(since)

    def complete(self, report: CallReport) -> None:
        """Steps that the end of the call cut off have lasted until then."""
        for name, span in self.spans.items():
            if span.end < span.start:
                self.spans[name] = Span(span.start, max(span.start, report.duration_ms * SAMPLES_PER_MS))

    # -- when ------------------------------------------------------------------------------------------------------

    async def _reached(self, step: Step, since: int) -> bool:
        """Wait until the step is due; False where what it waits for does not come."""
        ears = self._surroundings.ears
        patience = since + PATIENCE_MS * SAMPLES_PER_MS
        while True:
            now = self._media.next_ticks
            begin = _begin_of(step, since, ears, now)
            if begin is not None and now >= begin + step.after_ms * SAMPLES_PER_MS:
                return True
            if begin is None and now > patience:
                return False
            await self._media.next_turn()

    async def _linger(self, since: int) -> None:
        linger = self._scenario.linger_ms * SAMPLES_PER_MS
        limit = since + LINGER_LIMIT_MS * SAMPLES_PER_MS
        while self._media.next_ticks < min(limit, max(since, self._surroundings.ears.last_sound) + linger):
            await self._media.next_turn()

    # -- what ------------------------------------------------------------------------------------------------------

    async def _act(self, step: Step) -> int:
        """Do it; when it ended. The last of several keys ends when it goes up."""
        match step.action:
            case "keys":
                return await self._press(step)
            case "hold_ms":
                await self._hold(step)
            case "wait_ms":
                await self._wait(step.wait_ms or 0)
            case "echo_ms":
                self._surroundings.echo.level_dbfs = step.level
                await self._wait(step.echo_ms or 0)
                self._surroundings.echo.level_dbfs = None
            case _:
                await self._media.play(self._sounds[step.name])
        return self._media.next_ticks

    async def _press(self, step: Step) -> int:
        down = self._media.next_ticks
        for number, key in enumerate(step.keys or ""):
            await self._until(down + (step.key_gap_ms * SAMPLES_PER_MS if number else 0))
            down = self._media.next_ticks
            try:
                await self._media.press(key)
            except ValueError:
                self.problems.append(f"{step.name}: the other side takes no telephone-events (RFC 4733)")
                break
        return down + KEY_MS * SAMPLES_PER_MS

    async def _hold(self, step: Step) -> None:
        for holding in (True, False):
            problem = await self._reinvite(Direction.SENDONLY if holding else Direction.SENDRECV)
            if problem:
                self.problems.append(f"{step.name}: {problem}")
                return
            self._media.hold(holding)
            if holding:
                await self._wait(step.hold_ms or 0)

    async def _wait(self, duration_ms: int) -> None:
        await self._until(self._media.next_ticks + duration_ms * SAMPLES_PER_MS)

    async def _until(self, ticks: int) -> None:
        while self._media.next_ticks < ticks:
            await self._media.next_turn()

    def _begin(self, step: Step) -> int:
        now = self._media.next_ticks
        self.spans[step.name] = Span(now, now if step.hang_up else now - 1)
        return now


def _begin_of(step: Step, since: int, ears: Ears, now: int) -> int | None:
    """What ``after_ms`` is counted from; None: not yet."""
    match step.when:
        case "call begins":
            return 0
        case "agent speaks":
            return ears.sound_after(since)
        case "agent silent":
            over = now - ears.last_sound >= AGENT_SILENT_MS * SAMPLES_PER_MS
            return ears.last_sound if over and ears.sound_after(since) is not None else None
        case _:
            return since
