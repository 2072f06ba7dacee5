"""Engines that stand in for each other in tests: each counts the frames that it hears, or fails as it is told."""

from __future__ import annotations

import threading
from typing import Any

from config.settings import AsrSection, FailoverSection, Settings
from schemas.llm import ListenFor
from services.asr.engine import Capabilities, Transcript
from services.asr.failover import FailoverEngine
from services.resilience.attempts import Roster
from tests.services.resilience.test_attempts import Counted

FRAME_BYTES = 320


class EarRun:
    """Transcript: which frames were heard, as ``heard 0-24``; partial: the same so far."""

    def __init__(self, ear: Ear, plan: str) -> None:
        self.ear = ear
        self.what, _, at = plan.partition(" ")
        self.at = int(at or 0)
        self.pcm = b""
        self.cancelled = False

    def accept(self, pcm: bytes) -> str | None:
        self.pcm += pcm
        frames = len(self.pcm) // FRAME_BYTES
        if self.what in ("raise", "hang", "no-text") and frames >= self.at:
            self._misbehave()
            if self.what == "no-text":
                return 7  # type: ignore[return-value]
        return heard(self.pcm) if self.ear.capabilities.partials else None

    def finish(self) -> Transcript:
        if self.what in ("raise-end", "hang-end"):
            self._misbehave()
        if self.what == "none":
            return None  # type: ignore[return-value]
        if self.what == "empty":
            return Transcript("")
        return Transcript("x" * 5000 if self.what == "flood" else heard(self.pcm), 0.9)

    def cancel(self) -> None:
        self.cancelled = True

    def _misbehave(self) -> None:
        if self.what.startswith("raise"):
            raise RuntimeError("secret words")
        if self.what.startswith("hang"):
            self.ear.hanging += 1
            self.ear.free.wait(30)


class Ear:
    """Hears according to its plans, one a run, and then well: ``open``, ``raise 10``, ``hang 10`` (at that frame),
    ``raise-end``, ``hang-end``, ``no-text 10``, ``none``, ``empty``, ``flood``."""

    def __init__(
        self,
        name: str,
        *plans: str,
        blocking: bool = False,
        partials: bool = True,
        rate_hz: int = 8000,
        grammars: bool = False,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            blocking=blocking, partials=partials, sample_rates_hz=(rate_hz,), grammars=grammars
        )
        self.plans = list(plans)
        self.always = ""
        self.opened = 0
        self.runs: list[EarRun] = []
        self.hanging = 0
        self.free = threading.Event()
        self.warms = True
        self.warmed = 0

    def warm(self) -> None:
        self.warmed += 1
        if not self.warms:
            raise OSError("no such model")

    def open(self, listen_for: ListenFor) -> EarRun:
        self.opened += 1
        plan = self.plans.pop(0) if self.plans else self.always
        if plan == "open":
            raise RuntimeError("secret words")
        run = EarRun(self, plan)
        self.runs.append(run)
        return run


def frame(number: int) -> bytes:
    """PCM that says which frame it is."""
    return (number + 1).to_bytes(2, "little") * (FRAME_BYTES // 2)


def heard(pcm: bytes) -> str:
    """The frames in it, as a text: ``heard 0-24``; holes and repetitions show."""
    numbers = [int.from_bytes(pcm[at : at + 2], "little") - 1 for at in range(0, len(pcm), FRAME_BYTES)]
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "heard " + " ".join(f"{first}-{last}" for first, last in runs)


def relay(
    *ears: Ear,
    figures: Counted | None = None,
    failover: FailoverSection = FailoverSection(backoff_ms=0),  # noqa: B008
    **asr: Any,
) -> FailoverEngine:
    """Engines as one."""
    roster = Roster([ear.name for ear in ears], failover, lambda: 0.5, figures or Counted())
    settings = Settings(asr=AsrSection(**asr), failover=failover)
    return FailoverEngine([(ear.name, ear) for ear in ears], settings, roster)
