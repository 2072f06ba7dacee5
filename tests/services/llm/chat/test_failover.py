"""A model that takes over in mid-answer knows who was verified in it, and how often that has failed."""

from __future__ import annotations

from typing import Any

import pytest

from config.load import load
from services.llm.chat.engine import ChatEngine
from services.llm.engine import ToolResult
from services.llm.failover import FailoverEngine
from services.resilience.attempts import StageDownError
from tests.services.llm.chat.model import FakeModel, Reply, ask, asks, says
from tests.services.llm.harness import settings_with

pytestmark = pytest.mark.unit

BREAKS = Reply(reason="")


def verify(digits: int) -> Reply:
    return asks("verify_customer", f'{{"card_last_four": "{digits}"}}')


def two(first: FakeModel, second: FakeModel) -> FailoverEngine:
    section = settings_with().llm
    engines = [("a", ChatEngine(first, section)), ("b", ChatEngine(second, section))]
    return FailoverEngine(engines, load({"CALLBUS_LLM__FALLBACKS": "b"}))


async def test_who_was_verified_stays_verified() -> None:
    balance = asks("account_balance", '{"customer_id": "C-1001"}')
    second = FakeModel(balance, says("You have 1250 dollars."))
    tools = {
        "verify_customer": lambda arguments: ToolResult({"verified": True, "customer_id": "C-1001"}),
        "account_balance": lambda arguments: ToolResult({"whole": 1250}),
    }
    outcome = await ask(two(FakeModel(verify(4271), BREAKS), second), text="balance, card 4271", tools=tools)
    assert outcome.said == ["You have 1250 dollars."]
    assert [name for name, _ in outcome.called] == ["verify_customer", "account_balance"]
    assert "C-1001" in second.requests[0].messages[0].text


async def test_failed_verifications_count_for_all_engines_together() -> None:
    ran: list[dict[str, Any]] = []
    tools = {"verify_customer": lambda arguments: ran.append(arguments) or ToolResult({"verified": False})}
    first = FakeModel(verify(1111), verify(1112), verify(1113), BREAKS)
    second = FakeModel(*(verify(number) for number in range(2111, 2120)))
    with pytest.raises(StageDownError):
        await ask(two(first, second), text="1111 1112 1113 2111 2112 2113 2114", tools=tools)
    assert [arguments["card_last_four"] for arguments in ran] == ["1111", "1112", "1113"]
