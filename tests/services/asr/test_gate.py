"""The gate: whether it is speech by probability, when it began and ended by loudness."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from services.asr.turn.gate import LOOK_BACK_MS, Gate, VoiceBegan, VoiceEnded

pytestmark = pytest.mark.unit

WINDOW_MS = 32
NOTHING = -96.0


class Sound(NamedTuple):
    """``windows`` windows alike."""

    windows: int
    probability: float
    level_dbfs: float


QUIET = Sound(20, 0.02, NOTHING)
CONSONANT = Sound(3, 0.05, -40.0)
VOWEL = Sound(8, 0.95, -15.0)
MEMORY = Sound(2, 0.9, NOTHING)


def hear(gate: Gate, *sounds: Sound, start_ms: int = 0) -> list[tuple[VoiceBegan | VoiceEnded, int]]:
    """What the gate says, each with the end of the window that made it say so."""
    said = []
    at = start_ms
    for sound in sounds:
        for _ in range(sound.windows):
            change = gate.hear(sound.probability, at, at + WINDOW_MS, sound.level_dbfs)
            at += WINDOW_MS
            if change is not None:
                said.append((change, at))
    return said


def length_ms(*sounds: Sound) -> int:
    return sum(sound.windows for sound in sounds) * WINDOW_MS


def gate() -> Gate:
    return Gate(0.7, 200, 200)


def test_a_word_begins_with_its_consonant_and_ends_with_its_sound() -> None:
    onset, end = length_ms(QUIET), length_ms(QUIET, CONSONANT, VOWEL)
    (began, said), (ended, _) = hear(gate(), QUIET, CONSONANT, VOWEL, MEMORY, QUIET)
    assert began == VoiceBegan(onset)
    # Three windows of consonant and five that the detector is sure of.
    assert said == onset + 8 * WINDOW_MS
    assert ended == VoiceEnded(end)


def test_a_word_without_a_consonant_needs_the_whole_time() -> None:
    onset = length_ms(QUIET)
    [(began, said)] = hear(gate(), QUIET, VOWEL)
    assert (began, said) == (VoiceBegan(onset), onset + 7 * WINDOW_MS)


def test_the_end_is_said_that_long_after_the_last_window_of_speech() -> None:
    spoken = length_ms(QUIET, VOWEL)
    _, (ended, said) = hear(gate(), QUIET, VOWEL, MEMORY, QUIET)
    assert (ended, said) == (VoiceEnded(spoken), spoken + 7 * WINDOW_MS)


def test_what_is_louder_than_the_voice_after_it_is_no_consonant() -> None:
    cough = Sound(3, 0.03, -12.0)
    after = Sound(5, 0.9, -25.0)
    assert hear(gate(), QUIET, cough, after, QUIET) == []
    # The same voice after a consonant is a word.
    assert len(hear(gate(), QUIET, CONSONANT, after, QUIET)) == 2


def test_noise_of_the_line_is_no_beginning_and_no_end() -> None:
    line = Sound(100, 0.05, -38.0)
    lingering = Sound(2, 0.8, -38.0)
    (began, _), (ended, _) = hear(gate(), line, VOWEL, lingering, line)
    assert began == VoiceBegan(length_ms(line))
    assert ended == VoiceEnded(length_ms(line, VOWEL))


def test_however_loud_the_noise_speech_ends_where_the_detector_lets_go() -> None:
    loud = Sound(100, 0.05, -20.0)
    (_, _), (ended, _) = hear(gate(), loud, VOWEL, loud)
    assert ended == VoiceEnded(length_ms(loud, VOWEL))


def test_a_consonant_is_not_looked_for_for_ever() -> None:
    hiss = Sound(20, 0.05, -40.0)
    (began, _), *_ = hear(gate(), QUIET, hiss, VOWEL)
    onset = length_ms(QUIET, hiss)
    assert onset - LOOK_BACK_MS - WINDOW_MS < began.at_ms < onset


def test_the_beginning_is_never_before_the_end_of_what_was_said_before() -> None:
    made = gate()
    soft = Sound(6, 0.3, -40.0)
    changes = [change for change, _ in hear(made, QUIET, VOWEL, Sound(1, 0.9, -40.0), soft, Sound(2, 0.3, -40), VOWEL)]
    assert [type(change) for change in changes] == [VoiceBegan, VoiceEnded, VoiceBegan]
    assert changes[2].at_ms >= changes[1].at_ms


@pytest.mark.parametrize(("dip", "words"), [(1, 1), (2, 0)])
def test_one_soft_window_is_no_end_of_what_rises(dip: int, words: int) -> None:
    half = Sound(3, 0.95, -15.0)
    assert len(hear(gate(), QUIET, half, Sound(dip, 0.1, -60.0), half)) == words


def test_windows_between_sure_and_unsure_neither_count_nor_end() -> None:
    made = gate()
    assert hear(made, QUIET, Sound(2, 0.95, -15.0), Sound(6, 0.6, -15.0)) == []
    assert made.rising
    later = length_ms(QUIET, Sound(8, 0, 0))
    assert len(hear(made, Sound(3, 0.95, -15.0), start_ms=later)) == 1


def test_what_only_the_detector_remembers_is_not_speech() -> None:
    assert hear(gate(), QUIET, Sound(3, 0.95, -30.0), Sound(10, 0.9, -60.0), QUIET) == []


def test_without_levels_the_probability_alone_says_when() -> None:
    made = gate()
    silence, speech = (0.0, 20), (0.9, 15)
    said = []
    at = 0
    for probability, windows in (silence, speech, silence):
        for _ in range(windows):
            said.append(made.hear(probability, at, at + 20))
            at += 20
    assert [change for change in said if change] == [VoiceBegan(400), VoiceEnded(700)]


def test_silence_of_the_line_ends_what_rises_and_in_time_what_is_said() -> None:
    made = gate()
    hear(made, QUIET, Sound(3, 0.95, -15.0))
    assert made.rising
    made.silence()
    assert not made.rising
    assert made.deadline_ms is None
    hear(made, VOWEL, start_ms=2000)
    assert made.deadline_ms == 2000 + length_ms(VOWEL) + 200
    assert made.quiet(made.deadline_ms - 1) is None
    assert made.quiet(made.deadline_ms) == VoiceEnded(2000 + length_ms(VOWEL))
    assert made.quiet(10_000) is None


def test_the_whole_of_a_quiet_callers_speech_is_sound() -> None:
    """Under the level that other callers' sound has: its end is not the moment at which it was known to be speech."""
    speech = Sound(40, 0.95, -50.0)
    end = length_ms(QUIET, speech)
    (_, (ended, _)) = hear(gate(), QUIET, speech, QUIET)
    assert ended == VoiceEnded(end)


def test_the_first_sample_that_can_be_heard_is_told_and_not_waited_for() -> None:
    told = gate()
    at, said = 0, []
    for sound in (QUIET, CONSONANT, VOWEL):
        for number in range(sound.windows):
            first = sound is CONSONANT and number == 0
            if told.hear(sound.probability, at, at + WINDOW_MS, sound.level_dbfs, at + 25 * first):
                said.append(at + WINDOW_MS)
            at += WINDOW_MS
    onset = length_ms(QUIET)
    assert (told.began_ms, told.first_sound_ms) == (onset, onset + 25)
    assert said == [onset + 8 * WINDOW_MS], "as without it"
    unknown = gate()
    hear(unknown, QUIET, CONSONANT, VOWEL)
    assert unknown.first_sound_ms == unknown.began_ms == onset
