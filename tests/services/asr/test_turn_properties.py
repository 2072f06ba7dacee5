"""What the turn machine keeps whatever comes: any order, loss and duplication of what it is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import TurnSection
from services.asr.turn import values as v
from services.asr.turn.caller_table import CallerState
from services.asr.turn.machine import TurnMachine

pytestmark = pytest.mark.unit

WINDOW_MS = 32
UTTERANCES = (0, 100, 101, 200, 201, 300)
TEXTS = ("", "stop", "where is my card", "mm-hm", "okay okay", "four two seven one", "and")

speech = st.tuples(
    st.just("hear"), st.sampled_from((0.0, 0.5, 0.95)), st.integers(1, 60), st.sampled_from((-20.0, -60.0))
)
inputs = st.one_of(
    speech,
    speech,
    st.tuples(st.just("partial"), st.sampled_from(TEXTS)),
    st.tuples(st.just("final"), st.sampled_from(TEXTS), st.booleans()),
    st.tuples(st.just("verdict"), st.sampled_from((0.05, 0.5, 0.99))),
    st.tuples(st.just("key"), st.sampled_from("0123456789*#")),
    st.tuples(st.just("expect"), st.sampled_from((0, 1, 4))),
    st.tuples(st.just("held"), st.booleans()),
    st.tuples(st.just("silent line"), st.integers(1, 20_000)),
    *(
        st.tuples(st.just(name), st.sampled_from(UTTERANCES))
        for name in ("began", "paused", "goes on", "ended", "sentence", "speech", "answered")
    ),
)
policies = st.fixed_dictionaries(
    {
        "interruption": st.sampled_from(("pause", "confirm", "off")),
        "endpointing": st.sampled_from(("semantic", "fixed")),
        "protected_opening_ms": st.sampled_from((0, 3000)),
        "monologue_limit_ms": st.sampled_from((0, 2000, 60_000)),
        "dtmf_terminator": st.sampled_from(("#", "")),
    }
)

AGENT = {
    "began": v.PlayoutBegan,
    "goes on": v.PlayoutResumed,
    "ended": v.PlayoutEnded,
    "sentence": v.Sentence,
    "speech": v.Speech,
}


class World:
    """Tells a machine what a test wants it to hear, true or not, and keeps the commands."""

    def __init__(self, **chosen: Any) -> None:
        self.machine = TurnMachine(TurnSection(**chosen))
        self.now_ms = 0
        self.commands: list[v.Command] = []
        self.asks = self.runs = 0
        self.finished: list[int] = []
        self.over = -1

    def tell(self, happening: tuple[Any, ...]) -> None:
        match happening:
            case ("hear", probability, windows, level):
                for _ in range(windows):
                    start, self.now_ms = self.now_ms, self.now_ms + WINDOW_MS
                    self.give(v.Heard(probability, start, self.now_ms, False, level))
            case ("silent line", milliseconds):
                self.now_ms += milliseconds
                self.give(v.Tick())
            case ("partial", text):
                self.give(v.Partial(self.runs - 1, text))
            case ("final", text, failed):
                # Also one that nobody waits for, or a second time.
                self.give(v.Final(self.finished[0] if self.finished else 0, text, 0.9, failed))
            case ("verdict", probability):
                self.give(v.Verdict(self.asks, probability))
            case ("key", digit):
                self.give(v.Key(digit, self.now_ms))
            case ("expect", digits):
                self.give(v.Expect(digits))
            case ("held", held):
                self.give(v.Held(held))
            case ("paused", utterance_id):
                self.give(v.PlayoutPaused(utterance_id, 500))
            case ("answered", utterance_id):
                self.give(v.Answered(utterance_id, 0))
            case (name, utterance_id):
                self.give(AGENT[name](utterance_id))

    def give(self, given: v.Input) -> None:
        commands = self.machine.handle(given, self.now_ms)
        self.commands += commands
        if isinstance(given, v.PlayoutEnded):
            self.over = max(self.over, given.utterance_id)
        for command in commands:
            if isinstance(command, v.Pause | v.Resume | v.Interrupt):
                # What has come to its end, and all before it, is not held, taken back or stopped.
                assert command.utterance_id > self.over
            if isinstance(command, v.OpenRun):
                self.runs = command.run + 1
            elif isinstance(command, v.FinishRun):
                self.finished.append(command.run)
            elif isinstance(command, v.Ask):
                self.asks = command.ask
        if isinstance(given, v.Final) and given.run in self.finished:
            self.finished.remove(given.run)

    def come_to_rest(self) -> None:
        """The caller is silent and every engine answers."""
        self.tell(("held", False))
        for _ in range(8):
            self.tell(("hear", 0.0, 200, -60.0))
            while self.finished:
                self.give(v.Final(self.finished[0], ""))

    def of(self, kind: type[Any]) -> list[Any]:
        return [command for command in self.commands if isinstance(command, kind)]


def after(happenings: list[tuple[Any, ...]], chosen: dict[str, Any]) -> World:
    world = World(**chosen)
    for happening in happenings:
        world.tell(happening)
    return world


@given(st.lists(inputs, max_size=60), policies)
@settings(max_examples=100, deadline=None)
def test_every_turn_that_begins_ends_and_turns_are_numbered_without_gap(
    happenings: list[tuple[Any, ...]], chosen: dict[str, Any]
) -> None:
    world = after(happenings, chosen)
    world.come_to_rest()

    assert world.machine.caller_state is CallerState.IDLE
    started = [command.turn for command in world.of(v.TurnStarted)]
    ended = [command.turn for command in world.of(v.EndTurn)]
    assert started == ended == list(range(1, len(ended) + 1))


@given(st.lists(inputs, max_size=60), policies)
@settings(max_examples=100, deadline=None)
def test_runs_are_opened_one_at_a_time_and_each_is_finished_once(
    happenings: list[tuple[Any, ...]], chosen: dict[str, Any]
) -> None:
    world = after(happenings, chosen)
    world.come_to_rest()

    open_run: int | None = None
    for command in world.commands:
        if isinstance(command, v.OpenRun):
            assert open_run is None
            open_run = command.run
        elif isinstance(command, v.FinishRun):
            assert command.run == open_run
            open_run = None
    assert open_run is None


@given(st.lists(inputs, max_size=60), policies)
@settings(max_examples=100, deadline=None)
def test_what_was_interrupted_is_never_touched_again(happenings: list[tuple[Any, ...]], chosen: dict[str, Any]) -> None:
    """One utterance is dealt with at a time: it is held, then goes on or is dropped, and what is dropped stays so."""
    world = after(happenings, chosen)
    world.come_to_rest()

    held: int | None = None
    dropped: set[int] = set()
    newest = -1
    for command in world.commands:
        if not isinstance(command, v.Pause | v.Resume | v.Interrupt):
            continue
        assert command.utterance_id not in dropped
        assert command.utterance_id >= newest
        newest = command.utterance_id
        match command:
            case v.Pause():
                assert chosen["interruption"] == "pause"
                held = command.utterance_id
            case v.Resume():
                assert not command.held or held == command.utterance_id
                held = None
            case v.Interrupt():
                dropped.add(command.utterance_id)
                held = None
    if chosen["interruption"] == "off":
        assert not dropped


@given(st.lists(inputs, max_size=60), policies)
@settings(max_examples=60, deadline=None)
def test_nothing_is_due_for_ever(happenings: list[tuple[Any, ...]], chosen: dict[str, Any]) -> None:
    """At rest a deadline lies ahead or there is none: a timer that is due at once again and again would spin."""
    world = after(happenings, chosen)
    world.come_to_rest()
    world.give(v.Tick())

    deadline_ms = world.machine.deadline_ms
    assert deadline_ms is None or deadline_ms > world.now_ms


@given(st.lists(inputs, max_size=60), policies)
@settings(max_examples=30, deadline=None)
def test_the_same_inputs_give_the_same_commands(happenings: list[tuple[Any, ...]], chosen: dict[str, Any]) -> None:
    assert after(happenings, chosen).commands == after(happenings, chosen).commands


@given(st.lists(inputs, max_size=40), policies, st.sampled_from(UTTERANCES))
@settings(max_examples=60, deadline=None)
def test_an_agent_is_never_left_held(
    happenings: list[tuple[Any, ...]], chosen: dict[str, Any], utterance_id: int
) -> None:
    """Whatever held it: once the caller is silent it goes on, or was dropped, or ended."""
    world = after(happenings, chosen)
    world.come_to_rest()

    last: dict[int, v.Command] = {}
    for command in world.commands:
        if isinstance(command, v.Pause | v.Resume | v.Interrupt):
            last[command.utterance_id] = command
    over = {happening[1] for happening in happenings if happening[0] in ("ended", "goes on", "began")}
    for held, command in last.items():
        if isinstance(command, v.Pause):
            assert any(other >= held for other in over)
