"""Which image of the Dockerfile this program runs in, and what mends an engine there: a line of .env and a new build.

What is installed into a running container is gone with it, so nothing there proposes pip.
"""

from __future__ import annotations

import os

from services.packages import IMAGE

LISTENING = ("vad", "turn model")
"""What is chosen for the stage asr beside its engine."""
REBUILD = "docker compose up -d --build --wait"


def image() -> str:
    """The image's name, ``cli``, ``edge``, ``asr``, ``llm`` or ``tts``; empty where this is no image of ours."""
    return os.environ.get(IMAGE, "")


def mend(here: str, in_image: str) -> str:
    """The one of two commands that works where this program runs."""
    return in_image if image() else here


def chosen_here() -> tuple[str, ...]:
    """What this image has engines for; of ``ops.engines.FOLDERS``."""
    return {"asr": ("asr", *LISTENING), "llm": ("llm",), "tts": ("tts",)}.get(image(), ())


def package_mend(what: str, engine: str, place: int = 0) -> str:
    """How the packages of an engine come into the image. ``place``: above 0 for a fallback, which .env can't name."""
    if what in LISTENING:
        return REBUILD  # they are in every image of asr
    if place:
        return (
            f"docker-compose.override.yml: {{services: {{{what}: {{build: {{args: {{ENGINES: '{engine}'}}}}}}}}}}, "
            f"with the engines that stand there already; then {REBUILD}"
        )
    return f"CALLBUS_{what.upper()}__ENGINE={engine} in .env, then {REBUILD}"


def key_mend(variable: str, section: str) -> str:
    """How the key of an account comes into a container."""
    return (
        f"docker-compose.override.yml: a secret, and CALLBUS_{section.upper()}__API_KEY_FILE, or {variable}; "
        "docs/compose.md shows it"
    )
