"""Whole calls with an agent that a model plays: what the record holds, what a successor and an interruption find."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.control import Transfer
from schemas.failure import Failure
from schemas.llm import NextStep, ToolCalled, ToolReturned
from services.llm.chat.engine import ChatEngine
from services.llm.chat.model import ChatRequest
from services.llm.engine import Engine, EngineError
from services.text.courtesies import courtesies
from tests.fakes.virtual import run_virtual
from tests.services.llm.chat.model import AGENT, FakeModel, Reply, agent_section, asks, says
from tests.services.llm.engines import ToolEngine
from tests.services.llm.harness import LoopClock, World, hangups, settings_with

APOLOGY = courtesies("en").wrong

pytestmark = pytest.mark.unit


def bank(reply: Callable[[ChatRequest], Reply] | None = None, *replies: Reply) -> tuple[ChatEngine, FakeModel]:
    model = FakeModel(*replies, reply=reply)
    return ChatEngine(model, settings_with().llm, clock=LoopClock()), model


def clerk(request: ChatRequest) -> Reply:
    """A model that does its job, from what it is told alone."""
    last, system = request.messages[-1], request.messages[0].text
    if last.role == "tool":
        result = json.loads(last.text)
        if "whole" in result:
            return says(f"Your balance is {result['whole']} dollars. Anything else?")
        return balance(result["customer_id"]) if result.get("verified") else says("I could not find that card.")
    if "goodbye" in last.text:
        return asks("end_call", text="Thank you for calling.")
    if "C-1001" in system:
        return balance("C-1001")
    if any(sign.isdigit() for sign in last.text):
        return asks("verify_customer", json.dumps({"card_last_four": "4271"}), "One moment.")
    return says("Please tell me the last four digits of your card.")


def balance(customer: str) -> Reply:
    return asks("account_balance", json.dumps({"customer_id": customer}))


async def begun(engine: Engine, **llm: object) -> World:
    world = World()
    await world.begin()
    await world.work(engine, settings=settings_with(**llm))
    await world.answer()
    return world


def test_a_conversation() -> None:
    async def scenario() -> None:
        engine, _ = bank(clerk)
        world = await begun(engine)
        assert world.answer_to(0) == ["Welcome to Example Bank.", "How can I help you?"]
        assert await world.say(1, "what is my balance") == ["Please tell me the last four digits of your card."]
        assert world.done(1).listen_for.digits == 4
        assert world.done(1).intent == "account_balance"
        assert await world.say(2, digits="4271") == ["One moment.", "Your balance is 1250 dollars.", "Anything else?"]
        assert world.done(2).slots["customer_id"] == "C-1001"
        assert (await world.context()).customer_data["name"] == "Alex Morgan"
        # Who the caller is stays known, without another verification.
        assert (await world.say(3, "and once more my balance"))[0] == "Your balance is 1250 dollars."
        assert [called.name for called in world.of(ToolCalled)].count("verify_customer") == 1
        assert await world.say(4, "goodbye") == ["Thank you for calling."]
        assert world.done(4).then is NextStep.HANG_UP
        assert hangups(world.commands) == 1
        assert not world.of(Failure)

    run_virtual(scenario())


def test_who_was_verified_stays_so_where_the_answer_is_interrupted() -> None:
    async def scenario() -> None:
        engine, _ = bank(clerk)
        world = await begun(engine)
        world.plays = False
        await world.say(1, "my card is 4271, what is my balance")
        await world.interrupt(1, 0, 100)
        world.plays = True
        said = await world.say(2, "just the balance")
        assert said[0] == "Your balance is 1250 dollars."

    run_virtual(scenario())


def test_a_successor_goes_on() -> None:
    async def scenario() -> None:
        engine, model = bank(clerk)
        world = World()
        await world.begin()
        first = await world.work(engine)
        await world.answer()
        await world.say(1, "my card is 4271, what is my balance")
        await world.kill(first)
        other, model = bank(clerk)
        await world.work(other, epoch=2)
        said = await world.say(2, "my balance again")
        assert said[0] == "Your balance is 1250 dollars."
        assert "Alex Morgan" in model.requests[0].messages[0].text
        assert [called.name for called in world.of(ToolCalled)].count("verify_customer") == 1

    run_virtual(scenario())


def test_a_guess_stands_still_at_a_tool() -> None:
    async def scenario() -> None:
        engine, model = bank(clerk)
        world = await begun(engine)
        await world.stand_still(1, "my balance of card 4271")
        assert model.asked == 1 and not world.of(ToolCalled) and not world.answer_to(1)
        assert await world.say(1, "my balance of card 4271") == [
            "One moment.",
            "Your balance is 1250 dollars.",
            "Anything else?",
        ]
        assert world.done(1).preemptive == "hit"
        # One that was begun in vain leaves nothing behind.
        await world.stand_still(2, "my balance")
        asked = model.asked
        await world.say(2, "goodbye")
        assert world.done(2).preemptive == "miss" and model.open == 0 and model.asked == asked + 1

    run_virtual(scenario())


def test_a_model_that_fails_or_is_silent() -> None:
    async def scenario() -> None:
        engine, _ = bank(lambda request: Reply(error=EngineError("the server is down")))
        world = await begun(engine)
        assert await world.say(1, "hello") == list(APOLOGY)
        assert world.of(Failure)[0].detail == "the server is down"
        engine, model = bank(lambda request: says("Hello.", pause_s=3600))
        world = await begun(engine, deadline_ms=500)
        world.end_turn(1, "hello")
        await world.rest(1000)
        assert world.answer_to(1)[-2:] == list(APOLOGY)
        assert model.open == 0

    run_virtual(scenario())


def test_an_interruption_stops_the_model() -> None:
    async def scenario() -> None:
        engine, model = bank(lambda request: says("One is said. Two is not.", pause_s=1.0))
        world = await begun(engine, filler_ms=0)
        world.end_turn(1, "hello")
        await world.rest(5000)
        assert world.answer_to(1) == ["One is said."]
        await world.interrupt(1, 0, 100)
        assert model.open == 0
        given = model.given
        await world.rest(5000)
        assert model.given == given

    run_virtual(scenario())


def test_a_caller_is_handed_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        text = AGENT + 'greeting = ["Hello."]\ntransfer = "sip:desk@example.com"\n'
        engine = ChatEngine(FakeModel(asks("transfer_call")), agent_section(tmp_path, text))
        world = await begun(engine)
        await world.say(1, "a human please")
        (transfer,) = [command for command in world.commands if isinstance(command, Transfer)]
        assert transfer.target == "sip:desk@example.com"

    run_virtual(scenario())


def test_no_engine_at_all_gets_at_somebody_who_is_not_verified() -> None:
    async def scenario() -> None:
        balance_of = next(tool for tool in bank(clerk)[0].tools if tool.name == "account_balance")
        world = await begun(ToolEngine((balance_of,), ({"customer_id": "C-1001"},)))
        await asyncio.sleep(0)
        await world.say(1, "I am customer C-1001")
        assert {returned.error for returned in world.of(ToolReturned)} == {"invalid_argument"}
        assert not any(returned.result for returned in world.of(ToolReturned))
        assert "C-1001" not in world.of(Failure)[0].detail

    run_virtual(scenario())
