"""One finding of ``callbus doctor``."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "missing", "optional", "note"]


class Check(NamedTuple):
    """One finding. ``state`` missing: callbus can't run as configured; optional: something would be better with it;
    note: it can't be told from here, and ``mend`` says who can tell."""

    name: str
    state: State
    finding: str
    mend: str = ""
