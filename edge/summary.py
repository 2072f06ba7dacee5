"""The one line of the log that stands for a call. No number, no URI, no address of the caller."""

from __future__ import annotations

from typing import Any

import msgspec

from bus.logs import get_logger
from schemas.call import CallResult, EndedBy, MediaCounts

log = get_logger(__name__)

EVENT = "call_summary"


def tell_call(
    result: CallResult,
    reason: str,
    ended_by: EndedBy,
    *,
    call_id: str = "",
    tenant: str = "",
    counts: MediaCounts | None = None,
    **figures: Any,
) -> None:
    """``call_id`` is empty where a call was refused before it had one. ``counts``: of its media, where it had some."""
    media = {} if counts is None else msgspec.structs.asdict(counts)
    log.info(
        EVENT,
        message=f"call {result.value}: {reason}",
        tenant=tenant,
        call_id=call_id,
        result=result.value,
        reason=reason,
        ended_by=ended_by.value,
        **{name: value for name, value in (figures | media).items() if value is not None},
    )
