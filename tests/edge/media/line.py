"""A playout with its turns to send, and frames that tell what they are."""

from __future__ import annotations

from itertools import count

from edge.media.ledger import LedgerEntry
from edge.media.playout import Playout

FRAME = 160


def frame(utterance: int, segment: int, number: int, size: int = FRAME) -> bytes:
    """A frame that tells what it is, 4 bytes over and over."""
    return (bytes((utterance, segment)) + number.to_bytes(2, "big")) * (size // 4)


def frames(utterance: int, segment: int, first: int, how_many: int, size: int = FRAME) -> list[bytes]:
    return [frame(utterance, segment, first + n, size) for n in range(how_many)]


class Line:
    """A playout and its turns, 20 ms apart."""

    def __init__(self, **settings: int) -> None:
        self.playout = Playout(**settings)
        self.turns = count(0, FRAME)
        self.sent: list[bytes | None] = []
        self.ledger: list[LedgerEntry] = []

    def say(self, utterance: int, segment: int, first: int, how_many: int, *, last: bool = False) -> int:
        return self.playout.offer(
            utterance, segment, first, frames(utterance, segment, first, how_many), segment_end=last
        )

    def end(self, utterance: int, segments: int = 1) -> None:
        self.playout.offer(utterance, segments, 0, [], end=True)

    def run(self, turns: int) -> list[bytes | None]:
        sent = [self.playout.next_frame(next(self.turns)) for _ in range(turns)]
        self.sent += sent
        self.ledger += self.playout.take_ledger()
        return sent
