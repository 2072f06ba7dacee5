"""Engines that do what no engine should: they quote the caller wherever Python lets them."""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import AsyncIterator

from config.settings import AsrSection, LlmSection
from schemas.llm import ListenFor
from services.asr.engines.instant import FixedText, InstantRun
from services.llm.engine import Answer, Capabilities, Request, Sentence, Step, ToolResult
from services.tts.engine import Label, Run
from services.tts.engines.instant import InstantEngine

CALLER = "+4930901820734"
NAME = "Balthasar Quillfeather"
KEYS = "81549263"
CARD = "4532 0151 1283 0366"
API_KEY = "sk-plantedsecretkey0123456789"
TOKEN = "eyJwbGFudGVk.eyJ0b2tlbg0123.c2lnbmF0dXJl"
SPOKEN = f"my name is {NAME} and my card is {CARD}"

SEARCHED = (
    CALLER, CALLER.lstrip("+"), "30901820734", "Quillfeather", "Balthasar", KEYS, CARD, CARD.replace(" ", ""),
    API_KEY, "plantedsecret", TOKEN, "c2lnbmF0dXJl",
)  # fmt: skip
"""What must not be found, in whatever is written."""
NETTED = f"dialling {CALLER} for card {CARD} with api_key={API_KEY} and Bearer {TOKEN} at sip:{CALLER}@example.org"
"""What a library might log at a warning, without a name: that one no pattern knows."""


def fail(heard: str) -> None:
    """Raises an error whose text, arguments and note quote what was heard."""
    error = ValueError(f"can't use {heard!r} of {CALLER} with {API_KEY}", heard)
    error.add_note(heard)
    raise error


class BadHearing(FixedText):
    """Hears the name and the card; every second run raises, in the run and in a thread of its own."""

    name = "planted-asr"
    runs = 0

    def __init__(self, settings: AsrSection) -> None:
        super().__init__(settings, SPOKEN)

    def open(self, listen_for: ListenFor) -> InstantRun:
        type(self).runs += 1
        if self.runs % 2 == 0:
            threading.Thread(target=fail, args=(SPOKEN,), name=f"planted-{NAME}").start()
            return BadRun(SPOKEN)
        return super().open(listen_for)


class BadRun(InstantRun):
    def accept(self, pcm: bytes) -> str | None:
        fail(SPOKEN)
        return None


class BadAgentRun:
    """Says back what was said; raises after that."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def __aiter__(self) -> AsyncIterator[Step]:
        request = self._request
        heard = f"{request.text} {request.digits}"
        if request.turn:
            logging.getLogger("planted.library").warning(NETTED)
            logging.getLogger("planted.library").debug("the request is %s", request)
            warnings.warn(f"the caller is {CALLER}", stacklevel=1)
            asyncio.get_running_loop().call_soon(fail, heard)
            asyncio.get_running_loop().create_task(_fail_later(heard))
        yield Sentence(f"Hello {NAME}, turn {request.turn}.")
        if request.turn > 1:
            try:
                fail(heard)
            except ValueError as error:
                raise RuntimeError(f"no answer to {heard}") from error
        yield Answer(intent="planted", listen_for=ListenFor(state="planted"), state="planted", slots={"name": NAME})

    def return_tool(self, tool_call_id: str, result: ToolResult) -> None:
        """No tool is ever asked for."""

    async def cancel(self) -> None:
        """There is nothing to stop."""


async def _fail_later(heard: str) -> None:
    fail(heard)


class BadAgent:
    name = "planted-llm"
    capabilities = Capabilities(streaming=True)
    tools = ()

    def __init__(self, settings: LlmSection) -> None:
        """It has none."""

    async def warm(self) -> None:
        """Nothing to load."""

    def open(self, request: Request) -> BadAgentRun:
        return BadAgentRun(request)


class BadVoice(InstantEngine):
    """Every third sentence raises with its text."""

    spoken = 0

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        type(self).spoken += 1
        if self.spoken % 3 == 0:
            fail(text)
        return super().open(text, language=language, label=label)
