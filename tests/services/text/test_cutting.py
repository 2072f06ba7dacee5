"""Sentences out of a stream of tokens: which there are, when they are certain; nothing depends on the pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.text.cutting import SENTENCE_CHARACTERS, SentenceCutter, cut_sentences

pytestmark = pytest.mark.unit

ENGLISH = [
    ["I am sorry.", "Please say that again."],
    ["One.", "Two!", "Three?"],
    ["Mr. Smith and Mrs. Jones met Dr. Who.", "They left."],
    ["Mr. B. Smith wrote to J. K. Rowling.", "She answered."],
    ["St. Mary's is on 5 Main St. in Boston.", "It is open."],
    ["It is on Main St.", "The door is red."],
    ["Bring cash, cards, etc.", "Then wait."],
    ["Use a card, e.g. Visa, i.e. the blue one.", "Thanks."],
    ["Acme Inc. has moved.", "Acme Corp.", "Would not."],
    ["We open at 9 a.m. and close at 5 p.m. every day.", "Goodbye."],
    ["We close at 5 p.m.", "Please come earlier."],
    ["It begins at 5 p.m. Eastern time.", "Do come."],
    ["The U.S. Bank is in the U.S.", "It is big."],
    ["Washington D.C. is far.", "Yes."],
    ["She has a Ph.D. in physics.", "Really?"],
    ["No.", "I can't do that."],
    ["It is No. 5 on the list.", "Good."],
    ["Nov. 20 is fine.", "See you."],
    ["See p. 12 and fig. 3.", "Then call ext. 5."],
    ["It costs $5.", "Is that fine?"],
    ["It costs $1,250.40 or 3.14 units.", "Fine."],
    ["Version 2.0.1 is out.", "Install it."],
    ["Go to https://example.com/a.b?c=d today.", "Or not."],
    ["Write to jo.doe@example.com.", "We answer."],
    ["See example.com.", "It is there."],
    ["Well... let me see.", "Yes."],
    ["Well...", "Let me see."],
    ["Hmm… maybe.", "Hmm…", "Maybe not."],
    ['He said "no."', "Then he left."],
    ['"Really?" he asked.', '"Yes."', "Good."],
    ["(It is closed.)", "We open at nine."],
    ["“Are you sure?” she asked.", "“Yes!”", "Fine."],
    ["What?!", "No way!!", "Ok."],
    ["Yahoo!", "it works."],
    ["Plan B.", "The plan."],
    ["I have vitamin C.", "You do not."],
    ["So am I.", "Great."],
    ["It was 1999.", "It is 2026."],
    ["sure.", "let me check that."],
    ["Wait . . . what?", "Ok."],
    ["Great!", "😊 Thanks."],
    ["**Yes.**", "It is."],
]
OTHERS = [
    ("de", ["Am 3. Mai um 14.30 Uhr kostet es 1.250,40 Euro.", "Das ist gut."]),
    ("de", ["Das ist z. B. gut, d.h. sehr gut.", "Herr Dr. Meier kommt."]),
    ("de-AT", ["Der 1. Versuch ging schief.", "Der 2. nicht."]),
    ("de", ["Konto Nr. 5 bei Hr. Meier usw.", "Danke."]),
    ("de", ["Sie sind die 3.", "Das ist gut."]),
    ("fr", ["M. Dupont et Mme. Durand, p.ex., sont là.", "Merci !", "Au revoir."]),
    ("fr", ["M. Le Goff arrive.", "Le voilà."]),
    ("fr", ["Voir p. 12, art. 3.", "C'est tout."]),
    ("es", ["El Sr. García vive en la Av. Mayor.", "¿Está bien?", "¡Claro!"]),
    ("es", ["EE.UU. es grande.", "¿Sí?", "No."]),
    ("it", ["Il sig. Rossi e la dott.ssa Bianchi ecc.", "Va bene."]),
    ("nl", ["Dhr. Jansen, bijv. morgen.", "Dat is goed."]),
    ("pt", ["O Sr. Silva mora na Av. Paulista.", "Obrigado."]),
    ("ru", ["Привет.", "Как дела?", "Хорошо!"]),
    ("ar", ["كيف حالك؟", "بخير۔", "شكرا"]),
    ("hi", ["नमस्ते।", "कैसे हैं?"]),
]
UNSPACED = [
    ("zh", ["你好吗？", "我很好。", "谢谢！"]),
    ("ja", ["はい。", "「そうです。」", "では、また!", "またね"]),
]
TEXTS = [
    (language, " ".join(sentences), sentences) for language, sentences in [("en", each) for each in ENGLISH] + OTHERS
]
TEXTS += [(language, "".join(sentences), sentences) for language, sentences in UNSPACED]


@pytest.mark.parametrize(("language", "text", "sentences"), TEXTS)
def test_sentences(language, text, sentences):
    assert cut_sentences(text, language) == sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n\t ", []),
        ("One", ["One"]),
        ("1. Foo is good.\n2. Bar\n3. Baz", ["1. Foo is good.", "2. Bar", "3. Baz"]),
        ("Options:\n- one\n- two, too\n* three", ["Options:", "- one", "- two, too", "* three"]),
        ("# A Head\nand text", ["# A Head", "and text"]),
        ("| a | b |\n| c | d |", ["| a | b |", "| c | d |"]),
        ("A line that goes\non in the next.", ["A line that goes on in the next."]),
        ("x" * 59 + "\nNext", ["x" * 59, "Next"]),
        ("x" * 60 + "\nNext", ["x" * 60 + " Next"]),
        ("x" * 60 + "\n2. Next", ["x" * 60, "2. Next"]),
        ("x" * 60 + "\n12 is next", ["x" * 60 + " 12 is next"]),
        ("One\n\ntwo", ["One", "two"]),
        ("One etc.\nTwo", ["One etc.", "Two"]),
        ('"One?"\ntwo', ['"One?"', "two"]),
        ("Here:\n```python\nx = 1. Foo\n```\nDone.", ["Here:", "Done."]),
        ("```\nx", []),
        ("```", []),
        ("Say ```x``` now. Ok", ["Say ```x``` now.", "Ok"]),
        ("~~~\na\n```\n~~~~\nAfter", ["After"]),
        ("``` `no fence\nX", ["``` `no fence", "X"]),
    ],
)
def test_lines_and_blocks(text, sentences):
    assert cut_sentences(text) == sentences


@pytest.mark.parametrize(
    ("fed", "certain"),
    [
        ("Hello. ", ["Hello."]),
        ("Hello.", []),
        ("Hello! I", ["Hello!"]),
        ("It is 3.", []),
        ("Dr. ", []),
        ("We open at 9 a.m. ", []),
        ("We open at 9 a.m. D", []),
        ("We open at 9 a.m. Do ", ["We open at 9 a.m."]),
        ("Well... ", []),
        ("Well... L", ["Well..."]),
        ("No. ", []),
        ("No. I", ["No."]),
        ("你好。", []),
        ("你好。我", ["你好。"]),
        ("- one\n", []),
        ("- one\n-", ["- one"]),
    ],
)
def test_a_sentence_comes_as_soon_as_it_is_certain(fed, certain):
    assert SentenceCutter().feed(fed) == certain


def test_a_sentence_without_an_end_is_cut_where_a_voice_pauses():
    clause = "this is a clause of the text, " * 20
    first, *_ = cut_sentences(clause)
    assert first.endswith(",") and SENTENCE_CHARACTERS // 3 < len(first) <= SENTENCE_CHARACTERS
    first, *_ = cut_sentences("word " * 200)
    assert first.endswith("word") and len(first) <= SENTENCE_CHARACTERS
    assert [len(each) for each in cut_sentences("x" * 600)] == [250, 250, 100]
    cutter = SentenceCutter(limit=10)
    assert cutter.feed("a, bcdefgh ijklmnop") == ["a, bcdefgh"]
    assert cutter.finish() == ["ijklmnop"]


def test_a_cutter_is_as_new_after_its_end():
    cutter = SentenceCutter()
    cutter.feed("```\nx")
    assert cutter.finish() == []
    assert cutter.feed("One. Two") == ["One."]
    assert cutter.finish() == ["Two"]
    assert cutter.finish() == []


PARTS = st.sampled_from(
    [
        "Dr.", "a.m.", "e.g.", "U.S.", "No.", "St.", "3.", "3.14", "$5.", "etc.", "...", "…", "!", "?!", '"', "'", ")",
        "(", "。", "」", "\n", "\n\n", " ", "  ", "\t", "```", "~~~", "```py\n", "- ", "# ", "1. ", "|", "Hello", "you",
        "The", "I", "B.", "你", "¿", "é", "😊", "\r\n", "\u2028", "x" * 30, "word, " * 9, ":", "Mai", "Eastern", "\x00",
    ]
)  # fmt: skip
TEXT = st.one_of(st.lists(PARTS, max_size=40).map("".join), st.text(max_size=80))


@given(TEXT, st.data(), st.sampled_from(["en", "de", "fr", "xx"]), st.sampled_from([250, 30]))
def test_the_pieces_of_a_text_do_not_change_its_sentences(text, data, language, limit):
    whole = SentenceCutter(language, limit=limit)
    sentences = whole.feed(text) + whole.finish()
    cutter = SentenceCutter(language, limit=limit)
    pieces = []
    at = 0
    while at < len(text):
        size = data.draw(st.integers(1, 9))
        pieces += cutter.feed(text[at : at + size])
        at += size
    assert pieces + cutter.finish() == sentences


@given(TEXT.filter(lambda text: "```" not in text and "~~~" not in text))
def test_nothing_is_lost(text):
    sentences = cut_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)
    assert all(len(sentence) <= SENTENCE_CHARACTERS + 48 for sentence in sentences)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "。" * 60_000,
        "a" * 60_000,
        "." * 60_000,
        " " * 60_000,
        "e.g. " * 12_000,
        "\n" * 60_000,
        '. "' * 20_000,
        "`" * 60_000,
    ],
    ids=lambda text: repr(text[:3]),
)
def test_long_texts_take_bounded_time(text):
    assert len(cut_sentences(text)) <= 60_000
