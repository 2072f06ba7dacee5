"""Engines for tests: they say what a script says, hang, or break."""

from __future__ import annotations

import threading

from schemas.llm import ListenFor
from services.asr.engine import Capabilities, Transcript


class ScriptedEngine:
    """Says the given texts, one per run, the last one again and again; ``hang``: ``finish`` waits for :meth:`free`."""

    name = "scripted"

    def __init__(self, *texts: str, partials: bool = False, blocking: bool = False, hang: bool = False) -> None:
        self.capabilities = Capabilities(blocking=blocking, partials=partials)
        self.texts = list(texts)
        self.listened: list[ListenFor] = []
        self.runs: list[ScriptedRun] = []
        self.hang = hang
        self._free = threading.Event()

    def warm(self) -> None:
        pass

    def free(self) -> None:
        self._free.set()

    def open(self, listen_for: ListenFor) -> ScriptedRun:
        self.listened.append(listen_for)
        text = self.texts[min(len(self.runs), len(self.texts) - 1)]
        run = ScriptedRun(text, self.capabilities.partials, self._free if self.hang else None)
        self.runs.append(run)
        return run


class ScriptedRun:
    """Partials count the audio: ``1 words``, ``2 words``, or are the words of ``text`` where it has several."""

    def __init__(self, text: str, partials: bool, free: threading.Event | None) -> None:
        self.text = text
        self.partials = partials
        self.accepted = 0
        self.cancelled = False
        self.working = True
        self._free = free

    def accept(self, pcm: bytes) -> str | None:
        self.accepted += len(pcm)
        if not self.partials:
            return None
        words = self.text.split()
        return " ".join(words[: self.accepted // 6400]) if len(words) > 1 else f"p{self.accepted}"

    def finish(self) -> Transcript:
        if self._free is not None:
            self._free.wait(30)
        self.working = False
        return Transcript(self.text, 0.9)

    def cancel(self) -> None:
        self.cancelled = True


class BrokenEngine(ScriptedEngine):
    """Raises at the first audio."""

    name = "broken"

    def __init__(self) -> None:
        super().__init__("")

    def open(self, listen_for: ListenFor) -> ScriptedRun:
        raise ValueError("no model in this test")
