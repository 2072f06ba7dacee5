"""Engine ``ollama`` against a server that speaks its protocol, well and badly."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import structlog

from config.engine_sections import OllamaSection
from services.llm.chat.model import ChatEnd, ChatRequest, Delta, Message, ModelToolCall, Token, ToolDescription
from services.llm.engine import EngineError
from services.llm.engines._ollama_protocol import full_name, written_keep_alive
from services.llm.engines.ollama import OllamaModel
from tests.fakes.ollama_server import OllamaServer, Reply

pytestmark = pytest.mark.unit

QUESTION = ChatRequest((Message("system", "Be short."), Message("user", "where is my secret card")), call_id="c1")
TOOL = ToolDescription("get_balance", "Balance of an account", {"type": "object", "properties": {}})


@asynccontextmanager
async def model_of(server: OllamaServer, *, silence_ms: int = 5000, **settings: Any) -> AsyncIterator[OllamaModel]:
    async with server:
        model = OllamaModel(OllamaSection(url=server.url, **{"model": "small", **settings}), silence_ms=silence_ms)
        try:
            yield model
        finally:
            await model.close()


async def all_of(model: OllamaModel, request: ChatRequest = QUESTION) -> list[Delta]:
    async with aclosing(model.stream(request)) as deltas:
        return [delta async for delta in deltas]


async def test_text_streams_without_thinking_and_ends_with_reason_and_counts() -> None:
    server = OllamaServer(
        Reply([{"thinking": "the caller wants"}, "Your ", "Straße 🏦."]), Reply(["Long"], reason="length")
    )
    async with model_of(server) as model:
        assert await all_of(model) == [Token("Your "), Token("Straße 🏦."), ChatEnd("stop", 7, 3)]
        assert (await all_of(model))[-1] == ChatEnd("length", 7, 1)


async def test_what_is_sent() -> None:
    server = OllamaServer()
    call = ModelToolCall("a1", "get_balance", '{"account": "1"}')
    messages = (
        Message("user", "my balance"),
        Message("assistant", "", (call, ModelToolCall("a2", "broken", "{"), ModelToolCall("a3", "list", "[]"))),
        Message("tool", '{"pounds": 3}', tool_call_id="a1"),
    )
    async with model_of(server, context_tokens=512, max_tokens=99, temperature=0.5, keep_alive="-1") as model:
        await all_of(model, ChatRequest(messages, (TOOL,), call_id="call-id-of-ours"))
    [sent] = server.bodies("/api/chat")
    assert sent["options"] == {"num_ctx": 512, "num_predict": 99, "temperature": 0.5}
    assert sent["keep_alive"] == -1 and sent["stream"] and not sent["think"]
    calls = [each["function"] for each in sent["messages"][1]["tool_calls"]]
    assert calls[0] == {"name": "get_balance", "arguments": {"account": "1"}}
    assert calls[1]["arguments"] == calls[2]["arguments"] == {}
    assert sent["messages"][2] == {"role": "tool", "content": '{"pounds": 3}', "tool_name": "get_balance"}
    assert sent["tools"][0]["function"]["name"] == "get_balance"
    assert "call-id-of-ours" not in repr(server.requests)


async def test_tool_calls_come_whole() -> None:
    calls = [
        {"function": {"name": "get_balance", "arguments": {"account": "é"}}},
        {"id": "own", "function": {"name": "block_card", "arguments": '{"card": 1}'}},
        {"function": {"name": ""}},
        "rubbish",
    ]
    async with model_of(OllamaServer(Reply([{"tool_calls": calls}]))) as model:
        deltas = await all_of(model, QUESTION._replace(tools=(TOOL,)))
    assert deltas == [
        ModelToolCall("call_0", "get_balance", '{"account": "é"}'),
        ModelToolCall("own", "block_card", '{"card": 1}'),
        ChatEnd("tool_calls", 7, 1),
    ]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=400), ["400", "[ollama] model"]),
        (Reply(status=401), ["401", "account"]),
        (Reply(status=404), ["ollama pull small", "CALLBUS_OLLAMA__PULL=true"]),
        (Reply(status=418), ["418", "[ollama] url"]),
        (Reply(status=429), ["429", "too many"]),
        (Reply(status=500), ["500", "its log"]),
        (Reply(status=503), ["503", "overloaded"]),
        (Reply(["One."], ending="error"), ["broke off"]),
        (Reply(["One."], ending="cut"), ["broke the connection"]),
        (Reply(["One."], ending="rubbish"), ["no answer of Ollama's", "[ollama] url"]),
        (Reply(["One."], ending="silent end"), ["cut off"]),
        (Reply(["x" * 3_000_000]), ["too long"]),
    ],
)
async def test_errors_say_where_what_and_how_to_mend_it_and_nothing_that_was_said(
    reply: Reply, words: list[str]
) -> None:
    server = OllamaServer(reply)
    async with model_of(server) as model:
        with pytest.raises(EngineError) as caught:
            await all_of(model)
    text = str(caught.value)
    assert f"127.0.0.1:{server.port}" in text
    assert [word for word in words if word not in text] == []
    assert "secret" not in text and "card" not in text


async def test_a_server_that_is_away_or_silent() -> None:
    model = OllamaModel(OllamaSection(url="http://127.0.0.1:1"))
    with pytest.raises(EngineError, match="can't be reached; is `ollama serve` running"):
        await model.warm()
    await model.close()
    async with model_of(OllamaServer(Reply(["One."], ending="hang")), silence_ms=50) as model:
        with pytest.raises(EngineError, match="fell silent"):
            await all_of(model)
    for address in ("127.0.0.1:11434", "http://host:port", "http://"):
        with pytest.raises(EngineError, match="url is no address"):
            OllamaModel(OllamaSection(url=address))


async def test_warm_loads_the_model_with_one_token_and_keeps_the_connection() -> None:
    server = OllamaServer()
    async with model_of(server) as model:
        await model.warm()
        await all_of(model)
    assert [body["options"]["num_predict"] for body in server.bodies("/api/chat")] == [1, 256]
    assert len({each.peer for each in server.requests}) == 1


async def test_a_model_that_is_missing_is_fetched_only_where_that_is_wanted() -> None:
    async with model_of(OllamaServer(models=("other:latest",))) as model:
        with pytest.raises(EngineError, match=r"no model 'small': ollama pull small, or CALLBUS_OLLAMA__PULL=true"):
            await model.warm()
    server = OllamaServer(models=())
    sizes = [{"status": "pulling abc", "total": 1000, "completed": done} for done in (0, 50, 150, 200, 990, 1000)]
    server.pull = [{"status": "pulling manifest"}, *sizes, {"status": "success"}]
    with structlog.testing.capture_logs() as logs:
        async with model_of(server, model="small:7b", pull=True) as model:
            await model.warm()
    told = [entry["message"] for entry in logs if entry["event"] == "model_pull_progress"]
    assert [text.split(" has ")[1] for text in told] == [
        f"{percent} % of a part of 'small:7b'" for percent in (10, 20, 90, 100)
    ]


@pytest.mark.parametrize(
    ("lines", "words"), [([{"error": "pull model manifest: file does not exist"}], "can't fetch"), ([], "broke off")]
)
async def test_a_fetch_that_fails(lines: list[dict[str, Any]], words: str) -> None:
    server = OllamaServer(models=())
    server.pull = lines
    async with model_of(server, pull=True) as model:
        with pytest.raises(EngineError, match=words):
            await model.warm()


async def test_what_is_no_ollama() -> None:
    server = OllamaServer()
    server.tags_page = b"<html>Welcome to nginx</html>\n"
    async with model_of(server) as model:
        with pytest.raises(EngineError, match=r"no answer of Ollama's; is \[ollama\] url right"):
            await model.warm()


async def test_cancel_closes_the_connection_at_once() -> None:
    server = OllamaServer(Reply(["word "] * 500, pause_s=0.01))
    async with model_of(server) as model:
        deltas = model.stream(QUESTION)
        assert await anext(deltas) == Token("word ")
        await deltas.aclose()
        await asyncio.wait_for(server.gone.wait(), 0.5)
        assert server.written < 20


async def test_cancel_of_a_request_that_nobody_answers() -> None:
    server = OllamaServer(Reply(ending="hang"))
    async with model_of(server) as model:
        task = asyncio.create_task(all_of(model))
        while not server.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.gone.wait(), 0.5)


async def test_no_word_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with model_of(OllamaServer(Reply(["the answer is secret"]))) as model:
            await all_of(model)
    assert "secret" not in caplog.text


async def test_many_answers_at_once_and_no_growth() -> None:
    server = OllamaServer(Reply(["One.", " Two."]))
    async with model_of(server) as model:
        objects = []
        for _ in range(3):
            for _ in range(12):
                await asyncio.gather(*(all_of(model) for _ in range(20)))
                server.requests.clear()
            gc.collect()
            objects.append(len(gc.get_objects()))
    # 240 answers lie between two counts: one object that is kept for each would show.
    assert abs(objects[2] - objects[1]) < 120, objects


def test_names_and_times() -> None:
    assert [full_name(each) for each in ("a", "a:7b", "host:5000/a", "host:5000/a:7b")] == [
        "a:latest", "a:7b", "host:5000/a:latest", "host:5000/a:7b",
    ]  # fmt: skip
    assert [written_keep_alive(each) for each in ("-1", "30m", "0")] == [-1, "30m", 0]
