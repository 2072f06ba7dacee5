"""What a caller heard of an utterance, out of the ledger of what was sent. Pure.

The conversation's context and the transcript that people read are both made here, so that they never differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from schemas.playout import PlayoutFlushed
from schemas.tts import TtsDone


def heard_text(
    sentences: Mapping[int, str],
    spoken: Mapping[int, TtsDone],
    marks: Collection[int],
    *,
    finished: bool,
    flushed: PlayoutFlushed | None,
) -> str:
    """The sentences that left in full, and of the one that was cut the words whose audio had left.

    ``sentences``, ``spoken``: text and synthesis by index. ``marks``: indexes that were sent to their last frame.
    ``finished``: the whole utterance was sent. ``flushed``: where it was cut, if it was.
    """
    if finished:
        return " ".join(sentences[index] for index in sorted(sentences))
    pieces: list[str] = []
    for index in sorted(sentences):
        if index in marks or (flushed is not None and index < flushed.index):
            pieces.append(sentences[index])
        elif flushed is not None and index == flushed.index:
            pieces.append(_cut(sentences[index], spoken.get(index), flushed.sent_ms))
    return " ".join(piece for piece in pieces if piece)


def _cut(sentence: str, spoken: TtsDone | None, sent_ms: int) -> str:
    """The words of a sentence whose audio had left; none where the synthesis of it is not known."""
    if spoken is None or sent_ms <= 0:
        return ""
    words = sentence.split()
    if not spoken.words:
        return " ".join(words[: len(words) * min(sent_ms, spoken.duration_ms) // max(spoken.duration_ms, 1)])
    count = sum(word.end_ms <= sent_ms for word in spoken.words)
    if len(words) == len(spoken.words):
        return " ".join(words[:count])
    return " ".join(word.text for word in spoken.words[:count])
