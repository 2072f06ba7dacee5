"""Engine ``openai`` against a server that speaks the protocol, well and badly."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.engine_sections import OpenaiSection
from services.llm.chat.model import ChatEnd, ChatRequest, Delta, Message, ModelToolCall, Token, ToolDescription
from services.llm.engine import EngineError
from services.llm.engines._openai_errors import code_of, place_of
from services.llm.engines.openai import OpenaiModel, find_key
from tests.fakes.openai_server import OpenaiServer, Reply, call_piece

pytestmark = pytest.mark.unit

SECRET = "sk-very-secret"
QUESTION = ChatRequest((Message("system", "Be short."), Message("user", "where is my secret card")), call_id="c1")
TOOL = ToolDescription("get_balance", "Balance of an account", {"type": "object", "properties": {}})


@asynccontextmanager
async def model_of(server: OpenaiServer, *, silence_ms: int = 5000, **settings: Any) -> AsyncIterator[OpenaiModel]:
    async with server:
        section = OpenaiSection(base_url=server.url, api_key=SECRET, model="small", **settings)
        model = OpenaiModel(section, silence_ms=silence_ms)
        try:
            yield model
        finally:
            await model.close()


async def all_of(model: OpenaiModel, request: ChatRequest = QUESTION) -> list[Delta]:
    async with aclosing(model.stream(request)) as deltas:
        return [delta async for delta in deltas]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Token))


def calls_of(deltas: list[Delta]) -> list[ModelToolCall]:
    return [delta for delta in deltas if isinstance(delta, ModelToolCall)]


async def test_text_streams_and_ends_with_the_reason_and_the_usage() -> None:
    async with model_of(OpenaiServer(Reply(["Your ", "Straße ", "№ 7 🏦."]))) as model:
        deltas = await all_of(model)
    assert deltas == [Token("Your "), Token("Straße "), Token("№ 7 🏦."), ChatEnd("stop", 7, 3)]


async def test_what_is_sent() -> None:
    server = OpenaiServer()
    call = ModelToolCall("a1", "get_balance", '{"account": "1"}')
    messages = (
        Message("user", "my balance"),
        Message("assistant", "", (call,)),
        Message("tool", '{"pounds": 3}', tool_call_id="a1"),
    )
    async with model_of(server, temperature=0.5, max_tokens=99) as model:
        await all_of(model, ChatRequest(messages, (TOOL,), call_id="call-id-of-ours"))
    [sent] = server.asked()
    assert sent["model"] == "small" and sent["stream"] and sent["max_tokens"] == 99 and sent["temperature"] == 0.5
    assert sent["messages"][1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a1", "type": "function", "function": {"name": "get_balance", "arguments": '{"account": "1"}'}}
        ],
    }
    assert sent["messages"][2] == {"role": "tool", "content": '{"pounds": 3}', "tool_call_id": "a1"}
    assert sent["tools"][0]["function"]["name"] == "get_balance"
    assert server.requests[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert "call-id-of-ours" not in repr(server.requests)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(
            [
                call_piece(0, "a", "get_balance", ""),
                call_piece(0, None, None, '{"acc'),
                call_piece(1, "b", "block_card", '{"card"'),
                call_piece(0, None, None, 'ount": "1"}'),
                call_piece(1, None, None, ": 2}"),
            ],
            [ModelToolCall("a", "get_balance", '{"account": "1"}'), ModelToolCall("b", "block_card", '{"card": 2}')],
            id="in pieces, two at once",
        ),
        pytest.param(
            [call_piece(0, "a", "get_balance", '{"x": 1}')],
            [ModelToolCall("a", "get_balance", '{"x": 1}')],
            id="whole",
        ),
        pytest.param(
            [call_piece(0, None, "get_balance", "{}"), call_piece(1, None, "block_card", None)],
            [ModelToolCall("call_0", "get_balance", "{}"), ModelToolCall("call_1", "block_card", "{}")],
            id="without ids and arguments",
        ),
        pytest.param(
            [call_piece(None, "a", "get_balance", "{}"), call_piece(None, "b", "get_balance", '{"y": 2}')],
            [ModelToolCall("a", "get_balance", "{}"), ModelToolCall("b", "get_balance", '{"y": 2}')],
            id="without index",
        ),
        pytest.param(
            [call_piece(0, "a", "get_balance", "{}"), call_piece(0, "b", "get_balance", '{"y": 2}')],
            [ModelToolCall("a", "get_balance", "{}"), ModelToolCall("b", "get_balance", '{"y": 2}')],
            id="every call is number 0",
        ),
        pytest.param(
            [
                call_piece(0, "a", "get_balance", "{}"),
                call_piece(0, "b", "block_card", None),
                call_piece(0, None, None, '{"y":'),
                call_piece(0, None, None, " 2}"),
            ],
            [ModelToolCall("a", "get_balance", "{}"), ModelToolCall("b", "block_card", '{"y": 2}')],
            id="every call is number 0, the second in pieces",
        ),
        pytest.param(
            [call_piece(0, "a", "get_balance", {"z": "é"})],
            [ModelToolCall("a", "get_balance", '{"z": "\\u00e9"}')],
            id="arguments as an object",
        ),
    ],
)
async def test_tool_calls(pieces: list[str | dict[str, Any]], expected: list[ModelToolCall]) -> None:
    async with model_of(OpenaiServer(Reply(pieces, reason="tool_calls"))) as model:
        deltas = await all_of(model, QUESTION._replace(tools=(TOOL,)))
    assert deltas == [*expected, ChatEnd("tool_calls", 7, len(pieces))]


async def test_tools_asked_for_with_another_reason_are_asked_for_and_half_a_call_is_none() -> None:
    piece = call_piece(0, "a", "get_balance", "{}")
    async with model_of(OpenaiServer(Reply([piece]), Reply([piece], reason="length"))) as model:
        first, second = await all_of(model), await all_of(model)
    assert calls_of(first) and first[-1] == ChatEnd("tool_calls", 7, 1)
    assert second == [ChatEnd("length", 7, 1)]


async def test_reasons_and_thinking() -> None:
    server = OpenaiServer(
        Reply(["a"], reason="length"),
        Reply(["b"], reason="content_filter"),
        Reply(["c"], reason="eos"),
        Reply([{"reasoning_content": "hm"}, "<thi", "nk>the caller", " wants", "</think>", "\n\n", "Yes."]),
        Reply(["<"]),
    )
    async with model_of(server) as model:
        ends = [await all_of(model) for _ in range(5)]
    reasons = [each[-1].reason for each in ends if isinstance(each[-1], ChatEnd)]
    assert reasons == ["length", "content_filter", "stop", "stop", "stop"]
    assert text_of(ends[3]) == "Yes." and text_of(ends[4]) == "<"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=401, body={"error": {"message": f"Incorrect key {SECRET}", "code": "invalid_api_key"}}),
         ["401", "invalid_api_key", "[openai] api_key", "OPENAI_API_KEY"]),
        (Reply(status=404, body={"error": {"message": "secret", "code": "model_not_found"}}),
         ["404", "model_not_found", "[openai] base_url", "model"]),
        (Reply(status=429, body={"error": {"code": "rate_limit_exceeded"}}, headers={"Retry-After": "7"}),
         ["429", "rate_limit_exceeded", "wait 7 s"]),
        (Reply(status=500, body="secret words"), ["500", "out of order"]),
        (Reply(status=503, body=None), ["503", "overloaded"]),
        (Reply(status=400, body={"error": {"message": "secret", "code": "context_length_exceeded"}}),
         ["400", "too long"]),
        (Reply(page=True), ["text/html", "[openai] base_url"]),
        (Reply(["One."], ending="error"), ["broke off", "internal_error"]),
        (Reply(["One."], ending="old error"), ["broke off", "BadRequestError"]),
        (Reply(["One."], ending="cut"), ["broke the connection"]),
        (Reply(["One."], ending="rubbish"), ["no chat completion"]),
        (Reply(["One."], ending="silent end"), ["cut off"]),
    ],
)  # fmt: skip
async def test_errors_say_where_what_and_how_to_mend_it_and_nothing_that_was_said(
    reply: Reply, words: list[str]
) -> None:
    server = OpenaiServer(reply)
    async with model_of(server) as model:
        with pytest.raises(EngineError) as caught:
            await all_of(model)
    text = str(caught.value)
    assert f"127.0.0.1:{server.port}" in text
    assert [word for word in words if word not in text] == []
    assert "secret" not in text and "card" not in text
    assert caught.value.__cause__ is None


async def test_a_server_that_is_away_or_silent() -> None:
    model = OpenaiModel(OpenaiSection(base_url="http://127.0.0.1:1/v1"))
    with pytest.raises(EngineError, match="can't be reached; is the server running"):
        await model.warm()
    await model.close()
    async with model_of(OpenaiServer(Reply(["One."], ending="hang")), silence_ms=50) as model:
        with pytest.raises(EngineError, match="fell silent"):
            await all_of(model)


@pytest.mark.parametrize("named", [True, False])
async def test_a_server_that_refuses_to_count_is_asked_again_without_once(named: bool) -> None:
    refusal = Reply(status=400, body={"error": {"message": "stream_options is unknown" if named else "unknown field"}})
    server = OpenaiServer(refusal, Reply(["Yes."]))
    async with model_of(server) as model:
        assert (await all_of(model))[-1] == ChatEnd("stop")
        assert (await all_of(model))[-1] == ChatEnd("stop")
    assert ["stream_options" in body for body in server.asked()] == [True, False, False]


async def test_a_refusal_that_has_another_cause_stays_a_refusal() -> None:
    server = OpenaiServer(Reply(status=400, body={}), Reply(status=400, body={}), Reply(["Yes."]))
    async with model_of(server) as model:
        with pytest.raises(EngineError, match="answered 400"):
            await all_of(model)
        assert (await all_of(model))[-1] == ChatEnd("stop", 7, 1)


async def test_what_a_newer_model_refuses_by_name_is_left_out() -> None:
    server = OpenaiServer(Reply(["Yes."], refuses=("max_tokens", "temperature")))
    async with model_of(server, max_tokens=33) as model:
        assert text_of(await all_of(model)) == "Yes."
    last = server.asked()[-1]
    assert "temperature" not in last and "max_tokens" not in last and last["max_completion_tokens"] == 33


async def test_cancel_closes_the_stream_at_once() -> None:
    server = OpenaiServer(Reply(["word "] * 500, pause_s=0.01))
    async with model_of(server) as model:
        deltas = model.stream(QUESTION)
        assert await anext(deltas) == Token("word ")
        await deltas.aclose()
        await asyncio.wait_for(server.gone.wait(), 0.5)
        assert server.written < 20


async def test_cancel_of_a_request_that_nobody_answers() -> None:
    server = OpenaiServer(Reply(ending="hang"))
    async with model_of(server) as model:
        task = asyncio.create_task(all_of(model))
        while not server.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.gone.wait(), 0.5)


@pytest.mark.parametrize("models", [["small"], ["other"], None])
async def test_warm_asks_for_one_token_and_leaves_the_connection_open(models: list[str] | None) -> None:
    server = OpenaiServer(models=models)
    async with model_of(server) as model:
        await model.warm()
        await all_of(model)
    assert [body["max_tokens"] for body in server.asked()] == [1, 256]
    assert len({each.peer for each in server.requests}) == 1


async def test_warm_says_which_models_there_are_and_that_the_key_is_wrong() -> None:
    async with model_of(OpenaiServer(Reply(status=404, body={}), models=["big", "bigger"])) as model:
        with pytest.raises(EngineError, match="no model 'small', but: big, bigger"):
            await model.warm()
    async with model_of(OpenaiServer(models_status=401)) as model:
        with pytest.raises(EngineError, match=r"401.*does not accept the key"):
            await model.warm()


def test_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    local = "http://127.0.0.1:8000/v1"
    assert find_key(OpenaiSection(base_url=local)) == "none"
    with pytest.raises(EngineError, match="wants a key"):
        find_key(OpenaiSection())
    (tmp_path / "key").write_text("from-file\nmore\n")
    assert find_key(OpenaiSection(api_key_file=str(tmp_path / "key"))) == "from-file"
    with pytest.raises(EngineError, match="can't be read"):
        find_key(OpenaiSection(api_key_file=str(tmp_path / "missing")))
    monkeypatch.setenv("OPENAI_API_KEY", "from-variable")
    assert find_key(OpenaiSection()) == "from-variable"
    for key in ("sk-é", "sk\n1"):
        with pytest.raises(EngineError, match="characters that no key has") as caught:
            find_key(OpenaiSection(api_key=key))
        assert key not in str(caught.value)
    assert find_key(OpenaiSection(api_key="given", api_key_file=str(tmp_path / "key"))) == "given"
    for address in ("http://[broken/v1", "127.0.0.1:8000", "http://host:port/v1"):
        with pytest.raises(EngineError, match="base_url is no address"):
            OpenaiModel(OpenaiSection(base_url=address))
    assert place_of("https://user:password@api.example.com/v1") == "api.example.com"
    assert code_of({"error": {"code": "sk-secret"}}) == code_of({"error": "x"}) == code_of(None) == ""


async def test_no_word_and_no_key_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with model_of(OpenaiServer(Reply(["the answer is secret"]))) as model:
            await model.warm()
            await all_of(model)
        assert SECRET not in repr(model)
    assert "secret" not in caplog.text


async def test_many_answers_at_once_and_no_growth() -> None:
    server = OpenaiServer(Reply(["One.", " Two."]))
    async with model_of(server) as model:
        objects = []
        for _ in range(3):
            for _ in range(9):
                await asyncio.gather(*(all_of(model) for _ in range(20)))
                server.requests.clear()
            gc.collect()
            objects.append(len(gc.get_objects()))
    # 180 answers lie between two counts: one object that is kept for each would show.
    assert abs(objects[2] - objects[1]) < 90, objects
