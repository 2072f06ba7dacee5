"""The corpus of the bench of endpointing, and what it counts as a cut and as a wait. Small, with models that say what
they are told."""

from __future__ import annotations

import pytest

from config.settings import TurnSection
from ops.bench import endpointing
from ops.bench.endpointing import Heard, run
from ops.bench.endpointing_corpus import LEAD_MS, CallerTurn, recordings
from services.asr.hearing import Window

pytestmark = pytest.mark.unit


def heard(*voiced: tuple[int, int], words: tuple[tuple[int, str], ...] = (), digits: int = 0) -> Heard:
    """Windows of 20 ms, sure of speech in the given stretches; 4 s of silence after the last."""
    end_ms = voiced[-1][1]
    windows = []
    for at in range(0, end_ms + 4000, 20):
        speaks = any(begin <= at < end for begin, end in voiced)
        windows.append(Window(0.95 if speaks else 0.0, at, at + 20, -20.0 if speaks else -96.0, at))
    text = " ".join(word for _, word in words)
    return Heard(CallerTurn("sentence", "turn", b"", end_ms, words, text or "yes", digits), tuple(windows), False)


HESITATION = heard((400, 1400), (2400, 3400), words=((800, "send"), (1300, "it"), (3300, "home")))


def test_a_fixed_rule_cuts_at_every_pause_longer_than_itself() -> None:
    for wait_ms, cut in ((500, True), (900, True), (1100, False)):
        (outcome,) = run([HESITATION], TurnSection(endpointing="fixed", endpointing_fixed_ms=wait_ms), None)
        assert outcome.cut is cut
        assert outcome.wait_ms is not None
        assert abs(outcome.wait_ms - wait_ms) <= 20


@pytest.mark.parametrize("words", [True, False])
def test_verdicts_come_when_they_are_asked_for(words: bool) -> None:
    asked: list[tuple[int, int]] = []

    def verdict(turn: CallerTurn, ask: object, now_ms: int) -> float:
        asked.append((now_ms, turn.end_ms))
        return 0.99 if now_ms > turn.end_ms else 0.1

    (outcome,) = run([HESITATION], TurnSection(), verdict, words=words)
    assert not outcome.cut
    assert outcome.wait_ms is not None
    assert 300 <= outcome.wait_ms <= 340
    assert len(asked) >= 3


def test_digits_that_are_expected_are_counted() -> None:
    turn = heard((400, 1000), (2400, 3000), words=((900, "four"), (2900, "two")), digits=2)
    (outcome,) = run([turn], TurnSection(endpointing="fixed", endpointing_fixed_ms=500), None)
    assert not outcome.cut
    assert outcome.wait_ms is not None
    assert outcome.wait_ms <= 300


def test_who_was_never_heard_has_no_wait() -> None:
    nobody = heard((400, 480))
    (outcome,) = run([nobody], TurnSection(), None)
    assert (outcome.cut, outcome.wait_ms) == (False, None)
    assert endpointing.cuts([outcome]) == 0


def test_people_are_left_out_where_there_are_no_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLBUS_TEST_SPEECH", raising=False)
    assert recordings() == []


def test_a_hesitation_is_where_the_text_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.tts.engine import EngineChoiceError

    monkeypatch.setattr("ops.bench.endpointing_corpus.SENTENCES", ())
    monkeypatch.setattr("ops.bench.endpointing_corpus.SHORT", ())
    monkeypatch.setattr("ops.bench.endpointing_corpus.DIGITS", ("four two [700] one",))
    monkeypatch.setattr("ops.bench.endpointing_corpus.HESITATIONS", ("I would like to [900] check my balance.",))
    from ops.bench.endpointing_corpus import synthesised

    try:
        turns = synthesised(3)
    except EngineChoiceError as error:
        pytest.skip(str(error))
    assert [turn.kind for turn in turns] == ["hesitation"] * 3 + ["digits"] * 3
    for turn in turns[:3]:
        times = {word: at_ms for at_ms, word in turn.words}
        assert times["check"] - times["to"] > 900
        assert LEAD_MS < turn.words[0][0] < turn.end_ms
        assert turn.text == "I would like to check my balance."
    assert {turn.expected_digits for turn in turns[3:]} == {3}
