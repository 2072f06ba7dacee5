"""The judge: the goal is reached by the right sentences in their order, and by nothing else."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from config.load import ConfigError
from config.settings import TtsSection
from ops.caller.script import Say
from ops.caller.speech import file_pcm, prepare
from ops.commands.demo import DEMOS
from ops.hearing import Demonstration, Judge, Verdict, load_demonstration, missing_in_order, utterances_of
from schemas.audio import Codec
from services.audio.g711 import decode, encode

pytestmark = pytest.mark.integration

SECOND = bytes(16_000)
FRAME_BYTES = 320
GREETING = ("Welcome to Example Bank.", "How can I help you?")
DIGITS = ("I can help you with that.", "Please tell me the last four digits of your card, by voice or on your keypad.")
STATUS = ("Thank you, Alex Morgan.", "Your credit card was shipped on Monday.")
TRACKING = ("The tracking number ends in 8 8 3 1.",)
FAREWELL = ("Thank you for calling Example Bank.", "Goodbye.")
WHOLE = (*GREETING, *DIGITS, *STATUS, *TRACKING, *FAREWELL)
NOT_FOUND = ("I could not find that card.", "Please tell me the last four digits once more.")


@pytest.fixture(scope="module")
def demonstration() -> Demonstration:
    return load_demonstration(DEMOS / "bank.toml")


@pytest.fixture(scope="module")
def judge(demonstration: Demonstration) -> Judge:
    made = Judge(demonstration)
    made.warm()
    # The same sentences stand in many calls: a sound is heard once.
    made._hear_once = functools.cache(made._hear_once)  # type: ignore[method-assign]
    return made


@pytest.fixture(scope="module")
def spoken() -> dict[str, bytes]:
    """Each sentence in the agent's voice."""
    sentences = (*WHOLE, *NOT_FOUND)
    sounds = asyncio.run(prepare([Say(sentence) for sentence in sentences], voice=TtsSection().voice))
    return {sentence: sounds[number] for number, sentence in enumerate(sentences)}


def call_of(spoken: dict[str, bytes], sentences: Sequence[str]) -> bytes:
    return SECOND + b"".join(spoken[sentence] + SECOND for sentence in sentences)


def test_the_right_sentences_reach_the_goal(judge: Judge, spoken: dict[str, bytes]) -> None:
    verdict = judge.judge(call_of(spoken, WHOLE))
    assert verdict.reached, verdict
    assert verdict.utterances[0].start_ms == pytest.approx(1000, abs=60)


@pytest.mark.parametrize(
    ("sentences", "missing"),
    [
        ([*GREETING, *DIGITS, *TRACKING, *FAREWELL], "was shipped on"),
        ([*GREETING, *DIGITS, *STATUS, *TRACKING], "goodbye"),
        ([*GREETING, *DIGITS, *TRACKING, *STATUS, *FAREWELL], "tracking number"),
        ([*GREETING, *DIGITS, *NOT_FOUND, *FAREWELL], "was shipped on"),
    ],
    ids=["the status is missing", "no farewell", "wrong order", "card not found"],
)
def test_other_sentences_do_not(judge: Judge, spoken: dict[str, bytes], sentences: list[str], missing: str) -> None:
    verdict = judge.judge(call_of(spoken, sentences))
    assert not verdict.reached
    assert any(missing in phrase for phrase in verdict.missing), verdict


def test_silence_and_nothing_are_not_heard(judge: Judge) -> None:
    assert judge.judge(b"") == Verdict((), judge.judge(SECOND * 3).missing)
    assert not judge.judge(SECOND * 3).reached


def test_noise_does_not_reach_the_goal(judge: Judge) -> None:
    # A linear congruential generator: the same noise every time.
    state, samples = 1, bytearray()
    for _ in range(2 * 8000):
        state = (state * 1_103_515_245 + 12_345) % 2**31
        samples += ((state >> 16) % 8000 - 4000).to_bytes(2, "little", signed=True)
    verdict = judge.judge(SECOND + bytes(samples) + SECOND)
    assert len(verdict.missing) >= 4, verdict


def pieces(pcm: bytes, size: int) -> list[bytes]:
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


GARBLED: dict[str, Callable[[bytes], bytes]] = {
    "the wrong codec": lambda pcm: decode(encode(pcm, Codec.PCMU), Codec.PCMA),
    "frames out of order": lambda pcm: b"".join(
        b"".join(reversed(pieces(part, FRAME_BYTES))) for part in pieces(pcm, 10 * FRAME_BYTES)
    ),
    "40 ms of every 80 lost": lambda pcm: b"".join(
        part[: 2 * FRAME_BYTES] + bytes(2 * FRAME_BYTES) for part in pieces(pcm, 4 * FRAME_BYTES)
    ),
}


@pytest.mark.parametrize("how", GARBLED)
def test_garbled_audio_is_not_understood(judge: Judge, spoken: dict[str, bytes], how: str) -> None:
    assert "how can i help you" not in judge.judge(call_of(spoken, GREETING)).missing
    assert "how can i help you" in judge.judge(GARBLED[how](call_of(spoken, GREETING))).missing


def test_frames_sent_twice_or_left_out_are_noticed_in_a_whole_call(judge: Judge, spoken: dict[str, bytes]) -> None:
    frames = pieces(call_of(spoken, WHOLE), FRAME_BYTES)
    assert not judge.judge(b"".join(frame * 2 for frame in frames)).reached
    assert not judge.judge(b"".join(frames[::2])).reached


def test_audio_cut_off_in_the_middle_does_not_reach_the_goal(judge: Judge, spoken: dict[str, bytes]) -> None:
    pcm = call_of(spoken, WHOLE)
    assert not judge.judge(pcm[: len(pcm) // 2 // 2 * 2]).reached


def test_hold_music_does_not_reach_the_goal(judge: Judge) -> None:
    folder = os.environ.get("CALLBUS_TEST_SPEECH")
    if not folder:
        pytest.skip("CALLBUS_TEST_SPEECH is not set: no music here")
    files = sorted(Path(folder, "noise").glob("hold_*.wav"))
    assert files, f"no hold_*.wav in the folder noise of {folder}"
    for file in files:
        assert len(judge.judge(file_pcm(file)[: 16_000 * 3]).missing) >= 4


def test_order_counts_and_rules_stand_for_words() -> None:
    said = "how can i help you your card was shipped on monday it ends in eight eight three one"
    assert missing_in_order(said, ["how can i help you", "on <weekday>", "<digit> <digit> <digit> <digit>"]) == ()
    assert missing_in_order(said, ["on <weekday>", "how can i help you"]) == ("how can i help you",)
    assert missing_in_order("how can i help yours", ["how can i help you"]) == ("how can i help you",)


def test_pauses_cut_and_commas_do_not() -> None:
    tone = (b"\x00\x20" * 80 + b"\x00\xe0" * 80) * 10
    assert len(utterances_of(tone + bytes(3200) + tone)) == 1
    first, second = utterances_of(SECOND + tone + SECOND + tone)
    assert first[0] == 1000
    assert second[0] == 2000 + len(tone) // 16


def test_a_demonstration_that_lacks_something_is_named(tmp_path: Path) -> None:
    file = tmp_path / "demo.toml"
    file.write_text('say = ["hello"]\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"demo\.toml.*goal"):
        load_demonstration(file)
    with pytest.raises(ConfigError, match="none"):
        load_demonstration(tmp_path / "none.toml")
