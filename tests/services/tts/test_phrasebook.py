"""Sentences kept as audio: what is kept and for how long, the user's own, and what a caller hears without an engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bus import metrics
from config.engine_sections import ModelsSection
from config.settings import AsrSection, FailoverSection, Settings, TtsSection
from schemas.failure import Failure
from schemas.llm import LlmSentence
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnInterrupted
from services.audio.wav import build_wav
from services.text.courtesies import courtesies
from services.tts.apology import Apology
from services.tts.delivery import HEARS_APOLOGY, HEARS_NOTHING, HEARS_RECORDING
from services.tts.phrasebook import RECORDED, PhraseBook
from services.tts.recordings import FOLDER, PhrasesError, add_own, open_book
from tests.services.tts.actors import Actor, levels, tone, troupe
from tests.services.tts.edge_twin import CALL, EPOCH_US, EdgeTwin, done, sentence, settle, speech_call
from tests.services.tts.scripted import FRAME, ScriptedEngine, started_twin, virtual
from tests.services.tts.test_delivery import failures, frames_of
from tests.services.tts.test_failover import HANG

pytestmark = pytest.mark.unit

APOLOGY = Apology("I am sorry.", FRAME * 30)
LATER = courtesies("en").later
DEAD = [OSError("x")]


def counted(what: str) -> float:
    labels = {"stage": "tts", "what": what}
    return metrics.REGISTRY.get_sample_value("callbus_degraded_total", labels) or 0.0


def book_with(*texts: str, level: int = 2000, milliseconds: int = 600) -> PhraseBook:
    book = PhraseBook(8000)
    for text in texts:
        book.add(text, "en", tone(level, milliseconds), 8000)
    return book


# -- the book ----------------------------------------------------------------------------------------------------------


def test_a_phrase_is_known_by_its_words_and_its_language() -> None:
    book = book_with("One moment, please.")
    assert book.recording("one moment  please", "en-GB") == tone(2000, 600)
    assert book.recording("One moment, please.", "de") is None
    assert book.recording("One moment.", "en") is None
    book.add("One moment, please.", "en", tone(1, 20), 8000)
    assert book.recording("One moment, please.", "en") == tone(2000, 600), "the first one stands"


def test_audio_of_another_rate_is_brought_to_the_engines() -> None:
    book = PhraseBook(8000)
    book.add("Goodbye.", "en", tone(2000, 600, 22_050), 22_050)
    pcm = book.recording("Goodbye.", "en")
    assert pcm is not None and book.duration_ms(pcm) == pytest.approx(600, abs=1)


def test_only_what_was_said_in_two_calls_is_kept() -> None:
    book = PhraseBook(8000)
    assert not book.wants("Is there anything else?", "en", "call-1")
    assert not book.wants("Is there anything else?", "en", "call-1"), "twice in one call is not enough"
    assert book.wants("Is there anything else?", "en", "call-2")
    book.keep("Is there anything else?", "en", b"ab")
    assert book.recording("Is there anything else?", "en") == b"ab"
    assert not book.wants("Is there anything else?", "en", "call-3"), "it is there"


@pytest.mark.parametrize("text", ["Your balance is 12 dollars.", "Room ⅔.", "", "...", "x" * 400])
def test_nothing_with_a_digit_nor_what_has_no_words_is_kept(text: str) -> None:
    book = PhraseBook(8000)
    assert not any(book.wants(text, "en", call) for call in ("call-1", "call-2", "call-3"))


def test_nothing_that_can_be_read_is_kept() -> None:
    book = PhraseBook(8000)
    book.wants("Thank you, Jane Doe.", "en", "call-1")
    book.keep("How can I help you?", "en", b"ab")
    assert not any(word in repr(vars(book)) for word in ("Jane", "jane", "help", "call-1"))
    other = PhraseBook(8000)
    assert other._key("Thank you, Jane Doe.", "en") != book._key("Thank you, Jane Doe.", "en"), "keyed by the process"


def test_what_was_needed_least_recently_goes_first() -> None:
    book = PhraseBook(8000, limit_bytes=300)
    book.add("Goodbye.", "en", bytes(5000), 8000)
    for text in ("one", "two", "three"):
        book.keep(text, "en", bytes(100))
    assert book.recording("one", "en")
    book.keep("four", "en", bytes(100))
    book.keep("too long", "en", bytes(301))
    assert [book.recording(text, "en") is not None for text in ("one", "two", "three", "four", "too long")] == [
        True, False, True, True, False,
    ]  # fmt: skip
    assert book.recording("Goodbye.", "en") is not None, "fixed ones stay"


def test_the_memory_of_what_was_said_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.tts.phrasebook.SEEN_LIMIT", 2)
    book = PhraseBook(8000)
    for text in ("one", "two", "three"):
        book.wants(text, "en", "call-1")
    assert not book.wants("one", "en", "call-2"), "forgotten"
    assert book.wants("three", "en", "call-2")


# -- recordings of the user's own --------------------------------------------------------------------------------------


def own(folder: Path, listed: str, *names: str) -> str:
    (folder / "phrases.toml").write_text(listed, encoding="utf-8")
    for name in names:
        (folder / f"{name}.wav").write_bytes(build_wav(tone(3000, 400, 16_000), 16_000))
    return str(folder)


def test_own_recordings_are_read_at_any_rate(tmp_path: Path) -> None:
    listed = '[bye]\ntext = "Auf Wiederhören."\nlanguage = "de"\n\n[moment]\ntext = "One moment."\n'
    book = PhraseBook(8000)
    add_own(book, own(tmp_path, listed, "bye", "moment"), "en")
    assert book.recording("Auf Wiederhören.", "de-AT") is not None
    pcm = book.recording("one moment", "en")
    assert pcm is not None and book.duration_ms(pcm) == pytest.approx(400, abs=1)
    short = PhraseBook(8000)
    add_own(short, own(tmp_path, 'bye = "Goodbye."\nmoment = "One moment."\n'), "en")
    assert short.recording("Goodbye", "en") is not None


@pytest.mark.parametrize(
    ("listed", "names", "says"),
    [
        (None, (), "phrases.toml is missing"),
        ("[bye", (), "can't be read as TOML"),
        ('[bye]\ntext = "Goodbye."', (), "bye.wav is missing; record it"),
        ('[bye]\ntext = "..."', ("bye",), r"\[bye\] has no text"),
        ('[bye]\nwords = "Goodbye."', ("bye",), "keys are: text, language"),
        ("", ("bye",), "has no entry for bye.wav"),
    ],
)
def test_what_is_wrong_with_them_is_told(tmp_path: Path, listed: str | None, names: tuple[str, ...], says: str) -> None:
    folder = own(tmp_path, listed or "", *names)
    if listed is None:
        (tmp_path / "phrases.toml").unlink()
    with pytest.raises(PhrasesError, match=says):
        add_own(PhraseBook(8000), folder, "en")


def test_a_recording_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own(tmp_path, 'bye = "Goodbye."')
    (tmp_path / "bye.wav").write_bytes(b"mp3")
    with pytest.raises(PhrasesError, match=r"bye\.wav: not a WAV file"):
        add_own(PhraseBook(8000), folder, "en")
    (tmp_path / "bye.wav").write_bytes(build_wav(b"", 8000))
    with pytest.raises(PhrasesError, match="is 0 s long"):
        add_own(PhraseBook(8000), folder, "en")
    own(tmp_path, 'bye = "Goodbye."', "bye")
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    with pytest.raises(PhrasesError, match="soxr"):
        add_own(PhraseBook(8000), folder, "en")


# -- at the start ------------------------------------------------------------------------------------------------------


def settings(tmp_path: Path, engine: str = "elevenlabs", fallbacks: str = "", **tts: object) -> Settings:
    section = TtsSection(engine=engine, fallbacks=fallbacks, **tts)  # type: ignore[arg-type]
    return Settings(tts=section, models=ModelsSection(folder=str(tmp_path / "models")))


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "models").glob(f"{FOLDER}/*/*.wav"))


async def test_the_fixed_sentences_are_said_once_and_survive_a_provider_that_is_away(tmp_path: Path) -> None:
    actor = Actor("elevenlabs")
    book, apology = await open_book(actor, settings(tmp_path))
    assert apology is not None and apology.pcm
    assert all(book.recording(text, "en") for text in courtesies("en").recited)
    assert len(actor.opened) == 1 + len(courtesies("en").recited)
    assert "Say yes, or press one." in actor.opened, "shaped as any sentence"
    assert len(kept(tmp_path)) == len(actor.opened)

    again = Actor("elevenlabs", level=1)
    again.always = [OSError("away")]
    book, late = await open_book(again, settings(tmp_path))
    assert late is not None and late.pcm == apology.pcm
    assert all(book.recording(text, "en") for text in LATER)
    assert len(again.opened) == 1, "one try says enough"

    other, _ = await open_book(again, settings(tmp_path, voice="somebody else"))
    assert other.recording(LATER[0], "en") is None, "another voice"


async def test_what_stands_by_is_shelved_under_its_own_name(tmp_path: Path) -> None:
    first, second = Actor("elevenlabs"), Actor("piper", level=8000, rate_hz=22_050)
    first.always = [OSError("away")]
    config = settings(tmp_path, fallbacks="piper")
    engine = troupe(first, second, failover=FailoverSection(backoff_ms=0, failures=1))
    await open_book(engine, config)
    assert {path.parent.name.split("-")[0] for path in kept(tmp_path)} == {"piper"}
    second.always = [OSError("away")]
    book, apology = await open_book(troupe(first, second), config)
    assert apology is not None and book.recording(LATER[1], "en") is not None


async def test_an_engine_that_needs_nobody_leaves_nothing_on_disk(tmp_path: Path) -> None:
    book, _ = await open_book(Actor("espeak"), settings(tmp_path, "espeak"))
    assert book.recording(LATER[1], "en") is not None
    assert kept(tmp_path) == []


async def test_a_folder_that_can_not_be_written_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").write_text("a file")
    book, apology = await open_book(Actor("elevenlabs"), settings(tmp_path))
    assert apology is not None and book.recording(LATER[0], "en") is not None


@virtual
async def test_an_engine_that_hangs_costs_the_start_so_long_at_most():
    actor = Actor("espeak")
    actor.always = [HANG]
    loop = asyncio.get_running_loop()
    began = loop.time()
    _, apology = await open_book(actor, Settings(tts=TtsSection()))
    assert apology is None and loop.time() - began <= 20.1
    actor.always, actor.scripts = [HANG], [[*actor.speech("sorry")]]
    _, apology = await open_book(actor, Settings(tts=TtsSection()))
    assert apology is not None and loop.time() - began <= 30.1


async def test_own_recordings_come_before_what_an_engine_says(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    folder = own(tmp_path / "own", 'bye = "Auf Wiederhören."', "bye")
    config = settings(tmp_path, "espeak", phrases=folder)
    actor = Actor("espeak")
    book, _ = await open_book(actor, Settings(tts=config.tts, asr=AsrSection(language="de")))
    assert "Auf Wiederhören." not in actor.opened
    assert "Bitte rufen Sie später noch einmal an." in actor.opened
    pcm = book.recording("Auf Wiederhören.", "de")
    assert pcm is not None and levels(pcm)[0][0] == pytest.approx(3000, abs=3)


# -- in a call ---------------------------------------------------------------------------------------------------------


@virtual
async def test_where_no_engine_is_left_a_sentence_of_the_book_is_played_and_another_is_apologised_for():
    before = counted("recorded"), counted("apology")
    edge = await started_twin()
    first, second = Actor("a"), Actor("b")
    first.always = second.always = DEAD
    book = book_with("Is there anything else?")
    async with speech_call(edge, troupe(first, second), apology=APOLOGY, book=book):
        await edge.answer()
        await edge.tell(
            sentence(100, 0, "Is there anything else?"), sentence(100, 1, "It was sent."), done(100, 2),
        )  # fmt: skip
        await settle(200)
        assert [(event.index, event.engine) for event in edge.of(TtsStarted)] == [(0, RECORDED)]
        assert failures(edge) == [("stage_down", HEARS_RECORDING), ("stage_down", HEARS_NOTHING)]
        recited, missing = edge.of(TtsDone)
        assert (recited.text, recited.frames, recited.proportional) == (None, 30, True)
        assert [word.text for word in recited.words] == ["Is", "there", "anything", "else?"]
        assert missing.text == ""
        await edge.tell(sentence(200, 0, "It was sent."), done(200, 1))
        await settle(200)
        assert failures(edge)[-1] == ("stage_down", HEARS_APOLOGY)
        assert edge.ends() == [(100, 2), (200, 1)]
    assert (counted("recorded") - before[0], counted("apology") - before[1]) == (1, 1)
    assert "anything" not in str(edge.of(Failure))


@virtual
async def test_an_engine_that_is_alone_has_a_book_too():
    edge = await started_twin()
    async with speech_call(edge, ScriptedEngine(DEAD, DEAD), book=book_with("Goodbye.")):
        await edge.answer()
        await edge.tell(sentence(100, 0, "Goodbye."), done(100, 1))
        await settle()
        assert [code for code, hears in failures(edge) if hears == HEARS_RECORDING] == ["engine_failed"]
        assert frames_of(edge, 0) == list(range(30))


@virtual
async def test_a_recording_goes_on_behind_what_was_sent_and_a_shorter_one_is_no_help():
    for milliseconds, helps in ((600, True), (200, False)):
        edge = await started_twin()
        broken = [FRAME * 12, OSError("x")]
        book = book_with("Goodbye.", milliseconds=milliseconds)
        async with speech_call(edge, ScriptedEngine(broken, broken), book=book):
            await edge.answer()
            await edge.tell(sentence(100, 0, "Goodbye."), done(100, 1))
            await settle(200)
            assert (failures(edge)[-1][1] == HEARS_RECORDING) is helps
            assert max(frames_of(edge, 0)) == (29 if helps else 11), "from its start: the edge drops what it has"
            assert edge.ends() == [(100, 1)]


async def say(edge: EdgeTwin, epoch: int, engine: Actor, book: PhraseBook, text: str) -> None:
    """A call in which this is said."""
    async with speech_call(edge, troupe(engine, Actor("b")), epoch=epoch, book=book) as call:
        await edge.answer()
        await edge.tell(sentence(100, 0, text), done(100, 1))
        await settle(300)
        assert call.figures["sentences"] == 1


@virtual
async def test_what_one_voice_said_whole_in_two_calls_is_there_when_it_is_down():
    text = "Is there anything else I can do?"
    book = PhraseBook(8000)
    book.wants(text, "en", "another call")
    await say(await started_twin(), 1, Actor("a"), book, text)
    pcm = book.recording(text, "en")
    assert pcm is not None and levels(pcm)[0][0] == 4000
    torn = PhraseBook(8000)
    torn.wants(text, "en", "another call")
    first = Actor("a", [*Actor("a").speech(text, 600), OSError("x")])
    await say(await started_twin(), 1, first, torn, text)
    assert torn.recording(text, "en") is None, "two voices have said it"


@virtual
async def test_after_two_mute_answers_nobody_is_asked_to_say_it_again_where_the_goodbye_is_heard():
    for book, second in ((book_with(*LATER), ""), (PhraseBook(8000), "I am sorry.")):
        edge = await started_twin()
        actor = Actor("a")
        actor.always = DEAD
        async with speech_call(edge, troupe(actor, actor), apology=APOLOGY, book=book):
            await edge.answer()
            for utterance_id in (0, 100):
                await edge.tell(
                    sentence(utterance_id, 0, "hello"), sentence(utterance_id, 1, "there"), done(utterance_id, 2)
                )
                await settle(200)
            goodbye = [sentence(101, index, text) for index, text in enumerate(LATER)]
            await edge.tell(*goodbye, done(101, 2))
            await settle(200)
            assert edge.of(TtsDone)[0].text == "I am sorry."
            texts = {event.index: event.text for event in edge.of(TtsDone) if event.utterance_id == 100}
            assert texts == {0: second, 1: ""}, "and of the rest nothing is tried"
            assert edge.ends()[:2] == [(0, 1), (100, 1)]
            if not second:
                assert [event.text for event in edge.of(TtsDone)][-2:] == [None, None], "the goodbye is heard"


@virtual
async def test_an_answer_that_was_cut_off_counts_for_nothing():
    edge = await started_twin()
    actor = Actor("a")
    actor.always = DEAD
    async with speech_call(edge, troupe(actor, actor), apology=APOLOGY, book=book_with(*LATER)):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await settle(200)
        await edge.tell(TurnInterrupted(call_id=CALL, at_us=EPOCH_US, turn=2, utterance_id=100))
        await edge.tell(sentence(200, 0), done(200, 1))
        await settle(200)
        assert [event.text for event in edge.of(TtsDone)] == ["I am sorry.", "I am sorry."]


@virtual
async def test_a_successor_plays_from_its_own_book():
    edge = await started_twin()
    actor = Actor("a", [*Actor("a").speech("Goodbye.", 200), HANG])
    async with speech_call(edge, actor, epoch=1):
        await edge.answer()
        await edge.tell(sentence(100, 0, "Goodbye."), done(100, 1))
        await settle(200)
    actor.always = DEAD
    async with speech_call(edge, actor, epoch=2, apology=APOLOGY, book=book_with("Goodbye.")):
        await settle(300)
        assert failures(edge)[-1][1] == HEARS_RECORDING
        assert [event.text for event in edge.of(TtsDone)] == [None]
        assert len(edge.of(TtsStarted)) == 1


@virtual
async def test_a_filler_is_played_from_the_book_too():
    edge = await started_twin()
    actor = Actor("a")
    actor.always = DEAD
    filler = LlmSentence(
        call_id=CALL, at_us=EPOCH_US, turn=1, utterance_id=100, index=0, text="One moment, please.", filler=True
    )
    async with speech_call(edge, actor, apology=APOLOGY, book=book_with("One moment, please.")):
        await edge.answer()
        await edge.tell(filler, sentence(100, 1, "It was sent."), done(100, 2))
        await settle(300)
        assert [event.text for event in edge.of(TtsDone)] == [None, "I am sorry."]
