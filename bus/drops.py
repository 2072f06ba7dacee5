"""Live messages that did not leave because the server was away: how many, and what they were.

Some are worth nothing a second later (a heartbeat), some are stored instead (the live copy of an event), and some a
caller misses (audio, a command): an alert needs to tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from bus.interface import INBOXES

AUDIO = "audio"
CONTROL = "control"
EVENT = "event"
ANSWER = "answer"
HEARTBEAT = "heartbeat"
OTHER = "other"
KINDS = (AUDIO, CONTROL, EVENT, ANSWER, HEARTBEAT, OTHER)


def kind_of(subject: str) -> str:
    """What travels on a subject, one of :data:`KINDS`; ``control`` is whatever of a live call is no audio."""
    root, _, rest = subject.partition(".")
    if root == "rt":
        return AUDIO if ".audio." in rest else CONTROL
    if subject.startswith(INBOXES):
        return ANSWER
    return {"call": EVENT, "hb": HEARTBEAT}.get(root, OTHER)


class Drops:
    """Counts of one connection. Written on its event loop, read on any thread."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(KINDS, 0)

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def add(self, subject: str) -> None:
        self._counts[kind_of(subject)] += 1

    def add_audio(self, count: int) -> None:
        """Frames of a block, to whatever subject."""
        self._counts[AUDIO] += count

    def values(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """Each kind and its count, as ``bus.metrics.registry.Reading`` asks for them."""
        return [((kind,), float(count)) for kind, count in self._counts.items()]
