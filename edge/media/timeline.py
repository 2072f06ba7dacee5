"""The sender's timestamps laid on the call's own media time, which starts at the answer and never runs back.

Media time follows the timestamps as long as they make sense; where they jump (new SSRC, restarted clock, a clock that
stood still during silence) it goes on from what has arrived by then, and the frame is marked as resynchronised.
"""

from __future__ import annotations

from edge.media.sequence import timestamp_add, timestamp_difference

TICKS_PER_MS = 8
MAX_AHEAD_TICKS = 8000
"""Nobody speaks more than 1 s into the future: further ahead of its arrival, a timestamp is a jump."""
MAX_MARKED_TICKS = 1600
"""The marker tells that the sender was silent before; 200 ms off then is a clock that jumped or stood still."""
MAX_OVERLAP_TICKS = 800
"""A timestamp up to 100 ms back belongs to a sender that counts too few ticks per packet, not to a restart."""


class MediaTimeline:
    """Position of one received stream.

    Attributes:
        next_timestamp: 32 bits; a frame that carries it (and no marker) follows the last one without a jump.
        next_media: ticks, media time of that frame.
        watching: the next frame has to be placed by ``locate`` even where its timestamp fits.
    """

    __slots__ = ("_epoch", "_paused", "_started", "next_media", "next_timestamp", "watching")

    def __init__(self, epoch: float) -> None:
        """``epoch``: seconds, the instant of media time 0."""
        self._epoch = epoch
        self._started = False
        self._paused = False
        self.watching = True
        self.next_timestamp = 0
        self.next_media = 0

    def arrival_media(self, now: float) -> int:
        """Media time of an instant in ticks, rounded down to a whole millisecond; not below 0.

        Not to whole frames: every latency counts from the caller's sound, which would lie up to a frame too early.
        """
        return max(0, int((now - self._epoch) * 1000)) * TICKS_PER_MS

    def restart(self) -> None:
        """The next frame's timestamp has nothing to do with the last one's (new SSRC, restarted sender)."""
        self._started = False
        self.watching = True

    def expect_pause(self) -> None:
        """The sender was told to be silent (hold): its clock may have stood still until its next frame."""
        self._paused = self.watching = True

    def locate(self, timestamp: int, frame_ticks: int, *, marker: bool, arrival: float) -> tuple[int, bool]:
        """Place a frame and move on behind it.

        Args:
            timestamp: 32 bits.
            frame_ticks: its duration, above 0.
            marker: its marker bit.
            arrival: seconds.

        Returns:
            Media time of the frame in ticks, and whether the time line had to be resynchronised.
        """
        arrived = self.arrival_media(arrival)
        if not self._started:
            # The very first frame is no jump; a restart is one, even if nothing was lost.
            resync = self.next_media > 0
            media = max(arrived, self.next_media)
            self._started = True
        else:
            step = timestamp_difference(timestamp, self.next_timestamp)
            resync = self._jumped(step, self.next_media + step - arrived, silent=marker or self._paused)
            # A step back that is no jump is a sender that counts its ticks wrongly: the frames still follow each other.
            media = max(arrived if resync else self.next_media + step, self.next_media)
        self._paused = self.watching = False
        self.next_timestamp = timestamp_add(timestamp, frame_ticks)
        self.next_media = media + frame_ticks
        return media, resync

    def _jumped(self, step: int, ahead: int, *, silent: bool) -> bool:
        """Whether the sender's clock jumped: ``step`` ticks from the last frame's end, ``ahead`` of the arrival."""
        if step < -MAX_OVERLAP_TICKS:
            return True
        if silent and not -MAX_MARKED_TICKS <= ahead <= MAX_MARKED_TICKS:
            return True
        return step > 0 and ahead > MAX_AHEAD_TICKS

    def event_media(self, timestamp: int | None, now: float) -> int:
        """Media time of a telephone-event: by its timestamp where that is of this stream and makes sense.

        Args:
            timestamp: 32 bits; None where the event came with another SSRC.
            now: seconds, its arrival.
        """
        arrived = self.arrival_media(now)
        if timestamp is None or not self._started:
            return arrived
        media = self.next_media + timestamp_difference(timestamp, self.next_timestamp)
        return media if media >= 0 and abs(media - arrived) <= MAX_AHEAD_TICKS else arrived
