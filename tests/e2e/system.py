"""The whole system as real processes, for end-to-end tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from config.load import load
from ops.supervisor import Supervisor, SystemPlan

HOST = "127.0.0.1"
BESIDE = ("nice", "-n", "10") if os.geteuid() == 0 else ()
"""In front of a demonstration, or of many commands, beside tests which are timed against limits (the group ``timed``):
these come first. Only a demonstration's edge gets its own priority back, as on any machine: a right that root has."""
FREE_PORTS = {
    "CALLBUS_EDGE__HOST": HOST,
    "CALLBUS_EDGE__SIP_PORT": "0",
    "CALLBUS_EDGE__RTP_PORT_MIN": "0",
}
INSTANT = {
    "CALLBUS_ASR__ENGINE": "instant",
    "CALLBUS_ASR__VAD": "energy",
    "CALLBUS_LLM__ENGINE": "instant",
    "CALLBUS_TTS__ENGINE": "instant",
    # How long its sentences are is counted by what is written.
    "CALLBUS_TTS__SHAPE_TEXT": "false",
    # Their speech is no speech: a model that hears whether a caller is done has nothing to say to it.
    "CALLBUS_TURN__ENDPOINTING": "fixed",
}


@asynccontextmanager
async def running_system(
    data: Path,
    *,
    workers: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
    secure: str = "",
) -> AsyncIterator[Supervisor]:
    """Everything up on free ports; stopped at the end, whatever happened. ``secure``: see ``SystemPlan``."""
    plan = SystemPlan(
        settings=load({}),
        data=data,
        workers=workers or {},
        secure=secure,
        environment={**FREE_PORTS, **(environment or {})},
        drain_s=2.0,
    )
    supervisor = Supervisor(plan)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()
