"""An answer of a model: sentences early, tools checked, an end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from schemas.llm import NextStep
from services.llm.chat.engine import ChatEngine
from services.llm.chat.model import ChatRequest, Delta, ModelToolCall
from services.llm.engine import EngineError, Request, Sentence, ToolResult
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


async def test_a_character_that_was_cut_in_two_is_whole_and_half_a_one_is_left_out(tmp_path: Path) -> None:
    words = ["Your caf\u00e9 is ", "\ud83c", "\udf0d", " open \ud83d", " now."]
    engine, _ = engine_of(tmp_path, Reply(tuple(words)))
    (said,) = (await ask(engine, text="hello")).said
    assert said.encode("utf-8").decode() == said
    assert said.split()[:3] == ["Your", "caf\u00e9", "is"] and said.endswith("now.")


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


GOODBYE = (
    AGENT
    + """
farewell = ["Thank you.", "Goodbye."]
transfer = "sip:desk@example.com"
transfer_text = ["I am connecting you."]
refusal = ["No, sorry."]

[model.digits.number]
count = 4
asked = ["four digits"]
"""
)


class TestEndings:
    async def test_the_call_ends_after_the_goodbye(self, tmp_path: Path) -> None:
        engine, model = engine_of(tmp_path, asks("end_call", text="Bye now!"), text=GOODBYE)
        outcome = await ask(engine, text="that is all")
        assert outcome.said == ["Bye now!"]
        assert outcome.answer is not None and outcome.answer.then is NextStep.HANG_UP
        assert outcome.called == [] and model.asked == 1

    async def test_a_model_that_says_no_word_of_it(self, tmp_path: Path) -> None:
        for name, said, then in (
            ("end_call", ["Thank you.", "Goodbye."], NextStep.HANG_UP),
            ("transfer_call", ["I am connecting you."], NextStep.TRANSFER),
        ):
            engine, _ = engine_of(tmp_path, asks(name), text=GOODBYE)
            outcome = await ask(engine, text="that is all")
            assert outcome.said == said
            assert outcome.answer is not None and outcome.answer.then is then
        assert outcome.answer.slots["transfer_target"] == "sip:desk@example.com"

    async def test_what_is_left_to_do_comes_first(self, tmp_path: Path) -> None:
        both = Reply(["Yes."], [("verify_customer", '{"card_last_four": "4271"}'), ("end_call", "{}")], "tool_calls")
        engine, model = engine_of(tmp_path, both, asks("end_call", text="Done. Goodbye."), text=GOODBYE)
        outcome = await ask(engine, text="4271", tools=TOOLS)
        assert outcome.said == ["Yes.", "Done.", "Goodbye."]
        assert len(outcome.called) == 1
        assert "Not now" in model.requests[-1].messages[-1].text

    async def test_a_goodbye_without_the_tool(self, tmp_path: Path) -> None:
        for text, then in (
            ("Thank you for calling. Goodbye!", NextStep.HANG_UP),
            ("Good bye is what I say in the end.", NextStep.LISTEN),
            ("Do you want to say goodbye to your card?", NextStep.LISTEN),
        ):
            engine, _ = engine_of(tmp_path, says(text))
            outcome = await ask(engine, text="hello")
            assert outcome.answer is not None and outcome.answer.then is then

    async def test_what_is_not_offered_is_no_tool(self, tmp_path: Path) -> None:
        engine, model = engine_of(tmp_path, asks("transfer_call"), says("I can not do that."))
        outcome = await ask(engine, text="a human please")
        assert outcome.said == ["I can not do that."]
        assert [tool.name for tool in model.requests[0].tools][-1] == "end_call"
        engine, model = engine_of(tmp_path, says("Goodbye."), text=AGENT + "hang_up = false\n")
        outcome = await ask(engine, text="bye")
        assert outcome.answer is not None and outcome.answer.then is NextStep.LISTEN
        assert "end_call" not in [tool.name for tool in model.requests[0].tools]

    async def test_a_model_without_tools(self, tmp_path: Path) -> None:
        for text, can in ((AGENT, False), (AGENT + "tools = false\n", True)):
            engine, model = engine_of(tmp_path, says("Hello. Goodbye."), text=text, tools=can)
            assert not engine.capabilities.tools and not engine.tools
            outcome = await ask(engine, text="bye")
            assert model.requests[0].tools == ()
            assert outcome.answer is not None and outcome.answer.then is NextStep.HANG_UP

    async def test_digits_that_were_asked_for(self, tmp_path: Path) -> None:
        engine, _ = engine_of(tmp_path, says("Please tell me the FOUR digits."), text=GOODBYE)
        outcome = await ask(engine, text="my card")
        assert outcome.answer is not None and outcome.answer.listen_for.digits == 4
        assert outcome.answer.listen_for.phrases == ()
        bank = ChatEngine(FakeModel(says("What are the last four digits?")), settings_with().llm)
        answer = (await ask(bank, text="where is my card")).answer
        assert answer is not None
        assert answer.listen_for.phrases[0] == "<digit> <digit> <digit> <digit>"
        assert "help" in answer.listen_for.phrases
        assert answer.intent == "card_delivery_inquiry"


class TestTools:
    async def test_several_in_one_round(self, tmp_path: Path) -> None:
        verify, balance = (
            ("verify_customer", '{"card_last_four": "4271"}'),
            ("account_balance", '{"customer_id": "C-1001"}'),
        )
        engine, model = engine_of(tmp_path, Reply(calls=[verify, balance], reason="tool_calls"), says("1250 dollars."))
        outcome = await ask(engine, text="four two seven one", tools=TOOLS)
        assert [name for name, _ in outcome.called] == ["verify_customer", "account_balance"]
        messages = model.requests[-1].messages[-3:]
        assert [message.role for message in messages] == ["assistant", "tool", "tool"]
        assert [call.id for call in messages[0].tool_calls] == [message.tool_call_id for message in messages[1:]]

    async def test_ids_that_a_model_repeats(self, tmp_path: Path) -> None:
        engine, _ = engine_of(tmp_path, says("Yes."))
        run = engine.open(Request("c", "default", 1, "4271"))
        for given in ("", "a", "a"):
            run._calls.append(run._named(ModelToolCall(given, "x", "{}")))
        assert len({call.id for call in run._calls}) == 3

    async def test_two_mistakes_are_put_right_and_no_more(self, tmp_path: Path) -> None:
        wrong = asks("open_safe")
        engine, _ = engine_of(tmp_path, wrong, wrong, says("I can not."))
        assert (await ask(engine, text="x")).said == ["I can not."]
        engine, _ = engine_of(tmp_path, wrong)
        with pytest.raises(EngineError, match="asked 3 times for a tool that can't be run"):
            await ask(engine, text="x")

    async def test_five_rounds_and_no_more(self, tmp_path: Path) -> None:
        verify = asks("verify_customer", '{"card_last_four": "4271"}')
        engine, _ = engine_of(tmp_path, *[verify] * 5, says("Done."))
        assert (await ask(engine, text="4271", tools=TOOLS)).said == ["Done."]
        engine, _ = engine_of(tmp_path, verify)
        with pytest.raises(EngineError, match="more than 5 rounds"):
            await ask(engine, text="4271", tools=TOOLS)

    @pytest.mark.parametrize(
        "arguments", ["", "[]", "null", "4271", '{"card_last_four": 4271}', "{" * 2000, '{"card_last_four": "\ud800"}']
    )
    async def test_arguments_that_are_none(self, tmp_path: Path, arguments: str) -> None:
        engine, _ = engine_of(tmp_path, asks("verify_customer", arguments), says("Sorry."))
        outcome = await ask(engine, text="4271", tools=TOOLS)
        assert outcome.called == [] and outcome.said == ["Sorry."]

    async def test_digits_in_other_languages(self, tmp_path: Path) -> None:
        spanish = AGENT.replace('name = "small"', 'name = "small"\nlanguage = "es"')
        verify = asks("verify_customer", '{"card_last_four": "4271"}')
        for text, digits, called in (("cuatro dos siete uno", "", 1), ("es la 5938", "", 0), ("", "4271#", 1)):
            engine, _ = engine_of(tmp_path, verify, says("Gracias."), text=spanish)
            assert len((await ask(engine, text=text, digits=digits, tools=TOOLS)).called) == called


class TestEnds:
    async def test_the_longest_answer(self, tmp_path: Path) -> None:
        for text, said in (
            ("It is on its way. It will arr", ["It is on its way."]),
            ("It is on its way and it will arr", ["It is on its way and it will …"]),
            ("It is on its way.", ["It is on its way."]),
        ):
            engine, _ = engine_of(tmp_path, says(text, reason="length"))
            assert (await ask(engine, text="x")).said == said

    async def test_a_filter_of_the_provider(self, tmp_path: Path) -> None:
        engine, _ = engine_of(tmp_path, Reply(reason="content_filter"), text=GOODBYE)
        assert (await ask(engine, text="x")).said == ["No, sorry."]
        engine, _ = engine_of(tmp_path, says("One. Two is", reason="content_filter"), text=GOODBYE)
        assert (await ask(engine, text="x")).said == ["One."]

    async def test_a_model_that_never_ends(self, tmp_path: Path) -> None:
        engine, model = engine_of(tmp_path, says("On and on. " * 2000))
        outcome = await ask(engine, text="x")
        assert outcome.answer is not None
        assert 5000 < len(" ".join(outcome.said)) <= 6000
        assert model.open == 0 and model.given < 2000

    async def test_what_the_model_raises_comes_through(self, tmp_path: Path) -> None:
        for error in (EngineError("the server is down"), RuntimeError("odd")):
            engine, model = engine_of(tmp_path, says("One. Two.", error=error))
            run = engine.open(Request("c", "default", 1, "x"))
            steps = aiter(run)
            assert await anext(steps) == Sentence("One.")
            with pytest.raises(type(error)):
                await anext(steps)
            assert model.open == 0

    async def test_nothing_after_a_tool(self, tmp_path: Path) -> None:
        verify = asks("verify_customer", '{"card_last_four": "4271"}', "One moment.")
        engine, _ = engine_of(tmp_path, verify, Reply())
        with pytest.raises(EngineError, match="empty"):
            await ask(engine, text="4271", tools=TOOLS)


class TestTakeover:
    SAID = ("Your card is on its way.", "It will arrive on Monday.")

    @pytest.mark.parametrize(
        "text",
        [
            "Anything else?",
            "Your card is on its way. It will arrive on Monday. Anything else?",
            "Your card is on the way. It will arrive on Monday! Anything else?",
            "It will arrive on Monday. Anything else?",
        ],
    )
    async def test_it_goes_on(self, tmp_path: Path, text: str) -> None:
        engine, _ = engine_of(tmp_path, says(text))
        outcome = await ask(engine, text="where is my card", said=self.SAID)
        assert outcome.said == [*self.SAID, "Anything else?"]

    async def test_everything_was_said(self, tmp_path: Path) -> None:
        for text in ("", " ".join(self.SAID)):
            engine, _ = engine_of(tmp_path, says(text))
            outcome = await ask(engine, text="where is my card", said=self.SAID)
            assert tuple(outcome.said) == self.SAID and outcome.answer is not None

    async def test_a_greeting(self) -> None:
        engine = ChatEngine(FakeModel(), settings_with().llm)
        assert (await ask(engine, 0, said=("Welcome to Example Bank.",))).said == [
            "Welcome to Example Bank.",
            "How can I help you?",
        ]


async def test_it_is_let_go_of() -> None:
    engine = ChatEngine(model := FakeModel(), settings_with().llm)
    await engine.warm()
    await engine.close()
    assert model.warmed == 1 and model.closed


async def test_a_model_that_remembers_prompts_reads_the_agents_instructions_ahead(tmp_path: Path) -> None:
    class Remembering(FakeModel):
        prepared: ChatRequest | None = None

        async def prepare(self, request: ChatRequest) -> None:
            self.prepared = request

    model = Remembering(says("Hello."))
    engine = ChatEngine(model, agent_section(tmp_path))
    await engine.warm()
    assert model.prepared is not None
    await ask(engine, text="where is my card")
    (asked,) = model.requests
    assert asked.messages[0] == model.prepared.messages[0]
    assert asked.tools == model.prepared.tools


async def test_every_tool_call_of_an_answer_has_an_id_of_its_own(tmp_path: Path) -> None:
    """What the tools have said is told apart by it, over all rounds: some models begin at call_0 in each."""

    class Numbering(FakeModel):
        async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
            async for delta in super().stream(request):
                yield (
                    delta._replace(id="call_1" if self.asked == 1 else "")
                    if isinstance(delta, ModelToolCall)
                    else delta
                )

    verify, balance = (
        ("verify_customer", '{"card_last_four": "4271"}'),
        ("account_balance", '{"customer_id": "C-1001"}'),
    )
    twice = Reply(calls=[balance, balance], reason="tool_calls")
    model = Numbering(Reply(calls=[verify], reason="tool_calls"), twice, says("Done."))
    engine = ChatEngine(model, agent_section(tmp_path))
    await ask(engine, text="card 4271", tools=TOOLS)
    told = model.requests[-1].messages
    asked = [call.id for message in told for call in message.tool_calls]
    assert len(set(asked)) == 3
    assert [message.tool_call_id for message in told if message.role == "tool"] == asked


async def test_an_end_that_is_not_offered_is_a_tool_that_there_is_not(tmp_path: Path) -> None:
    engine, model = engine_of(tmp_path, asks("end_call"), says("Yes?"), text=AGENT + "hang_up = false\n")
    assert (await ask(engine, text="bye")).said == ["Yes?"]
    assert "no tool of this name" in model.requests[-1].messages[-1].text


@pytest.mark.parametrize("arguments", ['{"card_last_four": ', "[1]", "4271", "\ud800"])
async def test_arguments_that_are_no_object_are_not_sent_again(tmp_path: Path, arguments: str) -> None:
    engine, model = engine_of(tmp_path, asks("verify_customer", arguments), says("Yes?"))
    assert (await ask(engine, text="hello")).said == ["Yes?"]
    (call,) = model.requests[-1].messages[-2].tool_calls
    assert call.arguments == "{}"
