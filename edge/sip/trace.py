"""Protocol tracing: an object handed in, never a logger looked up.

Lines hold method, status, Call-ID and states; no URIs, no bodies, no digits.
"""

from __future__ import annotations

from collections.abc import Callable

Trace = Callable[[str, str, float], None]
"""(direction, text, now): direction is `<` for received, `>` for sent, `=` for a change of state."""


def no_trace(direction: str, text: str, now: float) -> None:
    """Trace nothing."""
