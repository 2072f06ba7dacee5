"""Engines that stand in for each other in tests: each says a text in its own pitch, or does what a script says."""

from __future__ import annotations

import array
from typing import Any

from config.settings import FailoverSection, Settings, TtsSection
from services.resilience.attempts import Roster
from services.tts.engine import Capabilities, Label, Run, SpeechChunk, WordStart
from services.tts.failover import FailoverEngine
from tests.services.resilience.test_attempts import Counted
from tests.services.tts.scripted import Script, ScriptedEngine, ScriptedRun

CHARACTER_MS = 65


def tone(level: int, milliseconds: int, rate_hz: int = 8000) -> bytes:
    """Audio that is one sample value all along, so that it is known again."""
    return array.array("h", [level] * (milliseconds * rate_hz // 1000)).tobytes()


def word_starts(text: str, character_ms: int = CHARACTER_MS) -> tuple[WordStart, ...]:
    """Words one after the other, at an even pace."""
    starts, position = [], 0
    for word in text.split():
        starts.append(WordStart(word, position))
        position += (len(word) + 1) * character_ms
    return tuple(starts)


class Actor(ScriptedEngine):
    """Says each text evenly, in chunks of 200 ms at ``level``; where it has a script, that instead."""

    def __init__(
        self,
        name: str,
        *scripts: Script,
        level: int = 4000,
        rate_hz: int = 8000,
        times: bool = False,
        warms: bool = True,
    ) -> None:
        super().__init__(*scripts)
        self.capabilities = Capabilities(name, rate_hz, streaming=True, word_times=times)
        self.level = level
        self.warms = warms
        self.warmed = 0
        self.always: Script | None = None
        """What it does each time once its scripts are used up."""

    async def warm(self) -> None:
        self.warmed += 1
        if not self.warms:
            raise OSError("the model is missing")

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        self.opened.append(text)
        script = self.scripts.pop(0) if self.scripts else self.always if self.always is not None else self.speech(text)
        return ScriptedRun(self, script)

    def speech(self, text: str, milliseconds: int | None = None) -> Script:
        """Of a text, or of its beginning."""
        rate_hz = self.capabilities.sample_rate_hz
        whole = sum(len(word) + 1 for word in text.split()) * CHARACTER_MS
        left = whole if milliseconds is None else milliseconds
        words = word_starts(text) if self.capabilities.word_times else ()
        script: Script = []
        while left > 0:
            script.append(SpeechChunk(tone(self.level, min(200, left), rate_hz), words if not script else ()))
            left -= 200
        return script


def troupe(
    *engines: Actor,
    figures: Counted | None = None,
    failover: FailoverSection = FailoverSection(backoff_ms=0),  # noqa: B008
    **tts: Any,
) -> FailoverEngine:
    """Engines as one."""
    settings = Settings(tts=TtsSection(**tts), failover=failover)
    named = [(engine.capabilities.name, engine) for engine in engines]
    roster = Roster([name for name, _ in named], failover, lambda: 0.5, figures or Counted())
    return FailoverEngine(named, settings, roster)


def levels(pcm: bytes) -> list[tuple[int, int]]:
    """Which level for how many milliseconds (8,000 Hz), in order; what the resampler makes of edges is left out."""
    found: list[tuple[int, int]] = []
    for sample in array.array("h", pcm):
        if found and abs(found[-1][0] - sample) <= 2:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((sample, 1))
    return [(level, count // 8) for level, count in found if count >= 160]
