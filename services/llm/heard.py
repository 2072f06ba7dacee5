"""What a caller heard of an utterance, out of the ledger of what was sent. Pure.

The conversation's context and the transcript that people read are both made here, so that they never differ.

The ledger errs on one side: of what it does not know it is taken that it was not heard. A held utterance is heard up to
the word that it stands still at; one that goes on is heard further; of one that is dropped no word comes after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import takewhile

from schemas.playout import PlayoutFlushed, PlayoutPaused
from schemas.tts import TtsDone


def heard_text(
    sentences: Mapping[int, str],
    spoken: Mapping[int, TtsDone],
    marks: Collection[int],
    *,
    finished: bool,
    flushed: PlayoutFlushed | None,
    held: PlayoutPaused | None = None,
) -> str:
    """The sentences that left in full, and of the one that was cut the words whose audio had left.

    ``sentences``, ``spoken``: text and synthesis by index. What the tts stage said in other words than the sentence's,
    or without one, is taken from the synthesis. ``marks``: indexes that were sent to their last frame. ``finished``:
    nothing more of the utterance is to come. ``flushed``: where it was cut, if it was. ``held``: where it stood still
    last.
    """
    stop = max(((place.index, place.sent_ms) for place in (flushed, held) if place is not None), default=(0, 0))
    pieces: list[str] = []
    for index in sorted({*sentences, *spoken}):
        text = _said(sentences.get(index), spoken.get(index))
        if index in marks or index < stop[0] or (finished and not marks and (index in spoken or not spoken)):
            pieces.append(text)
        elif index == stop[0]:
            pieces.append(_cut(text, spoken.get(index), stop[1]))
    return " ".join(piece for piece in pieces if piece)


def _said(sentence: str | None, spoken: TtsDone | None) -> str:
    """The words of a sentence as they were said."""
    if spoken is not None and spoken.text is not None:
        return spoken.text
    if sentence is None:
        return " ".join(word.text for word in spoken.words) if spoken is not None else ""
    return sentence


def _cut(text: str, spoken: TtsDone | None, sent_ms: int) -> str:
    """The words of a sentence whose audio had left; none where the synthesis of it is not known.

    Always the text's own first words. Where the synthesis counts other words than the text has, they are reckoned in
    proportion and rounded down: rather a heard word too few than an unheard one.
    """
    if spoken is None or sent_ms <= 0:
        return ""
    words = text.split()
    if not spoken.words:
        return " ".join(words[: len(words) * min(sent_ms, spoken.duration_ms) // max(spoken.duration_ms, 1)])
    ended = sum(1 for _ in takewhile(lambda word: word.end_ms <= sent_ms, spoken.words))
    return " ".join(words[: len(words) * ended // len(spoken.words)])
