"""Engines that stand in for each other: who answers, and who answers the rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from config.settings import FailoverSection, LlmSection, Settings
from services.llm.engine import Answer, EngineError, Request, Sentence, Step, ToolCall, ToolResult
from services.llm.failover import FailoverEngine, FailoverRun, load_engines
from services.llm.manners import Manners
from services.llm.tools import ToolSpec
from services.resilience.attempts import CUT, EMPTY, FAILED, TIMEOUT, StageDownError
from tests.fakes.virtual import run_virtual
from tests.services.llm.thinkers import HANG, Script, Thinker, panel
from tests.services.resilience.test_attempts import Counted

pytestmark = pytest.mark.unit

REQUEST = Request("call", "tenant", 1, "where is my card")
CALL = ToolCall("t1", "status", {"card": "4271"})


class NoArguments(msgspec.Struct):
    pass


SPEC = ToolSpec("status", "Status of a card", NoArguments, lambda arguments, context: {})


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtual(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Heard:
    """What came of a run."""

    def __init__(self, run: FailoverRun) -> None:
        self.run = run
        self.said: list[str] = []
        self.tools: list[ToolCall] = []
        self.answer: Answer | None = None
        self.first_ms = -1.0
        self.gap_ms = 0.0
        self.error: Exception | None = None

    async def to_the_end(self) -> Heard:
        loop = asyncio.get_running_loop()
        begun = last = loop.time()
        try:
            async for step in self.run:
                self.first_ms = 1000 * (loop.time() - begun) if self.first_ms < 0 else self.first_ms
                self.gap_ms, last = max(self.gap_ms, 1000 * (loop.time() - last)), loop.time()
                self.take(step)
        except Exception as error:
            self.error = error
        finally:
            await self.run.cancel()
        return self

    def take(self, step: Step) -> None:
        if isinstance(step, Sentence):
            self.said.append(step.text)
        elif isinstance(step, ToolCall):
            self.tools.append(step)
            self.run.return_tool(step.id, ToolResult({"number": len(self.tools)}))
        else:
            self.answer = step

    @property
    def takeovers(self) -> list[str]:
        return [takeover.detail for takeover in self.run.takeovers]


async def ask(engine: FailoverEngine, request: Request = REQUEST) -> Heard:
    return await Heard(engine.open(request)).to_the_end()


BROKEN: list[tuple[str, Script, str, str, float]] = [
    ("fails at once", [ValueError("secret")], FAILED, "ValueError", 0),
    ("ends without a word", [], EMPTY, "EmptyError", 0),
    ("hangs", [HANG], TIMEOUT, "nothing for 2000 ms", 2000),
    ("no step", [b"<html>"], FAILED, "RubbishError", 0),
    ("no text", [Sentence(None)], FAILED, "RubbishError", 0),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("script", "why", "kind", "first_ms"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_who_gives_no_step_is_succeeded_by_the_next(script: Script, why: str, kind: str, first_ms: float) -> None:
    @virtual
    async def scenario() -> None:
        figures = Counted()
        first, second = Thinker("a"), Thinker("b")
        first.always = script
        heard = await ask(panel(first, second, figures=figures))
        assert (heard.error, heard.said) == (None, ["b one.", "b two."])
        assert heard.answer is not None and heard.answer.ttft_ms == pytest.approx(first_ms + 100, abs=1)
        assert heard.first_ms == pytest.approx(first_ms, abs=1)
        assert heard.takeovers == [f"engine a: {kind}; b took over"]
        assert set(figures.of("error")) == {("a", why)}
        assert len(first.requests) == (1 if why == TIMEOUT else 2)
        assert first.cancelled == (0 if why == EMPTY else len(first.requests))
        assert heard.run.engine == "b"

    scenario()


def test_an_engine_that_can_not_even_be_opened_is_passed_over() -> None:
    @virtual
    async def scenario() -> None:
        first, second = Thinker("a"), Thinker("b")
        first.open = None  # type: ignore[assignment,method-assign]
        assert (await ask(panel(first, second))).said == ["b one.", "b two."]

    scenario()


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize(
    ("ending", "gap_ms"),
    [([OSError("x")], 0), ([HANG], 2000), ([], 0), ([7], 0)],
    ids=["fails", "hangs", "ends", "rubbish"],
)
def test_who_breaks_off_is_succeeded_and_nothing_is_said_twice(ending: Script, gap_ms: float, repeats: bool) -> None:
    @virtual
    async def scenario() -> None:
        figures = Counted()
        first, second = Thinker("a", ["First.", "Second.", *ending]), Thinker("b", repeats=repeats)
        second.always = ["Third.", None]
        heard = await ask(panel(first, second, figures=figures))
        assert (heard.error, heard.said) == (None, ["First.", "Second.", "Third."])
        assert second.requests[0].said == ("First.", "Second.")
        assert second.requests[0]._replace(said=()) == REQUEST
        assert heard.gap_ms == pytest.approx(gap_ms, abs=1)
        assert figures.of("error") == [("a", TIMEOUT if ending == [HANG] else CUT)]
        assert heard.answer is not None and heard.answer.ttft_ms is None, "whose first token it was is not known"
        assert heard.run.engine == "b"

    scenario()


@virtual
async def test_an_engine_that_cancels_the_task_it_runs_in_has_failed():
    class Rude(Thinker):
        async def steps(self, request, run):
            yield Sentence("First.")
            raise asyncio.CancelledError

    second = Thinker("b", ["Second.", None])
    assert (await ask(panel(Rude("a"), second))).said == ["First.", "Second."]


@virtual
async def test_who_says_something_else_in_place_of_what_was_said_is_heard_from_there():
    first, second = Thinker("a", ["First.", "Second.", OSError("x")]), Thinker("b", repeats=False)
    second.always = ["First.", "Otherwise.", None]
    assert (await ask(panel(first, second))).said == ["First.", "Second.", "Otherwise."]
    second.always = ["Hello.", "First.", "Second.", None]
    first.scripts = [["First.", "Second.", OSError("x")]]
    assert (await ask(panel(first, second))).said == ["First.", "Second.", "Hello.", "First.", "Second."]


@pytest.mark.parametrize("repeats", [True, False])
def test_what_a_dead_worker_has_said_stands_where_it_was(repeats: bool) -> None:
    @virtual
    async def scenario() -> None:
        request = REQUEST._replace(said=("One.", "Two."))
        first, second = Thinker("a", ["Three.", OSError("x")], repeats=repeats), Thinker("b", repeats=repeats)
        second.always = ["Four.", None]
        heard = await ask(panel(first, second), request)
        assert heard.said == ["One.", "Two.", "Three.", "Four."]
        assert (first.requests[0].said, second.requests[0].said) == (("One.", "Two."), ("One.", "Two.", "Three."))

    scenario()


@virtual
async def test_a_repetition_is_no_sign_of_life():
    first = Thinker("a")
    first.always = [HANG]
    heard = await ask(panel(first, Thinker("b")), REQUEST._replace(said=("One.",)))
    assert heard.said == ["One.", "b one.", "b two."]
    assert heard.takeovers == ["engine a: nothing for 2000 ms; b took over"]


@virtual
async def test_a_tool_that_has_returned_is_not_run_for_the_next_engine():
    first, second = Thinker("a", ["First.", CALL, OSError("x")]), Thinker("b")
    again, other = CALL._replace(id="0-0"), CALL._replace(id="0-1", arguments={"card": "1111"})
    second.always = [again, other, again._replace(id="0-2"), "Second.", None]
    heard = await ask(panel(first, second))
    assert heard.said == ["First.", "Second."]
    assert heard.tools == [CALL, other, again._replace(id="0-2")], "an engine that asks twice gets it twice"
    assert [result.result["number"] for result in second.results] == [1, 2, 3]
    assert [result.result["number"] for result in first.results] == [1]


@virtual
async def test_three_that_break_off_one_after_the_other():
    engines = [Thinker(name, [f"{name} said.", OSError("x")]) for name in "abc"]
    for engine in engines:
        engine.always = ["The end.", None]
    heard = await ask(panel(*engines))
    assert heard.said == ["a said.", "b said.", "c said.", "The end."]
    assert heard.run.engine == "a"
    assert engines[0].requests[1].said == ("a said.", "b said.", "c said.")


@pytest.mark.parametrize("script", [[ValueError("secret words")], [HANG]])
def test_when_nobody_is_left_the_error_names_everybody(script: Script) -> None:
    @virtual
    async def scenario() -> None:
        figures = Counted()
        first, second = Thinker("a"), Thinker("b")
        first.always, second.always = script, [EngineError("no credit left")]
        heard = await ask(panel(first, second, figures=figures))
        kind = "ValueError" if isinstance(script[0], Exception) else "nothing for 2000 ms"
        assert isinstance(heard.error, StageDownError)
        assert str(heard.error) == f"a: {kind}; b: EngineError"
        assert (heard.takeovers, figures.of("failover")) == ([], [])

    scenario()


@virtual
async def test_an_open_breaker_costs_nothing_and_one_run_tries_the_engine_again():
    figures = Counted()
    first, second = Thinker("a"), Thinker("b")
    first.always = [HANG]
    engine = panel(first, second, figures=figures)
    for _ in range(5):
        assert (await ask(engine)).first_ms == pytest.approx(2000, abs=1)
    for _ in range(20):
        assert (await ask(engine)).first_ms == 0
    assert len(first.requests) == 5
    await asyncio.sleep(30.1)
    at_once = await asyncio.gather(ask(engine), ask(engine), ask(engine))
    assert sorted(round(heard.first_ms) for heard in at_once) == [0, 0, 2000]
    await asyncio.sleep(30.1)
    first.always = None
    assert (await ask(engine)).said == ["a one.", "a two."]
    assert figures.of("state") == [("a", 0), ("b", 0), ("a", 2), ("a", 1), ("a", 2), ("a", 1), ("a", 0)]


@virtual
async def test_a_tool_that_takes_long_is_not_the_engines_fault():
    first, second = Thinker("a", [CALL, "Second.", None]), Thinker("b")
    run = panel(first, second).open(REQUEST)
    steps = aiter(run)
    assert await anext(steps) == CALL
    await asyncio.sleep(4)
    run.return_tool(CALL.id, ToolResult({}))
    assert await anext(steps) == Sentence("Second.")
    assert isinstance(await anext(steps), Answer)
    assert second.requests == []


@virtual
async def test_an_engine_may_think_while_its_last_sentence_is_heard():
    long = "I can see that your card was sent on Monday, and that it is in the post."
    for pause_s, engine in ((4.6, "a"), (4.7, "b")):
        first, second = Thinker("a", [long, pause_s, "Second.", None]), Thinker("b", ["Second.", None])
        heard = await ask(panel(first, second))
        assert (heard.said, heard.run.engine) == ([long, "Second."], engine)


@virtual
async def test_hedged_the_slow_one_that_is_still_first_stays():
    figures = Counted()
    first, second = Thinker("a", [0.3, "Mine.", None]), Thinker("b", [0.5, CALL, "Not mine.", None])
    heard = await ask(panel(first, second, figures=figures, hedge_ms=200))
    assert (heard.said, heard.tools) == (["Mine."], [])
    assert figures.of("hedge") == [("primary",)]
    assert second.cancelled == 1


@virtual
async def test_hedged_a_tool_of_the_one_that_is_later_is_never_run():
    figures = Counted()
    first, second = Thinker("a", [0.3, CALL, None]), Thinker("b", [CALL._replace(id="b"), "Mine.", None])
    heard = await ask(panel(first, second, figures=figures, hedge_ms=200))
    assert [call.id for call in heard.tools] == ["b"]
    assert heard.said == ["Mine."]
    assert (figures.of("hedge"), figures.of("failover"), figures.of("error")) == ([("hedge",)], [], [])
    assert first.cancelled == 1


@virtual
async def test_hedged_both_in_the_same_moment_only_one_is_heard():
    first, second = Thinker("a", [0.3, CALL, "Mine.", None]), Thinker("b", [0.1, CALL, "Yours.", None])
    heard = await ask(panel(first, second, hedge_ms=200))
    assert len(heard.tools) == 1
    assert len(heard.said) == 1


@pytest.mark.parametrize(
    ("script", "at_ms"),
    [([HANG], 100), ([ValueError("x")], 20), (["One.", 0.1, "Two.", HANG], 50), (["One.", HANG], 500)],
)
@pytest.mark.parametrize("hedge_ms", [0, 30])
def test_it_ends_when_it_is_cancelled(script: Script, at_ms: int, hedge_ms: int) -> None:
    @virtual
    async def scenario() -> None:
        first, second = Thinker("a"), Thinker("b", [HANG])
        first.always = script
        run = panel(first, second, hedge_ms=hedge_ms, failover=FailoverSection(backoff_ms=5000)).open(REQUEST)
        task = asyncio.create_task(Heard(run).to_the_end())
        await asyncio.sleep(at_ms / 1000)
        await run.cancel()
        await run.cancel()
        heard = await asyncio.wait_for(task, 0.05)
        assert heard.error is None and heard.answer is None
        await asyncio.sleep(0.001)
        assert len(asyncio.all_tasks()) == 1
        assert [step async for step in run] == []

    scenario()


@virtual
async def test_an_engine_that_does_not_let_itself_be_stopped_keeps_nobody_waiting():
    class Stubborn(Thinker):
        def open(self, request):
            run = super().open(request)
            run.cancel = lambda: asyncio.sleep(3600)
            return run

    first = Stubborn("a")
    first.always = [HANG]
    heard = await ask(panel(first, Thinker("b")))
    assert heard.first_ms == pytest.approx(2000, abs=1)
    await asyncio.sleep(2.1)
    assert len(asyncio.all_tasks()) == 1, "and is left alone in the end"


@virtual
async def test_nothing_is_left_behind_by_500_runs():
    first, second = Thinker("a"), Thinker("b")
    scripts: list[Script | None] = [None, [OSError("x")], [HANG], ["One.", OSError("x")], ["One.", HANG], [CALL, 7], []]
    engine = panel(first, second, hedge_ms=300, failover=FailoverSection(failures=100, backoff_ms=5))
    for number in range(500):
        first.always = scripts[number % len(scripts)]
        heard = Heard(engine.open(REQUEST))
        if number % 5:
            assert (await heard.to_the_end()).error is None
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(heard.to_the_end(), number % 3 / 1000)
    await asyncio.sleep(0.01)
    assert len(asyncio.all_tasks()) == 1


@virtual
async def test_tools_and_manners_are_those_of_the_first():
    first, second = Thinker("a", tools=(SPEC,)), Thinker("b")
    engine = panel(first, second)
    assert engine.manners == Manners()
    first.manners = Manners(fillers=("Well.",))  # type: ignore[attr-defined]
    await engine.warm()
    assert (engine.name, engine.tools, engine.manners.fillers) == ("a,b", (SPEC,), ("Well.",))
    assert engine.capabilities.tools
    await engine.close()
    assert (first.closed, second.closed) == (1, 1)


def test_who_lacks_a_tool_is_told_at_the_start(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run_virtual(panel(Thinker("a", tools=(SPEC,)), Thinker("b")).warm())
    assert "engine b can't use status, which a can" in "".join(capsys.readouterr()) + caplog.text


@virtual
async def test_one_that_can_not_be_loaded_is_left_out_until_it_can():
    first, second = Thinker("a", warms=False), Thinker("b")
    engine = panel(first, second)
    await engine.warm()
    assert (await ask(engine)).said == ["b one.", "b two."]
    await asyncio.sleep(31)
    first.warms = True
    await asyncio.sleep(31)
    assert first.warmed == 3
    assert (await ask(engine)).said == ["a one.", "a two."]


@virtual
async def test_with_none_that_can_be_loaded_the_first_ones_error_counts():
    with pytest.raises(OSError, match="no such model"):
        await panel(Thinker("a", warms=False), Thinker("b", warms=False)).warm()


def test_engines_of_the_settings() -> None:
    def settings(engine: str, fallbacks: str) -> Settings:
        return Settings(llm=LlmSection(engine=engine, fallbacks=fallbacks))

    assert load_engines(settings("instant", "")).name == "instant"
    assert load_engines(settings("scripted", "instant,")).name == "scripted,instant"
    for fallbacks, told in (("instant", "named twice"), ("nothing", "does not exist")):
        with pytest.raises(EngineError, match=told):
            load_engines(settings("instant", fallbacks))
