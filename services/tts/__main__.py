"""``python -m services.tts``: the tts process. ``--voices``: the voices of the engine in the settings, then stop."""

from __future__ import annotations

import asyncio
import sys

from bus.service import EXIT_CONFIG, run_service
from config.load import ConfigError, load
from config.settings import Settings
from services.tts.engine import EngineError, load_engine
from services.tts.worker import main


async def list_voices(settings: Settings) -> tuple[str, ...]:
    """Names for the ``voice`` setting; empty where the engine takes any or can't tell."""
    engine = load_engine(settings.tts.engine, settings.tts, settings)
    try:
        return await engine.list_voices()
    finally:
        await engine.close()


def run(arguments: list[str]) -> None:
    """What the command line asks for; ends with ``SystemExit``."""
    if not arguments:
        run_service("tts", main)
        return
    if arguments != ["--voices"]:
        print("usage: python -m services.tts [--voices]", file=sys.stderr)
        raise SystemExit(EXIT_CONFIG)
    try:
        voices = asyncio.run(list_voices(load()))
    except (ConfigError, EngineError) as error:
        print(f"tts: {error}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIG) from None
    print("\n".join(voices) if voices else "the engine does not list its voices")


if __name__ == "__main__":
    run(sys.argv[1:])
