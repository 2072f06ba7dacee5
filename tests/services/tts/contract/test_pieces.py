"""A text in pieces, the thread that works on them as they are due, and words whose phonemes' times are known."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.tts.engine import EngineError, WordStart
from services.tts.engines._phoneme_words import Phoneme, WholeWords, place_words
from services.tts.engines._pieces import PIECES_AHEAD, PieceLimits, PieceRun, PieceThread, Spoken, Stop, cut_pieces

pytestmark = pytest.mark.unit

LIMITS = PieceLimits(first=40, most=60)
RATE_HZ = 8000
SECOND = b"\x01\x02" * RATE_HZ
DEADLINE_S = 5.0


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" ... !", []),
        ("Yes.", ["Yes."]),
        ("Yes. No. Maybe.", ["Yes. No. Maybe."]),
        ("Your card is on its way. Yes.", ["Your card is on its way.", "Yes."]),
        ("Mr. Smith paid it at 10 a.m. on Friday.", ["Mr. Smith paid it at 10 a.m. on Friday."]),
        (
            "Your card is on its way today, and it will be there by Friday.",
            ["Your card is on its way today,", "and it will be there by Friday."],
        ),
        (
            "Well, your card is on its way and will be there by Friday night.",
            ["Well, your card is on its way and will be there by Friday night."],
        ),
        (
            "Well, your card is on its way and it will surely be there by the end of Friday night.",
            ["Well, your card is on its way and it will surely be there", "by the end of Friday night."],
        ),
        ("x" * 130, ["x" * 60, "x" * 70]),
    ],
)
def test_where_a_text_is_cut(text, pieces):
    assert cut_pieces(text, LIMITS) == pieces


def test_nothing_is_lost_of_a_text_of_an_hour():
    text = "It is in the mail, and it will be with you by Friday; ask again then, and say the case. " * 500
    pieces = cut_pieces(text, LIMITS)
    assert " ".join(pieces).split() == text.split()
    assert max(map(len, pieces)) <= LIMITS.most + 20


def open_run(thread: PieceThread, speak, pieces: list[str], stop: Stop | None = None) -> PieceRun:
    return PieceRun("test", " ".join(pieces), pieces, speak, stop or Stop(), thread, RATE_HZ)


@pytest.fixture
def thread():
    made = PieceThread("test")
    yield made
    made.close()


async def test_no_more_is_made_ahead_than_is_taken(thread):
    spoken: list[str] = []

    def speak(piece: str) -> Spoken:
        spoken.append(piece)
        return Spoken(SECOND)

    chunks = aiter(open_run(thread, speak, [f"piece {number}" for number in range(1000)]))
    await anext(chunks)
    await asyncio.sleep(0.02)
    assert len(spoken) == PIECES_AHEAD
    for _ in range(20):
        await anext(chunks)
    await asyncio.sleep(0.02)
    assert len(spoken) <= 11 + PIECES_AHEAD


async def test_audio_comes_in_pieces_that_an_event_loop_can_take_and_words_with_their_audio(thread):
    words = tuple(WordStart(word, at) for word, at in (("a", 0), ("b", 499), ("c", 500), ("d", 999), ("e", 5000)))
    run = open_run(thread, lambda piece: Spoken(SECOND, words), ["a b c d e", "a b c d e"])
    chunks = [chunk async for chunk in run]
    assert [len(chunk.pcm) for chunk in chunks] == [8000] * 4
    assert [[(word.text, word.start_ms) for word in chunk.words] for chunk in chunks] == [
        [("a", 0), ("b", 499)],
        [("c", 500), ("d", 999), ("e", 5000)],
        [("a", 1000), ("b", 1499)],
        [("c", 1500), ("d", 1999), ("e", 6000)],
    ]


async def test_the_piece_that_is_due_first_is_made_first(thread):
    gate, order = threading.Event(), []

    def speak(piece: str) -> Spoken:
        gate.wait(DEADLINE_S)
        order.append(piece)
        return Spoken(SECOND * 10)

    async def listen(run: PieceRun) -> None:
        async for _ in run:
            pass

    early = asyncio.create_task(listen(open_run(thread, speak, ["first 1", "first 2", "first 3"])))
    await asyncio.sleep(0.01)
    late = asyncio.create_task(listen(open_run(thread, speak, ["second 1", "second 2"])))
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.wait_for(asyncio.gather(early, late), DEADLINE_S)
    # Ten seconds of the first run can be heard before its next piece is needed.
    assert order == ["first 1", "second 1", "first 2", "second 2", "first 3"]


async def test_a_cancelled_run_gives_its_place_to_others(thread):
    gate, order = threading.Event(), []

    def speak(piece: str) -> Spoken:
        gate.wait(DEADLINE_S)
        order.append(piece)
        return Spoken(SECOND)

    runs = [open_run(thread, speak, [f"run {number}"]) for number in range(3)]
    tasks = [asyncio.create_task(anext(aiter(run))) for run in runs]
    await asyncio.sleep(0.01)
    runs[1].cancel()
    with pytest.raises(StopAsyncIteration):
        await tasks[1]
    gate.set()
    await asyncio.wait_for(asyncio.gather(tasks[0], tasks[2]), DEADLINE_S)
    assert order == ["run 0", "run 2"]


async def test_what_a_library_says_is_not_told_and_an_engines_own_words_are(thread):
    def fail(piece: str) -> Spoken:
        raise ValueError(f"bad text {piece}")

    def refuse(piece: str) -> Spoken:
        raise EngineError("the model is gone")

    with pytest.raises(EngineError, match=r"^test could not speak a sentence: ValueError$"):
        await anext(aiter(open_run(thread, fail, ["secret"])))
    with pytest.raises(EngineError, match="the model is gone"):
        await anext(aiter(open_run(thread, refuse, ["secret"])))


async def test_closing_ends_what_waits(thread):
    gate = threading.Event()
    first = asyncio.create_task(
        anext(aiter(open_run(thread, lambda piece: Spoken(SECOND if gate.wait(DEADLINE_S) else b""), ["a"])))
    )
    await asyncio.sleep(0.01)
    second = asyncio.create_task(anext(aiter(open_run(thread, lambda piece: Spoken(SECOND), ["b"]))))
    await asyncio.sleep(0.01)
    thread.close()
    with pytest.raises(EngineError, match="closed"):
        await asyncio.wait_for(second, DEADLINE_S)
    gate.set()
    assert (await asyncio.wait_for(first, DEADLINE_S)).pcm
    with pytest.raises(EngineError, match="closed"):
        await anext(aiter(open_run(thread, lambda piece: Spoken(SECOND), ["c"])))


def phonemes(groups: str) -> list[Phoneme]:
    """A phoneme each 10 ms, a space as well."""
    return [Phoneme(symbol, 10 * place) for place, symbol in enumerate(groups)]


@pytest.mark.parametrize(
    ("text", "groups", "starts"),
    [
        ("your card was", "jor kard woz", [("your", 0), ("card", 40), ("was", 90)]),
        ("yes - of course!", "jes of kors", [("yes", 0), ("of", 40), ("course!", 70)]),
        ("of the bank", "ovthe bank", [("of", 0), ("the", 20), ("bank", 60)]),
        ("is 42 now", "is forti tu nau", [("is", 0), ("42", 30), ("now", 120)]),
        ("a b c", "x", [("a", 0), ("b", 0), ("c", 0)]),
        ("word", "", []),
        ("- ...", "abc", []),
    ],
)
def test_words_begin_where_their_phonemes_do(text, groups, starts):
    weights = {"of": 2, "the": 3, "bank": 4, "42": 7, "is": 2, "now": 3}
    found = place_words(text, phonemes(groups), lambda word: weights.get(word, 1))
    assert [(word.text, word.start_ms) for word in found] == starts


def test_words_that_a_cut_went_through_are_told_once():
    words = WholeWords("first 您好，请问有什么？ bananas — first last")
    parts = ["first", "您好，", "请问", "有什么？", "bana", "nas", "first", "last", "gone"]
    assert [words.of(part) for part in parts] == [
        "first", "您好，请问有什么？", None, None, "bananas", None, "first", "last", None,
    ]  # fmt: skip
