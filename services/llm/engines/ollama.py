"""Engine ``ollama``: language models of an Ollama server, over its own interface.

The server loads the model at warm-up and keeps it for ``[ollama] keep_alive``; where it lacks the model, it fetches it
if ``[ollama] pull`` says so. Ollama stops generating when the connection of an answer is closed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

from bus.logs import get_logger
from config.engine_sections import OllamaSection
from config.settings import LlmSection, Settings
from services.llm.chat.engine import ChatEngine
from services.llm.chat.model import ChatRequest, Delta, Message, ModelCapabilities, Token
from services.llm.engine import EngineError
from services.llm.engines._ollama_protocol import (
    Reply,
    full_name,
    missing_error,
    read_line,
    status_error,
    written_keep_alive,
    written_messages,
)
from services.packages import installed

KEEP_ALIVE_S = 300.0
"""How long an idle connection is kept: callers think for longer than the 15 s that the HTTP library would keep it."""
LOAD_S = 300.0
"""Deadline of the first answer, for which the server reads the model from its disk."""
PULL_SILENCE_S = 120.0
"""A fetch that reports nothing for so long has failed; it has no other deadline, models are large."""
LINE_BYTES = 1 << 20
"""Longest line that is read."""

_log = get_logger(__name__)


class OllamaModel:
    """A model of an Ollama server.

    Args:
        silence_ms: after so long without a byte of an answer, the server has failed.
    """

    name = "ollama"
    capabilities = ModelCapabilities()

    def __init__(self, section: OllamaSection, *, silence_ms: int = 10_000) -> None:
        self._aiohttp = installed("ollama", {"aiohttp": "ollama"})["aiohttp"]
        try:
            parts = urlsplit(section.url)
            self._place = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
        except ValueError:
            self._place = ""
        if not self._place or not section.url.startswith(("http://", "https://")):
            raise EngineError("[ollama] url is no address such as http://127.0.0.1:11434")
        self._section = section
        self._silence_s = silence_ms / 1000
        self._client: Any = None

    async def warm(self) -> None:
        """See that the model is there, fetch it where that is wanted, and have it loaded and answer one token."""
        async with aclosing(self._lines("GET", "/api/tags", None, self._silence_s)) as lines:
            known = {each.get("name") async for line in lines for each in line.get("models") or ()}
        if full_name(self._section.model) not in known:
            if not self._section.pull:
                raise missing_error(self._place, self._section.model)
            await self._pull()
        async with aclosing(self._ask(ChatRequest((Message("user", "Hello"),)), 1, LOAD_S)) as deltas:
            async for _ in deltas:
                pass

    async def _pull(self) -> None:
        """Have the server fetch the model; a line in the log for each tenth of it."""
        name, told = self._section.model, 0
        _log.info("model_pull", message=f"{self._place} fetches the model {name!r}")
        status = ""
        body = {"model": name, "stream": True}
        async with aclosing(self._lines("POST", "/api/pull", body, PULL_SILENCE_S)) as lines:
            async for line in lines:
                if line.get("error"):
                    raise EngineError(
                        f"[ollama] {self._place} can't fetch {name!r}; does ollama.com/library have it, and can the"
                        " server reach it?"
                    )
                status = line.get("status") or status
                tenth = _tenth(line)
                if tenth is not None and tenth != told:
                    told = tenth
                    message = f"{self._place} has {tenth * 10} % of a part of {name!r}"
                    _log.info("model_pull_progress", message=message)
        if status != "success":
            raise EngineError(f"[ollama] {self._place} broke off fetching {name!r}; ollama pull {name} there says why")
        _log.info("model_pulled", message=f"{self._place} has the model {name!r}")

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        return self._ask(request, self._section.max_tokens, self._silence_s)

    async def _ask(self, request: ChatRequest, max_tokens: int, silence_s: float) -> AsyncGenerator[Delta, None]:
        body: dict[str, Any] = {
            "model": self._section.model,
            "messages": written_messages(request.messages),
            "stream": True,
            "think": False,
            "keep_alive": written_keep_alive(self._section.keep_alive),
            "options": {
                "num_ctx": self._section.context_tokens,
                "num_predict": max_tokens,
                "temperature": self._section.temperature,
            },
        }
        if request.tools:
            body["tools"] = [tool.as_function() for tool in request.tools]
        reply = Reply()
        async with aclosing(self._lines("POST", "/api/chat", body, silence_s)) as lines:
            async for line in lines:
                if line.get("error"):
                    raise EngineError(f"[ollama] {self._place} broke off the answer with an error; its log says why")
                text = reply.feed(line)
                if text:
                    yield Token(text)
        if not reply.finished:
            raise EngineError(f"[ollama] {self._place} cut off the answer")
        rest, calls, end = reply.finish()
        if rest:
            yield Token(rest)
        for call in calls:
            yield call
        yield end

    async def _lines(
        self, method: str, path: str, body: dict[str, Any] | None, silence_s: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The lines of an answer. Leaving it in the middle closes the connection.

        Raises:
            EngineError: no connection, an error, silence, a cut, or what Ollama does not say.
        """
        aiohttp, section, place = self._aiohttp, self._section, self._place
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=section.connect_ms / 1000, sock_read=silence_s)
        try:
            url = section.url.rstrip("/") + path
            async with self._session().request(method, url, json=body, timeout=timeout) as response:
                if response.status != 200:
                    raise status_error(place, response.status, section.model)
                while line := await response.content.readline():
                    if line.strip():
                        yield read_line(line, place)
        except EngineError:
            raise
        except aiohttp.ConnectionTimeoutError:
            raise EngineError(
                f"[ollama] no connection to {place} within {section.connect_ms} ms; is [ollama] url right?"
            ) from None
        except (TimeoutError, aiohttp.ServerTimeoutError):
            raise EngineError(f"[ollama] {place} fell silent; see whether the server is overloaded") from None
        except aiohttp.ClientConnectorError:
            raise EngineError(
                f"[ollama] {place} can't be reached; is `ollama serve` running and [ollama] url right?"
            ) from None
        except (aiohttp.http_exceptions.HttpProcessingError, ValueError):
            raise EngineError(f"[ollama] {place} sent a line that is too long to be an answer of Ollama's") from None
        except (aiohttp.ClientError, OSError):
            raise EngineError(f"[ollama] {place} broke the connection") from None

    def _session(self) -> Any:
        """The connections; they belong to the event loop that first needs them."""
        if self._client is None or self._client.closed:
            connector = self._aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
            self._client = self._aiohttp.ClientSession(connector=connector, read_bufsize=LINE_BYTES)
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


def _tenth(line: dict[str, Any]) -> int | None:
    """How many tenths of a part of a model are there; None: the line does not tell."""
    total, completed = line.get("total"), line.get("completed")
    return completed * 10 // total if isinstance(total, int) and total and isinstance(completed, int) else None


def create(section: LlmSection, settings: Settings) -> ChatEngine:
    """The engine.

    Raises:
        MissingPackageError: the package aiohttp is missing.
        EngineError: the address can't be used.
    """
    return ChatEngine(OllamaModel(settings.ollama, silence_ms=section.deadline_ms), section)
