"""PocketSphinx on telephone speech: grammars, digits, repeatable results."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.settings import AsrSection
from ops.caller.speech import file_pcm
from ops.scenario import sound
from schemas.audio import Codec
from schemas.llm import ListenFor
from services.asr.engine import EngineError, Transcript, load_engine
from services.asr.engines.pocketsphinx import Fit, PocketSphinxEngine, fits
from services.audio import g711
from services.audio.resample import resample
from services.packages import MissingPackageError
from tests.services.asr.speech import CALLER_VOICES, Speaker

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


def test_what_is_heard_is_a_whole_phrase_of_the_grammar(engine: Any, speaker: Speaker) -> None:
    """klatt4 has noise in its voice: no two times sound the same."""
    phrases = ("[no] thank you", "no that is all", "no [that is] (wrong | not correct)", f"where is my {CARD}")
    listen_for = ListenFor(state="anything_else", phrases=phrases)
    heard = [recognise(engine, speaker.say("no thank you"), listen_for).text for _ in range(20)]
    assert heard == ["no thank you"] * 20


def test_words_have_times_and_confidence(engine: Any, speaker: Speaker) -> None:
    transcript = recognise(engine, speaker.say(SENTENCES[0]), BANK)
    assert [word.text for word in transcript.words] == SENTENCES[0].split()
    assert 250 <= transcript.words[0].start_ms <= 450
    assert all(word.start_ms < word.end_ms for word in transcript.words)
    assert all(0.4 < word.confidence < 1.0 for word in transcript.words)
    assert 0.6 < transcript.confidence < 0.95


def test_a_noise_over_the_words_lowers_the_confidence(engine: Any, speaker: Speaker) -> None:
    payload = speaker.say(SENTENCES[10])
    pcm = g711.decode(payload, Codec.PCMU)
    noise = sound.noise(len(pcm) // 16 + 1, -32.0)[: len(pcm)]
    noisy = recognise(engine, g711.encode(g711.audioop.add(pcm, noise, 2), Codec.PCMU), BANK)
    clear = recognise(engine, payload, BANK)
    assert noisy.text == clear.text == SENTENCES[10]
    assert 0.5 < noisy.confidence < clear.confidence - 0.03


def test_partials_grow_while_the_caller_speaks(engine: Any, speaker: Speaker) -> None:
    pcm = resample(g711.decode(speaker.say(SENTENCES[0]), Codec.PCMU), 8000, 16000)
    run = engine.open(BANK)
    assert run.accept(b"") is None
    partials = [text for at in range(0, len(pcm), 3200) if (text := run.accept(pcm[at : at + 3200])) is not None]
    run.cancel()
    assert any(text.startswith("where is") for text in partials)
    assert all(earlier != later for earlier, later in itertools.pairwise(partials))


NO_SPEECH = {
    "a buzz": g711.decode(bytes((0x30 + at % 7) if at % 40 < 20 else 0xB0 for at in range(8000)), Codec.PCMU),
    "white noise": sound.noise(1000, -25.0),
    "pink noise": sound.noise(1000, -25.0, colour="pink"),
    "a short noise": sound.noise(300, -25.0),
    "a cough": sound.cough(300, -18.0),
    "two coughs": sound.cough(600, -18.0, 2),
}


@pytest.mark.parametrize("what", NO_SPEECH)
def test_what_is_no_speech_becomes_no_word(engine: Any, what: str) -> None:
    transcript = recognise(engine, g711.encode(NO_SPEECH[what], Codec.PCMU), BANK)
    assert (transcript.text, transcript.confidence, transcript.words) == ("", 0.0, ())


def test_coughs_become_no_partial_of_two_words(engine: Any) -> None:
    """That many interrupt the agent."""
    longest = []
    for seed in range(1, 13):
        pcm = resample(bytes(4800) + sound.cough(300, -18.0, seed) + bytes(4800), 8000, 16000)
        run = engine.open(BANK)
        partials = [run.accept(pcm[at : at + 1920]) or "" for at in range(0, len(pcm), 1920)]
        run.cancel()
        longest.append(max(len(text.split()) for text in partials))
    assert max(longest) < 2, longest


@pytest.mark.parametrize(
    "sentence", ["the weather is nice today", "please open the window", "my dog ate the newspaper", "turn on the lamp"]
)
def test_a_sentence_that_is_not_in_the_grammar_is_not_heard_as_one_of_it(
    engine: Any, speaker: Speaker, sentence: str
) -> None:
    assert [recognise(engine, speaker.say(sentence, voice), BANK).text for voice in CALLER_VOICES] == ["", ""]


def test_two_passes_take_what_one_refuses(engine: Any, speaker: Speaker) -> None:
    """Whoever judges by what is heard wants all that can be heard."""
    judging = PocketSphinxEngine(AsrSection(), last_pass=True)
    sentences = ("please open the window", "turn on the lamp", "tell me a story about dragons")
    payloads = [speaker.say(sentence) for sentence in sentences]
    assert [recognise(engine, payload, BANK).text for payload in payloads] == ["", "", ""]
    heard = [recognise(judging, payload, BANK) for payload in payloads]
    assert any(transcript.text for transcript in heard)
    assert all(0.0 < word.confidence <= 1.0 for transcript in heard for word in transcript.words)


def test_what_a_recorded_caller_says_fits_its_own_words_and_no_others(engine: Any) -> None:
    folder = os.environ.get("CALLBUS_TEST_SPEECH")
    if not folder:
        pytest.skip("CALLBUS_TEST_SPEECH is not set: no recordings here")
    for name, words in (("today", "today"), ("cards_001", "ten of clubs"), ("cards_003", "seven of clubs")):
        payload = g711.encode(file_pcm(Path(folder, "clips_8k", f"{name}.wav")), Codec.PCMU)
        own = recognise(engine, payload, ListenFor(state=name, phrases=(words, "where is my card")))
        assert own.text == words
        assert own.confidence > 0.7
        others = recognise(engine, payload, BANK)
        assert others.confidence < own.confidence - 0.15


def test_most_words_must_fit_and_the_whole_must() -> None:
    good, slurred, bad = Fit(40, 20.0), Fit(20, 50.0), Fit(20, 80.0)
    assert fits([good])
    assert fits([good, good, bad])
    assert not fits([good, bad])
    assert not fits([Fit(100, 49.0)])
    assert not fits([slurred, slurred, slurred])
    assert not fits([])
    assert fits([Fit(40, 35.0)]) and not fits([Fit(40, 35.0)], partial=True)


def test_the_shorter_the_speech_the_better_it_must_fit() -> None:
    assert fits([Fit(20, 30.0)])
    assert not fits([Fit(20, 31.0)])
    assert fits([Fit(56, 48.0)])
    assert [Fit(1, misfit).confidence for misfit in (0.0, 40.0, 200.0, -1.0)] == [1.0, 0.6, 0.0, 1.0]


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
