"""How an engine is made from the settings: of its stage's section, and of everything where it asks for that."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from config.settings import Section, Settings


def make(factory: Callable[..., Any], section: Section, settings: Settings | None) -> Any:
    """``factory(section)``, or ``factory(section, settings)`` where it takes two.

    Args:
        factory: a ``create`` function or a class; the second parameter gives it the section that bears its name.
        settings: None: the defaults.
    """
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:
        return factory(section)
    taken = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    needed = [each for each in taken if each.default is each.empty]
    if len(needed) >= 2 or (len(taken) >= 2 and taken[1].name == "settings"):
        return factory(section, settings or Settings())
    return factory(section)
