"""A call of the asr stage against a scripted edge, in virtual time."""

from __future__ import annotations

import itertools
import zlib

import pytest

from bus.clock import settle
from bus.control import send_control
from config.settings import AsrSection, TurnSection
from schemas import subjects
from schemas.asr import AsrFinal, AsrPartial
from schemas.control import ControlReply, Flush, Pause, Resume
from schemas.failure import Failure
from schemas.llm import ListenFor
from schemas.turn import TurnEnded, TurnInterrupted, TurnResumed, TurnStarted
from schemas.vad import VadStarted, VadStopped
from services.asr.engines.instant import FixedText
from services.asr.turn.backchannels import usual_backchannels
from tests.services.asr.engines import BrokenEngine, ScriptedEngine
from tests.services.asr.harness import CALL_ID, SILENCE, TENANT, Line, voice

pytestmark = pytest.mark.unit


async def test_an_utterance_becomes_a_turn_with_every_frame_once() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.hush(600)
    await line.edge.speak(1000)
    await line.edge.hush(1000)

    [vad_started], [vad_stopped] = await line.events(VadStarted), await line.events(VadStopped)
    assert (vad_started.media_time_ms, vad_stopped.media_time_ms) == (600, 1600)
    [started] = await line.events(TurnStarted)
    assert (started.turn, started.media_time_ms, started.why) == (1, 600, "speech")
    [final] = await line.events(AsrFinal)
    # 300 ms before the first voiced sample up to 500 ms after the last one: frames 15 to 104.
    assert final.text == f"frames:90:{zlib.crc32(line.edge.pcm(15, 90)):08x}"
    assert (final.turn, final.part, final.through_sequence, final.engine) == (1, 0, 104, "instant")
    assert (final.speech_start_ms, final.speech_end_ms) == (600, 1600)
    [ended] = await line.events(TurnEnded)
    assert (ended.turn, ended.why, ended.text, ended.digits) == (1, "silence", final.text, "")
    assert (ended.speech_start_ms, ended.speech_end_ms) == (600, 1600)
    assert 500 <= ended.end_of_turn_delay_ms <= 540
    assert ended.transcription_delay_ms == final.transcription_delay_ms == ended.end_of_turn_delay_ms


async def test_turns_are_numbered_and_share_no_frame() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    for _ in range(2):
        await line.edge.hush(200)
        await line.edge.speak(600)
        await line.edge.hush(600)

    first, second = await line.events(AsrFinal)
    assert [event.turn for event in await line.events(TurnEnded)] == [1, 2]
    assert first.text == f"frames:65:{zlib.crc32(line.edge.pcm(0, 65)):08x}"
    # The pre-roll of the second reaches back to frame 65 where the first one ended, no further.
    assert second.text == f"frames:70:{zlib.crc32(line.edge.pcm(65, 70)):08x}"


async def test_a_pause_for_breath_does_not_end_the_turn() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(600)
    await line.edge.hush(400)
    await line.edge.speak(600)
    await line.edge.hush(600)

    assert len(await line.events(TurnEnded)) == 1
    assert len(await line.events(VadStarted)) == 2


async def test_a_short_noise_starts_nothing() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(160)
    await line.edge.hush(1000)

    assert not await line.events(VadStarted)
    assert not await line.events(TurnStarted)


async def test_a_noise_without_words_leaves_the_turn_open_under_its_number() -> None:
    line = Line()
    await line.edge.open()
    engine = ScriptedEngine("", "hello")
    await line.call(engine=engine)
    await line.edge.speak(400)
    await line.edge.hush(800)
    assert not await line.events(TurnEnded)
    await line.edge.speak(400)
    await line.edge.hush(800)

    assert [(final.turn, final.part, final.text) for final in await line.events(AsrFinal)] == [
        (1, 0, ""),
        (1, 1, "hello"),
    ]
    assert len(await line.events(TurnStarted)) == 1
    [ended] = await line.events(TurnEnded)
    assert (ended.turn, ended.text, ended.speech_start_ms) == (1, "hello", 1200)


async def test_the_grammar_is_that_of_the_last_answer() -> None:
    line = Line()
    await line.edge.open()
    engine = ScriptedEngine("four two seven one")
    await line.call(engine=engine)
    wanted = ListenFor(state="verify", phrases=("<digit> <digit>",), digits=4)
    line.edge.listen_for(0, wanted)
    await line.edge.speak(400)
    await line.edge.hush(800)

    assert engine.listened == [wanted]


async def test_over_the_agent_also_words_of_a_listener_are_listened_for() -> None:
    line = Line()
    await line.edge.open()
    engine = ScriptedEngine("okay")
    await line.call(engine=engine)
    line.edge.listen_for(0, ListenFor(phrases=("stop",)))
    line.edge.play(0)
    await line.edge.speak(400)
    await line.edge.hush(700)
    line.edge.listen_for(1, ListenFor())
    await line.edge.speak(400)

    assert engine.listened == [ListenFor(phrases=("stop", *usual_backchannels("en"))), ListenFor()]


async def test_partials_go_out_at_most_ten_times_a_second() -> None:
    line = Line()
    await line.edge.open()
    engine = ScriptedEngine("done", partials=True)
    await line.call(engine=engine)
    await line.edge.speak(2000)
    await line.edge.hush(800)

    partials = await line.events(AsrPartial)
    assert [partial.revision for partial in partials] == list(range(len(partials)))
    assert 15 <= len(partials) <= 26
    assert all(later.at_us - earlier.at_us >= 100_000 for earlier, later in itertools.pairwise(partials))


async def test_speech_over_the_agent_interrupts_it_once() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.hush(200)
    await line.edge.speak(1500)
    await line.edge.hush(600)

    [interrupted] = await line.events(TurnInterrupted)
    assert (interrupted.utterance_id, interrupted.turn, interrupted.why) == (0, 1, "speech")
    assert interrupted.speech_start_ms == 200
    assert 680 <= interrupted.media_time_ms <= 740
    [pause, flush] = line.edge.commands
    assert isinstance(pause, Pause) and pause.utterance_id == 0
    assert isinstance(flush, Flush)
    assert flush.utterance_id == 0
    assert len(await line.events(TurnEnded)) == 1


async def test_a_clock_that_is_set_in_mid_call_leaves_the_agent_interruptible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or that of another machine than the edge's, an hour ahead all the time."""
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.hush(200)
    now_us = line.clock.now_us
    monkeypatch.setattr(line.clock, "now_us", lambda: now_us() + 3_600_000_000)
    line.edge.play(0)
    await line.edge.speak(800)
    assert [event.utterance_id for event in await line.events(TurnInterrupted)] == [0]


async def test_a_noise_over_the_agent_holds_it_until_no_words_come_of_it() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine(""))
    line.edge.play(0)
    await line.edge.speak(400)
    await line.edge.hush(800)

    assert not await line.events(TurnInterrupted)
    assert [type(command) for command in line.edge.commands] == [Pause, Resume]
    [resumed] = await line.events(TurnResumed)
    assert (resumed.utterance_id, resumed.why) == (0, "noise")


async def test_a_short_word_interrupts_once_it_is_known_to_be_one() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("stop"))
    line.edge.play(0)
    await line.edge.speak(400)
    await line.edge.hush(400)
    assert not await line.events(TurnInterrupted)
    await line.edge.hush(200)

    assert [event.why for event in await line.events(TurnInterrupted)] == ["words"]
    assert [type(command) for command in line.edge.commands] == [Pause, Flush]
    assert [event.text for event in await line.events(TurnEnded)] == ["stop"]


async def test_words_of_a_listener_over_the_agent_are_no_turn() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("mm-hm"))
    line.edge.play(0)
    await line.edge.speak(400)
    await line.edge.hush(700)

    assert not await line.events(TurnInterrupted)
    assert not await line.events(TurnEnded)
    assert [type(command) for command in line.edge.commands] == [Pause, Resume]
    assert [event.why for event in await line.events(TurnResumed)] == ["backchannel"]


async def test_nothing_is_interrupted_after_the_end_of_the_utterance() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.hush(100)
    line.edge.played(0)
    await line.edge.speak(1000)
    assert not await line.events(TurnInterrupted)


async def test_an_agent_that_begins_while_the_caller_speaks_is_stopped_at_once() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(1000)
    line.edge.play(100)
    await settle()

    assert [event.utterance_id for event in await line.events(TurnInterrupted)] == [100]


async def test_two_words_interrupt_before_the_time_is_over() -> None:
    line = Line(turn=TurnSection(interruption_min_ms=5000))
    await line.edge.open()
    await line.call(engine=ScriptedEngine("stop right there please", partials=True))
    line.edge.play(0)
    await line.edge.speak(1200)

    assert [event.why for event in await line.events(TurnInterrupted)] == ["words"]


async def test_a_flush_that_is_not_answered_is_repeated() -> None:
    line = Line()
    await line.edge.open()
    line.edge.reply = ControlReply(ok=False, error="engine_failed")
    await line.call()
    line.edge.play(0)
    await line.edge.speak(1000)

    assert [type(command) for command in line.edge.commands] == [*[Pause] * 3, *[Flush] * 3]


async def test_keys_make_a_turn_at_once_when_all_are_there() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.listen_for(0, ListenFor(digits=4))
    await line.edge.hush(200)
    for digit in "4271":
        line.edge.press(digit)
        await line.edge.hush(100)

    [ended] = await line.events(TurnEnded)
    assert (ended.why, ended.digits, ended.text, ended.speech_start_ms, ended.speech_end_ms) == (
        "dtmf", "4271", "", 200, 500,
    )  # fmt: skip
    [started] = await line.events(TurnStarted)
    assert (started.why, started.turn) == ("dtmf", 1)


async def test_the_pound_key_and_a_pause_end_keys_too() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.press("1")
    line.edge.press("#")
    await line.edge.hush(100)
    line.edge.press("2")
    await line.edge.hush(1400)
    assert [event.digits for event in await line.events(TurnEnded)] == ["1"]
    await line.edge.hush(200)
    assert [event.digits for event in await line.events(TurnEnded)] == ["1", "2"]


async def test_keys_end_a_turn_while_no_frames_come() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.hush(200)
    line.edge.press("7")
    await settle()
    await line.edge.pause(3000)

    [ended] = await line.events(TurnEnded)
    assert ended.digits == "7"


async def test_a_key_stops_the_agent() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.hush(100)
    line.edge.press("1")
    await line.edge.hush(100)

    assert [event.why for event in await line.events(TurnInterrupted)] == ["dtmf"]


async def test_a_line_that_falls_silent_without_frames_ends_the_turn() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(1000)
    await line.edge.pause(1000)

    [stopped] = await line.events(VadStopped)
    assert stopped.media_time_ms == 1000
    [ended] = await line.events(TurnEnded)
    assert 500 <= ended.end_of_turn_delay_ms <= 720
    await line.edge.speak(400)
    await line.edge.hush(800)
    second = (await line.events(AsrFinal))[1]
    assert second.speech_start_ms == 2000


async def test_a_worker_that_got_no_time_hears_what_came_meanwhile_before_it_counts_silence() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(400)
    await line.edge.speak_into_a_stall(1500)
    await line.edge.speak(400)
    await line.edge.hush(800)

    assert [event.media_time_ms for event in await line.events(VadStopped)] == [2300]
    assert [(event.turn, event.speech_end_ms) for event in await line.events(TurnEnded)] == [(1, 2300)]


async def test_lost_packets_are_filled_with_silence() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(400)
    await line.edge.pause(60)
    await line.edge.speak(400)
    await line.edge.hush(600)

    [final] = await line.events(AsrFinal)
    assert final.text.startswith("frames:68:")
    assert (final.speech_start_ms, final.speech_end_ms) == (0, 860)


async def test_a_hole_in_the_live_frames_is_replayed() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.hush(600)
    await line.edge.say([voice(30 + n) for n in range(50)], lose=range(10, 20))
    await line.edge.hush(1000)

    assert line.edge.replays == [40]
    [final] = await line.events(AsrFinal)
    assert final.text == f"frames:90:{zlib.crc32(line.edge.pcm(15, 90)):08x}"


async def test_frames_that_the_ring_lost_are_named_and_the_call_goes_on() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.hush(200)
    line.edge.first_kept = 15
    await line.edge.say([SILENCE] * 10, lose=range(10))
    await line.edge.speak(600)
    await line.edge.hush(800)

    [failure] = await line.events(Failure)
    assert (failure.code, failure.gap_ms, failure.stage) == ("media_lost", 100, "asr")
    assert len(await line.events(TurnEnded)) == 1


async def test_an_edge_that_does_not_answer_costs_the_missing_frames_only() -> None:
    line = Line()
    await line.edge.open()
    line.edge.mute_replay = True
    await line.call()
    await line.edge.hush(200)
    await line.edge.say([SILENCE] * 5, lose=range(5))
    await line.edge.hush(3000)
    await line.edge.speak(600)
    await line.edge.hush(800)

    assert len(line.edge.replays) == 5
    assert [failure.code for failure in await line.events(Failure)] == ["media_lost"]
    assert len(await line.events(TurnEnded)) == 1


async def test_a_replay_that_misses_frames_is_asked_again() -> None:
    line = Line()
    await line.edge.open()
    line.edge.drop_replayed = {12}
    await line.call()
    await line.edge.hush(200)
    await line.edge.say([SILENCE] * 5, lose=range(5))
    await line.edge.hush(1500)

    assert line.edge.replays == [10, 12]
    assert not await line.events(Failure)


async def test_a_frame_that_came_twice_is_heard_once() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.hush(300)
    await line.edge.speak(600)
    for sequence in (20, 21, 44):
        line.edge.connection.publish(subjects.live_audio("in", CALL_ID, TENANT), line.edge.packed(sequence))
    await line.edge.hush(800)

    [final] = await line.events(AsrFinal)
    assert final.text == f"frames:70:{zlib.crc32(line.edge.pcm(0, 70)):08x}"


async def test_an_engine_that_fails_still_ends_the_turn() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=BrokenEngine())
    await line.edge.speak(600)
    await line.edge.hush(800)

    [failure] = await line.events(Failure)
    assert (failure.code, failure.turn, failure.detail) == ("engine_failed", 1, "engine broken raised ValueError")
    [final] = await line.events(AsrFinal)
    assert (final.text, final.confidence) == ("", 0.0)
    [ended] = await line.events(TurnEnded)
    assert (ended.why, ended.text, ended.confidence) == ("timeout", "", 0.0)


async def test_an_engine_that_never_answers_still_ends_the_turn() -> None:
    line = Line(asr=AsrSection(deadline_ms=1000))
    await line.edge.open()
    engine = ScriptedEngine("never", blocking=True, hang=True)
    await line.call(engine=engine)
    await line.edge.speak(600)
    await line.edge.hush(1400)
    assert not await line.events(TurnEnded)
    await line.edge.hush(400)

    assert [failure.code for failure in await line.events(Failure)] == ["engine_timeout"]
    [ended] = await line.events(TurnEnded)
    assert ended.why == "timeout"
    engine.free()


async def test_speech_while_a_final_is_awaited_is_the_next_turn() -> None:
    line = Line(asr=AsrSection(deadline_ms=1000))
    await line.edge.open()
    engine = ScriptedEngine("never", blocking=True, hang=True)
    await line.call(engine=engine)
    await line.edge.speak(600)
    await line.edge.hush(700)
    await line.edge.speak(600)
    await line.edge.hush(1800)

    assert [event.turn for event in await line.events(TurnEnded)] == [1, 2]
    finals = await line.events(AsrFinal)
    assert [(final.turn, final.speech_start_ms) for final in finals] == [(1, 0), (2, 1300)]
    engine.free()


async def test_held_calls_hear_nothing() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.hold(True)
    await line.edge.speak(1000)
    line.edge.hold(False)
    await line.edge.speak(400)
    await line.edge.hush(800)

    assert [event.media_time_ms for event in await line.events(VadStarted)] == [1000]


async def test_a_very_long_utterance_has_several_finals_and_one_turn() -> None:
    line = Line(turn=TurnSection(vad_start_ms=100))
    await line.edge.open()
    await line.call(engine=FixedText(AsrSection(), "part"))
    await line.edge.speak(21_000)
    await line.edge.hush(800)

    finals = await line.events(AsrFinal)
    assert [final.part for final in finals] == [0, 1]
    assert finals[0].through_sequence == 1004
    [ended] = await line.events(TurnEnded)
    assert (ended.text, ended.speech_start_ms, ended.speech_end_ms) == ("part part", 0, 21_000)


async def test_the_end_of_a_call_lets_go_of_it() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    await line.edge.speak(600)
    line.edge.end()
    await settle(40)

    assert line.over == [CALL_ID]
    await line.edge.hush(1000)
    assert not await line.events(TurnEnded)


async def test_a_call_that_is_over_before_it_was_heard() -> None:
    line = Line()
    await line.edge.open(answered=False)
    line.edge.end()
    await settle()
    await line.call()
    await line.call(epoch=2)
    await settle(40)

    assert line.over == [CALL_ID, CALL_ID]


async def test_commands_to_this_stage_are_refused() -> None:
    line = Line()
    await line.edge.open()
    await line.call()

    reply = await send_control(line.edge.connection, "asr", Flush(call_id=CALL_ID))
    assert (reply.ok, reply.error) == (False, "not_supported")
