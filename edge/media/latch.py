"""Whose packets are the caller's: symmetric RTP (RFC 4961) behind address translators, closed to strangers.

The address of the SDP is always accepted. Packets from elsewhere are believed once, within the first seconds: three
consecutive packets of one SSRC from one address, with none from the accepted address between them. After that only a
re-INVITE opens the door again.
"""

from __future__ import annotations

from enum import Enum

from edge.media.sequence import sequence_add

Address = tuple[str, int]
"""Host and port as the socket tells them; longer tuples (IPv6) are compared by their first two."""

LATCH_PACKETS = 3
LATCH_WINDOW_S = 5.0


class Verdict(Enum):
    """What becomes of a packet."""

    ACCEPTED = "accepted"
    WAITING = "waiting"
    """From elsewhere, and too early to believe it: kept."""
    LATCHED = "latched"
    """From elsewhere and believed now: the packets kept are the caller's too."""
    REJECTED = "rejected"


class SourceLatch:
    """The accepted source of one call's media.

    Attributes:
        current: the source whose packets are accepted; None until one was heard.
        waiting: (datagram, arrival in seconds) of a stranger who may yet be believed.
        strangers: packets refused.
    """

    __slots__ = (
        "_expected",
        "_locked",
        "_moved",
        "_next_sequence",
        "_open_until",
        "_ssrc",
        "_stranger",
        "_window_s",
        "current",
        "strangers",
        "waiting",
    )

    def __init__(self, window_s: float = LATCH_WINDOW_S) -> None:
        self._window_s = window_s
        self._expected: Address | None = None
        self._open_until = 0.0
        self._locked = False
        self._moved = False
        self._stranger: Address | None = None
        self._ssrc = 0
        self._next_sequence = 0
        self.current: Address | None = None
        self.waiting: list[tuple[bytes, float]] = []
        self.strangers = 0

    @property
    def target(self) -> Address | None:
        """Where to send: the accepted source; the SDP's address until one is heard after it changed."""
        return self._expected if self.current is None or self._moved else self.current

    def expect(self, address: Address, now: float) -> None:
        """The SDP's address for media, and the door is open for ``window_s``: at the answer and at each re-INVITE.

        The accepted source stays accepted until another one takes its place.
        """
        self._moved = self.current is not None and address != self._expected
        self._expected = address
        self._open_until = now + self._window_s
        self._locked = False
        self.forget_stranger()

    def judge(self, datagram: bytes, source: Address, ssrc: int, sequence: int, now: float) -> Verdict:
        """Whether a valid packet may pass. After ``LATCHED``, ``take_waiting`` has it and those before it."""
        if source == self.current:
            self.forget_stranger()
            return Verdict.ACCEPTED
        if self.knows(source):
            self.forget_stranger()
            self._lock(source)
            return Verdict.ACCEPTED
        if self._locked or now > self._open_until:
            self.strangers += 1
            return Verdict.REJECTED
        if source != self._stranger or ssrc != self._ssrc or sequence != self._next_sequence:
            self.forget_stranger()
            self._stranger, self._ssrc = source, ssrc
        self._next_sequence = sequence_add(sequence, 1)
        self.waiting.append((datagram, now))
        if len(self.waiting) < LATCH_PACKETS:
            return Verdict.WAITING
        self._lock(source)
        self._stranger = None
        return Verdict.LATCHED

    def _lock(self, source: Address) -> None:
        self.current = source
        self._locked = True
        self._moved = False

    def forget_stranger(self) -> None:
        """Whoever knocked is refused after all."""
        self.strangers += len(self.waiting)
        self.waiting.clear()
        self._stranger = None

    def is_closed_to(self, source: Address, now: float) -> bool:
        """Whether nothing from there can be accepted at ``now``, so that its bytes need not be looked at."""
        return (self._locked or now > self._open_until) and not self.knows(source)

    def take_waiting(self) -> list[tuple[bytes, float]]:
        """The packets kept of the source that was latched, in order."""
        taken, self.waiting = self.waiting, []
        return taken

    def knows(self, source: Address) -> bool:
        """Whether it is the accepted source or the SDP's address."""
        return source == self.current or (self._expected is not None and source[:2] == self._expected[:2])

    def is_peer_host(self, source: Address) -> bool:
        """Whether the host is the one that media comes from or is expected from; RTCP may come from another port."""
        known = self.current if self.current is not None else self._expected
        return (known is not None and known[0] == source[0]) or (
            self._expected is not None and self._expected[0] == source[0]
        )
