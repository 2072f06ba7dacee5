"""A call with Silero and PocketSphinx on eSpeak NG's speech, frame by frame."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterable

import pytest

from config.settings import AsrSection
from schemas.asr import AsrFinal, AsrPartial
from schemas.llm import ListenFor
from schemas.turn import TurnEnded
from services.asr.call import AsrCall
from services.asr.detector import VoiceModel, load_detector
from services.asr.engine import Engine, load_engine
from tests.services.asr.harness import SILENCE, Line
from tests.services.asr.speech import Speaker, frames

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("pipecat", "onnxruntime", "pocketsphinx")),
        reason="the embedded engines are not installed: pip install 'callbus[embedded]'",
    ),
]

MENU = ListenFor(
    state="menu",
    phrases=(
        "where is my [new] [credit | debit | bank] card",
        "what is my [account] balance",
        "i [have] lost my [credit | debit] card",
        "(yes | no) [thank you]",
    ),
)


async def talk(line: Line, call: AsrCall, payloads: Iterable[bytes]) -> None:
    """As fast as the engine hears it: its threads know no virtual clock."""
    for payload in payloads:
        await line.edge.say([payload])
        async with asyncio.timeout(10):
            while not call._may_catch_up():
                await asyncio.sleep(0)


@pytest.fixture(scope="module")
def models() -> tuple[Engine, VoiceModel]:
    engine = load_engine("pocketsphinx", AsrSection())
    engine.warm()
    return engine, load_detector("silero", AsrSection())


async def test_a_caller_is_understood_turn_by_turn(models: tuple[Engine, VoiceModel]) -> None:
    engine, detectors = models
    line = Line()
    await line.edge.open()
    call = await line.call(engine=engine, detectors=detectors)
    line.edge.listen_for(0, MENU)
    quiet = [SILENCE] * 45
    await talk(line, call, [*quiet, *frames(Speaker().say("where is my credit card")), *quiet])
    line.edge.listen_for(1, ListenFor(state="verify", digits=4))
    await talk(line, call, [*quiet, *frames(Speaker().say("four two seven one")), *quiet])

    first, second = await line.events(TurnEnded)
    assert (first.turn, first.text) == (1, "where is my credit card")
    assert (second.turn, second.text) == (2, "four two seven one")
    assert 0.6 < first.confidence < 0.95
    assert 450 <= first.end_of_turn_delay_ms <= 600
    # All four digits were heard: the wait is shorter.
    assert 240 <= second.end_of_turn_delay_ms <= 400
    final = (await line.events(AsrFinal))[0]
    assert [word.text for word in final.words] == first.text.split()
    assert final.speech_start_ms - 150 <= final.words[0].start_ms <= final.speech_start_ms + 150
    assert (await line.events(AsrPartial))[-1].text == "four two seven one"


async def test_a_successor_understands_the_whole_sentence(models: tuple[Engine, VoiceModel]) -> None:
    engine, detectors = models
    line = Line()
    await line.edge.open()
    line.edge.listen_for(0, MENU)
    call = await line.call(engine=engine, detectors=detectors)
    sentence = frames(Speaker().say("i have lost my credit card"))
    half = len(sentence) // 2
    await talk(line, call, [*[SILENCE] * 40, *sentence[:half]])
    line.kill()
    await line.edge.say(sentence[half : half + 10])
    successor = await line.call(epoch=2, engine=engine, detectors=detectors)
    async with asyncio.timeout(10):
        while successor._audio.behind:
            await asyncio.sleep(0.001)
    await talk(line, successor, [*sentence[half + 10 :], *[SILENCE] * 45])

    [ended] = await line.events(TurnEnded)
    assert (ended.turn, ended.text, ended.epoch) == (1, "i have lost my credit card", 2)
