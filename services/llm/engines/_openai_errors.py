"""What can go wrong with a server of chat completions, in words that say how to mend it.

Nothing that a server writes goes into a text: it may quote the caller or the key. Only its error code does, where it
looks like one.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from services.llm.engine import EngineError

_CODE = re.compile(r"[A-Za-z][A-Za-z_.-]{2,48}")
_STATUS = {
    400: "it refuses the request; see whether [openai] model can do chat completions with tools",
    401: "it does not accept the key: [openai] api_key, api_key_file or OPENAI_API_KEY",
    402: "the account has no credit left",
    403: "the key may not use this model: [openai] api_key and model",
    404: "it has no such address or no such model: [openai] base_url (with its /v1) and model",
    408: "it took too long",
    413: "the conversation is too long for it; a shorter prompt in the agent file",
    422: "it refuses the request; see whether [openai] model can do chat completions with tools",
    429: "too many requests, or the account's allowance is used up; a larger allowance, or [llm] fallbacks",
    503: "it is overloaded or still loads the model",
}


def place_of(base_url: str) -> str:
    """Host and port of an address, without any user and password: what stands in texts; empty: it is no address."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    return f"{host}:{port}" if port else host


def code_of(body: object) -> str:
    """The error code of an answer's body, such as ``context_length_exceeded``; empty where there is none."""
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ""
    found = [each for each in (error.get("code"), error.get("type")) if isinstance(each, str)]
    return next((each for each in found if _CODE.fullmatch(each) and not each.startswith("sk-")), "")


def status_error(place: str, status: int, body: object = None, retry_after: str = "") -> EngineError:
    """An answer that is an error."""
    code = code_of(body)
    help_text = _STATUS.get(status, "it is out of order" if status >= 500 else "it refuses the request")
    if code in ("context_length_exceeded", "exceed_context_size_error"):
        help_text = "the conversation is too long for the model; a shorter prompt in the agent file, or a larger model"
    wait = f"; it asks to wait {retry_after} s" if re.fullmatch(r"\d{1,6}(\.\d+)?", retry_after) else ""
    return EngineError(f"[openai] {place} answered {status}{f' ({code})' if code else ''}: {help_text}{wait}")


def stream_error(place: str, body: object) -> EngineError:
    """An error that came in the middle of a stream, as vLLM and others send it."""
    code = code_of(body)
    return EngineError(f"[openai] {place} broke off the answer with an error{f' ({code})' if code else ''}")


def translate(place: str, error: Exception, modules: dict[str, Any], connect_ms: int) -> EngineError | None:
    """An exception of the openai package or of its HTTP library; None: not one of theirs."""
    openai, httpx = modules["openai"], modules["httpx"]
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    if isinstance(error, openai.APIStatusError):
        headers = error.response.headers
        return status_error(place, error.status_code, error.body, headers.get("retry-after", ""))
    if isinstance(cause, httpx.ConnectTimeout):
        return EngineError(f"[openai] no connection to {place} within {connect_ms} ms; is [openai] base_url right?")
    if isinstance(error, openai.APITimeoutError) or isinstance(cause, httpx.TimeoutException):
        return EngineError(f"[openai] {place} fell silent; see whether the server is overloaded")
    if isinstance(cause, httpx.ConnectError):
        return EngineError(f"[openai] {place} can't be reached; is the server running and [openai] base_url right?")
    if isinstance(error, openai.APIConnectionError) or isinstance(cause, httpx.HTTPError | httpx.StreamError):
        return EngineError(f"[openai] {place} broke the connection")
    if isinstance(error, openai.APIError):
        return stream_error(place, error.body)
    if isinstance(error, ValueError):
        return EngineError(f"[openai] {place} sent what is no chat completion; is [openai] base_url right?")
    return None
