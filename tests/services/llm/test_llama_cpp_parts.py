"""The parts of engine ``llama_cpp`` that know no library: replies, prompts, and the schemas of tools as grammars."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from config.settings import LlmSection
from services.llm.bank import create_tools
from services.llm.chat.model import Delta, Message, ModelToolCall, Token, ToolDescription
from services.llm.engine import EngineError
from services.llm.engines._llama_answer import Answer, Task
from services.llm.engines._llama_grammar import UnsupportedPatternError, pattern_body, tool_grammar
from services.llm.engines._llama_library import Context, Weights, common_length
from services.llm.engines._llama_prompt import MARKED, PLAIN, ChatTemplate
from services.llm.engines._llama_reply import ReplyText, whole_calls
from services.llm.engines.llama_cpp import cut_places
from services.llm.tools import describe
from tests.services.llm.llama import BALANCE, BLOCK
from tests.tiny_models.gguf import MARKED_TEMPLATE, TEMPLATE, random_model

pytestmark = pytest.mark.unit


def feed(pieces: Sequence[str | bytes], **options: Any) -> list[Any]:
    given = {"marks": PLAIN.marks, "stops": (), "names": ("get_balance",), **options}
    reply = ReplyText(given["marks"], given["stops"], given["names"], thinking=given.get("thinking", False))
    said: list[Any] = []
    for piece in pieces:
        found = reply.feed(piece.encode() if isinstance(piece, str) else piece)
        said.append(found.text)
        if found.call_at is not None or found.stopped:
            return [*said, found.call_at, found.stopped]
    end = reply.finish()
    return [*said, end.text, end.call_at]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([" Hel", "lo", "."], ["Hel", "lo", ".", "", None]),
        (["ge", "t a", "way"], ["", "get a", "way", "", None]),
        (["get_bal", "ance"], ["", "", "", 0]),
        (["get_balance", "()"], ["", "", "", 0]),
        (["get_balance", " is"], ["", "get_balance is", "", None]),
        (["One", " {"], ["One", " ", 1, False]),
        (["One.{", "x"], ["One.", 0, False]),
        (["a ``", "`", "x"], ["a ", "", 0, False]),
        (["a ``", "b"], ["a ", "``b", "", None]),
        (["a <tool", "_call", ">"], ["a ", "", "", 0, False]),
        (["a <b"], ["a <b", "", None]),
        (["a <"], ["a ", "<", None]),
        ([b"\xf0\x9f", b"\x8f", b"\xa6!"], ["", "", "🏦!", "", None]),
        ([b"a\xf0\x9f"], ["a", "�", None]),
        (["<think>{", "}</think> ", "{"], ["", "", "", 2, False]),
        (["", " "], ["", "", "", None]),
    ],
)
def test_what_is_spoken_and_where_a_call_begins(pieces: list[str | bytes], said: list[Any]) -> None:
    assert feed(pieces) == said


def test_stops_and_a_prompt_that_has_opened_the_thinking() -> None:
    assert feed(["Yes.", "<|im", "_end|>x"], stops=("<|im_end|>",)) == ["Yes.", "", "", None, True]
    assert feed(["hm", "</think>\n\nYes."], thinking=True) == ["", "Yes.", "", None]
    assert feed(["hm"], thinking=True) == ["", "", None]


def test_calls_that_are_whole() -> None:
    text = '<tool_call>\n{"name": "a", "arguments": {"x": "é"}}\n</tool_call>{"name": 1}{"name": "b"}{"name": "c'
    assert whole_calls(text, "name") == [("a", '{"x": "é"}'), ("b", "{}")]
    assert whole_calls("", "name") == whole_calls("[1]", "name") == []


def template_of(source: str) -> ChatTemplate:
    jinja2 = pytest.importorskip("jinja2", reason="jinja2 comes with llama-cpp-python")
    pytest.importorskip("jinja2.sandbox")
    pytest.importorskip("jinja2.ext")
    return ChatTemplate(jinja2, source, bos="<s>", eos="</s>", place="the test")


CONVERSATION = (
    Message("system", "Be short."),
    Message("user", "my balance"),
    Message("assistant", "One moment.", (ModelToolCall("a", "get_balance", '{"x": "é"}'),)),
    Message("tool", '{"pounds": 3}', tool_call_id="a"),
)


def test_a_template_without_tools_is_told_of_them_in_words() -> None:
    template = template_of(TEMPLATE)
    assert template.format is PLAIN and template.stops == ()
    text = template.render(CONVERSATION, (BALANCE,))
    assert text.startswith(
        "<s><system> Be short.\n\nYou have these tools:\n- get_balance: Reads the balance. Arguments:"
    )
    assert text.endswith(
        '<assistant> One moment.\n{"tool": "get_balance", "arguments": {"x": "é"}}\n'
        '<user> Result of get_balance: {"pounds": 3}\n<assistant>'
    )
    text = template.render((Message("user", "a"), Message("user", "b"), Message("tool", "c")), (BALANCE,))
    assert text.startswith("<s><system> You have these tools:")
    assert text.endswith("<user> a\nb\nResult of the tool: c\n<assistant>")


def test_a_template_with_tools_gets_them_as_they_are() -> None:
    template = template_of(MARKED_TEMPLATE)
    assert template.format is MARKED
    text = template.render(CONVERSATION, (BALANCE,))
    assert '{"type": "function", "function": {"name": "get_balance"' in text
    assert '<assistant> One moment.{"name": "get_balance", "arguments": {"x": "é"}}<tool> {"pounds": 3}<' in text
    broken = Message("assistant", "", (ModelToolCall("a", "get_balance", "{"),))
    assert '"arguments": {}' in template.render((broken,), ())


def test_a_template_that_knows_no_system_message() -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE
    template = template_of(refuses)
    assert template.render(CONVERSATION[:2], ()) == "<s><user> Be short.\n\nmy balance\n<assistant>"
    assert template.render(CONVERSATION[:1], ()) == "<s><user> Be short.\n<assistant>"
    with pytest.raises(EngineError, match="fails on this conversation"):
        template_of("{{ raise_exception('no') }}").render(CONVERSATION[1:2], ())


def test_what_templates_of_the_trade_use() -> None:
    text = (
        "{%- for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{% generation %}"
        "{{ m | tojson(indent=1) }}{% endgeneration %}{% endfor %}"
        "{{ strftime_now('%Y')[:2] }}{{ enable_thinking }}{{ eos_token }}"
    )
    assert template_of(text).render(CONVERSATION[1:3], ()).endswith("20False</s>")
    with pytest.raises(EngineError, match="chat template of the test is broken"):
        template_of("{% for %}")


def test_where_a_conversation_may_be_cut() -> None:
    system, user, agent = Message("system", "s"), Message("user", "u"), Message("assistant", "a")
    assert cut_places((system,)) == (1, [1])
    assert cut_places((system, user)) == (1, [1])
    assert cut_places((system, user, agent, user)) == (1, [1, 3])
    assert cut_places((system, *(user, agent) * 10, user)) == (1, [1, 9, 17, 21])
    assert cut_places((agent, user)) == (0, [0, 1])
    assert common_length([1, 2, 3], [1, 2, 4]) == 2 and common_length([], [1]) == 0


@pytest.mark.parametrize(
    ("pattern", "body"),
    [
        ("^[0-9]{4}$", "([0-9]{4})"),
        (r"^\d{2,}-\w?$", '([0-9]{2,200} "-" [0-9A-Za-z_]?)'),
        ("^(?:a|b)+$", '(( "a" | "b" ){1,200})'),
        ("x", 'char{0,100} ("x") char{0,100}'),
        ("^$", '""'),
        (r"^[a\-b\.]$", "([ab.-])"),
        ("^[^,]*$", r'([^"\\\x00-\x1F\x7F,]{0,200})'),
        (r"^\+?.$", '("+"? char)'),
    ],
)
def test_patterns(pattern: str, body: str) -> None:
    assert pattern_body(pattern) == body


@pytest.mark.parametrize(
    "pattern", ["^(?=x)$", r"^\bx$", '^"$', "^a^b$", "^*$", r'^["]$', "^[", "^x{$", r"^(a)\1$", "^\n$", "^é\\"]
)
def test_patterns_that_no_grammar_is_written_for(pattern: str) -> None:
    with pytest.raises(UnsupportedPatternError):
        pattern_body(pattern)


ODD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "when": {"type": "string", "format": "date"},
        "at": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
        "amounts": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 3},
        "kind": {"$ref": "#/$defs/Kind"},
        "tree": {"$ref": "#/$defs/Tree"},
        "any": {},
        "both": {"type": ["integer", "boolean"]},
        "pin": {"type": "string", "pattern": r"^(\d{4}|[A-C]{2}-\d)$"},
        "odd": {"type": "string", "pattern": "^(?!x).*$", "maxLength": 20},
        "part": {"allOf": [{"type": "number"}], "minimum": 0},
        'quo"te': {"const": 'a"b\\'},
        "free": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "closed": {"type": "object", "additionalProperties": False},
        "empty": {"type": "array", "maxItems": 0},
        "id": {"type": "string", "format": "uuid"},
    },
    "required": ["when", "amounts", "kind"],
    "$defs": {
        "Kind": {"enum": ["a", 1, None]},
        "Tree": {"type": "object", "properties": {"leaf": {"type": "boolean"}, "more": {"$ref": "#/$defs/Tree"}}},
    },
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    library = pytest.importorskip("llama_cpp", reason="llama-cpp-python: pip install 'callbus[llama_cpp]'")
    path: Path = random_model(tmp_path_factory.mktemp("models") / "chance.gguf", words=20)
    return Weights(library, path, gpu_layers=0)


@pytest.mark.parametrize("form", [PLAIN, MARKED])
@pytest.mark.parametrize("seed", range(6))
def test_a_model_of_chance_writes_nothing_but_calls_that_fit_a_schema(weights: Weights, seed: int, form: Any) -> None:
    numpy = pytest.importorskip("numpy")
    bank = [ToolDescription(**describe(spec)) for spec in create_tools(LlmSection())]
    tools = [ToolDescription("odd", "Odd.", ODD), BLOCK, BALANCE, *bank]
    context = Context(weights, size=4096, threads=1, batch_threads=1)
    given: list[Delta] = []
    # A call begins with nothing: so it begins with the first token.
    task = Task(weights.tokens_of("go"), tools, 3900, 1.5, seed, form._replace(marks=("",)))
    Answer(weights, numpy, context, task, given.append).run()
    context.close()
    calls = [delta for delta in given if isinstance(delta, ModelToolCall)]
    assert calls and not any(isinstance(delta, Token) for delta in given)
    schemas = {tool.name: tool.parameters for tool in tools}
    for call in calls:
        arguments = json.loads(call.arguments)
        jsonschema.validate(arguments, schemas[call.name])


def test_a_grammar_that_llama_cpp_reads(weights: Weights) -> None:
    for schema in (ODD, {}, {"type": "object"}, {"type": "object", "properties": {"x": True}}):
        text = tool_grammar([ToolDescription("odd", "", schema)], key="tool")
        grammar = weights.grammar(text)
        assert grammar is not None, text
        weights.free_sampler(grammar)
    assert weights.grammar("root ::= (") is None
