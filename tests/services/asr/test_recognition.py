"""Driving a run: threads, deadlines, errors, times."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from functools import partial

import pytest
from structlog.testing import capture_logs

from bus.clock import ManualClock
from schemas.asr import Word
from schemas.llm import ListenFor
from services.asr.engine import Capabilities, Engine, Transcript
from services.asr.hearing import Piece
from services.asr.pool import EnginePool
from services.asr.recognition import Outcome, Recognition
from tests.services.asr.engines import BrokenEngine, ScriptedEngine, ScriptedRun

pytestmark = pytest.mark.unit


class Listener:
    """A recognition, and what it said."""

    def __init__(self, engine: Engine, pool: EnginePool | None = None) -> None:
        self.clock = ManualClock()
        self.partials: list[str] = []
        self.outcomes: list[Outcome] = []
        self.idle = 0
        self.recognition = Recognition(
            engine,
            ListenFor(),
            pool=pool or EnginePool(1),
            clock=self.clock,
            deadline_ms=500,
            on_partial=self.partials.append,
            on_outcome=self.outcomes.append,
            on_idle=self._on_idle,
        )

    def _on_idle(self) -> None:
        self.idle += 1

    def feed(self, milliseconds: int, at_ms: float = 0.0) -> None:
        self.recognition.feed(Piece(at_ms, 7, b"\1\0" * 8 * milliseconds))


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.001)


def at_work(listener: Listener) -> bool:
    """A thread is in the engine."""
    job = listener.recognition._job
    return job is not None and job.at_work


async def test_a_blocking_engine_works_in_slices_off_the_loop() -> None:
    threads = set()

    class Run(ScriptedRun):
        def accept(self, pcm: bytes) -> str | None:
            threads.add(threading.current_thread().name)
            assert len(pcm) <= 1600
            return super().accept(pcm)

    engine = ScriptedEngine("hello", blocking=True)
    engine.open = lambda listen_for: Run("hello", False, None)  # type: ignore[method-assign]
    listener = Listener(engine)
    listener.feed(1000)
    assert listener.recognition.busy
    await until(lambda: listener.idle)
    listener.recognition.finish()
    await until(lambda: listener.outcomes)
    assert listener.outcomes == [Outcome("hello", 0.9, ())]
    assert threads == {"engine-1"}
    assert not listener.recognition.busy


async def test_audio_is_resampled_for_an_engine_that_wants_another_rate() -> None:
    engine = ScriptedEngine("hello")
    engine.capabilities = Capabilities(blocking=False, sample_rates_hz=(16000,))
    listener = Listener(engine)
    for _ in range(10):
        listener.feed(20)
    listener.recognition.finish()
    assert engine.runs[0].accepted == 16000 // 5 * 2


async def test_word_times_are_media_times_across_a_jump() -> None:
    words = (Word(text="one", start_ms=0, end_ms=50), Word(text="two", start_ms=150, end_ms=190))
    engine = ScriptedEngine("one two")
    listener = Listener(engine)
    listener.feed(100, at_ms=1000)
    listener.feed(100, at_ms=5000)
    engine.runs[0].finish = lambda: Transcript("one two", 1.0, words)  # type: ignore[method-assign]
    listener.recognition.finish()
    assert [(word.start_ms, word.end_ms) for word in listener.outcomes[0].words] == [(1000, 1050), (5050, 5090)]


async def test_a_run_without_audio_has_an_outcome_too() -> None:
    listener = Listener(ScriptedEngine("nothing"))
    listener.recognition.finish()
    assert listener.outcomes[0].text == "nothing"


async def test_an_error_is_kept_until_the_final_is_wanted() -> None:
    listener = Listener(BrokenEngine())
    listener.feed(100)
    listener.feed(100)
    assert listener.outcomes == []
    listener.recognition.finish()
    assert [(outcome.error, outcome.text) for outcome in listener.outcomes] == [("engine_failed", "")]
    assert listener.recognition.through_sequence == 7


async def test_an_error_at_the_end_keeps_the_last_partial() -> None:
    engine = ScriptedEngine("one two three", partials=True, blocking=True)
    listener = Listener(engine)
    listener.feed(900)
    await until(lambda: listener.idle)

    def fail() -> Transcript:
        raise RuntimeError("secret words")

    def cancel() -> None:
        raise RuntimeError("secret words")

    engine.runs[0].finish = fail  # type: ignore[method-assign]
    engine.runs[0].cancel = cancel  # type: ignore[method-assign]
    with capture_logs() as logs:
        listener.recognition.finish()
        await until(lambda: listener.outcomes)
    assert [entry["event"] for entry in logs] == ["engine_failed", "engine_cancel_failed"]
    assert "secret words" not in str(logs)
    assert listener.outcomes == [Outcome("one two", 0.0, (), "engine_failed", "engine scripted raised RuntimeError")]
    assert listener.partials[-1] == "one two"


@pytest.mark.parametrize(
    "given",
    [
        Transcript(None),  # type: ignore[arg-type]
        Transcript("one", None),  # type: ignore[arg-type]
        Transcript("one", math.nan),
        Transcript("one", 1.0, (Word(text="one", start_ms=None, end_ms=9),)),  # type: ignore[arg-type]
        Transcript("one", 1.0, None),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("blocking", [True, False])
async def test_a_transcript_that_is_none_is_a_failure(given: Transcript, *, blocking: bool) -> None:
    engine = ScriptedEngine("one", blocking=blocking)
    listener = Listener(engine)
    listener.feed(100)
    await until(lambda: listener.idle)
    engine.runs[0].finish = lambda: given  # type: ignore[method-assign]
    listener.recognition.finish()
    await until(lambda: listener.outcomes)
    assert [(outcome.error, outcome.text) for outcome in listener.outcomes] == [("engine_failed", "")]


async def test_a_transcript_is_such_that_events_can_hold_it() -> None:
    engine = ScriptedEngine("one")
    listener = Listener(engine)
    listener.feed(100)
    words = (Word(text="one", start_ms=0, end_ms=90, confidence=-0.5),)
    engine.runs[0].finish = lambda: Transcript("one \ud800", 87.0, words)  # type: ignore[method-assign]
    listener.recognition.finish()
    (outcome,) = listener.outcomes
    assert (outcome.text, outcome.confidence, outcome.words[0].confidence) == ("one ?", 1.0, 0.0)


async def test_out_of_time_the_pool_goes_on_and_the_run_is_dropped_when_it_returns() -> None:
    pool = EnginePool(1)
    engine = ScriptedEngine("late", blocking=True, hang=True)
    listener = Listener(engine, pool)
    listener.feed(60)
    await until(lambda: engine.runs and not listener.recognition.busy)
    listener.recognition.finish()
    await until(lambda: at_work(listener))  # a thread that begins later finds its work not wanted any more
    await listener.clock.advance(499)
    assert listener.outcomes == []
    await listener.clock.advance(1)
    assert [outcome.error for outcome in listener.outcomes] == ["engine_timeout"]

    other = Listener(ScriptedEngine("quick", blocking=True), pool)
    other.recognition.finish()
    await until(lambda: other.outcomes)
    engine.free()
    await until(lambda: not engine.runs[0].working)
    await listener.clock.advance(1000)
    assert len(listener.outcomes) == 1
    pool.close()


async def test_a_cancelled_run_gives_back_what_it_holds_once_the_engine_is_out_of_it() -> None:
    entered, may_leave = threading.Event(), threading.Event()

    class Run(ScriptedRun):
        def accept(self, pcm: bytes) -> str | None:
            entered.set()
            may_leave.wait(5)
            return None

    run = Run("x", False, None)
    engine = ScriptedEngine("x", blocking=True)
    engine.open = lambda listen_for: run  # type: ignore[method-assign]
    listener = Listener(engine)
    listener.feed(60)
    await asyncio.to_thread(entered.wait, 5)
    listener.recognition.cancel()
    assert not run.cancelled
    may_leave.set()
    await until(lambda: run.cancelled)
    listener.recognition.cancel()
    listener.recognition.finish()
    listener.feed(60)
    await asyncio.sleep(0.01)
    assert listener.outcomes == []


async def test_a_run_that_rests_is_given_back_at_once() -> None:
    engine = ScriptedEngine("x", blocking=True)
    listener = Listener(engine)
    listener.feed(60)
    await until(lambda: listener.idle)
    listener.recognition.cancel()
    assert engine.runs[0].cancelled


async def test_the_pool_survives_a_loop_that_is_gone() -> None:
    pool = EnginePool(1)
    asked, ended = threading.Event(), threading.Event()

    def elsewhere() -> None:
        async def ask() -> None:
            pool.submit(lambda: (asked.set(), ended.wait(5)), lambda result, error: None)
            await asyncio.to_thread(asked.wait, 5)

        asyncio.run(ask())

    await asyncio.to_thread(elsewhere)
    ended.set()
    results: list[object] = []
    pool.submit(lambda: 42, lambda result, error: results.append(result))
    await until(lambda: results)
    assert results == [42]


async def test_work_that_waits_past_its_time_is_not_done() -> None:
    pool = EnginePool(1)
    held = ScriptedEngine("held", blocking=True, hang=True)
    first = Listener(held, pool)
    first.recognition.finish()
    await until(lambda: held.runs)
    engine = ScriptedEngine("never", blocking=True)
    second = Listener(engine, pool)
    second.feed(20)
    second.recognition.finish()
    await second.clock.advance(500)
    assert [outcome.error for outcome in second.outcomes] == ["engine_timeout"]
    held.free()
    await until(lambda: first.outcomes)
    await asyncio.sleep(0.05)
    assert engine.runs == []


async def test_a_run_that_is_cancelled_in_an_engine_that_hangs_costs_nobody_else_a_thread() -> None:
    pool = EnginePool(1)
    engine = ScriptedEngine("hangs", blocking=True, hang=True)
    gone = Listener(engine, pool)
    gone.recognition.finish()
    await until(lambda: at_work(gone))
    gone.recognition.cancel()
    other = Listener(ScriptedEngine("quick", blocking=True), pool)
    other.recognition.finish()
    await gone.clock.advance(499)
    assert (pool.threads, other.outcomes) == (1, [])
    await gone.clock.advance(1)
    await until(lambda: other.outcomes)
    assert other.outcomes[0].error == ""
    engine.free()
    pool.close()


async def test_threads_that_replace_hanging_ones_are_few_and_go_when_those_come_back() -> None:
    pool = EnginePool(1)
    for _ in range(2):
        free = threading.Event()
        # Each job waits for the event of its own round: some of the first are still to be done when the second begins.
        jobs = [pool.submit(partial(free.wait, 10), lambda result, error: None) for _ in range(20)]
        for threads in range(1, 10):
            await until(lambda: sum(job.at_work for job in jobs) == threads)  # noqa: B023
            for job in [job for job in jobs if job.at_work] * 2:
                pool.replace_thread(job)
            assert pool.threads == min(threads + 1, 9)
        free.set()
        await until(lambda: pool.threads == 1)
    pool.close()
