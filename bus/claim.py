"""What a stage is given of a call, and what it gives back."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from schemas.call import CallOffered


class Claim(NamedTuple):
    """A call that this worker now owns. ``takeover``: ``previous_worker`` owned it before."""

    call_id: str
    tenant: str
    epoch: int
    takeover: bool
    offered: CallOffered
    previous_worker: str


class OwnedCall(Protocol):
    """What a stage does for one call."""

    async def release(self, why: str) -> None:
        """Let go at once and say nothing more (close recorders with 0 ms).

        ``superseded``: another worker owns the call, this one was taken for dead. ``handed_over``: another took it
        while this worker drains. ``draining``: nobody took it in time.
        """
