"""What the tests of engine ``llama_cpp`` share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.engine_sections import LlamaCppSection
from services.llm.chat.model import ChatRequest, Delta, Message, ModelToolCall, Token, ToolDescription
from services.llm.engines.llama_cpp import LlamaCppModel

QUESTION = ChatRequest((Message("system", "Be short."), Message("user", "where is my card")), call_id="c1")
BLOCK = ToolDescription(
    "block_card",
    "Blocks a card.",
    {
        "type": "object",
        "properties": {"last4": {"type": "string", "pattern": "^[0-9]{4}$"}, "reason": {"enum": ["lost", "stolen"]}},
        "required": ["last4", "reason"],
    },
)
BALANCE = ToolDescription("get_balance", "Reads the balance.", {"type": "object", "properties": {}})


@asynccontextmanager
async def model_of(
    path: Path, *, seed: int | None = 1, patience_ms: int = 10_000, **settings: Any
) -> AsyncIterator[LlamaCppModel]:
    section = LlamaCppSection(**{"temperature": 0.0, "context_tokens": 1024, "slots": 1, "threads": 1, **settings})
    model = LlamaCppModel(section, path, seed=seed, patience_ms=patience_ms)
    try:
        yield model
    finally:
        await model.close()


async def all_of(model: LlamaCppModel, request: ChatRequest = QUESTION) -> list[Delta]:
    async with aclosing(model.stream(request)) as deltas:
        return [delta async for delta in deltas]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Token))


def calls_of(deltas: list[Delta]) -> list[ModelToolCall]:
    return [delta for delta in deltas if isinstance(delta, ModelToolCall)]


def trained(name: str) -> Path:
    """A trained model of the shared data."""
    folder = os.environ.get("CALLBUS_TEST_MODELS", "")
    path = Path(folder) / "llm" / name
    if not folder or not path.is_file():
        pytest.skip(f"CALLBUS_TEST_MODELS does not lead to a folder with llm/{name}")
    return path
