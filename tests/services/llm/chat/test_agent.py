"""[model] of an agent file: what is wrong with it is told with file and place."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from schemas.llm import ListenFor
from services.llm.agent_check import load_agent
from services.llm.agent_file import AgentFileError, DigitsHint, ModelSection, find_agent, read_document
from services.llm.chat.agent import ChatAgent, build_chat_agent
from services.llm.chat.engine import ChatEngine
from services.llm.engine import EngineError, load_engine
from services.llm.tools import ToolContext, ToolSpec
from tests.services.llm.chat.model import AGENT, FakeModel, agent_section
from tests.services.llm.harness import settings_with

pytestmark = pytest.mark.unit

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "agents.md"


def load(tmp_path: Path, text: str) -> ChatAgent:
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return build_chat_agent(read_document(path), "fake")


def test_a_file_without_a_script(tmp_path: Path) -> None:
    agent = load(tmp_path, AGENT)
    assert agent.listen_for == ListenFor(state="model")
    assert agent.matcher is None and agent.intents == ()
    with pytest.raises(AgentFileError, match=r"\[states\] is missing.*'scripted' plays.*language model"):
        load_agent(tmp_path / "small.toml", [])
    with pytest.raises(EngineError, match=r"section .states. is missing"):
        load_engine("scripted", agent_section(tmp_path))


def test_a_file_without_a_model(tmp_path: Path) -> None:
    text = find_agent("bank").read_text(encoding="utf-8").partition("\n[model]")[0]
    with pytest.raises(AgentFileError, match=r"section \[model\] is missing: the engine 'fake' needs"):
        load(tmp_path, text)
    with pytest.raises(EngineError, match=r"section \[model\] is missing"):
        ChatEngine(FakeModel(), agent_section(tmp_path, text))


PHRASES = (
    AGENT
    + """
[rules]
card = "card | account"
[intents.where]
phrases = ["where is my <card>"]
"""
)


def test_what_is_listened_for(tmp_path: Path) -> None:
    agent = load(tmp_path, PHRASES)
    assert agent.listen_for.phrases == ("where is my (card | account)",)
    assert agent.intents == ("where",)
    own = PHRASES.replace("instructions =", 'phrases = ["block my <card>", "block my <card>"]\ninstructions =')
    assert load(tmp_path, own).listen_for.phrases == ("block my (card | account)",)
    assert load(tmp_path, PHRASES.replace("instructions =", "phrases = []\ninstructions =")).listen_for.phrases == ()
    digits = PHRASES + '[model.digits.pin]\ncount = 2\nasked = ["pin"]\nphrases = ["it is <digit> <digit>"]\n'
    assert load(tmp_path, digits).hints["pin"] == ListenFor(
        state="model", phrases=("<digit> <digit>", "it is <digit> <digit>", "where is my (card | account)"), digits=2
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("instructions =", "instruction =", "[model]: Object contains unknown field `instruction`"),
        ("instructions =", "facts =", "[model]: Object missing required field `instructions`"),
        ("instructions =", 'style = "loud"\ninstructions =', "Invalid enum value 'loud'"),
        ("instructions =", "history_exchanges = -1\ninstructions =", "Expected `int` >= 0"),
        ("instructions =", 'phrases = ["a ("]\ninstructions =', "[model] phrases: phrase 'a (' has an empty place"),
        ("instructions =", "refusal = []\ninstructions =", "of length >= 1"),
        ("[rules]", '[model.digits.pin]\ncount = 0\nasked = ["pin"]\n[rules]', "Expected `int` >= 1"),
        (
            "[rules]",
            '[model.digits.pin]\ncount = 2\nasked = ["pin"]\nphrases = ["<pin>"]\n[rules]',
            "[model.digits.pin] phrases: phrase '<pin>' names <pin>, which is no rule",
        ),
        ("where is my <card>", "[where is my card]", "[intents.where]: phrase '[where is my card]' may be left out"),
    ],
)
def test_each_mistake_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(AgentFileError) as error:
        load(tmp_path, PHRASES.replace(old, new, 1))
    assert told in str(error.value)
    assert "small.toml" in str(error.value)


class Nothing(msgspec.Struct):
    pass


def taken(settings: object) -> list[ToolSpec]:
    return [ToolSpec("end_call", "Ends", Nothing, lambda arguments, context: {})]


def test_tools_that_can_not_be_had(tmp_path: Path) -> None:
    for reference, told in (
        ("tests.services.llm.chat.test_agent:taken", "the name 'end_call' is taken"),
        ("services.llm.bank:create_tool", "can't be loaded"),
    ):
        with pytest.raises(EngineError, match=told):
            ChatEngine(FakeModel(), agent_section(tmp_path, AGENT.replace("services.llm.bank:create_tools", reference)))
    with pytest.raises(EngineError, match="does not exist"):
        ChatEngine(FakeModel(), settings_with(agent="nobody").llm)
    assert taken(None)[0].function(None, ToolContext("", "", "")) == {}


def test_every_key_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for section in (ModelSection, DigitsHint):
        for field in msgspec.structs.fields(section):
            assert re.search(rf"`{field.name}`|^{field.name} =", text, re.MULTILINE), f"{section.__name__}.{field.name}"


def test_the_documented_example(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(\[agent\]\nname = \"hotel\".*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    agent = load(tmp_path, block[1])
    assert agent.model.greeting and agent.hints


def test_what_the_bank_may_say() -> None:
    """Sentences that a model is likely to say: none of them gives the instructions away."""
    from services.llm.chat.safety import Guard, Verdict

    engine = ChatEngine(FakeModel(), settings_with().llm)
    for text in (
        "Hello, this is Robin from Example Bank.",
        "I can help you with that.",
        "Could you please tell me the last four digits of your card?",
        "What are the last four digits of the card?",
        "Sure, may I have the last four digits of the card, please?",
        "Thank you, Alex.",
        "I could not find that card. Could you tell me the last four digits once more?",
        "I am sorry, I can not verify you.",
        "I am sorry, but I can not verify who you are, so I can not tell you the balance.",
        "Your credit card was shipped on Monday, and the tracking number ends in 8 8 3 1.",
        "Your balance is 1250 dollars and 40 cents.",
        "Do you really want me to block the card ending in 4 2 7 1?",
        "Is the card really to be blocked?",
        "I am sorry, I can not reach the records at the moment.",
        "I can only help with your card, your balance, or a lost card.",
        "I can tell you where your card is, read your balance, or block a lost card.",
        "I'm the telephone assistant of Example Bank.",
        "Is there anything else I can help you with?",
        "Thank you for calling Example Bank. Goodbye!",
        "Our colleagues are here from nine to five, Monday to Friday.",
    ):
        assert Guard(engine._confidential).look(text) == (Verdict.SAY, text)
