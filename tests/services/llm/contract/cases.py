"""The engines that the contract is held against, a row each. An engine's author adds a row to ``CASES``.

Most engines play a *plan*: what a model (a fake one, or one behind a local server that speaks the provider's protocol)
answers to one request after the other. An engine that says what it wants, such as a script or a small trained model,
has a row with ``follows=False``: it is held to everything that does not depend on the words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from services.llm.chat.engine import ChatEngine
from services.llm.engine import Engine, Request, load_engine
from tests.services.llm.chat.model import FakeModel, Reply, agent_section, says
from tests.services.llm.harness import settings_with

ANSWER = "Your card is on its way. It will arrive on Monday. Is there anything else?"
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


CASES: list[EngineCase] = [
    EngineCase("instant", instant, follows=False),
    EngineCase(
        "scripted",
        scripted,
        follows=False,
        tool_turn=Request("call-1", "default", 2, digits="4271", state="ask_card", slots={"_goal": "card_status"}),
    ),
    EngineCase("chat", chat),
]
"""Rows of engines with packages or servers of their own: each in a function like those above."""
