"""PocketSphinx on telephone speech: grammars, digits, repeatable results."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.settings import AsrSection
from schemas.audio import Codec
from schemas.llm import ListenFor
from services.asr.engine import EngineError, Transcript, load_engine
from services.asr.loading import MissingPackageError
from services.audio import g711
from services.audio.resample import resample
from tests.services.asr.speech import Speaker

pytestmark = pytest.mark.unit

pytest.importorskip("pocketsphinx", reason="PocketSphinx is not installed: pip install 'callbus[pocketsphinx]'")

CARD = "[new] [credit | debit | bank] card"
BANK = ListenFor(
    state="menu",
    phrases=(
        f"where is my {CARD}",
        f"when will my {CARD} arrive",
        "what is my [account] balance",
        "i want to check my [account] balance",
        f"i [have] lost my {CARD} [yesterday | today | this morning]",
        f"[please] (block | cancel | freeze) my {CARD}",
        "(i would like to | can i) (speak | talk) to (an agent | a person | someone)",
        "[my] card [number] ends with <digit> <digit> <digit> <digit>",
        "(yes | no) [that is (correct | wrong)]",
        "[thank you [very much]] goodbye",
    ),
)
SENTENCES = (
    "where is my credit card",
    "where is my debit card",
    "where is my bank card",
    "when will my debit card arrive",
    "what is my balance",
    "i want to check my account balance",
    "i lost my credit card yesterday",
    "i have lost my debit card this morning",
    "please block my card",
    "i would like to speak to an agent",
    "my card ends with four two seven one",
    "card number ends with nine zero three eight",
    "yes that is correct",
    "no that is wrong",
    "thank you very much goodbye",
)


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker()


@pytest.fixture(scope="module")
def engine() -> Any:
    made = load_engine("pocketsphinx", AsrSection())
    made.warm()
    return made


def recognise(engine: Any, payload: bytes, listen_for: ListenFor) -> Transcript:
    pause = b"\xff" * 2400
    pcm = resample(g711.decode(pause + payload + pause, Codec.PCMU), 8000, 16000)
    run = engine.open(listen_for)
    for at in range(0, len(pcm), 640):
        run.accept(pcm[at : at + 640])
    result: Transcript = run.finish()
    return result


def test_sentences_of_a_banks_callers(engine: Any, speaker: Speaker) -> None:
    heard = [recognise(engine, speaker.say(sentence), BANK).text for sentence in SENTENCES]
    right = sum(text == sentence for text, sentence in zip(heard, SENTENCES, strict=True))
    assert right >= 14, list(zip(SENTENCES, heard, strict=True))


def test_four_digits(engine: Any, speaker: Speaker) -> None:
    listen_for = ListenFor(state="verify", digits=4)
    spoken = ("four two seven one", "nine zero three eight", "one two three four", "eight seven three two")
    heard = [recognise(engine, speaker.say(text), listen_for).text for text in spoken]
    right = sum(
        a == b
        for text, said in zip(heard, spoken, strict=True)
        for a, b in zip(text.split(), said.split(), strict=False)
    )
    assert all(len(text.split()) <= 4 for text in heard)
    assert right >= 15, heard


def test_a_result_depends_on_the_audio_alone(engine: Any, speaker: Speaker) -> None:
    payload = speaker.say(SENTENCES[0])
    first = recognise(engine, payload, BANK)
    recognise(engine, speaker.say("what is my balance", "en-us+f1"), BANK)
    assert recognise(engine, payload, BANK) == first


def test_words_have_times_and_confidence(engine: Any, speaker: Speaker) -> None:
    transcript = recognise(engine, speaker.say(SENTENCES[0]), BANK)
    assert [word.text for word in transcript.words] == SENTENCES[0].split()
    assert 250 <= transcript.words[0].start_ms <= 450
    assert all(word.start_ms < word.end_ms for word in transcript.words)
    assert 0.5 < transcript.confidence <= 1.0


def test_partials_grow_while_the_caller_speaks(engine: Any, speaker: Speaker) -> None:
    pcm = resample(g711.decode(speaker.say(SENTENCES[0]), Codec.PCMU), 8000, 16000)
    run = engine.open(BANK)
    assert run.accept(b"") is None
    partials = [text for at in range(0, len(pcm), 3200) if (text := run.accept(pcm[at : at + 3200])) is not None]
    run.cancel()
    assert any(text.startswith("where is") for text in partials)
    assert all(earlier != later for earlier, later in itertools.pairwise(partials))


def test_noise_becomes_no_word(engine: Any) -> None:
    hum = bytes((0x30 + at % 7) if at % 40 < 20 else 0xB0 for at in range(8000))
    assert recognise(engine, hum, BANK).text == ""


def test_words_that_the_dictionary_lacks_are_named_once(engine: Any, speaker: Speaker) -> None:
    listen_for = ListenFor(state="odd", phrases=("where is my fzzbxq", f"where is my {CARD}", "broken (phrase"))
    with capture_logs() as logs:
        for _ in range(2):
            assert recognise(engine, speaker.say(SENTENCES[0]), listen_for).text == SENTENCES[0]
        engine.open(ListenFor(state="odd too", phrases=("fzzbxq card", "card", "broken (phrase"))).cancel()
    assert [line["event"] for line in logs] == ["word_unknown", "phrase_refused"]
    assert "'fzzbxq'" in logs[0]["message"]
    assert "')' is missing" in logs[1]["message"]


def test_without_phrases_the_general_model_listens(engine: Any, speaker: Speaker) -> None:
    transcript = recognise(engine, speaker.say("hello"), ListenFor())
    assert transcript.text
    nothing_left = ListenFor(state="empty", phrases=("fzzbxq",))
    with capture_logs() as logs:
        for _ in range(2):
            engine.open(nothing_left).cancel()
    assert [line["event"] for line in logs] == ["grammar_empty"]


def test_many_grammars_do_not_pile_up(engine: Any, speaker: Speaker) -> None:
    for number in range(40):
        engine.open(ListenFor(state=f"s{number}", phrases=("card " * (number + 1),))).cancel()
    for number in range(140):
        engine._grammar_for(ListenFor(state=f"t{number}", phrases=("card",)))
    assert len(engine._grammars) <= 128
    assert recognise(engine, speaker.say(SENTENCES[0]), BANK).text == SENTENCES[0]


def test_a_grammar_that_the_decoder_refuses_is_an_error_of_the_engine(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engine._idle[-1]), "listen", lambda *_: (_ for _ in ()).throw(RuntimeError("bad")))
    with pytest.raises(EngineError, match="state 'menu'"):
        engine.open(BANK)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'callbus\[pocketsphinx\]'"):
        load_engine("pocketsphinx", AsrSection())
