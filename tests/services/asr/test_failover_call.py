"""A call whose engines fail: every frame of the caller is heard, and what is told of it."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from bus import metrics
from config.settings import AsrSection
from schemas.asr import AsrFinal
from schemas.failure import Failure
from schemas.turn import TurnEnded
from services.asr.engine import Transcript
from services.asr.engines.instant import FrameCounter, InstantRun
from services.resilience.attempts import TAKEOVER_HEARD
from tests.services.asr.ears import relay
from tests.services.asr.engines import BrokenEngine
from tests.services.asr.harness import Line

pytestmark = pytest.mark.unit


class Counter(FrameCounter):
    """Says which frames it heard; fails at each of ``fails``, counted over all its runs."""

    def __init__(self, name: str, *fails: int, at_end: bool = False) -> None:
        super().__init__(AsrSection())
        self.name = name
        self.fails = set(fails)
        self.at_end = at_end
        self.accepted = 0

    def open(self, listen_for: object) -> InstantRun:
        return CounterRun(self)


class CounterRun(InstantRun):
    def __init__(self, counter: Counter) -> None:
        super().__init__("")
        self.counter = counter

    def accept(self, pcm: bytes) -> str | None:
        self.counter.accepted += len(pcm) // 320
        if any(self.counter.accepted >= at for at in self.counter.fails):
            raise RuntimeError("secret words")
        return super().accept(pcm)

    def finish(self) -> Transcript:
        if self.counter.at_end:
            raise RuntimeError("secret words")
        return super().finish()


def expected(line: Line, final: AsrFinal, first: int) -> str:
    """What an engine says that has heard these frames, each once."""
    count = final.through_sequence + 1 - first
    return f"frames:{count}:{zlib.crc32(line.edge.pcm(first, count)):08x}"


@pytest.mark.parametrize("at_end", [False, True])
async def test_an_engine_that_dies_in_mid_call_is_not_noticed(at_end: bool) -> None:
    line = Line()
    await line.edge.open()
    first, second = Counter("a"), Counter("b")
    await line.call(engine=relay(first, second))
    await line.edge.speak(600)
    await line.edge.hush(1000)
    first.fails, first.at_end = ({first.accepted + 20} if not at_end else set()), at_end
    await line.edge.speak(1000)
    await line.edge.hush(1000)
    await line.edge.speak(600)
    await line.edge.hush(1000)
    finals = await line.events(AsrFinal)
    assert [final.engine for final in finals] == ["a", "b", "b"]
    assert all(final.text.startswith("frames:") for final in finals)
    for final in finals:
        begin = final.through_sequence + 1 - int(final.text.split(":")[1])
        assert final.text == expected(line, final, begin)
        assert begin * 20 <= final.speech_start_ms, "all of the speech is in it"
    turns = await line.events(TurnEnded)
    assert [turn.text for turn in turns] == [final.text for final in finals]
    failures = await line.events(Failure)
    assert {(failure.code, failure.caller_hears) for failure in failures} == {("engine_failed", TAKEOVER_HEARD)}
    assert all(failure.detail == "engine a: RuntimeError; b took over" for failure in failures)
    assert "secret" not in str(failures)


async def test_when_all_are_down_the_turn_ends_as_before_and_one_failure_says_so() -> None:
    line = Line()
    await line.edge.open()
    first, second = Counter("a", 0), Counter("b", 0)
    await line.call(engine=relay(first, second))
    await line.edge.speak(600)
    await line.edge.hush(1000)
    (failure,) = await line.events(Failure)
    assert (failure.code, failure.detail) == ("stage_down", "a: RuntimeError; b: RuntimeError")
    (final,) = await line.events(AsrFinal)
    assert (final.text, final.engine) == ("", "a,b")
    first.fails.clear()
    await line.edge.speak(600)
    await line.edge.hush(1000)
    assert len(await line.events(AsrFinal)) == 2, "the call goes on"


async def test_a_successor_hears_with_the_engine_that_works() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=relay(Counter("a"), Counter("b")))
    await line.edge.speak(400)
    line.kill()
    await line.call(epoch=2, engine=relay(Counter("a", 10), Counter("b")))
    await line.edge.speak(400)
    await line.edge.hush(1000)
    (final,) = await line.events(AsrFinal)
    assert final.engine == "b"
    assert int(final.text.split(":")[1]) >= 40


async def test_finals_are_timed_by_the_engine_that_gave_them() -> None:
    def timed(engine: str) -> float:
        return metrics.REGISTRY.get_sample_value("callbus_asr_seconds_count", {"engine": engine}) or 0

    before = timed("a"), timed("b")
    line = Line()
    await line.edge.open()
    await line.call(engine=relay(Counter("a"), Counter("b")))
    await line.edge.speak(600)
    await line.edge.hush(1000)
    assert len(await line.events(AsrFinal)) == 1
    assert (timed("a") - before[0], timed("b") - before[1]) == (1, 0)


async def test_errors_of_an_engine_that_is_alone_are_counted_too() -> None:
    labels = {"stage": "asr", "engine": "broken", "why": "failed"}
    before = metrics.REGISTRY.get_sample_value("callbus_engine_errors_total", labels) or 0
    line = Line()
    await line.edge.open()
    await line.call(engine=BrokenEngine())
    await line.edge.speak(600)
    await line.edge.hush(1000)
    await asyncio.sleep(0)
    assert metrics.REGISTRY.get_sample_value("callbus_engine_errors_total", labels) == before + 1
    assert [failure.code for failure in await line.events(Failure)] == ["engine_failed"]
