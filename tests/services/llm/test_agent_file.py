"""Agent files: each mistake is told with file, place and what is allowed; the documented example works."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from schemas.llm import ListenFor, NextStep
from services.llm import dialogue
from services.llm.agent_check import load_agent
from services.llm.agent_file import AGENTS, Agent, AgentFileError, find_agent
from services.llm.bank import Bank
from services.llm.engine import Answer, EngineError, Request, Sentence, ToolCall, ToolResult

pytestmark = pytest.mark.unit

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "agents.md"

GOOD = """
[agent]
name = "small"
start = "welcome"
give_up = "bye"
tools = "services.llm.bank:create_tools"

[rules]
card = "card | account"

[groups]
menu = ["where", "stop"]

[intents.where]
phrases = ["where is my <card>"]
go = "verify"

[intents.stop]
phrases = ["stop"]
go = "bye"

[intents.yes]
phrases = ["yes"]

[states.welcome]
say = ["Welcome."]
listen = ["menu"]
keys = { "1" = "where" }

[states.verify]
requires = "number"
otherwise = "ask"

[states.verify.tool]
name = "verify_customer"
arguments = { card_last_four = "{number}" }
keep = { customer = "name" }
decide = "verified"
cases = { true = "found", "*" = "ask" }
failed = "bye"

[states.ask]
say = ["Digits?"]
listen = ["yes"]
on = { yes = "bye" }
limit = 2
over = "bye"
collect = { slot = "number", digits = 4, go = "verify", phrases = ["number <digit> <digit> <digit> <digit>"] }

[states.found]
say = ["Hello {customer}, {number|digits}."]
go = "welcome"

[states.bye]
say = ["Bye."]
hang_up = true
"""


def load(tmp_path: Path, text: str) -> Agent:
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return load_agent(path, Bank().tools())


def test_a_good_file_loads(tmp_path: Path) -> None:
    agent = load(tmp_path, GOOD)
    assert agent.intents_of["welcome"] == ("where", "stop")
    assert agent.listen_for["welcome"] == ListenFor(
        state="welcome", phrases=("where is my (card | account)", "stop"), digits=0
    )
    assert agent.listen_for["ask"].digits == 4
    assert agent.listen_for["ask"].phrases[:2] == (
        "<digit> <digit> <digit> <digit>",
        "number <digit> <digit> <digit> <digit>",
    )
    # A caller may speak into the farewell.
    assert agent.listen_for["bye"] == msgspec.structs.replace(agent.listen_for["welcome"], state="bye")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "small"', "name = small", "can't be read as TOML"),
        ("[rules]", "[rulez]", "[rulez] is no section; there are: agent, matching, rules"),
        ('name = "small"\n', "", "[agent]: Object missing required field `name`"),
        ('give_up = "bye"\n', 'give_up = "bye"\nfillers = ["Hm {card}"]\n', "[agent] fillers: is said outside of any"),
        ('give_up = "bye"\n', 'give_up = "bye"\naway = "{"\n', "[agent] away: is said outside of any state"),
        ('give_up = "bye"\n', 'give_up = "bye"\ncolour = 1\n', "[agent]: Object contains unknown field `colour`"),
        ('card = "card | account"', "card = 3", "[rules]: Expected `str`, got `int`"),
        ('phrases = ["stop"]', "phrases = []", "[intents.stop]: Expected `array` of length >= 1"),
        ('phrases = ["stop"]', 'phrases = ["stop ("]', "[intents.stop]: phrase 'stop (' has an empty place"),
        ('phrases = ["stop"]', 'phrases = ["<stop>"]', "there are: <digit>, <card>"),
        ("number <digit>", "(number <digit>", "[states.ask] collect: phrase"),
        ('start = "welcome"', 'start = "hello"', "[agent] start: 'hello' is no state; there are: welcome, verify"),
        ('start = "welcome"', 'start = "found"', "'found' does not wait for the caller"),
        ('give_up = "bye"', 'give_up = "end"', "[agent] give_up: 'end' is no state"),
        ('go = "bye"\n\n[intents.yes]', 'go = "end"\n\n[intents.yes]', "[intents.stop] go: 'end' is no state"),
        ('menu = ["where", "stop"]', 'menu = ["where", "halt"]', "'halt' is no intent and no group; there are: where"),
        ('menu = ["where", "stop"]', 'stop = ["where"]\nmenu = ["where", "stop"]', "[groups] stop: an intent has this"),
        ('"1" = "where"', '"1" = "yes"', "[states.welcome] 1: intent 'yes' is not in listen"),
        ('"1" = "where"', '"12" = "where"', "[states.welcome]: Expected `str` matching regex"),
        ("on = { yes", "on = { stop", "intent 'stop' is not in listen; there are: yes"),
        ('on = { yes = "bye" }\n', "", "[states.ask]: intent 'yes' leads nowhere"),
        ('otherwise = "ask"\n', "", "requires and otherwise belong together"),
        ("limit = 2\n", "", "limit and over belong together"),
        (
            'requires = "number"',
            'requires = "name"',
            "requires: 'name' is no slot that anything fills; there are: customer",
        ),
        ('go = "welcome"', 'go = "welcome"\nhang_up = true', "must do exactly one thing"),
        ('go = "welcome"\n', "", "[states.found]: must do exactly one thing"),
        ('name = "verify_customer"', 'name = "verify"', "tool name: 'verify' is no tool; there are: account_balance"),
        ("card_last_four =", "last_four =", "tool arguments: 'last_four' is none; verify_customer has: card_last_four"),
        ('{ card_last_four = "{number}" }', "{ }", "verify_customer needs card_last_four too"),
        ('decide = "verified"\n', "", "decide: names no field of the result"),
        ('failed = "bye"', 'failed = "end"', "[states.verify] tool failed: 'end' is no state"),
        ('true = "found"', 'true = "end"', "tool cases true: 'end' is no state"),
        ("{customer}", "{client}", "[states.found] say: 'client' is no slot that anything fills"),
        ("|digits}", "|money}", "'money' is no filter; there are: digits"),
        ("{number|digits}", "{number", "has a bracket that is no {slot}"),
        ("[states.bye]", '[states.lost]\ngo = "bye"\n\n[states.bye]', "[states.lost]: nothing leads there"),
        ('go = "welcome"', 'go = "found"', "goes round in circles without listening: found -> found"),
        ("[states.found]", "[states.Found]", "[states.Found]: a name may hold small letters"),
        ("[agent]", "[agents]", "[agents] is no section"),
    ],
)
def test_each_mistake_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(AgentFileError) as error:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert told in str(error.value)
    assert "small.toml" in str(error.value)


def test_a_missing_section_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AgentFileError, match=r"section \[states\] is missing"):
        load(tmp_path, GOOD[: GOOD.index("[states.welcome]")])
    with pytest.raises(AgentFileError, match=r"does not exist; there are bank"):
        find_agent("nobody")
    with pytest.raises(AgentFileError, match=r"nobody.toml does not exist"):
        find_agent(str(tmp_path / "nobody.toml"))
    with pytest.raises(AgentFileError, match="can't be read"):
        load_agent(tmp_path, [])


@pytest.mark.parametrize("path", sorted(AGENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_agents_that_come_along(path: Path) -> None:
    agent = load_agent(find_agent(path.stem), Bank().tools())
    assert agent.head.name == path.stem
    for state in agent.states.values():
        for text in state.say:
            assert len(text.split()) <= 18, f"{text!r} is too long for one breath"
            assert text[-1] in ".?!"


class TestTheDocumentedExample:
    def example(self, tmp_path: Path) -> Agent:
        block = re.search(r"```toml\n(\[agent\]\nname = .*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
        assert block is not None
        path = tmp_path / "library.toml"
        path.write_text(block[1], encoding="utf-8")
        return load_agent(path, [])

    def test_it_can_be_talked_to(self, tmp_path: Path) -> None:
        agent = self.example(tmp_path)
        said, answer = talk(agent, Request("c", "default", 0))
        assert said[0] == "Welcome to the library."
        said, answer = talk(agent, follow(answer, 1, text="I'd like to renew my book"))
        assert "three digits" in said[0]
        said, answer = talk(agent, follow(answer, 2, text="four oh seven"))
        assert said[0] == "The loans of card 4 0 7 are renewed."
        said, answer = talk(agent, follow(answer, 3, digits="1"))
        assert said[0] == "I did not catch that."
        said, answer = talk(agent, follow(answer, 4, text="no thank you"))
        assert answer.then is NextStep.HANG_UP

    def test_every_key_is_documented(self) -> None:
        from services.llm.agent_file import Collect, Head, Intent, Matching, State, ToolUse

        text = DOCUMENT.read_text(encoding="utf-8")
        for section in (Head, Matching, Intent, State, Collect, ToolUse):
            for field in msgspec.structs.fields(section):
                if field.name != "language":
                    assert re.search(rf"\b{field.name}\b", text), f"{section.__name__}.{field.name}"


def follow(answer: Answer, turn: int, text: str = "", digits: str = "") -> Request:
    return Request("c", "default", turn, text=text, digits=digits, state=answer.state, slots=answer.slots)


def talk(agent: Agent, request: Request, results: list[ToolResult] | None = None) -> tuple[list[str], Answer]:
    said: list[str] = []
    steps, result = dialogue.answer(agent, request), None
    while True:
        step = steps.send(result)
        result = None
        if isinstance(step, Sentence):
            said.append(step.text)
        elif isinstance(step, ToolCall):
            assert results
            result = results.pop(0)
        else:
            return said, step


class TestDialogue:
    def test_a_result_that_no_case_names(self, tmp_path: Path) -> None:
        agent = load(tmp_path, GOOD.replace('"*" = "ask"', 'false = "ask"'))
        asked = Answer(state="ask")
        odd = ToolResult({"verified": "perhaps"})
        assert talk(agent, follow(asked, 1, digits="4271#"), [odd])[0] == ["Bye."]
        failed = ToolResult({}, "tool_failed")
        assert talk(agent, follow(asked, 1, digits="4271"), [failed])[0] == ["Bye."]

    def test_visits_are_limited(self, tmp_path: Path) -> None:
        agent = load(tmp_path, GOOD)
        no = ToolResult({"verified": False})
        answer = Answer(state="welcome")
        said, answer = talk(agent, follow(answer, 1, text="where is my card"))
        assert said == ["Digits?"]
        said, answer = talk(agent, follow(answer, 2, digits="1111"), [no])
        assert said == ["Digits?"]
        said, answer = talk(agent, follow(answer, 3, digits="1111"), [no])
        assert said == ["Bye."]

    def test_a_state_that_is_gone_begins_anew(self, tmp_path: Path) -> None:
        agent = load(tmp_path, GOOD)
        for state in ("removed", "bye", ""):
            assert talk(agent, follow(Answer(state=state), 5, text="stop"))[0] == ["Bye."]

    def test_what_only_a_broken_seam_brings(self, tmp_path: Path) -> None:
        agent = load(tmp_path, GOOD)
        steps = dialogue.answer(agent, follow(Answer(state="ask"), 1, digits="4271"))
        assert isinstance(next(steps), ToolCall)
        with pytest.raises(EngineError, match="went on without the tool's result"):
            steps.send(None)
        with pytest.raises(EngineError, match="before anything filled it"):
            talk(agent, follow(Answer(state="ask"), 1, digits="4271"), [ToolResult({"verified": True})])

    def test_a_circle_through_the_goal_ends(self, tmp_path: Path) -> None:
        agent = load(
            tmp_path,
            GOOD.replace('go = "welcome"', 'go = "@goal"').replace('otherwise = "ask"', 'otherwise = "found"'),
        )
        slots = {"customer": "A", "number": ""}
        with pytest.raises(EngineError, match="ran through 50 states"):
            talk(agent, Request("c", "default", 1, text="where is my card", state="welcome", slots=slots))
