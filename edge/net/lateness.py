"""How late the pacer's ticks were: counts in buckets, so that a percentile costs nothing on the hot path. Pure."""

from __future__ import annotations

BUCKET_MS = 0.1
BUCKETS = 1000
"""0 to 100 ms; what is later lies in the last bucket and shows in ``maximum_ms``."""


class Lateness:
    """Latenesses since the last :meth:`restart`; ``total_*`` since the start."""

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.count = 0
        self.maximum_ms = 0.0
        self.total_count = 0
        self.total_maximum_ms = 0.0

    def add(self, late_ms: float) -> None:
        """One tick came ``late_ms`` after its deadline; early counts as on time."""
        if late_ms < 0.0:
            late_ms = 0.0
        bucket = int(late_ms * 10)
        self._counts[bucket if bucket < BUCKETS else BUCKETS - 1] += 1
        self.count += 1
        if late_ms > self.maximum_ms:
            self.maximum_ms = late_ms

    def percentile_ms(self, percent: float) -> float:
        """Upper edge of the bucket that holds the percentile; 0 where nothing was counted."""
        wanted = self.count * percent / 100
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min((bucket + 1) * BUCKET_MS, self.maximum_ms)
        return 0.0

    def restart(self) -> None:
        """Begin a new window."""
        self.total_count += self.count
        self.total_maximum_ms = max(self.total_maximum_ms, self.maximum_ms)
        self._counts = [0] * BUCKETS
        self.count = 0
        self.maximum_ms = 0.0
