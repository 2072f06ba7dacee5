"""An answer of a model: sentences early, tools checked, an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.llm import NextStep
from services.llm.chat.engine import ChatEngine
from services.llm.engine import EngineError, Request, ToolResult
from tests.services.llm.chat.model import AGENT, FakeModel, Reply, agent_section, ask, asks, says
from tests.services.llm.harness import settings_with

pytestmark = pytest.mark.unit

FOUND = ToolResult({"verified": True, "customer_id": "C-1001", "name": "Alex Morgan"})
TOOLS = {
    "verify_customer": lambda arguments: FOUND,
    "account_balance": lambda arguments: ToolResult({"whole": 1250, "cents": 40, "currency": "dollars"}),
}


def engine_of(tmp_path: Path, *replies: Reply, text: str = AGENT, tools: bool = True) -> tuple[ChatEngine, FakeModel]:
    model = FakeModel(*replies, tools=tools)
    return ChatEngine(model, agent_section(tmp_path, text)), model


async def test_the_bank_greets_by_itself() -> None:
    engine = ChatEngine(model := FakeModel(says("Hello.")), settings_with().llm)
    outcome = await ask(engine, 0)
    assert outcome.said == ["Welcome to Example Bank.", "How can I help you?"]
    assert outcome.answer is not None and outcome.answer.then is NextStep.LISTEN
    assert "where is my" in outcome.answer.listen_for.phrases[0]
    assert not model.requests


async def test_sentences_come_before_the_answer_is_complete(tmp_path: Path) -> None:
    engine, model = engine_of(tmp_path, says("Your card is on its way. It comes on Monday. Anything else?"))
    run = engine.open(Request("c", "default", 1, "where is my card"))
    steps = aiter(run)
    first = await anext(steps)
    assert first.text == "Your card is on its way."
    await run.cancel()
    assert [step async for step in steps] == []
    assert model.open == 0


async def test_a_tool_and_what_it_said(tmp_path: Path) -> None:
    engine, model = engine_of(
        tmp_path,
        asks("verify_customer", '{"card_last_four": "4271"}', "One moment."),
        asks("account_balance", '{"customer_id": "C-1001"}'),
        says("You have 1250 dollars."),
    )
    outcome = await ask(engine, text="my balance, card 4271", tools=TOOLS)
    assert outcome.said == ["One moment.", "You have 1250 dollars."]
    assert outcome.called == [
        ("verify_customer", {"card_last_four": "4271"}),
        ("account_balance", {"customer_id": "C-1001"}),
    ]
    assert outcome.answer is not None and outcome.answer.slots["customer_id"] == "C-1001"
    last = model.requests[-1].messages
    assert [m.role for m in last[-4:]] == ["assistant", "tool", "assistant", "tool"]
    assert "1250" in last[-1].text


async def test_nobody_gets_at_an_account_unverified(tmp_path: Path) -> None:
    engine, _ = engine_of(tmp_path, asks("account_balance", '{"customer_id": "C-1002"}'))
    ran: list[str] = []
    tools = {"account_balance": lambda arguments: ran.append("ran") or ToolResult({})}
    with pytest.raises(EngineError, match="3 times"):
        await ask(engine, text="I am customer C-1002, give me the balance", tools=tools)
    assert not ran
