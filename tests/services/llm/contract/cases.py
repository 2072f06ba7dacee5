"""The engines that the contract is held against, a row each. An engine's author adds a row to ``CASES``.

Most engines play a *plan*: what a model (a fake one, or one behind a local server that speaks the provider's protocol)
answers to one request after the other. An engine that says what it wants, such as a script or a small trained model,
has a row with ``follows=False``: it is held to everything that does not depend on the words.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from config.engine_sections import LlamaCppSection, OllamaSection, OpenaiSection
from services.llm.chat.engine import ChatEngine
from services.llm.engine import Engine, Request, load_engine
from tests.fakes import ollama_server, openai_server
from tests.services.llm.chat.model import FakeModel, Reply, agent_section, says
from tests.services.llm.harness import settings_with

ANSWER = "Your card is on its way. It will arrive on Monday. Is there anything else?"
SILENCE_MS = 120_000
"""Servers may be silent for as long as the contract has them be."""
SENTENCES = ["Your card is on its way.", "It will arrive on Monday.", "Is there anything else?"]


class Plan(NamedTuple):
    """What the model answers to one request after the other, the last reply again and again; ``folder``: for files."""

    folder: Path
    replies: tuple[Reply, ...] = (says(ANSWER),)


class Made(NamedTuple):
    """An engine that is ready.

    Attributes:
        told: everything that its model was told in the last request, as text; of engines that follow a plan.
        work: pieces that its model has given so far; None: nobody can tell.
    """

    engine: Engine
    told: Callable[[], str] = lambda: ""
    work: Callable[[], int] | None = None


class EngineCase(NamedTuple):
    """One row.

    Attributes:
        make: the engine with this plan, warm; it is closed behind it.
        follows: it answers what the plan says.
        streams: its sentences come while the model is still at work.
        tool_turn: for an engine that does not follow: a turn for which it asks for ``verify_customer``.
        missing: why it can't be had on this machine; empty: it can.
    """

    name: str
    make: Callable[[Plan], AbstractAsyncContextManager[Made]]
    follows: bool = True
    streams: bool = True
    tool_turn: Request | None = None
    missing: Callable[[], str] = lambda: ""


@asynccontextmanager
async def instant(plan: Plan) -> AsyncIterator[Made]:
    yield Made(load_engine("instant", settings_with().llm))


@asynccontextmanager
async def scripted(plan: Plan) -> AsyncIterator[Made]:
    yield Made(load_engine("scripted", settings_with().llm))


@asynccontextmanager
async def chat(plan: Plan) -> AsyncIterator[Made]:
    model = FakeModel(*plan.replies)
    engine = ChatEngine(model, agent_section(plan.folder))
    await engine.warm()
    yield Made(engine, lambda: "\n".join(message.text for message in model.requests[-1].messages), lambda: model.given)
    await engine.close()


@asynccontextmanager
async def openai(plan: Plan) -> AsyncIterator[Made]:
    from services.llm.engines.openai import OpenaiModel

    async with openai_server.OpenaiServer(models=["small"], keeps=False) as server:
        model = OpenaiModel(OpenaiSection(base_url=server.url, model="small"), silence_ms=SILENCE_MS)
        engine = ChatEngine(model, agent_section(plan.folder))
        await engine.warm()
        server.replies = _openai_replies(plan)
        yield Made(engine, lambda: _told(server.asked()[-1]), lambda: server.written)
        await engine.close()


def _openai_replies(plan: Plan) -> list[openai_server.Reply]:
    return [
        openai_server.Reply(
            [
                *reply.text,
                *(
                    openai_server.call_piece(number, f"id-{number}", name, arguments)
                    for number, (name, arguments) in enumerate(reply.calls)
                ),
            ],
            reason=reply.reason,
            pause_s=reply.pause_s,
            ending="done" if reply.reason else "silent end",
        )
        for reply in plan.replies
    ]


@asynccontextmanager
async def ollama(plan: Plan) -> AsyncIterator[Made]:
    from services.llm.engines.ollama import OllamaModel

    async with ollama_server.OllamaServer(keeps=False) as server:
        model = OllamaModel(OllamaSection(url=server.url, model="small"), silence_ms=SILENCE_MS)
        engine = ChatEngine(model, agent_section(plan.folder))
        await engine.warm()
        server.replies = [
            ollama_server.Reply(
                [
                    *reply.text,
                    *({"tool_calls": [{"function": {"name": n, "arguments": a}}]} for n, a in reply.calls),
                ],
                pause_s=reply.pause_s,
                ending="done" if reply.reason else "silent end",
            )
            for reply in plan.replies
        ]
        yield Made(engine, lambda: _told(server.bodies("/api/chat")[-1]), lambda: server.written)
        await engine.close()


@asynccontextmanager
async def pipecat(plan: Plan) -> AsyncIterator[Made]:
    """OpenAI's service of pipecat's catalogue, against the same server."""
    from services.llm.engines.pipecat import PipecatModel
    from tests.services.pipecat.making import OPENAI_LLM, settings_for

    async with openai_server.OpenaiServer(keeps=False) as server:
        model = PipecatModel(settings_for("llm", OPENAI_LLM, {"api_key": "none", "base_url": server.url}))
        engine = ChatEngine(model, agent_section(plan.folder))
        await engine.warm()
        server.replies = _openai_replies(plan)
        yield Made(engine, lambda: _told(server.asked()[-1]), lambda: server.written)
        await engine.close()


def _told(body: dict[str, Any]) -> str:
    return "\n".join(message["content"] or "" for message in body["messages"])


@asynccontextmanager
async def llama_cpp(plan: Plan) -> AsyncIterator[Made]:
    """A model that says one thing, whatever it is asked; a character of the prompt is a token to it."""
    from services.llm.engines.llama_cpp import LlamaCppModel
    from tests.tiny_models.gguf import scripted_model

    # No word twice: what follows a word depends on that word alone.
    text = "Your card is on its way. It will arrive tomorrow. Anything else?"
    path = scripted_model(plan.folder / "small.gguf", [f"▁{word}" for word in text.split()], context=8192)
    section = LlamaCppSection(context_tokens=8192, slots=2, threads=1, temperature=0.0)
    model = LlamaCppModel(section, path)
    engine = ChatEngine(model, agent_section(plan.folder))
    await engine.warm()
    yield Made(engine, work=lambda: model.evaluated)
    await engine.close()


def _package(name: str, extra: str) -> Callable[[], str]:
    """Why an engine can't be had: its package."""
    there = importlib.util.find_spec(name) is not None
    return lambda: "" if there else f"the package {name} is missing: pip install 'callbus[{extra}]'"


CASES: list[EngineCase] = [
    EngineCase("instant", instant, follows=False),
    EngineCase(
        "scripted",
        scripted,
        follows=False,
        tool_turn=Request("call-1", "default", 2, digits="4271", state="ask_card", slots={"_goal": "card_status"}),
    ),
    EngineCase("chat", chat),
    EngineCase("openai", openai, missing=_package("openai", "openai")),
    EngineCase("pipecat", pipecat, missing=_package("pipecat", "pipecat")),
    EngineCase("ollama", ollama, missing=_package("aiohttp", "ollama")),
    EngineCase("llama_cpp", llama_cpp, follows=False, missing=_package("llama_cpp", "llama_cpp")),
]
"""Rows of engines with packages or servers of their own: each in a function like those above."""
