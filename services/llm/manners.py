"""What an agent says beside its answers: to bridge a wait, and to a caller who says nothing."""

from __future__ import annotations

from typing import NamedTuple

from config.settings import LlmSection
from services.llm.engine import Engine

SEPARATOR = "|"
"""Between two fillers in ``[llm] fillers``."""


class Manners(NamedTuple):
    """Texts of an agent; an empty one says nothing about it.

    Attributes:
        fillers: said in turn where the caller waits.
        away: asked where the caller says nothing.
        away_goodbye: said before the agent hangs up on a caller who is no longer there.
        language: of all of them.
    """

    fillers: tuple[str, ...] = ()
    away: str = ""
    away_goodbye: str = ""
    language: str = "en"


def manners_of(engine: Engine, settings: LlmSection) -> Manners:
    """The engine's own texts, in its attribute ``manners`` where it has one; what it leaves open is as in [llm]."""
    own: Manners = getattr(engine, "manners", Manners())
    fillers = tuple(text for piece in settings.fillers.split(SEPARATOR) if (text := piece.strip()))
    return own._replace(
        fillers=own.fillers or fillers,
        away=own.away or settings.away_text.strip(),
        away_goodbye=own.away_goodbye or settings.away_goodbye.strip(),
    )
