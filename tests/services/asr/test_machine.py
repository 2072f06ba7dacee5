"""The turn machine, its gate and its table."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from config.settings import TurnSection
from services.asr.turn import values as v
from services.asr.turn.caller import CallerTurn
from services.asr.turn.caller_table import CALLER_TABLE, CallerState, CallerTrigger
from services.asr.turn.floor import FLOOR_TABLE, Floor, FloorState, FloorTrigger
from services.asr.turn.gate import Gate, VoiceBegan, VoiceEnded
from services.asr.turn.machine import Start, TurnMachine
from services.asr.turn.presence import PRESENCE_TABLE, Presence, PresenceState, PresenceTrigger
from services.asr.turn.table import Table
from services.asr.turn.watch import WATCH_TABLE, Watch, WatchState, WatchTrigger

pytestmark = pytest.mark.unit

WINDOW_MS = 20


class Script:
    """Drives a machine window by window and keeps its commands."""

    def __init__(self, start: Start = Start(), **settings: int) -> None:  # noqa: B008
        self.machine = TurnMachine(TurnSection(**{"endpointing": "fixed", **settings}), start)  # type: ignore[arg-type]
        self.now_ms = 0
        self.commands: list[v.Command] = []

    def give(self, given: v.Input) -> list[v.Command]:
        commands = self.machine.handle(given, self.now_ms)
        self.commands += commands
        return commands

    def hear(self, probability: float, milliseconds: int, *, stale: bool = False) -> None:
        for _ in range(milliseconds // WINDOW_MS):
            start, self.now_ms = self.now_ms, self.now_ms + WINDOW_MS
            self.give(v.Heard(probability, start, self.now_ms, stale))

    def speak(self, milliseconds: int) -> None:
        self.hear(1.0, milliseconds)

    def hush(self, milliseconds: int) -> None:
        self.hear(0.0, milliseconds)

    def said(self, kind: type[v.Command]) -> list[v.Command]:
        return [command for command in self.commands if isinstance(command, kind)]

    def end(self) -> v.EndTurn:
        [ended] = self.said(v.EndTurn)
        assert isinstance(ended, v.EndTurn)
        return ended


@pytest.mark.parametrize(
    ("part", "table", "states", "triggers"),
    [
        (CallerTurn, CALLER_TABLE, CallerState, CallerTrigger),
        (Floor, FLOOR_TABLE, FloorState, FloorTrigger),
        (Presence, PRESENCE_TABLE, PresenceState, PresenceTrigger),
        (Watch, WATCH_TABLE, WatchState, WatchTrigger),
    ],
)
def test_each_action_of_a_table_exists_and_each_state_can_be_left_and_reached(
    part: type, table: Table[Any, Any], states: type[Enum], triggers: type[Enum]
) -> None:
    for _, actions in table.values():
        assert all(hasattr(part, f"_do_{action}") for action in actions)
    assert {state for state, _ in table} == set(states)
    assert {following for following, _ in table.values()} == set(states)
    assert {trigger for _, trigger in table} == set(triggers)


def test_one_utterance() -> None:
    script = Script()
    script.hush(400)
    script.speak(600)
    script.hush(480)
    assert script.machine.caller_state is CallerState.PAUSED
    script.hush(20)
    assert script.machine.caller_state is CallerState.FINISHING
    script.give(v.Final(0, "hello", 0.8))

    assert script.commands == [
        v.VadStarted(400, 1),
        v.OpenRun(0, 1, 0, 100),
        v.VadStopped(1000, 1),
        v.FinishRun(0, 400, 1000),
        v.TurnStarted(1, 400, "speech"),
        v.EndTurn(1, "silence", "hello", "", 0.8, 400, 1000),
    ]
    assert (script.machine.caller_state, script.machine.turn) == (CallerState.IDLE, 2)


def test_a_voice_that_begins_as_patience_ends_is_waited_for() -> None:
    script = Script()
    script.speak(600)
    script.hush(440)
    script.speak(240)
    assert script.machine.caller_state is CallerState.VOICED
    script.hush(520)
    script.give(v.Final(0, "one turn"))
    assert script.end().speech_end_ms == 1280


def test_a_click_as_patience_ends_only_delays_the_end() -> None:
    script = Script()
    script.speak(600)
    script.hush(440)
    script.speak(100)
    assert script.machine.caller_state is CallerState.PAUSED
    script.hush(20)
    assert script.machine.caller_state is CallerState.FINISHING


def test_all_expected_digits_shorten_patience_and_missing_ones_lengthen_it() -> None:
    script = Script()
    script.give(v.Expect(4))
    script.speak(600)
    script.give(v.Partial(0, "four two seven"))
    script.hush(2980)
    assert script.machine.caller_state is CallerState.PAUSED
    script.hush(20)
    assert script.machine.caller_state is CallerState.FINISHING

    script = Script()
    script.give(v.Expect(4))
    script.speak(600)
    script.give(v.Partial(0, "four 27 one"))
    script.hush(240)
    assert script.machine.caller_state is CallerState.PAUSED
    script.hush(20)
    assert script.machine.caller_state is CallerState.FINISHING

    script = Script()
    script.give(v.Expect(4))
    script.speak(600)
    script.give(v.Partial(0, "i do not know"))
    script.hush(500)
    assert script.machine.caller_state is CallerState.FINISHING


def test_the_maximum_binds_where_it_is_the_smaller_one() -> None:
    script = Script(endpointing_min_ms=500, endpointing_max_ms=300)
    script.speak(600)
    script.hush(300)
    assert script.machine.caller_state is CallerState.FINISHING


def test_keys_and_words_of_one_turn_end_it_together() -> None:
    script = Script()
    script.give(v.Expect(2))
    script.give(v.Key("4", 0))
    script.speak(400)
    script.give(v.Key("2", 400))
    assert script.machine.caller_state is CallerState.FINISHING
    script.give(v.Final(0, "well"))
    assert script.end() == v.EndTurn(1, "dtmf", "well", "42", 1.0, 0, 400)


def test_a_final_waits_for_keys_that_are_pending() -> None:
    script = Script()
    script.speak(600)
    script.hush(480)
    script.give(v.Key("9", 1080))
    script.hush(20)
    script.give(v.Final(0, "nine"))
    assert script.machine.caller_state is CallerState.KEYING
    assert not script.said(v.EndTurn)
    script.hush(1500)
    ended = script.end()
    assert (ended.why, ended.text, ended.digits) == ("dtmf", "nine", "9")


def test_a_lone_pound_key_is_a_key() -> None:
    script = Script()
    script.give(v.Key("#", 0))
    script.hush(1500)
    assert script.end().digits == "#"


def test_keys_that_are_complete_while_a_final_is_awaited() -> None:
    script = Script()
    script.give(v.Expect(1))
    script.speak(600)
    script.hush(500)
    script.give(v.Key("5", 1100))
    assert script.machine.caller_state is CallerState.FINISHING
    script.give(v.Final(0, ""))
    assert script.end().digits == "5"


def test_speech_that_outlasts_its_keys_is_said_to_stop() -> None:
    script = Script()
    script.speak(400)
    script.give(v.Key("5", 400))
    script.give(v.Key("#", 400))
    script.give(v.Final(0, ""))
    assert script.machine.caller_state is CallerState.IDLE
    script.hush(400)
    assert script.said(v.VadStopped) == [v.VadStopped(400, 2)]
    script.give(v.Key("1", 800))
    assert script.machine.caller_state is CallerState.KEYING


def test_a_final_that_nobody_awaits_is_ignored() -> None:
    script = Script()
    script.give(v.Final(7, "ghost"))
    script.speak(400)
    script.give(v.Final(0, "too early"))
    script.give(v.Partial(3, "stranger here"))
    assert script.machine.caller_state is CallerState.VOICED
    assert not script.said(v.EndTurn)


def test_speech_during_a_slow_final_is_the_next_turn_with_all_its_changes() -> None:
    script = Script()
    script.speak(600)
    script.hush(500)
    script.speak(400)
    script.hush(600)
    script.speak(400)
    assert script.machine.caller_state is CallerState.FINISHING
    script.give(v.Final(0, "first"))
    assert script.machine.caller_state is CallerState.VOICED
    assert script.said(v.OpenRun)[1] == v.OpenRun(1, 2, 0, 800)
    script.hush(500)
    script.give(v.Final(1, "second"))
    assert [command.turn for command in script.said(v.EndTurn)] == [1, 2]  # type: ignore[union-attr]


def test_a_long_run_is_cut_in_two_and_both_finals_count() -> None:
    script = Script()
    script.speak(20_400)
    assert script.said(v.FinishRun) == [v.FinishRun(0, 0, 20_200)]
    assert script.said(v.OpenRun)[1] == v.OpenRun(1, 1, 1, 0)
    script.hush(500)
    script.give(v.Final(1, "end", 0.5))
    assert not script.said(v.EndTurn)
    script.give(v.Final(0, "begin", 0.9))
    ended = script.end()
    # A part whose final comes late stands where it was said.
    assert (ended.text, ended.confidence) == ("begin end", 0.5)


def test_a_part_that_comes_while_the_caller_pauses() -> None:
    script = Script()
    script.speak(20_400)
    script.hush(220)
    script.give(v.Final(0, "begin"))
    assert script.machine.caller_state is CallerState.PAUSED


@pytest.mark.parametrize(("spoken_ms", "answered"), [(400, False), (1000, True)])
def test_speech_without_words_is_answered_where_it_is_no_noise(spoken_ms: int, answered: bool) -> None:
    script = Script()
    script.speak(spoken_ms)
    script.hush(500)
    script.give(v.Final(0, ""))
    assert bool(script.said(v.EndTurn)) is answered
    if answered:
        assert (script.end().why, script.end().text, script.end().confidence) == ("silence", "", 0.0)
    else:
        assert script.machine.caller_state is CallerState.IDLE


def test_who_stopped_the_agent_gets_an_answer() -> None:
    script = Script()
    script.give(v.PlayoutBegan(0))
    script.speak(600)
    script.give(v.PlayoutEnded(0))
    script.hush(500)
    script.give(v.Final(0, ""))
    assert script.end().text == ""


def test_an_engine_that_failed_ends_the_turn() -> None:
    script = Script()
    script.speak(400)
    script.hush(500)
    script.give(v.Final(0, "", 0.0, failed=True))
    assert (script.end().why, script.end().confidence) == ("timeout", 0.0)


def test_a_partial_of_a_failed_engine_is_better_than_nothing() -> None:
    script = Script()
    script.speak(400)
    script.hush(500)
    script.give(v.Final(0, "where is", 0.0, failed=True))
    assert (script.end().why, script.end().text) == ("silence", "where is")


def test_an_utterance_is_interrupted_once_and_only_while_it_plays() -> None:
    script = Script()
    script.speak(1000)
    script.give(v.PlayoutBegan(100))
    script.speak(400)
    script.give(v.PlayoutEnded(7))
    script.give(v.PlayoutBegan(100))
    script.speak(400)
    assert script.said(v.Interrupt) == [v.Interrupt(100, 1, "speech", 1000, 0)]


def test_stale_speech_interrupts_nobody() -> None:
    script = Script(start=Start(playing=3))
    script.hear(1.0, 2000, stale=True)
    assert not script.said(v.Interrupt)
    script.speak(20)
    assert len(script.said(v.Interrupt)) == 1


def test_what_is_over_does_not_begin_again_by_late_news() -> None:
    script = Script()
    script.give(v.PlayoutBegan(100))
    script.give(v.PlayoutBegan(0))
    script.give(v.PlayoutEnded(100))
    script.give(v.PlayoutBegan(100))
    assert script.machine.floor_state is FloorState.SILENT
    script.speak(600)
    assert not script.said(v.Pause)


def test_what_a_predecessor_interrupted_stays_so() -> None:
    script = Script(start=Start(playing=3, interrupted=frozenset({3})))
    script.speak(2000)
    assert not script.said(v.Interrupt)


def test_no_frames_mean_silence_when_time_goes_on() -> None:
    script = Script()
    script.speak(600)
    assert script.machine.deadline_ms == 800
    script.now_ms = 800
    script.give(v.Tick())
    assert script.machine.deadline_ms == 1100
    script.now_ms = 1100
    script.give(v.Tick())
    assert script.said(v.FinishRun) == [v.FinishRun(0, 0, 600)]


def test_a_rising_voice_is_forgotten_when_frames_stop() -> None:
    script = Script()
    script.speak(180)
    script.give(v.Tick())
    script.speak(180)
    assert not script.said(v.VadStarted)


def test_a_successor_ends_what_was_recognised() -> None:
    start = Start(
        turn=4, open=True, part=1, text="where is my card", confidence=0.7, speech_start_ms=100, speech_end_ms=900
    )
    script = Script(start)
    assert script.machine.deadline_ms == 1400
    script.now_ms = 1400
    script.give(v.Tick())
    assert script.commands == [v.EndTurn(4, "silence", "where is my card", "", 0.7, 100, 900)]
    assert script.machine.turn == 5


def test_an_agent_that_the_edge_let_go_on_speaks_and_may_still_be_stopped() -> None:
    script = Script()
    script.give(v.PlayoutBegan(0))
    script.speak(300)
    script.give(v.PlayoutResumed(7))
    assert script.machine.floor_state is FloorState.PAUSED
    script.give(v.PlayoutResumed(0))
    assert script.machine.floor_state is FloorState.SPEAKING
    script.hush(500)
    script.give(v.Final(0, "stop it"))
    assert [stopped.why for stopped in script.said(v.Interrupt)] == ["words"]  # type: ignore[union-attr]
    assert not script.said(v.Resume)


def test_speech_without_words_is_answered_once_and_the_next_noise_is_a_noise() -> None:
    script = Script()
    script.speak(1000)
    script.hush(500)
    script.give(v.Final(0, ""))
    script.speak(400)
    script.hush(500)
    script.give(v.Final(1, ""))
    assert script.end().turn == 1


def test_an_answer_is_prepared_three_times_a_turn_and_anew_in_the_next() -> None:
    script = Script(preflight_ms=100)
    for words in ("my", "my card", "my card is", "my card is gone", "my card is gone since"):
        script.speak(300)
        script.give(v.Partial(0, words))
        script.hush(180)
    assert [early.number for early in script.said(v.Preflight)] == [0, 1, 2]  # type: ignore[union-attr]
    script.hush(500)
    script.give(v.Final(0, "my card is gone since"))
    script.speak(300)
    script.give(v.Partial(1, "yesterday"))
    script.hush(180)
    assert script.said(v.Preflight)[-1] == v.Preflight(2, 0, "yesterday")


def test_a_verdict_counts_for_the_silence_that_it_was_asked_in() -> None:
    script = Script(endpointing="semantic")  # type: ignore[arg-type]
    script.speak(600)
    script.hush(240)
    script.speak(400)
    script.give(v.Verdict(0, 0.99))
    script.hush(240)
    script.give(v.Verdict(0, 0.99))
    assert [ask.ask for ask in script.said(v.Ask)] == [0, 1]  # type: ignore[union-attr]
    script.hush(160)
    assert script.machine.caller_state is CallerState.PAUSED
    script.give(v.Verdict(1, 0.99))
    script.hush(20)
    assert script.machine.caller_state is CallerState.FINISHING


def test_news_of_an_earlier_time_does_not_turn_time_back() -> None:
    script = Script(away_ms=3000)
    script.give(v.PlayoutBegan(0))
    script.hush(4000)
    script.commands += script.machine.handle(v.PlayoutEnded(0), 0)
    script.hush(2980)
    assert not script.said(v.Away)
    script.hush(20)
    assert len(script.said(v.Away)) == 1


def test_who_waits_for_an_answer_is_not_away() -> None:
    script = awaits_an_answer(away_ms=3000)
    script.hush(10_000)
    assert not script.said(v.Away)


def awaits_an_answer(**settings: int) -> Script:
    """A caller whose first turn has ended."""
    script = Script(**settings)
    script.give(v.PlayoutBegan(0))
    script.give(v.PlayoutEnded(0))
    says_a_word(script)
    return script


def says_a_word(script: Script) -> None:
    script.speak(400)
    script.hush(500)
    script.give(v.Final(len(script.said(v.FinishRun)) - 1, "hello"))


def test_who_came_back_is_asked_anew_also_after_the_goodbye() -> None:
    for questions in (1, 2):
        script = Script(away_ms=3000, away_prompts=1)
        script.give(v.PlayoutBegan(0))
        script.give(v.PlayoutEnded(0))
        script.hush(3100 * questions)
        says_a_word(script)
        script.give(v.PlayoutBegan(100))
        script.give(v.PlayoutEnded(100))
        script.hush(3100)
        asked = [(away.number, away.last) for away in script.said(v.Away)]  # type: ignore[union-attr]
        assert asked == [*[(0, False), (1, True)][:questions], (questions, False)]


def test_a_silent_llm_stage_is_noticed_while_the_agent_still_speaks() -> None:
    script = Script(interruption="off", stuck_llm_ms=2000)  # type: ignore[arg-type]
    script.give(v.PlayoutBegan(0))
    says_a_word(script)
    script.hush(2000)
    assert script.said(v.Stuck) == [v.Stuck(1, "llm", 2000, 1)]


def test_nothing_is_taken_back_from_who_speaks_again() -> None:
    script = Script()
    script.give(v.PlayoutBegan(0))
    script.speak(300)
    script.hush(500)
    script.speak(300)
    script.give(v.Final(0, ""))
    assert not script.said(v.Resume)
    script.speak(300)
    assert len(script.said(v.Interrupt)) == 1


def test_a_turn_that_was_announced_ends_even_with_a_listeners_words() -> None:
    script = awaits_an_answer()
    script.speak(1100)
    script.give(v.Partial(1, "mm-hm"))
    assert len(script.said(v.TurnStarted)) == 2
    script.give(v.PlayoutBegan(100))
    assert script.machine.floor_state is FloorState.PAUSED
    script.hush(500)
    script.give(v.Final(1, "mm-hm"))
    assert script.said(v.EndTurn)[-1][2] == "mm-hm"


def test_who_stopped_the_agent_once_is_answered_once() -> None:
    script = Script()
    script.give(v.PlayoutBegan(0))
    script.speak(600)
    script.give(v.PlayoutEnded(0))
    script.hush(500)
    script.give(v.Final(0, ""))
    script.speak(400)
    script.hush(500)
    script.give(v.Final(1, ""))
    assert script.end().turn == 1


def test_what_is_dropped_while_it_is_held_is_not_taken_back() -> None:
    script = Script()
    script.give(v.PlayoutBegan(0))
    script.speak(300)
    script.give(v.PlayoutEnded(0))
    assert script.machine.floor_state is FloorState.SILENT
    script.hush(500)
    script.give(v.Final(0, ""))
    script.hush(3000)
    assert not script.said(v.Resume)


def test_a_word_over_the_end_of_one_utterance_is_an_answer_although_the_next_has_begun() -> None:
    script = Script(interruption="confirm")  # type: ignore[arg-type]
    script.give(v.PlayoutBegan(0))
    script.speak(300)
    script.give(v.PlayoutEnded(0))
    script.hush(500)
    script.give(v.PlayoutBegan(1))
    script.give(v.Final(0, "okay"))
    assert script.end().text == "okay"


def test_what_follows_a_monologue_is_the_next_turn_with_all_its_words() -> None:
    script = Script(monologue_limit_ms=1000)
    script.speak(1200)
    script.give(v.Final(0, "first"))
    assert script.machine.caller_state is CallerState.VOICED
    script.speak(400)
    script.hush(500)
    script.give(v.Final(1, "second"))
    assert [(ended.why, ended.text) for ended in script.said(v.EndTurn)] == [  # type: ignore[union-attr]
        ("monologue", "first"),
        ("silence", "second"),
    ]


def test_a_noise_leaves_nothing_to_the_turn_after_it() -> None:
    script = Script()
    script.speak(400)
    script.hush(500)
    script.give(v.Final(0, "", 0.0, failed=True))
    script.speak(300)
    script.hush(500)
    script.give(v.Final(1, ""))
    assert script.end().why == "timeout"
    script.hush(1000)
    began_ms = script.now_ms
    script.speak(400)
    script.hush(500)
    script.give(v.Final(2, "hello"))
    assert script.said(v.EndTurn)[1] == v.EndTurn(2, "silence", "hello", "", 1.0, began_ms, began_ms + 400)


def test_an_utterance_that_may_grow_is_not_near_its_end() -> None:
    script = Script()
    script.give(v.PlayoutBegan(0))
    script.speak(300)
    script.give(v.PlayoutPaused(0, None))
    script.hush(500)
    script.give(v.Final(0, "okay"))
    assert [taken_back.why for taken_back in script.said(v.Resume)] == ["backchannel"]  # type: ignore[union-attr]


def test_a_successor_waits_longer_where_the_caller_was_still_speaking() -> None:
    script = Script(Start(text="my card", speech_start_ms=100, speech_end_ms=900, voiced=True))
    assert script.machine.deadline_ms == 900 + 3000


def test_the_llm_stage_answers_one_turn_after_the_other() -> None:
    script = awaits_an_answer(stuck_llm_ms=5000)
    script.hush(1000)
    says_a_word(script)
    script.hush(4000)
    script.give(v.Sentence(100))
    script.hush(4000)
    script.give(v.Answered(100, 1))
    script.hush(4980)
    assert not script.said(v.Stuck)
    script.hush(20)
    assert script.said(v.Stuck) == [v.Stuck(2, "llm", 5000, 1)]


def test_tts_and_the_edge_deal_with_what_plays_first() -> None:
    script = Script(interruption="off", stuck_tts_ms=1000)  # type: ignore[arg-type]
    script.give(v.PlayoutBegan(0))
    says_a_word(script)
    script.give(v.Sentence(100))
    script.hush(5000)
    assert not script.said(v.Stuck)
    script.give(v.PlayoutEnded(0))
    script.hush(980)
    assert not script.said(v.Stuck)
    script.hush(20)
    assert script.said(v.Stuck) == [v.Stuck(1, "tts", 1000, 1)]


def test_an_answer_that_was_dropped_unheard_is_awaited_no_more() -> None:
    script = awaits_an_answer()
    script.give(v.Sentence(100))
    script.give(v.PlayoutEnded(100))
    script.hush(10_000)
    assert not script.said(v.Stuck)


def test_an_answer_that_comes_after_all_is_forgiven_and_an_apology_is_none() -> None:
    for late, in_a_row in ((100, 1), (150, 2), (151, 2)):
        script = awaits_an_answer(stuck_tts_ms=1000, stuck_llm_ms=2000)
        script.give(v.Sentence(100))
        script.hush(1000)
        script.give(v.PlayoutBegan(late))
        script.give(v.PlayoutEnded(late))
        says_a_word(script)
        script.hush(2000)
        assert [stuck.in_a_row for stuck in script.said(v.Stuck)] == [1, in_a_row]  # type: ignore[union-attr]


def test_what_waited_behind_an_utterance_does_not_talk_over_who_stopped_that() -> None:
    script = Script()
    script.give(v.PlayoutBegan(0))
    script.speak(600)
    script.give(v.PlayoutEnded(0))
    script.give(v.PlayoutBegan(1))
    assert [stopped.utterance_id for stopped in script.said(v.Interrupt)] == [0, 1]  # type: ignore[union-attr]


def test_gate_holds_on_to_a_fading_word() -> None:
    gate = Gate(0.7, 100, 200)
    assert gate.hear(0.6, 0, 20) is None
    assert not gate.rising
    for start in range(0, 80, 20):
        assert gate.hear(0.8, start, start + 20) is None
    assert gate.rising
    assert gate.hear(0.8, 80, 100) == VoiceBegan(0)
    assert gate.deadline_ms == 300
    assert gate.hear(0.56, 100, 120) is None
    assert gate.last_voiced_ms == 120
    assert gate.hear(0.5, 120, 140) is None
    assert gate.hear(0.5, 300, 320) == VoiceEnded(120)
    assert gate.deadline_ms is None
    assert gate.quiet(900) is None


def test_a_sound_that_holds_the_agent_is_judged_soon_even_if_it_sounds_unfinished() -> None:
    script = Script(endpointing="semantic")  # type: ignore[arg-type]
    script.give(v.PlayoutBegan(0))
    script.speak(300)
    script.hush(220)
    script.give(v.Verdict(0, 0.01))
    script.hush(260)
    assert not script.said(v.FinishRun)
    script.hush(40)
    assert len(script.said(v.FinishRun)) == 1
    script.give(v.Final(0, ""))
    assert [command.why for command in script.said(v.Resume)] == ["noise"]  # type: ignore[union-attr]
