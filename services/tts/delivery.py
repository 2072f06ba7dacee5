"""What a caller hears of one sentence when the engine hangs or fails: the sentence at a second try or from a
recording, an apology, or what was said before it. Never silence without a ``failure`` event.

Before anything of an utterance has been sent, both tries together have the deadline of the first audio, so that an
engine that hangs costs that long and an engine that fails at once is asked again. Later the edge has audio to play,
and the second try has a deadline of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from bus.metrics import count_degraded
from services.resilience.attempts import StageDownError
from services.tts.apology import Apology
from services.tts.ledger import Utterance
from services.tts.speaker import SentenceSpeaker

STAGE = "tts"
TRY_MS_MIN = 50
"""With less time than this left a second try is not begun."""

HEARS_PAUSE = "a pause at most: the sentence is tried again"
HEARS_RECORDING = "the sentence, from a recording"
HEARS_APOLOGY = "an apology, and nothing more of this answer"
HEARS_NOTHING = "this sentence is missing"
HEARS_SILENCE = "silence"

Fail = Callable[[Exception, str], None]
"""Takes what went wrong and what the caller will hear."""


class Outcome(Enum):
    """What became of a sentence."""

    SAID = auto()
    RECORDED = auto()
    MISSING = auto()
    APOLOGY = auto()


class SentenceDelivery:
    """Brings one sentence to the caller, or what can be had in its place."""

    def __init__(
        self,
        speaker: Callable[[], SentenceSpeaker],
        utterance: Utterance,
        index: int,
        *,
        deadline_ms: int,
        apology: Apology | None,
        recording: Callable[[], bytes | None],
        frame_bytes: int,
        fail: Fail,
    ) -> None:
        """``speaker`` makes a fresh run of the sentence. ``apology``: None where this sentence is not worth one.
        ``recording``: of this very sentence, if there is one; ``frame_bytes``: of it make a frame."""
        self._speaker = speaker
        self._utterance = utterance
        self._deadline_ms = deadline_ms
        self._apology = apology
        self._recording = recording
        self._frame_bytes = frame_bytes
        self._fail = fail
        self._inherited = utterance.has_told("started", index)
        self.tries: list[SentenceSpeaker] = []

    async def deliver(self) -> Outcome:
        """Say it. Only what the work is cancelled with is raised."""
        begun = asyncio.get_running_loop().time()
        error = await self._try(self._deadline_ms)
        if error is None:
            return Outcome.SAID
        left_ms: float = self._deadline_ms
        if not self._utterance.sent:
            left_ms -= 1000 * (asyncio.get_running_loop().time() - begun)
        # Engines that stand in for each other have made their tries.
        if left_ms >= TRY_MS_MIN and not isinstance(error, StageDownError):
            self._fail(error, HEARS_PAUSE)
            error = await self._try(left_ms)
            if error is None:
                return Outcome.SAID
        return await self._without(error)

    async def _try(self, first_ms: float) -> Exception | None:
        """One fresh run from the sentence's start; the edge drops the frames that it has."""
        try:
            speaker = self._fresh()
            self.tries.append(speaker)
            await speaker.speak(first_ms, self._deadline_ms)
        except Exception as error:
            return error
        return None

    def _fresh(self) -> SentenceSpeaker:
        speaker = self._speaker()
        if self.tries:
            speaker.queue_wait_ms = self.tries[0].queue_wait_ms
        return speaker

    async def _without(self, error: Exception) -> Outcome:
        """No engine says it: go on from the try that came furthest. What a caller hears of a stage that is down is
        decided here and nowhere else."""
        if await self._recite(error):
            return Outcome.RECORDED
        apology = self._apology if self._deserves_apology() else None
        try:
            sent = [speaker for speaker in self.tries if speaker.frames]
            furthest = max(sent, key=lambda speaker: speaker.frames) if sent else self._fresh()
            if apology is not None:
                furthest.apologise(apology)
            else:
                furthest.give_up()
        except Exception as defect:
            # Audio that can't be put into frames: nothing is left to be said with.
            self._fail(defect, HEARS_NOTHING)
            return Outcome.MISSING
        apologised = apology is not None and bool(apology.text)
        count_degraded(STAGE, "apology" if apologised else "missing")
        self._fail(error, HEARS_APOLOGY if apologised else HEARS_NOTHING)
        await furthest.wait_for_room()
        return Outcome.MISSING if apology is None else Outcome.APOLOGY

    async def _recite(self, error: Exception) -> bool:
        """Say it from a recording, from its start: the edge drops the frames that it has. One that is shorter than
        what was sent already could not be brought to an end there."""
        pcm = self._recording()
        if pcm is None or len(pcm) <= self._frame_bytes * max((each.frames for each in self.tries), default=0):
            return False
        speaker = self._fresh()
        speaker.recite(pcm)
        count_degraded(STAGE, "recorded")
        self._fail(error, HEARS_RECORDING)
        await speaker.wait_for_room()
        return True

    def _deserves_apology(self) -> bool:
        """Not where sentences of this answer were heard and one is missing; but where a second one in a row is, yes.

        Where a predecessor began the sentence, nobody knows where in it an apology would begin.
        """
        if self._inherited:
            return False
        return self._utterance.failed or not self._utterance.answered
