"""An engine that does what it is told to do, and calls in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from services.tts.engine import Capabilities, Label, Run, SpeechChunk, WordStart
from tests.fakes.virtual import run_virtual
from tests.services.tts.edge_twin import EdgeTwin

FRAME = b"\x10\x20" * 160
"""20 ms of audible PCM at 8 kHz."""

Script = list[bytes | SpeechChunk | Exception | float]


class ScriptedEngine:
    """Does per text what ``scripts`` says: pieces of PCM, an exception to raise, seconds to wait."""

    def __init__(self, *scripts: Script) -> None:
        self.capabilities = Capabilities("scripted", 8000, streaming=True, word_times=False)
        self.scripts = list(scripts)
        self.opened: list[str] = []
        self.languages: list[str] = []
        self.cancelled = 0

    async def warm(self) -> None: ...

    async def close(self) -> None: ...

    async def list_voices(self) -> tuple[str, ...]:
        return ()

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        self.opened.append(text)
        self.languages.append(language)
        return ScriptedRun(self, self.scripts.pop(0) if self.scripts else [b"\0" * 320])


class ScriptedRun:
    def __init__(self, engine: ScriptedEngine, script: Script) -> None:
        self.engine = engine
        self.script = script

    def cancel(self) -> None:
        self.engine.cancelled += 1

    async def __aiter__(self) -> AsyncIterator[SpeechChunk]:
        for item in self.script:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, float):
                await asyncio.sleep(item)
            else:
                yield item if isinstance(item, SpeechChunk) else SpeechChunk(item)


def spoken(text: str, frames: int) -> SpeechChunk:
    """So many frames in which the words of ``text`` follow each other evenly."""
    words = text.split()
    starts = (WordStart(word, 20 * frames * at // len(words)) for at, word in enumerate(words))
    return SpeechChunk(FRAME * frames, tuple(starts))


def virtual(test):
    """Run an async test in virtual time."""

    def run() -> None:
        run_virtual(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def started_twin() -> EdgeTwin:
    edge = EdgeTwin()
    await edge.listen()
    return edge
