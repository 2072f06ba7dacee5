"""One finding of ``callbus doctor``."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "missing", "optional"]


class Check(NamedTuple):
    """One finding. ``state`` missing: callbus can't run as configured; optional: something would be better with it."""

    name: str
    state: State
    finding: str
    mend: str = ""
