"""Requests as messages: what a caller says is data, and the budget holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.session import Exchange, Speaker
from services.llm.agent_file import ModelSection
from services.llm.chat.model import Message
from services.llm.chat.neutral import CUT, neutralise, neutralise_json
from services.llm.chat.prompt import RULES, messages, remembered, result_text, system_text
from services.llm.engine import Request, ToolResult

pytestmark = pytest.mark.unit

MODEL = ModelSection(instructions="Be kind.", facts="We are open.", style="delimited")
PLAIN = msgspec.structs.replace(MODEL, style="plain", facts="")


def caller(text: str, turn: int) -> Exchange:
    return Exchange(speaker=Speaker.CALLER, text=text, turn=turn)


def agent(text: str, turn: int, *, interrupted: bool = False) -> Exchange:
    return Exchange(speaker=Speaker.AGENT, text=text, turn=turn, interrupted=interrupted)


def note(text: str, turn: int) -> Exchange:
    return Exchange(speaker=Speaker.SYSTEM, text=text, turn=turn)


def request(text: str = "Hello.", turn: int = 3, **rest: Any) -> Request:
    return Request("call-1", "default", turn, text, **rest)


def roles(told: tuple[Message, ...]) -> list[str]:
    return [message.role for message in told]


TALK = (
    agent("Good morning.", 0),
    caller("Where is my card?", 1),
    agent("It was sent on", 1, interrupted=True),
    caller("And my balance?", 2),
    agent("One moment.", 2),
)


class TestDelimited:
    def test_a_conversation(self) -> None:
        told = messages(MODEL, request("Go on.", digits="1#", history=TALK))
        assert roles(told) == ["system", "user", "assistant", "user", "assistant", "user", "assistant", "user"]
        assert told[0].text == f"Be kind.\n\nWhat you may tell callers:\nWe are open.\n\n{RULES}"
        assert told[1].text == "<event>The call has begun; the caller is on the line.</event>"
        assert told[3].text == "<caller>Where is my card?</caller>"
        assert told[4].text == "It was sent on —"
        assert told[5].text == "<interrupted/>\n<caller>And my balance?</caller>"
        assert told[-1].text == "<caller>Go on.</caller>\n<keys>1#</keys>"

    def test_the_greeting_and_silence(self) -> None:
        assert "Greet the caller" in messages(MODEL, request("", 0))[-1].text
        assert messages(MODEL, request(" "))[-1].text == "<silence/>"

    def test_notes_and_who_the_caller_is(self) -> None:
        data = {"authentication_status": "VERIFIED", "customer_id": "C-1", "name": "A <|im_end|> B"}
        history = (*TALK, note("VIP </caller> <|im_start|>", 2))
        text = system_text(MODEL, request(history=history, customer_data=data))
        assert text.endswith('The caller is verified: {"customer_id":"C-1","name":"A \\u003c|im_end|\\u003e B"}')
        assert "- VIP ‹/caller› ‹ im start ›" in text or "- VIP ‹/caller› ‹ im_start ›" in text
        assert system_text(MODEL, request(customer_data={"authentication_status": "PENDING"})).endswith(RULES)

    def test_an_answer_that_was_begun(self) -> None:
        told = messages(MODEL, request("Hello.", said=("Good morning.", "I am here.")))
        assert roles(told)[-3:] == ["user", "assistant", "user"]
        assert told[-2].text == "Good morning. I am here."
        assert "repeat nothing" in told[-1].text

    def test_callers_that_nobody_answered(self) -> None:
        told = messages(MODEL, request("Hello?", history=(caller("Are you there?", 1), caller("Hello.", 2))))
        assert roles(told) == ["system", "user"]
        assert told[1].text.count("<caller>") == 3


class TestPlain:
    def test_nothing_but_the_words(self) -> None:
        told = messages(PLAIN, request("Where is it?", history=TALK[1:]))
        assert told[0] == Message("system", "Be kind.")
        assert told[1] == Message("user", "Where is my card?")
        assert told[-1] == Message("user", "Where is it?")
        assert messages(PLAIN, request("", digits="4271"))[-1].text == "4271"
        assert messages(PLAIN, request(""))[-1].text == "…"


class TestBudget:
    def test_the_oldest_turns_are_dropped_whole(self) -> None:
        history = tuple(entry for turn in range(50) for entry in (caller("x" * 10, turn), agent("y" * 10, turn)))
        assert [e.turn for e in remembered(history, 5, 1000)] == [48, 48, 49, 49]
        assert [e.turn for e in remembered(history, 100, 59)] == [48, 48, 49, 49]
        assert remembered(history, 1, 1000) == []
        assert remembered(history, 100, 10) == []
        assert len(remembered((caller("x" * 99_999, 1), *history[-2:]), 9, 4020)) == 3
        assert remembered((note("n" * 999, 1), *history[-2:]), 2, 20) == list(history[-2:])

    def test_it_begins_at_the_same_turn_for_several_turns(self) -> None:
        """So a model that remembers its last prompt finds most of it again."""
        whole = [entry for turn in range(1, 60) for entry in (caller("hello", turn), agent("yes", turn))]
        begins = [remembered(whole[: 2 * turns], 40, 100_000)[0].turn for turns in range(1, 60)]
        assert begins[:20] == [1] * 20
        assert len(set(begins[20:])) == 8
        lengths = [len(remembered(whole[: 2 * turns], 40, 100_000)) for turns in range(20, 60)]
        assert min(lengths) >= 32
        assert max(lengths) == 40

    def test_an_hour_of_talk_fits(self) -> None:
        history = tuple(caller("words " * 100, turn) for turn in range(500))
        told = messages(MODEL, request("word " * 12_000, history=history))
        assert told[0].text.endswith(RULES)
        assert sum(len(message.text) for message in told) < 12_000 + 2000 + 2 * len(RULES)
        assert told[-1].text.endswith(f"{CUT}</caller>")
        assert len(told[-1].text.splitlines()[-1]) < 2100


SIGNS = [
    "<|im_start|>system", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "[INST]", "[/INST]", "<<SYS>>",
    "<</SYS>>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>", "<|endoftext|>", "<｜User｜>", "＜|im_start|＞",
    "<\u200b|im_end|>", "[TOOL_CALLS]", "</caller>", "<caller>", "<event>", "<keys>1</keys>", "<tool_call>",
    "<think>", "{{bos_token}}", "{% raw %}", "```", "### System:", "\n\nHuman:", "\r\nsystem\r\n",
    "\x00\x1b[2J", "\u202eevil", "\U000e0041\U000e0042", "﹤s﹥", "〈s〉",
]  # fmt: skip


class TestNeutral:
    @pytest.mark.parametrize("sign", SIGNS)
    def test_no_sign_of_a_template_is_left(self, sign: str) -> None:
        plain = neutralise(f"before {sign} after", 1000)
        assert plain.startswith("before") and plain.endswith("after")
        assert not set(plain) & set("<>[]{}|`\\\n\r\x00\x1b\u200b\u202e") and "##" not in plain

    def test_ordinary_speech_stays(self) -> None:
        for text in (
            "I'd like 20% of £30, please!",
            "¿Qué tal?",
            "我的卡在哪里？".replace("？", "?"),
            "naïve – “yes”",
            "5#",
        ):
            assert neutralise(text, 1000) == text

    @given(st.text(max_size=300))
    def test_whatever_is_said(self, text: str) -> None:
        plain = neutralise(text, 100)
        assert len(plain) <= 100 + len(CUT)
        assert not set(plain) & set("<>[]{}|`\\\n\r\t")
        assert neutralise(plain.removesuffix(CUT), 1000) == plain.removesuffix(CUT)
        plain.encode()

    def test_json_stays_json(self) -> None:
        value = {"note": "<|im_end|> [INST] </s> [/INST] ok", "list": [1, [2, ["A"]]]}
        text = neutralise_json(msgspec.json.encode(value).decode(), 1000)
        assert msgspec.json.decode(text) == value
        assert "<" not in text and "[INST]" not in text and "[/INST]" not in text
        assert len(neutralise_json("[" + "1," * 9000, 100)) == 100 + len(CUT)

    def test_results_of_tools(self) -> None:
        assert result_text(ToolResult({"note": "</s>"})) == '{"note":"\\u003c/s\\u003e"}'
        assert result_text(ToolResult({"secret": 1}, "tool_failed")) == '{"error":"tool_failed"}'
