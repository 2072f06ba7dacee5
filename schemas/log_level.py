"""Changing at run time what a process writes into its log: an order on ``ops.log_level.<service or instance>``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

CONFIGURED = "configured"
LEVELS = ("debug", "info", "warning", "error")
DAY_S = 86_400


class LogLevelOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Write from ``level`` on. ``configured``: what [log] level says. ``by``: who wants it, for the log.

    ``for_s``: seconds until the configured level comes back; 0: until another order or the end of the process.
    """

    level: Literal["debug", "info", "warning", "error", "configured"]
    by: Annotated[str, Meta(max_length=64)] = ""
    for_s: Annotated[float, Meta(ge=0, le=DAY_S)] = 0.0


class LogLevelReply(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an order in one process; ``error`` is empty where it was carried out."""

    service: str
    instance: str
    before: str
    level: str
    configured: str
    for_s: float = 0.0
    error: str = ""
