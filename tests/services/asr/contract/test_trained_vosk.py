"""The trained Vosk model on a telephone line: a bank's callers, quiet and in an office; people saying digits; a call.

The model is small and made for demonstrations: it knows 1,294 words, and voices of eSpeak NG best.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from config.settings import AsrSection
from ops.caller.speech import file_pcm
from schemas.asr import AsrFinal, AsrPartial
from schemas.audio import Codec
from schemas.llm import ListenFor
from schemas.turn import TurnEnded
from services.asr.detector import load_detector
from services.audio import g711
from services.audio.level import rms
from tests.services.asr.contract.cases import spoken, trained_model, vosk_engine
from tests.services.asr.contract.listening import transcribe
from tests.services.asr.harness import SILENCE, Line
from tests.services.asr.speech import Speaker, frames

pytestmark = pytest.mark.integration

VOICES = ("en-us", "en", "en-us+f3", "en+m7")
SENTENCES = (
    "where is my credit card",
    "when will my debit card arrive",
    "what is my balance",
    "i want to check my account balance",
    "i lost my credit card yesterday",
    "please block my card",
    "i would like to speak to an agent",
    "my card ends with four two seven one",
    "yes that is correct",
    "no that is wrong",
    "thank you very much goodbye",
)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PEOPLE = ("george", "jackson", "lucas", "yweweler")
PAUSE = bytes(8000 // 10 * 2)
NOISE_DB = 15


@pytest.fixture(scope="module")
def engine() -> Any:
    made = vosk_engine(trained_model())
    made.warm()
    return made


def recordings() -> Path:
    folder = os.environ.get("CALLBUS_TEST_SPEECH")
    if not folder:
        pytest.skip("CALLBUS_TEST_SPEECH is not set: no recordings here")
    return Path(folder)


def wrong_words(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words that were put in, left out or changed: the fewest that make one of the other."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(said, start=1):
        before, row[0] = row[0], number
        for at, other in enumerate(heard, start=1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (word != other))
    return row[-1]


@cache
def caller(text: str, voice: str) -> bytes:
    pause = b"\xff" * 2400
    return g711.decode(pause + Speaker().say(text, voice) + pause, Codec.PCMU)


def in_noise(pcm: bytes, noise: bytes, at: int) -> bytes:
    """The office behind the caller, ``NOISE_DB`` quieter, and both through mu-law."""
    piece = noise[at : at + len(pcm)]
    factor = rms(pcm) / max(1, rms(piece)) * 10 ** (-NOISE_DB / 20)
    mixed = g711.audioop.add(pcm, g711.audioop.mul(piece, 2, factor), 2)
    return g711.decode(g711.encode(mixed, Codec.PCMU), Codec.PCMU)


@pytest.mark.parametrize("place", ["quiet", "office"])
def test_sentences_of_a_banks_callers(engine: Any, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    noise = file_pcm(recordings() / "noise" / "office_ambience_8k.wav") if place == "office" else b""
    wrong = words = 0
    misheard = []
    for number, (voice, sentence) in enumerate(itertools.product(VOICES, SENTENCES)):
        pcm = caller(sentence, voice)
        if noise:
            pcm = in_noise(pcm, noise, number * 32000)
        heard = transcribe(engine, ListenFor(), pcm, step_bytes=960).text
        words += len(sentence.split())
        wrong += wrong_words(sentence.split(), heard.split())
        if heard != sentence:
            misheard.append((voice, sentence, heard))
    with capsys.disabled():
        print(f"\n  {place}: {wrong} of {words} words wrong")
    # The model's maker measured 0.0 % in both places, over 180 sentences.
    assert wrong / words <= (0.02 if place == "quiet" else 0.05), misheard


def test_people_saying_four_digits(engine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Words of single digits, put together: nobody hears them better."""
    folder = recordings() / "digits_8k"
    wrong = count = 0
    misheard = []
    for person, first in itertools.product(PEOPLE, range(0, 10, 2)):
        numbers = [(first + step * 3) % 10 for step in range(4)]
        pcm = PAUSE.join([b"", *(file_pcm(folder / f"{number}_{person}_0.wav") for number in numbers), PAUSE])
        said = [DIGITS[number] for number in numbers]
        heard = transcribe(engine, ListenFor(state="verify", digits=4), pcm, step_bytes=960).text.split()
        count += len(said)
        wrong += wrong_words(said, heard)
        if heard != said:
            misheard.append((person, said, heard))
    with capsys.disabled():
        print(f"\n  people: {wrong} of {count} digits wrong")
    assert wrong / count <= 0.10, misheard


@pytest.mark.parametrize("what", ["noise/office_ambience_8k.wav", "dtmf/dtmf-5.wav"])
def test_what_is_no_speech_becomes_no_word(engine: Any, what: str) -> None:
    pcm = file_pcm(recordings() / what)[: 10 * 16000]
    assert transcribe(engine, ListenFor(), pcm, step_bytes=960).text == ""


def test_the_whole_text_is_known_as_soon_as_the_caller_is_silent(engine: Any) -> None:
    """By the last partial, 200 ms after the last sound: when a worker ends the run."""
    for sentence in SENTENCES:
        pcm = spoken(sentence)
        run = engine.open(ListenFor())
        partials = [text for at in range(0, len(pcm), 960) if (text := run.accept(pcm[at : at + 960])) is not None]
        assert partials[-1] == run.finish().text


async def test_a_call_is_understood_turn_by_turn(engine: Any) -> None:
    for package in ("pipecat", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("Silero is not installed: pip install 'callbus[silero]'")
    line = Line()
    await line.edge.open()
    call = await line.call(engine=engine, detectors=load_detector("silero", AsrSection()))
    line.edge.listen_for(0, ListenFor(state="menu", phrases=("where is my card",)))
    quiet = [SILENCE] * 45
    said = ("where is my credit card", "four two seven one", "thank you very much goodbye")
    for turn, text in enumerate(said):
        for payload in [*quiet, *frames(Speaker().say(text)), *quiet]:
            await line.edge.say([payload])
            async with asyncio.timeout(10):
                while not call._may_catch_up():
                    await asyncio.sleep(0)
        line.edge.listen_for(turn + 1, ListenFor(state="verify", digits=4 if turn == 0 else 0))

    ended = await line.events(TurnEnded)
    assert [(each.turn, each.text) for each in ended] == list(enumerate(said, start=1))
    # All four digits were heard: the wait is shorter.
    assert 450 <= ended[0].end_of_turn_delay_ms <= 600
    assert 240 <= ended[1].end_of_turn_delay_ms <= 400
    finals = await line.events(AsrFinal)
    assert [final.text for final in finals] == list(said)
    assert finals[0].words == (), "the model does not say which phones begin words"
    assert (await line.events(AsrPartial))[-1].text == said[-1]
