"""What every engine of the llm stage must do, whatever thinks behind it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus.clock import SystemClock
from schemas.failure import Failure
from schemas.session import Exchange, Speaker
from services.llm.engine import Answer, EngineError, Request, Sentence, Step, ToolCall, ToolResult
from services.text.courtesies import courtesies
from tests.services.llm.chat.model import Reply, asks, play, says
from tests.services.llm.contract.cases import ANSWER, CASES, SENTENCES, EngineCase, Made, Plan
from tests.services.llm.harness import World, settings_with

APOLOGY = courtesies("en").wrong

pytestmark = pytest.mark.contract

SOON_S = 0.5
"""Within this a cancelled run is over: 50 ms of an engine's own, and the rest for a busy machine."""

RUNS = 120
ROUNDS = 3
TURNS = {
    "greeting": Request("call-1", "default", 0),
    "words": Request("call-1", "default", 1, "Where is my card that ends with 4271?", why="silence"),
    "keys": Request("call-1", "default", 1, digits="4271#", why="dtmf"),
    "silence": Request("call-1", "default", 3, why="timeout"),
    "blank": Request("call-1", "default", 3, " \n\t "),
    "unicode": Request("call-1", "default", 2, "¿Dónde está mi tarjeta? 我的卡在哪里 أين بطاقتي 👩‍👩‍👧 ẞ\u0000\u202e"),
}
HISTORY = tuple(
    Exchange(speaker=Speaker.AGENT if turn % 2 else Speaker.CALLER, text=f"Words of turn {turn}. " * 6, turn=turn)
    for turn in range(500)
)
HOUR = Request("call-1", "default", 500, "and then I said where is my card " * 1850, history=HISTORY)
"""An hour of talk: 500 exchanges, and 60,000 characters in one turn."""

FOUND = ToolResult({"verified": True, "customer_id": "C-1001", "name": "Alex Morgan"})
NOT_FOUND = ToolResult({"verified": False})
FAILED = ToolResult({}, "tool_failed")


def rows(*, follows: bool | None = None, tools: bool = False) -> Any:
    """The rows of these kinds, as parameters."""
    chosen = [
        case
        for case in CASES
        if (follows is None or case.follows is follows) and (not tools or case.follows or case.tool_turn)
    ]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


@contextlib.asynccontextmanager
async def made(case: EngineCase, folder: Path, *replies: Reply) -> AsyncIterator[Made]:
    if reason := case.missing():
        pytest.skip(reason)
    async with case.make(Plan(folder, replies or (says(ANSWER),))) as ready:
        yield ready


def sentences(steps: list[Step]) -> list[str]:
    return [step.text for step in steps if isinstance(step, Sentence)]


async def others() -> set[asyncio.Task[Any]]:
    """Tasks beside this test's own, once those that are done have ended. A server that a row runs on this loop keeps a
    task for each connection: it stands for another process, and its tasks are nobody's here."""
    for _ in range(3):
        await asyncio.sleep(0)
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not _of_a_server(task)}


def _of_a_server(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and Path(code.co_filename).match("aiohttp/web_*.py")


class TestCapabilities:
    @rows()
    async def test_they_are_of_the_right_kind(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path) as ready:
            can = ready.engine.capabilities
            assert can.tools is bool(ready.engine.tools)
            assert all(tag and isinstance(tag, str) for tag in can.languages)
            assert len({tool.name for tool in ready.engine.tools}) == len(ready.engine.tools)
            assert ready.engine.name and ready.engine.name.isascii()

    @rows(follows=True)
    async def test_streaming_means_that_a_sentence_comes_early(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path, says(ANSWER, pause_s=0.02)) as ready:
            assert ready.engine.capabilities.streaming is case.streams
            started = time.monotonic()
            times = [
                time.monotonic() - started
                async for step in ready.engine.open(TURNS["words"])
                if isinstance(step, Sentence)
            ]
            # The first sentence is a third of the answer: it comes long before the last token.
            assert (times[0] < 0.75 * times[-1]) is case.streams


class TestSteps:
    @rows()
    @pytest.mark.parametrize("turn", TURNS)
    async def test_they_end_with_one_answer(self, case: EngineCase, turn: str, tmp_path: Path) -> None:
        async with made(case, tmp_path) as ready:
            outcome = await play(ready.engine.open(TURNS[turn]))
            assert outcome.answer is not None
            assert all(text.strip() for text in outcome.said)
            assert outcome.answer.ttft_ms is None or outcome.answer.ttft_ms >= 0
            # What the next turn gets back must fit into the record.
            assert msgspec.json.decode(msgspec.json.encode(outcome.answer.slots), type=dict[str, str]) is not None

    @rows(follows=True)
    async def test_sentences_come_in_their_order(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path) as ready:
            outcome = await play(ready.engine.open(TURNS["words"]))
            assert outcome.said == SENTENCES
            assert outcome.answer is not None and outcome.answer.ttft_ms is not None

    @rows(follows=True)
    async def test_words_of_all_scripts_come_through(self, case: EngineCase, tmp_path: Path) -> None:
        text = "Größe, naïve, Ελληνικά. 我的卡在哪里。 عربي हिन्दी 👩‍👩‍👧."
        async with made(case, tmp_path, says(text)) as ready:
            outcome = await play(ready.engine.open(TURNS["unicode"]))
            assert "".join(outcome.said).replace(" ", "") == text.replace(" ", "")
            told = ready.told()
            assert "我的卡在哪里" in told and "¿Dónde está mi tarjeta?" in told
            assert "\u0000" not in told and "\u202e" not in told

    @rows()
    async def test_an_hour_of_talk(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path) as ready:
            ticks: list[float] = []

            async def tick() -> None:
                while True:
                    ticks.append(time.monotonic())
                    await asyncio.sleep(0.005)

            ticking = asyncio.create_task(tick())
            outcome = await play(ready.engine.open(HOUR))
            ticking.cancel()
            assert outcome.answer is not None and outcome.said
            gaps = [after - before for before, after in itertools.pairwise(ticks)]
            # Blocking work runs elsewhere: 20 ms are the edge's frame, the rest is for a busy machine.
            assert max(gaps, default=0) < 0.3

    @rows(follows=True)
    async def test_an_empty_answer_and_one_that_breaks_off(self, case: EngineCase, tmp_path: Path) -> None:
        for reply in (Reply(), Reply(["  \n"]), Reply(["Your card "], reason="")):
            async with made(case, tmp_path, reply) as ready:
                with pytest.raises(EngineError) as error:
                    await play(ready.engine.open(TURNS["words"]))
                assert "card" not in str(error.value)

    @rows()
    async def test_what_was_said_before_a_takeover_is_not_said_twice(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path) as ready:
            whole = (await play(ready.engine.open(TURNS["words"]))).said
            for count in range(1, len(whole) + 1):
                request = TURNS["words"]._replace(said=tuple(whole[:count]))
                outcome = await play(ready.engine.open(request))
                assert outcome.said == whole
                assert outcome.answer is not None


class TestCancel:
    @rows()
    async def test_after_each_step(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path, says(ANSWER, pause_s=0.002)) as ready:
            before = await others()
            for count in range(5):
                run = ready.engine.open(TURNS["words"])
                steps = aiter(run)
                for _ in range(count):
                    step = await anext(steps, None)
                    if step is None or isinstance(step, Answer | ToolCall):
                        break
                started = time.monotonic()
                await run.cancel()
                assert time.monotonic() - started < SOON_S
                await self._is_quiet(ready, before)
                left = [step async for step in steps]
                assert not any(isinstance(step, Sentence) for step in left[1:])

    @rows(follows=True)
    async def test_while_the_model_is_silent(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path, says(ANSWER, pause_s=60)) as ready:
            before = await others()
            run = ready.engine.open(TURNS["words"])
            waiting = asyncio.create_task(play(run))
            await asyncio.sleep(0.05)
            started = time.monotonic()
            await run.cancel()
            outcome = await asyncio.wait_for(waiting, SOON_S)
            assert time.monotonic() - started < SOON_S
            assert outcome.steps == []
            await self._is_quiet(ready, before)

    @rows(follows=True)
    async def test_of_the_task_that_waits(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path, says(ANSWER, pause_s=60)) as ready:
            before = await others()
            waiting = asyncio.create_task(play(ready.engine.open(TURNS["words"])))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(waiting, SOON_S)
            await self._is_quiet(ready, before)

    @rows()
    async def test_twice_and_late(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path) as ready:
            unused = ready.engine.open(TURNS["words"])
            await unused.cancel()
            await unused.cancel()
            run = ready.engine.open(TURNS["words"])
            await play(run)
            await run.cancel()
            assert (await play(ready.engine.open(TURNS["words"]))).answer is not None

    @rows(tools=True)
    async def test_while_a_tool_runs(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path, *VERIFY) as ready:
            before = await others()
            run = ready.engine.open(case.tool_turn or TURNS["words"])
            waiting = asyncio.create_task(play_until_tool(run))
            await asyncio.sleep(0.05)
            await run.cancel()
            assert await asyncio.wait_for(waiting, SOON_S) is False
            await self._is_quiet(ready, before)

    async def _is_quiet(self, ready: Made, before: set[asyncio.Task[Any]]) -> None:
        """No task is left behind, and the model does no more work."""
        deadline = time.monotonic() + SOON_S
        while left := await others() - before:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.005)
        if ready.work is not None:
            await asyncio.sleep(0.02)  # what a server had on its way when it was told
            done = ready.work()
            await asyncio.sleep(0.03)
            assert ready.work() == done


VERIFY = (asks("verify_customer", '{"card_last_four": "4271"}'), says(ANSWER))


async def play_until_tool(run: Any) -> bool:
    """Take the steps of a run whose tool never returns; whether it came to an answer."""
    return any(isinstance(step, Answer) for step in [step async for step in run])


class TestTools:
    @rows(tools=True)
    @pytest.mark.parametrize("result", [FOUND, NOT_FOUND, FAILED], ids=["found", "not found", "failed"])
    async def test_whatever_a_tool_says_there_is_an_answer(
        self, case: EngineCase, result: ToolResult, tmp_path: Path
    ) -> None:
        async with made(case, tmp_path, *VERIFY) as ready:
            assert ready.engine.capabilities.tools
            outcome = await play(
                ready.engine.open(case.tool_turn or TURNS["words"]), {"verify_customer": lambda arguments: result}
            )
            assert ("verify_customer", {"card_last_four": "4271"}) in outcome.called
            assert outcome.said and outcome.answer is not None

    @rows(follows=True)
    async def test_the_model_is_told_what_a_tool_said(self, case: EngineCase, tmp_path: Path) -> None:
        for result, told in ((FOUND, "Alex Morgan"), (FAILED, "tool_failed")):
            async with made(case, tmp_path, *VERIFY) as ready:
                outcome = await play(ready.engine.open(TURNS["words"]), {"verify_customer": lambda _, r=result: r})
                assert outcome.said == SENTENCES
                assert told in ready.told()

    @rows(follows=True)
    async def test_what_is_no_tool_and_fits_no_tool_is_put_right(self, case: EngineCase, tmp_path: Path) -> None:
        for name, arguments, told in (
            ("open_safe", "{}", "no tool of this name"),
            ("verify_customer", '{"card_last_four": "42', "no JSON object"),
            ("verify_customer", '{"card_last_four": "abcd"}', "do not fit"),
            ("account_balance", '{"customer_id": "C-1002"}', "not verified"),
        ):
            async with made(case, tmp_path, asks(name, arguments), says(ANSWER)) as ready:
                outcome = await play(ready.engine.open(TURNS["words"]))
                assert outcome.called == []
                assert outcome.said == SENTENCES
                assert told in ready.told()

    @rows(follows=True)
    async def test_a_model_that_never_stops_asking(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path, VERIFY[0]) as ready:
            with pytest.raises(EngineError):
                await play(ready.engine.open(TURNS["words"]), {"verify_customer": lambda arguments: FOUND})


class TestManyRuns:
    @rows()
    async def test_at_once(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path, says(ANSWER, pause_s=0.001)) as ready:
            requests = [TURNS["words"]._replace(call_id=f"call-{number}") for number in range(10)]
            outcomes = await asyncio.gather(*(play(ready.engine.open(request)) for request in requests))
            assert all(outcome.answer is not None for outcome in outcomes)
            if case.follows:
                assert {tuple(outcome.said) for outcome in outcomes} == {tuple(SENTENCES)}

    @rows()
    async def test_nothing_grows(self, case: EngineCase, tmp_path: Path) -> None:
        async with made(case, tmp_path) as ready:

            async def repeat(times: int) -> int:
                for number in range(times):
                    await play(ready.engine.open(TURNS["words"]._replace(call_id=f"call-{number}")))
                gc.collect()
                return len(gc.get_objects())

            await repeat(50)
            counts, tasks = [await repeat(10)], await others()
            for _ in range(ROUNDS):
                counts.append(await repeat(RUNS))
                if counts[-1] - counts[-2] < RUNS / 2:
                    break
            # Less than half an object a run: whatever a run kept would be far more, in every round; what something else
            # in this process makes meanwhile comes once.
            assert counts[-1] - counts[-2] < RUNS / 2, counts
            assert len(await others()) <= len(tasks)


@rows(follows=True)
async def test_a_silent_model_has_a_deadline(case: EngineCase, tmp_path: Path) -> None:
    async with made(case, tmp_path, says("Hello."), says(ANSWER, pause_s=60)) as ready:
        world = World(clock=SystemClock())
        await world.begin()
        # Long enough for the greeting on a busy machine, and far from the minute that the model is silent.
        await world.work(ready.engine, settings=settings_with(deadline_ms=800, preemptive=False, filler_ms=0))
        await world.answer()
        world.end_turn(1, "where is my card")
        await world.rest(1200)
        assert world.answer_to(1) == list(APOLOGY)
        assert [failure.code for failure in world.of(Failure) if failure.turn == 1] == ["engine_timeout"]
        await world.hang_up()
