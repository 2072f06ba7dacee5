"""A successor goes on where a dead worker stopped: no frame twice, none lost, nothing said twice."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from bus.clock import settle
from schemas.asr import AsrFinal, AsrPartial, AsrPreflight
from schemas.call import DtmfIn
from schemas.control import Flush, Pause
from schemas.failure import Failure
from schemas.llm import ListenFor
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnStarted
from schemas.vad import VadStarted
from services.asr.fold import CallFold
from services.asr.turn import values as v
from tests.services.asr.engines import ScriptedEngine
from tests.services.asr.harness import SILENCE, Line, voice

pytestmark = pytest.mark.unit


async def in_real_time(done: Callable[[], bool]) -> None:
    """Wait for the threads of the pool: they know no virtual clock."""
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.001)


async def test_a_successor_hears_the_whole_utterance_once() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.hush(400)
    await line.edge.speak(500)
    line.kill()
    # Nobody listens for 400 ms of the utterance.
    await line.edge.speak(400)
    await line.call(epoch=2)
    await line.edge.speak(300)
    await line.edge.hush(800)

    assert line.edge.replays == [0]
    [final] = await line.events(AsrFinal)
    # Voice from 400 to 1600 ms: pre-roll from frame 5 on, and 500 ms of silence up to frame 104.
    assert final.text == f"frames:100:{zlib.crc32(line.edge.pcm(5, 100)):08x}"
    assert final.epoch == 2
    [ended] = await line.events(TurnEnded)
    assert (ended.turn, ended.text, ended.epoch) == (1, final.text, 2)
    assert len(await line.events(TurnStarted)) == 1
    assert len(await line.events(VadStarted)) == 1
    assert not await line.events(Failure)


@pytest.mark.parametrize("heard_ms", [100, 260, 700, 1180, 1500, 1640])
async def test_it_does_not_matter_when_the_worker_dies(heard_ms: int) -> None:
    texts = []
    for dies in (False, True):
        line = Line()
        await line.edge.open()
        await line.call()
        frames = [SILENCE] * 15 + [voice(n) for n in range(40)] + [SILENCE] * 45
        await line.edge.say(frames[: heard_ms // 20])
        if dies:
            line.kill()
            await line.edge.say([])
            await line.call(epoch=2)
        await line.edge.say(frames[heard_ms // 20 :])
        [ended] = await line.events(TurnEnded)
        texts.append((ended.text, ended.speech_start_ms, ended.speech_end_ms))
    assert texts[0] == texts[1]


async def test_a_successor_starts_after_the_last_final() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(600)
    await line.edge.hush(900)
    line.kill()
    await line.edge.speak(600)
    await line.call(epoch=2)
    await line.edge.hush(800)

    first, second = await line.events(AsrFinal)
    assert line.edge.replays == [first.through_sequence + 1]
    assert (second.turn, second.speech_start_ms) == (2, 1500)
    assert second.text == f"frames:70:{zlib.crc32(line.edge.pcm(60, 70)):08x}"


async def test_live_frames_wait_for_those_that_are_replayed() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(500)
    line.kill()
    line.edge.mute_replay = True
    await line.call(epoch=2)
    await line.edge.speak(300)
    line.edge.mute_replay = False
    await line.edge.speak(200)
    await line.edge.hush(1000)

    [final] = await line.events(AsrFinal)
    assert final.text == f"frames:75:{zlib.crc32(line.edge.pcm(0, 75)):08x}"
    assert not await line.events(Failure)


async def test_catching_up_waits_for_a_slow_engine() -> None:
    line = Line()
    await line.edge.open()
    await line.edge.hush(200)
    await line.edge.speak(600)
    await line.edge.hush(700)
    await line.edge.speak(600)
    await line.edge.hush(700)
    engine = ScriptedEngine("one", "two", blocking=True)
    await line.call(epoch=2, engine=engine)
    await in_real_time(lambda: len(engine.runs) == 2 and not engine.runs[1].working)

    assert [(event.turn, event.text) for event in await line.events(TurnEnded)] == [(1, "one"), (2, "two")]
    assert [run.accepted for run in engine.runs] == [320 * 65, 320 * 65]


async def test_a_turn_whose_final_was_said_is_ended_by_the_successor() -> None:
    line = Line()
    await line.edge.open()
    dying = await line.call()
    dying._events.turn_ended = lambda command: None  # type: ignore[method-assign]
    await line.edge.speak(600)
    await line.edge.hush(600)
    assert len(await line.events(AsrFinal)) == 1
    line.kill()
    await line.call(epoch=2)
    await settle(40)

    [ended] = await line.events(TurnEnded)
    [final] = await line.events(AsrFinal)
    assert (ended.turn, ended.text, ended.why, ended.epoch) == (1, final.text, "silence", 2)
    assert (ended.speech_start_ms, ended.speech_end_ms) == (0, 600)


async def test_words_of_a_long_utterance_are_kept_and_the_rest_follows() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("first"))
    await line.edge.speak(20_400)
    line.kill()
    await line.edge.speak(500)
    await line.call(epoch=2, engine=ScriptedEngine("second"))
    await line.edge.hush(800)

    assert [(final.part, final.text) for final in await line.events(AsrFinal)] == [(0, "first"), (1, "second")]
    [ended] = await line.events(TurnEnded)
    assert (ended.turn, ended.text, ended.speech_start_ms) == (1, "first second", 0)


async def test_words_of_a_long_utterance_that_nothing_follows_end_the_turn() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("first"))
    await line.edge.speak(20_240)
    line.kill()
    await line.call(epoch=2, engine=ScriptedEngine("second"))
    await line.edge.hush(4000)

    [ended] = await line.events(TurnEnded)
    assert (ended.text, ended.turn) == ("first", 1)


async def test_keys_are_neither_lost_nor_used_twice() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.listen_for(0, ListenFor(digits=2))
    await line.edge.hush(100)
    line.edge.press("1")
    line.edge.press("2")
    await line.edge.hush(200)
    line.edge.press("3")
    await line.edge.hush(100)
    line.kill()
    line.edge.press("4")
    await line.edge.hush(100)
    await line.call(epoch=2)
    await line.edge.hush(100)

    assert [event.digits for event in await line.events(TurnEnded)] == ["12", "34"]


async def test_old_speech_does_not_stop_the_agent_but_going_on_does() -> None:
    line = Line()
    await line.edge.open()
    await line.edge.hush(200)
    line.edge.play(0)
    await line.edge.speak(900)
    await line.edge.hush(3000)
    await line.call(epoch=2)
    await line.edge.hush(100)
    assert not line.edge.commands
    assert len(await line.events(TurnEnded)) == 1
    await line.edge.speak(800)

    assert [event.turn for event in await line.events(TurnInterrupted)] == [2]
    assert [type(command) for command in line.edge.commands] == [Pause, Flush]


async def test_what_was_interrupted_is_not_interrupted_again() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.speak(800)
    assert [type(command) for command in line.edge.commands] == [Pause, Flush]
    line.kill()
    await line.call(epoch=2)
    await line.edge.speak(400)

    assert len(await line.events(TurnInterrupted)) == 1
    # Where no flush has come of the interruption the command may have died with its sender.
    assert [type(command) for command in line.edge.commands] == [Pause, Flush, Flush]


async def test_what_was_interrupted_and_dropped_is_not_dropped_again() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.speak(800)
    line.edge.played(0, flushed=True)
    await settle()
    line.kill()
    await line.call(epoch=2)
    await line.edge.speak(400)

    assert [type(command) for command in line.edge.commands] == [Pause, Flush]


async def test_keys_are_a_turn_for_a_successor_that_gets_no_frame() -> None:
    """A sender without voice sends none; the keys count from the call's begin, and so must the successor's time."""
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.hush(100)
    await line.edge.speak(600)
    await line.edge.hush(1000)
    line.kill()
    await line.edge.pause(30_000)
    line.edge.first_kept = len(line.edge.frames)
    await line.call(epoch=2)
    line.edge.press("7")
    await settle()
    await line.edge.pause(2000)

    assert [event.digits for event in await line.events(TurnEnded)] == ["", "7"]


async def test_the_ring_is_too_short_for_an_open_turn() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(600)
    line.kill()
    line.edge.first_kept = 20
    await line.call(epoch=2)
    await line.edge.hush(800)

    [failure] = await line.events(Failure)
    assert (failure.code, failure.gap_ms, failure.worker, failure.epoch) == ("media_lost", 400, "asr-2", 2)
    assert len(await line.events(TurnEnded)) == 1


async def test_silence_that_the_ring_lost_is_no_failure() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.hush(1000)
    line.kill()
    line.edge.first_kept = 20
    await line.call(epoch=2)
    await line.edge.speak(600)
    await line.edge.hush(800)

    assert not await line.events(Failure)
    assert len(await line.events(TurnEnded)) == 1


async def test_partials_of_a_successor_do_not_repeat_numbers() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("x", partials=True))
    await line.edge.speak(600)
    line.kill()
    await line.call(epoch=2, engine=ScriptedEngine("x", partials=True))
    await line.edge.speak(600)

    revisions = [partial.revision for partial in await line.events(AsrPartial)]
    assert revisions[0] == 0
    assert 10_000 in revisions
    assert len(set(revisions)) == len(revisions)


async def test_a_worker_that_sees_a_successor_says_nothing_more() -> None:
    line = Line()
    await line.edge.open()
    zombie = await line.call()
    await line.edge.speak(400)
    line.edge.recorder.record(TurnStarted(turn=2, epoch=2, **line.edge.base()))
    await settle()
    await line.edge.speak(400)
    await line.edge.hush(800)

    assert zombie._closed
    assert not await line.events(TurnEnded)


async def test_a_frozen_worker_is_fenced_off() -> None:
    line = Line()
    await line.edge.open()
    zombie = await line.call()
    await line.edge.speak(600)
    line.connections[0].interrupt()
    await line.call(epoch=2)
    await line.edge.hush(800)
    zombie._input(v.Tick(), 60_000)
    line.connections[0].restore()
    await line.clock.advance(3000)

    assert zombie._closed
    assert [event.epoch for event in await line.events(TurnEnded)] == [2]
    assert [event.epoch for event in await line.events(AsrFinal)] == [2]


async def test_a_released_call_is_silent() -> None:
    line = Line()
    await line.edge.open()
    call = await line.call()
    await line.edge.speak(600)
    await call.release("handed_over")
    await call.release("handed_over")
    await line.edge.hush(800)

    assert not await line.events(TurnEnded)
    assert line.over == []


def test_a_turn_that_ends_settles_what_came_before_it_and_no_more() -> None:
    fold = CallFold()
    base: dict[str, Any] = {"call_id": "0190aaaa0000700080000000000000aa", "at_us": 1}
    for press, at_ms in enumerate((900, 1100)):
        fold.apply(DtmfIn(press=press, digit=str(press), duration_ms=80, media_time_ms=at_ms, **base))
    fold.apply(TurnAway(turn=1, number=0, last=False, media_time_ms=500, silent_ms=500, **base))
    fold.apply(AsrPreflight(turn=1, number=1, text="hello", **base))
    assert (fold.start.away_asked, fold.start.away_number, fold.start.preflights) == (1, 1, 2)
    ended = TurnEnded(
        turn=1, why="dtmf", text="", digits="0", confidence=1.0, speech_start_ms=900, speech_end_ms=900, **base
    )
    fold.apply(ended)
    assert (fold.start.away_asked, fold.start.away_number, fold.start.preflights) == (0, 1, 0)
    assert [key.digit for key in fold.keys] == ["1"]
