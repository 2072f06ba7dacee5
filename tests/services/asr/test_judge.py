"""What calls ask the turn model, and what comes of it: in time, late, failing, replaced, closed, in a queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from bus.clock import ManualClock, SystemClock
from services.asr import judge as judge_module
from services.asr.hearing import Piece
from services.asr.judge import HANGS_LIMIT, HUNG_MS, LEAD_MS, SPARE_MS, VERDICT_DEADLINE_MS, TurnDesk, TurnJudge
from services.asr.pool import EnginePool, Job
from services.asr.turn import values as v
from services.asr.turn_models.instant import InstantModel

pytestmark = pytest.mark.unit

MS = 16
"""Bytes of a millisecond."""


class HandPool(EnginePool):
    """Jobs wait until they are told to be done."""

    def __init__(self) -> None:
        super().__init__(threads=0)
        self.jobs: list[Job] = []
        self.replaced = 0

    def submit(self, work: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> Job:
        self.jobs.append(Job(work, done))
        return self.jobs[-1]

    def replace_thread(self, job: Job) -> None:
        self.replaced += 1

    def do_next(self) -> None:
        job = self.jobs.pop(0)
        try:
            result = job.work()
        except Exception as error:
            job.done(None, error)
        else:
            job.done(result, None)


class NotingModel(InstantModel):
    """Remembers what it was given; raises ``error`` if there is one."""

    def __init__(self, sure: float = 0.8) -> None:
        super().__init__(sure)
        self.heard: list[bytes] = []
        self.error: Exception | None = None

    def probability(self, pcm: bytes) -> float:
        self.heard.append(pcm)
        if self.error is not None:
            raise self.error
        return super().probability(pcm)


class Line:
    """One call's judge and all that it says."""

    def __init__(self, desk: TurnDesk) -> None:
        self.said: list[v.Verdict | str] = []
        self.judge = TurnJudge(desk, on_verdict=self.said.append, on_failure=self.said.append)

    def hear(self, start_ms: int, duration_ms: int, value: int = 1) -> None:
        self.judge.feed(Piece(start_ms, 0, bytes([value]) * duration_ms * MS))


@pytest.fixture
def pool() -> HandPool:
    return HandPool()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def model() -> NotingModel:
    return NotingModel()


@pytest.fixture
def desk(model: NotingModel, pool: HandPool, clock: ManualClock) -> TurnDesk:
    return TurnDesk(model, pool, clock)


def test_a_verdict_is_of_the_turn_and_a_little_before_it(desk: TurnDesk, pool: HandPool, model: NotingModel) -> None:
    line = Line(desk)
    line.hear(0, 1000, 1)
    line.hear(1000, 1500, 2)
    line.judge.ask(v.Ask(7, 1000, 2300))
    assert line.judge.busy
    pool.do_next()
    assert line.said == [v.Verdict(7, 0.8)]
    assert model.heard == [bytes([1]) * LEAD_MS * MS + bytes([2]) * 1500 * MS]
    assert not line.judge.busy


def test_a_long_turn_is_heard_from_its_last_seconds_on(desk: TurnDesk, pool: HandPool, model: NotingModel) -> None:
    line = Line(desk)
    for second in range(30):
        line.hear(second * 1000, 1000, second)
    line.judge.ask(v.Ask(0, 2000, 29_800))
    pool.do_next()
    assert model.heard == [b"".join(bytes([second]) * 1000 * MS for second in range(22, 30))]
    assert len(line.judge._heard) <= (model.context_ms + SPARE_MS) * MS


def test_time_without_audio_is_silence(desk: TurnDesk, pool: HandPool, model: NotingModel) -> None:
    line = Line(desk)
    line.hear(500, 100, 1)
    line.hear(900, 100, 2)
    line.judge.ask(v.Ask(0, 500, 1000))
    pool.do_next()
    assert model.heard == [bytes([1]) * 100 * MS + bytes(300 * MS) + bytes([2]) * 100 * MS]
    line.hear(900_000, 100, 3)
    line.judge.ask(v.Ask(1, 900_000, 900_100))
    pool.do_next()
    assert model.heard[1] == bytes(LEAD_MS * MS) + bytes([3]) * 100 * MS


def test_who_was_never_heard_is_judged_by_nothing(desk: TurnDesk, pool: HandPool, model: NotingModel) -> None:
    line = Line(desk)
    line.judge.ask(v.Ask(0, 0, 0))
    pool.do_next()
    assert model.heard == [b""]


async def test_a_late_verdict_is_none(desk: TurnDesk, pool: HandPool, clock: ManualClock) -> None:
    line = Line(desk)
    line.hear(0, 500)
    line.judge.ask(v.Ask(0, 0, 300))
    await clock.advance(VERDICT_DEADLINE_MS)
    assert line.said == ["turn_model_late"]
    assert not line.judge.busy
    pool.do_next()
    assert line.said == ["turn_model_late"]
    line.judge.ask(v.Ask(1, 0, 300))
    pool.do_next()
    await clock.advance(10 * VERDICT_DEADLINE_MS)
    assert line.said == ["turn_model_late", v.Verdict(1, 0.8)]


def test_a_model_that_fails_is_counted_and_logged_once(
    desk: TurnDesk, pool: HandPool, model: NotingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[str, str]] = []

    class Log:
        def warning(self, event: str, *, message: str) -> None:
            logged.append((event, message))

    monkeypatch.setattr(judge_module, "log", Log())
    line = Line(desk)
    model.error = RuntimeError("no such input")
    for number in range(3):
        line.judge.ask(v.Ask(number, 0, 300))
        pool.do_next()
    assert line.said == ["turn_model_failed"] * 3
    assert line.judge.failures == 3
    ((event, message),) = logged
    assert event == "turn_model_failed"
    assert "RuntimeError: no such input" in message
    model.error = None
    line.judge.ask(v.Ask(3, 0, 300))
    pool.do_next()
    assert line.said[-1] == v.Verdict(3, 0.8)


def test_a_newer_ask_takes_the_place_of_an_older_one(desk: TurnDesk, pool: HandPool, model: NotingModel) -> None:
    line = Line(desk)
    line.hear(0, 500)
    line.judge.ask(v.Ask(0, 0, 300))
    line.judge.ask(v.Ask(1, 0, 300))
    line.judge.ask(v.Ask(2, 0, 300))
    pool.do_next()
    assert line.said == []
    assert model.heard == []
    pool.do_next()
    assert line.said == [v.Verdict(2, 0.8)]
    assert len(model.heard) == 1
    assert pool.jobs == []


async def test_a_closed_judge_says_nothing(
    desk: TurnDesk, pool: HandPool, clock: ManualClock, model: NotingModel
) -> None:
    line = Line(desk)
    line.judge.ask(v.Ask(0, 0, 300))
    line.judge.close()
    pool.do_next()
    line.judge.ask(v.Ask(1, 0, 300))
    await clock.advance(10 * VERDICT_DEADLINE_MS)
    assert line.said == []
    assert model.heard == []
    assert pool.jobs == []


async def test_what_many_calls_ask_is_worked_on_one_by_one_and_dropped_when_late(
    desk: TurnDesk, pool: HandPool, clock: ManualClock, model: NotingModel
) -> None:
    lines = [Line(desk) for _ in range(20)]
    for line in lines:
        line.judge.ask(v.Ask(0, 0, 300))
    assert len(pool.jobs) == 1
    assert desk.waiting == 19
    for _ in range(4):
        pool.do_next()
        await clock.advance(VERDICT_DEADLINE_MS / 4 - 1)
    pool.do_next()
    await clock.advance(VERDICT_DEADLINE_MS)
    assert [line.said for line in lines] == [[v.Verdict(0, 0.8)]] * 5 + [["turn_model_late"]] * 15
    pool.do_next()
    assert len(model.heard) == 5
    assert (pool.jobs, desk.waiting) == ([], 0)


async def test_a_model_that_hangs_keeps_one_thread_and_nobody_else(
    desk: TurnDesk, pool: HandPool, clock: ManualClock
) -> None:
    first, second = Line(desk), Line(desk)
    first.judge.ask(v.Ask(0, 0, 300))
    hanging = pool.jobs.pop()
    await clock.advance(HUNG_MS - 100)
    second.judge.ask(v.Ask(0, 0, 300))
    assert (pool.jobs, pool.replaced) == ([], 0)
    await clock.advance(100)
    assert pool.replaced == 1
    pool.do_next()
    assert second.said == [v.Verdict(0, 0.8)]
    second.judge.ask(v.Ask(1, 0, 300))
    hanging.done(0.5, None)
    assert first.said == ["turn_model_late"]
    pool.do_next()
    assert second.said[-1] == v.Verdict(1, 0.8)


async def test_a_model_that_hangs_again_and_again_is_asked_no_more(
    desk: TurnDesk, pool: HandPool, clock: ManualClock
) -> None:
    line, other = Line(desk), Line(desk)
    for number in range(HANGS_LIMIT):
        line.judge.ask(v.Ask(number, 0, 300))
        await clock.advance(HUNG_MS - 100)
        if number == HANGS_LIMIT - 1:
            other.judge.ask(v.Ask(0, 0, 300))
        await clock.advance(100)
    assert desk.waiting == 0
    assert (len(pool.jobs), pool.replaced) == (HANGS_LIMIT, HANGS_LIMIT)
    line.judge.ask(v.Ask(HANGS_LIMIT, 0, 300))
    await clock.advance(VERDICT_DEADLINE_MS)
    assert len(pool.jobs) == HANGS_LIMIT
    assert line.said == ["turn_model_late"] * (HANGS_LIMIT + 1)


async def test_the_model_works_off_the_event_loop() -> None:
    threads: list[int] = []

    class Threaded(InstantModel):
        def probability(self, pcm: bytes) -> float:
            threads.append(threading.get_ident())
            return 0.25

    pool = EnginePool(threads=1)
    came = asyncio.Event()
    said: list[v.Verdict] = []
    judge = TurnJudge(
        TurnDesk(Threaded(), pool, SystemClock()), on_verdict=lambda verdict: (said.append(verdict), came.set())[0]
    )
    judge.ask(v.Ask(4, 0, 300))
    async with asyncio.timeout(10):
        await came.wait()
    pool.close()
    assert said == [v.Verdict(4, 0.25)]
    assert threads
    assert threading.get_ident() not in threads
