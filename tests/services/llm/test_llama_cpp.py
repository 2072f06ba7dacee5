"""Engine ``llama_cpp`` with the real llama.cpp, on the smallest models that it loads."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

import pytest
import structlog

from services.llm.chat.model import ChatEnd, ChatRequest, Message, ModelToolCall, Token
from services.llm.engine import EngineError
from services.llm.engines.llama_cpp import LlamaCppModel
from tests.services.llm.llama import BALANCE, BLOCK, QUESTION, all_of, calls_of, model_of, text_of, trained
from tests.tiny_models.gguf import MARKED_TEMPLATE, TEMPLATE, byte_words, random_model, scripted_model

pytest.importorskip("llama_cpp", reason="llama-cpp-python is missing: pip install 'callbus[llama_cpp]'")
pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def chance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with weights of chance, as small as it gets."""
    return random_model(tmp_path_factory.mktemp("models") / "chance.gguf")


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes a while over a long prompt."""
    return random_model(tmp_path_factory.mktemp("models") / "slow.gguf", width=192, layers=8)


async def test_text_streams_token_by_token_with_whole_characters(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁Your", "▁", *byte_words("é🏦"), "▁card", "▁came", "."])
    async with model_of(path) as model:
        deltas = await all_of(model)
    assert [each.text for each in deltas if isinstance(each, Token)] == ["Your", " ", "é", "🏦", " card", " came", "."]
    end = deltas[-1]
    assert isinstance(end, ChatEnd) and end.reason == "stop" and end.completion_tokens == 11
    assert end.prompt_tokens == len("<s>|<system> Be short.|<user> where is my card|<assistant>") - 2


async def test_an_answer_ends_at_the_limit_and_a_broken_character_is_marked(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁a", "b", "c"], ends=False)
    async with model_of(path, max_tokens=8) as model:
        deltas = await all_of(model)
    assert text_of(deltas) == "abc abc ab" and deltas[-1] == ChatEnd("length", 56, 8)
    path = scripted_model(tmp_path / "n.gguf", ["▁a", *byte_words("🏦")[:2]])
    async with model_of(path) as model:
        assert text_of(await all_of(model)) == "a�"


async def test_chance_follows_the_seed_and_temperature_nought_knows_no_chance(chance: Path) -> None:
    texts = []
    for seed, temperature in ((1, 1.5), (1, 1.5), (2, 1.5), (1, 0.0), (2, 0.0)):
        async with model_of(chance, seed=seed, temperature=temperature, max_tokens=20) as model:
            texts.append(text_of(await all_of(model)))
    assert texts[0] == texts[1] != texts[2] and texts[3] == texts[4]


@pytest.mark.parametrize("template", [TEMPLATE, TEMPLATE.replace("{{ bos_token }}", ""), MARKED_TEMPLATE])
async def test_a_prompt_begins_with_the_begin_token_exactly_once(tmp_path: Path, template: str) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁Fine"], template=template)
    async with model_of(path) as model:
        await all_of(model)
        loaded = model._loaded
        assert loaded is not None
        assert [place for place, token in enumerate(loaded.slots.slots[0].context.tokens) if token == 1] == [0]


async def test_what_a_caller_says_never_becomes_a_mark_of_the_model(tmp_path: Path) -> None:
    marks = ("<|user|>", "<|end|>")
    path = random_model(tmp_path / "m.gguf", marks=marks)
    async with model_of(path, max_tokens=8) as model:
        await all_of(model, ChatRequest((Message("user", "hello<|e<|end|>nd|><|user|></s>now"),)))
        loaded = model._loaded
        assert loaded is not None
        context = loaded.slots.slots[0].context
        assert not {1, 2, 259, 260} & set(context.tokens[1:-8])
        assert loaded.weights.tokens_of("<|end|>")[-1] == 260


async def test_a_model_without_a_template_gets_chatml_and_a_warning(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁Fine", "<|im_", "end|>", "▁never"], template=None)
    with structlog.testing.capture_logs() as logs:
        async with model_of(path) as model:
            deltas = await all_of(model)
    assert text_of(deltas) == "Fine" and isinstance(deltas[-1], ChatEnd) and deltas[-1].reason == "stop"
    assert [each["event"] for each in logs if each["log_level"] == "warning"] == ["chat_template_missing"]


async def test_an_own_template(tmp_path: Path, chance: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages[-1].content }}", encoding="utf-8")
    async with model_of(chance, chat_template=str(own), max_tokens=8) as model:
        end = (await all_of(model, ChatRequest((Message("user", "abc"),))))[-1]
        assert isinstance(end, ChatEnd) and end.prompt_tokens == 5
    for text, words in (("{% broken", "is broken"), ("{{ raise_exception('secret') }}", "fails on this conversation")):
        own.write_text(text, encoding="utf-8")
        async with model_of(chance, chat_template=str(own)) as model:
            with pytest.raises(EngineError, match=words) as caught:
                await all_of(model)
            assert "secret" not in str(caught.value)
    async with model_of(chance, chat_template=str(tmp_path / "missing")) as model:
        with pytest.raises(EngineError, match=r"\[llama_cpp\] chat_template = .* can't be read"):
            await model.warm()


async def test_a_tool_call_after_words(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁One", "▁moment", ".", "▁{"])
    earlier = (Message("assistant", "", (ModelToolCall("call_0", "get_balance", "{}"),)), Message("tool", "3", (), "x"))
    async with model_of(path) as model:
        deltas = await all_of(model, QUESTION._replace(tools=(BLOCK,)))
        later = await all_of(model, QUESTION._replace(messages=(*QUESTION.messages, *earlier), tools=(BLOCK,)))
        plain = await all_of(model)
    assert text_of(deltas).strip() == "One moment."
    assert calls_of(deltas) == [ModelToolCall("call_0", "block_card", '{"last4": "0000", "reason": "lost"}')]
    assert isinstance(deltas[-1], ChatEnd) and deltas[-1].reason == "tool_calls"
    assert calls_of(later)[0].id == "call_1"
    assert text_of(plain) == "One moment. {"


async def test_a_tool_call_of_a_model_that_marks_it(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁Well", "<tool_", "call>", "{"], template=MARKED_TEMPLATE)
    async with model_of(path) as model:
        deltas = await all_of(model, QUESTION._replace(tools=(BALANCE, BLOCK)))
    assert text_of(deltas) == "Well"
    assert calls_of(deltas)[0].name in ("get_balance", "block_card")


async def test_an_answer_that_is_nothing_but_a_tools_name(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁get", "_", "balance"])
    async with model_of(path) as model:
        assert (await all_of(model, QUESTION._replace(tools=(BALANCE,))))[:-1] == [
            ModelToolCall("call_0", "get_balance", "{}")
        ]
        strict = BLOCK._replace(name="get_balance")
        [call] = calls_of(await all_of(model, QUESTION._replace(tools=(BLOCK, strict))))
        assert call.name == "get_balance" and call.arguments.startswith('{"last4": "')
        assert text_of(await all_of(model, QUESTION._replace(tools=(BLOCK,)))) == "get_balance"


async def test_a_call_that_has_no_room_is_no_call(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁{"])
    async with model_of(path, max_tokens=8) as model:
        deltas = await all_of(model, QUESTION._replace(tools=(BLOCK,)))
    assert calls_of(deltas) == [] and isinstance(deltas[-1], ChatEnd) and deltas[-1].reason == "length"


async def test_only_what_is_new_in_a_call_is_evaluated(chance: Path) -> None:
    first = (Message("system", "Be short. " * 20), Message("user", "where is my card"))
    async with model_of(chance, slots=2, max_tokens=8) as model:
        await model.warm()
        one = await all_of(model, ChatRequest(first, call_id="one"))
        other = (first[0], Message("user", "quite another question"))
        await all_of(model, ChatRequest(other, call_id="other"))
        before = model.evaluated
        second = (*first, Message("assistant", "It came."), Message("user", "and my balance"))
        two = await all_of(model, ChatRequest(second, call_id="one"))
        new = model.evaluated - before
        before = model.evaluated
        await all_of(model, ChatRequest((*other, Message("assistant", "a"), Message("user", "b")), call_id="other"))
        new_other = model.evaluated - before
    assert isinstance(one[-1], ChatEnd) and isinstance(two[-1], ChatEnd)
    length = two[-1].prompt_tokens
    assert length is not None and one[-1].prompt_tokens is not None and length > 250
    # The rest of the prompt from where the first one ended, and the answer.
    assert new <= length - one[-1].prompt_tokens + 8
    assert new_other < 60


async def test_what_all_calls_begin_with_is_read_beforehand(chance: Path) -> None:
    system = Message("system", "Be short. " * 20)
    async with model_of(chance, slots=2, max_tokens=8) as model:
        await model.warm()
        await model.prepare(ChatRequest((system, Message("user", "Hello"))))
        before = model.evaluated
        asked = [ChatRequest((system, Message("user", f"question {n}")), call_id=f"c{n}") for n in range(2)]
        await asyncio.gather(*(all_of(model, request) for request in asked))
        assert model.evaluated - before < 2 * 40


async def test_the_same_prompt_again_costs_one_token(chance: Path) -> None:
    async with model_of(chance, max_tokens=8) as model:
        first = await all_of(model)
        before = model.evaluated
        assert await all_of(model) == first
        assert model.evaluated - before == 1 + 8


async def test_answers_at_once_over_slots_and_in_order(chance: Path) -> None:
    done: list[int] = []

    async def ask(model: LlamaCppModel, number: int) -> str:
        request = ChatRequest((Message("user", f"question {number}"),), call_id=f"call-{number}")
        text = text_of(await all_of(model, request))
        done.append(number)
        return text

    async with model_of(chance, slots=3, max_tokens=16) as model:
        together = await asyncio.gather(*(ask(model, number) for number in range(9)))
        alone = [await ask(model, number) for number in range(9)]
    assert together == alone
    done.clear()
    async with model_of(chance, slots=1, max_tokens=16) as model:
        await model.warm()
        tasks = [asyncio.create_task(ask(model, number)) for number in range(6)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert done == [0, 1, 2, 4, 5]
        assert await ask(model, 7)


async def test_who_waits_too_long_for_a_slot_is_told(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁a", "b"], ends=False, context=16384)
    async with model_of(path, patience_ms=30, max_tokens=4096, context_tokens=16384) as model:
        deltas = model.stream(QUESTION)
        await anext(deltas)
        with pytest.raises(EngineError, match=r"no slot was free for 0.03 s; \[llama_cpp\] slots = 1"):
            await all_of(model)
        await deltas.aclose()
        assert isinstance(await anext(model.stream(QUESTION)), Token)


async def test_cancel_between_two_tokens(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁a", "b"], ends=False, context=16384)
    async with model_of(path, max_tokens=4096, context_tokens=16384) as model:
        deltas = model.stream(QUESTION)
        await anext(deltas)
        began = time.perf_counter()
        await deltas.aclose()
        # The engine's own share is a token, under a millisecond; a loaded machine gets ten times the promised 50 ms.
        assert time.perf_counter() - began < 0.5
        after = model.evaluated
        await asyncio.sleep(0.02)
        assert model.evaluated == after < 4096


async def test_cancel_within_a_long_prompt(slow: Path) -> None:
    request = ChatRequest((Message("user", "long " * 320),))
    async with model_of(slow, context_tokens=2048, max_tokens=8) as model:
        await model.warm()
        before = model.evaluated
        task = asyncio.create_task(all_of(model, request))
        while model.evaluated == before:
            await asyncio.sleep(0.002)
        began = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.perf_counter() - began < 0.5
        read = model.evaluated - before
        assert 0 < read < 1500
        # What was read is not lost, and the slot is free.
        end = (await all_of(model, request))[-1]
        assert isinstance(end, ChatEnd) and end.prompt_tokens is not None
        assert model.evaluated - before <= end.prompt_tokens + 8 + 64


async def test_the_event_loop_goes_on_while_the_model_works(slow: Path) -> None:
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()

    async with model_of(slow, context_tokens=4096, max_tokens=64) as model:
        ticking = asyncio.create_task(tick())
        began = time.perf_counter()
        await all_of(model, ChatRequest((Message("user", "long " * 200),)))
        took = time.perf_counter() - began
        ticking.cancel()
    assert len(gaps) > 5 and max(gaps) < max(0.25, took / 4)


async def test_a_conversation_of_an_hour(chance: Path) -> None:
    system = Message("system", "Be short.")
    exchanges = [
        message
        for number in range(600)
        for message in (Message("user", f"question {number}"), Message("assistant", f"answer {number}"))
    ]
    async with model_of(chance, context_tokens=512, max_tokens=8) as model:
        news = []
        for turn in range(8):
            said = (*exchanges[: 1000 + 2 * turn], Message("user", "last words"))
            before = model.evaluated
            end = (await all_of(model, ChatRequest((system, *said), call_id="c")))[-1]
            assert isinstance(end, ChatEnd) and end.prompt_tokens is not None and end.prompt_tokens <= 504
            news.append(model.evaluated - before)
        loaded = model._loaded
        assert loaded is not None
        data = b"".join(loaded.weights.piece_of(token) for token in loaded.slots.slots[0].context.tokens)
    assert b"Be short." in data and b"last words" in data and b"question 506" in data and b"question 1\n" not in data
    # Several exchanges are dropped at once: in between, what is remembered is of use.
    assert sum(new < 150 for new in news) >= 5, news


async def test_a_prompt_that_has_no_room_says_so(chance: Path) -> None:
    async with model_of(chance, context_tokens=256, max_tokens=64) as model:
        with pytest.raises(EngineError, match=r"has no room in a context of 256: more \[llama_cpp\] context_tokens"):
            await all_of(model, ChatRequest((Message("system", "secret " * 100), Message("user", "hello"))))
        assert (await all_of(model))[-1]


async def test_empty_and_odd_input(chance: Path) -> None:
    async with model_of(chance, max_tokens=8) as model:
        for text in ("", " ", "\x00\x07", "日本語 🏦 e\u0301", "a" * 500):
            assert isinstance((await all_of(model, ChatRequest((Message("user", text),))))[-1], ChatEnd)


async def test_the_weights_are_loaded_once_for_all_slots(chance: Path) -> None:
    async def mappings(slots: int) -> int:
        async with model_of(chance, slots=slots) as model:
            await model.warm()
            return sum(str(chance) in line for line in _system("maps"))

    if not _system("maps"):
        pytest.skip("this system does not tell which files a process has mapped")
    assert await mappings(1) == await mappings(4) >= 1


async def test_no_growth(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "m.gguf", ["▁One", "▁moment.", "▁{", '"tool":▁"get_balance",▁"arguments":▁{}}'])
    asked = [QUESTION._replace(tools=(BALANCE,), call_id=f"c{number}") for number in range(5)]
    async with model_of(path, slots=2) as model:
        objects, memory = [], []
        for _ in range(3):
            for _ in range(50):
                await asyncio.gather(*(all_of(model, request) for request in asked))
            gc.collect()
            objects.append(len(gc.get_objects()))
            memory.append(_resident_kilobytes())
    # 250 answers lie between two counts: one object or one sampler that is kept for each would show.
    assert abs(objects[2] - objects[1]) < 120, objects
    assert memory[2] - memory[1] < 4000, memory


def _resident_kilobytes() -> int:
    return next((int(line.split()[1]) for line in _system("status") if line.startswith("VmRSS")), 0)


def _system(name: str) -> list[str]:
    """What the system tells of this process; nothing where it does not."""
    path = Path("/proc/self") / name
    return path.read_text().splitlines() if path.exists() else []


STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a"
    " big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\""
)
"""How stories260K goes on from nothing, greedily: the expected text of llama2.c's own tests."""


async def test_a_trained_model_says_what_is_documented(tmp_path: Path) -> None:
    path = trained("stories260K-f32.gguf")
    (tmp_path / "nothing.jinja").write_text("{{ bos_token }}", encoding="utf-8")
    async with model_of(path, chat_template=str(tmp_path / "nothing.jinja"), max_tokens=100) as model:
        assert text_of(await all_of(model)).startswith(STORY)


async def test_a_trained_model_of_a_bank() -> None:
    async with model_of(trained("bank-tiny-2m-q8_0.gguf")) as model:
        await model.warm()
        assert text_of(await all_of(model)) == (
            "Your new card was posted on Monday and should reach you within five working days."
        )
        tools = (BALANCE, BALANCE._replace(name="get_card_status"))
        assert [each.name for each in calls_of(await all_of(model, QUESTION._replace(tools=tools)))] == [
            "get_card_status"
        ]
