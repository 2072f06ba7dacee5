"""The stages under attack: for each its first engine, whose provider fails in many ways, and the one that stands in."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.e2e.chaos.ear import VARIABLE
from tests.e2e.chaos.servers import HOST, Hearing, HearingServer, SpeakingServer, Spoil, ThinkingServer
from tests.e2e.matrix.bank_model import MODEL, BankOllama
from tests.e2e.matrix.speech_server import espeak_pcm
from tests.fakes.elevenlabs_server import KEY
from tests.fakes.openai_server import Reply

AGENTS = Path(__file__).parents[2] / "data" / "agents"
KILLED, SLOWED, CUT, RUBBISH = KINDS = ("killed", "slowed", "cut", "rubbish")
NEVER_S = 3600.0


class Talk(NamedTuple):
    """What the caller says, and the sentences that answer it, as regular expressions."""

    say: str
    answer: tuple[str, ...]


class Fault(NamedTuple):
    """One way to fail. ``hurt``: how it is begun; ``talk``: in answer to this; None: to anything."""

    kind: str
    detail: str
    hurt: Callable[[], Awaitable[None]]
    talk: int | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.detail}"


class Stage(Protocol):
    """One stage with its provider.

    Attributes:
        name: of the stage.
        first, second: the engines by their names in the settings.
        heard_as: the same by the names that they have in events.
        environment: settings of the whole system.
        talks: of which the caller says one after the other, from the first again.
        faults: by their names.
    """

    name: str
    first: str
    second: str
    heard_as: tuple[str, str]
    environment: Mapping[str, str]
    talks: tuple[Talk, ...]
    faults: dict[str, Fault]

    sequence: tuple[str, ...]
    """Faults that make five failures of the first engine."""

    async def mend(self) -> None:
        """All is well from now on."""

    async def dawdle(self) -> None:
        """All is well, but takes a moment."""


BANK = (
    Talk("where is my credit card", (r"Please tell me the last four digits of your card\.",)),
    Talk(
        "four two seven one",
        (r"Your credit card was shipped on [A-Z][a-z]+day\.", r"The tracking number ends in 8 8 3 1\."),
    ),
)
LOOP = (Talk("where is my credit card", (r"We have sent your credit card to your home address\.",)),)


def _faults(*faults: Fault) -> dict[str, Fault]:
    return {fault.name: fault for fault in faults}


class Thinking:
    """``openai``, and ``ollama`` after it. A tool is used in every second answer."""

    name, first, second = "llm", "openai", "ollama"
    heard_as = ("openai", "ollama")
    talks = BANK
    sequence = (
        "cut: after a sentence",
        "slowed: nothing comes",
        "rubbish: no JSON after a sentence",
        "killed: in the first sentence",
    )

    def __init__(self, server: ThinkingServer, other: BankOllama) -> None:
        self._server = server
        self.environment = {
            "CALLBUS_LLM__ENGINE": self.first,
            "CALLBUS_LLM__FALLBACKS": self.second,
            "CALLBUS_LLM__AGENT": str(AGENTS / "short_bank.toml"),
            "CALLBUS_OPENAI__BASE_URL": server.url,
            "CALLBUS_OPENAI__API_KEY": "none",
            "CALLBUS_OPENAI__MODEL": MODEL,
            "CALLBUS_OLLAMA__URL": other.url,
            "CALLBUS_OLLAMA__MODEL": MODEL,
        }
        late = self._pause
        self.faults = _faults(
            Fault(KILLED, "between turns", self._server.mortal.die, talk=0),
            Fault(KILLED, "in the first sentence", self._end("death", 4)),
            Fault(KILLED, "after a sentence", self._end("death", 9), talk=1),
            Fault(SLOWED, "nothing comes", self._end("hang", 0), talk=0),
            Fault(SLOWED, "a token every 0.4 s", late(0.4)),
            Fault(SLOWED, "stops after a sentence", self._end("hang", 9), talk=1),
            Fault(CUT, "before the answer", self._end("cut", 0)),
            Fault(CUT, "in the first sentence", self._end("cut", 4)),
            Fault(CUT, "after a sentence", self._end("cut", 9), talk=1),
            Fault(CUT, "ends without a reason", self._end("silent end", 4)),
            Fault(RUBBISH, "HTML", self._spoil(lambda reply: Reply(page=True))),
            Fault(RUBBISH, "error 500", self._spoil(lambda reply: Reply(status=500, body={"error": "x"}))),
            Fault(RUBBISH, "no text", self._spoil(lambda reply: Reply([]))),
            Fault(RUBBISH, "no JSON after a sentence", self._end("rubbish", 9), talk=1),
            Fault(RUBBISH, "an error in the stream", self._end("error", 4)),
        )

    async def mend(self) -> None:
        self._server.spoil = None
        await self._server.mortal.live()

    async def dawdle(self) -> None:
        await self.mend()
        await self._pause(0.03)()

    def _spoil(self, spoil: Spoil) -> Callable[[], Awaitable[None]]:
        async def hurt() -> None:
            self._server.spoil = spoil

        return hurt

    def _end(self, ending: str, tokens: int) -> Callable[[], Awaitable[None]]:
        return self._spoil(lambda reply: dataclasses.replace(reply, deltas=reply.deltas[:tokens], ending=ending))

    def _pause(self, seconds: float) -> Callable[[], Awaitable[None]]:
        return self._spoil(lambda reply: dataclasses.replace(reply, pause_s=seconds))


class Speaking:
    """``elevenlabs``, and ``espeak`` after it; both have the same voice, so that one recogniser hears them."""

    name, first, second = "tts", "elevenlabs", "espeak"
    heard_as = ("elevenlabs", "espeak")
    talks = LOOP
    sequence = ("slowed: nothing comes", "cut: in the sentence", "rubbish: HTML", "killed: in the sentence")

    def __init__(self, server: SpeakingServer) -> None:
        self._server = server
        server.speech = espeak_pcm
        self.environment = {
            "CALLBUS_TTS__ENGINE": self.first,
            "CALLBUS_TTS__FALLBACKS": self.second,
            "CALLBUS_LLM__AGENT": str(AGENTS / "short_loop.toml"),
            "CALLBUS_ELEVENLABS__URL": server.url,
            "CALLBUS_ELEVENLABS__API_KEY": KEY,
        }
        change = self._change
        self.faults = _faults(
            Fault(KILLED, "between turns", self._server.mortal.die),
            Fault(KILLED, "in the sentence", change(cut_after_ms=900, dies=True)),
            Fault(SLOWED, "nothing comes", change(first_pause_s=NEVER_S)),
            Fault(SLOWED, "0.3 s for every 0.1 s", change(pause_s=0.3)),
            Fault(SLOWED, "stops in the sentence", change(hang_after_ms=900)),
            Fault(CUT, "before the first audio", change(cut_after_ms=0)),
            Fault(CUT, "in the first word", change(cut_after_ms=200)),
            Fault(CUT, "in the sentence", change(cut_after_ms=900)),
            Fault(CUT, "in the last word", change(cut_after_ms=2700)),
            Fault(RUBBISH, "HTML", change(body=b"<html>Welcome to nginx</html>", content_type="text/html")),
            Fault(RUBBISH, "HTML that is called JSON", change(body=b"<html></html>", content_type="application/json")),
            Fault(RUBBISH, "error 500", change(status=500)),
            Fault(RUBBISH, "no audio", change(body=b"", content_type="application/json")),
            Fault(RUBBISH, "silence", change(speech=lambda text, rate_hz: bytes(2 * rate_hz))),
            Fault(
                RUBBISH,
                "audio too short",
                change(speech=lambda text, rate_hz: espeak_pcm(text, rate_hz)[: rate_hz // 2]),
            ),
        )

    async def mend(self) -> None:
        self._server.mend()
        self._server.speech = espeak_pcm
        await self._server.mortal.live()

    async def dawdle(self) -> None:
        await self.mend()
        self._server.first_pause_s = 0.3

    def _change(self, **changes: object) -> Callable[[], Awaitable[None]]:
        async def hurt() -> None:
            for name, value in changes.items():
                setattr(self._server, name, value)

        return hurt


class Listening:
    """A recogniser behind a socket, and PocketSphinx in the worker after it."""

    name, first, second = "asr", "tests.e2e.chaos.ear:RemoteEar", "pocketsphinx"
    heard_as = ("remote_ear", "pocketsphinx")
    talks = LOOP
    sequence = ("slowed: no transcript comes", "cut: in the speech", "rubbish: null", "killed: before any text")

    def __init__(self, server: HearingServer) -> None:
        self._server = server
        self.environment = {
            "CALLBUS_ASR__ENGINE": self.first,
            "CALLBUS_ASR__FALLBACKS": self.second,
            "CALLBUS_LLM__AGENT": str(AGENTS / "short_loop.toml"),
            VARIABLE: f"{HOST}:{server.port}",
        }
        hear = self._hear
        self.faults = _faults(
            Fault(KILLED, "between turns", self._server.die),
            Fault(KILLED, "before any text", hear(cut_after_partials=0, dies=True)),
            Fault(KILLED, "in the speech", hear(cut_after_partials=2, dies=True)),
            Fault(SLOWED, "no transcript comes", hear(final_s=NEVER_S)),
            Fault(SLOWED, "every reply 0.2 s late", hear(reply_s=0.2)),
            Fault(SLOWED, "stops in the speech", hear(hang_after_partials=1)),
            Fault(CUT, "in the speech", hear(cut_after_partials=2)),
            Fault(CUT, "before any text", hear(cut_after_partials=0)),
            Fault(CUT, "before the transcript", hear(cut_final=True)),
            Fault(RUBBISH, "null", hear(line=b"null\n")),
            Fault(RUBBISH, "HTML", hear(line=b"<html>Welcome to nginx</html>\n")),
            Fault(RUBBISH, "null for a text", hear(line=b'{"text": null, "confidence": 1.0}\n')),
            Fault(RUBBISH, "a number for a text", hear(line=b'{"text": 17, "confidence": 1.0}\n')),
            Fault(RUBBISH, "null for the confidence", hear(line=b'{"text": "yes", "confidence": null}\n')),
            Fault(RUBBISH, "an empty text", hear(line=b'{"text": "", "confidence": 1.0}\n')),
            Fault(RUBBISH, "far too much text", hear(line=b'{"text": "' + b"so " * 999 + b'", "confidence": 1.0}\n')),
        )

    async def mend(self) -> None:
        self._server.fault = Hearing()
        await self._server.live()

    async def dawdle(self) -> None:
        await self.mend()

    def _hear(self, **how: object) -> Callable[[], Awaitable[None]]:
        async def hurt() -> None:
            self._server.fault = Hearing(**how)  # type: ignore[arg-type]

        return hurt


@asynccontextmanager
async def stage_of(name: str) -> AsyncIterator[Stage]:
    """A stage with its providers, for as long as it is wanted."""
    if name == "llm":
        async with ThinkingServer() as thinking, BankOllama() as other:
            yield Thinking(thinking, other)
    elif name == "tts":
        async with SpeakingServer() as speaking:
            await asyncio.to_thread(espeak_pcm, "a", 8000)
            yield Speaking(speaking)
    else:
        async with HearingServer() as hearing:
            yield Listening(hearing)
