"""Engine ``openai``: any server that speaks OpenAI's chat completions: OpenAI, Groq, vLLM, llama-server and others.

The package ``openai`` does the speaking; how often something is tried again is not its business but that of failover.
What a server refuses by name, such as ``stream_options`` or ``temperature``, is left out from then on.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from bus.logs import get_logger
from config.engine_sections import OpenaiSection
from config.settings import LlmSection, Settings
from services.llm.chat.engine import ChatEngine
from services.llm.chat.model import ChatRequest, Delta, Message, ModelCapabilities, Token
from services.llm.engine import EngineError
from services.llm.engines._openai_errors import place_of, status_error, stream_error, translate
from services.llm.engines._openai_stream import Reply, written_messages
from services.packages import installed

KEEP_ALIVE_S = 300.0
"""How long an idle connection is kept: callers think for longer than the 5 s that the HTTP library would keep it."""
CONNECTIONS = 1000

_OPTIONAL = ("stream_options", "temperature", "max_tokens")
"""What servers refuse by name although OpenAI's own takes it; and what OpenAI's newer models refuse."""

_log = get_logger(__name__)


def find_key(section: OpenaiSection) -> str:
    """The key of the account; ``none`` for a server that may need none.

    Raises:
        EngineError: the file of the key can't be read, or OpenAI itself is asked without a key.
    """
    key = section.api_key
    if not key and section.api_key_file:
        try:
            key = Path(section.api_key_file).expanduser().read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise EngineError(f"[openai] api_key_file = {section.api_key_file!r} can't be read") from error
    key = (key or os.environ.get("OPENAI_API_KEY", "")).strip()
    if not key.isascii() or not key.isprintable():
        raise EngineError("[openai] the key holds characters that no key has; copy it again")
    if not key and place_of(section.base_url).endswith("openai.com"):
        raise EngineError("[openai] OpenAI wants a key: [openai] api_key, api_key_file or OPENAI_API_KEY")
    return key or "none"


class OpenaiModel:
    """A model behind a server of chat completions.

    Args:
        silence_ms: after so long without a byte of an answer, the server has failed.
    """

    name = "openai"
    capabilities = ModelCapabilities()

    def __init__(self, section: OpenaiSection, *, silence_ms: int = 10_000) -> None:
        openai = installed("openai", {"openai": "openai"})["openai"]
        # httpx, or from the package's third version on httpx2: whichever the package itself is built on.
        httpx = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
        self._modules = {"openai": openai, "httpx": httpx}
        # Below this level they log what is sent and received: the caller's words.
        for library in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
            logging.getLogger(library).setLevel(logging.WARNING)
        self._section = section
        self._place = place_of(section.base_url)
        if not self._place or not section.base_url.startswith(("http://", "https://")):
            raise EngineError("[openai] base_url is no address such as http://127.0.0.1:8000/v1")
        self._refused: set[str] = set()
        self._usage_proven = False
        timeout = httpx.Timeout(silence_ms / 1000, connect=section.connect_ms / 1000)
        limits = httpx.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S
        )
        self._client = openai.AsyncOpenAI(
            api_key=find_key(section),
            base_url=section.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=httpx.AsyncClient(timeout=timeout, limits=limits),
        )

    async def warm(self) -> None:
        """See that the model is there, and have it say one token, so that a connection is open."""
        known = await self._models()
        if known and self._section.model not in known:
            # Aliases are rarely listed, so the list is only a hint; what counts is the answer below.
            _log.info("model_not_listed", message=f"{self._place} does not list [openai] model; asking it all the same")
        try:
            async with aclosing(self._ask(ChatRequest((Message("user", "Hello"),)), max_tokens=1)) as deltas:
                async for _ in deltas:
                    pass
        except EngineError as error:
            if known and self._section.model not in known:
                some = ", ".join(sorted(known)[:8])
                raise EngineError(f"{error}; it has no model {self._section.model!r}, but: {some}") from error
            raise

    async def _models(self) -> set[str]:
        """Names of the server's models; empty where it does not tell."""
        openai = self._modules["openai"]
        try:
            page = await self._client.models.list()
            return {each.id for each in page.data if isinstance(each.id, str)}
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise status_error(self._place, error.status_code, error.body) from None
            return set()
        except (openai.APIConnectionError, self._modules["httpx"].HTTPError) as error:
            raise self._translated(error) from None
        except (openai.APIError, AttributeError, TypeError, ValueError):
            return set()

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        return self._ask(request, max_tokens=self._section.max_tokens)

    async def _ask(self, request: ChatRequest, *, max_tokens: int) -> AsyncGenerator[Delta, None]:
        reply = Reply()
        stream = await self._opened(self._arguments(request, max_tokens))
        try:
            # Leaving the block closes the connection, which tells the server to stop.
            async with stream:
                async for chunk in stream:
                    self._check(chunk)
                    text = reply.feed(chunk)
                    if text:
                        yield Token(text)
        except EngineError:
            raise
        except Exception as error:
            raise self._translated(error) from None
        if not reply.finished:
            raise EngineError(f"[openai] {self._place} cut off the answer")
        rest, calls, end = reply.finish()
        if rest:
            yield Token(rest)
        for call in calls:
            yield call
        yield end

    def _check(self, chunk: Any) -> None:
        if getattr(chunk, "object", None) == "error" or getattr(chunk, "error", None):
            raise stream_error(self._place, getattr(chunk, "error", None) or {"error": dict(chunk)})

    def _arguments(self, request: ChatRequest, max_tokens: int) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self._section.model,
            "messages": written_messages(request.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": self._section.temperature,
            "max_tokens": max_tokens,
        }
        if request.tools:
            arguments["tools"] = [tool.as_function() for tool in request.tools]
        return arguments

    async def _opened(self, arguments: dict[str, Any]) -> Any:
        """The stream of an answer; what the server refuses by name is left out, now and from now on."""
        guessed = False
        while True:
            try:
                stream = await self._post(arguments, without_usage=guessed)
            except self._modules["openai"].APIStatusError as error:
                named = self._named(error) if error.status_code in (400, 422) else ""
                if named:
                    self._refused.add(named)
                elif error.status_code in (400, 422) and not (guessed or self._usage_proven):
                    guessed = True
                else:
                    raise self._translated(error) from None
                continue
            except Exception as error:
                raise self._translated(error) from None
            if guessed:
                self._refused.add("stream_options")
            self._usage_proven = True
            return stream

    def _named(self, error: Any) -> str:
        """Which argument, not yet left out, an error names."""
        text = f"{error.message} {error.body}"
        for name in _OPTIONAL:
            if name not in self._refused and re.search(rf"\b{name}\b", text):
                return name
        return ""

    async def _post(self, arguments: dict[str, Any], *, without_usage: bool) -> Any:
        left_out = self._refused | ({"stream_options"} if without_usage else set())
        sent = {name: value for name, value in arguments.items() if name not in left_out}
        if "max_tokens" in left_out:
            sent["max_completion_tokens"] = arguments["max_tokens"]
        raw = await self._client.chat.completions.with_raw_response.create(**sent)
        if not raw.headers.get("content-type", "").startswith("text/event-stream"):
            await raw.http_response.aclose()
            kind = raw.headers.get("content-type", "").partition(";")[0] or "nothing"
            shown = kind if re.fullmatch(r"[a-z-]+/[a-z0-9.+-]+", kind) else "something else"
            raise EngineError(
                f"[openai] {self._place} answered with {shown}, not with a stream; [openai] base_url must be that of a"
                " chat completions interface that streams, with its /v1"
            )
        return raw.parse()

    def _translated(self, error: Exception) -> Exception:
        return translate(self._place, error, self._modules, self._section.connect_ms) or error

    async def close(self) -> None:
        await self._client.close()


def create(section: LlmSection, settings: Settings) -> ChatEngine:
    """The engine.

    Raises:
        MissingPackageError: the package openai is missing.
        EngineError: the address or the key can't be used.
    """
    return ChatEngine(OpenaiModel(settings.openai, silence_ms=section.deadline_ms), section)
