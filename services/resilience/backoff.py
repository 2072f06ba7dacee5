"""How long to wait before another try: full jitter, so that many calls that failed together do not come back together.
Pure."""

from __future__ import annotations

from collections.abc import Callable


def full_jitter_ms(tries: int, longest_ms: float, chance: Callable[[], float]) -> float:
    """The pause before the next try.

    Args:
        tries: made so far; before the first there is no pause.
        longest_ms: longest pause before the second try; it doubles with each try after that.
        chance: gives a number of at least 0 and less than 1, each as likely as any other.
    """
    if tries < 1:
        return 0.0
    return float(chance() * longest_ms * 2 ** (tries - 1))
