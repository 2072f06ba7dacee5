"""Engines of language models by their names in the settings."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from config.engine_sections import LlamaCppSection, ModelsSection, OllamaSection, OpenaiSection
from config.settings import Settings
from schemas.llm import NextStep
from services.llm.chat.engine import ChatEngine
from services.llm.engine import EngineError, load_engine
from services.models import MissingModelError
from services.packages import MissingPackageError
from tests.services.llm.chat.model import agent_section, ask
from tests.services.llm.llama import trained

pytestmark = pytest.mark.unit

AGENTS = Path(__file__).resolve().parents[2] / "data" / "agents"


def settings_of(folder: Path, agent: str = "", **sections: msgspec.Struct) -> Settings:
    llm = agent_section(folder)
    if agent:
        llm = msgspec.structs.replace(llm, agent=agent)
    return msgspec.structs.replace(Settings(), llm=llm, **sections)


@pytest.mark.parametrize(("name", "package"), [("openai", "openai"), ("ollama", "aiohttp")])
async def test_servers(name: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package, reason=f"pip install 'callbus[{name}]'")
    nowhere = "http://127.0.0.1:1"
    settings = settings_of(tmp_path, openai=OpenaiSection(base_url=f"{nowhere}/v1"), ollama=OllamaSection(url=nowhere))
    engine = load_engine(name, settings.llm, settings)
    assert isinstance(engine, ChatEngine) and engine.name == name and engine.capabilities.streaming
    with pytest.raises(EngineError, match=r"127.0.0.1:1 can't be reached"):
        await engine.warm()
    await engine.close()


@pytest.mark.parametrize(("name", "package"), [("openai", "openai"), ("ollama", "aiohttp"), ("llama_cpp", "llama_cpp")])
def test_a_missing_package_names_its_extra(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    settings = settings_of(tmp_path, llama_cpp=LlamaCppSection(model=str(tmp_path)))
    with pytest.raises(MissingPackageError, match=rf"pip install 'callbus\[{name}\]'"):
        load_engine(name, settings.llm, settings)


def test_a_missing_model_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, models=ModelsSection(folder=str(tmp_path)))
    with pytest.raises(MissingModelError, match=r"callbus models pull qwen2.5-1.5b-instruct-q4_k_m.gguf"):
        load_engine("llama_cpp", settings.llm, settings)


async def test_a_conversation_with_a_trained_model(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is missing: pip install 'callbus[llama_cpp]'")
    section = LlamaCppSection(model=str(trained("bank-tiny-2m-q8_0.gguf")), temperature=0.0, threads=1)
    settings = settings_of(tmp_path, agent=str(AGENTS / "tiny_bank.toml"), llama_cpp=section)
    engine = load_engine("llama_cpp", settings.llm, settings)
    assert isinstance(engine, ChatEngine)
    await engine.warm()
    assert (await ask(engine, turn=0)).said == ["Welcome to Example Bank.", "How can I help you?"]
    card = await ask(engine, text="where is my credit card")
    assert card.said == ["Your new card was posted on Monday and should reach you within five working days."]
    assert card.answer is not None and card.answer.intent == "card_delivery_inquiry"
    lost = await ask(engine, text="i lost my card")
    assert lost.said == ["I am sorry to hear that.", "I have blocked the card, and a new one is on its way."]
    end = await ask(engine, text="goodbye")
    assert end.said[-1] == "Goodbye." and end.answer is not None and end.answer.then is NextStep.HANG_UP
    await engine.close()
